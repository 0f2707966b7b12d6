//! Names that people type: topics, peers, and the printed form of an entry's id.
//!
//! ```text
//! jobs/mail/alpha.01234567/42        topic "jobs/mail", peer named alpha, run 01234567…, seq 42
//! jobs/mail/<64 hex>.<16 hex>/42     the same in full, which never needs resolving
//! ```
use crate::base::ids::{PeerId, RunId, Seq};
use crate::base::limits::{GROUP_NAME_BYTES_MAX, PEER_NAME_BYTES_MAX, TOPIC_NAME_BYTES_MAX};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// Why a name was refused. Nothing was looked up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum NameError {
    /// A topic name is empty or too long.
    #[error("a topic name has 1 to {TOPIC_NAME_BYTES_MAX} bytes, this one has {bytes}")]
    TopicLength {
        /// Its length in bytes.
        bytes: usize,
    },
    /// A topic name holds a control character.
    #[error("a topic name holds no control characters")]
    TopicControl,
    /// A topic name has `.` or `..` between slashes.
    #[error("a topic name has no part \".\" or \"..\"")]
    TopicPart,
    /// A topic name begins with `$`, which is kept for Conveyor's own topics.
    #[error("topic names that begin with \"$\" are kept for Conveyor itself")]
    TopicReserved,
    /// A peer's name is not of the form `[a-z0-9-]{1,32}`.
    #[error("a peer's name is 1 to {PEER_NAME_BYTES_MAX} of a-z, 0-9 and \"-\"")]
    Peer,
    /// A group's name is not of the form `[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}`.
    #[error(
        "a group's name is 1 to {GROUP_NAME_BYTES_MAX} of A-Z, a-z, 0-9, \"-\", \"_\" and \".\", and does not begin with \".\""
    )]
    Group,
    /// An entry's id is not of the form `topic/name.run/seq`.
    #[error("an entry's id reads topic/name.run/seq, for example jobs/alpha.01234567/42")]
    Entry,
}

/// How the names of topics begin that hold what the groups of another did.
const GROUPS_PREFIX: &str = "$groups/";

/// The checked name of a topic: 1 to 200 bytes of UTF-8 without control characters or path parts `.` and `..`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Arc<str>);

impl TopicName {
    /// Checks a name that a user gave.
    pub fn new(name: &str) -> Result<Self, NameError> {
        if name.starts_with('$') {
            return Err(NameError::TopicReserved);
        }
        Self::system(name)
    }

    /// Checks a name that may begin with `$`.
    pub fn system(name: &str) -> Result<Self, NameError> {
        let bare = name.strip_prefix(GROUPS_PREFIX).unwrap_or(name);
        if bare.is_empty() || bare.len() > TOPIC_NAME_BYTES_MAX {
            return Err(NameError::TopicLength { bytes: name.len() });
        }
        if name.chars().any(char::is_control) {
            return Err(NameError::TopicControl);
        }
        if name.split('/').any(|part| part == "." || part == "..") {
            return Err(NameError::TopicPart);
        }
        Ok(Self(name.into()))
    }

    /// The topic that holds the catalog of topics.
    pub fn catalog() -> Self {
        Self("$catalog".into())
    }

    /// The topic that holds what the groups of this one did.
    pub fn of_groups(&self) -> Self {
        Self(format!("{GROUPS_PREFIX}{self}").into())
    }

    /// The topic whose groups this one is about.
    pub fn grouped(&self) -> Option<Self> {
        Self::new(self.0.strip_prefix(GROUPS_PREFIX)?).ok()
    }

    /// Whether this is one of Conveyor's own topics.
    pub fn is_system(&self) -> bool {
        self.0.starts_with('$')
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl Serialize for TopicName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for TopicName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::system(&text).map_err(serde::de::Error::custom)
    }
}

/// What people call a peer: decoration, not identity.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerName(Arc<str>);

impl PeerName {
    /// Checks that `name` is 1 to 32 of `a-z`, `0-9` and `-`.
    pub fn new(name: &str) -> Result<Self, NameError> {
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || name.len() > PEER_NAME_BYTES_MAX || !name.bytes().all(legal) {
            return Err(NameError::Peer);
        }
        Ok(Self(name.into()))
    }

    /// The nearest legal name to `text` (a host name, say); `peer` when nothing of it is legal.
    pub fn nearest(text: &str) -> Self {
        let first = text.split('.').next().unwrap_or_default().to_ascii_lowercase();
        let kept = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
        let name: String = first.chars().map(kept).take(PEER_NAME_BYTES_MAX).collect();
        let name = name.trim_matches('-');
        Self::new(name).unwrap_or_else(|_| Self("peer".into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl Serialize for PeerName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for PeerName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

/// Who an [`EntryRef`] means: a peer by name, or by key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerRef {
    /// A name, which a peer resolves among the logs it holds.
    Name(PeerName),
    /// The key itself.
    Key(PeerId),
}

/// The printed form of an entry's id, which may abbreviate the peer to its name and the run to 8 digits.
///
/// One that fits two entries is an error at the peer that resolves it; the error lists both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryRef {
    /// The topic.
    pub topic: TopicName,
    /// The peer.
    pub peer: PeerRef,
    /// The first hexadecimal digits of the run: 8, or all 16. Where the run forked, those of the branch.
    pub run: String,
    /// Those of the run that was signed, where `run` is a branch of it and that was said.
    pub signed_run: Option<String>,
    /// The number of the entry.
    pub seq: Seq,
}

impl EntryRef {
    /// Reads `topic/name.run/seq`, or `topic/name.run~branch/seq` where the run forked. The topic may itself hold slashes: the
    /// id is read from its end.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let (rest, seq) = text.rsplit_once('/').ok_or(NameError::Entry)?;
        let (topic, who) = rest.rsplit_once('/').ok_or(NameError::Entry)?;
        let (peer, run) = who.split_once('.').ok_or(NameError::Entry)?;
        let plain = !seq.is_empty() && seq.len() <= 20 && seq.bytes().all(|b| b.is_ascii_digit());
        let is_shortest = seq == "0" || !seq.starts_with('0');
        if !plain || !is_shortest {
            return Err(NameError::Entry);
        }
        let seq = Seq(seq.parse().map_err(|_| NameError::Entry)?);
        let is_run = |run: &str| {
            let is_hex = run.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            is_hex && (run.len() == 8 || run.len() == 16)
        };
        let (signed_run, run) = match run.split_once('~') {
            Some((signed_run, branch)) => (Some(signed_run), branch),
            None => (None, run),
        };
        if !is_run(run) || !signed_run.is_none_or(is_run) {
            return Err(NameError::Entry);
        }
        let peer = match PeerId::parse(peer) {
            Some(key) => PeerRef::Key(key),
            None => PeerRef::Name(PeerName::new(peer)?),
        };
        let (run, signed_run) = (run.to_owned(), signed_run.map(ToOwned::to_owned));
        Ok(Self { topic: TopicName::system(topic)?, peer, run, signed_run, seq })
    }

    /// Checks what [`Self::parse`] checks, of an id that arrived as a value.
    pub fn is_well_formed(&self) -> bool {
        Self::parse(&self.to_string()).as_ref() == Ok(self)
    }

    /// Whether `run` begins with the digits given.
    pub fn fits_run(&self, run: RunId) -> bool {
        run.to_string().starts_with(&self.run)
    }

    /// Whether the run that `run` is a branch of, if it is one, begins with the digits given, if any were.
    pub fn fits_signed_run(&self, signed_run: Option<RunId>) -> bool {
        let fits = |digits: &String| signed_run.is_some_and(|run| run.to_string().starts_with(digits));
        self.signed_run.as_ref().is_none_or(fits)
    }
}

impl fmt::Display for EntryRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.peer {
            PeerRef::Name(name) => write!(f, "{}/{name}.", self.topic),
            PeerRef::Key(key) => write!(f, "{}/{key}.", self.topic),
        }?;
        self.signed_run.iter().try_for_each(|signed_run| write!(f, "{signed_run}~"))?;
        write!(f, "{}/{}", self.run, self.seq)
    }
}

/// The short name of a run as people use it in ids: `run`, or `run~branch` where it is a branch of a run that forked.
pub fn short_run(run: RunId, signed_run: RunId) -> String {
    if run == signed_run { run.short() } else { format!("{}~{}", signed_run.short(), run.short()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_are_checked_at_the_edge() {
        for good in ["jobs", "a/b", "Ünï", "..a", "a b", &"x".repeat(200)] {
            assert_eq!(TopicName::new(good).map(|n| n.as_str().to_owned()), Ok(good.to_owned()));
        }
        let cases = [
            ("", NameError::TopicLength { bytes: 0 }),
            (&"x".repeat(201), NameError::TopicLength { bytes: 201 }),
            ("$catalog", NameError::TopicReserved),
            ("../x", NameError::TopicPart),
            ("a/./b", NameError::TopicPart),
            ("a\nb", NameError::TopicControl),
            ("a\u{7f}", NameError::TopicControl),
        ];
        for (bad, why) in cases {
            assert_eq!(TopicName::new(bad), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn the_longest_topic_has_groups_too() {
        let topic = TopicName::new(&"x".repeat(200)).unwrap();
        let of_groups = topic.of_groups();
        assert_eq!(TopicName::system(of_groups.as_str()), Ok(of_groups.clone()));
        assert_eq!(of_groups.grouped(), Some(topic));
        assert_eq!(TopicName::catalog().grouped(), None);
    }

    #[test]
    fn an_entry_id_is_read_from_its_end() {
        let id = EntryRef::parse("jobs/mail/alpha.01234567/42").unwrap();
        assert_eq!(id.topic.as_str(), "jobs/mail");
        assert_eq!(id.peer, PeerRef::Name(PeerName::new("alpha").unwrap()));
        assert!(id.fits_run(RunId(0x0123_4567_0000_0001)));
        assert!(!id.fits_run(RunId(0x0123_4568_0000_0001)));
        assert_eq!(id.to_string(), "jobs/mail/alpha.01234567/42");
        let full = format!("jobs/{}.{}/7", PeerId([9; 32]), RunId(5));
        assert_eq!(EntryRef::parse(&full).unwrap().to_string(), full);
        let branch = EntryRef::parse("jobs/mail/alpha.01234567~89abcdef/42").unwrap();
        assert_eq!(branch.to_string(), "jobs/mail/alpha.01234567~89abcdef/42");
        assert!(branch.fits_run(RunId(0x89ab_cdef_0000_0001)));
        let of = |run: u64| branch.fits_signed_run(Some(RunId(run)));
        assert!(of(0x0123_4567_0000_0001) && !of(0x0123_4568_0000_0001) && !branch.fits_signed_run(None));
    }

    #[test]
    fn what_is_no_entry_id_is_refused() {
        for bad in [
            "",
            "jobs",
            "jobs/42",
            "jobs/alpha/42",
            "jobs/alpha.0123/42",
            "jobs/alpha.01234567/-1",
            "jobs/alpha.01234567/042",
            "jobs/ALPHA.01234567/42",
            "jobs/alpha.0123456G/1",
            "jobs/alpha.01234567~/1",
            "jobs/alpha.~01234567/1",
            "jobs/alpha.01234567~89abcdef~89abcdef/1",
            "/alpha.01234567/1",
        ] {
            assert!(EntryRef::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn any_host_name_has_a_nearest_peer_name() {
        assert_eq!(PeerName::nearest("Web_01.example.org").as_str(), "web-01");
        assert_eq!(PeerName::nearest("…").as_str(), "peer");
        assert_eq!(PeerName::nearest("").as_str(), "peer");
    }
}
