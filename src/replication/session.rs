//! One other store, as this one sees it: what it offers, and what was asked of it.
use crate::base::{LogId, PeerId, RunId, Seq, StoreId};
use crate::replication::follow::Follows;
use crate::replication::ranges::Ranges;
use crate::wire::peer::RunRange;
use std::collections::{BTreeMap, BTreeSet};

/// What is asked of a store at once, at most: more would wait there, and could not be asked of another.
pub const WANTS_MAX: usize = 8;

/// A range that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The number behind the last one asked for.
    pub until: Seq,
    /// When it was asked, or something of it came last.
    pub news_ms: u64,
    /// Whether another store was asked for the same, since this one is slow.
    pub is_raced: bool,
    /// Whether something of it came when there was no room for it here.
    pub had_no_room: bool,
}

/// A run of a log.
pub type RunKey = (LogId, RunId);

/// One other store.
#[derive(Debug)]
pub struct Session {
    /// Whose store it is.
    pub peer: PeerId,
    /// With whom it has sessions itself, in order.
    pub neighbors: Vec<StoreId>,
    /// What it says it holds and we lack, by run.
    pub offers: BTreeMap<RunKey, Ranges>,
    /// Runs of which something may have to be asked.
    pub ready: BTreeSet<RunKey>,
    /// Of those, where we go on looking: what comes before had to wait when much was under way.
    pub looked: Option<RunKey>,
    /// What was asked, by the first number.
    pub leases: BTreeMap<(RunKey, Seq), Lease>,
    /// Until when it wants to be left alone.
    pub busy_until_ms: u64,
    /// When we compare next.
    pub compare_ms: u64,
    /// When it was last begun to compare, by whom it may.
    pub compared_ms: Option<u64>,
    /// Peers whose entries it has from elsewhere, so that they are not pushed to it.
    pub elsewhere: BTreeSet<PeerId>,
    /// What is sent without being asked for.
    pub(super) follows: Follows,
    /// Whether something that it said, or that differs, was passed over.
    pub is_cut: bool,
    /// When it asked for something last.
    pub wanted_ms: u64,
}

impl Session {
    /// A session that begins by comparing.
    pub fn new(peer: PeerId, now_ms: u64) -> Self {
        Self {
            peer,
            neighbors: Vec::new(),
            offers: BTreeMap::new(),
            ready: BTreeSet::new(),
            looked: None,
            leases: BTreeMap::new(),
            busy_until_ms: 0,
            compare_ms: now_ms,
            compared_ms: None,
            elsewhere: BTreeSet::new(),
            follows: Follows::default(),
            is_cut: false,
            wanted_ms: 0,
        }
    }

    /// It says that it holds a range.
    pub fn offer(&mut self, range: &RunRange) {
        let key = (range.log, range.run);
        self.offers.entry(key).or_default().insert(range.from, range.until);
        self.ready.insert(key);
    }

    /// It holds a range no more, or we hold it now. Whether it offers nothing more of that run.
    pub fn forget(&mut self, range: &RunRange) -> bool {
        let key = (range.log, range.run);
        if let Some(offered) = self.offers.get_mut(&key) {
            offered.remove(range.from, range.until);
            if offered.is_empty() {
                self.offers.remove(&key);
                self.ready.remove(&key);
                return true;
            }
            self.bound_offer(key);
        }
        false
    }

    /// Whether anything of a run is asked for.
    pub fn asks(&self, key: RunKey) -> bool {
        self.leases.range((key, Seq(0))..).next().is_some_and(|((asked, _), _)| *asked == key)
    }

    /// What was asked that holds `seq`, by its first number.
    pub fn lease_around(&self, key: RunKey, seq: Seq) -> Option<(Seq, Lease)> {
        let before = self.leases.range((key, Seq(0))..=(key, seq)).next_back();
        before.filter(|(_, lease)| seq < lease.until).map(|((_, from), lease)| (*from, *lease))
    }

    /// Whether more may be asked.
    pub fn has_room(&self, now_ms: u64) -> bool {
        self.leases.len() < WANTS_MAX && self.busy_until_ms <= now_ms
    }
}
