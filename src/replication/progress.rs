//! How far this store is behind what others say they hold, for people: nothing here changes anything.
use crate::base::{PeerId, RunId, Seq, StoreId, TopicId};
use crate::replication::engine::Replication;
use crate::replication::ranges::Ranges;
use crate::replication::session::RunKey;
use std::collections::BTreeMap;

/// How this store stands to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The other.
    pub store: StoreId,
    /// Whose it is.
    pub peer: PeerId,
    /// Entries that it says it holds, and that are not held here.
    pub missing_entries: u64,
    /// Of so many runs.
    pub missing_runs: u64,
    /// Entries that it was asked for and has not sent yet.
    pub asked_entries: u64,
    /// Whether it wants to be left alone for a moment.
    pub is_resting: bool,
    /// Milliseconds since either last began to compare what both hold: where nothing differs nobody answers.
    pub compared_ago_ms: Option<u64>,
}

/// Who has an entry that is not here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its run.
    pub key: RunKey,
    /// Stores that say they hold it, and whose they are.
    pub offered_by: Vec<(StoreId, PeerId)>,
    /// Those of them that were asked for it.
    pub asked_of: Vec<(StoreId, PeerId)>,
}

fn count(ranges: &Ranges) -> u64 {
    ranges.iter().map(|(from, until)| until.since(from)).sum()
}

impl Replication {
    /// How this store stands to each that it has a session with, in order of stores.
    pub fn progress(&self, now_ms: u64) -> Vec<Progress> {
        let of_session = |(store, session): (&StoreId, &crate::replication::session::Session)| Progress {
            store: *store,
            peer: session.peer,
            missing_entries: session.offers.values().map(count).sum(),
            missing_runs: session.offers.len() as u64,
            asked_entries: session.leases.iter().map(|((_, from), lease)| lease.until.since(*from)).sum(),
            is_resting: now_ms < session.busy_until_ms,
            compared_ago_ms: session.compared_ms.map(|at| now_ms.saturating_sub(at)),
        };
        self.sessions.iter().map(of_session).collect()
    }

    /// Entries that anybody says to hold, and that are not held here, each once.
    pub fn missing_count(&self) -> u64 {
        let mut offers =
            self.sessions.values().map(|session| &session.offers).filter(|offers| !offers.is_empty());
        // Where one offers alone nothing is offered twice.
        if let (Some(offers), None) = (offers.next(), offers.next()) {
            return offers.values().map(count).sum();
        }
        let mut all: BTreeMap<RunKey, Ranges> = BTreeMap::new();
        for (key, offered) in self.sessions.values().flat_map(|session| &session.offers) {
            let known = all.entry(*key).or_default();
            offered.iter().for_each(|(from, until)| known.insert(from, until));
        }
        all.values().map(count).sum()
    }

    /// Who has the entry with a number, in runs of a topic that `fits` says it may be of, as far as it is not held here.
    pub fn sources(&self, topic: TopicId, seq: Seq, fits: impl Fn(&PeerId, RunId) -> bool) -> Vec<Source> {
        let mut found: BTreeMap<RunKey, Source> = BTreeMap::new();
        for (store, session) in &self.sessions {
            let may_be = |key: &RunKey| key.0.topic == topic && fits(&key.0.peer, key.1);
            let offers =
                session.offers.iter().filter(|(key, offered)| may_be(key) && offered.around(seq).is_some());
            for (key, _) in offers {
                let new = || Source { key: *key, offered_by: vec![], asked_of: vec![] };
                let source = found.entry(*key).or_insert_with(new);
                source.offered_by.push((*store, session.peer));
                if session.lease_around(*key, seq).is_some() {
                    source.asked_of.push((*store, session.peer));
                }
            }
        }
        found.into_values().collect()
    }

    /// What is held of the logs of a peer, range by range.
    pub fn ranges_of(
        &self,
        peer: PeerId,
        topics: impl Iterator<Item = TopicId>,
    ) -> Vec<(RunKey, (Seq, Seq))> {
        let mut all = Vec::new();
        for topic in topics {
            let log = crate::base::LogId { topic, peer };
            for (run, held) in self.held.log(&log).into_iter().flat_map(|held| held.runs()) {
                all.extend(held.ranges.iter().map(|range| ((log, *run), range)));
            }
        }
        all
    }
}
