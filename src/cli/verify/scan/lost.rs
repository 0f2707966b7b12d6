//! What of the damage was declared lost: it stays on the disk for as long as the segment does, and is no finding.
use super::Scan;
use crate::base::{LogId, RunId, Seq, Statement};
use crate::log::state::Range;
use std::collections::BTreeMap;

/// What a segment was seen to hold before or behind a hole: a run, and the number behind the last entry of one batch, or
/// the first that is missing before another.
type Edge = (RunId, Seq);

impl Scan {
    /// What was declared lost of a log.
    pub fn lost_of(&self, log: &LogId) -> &[Range] {
        self.lost.get(log).map_or(&[], Vec::as_slice)
    }

    fn is_lost(&self, log: &LogId, run: RunId, from: Seq, until: Seq) -> bool {
        self.lost_of(log).iter().any(|lost| lost.run == run && lost.from <= from && until <= lost.until)
    }

    /// Whether all that a segment should hold beyond what of each run was seen in it was declared lost.
    pub(super) fn rest_is_lost(&self, key: &(LogId, u32), seen: &BTreeMap<RunId, Seq>) -> bool {
        let from = |range: &Range| seen.get(&range.run).map_or(range.from, |seen| range.from.max(*seen));
        let ranges = self.segments.get(key).map_or(&[][..], |reach| &reach.ranges);
        ranges.iter().all(|range| {
            range.until <= from(range) || self.is_lost(&key.0, range.run, from(range), range.until)
        })
    }

    /// Whether something that was declared lost lies between two batches, or on one side of one.
    fn is_lost_between(&self, log: &LogId, before: Option<Edge>, after: Option<Edge>) -> bool {
        let is_behind =
            |lost: &Range, (run, until): Edge| lost.run == run && lost.from <= until && until < lost.until;
        let is_before =
            |lost: &Range, (run, from): Edge| lost.run == run && lost.from < from && from <= lost.until;
        let fits = |lost: &Range| match (before, after) {
            // The run before ended somewhere in the hole.
            (Some(before), Some(after)) if before.0 != after.0 => is_before(lost, after),
            (None, None) => false,
            _ => {
                before.is_none_or(|edge| is_behind(lost, edge))
                    && after.is_none_or(|edge| is_before(lost, edge))
            }
        };
        self.lost_of(log).iter().any(fits)
    }

    /// A finding, or a note where it is about what was declared lost.
    pub(super) fn told(&mut self, is_lost: bool, place: &str, what: impl Into<String>) {
        match is_lost {
            true => self.notes.push(format!("{place}: {}, and declared lost", what.into())),
            false => self.found(place, what),
        }
    }

    /// Tells of bytes that hold no batch, beside those that do: where they begin and end, and what was signed.
    pub(super) fn holes(
        &mut self,
        path: &str,
        log: &LogId,
        known_end: u64,
        holes: &[(u64, u64)],
        edges: &[(u64, u64, Statement)],
    ) {
        for (from, until) in holes {
            if *from >= known_end {
                self.notes.push(format!(
                    "{path}: bytes {from} up to {until} were never declared durable, and are torn"
                ));
                continue;
            }
            let next = edges.partition_point(|(offset, ..)| offset < from);
            let before = next.checked_sub(1).map(|last| (edges[last].2.run, edges[last].2.until()));
            let opened_by = |s: &Statement| if s.opens_run { s.parent } else { s.run };
            let after = edges.get(next).map(|(.., s)| (opened_by(s), s.first_seq));
            let is_lost = self.is_lost_between(log, before, after);
            self.told(is_lost, path, format!("bytes {from} up to {until} hold no batch that can be read"));
        }
    }

    /// A batch of which the header is good, and no more.
    pub(super) fn bad_batch(&mut self, path: &str, s: &Statement, what: String) {
        self.told(self.is_lost(&s.log, s.run, s.first_seq, s.until()), path, what);
    }
}

/// Puts ranges together that touch.
pub(super) fn join(ranges: &mut Vec<Range>) {
    ranges.sort_unstable();
    ranges.dedup_by(|next, last| {
        let touches = last.run == next.run && next.from <= last.until;
        if touches {
            last.until = next.until.max(last.until);
        }
        touches
    });
}
