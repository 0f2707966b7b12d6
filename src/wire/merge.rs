//! Putting the batches of several logs in one order, entry by entry, and keeping the cursor behind each.
//!
//! ```text
//! peer a   |1 2 3|4 5|          merged by (time, peer, seq) as far as the sender released:
//! peer b      |7 8|             nothing it sends later comes before `release_until`
//! ```
//!
//! Within a log the order in which batches came is never changed. A gap, or the word that the log is blocked, stands in
//! its log's queue like a batch and is handed out as soon as it is at the front. Used by the client for bulk reads and by a peer for pages, so that a
//! cursor means the same whoever computed it.
use crate::base::{Cursor, PeerId, Position, RunId, Seq, Statement, Timestamp};
use crate::wire::contents::{Contents, RawEntry};
use crate::wire::outcome::{Blocked, Gap};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

/// What a reader gets next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Merged {
    /// An entry.
    Entry(RawEntry),
    /// A range that can never be delivered.
    Gap(Gap),
    /// The log cannot be served further now. The cursor stays before what is missing.
    Blocked(Blocked),
}

#[derive(Debug)]
enum Queued {
    Batch { contents: Contents, index: usize },
    Gap(Gap),
    Blocked(Blocked),
}

impl Queued {
    /// What is no batch has no time and waits for nothing.
    fn time(&self) -> Timestamp {
        match self {
            Self::Batch { contents, index } => contents.time(*index),
            Self::Gap(_) | Self::Blocked(_) => Timestamp::ZERO,
        }
    }
}

/// Merges what a reader received.
#[derive(Debug)]
pub struct Merger {
    cursor: Cursor,
    /// The position touched last, since neighbours mostly are of one log.
    position_hint: usize,
    queues: BTreeMap<PeerId, VecDeque<Queued>>,
    /// The front of each queue that is not empty, earliest first.
    fronts: BinaryHeap<Reverse<(Timestamp, PeerId)>>,
    released_until: Timestamp,
    queued_time_max: Timestamp,
}

impl Merger {
    /// A merger for a read that begins at `cursor`.
    pub fn new(cursor: Cursor) -> Self {
        Self {
            cursor,
            position_hint: 0,
            queues: BTreeMap::new(),
            fronts: BinaryHeap::new(),
            released_until: Timestamp::ZERO,
            queued_time_max: Timestamp::ZERO,
        }
    }

    /// The position behind what [`Self::pop`] handed out.
    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.fronts.is_empty()
    }

    /// Adds a batch, of which entries below `from` are not wanted; whatever comes later begins at `release_until`.
    pub fn push_batch(&mut self, contents: Contents, from: Seq, release_until: Timestamp) {
        let index = from.since(contents.statement().first_seq) as usize;
        if index < contents.entry_count() {
            self.queued_time_max = self.queued_time_max.max(contents.statement().last_time());
            let peer = contents.statement().log.peer;
            self.push(peer, Queued::Batch { contents, index });
        }
        // What an earlier item released was known before this one: the newest word holds.
        self.released_until = release_until;
    }

    /// Adds a gap behind what came of its log before.
    pub fn push_gap(&mut self, gap: Gap) {
        self.push(gap.peer, Queued::Gap(gap));
    }

    /// Adds that a log is blocked behind what came of it before.
    pub fn push_blocked(&mut self, blocked: Blocked) {
        self.push(blocked.peer, Queued::Blocked(blocked));
    }

    /// Nothing more is held where this comes from: all that waits may go, in order.
    pub fn release_all(&mut self) {
        self.released_until = self.queued_time_max.plus(1);
    }

    /// Takes over the position that the sender gives for all it sent, once all of that was handed out. It says the
    /// same in fewer words: it knows which runs go on from which.
    pub fn settle(&mut self, cursor: Cursor) {
        assert!(self.is_empty(), "a cursor is behind what was handed out");
        self.position_hint = 0;
        self.cursor = cursor;
    }

    /// Moves the cursor behind a batch without taking it apart.
    pub fn pass_batch(&mut self, statement: &Statement) {
        self.advance(statement.log.peer, statement.run, statement.until(), parent_of(statement));
    }

    /// Moves the cursor behind a gap.
    pub fn pass_gap(&mut self, gap: &Gap) {
        self.advance(gap.peer, gap.run, gap.until, gap.goes_on_from.map(|parent| (parent, gap.from)));
    }

    fn push(&mut self, peer: PeerId, item: Queued) {
        let queue = self.queues.entry(peer).or_default();
        if queue.is_empty() {
            self.fronts.push(Reverse((item.time(), peer)));
        }
        queue.push_back(item);
    }

    /// The next entry or gap that may be delivered, with the cursor then behind it; or where a log is blocked.
    pub fn pop(&mut self) -> Option<Merged> {
        let Reverse((time, peer)) = *self.fronts.peek()?;
        // Every queue in `fronts` has a front.
        let queue = self.queues.get_mut(&peer)?;
        let merged = match queue.front_mut()? {
            Queued::Gap(gap) => {
                let gap = *gap;
                queue.pop_front();
                self.pass_gap(&gap);
                Merged::Gap(gap)
            }
            Queued::Blocked(blocked) => {
                let blocked = *blocked;
                queue.pop_front();
                Merged::Blocked(blocked)
            }
            Queued::Batch { .. } if time >= self.released_until => return None,
            Queued::Batch { contents, index } => {
                let entry = contents.entry(*index);
                let statement = contents.statement();
                let is_first = entry.id.seq == statement.first_seq;
                let goes_on_from = parent_of(statement).filter(|_| is_first);
                *index += 1;
                if *index == contents.entry_count() {
                    queue.pop_front();
                }
                self.advance(peer, entry.id.run, entry.id.seq.after(1), goes_on_from);
                Merged::Entry(entry)
            }
        };
        self.renew_front(peer);
        Some(merged)
    }

    /// Puts the queue at the top of `fronts` where its new front belongs. Cheap while one log is ahead of the rest.
    fn renew_front(&mut self, peer: PeerId) {
        let front = self.queues.get(&peer).and_then(VecDeque::front).map(Queued::time);
        match (front, self.fronts.peek_mut()) {
            (Some(time), Some(mut top)) => *top = Reverse((time, peer)),
            (None, Some(top)) => {
                std::collections::binary_heap::PeekMut::pop(top);
                self.queues.remove(&peer);
            }
            (_, None) => {}
        }
    }

    /// Moves the position of `(peer, run)` to `next`. A run that opens exactly where its parent was read to takes its
    /// parent's place, since it implies it; else both are listed.
    fn advance(&mut self, peer: PeerId, run: RunId, next: Seq, goes_on_from: Option<(RunId, Seq)>) {
        let positions = &mut self.cursor.positions;
        if let Some(position) = positions.get_mut(self.position_hint)
            && (position.peer, position.run) == (peer, run)
        {
            position.next = next;
            return;
        }
        if let Some((parent, first)) = goes_on_from
            && let Ok(at) = positions.binary_search_by_key(&(peer, parent), |p| (p.peer, p.run))
            && positions[at].next == first
        {
            positions.remove(at);
        }
        let found = positions.binary_search_by_key(&(peer, run), |p| (p.peer, p.run));
        let position = Position { peer, run, next };
        self.position_hint = match found {
            Ok(at) => {
                positions[at] = position;
                at
            }
            Err(at) => {
                positions.insert(at, position);
                at
            }
        };
    }
}

/// What a batch goes on from that a position in it implies, and where. Of a run that forked a branch implies nothing: that it was
/// read there may have been another.
fn parent_of(s: &Statement) -> Option<(RunId, Seq)> {
    (s.opens_run && s.signed.is_none()).then_some((s.parent, s.first_seq))
}

#[cfg(test)]
mod tests;
