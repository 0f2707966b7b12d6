//! Tails and replays: verified batches, merged, and handed out entry by entry.
//!
//! ```text
//! QUIC stream ─→ Feed: frames, signatures, digests ─→ Merger: order, cursor ─→ Reader: items
//! ```
//!
//! When the connection is lost the feed opens another read behind the merger's cursor; what the merger had not
//! handed out yet is dropped and comes again, so that nothing is repeated or missed.
use crate::base::planted::{self, Bug};
use crate::base::{Batch, Cursor, PeerId, PeerName, Timestamp, TopicName};
use crate::client::connect::Connector;
use crate::client::error::ClientError;
use crate::client::record::{Item, record};
use crate::client::source::{Event, Feed, Wish};
use crate::wire::contents::RawEntry;
use crate::wire::merge::{Merged, Merger};
use crate::wire::outcome::{Blocked, Gap, ReadFrom};
use bytes::Bytes;
use futures_core::Stream;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// A stream of a topic's entries. Ends behind what the peer held, or never when it follows; after an error it ends.
///
/// Holds at most a burst of verified batches: some 2 MiB, more only for single large entries. Dropping it ends the
/// read at the peer. Payloads share the memory of the batch they came in: copy those that are kept for long.
pub struct Reader {
    feed: Feed,
    first: ReadFrom,
    merger: Option<Merger>,
    settled: Option<Cursor>,
    names: BTreeMap<PeerId, PeerName>,
    topic: TopicName,
    key: Option<Bytes>,
    left: u64,
    is_caught_up: bool,
    /// The peer will send no more.
    is_over: bool,
    has_ended: bool,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("topic", &self.topic)
            .field("cursor", &self.cursor())
            .finish_non_exhaustive()
    }
}

impl Reader {
    pub(crate) fn new(connector: Arc<Connector>, wish: Wish) -> Self {
        Self {
            first: wish.from.clone(),
            merger: None,
            settled: None,
            names: BTreeMap::new(),
            topic: wish.topic.clone(),
            key: wish.key.clone(),
            left: wish.entry_count_max,
            is_caught_up: false,
            is_over: false,
            has_ended: false,
            feed: Feed::new(connector, wish),
        }
    }

    /// The position behind the last item: a later read from it, at any peer, goes on there. `None` until the peer
    /// has said where the read begins.
    pub fn cursor(&self) -> Option<&Cursor> {
        self.merger.as_ref().map(Merger::cursor)
    }

    /// Whether everything the peer held when it last said so has been handed out.
    pub fn is_caught_up(&self) -> bool {
        self.is_caught_up && self.merger.as_ref().is_some_and(Merger::is_empty)
    }

    /// The next item. Dropping this future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Item, ClientError>> {
        poll_fn(|context| self.poll_item(context)).await
    }

    fn poll_item(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Item, ClientError>>> {
        loop {
            if self.has_ended || self.left == 0 {
                return Poll::Ready(None);
            }
            if let Some(item) = self.pop() {
                return Poll::Ready(Some(item));
            }
            if self.is_over {
                return Poll::Ready(None);
            }
            let (merger, first) = (&self.merger, &self.first);
            let from = || match merger {
                Some(_) if planted::is(Bug::FailsOverPastTheRest) => ReadFrom::Now,
                Some(merger) if !planted::is(Bug::FailsOverToTheStart) => {
                    ReadFrom::Cursor(merger.cursor().clone())
                }
                _ => first.clone(),
            };
            match ready!(self.feed.poll(from, context)) {
                Ok(events) => events.into_iter().for_each(|event| self.apply(event)),
                Err(error) => {
                    self.has_ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }

    fn pop(&mut self) -> Option<Result<Item, ClientError>> {
        let merger = self.merger.as_mut()?;
        while let Some(merged) = merger.pop() {
            let raw = match merged {
                Merged::Gap(gap) => return Some(Ok(Item::Gap(gap))),
                Merged::Blocked(blocked) => return Some(Ok(Item::Blocked(blocked))),
                Merged::Entry(raw) => raw,
            };
            match item(&self.topic, &self.names, self.key.as_ref(), &raw) {
                Some(Ok(item)) => {
                    self.left -= 1;
                    return Some(Ok(item));
                }
                Some(error) => return Some(error),
                None => {}
            }
        }
        if merger.is_empty()
            && let Some(cursor) = self.settled.take()
        {
            merger.settle(cursor);
        }
        None
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Begun(cursor) => {
                (self.settled, self.is_caught_up) = (None, false);
                self.merger = Some(Merger::new(cursor));
            }
            Event::Peer(peer, name, _) => {
                self.names.insert(peer, name);
            }
            Event::Blocked(blocked) => {
                if let Some(merger) = &mut self.merger {
                    merger.push_blocked(blocked);
                }
            }
            Event::End => self.is_over = true,
            Event::Batch { contents, from, release_until, .. } => {
                // A batch that holds nothing back is the last the peer had.
                (self.settled, self.is_caught_up) = (None, release_until == Timestamp(u64::MAX));
                if let Some(merger) = &mut self.merger {
                    merger.push_batch(contents, from, release_until);
                }
            }
            Event::Gap(gap) => {
                (self.settled, self.is_caught_up) = (None, false);
                if let Some(merger) = &mut self.merger {
                    merger.push_gap(gap);
                }
            }
            Event::CaughtUp(cursor) => {
                (self.settled, self.is_caught_up) = (Some(cursor), true);
                if let Some(merger) = &mut self.merger {
                    merger.release_all();
                }
            }
        }
    }
}

/// The item of an entry; `None` when its key is not the one that is wanted.
fn item(
    topic: &TopicName,
    names: &BTreeMap<PeerId, PeerName>,
    key: Option<&Bytes>,
    raw: &RawEntry,
) -> Option<Result<Item, ClientError>> {
    let Some(record) = record(topic, names.get(&raw.id.peer).cloned(), raw) else {
        return Some(Err(ClientError::unexpected()));
    };
    let is_wanted = key.is_none_or(|key| record.entry.key == *key);
    is_wanted.then_some(Ok(Item::Entry(record)))
}

impl Stream for Reader {
    type Item = Result<Item, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_item(context)
    }
}

/// A batch as its peer signed it, with what proves that it did.
#[derive(Debug, Clone)]
pub struct SignedBatch {
    /// The certificate of the log's peer, in DER.
    pub certificate: Bytes,
    /// The batch; its signature and digests were checked.
    pub batch: Batch,
}

/// What an export holds.
#[derive(Debug, Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are of the large kind, and a box for each costs more"
)]
pub enum Exported {
    /// A batch. Its first entries may lie before the position the export began at: batches are not cut.
    Batch(SignedBatch),
    /// A range that can never be delivered.
    Gap(Gap),
    /// A log that cannot be served further by this peer now.
    Blocked(Blocked),
}

/// A stream of whole batches, in each log's order: what `export` writes to a file. Ends behind what the peer held.
pub struct BatchReader {
    feed: Feed,
    first: ReadFrom,
    merger: Option<Merger>,
    certificates: BTreeMap<PeerId, Bytes>,
    waiting: VecDeque<Exported>,
    has_ended: bool,
}

impl fmt::Debug for BatchReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchReader").field("cursor", &self.cursor()).finish_non_exhaustive()
    }
}

impl BatchReader {
    pub(crate) fn new(connector: Arc<Connector>, wish: Wish) -> Self {
        Self {
            first: wish.from.clone(),
            merger: None,
            certificates: BTreeMap::new(),
            waiting: VecDeque::new(),
            has_ended: false,
            feed: Feed::new(connector, wish),
        }
    }

    /// The position behind what was received.
    pub fn cursor(&self) -> Option<&Cursor> {
        self.merger.as_ref().map(Merger::cursor)
    }

    /// The next batch. Dropping this future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Exported, ClientError>> {
        poll_fn(|context| self.poll_exported(context)).await
    }

    fn poll_exported(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Exported, ClientError>>> {
        loop {
            if let Some(exported) = self.waiting.pop_front() {
                return Poll::Ready(Some(Ok(exported)));
            }
            if self.has_ended {
                return Poll::Ready(None);
            }
            let (merger, first) = (&self.merger, &self.first);
            let from = || merger.as_ref().map_or(first.clone(), |m| ReadFrom::Cursor(m.cursor().clone()));
            match ready!(self.feed.poll(from, context)) {
                Ok(events) => events.into_iter().for_each(|event| self.apply(event)),
                Err(error) => {
                    self.has_ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Begun(cursor) => self.merger = Some(Merger::new(cursor)),
            Event::Peer(peer, _, certificate) => {
                self.certificates.insert(peer, certificate);
            }
            Event::Batch { batch, .. } => {
                if let Some(merger) = &mut self.merger {
                    merger.pass_batch(batch.statement());
                }
                // The feed refuses a batch whose peer's certificate did not come before it.
                let certificate =
                    self.certificates.get(&batch.statement().log.peer).cloned().unwrap_or_default();
                self.waiting.push_back(Exported::Batch(SignedBatch { certificate, batch }));
            }
            Event::Gap(gap) => {
                if let Some(merger) = &mut self.merger {
                    merger.pass_gap(&gap);
                }
                self.waiting.push_back(Exported::Gap(gap));
            }
            Event::Blocked(blocked) => self.waiting.push_back(Exported::Blocked(blocked)),
            Event::CaughtUp(_) => {}
            Event::End => self.has_ended = true,
        }
    }
}

impl Stream for BatchReader {
    type Item = Result<Exported, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_exported(context)
    }
}
