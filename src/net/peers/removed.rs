//! Peers that were removed for good: their sessions end, and nobody has one with them again.
use crate::base::PeerId;
use crate::net::peers::session::Session;
use crate::net::peers::{GIVEN_UP, Peers, Running, lock};
use std::sync::Arc;

/// How long a session with a peer goes on whose removal was heard of, so that it hears of it too.
const PARTING_TIME: std::time::Duration = std::time::Duration::from_secs(2);

impl Peers {
    /// Whether a peer was removed, as far as is known here.
    pub(super) fn is_removed(&self, peer: &PeerId) -> bool {
        self.running().is_some_and(|running| running.handle.removal_of(peer).is_some())
    }

    /// Ends the sessions with peers that were removed, once they had the time to hear of it.
    pub(super) fn part_with_removed(&self, running: &Running) {
        let sessions: Vec<Arc<Session>> = lock(&self.sessions).values().cloned().collect();
        for session in sessions {
            let removal = running.handle.removal_of(&session.other.peer);
            if removal.is_some_and(|(_, since)| since >= PARTING_TIME) {
                session.connection.close(GIVEN_UP, b"the peer was removed from the cluster");
            }
        }
    }
}
