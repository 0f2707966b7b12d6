//! Who offers what: what each session says it holds and we lack, and the way from a run to those who offer it.
//!
//! All changes of what is offered go through here, so that both stay the same, and so that whoever may have to be asked
//! for something is looked at again.
use crate::base::{LogId, RunId, StoreId};
use crate::replication::engine::Replication;
use crate::replication::session::{RunKey, Session};
use crate::wire::peer::RunRange;
use std::collections::BTreeSet;

/// Runs, and the stores that offer something of them.
#[derive(Debug, Default)]
pub(super) struct Offered(BTreeSet<(RunKey, StoreId)>);

impl Offered {
    /// The stores that offer something of a run.
    pub(super) fn stores(&self, key: RunKey) -> impl Iterator<Item = StoreId> + '_ {
        self.0.range((key, StoreId(u64::MIN))..=(key, StoreId(u64::MAX))).map(|(_, store)| *store)
    }

    /// Whether anybody offers something of a run.
    pub(super) fn holds(&self, key: RunKey) -> bool {
        self.stores(key).next().is_some()
    }

    /// The first run from here on that anybody offers.
    pub(super) fn next(&self, key: RunKey) -> Option<RunKey> {
        self.0.range((key, StoreId(u64::MIN))..).next().map(|(key, _)| *key)
    }

    fn of_log(&self, log: LogId) -> Vec<(RunKey, StoreId)> {
        let from = self.0.range(((log, RunId(u64::MIN)), StoreId(u64::MIN))..);
        from.take_while(|(key, _)| key.0 == log).copied().collect()
    }
}

impl Replication {
    /// A store offers a range, of which nothing is held.
    pub(super) fn take_offer(&mut self, from: StoreId, range: &RunRange) {
        let range = &self.counted(*range);
        if range.from >= range.until {
            return;
        }
        let (key, runs_max) = ((range.log, range.run), self.runs_share());
        let Some(session) = self.sessions.get_mut(&from) else { return };
        if session.offer_within(range, runs_max) {
            self.offered.0.insert((key, from));
            self.to_ask.insert(from);
        }
    }

    /// A store holds a range no more, or need not be asked for it.
    pub(super) fn forget_offer(&mut self, from: StoreId, range: &RunRange) {
        if let Some(session) = self.sessions.get_mut(&from)
            && session.forget(range)
        {
            self.nothing_offered((range.log, range.run), from);
        }
    }

    /// Nobody need be asked for a range.
    pub(super) fn forget_offers(&mut self, range: &RunRange) {
        let stores: Vec<StoreId> = self.offered.stores((range.log, range.run)).collect();
        stores.into_iter().for_each(|store| self.forget_offer(store, range));
    }

    /// A store offers nothing of a run any more.
    pub(super) fn forget_run(&mut self, store: StoreId, key: RunKey) {
        if let Some(session) = self.sessions.get_mut(&store) {
            session.offers.remove(&key);
            session.ready.remove(&key);
        }
        self.nothing_offered(key, store);
    }

    /// Of what nobody offers, nobody is asked for a piece.
    fn nothing_offered(&mut self, key: RunKey, store: StoreId) {
        self.offered.0.remove(&(key, store));
        if !self.offered.holds(key) {
            self.pieces.remove(&key);
        }
    }

    /// A session is over: nothing of what was offered in it counts.
    pub(super) fn forget_session(&mut self, store: StoreId) -> Option<Session> {
        let session = self.sessions.remove(&store)?;
        self.listeners.clear();
        session.offers.keys().for_each(|key| self.nothing_offered(*key, store));
        self.lease_count -= session.leases.len();
        Some(session)
    }

    /// Something of a run may have to be asked of whoever offers it.
    pub(super) fn wake(&mut self, key: RunKey) {
        let stores: Vec<StoreId> = self.offered.stores(key).collect();
        stores.into_iter().for_each(|store| self.wake_at(store, key));
    }

    /// Something changed about a log: what is offered of it is looked at again.
    pub(super) fn wake_log(&mut self, log: LogId) {
        self.offered.of_log(log).into_iter().for_each(|(key, store)| self.wake_at(store, key));
    }

    fn wake_at(&mut self, store: StoreId, key: RunKey) {
        if let Some(session) = self.sessions.get_mut(&store) {
            session.ready.insert(key);
            self.to_ask.insert(store);
        }
    }
}
