//! What a reader's position says of every run of a log: how far it was read, and whether it has more to read now.
//!
//! It is made in one pass over the runs and then follows what is read, so that a log of ten thousand runs, of a peer
//! that was started so often, is read in ten thousand steps. When anything but the end of the run that grows changes, it
//! is made anew.
use crate::base::{Fork, RunId, Seq};
use crate::log::state::{LogState, Run};
use std::collections::{BTreeMap, BTreeSet};

/// What is read of each run; places are those of the runs in the log.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// How often the runs had changed.
    changes: u64,
    /// The number behind the last entry of the run that grows.
    until: Seq,
    /// The next number to read of each run; `None` where nothing was said about it.
    read: Vec<Option<Seq>>,
    /// Runs that are named, and those on the way back from them.
    is_implied: Vec<bool>,
    /// Parent and child, in order.
    children: Vec<(usize, usize)>,
    /// A named run that is not known here, and of which no known run goes on where it was read to.
    pub(crate) ahead: Option<(RunId, Seq)>,
    /// Runs that have more to read, and whose parents were read to where they go on.
    pub(crate) open: BTreeSet<usize>,
    /// Runs that have more to read, and go on from what is not here: it may come, and is read before them.
    gated: BTreeSet<usize>,
    /// Runs that have more, of which it is not known how far they were read: where a run that was read goes on from them
    /// its first batch will say, or a head.
    held: BTreeSet<usize>,
    /// The first run that goes on from one that is not known, of those on the way back from what is named.
    broken_at: Option<usize>,
    /// The furthest number at which one of those does. What comes before it of a run that is not named may be implied, by
    /// what is not known.
    broken_below: Seq,
    /// What those go on from.
    broken_on: BTreeSet<RunId>,
    /// What the chain of each run begins with, or would if that were known; empty while nothing is missing.
    roots: Vec<RunId>,
    /// How many runs were looked at.
    #[cfg(test)]
    pub(crate) step_count: u64,
}

impl View {
    /// What `named` says of the runs of a log.
    pub(crate) fn new(state: &LogState, named: &BTreeMap<RunId, Seq>) -> Self {
        let count = state.runs.len();
        let parent =
            |(child, run): (usize, &Run)| state.runs.index_of(run.parent).map(|parent| (parent, child));
        let mut children: Vec<(usize, usize)> = state.runs.iter().enumerate().filter_map(parent).collect();
        children.sort_unstable();
        let mut view = Self {
            changes: state.runs.changes(),
            until: state.runs.growing().1,
            read: vec![None; count],
            is_implied: vec![false; count],
            children,
            ..Self::default()
        };
        let mut unknown = BTreeMap::new();
        for (run, next) in named {
            let Some(index) = state.runs.index_of(*run) else {
                unknown.insert(*run, *next);
                continue;
            };
            view.read[index] = view.read[index].max(Some(*next));
            view.imply(state, named, index, |_| {});
        }
        // Of one that was read to where a known one goes on from it there may be nothing more to wait for; but what it
        // implies is not known, as behind one that is read on in.
        if !unknown.is_empty() {
            let goes_on =
                |(_, run): &(usize, &Run)| unknown.contains_key(&run.parent) && is_read_before(named, run);
            let goes_on: Vec<usize> =
                state.runs.iter().enumerate().filter(goes_on).map(|(at, _)| at).collect();
            for index in goes_on {
                let run = &state.runs[index];
                unknown.remove(&run.parent);
                view.read[index] = view.read[index].max(Some(run.from));
                view.imply(state, named, index, |_| {});
            }
        }
        view.ahead = unknown.pop_first();
        (0..count).for_each(|index| view.judge(state, named, index));
        view
    }

    /// Whether it still says what is so.
    pub(crate) fn is_of(&self, state: &LogState) -> bool {
        self.changes == state.runs.changes()
    }

    /// The number to read next of a run. Who has read the run before misses what was trimmed of this one; who begins
    /// here does not.
    pub(crate) fn next_of(&self, state: &LogState, index: usize) -> Seq {
        let run = &state.runs[index];
        let parent = state.runs.index_of(run.parent);
        let came_from_before = parent.is_some_and(|parent| self.read[parent].is_some());
        let otherwise = if came_from_before { run.from } else { state.begin_of(run) };
        self.read[index].unwrap_or(otherwise).max(run.from)
    }

    /// Everything below `next` of a run has been read; `named` says so already.
    pub(crate) fn pass(&mut self, state: &LogState, named: &BTreeMap<RunId, Seq>, index: usize, next: Seq) {
        self.read[index] = self.read[index].max(Some(next));
        let mut changed = vec![index];
        changed.extend(state.runs.index_of(state.runs[index].parent));
        let before = (self.broken_below, self.broken_on.len());
        self.imply(state, named, index, |parent| changed.push(parent));
        if before != (self.broken_below, self.broken_on.len()) {
            return (0..state.runs.len()).for_each(|index| self.judge(state, named, index));
        }
        for index in changed {
            self.judge_with_children(state, named, index);
        }
    }

    /// Looks whether the run that grows goes on.
    pub(crate) fn look_at_end(&mut self, state: &LogState, named: &BTreeMap<RunId, Seq>) {
        let (growing, until) = state.runs.growing();
        if self.until != until {
            self.until = until;
            self.judge_with_children(state, named, growing);
        }
    }

    /// Each run on the way back from one that is named implies that its parent was read to where it goes on.
    fn imply(
        &mut self,
        state: &LogState,
        named: &BTreeMap<RunId, Seq>,
        mut index: usize,
        mut on_implied: impl FnMut(usize),
    ) {
        self.note_broken(state, index);
        while !std::mem::replace(&mut self.is_implied[index], true) {
            let run = &state.runs[index];
            let Some(parent) = state.runs.index_of(run.parent) else { return };
            if may_be_other(state, named, run.parent) {
                return;
            }
            self.read[parent] = self.read[parent].max(Some(run.from));
            on_implied(parent);
            index = parent;
            self.note_broken(state, index);
        }
    }

    /// Takes note of a run that is implied, when it goes on from one that is not known.
    fn note_broken(&mut self, state: &LogState, index: usize) {
        let run = &state.runs[index];
        // Where this run is trimmed from its beginning, so is all that it goes on from.
        let is_whole = run.has_beginning() && run.start >= run.from;
        if !run.parent.is_some() || is_whole || state.runs.index_of(run.parent).is_some() {
            return;
        }
        self.broken_at = Some(self.broken_at.map_or(index, |first| first.min(index)));
        self.broken_on.insert(run.parent);
        let begins = if run.has_beginning() { Some(run.from) } else { self.read[index] };
        self.broken_below = self.broken_below.max(begins.unwrap_or(run.from));
        if self.roots.is_empty() {
            self.roots = state.runs.roots();
        }
    }

    /// Whether what is to be read next of a run may have been read already, by what is implied and not known.
    fn may_be_implied(&self, state: &LogState, named: &BTreeMap<RunId, Seq>, index: usize) -> bool {
        if named.contains_key(&state.runs[index].id) || self.next_of(state, index) >= self.broken_below {
            return false;
        }
        // What goes on from a run is never on the way back from it.
        let is_behind = |on: &RunId| self.roots[index] == *on;
        !self.broken_on.iter().all(is_behind)
    }

    fn judge_with_children(&mut self, state: &LogState, named: &BTreeMap<RunId, Seq>, index: usize) {
        self.judge(state, named, index);
        self.judge_below(state, named, index, 0);
    }

    fn judge_below(&mut self, state: &LogState, named: &BTreeMap<RunId, Seq>, index: usize, depth: usize) {
        for at in self.children_of(index) {
            let child = self.children[at].1;
            self.judge(state, named, child);
            // What goes on from a run without entries waits for what that goes on from.
            if state.runs[child].is_empty() && depth < EMPTY_MAX {
                self.judge_below(state, named, child, depth + 1);
            }
        }
    }

    /// Where `children` has those of a run.
    fn children_of(&self, index: usize) -> std::ops::Range<usize> {
        let from = self.children.partition_point(|(parent, _)| *parent < index);
        let until = self.children.partition_point(|(parent, _)| *parent <= index);
        from..until
    }

    /// A run that was read and goes on from this one, nobody knows where, while nothing else says how far this was read.
    fn unclear_behind(&self, state: &LogState, named: &BTreeMap<RunId, Seq>, index: usize) -> Option<usize> {
        if named.contains_key(&state.runs[index].id) || !self.is_implied[index] {
            return None;
        }
        let mut children = self.children[self.children_of(index)].iter().map(|(_, child)| *child);
        children.find(|child| self.is_implied[*child] && !state.runs[*child].has_beginning())
    }

    /// Finds out whether a run is open.
    fn judge(&mut self, state: &LogState, named: &BTreeMap<RunId, Seq>, index: usize) {
        #[cfg(test)]
        {
            self.step_count += 1;
        }
        let run = &state.runs[index];
        let is_unclear = self.is_implied[index] && self.unclear_behind(state, named, index).is_some();
        // Where all of it was trimmed, nobody need know how far it was read.
        let is_trimmed = is_unclear && run.start >= run.until;
        let has_more = !is_trimmed && self.next_of(state, index) < run.until.max(run.start);
        // Who is in a run, or in one that goes on from it, has read what it goes on from.
        let before = match self.is_implied[index] {
            _ if self.may_be_implied(state, named, index) => Before::Missing,
            true if is_unclear => Before::Unclear,
            true => Before::Read,
            false => self.before(state, named, index, 0),
        };
        let sets = [
            (&mut self.open, Before::Read),
            (&mut self.gated, Before::Missing),
            (&mut self.held, Before::Unclear),
        ];
        for (set, is_in) in sets {
            if has_more && before == is_in {
                set.insert(index);
            } else {
                set.remove(&index);
            }
        }
    }

    /// What became of what a run goes on from.
    fn before(&self, state: &LogState, named: &BTreeMap<RunId, Seq>, index: usize, depth: usize) -> Before {
        let run = &state.runs[index];
        if is_read_before(named, run) && state.runs.index_of(run.parent).is_none() {
            return Before::Read;
        }
        if !run.parent.is_some() {
            return Before::Read;
        }
        let Some(parent) = state.runs.index_of(run.parent) else {
            // A trim of this run takes what it goes on from too.
            return if run.start >= run.from && run.start > Seq::FIRST {
                Before::Read
            } else {
                Before::Missing
            };
        };
        let of_parent = &state.runs[parent];
        let is_passed = of_parent.is_empty() && of_parent.from == run.from && self.read[parent].is_none();
        if is_passed && depth < EMPTY_MAX {
            // There is nothing of it to be read.
            return self.before(state, named, parent, depth + 1);
        }
        let is_read = match self.read[parent] {
            // That forked before it: this one goes on from a branch, and which one is not known yet.
            _ if run.has_beginning() && state.cut_of(run.parent).is_some_and(|cut| cut < run.from) => {
                of_parent.start >= run.from
            }
            // Where it goes on from the one before is not known: that is read as far as it is here.
            Some(next) if !run.has_beginning() => next >= of_parent.until,
            // A trim that takes from a run has taken what it goes on from.
            None if !run.has_beginning() => run.start > Seq::FIRST,
            Some(next) if next >= run.from => true,
            // How far that was read is not known, and matters no more once it was trimmed.
            Some(_) => of_parent.start >= run.from && self.unclear_behind(state, named, parent).is_some(),
            // Who begins here misses nothing of what was trimmed.
            None => of_parent.start >= run.from,
        };
        let has_ended = self.next_of(state, parent) >= of_parent.until.max(of_parent.start);
        match (is_read, has_ended) {
            (true, _) => Before::Read,
            (false, true) => Before::Missing,
            (false, false) => Before::Unread,
        }
    }

    /// A run of which it is not known how far it was read: the one that goes on from it, and how far that was.
    pub(crate) fn unclear(&self, state: &LogState, named: &BTreeMap<RunId, Seq>) -> Option<(RunId, Seq)> {
        let index = self.unclear_behind(state, named, *self.held.first()?)?;
        let run = &state.runs[index];
        Some((run.id, self.read[index].unwrap_or(run.from)))
    }

    /// A run that waits for what it goes on from, and is not here.
    pub(crate) fn waits(&self, state: &LogState) -> Option<Missing> {
        let gated = *self.gated.first()?;
        let before = &state.runs[self.broken_at.unwrap_or(gated)];
        let from = state.run(before.parent).map_or(Seq::FIRST, |parent| parent.until);
        let (child, next) = (state.runs[gated].id, self.next_of(state, gated));
        Some(Missing { run: before.parent, from, until: before.from.max(from), child, next })
    }
}

/// Whether what was read as a branch may have been another of its run: that was read beyond where it forked before that was
/// known, at a peer that held who knows which. So nothing implies how far such a branch was read, beside what is said of itself.
pub(crate) fn may_be_other(state: &LogState, named: &BTreeMap<RunId, Seq>, branch: RunId) -> bool {
    let is_beyond = |fork: &Fork| named.get(&fork.run).is_some_and(|next| fork.from() < *next);
    state.fork_of(branch).is_some_and(is_beyond)
}

/// Whether what a run goes on from is named, and was read to there.
fn is_read_before(named: &BTreeMap<RunId, Seq>, run: &Run) -> bool {
    run.has_beginning() && named.get(&run.parent).is_some_and(|next| *next >= run.from)
}

/// Runs without entries that go on from each other, at most: a log has no more forks.
const EMPTY_MAX: usize = 32;

/// Entries that are not here, and come before what is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    /// Their run.
    pub run: RunId,
    /// The first that may be missing.
    pub from: Seq,
    /// The number behind the last, as far as is known.
    pub until: Seq,
    /// The run that waits for them.
    pub child: RunId,
    /// Where that goes on for a reader who does without them.
    pub next: Seq,
}

/// What became of the entries that a run goes on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Read,
    Unread,
    Missing,
    /// How far the run itself was read is not known.
    Unclear,
}
