//! Which segments still hold something: what is trimmed makes room.
use crate::base::{RunId, Seq};
use crate::log::place::Place;
use crate::log::state::{LogState, Span};
use std::collections::BTreeSet;

impl LogState {
    /// Whether a segment holds anything that is kept, or takes the next batch.
    pub fn uses(&self, segment: u32) -> bool {
        let start_of = |id: RunId| self.run(id).map_or(Seq::FIRST, |run| self.start_of(run));
        self.spans.iter().any(|span| span.segment == segment && span.until > start_of(span.run))
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
