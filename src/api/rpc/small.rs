//! Requests that are one answer: entries by id, topics, status, changes.
use super::bulk::check;
use super::page::{put_entry, put_name};
use super::{Ended, Session};
use crate::base::{EntryRef, NameError, TopicName};
use crate::quic::stream::FrameWriter;
use crate::runtime::Found;
use crate::wire::contents::RawEntry;
use crate::wire::frame::Kind;
use crate::wire::message::{GET_COUNT_MAX, Refusal, Reply, Request, WAIT_MS_MAX};
use crate::wire::outcome::{ReadError, ReadFrom, TopicChange, TopicChanged, TopicError, TopicInfo};
use std::time::Duration;
use tokio::time;

/// Logs told in one message; a topic with more is told in parts.
const LOG_COUNT_MAX: usize = 256;
/// Damaged ranges told of one log.
const DAMAGED_COUNT_MAX: usize = 16;
/// How often an id is looked for that names a topic or log not known here yet.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

pub(super) async fn serve(
    session: &Session,
    writer: &mut FrameWriter,
    request: Request,
) -> Result<(), Ended> {
    let reply = match request {
        Request::Get { ids, wait_ms } => return get(session, writer, ids, wait_ms).await,
        Request::Topics => return topics(session, writer, session.handle().topics()).await,
        Request::Topic { topic } => {
            if !sees(session, &topic) {
                return Err(Refusal::Forbidden.into());
            }
            return topics(session, writer, session.handle().topic(&topic).into_iter().collect()).await;
        }
        Request::Status => {
            let mut status = session.handle().status();
            status.connection_count = session.counters().connections.get();
            Reply::Status(status)
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

/// Whether a client may know of a topic.
fn sees(session: &Session, topic: &TopicName) -> bool {
    let rights = &session.rights;
    rights.allows_read(topic) || rights.allows_write(topic) || rights.allows_admin(topic)
}

async fn topics(session: &Session, writer: &mut FrameWriter, topics: Vec<TopicInfo>) -> Result<(), Ended> {
    for mut topic in topics {
        if !sees(session, &topic.name) {
            continue;
        }
        let mut logs = std::mem::take(&mut topic.logs);
        for log in &mut logs {
            log.damaged.truncate(DAMAGED_COUNT_MAX);
            log.lost.truncate(DAMAGED_COUNT_MAX);
        }
        loop {
            let rest = logs.split_off(logs.len().min(LOG_COUNT_MAX));
            let part = TopicInfo { logs, ..topic.clone() };
            writer.message(Kind::Reply, &Reply::Topic(part)).await?;
            logs = rest;
            if logs.is_empty() {
                break;
            }
        }
    }
    Ok(writer.message(Kind::Reply, &Reply::Done).await?)
}

async fn apply(session: &Session, change: TopicChange) -> Result<TopicChanged, TopicError> {
    let topic = change.topic();
    if topic.is_system() {
        return Err(NameError::TopicReserved.into());
    }
    if !session.rights.allows_admin(topic) {
        session.counters().requests_forbidden.add(1);
        return Err(TopicError::Forbidden { topic: topic.clone() });
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
            Ok(Found { id, time, raw }) => {
                put_name(session, writer, id.peer)?;
                put_entry(session, writer, RawEntry { id, time, raw }).await?;
            }
            Err(error) => writer.put_message(Kind::Reply, &Reply::Failed(error)).map_err(Refusal::from)?,
        }
    }
    Ok(writer.flush().await?)
}

async fn look(session: &Session, id: &EntryRef) -> Result<Found, ReadError> {
    check(session, &id.topic, &ReadFrom::Id(id.clone()))?;
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
