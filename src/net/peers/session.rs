//! One session: a connection over which two stores have greeted each other.
//!
//! ```text
//! control   first stream, both ways    frames Peer, Push            before everything else
//! bulk      a stream each way          frames Peer, Stored          when control has nothing
//! gossip    a stream for each message  one frame Gossip
//! ```
use crate::net::peers::lanes::{LaneOf, SendLane};
use crate::net::peers::{GIVEN_UP, Other, Peers, lock};
use crate::quic::stream::{FrameReader, FrameWriter, StreamError};
use crate::quic::unfinished::Unfinished;
use crate::runtime::{Handle, Watched};
use crate::wire::frame::Kind;
use crate::wire::greeting::Rank;
use crate::wire::peer::PeerMessage;
use crate::wire::peer_frame::{self, PeerFrameError};
use bytes::Bytes;
use quinn::Connection;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Bytes of small messages that are written at once.
const WRITE_BYTES: usize = 64 << 10;
/// Messages that are written at once.
const WRITE_COUNT: usize = 64;

/// How control comes before bulk on one connection.
const CONTROL_PRIORITY: i32 = 10;

/// Why a session ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error(transparent)]
    Message(#[from] PeerFrameError),
    #[error("the other side ended its stream")]
    Ended,
}

impl From<quinn::ConnectionError> for SessionError {
    fn from(error: quinn::ConnectionError) -> Self {
        StreamError::from(error).into()
    }
}

/// One session.
pub(super) struct Session {
    pub(super) other: Other,
    pub(super) rank: Rank,
    pub(super) connection: Connection,
    /// Room for what came of it in part.
    unfinished: Arc<Unfinished>,
    control: SendLane,
    bulk: SendLane,
    gossip: GossipLane,
    /// One answer with batches at a time is read and put on its way, so that what waits keeps its bound.
    serving: Arc<Semaphore>,
    /// Tasks that read streams of the other side.
    readers: Watched<usize>,
    pub(super) has_ended: Watched<bool>,
}

impl Session {
    pub(super) fn new(
        other: Other,
        rank: Rank,
        connection: Connection,
        unfinished: Arc<Unfinished>,
    ) -> Arc<Self> {
        let (control, bulk) = (SendLane::default(), SendLane::default());
        let (gossip, has_ended) = (GossipLane::default(), Watched::new(false));
        let (readers, serving) = (Watched::new(0), Arc::new(Semaphore::new(1)));
        Arc::new(Self {
            other,
            rank,
            connection,
            unfinished,
            control,
            bulk,
            gossip,
            serving,
            readers,
            has_ended,
        })
    }

    fn lane(&self, lane: LaneOf) -> &SendLane {
        match lane {
            LaneOf::Control => &self.control,
            LaneOf::Bulk => &self.bulk,
        }
    }

    /// Puts a message of so many bytes on its way. False where too much waits.
    pub(super) fn send(&self, message: PeerMessage, bytes: usize) -> bool {
        self.lane(LaneOf::of(&message)).put(message, bytes)
    }

    /// Whether there is room for batches.
    pub(super) fn has_room(&self) -> bool {
        self.bulk.has_room() && self.control.has_room()
    }

    /// Resolves when there is room for batches, and it is the turn of whoever asks; never once the session has ended. Others wait
    /// for as long as the permit is kept.
    pub(super) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        let permit = self.serving.clone().acquire_owned().await.ok()?;
        self.bulk.until_room().await;
        Some(permit)
    }

    /// Puts a message of the gossip on its way; where many wait, the oldest is as lost as a datagram.
    pub(super) fn gossip(&self, message: Bytes) {
        self.gossip.put(message);
    }

    /// Carries messages both ways until the connection or one of its streams ends.
    pub(super) async fn run(
        self: &Arc<Self>,
        (writer, mut reader): (FrameWriter, FrameReader),
        inbox: &Inbox,
    ) -> SessionError {
        writer.set_priority(CONTROL_PRIORITY);
        reader.expect(&[Kind::Peer, Kind::Push]);
        let ended = tokio::select! {
            biased;
            ended = self.write(LaneOf::Control, writer) => ended,
            ended = inbox.read(self, &mut reader) => ended,
            ended = self.write_bulk() => ended,
            ended = self.write_gossip() => ended,
            ended = self.accept(inbox) => ended,
        };
        // The parts of a session go on until something breaks.
        ended.err().unwrap_or(SessionError::Ended)
    }

    /// Resolves once nothing that came over the connection, which is closed, is on its way to the peer any more.
    pub(super) async fn is_read(&self) {
        self.readers.find(|readers| (*readers == 0).then_some(())).await;
    }

    async fn write_bulk(&self) -> Result<(), SessionError> {
        let send = self.connection.open_uni().await?;
        self.write(LaneOf::Bulk, FrameWriter::new(send)).await
    }

    async fn write_gossip(&self) -> Result<(), SessionError> {
        loop {
            let message = self.gossip.take().await;
            let mut writer = FrameWriter::new(self.connection.open_uni().await?);
            writer.set_priority(CONTROL_PRIORITY);
            writer.object(Kind::Gossip, &[], message).await?;
            writer.finish();
        }
    }

    /// Takes the other side's streams, each in a task of its own: how many there are is bounded by QUIC.
    async fn accept(self: &Arc<Self>, inbox: &Inbox) -> Result<(), SessionError> {
        loop {
            let receive = self.connection.accept_uni().await?;
            let theirs = inbox.clone();
            let counted = Reading::new(self.clone());
            let reading = async move {
                let session = &counted.0;
                let mut reader = FrameReader::new(receive, &[Kind::Peer, Kind::Stored, Kind::Gossip]);
                if let Err(error) = theirs.read(session, &mut reader).await {
                    session.connection.close(GIVEN_UP, error.to_string().as_bytes());
                }
            };
            inbox.peers.env.runtime.spawn(Box::pin(reading));
        }
    }

    async fn write(&self, lane: LaneOf, mut writer: FrameWriter) -> Result<(), SessionError> {
        let lane = self.lane(lane);
        loop {
            let mut next = Some(lane.take().await);
            let (mut frames, mut cost, mut count) = (Vec::new(), 0, 0);
            while let Some((message, bytes)) = next {
                cost += bytes;
                count += 1;
                if let Err(error) = peer_frame::put(&message, &mut frames) {
                    // The other side finds by comparing that it lacks something, and says so; nobody is served by the end.
                    tracing::error!(%error, store = %self.other.store, "a message cannot be sent");
                }
                let is_enough = cost >= WRITE_BYTES || count >= WRITE_COUNT;
                next = if is_enough { None } else { lane.try_take() };
            }
            writer.frames(&mut frames).await?;
            lane.is_sent(cost);
        }
    }
}

/// Counts a task that reads a stream for as long as it does, also where it panics.
struct Reading(Arc<Session>);

impl Reading {
    fn new(session: Arc<Session>) -> Self {
        session.readers.change(|readers| {
            *readers += 1;
            false
        });
        Self(session)
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.readers.change(|readers| {
            *readers -= 1;
            true
        });
    }
}

/// Takes a session out of the list, also where its task panicked: another one with that store may come then.
pub(super) struct EndsSession {
    pub(super) peers: Arc<Peers>,
    pub(super) session: Arc<Session>,
}

impl Drop for EndsSession {
    fn drop(&mut self) {
        {
            let mut sessions = lock(&self.peers.sessions);
            sessions.remove(&self.session.other.store);
            let udp_bytes = self.session.connection.stats().udp_tx.bytes;
            self.peers.counters.peer_udp_bytes_ended.add(udp_bytes);
        }
        self.session.has_ended.set(true);
    }
}

/// Where messages of a session go.
#[derive(Clone)]
pub(super) struct Inbox {
    pub(super) peers: Arc<Peers>,
    pub(super) handle: Handle,
}

impl Inbox {
    /// Takes messages off a stream until it ends, and waits while the peer has no room for them.
    async fn read(&self, session: &Session, reader: &mut FrameReader) -> Result<(), SessionError> {
        let (counters, other) = (&self.peers.counters, &session.other);
        while let Some((frame, room)) = reader.next_within(&session.unfinished).await? {
            if frame.kind == Kind::Gossip {
                counters.gossip_messages_received.add(1);
                self.peers.gossip.came(other.address, frame.payload);
                return Ok(());
            }
            counters.peer_messages_received.add(1);
            counters.peer_bytes_received.add(frame.payload.len() as u64);
            self.handle.receive(other.store, peer_frame::take(frame)?, room).await;
        }
        Err(SessionError::Ended)
    }
}

/// Messages of the gossip that wait.
#[derive(Debug, Default)]
struct GossipLane {
    waiting: Mutex<VecDeque<Bytes>>,
    came: Notify,
}

/// How many may wait.
const GOSSIP_WAITING_MAX: usize = 16;

impl GossipLane {
    fn put(&self, message: Bytes) {
        let mut waiting = lock(&self.waiting);
        if waiting.len() >= GOSSIP_WAITING_MAX {
            waiting.pop_front();
        }
        waiting.push_back(message);
        drop(waiting);
        self.came.notify_one();
    }

    async fn take(&self) -> Bytes {
        loop {
            if let Some(message) = lock(&self.waiting).pop_front() {
                return message;
            }
            self.came.notified().await;
        }
    }
}
