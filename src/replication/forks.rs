//! Forks: how two stores notice that they hold different batches under the same numbers, and what follows in the books.
//!
//! What peers compare of a run has the [`link`](crate::base::statement::link) of the batch at its end, which stands for all
//! batches before. Where two ends are the same number and another link, somebody looks for the first batch in which they
//! differ; that search asks for statements alone, and goes on outside. What it finds is a proof, which travels like heads do.
use crate::base::limits::FORKS_MAX;
use crate::base::planted::{self, Bug};
use crate::base::{Digest, Fork, LogId, RunId, Seq, StoreId, TopicName};
use crate::replication::engine::Replication;
use crate::replication::held::{Ends, Held, HeldLog};
use crate::replication::io::PeerOutput;
use crate::replication::session::RunKey;
use crate::wire::peer::{PeerMessage, RunSummary};

impl HeldLog {
    /// Where a run forked, if it did: nothing of it is wanted from there on.
    pub fn cut_of(&self, run: RunId) -> Option<Seq> {
        self.end_of_forked(run).map(|(cut, _)| cut)
    }

    /// The same, and the [`link`](crate::base::statement::link) of the batch before.
    pub fn end_of_forked(&self, run: RunId) -> Option<(Seq, Digest)> {
        let of_run = self.forks().iter().filter(|fork| fork.run == run);
        of_run.map(|fork| (fork.from(), fork.previous())).min()
    }

    /// Whether a batch of a run that ends there, with this [`link`](crate::base::statement::link), may be the run's as far as its
    /// forks tell: nothing behind the first is, and what that goes on from is known by it.
    pub fn may_hold(&self, run: RunId, until: Seq, link: Digest) -> bool {
        let fork = self.end_of_forked(run);
        fork.is_none_or(|(cut, previous)| until < cut || (until, link) == (cut, previous))
    }

    /// Whether a fork says more than what is known, and there is room for it.
    pub fn is_new_fork(&self, fork: &Fork) -> bool {
        self.forks().len() < FORKS_MAX && !self.knows_fork(fork)
    }

    fn knows_fork(&self, fork: &Fork) -> bool {
        let knows = |branch: &RunId| self.forks().iter().any(|known| known.branches().contains(branch));
        fork.branches().iter().all(knows)
    }
}

impl Held {
    /// A fork is known here durably: its run ends there, and its branches go on.
    pub fn add_fork(&mut self, topic: &TopicName, fork: &Fork) {
        let log = self.log_or_new(fork.log(), topic);
        if !log.knows_fork(fork) {
            log.push_fork(fork);
        }
        let (first, _) = &fork.sides()[0];
        if first.opens_run {
            log.begin_run(fork.run, first.parent, fork.from());
        }
        log.cut(fork.run, fork.from(), link_bits(&fork.previous()));
    }
}

/// What is compared of a link; never 0, which stands for one that is not known.
pub fn link_bits(link: &crate::base::Digest) -> u64 {
    link.0.first_chunk().map_or(1, |first| u64::from_be_bytes(*first).max(1))
}

impl Replication {
    /// A fork that another store tells of, its signatures checked.
    pub(super) fn fork(&self, topic: &TopicName, fork: &Fork, out: &mut Vec<PeerOutput>) {
        if self.held.log(&fork.log()).is_none_or(|log| log.is_new_fork(fork)) {
            out.push(PeerOutput::StoreFork(topic.clone(), Box::new(*fork)));
        }
    }

    /// Batches were written here, and are durable.
    pub fn note_ends(&mut self, ends: &Ends) {
        for ((log, run, until), link) in ends {
            self.copies.note_ends((*log, *run), [(*until, *link)]);
        }
    }

    /// A run goes on from a branch, and not from the run that it was signed to go on from.
    pub fn move_run(&mut self, log: LogId, run: RunId, branch: RunId) {
        self.held.move_run(&log, run, branch);
    }

    /// A fork is durable here: others are told, and both branches are to be had.
    pub(super) fn add_fork(
        &mut self,
        now_ms: u64,
        topic: &TopicName,
        fork: &Fork,
        out: &mut Vec<PeerOutput>,
    ) {
        self.held.add_fork(topic, fork);
        let key = (fork.log(), fork.run);
        if let Some(taken) = self.taken.get_mut(&key) {
            taken.remove(fork.from(), Seq(u64::MAX));
        }
        self.wake_log(fork.log());
        self.release_all(out);
        out.extend(self.sessions.keys().map(|store| {
            let message = PeerMessage::Fork(Box::new(*fork));
            PeerOutput::Send(*store, message)
        }));
        // What others hold of the branches they say when we compare.
        self.sessions.values_mut().for_each(|session| session.compare_ms = now_ms);
    }

    /// Looks whether another store ends a run with another batch than this one.
    pub(super) fn compare_ends(
        &self,
        from: StoreId,
        key: RunKey,
        said: &RunSummary,
        out: &mut Vec<PeerOutput>,
    ) {
        if let Some((_, until)) = said.held.last() {
            self.compare_end(from, key, (*until, said.link), out);
        }
    }

    /// The same of one number and link.
    pub(super) fn compare_end(
        &self,
        from: StoreId,
        key: RunKey,
        (until, link): (Seq, u64),
        out: &mut Vec<PeerOutput>,
    ) {
        let Some(log) = self.held.log(&key.0) else { return };
        let (Some(run), true) = (log.run(key.1), log.forks().len() < FORKS_MAX) else { return };
        let is_other = run.link != 0 && link != 0 && run.link != link;
        if is_other && run.ranges.until() == Some(until) && !planted::is(Bug::ForksUnseen) {
            out.push(PeerOutput::Differs { from, log: key.0, run: key.1, at: Seq(until.0 - 1) });
        }
    }
}
