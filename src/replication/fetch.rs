//! Fetching: who offers what is lacking here, and of whom it is asked.
//!
//! A run is asked for in pieces, each of one store and all of them in turn, so that whoever offers it gives a share. What
//! comes early waits (`waiting.rs`), so that a run goes to the disk in order, and behind what it goes on from. What does
//! not come in time is asked of another; towards the end of its time of two.
use crate::base::{LogId, RunId, Seq, StoreId};
use crate::replication::ask::PIECE_ENTRIES;
use crate::replication::engine::Replication;
use crate::replication::io::PeerOutput;
use crate::replication::ranges::Ranges;
use crate::replication::room::{self, Source};
use crate::replication::session::{Lease, RunKey, Session};
use crate::replication::waiting::Fetched;
use crate::wire::peer::{RunRange, SentEnd};
use std::collections::BTreeMap;

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
    pub(super) fn must_wait(&self, key: RunKey, until: Seq) -> bool {
        let is_offered = |key: RunKey, until: Seq| {
            let stored = self.stored.get(&key);
            let sessions = self.offered.stores(key).filter_map(|store| self.sessions.get(&store));
            sessions.filter_map(|session| session.offers.get(&key)).any(|offered| {
                let offered = offered.iter();
                let mut below = offered.take_while(|(from, _)| *from < until);
                below.any(|(from, end)| self.lacking_without(key, from, end.min(until), &[stored]).is_some())
            })
        };
        let before = self.parent_of(key).filter(|(parent, _)| parent.is_some());
        is_offered(key, until) || before.is_some_and(|(parent, from)| is_offered((key.0, parent), from))
    }

    pub(super) fn offer(&mut self, from: StoreId, range: &RunRange) {
        let key = (range.log, range.run);
        let mut next = range.from;
        while let Some((first, until)) = self.lacking(key, next, range.until) {
            self.take_offer(from, &RunRange { from: first, until, ..*range });
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

    pub(super) fn lacking_without(
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

    pub(super) fn took(&mut self, now_ms: u64, range: &RunRange, source: Source) {
        let from = source.store;
        let key = (range.log, range.run);
        self.taken.entry(key).or_default().insert(range.from, range.until);
        self.add_source(key, range.from, source);
        if source.is_pushed {
            self.relays.note_pusher(range.log.peer, from);
        }
        // It comes: there is more time for the rest.
        if let Some(session) = self.sessions.get_mut(&from)
            && let Some((first, lease)) = session.lease_around(key, range.from)
        {
            session.leases.insert((key, first), Lease { news_ms: now_ms, ..lease });
        }
    }

    /// A batch is what its peer signed: it goes to the disk, unless what comes before it is to be had.
    pub(super) fn fetched(&mut self, now_ms: u64, fetched: Fetched, out: &mut Vec<PeerOutput>) {
        let (key, first) = ((fetched.range.log, fetched.range.run), fetched.range.from);
        if !self.sources.contains_key(&(key, first)) {
            // A step was refused while it was being checked: it is on its way all the same.
            let (store, is_pushed) = (fetched.from, fetched.is_pushed);
            let source = Source { store, bytes: room::cost_bytes(&fetched.batch), is_pushed };
            self.add_source(key, first, source);
        }
        // With too much waiting the order counts less than the room.
        if self.is_waiting_full() || fetched.is_pushed {
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
        self.hold_up_no_more();
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

    /// The same for all runs of a log.
    pub(super) fn release_log(&mut self, log: LogId, out: &mut Vec<PeerOutput>) {
        self.waiting.runs_of(log).into_iter().for_each(|key| self.release(key, out));
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

    fn remove_lease(&mut self, store: StoreId, key: RunKey, first: Seq) {
        let session = self.sessions.get_mut(&store);
        let removed = session.and_then(|session| session.leases.remove(&(key, first)));
        self.lease_count -= usize::from(removed.is_some());
    }

    pub(super) fn untake(&mut self, range: &RunRange) {
        let key = (range.log, range.run);
        self.forget_source(key, range.from);
        remove_from(&mut self.taken, key, range.from, range.until);
        remove_from(&mut self.stored, key, range.from, range.until);
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
        self.remove_lease(from, key, first);
        match end {
            // It is there: it is asked for again when there is room.
            SentEnd::Enough if is_empty && lease.had_no_room => self.rest(from, now_ms + PAUSE_MS_MIN),
            SentEnd::Enough if is_empty => {
                self.forget_offer(from, &RunRange { from: first, until: lease.until, ..*range });
            }
            SentEnd::Enough => {
                // A piece is what fits into one answer, or rather less.
                let piece = self.pieces.get(&key).copied().unwrap_or(PIECE_ENTRIES);
                let piece = match until < lease.until {
                    true => until.since(first).max(1),
                    false => piece.saturating_mul(2).min(self.config.want_entries_max),
                };
                if self.offered.holds(key) {
                    self.pieces.insert(key, piece);
                }
            }
            SentEnd::NotHere => {
                let behind = if is_empty { first } else { until.max(first) };
                self.forget_offer(from, &RunRange { from: behind, until: lease.until, ..*range });
            }
            SentEnd::Busy { retry_ms } => {
                let pause_ms = u64::from(retry_ms).clamp(PAUSE_MS_MIN, self.config.lease_ms);
                self.rest(from, now_ms + pause_ms);
            }
        }
        self.end_lease(from, key, first, &lease);
        self.release(key, out);
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

pub(super) fn remove_from(sets: &mut BTreeMap<RunKey, Ranges>, key: RunKey, from: Seq, until: Seq) {
    if let Some(set) = sets.get_mut(&key) {
        set.remove(from, until);
        if set.is_empty() {
            sets.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests;
