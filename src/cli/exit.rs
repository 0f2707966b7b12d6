//! How a command ends: exit codes that scripts may rely on, and which error gets which.
//!
//! The table stands in docs/cli.md; a test compares it with [`Exit::ALL`]. Codes are never given another meaning.
use crate::client::{ClientError, ConnectError};
use crate::identity::IdentityError;
use crate::log::StoreError;
use crate::runtime;
use crate::server::StartError;
use crate::server::config::ConfigError;
use crate::wire::outcome::{AppendError, ReadError, TopicError};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Everything asked for was done.
    Ok = 0,
    /// It was not, for a reason that has no code of its own.
    Failure = 1,
    /// The command, its flags or its settings were wrong. Nothing was done.
    Usage = 2,
    /// What was named is not there.
    NotFound = 3,
    /// The peer refused: no right, a limit, or a state that forbids it.
    Refused = 4,
    /// No peer answered.
    Unreachable = 5,
    /// Data is damaged.
    Damaged = 6,
    /// It was not done in the time that was given.
    Timeout = 7,
    /// The disk is full down to its reserve.
    NoRoom = 8,
}

#[cfg(test)]
impl Exit {
    /// All of them, with the words of the document.
    pub const ALL: &[(Self, &str)] = &[
        (Self::Ok, "done; also when the reader of a pipe went away, and on Ctrl-C"),
        (Self::Failure, "failed, for a reason that has no code of its own"),
        (Self::Usage, "the command, a flag or a setting is wrong; nothing was done"),
        (Self::NotFound, "what was named is not there: a topic, an entry, a file"),
        (Self::Refused, "the peer refused: no right, over a limit, exists already"),
        (Self::Unreachable, "no peer answered"),
        (Self::Damaged, "data is damaged"),
        (Self::Timeout, "not done in the time that was given"),
        (Self::NoRoom, "the disk is full down to its reserve"),
    ];
}

/// An error that knows how the command ends.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    exit: Exit,
    message: String,
}

/// An error that ends the command with `exit`.
pub fn failure(exit: Exit, message: impl Into<String>) -> anyhow::Error {
    Failure { exit, message: message.into() }.into()
}

/// Whoever read our output went away. That ends a command, and is no error.
#[derive(Debug, thiserror::Error)]
#[error("the reader of the output went away")]
pub struct ClosedPipe;

/// How a command ends that failed with `error`: the first cause that has an opinion decides.
pub fn of(error: &anyhow::Error) -> Exit {
    error.chain().find_map(opinion).unwrap_or(Exit::Failure)
}

fn opinion(cause: &(dyn std::error::Error + 'static)) -> Option<Exit> {
    if let Some(failure) = cause.downcast_ref::<Failure>() {
        return Some(failure.exit);
    }
    if cause.is::<ClosedPipe>() {
        return Some(Exit::Ok);
    }
    if cause.is::<ConfigError>() {
        return Some(Exit::Usage);
    }
    if let Some(error) = cause.downcast_ref::<IdentityError>() {
        return Some(identity(error));
    }
    if let Some(error) = cause.downcast_ref::<ClientError>() {
        return Some(client(error));
    }
    if cause.is::<ConnectError>() {
        return Some(Exit::Unreachable);
    }
    if let Some(StartError::Store(runtime::StartError::Store(StoreError::NoSpace { .. }))) =
        cause.downcast_ref()
    {
        return Some(Exit::NoRoom);
    }
    let append = cause.downcast_ref::<AppendError>().map(append);
    let read = cause.downcast_ref::<ReadError>().map(read);
    append.or(read).or(cause.downcast_ref::<TopicError>().map(topic))
}

fn client(error: &ClientError) -> Exit {
    match error {
        ClientError::Unreachable(_) | ClientError::Lost { .. } => Exit::Unreachable,
        ClientError::Append(error) => append(error),
        ClientError::Read(error) => read(error),
        ClientError::Topic(error) => topic(error),
        ClientError::Entry(_) | ClientError::Message(_) => Exit::Refused,
        ClientError::Import(_) | ClientError::Refused(_) | ClientError::Streams => Exit::Refused,
        ClientError::Unverified(_) => Exit::Damaged,
        ClientError::Protocol { .. } | ClientError::Closed => Exit::Failure,
    }
}

fn identity(error: &IdentityError) -> Exit {
    match error {
        IdentityError::File { error, .. } if error.kind() == std::io::ErrorKind::NotFound => Exit::NotFound,
        IdentityError::Exists { .. } => Exit::Refused,
        _ => Exit::Failure,
    }
}

fn append(error: &AppendError) -> Exit {
    match error {
        AppendError::TopicUnknown { .. } => Exit::NotFound,
        AppendError::DiskFull { .. } => Exit::NoRoom,
        AppendError::Stopped { .. } => Exit::Failure,
        _ => Exit::Refused,
    }
}

fn read(error: &ReadError) -> Exit {
    match error {
        ReadError::Forbidden { .. } | ReadError::Cursor(_) => Exit::Refused,
        ReadError::Name(_) | ReadError::IdAmbiguous { .. } => Exit::Usage,
        ReadError::Damaged { .. } => Exit::Damaged,
        ReadError::Io { .. } | ReadError::Stopped => Exit::Failure,
        _ => Exit::NotFound,
    }
}

fn topic(error: &TopicError) -> Exit {
    match error {
        TopicError::Unknown { .. } => Exit::NotFound,
        TopicError::Name(_) => Exit::Usage,
        TopicError::Stopped { .. } => Exit::Failure,
        _ => Exit::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn the_document_has_every_code() {
        let document = include_str!("../../docs/cli.md");
        for (exit, words) in Exit::ALL {
            let row = format!("| {} | {words} |", *exit as u8);
            assert!(document.lines().any(|line| line == row), "docs/cli.md lacks {row:?}");
        }
    }

    #[test]
    fn the_cause_decides_whatever_was_said_around_it() {
        let store = StoreError::NoSpace { what: "beginning a journal file", needed_mib: 32 };
        let start: anyhow::Error = StartError::Store(runtime::StartError::Store(store)).into();
        assert_eq!(of(&start), Exit::NoRoom);
        let full = AppendError::DiskFull { free_bytes: 1, reserve_bytes: 2 };
        assert_eq!(of(&Err::<(), _>(full).context("line 3").unwrap_err()), Exit::NoRoom);
        assert_eq!(of(&anyhow::Error::from(ClosedPipe).context("printing")), Exit::Ok);
        assert_eq!(of(&anyhow::anyhow!("odd")), Exit::Failure);
    }
}
