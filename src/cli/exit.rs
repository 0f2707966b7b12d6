//! How a command ends: exit codes that scripts may rely on, and which error gets which.
//!
//! The table stands in docs/cli.md; a test compares it with [`Exit::ALL`]. Codes are never given another meaning.
use crate::client::{AttemptError, ClientError, ConnectError};
use crate::identity::IdentityError;
use crate::log::StoreError;
use crate::net::SetupError;
use crate::runtime;
use crate::server::StartError;
use crate::server::config::ConfigError;
use crate::wire::group::GroupError;
use crate::wire::message::Refusal;
use crate::wire::outcome::{AppendError, ImportError, ReadError, RemoveError, TopicError};
use std::io::{self, ErrorKind};

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
    /// Refused: no right, a limit, or a state that forbids it.
    Refused = 4,
    /// No peer answered.
    Unreachable = 5,
    /// Data is damaged.
    Damaged = 6,
    /// It was not done in the time that was given.
    Timeout = 7,
    /// The disk is full down to its reserve.
    NoRoom = 8,
    /// A position names entries that the peer does not hold.
    Ahead = 9,
    /// What was looked at is not as it should be.
    Unhealthy = 10,
    /// Ctrl-C, or the signal of a service manager, came before it was done. As shells have it: 128 and the signal's number.
    Interrupted = 130,
}

#[cfg(test)]
impl Exit {
    /// All of them, with the words of the document.
    pub const ALL: &[(Self, &str)] = &[
        (
            Self::Ok,
            "done; also when the reader of a pipe went away, and on Ctrl-C where nothing else ends a command",
        ),
        (Self::Failure, "failed, for a reason that has no code of its own"),
        (Self::Usage, "the command, a flag or a setting is wrong; nothing was done"),
        (Self::NotFound, "what was named is not there: a topic, an entry, a file"),
        (Self::Refused, "refused: no right, over a limit, exists already, in use"),
        (Self::Unreachable, "no peer answered"),
        (Self::Damaged, "data is damaged"),
        (Self::Timeout, "not done in the time that was given"),
        (Self::NoRoom, "the disk is full down to its reserve"),
        (Self::Ahead, "the position that was given is ahead of the peer, as after a restored backup"),
        (Self::Unhealthy, "something is not as it should be in the cluster, as `cluster health` says"),
        (Self::Interrupted, "Ctrl-C came before it was done"),
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

/// Whether a peer refused because of what the certificate allows.
pub fn is_forbidden(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(ClientError::Refused(Refusal::Forbidden)))
}

/// How a command ends that failed with `error`: the first cause that has an opinion decides.
pub fn of(error: &anyhow::Error) -> Exit {
    error.chain().find_map(opinion).unwrap_or(Exit::Failure)
}

/// An error with its causes, in one line. Where an error tells its cause itself the cause is not told again.
pub fn words(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if told.is_empty() {
            told = cause;
        } else if !told.contains(&cause) {
            told = format!("{told}: {cause}");
        }
    }
    told
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
    if let Some(error) = cause.downcast_ref::<ConnectError>() {
        return Some(connect(error));
    }
    if let Some(error) = cause.downcast_ref::<StartError>() {
        return Some(start(error));
    }
    if let Some(error) = cause.downcast_ref::<io::Error>() {
        return file(error);
    }
    let append = cause.downcast_ref::<AppendError>().map(append);
    let read = cause.downcast_ref::<ReadError>().map(read);
    append.or(read).or(cause.downcast_ref::<TopicError>().map(topic))
}

fn client(error: &ClientError) -> Exit {
    match error {
        ClientError::Unreachable(error) => connect(error),
        ClientError::Lost { .. } => Exit::Unreachable,
        ClientError::Append(error) => append(error),
        ClientError::Group(error) => group(error),
        ClientError::Read(error) => read(error),
        ClientError::Topic(error) | ClientError::Remove(RemoveError::Refused(error)) => topic(error),
        ClientError::Remove(_) => Exit::Refused,
        ClientError::Entry(_) | ClientError::Message(_) => Exit::Refused,
        ClientError::Import(ImportError::DiskFull { .. }) => Exit::NoRoom,
        ClientError::Import(ImportError::Stopped) => Exit::Failure,
        ClientError::Import(_) | ClientError::Refused(_) | ClientError::Streams => Exit::Refused,
        ClientError::Unverified(_) => Exit::Damaged,
        ClientError::Protocol { .. } | ClientError::Closed => Exit::Failure,
    }
}

fn group(error: &GroupError) -> Exit {
    match error {
        GroupError::Unknown { .. } | GroupError::IdUnknown { .. } => Exit::NotFound,
        GroupError::Place(error) => read(error),
        GroupError::Append(error) => append(error),
        GroupError::Stopped => Exit::Failure,
        GroupError::Forbidden { .. }
        | GroupError::Name(_)
        | GroupError::TooMany { .. }
        | GroupError::Limit { .. }
        | GroupError::Busy => Exit::Refused,
    }
}

/// Whoever answered and refused was reached: so it is where none did anything else.
fn connect(error: &ConnectError) -> Exit {
    let is_refusal = |(_, error): &(String, AttemptError)| {
        matches!(error, AttemptError::Tls { .. } | AttemptError::Refused(_))
    };
    match error {
        ConnectError::Unreachable { tried } if !tried.is_empty() && tried.iter().all(is_refusal) => {
            Exit::Refused
        }
        _ => Exit::Unreachable,
    }
}

fn start(error: &StartError) -> Exit {
    match error {
        StartError::Store(runtime::StartError::Store(StoreError::NoSpace { .. })) => Exit::NoRoom,
        StartError::Store(runtime::StartError::Store(StoreError::InUse | StoreError::Version { .. })) => {
            Exit::Refused
        }
        StartError::Store(_) => Exit::Failure,
        StartError::GeneratedDefaults { .. } | StartError::Name { .. } | StartError::HttpTls { .. } => {
            Exit::Usage
        }
        StartError::Identity(error) => identity(error),
        StartError::Directory { error, .. } => match error.kind() {
            // A file stands where a directory should, or could not even be looked for.
            ErrorKind::AlreadyExists | ErrorKind::NotADirectory => Exit::Usage,
            _ => Exit::Failure,
        },
        StartError::Http { error, .. } | StartError::Door(SetupError::Bind { error, .. }) => address(error),
        StartError::Door(_) => Exit::Failure,
    }
}

/// An address that cannot be bound: somebody else has it, or it is none of this machine.
fn address(error: &io::Error) -> Exit {
    match error.kind() {
        ErrorKind::AddrInUse => Exit::Refused,
        ErrorKind::AddrNotAvailable | ErrorKind::PermissionDenied => Exit::Usage,
        _ => Exit::Failure,
    }
}

/// A file that somebody named.
fn file(error: &io::Error) -> Option<Exit> {
    match error.kind() {
        ErrorKind::NotFound => Some(Exit::NotFound),
        ErrorKind::AlreadyExists => Some(Exit::Refused),
        _ => None,
    }
}

fn identity(error: &IdentityError) -> Exit {
    match error {
        IdentityError::File { error, .. } => file(error).unwrap_or(Exit::Failure),
        IdentityError::Exists { .. } => Exit::Refused,
        _ => Exit::Failure,
    }
}

fn append(error: &AppendError) -> Exit {
    match error {
        AppendError::TopicUnknown { .. } => Exit::NotFound,
        AppendError::DiskFull { .. } => Exit::NoRoom,
        AppendError::Replicas { .. } => Exit::Timeout,
        AppendError::Stopped { .. } | AppendError::Removed => Exit::Failure,
        _ => Exit::Refused,
    }
}

fn read(error: &ReadError) -> Exit {
    match error {
        ReadError::Forbidden { .. } => Exit::Refused,
        ReadError::Name(_)
        | ReadError::Cursor(_)
        | ReadError::IdAmbiguous { .. }
        | ReadError::Forked { .. } => Exit::Usage,
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
        TopicError::DiskFull { .. } => Exit::NoRoom,
        _ => Exit::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{PeerId, RunId, Seq, StoreId, Timestamp};
    use crate::wire::outcome::Appended;
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
        let full = ClientError::Import(ImportError::DiskFull { free_bytes: 1, reserve_bytes: 2 });
        assert_eq!(of(&full.into()), Exit::NoRoom);
        assert_eq!(of(&TopicError::DiskFull { free_bytes: 1, reserve_bytes: 2 }.into()), Exit::NoRoom);
        let appended = Box::new(Appended {
            peer: PeerId([1; 32]),
            run: RunId(1),
            signed_run: RunId(1),
            first_seq: Seq(5),
            first_time: Timestamp(7),
            count: 1,
            is_repeat: false,
            store: StoreId(3),
            holders: vec![],
        });
        let few = ClientError::Append(AppendError::Replicas { asked: 3, available: 2, appended });
        let told = few.to_string();
        assert!(
            told.contains("as entry 5 of run 00000000, and not confirmed: 1 of 3 peers hold it"),
            "{told}"
        );
        assert_eq!(of(&few.into()), Exit::Timeout);
        assert_eq!(of(&anyhow::Error::from(ClosedPipe).context("printing")), Exit::Ok);
        assert_eq!(of(&anyhow::anyhow!("odd")), Exit::Failure);
    }

    #[test]
    fn a_cause_is_told_once() {
        let cause = || Err::<(), _>(anyhow::anyhow!("no room"));
        assert_eq!(words(&cause().context("line 3").unwrap_err()), "line 3: no room");
        assert_eq!(words(&cause().context("no room for it").unwrap_err()), "no room for it");
    }

    #[test]
    fn files_and_addresses_end_as_their_case_says() {
        let of_file = |kind: ErrorKind| of(&Err::<(), _>(io::Error::from(kind)).context("f").unwrap_err());
        assert_eq!(of_file(ErrorKind::NotFound), Exit::NotFound);
        assert_eq!(of_file(ErrorKind::AlreadyExists), Exit::Refused);
        assert_eq!(of_file(ErrorKind::PermissionDenied), Exit::Failure);
        let address: std::net::SocketAddr = ([127, 0, 0, 1], 1).into();
        let of_bind = |kind: ErrorKind| of(&StartError::Http { address, error: kind.into() }.into());
        assert_eq!(of_bind(ErrorKind::AddrInUse), Exit::Refused);
        assert_eq!(of_bind(ErrorKind::AddrNotAvailable), Exit::Usage);
        let store = StartError::Store(runtime::StartError::Store(StoreError::InUse));
        assert_eq!(of(&store.into()), Exit::Refused);
    }
}
