//! Pages: single entries cut out of their batches, filtered and counted, with the cursor behind the last one.
//!
//! A page whose key is rare ends before it has looked at everything: with what it found, or nothing, and where it got to.
use super::bulk::fail;
use super::{Ended, Session};
use crate::api::allowed;
use crate::base::{EntryView, PeerId};
use crate::quic::stream::FrameWriter;
use crate::runtime::{ReadItem, TopicReader};
use crate::wire::contents::{Contents, RawEntry};
use crate::wire::data::entry_prefix;
use crate::wire::frame::Kind;
use crate::wire::merge::{Merged, Merger};
use crate::wire::message::{PageRequest, Refusal, Reply, WAIT_MS_MAX};
use crate::wire::outcome::ReadError;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{self, Instant};

/// Bytes of batches taken from the log at once, unpacked, with what their entries cost.
const TAKE_BYTES: usize = 256 << 10;
/// Bytes of batches that a page with a key looks through at most, as they are taken.
const SCAN_BYTES_MAX: usize = 16 << 20;
/// How long a page with a key may look for entries where it was given no longer to wait.
const SCAN_TIME_MIN: Duration = Duration::from_secs(1);
/// An entry below this is copied next to its neighbours instead of being handed to QUIC on its own.
const SMALL_BYTES: usize = 4 << 10;
/// Gathered bytes from which on they are written.
const GATHERED_BYTES_MAX: usize = 64 << 10;

pub(super) async fn serve(
    session: &Session,
    writer: &mut FrameWriter,
    page: PageRequest,
) -> Result<(), Ended> {
    let wait = Duration::from_millis(page.wait_ms.min(WAIT_MS_MAX));
    if let Err(error) = allowed::read(&session.rights, &page.topic, &page.from) {
        return fail(session, writer, error).await;
    }
    let is_known = session.handle().topic(&page.topic).is_some() || page.topic.is_system();
    if !is_known && page.wait_ms == 0 {
        return fail(session, writer, ReadError::TopicUnknown { topic: page.topic }).await;
    }
    if page.wait_ms == 0
        && let Err(error) = session.handle().check_not_ahead(&page.from).await
    {
        return fail(session, writer, error).await;
    }
    match session.handle().reader(&page.topic, page.from.clone(), page.skip_damaged).await {
        Ok(reader) => Sheet::new(session, writer, page, reader).fill(wait).await,
        Err(error) => fail(session, writer, error).await,
    }
}

/// A page under way.
struct Sheet<'a> {
    session: &'a Session,
    writer: &'a mut FrameWriter,
    page: PageRequest,
    reader: TopicReader,
    merger: Merger,
    introduced: BTreeSet<PeerId>,
    entry_count: u32,
    bytes: u64,
    item_count: u32,
    scanned_bytes: usize,
    /// Whether the cursor is further than where the page began.
    has_moved: bool,
}

impl<'a> Sheet<'a> {
    fn new(
        session: &'a Session,
        writer: &'a mut FrameWriter,
        page: PageRequest,
        reader: TopicReader,
    ) -> Self {
        let merger = Merger::new(reader.cursor());
        let introduced = BTreeSet::new();
        Self {
            session,
            writer,
            page,
            reader,
            merger,
            introduced,
            entry_count: 0,
            bytes: 0,
            item_count: 0,
            scanned_bytes: 0,
            has_moved: false,
        }
    }

    async fn fill(mut self, wait: Duration) -> Result<(), Ended> {
        let began = Instant::now();
        let (until, scan_until) = (began + wait, began + wait.max(SCAN_TIME_MIN));
        loop {
            if self.hand_out().await? || self.has_scanned_enough(scan_until) {
                return self.end(false).await;
            }
            let items = match self.reader.next(TAKE_BYTES).await {
                Ok(items) => items,
                Err(error) => return fail(self.session, self.writer, error).await,
            };
            if !items.is_empty() {
                for item in items {
                    self.take(item)?;
                }
                continue;
            }
            if !self.merger.is_empty() {
                self.merger.release_all();
                continue;
            }
            if self.item_count > 0 || Instant::now() >= until {
                return self.end(true).await;
            }
            tokio::select! {
                biased;
                () = self.writer.stopped() => return Err(Ended::Gone),
                // Out of time: one last look, then the page ends.
                _ = time::timeout_at(until, self.reader.changed()) => {}
            }
        }
    }

    fn take(&mut self, item: ReadItem) -> Result<(), Ended> {
        match item {
            ReadItem::Batch { batch, from, release_until } => {
                self.scanned_bytes += batch.cost_bytes();
                match Contents::open(&batch) {
                    Ok(contents) => self.merger.push_batch(contents, from, release_until),
                    // The log hands out what it checked; what fails here is damage it will find by itself.
                    Err(error) => {
                        tracing::error!(%error, "a batch from the log cannot be taken apart");
                        return Err(Ended::Gone);
                    }
                }
            }
            ReadItem::Gap(gap) => self.merger.push_gap(gap),
            ReadItem::Blocked(blocked) => self.merger.push_blocked(blocked),
        }
        Ok(())
    }

    /// Sends what may go. True when the page is full.
    async fn hand_out(&mut self) -> Result<bool, Ended> {
        while !self.is_full() {
            let Some(merged) = self.merger.pop() else { return Ok(false) };
            self.has_moved |= !matches!(merged, Merged::Blocked(_));
            match merged {
                Merged::Gap(gap) => self.tell(&Reply::Gap(gap))?,
                Merged::Blocked(blocked) => self.tell(&Reply::Blocked(blocked))?,
                Merged::Entry(entry) if self.is_wanted(&entry) => self.send(entry).await?,
                Merged::Entry(_) => {}
            }
        }
        Ok(true)
    }

    fn tell(&mut self, reply: &Reply) -> Result<(), Ended> {
        self.item_count += 1;
        self.writer.put_message(Kind::Reply, reply).map_err(|error| Refusal::from(error).into())
    }

    fn is_full(&self) -> bool {
        self.entry_count >= self.page.entry_count_max
            || (self.entry_count > 0 && self.bytes >= self.page.bytes_max)
    }

    /// Whether a page with a key has looked at so much that its client should ask again.
    fn has_scanned_enough(&self, until: Instant) -> bool {
        let is_over = || self.scanned_bytes >= SCAN_BYTES_MAX || Instant::now() >= until;
        self.page.key.is_some() && self.has_moved && is_over()
    }

    fn is_wanted(&self, entry: &RawEntry) -> bool {
        let Some(key) = &self.page.key else { return true };
        EntryView::parse(&entry.raw).is_ok_and(|view| view.key == key)
    }

    async fn send(&mut self, entry: RawEntry) -> Result<(), Ended> {
        self.entry_count += 1;
        self.item_count += 1;
        self.bytes += entry.raw.len() as u64;
        if self.introduced.insert(entry.id.peer) {
            put_name(self.session, self.writer, entry.id.peer)?;
        }
        put_entry(self.session, self.writer, entry).await
    }

    async fn end(self, at_end: bool) -> Result<(), Ended> {
        let cursor = self.merger.cursor().clone();
        Ok(self.writer.message(Kind::Reply, &Reply::PageEnd { cursor, at_end }).await?)
    }
}

/// Says what people call the peer whose entries follow.
pub(super) fn put_name(session: &Session, writer: &mut FrameWriter, peer: PeerId) -> Result<(), Ended> {
    let Some(name) = session.handle().peer_name(&peer) else { return Ok(()) };
    writer.put_message(Kind::Reply, &Reply::Name { peer, name }).map_err(|error| Refusal::from(error).into())
}

pub(super) async fn put_entry(
    session: &Session,
    writer: &mut FrameWriter,
    entry: RawEntry,
) -> Result<(), Ended> {
    session.counters().entries_sent.add(1);
    let prefix = entry_prefix(&entry);
    if entry.raw.len() >= SMALL_BYTES {
        return Ok(writer.object(Kind::Entry, &prefix, entry.raw).await?);
    }
    writer.put_object(Kind::Entry, &prefix, &entry.raw);
    if writer.waiting_bytes() >= GATHERED_BYTES_MAX {
        writer.flush().await?;
    }
    Ok(())
}
