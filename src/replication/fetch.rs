//! Fetching: who offers what is lacking here, and of whom it is asked.
//!
//! A run is asked for in pieces, each of one store and all of them in turn, so that whoever offers it gives a share. What
//! comes early waits (`waiting.rs`), so that a run goes to the disk in order, and behind what it goes on from. What does
//! not come in time is asked of another; towards the end of its time of two.
use crate::base::{LogId, RunId, Seq, StoreId};
use crate::replication::engine::Replication;
use crate::replication::io::PeerOutput;
use crate::replication::ranges::Ranges;
use crate::replication::session::{Lease, RunKey, Session, WANTS_MAX};
use crate::replication::waiting::Fetched;
use crate::wire::peer::{PeerMessage, RunRange, SentEnd};
use std::collections::BTreeMap;
use std::ops::Bound;

/// Entries of the first piece of a run that a store is asked for.
const PIECE_ENTRIES: u64 = 256;
/// Pieces that are asked for at once, of all stores: each is one answer of 1 MiB, or one batch.
const LEASES_MAX: usize = 64;
/// Runs that are looked at before a store is given up for now.
const LOOKS_MAX: usize = 64;
/// A store that is busy is left alone for so many milliseconds at least.
const PAUSE_MS_MIN: u64 = 100;

impl Replication {
    /// Whether a batch with these entries was asked of `from`, and is still lacking: nothing of it was taken, so that
    /// throwing it away takes nothing from anybody else.
    pub fn wants(&self, from: StoreId, range: &RunRange) -> bool {
        let key = (range.log, range.run);
        let was_asked = |session: &Session| {
            let mut leases = session.leases.range((key, Seq(0))..(key, range.until));
            leases.any(|((_, first), lease)| *first < range.until && range.from < lease.until)
        };
        let whole = Some((range.from, range.until));
        let is_taken = |taken: &Ranges| taken.first_gap(range.from, range.until) != whole;
        self.sessions.get(&from).is_some_and(was_asked)
            && !self.taken.get(&key).is_some_and(is_taken)
            && self.lacking(key, range.from, range.until).is_some()
    }

    /// What a run goes on from, and where it begins, as far as is known.
    pub(super) fn parent_of(&self, key: RunKey) -> Option<(RunId, Seq)> {
        let held = self.held.log(&key.0).and_then(|log| log.run(key.1));
        held.map(|run| (run.parent, run.from)).or_else(|| self.parents.get(&key).copied())
    }

    /// Whether something of a run below `until`, or of what it goes on from, is lacking, offered, and not on its way to
    /// the disk.
    fn must_wait(&self, key: RunKey, until: Seq) -> bool {
        let is_offered = |key: RunKey, until: Seq| {
            let stored = self.stored.get(&key);
            self.sessions.values().any(|session| {
                let offered = session.offers.get(&key).into_iter().flat_map(Ranges::iter);
                let mut below = offered.take_while(|(from, _)| *from < until);
                below.any(|(from, end)| self.lacking_without(key, from, end.min(until), &[stored]).is_some())
            })
        };
        let before = self.parent_of(key).filter(|(parent, _)| parent.is_some());
        is_offered(key, until) || before.is_some_and(|(parent, from)| is_offered((key.0, parent), from))
    }

    pub(super) fn offer(&mut self, from: StoreId, range: &RunRange) {
        let key = (range.log, range.run);
        let (mut next, runs_max) = (range.from, self.runs_share());
        while let Some((first, until)) = self.lacking(key, next, range.until) {
            if let Some(session) = self.sessions.get_mut(&from) {
                session.offer_within(&RunRange { from: first, until, ..*range }, runs_max);
            }
            next = until;
        }
    }

    /// The first stretch that is not held, trimmed or lost.
    pub(super) fn lacking(&self, key: RunKey, from: Seq, until: Seq) -> Option<(Seq, Seq)> {
        match self.held.log(&key.0) {
            Some(log) => log.first_missing(key.1, from, until),
            None => (from < until).then_some((from, until)),
        }
    }

    /// The same without what was taken.
    pub(super) fn missing(&self, key: RunKey, from: Seq, until: Seq) -> Option<(Seq, Seq)> {
        self.lacking_without(key, from, until, &[self.taken.get(&key)])
    }

    fn lacking_without(
        &self,
        key: RunKey,
        from: Seq,
        until: Seq,
        without: &[Option<&Ranges>],
    ) -> Option<(Seq, Seq)> {
        let mut next = from;
        while let Some((first, end)) = self.lacking(key, next, until) {
            if let Some(found) = first_outside(first, end, without) {
                return Some(found);
            }
            next = end;
        }
        None
    }

    pub(super) fn took(&mut self, now_ms: u64, from: StoreId, range: &RunRange) {
        let key = (range.log, range.run);
        self.taken.entry(key).or_default().insert(range.from, range.until);
        self.sources.insert((key, range.from), from);
        // It comes: there is more time for the rest.
        if let Some(session) = self.sessions.get_mut(&from)
            && let Some((first, lease)) = session.lease_around(key, range.from)
        {
            session.leases.insert((key, first), Lease { news_ms: now_ms, ..lease });
        }
    }

    /// A batch is what its peer signed: it goes to the disk, unless what comes before it is to be had.
    pub(super) fn fetched(&mut self, now_ms: u64, fetched: Fetched, out: &mut Vec<PeerOutput>) {
        let key = (fetched.range.log, fetched.range.run);
        // With too much waiting the order counts less than the room.
        if self.waiting.is_full() || fetched.is_pushed {
            return self.store(fetched, out);
        }
        self.waiting.add(now_ms, fetched);
        self.release(key, out);
    }

    fn store(&mut self, fetched: Fetched, out: &mut Vec<PeerOutput>) {
        let RunRange { log, run, from, until } = fetched.range;
        self.stored.entry((log, run)).or_default().insert(from, until);
        out.push(PeerOutput::Store(Box::new(fetched)));
    }

    /// What waits of a run goes to the disk as far as nothing is to be had that comes before it; and what goes on from
    /// that.
    pub(super) fn release(&mut self, key: RunKey, out: &mut Vec<PeerOutput>) {
        if self.waiting.is_empty() {
            return;
        }
        let mut runs = vec![key];
        while let Some(key) = runs.pop() {
            while let Some(from) = self.waiting.first(key).filter(|from| !self.must_wait(key, *from)) {
                let Some(fetched) = self.waiting.take(key, from) else { break };
                self.store(fetched, out);
            }
            runs.extend(self.waiting.children(key));
        }
    }

    /// The same, where it is not known what changed.
    pub(super) fn release_all(&mut self, out: &mut Vec<PeerOutput>) {
        self.waiting.runs().into_iter().for_each(|key| self.release(key, out));
    }

    /// Whatever waited as long as a store may take to answer: nobody may hold up others by offering what never comes.
    pub(super) fn release_old(&mut self, now_ms: u64, out: &mut Vec<PeerOutput>) {
        let since_ms = now_ms.saturating_sub(self.config.lease_ms);
        for (key, from) in self.waiting.older_than(since_ms) {
            if let Some(fetched) = self.waiting.take(key, from) {
                self.store(fetched, out);
            }
        }
    }

    pub(super) fn refused(&mut self, from: StoreId, range: &RunRange, out: &mut Vec<PeerOutput>) {
        self.untake(range);
        self.forget_offer(from, range);
        self.wake((range.log, range.run));
        self.release((range.log, range.run), out);
    }

    pub(super) fn untake(&mut self, range: &RunRange) {
        let key = (range.log, range.run);
        self.sources.remove(&(key, range.from));
        remove_from(&mut self.taken, key, range.from, range.until);
        remove_from(&mut self.stored, key, range.from, range.until);
    }

    pub(super) fn forget_offer(&mut self, from: StoreId, range: &RunRange) {
        if let Some(session) = self.sessions.get_mut(&from) {
            session.forget(range);
        }
    }

    pub(super) fn sent(
        &mut self,
        now_ms: u64,
        from: StoreId,
        range: &RunRange,
        (until, end): (Seq, SentEnd),
        out: &mut Vec<PeerOutput>,
    ) {
        let key = (range.log, range.run);
        let found = self.sessions.get(&from).and_then(|session| session.lease_around(key, range.from));
        let Some((first, lease)) = found else { return };
        // An answer that brings nothing of what comes first is none: it is offered again when we compare.
        let is_empty = self.missing(key, first, first.after(1)).is_some();
        let Some(session) = self.sessions.get_mut(&from) else { return };
        session.leases.remove(&(key, first));
        match end {
            SentEnd::Enough if is_empty => {
                session.forget(&RunRange { from: first, until: lease.until, ..*range });
            }
            SentEnd::Enough => {
                // A piece is what fits into one answer, or rather less.
                let piece = self.pieces.entry(key).or_insert(PIECE_ENTRIES);
                *piece = match until < lease.until {
                    true => until.since(first).max(1),
                    false => piece.saturating_mul(2).min(self.config.want_entries_max),
                };
            }
            SentEnd::NotHere => {
                let from = if is_empty { first } else { until.max(first) };
                session.forget(&RunRange { from, until: lease.until, ..*range })
            }
            SentEnd::Busy { retry_ms } => {
                let pause_ms = u64::from(retry_ms).clamp(PAUSE_MS_MIN, self.config.lease_ms);
                session.busy_until_ms = now_ms + pause_ms;
            }
        }
        self.end_lease(key, first, &lease);
        self.release(key, out);
    }

    /// What was asked of a store is asked of it no more.
    pub(super) fn end_lease(&mut self, key: RunKey, from: Seq, lease: &Lease) {
        remove_from(&mut self.asked, key, from, lease.until);
        // Where two raced for it, it is still asked of the other.
        for session in self.sessions.values() {
            let leases = session.leases.range((key, Seq(0))..(key, lease.until));
            for ((_, first), other) in leases.filter(|(_, other)| from < other.until) {
                self.asked.entry(key).or_default().insert(*first, other.until);
            }
        }
        self.wake(key);
    }

    /// What a store is slow to send is asked of another that has nothing better to do.
    pub(super) fn race(&mut self, now_ms: u64, out: &mut Vec<PeerOutput>) {
        let slow_ms = now_ms.saturating_sub(self.config.lease_ms / 4);
        let is_slow = |lease: &&Lease| lease.news_ms < slow_ms && !lease.is_raced;
        let slow = |(store, session): (&StoreId, &Session)| {
            let of_session = session.leases.iter().map(|((key, from), lease)| (*store, *key, *from, *lease));
            of_session.filter(|(.., lease)| is_slow(&lease)).collect::<Vec<_>>()
        };
        let slow: Vec<(StoreId, RunKey, Seq, Lease)> = self.sessions.iter().flat_map(slow).collect();
        for (store, key, from, lease) in slow {
            let offers = |session: &Session| session.offers.get(&key)?.around(from);
            let can = |(other, session): (&StoreId, &Session)| {
                let is_free = *other != store && session.has_room(now_ms) && !session.asks(key);
                Some((*other, offers(session).filter(|_| is_free)?.1))
            };
            let Some((other, until)) = self.sessions.iter().find_map(can) else { continue };
            if let Some(session) = self.sessions.get_mut(&store) {
                session.leases.insert((key, from), Lease { is_raced: true, ..lease });
            }
            self.lease(now_ms, other, key, (from, until.min(lease.until)), true, out);
        }
    }

    /// Something of a run may have to be asked of whoever offers it.
    pub(super) fn wake(&mut self, key: RunKey) {
        for session in self.sessions.values_mut().filter(|session| session.offers.contains_key(&key)) {
            session.ready.insert(key);
        }
    }

    pub(super) fn offered_runs(&self, log: LogId) -> Vec<RunKey> {
        let first = (log, RunId(0));
        let of_log = |session: &Session| {
            let keys = session.offers.range(first..).map(|(key, _)| *key).take_while(|key| key.0 == log);
            keys.collect::<Vec<_>>()
        };
        self.sessions.values().flat_map(of_log).collect()
    }

    /// Something changed about a log: what is offered of it is looked at again.
    pub(super) fn wake_log(&mut self, log: LogId) {
        self.offered_runs(log).into_iter().for_each(|key| self.wake(key));
    }

    /// Asks for what is lacking, of whoever offers it and has room.
    pub(super) fn ask(&mut self, now_ms: u64, out: &mut Vec<PeerOutput>) {
        let stores: Vec<StoreId> = self.sessions.keys().copied().collect();
        let mut is_asking = true;
        // One each in turn, so that several sources share a log.
        while is_asking {
            is_asking = false;
            for store in &stores {
                is_asking |= self.ask_one(now_ms, *store, out);
            }
        }
    }

    pub(super) fn ask_one(&mut self, now_ms: u64, store: StoreId, out: &mut Vec<PeerOutput>) -> bool {
        let mut after = None;
        for _ in 0..LOOKS_MAX {
            let Some(session) = self.sessions.get(&store).filter(|session| session.has_room(now_ms)) else {
                return false;
            };
            let next = after.map_or(session.ready.first(), |key| {
                session.ready.range((Bound::Excluded(key), Bound::Unbounded)).next()
            });
            let Some(key) = next.copied() else { return false };
            let without = [self.taken.get(&key), self.asked.get(&key)];
            let offered = || session.offers.get(&key).into_iter().flat_map(Ranges::iter);
            let piece = offered().find_map(|(from, until)| self.lacking_without(key, from, until, &without));
            let Some((from, until)) = piece else {
                // What was trimmed or lost since it was offered is not lacking any more.
                let is_settled = offered().all(|(from, until)| self.lacking(key, from, until).is_none());
                self.settle(store, key, is_settled);
                continue;
            };
            if self.is_at_its_bound() && self.must_wait(key, from) {
                after = Some(key);
                continue;
            }
            // Towards the end pieces get smaller again, so that all who offer it have a share.
            let sources = self.sessions.values().filter(|session| session.offers.contains_key(&key)).count();
            let share = (until.since(from) / (2 * (WANTS_MAX * sources.max(1)) as u64)).max(PIECE_ENTRIES);
            let piece = self.pieces.get(&key).copied().unwrap_or(PIECE_ENTRIES).min(share);
            self.lease(now_ms, store, key, (from, until.min(from.after(piece))), false, out);
            return true;
        }
        false
    }

    /// Nothing is to be asked of a store about a run for now; or ever, of what it offered.
    fn settle(&mut self, store: StoreId, key: RunKey, is_settled: bool) {
        let Some(session) = self.sessions.get_mut(&store) else { return };
        session.ready.remove(&key);
        if is_settled {
            session.offers.remove(&key);
            if !self.sessions.values().any(|session| session.offers.contains_key(&key)) {
                self.pieces.remove(&key);
            }
        }
    }

    /// Whether so much was asked for, or waits, that only what others wait for is asked for.
    fn is_at_its_bound(&self) -> bool {
        let lease_count: usize = self.sessions.values().map(|session| session.leases.len()).sum();
        lease_count >= LEASES_MAX || self.waiting.is_full()
    }

    fn lease(
        &mut self,
        now_ms: u64,
        store: StoreId,
        key: RunKey,
        (from, until): (Seq, Seq),
        is_raced: bool,
        out: &mut Vec<PeerOutput>,
    ) {
        if let Some(session) = self.sessions.get_mut(&store) {
            session.leases.insert((key, from), Lease { until, news_ms: now_ms, is_raced });
        }
        self.asked.entry(key).or_default().insert(from, until);
        let range = RunRange { log: key.0, run: key.1, from, until };
        // Whoever holds a batch of a log holds its peer's certificate.
        let certificate = self.held.log(&key.0).is_none_or(|log| log.is_empty());
        let bytes_max = self.config.want_bytes_max;
        out.push(PeerOutput::Send(store, PeerMessage::Want { range, bytes_max, certificate }));
    }
}

/// The first stretch of `from..until` that is in none of some sets.
fn first_outside(from: Seq, until: Seq, sets: &[Option<&Ranges>]) -> Option<(Seq, Seq)> {
    let Some((set, others)) = sets.split_first() else { return Some((from, until)) };
    let Some(set) = set else { return first_outside(from, until, others) };
    let mut next = from;
    while let Some((first, end)) = set.first_gap(next, until) {
        if let Some(found) = first_outside(first, end, others) {
            return Some(found);
        }
        next = end;
    }
    None
}

fn remove_from(sets: &mut BTreeMap<RunKey, Ranges>, key: RunKey, from: Seq, until: Seq) {
    if let Some(set) = sets.get_mut(&key) {
        set.remove(from, until);
        if set.is_empty() {
            sets.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests;
