//! The engine's state and its one door: [`Node::handle`].
use crate::base::limits::DELIVER_AHEAD_MS_MAX;
use crate::base::{
    AppendWork, Batch, Chunk, Durability, EntryId, LogId, Now, PeerId, Retention, RunId, Seq, Step,
    Timestamp, TopicId, TopicName, TopicSettings, Work,
};
use crate::node::clock::ClockGuard;
use crate::node::config::NodeConfig;
use crate::node::gather::Gather;
use crate::node::memory::Memory;
use crate::node::own_log::{OwnLog, Tip};
use crate::node::topics::HeldTopic;
use crate::topic::catalog::{Catalog, CatalogWrite};
use crate::topic::producers::{Known, Producers, Remembered, numbers_of};
use crate::wire::outcome::{AppendError, Appended, ClockState, TopicChange, TopicChanged, TopicError};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Who waits for an answer: a number that the runtime chose.
pub type Ticket = u64;

/// What comes in.
#[derive(Debug)]
pub enum Input {
    /// Entries to append.
    Append {
        /// Who asks.
        ticket: Ticket,
        /// The topic.
        topic: TopicName,
        /// How durable; `None`: as the topic says.
        durability: Option<Durability>,
        /// The entries, checked.
        chunk: Chunk,
    },
    /// A change to the catalog.
    Change {
        /// Who asks.
        ticket: Ticket,
        /// The change.
        change: TopicChange,
        /// What is held of that topic now.
        held: HeldTopic,
    },
    /// A batch that was signed elsewhere or earlier, verified.
    Import {
        /// Who asks.
        ticket: Ticket,
        /// The topic's name.
        topic: TopicName,
        /// The batch.
        batch: Batch,
        /// The certificate of its peer, if it is not known here yet.
        certificate: Option<Arc<[u8]>>,
    },
    /// The writer has room for a step.
    CloseStep,
    /// A step is on the disk.
    Durable {
        /// Its number.
        step: u64,
    },
    /// A step was not written because the disk is full; nor is any later one.
    Refused {
        /// Its number.
        step: u64,
    },
    /// How much room the disk has.
    Space {
        /// Free bytes.
        free_bytes: u64,
    },
    /// What retention leaves of one of our logs.
    Planned {
        /// The log.
        log: LogId,
        /// The first number to keep.
        start: Seq,
    },
    /// An administrator says that the clock is right.
    AcceptClock,
    /// Time has passed.
    Tick,
}

/// What an answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To an append.
    Appended(Result<Appended, AppendError>),
    /// To a change of the catalog.
    Changed(Result<TopicChanged, TopicError>),
    /// To an import: whether it was taken, which it is not while the disk is full.
    Imported(bool),
}

/// What an answer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Release {
    /// Nothing: it speaks of what is durable already, or of nothing.
    Now,
    /// That this step is written.
    Written(u64),
    /// That this step is durable.
    Durable(u64),
}

/// What goes out.
#[derive(Debug)]
pub enum Output {
    /// An answer.
    Answer {
        /// To whom.
        ticket: Ticket,
        /// What it waits for.
        release: Release,
        /// What it says.
        answer: Answer,
    },
    /// To be sealed and written.
    Step(Step),
    /// Find out what retention leaves of this log.
    Plan {
        /// The log.
        log: LogId,
        /// What it keeps.
        retention: Retention,
        /// Entries before this are too old; `None` while the clock may not decide.
        before: Option<Timestamp>,
    },
    /// The settings of topics changed.
    CatalogChanged,
}

/// The engine of one peer.
pub struct Node {
    pub(super) config: NodeConfig,
    entropy: Box<dyn FnMut() -> u64 + Send>,
    clock: ClockGuard,
    pub(super) catalog: Catalog,
    producers: BTreeMap<TopicId, Producers>,
    own: BTreeMap<LogId, OwnLog>,
    pub(super) gather: Gather,
    /// The number of the step that is being gathered.
    pub(super) step: u64,
    durable: u64,
    /// What is believed once a step is durable.
    in_flight: VecDeque<(u64, Believed)>,
    gathered: Believed,
    free_bytes: u64,
    is_full: bool,
    next_plan_ms: u64,
}

/// What a step makes true once it is durable.
#[derive(Debug, Default)]
pub(super) struct Believed {
    tips: BTreeMap<LogId, Tip>,
    pub(super) catalog: Vec<(EntryId, Timestamp, CatalogWrite)>,
}

impl Node {
    /// An engine that remembers `memory`. `entropy` draws 64 random bits from the operating system (in simulation, from
    /// the seed); `found` is where each of our own logs ends.
    pub fn new(
        config: NodeConfig,
        memory: Memory,
        found: impl Iterator<Item = (LogId, TopicName, Tip)>,
        entropy: Box<dyn FnMut() -> u64 + Send>,
    ) -> Self {
        let own: BTreeMap<LogId, OwnLog> =
            found.map(|(id, topic, tip)| (id, OwnLog::new(id, topic, tip))).collect();
        let last_written = own.values().map(|log| log.durable().last_time.ms()).max().unwrap_or(0);
        let persisted_ms = if memory.unix_ms > 0 { memory.unix_ms.max(last_written) } else { last_written };
        Self {
            clock: ClockGuard::new(config.skew_ms_max, config.clock_settle_ms, persisted_ms),
            config,
            entropy,
            catalog: Catalog::default(),
            producers: memory.producers,
            own,
            gather: Gather::default(),
            step: 1,
            durable: 0,
            in_flight: VecDeque::new(),
            gathered: Believed::default(),
            free_bytes: u64::MAX,
            is_full: false,
            next_plan_ms: 0,
        }
    }

    /// Takes in an entry of `$catalog` that was found on opening.
    pub fn recall_catalog(&mut self, id: EntryId, time: Timestamp, payload: &[u8]) {
        if self.catalog.apply(id, time, payload).is_none() {
            tracing::warn!(entry = ?id, "an entry of $catalog makes no sense here and was left out");
        }
    }

    /// Takes in a chunk that was found in the journal on opening: `producers` as its entries say.
    pub fn recall_chunk(
        &mut self,
        topic: TopicId,
        producers: &[(crate::base::ProducerId, u64)],
        found: Remembered,
    ) {
        if let Some((producer, number)) = numbers_of(producers) {
            let chunk = Remembered { number, ..found };
            self.producers.entry(topic).or_default().add(producer, chunk);
        }
    }

    /// Takes in one input; what follows from it is added to `outputs`.
    pub fn handle(&mut self, now: Now, input: Input, outputs: &mut Vec<Output>) {
        match input {
            Input::Append { ticket, topic, durability, chunk } => {
                let (release, answer) = match self.append(now, topic, durability, chunk) {
                    Ok((release, appended)) => (release, Ok(appended)),
                    Err(error) => (Release::Now, Err(error)),
                };
                outputs.push(Output::Answer { ticket, release, answer: Answer::Appended(answer) });
            }
            Input::Change { ticket, change, held } => {
                let (release, answer) = match self.change(now, change, &held) {
                    Ok(changed) => (Release::Durable(self.step), Ok(changed)),
                    Err(error) => (Release::Now, Err(error)),
                };
                outputs.push(Output::Answer { ticket, release, answer: Answer::Changed(answer) });
            }
            Input::Import { ticket, .. } if self.is_full => {
                let (release, answer) = (Release::Now, Answer::Imported(false));
                outputs.push(Output::Answer { ticket, release, answer });
            }
            Input::Import { ticket, topic, batch, certificate } => {
                let peer = batch.statement().log.peer;
                if let Some(der) = certificate {
                    self.gather.push(Work::Certificate { peer, der });
                }
                self.gather.push(Work::Foreign { topic, batch });
                let release = Release::Durable(self.step);
                outputs.push(Output::Answer { ticket, release, answer: Answer::Imported(true) });
            }
            Input::CloseStep => self.close_step(outputs),
            Input::Durable { step } => self.believe(step, outputs),
            Input::Refused { step } => self.roll_back(step),
            Input::Space { free_bytes } => {
                self.free_bytes = free_bytes;
                self.is_full = free_bytes < self.config.disk_reserve_bytes;
            }
            Input::Planned { log, start } => {
                let time = Timestamp::from_ms(now.unix_ms);
                self.gather.push(Work::Trim { log, start, time });
            }
            Input::AcceptClock => self.clock.accept(),
            Input::Tick => self.tick(now, outputs),
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

    /// Whether no more should be taken in before a step is closed.
    pub fn is_full(&self) -> bool {
        self.gather.is_full()
    }

    /// Whether the disk is too full for appends.
    pub fn is_disk_full(&self) -> bool {
        self.is_full
    }

    /// Whether the clock may decide.
    pub fn clock_state(&self) -> ClockState {
        self.clock.state()
    }

    /// The settings that someone made, by topic.
    pub fn configured(&self) -> BTreeMap<TopicName, TopicSettings> {
        self.catalog.configured().map(|(name, settings)| (name.clone(), settings)).collect()
    }

    /// What to remember across starts.
    pub fn memory(&self) -> Vec<u8> {
        Memory::encode(self.clock.persisted_ms(), &self.producers)
    }

    /// The settings of `topic`: those set, or the defaults.
    pub fn settings(&self, topic: &TopicName) -> TopicSettings {
        if topic.is_system() {
            return TopicSettings::default();
        }
        self.catalog.settings(topic).unwrap_or(self.config.defaults)
    }

    pub(super) fn log_id(&self, topic: &TopicName) -> LogId {
        LogId { topic: TopicId::of(self.config.cluster, topic.as_str()), peer: self.config.peer }
    }

    fn append(
        &mut self,
        now: Now,
        topic: TopicName,
        durability: Option<Durability>,
        chunk: Chunk,
    ) -> Result<(Release, Appended), AppendError> {
        let settings = self.settings(&topic);
        let level = durability.unwrap_or(settings.durability);
        self.check_append(now, &topic, level, &chunk)?;
        let log = self.log_id(&topic);
        let count = chunk.header().entry_count;
        let numbers = numbers_of(&chunk.facts().producers);
        if let Some((producer, number)) = numbers {
            match self.producers.get(&log.topic).map_or(Known::New, |p| p.look(producer, number, count)) {
                Known::New => {}
                Known::Repeat(found) => return Ok(self.repeat(found, level)),
                Known::Mixed => return Err(AppendError::ProducerMixed { number }),
                Known::Forgotten => return Err(AppendError::ProducerForgotten { number }),
            }
        }
        let is_buffered = settings.durability == Durability::Buffered;
        let must_sync = level != Durability::Buffered || !is_buffered;
        let appended = self.number(now, topic, log, chunk, is_buffered, must_sync);
        if let Some((producer, number)) = numbers {
            let found = Remembered {
                number,
                count,
                run: appended.run,
                first_seq: appended.first_seq,
                first_time: appended.first_time,
                step: self.step,
            };
            self.producers.entry(log.topic).or_default().add(producer, found);
        }
        let release = if level == Durability::Buffered {
            Release::Written(self.step)
        } else {
            Release::Durable(self.step)
        };
        Ok((release, appended))
    }

    fn check_append(
        &self,
        now: Now,
        topic: &TopicName,
        level: Durability,
        chunk: &Chunk,
    ) -> Result<(), AppendError> {
        let facts = chunk.facts();
        if !facts.is_data {
            return Err(AppendError::Kind);
        }
        if let Durability::Replicas(asked) = level
            && asked > 1
        {
            return Err(AppendError::Replicas { asked, available: 1 });
        }
        let ahead_ms = facts.deliver_at_ms_max.unwrap_or(0).saturating_sub(now.unix_ms);
        if ahead_ms > DELIVER_AHEAD_MS_MAX {
            return Err(AppendError::DeliverAt { ahead_ms });
        }
        if self.is_full {
            let (free_bytes, reserve_bytes) = (self.free_bytes, self.config.disk_reserve_bytes);
            return Err(AppendError::DiskFull { free_bytes, reserve_bytes });
        }
        if !self.config.auto_create && !self.exists(topic) {
            return Err(AppendError::TopicUnknown { topic: topic.clone() });
        }
        Ok(())
    }

    /// Whether someone made the topic, or it took entries and was not deleted since.
    fn exists(&self, topic: &TopicName) -> bool {
        let took_entries = || {
            let own = self.own.get(&self.log_id(topic))?;
            let deleted_until = self.catalog.deleted_until(topic, self.config.peer);
            deleted_until.is_none_or(|until| until < own.until()).then_some(())
        };
        self.catalog.settings(topic).is_some() || took_entries().is_some()
    }

    fn repeat(&self, found: Remembered, level: Durability) -> (Release, Appended) {
        let appended = Appended {
            peer: self.config.peer,
            run: found.run,
            first_seq: found.first_seq,
            first_time: found.first_time,
            count: found.count,
            is_repeat: true,
        };
        let release = match level {
            _ if found.step <= self.durable => Release::Now,
            Durability::Buffered => Release::Written(found.step),
            _ => Release::Durable(found.step),
        };
        (release, appended)
    }

    /// Numbers and stamps a chunk and puts it into the step that is being gathered.
    pub(super) fn number(
        &mut self,
        now: Now,
        topic: TopicName,
        log: LogId,
        chunk: Chunk,
        is_buffered: bool,
        must_sync: bool,
    ) -> Appended {
        let count = chunk.header().entry_count;
        let goes_on = self.gather.has_open(&log);
        let own = self.own.entry(log).or_insert_with(|| OwnLog::new(log, topic.clone(), Tip::default()));
        let entropy = &mut self.entropy;
        let n = own.number(now, count, goes_on, self.config.skew_ms_max, || draw_run(entropy));
        self.gathered.tips.insert(log, own.tip());
        let (run, parent, opens_run) = (n.run, n.parent, n.opens_run);
        let (first_seq, first_time) = (n.first_seq, n.first_time);
        let chunks = Vec::new();
        let work = AppendWork {
            topic,
            log,
            run,
            parent,
            opens_run,
            first_seq,
            first_time,
            chunks,
            is_buffered,
            must_sync,
        };
        self.gather.append(work, chunk);
        Appended { peer: self.config.peer, run, first_seq, first_time, count, is_repeat: false }
    }

    pub(super) fn remember_catalog(&mut self, id: EntryId, time: Timestamp, write: CatalogWrite) {
        self.gathered.catalog.push((id, time, write));
    }

    /// Whether a change about `topic` is on its way to the disk.
    pub(super) fn is_changing(&self, topic: &TopicName) -> bool {
        let waiting = self.in_flight.iter().map(|(_, believed)| believed).chain([&self.gathered]);
        waiting.flat_map(|believed| &believed.catalog).any(|(_, _, write)| write.topic == *topic)
    }

    /// The next number of one of our own logs.
    pub(super) fn own_until(&self, log: &LogId) -> Seq {
        self.own.get(log).map_or(Seq::FIRST, OwnLog::until)
    }

    fn close_step(&mut self, outputs: &mut Vec<Output>) {
        if self.gather.is_empty() {
            return;
        }
        outputs.push(Output::Step(Step { number: self.step, work: self.gather.take() }));
        self.in_flight.push_back((self.step, std::mem::take(&mut self.gathered)));
        self.step += 1;
    }

    fn believe(&mut self, step: u64, outputs: &mut Vec<Output>) {
        assert!(step > self.durable, "steps become durable in order");
        self.durable = step;
        let is_done = |flight: &mut (u64, Believed)| flight.0 <= step;
        while let Some((_, believed)) = self.in_flight.pop_front_if(is_done) {
            for (log, tip) in believed.tips {
                if let Some(own) = self.own.get_mut(&log) {
                    own.set_durable(tip);
                }
            }
            if !believed.catalog.is_empty() {
                outputs.push(Output::CatalogChanged);
            }
            for (id, time, write) in believed.catalog {
                self.catalog.apply_write(id, time, write);
            }
        }
    }

    /// Nothing from `step` on was written, nor will be: numbers go on from what is durable, in new runs.
    fn roll_back(&mut self, step: u64) {
        self.is_full = true;
        self.free_bytes = 0;
        self.gather.take();
        self.gathered = Believed::default();
        self.in_flight.clear();
        self.own.values_mut().for_each(OwnLog::roll_back);
        self.own.retain(|_, log| log.durable().run.is_some());
        self.producers.values_mut().for_each(|producers| producers.forget_from(step));
        // Answers that wait for the step being gathered are failed with those before it.
        self.step += 1;
    }

    fn tick(&mut self, now: Now, outputs: &mut Vec<Output>) {
        self.clock.observe(now);
        if now.mono_ms < self.next_plan_ms {
            return;
        }
        self.next_plan_ms = now.mono_ms + self.config.retention_interval_ms;
        let is_trusted = self.clock.state() == ClockState::Trusted;
        for (log, own) in &self.own {
            let settings = self.settings(&own.topic);
            if !settings.retention.keeps_all() {
                let age = settings.retention.age_ms.filter(|_| is_trusted);
                let before = age.map(|age_ms| Timestamp::from_ms(now.unix_ms.saturating_sub(age_ms)));
                outputs.push(Output::Plan { log: *log, retention: settings.retention, before });
            }
        }
    }

    /// Who this is.
    pub fn peer(&self) -> PeerId {
        self.config.peer
    }
}

fn draw_run(entropy: &mut Box<dyn FnMut() -> u64 + Send>) -> RunId {
    // One draw in 2^64 is zero, which names no run.
    std::iter::repeat_with(entropy).map(RunId).find(|run| run.is_some()).unwrap_or(RunId(1))
}
