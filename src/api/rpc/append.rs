//! Appends: chunks in, outcomes out in the same order, many of them under way.
//!
//! Chunks are unpacked and checked on the stream's own task, so that the engine sees checked values only. The order of chunks on the
//! stream is their order in the log.
use super::owed::{OWED_COUNT_MAX, Owed, answer};
use super::{Ended, Session};
use crate::api::allowed;
use crate::base::{Durability, TopicName};
use crate::quic::stream::{FrameReader, FrameWriter};
use crate::runtime::AppendTicket;
use crate::wire::frame::{Frame, Kind};
use crate::wire::message::{Refusal, Reply};
use crate::wire::outcome::{AppendError, Appended};
use tokio::sync::mpsc;

type Outcome = Result<Appended, AppendError>;

pub(super) async fn serve(
    session: &Session,
    reader: &mut FrameReader,
    writer: &mut FrameWriter,
    topic: TopicName,
    durability: Option<Durability>,
) -> Result<(), Ended> {
    reader.expect(&[Kind::Chunk]);
    writer.put_message(Kind::Reply, &Reply::Ready).map_err(Refusal::from)?;
    let (owe, owed) = mpsc::channel(OWED_COUNT_MAX);
    let refused = allowed::append(&session.rights, &topic).err();
    let put = |writer: &mut FrameWriter, outcome| put(session, writer, outcome);
    // What was taken is answered before the stream is told that something on it was wrong.
    let take = async { Ok(take(session, reader, owe, &topic, durability, refused).await) };
    let (taken, ()) = tokio::try_join!(biased; take, answer(writer, owed, put))?;
    taken
}

async fn take(
    session: &Session,
    reader: &mut FrameReader,
    owe: mpsc::Sender<Owed<AppendTicket>>,
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
            None => session.handle().submit_bytes(topic.clone(), durability, payload).await,
        };
        // Whoever waits for this room may go on: the chunk is with the engine.
        drop(room);
        let owed = next.map_or_else(|error| Owed::known(Err(error)), Owed::Ticket);
        if owe.send(owed).await.is_err() {
            return Err(Ended::Gone);
        }
    }
    Ok(())
}

fn put(session: &Session, writer: &mut FrameWriter, mut outcome: Outcome) -> Result<(), Ended> {
    if outcome.is_err() {
        session.counters().appends_failed.add(1);
    }
    let receipt = match &mut outcome {
        Ok(appended) => &mut appended.holders[..],
        Err(AppendError::Replicas { appended, .. }) => &mut appended.holders[..],
        Err(_) => &mut [],
    };
    receipt.iter_mut().for_each(|holder| holder.name = session.name_of(holder.peer, holder.store));
    writer.put_message(Kind::Reply, &Reply::Appended(outcome)).map_err(|error| Refusal::from(error).into())
}
