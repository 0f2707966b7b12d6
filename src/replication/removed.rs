//! Peers that were removed for good: there are no sessions with them, and nothing is asked for of what their logs have
//! beyond what the removal leaves.
use crate::base::planted::{self, Bug};
use crate::base::{Removal, Removed, Seq, StoreId};
use crate::replication::engine::Replication;
use crate::replication::io::PeerOutput;
use crate::replication::session::RunKey;
use crate::wire::peer::RunRange;

impl Replication {
    /// Who was removed, as far as is known.
    pub fn removed(&self) -> &Removed {
        &self.removed
    }

    /// A peer is removed, as an administrator signed.
    pub(super) fn remove(&mut self, removal: &Removal, out: &mut Vec<PeerOutput>) {
        if !self.removed.add(removal) {
            return;
        }
        let of_peer = self.sessions.iter().filter(|(_, session)| session.peer == removal.peer);
        let stores: Vec<StoreId> = of_peer.map(|(store, _)| *store).collect();
        stores.into_iter().for_each(|store| self.end(store, out));
        let beyond = |key: &RunKey| {
            let end = self.removed.end_of(&key.0, key.1, self.held.forks_of(&key.0))?;
            Some(RunRange { log: key.0, run: key.1, from: end, until: Seq(u64::MAX) })
        };
        let offers = self.sessions.values().flat_map(|session| session.offers.keys());
        let beyond: Vec<RunRange> = offers.filter_map(beyond).collect();
        beyond.iter().for_each(|range| self.forget_offers(range));
        // What others hold of it beyond that they have put aside by now, or will.
        self.release_all(out);
    }

    /// The part of a range that counts: of a removed peer's log what the removal leaves.
    pub(super) fn counted(&self, range: RunRange) -> RunRange {
        if planted::is(Bug::RemovedStillCounts) {
            return range;
        }
        let end =
            self.removed.end_of(&range.log, range.run, self.held.forks_of(&range.log)).unwrap_or(range.until);
        RunRange { until: range.until.min(end.max(range.from)), ..range }
    }
}
