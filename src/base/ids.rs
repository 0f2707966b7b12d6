//! Numbers that name things: clusters, peers, topics, runs, entries.
//!
//! ```text
//! log   = (topic, peer)                 what one peer appends to one topic
//! run   = drawn anew at each start      a stretch of a log between two starts of its peer
//! entry = (topic, peer, run, seq)       one record, for ever and on every peer
//! ```
use crate::base::hex;
use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! byte_id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
        pub struct $name(pub [u8; $bytes]);

        impl $name {
            /// Reads the hexadecimal form.
            pub fn parse(text: &str) -> Option<Self> {
                hex::decode(text).map(Self)
            }

            /// The bytes themselves.
            pub fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }

            /// The first 8 hexadecimal digits, for people.
            pub fn short(&self) -> String {
                hex::encode(&self.0[..4])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }
    };
}

byte_id!(
    /// A cluster: 16 random bytes drawn by `conveyor init`.
    ClusterId, 16
);
byte_id!(
    /// A peer: its Ed25519 public key, which is its identity, its TLS key and its signing key.
    PeerId, 32
);
byte_id!(
    /// A topic within a cluster: the first 16 bytes of BLAKE3 over the cluster's 16 bytes, then the name.
    TopicId, 16
);
byte_id!(
    /// A BLAKE3 digest.
    Digest, 32
);

impl TopicId {
    /// The id of the topic called `name` in `cluster`.
    pub fn of(cluster: ClusterId, name: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&cluster.0);
        hasher.update(name.as_bytes());
        let mut id = [0; 16];
        hasher.finalize_xof().fill(&mut id);
        Self(id)
    }
}

impl Digest {
    /// The digest of nothing yet: what the first batch of a log goes on from.
    pub const ZERO: Self = Self([0; 32]);

    /// BLAKE3 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
        pub struct $name(pub u64);

        impl $name {
            /// Reads 16 hexadecimal digits.
            pub fn parse(text: &str) -> Option<Self> {
                hex::decode(text).map(|bytes| Self(u64::from_be_bytes(bytes)))
            }

            /// The first 8 of its 16 hexadecimal digits, for people.
            pub fn short(&self) -> String {
                format!("{:08x}", self.0 >> 32)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:016x})"), self.0)
            }
        }
    };
}

number_id!(
    /// A run: named anew whenever a peer starts, see [`RunId::of`], never 0, never continued by a later start.
    RunId
);
number_id!(
    /// A store: a data directory during one start of a peer, see [`StoreId::of`].
    StoreId
);
number_id!(
    /// What tells the stores of one peer apart: 64 random bits drawn when it starts.
    StoreNonce
);
number_id!(
    /// A producer: 64 random bits drawn by a client, so that its retries are recognised.
    ProducerId
);

/// The first 64 bits of a hash, little-endian.
fn first_bits(hasher: &blake3::Hasher) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *hasher.finalize().as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

impl StoreId {
    /// The store of a peer that drew `nonce` at its start: no other key has a store of this name.
    pub fn of(peer: PeerId, nonce: StoreNonce) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"CV-store").update(&peer.0).update(&nonce.0.to_le_bytes());
        Self(first_bits(&hasher))
    }
}

impl RunId {
    /// No run: the parent of a log's first run.
    pub const NONE: Self = Self(0);

    /// The name of a run that goes on from `parent` with `first`, where the operating system drew `drawn`. So machines that
    /// were resumed from one snapshot, and draw the same, name two runs that begin elsewhere two names.
    pub fn of(drawn: u64, parent: Self, first: Seq) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"CV-run..");
        for number in [drawn, parent.0, first.0] {
            hasher.update(&number.to_le_bytes());
        }
        Self(first_bits(&hasher))
    }

    /// Whether this names a run at all.
    pub fn is_some(self) -> bool {
        self != Self::NONE
    }
}

/// The number of an entry in its log, from 1, dense along the log's chain of runs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
pub struct Seq(pub u64);

impl Seq {
    /// The number of the first entry a user appends.
    pub const FIRST: Self = Self(1);

    /// The number `count` entries further on. Saturates, which a log never reaches.
    pub fn after(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }

    /// How many entries lie in `[from, self)`; 0 when `from` is beyond.
    pub fn since(self, from: Self) -> u64 {
        self.0.saturating_sub(from.0)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// A log: what one peer appends to one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LogId {
    /// The topic.
    pub topic: TopicId,
    /// The log's only writer.
    pub peer: PeerId,
}

/// The name of an entry, for ever and on every peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntryId {
    /// The topic.
    pub topic: TopicId,
    /// The peer that appended it.
    pub peer: PeerId,
    /// The run it was appended in.
    pub run: RunId,
    /// Its number along the log.
    pub seq: Seq,
}

impl EntryId {
    /// The log that the entry is part of.
    pub fn log(&self) -> LogId {
        LogId { topic: self.topic, peer: self.peer }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_has_another_id_in_another_cluster() {
        let (a, b) = (ClusterId([1; 16]), ClusterId([2; 16]));
        assert_eq!(TopicId::of(a, "jobs"), TopicId::of(a, "jobs"));
        assert_ne!(TopicId::of(a, "jobs"), TopicId::of(b, "jobs"));
        assert_ne!(TopicId::of(a, "jobs"), TopicId::of(a, "job"));
    }

    #[test]
    fn ids_read_back_what_they_print() {
        let run = RunId(0x0123_4567_89ab_cdef);
        assert_eq!(RunId::parse(&run.to_string()), Some(run));
        assert_eq!(run.short(), "01234567");
        let peer = PeerId([7; 32]);
        assert_eq!(PeerId::parse(&peer.to_string()), Some(peer));
        assert_eq!(PeerId::parse("07"), None);
    }
}
