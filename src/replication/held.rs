//! What this store holds of every log, as far as others need to know: runs, ranges, and what was signed about them.
//!
//! It speaks of what is on the disk here (in buffered topics, of our own: of what is written). The log keeps the same
//! books for its own use; where runs begin and end in both follows the same rules.
//!
//! There may be a hundred thousand logs, most with one run and one range: what is kept of each is small, and comparing
//! hashes only those that changed since they were compared last.
use crate::base::planted::{self, Bug};
use crate::base::{Fork, Head, LogId, Lost, PeerId, RunId, Seq, Signature, TopicId, TopicName};
use crate::replication::bounds::STATED_MAX;
use crate::replication::ranges::Ranges;
use crate::wire::peer::{LogSummary, LogTag, Prefix, RunRange, RunSummary};
use std::cell::Cell;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

mod begins;
mod lost;

/// What is held of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldRun {
    /// The run it goes on from.
    pub parent: RunId,
    /// Its first number, where it goes on from that; 1 while that is not known.
    pub from: Seq,
    /// What is below this is trimmed.
    pub start: Seq,
    /// What is held and not trimmed.
    pub ranges: Ranges,
    /// 64 bits of the link of the batch at the end of that; 0 while it is not known.
    pub link: u64,
}

/// What is held of one log.
#[derive(Debug, Clone, Default)]
pub struct HeldLog {
    /// Its runs, in order of their names.
    runs: Vec<(RunId, HeldRun)>,
    /// What its peer signed beside batches, which is nothing for most.
    signed: Option<Box<Signed>>,
    /// Of all that peers compare, known until the next change.
    hash: Cell<ContentHash>,
}

/// What the peer of a log signed beside its batches.
#[derive(Debug, Clone, Default)]
struct Signed {
    /// The newest head of each run that has one, in order of their names.
    heads: Vec<(Head, Signature)>,
    /// What was declared lost.
    lost: Vec<(Lost, Signature)>,
    /// Where its runs forked.
    forks: Vec<Fork>,
}

/// What is held of all logs.
#[derive(Debug, Default)]
pub struct Held {
    /// By their tags, the order in which they are compared.
    logs: BTreeMap<Place, HeldLog>,
    /// The topics of those logs.
    topics: BTreeMap<TopicId, TopicName>,
}

/// The place of a log among all: by its tag, which need not be kept since it follows from the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place(LogId);

impl Place {
    /// The first of all logs with this tag: no peer's key is less, and to that one the rest of the tag belongs.
    fn first_of(tag: LogTag) -> Self {
        let mut topic = [0; 16];
        topic[..8].copy_from_slice(&tag.0.to_be_bytes());
        Self(LogId { topic: TopicId(topic), peer: PeerId([0; 32]) })
    }
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_tag = tag_of(&self.0).cmp(&tag_of(&other.0));
        by_tag.then_with(|| (self.0.peer, self.0.topic).cmp(&(other.0.peer, other.0.topic)))
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
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
    /// Where it does; 1 while that is not known.
    pub begin: Seq,
    /// 64 bits of the link of the last batch; 0 where that is not known.
    pub link: u64,
}

/// Where batches end that were written here, and 64 bits of their links.
pub type Ends = BTreeMap<(LogId, RunId, Seq), u64>;

impl HeldRange {
    /// Takes over the link of its last batch.
    pub fn end_with(&mut self, ends: &Ends) {
        let RunRange { log, run, until, .. } = self.range;
        self.link = ends.get(&(log, run, until)).copied().unwrap_or(self.link);
    }
}

impl HeldRun {
    /// The first number that is not trimmed.
    pub fn begin(&self) -> Seq {
        self.from.max(self.start)
    }

    fn start_at(&mut self, start: Seq) {
        self.start = self.start.max(start);
        self.ranges.remove(Seq::FIRST, self.start);
    }
}

impl HeldLog {
    /// What is held of each run.
    pub fn runs(&self) -> impl Iterator<Item = (&RunId, &HeldRun)> {
        self.runs.iter().map(|(run, held)| (run, held))
    }

    /// What is held of a run.
    pub fn run(&self, run: RunId) -> Option<&HeldRun> {
        self.runs.binary_search_by_key(&run, |(id, _)| *id).ok().map(|at| &self.runs[at].1)
    }

    fn run_mut(&mut self, run: RunId) -> Option<&mut HeldRun> {
        self.runs.binary_search_by_key(&run, |(id, _)| *id).ok().map(|at| &mut self.runs[at].1)
    }

    /// 64 bits of the link of the batch at the end of a run, where that is at `until`; 0 where it is not known.
    pub(super) fn link_at(&self, run: RunId, until: Seq) -> Option<u64> {
        self.run(run).filter(|run| run.ranges.until() == Some(until)).map(|run| run.link)
    }

    /// Whether nothing of it was ever held.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The newest head of each run that has one.
    pub fn heads(&self) -> &[(Head, Signature)] {
        self.signed.as_ref().map_or(&[], |signed| &signed.heads)
    }

    /// What was declared lost.
    pub fn lost(&self) -> &[(Lost, Signature)] {
        self.signed.as_ref().map_or(&[], |signed| &signed.lost)
    }

    /// Where its runs forked.
    pub fn forks(&self) -> &[Fork] {
        self.signed.as_ref().map_or(&[], |signed| &signed.forks)
    }

    pub(super) fn push_fork(&mut self, fork: &Fork) {
        self.signed.get_or_insert_default().forks.push(*fork);
    }

    /// The fork that a branch begins with is one of `run`.
    fn move_fork(&mut self, branch: RunId, run: RunId) {
        let forks = self.signed.iter_mut().flat_map(|signed| &mut signed.forks);
        forks.filter(|fork| fork.branches().contains(&branch)).for_each(|fork| fork.run = run);
    }

    /// It is known where a run begins.
    pub(super) fn begin_run(&mut self, run: RunId, parent: RunId, from: Seq) {
        self.run_or_new(run, parent).from = from;
        self.trim_before(run);
    }

    /// A run ends at `from`, behind the batch of that link.
    pub(super) fn cut(&mut self, run: RunId, from: Seq, link: u64) {
        if let Some(run) = self.run_mut(run) {
            run.ranges.remove(from, Seq(u64::MAX));
            run.link = if run.ranges.until() == Some(from) { link } else { 0 };
        }
    }

    /// Whether more may be signed about it.
    pub(super) fn has_room(&self) -> bool {
        self.heads().len().max(self.lost().len()) < STATED_MAX
    }

    /// The newest head of a run.
    pub fn head(&self, run: RunId) -> Option<&(Head, Signature)> {
        let heads = self.heads();
        heads.binary_search_by_key(&run, |(head, _)| head.run).ok().map(|at| &heads[at])
    }

    /// The first stretch of `from..until` of a run that is neither held nor trimmed nor lost.
    pub fn first_missing(&self, run: RunId, from: Seq, until: Seq) -> Option<(Seq, Seq)> {
        let none = Ranges::default();
        let held = self.run(run).map_or(&none, |run| &run.ranges);
        let until = self.cut_of(run).map_or(until, |cut| cut.min(until));
        let mut next = from.max(self.start_of(run));
        while let Some((first, end)) = held.first_gap(next, until) {
            if let Some(found) = self.first_not_lost(run, first, end) {
                return Some(found);
            }
            next = end;
        }
        None
    }

    fn start_of(&self, run: RunId) -> Seq {
        let signed = self.head(run).map(|(head, _)| head.start);
        self.run(run).map(|run| run.start).max(signed).unwrap_or(Seq::FIRST)
    }

    /// Whether a head says more than what is known.
    pub fn is_news(&self, head: &Head) -> bool {
        self.head(head.run).is_none_or(|(known, _)| known.reach() < head.reach())
    }

    /// Whether a head does not say where its run begins, though that is known here.
    pub fn lacks_beginnings(&self) -> bool {
        let begins = |head: &Head| self.run(head.run).is_some_and(|run| run.from > Seq::FIRST);
        self.heads().iter().any(|(head, _)| !head.says_where() && begins(head))
    }

    fn add_head(&mut self, head: Head, signature: Signature) {
        if self.is_news(&head) {
            let heads = &mut self.signed.get_or_insert_default().heads;
            match heads.binary_search_by_key(&head.run, |(head, _)| head.run) {
                Ok(at) => heads[at] = (head, signature),
                Err(at) => heads.insert(at, (head, signature)),
            }
            self.trim(&head);
        }
    }

    /// A head trims its run and what that goes on from, up to where it does. A run of which nothing but the head came is
    /// known by it.
    fn trim(&mut self, head: &Head) {
        if head.start > head.from {
            self.run_or_new(head.run, head.parent);
        }
        if let Some(run) = self.run_mut(head.run) {
            // The head says where it begins, unless its first batch did.
            run.from = if run.from == Seq::FIRST { head.from } else { run.from };
            run.start_at(head.start);
            self.trim_before(head.run);
        }
    }

    /// What a run goes on from is trimmed before it is, up to where it does.
    fn trim_before(&mut self, mut at: RunId) {
        for _ in 0..self.runs.len() {
            let Some(run) = self.run(at) else { return };
            let (parent, start) = (run.parent, run.start.min(run.from));
            match self.run_mut(parent) {
                Some(before) if before.start < start => before.start_at(start),
                _ => return,
            }
            at = parent;
        }
    }

    /// A run, made where it was not known.
    fn run_or_new(&mut self, run: RunId, parent: RunId) -> &mut HeldRun {
        let at = match self.runs.binary_search_by_key(&run, |(id, _)| *id) {
            Ok(at) => at,
            Err(at) => {
                let (from, start) = self.begins(run);
                if self.runs.len() < 4 {
                    self.runs.reserve_exact(1);
                }
                self.runs
                    .insert(at, (run, HeldRun { parent, from, start, ranges: Ranges::default(), link: 0 }));
                at
            }
        };
        &mut self.runs[at].1
    }

    fn summary(&self, log: LogId, topic: TopicName) -> LogSummary {
        let of_run = |(id, run): &(RunId, HeldRun)| RunSummary {
            run: *id,
            parent: run.parent,
            from: run.from,
            held: run.ranges.iter().collect(),
            link: run.link,
        };
        let runs = self.runs.iter().filter(|(_, run)| !run.ranges.is_empty()).map(of_run).collect();
        let (heads, lost, forks) = (self.heads().to_vec(), self.lost().to_vec(), self.forks().to_vec());
        LogSummary { log, topic, runs, heads, lost, forks }
    }

    /// Whether there is anything of it that peers compare.
    fn says_something(&self) -> bool {
        self.signed.is_some() || self.runs.iter().any(|(_, run)| !run.ranges.is_empty())
    }

    /// The hash of all that peers compare, made when it is asked for the first time since the last change. None where
    /// there is nothing to compare. Nothing but this log's place in the tree is read where it is known.
    fn hash(&self, log: &LogId) -> Option<ContentHash> {
        if self.hash.get() == ContentHash::UNKNOWN {
            let hash = if self.says_something() { self.make_hash(log) } else { ContentHash::NOTHING };
            self.hash.set(hash);
        }
        Some(self.hash.get()).filter(|hash| *hash != ContentHash::NOTHING)
    }

    fn make_hash(&self, log: &LogId) -> ContentHash {
        #[cfg(test)]
        tests::HASHED.with(|count| count.set(count.get() + 1));
        let mut hasher = blake3::Hasher::new();
        hasher.update(&log.topic.0).update(&log.peer.0);
        let mut put = |numbers: &[u64]| {
            numbers.iter().for_each(|number| {
                hasher.update(&number.to_le_bytes());
            });
        };
        for (id, run) in self.runs.iter().filter(|(_, run)| !run.ranges.is_empty()) {
            let link = if planted::is(Bug::ForksUnseen) { 0 } else { run.link };
            put(&[1, id.0, link]);
            run.ranges.iter().for_each(|(from, until)| put(&[from.0, until.0]));
        }
        self.heads().iter().for_each(|(head, _)| put(&[2, head.run.0, head.start.0, head.until.0]));
        let lacking = self.heads().iter().filter(|(head, _)| !head.says_where());
        lacking.for_each(|(head, _)| put(&[5, head.run.0]));
        self.lost().iter().for_each(|(lost, _)| put(&[3, lost.run.0, lost.from.0, lost.until.0]));
        // The same branches may be known by other pairs of them.
        let branches: BTreeSet<RunId> = self.forks().iter().flat_map(Fork::branches).collect();
        branches.into_iter().for_each(|branch| put(&[4, branch.0]));
        let digest = *hasher.finalize().as_bytes();
        let half = |at: usize| digest[at..].first_chunk().map_or(0, |half| u64::from_le_bytes(*half));
        ContentHash(half(0).max(1), half(8))
    }
}

/// 128 bits of the hash of what is held of a log; the first half of a hash is never 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct ContentHash(u64, u64);

impl ContentHash {
    const UNKNOWN: Self = Self(0, 0);
    const NOTHING: Self = Self(0, 1);

    /// What goes into the sums of one comparison. Two contents have the same 128 bits never, as far as anybody can tell.
    /// That they come to the same 64 bits under a salt happens, once in 2^64; under the next salt they differ again,
    /// since the salt goes through all rounds with the content and does not just shift the result.
    fn salted(self, salt: u64) -> u64 {
        spread(spread(self.0 ^ salt) ^ self.1)
    }
}

/// Each bit of the result depends on each bit given (the finalizer of SplitMix64, a bijection).
fn spread(mut x: u64) -> u64 {
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

impl Held {
    /// What is held of a log.
    pub fn log(&self, log: &LogId) -> Option<&HeldLog> {
        self.logs.get(&Place(*log))
    }

    /// Where the runs of a log forked.
    pub fn forks_of(&self, log: &LogId) -> &[Fork] {
        self.log(log).map_or(&[], HeldLog::forks)
    }

    /// A log that is about to change.
    pub(super) fn log_or_new(&mut self, log: LogId, topic: &TopicName) -> &mut HeldLog {
        let topics = &mut self.topics;
        let of_log = self.logs.entry(Place(log)).or_insert_with(|| {
            topics.entry(log.topic).or_insert_with(|| topic.clone());
            HeldLog::default()
        });
        of_log.hash.set(ContentHash::UNKNOWN);
        of_log
    }

    /// The name of a topic of which something is held.
    pub fn topic(&self, topic: &TopicId) -> Option<&TopicName> {
        self.topics.get(topic)
    }

    /// What a topic of which something is held is called.
    pub(super) fn name_topic(&mut self, topic: TopicId, name: &TopicName) {
        if let Some(known) = self.topics.get_mut(&topic).filter(|known| *known != name) {
            *known = name.clone();
        }
    }

    /// Entries are durable here. Answers whether that is news.
    pub fn add(&mut self, topic: &TopicName, held: &HeldRange) -> bool {
        let RunRange { log, run, from, until } = held.range;
        let of_log = self.log_or_new(log, topic);
        let of_run = of_log.run_or_new(run, held.parent);
        // Its first batch says where it begins; until then that may be a guess, behind which nothing of it is.
        of_run.from = if held.begin > Seq::FIRST { held.begin } else { of_run.from.min(from) };
        let from = from.max(of_run.start);
        let is_news = !of_run.ranges.holds(from, until);
        of_run.ranges.insert(from, until);
        if of_run.ranges.until() == Some(until) && (is_news || held.link != 0) {
            of_run.link = held.link;
        }
        // It may be known only now where this run goes on from, or that it does.
        of_log.trim_before(run);
        is_news
    }

    /// A run goes on from another than was told.
    pub(super) fn move_run(&mut self, log: &LogId, run: RunId, parent: RunId) {
        let Some(of_log) = self.logs.get_mut(&Place(*log)) else { return };
        of_log.move_fork(run, parent);
        if let Some(of_run) = of_log.run_mut(run) {
            of_run.parent = parent;
            of_log.hash.set(ContentHash::UNKNOWN);
            of_log.trim_before(run);
        }
    }

    /// Whether any of these entries is held.
    pub fn holds_any(&self, range: &RunRange) -> bool {
        let run = self.log(&range.log).and_then(|log| log.run(range.run));
        run.is_some_and(|run| {
            run.ranges.first_gap(range.from, range.until) != Some((range.from, range.until))
        })
    }

    /// Entries are not held any more.
    pub fn remove(&mut self, range: &RunRange) {
        if planted::is(Bug::DamageStillHeld) {
            return;
        }
        if let Some(log) = self.logs.get_mut(&Place(range.log)) {
            log.hash.set(ContentHash::UNKNOWN);
            if let Some(run) = log.run_mut(range.run) {
                let end = run.ranges.until();
                run.ranges.remove(range.from, range.until);
                run.link = if run.ranges.until() == end { run.link } else { 0 };
            }
        }
    }

    /// A head is durable here.
    pub fn add_head(&mut self, topic: &TopicName, head: Head, signature: Signature) {
        self.log_or_new(head.log, topic).add_head(head, signature);
    }

    /// A range was declared lost, durably.
    pub fn add_lost(&mut self, topic: &TopicName, lost: Lost, signature: Signature) {
        let log = self.log_or_new(lost.log, topic);
        let (at, is_there) = log.place_of(&lost, &signature);
        if !is_there {
            log.signed.get_or_insert_default().lost.insert(at, (lost, signature));
        }
    }

    /// What is held of the logs with this tag, which is nearly always one.
    pub fn summaries(&self, tag: LogTag) -> impl Iterator<Item = LogSummary> + '_ {
        let from = self.logs.range(Place::first_of(tag)..);
        let of_tag = from.take_while(move |(Place(log), _)| tag_of(log) == tag);
        of_tag.filter_map(|(Place(log), held)| Some(held.summary(*log, self.topics.get(&log.topic)?.clone())))
    }

    /// The hash of each log whose tag begins with `prefix` and of which there is something to compare, in order of tags.
    pub fn leaves(&self, salt: u64, prefix: Prefix) -> impl Iterator<Item = (LogTag, u64)> + '_ {
        let begins = self.logs.range(Place::first_of(LogTag(prefix.bits))..);
        let tagged = begins.map(|(Place(log), held)| (tag_of(log), log, held));
        let under = tagged.take_while(move |(tag, ..)| prefix.holds(*tag));
        under.filter_map(move |(tag, log, held)| Some((tag, held.hash(log)?.salted(salt))))
    }
}

#[cfg(test)]
mod tests;
