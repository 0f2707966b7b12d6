//! Relays: what was pushed to us goes on, at once, to those who do not have it from elsewhere.
//!
//! ```text
//! a ──Push──> b ──Push──> c       c took it from b, and says nothing to b
//!  └──Push──> d ──Push──> c       c has it: d is told so, and from now on only says Have to c of what a's peer wrote
//! ```
//!
//! So pushes of one peer's entries come to run along a tree, which nobody draws: whoever says that it holds what is held
//! here had it from elsewhere, and who asks for something did not. Along the other ways goes `Have`. What it tells of is
//! asked for at once where no push is to be expected, and otherwise only if that has not come a second later.
use crate::base::{PeerId, StoreId};
use crate::replication::bounds::{ELSEWHERE_MAX, PUSHERS_MAX, TOLD_OF_MAX};
use crate::replication::engine::Replication;
use crate::replication::io::PeerOutput;
use crate::replication::room::Source;
use crate::replication::session::Session;
use crate::wire::peer::{PeerMessage, RunRange};
use std::collections::BTreeMap;

/// What is known of the ways that pushes take.
#[derive(Debug, Default)]
pub(super) struct Relays {
    /// Who pushed something of a peer's last.
    pushers: BTreeMap<PeerId, StoreId>,
    /// What was told of since the last tick, and before it, that a push should bring.
    told: Vec<(StoreId, RunRange)>,
    told_before: Vec<(StoreId, RunRange)>,
    /// Who pushed what was on its way already, since the last tick.
    doubled: Vec<(StoreId, RunRange)>,
}

impl Relays {
    /// Ranges that are remembered, and peers.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.told.len() + self.told_before.len() + self.doubled.len(), self.pushers.len())
    }

    /// A store pushed something of a peer's.
    pub(super) fn note_pusher(&mut self, peer: PeerId, from: StoreId) {
        if self.pushers.len() >= PUSHERS_MAX && !self.pushers.contains_key(&peer) {
            self.pushers.clear();
        }
        self.pushers.insert(peer, from);
    }
}

impl Replication {
    /// A store tells that it holds a range of a run that is known.
    pub(super) fn told_of(&mut self, from: StoreId, range: &RunRange) {
        let (key, peer) = ((range.log, range.run), range.log.peer);
        if self.missing(key, range.from, range.until).is_none() {
            self.note_elsewhere(from, peer);
        }
        let is_expected = self
            .relays
            .pushers
            .get(&peer)
            .is_some_and(|pusher| *pusher != from && self.sessions.contains_key(pusher));
        if is_expected && self.relays.told.len() < TOLD_OF_MAX {
            self.relays.told.push((from, *range));
        } else {
            self.offer(from, range);
        }
    }

    /// A store pushed what is not taken. If that is because it came from another, it is told so, once we may say that we hold it.
    pub(super) fn doubled(&mut self, from: StoreId, range: &RunRange, out: &mut Vec<PeerOutput>) {
        let key = (range.log, range.run);
        if self.lacking(key, range.from, range.until).is_none() {
            // Of what lies before the end it is not known whether it is the same that is here.
            let link = self.held.log(&key.0).and_then(|log| log.link_at(key.1, range.until));
            out.extend(link.map(|link| PeerOutput::Send(from, PeerMessage::Have(*range, link))));
        } else if self.sources.contains_key(&(key, range.from)) && self.relays.doubled.len() < TOLD_OF_MAX {
            self.relays.doubled.push((from, *range));
        }
    }

    /// A store has what a peer wrote from elsewhere.
    fn note_elsewhere(&mut self, store: StoreId, peer: PeerId) {
        if let Some(session) = self.sessions.get_mut(&store)
            && session.elsewhere.len() < ELSEWHERE_MAX
        {
            session.elsewhere.insert(peer);
        }
    }

    /// A store asks for what a peer wrote: it has not got it from elsewhere.
    pub(super) fn asked_for(&mut self, store: StoreId, peer: PeerId) {
        if let Some(session) = self.sessions.get_mut(&store) {
            session.elsewhere.remove(&peer);
        }
    }

    /// Time has passed: what no push has brought is offered.
    pub(super) fn expect_no_more(&mut self) {
        self.relays.doubled.clear();
        let told = std::mem::take(&mut self.relays.told);
        let before = std::mem::replace(&mut self.relays.told_before, told);
        before.into_iter().for_each(|(from, range)| self.offer(from, &range));
    }

    /// Entries that came from another store are durable here: whoever may lack them is told, or sent them if they were new
    /// when they came.
    pub(super) fn relay(
        &mut self,
        source: Source,
        (range, link): (RunRange, u64),
        holders: &[StoreId],
        out: &mut Vec<PeerOutput>,
    ) {
        let peer = range.log.peer;
        let listeners = self.listeners(Some(source.store), peer);
        let is_own = |session: &Session| session.peer == peer;
        let session = |store: &StoreId| self.sessions.get(store);
        let lacks = |store: &&StoreId| !holders.contains(store) || session(store).is_some_and(is_own);
        let others: Vec<StoreId> = listeners.iter().filter(lacks).copied().collect();
        let counts_on_us = |session: &Session| !is_own(session) && !session.elsewhere.contains(&peer);
        let may_push = |store: &&StoreId| source.is_pushed && session(store).is_some_and(counts_on_us);
        let pushed: Vec<StoreId> = others.iter().filter(may_push).copied().collect();
        self.tell_held(&others, &pushed, (range, link), out);
        for (store, _) in self.relays.doubled.extract_if(.., |(_, doubled)| *doubled == range) {
            if !others.contains(&store) {
                out.push(PeerOutput::Send(store, PeerMessage::Have(range, link)));
            }
        }
    }

    /// Stores that said they hold all of a range.
    pub(super) fn holders(&self, range: &RunRange) -> Vec<StoreId> {
        let key = (range.log, range.run);
        let holds = |store: &StoreId| {
            let offered = self.sessions.get(store).and_then(|session| session.offers.get(&key));
            offered.is_some_and(|offered| offered.holds(range.from, range.until))
        };
        let told = self.relays.told.iter().chain(&self.relays.told_before);
        let told = told.filter(|(_, told)| {
            (told.log, told.run) == key && told.from <= range.from && range.until <= told.until
        });
        self.offered.stores(key).filter(holds).chain(told.map(|(store, _)| *store)).collect()
    }
}
