//! What a group's hand-out learns from the log and of other peers: entries that are done, or that somebody else may have.
use super::*;

impl Dispense {
    /// A write about this group came.
    pub(in crate::group) fn heard(
        &mut self,
        ctx: &mut Ctx<'_>,
        group: Option<&Group<'_>>,
        by: PeerId,
        is_new: bool,
        write: &GroupWrite,
    ) {
        let is_ours = |epochs: &[WriteId]| epochs.iter().any(|id| self.epochs.contains(id));
        match write {
            GroupWrite::Ack { epochs, acks, .. } if is_ours(epochs) => self.done(ctx, group, acks),
            GroupWrite::Progress { epochs, done, .. } if self.epochs.iter().all(|id| epochs.contains(id)) => {
                let below = |at: &crate::base::Position| Ranges {
                    peer: at.peer,
                    run: at.run,
                    ranges: vec![(Seq(0), at.next)],
                };
                let below: Vec<Ranges> = done.positions.iter().map(below).collect();
                self.done(ctx, group, &below);
            }
            GroupWrite::Grant { epochs, grants, lease_ms, is_extension, .. }
                if is_new && by != ctx.net.me() && is_ours(epochs) =>
            {
                if let Some(group) = group {
                    self.granted_elsewhere(ctx, group, grants, *lease_ms, *is_extension);
                }
            }
            GroupWrite::Create { .. }
            | GroupWrite::Set { .. }
            | GroupWrite::Rewind { .. }
            | GroupWrite::Delete { .. } => self.is_stale = true,
            _ => {}
        }
    }

    /// Another peer handed out what is ready here, while it could not reach us: whoever has it is given the time.
    pub(in crate::group) fn granted_elsewhere(
        &mut self,
        ctx: &mut Ctx<'_>,
        group: &Group<'_>,
        grants: &[Ranges],
        lease_ms: u64,
        is_extension: bool,
    ) {
        for (peer, run, from, until) in ranges_of(grants) {
            for key in self.items.keys_of(peer, run, from, until) {
                let until_unix_ms = group.granted(key).map_or(0, |granted| granted.until_unix_ms);
                if let Some(item) = self.items.get_mut(key) {
                    item.attempts += u32::from(!is_extension);
                }
                let left = until_unix_ms.saturating_sub(ctx.now.unix_ms).min(lease_ms);
                if left > 0 && !matches!(self.items.place(key), Some(Place::Leased(_) | Place::Out)) {
                    self.hold(ctx, group, key, left);
                }
            }
        }
    }

    pub(in crate::group) fn done(&mut self, ctx: &mut Ctx<'_>, group: Option<&Group<'_>>, acks: &[Ranges]) {
        for (peer, run, from, until) in ranges_of(acks) {
            self.readings.iter_mut().for_each(|reading| reading.done(peer, run, from, until));
            let keys = self.items.keys_of(peer, run, from, until);
            self.progress.note(ctx.now.mono_ms, keys.len());
            for key in keys {
                self.drop_done(key);
            }
            self.items.unblock(peer, run, ctx.config.span_count_max);
            let Some(group) = group else {
                continue;
            };
            for twin in self.twins.done(peer, run, from, until) {
                if matches!(self.items.place(twin), Some(Place::Held(_))) {
                    self.place(ctx, group, twin);
                }
            }
        }
    }

    pub(in crate::group) fn drop_done(&mut self, key: Key) {
        if let Some(Place::Leased(number)) = self.items.place(key) {
            self.leases.remove(number);
        }
        self.items.remove(key);
        self.copying.remove(&key);
    }

    /// Other peers are connected than before: this one may hand out other logs. What was handed out stays so.
    pub(in crate::group) fn peers_changed(&mut self, ctx: &mut Ctx<'_>) {
        self.far_changed(ctx);
        let mut gained = false;
        for (log, was_ours) in &mut self.logs {
            let is_ours = ctx.net.is_ours(*log);
            match std::mem::replace(was_ours, is_ours) {
                false => gained |= is_ours,
                true if is_ours => {}
                true => {
                    for key in self.items.keys_of_log(*log) {
                        if !matches!(self.items.place(key), Some(Place::Leased(_))) {
                            self.items.remove(key);
                        }
                    }
                }
            }
        }
        if gained {
            // What was passed over is read again.
            self.close(ctx);
        }
    }
}
