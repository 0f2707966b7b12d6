//! What a peer says of the others, for every protocol the same.
use crate::base::{PeerId, PeerName, StoreId};
use crate::net::Peers;
use crate::runtime::{Handle, Progress};
use crate::wire::outcome::{Holder, Member, MemberState, SyncPeer, SyncStatus};
use std::sync::Arc;

/// A peer among others, where there may be any.
#[derive(Clone)]
pub(super) struct Among {
    pub(super) handle: Handle,
    pub(super) peers: Option<Arc<Peers>>,
}

impl Among {
    /// All peers of the cluster, as far as they are known.
    pub(super) fn members(&self) -> Vec<Member> {
        let about = self.handle.about();
        match &self.peers {
            Some(peers) => peers.all(about),
            None => vec![Member {
                store: about.store,
                peer: about.peer,
                name: about.name.clone(),
                address: None,
                state: MemberState::Oneself,
            }],
        }
    }

    /// What people call a peer: as its certificate says, where it is connected or entries of it are held.
    pub(super) fn name_of(&self, peer: PeerId, store: StoreId) -> Option<PeerName> {
        let connected = self.peers.as_ref().and_then(|peers| peers.name_of(store));
        connected.or_else(|| self.handle.peer_name(&peer))
    }

    /// How the peer stands to the others.
    pub(super) async fn sync(&self) -> SyncStatus {
        let (handle, peers) = (&self.handle, self.peers.as_ref());
        let seen = peers.map(|peers| peers.seen()).unwrap_or_default();
        let missing = handle.missing();
        let of_peer = |progress: Progress| {
            let seen = seen.iter().find(|seen| seen.other.store == progress.store);
            let name = self.name_of(progress.peer, progress.store);
            SyncPeer {
                holder: Holder { peer: progress.peer, store: progress.store, name },
                rtt_us: seen.map_or(0, |seen| seen.rtt_us),
                missing_entries: progress.missing_entries,
                missing_runs: progress.missing_runs,
                asked_entries: progress.asked_entries,
                is_resting: progress.is_resting,
                compared_ago_ms: progress.compared_ago_ms,
                received_bytes: seen.map_or(0, |seen| seen.received_bytes),
                sent_bytes: seen.map_or(0, |seen| seen.sent_bytes),
            }
        };
        SyncStatus {
            missing_entries: missing.entries,
            behind_ms: missing.behind.map(|behind| behind.as_millis() as u64),
            peers: handle.progress().await.into_iter().map(of_peer).collect(),
        }
    }
}
