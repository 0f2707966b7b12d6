//! Imports: batches as their peers signed them, each behind the certificate of its peer.
use super::{Ended, Session};
use crate::base::TopicName;
use crate::quic::stream::{FrameReader, FrameWriter};
use crate::wire::data;
use crate::wire::frame::Kind;
use crate::wire::message::{Refusal, Reply};
use crate::wire::outcome::ImportError;
use bytes::Bytes;

pub(super) async fn serve(
    session: &Session,
    reader: &mut FrameReader,
    writer: &mut FrameWriter,
    topic: TopicName,
) -> Result<(), Ended> {
    reader.expect(&[Kind::Certificate, Kind::Batch]);
    writer.message(Kind::Reply, &Reply::Ready).await?;
    let mut certificate = Bytes::new();
    while let Some((frame, room)) = reader.next_within(&session.shared.unfinished).await? {
        if frame.kind == Kind::Certificate {
            certificate = frame.payload;
            continue;
        }
        let imported = import(session, &certificate, &topic, &frame.payload).await;
        drop(room);
        writer.put_message(Kind::Reply, &Reply::Imported(imported)).map_err(Refusal::from)?;
        writer.flush().await?;
    }
    Ok(())
}

async fn import(
    session: &Session,
    certificate: &Bytes,
    topic: &TopicName,
    payload: &Bytes,
) -> Result<bool, ImportError> {
    if !session.rights.allows_admin(topic) {
        session.counters().requests_forbidden.add(1);
        return Err(ImportError::Forbidden { topic: topic.clone() });
    }
    let (batch, ..) = data::read_batch(payload).map_err(|_| ImportError::Signature)?;
    session.handle().import(certificate.to_vec(), topic.clone(), batch).await
}
