//! The writer: seals a step's batches, makes them durable, and only then lets readers see them.
//!
//! ```text
//! seal: root, previous, signature ─> place: segment and offset ─> bulk and buffered: segment ─> sync what must be
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
use crate::base::step::{AppendWork, Step, Work};
use crate::base::{
    Batch, Digest, Head, LogId, Lost, PeerId, RunId, Seq, Signature, Statement, Timestamp, TopicId, TopicName,
};
use crate::identity::sign::{Signer, sign_statement};
use crate::log::checkpoint;
use crate::log::journal::{Journal, Record, Slots};
use crate::log::place::Place;
use crate::log::record::{Lsn, RecordKind};
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

fn failing(what: &'static str) -> impl Fn(io::Error) -> WriteError {
    move |error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => WriteError::NoSpace,
        _ => WriteError::Failed { what, error },
    }
}

/// From here on not even a full disk is a clean refusal: part of the step may be durable.
fn fatal(what: &'static str) -> impl Fn(io::Error) -> WriteError {
    move |error| WriteError::Failed { what, error }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Path {
    Journal,
    Bulk,
    Buffered,
}

struct Sealed {
    log: Arc<Log>,
    batch: Batch,
    place: Place,
    path: Path,
    /// Whether it is durable once the step is, and with it what the log holds before.
    is_durable: bool,
    /// Whether readers see it only once the step is durable.
    is_late: bool,
}

enum Stated {
    Head(Head, Signature),
    Lost(Lost, Signature),
}

/// Where a run ends, as far as it was sealed.
#[derive(Clone, Copy)]
struct End {
    until: Seq,
    link: Digest,
}

/// A step on its way to the disk.
#[derive(Default)]
struct Sealing {
    sealed: Vec<Sealed>,
    statements: Vec<(Arc<Log>, Stated)>,
    /// Topics and certificates that are not known yet.
    topics: BTreeMap<TopicId, TopicName>,
    certificates: Vec<(PeerId, Arc<[u8]>)>,
    /// Logs that are to be durable as they are.
    synced: Vec<LogId>,
    /// Logs with batches that readers see only once the step is durable.
    late: BTreeSet<LogId>,
    /// Where the next batch of a log goes.
    places: BTreeMap<LogId, Place>,
    /// Where the runs end that were written to.
    ends: BTreeMap<(LogId, RunId), End>,
    /// The runs of our own that were written to last.
    runs: BTreeMap<LogId, RunId>,
}

/// Bytes of buffered batches (and twice as many of bulk) after which a checkpoint is made, so that opening never walks
/// more.
const BUFFERED_BYTES_MAX: u64 = 64 << 20;

/// Writes steps.
pub struct Writer {
    store: Arc<Store>,
    signer: Arc<dyn Signer>,
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
        let runs = BTreeMap::new();
        Self { store, signer, journal, slots, dirty, dirty_segments, buffered_bytes: 0, runs }
    }

    /// The journal's files.
    pub fn slots(&self) -> Arc<Mutex<Slots>> {
        self.slots.clone()
    }

    /// Writes a step, calls `on_written` when all of it is with the operating system, makes it durable and lets readers
    /// see it. What is buffered readers see when it is written.
    pub fn write(&mut self, step: Step, on_written: impl FnOnce()) -> Result<StepDone, WriteError> {
        self.store.must_be_sound(&Ok(())).map_err(fatal("writing a step"))?;
        let mut done = StepDone::default();
        let must_sync = step.work.iter().any(needs_sync);
        let sealing = self.seal(step.work);
        let written = self.write_segments(&sealing.sealed).map_err(failing("writing to a segment"));
        written.map_err(|error| self.take_back(&sealing.sealed, error))?;
        let mut records = self.records(&sealing);
        let bytes: u64 = records.iter().map(Record::bytes).sum();
        if bytes > self.journal.room() || self.buffered_bytes > BUFFERED_BYTES_MAX {
            let rotated = self.rotate_now();
            done.rotation = Some(rotated.map_err(|error| self.take_back(&sealing.sealed, error))?);
            // The new file knows nothing of segments that take buffered batches.
            records = self.records(&sealing);
        }
        self.sync_segments(&sealing)?;
        self.write_records(records)?;
        self.note_written(&sealing);
        self.publish(&sealing, false, &mut done);
        on_written();
        if must_sync {
            self.sync_journal()?;
        }
        self.publish(&sealing, true, &mut done);
        self.note(sealing.statements, &mut done);
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

    fn seal(&mut self, work: Vec<Work>) -> Sealing {
        let bulk = self.bulk_logs(&work);
        let mut to = Sealing::default();
        for work in work {
            match work {
                Work::Append(append) => {
                    let log = self.log(append.log, &append.topic, &mut to);
                    let path = self.path(&append, &bulk);
                    let is_durable = append.must_sync || !append.is_buffered;
                    // Readers see a log in order: what comes behind something late is late.
                    let is_late = !append.is_buffered || to.late.contains(&log.id);
                    if is_late {
                        to.late.insert(log.id);
                    }
                    let batch = self.seal_append(&log, append, &mut to);
                    let place = self.place(&log, &batch, &mut to);
                    to.sealed.push(Sealed { log, batch, place, path, is_durable, is_late });
                }
                Work::Foreign { topic, batch } => {
                    let log = self.log(batch.statement().log, &topic, &mut to);
                    let path = if bulk.contains(&log.id) { Path::Bulk } else { Path::Journal };
                    let place = self.place(&log, &batch, &mut to);
                    to.reach(&batch);
                    to.late.insert(log.id);
                    to.sealed.push(Sealed { log, batch, place, path, is_durable: true, is_late: true });
                }
                Work::Trim { log, start, time } => {
                    let head = self.trim(log, start, time, &to);
                    to.statements.extend(head);
                }
                Work::Lost(lost) => to.statements.extend(self.lose(lost)),
                Work::Sync { log } => to.synced.push(log),
                Work::Certificate { peer, der } => to.certificates.push((peer, der)),
            }
        }
        to
    }

    fn bulk_logs(&self, work: &[Work]) -> BTreeSet<LogId> {
        let mut bytes: BTreeMap<LogId, usize> = BTreeMap::new();
        for work in work {
            match work {
                Work::Append(append) => {
                    let count: usize = append.chunks.iter().map(|chunk| chunk.bytes().len()).sum();
                    *bytes.entry(append.log).or_default() += count;
                }
                Work::Foreign { batch, .. } => {
                    *bytes.entry(batch.statement().log).or_default() += batch.bytes().len();
                }
                _ => {}
            }
        }
        bytes.retain(|_, bytes| *bytes >= self.store.config.bulk_bytes_min);
        bytes.into_keys().collect()
    }

    fn path(&self, append: &AppendWork, bulk: &BTreeSet<LogId>) -> Path {
        // Once a segment took buffered batches, what follows them in it is only durable when they are.
        if append.is_buffered || self.dirty.contains(&append.log) {
            Path::Buffered
        } else if bulk.contains(&append.log) {
            Path::Bulk
        } else {
            Path::Journal
        }
    }

    fn log(&self, id: LogId, topic: &TopicName, to: &mut Sealing) -> Arc<Log> {
        // After damage a topic may be known by a name that was made up for it.
        if self.store.topic_name(id.topic).as_ref() != Some(topic) {
            to.topics.entry(id.topic).or_insert_with(|| topic.clone());
        }
        self.store.log_or_new(id, topic)
    }

    fn seal_append(&mut self, log: &Log, append: AppendWork, to: &mut Sealing) -> Batch {
        let before = if append.opens_run { append.parent } else { append.run };
        let end = to.end_of(log, before);
        assert_eq!(append.first_seq, end.until, "a log's numbers are dense");
        let blank = Statement {
            log: append.log,
            run: append.run,
            parent: append.parent,
            opens_run: append.opens_run,
            first_seq: append.first_seq,
            first_time: append.first_time,
            entry_count: 0,
            raw_bytes: 0,
            previous: end.link,
            root: Digest::ZERO,
        };
        let statement = batch::state(&blank, &append.chunks);
        let signature = sign_statement(&*self.signer, &statement);
        let batch = Batch::assemble(statement, signature, &append.chunks);
        to.reach(&batch);
        to.runs.insert(log.id, append.run);
        batch
    }

    fn place(&self, log: &Log, batch: &Batch, to: &mut Sealing) -> Place {
        let first = Place { segment: 0, offset: 0 };
        let next = to.places.entry(log.id).or_insert_with(|| log.look().next_place.unwrap_or(first));
        if next.offset >= self.store.config.segment_bytes {
            *next = Place { segment: next.segment + 1, offset: 0 };
        }
        let place = *next;
        next.offset += batch.bytes().len() as u64;
        place
    }

    /// A head that says where the log starts from now on; it speaks for the run that we write, if there is one.
    fn trim(&self, id: LogId, start: Seq, time: Timestamp, to: &Sealing) -> Option<(Arc<Log>, Stated)> {
        let log = self.store.log(&id)?;
        let ours = to.runs.get(&id).or_else(|| self.runs.get(&id)).copied();
        let run = ours.or_else(|| log.look().tip().map(|run| run.id))?;
        let end = to.end_of(&log, run);
        if start <= log.look().start {
            return None;
        }
        let (start, until) = (start.min(end.until), end.until);
        let head = Head { log: id, run, start, until, time, last: end.link, is_sealed: false };
        let signature = sign_statement(&*self.signer, &head);
        Some((log, Stated::Head(head, signature)))
    }

    fn lose(&self, lost: Lost) -> Option<(Arc<Log>, Stated)> {
        let log = self.store.log(&lost.log)?;
        let signature = sign_statement(&*self.signer, &lost);
        Some((log, Stated::Lost(lost, signature)))
    }

    /// Takes note of statements that are durable now.
    fn note(&self, statements: Vec<(Arc<Log>, Stated)>, done: &mut StepDone) {
        for (log, stated) in statements {
            done.changed.insert(log.id.topic);
            match stated {
                Stated::Head(head, signature) => {
                    let mut state = log.change();
                    state.add_head(head, signature);
                    state.roll_if_empty();
                    drop(state);
                    done.trimmed.push(log.id);
                }
                Stated::Lost(lost, signature) => log.change().lost.push((lost, signature)),
            }
        }
    }

    /// Writes what goes to segments now.
    fn write_segments(&self, sealed: &[Sealed]) -> io::Result<()> {
        for s in sealed.iter().filter(|s| s.path != Path::Journal) {
            self.store.write_segment(&s.log, s.place, &[s.batch.bytes()], s.path == Path::Buffered)?;
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
            if let Err(error) = self.cut(&s.log, s.place)
                && error.kind() != io::ErrorKind::NotFound
            {
                return fatal("cutting off what a full disk refused")(error);
            }
        }
        refused
    }

    fn cut(&self, log: &Log, place: Place) -> io::Result<()> {
        let file = self.store.segment_file(log, place.segment)?;
        // A flush may be writing before this place: nothing there is cut, nor is the file made longer.
        if file.len()? > place.offset { file.set_len(place.offset) } else { Ok(()) }
    }

    /// The records of a step, in the order in which recovery takes them over: names, batches, statements.
    fn records(&self, sealing: &Sealing) -> Vec<Record> {
        let mut records = Vec::new();
        for (id, name) in &sealing.topics {
            records
                .push(Record::new(RecordKind::Topic, [id.0.as_slice(), name.as_str().as_bytes()].concat()));
        }
        for (peer, der) in &sealing.certificates {
            records.push(Record::new(RecordKind::Certificate, [peer.0.as_slice(), der].concat()));
        }
        let mut dirty = self.dirty_segments.clone();
        for s in &sealing.sealed {
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
        records.extend(sealing.statements.iter().map(|(_, stated)| stated.record()));
        records
    }

    /// Makes durable what the records of a step will speak of.
    fn sync_segments(&self, sealing: &Sealing) -> Result<(), WriteError> {
        for s in &sealing.sealed {
            if s.is_durable {
                // A durable entry has a durable prefix.
                self.sync_buffered(s.log.id)?;
            }
            if s.path == Path::Bulk {
                self.store.sync_segment(&s.log, s.place.segment).map_err(fatal("syncing a segment"))?;
            }
        }
        let logs = sealing.statements.iter().map(|(log, _)| log.id).chain(sealing.synced.iter().copied());
        logs.into_iter().try_for_each(|log| self.sync_buffered(log))
    }

    fn sync_buffered(&self, id: LogId) -> Result<(), WriteError> {
        let Some(log) = self.store.log(&id) else { return Ok(()) };
        let mut segments = self.store.unsynced_buffered(id).into_iter();
        segments.try_for_each(|s| self.store.sync_segment(&log, s)).map_err(fatal("syncing a segment"))
    }

    /// Takes note of what the journal says now.
    fn note_written(&mut self, sealing: &Sealing) {
        for (id, name) in &sealing.topics {
            self.store.add_topic(*id, name.clone());
        }
        for (peer, der) in &sealing.certificates {
            self.store.add_certificate(*peer, der.clone());
        }
        for s in &sealing.sealed {
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
        self.runs.extend(&sealing.runs);
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

    fn publish(&self, sealing: &Sealing, is_late: bool, done: &mut StepDone) {
        for s in sealing.sealed.iter().filter(|s| s.is_late == is_late) {
            let statement = s.batch.statement();
            let mut state = s.log.change();
            state.add(statement, s.batch.link(), s.place, s.batch.bytes().len() as u64);
            if let Some(run) = self.runs.get(&s.log.id) {
                // A branch that comes back after a restore lies beside the run that is written, which stays the tip.
                state.make_last(*run);
            } else if s.log.id.peer == self.signer.peer() {
                state.make_furthest_last();
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

fn needs_sync(work: &Work) -> bool {
    match work {
        // Readers of a topic that is not buffered see what is durable, whoever waits.
        Work::Append(append) => append.must_sync || !append.is_buffered,
        _ => true,
    }
}

fn record_of(s: &Sealed, kind: RecordKind, payload: Bytes) -> Record {
    Record { kind, segment: s.place.segment, offset: s.place.offset, payload }
}

impl Sealing {
    /// Takes note of how far a run reaches now.
    fn reach(&mut self, batch: &Batch) {
        let s = batch.statement();
        let end = self.ends.entry((s.log, s.run)).or_insert(End { until: Seq::FIRST, link: Digest::ZERO });
        if s.until() > end.until {
            *end = End { until: s.until(), link: batch.link() };
        }
    }

    /// Where `run` ends, this step included; before a log's first run, its beginning.
    fn end_of(&self, log: &Log, run: RunId) -> End {
        let held = log.look().run(run).map(|run| End { until: run.until, link: run.link });
        let sealed = self.ends.get(&(log.id, run)).copied();
        let furthest = held.into_iter().chain(sealed).max_by_key(|end| end.until);
        furthest.unwrap_or(End { until: Seq::FIRST, link: Digest::ZERO })
    }
}

impl Stated {
    fn record(&self) -> Record {
        match self {
            Self::Head(head, signature) => {
                Record::new(RecordKind::Head, [head.encode().as_slice(), &signature.0].concat())
            }
            Self::Lost(lost, signature) => {
                Record::new(RecordKind::Lost, [lost.encode().as_slice(), &signature.0].concat())
            }
        }
    }
}

/// What a head's or a lost record holds: the statement, and its signature.
pub(crate) fn split_signed<const N: usize>(payload: &[u8]) -> Option<(&[u8; N], Signature)> {
    let (statement, rest) = payload.split_first_chunk::<N>()?;
    Some((statement, Signature(rest.try_into().ok()?)))
}
