//! Leases that another peer handed out, and a consumer of this one gives back or keeps longer.
use super::*;

/// Leases of others that somebody gives back or keeps longer.
#[derive(Debug)]
pub(super) struct Forward {
    pub(super) to: PeerId,
    request: u64,
    /// Which of the request they are.
    at: Vec<usize>,
    leases: Vec<Lease>,
    /// How long they last then; `None`: they are given back.
    lease_ms: Option<u64>,
    pub(super) until_ms: u64,
}

#[derive(Debug)]
pub(super) struct Request {
    ticket: Ticket,
    outcomes: Vec<Result<(), LeaseError>>,
    left: usize,
}

/// How long an answer about leases is waited for.
const FORWARD_MS: u64 = 5_000;

impl Dispense {
    /// Gives leases back, wherever they were handed out.
    pub(in crate::group) fn far_nack(
        &mut self,
        ctx: &mut Ctx<'_>,
        group: &Group<'_>,
        ticket: Ticket,
        leases: &[Lease],
        delay_ms: Option<u64>,
        counts: bool,
    ) {
        let name = self.name.clone();
        let message = |ticket, leases| {
            let group = name.clone();
            GroupMessage::Nack { group, ticket, leases, delay_ms, counts }
        };
        let outcomes = self.nack(ctx, group, leases, delay_ms, counts);
        self.forward(ctx, ticket, leases, outcomes, None, message);
    }

    /// Keeps leases longer, wherever they were handed out.
    pub(in crate::group) fn far_extend(
        &mut self,
        ctx: &mut Ctx<'_>,
        group: &Group<'_>,
        ticket: Ticket,
        leases: &[Lease],
        lease_ms: Option<u64>,
    ) {
        let name = self.name.clone();
        let message = |ticket, leases| GroupMessage::Extend { group: name.clone(), ticket, leases, lease_ms };
        let outcomes = self.extend(ctx, group, leases, lease_ms);
        let lease_ms = Some(lease_ms.unwrap_or(self.settings.lease_ms));
        self.forward(ctx, ticket, leases, outcomes, lease_ms, message);
    }

    /// Passes on those that are not known here to who handed them out; answers when all outcomes are known.
    pub(in crate::group) fn forward(
        &mut self,
        ctx: &mut Ctx<'_>,
        ticket: Ticket,
        leases: &[Lease],
        mut outcomes: Vec<Result<(), LeaseError>>,
        lease_ms: Option<u64>,
        message: impl Fn(u64, Vec<Lease>) -> GroupMessage,
    ) {
        let mut by_peer: BTreeMap<PeerId, Vec<usize>> = BTreeMap::new();
        for (at, lease) in leases.iter().enumerate() {
            if outcomes[at] != Err(LeaseError::Unknown) {
                continue;
            }
            let held = self.far.held.get(lease.number).and_then(|held| held.at);
            let to = held.unwrap_or_else(|| ctx.net.dispenser(lease.id.peer));
            if to != ctx.net.me() {
                by_peer.entry(to).or_default().push(at);
            }
        }
        let (request, until_ms) = (ctx.desk.number(), ctx.now.mono_ms + FORWARD_MS);
        let mut left = 0;
        for (to, at) in by_peer {
            if !ctx.net.connected().contains(&to) {
                at.iter().for_each(|at| outcomes[*at] = Err(LeaseError::Unreachable));
                continue;
            }
            let theirs: Vec<Lease> = at.iter().map(|at| leases[*at]).collect();
            let number = ctx.desk.number();
            ctx.desk.expect(number, &self.name);
            ctx.tell(to, message(number, theirs.clone()));
            let forward = Forward { to, request, at, leases: theirs, lease_ms, until_ms };
            self.far.forwards.insert(number, forward);
            left += 1;
        }
        if left == 0 {
            ctx.answer(ticket, Ok(GroupAnswer::Leases(outcomes)));
        } else {
            self.far.requests.insert(request, Request { ticket, outcomes, left });
        }
    }

    /// What became of leases of another peer.
    pub(in crate::group) fn forwarded(
        &mut self,
        ctx: &mut Ctx<'_>,
        ticket: Ticket,
        from: PeerId,
        outcomes: Vec<Result<(), LeaseError>>,
    ) {
        if self.far.forwards.get(&ticket).is_none_or(|forward| forward.to != from) {
            return;
        }
        ctx.desk.told.remove(&ticket);
        let Some(forward) = self.far.forwards.remove(&ticket) else {
            return;
        };
        for (lease, outcome) in forward.leases.iter().zip(&outcomes) {
            match forward.lease_ms {
                Some(lease_ms) if outcome.is_ok() => {
                    self.far.held.extend(lease.number, ctx.now.mono_ms.saturating_add(lease_ms));
                }
                _ if *outcome == Err(LeaseError::Unreachable) => {}
                _ => {
                    self.far.held.remove(lease.number);
                }
            }
        }
        let Some(request) = self.far.requests.get_mut(&forward.request) else {
            return;
        };
        for (at, outcome) in forward.at.iter().zip(outcomes) {
            request.outcomes[*at] = outcome;
        }
        request.left -= 1;
        if request.left == 0
            && let Some(request) = self.far.requests.remove(&forward.request)
        {
            ctx.answer(request.ticket, Ok(GroupAnswer::Leases(request.outcomes)));
        }
    }

    /// Those who did not answer in time, or cannot be reached any more.
    pub(in crate::group) fn forwards_late(&mut self, ctx: &mut Ctx<'_>) {
        let now_ms = ctx.now.mono_ms;
        let is_over =
            |forward: &Forward| forward.until_ms <= now_ms || !ctx.net.connected().contains(&forward.to);
        let late: Vec<(Ticket, PeerId, usize)> = self
            .far
            .forwards
            .iter()
            .filter(|(_, forward)| is_over(forward))
            .map(|(ticket, forward)| (*ticket, forward.to, forward.at.len()))
            .collect();
        for (ticket, to, count) in late {
            self.forwarded(ctx, ticket, to, vec![Err(LeaseError::Unreachable); count]);
        }
    }

    /// The group is no more: nothing is expected of others, and whoever waits for their word is told.
    pub(in crate::group) fn end_far(&mut self, ctx: &mut Ctx<'_>) {
        let far = std::mem::take(&mut self.far);
        for ticket in far.forwards.into_keys().chain(far.asked.map(|asked| asked.ticket)) {
            ctx.desk.told.remove(&ticket);
        }
        for request in far.requests.into_values() {
            let error = ctx.unknown(&self.name);
            ctx.answer(request.ticket, Err(error));
        }
    }

    /// A consumer of this peer is gone: what it had of others they may hand out again.
    pub(in crate::group) fn left_elsewhere(&mut self, ctx: &mut Ctx<'_>, consumer: Consumer) {
        let mut by_peer: BTreeMap<PeerId, Vec<Lease>> = BTreeMap::new();
        for number in self.far.held.of(consumer) {
            if let Some(Held { key: (peer, run, seq), at: Some(to), .. }) = self.far.held.remove(number) {
                let id = crate::base::EntryId { topic: ctx.config.topic_id, peer, run, seq };
                by_peer.entry(to).or_default().push(Lease { id, number });
            }
        }
        for (to, leases) in by_peer {
            let (group, ticket, delay_ms) = (self.name.clone(), ctx.desk.number(), Some(0));
            ctx.tell(to, GroupMessage::Nack { group, ticket, leases, delay_ms, counts: true });
        }
    }
}
