//! Removing a peer for good, and what is set aside of those that were: for administrators of all topics.
use super::bulk::{introduce, put_batch};
use super::{Ended, Session};
use crate::base::{Seq, SignedRemoval, Timestamp, TopicId, TopicName};
use crate::quic::stream::{FrameReader, FrameWriter};
use crate::wire::data::batch_prefix;
use crate::wire::frame::Kind;
use crate::wire::message::{Refusal, Reply, Request};
use crate::wire::outcome::{Gap, GapReason, HeldOf, RemoveError, TopicChanged};
use std::collections::BTreeSet;

/// Runs that one message names: far below what fits into it.
const PART_RUNS: usize = 4096;

/// Takes a removal as an administrator signed it.
pub(super) async fn remove(
    session: &Session,
    reader: &mut FrameReader,
    writer: &mut FrameWriter,
) -> Result<(), Ended> {
    reader.expect(&[Kind::Removal]);
    let removed = match reader.next_within(&session.shared.unfinished).await? {
        Some((frame, room)) => {
            let removed = take(session, &frame.payload).await;
            drop(room);
            removed
        }
        None => Err(RemoveError::Malformed),
    };
    Ok(writer.message(Kind::Reply, &Reply::Removed(removed)).await?)
}

async fn take(session: &Session, payload: &[u8]) -> Result<TopicChanged, RemoveError> {
    if !session.rights.allows_peer_admin() {
        session.counters().requests_forbidden.add(1);
        return Err(RemoveError::Forbidden);
    }
    let signed = SignedRemoval::decode(payload).map_err(|_| RemoveError::Malformed)?;
    session.handle().remove_peer(signed).await
}

/// Says what is held, and what is set aside.
pub(super) async fn serve(
    session: &Session,
    writer: &mut FrameWriter,
    request: Request,
) -> Result<(), Ended> {
    if !session.rights.allows_peer_admin() {
        return Err(Refusal::Forbidden.into());
    }
    let handle = session.handle();
    match request {
        Request::HeldOf { peer } => {
            let whole =
                handle.aside(move |handle| handle.held_of(peer)).await.map_err(|_| Refusal::Stopping)?;
            // One without runs is told too.
            let parts = whole.ends.chunks(PART_RUNS).chain(whole.ends.is_empty().then_some(&[][..]));
            for ends in parts {
                let HeldOf { is_removed, aside_count, .. } = whole;
                let part = HeldOf { is_removed, aside_count, ends: ends.to_vec() };
                writer.message(Kind::Reply, &Reply::HeldOf(part)).await?;
            }
        }
        Request::Asides => {
            for aside in handle.aside(|handle| handle.asides()).await.map_err(|_| Refusal::Stopping)? {
                writer.put_message(Kind::Reply, &Reply::Aside(aside)).map_err(Refusal::from)?;
            }
        }
        Request::ReadAside { topic } => read(session, writer, &topic).await?,
        _ => return Err(Refusal::Unexpected.into()),
    }
    Ok(writer.message(Kind::Reply, &Reply::Done).await?)
}

/// The batches of a topic that are set aside, run by run, and what of that cannot be read.
async fn read(session: &Session, writer: &mut FrameWriter, topic: &TopicName) -> Result<(), Ended> {
    let handle = session.handle();
    let topic = TopicId::of(handle.about().cluster, topic.as_str());
    let mut introduced = BTreeSet::new();
    let aside = handle.set_aside().into_iter().filter(|(log, _)| log.topic == topic);
    for (log, range) in aside.flat_map(|(log, ranges)| ranges.into_iter().map(move |range| (log, range))) {
        let mut next = range.from;
        while next < range.until {
            let read = handle.read_aside(log, range.run, next).await;
            let batches = read.map_err(|_| Refusal::Stopping)?;
            let mut reached = next;
            for batch in batches.iter().take_while(|batch| batch.statement().first_seq < range.until) {
                introduce(session, writer, batch, &mut introduced).await?;
                put_batch(writer, batch, &batch_prefix(reached.max(range.from), Timestamp(u64::MAX))).await?;
                reached = batch.statement().until();
            }
            if reached == next {
                // What stands behind it may be well, and is not looked for: it is told as missing, and never passed over.
                let (peer, run, from, until) = (log.peer, range.run, next, range.until);
                let gap = Gap { peer, run, from, until, reason: GapReason::Damaged, goes_on_from: None };
                writer.put_message(Kind::Reply, &Reply::Gap(gap)).map_err(Refusal::from)?;
                reached = range.until;
            }
            next = reached.max(Seq(next.0 + 1));
        }
    }
    Ok(())
}
