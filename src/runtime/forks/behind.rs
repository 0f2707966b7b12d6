//! What a run that forked holds behind the fork: of which branch each batch is.
//!
//! ```text
//! r   1..5 | 5..8 | (8..10 not here) | 10..12        5..8 begins a branch; 10..12 is of the one whose end it goes on from,
//!                                                    where that is known, and is had again where it is not
//! ```
use super::held_at;
use crate::base::limits::FORKS_MAX;
use crate::base::statement::branch_of;
use crate::base::{Batch, Digest, Fork, RunId, Seq};
use crate::log::Store;
use crate::log::state::Run;
use crate::log::store::Log;
use crate::node::Behind;
use crate::node::own_log::Tip;

/// The run in the books that forked: of one that forked before too, the branch that holds what both sides go on from.
/// None where that is not here.
fn run_of(store: &Store, log: &Log, fork: &Fork) -> Option<RunId> {
    let (from, previous) = (fork.from(), fork.previous());
    let mut open = vec![fork.run];
    // A log has few forks: whoever is told of one that goes round in a circle stops.
    for _ in 0..2 * FORKS_MAX {
        let run = open.pop()?;
        let end = {
            let state = log.look();
            if state.cut_of(run).is_some_and(|cut| cut < from) {
                let branches = state.branches_at(run, Seq(from.0 - 1)).into_iter();
                open.extend(branches.filter(|branch| !fork.branches().contains(branch)));
                continue;
            }
            state.run(run).map(|run| (run.until, run.link))
        };
        let Some((until, link)) = end else { continue };
        let is_end = |batch: Batch| batch.statement().until() == from && batch.link() == previous;
        let is_before = || held_at(store, log, run, Seq(from.0 - 1)).is_some_and(is_end);
        let is_behind =
            |batch: Batch| batch.statement().first_seq == from && batch.statement().previous == previous;
        let goes_on = || held_at(store, log, run, from).is_some_and(is_behind);
        if (until, link) == (from, previous) || (until > from && (goes_on() || is_before())) {
            return Some(run);
        }
    }
    None
}

/// Whether a run is trimmed up to its fork or further, and nothing is held of it: so nothing that is here need be told which side
/// it is of, and what comes of either is told as of a branch.
fn is_trimmed(log: &Log, fork: &Fork) -> bool {
    let state = log.look();
    let is_gone = |run: &Run| state.spans_of(run.id).iter().all(|span| span.until <= run.start);
    state.run(fork.run).is_some_and(|run| fork.from() <= run.start && is_gone(run))
}

/// Bytes of batches that are stored again in one step.
const PART_BYTES: usize = 4 << 20;

/// What a run that forked holds from the fork on, as far as it goes on from there, as of its branch.
pub(super) fn look_behind(store: &Store, fork: &Fork) -> Behind {
    let opens_run = fork.sides()[0].0.opens_run;
    let nothing = || if opens_run { Behind::Whole(vec![], vec![], None) } else { Behind::NotYet };
    let Some(log) = store.log(&fork.log()) else { return nothing() };
    if let Some(run) = run_of(store, &log, fork).filter(|run| *run != fork.run) {
        return Behind::Elsewhere(Box::new(fork.in_run(run)));
    }
    let end = log.look().run(fork.run).map(|run| (run.until, run.link));
    let Some((until, link)) = end else { return nothing() };
    let is_end = (until, link) == (fork.from(), fork.previous()) || (opens_run && until == fork.from());
    let is_known = match until <= fork.from() {
        true => is_end,
        false => opens_run || run_of(store, &log, fork).is_some(),
    };
    match is_known || is_trimmed(&log, fork) {
        false => Behind::NotYet,
        true if until <= fork.from() || !is_known => Behind::Whole(vec![], vec![], None),
        true => Relabel { store, log: &log, fork, forks: vec![], chain: None, first: None }.all(until),
    }
}

/// What a run that forked holds from the fork on, batch by batch: of which branch each is.
struct Relabel<'a> {
    store: &'a Store,
    log: &'a Log,
    fork: &'a Fork,
    /// Forks that are found with it: what is held is neither of the two that it tells of.
    forks: Vec<Fork>,
    /// The branch of the batch before, and where that ends.
    chain: Option<(RunId, Seq, Digest)>,
    /// Where the branch ends that begins here with the fork.
    first: Option<Tip>,
}

impl Relabel<'_> {
    fn all(mut self, until: Seq) -> Behind {
        let (run, mut next, mut bytes, mut batches) = (self.fork.run, self.fork.from(), 0, Vec::new());
        let mut unknown = 0;
        while let Some(at) = self.next_held(next) {
            let Some(batch) = held_at(self.store, self.log, run, at) else {
                // Damaged: others may have it.
                next = at.after(1);
                continue;
            };
            next = batch.statement().until().max(at.after(1));
            let Some(branch) = self.branch_of(&batch) else {
                (unknown, self.chain) = (unknown + u64::from(batch.statement().entry_count), None);
                continue;
            };
            self.chain = Some((branch, next, batch.link()));
            self.grow_first(branch, &batch);
            let of_branch = batch.in_branch(branch, run);
            if !self.log.look().holds(of_branch.statement()) {
                bytes += of_branch.bytes().len();
                batches.push(of_branch);
            }
            if bytes >= PART_BYTES {
                return Behind::Part(batches);
            }
        }
        if unknown > 0 {
            let from = self.fork.from();
            tracing::warn!(%run, %from, %until, unknown, "entries behind a fork are of no known branch, and are had again");
        }
        Behind::Whole(batches, self.forks, self.first)
    }

    /// The next number that is held, from this one on.
    fn next_held(&self, next: Seq) -> Option<Seq> {
        let state = self.log.look();
        let behind = state.spans_of(self.fork.run).iter().filter(|span| next < span.until);
        behind.map(|span| span.from.max(next)).min()
    }

    /// The branch that a batch is of: it begins it, or goes on from the batch before, from the first of a branch, or from
    /// what is held of one.
    fn branch_of(&mut self, batch: &Batch) -> Option<RunId> {
        let (s, link) = (*batch.statement(), batch.link());
        let (at, previous) = (s.first_seq, s.previous);
        if (at, previous) == (self.fork.from(), self.fork.previous()) {
            return self.first_of(batch, branch_of(&link));
        }
        if let Some((branch, _, _)) = self.chain.filter(|(_, next, link)| (*next, *link) == (at, previous)) {
            return Some(branch);
        }
        let of_side = self.fork.ends().into_iter().find(|(_, until, link)| (*until, *link) == (at, previous));
        let of_books = || {
            let state = self.log.look();
            let mut branches = self.fork.branches().into_iter().chain(state.branches_at(self.fork.run, at));
            branches
                .find(|branch| state.run(*branch).is_some_and(|run| (run.until, run.link) == (at, previous)))
        };
        of_side.map(|(branch, ..)| branch).or_else(of_books)
    }

    /// The branch that begins with a batch; where the fork tells of two others, that is one more fork.
    fn first_of(&mut self, batch: &Batch, branch: RunId) -> Option<RunId> {
        if !self.fork.branches().contains(&branch) {
            let ours = (batch.statement().as_signed(), *batch.signature());
            self.forks.push(Fork::of(self.fork.run, &ours, &self.fork.sides()[0])?);
        }
        Some(branch)
    }

    fn grow_first(&mut self, branch: RunId, batch: &Batch) {
        let s = batch.statement();
        let tip = Tip { run: branch, until: s.until(), last_time: s.last_time() };
        if self.first.is_none_or(|first| (first.run, first.until) == (branch, s.first_seq)) {
            self.first = Some(tip);
        }
    }
}
