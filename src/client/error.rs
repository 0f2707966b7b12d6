//! What can go wrong for a client, and what it can do then.
use crate::base::EntryError;
use crate::quic::stream::StreamError;
use crate::wire::group::GroupError;
use crate::wire::message::{MessageError, Refusal};
use crate::wire::outcome::{AppendError, ImportError, ReadError, RemoveError, TopicError};
use crate::wire::verify::Unverified;

/// Why no connection could be made. Nothing was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// No address was given.
    #[error("no address of a peer was given")]
    NoAddress,
    /// No credentials were given.
    #[error("no credentials were given")]
    NoCredentials,
    /// A UDP socket could not be opened, or TLS not be set up.
    #[error("the client cannot be set up: {reason}")]
    Setup {
        /// What went wrong.
        reason: String,
    },
    /// Each address was tried and none led to a peer. Try again later, or with other addresses.
    #[error("no peer could be reached: {}", attempts(tried))]
    Unreachable {
        /// Each address, and what became of it.
        tried: Vec<(String, AttemptError)>,
    },
}

/// Each address with what became of it.
pub(crate) fn attempts(tried: &[(String, AttemptError)]) -> String {
    let each: Vec<String> = tried.iter().map(|(address, error)| format!("{address}: {error}")).collect();
    each.join("; ")
}

/// What became of one address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttemptError {
    /// It is no IP:port, and no name that leads to one.
    #[error("it leads to no IP address: {reason}")]
    Resolve {
        /// Why.
        reason: String,
    },
    /// Nobody answered in time.
    #[error("nobody answered")]
    Silent,
    /// One side's certificate was refused by the other, or no protocol is spoken by both.
    #[error("the TLS handshake failed: {reason}")]
    Tls {
        /// TLS's words.
        reason: String,
    },
    /// The peer refused the client.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The connection was lost, or closed by the peer, before it was of use.
    #[error("{reason}")]
    Lost {
        /// QUIC's words.
        reason: String,
    },
}

/// Why a request of a client failed. Each says what is known of the peer's state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// No peer could be reached for as long as the client keeps trying. For an append: whether it was stored is not
    /// known, since an earlier attempt may have got there without an answer coming back; read to find out.
    #[error(transparent)]
    Unreachable(#[from] ConnectError),
    /// The connection was lost over a request that is not repeated by itself. It may or may not have been carried out.
    #[error("the connection was lost before the answer came: {reason}")]
    Lost {
        /// QUIC's words.
        reason: String,
    },
    /// The peer refused the append. Nothing was stored, unless the error says otherwise.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The entry is over a limit. Nothing was sent.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// The read did not begin, or ended.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The change was refused.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The peer was not removed.
    #[error(transparent)]
    Remove(#[from] RemoveError),
    /// The batch was not imported.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// A request to a group was not carried out.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// The peer refused the request; nothing was done.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The request is longer than a message may be. Nothing was sent.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// What the peer sent is not what was signed. Nothing of it was delivered; read on at another peer.
    #[error(transparent)]
    Unverified(#[from] Unverified),
    /// The peer does not keep to the protocol.
    #[error("the peer does not keep to the protocol: {what}")]
    Protocol {
        /// What it did.
        what: String,
    },
    /// All streams that the peer allows on one connection are in use, by tails for example, and none became free in 5
    /// seconds. Nothing was sent. End some, connect another client, or raise the peer's `limits.stream_count_max`.
    #[error(
        "all streams that the peer allows on one connection are in use: end some tails, connect another client, or raise \
         the peer's limits.stream_count_max"
    )]
    Streams,
    /// The client, or the producer, was closed. What was not acknowledged may or may not have been stored.
    #[error("the client was closed")]
    Closed,
}

impl ClientError {
    /// What became of one entry of a chunk, where the error says so of all of them.
    pub(crate) fn of_entry(self, index: u32) -> Self {
        match self {
            Self::Append(AppendError::Replicas { asked, available, appended }) => {
                let appended = Box::new(appended.entry(index));
                Self::Append(AppendError::Replicas { asked, available, appended })
            }
            other => other,
        }
    }

    pub(crate) fn unexpected() -> Self {
        Self::Protocol { what: "an answer has no place here".to_owned() }
    }
}

/// A stream that broke is a lost connection to its user, unless what came over it was wrong.
impl From<StreamError> for ClientError {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Frame(error) => Self::Protocol { what: error.to_string() },
            StreamError::Message(error @ MessageError::TooLong) => Self::Message(error),
            StreamError::Message(error) => Self::Protocol { what: error.to_string() },
            StreamError::Exhausted => Self::Streams,
            lost => Self::Lost { reason: lost.to_string() },
        }
    }
}
