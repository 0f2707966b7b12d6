//! `conveyor topic lost`: what is damaged of a topic, and the declaration that no one will bring it back.
use crate::base::{PeerId, RunId, Seq, TopicName};
use crate::cli::connect::Connection;
use crate::cli::exit::{Exit, failure};
use crate::cli::output::{Out, show_entries};
use crate::wire::outcome::TopicChange;
use anyhow::Result;
use clap::Args;
use serde::Serialize;

/// Show what is damaged, or declare it lost
///
/// Readers stop where entries are damaged, since a backup or another peer may still have them. Once you know that no one
/// does, declare them lost: readers are then told of a gap and go on behind it. Should the bytes turn up after all,
/// importing them heals the gap.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  conveyor topic lost jobs              what is damaged, what is lost
  conveyor topic lost jobs --declare    what is damaged now is lost for good")]
pub struct LostRanges {
    /// The topic
    #[arg(value_parser = |text: &str| TopicName::new(text))]
    topic: TopicName,
    /// Declare everything that is damaged now of the peer's own log lost
    #[arg(long)]
    declare: bool,
    #[command(flatten)]
    connection: Connection,
}

/// A range of entries.
#[derive(Debug, Serialize)]
struct RangeJson {
    state: &'static str,
    peer: String,
    run: String,
    first_seq: u64,
    next_seq: u64,
}

impl RangeJson {
    fn new(state: &'static str, peer: PeerId, (run, from, until): (RunId, Seq, Seq)) -> Self {
        Self { state, peer: peer.to_string(), run: run.to_string(), first_seq: from.0, next_seq: until.0 }
    }

    fn line(&self) -> String {
        let entries = show_entries(self.first_seq, self.next_seq);
        format!("{}\t{}.{}\t{entries}", self.state, &self.peer[..8], &self.run[..8])
    }
}

impl LostRanges {
    /// Does it.
    pub async fn run(self, out: &mut Out) -> Result<()> {
        let client = self.connection.client().await?;
        let Some(info) = client.topic(&self.topic).await? else {
            return Err(failure(Exit::NotFound, format!("topic {:?} does not exist here", self.topic)));
        };
        for log in &info.logs {
            for &(run, from, until) in &log.damaged {
                let peer = log.peer;
                if self.declare {
                    let topic = self.topic.clone();
                    client.change_topic(TopicChange::Lost { topic, peer, run, from, until }).await?;
                }
                let state = if self.declare { "lost" } else { "damaged" };
                out.show(&RangeJson::new(state, peer, (run, from, until)), RangeJson::line)?;
            }
            for range in log.lost.iter().filter(|_| !self.declare) {
                out.show(&RangeJson::new("lost", log.peer, *range), RangeJson::line)?;
            }
        }
        client.close().await;
        Ok(())
    }
}
