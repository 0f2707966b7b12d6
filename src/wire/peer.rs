//! What peers say to each other once they know who the other is.
//!
//! ```text
//! every interval   A ── Digest ──────────> B      the same: nothing follows
//!                  A <── Digest ───────── B       where buckets differ: their parts
//!                  A ── Leaves ──────────> B      few enough: each log's hash
//!                  A <── Logs, ask ─────── B      what B holds of those that differ
//!                  A ── Logs ────────────> B
//! as things change A ── Have ────────────> B
//!                  A <── Want ──────────── B
//!                  A ── Batch…, Sent ────> B
//! ```
//!
//! Every message may be lost, doubled, late or a lie: what it says is used only as far as it can be checked, or as a hint
//! where to ask. `Have` speaks of what is durable in the store that says so.
use crate::base::fork::{FORK_BYTES, Side};
use crate::base::{Fork, Head, LogId, Lost, PeerId, RunId, Seq, Signature, StoreId, TopicName};
use crate::wire::group::GroupMessage;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerMessage {
    /// Hashes of buckets of logs, under a salt that the sender drew for this comparison.
    Digest {
        /// The salt.
        salt: u64,
        /// The buckets.
        buckets: Vec<Bucket>,
    },
    /// The hash of every log in a bucket.
    Leaves {
        /// The salt.
        salt: u64,
        /// Which bucket.
        prefix: Prefix,
        /// Tag and hash of each log, in order of tags.
        logs: Vec<(LogTag, u64)>,
    },
    /// What the sender holds of some logs, and of which it asks the same.
    Logs {
        /// What is held.
        held: Vec<LogSummary>,
        /// What to tell back.
        ask: Vec<LogTag>,
    },
    /// The stores with which the sender has a session: what one of them told all, nobody need tell the others.
    Neighbors(Vec<StoreId>),
    /// A range is durable in the sender's store; and 64 bits of the link of the batch at its end, 0 where that is not known.
    Have(RunRange, u64),
    /// New batches are welcome without being asked for, up to the one with this number; and the highest that came.
    Follow {
        /// How many may come since the session began.
        until: u64,
        /// How many came.
        came: u64,
    },
    /// A range is not held any more.
    Gone(RunRange),
    /// The log's own peer signed how far it is trimmed.
    Head(Head, Signature),
    /// The log's own peer declared a range lost.
    Lost(Lost, Signature),
    /// A run forked: two batches of it that its peer signed.
    Fork(Box<Fork>),
    /// Please tell what was signed of the batch that holds an entry.
    AskStatement {
        /// The log.
        log: LogId,
        /// The run.
        run: RunId,
        /// The entry.
        seq: Seq,
    },
    /// What was signed of it; none where it is not held.
    Statement {
        /// The log.
        log: LogId,
        /// The run.
        run: RunId,
        /// The entry that was asked about.
        seq: Seq,
        /// The statement and its signature.
        side: Option<Box<Side>>,
    },
    /// Please send batches, from the one that holds the first entry named.
    Want {
        /// Which entries.
        range: RunRange,
        /// Bytes of batches that may be on their way at once; one batch may always be.
        bytes_max: u64,
        /// Whether the certificate of the log's peer is missing.
        certificate: bool,
    },
    /// The certificate of a peer.
    Certificate {
        /// The peer.
        peer: PeerId,
        /// DER.
        #[serde(with = "der")]
        der: Arc<[u8]>,
    },
    /// The answer to a `Want` ends: everything before `until` was sent, and why no more.
    Sent {
        /// What was asked for.
        range: RunRange,
        /// The number behind the last entry sent.
        until: Seq,
        /// Why it ends there.
        end: SentEnd,
    },
    /// What the sender's wall clock shows, in Unix milliseconds.
    Clock(u64),
    /// About the groups of a topic.
    Group(TopicName, Box<GroupMessage>),
    // The two below travel as they are and not in bincode: new variants go before them.
    /// A new batch, where the other store follows: it says what `Have` says, and brings it.
    #[serde(skip)]
    Push {
        /// Which one this is, since the session began; batches of one step have the same.
        number: u64,
        /// The batch.
        batch: Bytes,
    },
    /// A batch, as it is stored.
    #[serde(skip)]
    Batch(Bytes),
}

/// Why an answer to a `Want` ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SentEnd {
    /// All that was asked for, or as many bytes as were allowed.
    Enough,
    /// The next entry is not held here; its log may have gone on or lost it.
    NotHere,
    /// Too much was asked: again after this many milliseconds.
    Busy {
        /// The pause.
        retry_ms: u32,
    },
}

/// Neighbouring entries of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RunRange {
    /// The log.
    pub log: LogId,
    /// The run.
    pub run: RunId,
    /// The first entry.
    pub from: Seq,
    /// The number behind the last.
    pub until: Seq,
}

/// How the tags of a bucket's logs begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Prefix {
    /// How many hexadecimal digits, at most 16.
    pub depth: u8,
    /// The digits, most significant first; what is beyond `depth` is zero.
    pub bits: u64,
}

impl Prefix {
    /// What every tag begins with.
    pub const ALL: Self = Self { depth: 0, bits: 0 };

    /// Whether a tag begins like this.
    pub fn holds(&self, tag: LogTag) -> bool {
        let shift = 64 - 4 * u32::from(self.depth.min(16));
        tag.0.checked_shr(shift).unwrap_or(0) == self.bits.checked_shr(shift).unwrap_or(0)
    }

    /// The last tag that begins like this.
    pub fn last(&self) -> LogTag {
        LogTag(self.bits | u64::MAX.checked_shr(4 * u32::from(self.depth)).unwrap_or(0))
    }

    /// The sixteen that have one digit more; none where there are no more digits.
    pub fn parts(&self) -> impl Iterator<Item = Self> {
        let Self { depth, bits } = *self;
        let count = if depth < 16 { 16 } else { 0 };
        (0..count).map(move |digit: u64| Self {
            depth: depth + 1,
            bits: bits | digit << (60 - 4 * u32::from(depth)),
        })
    }
}

/// A log's place among all: 64 bits of its id, which are spread evenly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogTag(pub u64);

/// The logs whose tags begin alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// How they begin.
    pub prefix: Prefix,
    /// The sum of their hashes.
    pub hash: u64,
    /// How many they are.
    pub count: u32,
}

/// What a store holds of one log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSummary {
    /// The log.
    pub log: LogId,
    /// Its topic.
    pub topic: TopicName,
    /// Its runs.
    pub runs: Vec<RunSummary>,
    /// What its peer signed of trims.
    pub heads: Vec<(Head, Signature)>,
    /// What its peer declared lost.
    pub lost: Vec<(Lost, Signature)>,
    /// Where its runs forked.
    pub forks: Vec<Fork>,
}

/// What a store holds of one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSummary {
    /// The run.
    pub run: RunId,
    /// The run it goes on from.
    pub parent: RunId,
    /// Its first number, as far as the store knows.
    pub from: Seq,
    /// Ranges held, half-open, in order.
    pub held: Vec<(Seq, Seq)>,
    /// 64 bits of the link of the batch at their end, which stands for all before; 0 where that is not known.
    pub link: u64,
}

impl LogSummary {
    /// About how many bytes it takes on its way.
    pub fn wire_bytes(&self) -> usize {
        let runs: usize = self.runs.iter().map(|run| 34 + 12 * run.held.len()).sum();
        50 + self.topic.as_str().len()
            + runs
            + 200 * self.heads.len()
            + 184 * self.lost.len()
            + FORK_BYTES * self.forks.len()
    }
}

impl PeerMessage {
    /// About how many bytes it takes on its way.
    pub fn wire_bytes(&self) -> usize {
        8 + match self {
            Self::Digest { buckets, .. } => 8 + 14 * buckets.len(),
            Self::Leaves { logs, .. } => 16 + 16 * logs.len(),
            Self::Logs { held, ask } => {
                held.iter().map(LogSummary::wire_bytes).sum::<usize>() + 8 * ask.len()
            }
            Self::Follow { .. } => 16,
            Self::Clock(_) => 8,
            Self::Group(topic, message) => topic.as_str().len() + message.wire_bytes(),
            Self::Push { batch, .. } => 8 + batch.len(),
            Self::Neighbors(stores) => 8 * stores.len(),
            Self::Have(..) | Self::Gone(_) => 64,
            Self::Head(..) => 200,
            Self::Lost(..) => 184,
            Self::Fork(_) => FORK_BYTES,
            Self::AskStatement { .. } => 64,
            Self::Statement { side, .. } => 64 + side.as_ref().map_or(0, |_| 224),
            Self::Want { .. } => 72,
            Self::Certificate { der, .. } => 34 + der.len(),
            Self::Batch(bytes) => bytes.len(),
            Self::Sent { .. } => 76,
        }
    }
}

/// A certificate's bytes in a message.
mod der {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::sync::Arc;

    pub(super) fn serialize<S: Serializer>(der: &Arc<[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(der)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<[u8]>, D::Error> {
        Vec::<u8>::deserialize(deserializer).map(Arc::from)
    }
}
