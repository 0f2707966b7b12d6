//! Other peers, as the runtime sees them: sessions that come and go, and messages on them.
use crate::base::planted::{self, Bug};
use crate::base::{Batch, Digest, LogId, PeerId, Seq, StoreId};
use crate::disk::Lane;
use crate::identity::sign::verify_with;
use crate::identity::trust::Trust;
use crate::log::Store;
use crate::log::read::{self, Found};
use crate::log::state::LogState;
use crate::replication::forks::link_bits;
use crate::replication::held::HeldRange;
use crate::replication::ranges::Ranges;
use crate::replication::{Fetched, PUSH_BYTES_MAX};
use crate::runtime::core::Request;
use crate::runtime::env::{PeerNet, Place};
use crate::runtime::forks::{Verdict, judge};
use crate::runtime::handle::Handle;
use crate::runtime::lanes::{Event, Jobs};
use crate::wire::peer::{PeerMessage, RunRange, SentEnd};
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What happens between this peer and another.
#[derive(Debug)]
pub(super) enum PeerEvent {
    /// A session began.
    Up { store: StoreId, peer: PeerId },
    /// It ended.
    Down { store: StoreId },
    /// A message came over it, whose statements were checked. Whatever room it takes is free again once it was looked at.
    Message { from: StoreId, message: PeerMessage, room: Box<dyn Any + Send> },
}

impl Handle {
    /// A session with the store of another peer began: whoever calls has checked that it is that peer.
    pub async fn peer_up(&self, store: StoreId, peer: PeerId) {
        self.groups.connected(store, Some(peer));
        self.peer_event(PeerEvent::Up { store, peer }).await;
    }

    /// The session with a store ended. Messages from it that are still under way count for nothing.
    pub async fn peer_down(&self, store: StoreId) {
        self.groups.connected(store, None);
        self.peer_event(PeerEvent::Down { store }).await;
    }

    /// A message came: its statements are checked here, and then it goes to the engine. Waits while that has no room for it.
    /// `room` is dropped when it was looked at, or when nothing in it counts.
    pub async fn receive(&self, from: StoreId, message: PeerMessage, room: impl Any + Send) {
        if let PeerMessage::Group(topic, message) = message {
            return self.hear_of_groups(from, &topic, *message);
        }
        if let Some(message) = self.shared.checks.of(message).await {
            self.peer_event(PeerEvent::Message { from, message, room: Box::new(room) }).await;
        }
    }

    async fn peer_event(&self, event: PeerEvent) {
        // A peer that has stopped hears nothing.
        let _ = self.requests.send(Request::Peer(event)).await;
    }
}

/// Certificates of peers of whom no batch is held yet, at most: more are heard again when they are needed.
const HEARD_MAX: usize = 1_000;

/// Certificates that came from others and are kept with the first batch of their peers.
#[derive(Debug, Default)]
pub(super) struct Heard(BTreeMap<PeerId, Arc<[u8]>>);

impl Heard {
    /// Takes note of a certificate that is what it says.
    pub(super) fn add(&mut self, peer: PeerId, der: Arc<[u8]>) {
        if self.0.len() >= HEARD_MAX {
            self.0.pop_first();
        }
        self.0.insert(peer, der);
    }

    pub(super) fn get(&self, peer: &PeerId) -> Option<Arc<[u8]>> {
        self.0.get(peer).cloned()
    }
}

/// The entries of a batch.
pub(super) fn range_of(batch: &Batch) -> RunRange {
    let s = batch.statement();
    RunRange { log: s.log, run: s.run, from: s.first_seq, until: s.until() }
}

/// Whether a batch is what its peer signed: its signature, its bytes, its entries.
fn is_sound(trust: &dyn Trust, batch: &Batch) -> bool {
    (planted::is(Bug::SignatureUnchecked) || verify_with(trust, batch.statement(), batch.signature()))
        && batch.check_body().is_ok()
        && (planted::is(Bug::EntriesUnchecked) || batch.check_entries().is_ok())
}

impl Jobs {
    /// Checks a batch away from the engine.
    pub(super) fn verify(&self, came: Fetched) {
        let (trust, events) = (self.shared.trust.clone(), self.events.clone());
        let store = self.shared.store.clone();
        let job = move || {
            let verdict = match is_sound(&*trust, &came.batch) {
                true => judge(&store, &came.batch),
                false => Verdict::Bad,
            };
            // Without a core there is nobody to tell: the peer was dropped.
            drop(events.send(Event::Verified(Box::new(came), verdict)));
        };
        self.shared.io().run(Lane::Read, Box::new(job));
    }

    /// Sends batches from the one that holds the first entry of `range` on.
    pub(super) fn serve(&self, to: StoreId, range: RunRange, bytes_max: u64, certificate: bool) {
        let (shared, events) = (self.shared.clone(), self.events.clone());
        let place = shared.env.peers.place(to);
        let job = move |place: Option<Place>| {
            let net = &*shared.env.peers;
            if certificate && let Some(der) = shared.store.certificate(&range.log.peer) {
                net.send(to, PeerMessage::Certificate { peer: range.log.peer, der });
            }
            let (until, end) = send_batches(&shared.store, net, to, &range, bytes_max);
            net.send(to, PeerMessage::Sent { range, until, end });
            // Without a core nobody counts what is open.
            drop(events.send(Event::Served(to)));
            drop(place);
        };
        let shared = self.shared.clone();
        let serving = async move {
            let place = place.await;
            shared.io().run(Lane::Read, Box::new(move || job(place)));
        };
        self.shared.env.spawn.spawn(Box::pin(serving));
    }

    /// Sends new batches to stores that follow; what is too large for that is told of.
    pub(super) fn push(&self, to: Vec<(StoreId, u64)>, range: RunRange) {
        let shared = self.shared.clone();
        let job = move || {
            let net = &*shared.env.peers;
            let batches = whole(&shared.store, &range, PUSH_BYTES_MAX);
            for (store, number) in to {
                match batches.as_ref().filter(|_| net.has_room(store)) {
                    Some(batches) => {
                        let push = |batch: &Batch| PeerMessage::Push { number, batch: batch.bytes().clone() };
                        batches.iter().for_each(|batch| net.send(store, push(batch)));
                    }
                    None => net.send(store, PeerMessage::Have(range, 0)),
                }
            }
        };
        self.shared.io().run(Lane::Read, Box::new(job));
    }
}

/// All batches of a range, when they have no more than so many bytes.
fn whole(store: &Store, range: &RunRange, bytes_max: usize) -> Option<Vec<Batch>> {
    let (log, mut hint) = (store.log(&range.log)?, None);
    let (mut next, mut bytes, mut all) = (range.from, 0, Vec::new());
    while next < range.until {
        let found = read::read(store, &log, range.run, next, bytes_max, &mut hint);
        let Ok(Found::Batches(batches)) = found else { return None };
        for batch in batches.into_iter().take_while(|batch| batch.statement().first_seq < range.until) {
            next = batch.statement().until();
            bytes += batch.bytes().len();
            all.push(batch);
        }
        if bytes > bytes_max {
            return None;
        }
    }
    Some(all)
}

/// Pause asked of a store toward which too much waits, in milliseconds.
const ROOM_RETRY_MS: u32 = 200;

fn send_batches(
    store: &Store,
    net: &dyn PeerNet,
    to: StoreId,
    range: &RunRange,
    bytes_max: u64,
) -> (Seq, SentEnd) {
    let Some(log) = store.log(&range.log) else { return (range.from, SentEnd::NotHere) };
    let (mut next, mut left, mut hint) = (range.from, bytes_max, None);
    while next < range.until && left > 0 {
        if !net.has_room(to) {
            let is_begun = next > range.from;
            return (
                next,
                if is_begun { SentEnd::Enough } else { SentEnd::Busy { retry_ms: ROOM_RETRY_MS } },
            );
        }
        let found = read::read(store, &log, range.run, next, left.min(1 << 20) as usize, &mut hint);
        let Ok(Found::Batches(batches)) = found else { return (next, SentEnd::NotHere) };
        for batch in batches {
            if next >= range.until {
                break;
            }
            next = batch.statement().until();
            left = left.saturating_sub(batch.bytes().len() as u64);
            net.send(to, PeerMessage::Batch(batch.bytes().clone()));
        }
    }
    (next, SentEnd::Enough)
}

/// What a log holds, as others are told of it; of runs of which nothing is kept where they begin, in an empty range.
pub(super) fn held_ranges(state: &LogState, log: LogId) -> Vec<HeldRange> {
    let (mut held, mut damaged) = (Vec::new(), state.damaged.clone());
    damaged.sort_unstable();
    for run in state.runs.iter() {
        let damaged_from = damaged.partition_point(|range| range.run < run.id);
        let start = state.start_of(run);
        let before = held.len();
        let hold = |from, until| {
            let range = RunRange { log, run: run.id, from, until };
            let link = if until == run.until && run.link != Digest::ZERO { link_bits(&run.link) } else { 0 };
            HeldRange { range, parent: run.parent, begin: run.from, link }
        };
        for span in state.spans_of(run.id) {
            let mut ranges = Ranges::default();
            ranges.insert(span.from.max(start), span.until.min(run.until));
            let damaged = damaged[damaged_from..].iter().take_while(|range| range.run == run.id);
            if !planted::is(Bug::DamageStillHeld) {
                damaged.for_each(|range| ranges.remove(range.from, range.until));
            }
            held.extend(ranges.iter().map(|(from, until)| hold(from, until)));
        }
        if held.len() == before {
            held.push(hold(start, start));
        }
    }
    held
}
