//! What commands print: text for people, or JSON, one value a line, for programs.
//!
//! Standard output carries results alone; whatever else is said goes to standard error. A closed pipe ends the command
//! quietly.
pub use crate::base::units::show_ms;
use crate::cli::exit::{ClosedPipe, Exit};
use anyhow::Result;
use serde::Serialize;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    // No words of documentation here: with them clap prints every page of help in its long form.
    Text,
    Json,
}

/// Whether notes are JSON too. They are made in places that print no results.
static NOTES_ARE_JSON: AtomicBool = AtomicBool::new(false);

/// Standard output.
pub struct Out {
    format: Format,
    stdout: BufWriter<Stdout>,
    goes_on_alone: bool,
    is_alone: bool,
}

impl Out {
    /// Prints in `format` from now on, and notes too.
    pub fn new(format: Format) -> Self {
        NOTES_ARE_JSON.store(format == Format::Json, Ordering::Relaxed);
        let stdout = BufWriter::with_capacity(64 << 10, io::stdout());
        Self { format, stdout, goes_on_alone: false, is_alone: false }
    }

    /// From now on whoever reads may go away without ending the command: what it does counts, not what it prints.
    pub fn go_on_alone(&mut self) {
        self.goes_on_alone = true;
    }

    /// Whether JSON was asked for.
    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Prints bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        if self.is_alone {
            return Ok(());
        }
        let written = self.stdout.write_all(bytes);
        self.told(written)
    }

    /// Prints a line of text.
    pub fn line(&mut self, text: impl AsRef<[u8]>) -> Result<()> {
        self.bytes(text.as_ref())?;
        self.bytes(b"\n")
    }

    /// Prints a value as one line of JSON.
    pub fn json(&mut self, value: &impl Serialize) -> Result<()> {
        let line = serde_json::to_vec(value)?;
        self.line(line)
    }

    /// Prints `value` as JSON, or the lines that `text` makes of it.
    pub fn show<T: Serialize>(&mut self, value: &T, text: impl FnOnce(&T) -> String) -> Result<()> {
        match self.format {
            Format::Json => self.json(value),
            Format::Text => self.line(text(value)),
        }
    }

    /// Hands everything printed so far to whoever reads it.
    pub fn flush(&mut self) -> Result<()> {
        if self.is_alone {
            return Ok(());
        }
        let flushed = self.stdout.flush();
        self.told(flushed)
    }

    fn told(&mut self, printed: io::Result<()>) -> Result<()> {
        match printed {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe && self.goes_on_alone => {
                self.is_alone = true;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(ClosedPipe.into()),
            printed => Ok(printed?),
        }
    }
}

/// Says something to whoever watches, without being a result.
pub fn note(text: impl AsRef<str>) {
    say("note", text.as_ref(), serde_json::json!({}));
}

/// Tells an error, and how the command ends with it.
pub fn error(text: impl AsRef<str>, exit: Exit) {
    say("error", text.as_ref(), serde_json::json!({ "exit": exit as u8 }));
}

/// Says a value of a kind to whoever watches, as JSON.
pub fn say_json(what: &str, value: &impl Serialize) {
    match serde_json::to_value(value) {
        Ok(value) => drop(writeln!(io::stderr(), "{}", serde_json::json!({ what: value }))),
        Err(error) => note(format!("{what}: {error}")),
    }
}

fn say(what: &str, text: &str, mut json: serde_json::Value) {
    let line = if NOTES_ARE_JSON.load(Ordering::Relaxed) {
        json[what] = text.into();
        json.to_string()
    } else {
        format!("conveyor: {text}")
    };
    // Nobody may be listening, which changes nothing.
    drop(writeln!(io::stderr(), "{line}"));
}

/// A bar over `bytes` (or a count of bytes so far, where the end is not known) for long work, shown when standard
/// error is a terminal.
pub fn progress(bytes: Option<u64>) -> indicatif::ProgressBar {
    if !io::stderr().is_terminal() {
        return indicatif::ProgressBar::hidden();
    }
    let (bar, template) = match bytes {
        Some(bytes) => (
            indicatif::ProgressBar::new(bytes),
            "{wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}",
        ),
        None => (indicatif::ProgressBar::new_spinner(), "{spinner} {binary_bytes} {binary_bytes_per_sec}"),
    };
    match indicatif::ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Bytes as people read them.
pub fn show_bytes(bytes: u64) -> String {
    const UNITS: &[&str] = &["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// So many of something, in words.
pub fn show_count(count: u64, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}

/// The entries from `from` up to but not with `until`, in words: people count the last one in.
pub fn show_entries(from: u64, until: u64) -> String {
    match until.saturating_sub(from) {
        0 => "no entries".to_owned(),
        1 => format!("entry {from}"),
        _ => format!("entries {from} to {}", until - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_told_with_their_last_entry() {
        assert_eq!([show_entries(1, 1), show_entries(1, 2)], ["no entries", "entry 1"]);
        assert_eq!(show_entries(3, 6), "entries 3 to 5");
        let topics = [0, 1, 2].map(|count| show_count(count, "topic", "topics"));
        assert_eq!(topics, ["0 topics", "1 topic", "2 topics"]);
    }

    #[test]
    fn sizes_and_durations_are_shown_short() {
        assert_eq!([show_bytes(0), show_bytes(1536), show_bytes(5 << 30)], ["0 B", "1.5 KiB", "5.0 GiB"]);
        assert_eq!(
            [show_ms(5), show_ms(1500), show_ms(120_000), show_ms(7 * 86_400_000)],
            ["5 ms", "1.5 s", "2 min", "7 d"]
        );
    }
}
