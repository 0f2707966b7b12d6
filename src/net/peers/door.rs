//! What connections from other peers are handed to, once TLS has checked their certificates.
use crate::identity::certificate::Certificate;
use crate::identity::role::Role;
use crate::net::accept::{self, Service};
use crate::net::peers::greet::GreetError;
use crate::net::peers::{NOT_A_PEER, Peers};
use quinn::Connection;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

/// What connections from other peers are handed to.
pub struct PeerDoor(pub Arc<Peers>);

impl Service for PeerDoor {
    fn expects(&self, address: SocketAddr) -> bool {
        self.0.dialler.knows(address)
    }

    fn serve(
        &self,
        connection: Connection,
        certificate: Certificate,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let peers = self.0.clone();
        Box::pin(async move {
            let (key, Role::Peer { name }) = (certificate.key, certificate.role) else {
                peers.counters.requests_forbidden.add(1);
                connection.close(NOT_A_PEER, b"a peer's certificate is needed here");
                return;
            };
            let Some(running) = peers.running() else {
                connection.close(accept::STOPPING, b"the peer is stopping");
                return;
            };
            match peers.be_greeted(&running, connection, key, name).await {
                // That another connection took its place is no news.
                Ok(greeted) => drop(peers.hold(&running, greeted).await),
                // Both dialled, say: nothing failed.
                Err(GreetError::Declined(declined)) => {
                    tracing::debug!(peer = %key, %declined, "a peer was declined")
                }
                Err(error) => {
                    peers.counters.handshakes_failed.add(1);
                    tracing::debug!(peer = %key, %error, "a peer was not greeted");
                }
            }
        })
    }
}
