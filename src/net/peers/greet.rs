//! The greeting, from both sides.
use crate::base::{PeerId, PeerName, SignedRemoval, StoreId};
use crate::identity::certificate::Certificate;
use crate::identity::role::Role;
use crate::net::accept;
use crate::net::peers::{Greeted, NOT_A_PEER, Other, Peers, Running};
use crate::quic::stream::{FrameReader, FrameWriter, StreamError};
use crate::wire::frame::Kind;
use crate::wire::greeting::{Answer, Declined, Greeting, PEER_FEATURES, PEER_VERSION, Rank, Welcome};
use crate::wire::message::PROGRAM;
use quinn::{Connection, ConnectionError};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time;

/// How long the other side may take to say who it is.
const GREETING_TIME_MAX: Duration = Duration::from_secs(10);

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(super) enum GreetError {
    /// The address cannot be reached from here.
    #[error("{0}")]
    Connect(#[from] quinn::ConnectError),
    /// The connection did not come about, or is gone.
    #[error("{0}")]
    Connection(#[from] ConnectionError),
    /// What was said cannot be read.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The other side does not want it.
    #[error("it declined: {0}")]
    Declined(#[from] Declined),
    /// It does not keep to the protocol.
    #[error("it does not greet as a peer does")]
    NoGreeting,
    /// It says nothing.
    #[error("it does not answer")]
    Silent,
}

/// The other side's address, as others name it too.
fn reached(connection: &Connection) -> SocketAddr {
    let remote = connection.remote_address();
    SocketAddr::new(remote.ip().to_canonical(), remote.port())
}

impl Peers {
    /// Dials `to` and says who we are.
    pub(super) async fn greet(
        &self,
        running: &Running,
        to: SocketAddr,
        number: u64,
    ) -> Result<Greeted, GreetError> {
        let connecting = running.endpoint.connect_with(running.client.clone(), to, "conveyor")?;
        let connection =
            time::timeout(GREETING_TIME_MAX, connecting).await.map_err(|_| GreetError::Silent)??;
        let greeting = self.say_greeting(running, connection.clone(), number);
        let greeted = match time::timeout(GREETING_TIME_MAX, greeting).await {
            Ok(greeted) => greeted,
            Err(_) => Err(GreetError::Silent),
        };
        greeted.map_err(|error| {
            let error = match error {
                // TLS 1.3: whoever's certificate is refused hears of it only after its own handshake is done.
                GreetError::Stream(_) | GreetError::Connection(_) => {
                    connection.close_reason().map_or(error, GreetError::Connection)
                }
                error => error,
            };
            connection.close(NOT_A_PEER, b"there was no greeting");
            error
        })
    }

    async fn say_greeting(
        &self,
        running: &Running,
        connection: Connection,
        number: u64,
    ) -> Result<Greeted, GreetError> {
        let certificate: Certificate = accept::certificate(&connection).ok_or(GreetError::NoGreeting)?;
        let Role::Peer { name } = certificate.role else { return Err(GreetError::NoGreeting) };
        let (send, receive) = connection.open_bi().await?;
        let (mut writer, mut reader) = (FrameWriter::new(send), FrameReader::new(receive, &[Kind::Reply]));
        let own = running.handle.about().store;
        let greeting = Greeting {
            version_min: PEER_VERSION,
            version_max: PEER_VERSION,
            features: PEER_FEATURES,
            nonce: running.handle.store_nonce(),
            number,
            address: self.config.advertise,
            dialled: connection.remote_address(),
            program: PROGRAM.to_owned(),
        };
        writer.message(Kind::Request, &greeting).await?;
        match reader.message::<Answer>().await? {
            Some(Answer::Welcome(welcome)) if welcome.version == PEER_VERSION => {
                let Welcome { nonce, address, seen, .. } = welcome;
                let store = StoreId::of(certificate.key, nonce);
                if store != own {
                    self.is_seen_at(seen, connection.remote_address());
                }
                let address = address.unwrap_or_else(|| reached(&connection));
                let other = Other { store, peer: certificate.key, name, address };
                let rank = Rank::new(own, store, number);
                Ok(Greeted { other, rank, streams: (writer, reader), connection })
            }
            Some(Answer::Declined(Declined::Removed)) => {
                self.hear_own_removal(running, &mut reader).await;
                Err(Declined::Removed.into())
            }
            Some(Answer::Declined(declined)) => Err(declined.into()),
            _ => Err(GreetError::NoGreeting),
        }
    }

    /// The other side says that this peer was removed, and shows by whom: believed as far as an administrator signed it.
    async fn hear_own_removal(&self, running: &Running, reader: &mut FrameReader) {
        reader.expect(&[Kind::Removal]);
        if let Ok(Some((frame, _room))) = reader.next_within(&self.unfinished).await
            && let Ok(signed) = SignedRemoval::decode(&frame.payload)
            && signed.removal.peer == running.handle.about().peer
        {
            running.handle.hear_removal(signed).await;
        }
    }

    /// Hears who dials, and answers.
    pub(super) async fn be_greeted(
        &self,
        running: &Running,
        connection: Connection,
        peer: PeerId,
        name: PeerName,
    ) -> Result<Greeted, GreetError> {
        let hearing = self.hear_greeting(running, connection.clone(), peer, name);
        let heard = match time::timeout(GREETING_TIME_MAX, hearing).await {
            Ok(heard) => heard,
            Err(_) => Err(GreetError::Silent),
        };
        heard.inspect_err(|error| connection.close(NOT_A_PEER, error.to_string().as_bytes()))
    }

    async fn hear_greeting(
        &self,
        running: &Running,
        connection: Connection,
        peer: PeerId,
        name: PeerName,
    ) -> Result<Greeted, GreetError> {
        let (send, receive) = connection.accept_bi().await?;
        let (mut writer, mut reader) = (FrameWriter::new(send), FrameReader::new(receive, &[Kind::Request]));
        let greeting: Greeting = reader.message().await?.ok_or(GreetError::NoGreeting)?;
        let own = running.handle.about().store;
        let Greeting { nonce, number, address, dialled, version_min, version_max, features, .. } = greeting;
        let store = StoreId::of(peer, nonce);
        let rank = Rank::new(store, own, number);
        let speaks = version_min <= PEER_VERSION && PEER_VERSION <= version_max;
        let may = match speaks {
            true => self.may_be_welcome(own, store, peer, rank),
            false => Err(Declined::Version { min: PEER_VERSION, max: PEER_VERSION }),
        };
        if let Err(declined) = may {
            writer.message(Kind::Reply, &Answer::Declined(declined.clone())).await?;
            if declined == Declined::Removed
                && let Some((signed, _)) = running.handle.removal_of(&peer)
            {
                writer.object(Kind::Removal, &[], signed.encode().into()).await?;
            }
            writer.finish();
            // The answer is read before the connection is closed, or the time is over.
            writer.stopped().await;
            return Err(declined.into());
        }
        self.is_seen_at(dialled, connection.remote_address());
        let welcome = Welcome {
            version: PEER_VERSION,
            features: PEER_FEATURES & features,
            nonce: running.handle.store_nonce(),
            address: self.config.advertise,
            seen: connection.remote_address(),
            program: PROGRAM.to_owned(),
        };
        writer.message(Kind::Reply, &Answer::Welcome(welcome)).await?;
        let address = address.unwrap_or_else(|| reached(&connection));
        let other = Other { store, peer, name, address };
        Ok(Greeted { other, rank, streams: (writer, reader), connection })
    }
}
