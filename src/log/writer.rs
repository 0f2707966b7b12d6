//! The writer: makes the batches of a sealed step durable, and only then lets readers see them.
//!
//! ```text
//! place: segment and offset ─> bulk and buffered: segment ─> sync what must be
//!    ─> journal: one write ─> [written] ─> journal: one sync ─> publish ─> [durable]
//! ```
//!
//! A record never speaks of bytes that power loss could still take: a segment is synced before the journal says where
//! in it a batch lies, and a log's buffered batches are synced before anything durable is said of what follows them.
//!
//! One writer per store, in the sync lane. Batches come numbered; it never numbers anything itself. When the disk has
//! no room, the step is refused as a whole and nothing of it was noted. After any other error the store is not to be
//! written again: only recovery knows what is on the disk.
use crate::base::batch;
use crate::base::statement::branch_of;
use crate::base::step::Step;
use crate::base::{LogId, RunId, Seq, Signature, TopicId};
use crate::identity::sign::Signer;
use crate::log::checkpoint;
use crate::log::journal::{Journal, Record, Slots};
use crate::log::place::Place;
use crate::log::prewrite::cut_off;
use crate::log::record::{Lsn, RecordKind};
use crate::log::seal::{Path, Sealed, SealedStep, Sealer, Stated};
use crate::log::state::LogState;
use crate::log::store::{Log, Store};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};

/// What became of a step.
#[derive(Debug, Default)]
pub struct StepDone {
    /// Topics in which readers see more than before.
    pub changed: BTreeSet<TopicId>,
    /// Logs whose start moved.
    pub trimmed: Vec<LogId>,
    /// What was signed about logs, of our own and of others.
    pub stated: Vec<Stated>,
    /// Where batches of our own end that it wrote, and the first 64 bits of their links, never 0.
    pub ends: BTreeMap<(LogId, RunId, Seq), u64>,
    /// Runs that were found to go on from a branch, and from which.
    pub moved: Vec<(LogId, RunId, RunId)>,
    /// A checkpoint to be written, when a journal file is full.
    pub rotation: Option<Rotation>,
}

/// A full journal file, to be covered by a checkpoint and then used again.
#[derive(Debug)]
pub struct Rotation {
    /// All logs as they were.
    pub snapshot: Vec<u8>,
    /// The last journal number that the checkpoint covers.
    pub number: u32,
    /// The segments below which it knows of everything, log by log.
    pub covered: Vec<(LogId, u32)>,
}

/// Why a step was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The disk has no room. Nothing of the step was noted; later steps may be written.
    #[error("the disk is full")]
    NoSpace,
    /// The disk failed. What is on it is known only after recovery: stop.
    #[error("{what}: {error}")]
    Failed {
        /// What was being done.
        what: &'static str,
        /// What the disk said.
        error: io::Error,
    },
}

/// Runs of a log that were found to go on from a branch.
fn take_moved(log: &Log, state: &mut LogState) -> Vec<(LogId, RunId, RunId)> {
    state.moved.drain(..).map(|(run, branch)| (log.id, run, branch)).collect()
}

fn failing(what: &'static str) -> impl Fn(io::Error) -> WriteError {
    move |error| if is_no_space(&error) { WriteError::NoSpace } else { WriteError::Failed { what, error } }
}

/// Whether the disk, or what this user may have of it, is full.
pub fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// From here on not even a full disk is a clean refusal: part of the step may be durable.
fn fatal(what: &'static str) -> impl Fn(io::Error) -> WriteError {
    move |error| WriteError::Failed { what, error }
}

/// Bytes of buffered batches (and twice as many of bulk) after which a checkpoint is made, so that opening never walks
/// more.
const BUFFERED_BYTES_MAX: u64 = 64 << 20;

/// Writes steps.
pub struct Writer {
    store: Arc<Store>,
    sealer: Arc<Sealer>,
    journal: Journal,
    slots: Arc<Mutex<Slots>>,
    /// Logs that took batches which are in no journal since the last rotation.
    dirty: BTreeSet<LogId>,
    /// Segments of which this journal file says that they take such batches at their end.
    dirty_segments: BTreeSet<(LogId, u32)>,
    buffered_bytes: u64,
    /// The runs that were opened since the start.
    runs: BTreeMap<LogId, RunId>,
}

impl Writer {
    pub(crate) fn new(
        store: Arc<Store>,
        signer: Arc<dyn Signer>,
        journal: Journal,
        slots: Arc<Mutex<Slots>>,
    ) -> Self {
        let (dirty, dirty_segments) = (BTreeSet::new(), BTreeSet::new());
        let (runs, sealer) = (BTreeMap::new(), Arc::new(Sealer::new(store.clone(), signer)));
        Self { store, sealer, journal, slots, dirty, dirty_segments, buffered_bytes: 0, runs }
    }

    /// The journal's files.
    pub fn slots(&self) -> Arc<Mutex<Slots>> {
        self.slots.clone()
    }

    /// What seals the steps that it writes.
    pub fn sealer(&self) -> Arc<Sealer> {
        self.sealer.clone()
    }

    /// Seals a step and [writes](Self::commit) it.
    pub fn write(&mut self, step: Step, on_written: impl FnOnce()) -> Result<StepDone, WriteError> {
        let step = self.sealer.seal(step);
        self.commit(step, on_written)
    }

    /// Writes a step, calls `on_written` when all of it is with the operating system, makes it durable and lets readers
    /// see it. What is buffered readers see when it is written. Before `on_written` a full disk refuses it cleanly.
    pub fn commit(&mut self, step: SealedStep, on_written: impl FnOnce()) -> Result<StepDone, WriteError> {
        let number = step.number;
        let result = self.try_commit(step, on_written);
        match &result {
            Ok(_) => self.sealer.settle(number, true),
            Err(WriteError::NoSpace) => self.sealer.settle(number, false),
            // The next step may be sealed already, or be sealed now: it goes on from this one and is not written.
            Err(WriteError::Failed { .. }) => self.store.set_unsound(),
        }
        result
    }

    fn try_commit(
        &mut self,
        mut step: SealedStep,
        on_written: impl FnOnce(),
    ) -> Result<StepDone, WriteError> {
        self.store.must_be_sound(&Ok(())).map_err(fatal("writing a step"))?;
        let mut done = StepDone::default();
        self.lay_out(&mut step);
        let written = self.write_segments(&step.sealed).map_err(failing("writing to a segment"));
        written.map_err(|error| self.take_back(&step.sealed, error))?;
        let mut records = self.records(&step);
        let bytes: u64 = records.iter().map(Record::bytes).sum();
        if bytes > self.journal.room() || self.buffered_bytes > BUFFERED_BYTES_MAX {
            let rotated = self.rotate_now();
            done.rotation = Some(rotated.map_err(|error| self.take_back(&step.sealed, error))?);
            // The new file knows nothing of segments that take buffered batches.
            records = self.records(&step);
        }
        self.sync_segments(&step)?;
        self.write_records(records)?;
        self.note_written(&step);
        self.publish(&step, false, &mut done);
        on_written();
        if step.must_sync {
            self.sync_journal()?;
        }
        self.publish(&step, true, &mut done);
        self.note(step.statements, &mut done);
        self.store.evict();
        Ok(done)
    }

    /// Says in the journal that everything before is durable, so that rot at its end is not taken for a tear.
    pub fn mark(&mut self) -> Result<(), WriteError> {
        self.store.must_be_sound(&Ok(())).map_err(fatal("writing a mark"))?;
        let mark = Record::new(RecordKind::Mark, Bytes::new());
        if self.journal.room() >= mark.bytes() {
            self.journal.write(&[mark]).map_err(fatal("writing a mark"))?;
        }
        Ok(())
    }

    /// Makes everything durable that is not: for a clean stop.
    pub fn finish(&mut self) -> Result<(), WriteError> {
        for log in self.store.logs() {
            self.sync_buffered(log.id)?;
        }
        self.sync_journal()?;
        self.mark()?;
        self.sync_journal()
    }

    /// Says how each batch of a step gets to the disk, and where in its segment it will lie.
    fn lay_out(&self, step: &mut SealedStep) {
        let mut bytes: BTreeMap<LogId, usize> = BTreeMap::new();
        for s in &step.sealed {
            *bytes.entry(s.log.id).or_default() += s.batch.bytes().len();
        }
        let mut places: BTreeMap<LogId, Place> = BTreeMap::new();
        for s in &mut step.sealed {
            let is_bulk =
                bytes.get(&s.log.id).is_some_and(|bytes| *bytes >= self.store.config.bulk_bytes_min);
            // Once a segment took buffered batches, what follows them in it is only durable when they are.
            let is_buffered = s.is_buffered || (!s.is_foreign && self.dirty.contains(&s.log.id));
            s.path = match (is_buffered, is_bulk) {
                (true, _) => Path::Buffered,
                (false, true) => Path::Bulk,
                (false, false) => Path::Journal,
            };
            let next = places.entry(s.log.id).or_insert_with(|| self.store.next_place(&s.log));
            s.place = self.store.rolled(*next);
            *next = Place { offset: s.place.offset + s.batch.bytes().len() as u64, ..s.place };
        }
        // After damage a topic may be known by a name that was made up for it.
        step.topics.retain(|id, name| self.store.topic_name(*id).as_ref() != Some(name));
    }

    /// Takes note of statements that are durable now.
    fn note(&self, statements: Vec<(Arc<Log>, Stated)>, done: &mut StepDone) {
        for (log, stated) in statements {
            done.changed.insert(log.id.topic);
            match &stated {
                Stated::Head(head, signature) => {
                    let mut state = log.change();
                    state.add_head(*head, *signature);
                    state.roll_if_empty();
                    drop(state);
                    if done.trimmed.last() != Some(&log.id) {
                        done.trimmed.push(log.id);
                    }
                }
                Stated::Lost(lost, signature) => log.change().add_lost(*lost, *signature),
                Stated::Fork(fork) => {
                    let mut state = log.change();
                    state.add_fork(fork);
                    done.moved.extend(take_moved(&log, &mut state));
                }
            }
            done.stated.push(stated);
        }
    }

    /// Writes what goes to segments now.
    fn write_segments(&self, sealed: &[Sealed]) -> io::Result<()> {
        for s in sealed {
            let (header, body) = s.batch.bytes().split_at(batch::HEADER_BYTES);
            let is_there = self.store.take_prewritten(&s.log.id, s.place, body);
            if s.path == Path::Journal {
                continue;
            }
            let parts = if is_there { &[header][..] } else { &[header, body][..] };
            self.store.write_segment(&s.log, s.place, parts, s.path == Path::Buffered)?;
        }
        Ok(())
    }

    /// Cuts off what a refused step left in segments: where the log goes on elsewhere, recovery would take it over in
    /// place of what followed.
    fn take_back(&self, sealed: &[Sealed], refused: WriteError) -> WriteError {
        if !matches!(refused, WriteError::NoSpace) {
            return refused;
        }
        for s in sealed.iter().filter(|s| s.path != Path::Journal) {
            let file = self.store.segment_file(&s.log, s.place.segment);
            if let Err(error) = file.and_then(|file| cut_off(&*file, s.place))
                && error.kind() != io::ErrorKind::NotFound
            {
                return fatal("cutting off what a full disk refused")(error);
            }
        }
        refused
    }

    /// The records of a step, in the order in which recovery takes them over: names, batches, statements.
    fn records(&self, step: &SealedStep) -> Vec<Record> {
        let mut records = Vec::new();
        for (id, name) in &step.topics {
            records
                .push(Record::new(RecordKind::Topic, [id.0.as_slice(), name.as_str().as_bytes()].concat()));
        }
        for (peer, der) in &step.certificates {
            records.push(Record::new(RecordKind::Certificate, [peer.0.as_slice(), der].concat()));
        }
        let mut dirty = self.dirty_segments.clone();
        for s in &step.sealed {
            let key = (s.log.id, s.place.segment);
            let header = s.batch.bytes().slice(..batch::HEADER_BYTES);
            match s.path {
                Path::Journal => records.push(record_of(s, RecordKind::Batch, s.batch.bytes().clone())),
                Path::Bulk => records.push(record_of(s, RecordKind::Bulk, header)),
                Path::Buffered => {
                    if dirty.insert(key) {
                        let payload = [s.log.id.topic.0.as_slice(), &s.log.id.peer.0].concat();
                        records.push(record_of(s, RecordKind::Dirty, payload.into()));
                    }
                    // Without this nobody could tell later whether rot took it or power loss.
                    if s.is_durable {
                        records.push(record_of(s, RecordKind::Bulk, header));
                    }
                }
            }
            if s.path != Path::Buffered {
                dirty.remove(&key);
            }
        }
        records.extend(step.statements.iter().map(|(_, stated)| stated.record()));
        records
    }

    /// Makes durable what the records of a step will speak of.
    fn sync_segments(&self, step: &SealedStep) -> Result<(), WriteError> {
        for s in &step.sealed {
            if s.is_durable {
                // A durable entry has a durable prefix.
                self.sync_buffered(s.log.id)?;
            }
            if s.path == Path::Bulk {
                self.store.sync_segment(&s.log, s.place.segment).map_err(fatal("syncing a segment"))?;
            }
        }
        let logs = step.statements.iter().map(|(log, _)| log.id).chain(step.synced.iter().copied());
        logs.into_iter().try_for_each(|log| self.sync_buffered(log))
    }

    fn sync_buffered(&self, id: LogId) -> Result<(), WriteError> {
        let Some(log) = self.store.log(&id) else { return Ok(()) };
        let mut segments = self.store.unsynced_buffered(id).into_iter();
        segments.try_for_each(|s| self.store.sync_segment(&log, s)).map_err(fatal("syncing a segment"))
    }

    /// Takes note of what the journal says now.
    fn note_written(&mut self, step: &SealedStep) {
        for (id, name) in &step.topics {
            self.store.add_topic(*id, name.clone());
        }
        for (peer, der) in &step.certificates {
            self.store.add_certificate(*peer, der.clone());
        }
        for s in &step.sealed {
            let key = (s.log.id, s.place.segment);
            if s.path == Path::Buffered {
                self.dirty.insert(s.log.id);
                self.dirty_segments.insert(key);
                self.buffered_bytes += s.batch.bytes().len() as u64;
            } else {
                if s.path == Path::Bulk {
                    // It takes next to no room in the journal, yet opening reads it again: half as much counts.
                    self.buffered_bytes += s.batch.bytes().len() as u64 / 2;
                }
                // Recovery walks no further than here: what is buffered behind it needs a record of its own.
                self.dirty_segments.remove(&key);
            }
        }
        self.runs.extend(&step.runs);
    }

    fn write_records(&mut self, records: Vec<Record>) -> Result<(), WriteError> {
        let mut rest = records.as_slice();
        while !rest.is_empty() {
            let mut room = self.journal.room();
            let fits = |record: &&Record| {
                let takes = record.bytes() <= room;
                room = room.saturating_sub(record.bytes());
                takes
            };
            let count = rest.iter().take_while(fits).count();
            if count == 0 {
                // A step that no file holds is written over several. What a checkpoint in between does not yet
                // know of stands in the file before it, which is therefore kept for one checkpoint longer.
                self.rotate_within()?;
                continue;
            }
            let (now, later) = rest.split_at(count);
            let bytes = self.journal.write(now).map_err(fatal("writing the journal"))?;
            self.store.count(&self.store.counters.journal_bytes, bytes);
            rest = later;
        }
        Ok(())
    }

    fn sync_journal(&mut self) -> Result<(), WriteError> {
        self.sync().map_err(fatal("syncing the journal"))?;
        self.store.count(&self.store.counters.journal_syncs, 1);
        Ok(())
    }

    /// Syncs the journal; once a sync failed, be it of a segment, nothing counts as durable any more.
    fn sync(&mut self) -> io::Result<()> {
        let synced = self.journal.sync();
        let is_sound = self.store.must_be_sound(&synced);
        synced.and(is_sound)
    }

    fn publish(&self, step: &SealedStep, is_late: bool, done: &mut StepDone) {
        for s in step.sealed.iter().filter(|s| s.is_late == is_late) {
            let statement = s.batch.statement();
            let mut state = s.log.change();
            let link = s.batch.link();
            state.add(statement, link, s.place, s.batch.bytes().len() as u64);
            done.moved.extend(take_moved(&s.log, &mut state));
            if !s.is_foreign {
                let bits = branch_of(&link).0.max(1);
                done.ends.insert((s.log.id, statement.run, statement.until()), bits);
            }
            let written = self.runs.get(&s.log.id).filter(|run| state.cut_of(**run).is_none());
            if let Some(run) = written {
                // A branch that comes back after a restore lies beside the run that is written, which the log goes on from.
                state.go_on_from(*run);
            } else if s.log.id.peer == self.sealer.peer() {
                state.go_on_from_furthest();
            }
            let is_flushed = s.path != Path::Journal;
            self.store.keep(&s.log, &mut state, s.batch.clone(), s.place, is_flushed);
            done.changed.insert(statement.log.topic);
        }
    }

    /// Goes on in a new journal file, between two steps: everything before it is durable and published.
    fn rotate(&mut self) -> io::Result<Rotation> {
        // A sync that fails for want of room is no clean refusal: what is on the disk is not known then.
        self.sync().map_err(|error| io::Error::other(format!("syncing the journal: {error}")))?;
        let number = self.journal.number();
        self.journal.rotate()?;
        let from = Lsn::new(number + 1, 0);
        self.dirty.clear();
        self.dirty_segments.clear();
        self.buffered_bytes = 0;
        let (snapshot, covered) = (checkpoint::snapshot(&self.store, from), checkpoint::covered(&self.store));
        Ok(Rotation { snapshot, number, covered })
    }

    /// Goes on in a new journal file although this one has room, so that the checkpoint covers all that is held.
    pub fn rotate_now(&mut self) -> Result<Rotation, WriteError> {
        self.rotate().map_err(failing("beginning a journal file"))
    }

    /// Goes on in a new journal file in the middle of a step: no checkpoint covers the file that is left yet.
    fn rotate_within(&mut self) -> Result<(), WriteError> {
        self.sync().map_err(fatal("syncing the journal"))?;
        self.journal.rotate().map_err(fatal("beginning a journal file"))
    }
}

fn record_of(s: &Sealed, kind: RecordKind, payload: Bytes) -> Record {
    Record { kind, segment: s.place.segment, offset: s.place.offset, payload }
}

/// What a head's or a lost record holds: the statement, and its signature.
pub(crate) fn split_signed<const N: usize>(payload: &[u8]) -> Option<(&[u8; N], Signature)> {
    let (statement, rest) = payload.split_first_chunk::<N>()?;
    Some((statement, Signature(rest.try_into().ok()?)))
}
