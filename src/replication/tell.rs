//! Telling others: what we hold, with whom we have sessions, and what they ask for.
use crate::base::planted::{self, Bug};
use crate::base::{Lost, PeerId, StoreId};
use crate::replication::bounds::{BUSY_MS, LISTENERS_MAX, LOGS_BYTES_MAX, NEIGHBORS_MAX, TOLD_MAX};
use crate::replication::engine::Replication;
use crate::replication::io::PeerOutput;
use crate::replication::session::Session;
use crate::wire::peer::{LogTag, PeerMessage, RunRange, SentEnd};
use std::sync::Arc;

/// What was declared lost of a range that is asked for is told in so many pieces at most; summaries have it all.
const LOST_AT_ONCE: usize = 16;

/// Time between two times that others are told with whom we have sessions, in milliseconds: many may begin at once.
const NEIGHBORS_MS: u64 = 100;

impl Replication {
    pub(super) fn tell_logs(
        &self,
        to: StoreId,
        tell: &[LogTag],
        ask: Vec<LogTag>,
        out: &mut Vec<PeerOutput>,
    ) {
        let (mut part, mut bytes) = (Vec::new(), 0);
        let tell = tell.iter().take(TOLD_MAX);
        for summary in tell.flat_map(|tag| self.held.summaries(*tag)) {
            bytes += summary.wire_bytes();
            part.push(summary);
            if bytes >= LOGS_BYTES_MAX && !planted::is(Bug::TellsAllAtOnce) {
                let held = std::mem::take(&mut part);
                out.push(PeerOutput::Send(to, PeerMessage::Logs { held, ask: vec![] }));
                bytes = 0;
            }
        }
        if !part.is_empty() || !ask.is_empty() {
            out.push(PeerOutput::Send(to, PeerMessage::Logs { held: part, ask }));
        }
    }

    /// Another store asks for a range.
    pub(super) fn serve(
        &mut self,
        now_ms: u64,
        to: StoreId,
        range: RunRange,
        bytes_max: u64,
        certificate: bool,
        out: &mut Vec<PeerOutput>,
    ) {
        let run = self.held.log(&range.log).and_then(|log| log.run(range.run));
        match run.and_then(|run| run.ranges.around(range.from)) {
            Some((_, until)) if self.begin_serving(now_ms, to) => {
                let range = RunRange { until: range.until.min(until), ..range };
                // Whoever asks for more asks again.
                let bytes_max = bytes_max.min(self.config.want_bytes_max);
                out.push(PeerOutput::Serve { to, range, bytes_max, certificate });
            }
            Some(_) => {
                let end = SentEnd::Busy { retry_ms: BUSY_MS };
                out.push(PeerOutput::Send(to, PeerMessage::Sent { range, until: range.from, end }));
            }
            None => {
                // It may be trimmed or lost: whoever signed that says so.
                let log = self.held.log(&range.log);
                for (head, signature) in log.iter().flat_map(|log| log.head(range.run)) {
                    out.push(PeerOutput::Send(to, PeerMessage::Head(*head, *signature)));
                }
                let is_of =
                    |lost: &Lost| lost.run == range.run && lost.from < range.until && range.from < lost.until;
                let of_range = log.iter().flat_map(|log| log.lost()).filter(|(lost, _)| is_of(lost));
                for (lost, signature) in of_range.take(LOST_AT_ONCE) {
                    out.push(PeerOutput::Send(to, PeerMessage::Lost(*lost, *signature)));
                }
                let sent = PeerMessage::Sent { range, until: range.from, end: SentEnd::NotHere };
                out.push(PeerOutput::Send(to, sent));
            }
        }
    }

    /// Whom to tell of entries that came from `source`, or are our own, in a log of `peer`: whoever has a session with that
    /// store hears it there, and that store has it. The log's own peer counts copies.
    pub(super) fn listeners(&mut self, source: Option<StoreId>, peer: PeerId) -> Arc<[StoreId]> {
        let Some(source) = source else { return self.sessions.keys().copied().collect() };
        if let Some(known) = self.listeners.get(&(source, peer)) {
            return known.clone();
        }
        let hears = |store: StoreId, session: &Session| {
            let is_there = store == source || session.neighbors.binary_search(&source).is_ok();
            is_there && session.peer != peer
        };
        let others = self.sessions.iter().filter(|(store, session)| !hears(**store, session));
        let others: Arc<[StoreId]> = others.map(|(store, _)| *store).collect();
        if self.listeners.len() >= LISTENERS_MAX {
            self.listeners.clear();
        }
        self.listeners.insert((source, peer), others.clone());
        others
    }

    /// Whose a store is, if there is a session with it.
    pub fn peer_of(&self, store: StoreId) -> Option<PeerId> {
        self.sessions.get(&store).map(|session| session.peer)
    }

    /// Says the same to all.
    pub(super) fn tell_all(&self, message: &PeerMessage, out: &mut Vec<PeerOutput>) {
        out.extend(self.sessions.keys().map(|store| PeerOutput::Send(*store, message.clone())));
    }

    /// Tells all with whom there are sessions, if that changed; a while after it was told last.
    pub(super) fn tell_neighbors(&mut self, now_ms: u64, out: &mut Vec<PeerOutput>) {
        if self.has_new_neighbors && self.neighbors_ms <= now_ms {
            (self.has_new_neighbors, self.neighbors_ms) = (false, now_ms + NEIGHBORS_MS);
            let stores = self.sessions.keys().take(NEIGHBORS_MAX).copied().collect();
            self.tell_all(&PeerMessage::Neighbors(stores), out);
        }
    }
}
