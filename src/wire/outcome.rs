//! What a peer answers: results and typed errors, the same for every adapter and for the client library.
//!
//! Each error says what happened to the peer's state and what the caller can do next.
mod cluster;

pub use cluster::*;

use crate::base::name::short_run;
use crate::base::{
    ChunkError, ClusterId, Cursor, CursorError, EntryId, EntryRef, Fork, NameError, PeerId, PeerName, RunId,
    Seq, StoreId, Timestamp, TopicName, TopicSettings,
};
use serde::{Deserialize, Serialize};

/// Entries that are as durable as was asked: `count` of them, numbered from `first_seq`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Appended {
    /// The peer that took them.
    pub peer: PeerId,
    /// The run they are numbered in.
    pub run: RunId,
    /// The run that was signed: that one, or the one that it is a branch of, where a retry finds that the run forked.
    pub signed_run: RunId,
    /// The number of the first.
    pub first_seq: Seq,
    /// The time of the first; entry `i` has `first_time + i`.
    pub first_time: Timestamp,
    /// How many.
    pub count: u32,
    /// Whether the peer had them already: this was a retry.
    pub is_repeat: bool,
    /// The store of the peer that took them.
    pub store: StoreId,
    /// The other peers that say they hold them, durably, in order of their keys; none where nobody waited for that.
    pub holders: Vec<Holder>,
}

/// Another peer that said that it holds entries, durably.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its key.
    pub peer: PeerId,
    /// Its data directory, during the start in which it said so.
    pub store: StoreId,
    /// What people call it, where known.
    pub name: Option<PeerName>,
}

impl Appended {
    /// The same of one entry of them, the one at `index`, counted from 0.
    pub fn entry(&self, index: u32) -> Self {
        let (first_seq, first_time) =
            (self.first_seq.after(u64::from(index)), self.first_time.plus(u64::from(index)));
        Self { first_seq, first_time, count: 1, ..self.clone() }
    }
}

/// Why entries were not appended. Unless said otherwise nothing was stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum AppendError {
    /// The caller's certificate does not allow writing to this topic. Ask for one that does.
    #[error("this certificate does not allow appending to topic {topic:?}")]
    Forbidden {
        /// The topic.
        topic: TopicName,
    },
    /// The topic's name is not legal.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The topic does not exist and the peer does not make topics by itself. Create it first.
    #[error("topic {topic:?} does not exist; create it with `conveyor topic create`")]
    TopicUnknown {
        /// The topic.
        topic: TopicName,
    },
    /// The bytes are no chunk of entries. Mend the client.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// An entry is of a kind that users do not append.
    #[error("users append entries of kind data only")]
    Kind,
    /// An entry's `deliver_at` lies too far ahead.
    #[error("deliver_at lies more than ten years ahead ({ahead_ms} ms)")]
    DeliverAt {
        /// How far ahead, in milliseconds.
        ahead_ms: u64,
    },
    /// Fewer peers than asked for hold the entries, and the time to wait for them is over. The entries ARE in the log of
    /// this peer, durably, and others may come to hold them yet. The same append again, with the same producer and
    /// numbers, is not appended twice: it waits once more.
    #[error("{}", unconfirmed(*asked, *available, appended))]
    Replicas {
        /// Asked for.
        asked: u8,
        /// Peers that could hold it at that moment: those in a session with this one, and itself.
        available: u8,
        /// What was appended, and who else holds it.
        appended: Box<Appended>,
    },
    /// The disk is full down to the reserve. Free space, trim, or append elsewhere; the same append may be retried.
    #[error(
        "the disk has {free_bytes} bytes free, and {reserve_bytes} are kept in reserve; trim or delete topics, or make room"
    )]
    DiskFull {
        /// Free bytes.
        free_bytes: u64,
        /// The reserve.
        reserve_bytes: u64,
    },
    /// The producer numbered an entry so far back that the peer no longer remembers whether it was appended.
    /// Read the topic to find out.
    #[error("number {number} of this producer is too far back to tell whether it was appended")]
    ProducerForgotten {
        /// The number.
        number: u64,
    },
    /// A retry holds other entries under its numbers than the first attempt did. Send chunks again unchanged.
    #[error(
        "numbers {number} and on of this producer were appended in another chunk; send retries unchanged"
    )]
    ProducerMixed {
        /// The first number of the chunk.
        number: u64,
    },
    /// The peer is stopping, or a flush failed and it must be restarted. Whether the entries were stored is not
    /// known: retry with the same producer and numbers, here later or at another peer.
    #[error("the peer has stopped taking appends: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
    /// An administrator removed the peer from the cluster for good. Append at another.
    #[error("this peer was removed from the cluster; append at another")]
    Removed,
}

/// What became of an append that too few peers hold, in words.
fn unconfirmed(asked: u8, available: u8, appended: &Appended) -> String {
    let Appended { run, signed_run, first_seq, count, holders, .. } = appended;
    let last = first_seq.after(u64::from(count.saturating_sub(1)));
    let entries =
        if *count > 1 { format!("entries {first_seq} to {last}") } else { format!("entry {first_seq}") };
    let also = |holder: &Holder| match &holder.name {
        Some(name) => name.to_string(),
        None => holder.peer.short(),
    };
    let also: Vec<String> = holders.iter().map(also).collect();
    let also = if also.is_empty() { String::new() } else { format!(" ({} too)", also.join(", ")) };
    format!(
        "stored in the log of the peer that was asked, as {entries} of run {}, and not confirmed: {} of {asked} peers hold it in \
         time{also}, and {available} could, itself included; the same append again waits for the others",
        short_run(*run, *signed_run),
        holders.len() + 1,
    )
}

/// Where a read begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadFrom {
    /// With the oldest entry that is kept.
    Start,
    /// With what is appended from now on.
    Now,
    /// With this entry (in its own log; entries of other logs from the same time on).
    Id(crate::base::EntryRef),
    /// With the first entry of each log at or after this Unix time in milliseconds.
    Time {
        /// Unix milliseconds.
        unix_ms: u64,
    },
    /// Where a reader stopped.
    Cursor(Cursor),
    /// With the last so many entries of each log, older ones of those that branch off there included.
    Last {
        /// How many.
        count: u64,
    },
}

/// Why a range cannot be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum GapReason {
    /// Retention or deletion removed it.
    Trimmed,
    /// No one holds it any more.
    Lost,
    /// It is damaged on this peer's disk and set aside (told as a gap only when the reader asked to go on).
    Damaged,
}

/// A range of a log that can never be delivered; the reader goes on behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The log's peer.
    pub peer: PeerId,
    /// The run.
    pub run: RunId,
    /// The first number missing.
    pub from: Seq,
    /// The number behind the last one missing.
    pub until: Seq,
    /// Why.
    pub reason: GapReason,
    /// Where it reaches back to the beginning of its run: the run that this goes on from, behind which no other position
    /// need be kept.
    pub goes_on_from: Option<RunId>,
}

/// A log that cannot be served further from here, and why. Nothing behind it was passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocked {
    /// The log's peer.
    pub peer: PeerId,
    /// The run.
    pub run: RunId,
    /// The first number that is missing here.
    pub from: Seq,
    /// The number behind the last one missing.
    pub until: Seq,
    /// What stands in the way.
    pub reason: BlockedReason,
}

/// What keeps a log from being served further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlockedReason {
    /// Bytes on this peer's disk are damaged and set aside. Read on elsewhere, or ask to skip damage.
    Damaged,
    /// The disk gave an error. Try again.
    Io,
    /// The cursor is ahead of what this peer holds: it waits.
    Ahead,
    /// Entries before what this peer holds are not here: other peers may bring them. Wait, read on elsewhere, or ask to
    /// skip damage.
    Missing,
}

/// Why a read did not begin, or ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum ReadError {
    /// The caller's certificate does not allow reading this topic.
    #[error("this certificate does not allow reading topic {topic:?}")]
    Forbidden {
        /// The topic.
        topic: TopicName,
    },
    /// The topic's name is not legal.
    #[error(transparent)]
    Name(#[from] NameError),
    /// No such topic is known here.
    #[error("topic {topic:?} does not exist here")]
    TopicUnknown {
        /// The topic.
        topic: TopicName,
    },
    /// The cursor cannot be used here.
    #[error(transparent)]
    Cursor(#[from] CursorError),
    /// The id names no entry that this peer knows of. It may be ahead of this peer.
    #[error("entry {id} is not here yet; the next entry of its log is number {until}")]
    IdAhead {
        /// What was asked for.
        id: String,
        /// Where the log ends here.
        until: Seq,
    },
    /// No log here fits the id's peer and run.
    #[error("no log of this topic fits {id}")]
    IdUnknown {
        /// What was asked for.
        id: String,
    },
    /// The entry was removed by retention or deletion; the log now starts later.
    #[error("entry {id} was trimmed; the log now starts at {start}")]
    IdTrimmed {
        /// What was asked for.
        id: String,
        /// The first entry that is kept.
        start: Seq,
    },
    /// The id fits more than one entry; use one of those listed.
    #[error("{id} fits {} entries", fits.len())]
    IdAmbiguous {
        /// What was asked for.
        id: String,
        /// What it fits, in full.
        fits: Vec<EntryId>,
    },
    /// The entry's bytes are damaged on this peer's disk and set aside.
    #[error("entry {id} is damaged on this peer's disk and was set aside")]
    Damaged {
        /// What was asked for.
        id: String,
    },
    /// The disk gave an error. Nothing changed; try again.
    #[error("the disk could not be read: {reason}")]
    Io {
        /// The disk's words.
        reason: String,
    },
    /// The peer is stopping. Read on elsewhere or later with the cursor reached.
    #[error("the peer is stopping")]
    Stopped,
    /// The entry was declared lost: no one holds it any more.
    #[error("entry {id} was declared lost")]
    IdLost {
        /// What was asked for.
        id: String,
    },
    /// The run forked before this entry: its peer signed different things under this name. Ask for one of them by its branch.
    #[error("{id} stands for several entries, since its run forked; ask for {}", either(branches))]
    Forked {
        /// What was asked for.
        id: String,
        /// The same number in each branch that begins where the run forked, whether the branch reaches so far or not.
        branches: Vec<EntryRef>,
    },
}

fn either(branches: &[EntryRef]) -> String {
    branches.iter().map(EntryRef::to_string).collect::<Vec<_>>().join(" or ")
}

/// What became of a batch that was imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Imported {
    /// It was held already. Nothing changed.
    Held,
    /// It is new here, and durable.
    New,
    /// Retention or a deletion took all of its entries here. Nothing was stored: what is trimmed stays so.
    Trimmed,
}

/// Why a batch was not imported. Nothing was stored, but for `Stopped`, where that is not known: import it again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum ImportError {
    /// The caller's certificate does not allow it: importing is for administrators.
    #[error("this certificate does not allow importing into topic {topic:?}")]
    Forbidden {
        /// The topic.
        topic: TopicName,
    },
    /// The certificate is not that of the batch's peer in this cluster.
    #[error("the certificate is not that of a peer of this cluster who signed the batch")]
    Certificate,
    /// The batch's topic is not the one named.
    #[error("the batch belongs to another topic or another cluster")]
    Topic,
    /// The batch does not match its signature or its root, or is none.
    #[error("the batch does not match what its peer signed")]
    Signature,
    /// The peer is stopping, or a batch before this one was refused.
    #[error("the peer does not take batches now")]
    Stopped,
    /// The disk is full down to the reserve. Free space, and import again.
    #[error(
        "the disk has {free_bytes} bytes free, and {reserve_bytes} are kept in reserve; trim or delete topics, or make room"
    )]
    DiskFull {
        /// Free bytes.
        free_bytes: u64,
        /// The reserve.
        reserve_bytes: u64,
    },
    /// The batch has numbers that the peer asked gave to other entries, in the same run: two processes wrote that run, as
    /// happens when a machine is cloned while it runs. Append its entries anew.
    #[error(
        "entries {first_seq} and on of run {} are others at this peer: two processes wrote that run, as when a machine is \
         cloned while it runs; `conveyor import --as-new` appends them anew",
        run.short()
    )]
    Collides {
        /// The run.
        run: RunId,
        /// The batch's first number.
        first_seq: Seq,
    },
    /// The batch's peer was removed from the cluster, and the removal leaves less than this. Append its entries anew.
    #[error(
        "entries {first_seq} and on of run {} do not count: their peer was removed; `conveyor import --as-new` appends them \
         anew",
        run.short()
    )]
    Removed {
        /// The run.
        run: RunId,
        /// The batch's first number.
        first_seq: Seq,
    },
    /// Its peer signed something else too under these numbers, which is held here; or it is of a branch of a run whose fork is
    /// not known here. Peers that hold both bring each other what they lack.
    #[error(
        "the batch is of a run that forked, and does not go on from what is held here; let peers bring it"
    )]
    Forked,
}

/// What a topic's log of one peer holds here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogInfo {
    /// Its peer.
    pub peer: PeerId,
    /// What people call the peer, where known.
    pub name: Option<PeerName>,
    /// The run reached last.
    pub run: RunId,
    /// Runs so far.
    pub run_count: u32,
    /// The first entry kept.
    pub start: Seq,
    /// The number behind the last entry that readers see.
    pub until: Seq,
    /// Bytes of the batches kept, as stored.
    pub stored_bytes: u64,
    /// The time of the newest entry; zero when there is none.
    pub last_time: Timestamp,
    /// Ranges that are damaged here and set aside, as (run, from, until), but for those declared lost: the first of them
    /// where all topics were asked for, and there are many.
    pub damaged: Vec<(RunId, Seq, Seq)>,
    /// Ranges that were declared lost, in the same form.
    pub lost: Vec<(RunId, Seq, Seq)>,
    /// How many ranges are damaged, listed or not.
    pub damaged_count: u64,
    /// How many were declared lost, listed or not.
    pub lost_count: u64,
    /// Where its runs forked, since its peer signed two things under one name.
    pub forks: Vec<ForkInfo>,
}

impl LogInfo {
    /// The run that was signed where this one is a branch of it; else this one.
    pub fn signed_run_of(&self, run: RunId) -> RunId {
        let of_branch = self.forks.iter().find(|fork| fork.branches.contains(&run));
        of_branch.map_or(run, |fork| fork.signed_run)
    }
}

/// Where a run forked: it ends there, and its branches go on, each as a run of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForkInfo {
    /// The run that ends: one that was signed, or a branch of it.
    pub run: RunId,
    /// The run that was signed.
    pub signed_run: RunId,
    /// The first number that stands for several entries.
    pub from: Seq,
    /// The branches.
    pub branches: Vec<RunId>,
}

impl From<&Fork> for ForkInfo {
    fn from(fork: &Fork) -> Self {
        let (run, signed_run, from) = (fork.run, fork.signed_run(), fork.from());
        Self { run, signed_run, from, branches: fork.branches().to_vec() }
    }
}

/// What a peer knows of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicInfo {
    /// Its name.
    pub name: TopicName,
    /// Its settings.
    pub settings: TopicSettings,
    /// Whether someone set them, or these are the defaults of a topic made by its first append.
    pub is_configured: bool,
    /// Its logs.
    pub logs: Vec<LogInfo>,
}

/// A change to the catalog of topics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TopicChange {
    /// Creates the topic, or fails when it exists.
    Create {
        /// Its name.
        topic: TopicName,
        /// Its settings.
        settings: TopicSettings,
    },
    /// Sets the settings of a topic, made or not.
    Set {
        /// Its name.
        topic: TopicName,
        /// Its settings.
        settings: TopicSettings,
    },
    /// Removes all entries that are held now, and the settings. What is appended meanwhile survives.
    Delete {
        /// Its name.
        topic: TopicName,
    },
    /// Declares a damaged range lost: readers are told of a gap and go on behind it.
    Lost {
        /// The topic's name; this may be `$catalog`.
        topic: TopicName,
        /// The log's peer, which has to be the one that is asked.
        peer: PeerId,
        /// The run.
        run: RunId,
        /// The first entry.
        from: Seq,
        /// The number behind the last.
        until: Seq,
    },
}

impl TopicChange {
    /// The topic that it is about.
    pub fn topic(&self) -> &TopicName {
        let (Self::Create { topic, .. }
        | Self::Set { topic, .. }
        | Self::Delete { topic }
        | Self::Lost { topic, .. }) = self;
        topic
    }
}

/// What became of a change to the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicChanged {
    /// The entry in `$catalog` that holds the change; none for a range declared lost, which its log holds.
    pub by: Option<EntryId>,
    /// For a deletion: the frontier up to which entries go, and peers that could not be asked.
    pub deleted: Option<Deleted>,
}

/// How far a deletion reaches.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Deleted {
    /// For each log: its peer, run, and the number below which entries go.
    pub until: Vec<(PeerId, RunId, Seq)>,
    /// Peers that could not be asked what they hold.
    pub not_asked: Vec<PeerId>,
}

/// Why a change to the catalog was refused. Nothing changed, but for `Stopped`, where that is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum TopicError {
    /// The caller's certificate does not allow it.
    #[error("this certificate does not allow changing topic {topic:?}")]
    Forbidden {
        /// The topic.
        topic: TopicName,
    },
    /// The name is not legal.
    #[error(transparent)]
    Name(#[from] NameError),
    /// It exists already.
    #[error("topic {topic:?} exists already; `conveyor topic set` changes its settings")]
    Exists {
        /// The topic.
        topic: TopicName,
    },
    /// It does not exist.
    #[error("topic {topic:?} does not exist here")]
    Unknown {
        /// The topic.
        topic: TopicName,
    },
    /// The peer is stopping.
    #[error("the peer has stopped: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
    /// Only what is damaged can be declared lost, by the log's own peer.
    #[error("entries {from} up to {until} of run {run} are not all damaged in this peer's own log")]
    NotDamaged {
        /// The run.
        run: RunId,
        /// The first entry named.
        from: Seq,
        /// The number behind the last one named.
        until: Seq,
    },
    /// The disk is full down to the reserve. Free space, and try again; deleting a topic needs nearly none.
    #[error(
        "the disk has {free_bytes} bytes free, and {reserve_bytes} are kept in reserve; trim or delete topics, or make room"
    )]
    DiskFull {
        /// Free bytes.
        free_bytes: u64,
        /// The reserve.
        reserve_bytes: u64,
    },
    /// An administrator removed the peer from the cluster for good. Ask another.
    #[error("this peer was removed from the cluster; ask another")]
    Removed,
}

/// Who a peer is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its key.
    pub peer: PeerId,
    /// What people call it.
    pub name: PeerName,
    /// Its data directory during this start.
    pub store: StoreId,
    /// The program's version.
    pub version: String,
}

/// How a peer is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Who it is.
    pub about: About,
    /// Unix milliseconds now, by its own clock.
    pub unix_ms: u64,
    /// Unix milliseconds of its start, by its own clock.
    pub started_unix_ms: u64,
    /// Topics it knows of, its own left out.
    pub topic_count: u64,
    /// Logs it holds.
    pub log_count: u64,
    /// Bytes of batches it holds, as stored.
    pub stored_bytes: u64,
    /// Free bytes on its disk.
    pub disk_free_bytes: u64,
    /// Below this many free bytes appends stop.
    pub disk_reserve_bytes: u64,
    /// Whether appends are taken, or why not.
    pub appends: AppendsState,
    /// Whether irreversible decisions (expiry, age retention) are made, or why they are paused.
    pub clock: ClockState,
    /// Ranges set aside because their bytes are damaged.
    pub damaged_count: u64,
    /// Forks of runs that are known: their peers signed two things under one name.
    pub fork_count: u64,
    /// Open client connections.
    pub connection_count: u64,
    /// The settings of a topic that nobody set: those it is made with by its first append, and those that whoever creates
    /// it begins with.
    pub topic_defaults: TopicSettings,
}

/// Whether a peer takes appends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppendsState {
    /// It does.
    Open,
    /// The disk is full down to the reserve.
    DiskFull,
    /// A flush failed: restart the peer.
    Stopped {
        /// Why.
        reason: String,
    },
}

/// Whether a peer trusts its clock enough to remove things by age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClockState {
    /// It does.
    Trusted,
    /// The clock is behind what this peer last wrote.
    Behind {
        /// By how much, in milliseconds.
        by_ms: u64,
    },
    /// The clock moved against the monotonic clock.
    Jumped {
        /// By how much, in milliseconds, signed.
        by_ms: i64,
    },
    /// The clock was found ahead at start and is being watched for a while.
    Settling {
        /// How long still, in milliseconds.
        left_ms: u64,
    },
    /// Of this clock and those of the peers it hears, no more than half are near it.
    Apart {
        /// How far it is ahead of the one in the middle of the others, in milliseconds, negative where it is behind.
        by_ms: i64,
    },
}
