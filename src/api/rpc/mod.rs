//! The client protocol over QUIC (docs/protocol.md): one request on each stream, one task for each stream.
//!
//! ```text
//! connection: Hello, Welcome ─→ stream: Request ─┬─ append   chunks in, outcomes out, in order
//!                                                ├─ bulk     whole batches out
//!                                                ├─ page     single entries out
//!                                                ├─ import   signed batches in
//!                                                └─ small    everything that is one answer
//! ```
//!
//! Rights are those in the client's certificate and are checked on each request. What breaks the protocol is told on its
//! stream, counted, and harms nothing else. A stream that its client drops ends its task.

mod append;
mod bulk;
mod group;
mod import;
mod owed;
mod page;
mod removals;
mod small;
mod sync;

use crate::api::cluster::Among;
use crate::base::{PeerId, PeerName, StoreId};
use crate::identity::certificate::Certificate;
use crate::identity::role::{Rights, Role};
use crate::net::{Counters, NetConfig, Peers, Service};
use crate::quic::stream::{FrameReader, FrameWriter, REFUSED, StreamError};
use crate::quic::unfinished::Unfinished;
use crate::runtime::Handle;
use crate::wire::frame::{FrameError, Kind};
use crate::wire::message::{self, FEATURES, Hello, Refusal, Reply, Request, VERSION, Welcome};
use crate::wire::outcome::Member;
use quinn::{Connection, RecvStream, Runtime, SendStream, VarInt};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The code of a connection whose certificate is not a client's.
const NOT_A_CLIENT: VarInt = VarInt::from_u32(5);

/// Serves clients.
pub struct Rpc {
    shared: Arc<Shared>,
    runtime: Arc<dyn Runtime>,
}

struct Shared {
    among: Among,
    counters: Arc<Counters>,
    unfinished: Arc<Unfinished>,
}

/// What a stream's task knows of its connection.
struct Session {
    shared: Arc<Shared>,
    rights: Rights,
    has_greeted: AtomicBool,
}

impl Session {
    fn handle(&self) -> &Handle {
        &self.shared.among.handle
    }

    /// All peers of the cluster, as far as they are known.
    fn members(&self) -> Vec<Member> {
        self.shared.among.members()
    }

    /// What people call a peer: as its certificate says, where it is connected or entries of it are held.
    fn name_of(&self, peer: PeerId, store: StoreId) -> Option<PeerName> {
        self.shared.among.name_of(peer, store)
    }

    fn counters(&self) -> &Counters {
        &self.shared.counters
    }
}

impl Rpc {
    /// Serves clients from `handle`, whose unfinished objects have the room that `config` gives them.
    pub fn new(
        handle: Handle,
        counters: Arc<Counters>,
        runtime: Arc<dyn Runtime>,
        config: &NetConfig,
    ) -> Arc<Self> {
        let unfinished = Unfinished::new(config.unfinished);
        let among = Among { handle, peers: None };
        Arc::new(Self { shared: Arc::new(Shared { among, counters, unfinished }), runtime })
    }

    /// The same for a peer of a cluster, whose clients may ask for all others.
    pub fn with_peers(
        handle: Handle,
        peers: Arc<Peers>,
        runtime: Arc<dyn Runtime>,
        config: &NetConfig,
    ) -> Arc<Self> {
        let (counters, unfinished) = (peers.counters().clone(), Unfinished::new(config.unfinished));
        let among = Among { handle, peers: Some(peers) };
        Arc::new(Self { shared: Arc::new(Shared { among, counters, unfinished }), runtime })
    }
}

impl Service for Rpc {
    fn serve(
        &self,
        connection: Connection,
        certificate: Certificate,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let (shared, runtime) = (self.shared.clone(), self.runtime.clone());
        Box::pin(async move {
            let Role::Client(rights) = certificate.role else {
                shared.counters.requests_forbidden.add(1);
                connection.close(NOT_A_CLIENT, b"a client's certificate is needed here");
                return;
            };
            let session = Arc::new(Session { shared, rights, has_greeted: AtomicBool::new(false) });
            // Each stream has a task of its own; how many there are is bounded by QUIC.
            while let Ok((send, receive)) = connection.accept_bi().await {
                let session = session.clone();
                runtime.spawn(Box::pin(async move { session.stream(send, receive).await }));
            }
        })
    }
}

/// How a stream's service ends when it does not simply end.
enum Ended {
    /// The other side broke the protocol, or asked for what it may not.
    Refused(Refusal),
    /// The rest of an object comes too slowly.
    Slow,
    /// There is no room for what the other side began to send.
    Crowded,
    /// The other side is gone.
    Gone,
}

impl From<StreamError> for Ended {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Frame(error) => Self::Refused(error.into()),
            StreamError::Message(error) => Self::Refused(error.into()),
            StreamError::Slow => Self::Slow,
            StreamError::Crowded => Self::Crowded,
            // A peer opens no streams to its clients.
            StreamError::Reset { .. } | StreamError::Lost { .. } | StreamError::Exhausted => Self::Gone,
        }
    }
}

impl From<Refusal> for Ended {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Session {
    async fn stream(&self, send: SendStream, receive: RecvStream) {
        let _open = self.counters().streams.hold();
        let mut writer = FrameWriter::new(send);
        let mut reader = FrameReader::new(receive, &[Kind::Request]);
        let ended = match self.serve(&mut reader, &mut writer).await {
            Ok(()) => return writer.finish(),
            Err(ended) => ended,
        };
        if let Some(refusal) = self.refusal(ended) {
            tracing::debug!(%refusal, "stream refused");
            reader.stop(REFUSED);
            // A client that is gone needs no answer.
            if writer.message(Kind::Reply, &Reply::Refused(refusal)).await.is_ok() {
                writer.finish();
            }
        }
    }

    /// What the client is told, counted; nothing when it is gone.
    fn refusal(&self, ended: Ended) -> Option<Refusal> {
        let counters = self.counters();
        let (counter, refusal) = match ended {
            Ended::Gone => return None,
            Ended::Slow => (&counters.objects_slow, FrameError::Truncated.into()),
            Ended::Crowded => {
                let what = StreamError::Crowded.to_string();
                (&counters.objects_refused, Refusal::Limit { what })
            }
            Ended::Refused(Refusal::Forbidden) => (&counters.requests_forbidden, Refusal::Forbidden),
            Ended::Refused(refusal) => (&counters.requests_malformed, refusal),
        };
        counter.add(1);
        Some(refusal)
    }

    async fn serve(&self, reader: &mut FrameReader, writer: &mut FrameWriter) -> Result<(), Ended> {
        let Some((frame, room)) = reader.next_within(&self.shared.unfinished).await? else {
            return Ok(());
        };
        let request: Request = message::decode(&frame.payload).map_err(Refusal::from)?;
        drop((frame, room));
        self.counters().requests.add(1);
        if let Request::Hello(hello) = request {
            return self.greet(&hello, writer).await;
        }
        if !self.has_greeted.load(Ordering::Acquire) {
            return Err(Refusal::NoHello.into());
        }
        let changes = matches!(request, Request::Change(_) | Request::Import { .. } | Request::Remove);
        // Nothing is done, so that another peer can be asked.
        if changes && self.handle().is_closing() {
            return Err(Refusal::Stopping.into());
        }
        match request {
            Request::Append { topic, durability } => {
                append::serve(self, reader, writer, topic, durability).await
            }
            Request::Read(read) => bulk::serve(self, writer, read).await,
            Request::Page(page) => page::serve(self, writer, page).await,
            Request::Import { topic } => import::serve(self, reader, writer, topic).await,
            Request::Remove => removals::remove(self, reader, writer).await,
            Request::HeldOf { .. } | Request::Asides | Request::ReadAside { .. } => {
                removals::serve(self, writer, request).await
            }
            Request::Group { topic, group, keeps_leases } => {
                group::serve(self, reader, writer, topic, group, keeps_leases).await
            }
            Request::Groups { topic } => group::list(self, writer, topic).await,
            Request::Sync | Request::Alone { .. } | Request::Explain { .. } => {
                sync::serve(self, writer, request).await
            }
            other => small::serve(self, writer, other).await,
        }
    }

    async fn greet(&self, hello: &Hello, writer: &mut FrameWriter) -> Result<(), Ended> {
        if hello.version_min > VERSION || hello.version_max < VERSION {
            return Err(Refusal::Version { min: VERSION, max: VERSION }.into());
        }
        self.has_greeted.store(true, Ordering::Release);
        let about = self.handle().about().clone();
        let welcome = Welcome { version: VERSION, features: FEATURES & hello.features, about };
        Ok(writer.message(Kind::Reply, &Reply::Welcome(welcome)).await?)
    }
}
