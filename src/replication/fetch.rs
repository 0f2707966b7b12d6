//! Fetching: who offers what is lacking here, and of whom it is asked.
//!
//! Each run is asked of one store at a time and comes in order; what it goes on from comes before it. Nothing is asked
//! twice at once, and what does not come in time is asked of another.
use crate::base::{LogId, RunId, Seq, StoreId};
use crate::replication::engine::Replication;
use crate::replication::io::PeerOutput;
use crate::replication::ranges::Ranges;
use crate::replication::session::{Lease, RunKey, Session};
use crate::wire::peer::{PeerMessage, RunRange, SentEnd};

impl Replication {
    /// Whether a batch with these entries was asked of `from`, and is still lacking.
    pub fn wants(&self, from: StoreId, range: &RunRange) -> bool {
        let key = (range.log, range.run);
        let was_asked = |session: &Session| {
            let mut leases = session.leases.range((key, Seq(0))..(key, range.until));
            leases.any(|((_, first), lease)| *first < range.until && range.from < lease.until)
        };
        self.sessions.get(&from).is_some_and(was_asked)
            && self.missing(key, range.from, range.until).is_some()
    }

    /// What a run goes on from, and where it begins, as far as is known.
    pub(super) fn parent_of(&self, key: RunKey) -> Option<(RunId, Seq)> {
        let held = self.held.log(&key.0).and_then(|log| log.run(key.1));
        held.map(|run| (run.parent, run.from)).or_else(|| self.parents.get(&key).copied())
    }

    /// Whether the run before is here up to where this one goes on, or nobody who can be asked has more of it.
    pub(super) fn is_next(&self, key: RunKey) -> bool {
        let Some((parent, from)) = self.parent_of(key).filter(|(parent, _)| parent.is_some()) else {
            return true;
        };
        let before = (key.0, parent);
        let is_offered = |session: &Session| {
            let mut offered = session.offers.get(&before).into_iter().flat_map(Ranges::iter);
            offered.any(|(first, until)| self.lacking(before, first, until.min(from)).is_some())
        };
        !self.sessions.values().any(is_offered)
    }

    pub(super) fn offer(&mut self, from: StoreId, range: &RunRange) {
        let key = (range.log, range.run);
        let mut next = range.from;
        while let Some((first, until)) = self.lacking(key, next, range.until) {
            if let Some(session) = self.sessions.get_mut(&from) {
                session.offer(&RunRange { from: first, until, ..*range });
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

    /// The same without what is on its way to the disk.
    pub(super) fn missing(&self, key: RunKey, from: Seq, until: Seq) -> Option<(Seq, Seq)> {
        let nothing = Ranges::default();
        let taken = self.taken.get(&key).unwrap_or(&nothing);
        let mut next = from;
        while let Some((first, end)) = self.lacking(key, next, until) {
            if let Some(found) = taken.first_gap(first, end) {
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
        let lease_ms = self.config.lease_ms;
        // It comes: there is more time for the rest.
        if let Some(session) = self.sessions.get_mut(&from)
            && let Some((first, lease)) = session.lease_around(key, range.from)
        {
            session.leases.insert((key, first), Lease { deadline_ms: now_ms + lease_ms, ..lease });
        }
    }

    pub(super) fn refused(&mut self, from: StoreId, range: &RunRange) {
        self.untake(range);
        self.forget_offer(from, range);
        self.wake((range.log, range.run));
    }

    pub(super) fn untake(&mut self, range: &RunRange) {
        let key = (range.log, range.run);
        self.sources.remove(&(key, range.from));
        if let Some(taken) = self.taken.get_mut(&key) {
            taken.remove(range.from, range.until);
            if taken.is_empty() {
                self.taken.remove(&key);
            }
        }
    }

    pub(super) fn forget_offer(&mut self, from: StoreId, range: &RunRange) {
        if let Some(session) = self.sessions.get_mut(&from) {
            session.forget(range);
        }
    }

    pub(super) fn sent(&mut self, now_ms: u64, from: StoreId, range: &RunRange, until: Seq, end: SentEnd) {
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
            SentEnd::Enough => {}
            SentEnd::NotHere => {
                session.forget(&RunRange { from: until.max(first), until: lease.until, ..*range })
            }
            SentEnd::Busy { retry_ms } => {
                let pause_ms = u64::from(retry_ms).min(self.config.lease_ms);
                session.busy_until_ms = now_ms + pause_ms;
            }
        }
        self.wake(key);
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
        loop {
            let Some(session) = self.sessions.get(&store).filter(|session| session.has_room(now_ms)) else {
                return false;
            };
            let Some(key) = session.ready.first().copied() else { return false };
            // One store at a time, so that a run comes in order; and what it goes on from before it.
            let is_asked = self.sessions.values().any(|session| session.asks(key));
            let offered = session.offers.get(&key).filter(|_| !is_asked && self.is_next(key));
            let next = offered
                .and_then(|offered| offered.iter().find_map(|(from, until)| self.missing(key, from, until)));
            // What was trimmed or lost since it was offered is not lacking any more.
            let mut offers = session.offers.get(&key).into_iter().flat_map(Ranges::iter);
            let is_settled =
                next.is_none() && offers.all(|(from, until)| self.lacking(key, from, until).is_none());
            drop(offers);
            let Some(session) = self.sessions.get_mut(&store) else { return false };
            let Some((from, until)) = next else {
                session.ready.remove(&key);
                if is_settled {
                    session.offers.remove(&key);
                }
                continue;
            };
            let until = until.min(from.after(self.config.want_entries_max));
            let deadline_ms = now_ms + self.config.lease_ms;
            session.leases.insert((key, from), Lease { until, deadline_ms });
            let range = RunRange { log: key.0, run: key.1, from, until };
            // Whoever holds a batch of a log holds its peer's certificate.
            let certificate = self.held.log(&key.0).is_none_or(|log| log.is_empty());
            let bytes_max = self.config.want_bytes_max;
            out.push(PeerOutput::Send(store, PeerMessage::Want { range, bytes_max, certificate }));
            return true;
        }
    }
}
