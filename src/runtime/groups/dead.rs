//! Entries that go to another topic: dead letters, and what expired. Each is what it was, with headers that say where it is from.
use crate::base::limits::PRODUCER_WINDOW;
use crate::base::name::PeerRef;
use crate::base::{Entry, EntryId, EntryRef, GroupName, ProducerId, TopicName};
use crate::group::write::Done;
use crate::group::{Input, Ticket};
use crate::runtime::groups::door::{Home, Mail, post};
use crate::runtime::groups::stored::one;
use crate::runtime::handle::Handle;
use crate::wire::contents::RawEntry;
use crate::wire::outcome::{AppendError, ReadError};
use bytes::Bytes;

/// What is to be copied where.
#[derive(Debug)]
pub(super) struct Copying {
    pub(super) ticket: Ticket,
    pub(super) id: EntryId,
    pub(super) to: TopicName,
    pub(super) group: GroupName,
    pub(super) why: Done,
    pub(super) attempts: u32,
}

/// Copies, and mails the outcome.
pub(super) fn copy(
    handle: &Handle,
    topic: &TopicName,
    copying: Copying,
    known: Option<RawEntry>,
    task: Home,
) {
    let (handle, topic) = (handle.clone(), topic.clone());
    let spawn = handle.shared.env.spawn.clone();
    spawn.spawn(Box::pin(async move {
        let ticket = copying.ticket;
        let is_done = carry(&handle, &topic, &copying, known).await;
        if let Err(error) = &is_done {
            tracing::warn!(%error, to = %copying.to, id = ?copying.id, "an entry cannot be set aside in another topic yet");
        }
        post(&task, Mail::Input(Input::Copied { ticket, is_done: is_done.is_ok() }));
    }));
}

async fn carry(
    handle: &Handle,
    topic: &TopicName,
    copying: &Copying,
    known: Option<RawEntry>,
) -> Result<(), AppendError> {
    let raw = match known {
        Some(raw) => raw,
        None => match fetch(handle, topic, copying.id).await {
            Ok(raw) => raw,
            // What is not held any more cannot be kept anywhere.
            Err(ReadError::IdTrimmed { .. } | ReadError::IdLost { .. }) => return Ok(()),
            Err(error) => return Err(AppendError::Stopped { reason: error.to_string() }),
        },
    };
    let Ok(mut entry) = raw.entry() else { return Ok(()) };
    let why = match copying.why {
        Done::Expired => "expired",
        _ => "exhausted",
    };
    let said = [
        ("conveyor-from", reference(topic, &raw.id).to_string()),
        ("conveyor-group", copying.group.to_string()),
        ("conveyor-why", why.to_owned()),
        ("conveyor-attempts", copying.attempts.to_string()),
    ];
    entry.headers.retain(|(name, _)| !said.iter().any(|(ours, _)| ours == name));
    entry.headers.truncate(crate::base::limits::HEADER_COUNT_MAX - said.len());
    entry.headers.extend(said.map(|(name, value)| (name.to_owned(), Bytes::from(value))));
    // The same copy made again, after an answer that was lost, is stored once.
    entry.producer = Some((producer(&copying.group, &raw.id), raw.id.seq.0));
    (entry.deliver_at_ms, entry.expire_at_ms) = (None, None);
    match handle.append(copying.to.clone(), None, one(&bounded(entry.clone()))?).await {
        // Perhaps it is there; twice is better than never.
        Err(AppendError::ProducerForgotten { .. } | AppendError::ProducerMixed { .. }) => {
            entry.producer = None;
            handle.append(copying.to.clone(), None, one(&bounded(entry))?).await.map(drop)
        }
        appended => appended.map(drop),
    }
}

/// One whose headers leave no room for ours keeps only those.
fn bounded(entry: Entry) -> Entry {
    match one(&entry) {
        Ok(_) => entry,
        Err(_) => {
            let headers =
                entry.headers.iter().filter(|(name, _)| name.starts_with("conveyor-")).cloned().collect();
            Entry { headers, ..entry }
        }
    }
}

/// Who copies entries of a run for a group, as far as retries are concerned.
fn producer(group: &GroupName, id: &EntryId) -> ProducerId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"CV-dead.").update(group.as_str().as_bytes()).update(&id.topic.0).update(&id.peer.0);
    hasher.update(&id.run.0.to_le_bytes());
    // A peer knows so many numbers of a producer: none that is copied late lies further back.
    hasher.update(&(id.seq.0 / PRODUCER_WINDOW).to_le_bytes());
    let [a, b, c, d, e, f, g, h, ..] = *hasher.finalize().as_bytes();
    ProducerId(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
}

/// The id in full.
pub(super) fn reference(topic: &TopicName, id: &EntryId) -> EntryRef {
    EntryRef {
        topic: topic.clone(),
        peer: PeerRef::Key(id.peer),
        run: id.run.to_string(),
        signed_run: None,
        seq: id.seq,
    }
}

/// An entry by its id.
pub(super) async fn fetch(handle: &Handle, topic: &TopicName, id: EntryId) -> Result<RawEntry, ReadError> {
    let found = handle.get(&reference(topic, &id)).await?;
    Ok(RawEntry { id: found.id, signed_run: found.signed_run, time: found.time, raw: found.raw })
}
