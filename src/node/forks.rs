//! Forks of runs: what a run holds behind its fork is stored again, as of its branch, and only then cut off.
//!
//! ```text
//! proof ──> nothing of that run is numbered or taken any more ──> its steps are durable
//!       ──> read again and stored as of the branch, piece by piece ──> with the last of it, the fork
//! ```
//!
//! So at every moment each entry is there under one name at least, and after a crash it begins anew.
use crate::base::limits::FORKS_MAX;
use crate::base::planted::{self, Bug};
use crate::base::{Batch, Digest, Fork, LogId, Now, RunId, Seq, Statement, TopicName, Work};
use crate::node::copies::Awaits;
use crate::node::engine::Node;
use crate::node::io::{Looked, Output};
use crate::node::own_log::Tip;
use crate::replication::forks::link_bits;
use crate::replication::{PeerInput, PeerOutput};
use std::collections::{BTreeMap, VecDeque};

/// Forks that are being brought into the books at once, at most; others are told of again.
const FORKING_MAX: usize = 64;

/// Batches that are remembered from when they were taken on: whoever looked at the disk before they were there did not see
/// them.
const RECENT_MAX: usize = 4_096;

/// Forks on their way into the books, and batches on their way to the disk.
#[derive(Debug, Default)]
pub(super) struct Forks {
    forking: BTreeMap<(LogId, RunId), Forking>,
    recent: BTreeMap<(LogId, RunId, Seq), Recent>,
    /// Their names, in the order in which they were taken.
    order: VecDeque<(u64, (LogId, RunId, Seq))>,
    /// All that became durable with this step or before may be forgotten.
    forgotten: u64,
}

/// A batch that was taken.
#[derive(Debug, Clone, Copy)]
struct Recent {
    until: Seq,
    previous: Digest,
    link: Digest,
    step: u64,
}

#[derive(Debug)]
struct Forking {
    topic: TopicName,
    fork: Box<Fork>,
    /// The step that must be durable before it goes on; none while it is being looked at.
    waits: Option<u64>,
    /// What the run goes on as here, once that is known.
    branch: Option<RunId>,
}

/// What was found of a run that forked.
#[derive(Debug)]
pub enum Behind {
    /// It cannot be brought into the books now: what comes before the fork is not here.
    NotYet,
    /// It is one of another run in the books: a branch of the one that was named.
    Elsewhere(Box<Fork>),
    /// Batches behind the fork, as of their branch; more follow.
    Part(Vec<Batch>),
    /// The last of them; other forks that were found with this; and the branch that they are of and where it ends, if there
    /// are any.
    Whole(Vec<Batch>, Vec<Fork>, Option<Tip>),
}

impl Node {
    /// The run that was signed where this one is a branch of it; else this one.
    pub(super) fn signed_run_of(&self, log: &LogId, run: RunId) -> RunId {
        let forks = self.replication.held().forks_of(log);
        let of_branch = forks.iter().find(|fork| fork.branches().contains(&run));
        of_branch.map_or(run, Fork::signed_run)
    }

    /// A fork was heard of, or found, and its signatures are good.
    pub(super) fn begin_fork(&mut self, topic: TopicName, fork: Box<Fork>, outputs: &mut Vec<Output>) {
        let key = (fork.log(), fork.run);
        let forking = &self.forks.forking;
        if self.is_full || forking.len() >= FORKING_MAX || forking.contains_key(&key) {
            return;
        }
        // Those on their way count: the books take what is durable, whatever the bound.
        let known = self.replication.held().log(&key.0).map_or(0, |log| log.forks().len());
        let of_log = forking.keys().filter(|(log, _)| *log == key.0).count();
        if known + of_log >= FORKS_MAX {
            return;
        }
        if let Some(own) = self.own.get_mut(&key.0) {
            if planted::is(Bug::RunsAreNeverLeft) {
                return;
            }
            own.leave(fork.run);
        }
        // What was numbered or taken of the run before is to be durable first.
        let last = if self.gather.is_empty() { self.step - 1 } else { self.step };
        self.forks.forking.insert(key, Forking { topic, fork, waits: Some(last), branch: None });
        self.go_on_forking(outputs);
    }

    /// Has what is durable of runs that forked looked at.
    pub(super) fn go_on_forking(&mut self, outputs: &mut Vec<Output>) {
        for forking in self.forks.forking.values_mut() {
            if forking.waits.is_some_and(|step| step <= self.durable) {
                forking.waits = None;
                let (topic, fork) = (forking.topic.clone(), forking.fork.clone());
                outputs.push(Output::Peer(PeerOutput::StoreFork(topic, fork)));
            }
        }
    }

    /// What a run that forked holds behind that goes to the disk once more, as of its branch.
    pub(super) fn on_forked(&mut self, fork: &Fork, found: Behind, outputs: &mut Vec<Output>) {
        let key = (fork.log(), fork.run);
        let Some(mut forking) = self.forks.forking.remove(&key) else { return };
        if self.is_full {
            return;
        }
        let (batches, forks, branch) = match found {
            Behind::NotYet => return,
            Behind::Elsewhere(fork) => return self.begin_fork(forking.topic, fork, outputs),
            Behind::Part(batches) => {
                self.store_branch(&forking.topic, batches);
                forking.waits = Some(self.step);
                self.forks.forking.insert(key, forking);
                return;
            }
            Behind::Whole(batches, forks, branch) => (batches, forks, branch),
        };
        self.store_branch(&forking.topic, batches);
        if let (Some(own), Some(branch)) = (self.own.get_mut(&key.0), branch) {
            own.rename(fork.run, fork.from(), branch);
        }
        for fork in [*fork].into_iter().chain(forks) {
            let (topic, fork) = (forking.topic.clone(), Box::new(fork));
            self.gather.push(Work::Fork { topic, fork });
        }
        // Until that is durable nothing of the run is taken.
        let branch = branch.map(|branch| branch.run);
        self.forks.forking.insert(key, Forking { waits: None, branch, ..forking });
    }

    fn store_branch(&mut self, topic: &TopicName, batches: Vec<Batch>) {
        for batch in batches {
            self.note_recent(&batch);
            self.note_foreign(topic, &batch);
            self.gather.push(Work::Foreign { topic: topic.clone(), batch });
        }
    }

    fn note_recent(&mut self, batch: &Batch) {
        let s = batch.statement();
        let (key, step) = ((s.log, s.run, s.first_seq), self.step);
        let recent = Recent { until: s.until(), previous: s.previous, link: batch.link(), step };
        self.forks.recent.insert(key, recent);
        self.forks.order.push_back((step, key));
        while self.forks.order.len() > RECENT_MAX
            && let Some((step, key)) = self.forks.order.pop_front_if(|(step, _)| *step <= self.durable)
        {
            self.forks.forgotten = step;
            if self.forks.recent.get(&key).is_some_and(|recent| recent.step == step) {
                self.forks.recent.remove(&key);
            }
        }
    }

    /// A fork is in the books. What was appended here behind it is called by its branch from now on: by whoever tries again,
    /// and where copies are waited for.
    pub(super) fn end_fork(&mut self, now: Now, fork: &Fork, outputs: &mut Vec<Output>) {
        let (log, run, from) = (fork.log(), fork.run, fork.from());
        let Some(branch) = self.forks.forking.remove(&(log, run)).and_then(|forking| forking.branch) else {
            return;
        };
        if log.peer != self.config.peer {
            return;
        }
        self.producers.rename(log.topic, run, from, branch);
        let is_meant = |awaits: &&mut Awaits| {
            awaits.log == log && awaits.appended.run == run && from <= awaits.appended.first_seq
        };
        self.awaiting.values_mut().filter(is_meant).for_each(|awaits| awaits.appended.run = branch);
        self.on_peer(now, PeerInput::Renamed { log, run, from, branch }, outputs);
    }

    /// Forgets what was not written.
    pub(super) fn forget_forks(&mut self) {
        self.forks = Forks::default();
    }

    /// Whether a batch may be stored in the run that it is of: nothing of one that is being cut, nothing that differs from what
    /// was taken since the disk was looked at for it, or does not go on from that, and of a branch only what goes on from
    /// what is held.
    pub(super) fn is_in_place(&mut self, batch: &Batch, looked: Looked) -> bool {
        let s = batch.statement();
        let key = (s.log, s.run);
        let forking = self.forks.forking.get(&key).map(|forking| forking.fork.from());
        // Whatever was here when the disk was looked at.
        let known = self.replication.held().log(&s.log);
        let is_of_run = known.is_none_or(|log| log.may_hold(s.run, s.until(), batch.link()));
        if !is_of_run || forking.is_some_and(|cut| cut < s.until()) {
            return false;
        }
        let Some(goes_on) = self.goes_on_from_recent(batch, looked.step) else { return false };
        let is_placed = s.signed.is_none() || looked.is_placed || goes_on;
        if is_placed {
            self.note_recent(batch);
        }
        is_placed
    }

    /// Where what is held of a run ends that a batch is of, with the batch, and with what was taken and is on its way.
    pub(super) fn end_behind(&self, s: &Statement) -> Seq {
        let held = self.replication.held().log(&s.log).and_then(|log| log.run(s.run));
        let mut end = s.until();
        loop {
            let of_held = held.and_then(|run| run.ranges.around(end)).map(|(_, until)| until);
            let of_recent = self.forks.recent.get(&(s.log, s.run, end)).map(|recent| recent.until);
            match of_held.max(of_recent).filter(|until| *until > end) {
                Some(until) => end = until,
                None => return end,
            }
        }
    }

    /// Whether a batch goes on from one that was taken lately, or that from it; none where it cannot stand beside those.
    fn goes_on_from_recent(&self, batch: &Batch, looked: u64) -> Option<bool> {
        let (s, link) = (batch.statement(), batch.link());
        let run = (s.log, s.run, Seq(0))..(s.log, s.run, Seq(u64::MAX));
        let is_new =
            |(key, recent): &(&(LogId, RunId, Seq), &Recent)| looked < recent.step && run.contains(*key);
        let at = (s.log, s.run, s.first_seq);
        let before = self.forks.recent.range(..=at).next_back().filter(is_new);
        let after = self.forks.recent.range(at..).next().filter(is_new);
        let mut goes_on = false;
        for ((_, _, first), recent) in before.into_iter().chain(after) {
            let is_same = *first == s.first_seq && recent.link == link;
            let follows = recent.until == s.first_seq && recent.link == s.previous;
            let is_followed = *first == s.until() && recent.previous == link;
            let is_apart = recent.until < s.first_seq || s.until() < *first;
            if !(is_same || follows || is_followed || is_apart) {
                return None;
            }
            goes_on |= follows || is_followed;
        }
        let held = self.replication.held().log(&s.log).and_then(|log| log.run(s.run));
        let end = held.and_then(|run| Some((run.ranges.until()?, run.link)));
        let Some((until, at_end)) = end else { return Some(goes_on) };
        let is_behind = s.first_seq == until && at_end != 0;
        if is_behind && at_end != link_bits(&s.previous) {
            return None;
        }
        // Of what was looked at long ago it is not known any more what came since.
        let is_stale = looked < self.forks.forgotten && s.first_seq < until;
        (!is_stale).then_some(goes_on || is_behind)
    }
}
