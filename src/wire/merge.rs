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
        let goes_on_from = statement.opens_run.then_some((statement.parent, statement.first_seq));
        self.advance(statement.log.peer, statement.run, statement.until(), goes_on_from);
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
                let goes_on_from = (statement.opens_run && entry.id.seq == statement.first_seq)
                    .then_some((statement.parent, statement.first_seq));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::TopicId;
    use crate::base::batch::state;
    use crate::base::{Batch, Chunk, ChunkBuilder, ClusterId, Codec, Digest, Entry, LogId, Signature};
    use crate::wire::outcome::{BlockedReason, GapReason};

    const TOPIC: TopicId = TopicId([1; 16]);

    fn contents(peer: u8, run: u64, parent: u64, first_seq: u64, time: u64, count: usize) -> Contents {
        let mut builder = ChunkBuilder::new();
        for _ in 0..count {
            builder.push(&Entry::from("x")).unwrap();
        }
        let chunks = [Chunk::parse(builder.finish(Codec::None)).unwrap()];
        let starts_log = first_seq == 1;
        let blank = Statement {
            log: LogId { topic: TOPIC, peer: PeerId([peer; 32]) },
            run: RunId(run),
            parent: RunId(parent),
            opens_run: starts_log || parent != 0,
            first_seq: Seq(first_seq),
            first_time: Timestamp(time),
            entry_count: 0,
            raw_bytes: 0,
            previous: if starts_log { Digest::ZERO } else { Digest([1; 32]) },
            root: Digest::ZERO,
        };
        let batch = Batch::assemble(state(&blank, &chunks), Signature([0; 64]), &chunks);
        Contents::check(&batch).unwrap()
    }

    fn merger() -> Merger {
        Merger::new(Cursor::start(ClusterId([9; 16]), TOPIC))
    }

    /// What comes out, as (peer, seq); what is no entry as (peer, 0).
    fn drain(merger: &mut Merger) -> Vec<(u8, u64)> {
        std::iter::from_fn(|| merger.pop())
            .map(|merged| match merged {
                Merged::Entry(entry) => (entry.id.peer.0[0], entry.id.seq.0),
                Merged::Gap(gap) => (gap.peer.0[0], 0),
                Merged::Blocked(blocked) => (blocked.peer.0[0], 0),
            })
            .collect()
    }

    fn positions(merger: &Merger) -> Vec<(u8, u64, u64)> {
        merger.cursor().positions.iter().map(|p| (p.peer.0[0], p.run.0, p.next.0)).collect()
    }

    #[test]
    fn logs_are_merged_by_time_as_far_as_the_sender_released() {
        let mut m = merger();
        m.push_batch(contents(2, 1, 0, 1, 10, 3), Seq(1), Timestamp(11));
        assert_eq!(drain(&mut m), [(2, 1)], "the rest waits for what another log may still bring");
        m.push_batch(contents(1, 1, 0, 1, 11, 3), Seq(1), Timestamp(12));
        assert_eq!(drain(&mut m), [(1, 1), (2, 2)], "of equal times the lower peer goes first");
        m.release_all();
        assert_eq!(drain(&mut m), [(1, 2), (2, 3), (1, 3)]);
        assert_eq!(positions(&m), [(1, 1, 4), (2, 1, 4)]);
        assert!(m.is_empty());
    }

    #[test]
    fn what_one_item_released_does_not_hold_for_what_came_later() {
        let mut m = merger();
        m.push_batch(contents(1, 1, 0, 1, 10, 1), Seq(1), Timestamp(u64::MAX));
        assert_eq!(drain(&mut m), [(1, 1)]);
        m.push_batch(contents(1, 1, 0, 2, 20, 2), Seq(2), Timestamp(21));
        assert_eq!(drain(&mut m), [(1, 2)], "another log has written meanwhile, and comes next");
        m.push_batch(contents(2, 1, 0, 1, 21, 1), Seq(1), Timestamp(u64::MAX));
        assert_eq!(drain(&mut m), [(1, 3), (2, 1)]);
    }

    #[test]
    fn of_two_items_the_later_says_how_much_is_released_be_it_more_or_less() {
        let cases = [(12, 31, vec![(1, 1), (1, 2), (1, 3), (2, 1)]), (31, 12, vec![(1, 1), (1, 2)])];
        for (first, second, released) in cases {
            let mut m = merger();
            m.push_batch(contents(1, 1, 0, 1, 10, 3), Seq(1), Timestamp(first));
            m.push_batch(contents(2, 1, 0, 1, 30, 1), Seq(1), Timestamp(second));
            assert_eq!(drain(&mut m), released, "{first}, then {second}");
            m.release_all();
            assert_eq!(drain(&mut m).len(), 4 - released.len());
        }
    }

    #[test]
    fn entries_below_the_position_are_passed_over() {
        let mut m = merger();
        m.push_batch(contents(1, 1, 0, 1, 10, 5), Seq(4), Timestamp(99));
        m.push_batch(contents(1, 1, 0, 1, 10, 5), Seq(9), Timestamp(99));
        assert_eq!(drain(&mut m), [(1, 4), (1, 5)]);
    }

    #[test]
    fn within_a_log_order_holds_even_when_a_clock_was_set_back() {
        let mut m = merger();
        m.push_batch(contents(1, 1, 0, 1, 100, 2), Seq(1), Timestamp(0));
        m.push_batch(contents(1, 2, 1, 3, 50, 2), Seq(3), Timestamp(0));
        m.push_batch(contents(2, 7, 0, 1, 60, 1), Seq(1), Timestamp(0));
        m.release_all();
        assert_eq!(drain(&mut m), [(2, 1), (1, 1), (1, 2), (1, 3), (1, 4)]);
        assert_eq!(positions(&m), [(1, 2, 5), (2, 7, 2)], "the child run stands for its parent");
    }

    #[test]
    fn a_run_that_branches_off_a_point_already_passed_is_listed_beside_the_other() {
        let mut m = merger();
        m.push_batch(contents(1, 1, 0, 1, 10, 4), Seq(1), Timestamp(99));
        m.push_batch(contents(1, 2, 1, 3, 20, 2), Seq(3), Timestamp(99));
        assert_eq!(drain(&mut m).len(), 6);
        assert_eq!(positions(&m), [(1, 1, 5), (1, 2, 5)]);
    }

    #[test]
    fn a_gap_comes_in_its_logs_order_and_moves_the_cursor() {
        let mut m = merger();
        let gap = |from, until| Gap {
            peer: PeerId([1; 32]),
            run: RunId(1),
            from: Seq(from),
            until: Seq(until),
            reason: GapReason::Trimmed,
            goes_on_from: None,
        };
        m.push_gap(gap(1, 3));
        assert_eq!(drain(&mut m), [(1, 0)]);
        assert_eq!(positions(&m), [(1, 1, 3)]);
        m.push_batch(contents(1, 1, 0, 3, 30, 1), Seq(3), Timestamp(0));
        m.push_gap(gap(4, 9));
        assert_eq!(drain(&mut m), [], "the gap lies behind an entry that still waits");
        m.release_all();
        assert_eq!(drain(&mut m), [(1, 3), (1, 0)]);
        assert_eq!(positions(&m), [(1, 1, 9)]);
    }

    #[test]
    fn a_run_of_which_a_gap_is_all_stands_for_its_parent_like_one_that_came() {
        let mut m = merger();
        let gap = |run, from, until, parent: Option<u64>| Gap {
            peer: PeerId([1; 32]),
            run: RunId(run),
            from: Seq(from),
            until: Seq(until),
            reason: GapReason::Trimmed,
            goes_on_from: parent.map(RunId),
        };
        m.push_gap(gap(1, 1, 3, None));
        m.push_gap(gap(2, 3, 9, Some(1)));
        assert_eq!(drain(&mut m), [(1, 0), (1, 0)]);
        assert_eq!(positions(&m), [(1, 2, 9)]);
        m.push_gap(gap(3, 7, 8, Some(2)));
        m.push_gap(gap(4, 9, 11, None));
        m.push_gap(gap(5, 11, 12, Some(4)));
        assert_eq!(drain(&mut m).len(), 3);
        assert_eq!(positions(&m), [(1, 2, 9), (1, 3, 8), (1, 5, 12)], "a branch implies nothing behind it");
    }

    #[test]
    fn a_log_is_blocked_behind_its_entries_and_the_cursor_stays_there() {
        let mut m = merger();
        m.push_batch(contents(1, 1, 0, 1, 30, 2), Seq(1), Timestamp(0));
        let (peer, run, from, until) = (PeerId([1; 32]), RunId(1), Seq(3), Seq(4));
        m.push_blocked(Blocked { peer, run, from, until, reason: BlockedReason::Damaged });
        assert_eq!(drain(&mut m), [], "it lies behind entries that still wait");
        m.push_batch(contents(2, 7, 0, 1, 31, 2), Seq(1), Timestamp(0));
        m.release_all();
        assert_eq!(drain(&mut m), [(1, 1), (1, 2), (1, 0), (2, 1), (2, 2)]);
        assert_eq!(positions(&m), [(1, 1, 3), (2, 7, 3)]);
        assert!(m.is_empty());
    }
}
