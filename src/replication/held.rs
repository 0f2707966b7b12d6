//! What this store holds of every log, as far as others need to know: runs, ranges, and what was signed about them.
//!
//! It speaks of what is durable here. The log keeps the same books for its own use; the two are compared in simulation.
use crate::base::{Head, LogId, Lost, RunId, Seq, Signature, TopicId, TopicName};
use crate::replication::ranges::Ranges;
use crate::wire::peer::{LogSummary, LogTag, Prefix, RunRange, RunSummary};
use std::collections::{BTreeMap, BTreeSet};

/// What is held of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldRun {
    /// The run it goes on from.
    pub parent: RunId,
    /// Its first number, as far as is known.
    pub from: Seq,
    /// What is below this is trimmed.
    pub start: Seq,
    /// What is held and not trimmed.
    pub ranges: Ranges,
}

/// What is held of one log. There may be a hundred thousand, most with one run: lists rather than trees.
#[derive(Debug, Clone, Default)]
pub struct HeldLog {
    /// Its runs, in order of their names.
    runs: Vec<(RunId, HeldRun)>,
    /// The newest head of each run that has one, in order of their names.
    heads: Vec<(Head, Signature)>,
    /// What was declared lost.
    pub lost: Vec<(Lost, Signature)>,
}

/// What is held of all logs.
#[derive(Debug, Default)]
pub struct Held {
    logs: BTreeMap<LogId, HeldLog>,
    /// The topics of those logs.
    topics: BTreeMap<TopicId, TopicName>,
    by_tag: BTreeSet<(LogTag, LogId)>,
}

/// Where a log stands among all: both ids are digests or keys, so these bits are spread evenly.
pub fn tag_of(log: &LogId) -> LogTag {
    let first = |bytes: &[u8]| bytes.first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
    LogTag(first(&log.topic.0) ^ first(&log.peer.0))
}

/// What a batch or a recovered span says of its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldRange {
    /// The entries.
    pub range: RunRange,
    /// The run that theirs goes on from.
    pub parent: RunId,
}

impl HeldLog {
    /// What is held of a run.
    pub fn run(&self, run: RunId) -> Option<&HeldRun> {
        self.runs.binary_search_by_key(&run, |(id, _)| *id).ok().map(|at| &self.runs[at].1)
    }

    fn run_mut(&mut self, run: RunId) -> Option<&mut HeldRun> {
        self.runs.binary_search_by_key(&run, |(id, _)| *id).ok().map(|at| &mut self.runs[at].1)
    }

    /// Whether nothing of it was ever held.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The newest head of a run.
    pub fn head(&self, run: RunId) -> Option<&(Head, Signature)> {
        self.heads.binary_search_by_key(&run, |(head, _)| head.run).ok().map(|at| &self.heads[at])
    }

    /// The first stretch of `from..until` of a run that is neither held nor trimmed nor lost.
    pub fn first_missing(&self, run: RunId, from: Seq, until: Seq) -> Option<(Seq, Seq)> {
        let start = self.start_of(run);
        let mut have = self.run(run).map(|run| run.ranges.clone()).unwrap_or_default();
        have.insert(Seq::FIRST, start);
        let of_run = self.lost.iter().filter(|(lost, _)| lost.run == run);
        of_run.for_each(|(lost, _)| have.insert(lost.from, lost.until));
        have.first_gap(from, until)
    }

    fn start_of(&self, run: RunId) -> Seq {
        let signed = self.head(run).map(|(head, _)| head.start);
        self.run(run).map(|run| run.start).max(signed).unwrap_or(Seq::FIRST)
    }

    /// Whether a head says more than what is known.
    pub fn is_news(&self, head: &Head) -> bool {
        let reach = |head: &Head| (head.start, head.until, head.is_sealed);
        self.head(head.run).is_none_or(|(known, _)| reach(known) < reach(head))
    }

    fn add_head(&mut self, head: Head, signature: Signature) {
        if self.is_news(&head) {
            match self.heads.binary_search_by_key(&head.run, |(head, _)| head.run) {
                Ok(at) => self.heads[at] = (head, signature),
                Err(at) => self.heads.insert(at, (head, signature)),
            }
            self.apply_head(&head);
        }
    }

    /// A head trims its run and what that goes on from, up to where it does.
    fn apply_head(&mut self, head: &Head) {
        let (mut at, mut end) = (head.run, Seq(u64::MAX));
        for _ in 0..self.runs.len() {
            let Some(run) = self.run_mut(at) else { return };
            run.start = run.start.max(head.start.min(end));
            run.ranges.remove(Seq::FIRST, run.start);
            (at, end) = (run.parent, run.from);
        }
    }

    fn summary(&self, log: LogId, topic: TopicName) -> LogSummary {
        let of_run = |(id, run): &(RunId, HeldRun)| RunSummary {
            run: *id,
            parent: run.parent,
            from: run.from,
            held: run.ranges.iter().collect(),
        };
        let runs = self.runs.iter().filter(|(_, run)| !run.ranges.is_empty()).map(of_run).collect();
        LogSummary { log, topic, runs, heads: self.heads.clone(), lost: self.lost.clone() }
    }

    /// A hash of all that peers compare, under a salt.
    fn hash(&self, salt: u64, log: &LogId) -> u64 {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&salt.to_le_bytes());
        let mut hasher = blake3::Hasher::new_keyed(&key);
        hasher.update(&log.topic.0).update(&log.peer.0);
        let mut put = |numbers: &[u64]| {
            numbers.iter().for_each(|number| {
                hasher.update(&number.to_le_bytes());
            });
        };
        for (id, run) in self.runs.iter().filter(|(_, run)| !run.ranges.is_empty()) {
            put(&[1, id.0]);
            run.ranges.iter().for_each(|(from, until)| put(&[from.0, until.0]));
        }
        self.heads.iter().for_each(|(head, _)| put(&[2, head.run.0, head.start.0, head.until.0]));
        self.lost.iter().for_each(|(lost, _)| put(&[3, lost.run.0, lost.from.0, lost.until.0]));
        let digest = hasher.finalize();
        digest.as_bytes().first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
    }
}

impl Held {
    /// What is held of a log.
    pub fn log(&self, log: &LogId) -> Option<&HeldLog> {
        self.logs.get(log)
    }

    /// All logs.
    pub fn logs(&self) -> impl Iterator<Item = (&LogId, &HeldLog)> {
        self.logs.iter()
    }

    fn log_or_new(&mut self, log: LogId, topic: &TopicName) -> &mut HeldLog {
        if !self.logs.contains_key(&log) {
            self.by_tag.insert((tag_of(&log), log));
            self.topics.entry(log.topic).or_insert_with(|| topic.clone());
        }
        self.logs.entry(log).or_default()
    }

    /// The name of a topic of which something is held.
    pub fn topic(&self, topic: &TopicId) -> Option<&TopicName> {
        self.topics.get(topic)
    }

    /// Entries are durable here. Answers whether that is news.
    pub fn add(&mut self, topic: &TopicName, held: &HeldRange) -> bool {
        let RunRange { log, run, from, until } = held.range;
        let of_log = self.log_or_new(log, topic);
        let start = of_log.start_of(run);
        let found = of_log.runs.binary_search_by_key(&run, |(id, _)| *id);
        let (Ok(at) | Err(at)) = found;
        if found.is_err() {
            if of_log.runs.len() < 4 {
                of_log.runs.reserve_exact(1);
            }
            let new = HeldRun { parent: held.parent, from, start, ranges: Ranges::default() };
            of_log.runs.insert(at, (run, new));
        }
        let of_run = &mut of_log.runs[at].1;
        of_run.from = of_run.from.min(from);
        let from = from.max(of_run.start);
        let is_news = !of_run.ranges.holds(from, until);
        of_run.ranges.insert(from, until);
        if found.is_err() {
            // Heads of runs that go on from this one may have come before it.
            let heads: Vec<Head> = of_log.heads.iter().map(|(head, _)| *head).collect();
            heads.iter().for_each(|head| of_log.apply_head(head));
        }
        is_news
    }

    /// Whether any of these entries is held.
    pub fn holds_any(&self, range: &RunRange) -> bool {
        let run = self.logs.get(&range.log).and_then(|log| log.run(range.run));
        run.is_some_and(|run| {
            run.ranges.first_gap(range.from, range.until) != Some((range.from, range.until))
        })
    }

    /// Entries are not held any more.
    pub fn remove(&mut self, range: &RunRange) {
        let of_run = self.logs.get_mut(&range.log).and_then(|log| log.run_mut(range.run));
        if let Some(run) = of_run {
            run.ranges.remove(range.from, range.until);
        }
    }

    /// A head is durable here.
    pub fn add_head(&mut self, topic: &TopicName, head: Head, signature: Signature) {
        self.log_or_new(head.log, topic).add_head(head, signature);
    }

    /// A range was declared lost, durably.
    pub fn add_lost(&mut self, topic: &TopicName, lost: Lost, signature: Signature) {
        let log = self.log_or_new(lost.log, topic);
        if !log.lost.contains(&(lost, signature)) {
            log.lost.push((lost, signature));
            log.lost.sort_by_key(|(lost, _)| (lost.run, lost.from, lost.until));
        }
    }

    /// What is held of the logs with this tag, which is nearly always one.
    pub fn summaries(&self, tag: LogTag) -> impl Iterator<Item = LogSummary> + '_ {
        let first = LogId { topic: crate::base::TopicId([0; 16]), peer: crate::base::PeerId([0; 32]) };
        let of_tag = self.by_tag.range((tag, first)..).take_while(move |(other, _)| *other == tag);
        of_tag.filter_map(|(_, log)| {
            Some(self.logs.get(log)?.summary(*log, self.topics.get(&log.topic)?.clone()))
        })
    }

    /// The hash of each log whose tag begins with `prefix`, in order of tags.
    pub fn leaves(&self, salt: u64, prefix: Prefix) -> impl Iterator<Item = (LogTag, u64)> + '_ {
        let first = LogId { topic: crate::base::TopicId([0; 16]), peer: crate::base::PeerId([0; 32]) };
        let begins = self.by_tag.range((LogTag(prefix.bits), first)..);
        let under = begins.take_while(move |(tag, _)| prefix.holds(*tag));
        under.filter_map(move |(tag, log)| Some((*tag, self.logs.get(log)?.hash(salt, log))))
    }
}
