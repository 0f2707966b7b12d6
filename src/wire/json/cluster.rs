//! The peers of a cluster as JSON, and how they stand to each other.
use crate::wire::outcome::{Member, MemberState, SyncPeer, SyncStatus};
use serde::Serialize;

/// A peer of the cluster.
#[derive(Serialize)]
pub struct MemberJson {
    pub(crate) name: String,
    pub(crate) peer: String,
    pub(crate) store: String,
    pub(crate) address: Option<String>,
    pub(crate) state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rtt_us: Option<u64>,
}

impl MemberJson {
    /// How it stands to the peer asked.
    pub fn new(member: &Member) -> Self {
        let (state, rtt_us) = match member.state {
            MemberState::Oneself => ("asked", None),
            MemberState::Connected { rtt_us } => ("connected", Some(rtt_us)),
            MemberState::Alive => ("alive", None),
            MemberState::Dead => ("dead", None),
        };
        Self {
            name: member.name.to_string(),
            peer: member.peer.to_string(),
            store: member.store.to_string(),
            address: member.address.map(|address| address.to_string()),
            state,
            rtt_us,
        }
    }
}

/// How a peer stands to the others.
#[derive(Serialize)]
pub struct SyncJson {
    pub(crate) name: String,
    pub(crate) missing_entries: u64,
    pub(crate) behind_ms: Option<u64>,
    pub(crate) peers: Vec<SyncPeerJson>,
}

impl SyncJson {
    /// All of it, of the peer that is called `name`.
    pub fn new(name: String, status: &SyncStatus) -> Self {
        let peers = status.peers.iter().map(SyncPeerJson::new).collect();
        Self { name, missing_entries: status.missing_entries, behind_ms: status.behind_ms, peers }
    }
}

/// How a peer stands to one other.
#[derive(Serialize)]
pub struct SyncPeerJson {
    pub(crate) name: Option<String>,
    pub(crate) peer: String,
    pub(crate) store: String,
    pub(crate) state: &'static str,
    pub(crate) missing_entries: u64,
    pub(crate) missing_runs: u64,
    pub(crate) asked_entries: u64,
    pub(crate) rtt_us: u64,
    pub(crate) compared_ago_ms: Option<u64>,
    pub(crate) received_bytes: u64,
    pub(crate) sent_bytes: u64,
}

impl SyncPeerJson {
    /// All of it.
    pub fn new(peer: &SyncPeer) -> Self {
        Self {
            name: peer.holder.name.as_ref().map(ToString::to_string),
            peer: peer.holder.peer.to_string(),
            store: peer.holder.store.to_string(),
            state: state(peer),
            missing_entries: peer.missing_entries,
            missing_runs: peer.missing_runs,
            asked_entries: peer.asked_entries,
            rtt_us: peer.rtt_us,
            compared_ago_ms: peer.compared_ago_ms,
            received_bytes: peer.received_bytes,
            sent_bytes: peer.sent_bytes,
        }
    }
}

fn state(peer: &SyncPeer) -> &'static str {
    match peer {
        SyncPeer { compared_ago_ms: None, .. } => "new",
        SyncPeer { asked_entries: 1.., .. } => "fetching",
        SyncPeer { is_resting: true, .. } => "resting",
        SyncPeer { missing_entries: 1.., .. } => "waiting",
        _ => "even",
    }
}
