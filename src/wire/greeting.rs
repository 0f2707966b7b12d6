//! How two peers greet each other: the first frame each way on the first stream of a connection between them.
//!
//! ```text
//! dialler ── Greeting ──> listener        which store, which connection of its
//! dialler <── Welcome ─── listener        or Declined, and the connection ends
//! ```
//!
//! A listener declines who has a session with it already that was dialled the other way. Where both dial at once, and so
//! welcome each other, the connection stays that the lower store dialled; of two that one dialled, the one with the higher
//! number, since the other is lost where it was dialled. Both ends see the same two, and so both keep the same one.
use crate::base::{StoreId, StoreNonce};
use core::net::SocketAddr;
use serde::{Deserialize, Serialize};

/// The version of the protocol between peers spoken here.
pub const PEER_VERSION: u16 = 1;

/// What may be asked of another peer beyond that; nothing so far.
pub const PEER_FEATURES: u64 = 0;

/// Who dials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greeting {
    /// The oldest version it speaks.
    pub version_min: u16,
    /// The newest.
    pub version_max: u16,
    /// What it can do beyond that.
    pub features: u64,
    /// What makes the name of its data directory during this start of the key in its certificate, see [`StoreId::of`].
    pub nonce: StoreNonce,
    /// Which of its connections this is: each has a higher number than those before.
    pub number: u64,
    /// Where others reach it; `None`: where this connection comes from.
    pub address: Option<SocketAddr>,
    /// Where it dialled: a listener at all addresses of its host learns so at which of them others reach it.
    pub dialled: SocketAddr,
    /// What runs there, for logs.
    pub program: String,
}

/// Who listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version that is spoken from here on.
    pub version: u16,
    /// What both can do beyond that.
    pub features: u64,
    /// What makes the name of its data directory during this start of the key in its certificate, see [`StoreId::of`].
    pub nonce: StoreNonce,
    /// Where others reach it; `None`: where it was reached.
    pub address: Option<SocketAddr>,
    /// Where the dialler is seen from here.
    pub seen: SocketAddr,
    /// What runs there, for logs.
    pub program: String,
}

/// The answer to [`Greeting`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Messages may follow.
    Welcome(Welcome),
    /// The connection ends.
    Declined(Declined),
}

/// Why a connection between peers is not wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Declined {
    /// No version is spoken by both.
    #[error("it speaks versions {min} to {max} of the protocol between peers")]
    Version {
        /// The oldest spoken there.
        min: u16,
        /// The newest.
        max: u16,
    },
    /// It is the store itself that was dialled.
    #[error("it is this peer itself")]
    Oneself,
    /// There is a connection that stays.
    #[error("there is a connection to it")]
    Connected {
        /// With this store.
        store: StoreId,
    },
    /// The peer that dials was removed from the cluster.
    #[error("this peer was removed from the cluster")]
    Removed,
    /// There are as many sessions as may be.
    #[error("it has as many sessions as it may have")]
    Full,
}

/// Which of two connections between one pair of stores stays: the one with the higher rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    is_of_lower: bool,
    number: u64,
}

impl Rank {
    /// The rank of a connection that `dialler` dialled as its `number`th.
    pub fn new(dialler: StoreId, listener: StoreId, number: u64) -> Self {
        Self { is_of_lower: dialler < listener, number }
    }

    /// Whether both were dialled the same way.
    pub fn is_dialled_like(&self, other: &Self) -> bool {
        self.is_of_lower == other.is_of_lower
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_keep_the_same_connection() {
        let (low, high) = (StoreId(3), StoreId(9));
        let mut dialled = [(low, high, 1), (high, low, 7), (low, high, 2), (high, low, 8)];
        let best = |dialled: &[(StoreId, StoreId, u64)]| {
            dialled.iter().copied().max_by_key(|(dialler, listener, n)| Rank::new(*dialler, *listener, *n))
        };
        assert_eq!(best(&dialled), Some((low, high, 2)));
        dialled.reverse();
        assert_eq!(best(&dialled), Some((low, high, 2)));
        assert_eq!(best(&dialled[..1]), Some((high, low, 8)));
    }
}
