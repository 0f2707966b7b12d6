//! Where the entry with a number is: in memory, in a segment, or why it is not here.
use crate::base::{RunId, Seq};
use crate::log::place::Place;
use crate::log::state::{LogState, Range, Span};
use std::sync::atomic::Ordering;

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

impl Span {
    /// Whether the byte at `place` is one of it.
    pub fn is_over(&self, place: Place) -> bool {
        self.segment == place.segment && (self.offset..self.end).contains(&place.offset)
    }

    /// Whether two spans have bytes in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.segment == other.segment && self.offset < other.end && other.offset < self.end
    }
}

impl LogState {
    /// Where the entry `seq` of `run` is.
    pub fn find(&self, run: RunId, seq: Seq) -> Lookup {
        if seq >= self.end_in_books(run) {
            return Lookup::Beyond;
        }
        self.find_here(run, seq)
    }

    /// The same, whether it counts or not: what is set aside of a removed peer's log is found too.
    pub fn find_here(&self, run: RunId, seq: Seq) -> Lookup {
        if let Some(index) = self.tail.find(run, seq) {
            return Lookup::Tail(index);
        }
        // What is missing in the segment ends where memory has it.
        match self.find_stored(run, seq) {
            Lookup::Damaged(until) => Lookup::Damaged(self.tail.first_behind(run, seq, until)),
            Lookup::Lost(until) => Lookup::Lost(self.tail.first_behind(run, seq, until)),
            Lookup::Absent(until) => Lookup::Absent(self.tail.first_behind(run, seq, until)),
            found => found,
        }
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
        // What was fetched again after damage lies behind what has the damage.
        let holds = of_run().filter(|span| span.from <= seq).max_by_key(|span| (span.segment, span.offset));
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

    /// The numbers around `seq` in `[from, until)` of which nothing newer than `span` has a copy.
    pub fn newest_in(&self, span: &Span, seq: Seq, mut from: Seq, mut until: Seq) -> (Seq, Seq) {
        let is_newer = |other: &&Span| (other.segment, other.offset) > (span.segment, span.offset);
        for other in self.spans_of(span.run).iter().filter(is_newer) {
            if other.from > seq {
                until = until.min(other.from);
            } else if other.until <= seq {
                from = from.max(other.until);
            }
        }
        (from, until)
    }

    /// How far what lies in `span` is served from there, reading on from `seq`: to what was set aside, or stored anew.
    pub fn served_until(&self, span: &Span, seq: Seq) -> Seq {
        let damaged = self.damaged.iter().filter(|range| range.run == span.run && range.from > seq);
        let until = damaged.map(|range| range.from).fold(span.until, Seq::min);
        self.newest_in(span, seq, span.from, until.min(self.end_in_books(span.run))).1
    }

    fn lost_until(&self, run: RunId, seq: Seq) -> Option<Seq> {
        let ranges = self.lost.iter().map(|(l, _)| Range { run: l.run, from: l.from, until: l.until });
        ranges.filter(|range| range.holds(run, seq)).map(|range| range.until).max()
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
}
