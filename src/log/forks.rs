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
mod tests {
    use super::*;
    use crate::base::statement::link;
    use crate::base::{Signature, Timestamp};
    use crate::log::heads::tests::LOG;
    use crate::log::place::Place;
    use crate::log::positions::{Next, Positions};
    use crate::log::state::Lookup;

    /// A batch that goes on from another, of which only the statement matters.
    fn batch(run: u64, parent: u64, first_seq: u64, count: u32, previous: Digest, root: u8) -> Statement {
        Statement {
            log: LOG,
            run: RunId(run),
            parent: RunId(parent),
            opens_run: parent != 0 || first_seq == 1,
            first_seq: Seq(first_seq),
            first_time: Timestamp(first_seq),
            entry_count: count,
            raw_bytes: 1,
            previous,
            root: Digest([root; 32]),
            signed: None,
        }
    }

    fn link_of(s: &Statement) -> Digest {
        link(&s.encode(), &Signature([7; 64]))
    }

    fn put(state: &mut LogState, s: &Statement) -> Digest {
        let offset = state.next_place.map_or(0, |next| next.offset);
        state.add(s, link_of(s), Place { segment: 0, offset }, 100);
        link_of(s)
    }

    #[test]
    fn a_run_whose_first_batch_comes_last_goes_on_from_the_branch_that_it_names() {
        let mut state = LogState::new();
        let before = put(&mut state, &batch(1, 0, 1, 4, Digest::ZERO, 0));
        let (one, other) = (batch(1, 0, 5, 2, before, 1), batch(1, 0, 5, 3, before, 2));
        let child = batch(2, 1, 7, 2, link_of(&one), 3);
        let later = Statement { opens_run: false, ..batch(2, 1, 9, 2, link_of(&child), 4) };
        put(&mut state, &later);
        let side = |s: &Statement| (*s, Signature([7; 64]));
        let a = crate::base::statement::branch_of(&link_of(&one));
        put(&mut state, &one.in_branch(a, RunId(1), &link_of(&one)));
        state.add_fork(&Fork::of(RunId(1), &side(&one), &side(&other)).expect("a fork"));
        assert_eq!(state.run(RunId(2)).map(|run| run.parent), Some(RunId(1)));
        state.moved.clear();
        put(&mut state, &child);
        assert_eq!(state.run(RunId(2)).map(|run| run.parent), Some(a));
        assert_eq!(state.moved, [(RunId(2), a)]);
    }

    /// Seed 3326: the branch is longer than what goes on from it, in whichever order they come, and before or after the fork.
    #[test]
    fn a_run_that_goes_on_from_the_middle_of_a_branch_is_known_to_in_any_order() {
        let before = batch(1, 0, 1, 4, Digest::ZERO, 0);
        let (one, other) = (batch(1, 0, 5, 2, link_of(&before), 1), batch(1, 0, 5, 3, link_of(&before), 2));
        let more = batch(1, 0, 7, 5, link_of(&one), 4);
        let child = batch(2, 1, 7, 2, link_of(&one), 3);
        let side = |s: &Statement| (*s, Signature([7; 64]));
        let fork = Fork::of(RunId(1), &side(&one), &side(&other)).expect("a fork");
        let a = crate::base::statement::branch_of(&link_of(&one));
        // Which comes first of: the branch's two batches, what goes on from the first of them, and the fork.
        for order in
            [[0, 1, 2, 3], [0, 1, 3, 2], [0, 2, 1, 3], [2, 0, 1, 3], [2, 3, 1, 0], [3, 1, 0, 2], [3, 2, 1, 0]]
        {
            let mut state = LogState::new();
            put(&mut state, &before);
            for what in order {
                match what {
                    0 => drop(put(&mut state, &one.in_branch(a, RunId(1), &link_of(&one)))),
                    1 => drop(put(&mut state, &more.in_branch(a, RunId(1), &link_of(&more)))),
                    2 => drop(put(&mut state, &child)),
                    _ => state.add_fork(&fork),
                }
            }
            assert_eq!(state.run(RunId(2)).map(|run| run.parent), Some(a), "{order:?}");
        }
    }

    /// Seed 750: of a branch its second batch came, as that of a run which turns out to have forked before.
    #[test]
    fn a_branch_of_which_the_first_batch_is_missing_goes_on_from_the_branch_that_it_is_found_to_be_of() {
        let before = batch(1, 0, 1, 4, Digest::ZERO, 0);
        let (one, other) = (batch(1, 0, 5, 2, link_of(&before), 1), batch(1, 0, 5, 3, link_of(&before), 2));
        let (x, y) = (batch(1, 0, 7, 2, link_of(&one), 3), batch(1, 0, 7, 3, link_of(&one), 4));
        let second = batch(1, 0, 9, 2, link_of(&x), 5);
        let side = |s: &Statement| (*s, Signature([7; 64]));
        let fork = |one, other| Fork::of(RunId(1), &side(one), &side(other)).expect("a fork");
        let [a, b] = [&one, &x].map(|s| crate::base::statement::branch_of(&link_of(s)));
        let of_branch = |s: &Statement, branch| s.in_branch(branch, RunId(1), &link_of(s));
        for order in [[0, 1, 2, 3], [0, 2, 1, 3], [2, 3, 0, 1], [2, 3, 1, 0]] {
            let mut state = LogState::new();
            put(&mut state, &before);
            for what in order {
                match what {
                    0 => state.add_fork(&fork(&x, &y)),
                    1 => drop(put(&mut state, &of_branch(&second, b))),
                    2 => state.add_fork(&fork(&one, &other)),
                    _ => drop(put(&mut state, &of_branch(&one, a))),
                }
            }
            let moved = state.moved.iter().rfind(|(run, _)| *run == b).map(|(_, of)| *of);
            assert_eq!((state.run(b).map(|run| run.parent), moved), (Some(a), Some(a)), "{order:?}");
        }
    }

    /// Seed 385: the reader had read the other side before it was known that the run forked.
    #[test]
    fn what_goes_on_from_a_branch_waits_for_all_of_that_whoever_was_in_the_run_beyond_the_fork() {
        let before = batch(1, 0, 1, 4, Digest::ZERO, 0);
        let (one, other) = (batch(1, 0, 5, 2, link_of(&before), 1), batch(1, 0, 5, 3, link_of(&before), 2));
        let more = batch(1, 0, 7, 2, link_of(&one), 4);
        let child = batch(2, 1, 9, 1, link_of(&more), 3);
        let side = |s: &Statement| (*s, Signature([7; 64]));
        let a = crate::base::statement::branch_of(&link_of(&one));
        let mut state = LogState::new();
        put(&mut state, &before);
        put(&mut state, &child);
        state.add_fork(&Fork::of(RunId(1), &side(&one), &side(&other)).expect("a fork"));
        put(&mut state, &one.in_branch(a, RunId(1), &link_of(&one)));
        let (mut positions, mut read) = (Positions::default(), Vec::new());
        positions.set(RunId(1), Seq(20));
        let mut read_on = |state: &LogState, positions: &mut Positions| {
            while let Next::Entry(run, seq) = positions.next(state) {
                read.push((run, seq.0));
                positions.pass(state, run, seq.after(1));
            }
            std::mem::take(&mut read)
        };
        assert_eq!(read_on(&state, &mut positions), [(a, 5), (a, 6)]);
        assert!(matches!(positions.next(&state), Next::Missing(_)));
        put(&mut state, &more.in_branch(a, RunId(1), &link_of(&more)));
        assert_eq!(read_on(&state, &mut positions), [(a, 7), (a, 8), (RunId(2), 9)]);
    }

    #[test]
    fn what_a_run_went_on_with_is_read_as_its_branches_and_what_goes_on_from_one_as_that() {
        let mut state = LogState::new();
        let before = put(&mut state, &batch(1, 0, 1, 4, Digest::ZERO, 0));
        let (one, other) = (batch(1, 0, 5, 2, before, 1), batch(1, 0, 5, 3, before, 2));
        let end = put(&mut state, &one);
        put(&mut state, &batch(2, 1, 7, 2, end, 3));
        let side = |s: &Statement| (*s, Signature([7; 64]));
        let fork = Fork::of(RunId(1), &side(&one), &side(&other)).expect("a fork");
        let of_branch = |s: &Statement| {
            s.in_branch(crate::base::statement::branch_of(&link_of(s)), RunId(1), &link_of(s))
        };
        put(&mut state, &of_branch(&one));
        state.add_fork(&fork);
        put(&mut state, &of_branch(&other));
        let (a, b) = (of_branch(&one).run, of_branch(&other).run);
        let runs: Vec<_> =
            state.runs.iter().map(|run| (run.id, run.parent, run.from.0, run.until.0)).collect();
        let expected =
            [(RunId(1), RunId(0), 1, 5), (RunId(2), a, 7, 9), (a, RunId(1), 5, 7), (b, RunId(1), 5, 8)];
        assert_eq!(runs, expected);
        assert!(state.holes().is_empty(), "{:?}", state.holes());
        assert_eq!(state.find(RunId(1), Seq(5)), Lookup::Beyond);
        // A reader that was beyond the fork reads both branches.
        let (mut positions, mut read) = (Positions::default(), Vec::new());
        positions.set(RunId(1), Seq(7));
        while let Next::Entry(run, seq) = positions.next(&state) {
            read.push((run, seq.0));
            positions.pass(&state, run, seq.after(1));
        }
        read.sort_unstable();
        let mut all = vec![(RunId(2), 7), (RunId(2), 8), (a, 5), (a, 6), (b, 5), (b, 6), (b, 7)];
        all.sort_unstable();
        assert_eq!(read, all);
        // One that read on in a branch has not read another that the run turns out to have had before.
        let (mut positions, earlier) = (Positions::default(), Seq(5));
        positions.set(RunId(1), earlier);
        positions.pass(&state, a, Seq(6));
        assert!(
            positions
                .to_cursor(LOG.peer)
                .any(|position| (position.run, position.next) == (RunId(1), earlier))
        );
        // One that read on in what goes on from a branch has read that, unless it was in the run beyond the fork: what it read
        // there may have been the other.
        for (named, expected) in [(vec![(2, 9)], vec![b; 3]), (vec![(1, 7), (2, 9)], vec![a, a, b, b, b])] {
            let (mut positions, mut read) = (Positions::default(), Vec::new());
            named.into_iter().for_each(|(run, next)| positions.set(RunId(run), Seq(next)));
            while let Next::Entry(run, seq) = positions.next(&state) {
                read.push(run);
                positions.pass(&state, run, seq.after(1));
            }
            read.sort_unstable_by_key(|run| *run != a);
            assert_eq!(read, expected);
        }
        // What is still found of it elsewhere is none of the run's.
        put(&mut state, &one);
        assert_eq!(state.run(RunId(1)).map(|run| run.until), Some(Seq(5)));
    }
}
