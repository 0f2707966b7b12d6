//! Forks in the books: a run ends where it forked, and each branch is a run that goes on from there.
//!
//! ```text
//! r1 [1..40)                      r1 [1..20) <── a [20..40) <── r2 [40..45)
//! r2 [40..45)        becomes             └────── b [20..31)
//! ```
//!
//! Batches say which branch they are of, as they are stored, so all other books need know nothing of forks. What a run held
//! behind its fork is stored again, as of its branch, before it is cut off.
use crate::base::{Digest, Fork, RunId, Seq, Statement};
use crate::log::state::{LogState, Range, Run};
use std::collections::BTreeSet;

/// Ends of batches of branches that are remembered of a log, at most; beyond that a run which goes on from the middle of a branch
/// is known to do so where its first batch came before that of the branch.
const BRANCH_ENDS_MAX: usize = 4_096;

impl LogState {
    /// Where a run forked, if it did: it has no entries from there on.
    pub fn cut_of(&self, run: RunId) -> Option<Seq> {
        self.forks.iter().filter(|fork| fork.run == run).map(Fork::from).min()
    }

    /// The fork that a branch begins with.
    pub fn fork_of(&self, branch: RunId) -> Option<&Fork> {
        self.forks.iter().find(|fork| fork.branches().contains(&branch))
    }

    /// The branches that a number of a run may stand for, once it forked at that number or before: of a branch that forked
    /// before that number too, its branches.
    pub fn branches_at(&self, run: RunId, seq: Seq) -> BTreeSet<RunId> {
        let (mut open, mut seen, mut found) = (vec![run], BTreeSet::new(), BTreeSet::new());
        while let Some(run) = open.pop() {
            let forks = self.forks.iter().filter(|fork| fork.run == run && fork.from() <= seq);
            for branch in forks.flat_map(Fork::branches) {
                if !seen.insert(branch) {
                    continue;
                }
                if self.cut_of(branch).is_some_and(|cut| cut <= seq) {
                    open.push(branch);
                } else {
                    found.insert(branch);
                }
            }
        }
        found
    }

    /// The run that the batches of a branch were signed with; none where the run is no branch.
    pub fn signed_run_of(&self, branch: RunId) -> Option<RunId> {
        self.fork_of(branch).map(Fork::signed_run)
    }

    /// Takes note of a fork: its run ends there.
    pub fn add_fork(&mut self, fork: &Fork) {
        let is_known = |branch: &RunId| self.fork_of(*branch).is_some();
        if !fork.branches().iter().all(is_known) {
            self.forks.push(*fork);
        }
        let (first, _) = &fork.sides()[0];
        if first.opens_run {
            self.begin_empty(fork, first);
        }
        self.cut(fork);
        let branches: BTreeSet<RunId> = self.forks.iter().flat_map(Fork::branches).collect();
        for branch in branches {
            if let Some(index) = self.runs.index_of(branch) {
                let Run { until, link, .. } = self.runs[index];
                self.adopt_children(index, until, &link);
            }
        }
        for (until, link, branch) in self.branch_ends.clone() {
            if let Some(index) = self.runs.index_of(branch) {
                self.adopt_children(index, until, &link);
            }
        }
        self.count_again();
        self.set_start();
    }

    /// A run forked at its very beginning: nothing of it is before, and nothing need be here of it to know where that is.
    fn begin_empty(&mut self, fork: &Fork, first: &Statement) {
        self.guessed.remove(&fork.run);
        match self.runs.index_of(fork.run) {
            Some(index) => {
                self.runs.change(index).from = fork.from();
                self.runs.set_previous(index, first.previous);
                self.apply_heads_over(first.parent);
            }
            None => {
                let parent = self.parent_of(first);
                self.runs.push(Run {
                    id: fork.run,
                    parent,
                    from: fork.from(),
                    until: fork.from(),
                    start: Seq::FIRST,
                    last_time: first.first_time,
                    link: fork.previous(),
                    previous: first.previous,
                });
            }
        }
    }

    fn cut(&mut self, fork: &Fork) {
        let (id, at) = (fork.run, fork.from());
        let Some(index) = self.runs.index_of(id).filter(|index| self.runs[*index].from <= at) else { return };
        let run = self.runs.change(index);
        if run.until > at {
            (run.until, run.link) = (at, fork.previous());
        }
        self.cut_set_aside(id, at);
        self.spans.retain(|span| span.run != id || span.from < at);
        self.spans.iter_mut().filter(|span| span.run == id).for_each(|span| span.until = span.until.min(at));
        self.heal(Range { run: id, from: at, until: Seq(u64::MAX) });
    }

    /// The first batch of a run that is known is here, and says which branch of another that goes on from.
    pub(super) fn adopt(&mut self, index: usize, s: &Statement) {
        if self.runs[index].parent == s.parent {
            let parent = self.parent_of(s);
            if parent != s.parent {
                self.runs.change(index).parent = parent;
            }
        }
    }

    /// The run that the one which a batch opens goes on from: of one that forked, the branch. Of a branch it is what is known to
    /// have forked, whatever the batch says.
    pub(super) fn parent_of(&mut self, s: &Statement) -> RunId {
        if let Some(run) = self.fork_of(s.run).map(|fork| fork.run).filter(|run| *run != s.parent) {
            self.moved.push((s.run, run));
            return run;
        }
        let is_behind = s.opens_run && self.cut_of(s.parent).is_some_and(|cut| cut < s.first_seq);
        let is_before = |run: &&Run| run.until == s.first_seq && run.link == s.previous && run.id != s.run;
        let found = self.runs.iter().filter(|_| is_behind).find(is_before).map(|run| run.id);
        let found = found.or_else(|| is_behind.then(|| self.branch_at(s)).flatten());
        self.moved.extend(found.map(|branch| (s.run, branch)));
        found.unwrap_or(s.parent)
    }

    /// The branch in the middle of which a batch begins a run.
    fn branch_at(&self, s: &Statement) -> Option<RunId> {
        let ends = (s.first_seq, s.previous, RunId(0))..=(s.first_seq, s.previous, RunId(u64::MAX));
        let mut branches = self.branch_ends.range(ends).map(|(_, _, branch)| *branch);
        branches.find(|branch| *branch != s.run && self.is_branch_at(*branch, s.parent, s.first_seq))
    }

    /// A batch of a branch is here, which ends so.
    pub(super) fn end_in_branch(&mut self, branch: usize, until: Seq, link: Digest) {
        if self.branch_ends.len() < BRANCH_ENDS_MAX {
            self.branch_ends.insert((until, link, self.runs[branch].id));
        }
        self.adopt_children(branch, until, &link);
    }

    /// A batch of a branch ends at `until`, with `link`: runs that were signed as going on there from the run that forked go on
    /// from the branch. What comes behind it may be here already.
    pub(super) fn adopt_children(&mut self, branch: usize, until: Seq, link: &Digest) {
        self.adopt_forks(branch, until, link);
        let Run { id, parent, .. } = self.runs[branch];
        for index in 0..self.runs.len() {
            let child = self.runs[index];
            let is_behind = child.from == until && child.previous == *link && child.id != id;
            if is_behind && (child.parent == parent || self.is_branch_at(id, child.parent, until)) {
                self.runs.change(index).parent = id;
                self.moved.push((child.id, id));
            }
        }
    }

    /// Forks of one run are found in any order. Once one is known that lies before another, that other is one of a branch,
    /// as soon as the branch reaches so far.
    fn adopt_forks(&mut self, branch: usize, until: Seq, link: &Digest) {
        let id = self.runs[branch].id;
        for index in 0..self.forks.len() {
            let fork = self.forks[index];
            let is_behind = (fork.from(), fork.previous()) == (until, *link) && fork.run != id;
            if is_behind && !fork.branches().contains(&id) && self.is_branch_at(id, fork.run, until) {
                self.forks[index].run = id;
                for branch in fork.branches() {
                    // Of a branch its first batch need not be here.
                    if let Some(at) = self.runs.index_of(branch) {
                        self.runs.change(at).parent = id;
                    }
                    self.moved.push((branch, id));
                }
            }
        }
    }

    /// Whether a branch, or one of a branch, is what a run goes on as up to a number.
    fn is_branch_at(&self, branch: RunId, run: RunId, until: Seq) -> bool {
        self.fork_of(branch).is_some() && self.branches_at(run, Seq(until.0 - 1)).contains(&branch)
    }
}

#[cfg(test)]
mod tests;
