//! Between dispensers: what the peers say to each other about one group, so that consumers get what others hand out.
//!
//! ```text
//!   consumers wait here ── Demand, each second ──> everybody who hands out something
//!                      <── Offer: best priority, how long it waited, how many ──
//!   better than ours?  ── Lease: for all who wait, at once ──> the best
//!                      <── Leased ── ; what nobody wants any more goes back: Return
//!   given back, kept longer, done here: Nack, Extend, Acked ──> who handed it out
//! ```
//!
//! Ours go first, with no talk. An offer is better when nothing is ready here, when its priority is higher, or when of the same
//! priority it has waited so much longer ([`dispense_wait_ms_max`](crate::group::io::GroupConfig)). While the answer is on its
//! way, as many who wait first are kept for it, for a second at most. All messages may be lost: leases end by time, and the rest
//! is said again.
mod forward;

use forward::{Forward, Request};

use crate::base::PeerId;
use crate::group::desk::Ctx;
use crate::group::dispense::Dispense;
use crate::group::fold::Group;
use crate::group::hand_out::Wanted;
use crate::group::io::{Consumer, Ticket};
use crate::group::leases::{Held, Leases};
use crate::group::set::{Key, Set, key};
use crate::group::waiters::Waiter;
use crate::wire::group::{
    Delivery, GROUP_COUNT_MAX, GroupAnswer, GroupMessage, LEASE_MS_MAX, Lease, LeaseError,
};
use std::collections::BTreeMap;

/// How often is said that consumers wait, in milliseconds.
const DEMAND_MS: u64 = 1_000;
/// For how long that counts.
const DEMANDED_MS: u64 = 2_500;
/// How often what waits is offered, in milliseconds, while it waits.
const OFFER_MS: u64 = 250;
/// The shortest time between two offers, where something is ready again.
const OFFER_MS_MIN: u64 = 5;
/// For how long an offer counts.
const OFFERED_MS: u64 = 1_500;
/// How long offers are waited for where nobody knew that consumers wait.
const FIRST_OFFER_MS: u64 = 100;
/// How long consumers are kept for an answer.
const ASK_MS: u64 = 1_000;
/// How long an entry is not handed out that somebody said is done, until the log says so.
const HINT_MS: u64 = 5_000;

#[derive(Debug)]
struct Offer {
    priority: u8,
    /// Since when the oldest waits, by our clock.
    since_ms: u64,
    count: u32,
    until_ms: u64,
}

#[derive(Debug)]
struct Asked {
    ticket: Ticket,
    to: PeerId,
    /// So many who wait are kept for it.
    waiters: usize,
    until_ms: u64,
}

/// What is between this peer and others.
#[derive(Debug, Default)]
pub struct Far {
    demanded_ms: Option<u64>,
    /// When a consumer of this peer asked last, whether or not it was served at once: others may have what is better.
    pub(super) waited_ms: Option<u64>,
    /// Until when first offers are waited for.
    quiet_ms: u64,
    offers: BTreeMap<PeerId, Offer>,
    demands: BTreeMap<PeerId, u64>,
    offered_ms: u64,
    /// Whether nothing was ready when it was looked last.
    was_empty: bool,
    asked: Option<Asked>,
    forwards: BTreeMap<Ticket, Forward>,
    requests: BTreeMap<u64, Request>,
    /// What consumers of this peer have of others.
    held: Leases,
}

impl Far {
    /// Whether nothing is to be expected of others now.
    pub fn is_quiet(&self, now_ms: u64) -> bool {
        self.asked.is_none() && now_ms >= self.quiet_ms
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.held.is_empty() && self.requests.is_empty() && self.asked.is_none()
    }

    /// The best offer that counts still.
    fn best(&self, now_ms: u64) -> Option<(PeerId, &Offer)> {
        let valid = self.offers.iter().filter(|(_, offer)| offer.until_ms > now_ms);
        let best = valid.max_by_key(|(_, offer)| (offer.priority, std::cmp::Reverse(offer.since_ms)));
        best.map(|(peer, offer)| (*peer, offer))
    }
}

impl Dispense {
    /// Asks another peer for entries where its offer is better than what is ready here. Answers who is to be served by this peer
    /// next.
    pub(super) fn ask_elsewhere(&mut self, ctx: &mut Ctx<'_>) -> Option<Waiter> {
        let now_ms = ctx.now.mono_ms;
        if self.far.asked.as_ref().is_some_and(|asked| asked.until_ms <= now_ms) {
            self.far.asked = None;
        }
        if self.far.asked.is_none() && !self.waiters.is_empty() && !ctx.is_stopped && !self.settings.is_paused
        {
            let own = self.items.best();
            let is_better = |offer: &Offer| {
                own.is_none_or(|(priority, since_ms)| {
                    let waits = offer.since_ms.saturating_add(ctx.config.dispense_wait_ms_max) < since_ms;
                    offer.priority > priority || (offer.priority == priority && waits)
                })
            };
            let best = self.far.best(now_ms).filter(|(_, offer)| is_better(offer));
            if let Some((to, count)) = best.map(|(to, offer)| (to, offer.count)) {
                self.ask_for(ctx, to, count);
            }
        }
        let kept = self.far.asked.as_ref().map_or(0, |asked| asked.waiters);
        self.waiters.first_but(kept)
    }

    fn ask_for(&mut self, ctx: &mut Ctx<'_>, to: PeerId, offered: u32) {
        self.far.offers.remove(&to);
        let Some(first) = self.waiters.first_but(0) else {
            return;
        };
        let (mut count_max, mut bytes_max, mut waiters) = (0u32, first.bytes_max, 0);
        let together = self.waiters.iter().take_while(|waiter| waiter.lease_ms == first.lease_ms);
        for waiter in together {
            if count_max >= offered.min(GROUP_COUNT_MAX as u32) {
                break;
            }
            count_max += waiter.count_max;
            bytes_max = bytes_max.min(waiter.bytes_max);
            waiters += 1;
        }
        let count_max = count_max.min(GROUP_COUNT_MAX as u32);
        let (ticket, group, lease_ms) = (ctx.desk.number(), self.name.clone(), first.lease_ms);
        ctx.desk.expect(ticket, &group);
        ctx.tell(to, GroupMessage::Lease { group, ticket, count_max, bytes_max, lease_ms });
        let until_ms = ctx.now.mono_ms + ASK_MS;
        self.far.asked = Some(Asked { ticket, to, waiters, until_ms });
    }

    /// Says that consumers wait, and offers what waits for others.
    pub(super) fn talk(&mut self, ctx: &mut Ctx<'_>) {
        let now_ms = ctx.now.mono_ms;
        self.forwards_late(ctx);
        while let Some(number) = self.far.held.ended(now_ms) {
            self.far.held.remove(number);
        }
        if ctx.is_stopped {
            return;
        }
        let is_time = self.far.demanded_ms.is_none_or(|told| told + DEMAND_MS <= now_ms);
        let waits = !self.waiters.is_empty();
        let waited = self.far.waited_ms.is_some_and(|waited| now_ms < waited + DEMAND_MS);
        if (waits || waited) && is_time && !ctx.net.connected().is_empty() {
            if waits && self.far.demanded_ms.is_none_or(|told| told + OFFERED_MS <= now_ms) {
                self.far.quiet_ms = now_ms + FIRST_OFFER_MS;
            }
            self.far.demanded_ms = Some(now_ms);
            let peers: Vec<PeerId> = ctx.net.connected().iter().copied().collect();
            for to in peers {
                let logs = self.logs.keys().filter(|log| **log != to && ctx.net.dispenser(**log) == to);
                let (group, of) = (self.name.clone(), logs.copied().collect());
                ctx.tell(to, GroupMessage::Demand { group, of });
            }
        }
        self.offer(ctx);
    }

    fn offer(&mut self, ctx: &mut Ctx<'_>) {
        let now_ms = ctx.now.mono_ms;
        self.far.demands.retain(|_, until_ms| *until_ms > now_ms);
        let is_empty = self.items.ready_now() == 0;
        if is_empty || self.far.demands.is_empty() {
            self.far.was_empty |= is_empty;
            return;
        }
        let wait_ms = if self.far.was_empty { OFFER_MS_MIN } else { OFFER_MS };
        if now_ms < self.far.offered_ms + wait_ms {
            return;
        }
        (self.far.offered_ms, self.far.was_empty) = (now_ms, false);
        let peers: Vec<PeerId> = self.far.demands.keys().copied().collect();
        peers.into_iter().for_each(|to| self.offer_to(ctx, to));
    }

    fn offer_to(&mut self, ctx: &mut Ctx<'_>, to: PeerId) {
        let Some((priority, since_ms)) = self.items.best().filter(|_| !self.settings.is_paused) else {
            return;
        };
        let waited_ms = ctx.now.mono_ms.saturating_sub(since_ms);
        let (group, count) = (self.name.clone(), self.items.ready_now() as u32);
        ctx.tell(to, GroupMessage::Offer { group, priority, waited_ms, count });
    }

    /// When something is to be said next.
    pub(super) fn far_wake(&self, ctx: &Ctx<'_>) -> Option<u64> {
        let far = &self.far;
        let waits = !self.waiters.is_empty() && !ctx.net.connected().is_empty() && !ctx.is_stopped;
        let demand = far.demanded_ms.filter(|_| waits).map(|told| told + DEMAND_MS);
        let quiet = (waits && far.quiet_ms > ctx.now.mono_ms).then_some(far.quiet_ms);
        let offers = !far.demands.is_empty() && self.items.ready_now() > 0 && !ctx.is_stopped;
        let wait_ms = if far.was_empty { OFFER_MS_MIN } else { OFFER_MS };
        let offer = offers.then_some(far.offered_ms + wait_ms);
        let asked = far.asked.as_ref().map(|asked| asked.until_ms);
        let forwards = far.forwards.values().map(|forward| forward.until_ms).min();
        [demand, quiet, offer, asked, forwards, far.held.first_end()].into_iter().flatten().min()
    }

    /// Another peer says something.
    pub fn told(&mut self, ctx: &mut Ctx<'_>, group: &Group<'_>, from: PeerId, message: GroupMessage) {
        let now_ms = ctx.now.mono_ms;
        self.refresh(ctx, group);
        match message {
            GroupMessage::Demand { of, .. } => {
                self.asked_ms = now_ms.max(1);
                self.far.demands.insert(from, now_ms + DEMANDED_MS);
                let logs: Vec<PeerId> = of.into_iter().filter(|log| !ctx.net.is_ours(*log)).collect();
                if !logs.is_empty() {
                    ctx.tell(from, GroupMessage::NotMine { group: self.name.clone(), logs });
                }
                self.far.was_empty = true;
            }
            GroupMessage::Offer { priority, waited_ms, count, .. } => {
                let (since_ms, until_ms) = (now_ms.saturating_sub(waited_ms), now_ms + OFFERED_MS);
                self.far.offers.insert(from, Offer { priority, since_ms, count, until_ms });
            }
            GroupMessage::Lease { ticket, count_max, bytes_max, lease_ms, .. } => {
                self.asked_ms = now_ms.max(1);
                let lease_ms = lease_ms.map(|lease_ms| lease_ms.min(LEASE_MS_MAX));
                let wanted = Wanted { consumer: 0, at: Some(from), count_max, bytes_max, lease_ms };
                let leases = self.take(ctx, group, wanted);
                ctx.tell(from, GroupMessage::Leased { ticket, leases });
                self.offer_to(ctx, from);
            }
            GroupMessage::Leased { ticket, leases } => self.leased(ctx, group, from, ticket, leases),
            GroupMessage::Return { leases, .. } => {
                leases.into_iter().for_each(|lease| self.take_back(ctx, group, lease));
            }
            GroupMessage::Nack { ticket, leases, delay_ms, counts, .. } => {
                let outcomes = self.nack(ctx, group, &leases, delay_ms, counts);
                ctx.tell(from, GroupMessage::Leases { ticket, outcomes });
            }
            GroupMessage::Extend { ticket, leases, lease_ms, .. } => {
                let lease_ms = lease_ms.map(|lease_ms| lease_ms.min(LEASE_MS_MAX));
                let outcomes = self.extend(ctx, group, &leases, lease_ms);
                ctx.tell(from, GroupMessage::Leases { ticket, outcomes });
            }
            GroupMessage::Leases { ticket, outcomes } => self.forwarded(ctx, ticket, from, outcomes),
            GroupMessage::Acked { ids, .. } => {
                for id in ids.into_iter().map(key) {
                    self.hold_for_log(ctx, group, id);
                }
            }
            GroupMessage::NotMine { .. } => {}
        }
    }

    /// Somebody said that an entry is done: it waits a while for the log to say so.
    fn hold_for_log(&mut self, ctx: &mut Ctx<'_>, group: &Group<'_>, key: Key) {
        use crate::group::ready::Place;
        let until_ms = ctx.now.mono_ms + HINT_MS;
        if let Some(item) = self.items.get_mut(key) {
            item.hold_until_ms = item.hold_until_ms.max(until_ms);
        }
        if !matches!(self.items.place(key), Some(Place::Leased(_) | Place::Out) | None) {
            self.place(ctx, group, key);
        }
    }

    /// Entries that another peer handed out for consumers of this one.
    fn leased(
        &mut self,
        ctx: &mut Ctx<'_>,
        group: &Group<'_>,
        from: PeerId,
        ticket: Ticket,
        leases: Vec<Delivery>,
    ) {
        ctx.desk.told.remove(&ticket);
        if self.far.asked.as_ref().is_some_and(|asked| asked.ticket == ticket && asked.to == from) {
            self.far.asked = None;
        }
        let mut fresh = leases.iter().filter(|one| !group.is_done(key(one.lease.id))).copied().peekable();
        while fresh.peek().is_some() {
            let Some(waiter) = self.waiters.first_but(0).filter(|_| !ctx.is_stopped) else {
                break;
            };
            let share: Vec<Delivery> = fresh.by_ref().take(waiter.count_max as usize).collect();
            for one in &share {
                let (key, until_ms) =
                    (key(one.lease.id), ctx.now.mono_ms.saturating_add(one.lease_ms.min(LEASE_MS_MAX)));
                let held = Held { key, consumer: waiter.consumer, at: Some(from), until_ms };
                self.far.held.insert(one.lease.number, held);
            }
            self.served(ctx, waiter);
            ctx.answer(waiter.ticket, Ok(GroupAnswer::Leased(share)));
        }
        let unused: Vec<Lease> = fresh.map(|one| one.lease).collect();
        if !unused.is_empty() {
            ctx.tell(from, GroupMessage::Return { group: self.name.clone(), leases: unused });
        }
    }

    /// Tells those who hand these out that they are as good as done.
    pub(super) fn hint(&mut self, ctx: &mut Ctx<'_>, set: &Set) {
        let mut by_peer: BTreeMap<PeerId, Vec<crate::base::EntryId>> = BTreeMap::new();
        if ctx.net.connected().is_empty() {
            return;
        }
        for (peer, run, from, until) in set.ranges() {
            let to = ctx.net.dispenser(peer);
            if to == ctx.net.me() {
                continue;
            }
            let topic = ctx.config.topic_id;
            let id = |seq| crate::base::EntryId { topic, peer, run, seq: crate::base::Seq(seq) };
            by_peer.entry(to).or_default().extend((from.0..until.0).map(id));
        }
        for (to, ids) in by_peer {
            ctx.tell(to, GroupMessage::Acked { group: self.name.clone(), ids });
        }
    }

    /// Other peers are connected than before.
    pub(super) fn far_changed(&mut self, ctx: &mut Ctx<'_>) {
        let connected = ctx.net.connected();
        self.far.offers.retain(|peer, _| connected.contains(peer));
        self.far.demands.retain(|peer, _| connected.contains(peer));
        if let Some(asked) = self.far.asked.take_if(|asked| !connected.contains(&asked.to)) {
            ctx.desk.told.remove(&asked.ticket);
        }
        self.far.demanded_ms = None;
    }
}
