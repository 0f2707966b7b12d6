//! `$groups/<topic>`: its tail, and the appends of the engine in their order.
use crate::base::planted::{self, Bug};
use crate::base::{
    Chunk, ChunkBuilder, ChunkError, Codec, Durability, Entry, EntryId, EntryKind, TopicId, TopicName,
};
use crate::group::{GroupWrite, Input, Ticket};
use crate::runtime::groups::door::{Home, Mail, post};
use crate::runtime::handle::Handle;
use crate::runtime::reader::ReadItem;
use crate::wire::outcome::{AppendError, ReadError, ReadFrom};
use tokio::sync::mpsc;
use tokio::time::{Duration, sleep};

/// Bytes of batches taken from the log at once.
const TAKE_BYTES: usize = 256 << 10;
const ERROR_PAUSE: Duration = Duration::from_secs(1);

/// Brings what is held of `$groups/<topic>`, then [`Input::CaughtUp`], then what comes.
pub(super) fn tail(handle: &Handle, topic: &TopicName, written: mpsc::Sender<Input>) {
    let (handle, of_groups) = (handle.clone(), topic.of_groups());
    let spawn = handle.shared.env.spawn.clone();
    spawn.spawn(Box::pin(async move {
        // It ends when the task is gone, or the peer stops.
        follow(&handle, &of_groups, &written).await;
    }));
}

async fn follow(handle: &Handle, of_groups: &TopicName, written: &mpsc::Sender<Input>) -> Option<()> {
    let mut reader = loop {
        match handle.reader(of_groups, ReadFrom::Start, false).await {
            Ok(reader) => break reader,
            Err(ReadError::Stopped) => return None,
            Err(error) => tracing::warn!(%error, topic = %of_groups, "groups cannot be read yet"),
        }
        sleep(ERROR_PAUSE).await;
    };
    let mut is_caught_up = false;
    loop {
        let items = match reader.next(TAKE_BYTES).await {
            Ok(items) => items,
            Err(ReadError::Stopped) => return None,
            Err(error) => {
                tracing::warn!(%error, topic = %of_groups, "groups cannot be read further yet");
                sleep(ERROR_PAUSE).await;
                continue;
            }
        };
        if items.is_empty() {
            if !std::mem::replace(&mut is_caught_up, true) {
                written.send(Input::CaughtUp).await.ok()?;
            }
            tokio::select! {
                () = reader.changed() => {}
                () = written.closed() => return None,
            }
            continue;
        }
        for item in items {
            for input in writes(item, of_groups) {
                written.send(input).await.ok()?;
            }
        }
    }
}

fn writes(item: ReadItem, of_groups: &TopicName) -> Vec<Input> {
    let mut found = Vec::new();
    let ReadItem::Batch { batch, from, .. } = item else { return found };
    let walked = batch.for_each_entry(|id, time, view| {
        if id.seq >= from && view.kind == EntryKind::Group {
            match GroupWrite::decode(view.payload) {
                Some(GroupWrite::Ack { .. }) if planted::is(Bug::AcksForgotten) => {}
                Some(write) => found.push(Input::Written { id, time, write }),
                None => tracing::warn!(entry = ?id, topic = %of_groups, "an entry makes no sense here and was left out"),
            }
        }
        true
    });
    if let Err(error) = walked {
        tracing::error!(%error, topic = %of_groups, "a batch cannot be taken apart");
    }
    found
}

/// Appends what it is sent, in that order, many of them under way.
pub(super) fn appender(
    handle: &Handle,
    topic: &TopicName,
    task: Home,
) -> mpsc::UnboundedSender<(Ticket, GroupWrite)> {
    let (send, mut wanted) = mpsc::unbounded_channel::<(Ticket, GroupWrite)>();
    let (handle, of_groups) = (handle.clone(), topic.of_groups());
    let spawn = handle.shared.env.spawn.clone();
    let spawner = spawn.clone();
    spawn.spawn(Box::pin(async move {
        let id = TopicId::of(handle.about().cluster, of_groups.as_str());
        while let Some((ticket, write)) = wanted.recv().await {
            let submitted = match chunk(&write) {
                Ok(chunk) => handle.submit(of_groups.clone(), Some(Durability::Fsync), chunk).await,
                Err(error) => Err(error),
            };
            let task = task.clone();
            match submitted {
                Ok(waits) => spawner.spawn(Box::pin(async move {
                    let named = |done: crate::wire::outcome::Appended| {
                        let (peer, run, seq) = (done.peer, done.run, done.first_seq);
                        (EntryId { topic: id, peer, run, seq }, done.first_time)
                    };
                    let result = waits.await.map(named);
                    post(&task, Mail::Input(Input::Appended { ticket, result }));
                })),
                Err(error) => post(&task, Mail::Input(Input::Appended { ticket, result: Err(error) })),
            }
        }
    }));
    send
}

fn chunk(write: &GroupWrite) -> Result<Chunk, AppendError> {
    one(&Entry { kind: EntryKind::Group, ..Entry::from(write.encode()) })
}

/// A chunk of one entry.
pub(super) fn one(entry: &Entry) -> Result<Chunk, AppendError> {
    let mut builder = ChunkBuilder::new();
    builder.push(entry).map_err(|error| ChunkError::Entry { index: 0, error })?;
    Ok(Chunk::parse(builder.finish(Codec::None))?)
}
