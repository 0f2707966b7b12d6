//! Other peers, as the runtime sees them: sessions that come and go, and messages on them.
use crate::base::{PeerId, StoreId};
use crate::runtime::core::Request;
use crate::runtime::handle::Handle;
use crate::wire::peer::PeerMessage;

/// What happens between this peer and another.
#[derive(Debug)]
pub(super) enum PeerEvent {
    /// A session began.
    Up { store: StoreId, peer: PeerId },
    /// It ended.
    Down { store: StoreId },
    /// A message came over it.
    Message { from: StoreId, message: PeerMessage },
}

impl Handle {
    /// A session with the store of another peer began: whoever calls has checked that it is that peer.
    pub async fn peer_up(&self, store: StoreId, peer: PeerId) {
        self.peer_event(PeerEvent::Up { store, peer }).await;
    }

    /// The session with a store ended. Messages from it that are still under way count for nothing.
    pub async fn peer_down(&self, store: StoreId) {
        self.peer_event(PeerEvent::Down { store }).await;
    }

    /// A message came. Waits while this peer has no room for it.
    pub async fn receive(&self, from: StoreId, message: PeerMessage) {
        self.peer_event(PeerEvent::Message { from, message }).await;
    }

    async fn peer_event(&self, event: PeerEvent) {
        // A peer that has stopped hears nothing.
        let _ = self.requests.send(Request::Peer(event)).await;
    }
}
