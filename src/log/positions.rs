//! A reader's position in one log: for each run how far it has been read, and what comes next.
//!
//! ```text
//! r1 [1..40) ──> r2 [40..90) ──> r3 [90..95)         named {r3: 92}: r1 and r2 are implied, next is 92 of r3
//!            └─> r4 [30..35)                          a branch: not implied, read from 30, once r1 is read to 30
//! ```
use crate::base::{PeerId, Position, RunId, Seq};
use crate::log::state::{LogState, Run};
use std::collections::BTreeMap;

/// What comes next in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// This entry.
    Entry(RunId, Seq),
    /// Entries that were trimmed: run, from, until.
    Trimmed(RunId, Seq, Seq),
    /// The position names a run that is not known here: wait.
    Ahead(RunId, Seq),
    /// Nothing more is known.
    End,
}

/// How far each run of a log has been read, as far as that is not implied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Positions {
    named: BTreeMap<RunId, Seq>,
}

impl Positions {
    /// Takes over what a cursor says of one log.
    pub fn from_cursor(positions: impl Iterator<Item = Position>) -> Self {
        Self { named: positions.map(|p| (p.run, p.next)).collect() }
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
        let is_leaf =
            |run: &&Run| !state.runs.iter().any(|other| other.parent == run.id && other.from == run.until);
        Self { named: state.runs.iter().filter(is_leaf).map(|run| (run.id, run.until)).collect() }
    }

    /// Everything below `next` of `run` has been read.
    pub fn set(&mut self, run: RunId, next: Seq) {
        self.named.insert(run, next);
    }

    /// Everything below `next` of `run` has now been read; what that implies is no longer named.
    pub fn pass(&mut self, state: &LogState, run: RunId, next: Seq) {
        self.named.insert(run, next);
        if let Some(run) = state.run(run)
            && self.named.get(&run.parent) == Some(&run.from)
        {
            self.named.remove(&run.parent);
        }
    }

    /// The next number to read of `run`; `None` when nothing was said about it.
    fn next_of(&self, state: &LogState, run: &Run) -> Option<Seq> {
        let mut next = self.named.get(&run.id).copied();
        for named in self.named.keys() {
            let (mut at, mut steps) = (*named, 0);
            // Each run on the way back implies that its parent was read to where it goes on.
            while let Some(child) = state.run(at)
                && child.parent.is_some()
                && steps <= state.runs.len()
            {
                if child.parent == run.id {
                    next = next.max(Some(child.from));
                }
                at = child.parent;
                steps += 1;
            }
        }
        next
    }

    /// What comes next, given what is known of the log.
    pub fn next(&self, state: &LogState) -> Next {
        if let Some((run, next)) = self.named.iter().find(|(run, _)| state.run(**run).is_none()) {
            return Next::Ahead(*run, *next);
        }
        for run in &state.runs {
            let start = state.start_of(run);
            // Who has read the run before misses what was trimmed of this one; who begins here does not.
            let came_from_before =
                state.run(run.parent).is_some_and(|parent| self.next_of(state, parent).is_some());
            let otherwise = if came_from_before { run.from } else { start };
            let next = self.next_of(state, run).unwrap_or(otherwise).max(run.from);
            if next >= run.until || !self.has_reached(state, run) {
                continue;
            }
            if next < start {
                return Next::Trimmed(run.id, next, start);
            }
            return Next::Entry(run.id, next);
        }
        Next::End
    }

    /// Whether the run that `run` goes on from has been read up to where it does.
    fn has_reached(&self, state: &LogState, run: &Run) -> bool {
        match state.run(run.parent) {
            None => true,
            Some(parent) => {
                let read = self.next_of(state, parent).unwrap_or(state.start_of(parent));
                read >= run.from.min(parent.until) || self.named.contains_key(&run.id)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Digest, Timestamp};

    fn state(runs: &[(u64, u64, u64, u64)]) -> LogState {
        let run = |&(id, parent, from, until): &(u64, u64, u64, u64)| Run {
            id: RunId(id),
            parent: RunId(parent),
            from: Seq(from),
            until: Seq(until),
            start: Seq::FIRST,
            last_time: Timestamp(until),
            link: Digest::ZERO,
        };
        LogState { runs: runs.iter().map(run).collect(), ..LogState::new() }
    }

    /// Reads everything one entry at a time and answers what was read.
    fn drain(state: &LogState, positions: &mut Positions) -> Vec<(u64, u64)> {
        let mut read = Vec::new();
        while let Next::Entry(run, seq) = positions.next(state) {
            read.push((run.0, seq.0));
            positions.pass(state, run, seq.after(1));
        }
        read
    }

    #[test]
    fn a_chain_is_read_in_order_and_only_its_last_run_is_named() {
        let state = state(&[(1, 0, 1, 3), (2, 1, 3, 4), (3, 2, 4, 6)]);
        let mut positions = Positions::default();
        assert_eq!(drain(&state, &mut positions), [(1, 1), (1, 2), (2, 3), (3, 4), (3, 5)]);
        assert_eq!(positions, Positions::at_end(&state));
        assert_eq!(positions.named.len(), 1);
    }

    #[test]
    fn a_branch_is_read_whole_and_neither_side_twice() {
        let state = state(&[(1, 0, 1, 5), (2, 1, 3, 5), (3, 1, 5, 6)]);
        let mut positions = Positions::default();
        let read = drain(&state, &mut positions);
        assert_eq!(read, [(1, 1), (1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 5)]);
        let again = Positions::from_cursor(positions.to_cursor(PeerId([0; 32])));
        assert_eq!(drain(&state, &mut again.clone()), []);
    }

    #[test]
    fn a_position_ahead_of_what_is_known_waits() {
        let mut positions = Positions::default();
        positions.set(RunId(7), Seq(9));
        let known = state(&[(1, 0, 1, 5)]);
        assert_eq!(positions.next(&known), Next::Ahead(RunId(7), Seq(9)));
        let mut ahead = Positions::default();
        ahead.set(RunId(1), Seq(9));
        assert_eq!(ahead.next(&known), Next::End);
    }

    #[test]
    fn a_run_that_was_trimmed_whole_is_told_to_who_read_the_one_before() {
        let mut state = state(&[(1, 0, 1, 5), (2, 1, 5, 8), (3, 2, 8, 9)]);
        let log = crate::base::LogId { topic: crate::base::TopicId([1; 16]), peer: PeerId([0; 32]) };
        let (start, until, time) = (Seq(8), Seq(9), Timestamp(9));
        let head = crate::base::Head {
            log,
            run: RunId(3),
            start,
            until,
            time,
            last: Digest::ZERO,
            is_sealed: false,
        };
        state.add_head(head, crate::base::Signature([0; 64]));
        let mut positions = Positions::default();
        assert_eq!(positions.next(&state), Next::Entry(RunId(3), Seq(8)));
        positions.set(RunId(1), Seq(5));
        assert_eq!(positions.next(&state), Next::Trimmed(RunId(2), Seq(5), Seq(8)));
        positions.pass(&state, RunId(2), Seq(8));
        assert_eq!(drain(&state, &mut positions), [(3, 8)]);
        assert_eq!(positions.named.len(), 1);
    }

    #[test]
    fn a_restored_backup_goes_on_in_a_run_that_is_read_whole() {
        // The reader had 1..9 of run 1; the peer came back with 1..5 and went on from there in run 2.
        let mut positions = Positions::default();
        positions.set(RunId(1), Seq(9));
        let known = state(&[(1, 0, 1, 5), (2, 1, 5, 7)]);
        assert_eq!(drain(&known, &mut positions), [(2, 5), (2, 6)]);
    }
}
