//! Disk work as jobs: each tells the core what became of it.
use crate::base::{Fork, LogId, Retention, Step, StoreId, Timestamp, TopicName};
use crate::disk::Lane;
use crate::log::journal::Slots;
use crate::log::scrub::Piece;
use crate::log::set_aside::Changed;
use crate::log::writer::{Rotation, StepDone};
use crate::log::{Scrub, SealedStep, Sealer, Store, WriteError, Writer, flush, retention};
use crate::node::Behind;
use crate::node::memory::Memory;
use crate::replication::Fetched;
use crate::runtime::forks::{Asked, Compared, Verdict};
use crate::runtime::shared::{Shared, lock};
use bytes::Bytes;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;

/// What comes back from the lanes.
pub(super) enum Event {
    /// A step is with the operating system.
    Written { step: u64 },
    /// A step is done, or not, since when.
    StepDone { step: u64, result: Result<StepDone, WriteError>, at: Instant },
    /// The journal says how far it is synced.
    Marked(Result<Option<Rotation>, WriteError>),
    /// What was trimmed is removed, or not; whether some of it waits for a checkpoint.
    Discarded(io::Result<bool>),
    /// A large entry is on the disk before its step, or not.
    Prewritten { log: LogId, result: io::Result<()> },
    /// Everything is durable for a clean stop, or not.
    Finished(Result<(), WriteError>),
    /// Batches were brought into their segments, or not.
    Flushed(io::Result<()>),
    /// A checkpoint was written, or not.
    Checkpointed(io::Result<()>),
    /// What retention leaves, and whether it was asked what is too old.
    Planned { log: LogId, is_dated: bool, result: io::Result<Vec<retention::Kept>> },
    /// Room on the disk.
    Space(io::Result<u64>),
    /// A batch of another store was checked: whether it is good, and where it belongs.
    Verified(Box<Fetched>, Verdict),
    /// A store was told what was signed of a batch.
    Told(StoreId),
    /// What a store told of a batch was compared with what is here.
    Compared(StoreId, Asked, Compared),
    /// What is held of a run behind its fork was read.
    LookedBehind(Box<Fork>, Behind),
    /// What a store asked for was sent to it, as far as there was room.
    Served(StoreId),
    /// A piece of what is stored was read again.
    Scrubbed(Piece),
    /// The logs of a removed peer end where its removal says: what that changed.
    Left(Vec<(LogId, Changed)>),
}

/// Starts jobs and has them answer to the core.
#[derive(Clone)]
pub(super) struct Jobs {
    pub(super) shared: Arc<Shared>,
    pub(super) events: UnboundedSender<Event>,
    pub(super) slots: Arc<Mutex<Slots>>,
    pub(super) sealer: Arc<Sealer>,
    /// Held by one job at a time, in the sync lane.
    pub(super) writer: Arc<Mutex<Writer>>,
    /// Held by one job at a time, in the scrub lane.
    pub(super) scrub: Arc<Mutex<Scrub>>,
}

impl Jobs {
    fn run(&self, lane: Lane, job: impl FnOnce(&Store) -> Event + Send + 'static) {
        let (events, store) = (self.events.clone(), self.shared.store.clone());
        // Without a core there is nobody to tell: the peer was dropped.
        self.shared.io().run(lane, Box::new(move || drop(events.send(job(&store)))));
    }

    /// Seals a step and writes it.
    pub(super) fn write(&self, step: Step) {
        let jobs = self.clone();
        self.run(Lane::Sync, move |_| jobs.commit(jobs.seal(step)));
    }

    /// Seals a step while the one before it is being synced, and writes it behind that one.
    pub(super) fn write_next(&self, step: Step) {
        let (jobs, lane) = (self.clone(), self.clone());
        let seal = move || {
            let sealed = jobs.seal(step);
            lane.run(Lane::Sync, move |_| jobs.commit(sealed));
        };
        self.shared.io().run(Lane::Seal, Box::new(seal));
    }

    fn seal(&self, step: Step) -> SealedStep {
        let since = Instant::now();
        let sealed = self.sealer.seal(step);
        self.shared.steps.seal.add(since.elapsed());
        sealed
    }

    fn commit(&self, sealed: SealedStep) -> Event {
        let (step, events) = (sealed.number(), self.events.clone());
        // Without a core there is nobody to tell: the peer was dropped.
        let on_written = || drop(events.send(Event::Written { step }));
        let since = Instant::now();
        let result = lock(&self.writer).commit(sealed, on_written);
        let at = Instant::now();
        self.shared.steps.sync.add(at - since);
        Event::StepDone { step, result, at }
    }

    /// Brings a large entry to the disk before its step.
    pub(super) fn prewrite(&self, log: LogId, topic: TopicName, body: Bytes) {
        self.run(Lane::Bulk, move |store| Event::Prewritten {
            log,
            result: store.prewrite(&log, &topic, &body),
        });
    }

    fn with_writer(&self, job: impl FnOnce(&mut Writer) -> Event + Send + 'static) {
        let writer = self.writer.clone();
        self.run(Lane::Sync, move |_| job(&mut lock(&writer)));
    }

    pub(super) fn mark(&self) {
        self.with_writer(|writer| Event::Marked(writer.mark().map(|()| None)));
    }

    /// Begins a new journal file although the old one has room, so that a checkpoint covers all that is held.
    pub(super) fn rotate(&self) {
        self.with_writer(|writer| Event::Marked(writer.rotate_now().map(Some)));
    }

    pub(super) fn finish(&self) {
        self.with_writer(|writer| Event::Finished(writer.finish()));
    }

    pub(super) fn flush(&self) {
        self.run(Lane::Maintenance, |store| Event::Flushed(flush::flush(store)));
    }

    pub(super) fn checkpoint(&self, rotation: Rotation, memory: Memory) {
        let slots = self.slots.clone();
        self.run(Lane::Maintenance, move |store| {
            let result = flush::checkpoint(store, &slots, rotation, &|each| memory.encode_pieces(each));
            Event::Checkpointed(result)
        });
    }

    pub(super) fn discard(&self, log: LogId) {
        self.run(Lane::Maintenance, move |store| Event::Discarded(flush::discard(store, &log)));
    }

    pub(super) fn plan(&self, log: LogId, rule: Retention, dated: Option<Range<Timestamp>>) {
        self.run(Lane::Maintenance, move |store| Event::Planned {
            log,
            is_dated: dated.is_some(),
            result: retention::plan(store, &log, &rule, dated),
        });
    }

    /// Reads some of what is stored again.
    pub(super) fn scrub(&self, bytes_max: u64) {
        let scrub = self.scrub.clone();
        self.run(Lane::Scrub, move |_| Event::Scrubbed(lock(&scrub).piece(bytes_max)));
    }

    /// Resolves when everything that was given to the maintenance and read lanes before is done.
    pub(super) async fn settled(&self) {
        for lane in [Lane::Bulk, Lane::Seal, Lane::Sync, Lane::Maintenance, Lane::Scrub] {
            let (done, settled) = tokio::sync::oneshot::channel();
            self.shared.io().run(
                lane,
                Box::new(move || {
                    let _ = done.send(());
                }),
            );
            // Lanes that are gone have nothing left to do.
            drop(settled.await);
        }
    }

    pub(super) fn space(&self) {
        self.run(Lane::Maintenance, |store| Event::Space(store.disk.free_bytes()));
    }
}
