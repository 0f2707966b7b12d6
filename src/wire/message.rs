//! Control messages: what a client asks and what a peer answers, in bincode with a byte limit.
//!
//! bincode's standard configuration: little-endian, numbers as variable-length integers, enums by the index of their
//! variant. So variants and fields are only ever added at the end, behind a feature bit of the handshake. No sequence
//! holds elements that encode to nothing: the limit counts bytes, and such elements would have none.
//!
//! ```text
//! > Hello                             < Welcome | Refused
//! > Append   then Chunk…              < Ready, then Appended…          one stream for each producer
//! > Read                              < Begun, then Certificate, Batch, Gap, Blocked, CaughtUp…, Failed
//! > Page                              < Entry, Name, Gap, Blocked…, PageEnd | Failed
//! > Get                               < Name, Entry | Failed, one for each id
//! > ReadAside                         < Certificate, Batch, Gap…, Done
//! > Status, Topics, Topic, Change, AcceptClock, Import, Members, HeldOf, Remove, Asides, Sync, Alone, Explain
//! ```
use crate::base::limits::MESSAGE_BYTES_MAX;
use crate::base::name::EntryRef;
use crate::base::{Cursor, Durability, GroupName, PeerId, PeerName, TopicName};
use crate::wire::frame::FrameError;
use crate::wire::group::{GroupAnswer, GroupError, GroupInfo, GroupRequest};
use crate::wire::outcome::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The version of the protocol spoken here.
pub const VERSION: u16 = 1;

/// What may be asked of the other side beyond version 1; none so far.
pub const FEATURES: u64 = 0;

/// What runs here, as the other side's logs name it.
pub const PROGRAM: &str = concat!("conveyor/", env!("CARGO_PKG_VERSION"));

/// Ids in one `Get` at most.
pub const GET_COUNT_MAX: usize = 1024;

/// Longest wait of one request, in milliseconds: clients ask again.
pub const WAIT_MS_MAX: u64 = 60_000;

/// What a client asks. Each stands at the start of a stream of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// The first request on a connection.
    Hello(Hello),
    /// Chunks follow, to be appended in the order they are sent.
    Append {
        /// The topic.
        topic: TopicName,
        /// The level the answers wait for; `None`: the topic's own.
        durability: Option<Durability>,
    },
    /// Whole batches from a position on.
    Read(ReadRequest),
    /// Single entries, up to a limit.
    Page(PageRequest),
    /// Entries by their ids.
    Get {
        /// At most 1 024.
        ids: Vec<EntryRef>,
        /// How long to wait for those that are ahead of this peer, in milliseconds.
        wait_ms: u64,
    },
    /// How the peer is doing.
    Status,
    /// All topics.
    Topics,
    /// One topic.
    Topic {
        /// Its name.
        topic: TopicName,
    },
    /// A change to the catalog.
    Change(TopicChange),
    /// Certificates and batches follow, as an export holds them.
    Import {
        /// The topic.
        topic: TopicName,
    },
    /// Believe the clock as it is.
    AcceptClock,
    /// All peers of the cluster.
    Members,
    /// What is held of a peer's logs, in all topics.
    HeldOf {
        /// The peer.
        peer: PeerId,
    },
    /// A removal of a peer follows, as docs/format.md has it.
    Remove,
    /// What is set aside here of peers that were removed.
    Asides,
    /// The batches of a topic that are set aside.
    ReadAside {
        /// The topic.
        topic: TopicName,
    },
    /// How the peer stands to the others.
    Sync,
    /// Which entries of the peer's own no other peer holds.
    Alone {
        /// How long others have to say that they do, in milliseconds.
        wait_ms: u64,
    },
    /// Why an entry is not here.
    Explain {
        /// Its id.
        id: EntryRef,
    },
    /// What is asked of a group follows, each time a [`GroupAsk`].
    Group {
        /// The topic.
        topic: TopicName,
        /// The group.
        group: GroupName,
        /// Whether leases outlive the stream. Those that do not are handed out again when it ends.
        keeps_leases: bool,
    },
    /// All groups of a topic.
    Groups {
        /// The topic.
        topic: TopicName,
    },
}

/// One request to a group, on a stream that [`Request::Group`] opened. Many may be under way; answers come as they are ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupAsk {
    /// What the answer names.
    pub number: u32,
    /// What is asked.
    pub request: GroupRequest,
}

/// Who connects, and what it speaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The oldest version it speaks.
    pub version_min: u16,
    /// The newest.
    pub version_max: u16,
    /// What it can do beyond that.
    pub features: u64,
    /// What it calls itself, for logs.
    pub program: String,
}

/// The answer to [`Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version that is spoken from here on.
    pub version: u16,
    /// What both sides can do beyond that.
    pub features: u64,
    /// Who the peer is.
    pub about: About,
}

/// A bulk read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadRequest {
    /// The topic.
    pub topic: TopicName,
    /// Where it begins.
    pub from: ReadFrom,
    /// Whether to go on with what is appended later. Without it the stream ends behind what is held now.
    pub follow: bool,
    /// Whether damaged ranges are passed over as gaps.
    pub skip_damaged: bool,
}

/// A read of single entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageRequest {
    /// The topic.
    pub topic: TopicName,
    /// Where it begins.
    pub from: ReadFrom,
    /// Only entries with this key.
    pub key: Option<Vec<u8>>,
    /// Entries at most.
    pub entry_count_max: u32,
    /// Raw bytes of entries at most; the first entry is sent whatever its size.
    pub bytes_max: u64,
    /// How long to wait when there is nothing, in milliseconds.
    pub wait_ms: u64,
    /// Whether damaged ranges are passed over as gaps.
    pub skip_damaged: bool,
}

/// What a peer answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The handshake is done.
    Welcome(Welcome),
    /// The stream or the connection is refused; nothing was done.
    Refused(Refusal),
    /// The stream is open for what the request announced.
    Ready,
    /// The outcome of the oldest chunk not answered yet.
    Appended(Result<Appended, AppendError>),
    /// A bulk read begins, from this position.
    Begun {
        /// The position, with `Start`, `Now`, `Id` and `Time` resolved.
        cursor: Cursor,
    },
    /// A range that can never be delivered.
    Gap(Gap),
    /// A log that cannot be served further from here.
    Blocked(Blocked),
    /// All that is held now was sent; everything before may be delivered.
    CaughtUp {
        /// The position behind it.
        cursor: Cursor,
    },
    /// The read did not begin, or ended; for `Get`: this id was not found.
    Failed(ReadError),
    /// What people call a peer whose entries follow.
    Name {
        /// The peer.
        peer: PeerId,
        /// Its name.
        name: PeerName,
    },
    /// The end of a page.
    PageEnd {
        /// The position behind it.
        cursor: Cursor,
        /// Whether nothing more is held now.
        at_end: bool,
    },
    /// How the peer is doing.
    Status(Status),
    /// A topic, or a part of its logs: parts of one topic follow each other.
    Topic(TopicInfo),
    /// The end of a list.
    Done,
    /// The outcome of a change.
    Changed(Result<TopicChanged, TopicError>),
    /// The outcome of the oldest batch not answered yet.
    Imported(Result<Imported, ImportError>),
    /// A peer of the cluster.
    Member(Member),
    /// What is held of a peer's logs, or a part of that.
    HeldOf(HeldOf),
    /// What became of a removal.
    Removed(Result<TopicChanged, RemoveError>),
    /// A range that is set aside.
    Aside(Aside),
    /// How the peer stands to the others.
    Sync(SyncStatus),
    /// What no other peer holds.
    Alone(Alone),
    /// Why an entry is not here.
    Explained(Explained),
    /// The answer to a [`GroupAsk`]. Behind leases their entries follow, in the same order.
    Group {
        /// What was asked.
        number: u32,
        /// What came of it.
        answer: Result<GroupAnswer, GroupError>,
    },
    /// A group of a topic.
    GroupInfo(Box<GroupInfo>),
}

/// Why a stream or connection is refused, or was given up. Nothing was done but what was answered before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Refusal {
    /// No version is spoken by both sides.
    #[error("this peer speaks versions {min} to {max} of the protocol")]
    Version {
        /// The oldest spoken here.
        min: u16,
        /// The newest.
        max: u16,
    },
    /// The first request on a connection must be `Hello`.
    #[error("the first request on a connection is Hello")]
    NoHello,
    /// The frames are not those of the protocol.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A message cannot be read.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// The message has no place here.
    #[error("this message has no place here")]
    Unexpected,
    /// More ids, or a longer wait, than one request may name.
    #[error("the request is over its limits: {what}")]
    Limit {
        /// Which limit.
        what: String,
    },
    /// The certificate does not allow it.
    #[error("this certificate does not allow it")]
    Forbidden,
    /// The peer is stopping.
    #[error("the peer is stopping")]
    Stopping,
}

/// Why a control message cannot be read or written. Nothing was acted on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum MessageError {
    /// The bytes are no message of the kind that is due.
    #[error("these bytes are no message: {reason}")]
    Malformed {
        /// What bincode says.
        reason: String,
    },
    /// Bytes stand behind it.
    #[error("{count} bytes stand behind a message")]
    Trailing {
        /// How many.
        count: usize,
    },
    /// It would be longer than a message may be.
    #[error("a message has at most {MESSAGE_BYTES_MAX} bytes")]
    TooLong,
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<MESSAGE_BYTES_MAX>()
}

/// The bytes of `message`.
pub fn encode<M: Serialize>(message: &M) -> Result<Vec<u8>, MessageError> {
    match bincode::serde::encode_to_vec(message, config()) {
        Ok(bytes) if bytes.len() <= MESSAGE_BYTES_MAX => Ok(bytes),
        _ => Err(MessageError::TooLong),
    }
}

/// Reads a message that is all of `bytes`.
pub fn decode<M: DeserializeOwned>(bytes: &[u8]) -> Result<M, MessageError> {
    let (message, read) = bincode::serde::decode_from_slice(bytes, config())
        .map_err(|error| MessageError::Malformed { reason: error.to_string() })?;
    match bytes.len() - read {
        0 => Ok(message),
        count => Err(MessageError::Trailing { count }),
    }
}

#[cfg(test)]
mod tests;
