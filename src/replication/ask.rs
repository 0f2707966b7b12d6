//! Asking: which piece of which run is asked of whom, within bounds, and for how long it is waited for.
//!
//! A store is looked at when something changed that it may be asked for, and not at every input: whoever offers something,
//! has answered, or has rested long enough is put on a list, which is worked off once after each input.
//!
//! ```text
//! offer, wake, a lease that ends ──> to_ask ──look──> Want
//!              its pause is over ──────^  │
//!    a lease that ends, a batch goes on   └──at the bound──> held_up, looked at again when there is less under way
//! ```
use crate::base::{Seq, StoreId};
use crate::replication::bounds::LEASES_MAX;
use crate::replication::engine::Replication;
use crate::replication::io::PeerOutput;
use crate::replication::ranges::Ranges;
use crate::replication::session::{Lease, RunKey, Session, WANTS_MAX};
use crate::wire::peer::{PeerMessage, RunRange};
use std::ops::Bound;

/// Entries of the first piece of a run that a store is asked for.
pub(super) const PIECE_ENTRIES: u64 = 256;
/// Runs that are looked at before a store is given up for now.
const LOOKS_MAX: usize = 64;

/// What a look at a store came to.
enum Look {
    /// It was asked for something, and may be for more.
    Asked,
    /// There is more to look at.
    More,
    /// There is nothing to ask it for until something changes.
    Nothing,
}

impl Replication {
    /// Asks for what is lacking, of whoever offers it and has room.
    pub(super) fn ask(&mut self, now_ms: u64, out: &mut Vec<PeerOutput>) {
        while let Some((_, rested)) = self.resting.first().copied().filter(|(until, _)| *until <= now_ms) {
            self.resting.pop_first();
            self.to_ask.insert(rested);
        }
        let mut later = Vec::new();
        // One each in turn, so that several sources share a log.
        while !self.to_ask.is_empty() {
            for store in std::mem::take(&mut self.to_ask) {
                match self.ask_one(now_ms, store, out) {
                    Look::Asked => drop(self.to_ask.insert(store)),
                    Look::More => later.push(store),
                    Look::Nothing => {}
                }
            }
        }
        self.to_ask.extend(later);
    }

    fn ask_one(&mut self, now_ms: u64, store: StoreId, out: &mut Vec<PeerOutput>) -> Look {
        let mut is_held_up = false;
        for _ in 0..LOOKS_MAX {
            #[cfg(test)]
            tests::LOOKED.with(|count| count.set(count.get() + 1));
            let (is_at_bound, is_behind) = (self.is_at_its_bound(), self.is_disk_behind());
            let Some(session) = self.sessions.get_mut(&store).filter(|session| session.has_room(now_ms))
            else {
                return Look::Nothing;
            };
            if is_behind || (self.lease_count >= LEASES_MAX && !session.leases.is_empty()) {
                self.held_up.insert(store);
                return Look::Nothing;
            }
            // What had to wait was looked at; what comes behind it has its turn.
            let after = session.looked.take().filter(|_| is_at_bound);
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            let Some(key) = session.ready.range((from, Bound::Unbounded)).next().copied() else {
                if is_held_up || after.is_some() {
                    self.held_up.insert(store);
                }
                return Look::Nothing;
            };
            let Some((from, until)) = self.piece_of(store, key) else {
                self.look_behind(store, after);
                continue;
            };
            if is_at_bound && self.must_wait(key, from) {
                is_held_up = true;
                self.look_behind(store, Some(key));
                continue;
            }
            self.look_behind(store, after);
            // Towards the end pieces get smaller again, so that all who offer it have a share.
            let sources = self.offered.stores(key).count();
            let share = (until.since(from) / (2 * (WANTS_MAX * sources.max(1)) as u64)).max(PIECE_ENTRIES);
            let piece = self.pieces.get(&key).copied().unwrap_or(PIECE_ENTRIES).min(share);
            self.lease(now_ms, store, key, (from, until.min(from.after(piece))), false, out);
            return Look::Asked;
        }
        Look::More
    }

    /// What a store could be asked for of a run. Where there is nothing for now, the run is not ready any more.
    fn piece_of(&mut self, store: StoreId, key: RunKey) -> Option<(Seq, Seq)> {
        let session = self.sessions.get(&store)?;
        let without = [self.taken.get(&key), self.asked.get(&key)];
        let offered = || session.offers.get(&key).into_iter().flat_map(Ranges::iter);
        let piece = offered().find_map(|(from, until)| self.lacking_without(key, from, until, &without));
        if piece.is_none() {
            // What was trimmed or lost since it was offered is not lacking any more.
            if offered().all(|(from, until)| self.lacking(key, from, until).is_none()) {
                self.forget_run(store, key);
            } else if let Some(session) = self.sessions.get_mut(&store) {
                session.ready.remove(&key);
            }
        }
        piece
    }

    fn look_behind(&mut self, store: StoreId, key: Option<RunKey>) {
        if let Some(session) = self.sessions.get_mut(&store) {
            session.looked = key;
        }
    }

    /// Whether so much was asked for, or waits, that only what others wait for is asked for.
    fn is_at_its_bound(&self) -> bool {
        self.lease_count >= LEASES_MAX || self.is_waiting_full()
    }

    /// There may be less under way, or something new to wait for nothing: who was held up by that is looked at again.
    pub(super) fn hold_up_no_more(&mut self) {
        self.to_ask.append(&mut self.held_up);
    }

    /// A store is left alone for a while.
    pub(super) fn rest(&mut self, store: StoreId, until_ms: u64) {
        if let Some(session) = self.sessions.get_mut(&store) {
            session.busy_until_ms = until_ms;
            self.resting.insert((until_ms, store));
        }
    }

    pub(super) fn lease(
        &mut self,
        now_ms: u64,
        store: StoreId,
        key: RunKey,
        (from, until): (Seq, Seq),
        is_raced: bool,
        out: &mut Vec<PeerOutput>,
    ) {
        if let Some(session) = self.sessions.get_mut(&store) {
            let before = session
                .leases
                .insert((key, from), Lease { until, news_ms: now_ms, is_raced, had_no_room: false });
            self.lease_count += usize::from(before.is_none());
        }
        self.asked.entry(key).or_default().insert(from, until);
        let range = RunRange { log: key.0, run: key.1, from, until };
        // Whoever holds a batch of a log holds its peer's certificate.
        let certificate = self.held.log(&key.0).is_none_or(|log| log.is_empty());
        let bytes_max = self.config.want_bytes_max;
        out.push(PeerOutput::Send(store, PeerMessage::Want { range, bytes_max, certificate }));
    }

    /// What was asked of a store is asked of it no more; it may be asked for something else, and others for this.
    pub(super) fn end_lease(&mut self, store: StoreId, key: RunKey, from: Seq, lease: &Lease) {
        super::fetch::remove_from(&mut self.asked, key, from, lease.until);
        // Where two raced for it, it is still asked of the other.
        for session in self.sessions.values() {
            let leases = session.leases.range((key, Seq(0))..(key, lease.until));
            for ((_, first), other) in leases.filter(|(_, other)| from < other.until) {
                self.asked.entry(key).or_default().insert(*first, other.until);
            }
        }
        self.wake(key);
        self.to_ask.insert(store);
        self.hold_up_no_more();
    }

    /// What a store is slow to send is asked of another that has nothing better to do.
    pub(super) fn race(&mut self, now_ms: u64, out: &mut Vec<PeerOutput>) {
        if self.lease_count == 0 || self.is_disk_behind() {
            return;
        }
        let slow_ms = now_ms.saturating_sub(self.config.lease_ms / 4);
        let is_slow = |lease: &&Lease| lease.news_ms < slow_ms && !lease.is_raced;
        let slow = |(store, session): (&StoreId, &Session)| {
            let of_session = session.leases.iter().map(|((key, from), lease)| (*store, *key, *from, *lease));
            of_session.filter(|(.., lease)| is_slow(&lease)).collect::<Vec<_>>()
        };
        let slow: Vec<(StoreId, RunKey, Seq, Lease)> = self.sessions.iter().flat_map(slow).collect();
        for (store, key, from, lease) in slow {
            let is_full = self.lease_count >= LEASES_MAX;
            let can = |other: StoreId| {
                let session = self.sessions.get(&other)?;
                let has_room = session.has_room(now_ms) && (!is_full || session.leases.is_empty());
                let offered = session.offers.get(&key)?.around(from);
                Some((other, offered.filter(|_| other != store && has_room && !session.asks(key))?.1))
            };
            let Some((other, until)) = self.offered.stores(key).find_map(can) else { continue };
            if let Some(session) = self.sessions.get_mut(&store) {
                session.leases.insert((key, from), Lease { is_raced: true, ..lease });
            }
            self.lease(now_ms, other, key, (from, until.min(lease.until)), true, out);
        }
    }
}

#[cfg(test)]
mod tests;
