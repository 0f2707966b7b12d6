//! One session: a connection over which two stores have greeted each other.
//!
//! ```text
//! control   first stream, both ways    frames Peer, Push            before everything else
//! bulk      a stream each way          frames Peer, Stored          when control has nothing
//! ```
use crate::base::StoreId;
use crate::net::counters::Counters;
use crate::net::peers::Other;
use crate::net::peers::lanes::{LaneOf, SendLane, cost_bytes};
use crate::quic::stream::{FrameReader, FrameWriter, StreamError};
use crate::quic::unfinished::Unfinished;
use crate::runtime::{Handle, Watched};
use crate::wire::frame::Kind;
use crate::wire::greeting::Rank;
use crate::wire::peer::PeerMessage;
use crate::wire::peer_frame::{self, PeerFrameError};
use quinn::Connection;
use std::sync::Arc;

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
    control: SendLane,
    bulk: SendLane,
    pub(super) has_ended: Watched<bool>,
}

impl Session {
    pub(super) fn new(other: Other, rank: Rank, connection: Connection) -> Arc<Self> {
        let (control, bulk) = (SendLane::default(), SendLane::default());
        let has_ended = Watched::new(false);
        Arc::new(Self { other, rank, connection, control, bulk, has_ended })
    }

    fn lane(&self, lane: LaneOf) -> &SendLane {
        match lane {
            LaneOf::Control => &self.control,
            LaneOf::Bulk => &self.bulk,
        }
    }

    /// Puts a message on its way. False where too much waits.
    pub(super) fn send(&self, message: PeerMessage) -> bool {
        self.lane(LaneOf::of(&message)).put(message)
    }

    /// Whether there is room for batches.
    pub(super) fn has_room(&self) -> bool {
        self.bulk.has_room()
    }

    /// Carries messages both ways until the connection or one of its streams ends.
    pub(super) async fn run(
        &self,
        (writer, mut reader): (FrameWriter, FrameReader),
        inbox: &Inbox<'_>,
    ) -> SessionError {
        writer.set_priority(CONTROL_PRIORITY);
        reader.expect(&[Kind::Peer, Kind::Push]);
        let ended = tokio::select! {
            biased;
            ended = self.write(LaneOf::Control, writer) => ended,
            ended = inbox.read(self.other.store, reader) => ended,
            ended = self.write_bulk() => ended,
            ended = self.read_bulk(inbox) => ended,
        };
        // The parts of a session go on until something breaks.
        ended.err().unwrap_or(SessionError::Ended)
    }

    async fn write_bulk(&self) -> Result<(), SessionError> {
        let send = self.connection.open_uni().await?;
        self.write(LaneOf::Bulk, FrameWriter::new(send)).await
    }

    async fn read_bulk(&self, inbox: &Inbox<'_>) -> Result<(), SessionError> {
        let receive = self.connection.accept_uni().await?;
        inbox.read(self.other.store, FrameReader::new(receive, &[Kind::Peer, Kind::Stored])).await
    }

    async fn write(&self, lane: LaneOf, mut writer: FrameWriter) -> Result<(), SessionError> {
        let lane = self.lane(lane);
        loop {
            let mut next = Some(lane.take().await);
            let (mut frames, mut cost, mut bytes, mut count) = (Vec::new(), 0, 0, 0);
            while let Some(message) = next {
                cost += cost_bytes(&message);
                bytes += message.wire_bytes();
                count += 1;
                if let Err(error) = peer_frame::put(&message, &mut frames) {
                    // The other side finds by comparing that it lacks something, and says so; nobody is served by the end.
                    tracing::error!(%error, store = %self.other.store, "a message cannot be sent");
                }
                let is_enough = bytes >= WRITE_BYTES || count >= WRITE_COUNT;
                next = if is_enough { None } else { lane.try_take() };
            }
            writer.frames(&mut frames).await?;
            lane.is_sent(cost);
        }
    }
}

/// Where messages of a session go.
pub(super) struct Inbox<'a> {
    pub(super) handle: &'a Handle,
    pub(super) unfinished: &'a Unfinished,
    pub(super) counters: &'a Counters,
}

impl Inbox<'_> {
    /// Takes messages off a stream, and waits while the peer has no room for them.
    async fn read(&self, from: StoreId, mut reader: FrameReader) -> Result<(), SessionError> {
        while let Some((frame, room)) = reader.next_within(self.unfinished).await? {
            self.counters.peer_messages_received.add(1);
            self.counters.peer_bytes_received.add(frame.payload.len() as u64);
            let message = peer_frame::take(frame)?;
            self.handle.receive(from, message).await;
            drop(room);
        }
        Err(SessionError::Ended)
    }
}
