//! From what people write to what the log knows: abbreviated ids, beginnings of reads.
use crate::base::name::PeerRef;
use crate::base::{Cursor, EntryId, EntryRef, LogId, Position, RunId, Seq, Timestamp, TopicId};
use crate::disk::Lane;
use crate::log::read::{self, Single};
use crate::log::state::{LogState, Run};
use crate::log::store::Log;
use crate::log::topic_reader::Start;
use crate::runtime::handle::Handle;
use crate::runtime::shared::Shared;
use crate::wire::outcome::{ReadError, ReadFrom};
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use tokio::sync::oneshot;

/// What an id may mean.
pub(super) enum Meant {
    /// This entry, which is within its log's numbers.
    Entry(EntryId),
    /// An entry that this peer does not hold yet: the id, and where the log ends here.
    Ahead(EntryId, Seq),
}

/// The one entry that `id` fits.
pub(super) fn resolve(shared: &Shared, id: &EntryRef) -> Result<Meant, ReadError> {
    let topic = TopicId::of(shared.about.cluster, id.topic.as_str());
    let (mut fits, mut ahead, mut branches) = (Vec::new(), Vec::new(), Vec::new());
    for log in shared.store.logs_of(topic) {
        if !is_peer(shared, &log, &id.peer) {
            continue;
        }
        let state = log.look();
        let fits_run = |run: &&Run| id.fits_run(run.id) && id.fits_signed_run(state.signed_run_of(run.id));
        for run in state.runs.iter().filter(fits_run) {
            let entry = EntryId { topic, peer: log.id.peer, run: run.id, seq: id.seq };
            if state.cut_of(run.id).is_some_and(|cut| cut <= id.seq) {
                let of_run = state.branches_at(run.id, id.seq).into_iter();
                branches.extend(of_run.map(|branch| EntryRef {
                    run: branch.to_string(),
                    signed_run: state.signed_run_of(branch).map(|run| run.to_string()),
                    ..id.clone()
                }));
            } else if id.seq >= run.until.max(state.begin_of(run)) {
                ahead.push((entry, run.until));
            } else if id.seq >= run.from {
                fits.push(entry);
            }
        }
    }
    match (fits.as_slice(), ahead.as_slice()) {
        ([], []) if !branches.is_empty() => Err(ReadError::Forked { id: id.to_string(), branches }),
        ([one], _) => Ok(Meant::Entry(*one)),
        ([], [(entry, until)]) => Ok(Meant::Ahead(*entry, *until)),
        ([], []) => Err(ReadError::IdUnknown { id: id.to_string() }),
        ([], many) => {
            Err(ReadError::IdAmbiguous { id: id.to_string(), fits: many.iter().map(|(id, _)| *id).collect() })
        }
        (many, _) => Err(ReadError::IdAmbiguous { id: id.to_string(), fits: many.to_vec() }),
    }
}

fn is_peer(shared: &Shared, log: &Log, peer: &PeerRef) -> bool {
    match peer {
        PeerRef::Key(key) => *key == log.id.peer,
        PeerRef::Name(name) => shared.name_of(&log.id.peer).as_ref() == Some(name),
    }
}

/// Reads one entry by its id.
pub(super) fn get(shared: &Shared, id: &EntryRef) -> Result<crate::runtime::Found, ReadError> {
    let entry = match resolve(shared, id)? {
        Meant::Entry(entry) => entry,
        Meant::Ahead(_, until) => return Err(ReadError::IdAhead { id: id.to_string(), until }),
    };
    match single(shared, &entry).map_err(io_error)? {
        Single::Entry(time, raw, signed_run) => {
            Ok(crate::runtime::Found { id: entry, signed_run, time, raw })
        }
        Single::Trimmed(start) => Err(ReadError::IdTrimmed { id: id.to_string(), start }),
        Single::Damaged => Err(ReadError::Damaged { id: id.to_string() }),
        Single::Lost => Err(ReadError::IdLost { id: id.to_string() }),
        Single::Ahead(until) => Err(ReadError::IdAhead { id: id.to_string(), until }),
        Single::Unknown => Err(ReadError::IdUnknown { id: id.to_string() }),
    }
}

fn single(shared: &Shared, id: &EntryId) -> io::Result<Single> {
    let log: LogId = id.log();
    match shared.store.log(&log) {
        Some(log) => read::get(&shared.store, &log, id),
        None => Ok(Single::Unknown),
    }
}

pub(super) fn io_error(error: io::Error) -> ReadError {
    ReadError::Io { reason: error.to_string() }
}

impl Handle {
    /// What `look` brings, which may look at all logs, where it holds up nobody. Fails when the peer has stopped.
    pub async fn aside<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, ReadError> {
        let handle = self.clone();
        self.in_lane(Lane::Look, move || look(&handle)).await
    }

    pub(super) async fn in_lane<T: Send + 'static>(
        &self,
        lane: Lane,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ReadError> {
        let (answer, answered) = oneshot::channel();
        self.shared.io().run(lane, Box::new(move || drop(answer.send(work()))));
        answered.await.map_err(|_| ReadError::Stopped)
    }

    /// Fails where a read from there would find nothing for being ahead of what is held: what a read that does not wait
    /// asks before it begins. Only ids are looked at; that a cursor is ahead is told by the reader itself.
    pub async fn check_not_ahead(&self, from: &ReadFrom) -> Result<(), ReadError> {
        if !matches!(from, ReadFrom::Id(_)) {
            return Ok(());
        }
        let (shared, from) = (self.shared.clone(), from.clone());
        self.in_lane(Lane::Read, move || check_not_ahead(&shared, &from)).await?
    }
}

/// That a read which does not wait begins with something that may be here: not with an id ahead of its log.
fn check_not_ahead(shared: &Shared, from: &ReadFrom) -> Result<(), ReadError> {
    let ReadFrom::Id(id) = from else { return Ok(()) };
    match resolve(shared, id)? {
        Meant::Ahead(_, until) => Err(ReadError::IdAhead { id: id.to_string(), until }),
        Meant::Entry(_) => Ok(()),
    }
}

/// Where a read begins, in the log's terms.
pub(super) fn start(shared: &Arc<Shared>, topic: TopicId, from: ReadFrom) -> Result<Start, ReadError> {
    let now = || Timestamp::from_ms(shared.env.clock.unix_ms());
    match from {
        ReadFrom::Start => Ok(Start::Oldest),
        ReadFrom::Now => Ok(Start::Now(now())),
        ReadFrom::Time { unix_ms } => Ok(Start::Time(Timestamp::from_ms(unix_ms))),
        ReadFrom::Cursor(cursor) => {
            cursor.check(shared.about.cluster, topic)?;
            Ok(Start::Cursor(cursor))
        }
        ReadFrom::Last { count } => Ok(Start::Cursor(last(shared, topic, count))),
        ReadFrom::Id(id) => match resolve(shared, &id)? {
            Meant::Ahead(entry, _) => Ok(Start::Cursor(at(shared, &entry, now()))),
            Meant::Entry(entry) => match single(shared, &entry).map_err(io_error)? {
                Single::Entry(time, ..) => Ok(Start::Entry(entry, time)),
                Single::Trimmed(start) => Err(ReadError::IdTrimmed { id: id.to_string(), start }),
                // The reader is told what stands in the way when it gets there.
                _ => Ok(Start::Cursor(at(shared, &entry, now()))),
            },
        },
    }
}

/// The cursor before the last `count` entries of each log.
fn last(shared: &Shared, topic: TopicId, count: u64) -> Cursor {
    let of_log = |log: Arc<Log>| {
        let positions = last_of(&log.look(), count);
        positions.into_iter().map(move |(run, next)| Position { peer: log.id.peer, run, next })
    };
    let mut positions: Vec<Position> = shared.store.logs_of(topic).into_iter().flat_map(of_log).collect();
    positions.sort_unstable();
    Cursor { cluster: shared.about.cluster, topic, floor: Timestamp::ZERO, positions }
}

/// The position before the last `count` entries of a log, as its own peer sees it. What branches off before that counts
/// as read, what branches off behind it does not.
fn last_of(state: &LogState, count: u64) -> Vec<(RunId, Seq)> {
    // It ends also where runs name each other in a circle, as damage or a forger may have them.
    let chain = |leaf: RunId| state.chain(leaf);
    let mut back = state.tip().into_iter().flat_map(|tip| chain(tip.id)).map(|(run, _)| run);
    let Some(mut run) = back.next() else { return Vec::new() };
    let wanted = Seq(run.until.0.saturating_sub(count));
    // Behind what was trimmed nothing is to be told of that.
    while wanted < run.from
        && state.start_of(run) == run.from
        && let Some(parent) = back.next()
    {
        run = parent;
    }
    let next = wanted.max(state.start_of(run)).min(run.until);
    // How far a position at the end of `leaf` implies that `run` was read.
    let implied = |leaf: &Run| chain(leaf.id).find(|(at, _)| at.id == run.id).map(|(_, until)| until);
    let goes_on: BTreeSet<(RunId, Seq)> = state.runs.iter().map(|run| (run.parent, run.from)).collect();
    let leaves = state.runs.iter().filter(|run| !goes_on.contains(&(run.id, run.until)));
    let passed = leaves.filter(|leaf| leaf.id != run.id && implied(leaf).is_none_or(|until| until <= next));
    passed.map(|leaf| (leaf.id, leaf.until)).chain([(run.id, next)]).collect()
}

/// The cursor just before `entry`.
fn at(shared: &Shared, entry: &EntryId, floor: Timestamp) -> Cursor {
    let position = Position { peer: entry.peer, run: entry.run, next: entry.seq };
    Cursor { cluster: shared.about.cluster, topic: entry.topic, floor, positions: vec![position] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::positions::{Next, Positions};
    use crate::log::testing::state;

    /// What is read of the last `count`.
    fn read(state: &LogState, count: u64) -> Vec<(u64, u64)> {
        let mut positions = Positions::default();
        last_of(state, count).into_iter().for_each(|(run, next)| positions.set(run, next));
        let mut read = Vec::new();
        while let Next::Entry(run, seq) = positions.next(state) {
            read.push((run.0, seq.0));
            positions.pass(state, run, seq.after(1));
        }
        read
    }

    #[test]
    fn the_last_entries_of_a_log_are_found_across_its_runs() {
        let state = state(&[(1, 0, 1, 4), (2, 1, 4, 5), (3, 2, 5, 7)]);
        let all = [(1, 1), (1, 2), (1, 3), (2, 4), (3, 5), (3, 6)];
        for count in 0..9 {
            assert_eq!(read(&state, count), all[all.len().saturating_sub(count as usize)..], "{count}");
        }
        assert_eq!(last_of(&LogState::new(), 3), []);
    }

    #[test]
    fn a_branch_is_read_with_the_last_entries_only_if_it_leaves_behind_them() {
        // Run 2 was left by a restore; run 3 goes on.
        let state = state(&[(1, 0, 1, 5), (2, 1, 3, 5), (3, 1, 5, 7)]);
        assert_eq!(read(&state, 3), [(1, 4), (3, 5), (3, 6)]);
        assert_eq!(read(&state, 4), [(1, 3), (1, 4), (3, 5), (3, 6)]);
        let wider: Vec<(u64, u64)> = read(&state, 5);
        assert_eq!(wider.iter().filter(|(run, _)| *run != 2).count(), 5, "{wider:?}");
    }

    #[test]
    fn runs_that_name_each_other_are_walked_once() {
        let circle = [(1, 2, 5, 9), (2, 1, 9, 12)];
        for others in [&[][..], &[(3, 0, 1, 4)], &[(3, 1, 9, 10)]] {
            let state = state(&[&circle[..], others].concat());
            for count in [0, 2, 5, 100] {
                assert!(!last_of(&state, count).is_empty());
            }
        }
    }

    #[test]
    fn what_was_trimmed_is_not_asked_for() {
        let mut state = state(&[(1, 0, 1, 5), (2, 1, 5, 9)]);
        state.runs.change(0).start = Seq(4);
        assert_eq!(read(&state, 100), [(1, 4), (2, 5), (2, 6), (2, 7), (2, 8)]);
        state.runs.change(0).start = Seq(5);
        state.runs.change(1).start = Seq(7);
        assert_eq!(read(&state, 100), [(2, 7), (2, 8)]);
    }
}
