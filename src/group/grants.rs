//! Grants on their way into the log: nobody waits for them.
//!
//! What was handed out is gathered for a moment, and one write at a time says so, for whoever hands the entries out next. The
//! first that a peer writes leaves at once: from then on the log says that this peer may have more out than is logged.
use crate::base::GroupName;
use crate::group::desk::{Ctx, Purpose};
use crate::group::dispense::Dispense;
use crate::group::fold::Group;
use crate::group::set::{Key, Set};
use crate::group::write::GroupWrite;
use crate::topic::catalog::WriteId;
use std::collections::BTreeMap;

/// How long grants are gathered, in milliseconds: what is acknowledged sooner is never said to have been handed out.
pub const GRANT_MS: u64 = 50;

/// What was handed out and is not logged.
#[derive(Debug, Default)]
pub struct Grants {
    /// How often each.
    gathered: BTreeMap<Key, u32>,
    extended: BTreeMap<Key, ()>,
    lease_ms: u64,
    extended_ms: u64,
    since_ms: Option<u64>,
    in_flight: BTreeMap<Key, u32>,
    in_flight_count: usize,
}

impl Grants {
    /// An entry was handed out.
    pub fn granted(&mut self, now_ms: u64, key: Key, lease_ms: u64) {
        *self.gathered.entry(key).or_default() += 1;
        self.lease_ms = self.lease_ms.max(lease_ms);
        self.since_ms.get_or_insert(now_ms);
    }

    /// A lease lasts longer.
    pub fn extended(&mut self, now_ms: u64, key: Key, lease_ms: u64) {
        self.extended.insert(key, ());
        self.extended_ms = self.extended_ms.max(lease_ms);
        self.since_ms.get_or_insert(now_ms);
    }

    /// It was not handed out after all.
    pub fn taken_back(&mut self, key: Key) {
        if let Some(count) = self.gathered.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.gathered.remove(&key);
            }
        }
    }

    /// How often an entry was handed out of which the log does not say so.
    pub fn unlogged(&self, key: Key) -> u32 {
        let count = |of: &BTreeMap<Key, u32>| of.get(&key).copied().unwrap_or_default();
        count(&self.gathered) + count(&self.in_flight)
    }

    /// The epoch is over.
    pub fn begin_anew(&mut self) {
        let in_flight_count = self.in_flight_count;
        *self = Self { in_flight_count, ..Self::default() };
    }

    /// When the next write leaves.
    pub fn next_wake(&self) -> Option<u64> {
        self.since_ms.filter(|_| self.in_flight_count == 0).map(|since| since + GRANT_MS)
    }

    fn take(&mut self, group: &Group<'_>) -> Set {
        self.gathered.retain(|key, _| !group.is_done(*key));
        let taken: Set = self.gathered.keys().copied().collect();
        self.in_flight = self.gathered.keys().map(|key| (*key, 1)).collect();
        self.gathered.retain(|_, count| {
            *count -= 1;
            *count > 0
        });
        taken
    }
}

impl Dispense {
    /// Logs what was handed out, when it is time.
    pub(super) fn send_grants(&mut self, ctx: &mut Ctx<'_>, group: &Group<'_>) {
        let is_first = group.granting(ctx.net.me()).is_none();
        let is_time = self
            .grants
            .since_ms
            .is_some_and(|since| is_first || ctx.is_stopped || since + GRANT_MS <= ctx.now.mono_ms);
        if !is_time || self.grants.in_flight_count > 0 {
            return;
        }
        self.log_grants(ctx, group);
    }

    /// Logs what was handed out, whatever is on its way.
    pub(super) fn log_grants(&mut self, ctx: &mut Ctx<'_>, group: &Group<'_>) {
        let taken = self.grants.take(group);
        let lease_ms = std::mem::take(&mut self.grants.lease_ms);
        if !taken.is_empty() {
            let write = grant(&self.name, &self.epochs, &taken, lease_ms, false);
            ctx.append(write, Purpose::Grants);
            self.grants.in_flight_count += 1;
        }
        let extended = std::mem::take(&mut self.grants.extended);
        let extended: Set = extended.into_keys().filter(|key| !group.is_done(*key)).collect();
        let lease_ms = std::mem::take(&mut self.grants.extended_ms);
        if !extended.is_empty() {
            let write = grant(&self.name, &self.epochs, &extended, lease_ms, true);
            ctx.append(write, Purpose::Grants);
            self.grants.in_flight_count += 1;
        }
        // What was handed out twice meanwhile is said once more with the next.
        let rest = !self.grants.gathered.is_empty();
        self.grants.since_ms = rest.then_some(ctx.now.mono_ms);
    }

    /// What was to be logged is, or could not be: then it is not said, and at the worst an entry is handed out once more than
    /// was meant.
    pub fn grants_logged(&mut self) {
        self.grants.in_flight_count = self.grants.in_flight_count.saturating_sub(1);
        if self.grants.in_flight_count == 0 {
            self.grants.in_flight.clear();
        }
    }

    /// Says that this peer leases nothing any more but what is out.
    pub fn rest(&mut self, ctx: &mut Ctx<'_>, group: &Group<'_>) {
        for waiter in self.waiters.take_all() {
            ctx.answer(waiter.ticket, Err(crate::wire::group::GroupError::Stopped));
        }
        let leased_none = self.grants.in_flight_count == 0 && self.grants.since_ms.is_none();
        if leased_none && group.granting(ctx.net.me()).is_none() {
            return;
        }
        self.log_grants(ctx, group);
        let held: Set = self.leases.iter().map(|(_, held)| held.key).collect();
        ctx.append(GroupWrite::Rest { group: self.name.clone(), held: held.list() }, Purpose::Rest);
    }
}

fn grant(
    group: &GroupName,
    epochs: &[WriteId],
    grants: &Set,
    lease_ms: u64,
    is_extension: bool,
) -> GroupWrite {
    let (group, epochs) = (group.clone(), epochs.to_vec());
    GroupWrite::Grant { group, epochs, grants: grants.list(), lease_ms, is_extension }
}
