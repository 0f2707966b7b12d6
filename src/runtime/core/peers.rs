//! What comes from other peers and goes to them.
use crate::base::{Batch, LogId, StoreId};
use crate::log::seal::Stated;
use crate::log::state::Range;
use crate::node::{HeldStatement, Input};
use crate::replication::forks::link_bits;
use crate::replication::{Fetched, PeerInput, PeerOutput, Replication};
use crate::runtime::core::Core;
use crate::runtime::forks::{Verdict, tell_fork};
use crate::runtime::peers::{PeerEvent, range_of};
use crate::wire::peer::{PeerMessage, RunRange};
use std::sync::atomic::Ordering;
use tokio::time::Instant;

impl Core {
    pub(super) fn on_peer(&mut self, event: PeerEvent) {
        match event {
            PeerEvent::Up { store, peer } => self.feed(Input::Peer(PeerInput::Up(store, peer))),
            PeerEvent::Down { store } => {
                self.searches.end(store);
                self.feed(Input::Peer(PeerInput::Down(store)));
            }
            PeerEvent::Message { from, message, room } => {
                self.on_message(from, message);
                drop(room);
            }
        }
    }

    fn on_message(&mut self, from: StoreId, message: PeerMessage) {
        match message {
            PeerMessage::AskStatement { log, run, seq } => {
                if self.searches.may_tell(from) {
                    self.jobs.tell_statement(from, log, run, seq);
                }
            }
            PeerMessage::Statement { log, run, seq, side } => {
                self.on_statement(from, (log, run, seq), side);
            }
            PeerMessage::Certificate { peer, der } => self.heard.add(peer, der),
            PeerMessage::Batch(bytes) => self.on_batch(from, bytes),
            PeerMessage::Push { number, batch } => {
                self.feed(Input::Peer(PeerInput::Pushed(from, number)));
                self.on_push(from, batch);
            }
            message => self.feed(Input::Peer(PeerInput::Message(from, message))),
        }
    }

    /// A batch came: unless it was asked for and is still lacking, nobody looks at it any further.
    pub(super) fn on_batch(&mut self, from: StoreId, bytes: bytes::Bytes) {
        let Ok(batch) = Batch::parse(bytes) else { return };
        let range = range_of(&batch);
        if !self.node.wants(from, &range) {
            return;
        }
        if self.node.replication().has_room_for(&batch) {
            self.check(from, range, batch, false);
        } else {
            self.feed(Input::Peer(PeerInput::NoRoom(from, range)));
        }
    }

    /// A batch came that nobody asked for: it is taken where it is lacking, and otherwise says that it is there.
    fn on_push(&mut self, from: StoreId, bytes: bytes::Bytes) {
        let Ok(batch) = Batch::parse(bytes) else { return };
        let (range, link) = (range_of(&batch), link_bits(&batch.link()));
        let known = self.node.replication();
        let is_welcome = known.takes_push(from, &range) && known.has_room_for(&batch);
        let is_taken = is_welcome && self.check(from, range, batch, true);
        if !is_taken {
            self.feed(Input::Peer(PeerInput::NotTaken(from, range, link)));
        }
    }

    /// Has a batch checked, as far as its peer's certificate is known.
    fn check(&mut self, from: StoreId, range: RunRange, batch: Batch, is_pushed: bool) -> bool {
        let peer = range.log.peer;
        let is_known = self.shared.store.certificate(&peer).is_some();
        let certificate = self.heard.get(&peer).filter(|_| !is_known);
        let can_check = is_known || certificate.is_some();
        if can_check {
            let bytes = Replication::cost_bytes(&batch);
            self.feed(Input::Peer(PeerInput::Took { from, range, bytes, is_pushed }));
            let (is_placed, looked) = (false, self.node.durable());
            self.jobs.verify(Fetched { from, range, batch, is_placed, looked, is_pushed, certificate });
        }
        can_check
    }

    pub(super) fn on_verified(&mut self, mut fetched: Box<Fetched>, verdict: Verdict) {
        let (from, range) = (fetched.from, fetched.range);
        match verdict {
            Verdict::Good { is_placed } => {
                fetched.is_placed = is_placed;
                return self.feed(Input::Peer(PeerInput::Fetched(fetched)));
            }
            Verdict::Bad => {
                tracing::warn!(%from, ?range, "a batch is not what its peer signed, and was thrown away");
            }
            Verdict::Misplaced => {
                tracing::debug!(%from, ?range, "a batch whose branch is not known here yet")
            }
            Verdict::Differs(at) => self.search(from, range.log, range.run, at),
        }
        self.feed(Input::Peer(PeerInput::Refused(from, range)));
    }

    pub(super) fn tell(&mut self, output: PeerOutput) {
        match output {
            // Whoever holds a batch of a log mostly holds its peer's certificate, but damage may have taken that alone.
            PeerOutput::Send(to, PeerMessage::Want { range, bytes_max, .. }) => {
                let certificate = self.shared.store.certificate(&range.log.peer).is_none();
                let want = PeerMessage::Want { range, bytes_max, certificate };
                self.shared.env.peers.send(to, want);
            }
            PeerOutput::Send(to, message) => self.shared.env.peers.send(to, message),
            PeerOutput::Serve { to, range, bytes_max, certificate } => {
                self.jobs.serve(to, range, bytes_max, certificate);
            }
            PeerOutput::Push { to, range } => self.jobs.push(to, range),
            PeerOutput::StoreFork(_, fork) => self.jobs.look_behind(fork),
            PeerOutput::Differs { from, log, run, at } => self.search(from, log, run, at),
            PeerOutput::Store(_) | PeerOutput::StoreHead(..) | PeerOutput::StoreLost(..) => {
                unreachable!("the engine keeps what is to be stored")
            }
            PeerOutput::Copied { .. } | PeerOutput::Late { .. } => {
                unreachable!("the engine answers who waits for copies")
            }
        }
    }

    pub(super) fn name_all(&self, stated: Vec<Stated>) -> Vec<HeldStatement> {
        let name = |stated| {
            let topic = |log: &LogId| self.shared.store.topic_name(log.topic);
            Some(match stated {
                Stated::Head(head, signature) => HeldStatement::Head(topic(&head.log)?, head, signature),
                Stated::Lost(lost, signature) => HeldStatement::Lost(topic(&lost.log)?, lost, signature),
                Stated::Fork(fork) => {
                    let topic = topic(&fork.log())?;
                    tell_fork(&self.shared.store, &topic, &fork);
                    HeldStatement::Fork(topic, fork)
                }
            })
        };
        stated.into_iter().filter_map(name).collect()
    }

    /// Others are told that what was found damaged is not held any more, and asked for it.
    pub(super) fn tell_damage(&mut self) {
        if !self.note_damage() {
            return;
        }
        for log in self.shared.store.logs() {
            let damaged = log.look().damaged.clone();
            for Range { run, from, until } in damaged {
                let range = RunRange { log: log.id, run, from, until };
                if self.node.replication().held().holds_any(&range) {
                    self.feed(Input::Peer(PeerInput::Gone(range)));
                }
            }
        }
    }

    /// Sees to it that damage which was found since this was asked last is in a checkpoint soon; whether there is any.
    fn note_damage(&mut self) -> bool {
        let found = self.shared.store.counters.damage_found.load(Ordering::Relaxed);
        let is_new = std::mem::replace(&mut self.told_damage, found) != found;
        self.unsaved = self.unsaved.or(is_new.then(Instant::now));
        is_new
    }
}
