//! Other peers: what the engine takes from them, and what it tells them once it is durable.
use crate::base::planted::{self, Bug};
use crate::base::{
    Batch, EntryId, EntryKind, LogId, Now, RunId, Seq, SignedRemoval, StoreId, TopicName, Work,
};
use crate::node::clock::TELL_MS;
use crate::node::engine::Node;
use crate::node::io::{HeldStatement, Looked, Output};
use crate::node::removals::content_of;
use crate::replication::forks::link_bits;
use crate::replication::held::HeldRange;
use crate::replication::{Fetched, PeerInput, PeerOutput, Replication};
use crate::topic::catalog::CatalogWrite;
use crate::wire::peer::{PeerMessage, RunRange};

impl Node {
    /// What is known of other stores, and what they know of this one.
    pub fn replication(&self) -> &Replication {
        &self.replication
    }

    /// Takes note of what was found to be held at the start.
    pub fn recall_held(&mut self, held: PeerInput) {
        // Nobody is there yet to be told.
        self.replication.handle(0, held, &mut Vec::new());
    }

    pub(super) fn on_peer(&mut self, now: Now, input: PeerInput, outputs: &mut Vec<Output>) {
        self.hear(&input);
        if let PeerInput::Message(from, PeerMessage::Clock(unix_ms)) = input {
            // Another store of ours shows nothing that ours does not.
            let peer = self.replication.peer_of(from).filter(|peer| *peer != self.config.peer);
            peer.into_iter().for_each(|peer| self.clock.hear(peer, unix_ms, now));
            return;
        }
        let begun = match input {
            PeerInput::Up(store, _) => Some(store),
            _ => None,
        };
        let mut said = Vec::new();
        self.replication.handle(now.mono_ms, input, &mut said);
        said.extend(begun.map(|store| PeerOutput::Send(store, PeerMessage::Clock(now.unix_ms))));
        for (from, range) in self.pass_on(said, outputs) {
            self.on_peer(now, PeerInput::Refused(from, range), outputs);
        }
    }

    pub(super) fn tick_peers(&mut self, now: Now, outputs: &mut Vec<Output>) {
        let mut said = Vec::new();
        self.replication.tick(now.mono_ms, &mut said);
        if self.next_clock_ms <= now.mono_ms {
            self.next_clock_ms = now.mono_ms + TELL_MS;
            let tell = |(store, _)| PeerOutput::Send(store, PeerMessage::Clock(now.unix_ms));
            said.extend(self.replication.sessions().map(tell));
        }
        for (from, range) in self.pass_on(said, outputs) {
            self.on_peer(now, PeerInput::Refused(from, range), outputs);
        }
    }

    /// Answers what could not be stored.
    fn pass_on(&mut self, said: Vec<PeerOutput>, outputs: &mut Vec<Output>) -> Vec<(StoreId, RunRange)> {
        let mut refused = Vec::new();
        for output in said {
            match output {
                PeerOutput::Store(fetched) => {
                    let topic = self.replication.topic_of(&fetched.range.log).cloned();
                    let s = fetched.batch.statement();
                    let may_be = self.hear_batch(s) && !self.is_full && self.counts(s);
                    let looked = Looked { is_placed: fetched.is_placed, step: fetched.looked };
                    let is_taken = may_be && self.is_in_place(&fetched.batch, looked);
                    let Fetched { from, range, batch, certificate, .. } = *fetched;
                    match topic.filter(|_| is_taken) {
                        Some(topic) => self.import(topic, batch, certificate),
                        None => refused.push((from, range)),
                    }
                }
                PeerOutput::StoreHead(topic, head, signature) => {
                    self.gather.push(Work::ForeignHead { topic, head, signature });
                }
                PeerOutput::StoreLost(topic, lost, signature) => {
                    self.gather.push(Work::ForeignLost { topic, lost, signature });
                }
                PeerOutput::StoreFork(topic, fork) => self.begin_fork(topic, fork, outputs),
                PeerOutput::Copied { ticket, holders, waited_ms } => {
                    self.on_copied(ticket, holders, waited_ms, outputs);
                }
                PeerOutput::Late { ticket, holders, available } => {
                    self.on_late(ticket, holders, available, outputs);
                }
                output if planted::is(Bug::RelaysKeepToThemselves) => {
                    outputs.extend(self.of_own(output).map(Output::Peer));
                }
                output => outputs.push(Output::Peer(output)),
            }
        }
        refused
    }

    /// What it says of our own logs: a bug put in on purpose.
    fn of_own(&self, said: PeerOutput) -> Option<PeerOutput> {
        let is_own = |log: &LogId| log.peer == self.config.peer;
        match said {
            PeerOutput::Send(to, PeerMessage::Logs { mut held, ask }) => {
                held.retain(|summary| is_own(&summary.log));
                Some(PeerOutput::Send(to, PeerMessage::Logs { held, ask }))
            }
            PeerOutput::Send(_, PeerMessage::Have(range, _)) | PeerOutput::Push { range, .. }
                if !is_own(&range.log) =>
            {
                None
            }
            said => Some(said),
        }
    }

    /// A batch that others signed, or we before this start, will be held once the step is durable.
    pub(super) fn note_foreign(&mut self, topic: &TopicName, batch: &Batch) {
        let s = batch.statement();
        let range = RunRange { log: s.log, run: s.run, from: s.first_seq, until: s.until() };
        let begin = if s.opens_run { s.first_seq } else { Seq::FIRST };
        let link = link_bits(&batch.link());
        let held = HeldRange { range, parent: s.parent, begin, link };
        self.gathered.held.push((topic.clone(), held));
        if *topic == TopicName::catalog() {
            let (mut writes, mut removals) = (Vec::new(), Vec::new());
            let walked = batch.for_each_entry(|id, time, view| {
                match view.kind {
                    EntryKind::PeerRemove => removals.extend(SignedRemoval::decode(view.payload).ok()),
                    EntryKind::TopicSet | EntryKind::TopicDelete => {
                        writes.extend(CatalogWrite::decode(view.payload).map(|write| (id, time, write)));
                    }
                    _ => {}
                }
                true
            });
            // It was verified: its entries can be walked.
            if walked.is_ok() {
                self.gathered.catalog.extend(writes);
                if s.log.peer == self.config.peer {
                    self.gathered.said.extend(removals.iter().map(content_of));
                }
                self.gathered.removals.extend(removals);
            }
        }
    }

    /// Numbered entries of our own will be held once the step is durable.
    pub(super) fn note_own(&mut self, topic: &TopicName, range: RunRange, parent: RunId, begin: Seq) {
        if let Some((_, last)) = self.gathered.held.last_mut()
            && (last.range.log, last.range.run, last.range.until) == (range.log, range.run, range.from)
        {
            last.range.until = range.until;
            return;
        }
        let held = HeldRange { range, parent, begin, link: 0 };
        self.gathered.held.push((topic.clone(), held));
    }

    pub(super) fn tell_held(
        &mut self,
        now: Now,
        held: Vec<(TopicName, HeldRange)>,
        outputs: &mut Vec<Output>,
    ) {
        for (topic, range) in held {
            self.on_peer(now, PeerInput::Held(topic, range), outputs);
        }
    }

    pub(super) fn tell_stated(&mut self, now: Now, stated: Vec<HeldStatement>, outputs: &mut Vec<Output>) {
        for statement in stated {
            let input = match statement {
                HeldStatement::Head(topic, head, signature) => PeerInput::HeldHead(topic, head, signature),
                HeldStatement::Lost(topic, lost, signature) => PeerInput::HeldLost(topic, lost, signature),
                HeldStatement::Fork(topic, fork) => {
                    self.on_peer(now, PeerInput::HeldFork(topic, fork.clone()), outputs);
                    self.end_fork(now, &fork, outputs);
                    continue;
                }
            };
            self.on_peer(now, input, outputs);
        }
    }

    /// What another peer's administrator deleted: of our own log the runs that are named, and what they go on from, up to
    /// where they were known there. What we wrote beside them stays. Where numbers are named that we have not given yet, the
    /// run is left, so that what we write later is not deleted before it is there.
    pub(super) fn trim_deleted(&mut self, now: Now, id: EntryId, write: &CatalogWrite) {
        if id.peer == self.config.peer {
            return;
        }
        let topic = self.log_id(&write.topic).topic;
        for end in &write.until {
            let log = LogId { topic, peer: end.peer };
            if let Some(own) = self.own.get_mut(&log)
                && !planted::is(Bug::DeletionsReachAhead)
                && own.hear(end.run, end.until, true)
            {
                let (topic, until) = (&write.topic, end.until);
                tracing::warn!(%topic, %until, by = %id.peer.short(), "a deletion names entries that are not written yet");
            }
            self.trim_own(now, LogId { topic, peer: end.peer }, Some(end.run), end.until);
        }
    }

    /// Whether a batch with these entries was asked of a store, and is still lacking.
    pub fn wants(&self, from: StoreId, range: &RunRange) -> bool {
        self.replication.wants(from, range)
    }
}
