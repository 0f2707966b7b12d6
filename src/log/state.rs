//! What is known of one log: its runs, where its batches lie, what is trimmed, damaged or lost.
//!
//! ```text
//! runs     r1 [1..40)  <── r2 [40..90)  <── r3 [90..95)        each names the one it goes on from
//! spans    r1 1..40 in segment 0 │ r2 40..70 in segment 0, 70..90 in segment 1 │ r3 90..95 in segment 1
//! tail     the newest batches, still in memory: those not flushed yet, and some that are
//! ```
//!
//! Plain data: it reads no file. The writer changes it when a step is durable, readers look at it for a moment.
use crate::base::{Batch, Digest, Lost, RunId, Seq, Signature, Statement, Timestamp};
use crate::log::heads::Heads;
use crate::log::place::Place;
use crate::log::runs::Runs;
use crate::log::tail::Tail;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A stretch of the log between two starts of its peer, as far as it is held here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Its name.
    pub id: RunId,
    /// The run it goes on from.
    pub parent: RunId,
    /// Its first number.
    pub from: Seq,
    /// The number behind the last one known.
    pub until: Seq,
    /// Everything below this is trimmed. Only ever grows.
    pub start: Seq,
    /// The time of the last entry known.
    pub last_time: Timestamp,
    /// What the next batch names as `previous`.
    pub link: Digest,
}

/// Neighbouring batches of one run in one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The run.
    pub run: RunId,
    /// The segment.
    pub segment: u32,
    /// The first number.
    pub from: Seq,
    /// The number behind the last.
    pub until: Seq,
    /// The first byte.
    pub offset: u64,
    /// The byte behind the last.
    pub end: u64,
    /// The time of the first entry.
    pub first_time: Timestamp,
    /// The time of the last.
    pub last_time: Timestamp,
}

/// Numbers of a run that are not here although they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    /// The run.
    pub run: RunId,
    /// The first number.
    pub from: Seq,
    /// The number behind the last.
    pub until: Seq,
}

impl Range {
    fn holds(&self, run: RunId, seq: Seq) -> bool {
        self.run == run && (self.from..self.until).contains(&seq)
    }
}

/// A batch that is in memory, and whether it is in its segment too.
#[derive(Debug, Clone)]
pub struct TailBatch {
    /// The batch.
    pub batch: Batch,
    /// Where it lies or will lie.
    pub place: Place,
    /// Whether its bytes can be read from the segment.
    pub is_flushed: Arc<AtomicBool>,
}

/// What is known of one log.
#[derive(Debug, Clone, Default)]
pub struct LogState {
    /// In the order in which they were heard of; the last is what the log's own peer goes on from, but for the next field.
    pub runs: Runs,
    /// What the log's own peer goes on from when it is not the last that was heard of.
    pub goes_on_from: Option<RunId>,
    /// In order of run (as in `runs`), then of number.
    pub spans: Vec<Span>,
    /// The first number kept along the log's own chain.
    pub start: Seq,
    /// What its peer signed about its runs.
    pub heads: Heads,
    /// Ranges that were found damaged.
    pub damaged: Vec<Range>,
    /// Ranges that were declared lost.
    pub lost: Vec<(Lost, Signature)>,
    /// Newest batches in memory, oldest first.
    pub tail: Tail,
    /// Where the next batch goes.
    pub next_place: Option<Place>,
    /// What lies in segments below this one a durable checkpoint knows of: they may go when they are trimmed.
    pub covered: u32,
}

/// Where the entry with a number is to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// In memory: this place of the tail.
    Tail(usize),
    /// In a segment: this span; bytes from `readable_end` on are not flushed yet.
    Span {
        /// The span.
        span: Span,
        /// The end of what can be read from the file.
        readable_end: u64,
    },
    /// Damaged here, up to this number.
    Damaged(Seq),
    /// Declared lost, up to this number.
    Lost(Seq),
    /// Not held, although later numbers are, up to this number.
    Absent(Seq),
    /// Behind the end of the run as it is known here.
    Beyond,
}

impl LogState {
    /// A log of which nothing is known.
    pub fn new() -> Self {
        Self { start: Seq::FIRST, ..Self::default() }
    }

    /// The run called `id`.
    pub fn run(&self, id: RunId) -> Option<&Run> {
        self.runs.get_by_id(id)
    }

    /// The spans of a run, in order of number.
    pub fn spans_of(&self, run: RunId) -> &[Span] {
        &self.spans[self.span_range(run)]
    }

    fn span_range(&self, run: RunId) -> std::ops::Range<usize> {
        let Some(index) = self.runs.index_of(run) else { return 0..0 };
        let from = self.spans.partition_point(|span| self.runs.index_of(span.run) < Some(index));
        let until = self.spans.partition_point(|span| self.runs.index_of(span.run) <= Some(index));
        from..until
    }

    /// What the log's own peer goes on from.
    pub fn tip(&self) -> Option<&Run> {
        self.goes_on_from.and_then(|run| self.run(run)).or(self.runs.last())
    }

    /// Bytes of the batches held, as stored.
    pub fn stored_bytes(&self) -> u64 {
        self.spans.iter().map(|span| span.end - span.offset).sum()
    }

    /// The number behind the newest entry along the log's own chain; 1 when there never was one.
    pub fn until(&self) -> Seq {
        self.tip().map_or(Seq::FIRST, |run| run.until)
    }

    /// Whether `ancestor` is `run` or lies on the way back from it.
    pub fn is_ancestor(&self, ancestor: RunId, run: RunId) -> bool {
        let (mut at, mut steps) = (run, 0);
        while at != ancestor {
            match self.run(at) {
                // A chain of runs is at most as long as the runs that are known.
                Some(run) if steps <= self.runs.len() => at = run.parent,
                _ => return false,
            }
            steps += 1;
        }
        true
    }

    /// The first number of `run` that is not trimmed.
    pub fn start_of(&self, run: &Run) -> Seq {
        run.from.max(run.start.min(run.until))
    }

    /// The first number of `run` that readers may miss: below it all is trimmed, whether it ever came here or not.
    pub fn begin_of(&self, run: &Run) -> Seq {
        run.from.max(run.start)
    }

    /// Whether a batch with this statement is held already, whole.
    pub fn holds(&self, s: &Statement) -> bool {
        self.spans_of(s.run).iter().any(|span| span.from <= s.first_seq && s.until() <= span.until)
    }

    /// Whether a batch with this statement is known to lie at `place`.
    pub fn holds_at(&self, s: &Statement, place: Place) -> bool {
        let is_in =
            |span: &Span| span.segment == place.segment && (span.offset..span.end).contains(&place.offset);
        let holds = |span: &Span| span.from <= s.first_seq && s.until() <= span.until;
        self.spans_of(s.run).iter().any(|span| is_in(span) && holds(span))
    }

    /// Whether a batch with this statement comes next in its run, or opens it where the run before it ends here.
    pub fn goes_on_with(&self, s: &Statement) -> bool {
        let before = self.run(s.run).or_else(|| self.run(s.parent));
        match before {
            Some(run) => run.until == s.first_seq && run.link == s.previous,
            None => s.first_seq == Seq::FIRST,
        }
    }

    /// Whether a segment holds anything that is kept, or takes the next batch.
    pub fn uses(&self, segment: u32) -> bool {
        let start_of = |id: RunId| self.run(id).map_or(Seq::FIRST, |run| self.start_of(run));
        self.spans.iter().any(|span| span.segment == segment && span.until > start_of(span.run))
    }

    /// Takes note of a batch that lies at `place` and has `bytes`.
    pub fn add(&mut self, s: &Statement, link: Digest, place: Place, bytes: u64) {
        self.add_run(s, link);
        subtract(&mut self.damaged, Range { run: s.run, from: s.first_seq, until: s.until() });
        let end = place.offset + bytes;
        let goes_on = |span: &Span| {
            span.segment == place.segment && span.until == s.first_seq && span.end == place.offset
        };
        let of_run = self.span_range(s.run);
        // Appends go to the end; what is fetched later may go on from any span.
        if let Some(span) = self.spans[of_run.clone()].iter_mut().rev().find(|span| goes_on(span)) {
            span.until = s.until();
            span.end = end;
            span.last_time = s.last_time();
        } else {
            let before = self.spans[of_run.clone()].partition_point(|span| span.from < s.first_seq);
            let at = of_run.start + before;
            // Most logs have one span: room for four would be most of what a small log costs.
            if self.spans.len() < 4 {
                self.spans.reserve_exact(1);
            }
            self.spans.insert(
                at,
                Span {
                    run: s.run,
                    segment: place.segment,
                    from: s.first_seq,
                    until: s.until(),
                    offset: place.offset,
                    end,
                    first_time: s.first_time,
                    last_time: s.last_time(),
                },
            );
        }
        let next = Place { segment: place.segment, offset: end };
        self.next_place = self.next_place.max(Some(next));
    }

    fn add_run(&mut self, s: &Statement, link: Digest) {
        match self.runs.index_of(s.run) {
            Some(index) => {
                let run = self.runs[index];
                if s.first_seq > run.until {
                    let hole = Range { run: run.id, from: run.until, until: s.first_seq };
                    push_new(&mut self.damaged, hole);
                }
                if s.until() > run.until {
                    self.runs.grow(index, s, link);
                }
                // The first batch of a run, once it is there, says where the run begins.
                if s.first_seq < run.from || (s.opens_run && run.from < s.first_seq) {
                    self.runs.change(index).from = s.first_seq;
                    subtract(&mut self.damaged, Range { run: run.id, from: run.from, until: s.first_seq });
                }
            }
            None => {
                // A run whose first batch is missing here began where its parent ended, as far as is known.
                let parent_until = self.run(s.parent).map_or(Seq::FIRST, |run| run.until);
                let from = if s.opens_run { s.first_seq } else { parent_until.min(s.first_seq) };
                if from < s.first_seq {
                    push_new(&mut self.damaged, Range { run: s.run, from, until: s.first_seq });
                }
                self.runs.push(Run {
                    id: s.run,
                    parent: s.parent,
                    from,
                    until: s.until(),
                    start: Seq::FIRST,
                    last_time: s.last_time(),
                    link,
                });
                // It may be one that a head spoke for which came before it.
                self.apply_heads_over(s.run);
            }
        }
    }

    /// Takes note that the log's own peer goes on from `run`, whatever else it gets back after a restore.
    pub fn go_on_from(&mut self, run: RunId) {
        self.goes_on_from = Some(run).filter(|run| self.runs.last().is_some_and(|last| last.id != *run));
        self.set_start();
    }

    /// Takes note that the log's own peer, which wrote nothing since it was started, goes on from what reaches furthest:
    /// numbers never go back.
    pub fn go_on_from_furthest(&mut self) {
        if let Some(run) = self.runs.iter().max_by_key(|run| run.until).map(|run| run.id) {
            self.go_on_from(run);
        }
    }

    /// Lets the next batch begin a new segment when everything was trimmed, so that the old one can go. Only the writer
    /// calls it, between two steps: nobody else knows where the next batch goes.
    pub fn roll_if_empty(&mut self) {
        if let Some(next) = self.next_place
            && next.offset > 0
            && self.runs.iter().all(|run| self.start_of(run) >= run.until)
        {
            self.next_place = Some(Place { segment: next.segment + 1, offset: 0 });
        }
    }

    /// Brings runs into an order in which each comes behind the one it goes on from, for a log whose batches were found
    /// in any order; a run of which the first batch is missing begins where that one ends.
    pub fn settle(&mut self) {
        self.runs.settle();
        let mut first_spans: BTreeMap<RunId, Seq> = BTreeMap::new();
        for span in &self.spans {
            let first = first_spans.entry(span.run).or_insert(span.from);
            *first = span.from.min(*first);
        }
        for index in 0..self.runs.len() {
            let run = self.runs[index];
            let Some(parent) = self.run(run.parent) else { continue };
            // Only a run that goes on from none begins with 1.
            if run.from == Seq::FIRST {
                let first = first_spans.get(&run.id).copied();
                let from = parent.until.min(first.unwrap_or(run.until));
                subtract(&mut self.damaged, Range { run: run.id, from: Seq::FIRST, until: from });
                self.runs.change(index).from = from;
            }
        }
        self.spans.sort_by_cached_key(|span| (self.runs.index_of(span.run), span.from));
        self.apply_all_heads();
    }

    /// Takes note of damage.
    pub fn add_damage(&mut self, range: Range) {
        let mut whole = range;
        self.damaged.retain(|known| {
            let touches = known.run == whole.run && known.from <= whole.until && whole.from <= known.until;
            if touches {
                whole.from = whole.from.min(known.from);
                whole.until = whole.until.max(known.until);
            }
            !touches
        });
        push_new(&mut self.damaged, whole);
    }

    /// Takes note that what was damaged can be read again, as it was signed.
    pub fn heal(&mut self, range: Range) {
        subtract(&mut self.damaged, range);
    }

    /// Where the entry `seq` of `run` is.
    pub fn find(&self, run: RunId, seq: Seq) -> Lookup {
        if let Some(index) = self.tail.find(run, seq) {
            return Lookup::Tail(index);
        }
        self.find_stored(run, seq)
    }

    /// The same without looking into memory: what its segment has of it, if anything.
    pub fn find_stored(&self, run: RunId, seq: Seq) -> Lookup {
        // What was declared lost and is not here; bytes that turn up are served.
        let missing = |until, otherwise: fn(Seq) -> Lookup| match self.lost_until(run, seq) {
            Some(lost) => Lookup::Lost(lost.min(until)),
            None => otherwise(until),
        };
        if let Some(range) = self.damaged.iter().find(|range| range.holds(run, seq)) {
            return missing(range.until, Lookup::Damaged);
        }
        self.find_written(run, seq)
    }

    /// The same, also where it was set aside as damaged: what may be well again.
    pub fn find_written(&self, run: RunId, seq: Seq) -> Lookup {
        let missing = |until, otherwise: fn(Seq) -> Lookup| match self.lost_until(run, seq) {
            Some(lost) => Lookup::Lost(lost.min(until)),
            None => otherwise(until),
        };
        let of_run = || self.spans_of(run).iter().filter(|span| seq < span.until);
        // What was fetched again after damage lies in a short span of its own, over the one that has the damage.
        let holds = of_run().filter(|span| span.from <= seq).min_by_key(|span| span.until.since(span.from));
        if let Some(span) = holds {
            let (span, readable_end) = self.readable(*span, seq);
            return Lookup::Span { span, readable_end };
        }
        match of_run().next() {
            Some(span) => missing(span.from, Lookup::Absent),
            None => match self.run(run) {
                Some(known) if seq < known.until => missing(known.until, Lookup::Absent),
                _ => Lookup::Beyond,
            },
        }
    }

    /// Takes note that a range was declared lost.
    pub fn add_lost(&mut self, lost: Lost, signature: Signature) {
        if !self.lost.contains(&(lost, signature)) {
            self.lost.push((lost, signature));
        }
    }

    fn lost_until(&self, run: RunId, seq: Seq) -> Option<Seq> {
        let ranges = self.lost.iter().map(|(l, _)| Range { run: l.run, from: l.from, until: l.until });
        ranges.filter(|range| range.holds(run, seq)).map(|range| range.until).max()
    }

    /// What is damaged and was not declared lost.
    pub fn damaged_not_lost(&self) -> Vec<Range> {
        let mut damaged = self.damaged.clone();
        for (lost, _) in self.lost.iter().filter(|_| !self.damaged.is_empty()) {
            subtract(&mut damaged, Range { run: lost.run, from: lost.from, until: lost.until });
        }
        damaged
    }

    /// The part of `span` around `seq`, which is not in memory, that lies between batches which are only in memory; and
    /// the end of what can be read of it.
    fn readable(&self, mut span: Span, seq: Seq) -> (Span, u64) {
        let mut readable_end = span.end;
        for t in &self.tail {
            let s = t.batch.statement();
            let is_inside =
                t.place.segment == span.segment && (span.offset..readable_end).contains(&t.place.offset);
            if !is_inside || t.is_flushed.load(Ordering::Acquire) {
                continue;
            }
            if s.run == span.run && s.until() <= seq {
                span.from = s.until();
                span.first_time = s.last_time();
                span.offset = t.place.offset + t.batch.bytes().len() as u64;
            } else {
                readable_end = t.place.offset;
                if s.run == span.run {
                    span.until = s.first_seq;
                }
            }
        }
        (span, readable_end)
    }

    /// Forgets spans that lie wholly below the start; answers the segments that hold nothing any more.
    pub fn discard_trimmed(&mut self) -> Vec<u32> {
        let starts: Vec<Seq> = self.runs.iter().map(|run| self.start_of(run)).collect();
        let runs = &self.runs;
        let start_of = |id: RunId| runs.index_of(id).map_or(Seq::FIRST, |index| starts[index]);
        let before: Vec<u32> = self.spans.iter().map(|span| span.segment).collect();
        // A segment that only the journal knows of stays: it tells how runs go on from each other.
        let covered = self.covered;
        self.spans.retain(|span| span.until > start_of(span.run) || span.segment >= covered);
        self.damaged.retain(|range| range.until > start_of(range.run));
        self.lost.retain(|(lost, _)| lost.until > start_of(lost.run));
        let writing = self.next_place.map(|place| place.segment);
        let held: BTreeSet<u32> = self.spans.iter().map(|span| span.segment).collect();
        let is_empty = |segment: &u32| Some(*segment) != writing && !held.contains(segment);
        let mut empty: Vec<u32> = before.into_iter().filter(is_empty).collect();
        empty.sort_unstable();
        empty.dedup();
        empty
    }

    /// Whether a whole segment was trimmed that stays only because no checkpoint knows of what is in it.
    pub fn has_trimmed_uncovered(&self) -> bool {
        let is_trimmed =
            |span: &&Span| self.run(span.run).is_some_and(|run| span.until <= self.start_of(run));
        let kept = self.spans.iter().filter(|span| !is_trimmed(span)).map(|span| span.segment);
        let kept: BTreeSet<u32> = kept.chain(self.next_place.map(|place| place.segment)).collect();
        self.spans.iter().any(|span| span.segment >= self.covered && !kept.contains(&span.segment))
    }
}

/// What is held again is no longer damaged.
fn subtract(ranges: &mut Vec<Range>, held: Range) {
    if ranges.iter().any(|r| r.run == held.run && r.from < held.until && held.from < r.until) {
        let split = |r: &Range| {
            let keep = |from, until| Range { run: r.run, from, until };
            if r.run != held.run || held.until <= r.from || r.until <= held.from {
                return vec![*r];
            }
            vec![keep(r.from, held.from), keep(held.until, r.until)]
        };
        *ranges = ranges.iter().flat_map(split).filter(|r| r.from < r.until).collect();
    }
}

fn push_new(ranges: &mut Vec<Range>, range: Range) {
    if range.from < range.until && !ranges.contains(&range) {
        ranges.push(range);
        ranges.sort_unstable();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Head, LogId, PeerId, TopicId};

    fn statement(run: u64, parent: u64, opens_run: bool, first_seq: u64, count: u32) -> Statement {
        Statement {
            log: LogId { topic: TopicId([1; 16]), peer: PeerId([2; 32]) },
            run: RunId(run),
            parent: RunId(parent),
            opens_run,
            first_seq: Seq(first_seq),
            first_time: Timestamp(first_seq * 10),
            entry_count: count,
            raw_bytes: 1,
            previous: Digest::ZERO,
            root: Digest::ZERO,
        }
    }

    fn place(segment: u32, offset: u64) -> Place {
        Place { segment, offset }
    }

    fn two_runs() -> LogState {
        let mut state = LogState::new();
        state.add(&statement(1, 0, true, 1, 10), Digest([1; 32]), place(0, 0), 100);
        state.add(&statement(1, 0, false, 11, 10), Digest([2; 32]), place(0, 100), 100);
        state.add(&statement(2, 1, true, 21, 5), Digest([3; 32]), place(1, 0), 50);
        state
    }

    #[test]
    fn neighbouring_batches_are_one_span_and_runs_form_a_chain() {
        let state = two_runs();
        assert_eq!(state.spans.len(), 2);
        assert_eq!((state.until(), state.stored_bytes()), (Seq(26), 250));
        assert!(state.is_ancestor(RunId(1), RunId(2)) && !state.is_ancestor(RunId(2), RunId(1)));
        assert!(matches!(state.find(RunId(1), Seq(15)), Lookup::Span { span, .. } if span.end == 200));
        assert_eq!(state.find(RunId(1), Seq(21)), Lookup::Beyond);
        assert_eq!(state.next_place, Some(place(1, 50)));
    }

    #[test]
    fn a_hole_before_a_later_batch_is_damage() {
        let mut state = two_runs();
        state.add(&statement(2, 1, false, 30, 1), Digest([4; 32]), place(1, 50), 10);
        assert_eq!(state.find(RunId(2), Seq(27)), Lookup::Damaged(Seq(30)));
        state.add(&statement(3, 2, false, 35, 1), Digest([5; 32]), place(1, 60), 10);
        assert_eq!(state.find(RunId(3), Seq(31)), Lookup::Damaged(Seq(35)));
    }

    #[test]
    fn the_first_batch_of_a_run_says_where_it_begins_also_when_it_comes_late() {
        let mut state = LogState::new();
        state.add(&statement(1, 0, true, 1, 5), Digest([1; 32]), place(0, 0), 10);
        state.add(&statement(2, 1, false, 14, 6), Digest([2; 32]), place(0, 10), 10);
        assert_eq!(state.damaged, [Range { run: RunId(2), from: Seq(6), until: Seq(14) }]);
        state.add(&statement(2, 1, true, 10, 4), Digest([3; 32]), place(0, 20), 10);
        assert_eq!((state.runs[1].from, state.damaged.as_slice()), (Seq(10), &[][..]));
    }

    #[test]
    fn batches_found_in_any_order_make_the_same_chain() {
        let mut state = LogState::new();
        state.add(&statement(3, 2, false, 30, 5), Digest([4; 32]), place(1, 50), 10);
        state.add(&statement(2, 1, true, 11, 9), Digest([2; 32]), place(1, 0), 50);
        state.add(&statement(1, 0, true, 1, 10), Digest([1; 32]), place(0, 0), 100);
        state.settle();
        let runs: Vec<_> = state.runs.iter().map(|run| (run.id.0, run.from.0)).collect();
        assert_eq!(runs, [(1, 1), (2, 11), (3, 20)]);
        assert_eq!(state.damaged, [Range { run: RunId(3), from: Seq(20), until: Seq(30) }]);
        assert_eq!(state.spans.iter().map(|span| span.run.0).collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn a_trim_spares_what_is_not_below_it_and_frees_whole_segments() {
        let mut state = two_runs();
        let log = statement(1, 0, true, 1, 1).log;
        let head = |start| Head {
            log,
            run: RunId(2),
            start: Seq(start),
            until: Seq(26),
            time: Timestamp(start),
            last: Digest::ZERO,
            is_sealed: false,
        };
        state.add_head(head(15), Signature([0; 64]));
        state.covered = 1;
        assert_eq!(state.discard_trimmed(), Vec::<u32>::new());
        assert_eq!(state.start_of(&state.runs[0]), Seq(15));
        state.add_head(head(21), Signature([0; 64]));
        state.covered = 0;
        assert_eq!(state.discard_trimmed(), Vec::<u32>::new(), "no checkpoint knows of what was in it");
        state.covered = 1;
        assert_eq!(state.discard_trimmed(), vec![0]);
        state.add_head(head(3), Signature([0; 64]));
        assert_eq!(state.start, Seq(21), "a start never goes back");
    }

    #[test]
    fn a_log_that_was_wholly_trimmed_gives_back_its_last_segment() {
        let mut state = two_runs();
        let log = statement(1, 0, true, 1, 1).log;
        let head = |start| Head {
            log,
            run: RunId(2),
            start: Seq(start),
            until: Seq(26),
            time: Timestamp(start),
            last: Digest::ZERO,
            is_sealed: false,
        };
        state.covered = 9;
        state.add_head(head(25), Signature([0; 64]));
        state.roll_if_empty();
        assert_eq!(state.discard_trimmed(), vec![0], "one entry is left in segment 1");
        state.add_head(head(26), Signature([0; 64]));
        state.roll_if_empty();
        assert_eq!(state.discard_trimmed(), vec![1]);
        assert_eq!(state.next_place, Some(place(2, 0)));
        assert_eq!(state.until(), Seq(26), "numbers go on");
    }

    #[test]
    fn a_branch_keeps_what_the_trim_of_the_other_does_not_cover() {
        let mut state = two_runs();
        state.add(&statement(9, 1, true, 15, 3), Digest([6; 32]), place(2, 0), 30);
        let head = Head {
            log: statement(1, 0, true, 1, 1).log,
            run: RunId(2),
            start: Seq(26),
            until: Seq(26),
            time: Timestamp(1),
            last: Digest::ZERO,
            is_sealed: false,
        };
        state.add_head(head, Signature([0; 64]));
        state.covered = 3;
        state.discard_trimmed();
        assert!(matches!(state.find(RunId(9), Seq(16)), Lookup::Span { .. }));
        assert_eq!(state.find(RunId(1), Seq(16)), Lookup::Absent(Seq(21)));
    }

    #[test]
    fn a_trim_of_a_copy_spares_what_the_original_wrote_after_it_was_copied() {
        let mut state = LogState::new();
        state.add(&statement(1, 0, true, 1, 14), Digest([1; 32]), place(0, 0), 100);
        state.add(&statement(2, 1, true, 15, 10), Digest([2; 32]), place(0, 100), 100);
        state.add(&statement(1, 0, false, 15, 5), Digest([3; 32]), place(0, 200), 100);
        let (log, run, start, until) = (statement(1, 0, true, 1, 1).log, RunId(2), Seq(20), Seq(25));
        let head = Head { log, run, start, until, time: Timestamp(1), last: Digest::ZERO, is_sealed: false };
        state.add_head(head, Signature([0; 64]));
        assert_eq!((state.start_of(&state.runs[0]), state.start_of(&state.runs[1])), (Seq(15), Seq(20)));
    }

    #[test]
    fn damage_beside_what_was_declared_lost_is_all_that_is_still_damaged() {
        let mut state = two_runs();
        let log = statement(1, 0, true, 1, 1).log;
        let lost = |from, until| Lost {
            log,
            run: RunId(1),
            from: Seq(from),
            until: Seq(until),
            time: Timestamp(1),
            signer: log.peer,
        };
        state.add_damage(Range { run: RunId(1), from: Seq(5), until: Seq(8) });
        state.add_lost(lost(5, 8), Signature([0; 64]));
        assert_eq!(state.damaged_not_lost(), []);
        state.add_damage(Range { run: RunId(1), from: Seq(8), until: Seq(9) });
        assert_eq!(state.damaged_not_lost(), [Range { run: RunId(1), from: Seq(8), until: Seq(9) }]);
        assert_eq!(state.find(RunId(1), Seq(6)), Lookup::Lost(Seq(8)));
    }
}
