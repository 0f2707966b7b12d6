//! Appends: chunks in, outcomes out in the same order, many of them under way.
//!
//! Chunks are parsed here, with their digests, so that the engine sees checked values only. The order of chunks on the
//! stream is their order in the log. Answers that are ready together leave in one write.
use super::{Ended, Session};
use crate::base::{Chunk, Durability, NameError, TopicName};
use crate::quic::stream::{FrameReader, FrameWriter};
use crate::runtime::AppendTicket;
use crate::wire::frame::{Frame, Kind};
use crate::wire::message::{Refusal, Reply};
use crate::wire::outcome::{AppendError, Appended};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use tokio::sync::mpsc;

/// Chunks of one stream that wait for their outcome at most.
const CHUNK_COUNT_MAX: usize = 1024;

/// An answer that is due.
enum Owed {
    Ticket(AppendTicket),
    Known(Box<AppendError>),
}

type Outcome = Result<Appended, AppendError>;

impl Future for Owed {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        match &mut *self {
            Self::Ticket(ticket) => pin!(ticket).poll(context),
            Self::Known(error) => Poll::Ready(Err((**error).clone())),
        }
    }
}

pub(super) async fn serve(
    session: &Session,
    reader: &mut FrameReader,
    writer: &mut FrameWriter,
    topic: TopicName,
    durability: Option<Durability>,
) -> Result<(), Ended> {
    reader.expect(&[Kind::Chunk]);
    writer.put_message(Kind::Reply, &Reply::Ready).map_err(Refusal::from)?;
    let (owe, owed) = mpsc::channel(CHUNK_COUNT_MAX);
    let refused = refusal(session, &topic);
    // What was taken is answered before the stream is told that something on it was wrong.
    let take = async { Ok(take(session, reader, owe, &topic, durability, refused).await) };
    let (taken, ()) = tokio::try_join!(biased; take, answer(session, writer, owed))?;
    taken
}

/// Why this client may not append to this topic, if so.
fn refusal(session: &Session, topic: &TopicName) -> Option<AppendError> {
    if topic.is_system() {
        return Some(NameError::TopicReserved.into());
    }
    let is_allowed = session.rights.allows_write(topic);
    (!is_allowed).then(|| AppendError::Forbidden { topic: topic.clone() })
}

async fn take(
    session: &Session,
    reader: &mut FrameReader,
    owe: mpsc::Sender<Owed>,
    topic: &TopicName,
    durability: Option<Durability>,
    refused: Option<AppendError>,
) -> Result<(), Ended> {
    while let Some((Frame { payload, .. }, room)) = reader.next_within(&session.shared.unfinished).await? {
        session.counters().chunks_received.add(1);
        session.counters().chunk_bytes_received.add(payload.len() as u64);
        let next = match &refused {
            Some(error) => {
                session.counters().requests_forbidden.add(1);
                Err(error.clone())
            }
            None => match Chunk::parse(payload) {
                Ok(chunk) => session.handle().submit(topic.clone(), durability, chunk).await,
                Err(error) => Err(error.into()),
            },
        };
        // Whoever waits for this room may go on: the chunk is with the engine.
        drop(room);
        let owed = next.map_or_else(|error| Owed::Known(Box::new(error)), Owed::Ticket);
        if owe.send(owed).await.is_err() {
            return Err(Ended::Gone);
        }
    }
    Ok(())
}

async fn answer(
    session: &Session,
    writer: &mut FrameWriter,
    mut owed: mpsc::Receiver<Owed>,
) -> Result<(), Ended> {
    writer.flush().await?;
    let mut next = owed.recv().await;
    while let Some(first) = next.take() {
        put(session, writer, first.await)?;
        // Those behind it that are ready go with it.
        while let Ok(mut following) = owed.try_recv() {
            match Pin::new(&mut following).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(outcome) => put(session, writer, outcome)?,
                Poll::Pending => {
                    next = Some(following);
                    break;
                }
            }
        }
        writer.flush().await?;
        if next.is_none() {
            next = owed.recv().await;
        }
    }
    Ok(())
}

fn put(session: &Session, writer: &mut FrameWriter, outcome: Outcome) -> Result<(), Ended> {
    if outcome.is_err() {
        session.counters().appends_failed.add(1);
    }
    writer.put_message(Kind::Reply, &Reply::Appended(outcome)).map_err(|error| Refusal::from(error).into())
}
