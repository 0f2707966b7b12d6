//! Whether the batches of a log follow from each other: each names the one before by its digest, also across runs.
use crate::base::{Digest, RunId, Seq, Statement};
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
/// at least.
pub fn check(
    batches: &mut Vec<Good>,
    start: impl Fn(RunId) -> Seq,
    known: &BTreeMap<RunId, Seq>,
) -> Vec<String> {
    batches.sort_by_key(|batch| (batch.statement.run, batch.statement.first_seq, batch.link));
    batches.dedup_by_key(|batch| (batch.statement.run, batch.statement.first_seq, batch.link));
    let mut findings = Vec::new();
    let mut ends: BTreeMap<(RunId, Seq), Digest> = BTreeMap::new();
    for batch in batches.iter() {
        let s = &batch.statement;
        if ends.insert((s.run, s.until()), batch.link).is_some() {
            let run = s.run.short();
            findings.push(format!("two different batches of run {run} end at entry {}: a fork", s.until()));
        }
    }
    for batch in batches.iter() {
        findings.extend(check_one(&batch.statement, &ends, &start));
    }
    for (run, until) in known.iter().filter(|(run, until)| **until > start(**run)) {
        let reached = ends.range((*run, Seq(0))..=(*run, Seq(u64::MAX))).next_back();
        if reached.is_none_or(|((_, reached), _)| reached < until) {
            let what = missing(&ends, start(*run), *run, *until);
            // What another run goes on from was told already.
            if !findings.contains(&what) {
                findings.push(what);
            }
        }
    }
    findings
}

/// That nothing is there between the last good batch of `run` before `until`, and `until`.
fn missing(ends: &BTreeMap<(RunId, Seq), Digest>, start: Seq, run: RunId, until: Seq) -> String {
    let before = ends.range((run, Seq(0))..(run, until)).next_back();
    let last = before.map_or(start, |((_, until), _)| *until);
    format!("entries {last} up to {until} of run {} are missing or damaged", run.short())
}

fn check_one(
    s: &Statement,
    ends: &BTreeMap<(RunId, Seq), Digest>,
    start: impl Fn(RunId) -> Seq,
) -> Option<String> {
    let before = if s.opens_run { s.parent } else { s.run };
    let start = start(before);
    // The first batch of a log goes on from nothing, and what retention removed is not missed.
    if s.first_seq == Seq::FIRST || s.first_seq <= start {
        return None;
    }
    match ends.get(&(before, s.first_seq)) {
        Some(link) if *link == s.previous => None,
        Some(_) => Some(format!(
            "entry {} of run {} does not go on from the batch before it",
            s.first_seq,
            s.run.short()
        )),
        None => Some(missing(ends, start, before, s.first_seq)),
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
