//! `conveyor topic lost`: what is damaged of a topic, and the declaration that no one will bring it back.
//!
//! A peer declares what is damaged of its own log, range by range.
use crate::base::name::{PeerRef, short_run};
use crate::base::{EntryRef, PeerId, RunId, Seq, TopicName};
use crate::cli::connect::Connection;
use crate::cli::exit::{Exit, failure};
use crate::cli::output::{Out, note, show_count, show_entries};
use crate::client::{Client, ClientError, TopicError};
use crate::wire::outcome::{LogInfo, TopicChange, TopicInfo};
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
  conveyor topic lost jobs --declare    what is damaged now is lost for good
  conveyor topic lost jobs --declare --id jobs/alpha.01234567/42   one range
  conveyor topic lost '$catalog'        of Conveyor's own list of topics

A peer declares only what is damaged of its own log.")]
pub struct LostRanges {
    /// The topic
    #[arg(value_parser = |text: &str| TopicName::system(text))]
    topic: TopicName,
    /// Declare everything that is damaged now of the peer's own log lost
    #[arg(long)]
    declare: bool,
    /// Declare only the damaged range that holds this entry
    #[arg(long, value_name = "ID", value_parser = EntryRef::parse, requires = "declare")]
    id: Option<EntryRef>,
    #[command(flatten)]
    connection: Connection,
}

/// A run, and numbers of it: from, until.
type Range = (RunId, Seq, Seq);

/// A range of entries.
#[derive(Debug, Serialize)]
struct RangeJson {
    state: &'static str,
    id: String,
    peer: String,
    run: String,
    first_seq: u64,
    next_seq: u64,
}

impl RangeJson {
    fn new(topic: &TopicName, state: &'static str, log: &LogInfo, (run, from, until): Range) -> Self {
        let in_ids = short_run(run, log.signed_run_of(run));
        Self {
            state,
            id: format!("{topic}/{}.{in_ids}/{from}", called(log)),
            peer: log.peer.to_string(),
            run: run.to_string(),
            first_seq: from.0,
            next_seq: until.0,
        }
    }

    fn line(&self) -> String {
        format!("{}\t{}\t{}", self.state, self.id, show_entries(self.first_seq, self.next_seq))
    }
}

/// What stands for a log's peer in an id.
fn called(log: &LogInfo) -> String {
    log.name.as_ref().map_or_else(|| log.peer.to_string(), ToString::to_string)
}

fn ranges(count: u64) -> String {
    show_count(count, "range", "ranges")
}

impl LostRanges {
    /// Does it.
    pub async fn run(self, out: &mut Out) -> Result<()> {
        let client = self.connection.client().await?;
        match &self.id {
            Some(id) => self.declare_one(&client, id, out).await,
            None if self.declare => self.declare_all(&client, out).await,
            None => self.show(&self.info(&client).await?, out),
        }
    }

    async fn info(&self, client: &Client) -> Result<TopicInfo> {
        let missing = || failure(Exit::NotFound, format!("topic {:?} does not exist here", self.topic));
        client.topic(&self.topic).await?.ok_or_else(missing)
    }

    fn show(&self, info: &TopicInfo, out: &mut Out) -> Result<()> {
        for log in &info.logs {
            for (state, listed) in [("damaged", &log.damaged), ("lost", &log.lost)] {
                for range in listed {
                    out.show(&RangeJson::new(&self.topic, state, log, *range), RangeJson::line)?;
                }
            }
        }
        if info.logs.iter().all(|log| log.damaged_count == 0) {
            note(format!("nothing of topic {:?} is damaged here", self.topic));
        }
        Ok(())
    }

    async fn declare_all(&self, client: &Client, out: &mut Out) -> Result<()> {
        let (own, info, mut declared_count) = (client.about().peer, self.info(client).await?, 0);
        for log in info.logs.iter().filter(|log| log.peer == own) {
            for range in damaged_of(log) {
                declared_count += u64::from(self.declare_range(client, log, range, out).await?);
            }
        }
        tell_others(&info, own);
        match declared_count {
            0 => note(format!(
                "nothing of this peer's log of {:?} is damaged; nothing was declared",
                self.topic
            )),
            count => note(format!("{} declared lost", ranges(count))),
        }
        Ok(())
    }

    async fn declare_one(&self, client: &Client, id: &EntryRef, out: &mut Out) -> Result<()> {
        if id.topic != self.topic {
            let message = format!("--id names an entry of topic {:?}, not of {:?}", id.topic, self.topic);
            return Err(failure(Exit::Usage, message));
        }
        let info = self.info(client).await?;
        let is_meant = |log: &LogInfo, (run, from, until): Range| {
            let is_peer = match &id.peer {
                PeerRef::Name(name) => log.name.as_ref() == Some(name),
                PeerRef::Key(key) => log.peer == *key,
            };
            let signed_run = Some(log.signed_run_of(run)).filter(|signed_run| *signed_run != run);
            is_peer && id.fits_run(run) && id.fits_signed_run(signed_run) && from <= id.seq && id.seq < until
        };
        let all = info.logs.iter().flat_map(|log| std::iter::repeat(log).zip(damaged_of(log)));
        let meant: Vec<(&LogInfo, Range)> = all.filter(|(log, range)| is_meant(log, *range)).collect();
        let [(log, range)] = meant[..] else {
            return Err(match meant.len() {
                0 => failure(Exit::NotFound, format!("entry {id} is not among what is damaged here")),
                _ => {
                    failure(Exit::Usage, format!("{id} fits more than one entry; give peer and run in full"))
                }
            });
        };
        if !self.declare_range(client, log, range, out).await? {
            return Err(failure(Exit::NotFound, format!("entry {id} is no longer damaged here")));
        }
        note(format!("{} declared lost", ranges(1)));
        Ok(())
    }

    /// Declares a range lost; false when it was healed meanwhile.
    async fn declare_range(
        &self,
        client: &Client,
        log: &LogInfo,
        range: Range,
        out: &mut Out,
    ) -> Result<bool> {
        let ((run, from, until), topic, peer) = (range, self.topic.clone(), log.peer);
        match client.change_topic(TopicChange::Lost { topic, peer, run, from, until }).await {
            Err(ClientError::Topic(TopicError::NotDamaged { .. })) if peer == client.about().peer => {
                Ok(false)
            }
            Err(error) => Err(error.into()),
            Ok(_) => {
                out.show(&RangeJson::new(&self.topic, "lost", log, range), RangeJson::line)?;
                Ok(true)
            }
        }
    }
}

fn damaged_of(log: &LogInfo) -> impl Iterator<Item = Range> {
    log.damaged.iter().copied()
}

/// Says what is damaged of logs that this peer cannot speak for.
fn tell_others(info: &TopicInfo, own: PeerId) {
    for log in info.logs.iter().filter(|log| log.peer != own && log.damaged_count > 0) {
        let (count, peer) = (ranges(log.damaged_count), called(log));
        note(format!("{count} of the log of {peer} damaged here: only {peer} can declare that lost"));
    }
}
