//! How a group is doing, for people.
use super::*;
use crate::base::EntryId;
use crate::wire::group::{Dispensing, GroupInfo};

impl Dispense {
    /// How it is doing here.
    pub(in crate::group) fn info(&self, ctx: &mut Ctx<'_>, group: &Group<'_>) -> GroupInfo {
        let (epoch, opened) = group.epoch();
        let WriteId { peer, run, seq } = epoch;
        let id = |(peer, run, seq): Key| EntryId { topic: ctx.config.topic_id, peer, run, seq };
        let exhausted = group.exhausted().into_iter().map(id).collect();
        let logs = self.logs.keys();
        let dispensers =
            logs.map(|peer| Dispensing { peer: *peer, by: ctx.net.dispenser(*peer), name: None });
        GroupInfo {
            name: self.name.clone(),
            settings: group.settings(),
            epoch: EntryId { topic: ctx.config.groups_topic(), peer, run, seq },
            since_unix_ms: opened.time.ms(),
            start: opened.start.clone(),
            ready_count: self.items.ready_count() as u64,
            delayed_count: self.items.later_count() as u64,
            leased_count: self.leases.len() as u64,
            acked_count: group.done_count(),
            hole_count: group.hole_count(),
            exhausted,
            waiting_count: self.waiters.len() as u64,
            redelivered: self.redelivered,
            dispensers: dispensers.collect(),
        }
    }
}
