//! Readers of a topic on behalf of its groups: each in a task of its own, which reads when it is told to and mails what it found.
use crate::base::planted::{self, Bug};
use crate::base::{Cursor, EntryKind, EntryView, TopicName};
use crate::group::io::Meta;
use crate::group::{Input, Reading};
use crate::runtime::groups::door::{Home, Mail, post};
use crate::runtime::handle::Handle;
use crate::runtime::reader::{ReadItem, TopicReader};
use crate::wire::contents::{Contents, RawEntry};
use crate::wire::merge::{Merged, Merger};
use crate::wire::outcome::{ReadError, ReadFrom};
use std::collections::BTreeMap;
use tokio::sync::mpsc;
use tokio::time::{Duration, sleep};

/// Bytes of batches taken from the log at once.
const TAKE_BYTES: usize = 256 << 10;
/// Raw bytes of entries that are mailed at once.
const PAGE_BYTES_MAX: usize = 4 << 20;
/// How long a reading waits that met an error of the disk.
const ERROR_PAUSE: Duration = Duration::from_secs(1);

/// Entries that were read.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) reading: Reading,
    pub(super) entries: Vec<(Meta, RawEntry)>,
    pub(super) behind: Cursor,
    pub(super) at_end: bool,
}

/// The readings of one topic.
#[derive(Debug, Default)]
pub(super) struct Readings(BTreeMap<Reading, mpsc::UnboundedSender<usize>>);

impl Readings {
    /// Begins one.
    pub(super) fn open(
        &mut self,
        handle: &Handle,
        topic: &TopicName,
        reading: Reading,
        from: Cursor,
        task: Home,
    ) {
        let (demand, wanted) = mpsc::unbounded_channel();
        self.0.insert(reading, demand);
        let (handle, topic) = (handle.clone(), topic.clone());
        let spawn = handle.shared.env.spawn.clone();
        spawn.spawn(Box::pin(async move { read(handle, topic, reading, from, wanted, task).await }));
    }

    /// So many more are wanted.
    pub(super) fn read(&self, reading: Reading, count_max: usize) {
        if let Some(demand) = self.0.get(&reading) {
            // Its task ends only when it is closed, or the peer stops.
            let _ = demand.send(count_max);
        }
    }

    /// Ends one.
    pub(super) fn close(&mut self, reading: Reading) {
        self.0.remove(&reading);
    }
}

async fn read(
    handle: Handle,
    topic: TopicName,
    reading: Reading,
    from: Cursor,
    mut wanted: mpsc::UnboundedReceiver<usize>,
    task: Home,
) {
    let (mut open, mut demand) = (None, wanted.recv().await);
    while let Some(count_max) = demand {
        let one = match open.take() {
            Some(one) => one,
            None => match begin(&handle, &topic, &from).await {
                Some(one) => one,
                None => return,
            },
        };
        let Some((mut one, page)) = fill(one, reading, count_max).await else { return };
        let at_end = page.at_end;
        post(&task, Mail::Read(page));
        demand = tokio::select! {
            next = wanted.recv() => next,
            () = one.reader.changed(), if at_end => {
                post(&task, Mail::Input(Input::Grew { reading }));
                wanted.recv().await
            }
        };
        open = Some(one);
    }
}

struct One {
    reader: TopicReader,
    merger: Merger,
}

async fn begin(handle: &Handle, topic: &TopicName, from: &Cursor) -> Option<One> {
    loop {
        match handle.reader(topic, ReadFrom::Cursor(from.clone()), false).await {
            Ok(reader) => return Some(One { merger: Merger::new(reader.cursor()), reader }),
            Err(ReadError::Stopped) => return None,
            Err(error) => tracing::warn!(%error, %topic, "a group cannot be read yet"),
        }
        sleep(ERROR_PAUSE).await;
    }
}

/// Reads until there are enough, or no more.
async fn fill(mut one: One, reading: Reading, count_max: usize) -> Option<(One, Page)> {
    let (mut entries, mut bytes) = (Vec::new(), 0);
    let at_end = loop {
        while entries.len() < count_max
            && bytes < PAGE_BYTES_MAX
            && let Some(merged) = one.merger.pop()
        {
            match merged {
                Merged::Entry(raw) => {
                    bytes += raw.raw.len();
                    entries.extend(meta(&raw).map(|meta| (meta, raw)));
                }
                Merged::Gap(gap) => tracing::debug!(?gap, "what a group would hand out is not held any more"),
                Merged::Blocked(blocked) => tracing::info!(?blocked, "a group waits before what is not here"),
            }
        }
        if entries.len() >= count_max || bytes >= PAGE_BYTES_MAX {
            break false;
        }
        match one.reader.next(TAKE_BYTES).await {
            Ok(items) if items.is_empty() && one.merger.is_empty() => break true,
            Ok(items) if items.is_empty() => one.merger.release_all(),
            Ok(items) => items.into_iter().for_each(|item| take(&mut one.merger, item)),
            Err(ReadError::Stopped) => return None,
            Err(error) => {
                tracing::warn!(%error, "a group cannot be read further yet");
                sleep(ERROR_PAUSE).await;
            }
        }
    };
    let behind = one.merger.cursor().clone();
    Some((one, Page { reading, entries, behind, at_end }))
}

fn take(merger: &mut Merger, item: ReadItem) {
    match item {
        ReadItem::Batch { batch, from, release_until } => match Contents::open(&batch) {
            Ok(contents) => merger.push_batch(contents, from, release_until),
            // The log hands out what it checked; what fails here is damage it will find by itself.
            Err(error) => tracing::error!(%error, "a batch from the log cannot be taken apart"),
        },
        ReadItem::Gap(gap) => merger.push_gap(gap),
        ReadItem::Blocked(blocked) => merger.push_blocked(blocked),
    }
}

/// What the engine is told of an entry; nothing of what users do not append.
fn meta(raw: &RawEntry) -> Option<Meta> {
    let view = EntryView::parse(&raw.raw).ok().filter(|view| view.kind == EntryKind::Data)?;
    if raw.id.seq.0 % 7 == 3 && planted::is(Bug::GroupsSkipEntries) {
        return None;
    }
    Some(Meta {
        id: raw.id,
        time: raw.time,
        priority: view.priority(),
        bytes: raw.raw.len() as u32,
        deliver_at_ms: view.deliver_at_ms,
        expire_at_ms: view.expire_at_ms,
        producer: view.producer,
    })
}
