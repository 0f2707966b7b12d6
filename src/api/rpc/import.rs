//! Imports: batches as their peers signed them, each behind the certificate of its peer, many of them under way.
//!
//! The order on the stream is the order in which they are stored. After the first that is refused no more are taken, so
//! that none is stored behind one that is missing.
use super::owed::{OWED_COUNT_MAX, Owed, answer};
use super::{Ended, Session};
use crate::base::TopicName;
use crate::quic::stream::{FrameReader, FrameWriter};
use crate::runtime::ImportTicket;
use crate::wire::data;
use crate::wire::frame::Kind;
use crate::wire::message::{Refusal, Reply};
use crate::wire::outcome::{ImportError, Imported};
use bytes::Bytes;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc;

pub(super) async fn serve(
    session: &Session,
    reader: &mut FrameReader,
    writer: &mut FrameWriter,
    topic: TopicName,
) -> Result<(), Ended> {
    reader.expect(&[Kind::Certificate, Kind::Batch]);
    writer.put_message(Kind::Reply, &Reply::Ready).map_err(Refusal::from)?;
    let (owe, owed) = mpsc::channel(OWED_COUNT_MAX);
    let has_failed = AtomicBool::new(false);
    let put = |writer: &mut FrameWriter, imported: Result<Imported, ImportError>| {
        has_failed.fetch_or(imported.is_err(), Ordering::Relaxed);
        writer.put_message(Kind::Reply, &Reply::Imported(imported)).map_err(|e| Refusal::from(e).into())
    };
    let take = async { Ok(take(session, reader, owe, &topic, &has_failed).await) };
    let (taken, ()) = tokio::try_join!(biased; take, answer(writer, owed, put))?;
    taken
}

async fn take(
    session: &Session,
    reader: &mut FrameReader,
    owe: mpsc::Sender<Owed<ImportTicket>>,
    topic: &TopicName,
    has_failed: &AtomicBool,
) -> Result<(), Ended> {
    let mut certificate = Bytes::new();
    while let Some((frame, room)) = reader.next_within(&session.shared.unfinished).await? {
        if frame.kind == Kind::Certificate {
            certificate = frame.payload;
            continue;
        }
        let submitted = match has_failed.load(Ordering::Relaxed) {
            true => Err(ImportError::Stopped),
            false => submit(session, &certificate, topic, &frame.payload).await,
        };
        drop(room);
        has_failed.fetch_or(submitted.is_err(), Ordering::Relaxed);
        let owed = submitted.map_or_else(|error| Owed::known(Err(error)), Owed::Ticket);
        if owe.send(owed).await.is_err() {
            return Err(Ended::Gone);
        }
    }
    Ok(())
}

async fn submit(
    session: &Session,
    certificate: &Bytes,
    topic: &TopicName,
    payload: &Bytes,
) -> Result<ImportTicket, ImportError> {
    if !session.rights.allows_admin(topic) {
        session.counters().requests_forbidden.add(1);
        return Err(ImportError::Forbidden { topic: topic.clone() });
    }
    let (batch, ..) = data::read_batch(payload).map_err(|_| ImportError::Signature)?;
    session.handle().submit_import(certificate, topic.clone(), batch).await
}
