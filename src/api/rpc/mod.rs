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
mod import;
mod page;
mod small;

use crate::identity::certificate::Certificate;
use crate::identity::role::{Rights, Role};
use crate::net::{Counters, Service};
use crate::quic::stream::{FrameReader, FrameWriter, REFUSED, StreamError};
use crate::runtime::Handle;
use crate::wire::frame::Kind;
use crate::wire::message::{FEATURES, Hello, Refusal, Reply, Request, VERSION, Welcome};
use quinn::{Connection, RecvStream, Runtime, SendStream, VarInt};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Semaphore;

/// Entries larger than a frame that are put together at once, over all clients: 64 MiB.
const ASSEMBLY_COUNT_MAX: usize = 4;
/// The code of a connection whose certificate is not a client's.
const NOT_A_CLIENT: VarInt = VarInt::from_u32(5);

/// Serves clients.
pub struct Rpc {
    shared: Arc<Shared>,
    runtime: Arc<dyn Runtime>,
}

struct Shared {
    handle: Handle,
    counters: Arc<Counters>,
    assemblies: Arc<Semaphore>,
}

/// What a stream's task knows of its connection.
struct Session {
    shared: Arc<Shared>,
    rights: Rights,
    has_greeted: AtomicBool,
}

impl Session {
    fn handle(&self) -> &Handle {
        &self.shared.handle
    }

    fn counters(&self) -> &Counters {
        &self.shared.counters
    }
}

impl Rpc {
    /// Serves clients from `handle`.
    pub fn new(handle: Handle, counters: Arc<Counters>, runtime: Arc<dyn Runtime>) -> Arc<Self> {
        let assemblies = Arc::new(Semaphore::new(ASSEMBLY_COUNT_MAX));
        Arc::new(Self { shared: Arc::new(Shared { handle, counters, assemblies }), runtime })
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
    /// The other side is gone.
    Gone,
}

impl From<StreamError> for Ended {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Frame(error) => Self::Refused(error.into()),
            StreamError::Message(error) => Self::Refused(error.into()),
            StreamError::Reset { .. } | StreamError::Lost { .. } => Self::Gone,
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
        if let Ended::Refused(refusal) = ended {
            match refusal {
                Refusal::Forbidden => self.counters().requests_forbidden.add(1),
                _ => self.counters().requests_malformed.add(1),
            }
            tracing::debug!(%refusal, "stream refused");
            reader.stop(REFUSED);
            // A client that is gone needs no answer.
            if writer.message(Kind::Reply, &Reply::Refused(refusal)).await.is_ok() {
                writer.finish();
            }
        }
    }

    async fn serve(&self, reader: &mut FrameReader, writer: &mut FrameWriter) -> Result<(), Ended> {
        let Some(request) = reader.message::<Request>().await? else {
            return Ok(());
        };
        self.counters().requests.add(1);
        if let Request::Hello(hello) = request {
            return self.greet(&hello, writer).await;
        }
        if !self.has_greeted.load(Ordering::Acquire) {
            return Err(Refusal::NoHello.into());
        }
        match request {
            Request::Append { topic, durability } => {
                append::serve(self, reader, writer, topic, durability).await
            }
            Request::Read(read) => bulk::serve(self, writer, read).await,
            Request::Page(page) => page::serve(self, writer, page).await,
            Request::Import { topic } => import::serve(self, reader, writer, topic).await,
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
