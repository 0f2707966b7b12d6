//! What was said of one epoch: what is done, how far, and how often entries were handed out.
use super::EXHAUSTED_COUNT_MAX;
use crate::base::{Cursor, PeerId, Position, RunId, Seq, Timestamp};
use crate::group::set::{Key, Set, ranges_of};
use crate::group::write::{Acks, Done};
use crate::topic::catalog::WriteId;
use std::collections::{BTreeMap, BTreeSet};

/// How an entry was handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// How often.
    pub count: u32,
    /// How often by this peer.
    pub own: u32,
    /// By whom last.
    pub by: PeerId,
    /// For how long then, in milliseconds; 0: whoever had it gave it back.
    pub lease_ms: u64,
    /// Until when that is, in Unix milliseconds of whoever handed it out.
    pub until_unix_ms: u64,
}

/// What was said of one epoch.
#[derive(Debug, Clone, Default)]
pub struct Book {
    /// What is done, as far as progress does not say so.
    pub done: Set,
    /// The latest word of each peer on what lies behind it.
    pub(super) progress: BTreeMap<PeerId, (Timestamp, WriteId, Cursor)>,
    /// Of each run that such a word names: everything below is done.
    pub(super) floors: BTreeMap<(PeerId, RunId), Seq>,
    /// Of each run as much of that as need not be listed.
    pub(super) pruned: BTreeMap<(PeerId, RunId), (Seq, Seq)>,
    /// How often entries were handed out that are not done.
    pub granted: BTreeMap<Key, Granted>,
    /// Entries that were handed out too often and are kept aside.
    pub exhausted: BTreeSet<Key>,
}

impl Book {
    pub(super) fn is_below(&self, (peer, run, seq): Key) -> bool {
        self.floors.get(&(peer, run)).is_some_and(|floor| seq < *floor)
    }

    pub(super) fn ack(&mut self, acks: &[Acks], why: Done) {
        for (peer, run, from, until) in ranges_of(acks) {
            if from >= until {
                continue;
            }
            let range = (peer, run, from)..(peer, run, until);
            match why {
                Done::Exhausted if self.done.holds((peer, run, from)) => {}
                Done::Exhausted => {
                    let room = EXHAUSTED_COUNT_MAX - self.exhausted.len().min(EXHAUSTED_COUNT_MAX);
                    let listed = (from.0..until.0).take(room).map(|seq| (peer, run, Seq(seq)));
                    self.exhausted.extend(listed);
                }
                _ => {
                    let gone: Vec<Key> = self.exhausted.range(range.clone()).copied().collect();
                    gone.iter().for_each(|key| {
                        self.exhausted.remove(key);
                    });
                }
            }
            let (first, last) = self.pruned.get(&(peer, run)).copied().unwrap_or_default();
            self.done.insert(peer, run, from, until.min(first));
            self.done.insert(peer, run, from.max(last), until);
            let gone: Vec<Key> = self.granted.range(range).map(|(key, _)| *key).collect();
            gone.iter().for_each(|key| {
                self.granted.remove(key);
            });
        }
    }

    pub(super) fn progress(&mut self, id: WriteId, time: Timestamp, done: &Cursor) {
        let known = self.progress.get(&id.peer);
        if known.is_none_or(|(old_time, old_id, _)| (*old_time, *old_id) < (time, id)) {
            self.progress.insert(id.peer, (time, id, done.clone()));
        }
        for Position { peer, run, next } in &done.positions {
            let floor = self.floors.entry((*peer, *run)).or_default();
            *floor = (*floor).max(*next);
        }
    }

    pub(super) fn prune(&mut self, peer: PeerId, run: RunId, from: Seq) {
        let below = self.floors.get(&(peer, run)).copied().unwrap_or_default();
        self.pruned.insert((peer, run), (from, below));
        self.done.remove(peer, run, from, below);
        if from < below {
            let range = (peer, run, from)..(peer, run, below);
            let gone: Vec<Key> = self.granted.range(range).map(|(key, _)| *key).collect();
            gone.iter().for_each(|key| {
                self.granted.remove(key);
            });
        }
    }
}

pub(super) fn grant(book: &mut Book, grants: &[Acks], granted: Granted) {
    for (peer, run, from, until) in ranges_of(grants) {
        // Nobody hands out more at once: a longer range would be a mistake, or somebody's joke.
        for seq in (from.0..until.0).take(65_536) {
            let key = (peer, run, Seq(seq));
            if book.done.holds(key) || book.is_below(key) {
                continue;
            }
            let before = book.granted.get(&key).map_or((0, 0), |old| (old.count, old.own));
            let count = before.0.saturating_add(granted.count);
            let own = before.1.saturating_add(granted.own);
            book.granted.insert(key, Granted { count, own, ..granted });
        }
    }
}
