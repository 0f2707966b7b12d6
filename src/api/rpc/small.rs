//! Requests that are one answer: entries by id, topics, status, changes.
use super::page::{put_entry, put_name};
use super::{Ended, Session};
use crate::api::allowed;
use crate::base::EntryRef;
use crate::quic::stream::FrameWriter;
use crate::runtime::{Found, Handle};
use crate::wire::contents::RawEntry;
use crate::wire::frame::Kind;
use crate::wire::message::{GET_COUNT_MAX, Refusal, Reply, Request, WAIT_MS_MAX};
use crate::wire::outcome::{LogInfo, ReadError, ReadFrom, TopicChange, TopicChanged, TopicError, TopicInfo};
use std::time::Duration;
use tokio::time;

/// How much one message tells of a topic; one with more logs is told in parts.
#[derive(Debug, Clone, Copy)]
struct Part {
    log_count_max: usize,
    /// Damaged ranges of one log, and as many that were declared lost.
    range_count_max: usize,
    /// Whether the same log comes again with what more there are.
    is_whole: bool,
}

/// Where all topics are asked for.
const OF_MANY: Part = Part { log_count_max: 64, range_count_max: 16, is_whole: false };
/// Where one is, which may be asked for because it is damaged.
const OF_ONE: Part = Part { log_count_max: 1, range_count_max: 4096, is_whole: true };
/// How often an id is looked for that names a topic or log not known here yet.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

pub(super) async fn serve(
    session: &Session,
    writer: &mut FrameWriter,
    request: Request,
) -> Result<(), Ended> {
    let reply = match request {
        Request::Get { ids, wait_ms } => return get(session, writer, ids, wait_ms).await,
        Request::Topics => {
            let all = session.handle().aside(Handle::topics).await.map_err(|_| Refusal::Stopping)?;
            return topics(session, writer, all, OF_MANY).await;
        }
        Request::Topic { topic } => {
            if !allowed::sees(&session.rights, &topic) {
                return Err(Refusal::Forbidden.into());
            }
            let found = session.handle().topic(&topic).into_iter().collect();
            return topics(session, writer, found, OF_ONE).await;
        }
        Request::Status => {
            let status = session.handle().aside(Handle::status).await;
            let mut status = status.map_err(|_| Refusal::Stopping)?;
            status.connection_count = session.counters().connections.get();
            Reply::Status(status)
        }
        Request::Members => {
            for member in session.members() {
                writer.put_message(Kind::Reply, &Reply::Member(member)).map_err(Refusal::from)?;
            }
            Reply::Done
        }
        Request::Change(change) => Reply::Changed(apply(session, change).await),
        Request::AcceptClock => {
            if !session.rights.allows_peer_admin() {
                return Err(Refusal::Forbidden.into());
            }
            session.handle().accept_clock().await;
            Reply::Done
        }
        _ => return Err(Refusal::Unexpected.into()),
    };
    Ok(writer.message(Kind::Reply, &reply).await?)
}

async fn topics(
    session: &Session,
    writer: &mut FrameWriter,
    topics: Vec<TopicInfo>,
    part: Part,
) -> Result<(), Ended> {
    for mut topic in topics {
        if !allowed::sees(&session.rights, &topic.name) {
            continue;
        }
        let logs = std::mem::take(&mut topic.logs).into_iter();
        let mut logs: Vec<LogInfo> = logs.flat_map(|log| in_parts(log, part)).collect();
        loop {
            let rest = logs.split_off(logs.len().min(part.log_count_max));
            let told = TopicInfo { logs, ..topic.clone() };
            writer.message(Kind::Reply, &Reply::Topic(told)).await?;
            logs = rest;
            if logs.is_empty() {
                break;
            }
        }
    }
    Ok(writer.message(Kind::Reply, &Reply::Done).await?)
}

/// A log with so many of its ranges as a message tells, and then, perhaps, again with the next ones.
fn in_parts(log: LogInfo, part: Part) -> Vec<LogInfo> {
    let count = log.damaged.len().max(log.lost.len()).div_ceil(part.range_count_max);
    let count = if part.is_whole { count.max(1) } else { 1 };
    let of =
        |ranges: &[_], index| ranges.chunks(part.range_count_max).nth(index).unwrap_or_default().to_vec();
    let told = |index| LogInfo {
        damaged: of(&log.damaged, index),
        lost: of(&log.lost, index),
        name: log.name.clone(),
        forks: if index == 0 { log.forks.clone() } else { vec![] },
        ..log
    };
    (0..count).map(told).collect()
}

async fn apply(session: &Session, change: TopicChange) -> Result<TopicChanged, TopicError> {
    if let Err(error) = allowed::change(&session.rights, &change) {
        if matches!(error, TopicError::Forbidden { .. }) {
            session.counters().requests_forbidden.add(1);
        }
        return Err(error);
    }
    session.handle().change_topic(change).await
}

async fn get(
    session: &Session,
    writer: &mut FrameWriter,
    ids: Vec<EntryRef>,
    wait_ms: u64,
) -> Result<(), Ended> {
    if ids.len() > GET_COUNT_MAX || wait_ms > WAIT_MS_MAX {
        let what = format!("at most {GET_COUNT_MAX} ids, and {WAIT_MS_MAX} ms of waiting");
        return Err(Refusal::Limit { what }.into());
    }
    let mut patience = std::pin::pin!(time::sleep(Duration::from_millis(wait_ms)));
    for id in ids {
        let found = loop {
            let found = look(session, &id).await;
            let may_come = matches!(
                found,
                Err(ReadError::IdAhead { .. } | ReadError::IdUnknown { .. } | ReadError::TopicUnknown { .. })
            );
            if !may_come || wait_ms == 0 || patience.is_elapsed() {
                break found;
            }
            writer.flush().await?;
            tokio::select! {
                biased;
                () = writer.stopped() => return Err(Ended::Gone),
                () = &mut patience => {}
                () = changed(session, &id) => {}
            }
        };
        match found {
            Ok(Found { id, signed_run, time, raw }) => {
                put_name(session, writer, id.peer)?;
                put_entry(session, writer, RawEntry { id, signed_run, time, raw }).await?;
            }
            Err(error) => writer.put_message(Kind::Reply, &Reply::Failed(error)).map_err(Refusal::from)?,
        }
    }
    Ok(writer.flush().await?)
}

async fn look(session: &Session, id: &EntryRef) -> Result<Found, ReadError> {
    allowed::read(&session.rights, &id.topic, &ReadFrom::Id(id.clone()))?;
    session.handle().get(id).await
}

/// Waits until the id's topic has more, or for a moment when nothing is known of it here.
async fn changed(session: &Session, id: &EntryRef) {
    let changed = async {
        if let Ok(mut reader) = session.handle().reader(&id.topic, ReadFrom::Now, true).await {
            // What came between the look and this is found by looking again soon.
            reader.changed().await;
        }
    };
    let _ = time::timeout(LOOK_AGAIN, changed).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::FORKS_MAX;
    use crate::base::limits::MESSAGE_BYTES_MAX;
    use crate::base::{PeerId, PeerName, RunId, Seq, Timestamp, TopicName, TopicSettings};
    use crate::wire::message::encode;
    use crate::wire::outcome::{ForkInfo, LogInfo};

    #[test]
    fn a_part_of_a_topic_fits_a_message_however_damaged_its_logs_are() {
        for part in [OF_MANY, OF_ONE] {
            let ranges = vec![(RunId(u64::MAX), Seq(u64::MAX), Seq(u64::MAX)); part.range_count_max];
            let (run, from) = (RunId(u64::MAX), Seq(u64::MAX));
            let fork = ForkInfo { run, signed_run: run, from, branches: vec![run; 2] };
            let log = LogInfo {
                peer: PeerId([255; 32]),
                name: Some(PeerName::new(&"x".repeat(32)).unwrap()),
                run: RunId(u64::MAX),
                run_count: u32::MAX,
                start: Seq(u64::MAX),
                until: Seq(u64::MAX),
                stored_bytes: u64::MAX,
                last_time: Timestamp(u64::MAX),
                damaged: ranges.clone(),
                lost: ranges,
                damaged_count: u64::MAX,
                lost_count: u64::MAX,
                forks: vec![fork; 2 * FORKS_MAX],
            };
            let told = TopicInfo {
                name: TopicName::new(&"x".repeat(200)).unwrap(),
                settings: TopicSettings::default(),
                is_configured: true,
                logs: vec![log; part.log_count_max],
            };
            let bytes = encode(&Reply::Topic(told)).unwrap().len();
            assert!(bytes + 100 < MESSAGE_BYTES_MAX, "{part:?}: {bytes}");
        }
    }
}
