//! Who believes to be in a session with whom: what gossip and connections amount to, with their lag and their mistakes.
//!
//! Twice a second all pairs are looked at, while anything is not as it should be. A pair that is wrong (no session though
//! they could have one, a session though they cannot, one side only) stays so for a time of its own, then it is put right.
use crate::cluster::lock;
use crate::cluster::network::{Inner, Network};
use conveyor::base::StoreId;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Time between two looks.
const EVERY: Duration = Duration::from_millis(500);

/// How membership lags and errs.
#[derive(Debug, Clone, Copy)]
pub struct Manners {
    /// Milliseconds until two that could have a session have one, at most.
    pub up_ms_max: u64,
    /// Milliseconds until a session that cannot work is given up, at least and at most.
    pub down_ms: (u64, u64),
    /// In a million, at each look at each session: it is given up without a reason.
    pub spurious: u64,
    /// The same, by one side alone.
    pub one_sided: u64,
}

impl Manners {
    /// Quick and without mistakes.
    pub const CALM: Self = Self { up_ms_max: 1_000, down_ms: (500, 2_000), spurious: 0, one_sided: 0 };
}

/// What is known of pairs.
#[derive(Debug)]
pub(super) struct Membership {
    pub(super) manners: Manners,
    /// Pairs that are wrong, and until when they stay so.
    wrong: BTreeMap<(StoreId, StoreId), Instant>,
    is_settled: bool,
}

impl Default for Membership {
    fn default() -> Self {
        Self { manners: Manners::CALM, wrong: BTreeMap::new(), is_settled: false }
    }
}

impl Membership {
    /// Something changed.
    pub(super) fn look_again(&mut self) {
        self.is_settled = false;
    }
}

impl Network {
    /// Changes how membership lags and errs.
    pub fn set_manners(&self, manners: Manners) {
        let mut inner = lock(&self.inner);
        inner.membership.manners = manners;
        inner.membership.look_again();
    }

    /// Looks after sessions for as long as the run lasts.
    pub async fn tend(self: Arc<Self>) {
        loop {
            tokio::time::sleep(EVERY).await;
            self.look();
        }
    }

    fn look(self: &Arc<Self>) {
        let mut inner = lock(&self.inner);
        let manners = inner.membership.manners;
        let errs = manners.spurious + manners.one_sided > 0;
        if inner.membership.is_settled && !errs {
            return;
        }
        let mut wrong = std::mem::take(&mut inner.membership.wrong);
        let mut still_wrong = BTreeMap::new();
        for (a, b) in inner.pairs() {
            self.err(&mut inner, a, b, manners);
            let should = self.is_reachable(&inner, a, b);
            if inner.is_right(a, b, should) {
                continue;
            }
            let until = wrong.remove(&(a, b)).unwrap_or_else(|| Instant::now() + inner.patience(should));
            if until > Instant::now() {
                still_wrong.insert((a, b), until);
            } else {
                self.put_right(&mut inner, a, b, should);
            }
        }
        // Those who are frozen change without telling.
        let has_frozen = inner.ends.values().any(|end| end.life.is_frozen());
        inner.membership.is_settled = still_wrong.is_empty() && !has_frozen;
        inner.membership.wrong = still_wrong;
    }

    /// Mistakes: a session is given up for nothing.
    fn err(&self, inner: &mut Inner, a: StoreId, b: StoreId, manners: Manners) {
        let mut chance = |per_million: u64| per_million > 0 && inner.random.below(1_000_000) < per_million;
        let (is_spurious, is_one_sided) = (chance(manners.spurious), chance(manners.one_sided));
        if is_spurious {
            inner.give_up(a, b, manners.down_ms.1);
        }
        if is_one_sided {
            let (me, other) = if inner.random.one_in(2) { (a, b) } else { (b, a) };
            inner.end_side((me, other), 0);
        }
    }

    /// Whether a session between two stores would work.
    fn is_reachable(&self, inner: &Inner, a: StoreId, b: StoreId) -> bool {
        let (Some(a), Some(b)) = (inner.ends.get(&a), inner.ends.get(&b)) else { return false };
        let is_awake = !a.life.is_frozen() && !b.life.is_frozen();
        is_awake && self.is_open(a.site, b.site) && self.is_open(b.site, a.site)
    }

    fn put_right(self: &Arc<Self>, inner: &mut Inner, a: StoreId, b: StoreId, should: bool) {
        inner.give_up(a, b, if should { 0 } else { inner.membership.manners.down_ms.1 });
        if should {
            inner.sessions += 1;
            let session = inner.sessions;
            for key in [(a, b), (b, a)] {
                let late_ms = inner.random.below(inner.membership.manners.up_ms_max / 4 + 1);
                self.open_side(inner, key, session, late_ms);
            }
        }
    }
}

impl Inner {
    /// All pairs of stores that could have a session, or of which one believes to have one.
    fn pairs(&self) -> Vec<(StoreId, StoreId)> {
        let stores: Vec<StoreId> = self.ends.keys().copied().collect();
        let live = stores.iter().enumerate().flat_map(|(at, a)| stores[at + 1..].iter().map(|b| (*a, *b)));
        let is_live = |store: &StoreId| self.ends.contains_key(store);
        let orphans = self.sides.keys().filter(|(me, other)| !(is_live(me) && is_live(other)));
        live.chain(orphans.copied()).collect()
    }

    fn is_right(&self, a: StoreId, b: StoreId, should: bool) -> bool {
        let session = |a, b| self.sides.get(&(a, b)).map(|side| side.session);
        match (session(a, b), session(b, a)) {
            (None, None) => !should,
            (Some(one), Some(other)) => should && one == other,
            _ => false,
        }
    }

    /// How long a pair stays wrong.
    fn patience(&mut self, should: bool) -> Duration {
        let Manners { up_ms_max, down_ms, .. } = self.membership.manners;
        let ms =
            if should { self.random.below(up_ms_max) } else { self.random.between(down_ms.0, down_ms.1) };
        Duration::from_millis(ms)
    }
}
