//! Handing out: who waits is served in turn, and what was handed out comes back or is kept longer.
use crate::base::{EntryId, PeerId};
use crate::group::acks::Who;
use crate::group::desk::Ctx;
use crate::group::dispense::Dispense;
use crate::group::fold::Group;
use crate::group::io::{Ask, Consumer, Ticket};
use crate::group::leases::Held;
use crate::group::ready::{Again, Place};
use crate::group::set::{Key, key};
use crate::group::waiters::{LATE_MS, Waiter};
use crate::wire::group::{Delivery, GROUP_COUNT_MAX, GroupAnswer, GroupError, Lease, LeaseError};

/// How much longer a lease lasts here that a consumer of another peer has, in milliseconds.
const TRAVEL_MS: u64 = 500;

/// For whom entries are taken.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Whose leases they are.
    pub consumer: Consumer,
    /// The peer where that is, if it is another.
    pub at: Option<PeerId>,
    /// Entries at most.
    pub count_max: u32,
    /// Raw bytes at most, but for the first.
    pub bytes_max: u64,
    /// How long they are leased; `None`: as the group is set.
    pub lease_ms: Option<u64>,
}

impl Dispense {
    /// Somebody waits for entries from now on.
    pub(super) fn wait(&mut self, ctx: &mut Ctx<'_>, waiter: Waiter) {
        self.asked_ms = ctx.now.mono_ms.max(1);
        self.far.waited_ms = Some(ctx.now.mono_ms);
        ctx.desk.note_consumer(waiter.consumer, &self.name);
        self.waiters.push(waiter);
    }

    /// Serves who waits, as long as there is something.
    pub(super) fn serve(&mut self, ctx: &mut Ctx<'_>, group: &Group<'_>) {
        while let Some(waiter) = self.ask_elsewhere(ctx) {
            let Waiter { consumer, count_max, bytes_max, lease_ms, .. } = waiter;
            let wanted = Wanted { consumer, at: None, count_max, bytes_max, lease_ms };
            let leases = self.take(ctx, group, wanted);
            if leases.is_empty() {
                return;
            }
            self.served(ctx, waiter);
            ctx.answer(waiter.ticket, Ok(GroupAnswer::Leased(leases)));
        }
    }

    pub(super) fn served(&mut self, ctx: &Ctx<'_>, waiter: Waiter) {
        self.waiters.remove(waiter.ticket);
        self.asked_ms = ctx.now.mono_ms.max(1);
    }

    /// Tells those who do not want to wait longer that there is nothing, once that is known.
    pub(super) fn answer_late(&mut self, ctx: &mut Ctx<'_>) {
        let now_ms = ctx.now.mono_ms;
        while let Some(waiter) = self.waiters.late(now_ms) {
            let is_known = self.is_read_up() && self.far.is_quiet(now_ms);
            let is_known = is_known || self.settings.is_paused || ctx.is_stopped;
            if !is_known && waiter.until_ms + LATE_MS > now_ms {
                return;
            }
            self.served(ctx, waiter);
            ctx.answer(waiter.ticket, Ok(GroupAnswer::Leased(Vec::new())));
        }
    }

    /// Leases what is ready.
    pub(super) fn take(&mut self, ctx: &mut Ctx<'_>, group: &Group<'_>, wanted: Wanted) -> Vec<Delivery> {
        let mut leases = Vec::new();
        if self.settings.is_paused || ctx.is_stopped {
            return leases;
        }
        let mut bytes_left = wanted.bytes_max;
        while leases.len() < (wanted.count_max as usize).min(GROUP_COUNT_MAX)
            && let Some(key) = self.items.next(ctx.config.span_count_max)
        {
            // Time has passed since it came to be ready, or the group was set otherwise.
            self.place(ctx, group, key);
            let Some(item) = self.items.get(key).filter(|_| self.items.place(key) == Some(Place::Ready))
            else {
                continue;
            };
            let bytes = u64::from(item.meta.bytes);
            if !leases.is_empty() && bytes > bytes_left {
                break;
            }
            bytes_left = bytes_left.saturating_sub(bytes);
            leases.push(self.lease(ctx, key, wanted));
        }
        leases
    }

    fn lease(&mut self, ctx: &mut Ctx<'_>, key: Key, wanted: Wanted) -> Delivery {
        let (now_ms, number) = (ctx.now.mono_ms, ctx.desk.lease());
        let lease_ms = wanted.lease_ms.unwrap_or(self.settings.lease_ms);
        // Elsewhere it counts from when it is heard of.
        let travel_ms = if wanted.at.is_some() { TRAVEL_MS } else { 0 };
        let until_ms = now_ms.saturating_add(lease_ms).saturating_add(travel_ms);
        self.items.put(key, Place::Leased(number));
        let Wanted { consumer, at, .. } = wanted;
        self.leases.insert(number, Held { key, consumer, at, until_ms });
        self.grants.granted(now_ms, key, lease_ms);
        self.is_used = true;
        let redelivered = &mut self.redelivered;
        let item = self.items.get_mut(key).expect("it was just put there");
        item.attempts = item.attempts.saturating_add(1);
        match item.again {
            Some(Again::Expired) => redelivered.expired += 1,
            Some(Again::Nacked) => redelivered.nacked += 1,
            Some(Again::Left) => redelivered.left += 1,
            None if item.attempts > 1 => redelivered.restarted += 1,
            None => {}
        }
        Delivery { lease: Lease { id: item.meta.id, number }, lease_ms, attempt: item.attempts }
    }

    /// A lease is over: the entry waits for so long, then it is ready again.
    pub(super) fn lease_over(
        &mut self,
        ctx: &mut Ctx<'_>,
        group: &Group<'_>,
        number: u64,
        why: Again,
        counts: bool,
        delay_ms: u64,
    ) {
        let Some(held) = self.leases.remove(number) else {
            return;
        };
        if let Some(item) = self.items.get_mut(held.key) {
            item.again = Some(why);
            item.attempts = item.attempts.saturating_sub(u32::from(!counts));
            item.hold_until_ms = item.hold_until_ms.max(ctx.now.mono_ms.saturating_add(delay_ms));
        }
        self.items.put(held.key, Place::Out);
        self.place(ctx, group, held.key);
    }

    /// Another peer had no use for a lease: it is as if it had not been.
    pub(super) fn take_back(&mut self, ctx: &mut Ctx<'_>, group: &Group<'_>, lease: Lease) {
        if self.find(group, lease).is_err() {
            return;
        }
        let held = self.leases.remove(lease.number).expect("it was just found");
        self.grants.taken_back(held.key);
        if let Some(item) = self.items.get_mut(held.key) {
            item.attempts = item.attempts.saturating_sub(1);
        }
        self.items.put(held.key, Place::Out);
        self.place(ctx, group, held.key);
    }

    /// Finds a lease by what a consumer has of it.
    fn find(&self, group: &Group<'_>, lease: Lease) -> Result<(), LeaseError> {
        match self.leases.get(lease.number) {
            Some(held) if held.key == key(lease.id) => Ok(()),
            _ if group.is_done(key(lease.id)) => Err(LeaseError::Acked),
            _ => Err(LeaseError::Unknown),
        }
    }

    /// Gives leases back.
    pub(super) fn nack(
        &mut self,
        ctx: &mut Ctx<'_>,
        group: &Group<'_>,
        leases: &[Lease],
        delay_ms: Option<u64>,
        counts: bool,
    ) -> Vec<Result<(), LeaseError>> {
        let delay_ms = delay_ms.unwrap_or(self.settings.retry_delay_ms);
        let mut outcomes = Vec::with_capacity(leases.len());
        for lease in leases {
            let found = self.find(group, *lease);
            if found.is_ok() {
                self.lease_over(ctx, group, lease.number, Again::Nacked, counts, delay_ms);
            }
            outcomes.push(found);
        }
        outcomes
    }

    /// Keeps leases longer: until so long from now.
    pub(super) fn extend(
        &mut self,
        ctx: &mut Ctx<'_>,
        group: &Group<'_>,
        leases: &[Lease],
        lease_ms: Option<u64>,
    ) -> Vec<Result<(), LeaseError>> {
        let lease_ms = lease_ms.unwrap_or(self.settings.lease_ms);
        let mut outcomes = Vec::with_capacity(leases.len());
        for lease in leases {
            let found = self.find(group, *lease);
            if found.is_ok() {
                self.leases.extend(lease.number, ctx.now.mono_ms.saturating_add(lease_ms));
                self.grants.extended(ctx.now.mono_ms, key(lease.id), lease_ms);
            }
            outcomes.push(found);
        }
        outcomes
    }

    /// A consumer is gone: what it had is ready again at once.
    pub(super) fn left(&mut self, ctx: &mut Ctx<'_>, group: &Group<'_>, consumer: Consumer) {
        self.left_elsewhere(ctx, consumer);
        for number in self.leases.of(consumer) {
            self.lease_over(ctx, group, number, Again::Left, true, 0);
        }
    }
}

impl Dispense {
    /// Somebody asks something of it.
    pub(super) fn ask(&mut self, ctx: &mut Ctx<'_>, group: &Group<'_>, ticket: Ticket, ask: Ask) {
        let keys = |ids: Vec<EntryId>| ids.into_iter().map(key).collect::<Vec<Key>>();
        // It is meant of the epoch that is, also where nobody asked for anything in it before.
        self.refresh(ctx, group);
        match ask {
            Ask::Info => {
                let info = self.info(ctx, group);
                ctx.answer(ticket, Ok(GroupAnswer::Info(Box::new(info))));
            }
            Ask::Next { consumer, count_max, bytes_max, lease_ms, wait_ms, acked } => {
                let until_ms = ctx.now.mono_ms.saturating_add(wait_ms);
                let waiter = Waiter { ticket, consumer, count_max, bytes_max, lease_ms, until_ms };
                if count_max > 0 && !ctx.desk.wait(ticket, ctx.config.waiting_count_max) {
                    ctx.answer(ticket, Err(GroupError::Busy));
                } else if acked.is_empty() && count_max > 0 {
                    self.wait(ctx, waiter);
                } else {
                    let waiter = (count_max > 0).then(|| Box::new(waiter));
                    self.ack(ctx, Who::Next(ticket, waiter), keys(acked));
                }
            }
            Ask::Ack(ids) => self.ack(ctx, Who::Told(ticket), keys(ids)),
            Ask::Nack { leases, delay_ms, counts } => {
                self.far_nack(ctx, group, ticket, &leases, delay_ms, counts);
            }
            Ask::Extend { leases, lease_ms } => {
                self.far_extend(ctx, group, ticket, &leases, lease_ms);
            }
            Ask::Create { .. } | Ask::Set(_) | Ask::Rewind { .. } | Ask::Delete => {
                unreachable!("changes are decided by the engine")
            }
        }
    }
}
