//! A reader's position in a topic: for each log how far it has read, good on every peer.
//!
//! A [`Position`] `(peer, run, next)` means: of this peer's log, everything below `next` along the chain of runs
//! that ends in `run` has been read. The runs that `run` goes on from are implied and not listed; a run that
//! branches off a point already passed (after a restored backup, say) is not implied, is read from its start, and is
//! then listed too. A log that is not named has not been read, but for entries older than the floor time, which a
//! reader that began "from now" does not want.
use crate::base::bytes_io::Reader;
use crate::base::ids::{ClusterId, PeerId, RunId, Seq, TopicId};
use crate::base::limits::CURSOR_POSITION_COUNT_MAX;
use crate::base::time::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// How far one chain of runs of a log has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// The log's peer.
    pub peer: PeerId,
    /// The run reached last.
    pub run: RunId,
    /// The next number to read in it.
    pub next: Seq,
}

/// A reader's position in a topic. As text it is one opaque word of letters, digits, `-` and `_`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The cluster it is good in.
    pub cluster: ClusterId,
    /// The topic it is a position in.
    pub topic: TopicId,
    /// Entries before this are not wanted from logs that are not named.
    pub floor: Timestamp,
    /// At most 4 096, in order, none twice.
    pub positions: Vec<Position>,
}

/// Why a word is no cursor that can be used here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum CursorError {
    /// It is no cursor, or was damaged.
    #[error("this is no cursor, or not a whole one")]
    Malformed,
    /// It belongs to another cluster.
    #[error("this cursor belongs to another cluster ({cluster})")]
    Cluster {
        /// The cluster it names.
        cluster: ClusterId,
    },
    /// It belongs to another topic.
    #[error("this cursor belongs to another topic")]
    Topic,
    /// It names too many logs.
    #[error("a cursor names at most {CURSOR_POSITION_COUNT_MAX} logs")]
    TooLong,
}

const PREFIX: &str = "cv1_";
const POSITION_BYTES: usize = 48;

impl Cursor {
    /// The position before everything.
    pub fn start(cluster: ClusterId, topic: TopicId) -> Self {
        Self { cluster, topic, floor: Timestamp::ZERO, positions: Vec::new() }
    }

    /// Whether `text` looks like a cursor at all (and not like an id or a time).
    pub fn is_like(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// Checks that it is meant for this topic of this cluster.
    pub fn check(&self, cluster: ClusterId, topic: TopicId) -> Result<(), CursorError> {
        if self.cluster != cluster {
            return Err(CursorError::Cluster { cluster: self.cluster });
        }
        if self.topic != topic { Err(CursorError::Topic) } else { Ok(()) }
    }

    /// Checks what [`Self::decode`] checks, of a cursor that arrived as a value.
    pub fn check_positions(&self) -> Result<(), CursorError> {
        if self.positions.len() > CURSOR_POSITION_COUNT_MAX {
            return Err(CursorError::TooLong);
        }
        let in_order = self.positions.is_sorted_by(|a, b| (a.peer, a.run) < (b.peer, b.run));
        if in_order { Ok(()) } else { Err(CursorError::Malformed) }
    }

    /// Its bytes: cluster, topic, floor, positions, CRC32C.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(44 + self.positions.len() * POSITION_BYTES);
        out.extend_from_slice(&self.cluster.0);
        out.extend_from_slice(&self.topic.0);
        out.extend_from_slice(&self.floor.0.to_le_bytes());
        for position in &self.positions {
            out.extend_from_slice(&position.peer.0);
            out.extend_from_slice(&position.run.0.to_le_bytes());
            out.extend_from_slice(&position.next.0.to_le_bytes());
        }
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, CursorError> {
        let malformed = |_| CursorError::Malformed;
        let at = bytes.len().checked_sub(4).ok_or(CursorError::Malformed)?;
        let (covered, crc) = bytes.split_at(at);
        if crc != crc32c::crc32c(covered).to_le_bytes() {
            return Err(CursorError::Malformed);
        }
        let mut r = Reader::new(covered);
        let cluster = ClusterId(r.array().map_err(malformed)?);
        let topic = TopicId(r.array().map_err(malformed)?);
        let floor = Timestamp(r.u64().map_err(malformed)?);
        if r.rest().len() > CURSOR_POSITION_COUNT_MAX * POSITION_BYTES {
            return Err(CursorError::TooLong);
        }
        let mut positions = Vec::with_capacity(r.rest().len() / POSITION_BYTES);
        while !r.is_empty() {
            positions.push(Position {
                peer: PeerId(r.array().map_err(malformed)?),
                run: RunId(r.u64().map_err(malformed)?),
                next: Seq(r.u64().map_err(malformed)?),
            });
        }
        let cursor = Self { cluster, topic, floor, positions };
        cursor.check_positions().map(|()| cursor)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(self.encode()))
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let word = text.strip_prefix(PREFIX).ok_or(CursorError::Malformed)?;
        if word.len() > (CURSOR_POSITION_COUNT_MAX + 1) * POSITION_BYTES * 4 / 3 + 4 {
            return Err(CursorError::TooLong);
        }
        let bytes = URL_SAFE_NO_PAD.decode(word).map_err(|_| CursorError::Malformed)?;
        Self::decode(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(count: u8) -> Cursor {
        let position = |i| Position { peer: PeerId([i; 32]), run: RunId(5), next: Seq(u64::from(i)) };
        Cursor {
            cluster: ClusterId([1; 16]),
            topic: TopicId([2; 16]),
            floor: Timestamp::from_ms(9),
            positions: (0..count).map(position).collect(),
        }
    }

    #[test]
    fn a_cursor_survives_being_a_word() {
        for count in [0, 1, 200] {
            let cursor = cursor(count);
            let word = cursor.to_string();
            assert!(word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
            assert_eq!(word.parse(), Ok(cursor));
        }
    }

    #[test]
    fn a_mistyped_cursor_is_refused_rather_than_followed() {
        let word = cursor(2).to_string();
        for at in PREFIX.len()..word.len() {
            let mut bytes = word.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert!(String::from_utf8(bytes).unwrap().parse::<Cursor>().is_err());
            assert!(word[..at].parse::<Cursor>().is_err());
        }
    }

    #[test]
    fn a_cursor_says_when_it_is_meant_for_another_place() {
        let c = cursor(1);
        assert_eq!(c.check(c.cluster, c.topic), Ok(()));
        let other = ClusterId([7; 16]);
        assert_eq!(c.check(other, c.topic), Err(CursorError::Cluster { cluster: c.cluster }));
        assert_eq!(c.check(c.cluster, TopicId([7; 16])), Err(CursorError::Topic));
    }

    #[test]
    fn positions_out_of_order_or_twice_are_refused() {
        let mut twice = cursor(2);
        twice.positions[1] = twice.positions[0];
        assert_eq!(twice.to_string().parse::<Cursor>(), Err(CursorError::Malformed));
    }
}
