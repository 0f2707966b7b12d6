//! `conveyor peer set-aside`: what a peer has of removed peers that does not count.
use crate::cli::connect::Connection;
use crate::cli::output::{Out, show_entries};
use crate::client::Aside;
use anyhow::Result;
use clap::Args;
use serde::Serialize;

/// List what the peer asked has set aside of peers that were removed
///
/// These are entries that none of those had who were asked when their writer was removed. They are kept, and neither read nor
/// copied to others.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  conveyor peer set-aside
  conveyor export jobs --set-aside --file kept.cvy   writes them to a file
  conveyor import kept.cvy --as-new                  appends them as new entries

Each peer has its own: ask all of them, the removed one too where it still
runs.")]
pub struct SetAside {
    #[command(flatten)]
    connection: Connection,
}

#[derive(Serialize)]
struct AsideJson {
    topic: Option<String>,
    peer: String,
    name: Option<String>,
    run: String,
    first_seq: u64,
    next_seq: u64,
}

impl SetAside {
    /// Asks and shows.
    pub async fn run(self, out: &mut Out) -> Result<()> {
        for aside in self.connection.client().await?.asides().await? {
            out.show(&json(&aside), |json| {
                let whose = json.name.as_ref().unwrap_or(&json.peer);
                let topic = json.topic.as_deref().unwrap_or("a topic without a name here");
                let entries = show_entries(json.first_seq, json.next_seq);
                format!("{topic}  {whose}: {entries} of run {}", aside.run.short())
            })?;
        }
        Ok(())
    }
}

fn json(aside: &Aside) -> AsideJson {
    AsideJson {
        topic: aside.topic.as_ref().map(ToString::to_string),
        peer: aside.peer.to_string(),
        name: aside.name.as_ref().map(ToString::to_string),
        run: aside.run.to_string(),
        first_seq: aside.from.0,
        next_seq: aside.until.0,
    }
}
