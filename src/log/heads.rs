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
            Ok(at) if self.0[at].0.reach() >= head.reach() => false,
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

impl LogState {
    /// Takes note of a head: its run starts at its `start`, never earlier than before.
    pub fn add_head(&mut self, head: Head, signature: Signature) {
        if self.heads.put(head, signature) {
            self.add_trimmed_run(&head);
            let is_changed = self.start_chain_at(head.run, head.start);
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
            previous: Digest::ZERO,
        });
        self.apply_heads_over(head.run);
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

    /// Applies what was signed before a run was heard of, or before it was known where another goes on from it: about
    /// itself, and about runs that go on from it. Those start where all that is known says already.
    pub(super) fn apply_heads_over(&mut self, run: RunId) {
        if self.heads.is_empty() {
            return;
        }
        let signed = self.heads.get(run).map_or(Seq::FIRST, |(head, _)| head.start);
        let children = self.runs.iter().filter(|child| child.parent == run);
        let start = children.map(|child| child.start.min(child.from)).fold(signed, Seq::max);
        self.start_chain_at(run, start);
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

    /// Heads that do not say where their run begins, though that is known here, as they should be: whoever signed them, under the
    /// same key, did not know.
    pub fn heads_to_complete(&self) -> Vec<Head> {
        let is_lacking = |(head, _): &&(Head, Signature)| !head.says_where();
        let complete = |(head, _): &(Head, Signature)| {
            let run = self.run(head.run)?;
            let from = self.from_to_sign(run);
            (from > Seq::FIRST).then_some(Head { parent: run.parent, from, ..*head })
        };
        self.heads.iter().filter(is_lacking).filter_map(complete).collect()
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

    /// What `run` and those that it goes on from have below `start` is trimmed; up to the first that starts there already,
    /// for with that one goes all before it. Answers whether any starts later now.
    fn start_chain_at(&mut self, run: RunId, start: Seq) -> bool {
        let (mut at, mut start, mut is_changed) = (run, start, false);
        // A chain of runs is at most as long as the runs that are known.
        for _ in 0..self.runs.len() {
            let Some(index) = self.runs.index_of(at).filter(|index| self.runs[*index].start < start) else {
                break;
            };
            self.runs.start_at(index, start);
            is_changed = true;
            let run = &self.runs[index];
            (at, start) = (run.parent, start.min(run.from));
        }
        is_changed
    }
}

#[cfg(test)]
pub(super) mod tests;
