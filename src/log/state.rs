//! What is known of one log: its runs, where its batches lie, what is trimmed, damaged or lost.
//!
//! ```text
//! runs     r1 [1..40)  <── r2 [40..90)  <── r3 [90..95)        each names the one it goes on from
//! spans    r1 1..40 in segment 0 │ r2 40..70 in segment 0, 70..90 in segment 1 │ r3 90..95 in segment 1
//! tail     the newest batches, still in memory: those not flushed yet, and some that are
//! ```
//!
//! Plain data: it reads no file. The writer changes it when a step is durable, readers look at it for a moment.
use crate::base::{Batch, Digest, Fork, Lost, RunId, Seq, Signature, Statement, Timestamp};
use crate::log::heads::Heads;
use crate::log::place::Place;
use crate::log::runs::Runs;
use crate::log::set_aside::SetAside;
use crate::log::tail::Tail;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

mod damage;
mod find;
mod room;

pub use find::Lookup;

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
    /// What its first batch names so; zero while that is not known, and for a log's first run.
    pub previous: Digest,
}

impl Run {
    /// Whether it has no entries, ever: it forked with its first batch.
    pub fn is_empty(&self) -> bool {
        self.until <= self.from
    }

    /// Whether it is known where it begins: its first batch was here, or a head that says so.
    pub fn has_beginning(&self) -> bool {
        !self.parent.is_some() || self.from > Seq::FIRST
    }
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
    /// Runs of which the first batch is gone from the log's own peer: their first number is a guess, which nobody signs.
    pub guessed: BTreeSet<RunId>,
    /// Ranges that were found damaged.
    pub damaged: Vec<Range>,
    /// Ranges that were declared lost.
    pub lost: Vec<(Lost, Signature)>,
    /// Where its runs are known to have forked.
    pub forks: Vec<Fork>,
    /// Where batches of branches end, and with what link; of so many of them.
    pub(super) branch_ends: BTreeSet<(Seq, Digest, RunId)>,
    /// Runs that go on from a branch, as was found since the writer looked, and the branch.
    pub moved: Vec<(RunId, RunId)>,
    /// Newest batches in memory, oldest first.
    pub tail: Tail,
    /// Where the next batch goes.
    pub next_place: Option<Place>,
    /// What lies in segments below this one a durable checkpoint knows of: they may go when they are trimmed.
    pub covered: u32,
    /// What does not count of it, once its peer was removed.
    pub(crate) set_aside: Option<Box<SetAside>>,
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

    /// Whether a batch with this statement is held already, whole and undamaged.
    pub fn holds(&self, s: &Statement) -> bool {
        let is_damaged =
            |range: &Range| range.run == s.run && range.from < s.until() && s.first_seq < range.until;
        self.spans_of(s.run).iter().any(|span| span.from <= s.first_seq && s.until() <= span.until)
            && !self.damaged.iter().any(is_damaged)
    }

    /// Whether a batch with this statement is known to lie at `place`.
    pub fn holds_at(&self, s: &Statement, place: Place) -> bool {
        let holds = |span: &Span| span.from <= s.first_seq && s.until() <= span.until;
        self.spans_of(s.run).iter().any(|span| span.is_over(place) && holds(span))
    }

    /// Whether a batch with this statement comes next in its run, or opens it where the run before it ends here.
    pub fn goes_on_with(&self, s: &Statement) -> bool {
        let before = self.run(s.run).or_else(|| self.run(s.parent));
        match before {
            Some(run) => run.until == s.first_seq && run.link == s.previous,
            None => s.first_seq == Seq::FIRST,
        }
    }

    /// Takes note of a batch that lies at `place` and has `bytes`.
    pub fn add(&mut self, s: &Statement, link: Digest, place: Place, bytes: u64) {
        if self.cut_of(s.run).is_some_and(|cut| cut <= s.first_seq) {
            // It is stored as of a branch too.
            let next = Place { segment: place.segment, offset: place.offset + bytes };
            self.next_place = self.next_place.max(Some(next));
            return;
        }
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
        if s.opens_run {
            self.guessed.remove(&s.run);
        }
        let counts = self.counts(s, link);
        match self.runs.index_of(s.run) {
            Some(index) => {
                let run = self.runs[index];
                if s.opens_run {
                    self.runs.set_previous(index, s.previous);
                    self.adopt(index, s);
                }
                if s.until() == run.until && run.link == Digest::ZERO {
                    self.runs.change(index).link = link;
                }
                if s.until() > run.until && counts {
                    self.runs.grow(index, s, link);
                }
                if s.signed.is_some() && counts {
                    self.end_in_branch(index, s.until(), link);
                }
                // The first batch of a run, once it is there, says where the run begins.
                if s.first_seq < run.from || (s.opens_run && run.from < s.first_seq) {
                    self.runs.change(index).from = s.first_seq;
                    // What was trimmed of it may be of the run before it too.
                    self.apply_heads_over(s.parent);
                }
            }
            None => {
                // Until its first batch is here, or a head that says where it begins, everything before this is missing.
                let signed = self.heads.get(s.run).map_or(Seq::FIRST, |(head, _)| head.from);
                let from = if s.opens_run { s.first_seq } else { signed };
                let parent = self.parent_of(s);
                self.runs.push(Run {
                    id: s.run,
                    parent,
                    from,
                    until: if counts { s.until() } else { self.end_without(s, from) },
                    start: Seq::FIRST,
                    last_time: s.last_time(),
                    // Of what counts the last batch is not known.
                    link: if counts { link } else { Digest::ZERO },
                    previous: if s.opens_run { s.previous } else { Digest::ZERO },
                });
                if s.signed.is_some() {
                    self.end_in_branch(self.runs.len() - 1, s.until(), link);
                }
                // It may be one that a head spoke for which came before it.
                self.apply_heads_over(s.run);
            }
        }
    }

    /// Takes note that the log's own peer, which wrote nothing since it was started, goes on from what reaches furthest:
    /// numbers never go back.
    pub fn go_on_from_furthest(&mut self) {
        // Where the peer was removed: of what is set aside whole, and of what goes on from that, nothing counts.
        let counts = |run: &&Run| !self.is_aside(run);
        let furthest = self.runs.iter().filter(counts).max_by_key(|run| run.until);
        if let Some(run) = furthest.or(self.runs.first()).map(|run| run.id) {
            self.go_on_from(run);
        }
    }

    /// What the log's own peer may go on from after a start: of what counts and reaches furthest a run whose last batch is
    /// known, since the next one has to name that. Where a run is known of a head alone, that says what of it was trimmed and
    /// nothing of what comes behind.
    pub fn furthest_known(&self) -> Option<Run> {
        let may_be = |run: &&Run| !self.is_aside(run) && run.link != Digest::ZERO;
        self.runs.iter().filter(may_be).max_by_key(|run| run.until).copied()
    }

    /// Brings runs into an order in which each comes behind the one it goes on from, for a log whose batches were found
    /// in any order.
    pub fn settle(&mut self) {
        self.runs.settle();
        self.spans.sort_by_cached_key(|span| (self.runs.index_of(span.run), span.from));
        self.apply_all_heads();
    }

    /// What is not here of the runs that are, and is neither trimmed nor known to be damaged: holes before later entries.
    pub fn holes(&self) -> Vec<Range> {
        let mut holes = Vec::new();
        for run in self.runs.iter() {
            let mut next = self.begin_of(run);
            for span in self.spans_of(run.id) {
                push_new(&mut holes, Range { run: run.id, from: next, until: span.from.min(run.until) });
                next = next.max(span.until);
            }
            push_new(&mut holes, Range { run: run.id, from: next, until: run.until });
        }
        self.damaged.iter().for_each(|range| subtract(&mut holes, *range));
        holes
    }

    /// Takes holes for damage, in a log that this peer wrote: what is not here of it was here once. A run of which the
    /// first batch is missing is taken to begin where the one before it ends, and before what is here of it. That is a
    /// guess: the one before it may have got more since, or lost its own end too.
    pub fn add_holes_as_damage(&mut self) {
        for index in 0..self.runs.len() {
            let run = self.runs[index];
            let Some(parent) = self.run(run.parent) else { continue };
            let first = self.spans_of(run.id).first().map_or(run.until, |span| span.from);
            // Only a run that goes on from none begins with 1.
            if run.from == Seq::FIRST && first > Seq::FIRST {
                let from = parent.until.min(Seq(first.0 - 1));
                self.runs.change(index).from = from;
                self.guessed.insert(run.id);
            }
        }
        self.holes().into_iter().for_each(|hole| self.add_damage(hole));
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

    /// Takes note that a range was declared lost.
    pub fn add_lost(&mut self, lost: Lost, signature: Signature) {
        if !self.lost.contains(&(lost, signature)) {
            self.lost.push((lost, signature));
        }
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
mod tests;
