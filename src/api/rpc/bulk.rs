//! Tails and replays: whole batches, as they are stored, from a position on.
//!
//! Large batches go to QUIC as the bytes the log holds, without a copy; small ones are gathered, so that a tail that
//! wakes writes once. QUIC's window holds a slow reader back, and with it the reading of the log.
use super::{Ended, Session};
use crate::api::allowed;
use crate::base::{Batch, PeerId, Timestamp};
use crate::quic::stream::FrameWriter;
use crate::runtime::{ReadItem, TopicReader};
use crate::wire::data::batch_prefix;
use crate::wire::frame::Kind;
use crate::wire::message::{ReadRequest, Refusal, Reply};
use crate::wire::outcome::ReadError;
use bytes::Bytes;
use std::collections::BTreeSet;

/// Bytes of batches taken from the log at once, as [`Batch::cost_bytes`] counts them.
const TAKE_BYTES: usize = 1 << 20;
/// A batch below this is copied next to its neighbours instead of being handed to QUIC on its own.
const SMALL_BYTES: usize = 16 << 10;
/// Gathered bytes from which on they are written.
const GATHERED_BYTES_MAX: usize = 128 << 10;

pub(super) async fn serve(
    session: &Session,
    writer: &mut FrameWriter,
    read: ReadRequest,
) -> Result<(), Ended> {
    match begin(session, &read).await {
        Ok(reader) => {
            let _tail = read.follow.then(|| session.counters().tails.hold());
            send(session, writer, reader, read.follow).await
        }
        Err(error) => fail(session, writer, error).await,
    }
}

/// Tells a reader why its read did not begin or ended.
pub(super) async fn fail(session: &Session, writer: &mut FrameWriter, error: ReadError) -> Result<(), Ended> {
    if matches!(error, ReadError::Forbidden { .. }) {
        session.counters().requests_forbidden.add(1);
    }
    Ok(writer.message(Kind::Reply, &Reply::Failed(error)).await?)
}

async fn begin(session: &Session, read: &ReadRequest) -> Result<TopicReader, ReadError> {
    allowed::read(&session.rights, &read.topic, &read.from)?;
    if !read.follow && session.handle().topic(&read.topic).is_none() && !read.topic.is_system() {
        return Err(ReadError::TopicUnknown { topic: read.topic.clone() });
    }
    if !read.follow {
        session.handle().check_not_ahead(&read.from).await?;
    }
    session.handle().reader(&read.topic, read.from.clone(), read.skip_damaged).await
}

async fn send(
    session: &Session,
    writer: &mut FrameWriter,
    mut reader: TopicReader,
    follow: bool,
) -> Result<(), Ended> {
    let mut introduced = BTreeSet::new();
    let begun = Reply::Begun { cursor: reader.cursor() };
    writer.put_message(Kind::Reply, &begun).map_err(Refusal::from)?;
    let mut must_say_caught_up = true;
    loop {
        let items = match reader.next(TAKE_BYTES).await {
            Ok(items) => items,
            Err(error) => return fail(session, writer, error).await,
        };
        if let Some(last) = items.last() {
            must_say_caught_up = !follow || !releases_all(last);
            for item in items {
                put(session, writer, item, &mut introduced).await?;
            }
            continue;
        }
        if must_say_caught_up {
            let caught_up = Reply::CaughtUp { cursor: reader.cursor() };
            writer.put_message(Kind::Reply, &caught_up).map_err(Refusal::from)?;
            must_say_caught_up = false;
        }
        writer.flush().await?;
        if !follow {
            return Ok(());
        }
        tokio::select! {
            biased;
            () = writer.stopped() => return Err(Ended::Gone),
            () = reader.changed() => {}
        }
    }
}

/// Whether an item lets go of all before it by itself: the common case of a tail, which then needs no word that it has
/// caught up.
fn releases_all(item: &ReadItem) -> bool {
    matches!(item, ReadItem::Batch { release_until, .. } if *release_until == Timestamp(u64::MAX))
}

async fn put(
    session: &Session,
    writer: &mut FrameWriter,
    item: ReadItem,
    introduced: &mut BTreeSet<PeerId>,
) -> Result<(), Ended> {
    let reply = match item {
        ReadItem::Batch { batch, from, release_until } => {
            introduce(session, writer, &batch, introduced).await?;
            session.counters().batches_sent.add(1);
            session.counters().batch_bytes_sent.add(batch.bytes().len() as u64);
            let prefix = batch_prefix(from, release_until);
            return put_batch(writer, &batch, &prefix).await;
        }
        ReadItem::Gap(gap) => Reply::Gap(gap),
        ReadItem::Blocked(blocked) => Reply::Blocked(blocked),
    };
    writer.put_message(Kind::Reply, &reply).map_err(|error| Refusal::from(error).into())
}

pub(super) async fn put_batch(writer: &mut FrameWriter, batch: &Batch, prefix: &[u8]) -> Result<(), Ended> {
    if batch.bytes().len() < SMALL_BYTES {
        writer.put_object(Kind::Batch, prefix, batch.bytes());
        if writer.waiting_bytes() < GATHERED_BYTES_MAX {
            return Ok(());
        }
        return Ok(writer.flush().await?);
    }
    Ok(writer.object(Kind::Batch, prefix, batch.bytes().clone()).await?)
}

/// Sends a peer's certificate before its first batch.
pub(super) async fn introduce(
    session: &Session,
    writer: &mut FrameWriter,
    batch: &Batch,
    introduced: &mut BTreeSet<PeerId>,
) -> Result<(), Ended> {
    let peer = batch.statement().log.peer;
    if introduced.contains(&peer) {
        return Ok(());
    }
    introduced.insert(peer);
    if let Some(certificate) = session.handle().certificate(&peer) {
        writer.object(Kind::Certificate, &[], Bytes::copy_from_slice(&certificate)).await?;
    }
    Ok(())
}
