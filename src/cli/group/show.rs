//! A group as it is shown to people.
use crate::cli::output::{show_count, show_ms};
use crate::client::WhenExhausted;

pub use crate::wire::json::GroupJson;

impl GroupJson {
    /// One line of a list.
    pub fn line(&self) -> String {
        let paused = if self.paused { ", paused" } else { "" };
        format!("{}\t{} leased, {} acknowledged{paused}", self.group, self.leased, self.acked)
    }

    /// All of it, for people.
    pub fn text(&self) -> String {
        let mut lines = vec![format!("group        {} of {}", self.group, self.topic)];
        let mut row = |name: &str, words: String| lines.push(format!("{name:<13}{words}"));
        if self.paused {
            row("paused", "nothing is handed out until `group set --resume`".to_owned());
        }
        row("since", self.since.clone());
        let then = match &self.when_exhausted {
            WhenExhausted::Keep => "kept aside".to_owned(),
            WhenExhausted::Drop => "dropped".to_owned(),
            WhenExhausted::Topic(topic) => format!("appended to {topic}"),
        };
        row("lease", show_ms(self.lease_ms));
        row(
            "deliveries",
            match self.max_deliveries {
                0 => "as often as it takes".to_owned(),
                max => format!("{max} at most, then {then}"),
            },
        );
        row("acknowledged", self.acked.to_string());
        row("leased", format!("{} by the peer asked", self.leased));
        row("waiting", format!("{} read, {} delayed", self.ready, self.delayed));
        row("consumers", show_count(self.waiting, "waits here", "wait here"));
        let again: Vec<String> =
            self.redelivered.iter().filter(|(_, n)| **n > 0).map(|(why, n)| format!("{n} {why}")).collect();
        if !again.is_empty() {
            row("again", again.join(", "));
        }
        if !self.exhausted.is_empty() {
            row("kept aside", self.exhausted.join("\n             "));
        }
        lines.join("\n")
    }
}
