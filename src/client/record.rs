//! What a reader gets.
use crate::base::name::short_run;
use crate::base::{Entry, EntryId, PeerName, RunId, Timestamp, TopicName};
use crate::wire::contents::RawEntry;
use crate::wire::outcome::{Blocked, Gap};
use std::fmt;

/// An entry with its name and time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The topic it was read from.
    pub topic: TopicName,
    /// Its name, good for ever and on every peer.
    pub id: EntryId,
    /// The run that was signed: that of its name, or the one that this is a branch of, since its peer signed two things under
    /// one name.
    pub signed_run: RunId,
    /// What people call the peer that appended it, where known.
    pub peer_name: Option<PeerName>,
    /// When it was appended, as its writer saw it.
    pub time: Timestamp,
    /// The entry.
    pub entry: Entry,
}

impl fmt::Display for Record {
    /// The short id, `topic/name.run/seq`, or `topic/name.run~branch/seq` where the run forked; the peer's key stands for a name that is not known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (run, seq) = (short_run(self.id.run, self.signed_run), self.id.seq);
        match &self.peer_name {
            Some(name) => write!(f, "{}/{name}.{run}/{seq}", self.topic),
            None => write!(f, "{}/{}.{run}/{seq}", self.topic, self.id.peer),
        }
    }
}

/// What comes out of a read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are of the large kind, and a box for each costs more"
)]
pub enum Item {
    /// An entry.
    Entry(Record),
    /// A range that can never be delivered: trimmed, lost, or damaged and skipped as asked.
    Gap(Gap),
    /// A log that cannot be served further by this peer now. Told once; the read goes on when it can.
    Blocked(Blocked),
}

/// Makes a record of an entry that a peer sent. `None` when its bytes are no entry.
pub(crate) fn record(topic: &TopicName, name: Option<PeerName>, raw: &RawEntry) -> Option<Record> {
    let entry = raw.entry().ok()?;
    let (topic, id, signed_run) = (topic.clone(), raw.id, raw.signed_run);
    Some(Record { topic, id, signed_run, peer_name: name, time: raw.time, entry })
}
