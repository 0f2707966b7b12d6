//! A reader's position in one log: for each run how far it has been read, and what comes next.
//!
//! ```text
//! r1 [1..40) ──> r2 [40..90) ──> r3 [90..95)         named {r3: 92}: r1 and r2 are implied, next is 92 of r3
//!            └─> r4 [30..35)                          a branch: not implied, read from 30, once r1 is read to 30
//! ```
use crate::base::{Digest, PeerId, Position, RunId, Seq};
use crate::log::run_view::{Missing, View, may_be_other};
use crate::log::state::{LogState, Run};
use std::collections::{BTreeMap, BTreeSet};

/// What comes next in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// This entry.
    Entry(RunId, Seq),
    /// Entries that were trimmed: run, from, until.
    Trimmed(RunId, Seq, Seq),
    /// The position names a run that is not known here, or not where it goes on from the one before: wait.
    Ahead(RunId, Seq),
    /// What comes next is not here, although a run that goes on from it is: wait.
    Missing(Missing),
    /// Nothing more is known.
    End,
}

/// How far each run of a log has been read, as far as that is not implied.
#[derive(Debug, Default)]
pub struct Positions {
    named: BTreeMap<RunId, Seq>,
    /// What follows from that and from what was known of the log when it was asked last.
    view: Option<Box<View>>,
}

impl PartialEq for Positions {
    fn eq(&self, other: &Self) -> bool {
        self.named == other.named
    }
}

impl Clone for Positions {
    /// Without what can be found again.
    fn clone(&self) -> Self {
        Self { named: self.named.clone(), view: None }
    }
}

impl Positions {
    /// Takes over what a cursor says of one log.
    pub fn from_cursor(positions: impl Iterator<Item = Position>) -> Self {
        Self { named: positions.map(|p| (p.run, p.next)).collect(), view: None }
    }

    /// What a cursor should say of the log of `peer`.
    pub fn to_cursor(&self, peer: PeerId) -> impl Iterator<Item = Position> {
        self.named.iter().map(move |(run, next)| Position { peer, run: *run, next: *next })
    }

    /// Whether nothing has been read.
    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }

    /// Everything known of the log has been read.
    pub fn at_end(state: &LogState) -> Self {
        let goes_on: BTreeSet<(RunId, Seq)> = state.runs.iter().map(|run| (run.parent, run.from)).collect();
        let leaves = state.runs.iter().filter(|run| !goes_on.contains(&(run.id, run.until)));
        Self { named: leaves.map(|run| (run.id, run.until)).collect(), view: None }
    }

    /// Everything below `next` of `run` has been read.
    pub fn set(&mut self, run: RunId, next: Seq) {
        self.named.insert(run, next);
        self.view = None;
    }

    /// Reading begins with `next` of `run`: whatever was said of runs that it goes on from, or that go on from it.
    pub fn begin_at(&mut self, state: &LogState, run: RunId, next: Seq) {
        self.named.retain(|named, _| !state.is_ancestor(run, *named));
        for (before, end) in state.chain(run).skip(1) {
            if self.named.get(&before.id).is_some_and(|next| *next <= end) {
                self.named.remove(&before.id);
            }
        }
        self.set(run, next);
    }

    /// Everything below `next` of `run` has now been read; what that implies is no longer named.
    pub fn pass(&mut self, state: &LogState, run: RunId, next: Seq) {
        self.named.insert(run, next);
        let index = state.runs.index_of(run);
        if let Some(run) = index.map(|index| &state.runs[index])
            // Of one that is not known here nothing else says how far it was read.
            && state.runs.index_of(run.parent).is_some()
            && let Some((parent, read)) = self.named.remove_entry(&run.parent)
            && (read != run.from || is_doubtful(state, run) || may_be_other(state, &self.named, parent))
        {
            self.named.insert(parent, read);
        }
        self.view = self.view.take().filter(|view| view.is_of(state));
        match (&mut self.view, index) {
            (Some(view), Some(index)) => view.pass(state, &self.named, index, next),
            _ => self.view = None,
        }
    }

    /// What comes next, given what is known of the log.
    pub fn next(&mut self, state: &LogState) -> Next {
        self.next_but(state, |_| false)
    }

    /// The same, but for runs that cannot be read on now: what does not go on from them need not wait.
    pub fn next_but(&mut self, state: &LogState, is_stuck: impl Fn(RunId) -> bool) -> Next {
        let view = match self.view.take().filter(|view| view.is_of(state)) {
            Some(mut view) => {
                view.look_at_end(state, &self.named);
                view
            }
            None => Box::new(View::new(state, &self.named)),
        };
        let view = self.view.insert(view);
        if let Some((run, next)) = view.ahead {
            return Next::Ahead(run, next);
        }
        let mut open = view.open.iter().copied();
        let Some(index) = open.find(|index| !is_stuck(state.runs[*index].id)) else {
            let unclear = || view.unclear(state, &self.named).map(|(run, next)| Next::Ahead(run, next));
            return view.waits(state).map(Next::Missing).or_else(unclear).unwrap_or(Next::End);
        };
        let (run, next) = (&state.runs[index], view.next_of(state, index));
        let start = state.begin_of(run);
        if next < start { Next::Trimmed(run.id, next, start) } else { Next::Entry(run.id, next) }
    }
}

/// Whether what a run goes on from may turn out to be another thing than what was read under that name: where it forked it may
/// have forked before, or what is here is not what this one names.
fn is_doubtful(state: &LogState, run: &Run) -> bool {
    let is_known = |link: &Digest| *link != Digest::ZERO;
    let end = state.run(run.parent).filter(|parent| parent.until == run.from).map(|parent| parent.link);
    let is_other = end.filter(is_known).is_some_and(|end| is_known(&run.previous) && end != run.previous);
    state.fork_of(run.id).is_some() || is_other
}

#[cfg(test)]
mod tests;
