//! Whether the batches of a log follow from each other: each names the one before by its digest, also across runs.
use crate::base::{Digest, RunId, Seq, Statement};
use crate::log::state::Range;
use std::collections::BTreeMap;

/// What is kept of a batch that was read and found good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Good {
    /// What was signed.
    pub statement: Statement,
    /// What the next batch names.
    pub link: Digest,
    /// Bytes as stored.
    pub bytes: u64,
}

/// Sorts the batches of one log, drops what was found twice (in the journal and in its segment), and tells what is
/// missing or does not fit. `start` answers the first number of a run that is still kept; `known` says how far runs reach
/// at least. What of it is `lost`, as was declared, is told apart: it is no finding.
pub fn check(
    batches: &mut Vec<Good>,
    start: impl Fn(RunId) -> Seq,
    known: &BTreeMap<RunId, Seq>,
    lost: &[Range],
) -> Told {
    batches.sort_by_key(|batch| (batch.statement.run, batch.statement.first_seq, batch.link));
    batches.dedup_by_key(|batch| (batch.statement.run, batch.statement.first_seq, batch.link));
    let (mut told, mut gone) = (Told::default(), Vec::new());
    let mut ends: BTreeMap<(RunId, Seq), Digest> = BTreeMap::new();
    for batch in batches.iter() {
        let s = &batch.statement;
        if ends.insert((s.run, s.until()), batch.link).is_some() {
            let run = s.run.short();
            told.findings
                .push(format!("two different batches of run {run} end at entry {}: a fork", s.until()));
        }
    }
    for batch in batches.iter() {
        match check_one(&batch.statement, &ends, &start) {
            Ok(()) => {}
            Err(Fault::Missing(range)) => gone.push(range),
            Err(Fault::Other(what)) => told.findings.push(what),
        }
    }
    for (run, until) in known.iter().filter(|(run, until)| **until > start(**run)) {
        let reached = ends.range((*run, Seq(0))..=(*run, Seq(u64::MAX))).next_back();
        if reached.is_none_or(|((_, reached), _)| reached < until) {
            let range = missing(&ends, start(*run), *run, *until);
            // What another run goes on from was told already.
            if !gone.contains(&range) {
                gone.push(range);
            }
        }
    }
    gone.into_iter().for_each(|range| told.missing(range, lost));
    told
}

/// What is told of a log.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// What is not as it should be.
    pub findings: Vec<String>,
    /// What is missing and was declared lost.
    pub notes: Vec<String>,
}

impl Told {
    fn missing(&mut self, range: Range, lost: &[Range]) {
        let words = |from, until| format!("entries {from} up to {until} of run {}", range.run.short());
        let mut from = range.from;
        let of_it =
            |lost: &&Range| lost.run == range.run && lost.from < range.until && range.from < lost.until;
        for lost in lost.iter().filter(of_it) {
            if from < lost.from {
                self.findings.push(format!("{} are missing or damaged", words(from, lost.from)));
            }
            let until = lost.until.min(range.until);
            self.notes.push(format!("{} were declared lost", words(from.max(lost.from), until)));
            from = until;
        }
        if from < range.until {
            self.findings.push(format!("{} are missing or damaged", words(from, range.until)));
        }
    }
}

/// Why a batch does not go on from what is there.
enum Fault {
    Missing(Range),
    Other(String),
}

/// That nothing is there between the last good batch of `run` before `until`, and `until`.
fn missing(ends: &BTreeMap<(RunId, Seq), Digest>, start: Seq, run: RunId, until: Seq) -> Range {
    let before = ends.range((run, Seq(0))..(run, until)).next_back();
    Range { run, from: before.map_or(start, |((_, until), _)| *until), until }
}

fn check_one(
    s: &Statement,
    ends: &BTreeMap<(RunId, Seq), Digest>,
    start: impl Fn(RunId) -> Seq,
) -> Result<(), Fault> {
    let before = if s.opens_run { s.parent } else { s.run };
    let start = start(before);
    // The first batch of a log goes on from nothing, and what retention removed is not missed.
    if s.first_seq == Seq::FIRST || s.first_seq <= start {
        return Ok(());
    }
    match ends.get(&(before, s.first_seq)) {
        Some(link) if *link == s.previous => Ok(()),
        Some(_) => Err(Fault::Other(format!(
            "entry {} of run {} does not go on from the batch before it",
            s.first_seq,
            s.run.short()
        ))),
        None => Err(Fault::Missing(missing(ends, start, before, s.first_seq))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{LogId, PeerId, Timestamp, TopicId};

    fn batch(run: u64, first_seq: u64, count: u32, parent: u64, previous: Digest) -> Good {
        let statement = Statement {
            log: LogId { topic: TopicId([1; 16]), peer: PeerId([2; 32]) },
            run: RunId(run),
            parent: RunId(parent),
            opens_run: parent != 0 || first_seq == 1,
            first_seq: Seq(first_seq),
            first_time: Timestamp::ZERO,
            entry_count: count,
            raw_bytes: 1,
            previous,
            root: Digest::ZERO,
        };
        Good { link: Digest::of(&statement.encode()), statement, bytes: 1 }
    }

    /// Two batches of one run, and one of a later run that goes on from them.
    fn log() -> Vec<Good> {
        let a = batch(7, 1, 2, 0, Digest::ZERO);
        let b = batch(7, 3, 3, 0, a.link);
        let c = batch(5, 6, 1, 7, b.link);
        vec![a, b, c]
    }

    fn check(
        batches: &mut Vec<Good>,
        start: impl Fn(RunId) -> Seq,
        known: &BTreeMap<RunId, Seq>,
    ) -> Vec<String> {
        super::check(batches, start, known, &[]).findings
    }

    #[test]
    fn what_was_declared_lost_is_no_finding_and_the_rest_is() {
        let mut batches = log();
        batches.remove(1);
        let lost = [Range { run: RunId(7), from: Seq(4), until: Seq(5) }];
        let told = super::check(&mut batches, |_| Seq(1), &BTreeMap::new(), &lost);
        let rest = ["entries 3 up to 4 of run 00000000 are", "entries 5 up to 6 of run 00000000 are"];
        assert_eq!(told.findings, rest.map(|words| format!("{words} missing or damaged")));
        assert_eq!(told.notes, ["entries 4 up to 5 of run 00000000 were declared lost"]);
        let lost = [Range { run: RunId(7), from: Seq(2), until: Seq(9) }];
        let told = super::check(&mut batches, |_| Seq(1), &BTreeMap::new(), &lost);
        assert_eq!((told.findings.len(), told.notes.len()), (0, 1), "{told:?}");
    }

    #[test]
    fn a_whole_log_has_no_findings_also_when_read_twice() {
        let mut batches = [log(), log()].concat();
        assert_eq!(check(&mut batches, |_| Seq(1), &BTreeMap::new()), Vec::<String>::new());
        assert_eq!(batches.len(), 3);
    }

    #[test]
    fn a_missing_batch_is_named_by_its_entries() {
        let mut batches = log();
        batches.remove(1);
        assert_eq!(
            check(&mut batches, |_| Seq(1), &BTreeMap::new()),
            ["entries 3 up to 6 of run 00000000 are missing or damaged"]
        );
    }

    #[test]
    fn a_run_that_ends_before_it_should_is_told_once() {
        let known = BTreeMap::from([(RunId(7), Seq(6)), (RunId(5), Seq(9)), (RunId(1), Seq(3))]);
        let mut batches = log();
        batches.remove(1);
        let told = [
            "entries 3 up to 6 of run 00000000 are missing or damaged",
            "entries 1 up to 3 of run 00000000 are missing or damaged",
            "entries 7 up to 9 of run 00000000 are missing or damaged",
        ];
        assert_eq!(check(&mut batches, |_| Seq(1), &known), told);
        assert_eq!(check(&mut Vec::new(), |_| Seq(9), &known), Vec::<String>::new(), "all of it was trimmed");
    }

    #[test]
    fn what_was_trimmed_is_not_missed() {
        let mut batches = log();
        batches.remove(0);
        assert_eq!(check(&mut batches, |_| Seq(3), &BTreeMap::new()), Vec::<String>::new());
    }

    #[test]
    fn a_batch_put_in_the_place_of_another_is_found() {
        let mut batches = log();
        batches[1].link = Digest::of(b"another");
        assert_eq!(check(&mut batches, |_| Seq(1), &BTreeMap::new()).len(), 1);
        let mut forked = log();
        forked.push(batch(7, 4, 2, 0, Digest::of(b"other")));
        assert!(check(&mut forked, |_| Seq(1), &BTreeMap::new()).iter().any(|what| what.contains("a fork")));
    }
}
