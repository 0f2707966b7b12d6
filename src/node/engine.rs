//! The engine's state and its one door: [`Node::handle`].
use crate::base::planted::{self, Bug};
use crate::base::{
    Batch, Digest, Durability, EntryId, LogId, Now, PeerId, Seq, SignedRemoval, Step, StoreId, Timestamp,
    TopicId, TopicName, TopicSettings, Work,
};
use crate::node::clock::ClockGuard;
use crate::node::config::NodeConfig;
use crate::node::copies::Awaits;
use crate::node::forks::Forks;
use crate::node::gather::Gather;
use crate::node::io::{Answer, HeldStatement, Input, Looked, Output, Release, Ticket};
use crate::node::memory::Memory;
use crate::node::own_log::{OwnLog, Tip};
use crate::node::probe::Probes;
use crate::node::removals::Said;
use crate::replication::held::{Ends, HeldRange};
use crate::replication::{PeerInput, Replication};
use crate::topic::catalog::{Catalog, CatalogWrite};
use crate::topic::producers::Producers;
use crate::wire::outcome::ImportError;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// The engine of one peer.
pub struct Node {
    pub(super) config: NodeConfig,
    pub(super) entropy: Box<dyn FnMut() -> u64 + Send>,
    pub(super) clock: ClockGuard,
    pub(super) catalog: Catalog,
    pub(super) producers: Producers,
    pub(super) replication: Replication,
    pub(super) own: BTreeMap<LogId, OwnLog>,
    pub(super) gather: Gather,
    /// The number of the step that is being gathered.
    pub(super) step: u64,
    pub(super) durable: u64,
    /// What is believed once a step is durable.
    pub(super) in_flight: VecDeque<(u64, Believed)>,
    pub(super) gathered: Believed,
    /// Appends that are durable here and wait for other peers.
    pub(super) awaiting: BTreeMap<Ticket, Awaits>,
    pub(super) free_bytes: u64,
    pub(super) is_full: bool,
    pub(super) next_plan_ms: u64,
    /// When others are told next what our clock shows.
    pub(super) next_clock_ms: u64,
    /// Whether entries that are ours to trim came from others since that was asked last.
    pub(super) came_back: bool,
    /// Whether the catalog is to be read again: we became the successor of a removed peer, or entries of it do not count
    /// any more.
    pub(super) is_catalog_old: bool,
    /// Removals that count, and which of them our own log says.
    pub(super) said: Said,
    pub(super) forks: Forks,
    pub(super) probes: Probes,
}

/// What a step makes true once it is durable.
#[derive(Debug, Default)]
pub(super) struct Believed {
    pub(super) tips: BTreeMap<LogId, Tip>,
    pub(super) catalog: Vec<(EntryId, Timestamp, CatalogWrite)>,
    /// Removals among its entries; whether they are signed is still to be checked.
    pub(super) removals: Vec<SignedRemoval>,
    /// Removals that are entries of our own log then.
    pub(super) said: Vec<Digest>,
    /// Whether entries come that may be deleted already, and are ours to trim.
    pub(super) may_be_deleted: bool,
    /// What is held then.
    pub(super) held: Vec<(TopicName, HeldRange)>,
    /// Appends that wait for other peers from then on.
    pub(super) awaits: Vec<Awaits>,
}

impl Node {
    /// An engine that remembers `memory`. `entropy` draws 64 random bits from the operating system (in simulation, from
    /// the seed); `found` is where each of our own logs ends.
    pub fn new(
        config: NodeConfig,
        store: StoreId,
        memory: Memory,
        found: impl Iterator<Item = (LogId, TopicName, Tip)>,
        entropy: Box<dyn FnMut() -> u64 + Send>,
    ) -> Self {
        let own: BTreeMap<LogId, OwnLog> =
            found.map(|(id, topic, tip)| (id, OwnLog::new(id, topic, tip))).collect();
        let clock = ClockGuard::new(
            config.skew_ms_max,
            config.clock_settle_ms,
            memory.unix_ms,
            memory.accepted_ms,
            own.values().map(OwnLog::written_ms),
        );
        Self {
            replication: Replication::new(config.replication, config.cluster, store),
            clock,
            catalog: Catalog::new(config.peer),
            config,
            entropy,
            producers: memory.producers,
            own,
            gather: Gather::default(),
            step: 1,
            durable: 0,
            in_flight: VecDeque::new(),
            gathered: Believed::default(),
            awaiting: BTreeMap::new(),
            free_bytes: u64::MAX,
            is_full: false,
            next_plan_ms: 0,
            next_clock_ms: 0,
            came_back: false,
            is_catalog_old: false,
            said: Said::default(),
            forks: Forks::default(),
            probes: Probes::default(),
        }
    }

    /// Takes in an entry of `$catalog` that was found on opening.
    pub fn recall_catalog(&mut self, id: EntryId, time: Timestamp, payload: &[u8]) {
        if self.catalog.apply(id, time, payload).is_none() {
            tracing::warn!(entry = ?id, "an entry of $catalog makes no sense here and was left out");
        }
    }

    /// Takes in one input; what follows from it is added to `outputs`.
    pub fn handle(&mut self, now: Now, input: Input, outputs: &mut Vec<Output>) {
        match input {
            Input::Append { ticket, topic, durability, chunk } => {
                if let Some((release, answer)) = self.append(now, ticket, topic, durability, chunk) {
                    outputs.push(Output::Answer { ticket, release, answer: Answer::Appended(answer) });
                }
            }
            Input::Change { ticket, change, held } => {
                let changed = self.change(now, change, &held);
                outputs.push(self.answer_change(ticket, changed));
            }
            Input::Import { ticket, topic, batch, looked, certificate } => {
                let answer = self.check_import(&batch, looked);
                let release = if answer.is_ok() { Release::Durable(self.step) } else { Release::Now };
                if answer.is_ok() {
                    self.import(topic, batch, certificate);
                }
                outputs.push(Output::Answer { ticket, release, answer: Answer::Imported(answer) });
            }
            Input::CloseStep => {
                if planted::is(Bug::HaveBeforeDurable) {
                    let held = self.gathered.held.clone();
                    self.tell_held(now, held, outputs);
                }
                self.close_step(outputs);
            }
            Input::Durable { step, stated, ends, moved } => {
                self.believe(now, step, stated, &ends, outputs);
                moved.into_iter().for_each(|(log, run, of)| self.replication.move_run(log, run, of));
            }
            Input::Fork { topic, fork } => self.begin_fork(topic, fork, outputs),
            Input::Forked { fork, found } => self.on_forked(&fork, found, outputs),
            Input::Peer(input) => self.on_peer(now, input, outputs),
            Input::Refused { step } => {
                self.roll_back(step, outputs);
                self.on_peer(now, PeerInput::Forget, outputs);
            }
            Input::Space { free_bytes } => {
                self.free_bytes = free_bytes;
                self.is_full = free_bytes < self.config.disk_reserve_bytes;
            }
            Input::Planned { .. } if self.is_full && planted::is(Bug::FullDiskTakesNoTrims) => {}
            // The clock was believed when this was asked, and is not any more.
            Input::Planned { is_dated: true, .. } if !self.trusts_clock(now) => {}
            Input::Planned { log, run, start, .. } => self.trim_own(now, log, run, start),
            Input::Remove { ticket, removal } => {
                let taken = self.take_removal(now, &removal);
                outputs.push(self.answer_change(ticket, taken));
            }
            Input::Removed(signed) => self.remove(now, &signed, outputs),
            Input::Probe { ticket, wait_ms } => self.probe(now, ticket, wait_ms, outputs),
            Input::AcceptClock => self.clock.accept(self.own.values().map(OwnLog::written_ms)),
            Input::Tick => {
                self.tick(now, outputs);
                self.tick_peers(now, outputs);
            }
        }
    }

    /// When [`Input::Tick`] is wanted next.
    pub fn next_wake(&self, now: Now) -> Now {
        Now { mono_ms: now.mono_ms + 1000, ..now }
    }

    /// Whether a step could be closed.
    pub fn has_work(&self) -> bool {
        !self.gather.is_empty()
    }

    /// The number of the step that is being gathered, or will be.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Whether entries of `topic` go straight to their segment.
    pub fn is_buffered(&self, topic: &TopicName) -> bool {
        self.settings(topic).durability == Durability::Buffered
    }

    /// Whether entries of one of our own logs are in the step that is being gathered.
    pub fn gathers(&self, log: &LogId) -> bool {
        self.gather.has_open(log)
    }

    /// The last step that is durable.
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// What the step that is being gathered takes in memory.
    pub fn gathered_bytes(&self) -> usize {
        self.gather.bytes()
    }

    /// Whether no more should be taken in before a step is closed.
    pub fn is_full(&self) -> bool {
        self.gather.is_full()
    }

    /// Whether the disk is too full for appends.
    pub fn is_disk_full(&self) -> bool {
        self.is_full
    }

    /// The settings that someone made, by topic.
    pub fn configured(&self) -> BTreeMap<TopicName, TopicSettings> {
        self.catalog.configured().map(|(name, settings)| (name.clone(), settings)).collect()
    }

    /// What to remember across starts.
    pub fn memory(&self) -> Memory {
        let (unix_ms, accepted_ms) = (self.clock.persisted_ms(), self.clock.accepted_ms());
        Memory { unix_ms, accepted_ms, producers: self.producers.clone() }
    }

    /// The settings of `topic`: those set, or the defaults.
    pub fn settings(&self, topic: &TopicName) -> TopicSettings {
        if topic.is_system() {
            return TopicSettings::default();
        }
        self.catalog.settings(topic).unwrap_or(self.config.defaults)
    }

    /// Our own log of a topic.
    pub fn log_id(&self, topic: &TopicName) -> LogId {
        LogId { topic: TopicId::of(self.config.cluster, topic.as_str()), peer: self.config.peer }
    }

    /// The next number of one of our own logs.
    pub(super) fn own_until(&self, log: &LogId) -> Seq {
        self.own.get(log).map_or(Seq::FIRST, OwnLog::until)
    }

    /// Whether a batch that somebody hands in may be stored. A run of ours that it shows to be written elsewhere too is left.
    fn check_import(&mut self, batch: &Batch, looked: Looked) -> Result<(), ImportError> {
        let s = batch.statement();
        if !self.counts(s) {
            return Err(ImportError::Removed { run: s.run, first_seq: s.first_seq });
        }
        let is_free = self.hear_batch(s);
        match (self.is_full, is_free) {
            (true, _) => {
                let (free_bytes, reserve_bytes) = (self.free_bytes, self.config.disk_reserve_bytes);
                Err(ImportError::DiskFull { free_bytes, reserve_bytes })
            }
            (false, false) => Err(ImportError::Collides { run: s.run, first_seq: s.first_seq }),
            (false, true) if self.is_in_place(batch, looked) => Ok(()),
            (false, true) => Err(ImportError::Forked),
        }
    }

    /// Takes over a batch. One of our own, from before a restore, is gone on from: numbers never go back.
    pub(super) fn import(&mut self, topic: TopicName, batch: Batch, certificate: Option<Arc<[u8]>>) {
        let log = batch.statement().log;
        if let Some(der) = certificate {
            self.gather.push(Work::Certificate { peer: log.peer, der });
        }
        self.gathered.may_be_deleted |= self.may_trim(log.peer);
        if log.peer == self.config.peer {
            self.clock.come_back(batch.statement().last_time().ms());
            let new = || OwnLog::new(log, topic.clone(), Tip::default());
            let end = self.end_behind(batch.statement());
            let own = self.own.entry(log).or_insert_with(new);
            if own.go_on_from(batch.statement(), end) {
                self.gathered.tips.insert(log, own.tip());
            }
        }
        self.note_foreign(&topic, &batch);
        self.gather.push(Work::Foreign { topic, batch });
    }

    fn close_step(&mut self, outputs: &mut Vec<Output>) {
        if self.gather.is_empty() {
            return;
        }
        outputs.push(Output::Step(Step { number: self.step, work: self.gather.take() }));
        self.in_flight.push_back((self.step, std::mem::take(&mut self.gathered)));
        self.step += 1;
    }

    fn believe(
        &mut self,
        now: Now,
        step: u64,
        stated: Vec<HeldStatement>,
        ends: &Ends,
        outputs: &mut Vec<Output>,
    ) {
        assert!(step > self.durable, "steps become durable in order");
        self.durable = step;
        // What became of a run that forked says what of its branches counts.
        let (forks, stated): (Vec<_>, Vec<_>) =
            stated.into_iter().partition(|stated| matches!(stated, HeldStatement::Fork(..)));
        self.tell_stated(now, forks, outputs);
        let is_done = |flight: &mut (u64, Believed)| flight.0 <= step;
        while let Some((_, mut believed)) = self.in_flight.pop_front_if(is_done) {
            for (log, tip) in believed.tips {
                if let Some(own) = self.own.get_mut(&log) {
                    own.set_durable(tip);
                }
            }
            let (mut changed, mut deleted) = (Vec::new(), Vec::new());
            for (id, time, write) in believed.catalog {
                deleted.push((write.topic.clone(), write.until.clone()));
                self.trim_deleted(now, id, &write);
                let topic = write.topic.clone();
                self.catalog.apply_write(id, time, write);
                changed.push((topic.clone(), self.catalog.settings(&topic)));
            }
            if !changed.is_empty() {
                outputs.push(Output::CatalogChanged(changed));
            }
            self.came_back |= believed.may_be_deleted;
            self.said.believe(believed.said);
            let check = |removal| Output::CheckRemoval(Box::new(removal));
            outputs.extend(believed.removals.into_iter().map(check));
            believed.held.iter_mut().for_each(|(_, held)| held.end_with(ends));
            self.tell_held(now, believed.held, outputs);
            deleted.into_iter().for_each(|(topic, ends)| self.forget_producers(&topic, &ends));
            self.await_copies(now, believed.awaits, outputs);
            self.replication.note_ends(ends);
        }
        self.tell_stated(now, stated, outputs);
        self.go_on_forking(outputs);
    }

    /// Nothing from `step` on was written, nor will be: numbers go on from what is durable, in new runs.
    fn roll_back(&mut self, step: u64, outputs: &mut Vec<Output>) {
        self.is_full = true;
        self.free_bytes = 0;
        self.gather.take();
        let gathered = std::mem::take(&mut self.gathered);
        let refused = std::mem::take(&mut self.in_flight).into_iter().map(|(_, believed)| believed);
        let awaits = refused.chain([gathered]).flat_map(|believed| believed.awaits).collect();
        self.refuse_awaits(awaits, outputs);
        self.own.values_mut().for_each(OwnLog::roll_back);
        self.own.retain(|_, log| log.durable().run.is_some() || log.has_opened());
        self.producers.forget_from(step);
        self.forget_forks();
        // Answers that wait for the step being gathered are failed with those before it.
        self.step += 1;
    }

    /// Who this is.
    pub fn peer(&self) -> PeerId {
        self.config.peer
    }
}
