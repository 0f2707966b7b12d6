//! Whether the batches of a log follow from each other: each names the one before by its digest, also across runs.
//!
//! ```text
//! r1 [1..40) ──> [40..90)   [95..120)      two stretches of r1: between them something is missing
//!       └──> r2 [30..35)                   goes on from within a stretch, which is looked at once more for that
//! ```
//!
//! Of batches that follow from each other only the ends of the whole stretch are kept, so that a log takes no more memory
//! than it has runs and holes. What that leaves open is answered by going through the headers of its batches again: where
//! a run goes on from within a stretch, as after a restore, and whether what lies beside a stretch is in it too.
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

/// Batches of one run of which each names the one before.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    from: Seq,
    until: Seq,
    /// What the first names as the one before it.
    previous: Digest,
    /// The run in which that is.
    goes_on_from: RunId,
    /// What the next names.
    link: Digest,
}

/// What lies beside a stretch that has the same numbers.
#[derive(Debug)]
struct Beside {
    good: Good,
    /// How often it was added.
    count: u64,
    /// How often it was seen when the headers were gone through again.
    seen: u64,
}

/// Where something ends within a stretch.
#[derive(Debug, Clone, Copy)]
enum Within {
    Unknown,
    /// A batch ends there.
    End(Digest),
    /// None does; the one that goes over it begins here.
    Over(Seq),
}

/// The batches of one log.
#[derive(Debug, Default)]
pub struct Chain {
    /// In order of their numbers; those of one run never overlap.
    runs: BTreeMap<RunId, Vec<Stretch>>,
    beside: BTreeMap<Digest, Beside>,
    /// Where runs go on from within a stretch.
    within: BTreeMap<(RunId, Seq), Within>,
    /// Batches.
    pub batch_count: u64,
    /// Entries in them.
    pub entry_count: u64,
    /// Bytes as stored.
    pub bytes: u64,
}

impl Chain {
    /// How many runs there are.
    pub fn run_count(&self) -> usize {
        self.runs.len()
    }

    /// Takes in a batch. In the order in which they were written each makes a stretch longer.
    pub fn add(&mut self, good: Good) {
        let s = &good.statement;
        let goes_on_from = if s.opens_run { s.parent } else { s.run };
        let stretches = self.runs.entry(s.run).or_default();
        let at = stretches.partition_point(|stretch| stretch.from <= s.first_seq);
        let before = at.checked_sub(1).map(|before| stretches[before]);
        let after = stretches.get(at).copied();
        if before.is_some_and(|before| s.first_seq < before.until)
            || after.is_some_and(|after| after.from < s.until())
        {
            let new = || Beside { good: good.clone(), count: 0, seen: 0 };
            self.beside.entry(good.link).or_insert_with(new).count += 1;
            return;
        }
        self.batch_count += 1;
        self.entry_count += u64::from(s.entry_count);
        self.bytes += good.bytes;
        let (from, until, previous, link) = (s.first_seq, s.until(), s.previous, good.link);
        let mut stretch = Stretch { from, until, previous, goes_on_from, link };
        // It goes on from the one before it, and the one behind goes on from it.
        let goes_on = |before: &Stretch, next: &Stretch| {
            before.until == next.from && before.link == next.previous && next.goes_on_from == s.run
        };
        let mut places = at..at;
        if let Some(after) = after.filter(|after| goes_on(&stretch, after)) {
            (stretch.until, stretch.link, places.end) = (after.until, after.link, at + 1);
        }
        if let Some(before) = before.filter(|before| goes_on(before, &stretch)) {
            stretch = Stretch { until: stretch.until, link: stretch.link, ..before };
            places.start = at - 1;
        }
        stretches.splice(places, [stretch]);
    }

    /// Finds out what is to be looked for in the headers of all batches; whether there is anything. `start` answers the
    /// first number of a run that is still kept.
    pub fn seek(&mut self, start: impl Fn(RunId) -> Seq) -> bool {
        for stretch in self.runs.values().flatten().filter(|stretch| !is_first(stretch, &start)) {
            let (run, at) = (stretch.goes_on_from, stretch.from);
            let of_run = self.runs.get(&run).map_or(&[][..], Vec::as_slice);
            if of_run.iter().any(|other| other.from < at && at < other.until) {
                self.within.insert((run, at), Within::Unknown);
            }
        }
        !self.within.is_empty() || !self.beside.is_empty()
    }

    /// A batch that is good, once more.
    pub fn look(&mut self, s: &Statement, link: Digest) {
        if let Some(beside) = self.beside.get_mut(&link) {
            beside.seen += 1;
        }
        let over = (s.run, s.first_seq.after(1))..=(s.run, s.until());
        for ((_, at), within) in self.within.range_mut(over) {
            if *at == s.until() {
                *within = Within::End(link);
            } else if matches!(within, Within::Unknown) {
                *within = Within::Over(s.first_seq);
            }
        }
    }

    /// Tells what is missing or does not fit; `known` says how far runs reach at least. What of it is `lost`, as was
    /// declared, is told apart: it is no finding.
    pub fn check(&self, start: impl Fn(RunId) -> Seq, known: &BTreeMap<RunId, Seq>, lost: &[Range]) -> Told {
        let (mut told, mut gone) = (Told::default(), Vec::new());
        // What was found twice is seen once more than it lies beside.
        for Beside { good, .. } in self.beside.values().filter(|beside| beside.seen <= beside.count) {
            let (run, first) = (good.statement.run.short(), good.statement.first_seq);
            told.findings.push(format!("two different batches of run {run} hold entry {first}: a fork"));
        }
        for (run, stretches) in &self.runs {
            for stretch in stretches.iter().filter(|stretch| !is_first(stretch, &start)) {
                match self.before(stretch, &start) {
                    Ok(link) if link == stretch.previous => {}
                    Ok(_) => told.findings.push(format!(
                        "entry {} of run {} does not go on from the batch before it",
                        stretch.from,
                        run.short()
                    )),
                    Err(range) => gone.push(range),
                }
            }
        }
        for (run, until) in known.iter().filter(|(run, until)| **until > start(**run)) {
            let from = self.end_before(*run, Seq(u64::MAX)).unwrap_or(start(*run));
            let range = Range { run: *run, from, until: *until };
            // What another run goes on from was told already.
            if from < *until && !gone.contains(&range) {
                gone.push(range);
            }
        }
        gone.into_iter().for_each(|range| told.missing(range, lost));
        told
    }

    /// The link of the batch that ends where a stretch begins, in the run that it goes on from; else what is missing there.
    fn before(&self, stretch: &Stretch, start: impl Fn(RunId) -> Seq) -> Result<Digest, Range> {
        let (run, until) = (stretch.goes_on_from, stretch.from);
        let of_run = self.runs.get(&run).map_or(&[][..], Vec::as_slice);
        if let Some(before) = of_run.iter().find(|before| before.until == until) {
            return Ok(before.link);
        }
        match self.within.get(&(run, until)) {
            Some(Within::End(link)) => Ok(*link),
            Some(Within::Over(from)) => Err(Range { run, from: *from, until }),
            Some(Within::Unknown) | None => {
                let from = self.end_before(run, until).unwrap_or(start(run));
                Err(Range { run, from, until })
            }
        }
    }

    /// The end of the last stretch of a run that ends before `until`.
    fn end_before(&self, run: RunId, until: Seq) -> Option<Seq> {
        let ends = self.runs.get(&run)?.iter().map(|stretch| stretch.until);
        ends.take_while(|end| *end < until).last()
    }
}

/// Whether a stretch need not go on from anything: the first batch of a log, and what retention has left.
fn is_first(stretch: &Stretch, start: impl Fn(RunId) -> Seq) -> bool {
    stretch.from == Seq::FIRST || stretch.from <= start(stretch.goes_on_from)
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
            signed: None,
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

    fn all_told(
        batches: &[Good],
        start: impl Fn(RunId) -> Seq,
        known: &BTreeMap<RunId, Seq>,
        lost: &[Range],
    ) -> Told {
        // Whatever their order.
        let orders = [batches.to_vec(), batches.iter().rev().cloned().collect(), alternating(batches)];
        let told = orders.map(|batches| {
            let mut chain = Chain::default();
            batches.iter().cloned().for_each(|batch| chain.add(batch));
            if chain.seek(&start) {
                batches.iter().for_each(|batch| chain.look(&batch.statement, batch.link));
            }
            chain.check(&start, known, lost)
        });
        let has_findings = |told: &Told| !told.findings.is_empty();
        assert!(told.iter().all(|other| has_findings(other) == has_findings(&told[0])), "{told:?}");
        told.into_iter().next().unwrap()
    }

    fn alternating(batches: &[Good]) -> Vec<Good> {
        let odd = batches.iter().skip(1).step_by(2);
        odd.chain(batches.iter().step_by(2)).cloned().collect()
    }

    fn check(batches: &[Good], start: impl Fn(RunId) -> Seq, known: &BTreeMap<RunId, Seq>) -> Vec<String> {
        all_told(batches, start, known, &[]).findings
    }

    #[test]
    fn what_was_declared_lost_is_no_finding_and_the_rest_is() {
        let mut batches = log();
        batches.remove(1);
        let lost = [Range { run: RunId(7), from: Seq(4), until: Seq(5) }];
        let told = all_told(&batches, |_| Seq(1), &BTreeMap::new(), &lost);
        let rest = ["entries 3 up to 4 of run 00000000 are", "entries 5 up to 6 of run 00000000 are"];
        assert_eq!(told.findings, rest.map(|words| format!("{words} missing or damaged")));
        assert_eq!(told.notes, ["entries 4 up to 5 of run 00000000 were declared lost"]);
        let lost = [Range { run: RunId(7), from: Seq(2), until: Seq(9) }];
        let told = all_told(&batches, |_| Seq(1), &BTreeMap::new(), &lost);
        assert_eq!((told.findings.len(), told.notes.len()), (0, 1), "{told:?}");
    }

    #[test]
    fn a_whole_log_has_no_findings_also_when_read_twice() {
        let batches = [log(), log()].concat();
        assert_eq!(check(&batches, |_| Seq(1), &BTreeMap::new()), Vec::<String>::new());
        let mut chain = Chain::default();
        batches.into_iter().for_each(|batch| chain.add(batch));
        assert_eq!((chain.batch_count, chain.entry_count, chain.run_count()), (3, 6, 2));
    }

    #[test]
    fn a_missing_batch_is_named_by_its_entries() {
        let mut batches = log();
        batches.remove(1);
        assert_eq!(
            check(&batches, |_| Seq(1), &BTreeMap::new()),
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
        assert_eq!(check(&batches, |_| Seq(1), &known), told);
        assert_eq!(check(&[], |_| Seq(9), &known), Vec::<String>::new(), "all of it was trimmed");
    }

    #[test]
    fn what_was_trimmed_is_not_missed() {
        let mut batches = log();
        batches.remove(0);
        assert_eq!(check(&batches, |_| Seq(3), &BTreeMap::new()), Vec::<String>::new());
    }

    #[test]
    fn a_batch_put_in_the_place_of_another_is_found() {
        let mut batches = log();
        batches[1].link = Digest::of(b"another");
        assert_eq!(check(&batches, |_| Seq(1), &BTreeMap::new()).len(), 1);
        let mut forked = log();
        forked.push(batch(7, 4, 2, 0, Digest::of(b"other")));
        assert!(check(&forked, |_| Seq(1), &BTreeMap::new()).iter().any(|what| what.contains("a fork")));
    }

    #[test]
    fn a_run_that_goes_on_from_the_middle_of_another_is_looked_for_there() {
        let mut batches = log();
        // Beside the end of run 7, as after a restore.
        batches.push(batch(9, 3, 4, 7, batches[0].link));
        assert_eq!(check(&batches, |_| Seq(1), &BTreeMap::new()), Vec::<String>::new());
        batches[3] = batch(9, 3, 4, 7, batches[1].link);
        let told = check(&batches, |_| Seq(1), &BTreeMap::new());
        assert_eq!(told, ["entry 3 of run 00000000 does not go on from the batch before it"]);
        // No batch ends there.
        batches[3] = batch(9, 5, 4, 7, batches[0].link);
        let told = check(&batches, |_| Seq(1), &BTreeMap::new());
        assert_eq!(told, ["entries 3 up to 5 of run 00000000 are missing or damaged"]);
    }

    #[test]
    fn a_long_log_is_kept_as_one_stretch_for_each_run() {
        let (mut chain, mut link) = (Chain::default(), Digest::ZERO);
        for seq in 1..=10_000 {
            let run = 1 + seq / 1_000;
            let parent = if seq % 1_000 == 0 { run - 1 } else { 0 };
            let next = batch(run, seq, 1, parent, link);
            link = next.link;
            chain.add(next);
        }
        assert_eq!((chain.batch_count, chain.run_count()), (10_000, 11));
        assert!(chain.runs.values().all(|stretches| stretches.len() == 1));
        assert!(!chain.seek(|_| Seq(1)), "nothing is to be looked for once more");
        assert_eq!(chain.check(|_| Seq(1), &BTreeMap::new(), &[]), Told::default());
    }
}
