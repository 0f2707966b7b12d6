//! The near end of a bulk read: bursts of batches off the wire, verified, over one connection after another.
//!
//! A burst is what one wait brought and what was here already by then, so that one signature can stand for many small
//! batches. Nothing is fetched while a reader still has entries to hand out: QUIC's window is the back-pressure.
use crate::base::{Batch, Cursor, PeerId, PeerName, Seq, Timestamp, TopicName};
use crate::client::connect::{Connector, Live};
use crate::client::error::ClientError;
use crate::quic::stream::{FrameReader, FrameWriter};
use crate::wire::contents::Contents;
use crate::wire::data;
use crate::wire::frame::{Frame, Kind};
use crate::wire::message::{self, ReadRequest, Refusal, Reply, Request};
use crate::wire::outcome::{Blocked, Gap, ReadError, ReadFrom};
use crate::wire::verify::Authenticator;
use bytes::Bytes;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// A burst ends once its batches take this much memory.
const BURST_BYTES: usize = 1 << 20;
/// A burst has this many frames at most.
const BURST_FRAME_COUNT: usize = 1024;
/// Pause before a peer that is stopping is asked again.
const LEAVE_PAUSE: Duration = Duration::from_millis(100);

/// What a read asks for.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) topic: TopicName,
    pub(crate) from: ReadFrom,
    pub(crate) follow: bool,
    pub(crate) skip_damaged: bool,
    pub(crate) key: Option<Bytes>,
    pub(crate) entry_count_max: u64,
}

/// What a burst brought, in the order it came.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are of the large kind, and a box for each costs more"
)]
pub(crate) enum Event {
    Begun(Cursor),
    Peer(PeerId, PeerName, Bytes),
    Batch { batch: Batch, contents: Contents, from: Seq, release_until: Timestamp },
    Gap(Gap),
    Blocked(Blocked),
    CaughtUp(Cursor),
    End,
}

/// One step of reading: a batch is checked with those that came with it.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are of the large kind, and a box for each costs more"
)]
enum Arrived {
    Batch { batch: Batch, from: Seq, release_until: Timestamp },
    Other(Event),
}

impl Arrived {
    fn cost_bytes(&self) -> usize {
        match self {
            Self::Batch { batch, .. } => batch.cost_bytes(),
            Self::Other(_) => 0,
        }
    }
}

/// The near end of a bulk read.
pub(crate) struct Source {
    connector: Arc<Connector>,
    wish: Wish,
    link: Option<Link>,
    authenticator: Authenticator,
}

struct Link {
    live: Live,
    /// Whether the last word was that nothing more is held: a stream that ends behind another was broken off.
    is_caught_up: bool,
    reader: FrameReader,
    /// Kept open: dropping it would tell the peer that the read is over.
    _writer: FrameWriter,
}

impl Source {
    fn new(connector: Arc<Connector>, wish: Wish) -> Self {
        let authenticator = Authenticator::new(connector.authority().clone(), connector.remembered().clone());
        Self { connector, wish, link: None, authenticator }
    }

    /// Waits for a burst and checks it. `from` is where to go on if the connection must be made again.
    async fn fill(mut self, from: ReadFrom) -> (Self, Result<Vec<Event>, ClientError>) {
        loop {
            match self.try_fill(&from).await {
                Err(ClientError::Lost { .. }) => {
                    let link = self.link.take();
                    if link.is_some_and(|link| link.live.connection.close_reason().is_none()) {
                        // The read was broken off, not the connection: asking again at once may meet the same.
                        tokio::time::sleep(LEAVE_PAUSE).await;
                    }
                }
                Err(ClientError::Refused(Refusal::Stopping) | ClientError::Read(ReadError::Stopped)) => {
                    if let Some(link) = self.link.take() {
                        self.connector.leave(&link.live).await;
                    }
                    tokio::time::sleep(LEAVE_PAUSE).await;
                }
                done => return (self, done),
            }
        }
    }

    async fn try_fill(&mut self, from: &ReadFrom) -> Result<Vec<Event>, ClientError> {
        let link = match &mut self.link {
            Some(link) => link,
            none => none.insert(open(&self.connector, &self.wish, from).await?),
        };
        let arrived = burst(link, &mut self.authenticator).await?;
        let batches: Vec<Batch> = arrived
            .iter()
            .filter_map(|item| match item {
                Arrived::Batch { batch, .. } => Some(batch.clone()),
                Arrived::Other(_) => None,
            })
            .collect();
        let mut contents = self.authenticator.check(&batches)?.into_iter();
        let event = |item| match item {
            Arrived::Other(event) => Some(event),
            Arrived::Batch { batch, from, release_until } => {
                Some(Event::Batch { batch, contents: contents.next()?, from, release_until })
            }
        };
        Ok(arrived.into_iter().filter_map(event).collect())
    }
}

async fn open(connector: &Arc<Connector>, wish: &Wish, from: &ReadFrom) -> Result<Link, ClientError> {
    let live = connector.live_retrying().await?;
    let request = Request::Read(ReadRequest {
        topic: wish.topic.clone(),
        from: from.clone(),
        follow: wish.follow,
        skip_damaged: wish.skip_damaged,
    });
    let (writer, reader) = live.open(&request).await?;
    Ok(Link { live, reader, is_caught_up: false, _writer: writer })
}

/// The next frame, and those that are here already.
async fn burst(link: &mut Link, authenticator: &mut Authenticator) -> Result<Vec<Arrived>, ClientError> {
    let (mut arrived, mut bytes) = (Vec::new(), 0);
    let mut next = link.reader.next().await;
    loop {
        let frame = match next {
            Ok(frame) => frame,
            // What came before the loss is good; the next burst meets the loss again.
            Err(_) if !arrived.is_empty() => return Ok(arrived),
            Err(error) => return Err(error.into()),
        };
        let Some(frame) = frame else {
            if link.is_caught_up {
                arrived.push(Arrived::Other(Event::End));
            } else if arrived.is_empty() {
                return Err(ClientError::Lost { reason: "the peer broke the read off".to_owned() });
            }
            return Ok(arrived);
        };
        match arrive(frame, authenticator) {
            Ok(item) => {
                bytes += item.cost_bytes();
                link.is_caught_up = matches!(item, Arrived::Other(Event::CaughtUp(_)));
                arrived.push(item);
            }
            Err(error) => return Err(error),
        }
        if bytes >= BURST_BYTES || arrived.len() >= BURST_FRAME_COUNT {
            return Ok(arrived);
        }
        match link.reader.ready() {
            Some(ready) => next = ready,
            None => return Ok(arrived),
        }
    }
}

fn arrive(frame: Frame, authenticator: &mut Authenticator) -> Result<Arrived, ClientError> {
    let event = match frame.kind {
        Kind::Batch => {
            let (batch, from, release_until) = data::read_batch(&frame.payload)
                .map_err(|error| ClientError::Protocol { what: error.to_string() })?;
            return Ok(Arrived::Batch { batch, from, release_until });
        }
        Kind::Certificate => {
            let (peer, name) = authenticator.learn(&frame.payload)?;
            Event::Peer(peer, name, frame.payload)
        }
        Kind::Reply => match message::decode(&frame.payload)
            .map_err(|error| ClientError::Protocol { what: error.to_string() })?
        {
            Reply::Begun { cursor } => Event::Begun(cursor),
            Reply::Gap(gap) => Event::Gap(gap),
            Reply::Blocked(blocked) => Event::Blocked(blocked),
            Reply::CaughtUp { cursor } => Event::CaughtUp(cursor),
            Reply::Failed(error) => return Err(error.into()),
            Reply::Refused(refusal) => return Err(refusal.into()),
            _ => return Err(ClientError::unexpected()),
        },
        _ => return Err(ClientError::unexpected()),
    };
    Ok(Arrived::Other(event))
}

type Filling = Pin<Box<dyn Future<Output = (Source, Result<Vec<Event>, ClientError>)> + Send>>;

/// The source, at rest or at work. Dropping it ends the read.
pub(crate) enum Feed {
    Rest(Box<Source>),
    Work(Filling),
    Over,
}

impl Feed {
    pub(crate) fn new(connector: Arc<Connector>, wish: Wish) -> Self {
        Self::Rest(Box::new(Source::new(connector, wish)))
    }

    /// The next burst; `from` is where to go on should the connection be lost.
    pub(crate) fn poll(
        &mut self,
        from: impl Fn() -> ReadFrom,
        context: &mut Context<'_>,
    ) -> Poll<Result<Vec<Event>, ClientError>> {
        loop {
            match std::mem::replace(self, Self::Over) {
                Self::Rest(source) => *self = Self::Work(Box::pin(source.fill(from()))),
                Self::Work(mut filling) => {
                    let Poll::Ready((source, result)) = filling.as_mut().poll(context) else {
                        *self = Self::Work(filling);
                        return Poll::Pending;
                    };
                    if result.is_ok() {
                        *self = Self::Rest(Box::new(source));
                    }
                    return Poll::Ready(result);
                }
                Self::Over => return Poll::Ready(Ok(vec![Event::End])),
            }
        }
    }
}
