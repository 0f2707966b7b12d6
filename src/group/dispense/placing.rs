//! What becomes of an entry that nobody has: it waits, is ready, or is done without anybody.
use super::*;

impl Dispense {
    /// An entry that is not done came.
    pub(in crate::group) fn take_in(&mut self, ctx: &mut Ctx<'_>, group: &Group<'_>, meta: Meta) {
        let key = key(meta.id);
        if self.items.get(key).is_some() || !ctx.net.is_ours(key.0) {
            return;
        }
        let granted = group.granted(key);
        let logged = granted
            .map_or(0, |granted| granted.until_unix_ms.saturating_sub(ctx.now.unix_ms).min(granted.lease_ms));
        let grace = self.grace(ctx, group, key.0);
        // Its own peer may be there after all, connected to others: what that hands out it says in time.
        let courtesy = if key.0 == ctx.net.me() { 0 } else { ctx.config.dispense_wait_ms_max };
        let hold_until_ms = grace.max(ctx.now.mono_ms.saturating_add(logged.max(courtesy)));
        let attempts = granted.map_or(0, |granted| granted.count) + self.grants.unlogged(key);
        self.items.insert(meta, attempts, hold_until_ms);
        self.place(ctx, group, key);
    }

    /// Until when the entries of a log wait that were there before this peer handed them out.
    pub(in crate::group) fn grace(&mut self, ctx: &Ctx<'_>, group: &Group<'_>, log: PeerId) -> u64 {
        if self.is_grace_over {
            return 0;
        }
        let lease_ms = self.settings.lease_ms;
        *self.grace.entry(log).or_insert_with(|| {
            if log == ctx.net.me() {
                return ctx.desk.start_grace.get(&self.name).copied().unwrap_or_default();
            }
            let granted = group.granting_others().map_or(0, |ms| ms.max(lease_ms));
            ctx.net.changed_ms() + granted.max(CONNECT_MS)
        })
    }

    /// Remembers who produced an entry, under which number. Another with the same that is later in order, and was not handed
    /// out yet, is to be placed anew.
    pub(in crate::group) fn note_twin(
        &mut self,
        ctx: &Ctx<'_>,
        group: &Group<'_>,
        meta: &Meta,
    ) -> Option<Key> {
        let items = &self.items;
        let stays =
            |first: Key| group.is_done(first) || items.get(first).is_some_and(|item| item.attempts > 0);
        let later = self.twins.note(meta, LATER_WINDOWS * ctx.config.window_count_max, stays)?;
        let is_waiting = !matches!(items.place(later), Some(Place::Leased(_) | Place::Out) | None);
        is_waiting.then_some(later)
    }

    /// Decides what becomes of an entry that nobody has.
    pub(in crate::group) fn place(&mut self, ctx: &mut Ctx<'_>, group: &Group<'_>, key: Key) {
        if !ctx.net.is_ours(key.0) {
            self.items.remove(key);
            return;
        }
        let Some(item) = self.items.get(key) else {
            return;
        };
        let (meta, was_ready) = (item.meta, self.items.place(key) == Some(Place::Ready));
        let is_exhausted = self.settings.max_deliveries > 0 && item.attempts >= self.settings.max_deliveries;
        let twin_until_ms = item.twin_until_ms.unwrap_or(ctx.now.mono_ms + TWIN_MS);
        let is_twin_late = twin_until_ms <= ctx.now.mono_ms;
        let delayed = meta.deliver_at_ms.filter(|at| *at > ctx.now.unix_ms && item.attempts == 0);
        let place = if self.acks.keys.contains_key(&key) || self.copying.contains(&key) {
            Place::Out
        } else if item.hold_until_ms > ctx.now.mono_ms {
            Place::Held(item.hold_until_ms)
        } else if meta.expire_at_ms.is_some_and(|at| at <= ctx.now.unix_ms) {
            return self.finish(key, Done::Expired);
        } else if is_exhausted {
            return self.finish(key, self.when_exhausted());
        } else if let Some(first) = self.twins.first(&meta).filter(|_| !is_twin_late) {
            if group.is_done(first) {
                return self.finish(key, Done::Acked);
            }
            self.twins.wait(first, key);
            Place::Held(twin_until_ms)
        } else if let Some(at) = delayed {
            Place::Delayed(at)
        } else {
            Place::Ready
        };
        if let Some(item) = self.items.get_mut(key) {
            match place {
                Place::Ready if !was_ready => item.ready_ms = ctx.now.mono_ms,
                Place::Held(until_ms) if until_ms == twin_until_ms => item.twin_until_ms = Some(until_ms),
                _ => {}
            }
        }
        self.items.put(key, place);
        if matches!(place, Place::Held(_) | Place::Delayed(_)) {
            self.items.unblock(key.0, key.1, ctx.config.span_count_max);
        }
    }

    pub(in crate::group) fn when_exhausted(&self) -> Done {
        match self.settings.when_exhausted {
            WhenExhausted::Keep => Done::Exhausted,
            WhenExhausted::Drop => Done::Dropped,
            WhenExhausted::Topic(_) => Done::Buried,
        }
    }

    /// An entry is not handed out any more: it is copied where that is wanted, then it is done.
    pub(in crate::group) fn finish(&mut self, key: Key, why: Done) {
        self.items.put(key, Place::Out);
        if self.copy_to(why).is_some() {
            self.copying.insert(key);
            self.to_copy.push_back((key, why));
        } else {
            self.finished(key, why);
        }
    }

    pub(in crate::group) fn finished(&mut self, key: Key, why: Done) {
        let (who, keys, news, generation) = (Who::Nobody, vec![key], Vec::new(), self.generation);
        self.acks.gather(why, Asked { who, keys, generation, news });
    }

    pub(in crate::group) fn copy_to(&self, why: Done) -> Option<&crate::base::TopicName> {
        match (why, &self.settings.when_exhausted) {
            (Done::Expired, _) => self.settings.expire_to.as_ref(),
            (Done::Buried, WhenExhausted::Topic(topic)) => Some(topic),
            _ => None,
        }
    }

    pub(in crate::group) fn send_copies(&mut self, ctx: &mut Ctx<'_>) {
        // Of what waits some was acknowledged meanwhile.
        let under_way = self.copying.len().saturating_sub(self.to_copy.len());
        for _ in under_way..COPY_COUNT_MAX {
            let Some((key, why)) = self.to_copy.pop_front() else {
                return;
            };
            let (Some(item), Some(to)) = (self.items.get(key), self.copy_to(why).cloned()) else {
                // It was acknowledged meanwhile, or is to be copied nowhere any more.
                self.copying.remove(&key);
                continue;
            };
            let (id, attempts, ticket) = (item.meta.id, item.attempts, ctx.desk.number());
            let group = self.name.clone();
            let copying = Copying { group: group.clone(), key, why, generation: self.generation };
            ctx.desk.copies.insert(ticket, copying);
            ctx.outputs.push(Output::Copy { ticket, id, to, group, why, attempts });
        }
    }

    /// What became of a copy.
    pub(in crate::group) fn copied(
        &mut self,
        ctx: &mut Ctx<'_>,
        group: &Group<'_>,
        copying: &Copying,
        is_done: bool,
    ) {
        if copying.generation != self.generation || !self.copying.remove(&copying.key) {
            return;
        }
        if is_done {
            self.finished(copying.key, copying.why);
        } else {
            self.hold(ctx, group, copying.key, RETRY_MS);
        }
    }

    /// An entry waits for so long, then it is decided anew.
    pub(in crate::group) fn hold(&mut self, ctx: &mut Ctx<'_>, group: &Group<'_>, key: Key, ms: u64) {
        if let Some(item) = self.items.get_mut(key) {
            item.hold_until_ms = item.hold_until_ms.max(ctx.now.mono_ms.saturating_add(ms));
            self.place(ctx, group, key);
        }
    }
}
