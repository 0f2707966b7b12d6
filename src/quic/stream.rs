//! Frames over one QUIC stream, for both sides: reading without copies where a packet holds a whole frame, writing
//! payloads as they are.
//!
//! Reading is cancel-safe: a read that is dropped loses nothing. Writing is not: a side that gives up in the middle of
//! a write resets the stream ([`FrameWriter::reset`]), so that the other does not take a half for a whole. Dropping a
//! writer that was not finished resets it too.
use crate::quic::unfinished::{Room, Unfinished};
use crate::wire::frame::{self, Decoder, Frame, FrameError, Kind};
use crate::wire::message::{self, MessageError};
use bytes::{Bytes, BytesMut};
use quinn::{RecvStream, SendStream, VarInt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use tokio::time::{self, Instant};

/// The code of a stream that its side gave up.
pub const CANCELLED: VarInt = VarInt::from_u32(1);
/// The code of a stream on which the other side broke the protocol.
pub const REFUSED: VarInt = VarInt::from_u32(2);

/// Segments taken off a stream at once: some 90 KiB with the usual packets.
const SEGMENT_COUNT: usize = 64;

/// Why a stream cannot be read further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// What came is no frame that has a place here.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A message cannot be read.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// The other side gave the stream up.
    #[error("the other side gave the stream up (code {code})")]
    Reset {
        /// Its code.
        code: u64,
    },
    /// All streams that the other side allows on one connection are in use.
    #[error("all streams that the peer allows on one connection are in use")]
    Exhausted,
    /// The connection is gone.
    #[error("the connection is gone: {reason}")]
    Lost {
        /// What QUIC says.
        reason: String,
    },
    /// The rest of an object comes too slowly.
    #[error("the rest of an object comes too slowly")]
    Slow,
    /// There is no room for an object of which a part has come, and too many wait for it.
    #[error("too many objects are unfinished; send this one again later")]
    Crowded,
}

impl From<quinn::ReadError> for StreamError {
    fn from(error: quinn::ReadError) -> Self {
        match error {
            quinn::ReadError::Reset(code) => Self::Reset { code: code.into_inner() },
            quinn::ReadError::ConnectionLost(error) => Self::from(error),
            other => Self::Lost { reason: other.to_string() },
        }
    }
}

impl From<quinn::WriteError> for StreamError {
    fn from(error: quinn::WriteError) -> Self {
        match error {
            quinn::WriteError::Stopped(code) => Self::Reset { code: code.into_inner() },
            quinn::WriteError::ConnectionLost(error) => Self::from(error),
            other => Self::Lost { reason: other.to_string() },
        }
    }
}

impl From<quinn::ConnectionError> for StreamError {
    fn from(error: quinn::ConnectionError) -> Self {
        Self::Lost { reason: error.to_string() }
    }
}

/// Reads frames.
#[derive(Debug)]
pub struct FrameReader {
    stream: RecvStream,
    decoder: Decoder,
    segments: Vec<Bytes>,
    segment_at: usize,
    segment_until: usize,
}

impl FrameReader {
    /// Reads frames of `kinds` off `stream`.
    pub fn new(stream: RecvStream, kinds: &'static [Kind]) -> Self {
        let decoder = Decoder::new(kinds);
        Self { stream, decoder, segments: Vec::new(), segment_at: 0, segment_until: 0 }
    }

    /// From now on takes frames of `kinds`. Call it between frames.
    pub fn expect(&mut self, kinds: &'static [Kind]) {
        self.decoder.expect(kinds);
    }

    /// The next object, or `None` where the stream ends between objects.
    pub async fn next(&mut self) -> Result<Option<Frame>, StreamError> {
        loop {
            if let Some(frame) = self.decode()? {
                return Ok(Some(frame));
            }
            if !self.fetch().await? {
                return Ok(None);
            }
        }
    }

    /// Waits for more bytes; false where the stream ends between objects.
    async fn fetch(&mut self) -> Result<bool, StreamError> {
        self.segments.resize(SEGMENT_COUNT, Bytes::new());
        match self.stream.read_chunks(&mut self.segments).await? {
            Some(count) => (self.segment_at, self.segment_until) = (0, count),
            None => {
                self.decoder.finish()?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The next object. One that does not come all at once takes room in `unfinished`, which goes with it, and must come
    /// at the pace that is set there, so that it does not keep the room from others.
    pub async fn next_within(
        &mut self,
        unfinished: &Unfinished,
    ) -> Result<Option<(Frame, Option<Room>)>, StreamError> {
        let (mut room, mut began) = (None, None);
        loop {
            if let Some(frame) = self.decode()? {
                return Ok(Some((frame, room)));
            }
            let is_more = if self.decoder.is_between() {
                self.fetch().await?
            } else {
                if let (None, Some(bytes)) = (&room, self.decoder.announced_bytes()) {
                    room = Some(unfinished.take(bytes).await?);
                }
                let began = *began.get_or_insert_with(Instant::now);
                let due = unfinished.due(began, self.decoder.assembled_bytes());
                time::timeout_at(due, self.fetch()).await.map_err(|_| StreamError::Slow)??
            };
            if !is_more {
                return Ok(None);
            }
        }
    }

    /// The next object if it is here already; `None` when one would have to wait.
    pub fn ready(&mut self) -> Option<Result<Option<Frame>, StreamError>> {
        let next = pin!(self.next());
        match next.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        }
    }

    /// The next object, which must be a message.
    pub async fn message<M: DeserializeOwned>(&mut self) -> Result<Option<M>, StreamError> {
        match self.next().await? {
            Some(frame) => Ok(Some(message::decode(&frame.payload)?)),
            None => Ok(None),
        }
    }

    /// Tells the other side that nothing more will be read.
    pub fn stop(&mut self, code: VarInt) {
        let _ = self.stream.stop(code);
    }

    fn decode(&mut self) -> Result<Option<Frame>, StreamError> {
        while self.segment_at < self.segment_until {
            let segment = &mut self.segments[self.segment_at];
            let frame = self.decoder.decode(segment)?;
            if segment.is_empty() {
                // Lets go of the packet's memory at once.
                *segment = Bytes::new();
                self.segment_at += 1;
            }
            if frame.is_some() {
                return Ok(frame);
            }
        }
        Ok(None)
    }
}

/// Writes frames.
#[derive(Debug)]
pub struct FrameWriter {
    stream: SendStream,
    small: BytesMut,
    is_finished: bool,
}

impl FrameWriter {
    /// Writes frames to `stream`.
    pub fn new(stream: SendStream) -> Self {
        Self { stream, small: BytesMut::new(), is_finished: false }
    }

    /// Adds a message to what the next [`Self::flush`] writes. Fails when it is longer than a message may be.
    pub fn put_message<M: Serialize>(&mut self, kind: Kind, message: &M) -> Result<(), MessageError> {
        frame::put_small(kind, &message::encode(message)?, &mut self.small);
        Ok(())
    }

    /// Adds a small object, which is copied, to what the next [`Self::flush`] writes.
    pub fn put_object(&mut self, kind: Kind, prefix: &[u8], payload: &[u8]) {
        frame::put_small_object(kind, prefix, payload, &mut self.small);
    }

    /// Bytes that wait for the next [`Self::flush`].
    pub fn waiting_bytes(&self) -> usize {
        self.small.len()
    }

    /// Writes what waits. When this resolves QUIC has it; the other side may not yet.
    pub async fn flush(&mut self) -> Result<(), StreamError> {
        if !self.small.is_empty() {
            let bytes = self.small.split().freeze();
            self.stream.write_chunk(bytes).await?;
        }
        Ok(())
    }

    /// Writes a message and what waits before it.
    pub async fn message<M: Serialize>(&mut self, kind: Kind, message: &M) -> Result<(), StreamError> {
        self.put_message(kind, message)?;
        self.flush().await
    }

    /// Writes an object and what waits before it. `prefix` is copied, `payload` is not.
    pub async fn object(&mut self, kind: Kind, prefix: &[u8], payload: Bytes) -> Result<(), StreamError> {
        let mut buffers = Vec::with_capacity(4);
        if !self.small.is_empty() {
            buffers.push(self.small.split().freeze());
        }
        frame::put(kind, prefix, payload, &mut buffers);
        Ok(self.stream.write_all_chunks(&mut buffers).await?)
    }

    /// Of the streams of a connection those of higher priority are sent first; 0 unless set.
    pub fn set_priority(&self, priority: i32) {
        // That it cannot be set says that the stream is gone, which writing says too.
        let _ = self.stream.set_priority(priority);
    }

    /// Writes frames that are put together already, and what waits before them. `frames` is left empty.
    pub async fn frames(&mut self, frames: &mut Vec<Bytes>) -> Result<(), StreamError> {
        self.flush().await?;
        self.stream.write_all_chunks(frames).await?;
        frames.clear();
        Ok(())
    }

    /// Says that nothing more will be written.
    pub fn finish(&mut self) {
        self.is_finished = true;
        let _ = self.stream.finish();
    }

    /// Gives the stream up: the other side drops what it has of an unfinished object.
    pub fn reset(&mut self, code: VarInt) {
        self.is_finished = true;
        let _ = self.stream.reset(code);
    }

    /// Resolves once the other side has read everything or will read no more.
    pub async fn stopped(&mut self) {
        let _ = self.stream.stopped().await;
    }
}

impl Drop for FrameWriter {
    fn drop(&mut self) {
        if !self.is_finished {
            let _ = self.stream.reset(CANCELLED);
        }
    }
}
