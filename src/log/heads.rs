//! What the log's own peer signed about where its runs begin and end: trims, and the ends of runs that it left.
//!
//! ```text
//! r1 [1..40) <── r2 [40..90) <── r3 [90..95)       trimmed to 60: r3 starts at 60, r2 starts at 60, r1 starts at 40
//! ```
//!
//! A head speaks for its run and for what that goes on from, up to where it does. A trim signs one for every run that it
//! takes entries from, so that each tells its own story, whatever else is held.
use crate::base::{Digest, Head, RunId, Seq, Signature, Timestamp};
use crate::log::state::{LogState, Run};
use std::collections::{BTreeMap, BTreeSet};

/// The newest head of each run that has one, in order of the runs' names.
#[derive(Debug, Clone, Default)]
#[expect(
    clippy::vec_box,
    reason = "a head put between ten thousand others moves pointers, not 200 bytes for each"
)]
pub struct Heads(Vec<Box<(Head, Signature)>>);

impl Heads {
    /// Whether nothing was ever signed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &(Head, Signature)> {
        self.0.iter().map(|head| &**head)
    }

    /// The one of a run.
    pub fn get(&self, run: RunId) -> Option<&(Head, Signature)> {
        self.find(run).ok().map(|at| &*self.0[at])
    }

    /// Keeps one that is known to be applied.
    pub(super) fn keep(&mut self, head: Head, signature: Signature) {
        self.put(head, signature);
    }

    /// Keeps `head` if it says more than the one before it; what it says of start and end only ever grows.
    fn put(&mut self, head: Head, signature: Signature) -> bool {
        match self.find(head.run) {
            Ok(at) if reach(&self.0[at].0) >= reach(&head) => false,
            Ok(at) => {
                *self.0[at] = (head, signature);
                true
            }
            Err(at) => {
                // Room for four would be most of what a small log costs.
                if self.0.len() < 4 {
                    self.0.reserve_exact(1);
                }
                self.0.insert(at, Box::new((head, signature)));
                true
            }
        }
    }

    fn find(&self, run: RunId) -> Result<usize, usize> {
        self.0.binary_search_by_key(&run, |head| head.0.run)
    }
}

fn reach(head: &Head) -> (Seq, Seq, bool) {
    (head.start, head.until, head.is_sealed)
}

impl LogState {
    /// Takes note of a head: its run starts at its `start`, never earlier than before.
    pub fn add_head(&mut self, head: Head, signature: Signature) {
        if self.heads.put(head, signature) {
            self.add_trimmed_run(&head);
            let is_changed = self.apply_head(&head, true);
            if is_changed {
                self.set_start();
            }
        }
    }

    /// A run of which nothing was ever held here, and what is trimmed of it: who asks for that, or comes with a cursor in
    /// it, is told so. What is not trimmed may come.
    fn add_trimmed_run(&mut self, head: &Head) {
        if let Some(index) = self.runs.index_of(head.run)
            && !self.runs[index].has_beginning()
        {
            self.runs.change(index).from = head.from;
            self.apply_heads_over(head.parent);
        }
        if head.start <= head.from || self.run(head.run).is_some() {
            return;
        }
        let is_all = head.start >= head.until;
        self.runs.push(Run {
            id: head.run,
            parent: head.parent,
            from: head.from,
            until: head.start,
            start: Seq::FIRST,
            last_time: if is_all { head.time } else { Timestamp::ZERO },
            link: if is_all { head.last } else { Digest::ZERO },
        });
    }

    /// Applies all heads at once to runs of which each stands behind the one it goes on from.
    pub(super) fn apply_all_heads(&mut self) {
        let mut starts = vec![Seq::FIRST; self.runs.len()];
        for index in (0..self.runs.len()).rev() {
            let run = self.runs[index];
            let signed = self.heads.get(run.id).map_or(Seq::FIRST, |(head, _)| head.start);
            starts[index] = starts[index].max(signed);
            if let Some(parent) = self.runs.index_of(run.parent) {
                starts[parent] = starts[parent].max(starts[index].min(run.from));
            }
        }
        for (index, start) in starts.into_iter().enumerate() {
            self.runs.start_at(index, start);
        }
        self.set_start();
    }

    /// Applies what was signed before a run was heard of: about itself, and about runs that go on from it.
    pub(super) fn apply_heads_over(&mut self, run: RunId) {
        if self.heads.is_empty() {
            return;
        }
        let has_children = self.runs.iter().any(|other| other.parent == run);
        let concerns = |head: &Head| head.run == run || (has_children && self.is_ancestor(run, head.run));
        let heads: Vec<Head> = self.heads.iter().map(|(head, _)| *head).filter(concerns).collect();
        for head in &heads {
            self.apply_head(head, false);
        }
        self.set_start();
    }

    /// Takes note that the log's own peer goes on from `run`, whatever else it gets back after a restore. It says so with
    /// every batch: nothing is looked through where that is no news.
    pub fn go_on_from(&mut self, run: RunId) {
        let before = self.tip().map(|tip| tip.id);
        self.goes_on_from = Some(run).filter(|run| self.runs.last().is_some_and(|last| last.id != *run));
        if self.tip().map(|tip| tip.id) != before {
            self.set_start();
        }
    }

    /// Says again where the log's own chain starts, once that chain or what is trimmed of it has changed.
    pub(super) fn set_start(&mut self) {
        #[cfg(test)]
        tests::STARTS_SET.set(tests::STARTS_SET.get() + 1);
        self.start = self.kept_from(self.tip().map(|run| run.id));
    }

    /// What the log's own peer may sign of where `run` begins: 1, which says nothing, where it only guesses.
    pub fn from_to_sign(&self, run: &Run) -> Seq {
        if self.guessed.contains(&run.id) { Seq::FIRST } else { run.from }
    }

    /// The first number that is kept along the chain that ends in `leaf`.
    pub fn kept_from(&self, leaf: Option<RunId>) -> Seq {
        let mut start = Seq::FIRST;
        for (run, end) in leaf.into_iter().flat_map(|leaf| self.chain(leaf)) {
            start = start.max(run.start.min(end));
            // What it goes on from is trimmed before it is.
            if run.start > run.from {
                break;
            }
        }
        start
    }

    /// The run `leaf` and those it goes on from, newest first, each with the number at which the chain leaves it.
    pub fn chain(&self, leaf: RunId) -> impl Iterator<Item = (&Run, Seq)> {
        let (mut at, mut end) = (leaf, None);
        // A chain of runs is at most as long as the runs that are known.
        (0..self.runs.len()).map_while(move |_| {
            let run = self.run(at)?;
            let here = (run, end.unwrap_or(run.until));
            (at, end) = (run.parent, Some(run.from));
            Some(here)
        })
    }

    /// The runs beside the log's own chain that nothing goes on from where they end: what a restore left behind, or a
    /// copy wrote. Each with the number at which it leaves the chain that the log itself goes on with.
    pub fn branches(&self) -> Vec<(RunId, Seq)> {
        let Some(tip) = self.tip().map(|run| run.id).filter(|_| self.runs.len() > 1) else { return vec![] };
        let own: BTreeMap<RunId, Seq> = self.chain(tip).map(|(run, end)| (run.id, end)).collect();
        let goes_on: BTreeSet<(RunId, Seq)> = self.runs.iter().map(|run| (run.parent, run.from)).collect();
        let is_branch = |run: &&Run| {
            !goes_on.contains(&(run.id, run.until)) && own.get(&run.id).is_none_or(|end| *end < run.until)
        };
        let leaves_at = |leaf: &Run| {
            // What the chain of the leaf and the log's own have in common ends at the lesser of both ends.
            let common = |(run, end): (&Run, Seq)| own.get(&run.id).map(|own| end.min(*own));
            (leaf.id, self.chain(leaf.id).find_map(common).unwrap_or(Seq::FIRST))
        };
        self.runs.iter().filter(is_branch).map(leaves_at).collect()
    }

    /// Applies a head to its run and to those before it; with `is_new` up to the first that starts there already. Answers
    /// whether any starts later now.
    fn apply_head(&mut self, head: &Head, is_new: bool) -> bool {
        let (mut at, mut end, mut is_changed) = (head.run, Seq(u64::MAX), false);
        // A chain of runs is at most as long as the runs that are known.
        for _ in 0..self.runs.len() {
            let Some(index) = self.runs.index_of(at) else { break };
            let (run, start) = (self.runs[index], head.start.min(end));
            if run.start < start {
                self.runs.start_at(index, start);
                is_changed = true;
            } else if is_new {
                break;
            }
            (at, end) = (run.parent, run.from);
        }
        is_changed
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::base::{Digest, LogId, PeerId, Statement, Timestamp, TopicId};
    use crate::log::place::Place;
    use crate::log::state::Range;
    use std::cell::Cell;

    thread_local! {
        /// How often it was looked where a log's own chain starts.
        pub(in crate::log) static STARTS_SET: Cell<u64> = const { Cell::new(0) };
    }

    pub(in crate::log) const LOG: LogId = LogId { topic: TopicId([1; 16]), peer: PeerId([2; 32]) };

    pub(in crate::log) fn add(state: &mut LogState, run: u64, parent: u64, first_seq: u64, count: u32) {
        let opens_run = state.run(RunId(run)).is_none();
        let statement = Statement { opens_run, ..statement_of(run, parent, first_seq, count) };
        state.add(&statement, Digest::ZERO, Place { segment: 0, offset: first_seq * 100 + run }, 100);
    }

    fn statement_of(run: u64, parent: u64, first_seq: u64, count: u32) -> Statement {
        Statement {
            log: LOG,
            run: RunId(run),
            parent: RunId(parent),
            opens_run: true,
            first_seq: Seq(first_seq),
            first_time: Timestamp(first_seq),
            entry_count: count,
            raw_bytes: 1,
            previous: Digest::ZERO,
            root: Digest::ZERO,
        }
    }

    pub(in crate::log) fn head(run: u64, start: u64, until: u64) -> Head {
        let (run, start, until) = (RunId(run), Seq(start), Seq(until));
        Head {
            log: LOG,
            run,
            parent: RunId::NONE,
            from: Seq::FIRST,
            start,
            until,
            time: Timestamp(1),
            last: Digest::ZERO,
            is_sealed: false,
        }
    }

    /// A chain of three runs, and a branch: what run 1 went on with at the original while a copy went on in run 2.
    fn branched() -> LogState {
        let mut state = LogState::new();
        add(&mut state, 1, 0, 1, 14);
        add(&mut state, 1, 0, 15, 5);
        add(&mut state, 2, 1, 15, 10);
        add(&mut state, 3, 2, 25, 5);
        state
    }

    #[test]
    fn a_chain_leaves_each_run_where_the_next_goes_on() {
        let state = branched();
        let chain: Vec<_> = state.chain(RunId(3)).map(|(run, end)| (run.id.0, end.0)).collect();
        assert_eq!(chain, [(3, 30), (2, 25), (1, 15)]);
        assert_eq!(state.branches(), [(RunId(1), Seq(15))]);
        let mut state = branched();
        add(&mut state, 4, 1, 20, 2);
        state.go_on_from(RunId(3));
        assert_eq!(state.branches(), [(RunId(4), Seq(15))], "the branch reaches into another run");
    }

    #[test]
    fn a_branch_is_trimmed_by_itself_and_the_log_by_itself() {
        let mut state = branched();
        state.add_head(head(3, 20, 30), Signature([0; 64]));
        let starts =
            |state: &LogState| state.runs.iter().map(|run| state.start_of(run).0).collect::<Vec<_>>();
        assert_eq!((starts(&state), state.start), (vec![15, 20, 25], Seq(20)));
        assert_eq!(state.kept_from(Some(RunId(1))), Seq(15));
        state.add_head(head(1, 18, 20), Signature([0; 64]));
        assert_eq!((starts(&state), state.start), (vec![18, 20, 25], Seq(20)));
        assert_eq!(state.kept_from(Some(RunId(1))), Seq(18));
    }

    #[test]
    fn a_head_that_came_before_its_run_counts_once_that_is_heard_of() {
        let mut state = LogState::new();
        let head = Head { parent: RunId(2), from: Seq(25), ..head(3, 27, 30) };
        state.add_head(head, Signature([0; 64]));
        add(&mut state, 3, 2, 25, 5);
        assert_eq!(state.start, Seq(27));
        add(&mut state, 2, 1, 15, 10);
        assert_eq!(state.run(RunId(2)).map(|run| state.start_of(run)), Some(Seq(25)));
    }

    #[test]
    fn a_head_that_came_before_its_run_and_trims_nothing_says_where_the_run_begins() {
        let mut state = LogState::new();
        let head = Head { parent: RunId(2), from: Seq(25), ..head(3, 25, 40) };
        state.add_head(head, Signature([0; 64]));
        let later = Statement { opens_run: false, ..statement_of(3, 2, 30, 10) };
        state.add(&later, Digest::ZERO, Place { segment: 0, offset: 0 }, 100);
        assert_eq!(state.run(RunId(3)).map(|run| run.from), Some(Seq(25)));
        assert_eq!(state.holes(), [Range { run: RunId(3), from: Seq(25), until: Seq(30) }]);
    }

    #[test]
    fn heads_applied_at_once_or_one_by_one_say_the_same() {
        let mut one_by_one = branched();
        for (run, start, until) in [(3, 28, 30), (2, 25, 25), (1, 17, 20)] {
            one_by_one.add_head(head(run, start, until), Signature([0; 64]));
        }
        let mut at_once = branched();
        for (run, start, until) in [(3, 28, 30), (2, 25, 25), (1, 17, 20)] {
            at_once.heads.keep(head(run, start, until), Signature([0; 64]));
        }
        at_once.settle();
        let starts = |state: &LogState| {
            let mut starts: Vec<_> = state.runs.iter().map(|run| (run.id.0, state.start_of(run).0)).collect();
            starts.sort_unstable();
            starts
        };
        assert_eq!(starts(&at_once), starts(&one_by_one));
        assert_eq!(at_once.start, one_by_one.start);
    }

    #[test]
    fn ten_thousand_runs_with_heads_are_settled_and_trimmed_in_few_steps() {
        let mut state = LogState::new();
        for n in (0..10_000).rev() {
            state.heads.keep(head(n + 1, n * 10 + 5, n * 10 + 11), Signature([0; 64]));
        }
        let runs = (0..10_000).rev().map(|n| Run {
            id: RunId(n + 1),
            parent: RunId(n),
            from: Seq(n * 10 + 1),
            until: Seq(n * 10 + 11),
            start: Seq::FIRST,
            last_time: Timestamp(n),
            link: Digest::ZERO,
        });
        state.runs = runs.collect::<Vec<_>>().into();
        // What grew with the square of the runs would be felt here, with the cube never end.
        state.settle();
        assert_eq!(state.runs.first().map(|run| run.id), Some(RunId(1)));
        assert_eq!(state.start, Seq(99_995));
        assert_eq!(state.start_of(&state.runs[4]), Seq(51));
    }

    #[test]
    fn a_run_of_which_nothing_was_ever_held_is_known_to_be_trimmed() {
        let mut state = LogState::new();
        state.add_head(head(1, 15, 15), Signature([0; 64]));
        add(&mut state, 2, 1, 15, 10);
        assert_eq!(state.run(RunId(1)).map(|run| state.start_of(run)), Some(Seq(15)));
        let mut positions = crate::log::Positions::default();
        positions.set(RunId(1), Seq(5));
        assert_eq!(positions.next(&state), crate::log::positions::Next::Trimmed(RunId(1), Seq(5), Seq(15)));
        positions.pass(&state, RunId(1), Seq(15));
        assert_eq!(positions.next(&state), crate::log::positions::Next::Entry(RunId(2), Seq(15)));
    }

    #[test]
    fn what_a_head_says_of_its_run_never_goes_back() {
        let mut state = branched();
        state.add_head(head(3, 27, 30), Signature([1; 64]));
        state.add_head(head(3, 20, 30), Signature([2; 64]));
        assert_eq!(state.heads.iter().len(), 1);
        assert_eq!(state.heads.get(RunId(3)).map(|(_, signature)| *signature), Some(Signature([1; 64])));
        assert_eq!(state.start, Seq(27));
    }
}
