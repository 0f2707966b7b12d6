//! The writer: seals a step's batches, makes them durable, and only then lets readers see them.
//!
//! ```text
//! seal: root, previous, signature ─> place: segment and offset ─> bulk and buffered: segment
//!    ─> journal: one write ─> [written] ─> bulk: sync each segment ─> journal: one sync ─> publish ─> [durable]
//! ```
//!
//! One writer per store, in the sync lane. Batches come numbered; it never numbers anything itself. When the disk has
//! no room, the step is refused as a whole and nothing of it was noted. After any other error the store is not to be
//! written again: only recovery knows what is on the disk.
use crate::base::batch;
use crate::base::step::{AppendWork, Step, Work};
use crate::base::{
    Batch, Digest, Head, LogId, Lost, RunId, Seq, Signature, Statement, Timestamp, TopicId, TopicName,
};
use crate::identity::sign::{Signer, sign_statement};
use crate::log::checkpoint;
use crate::log::journal::{Journal, Record, Slots};
use crate::log::place::Place;
use crate::log::record::{Lsn, RecordKind};
use crate::log::store::{Log, Store, lock};
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
    /// Segments that took batches which are in no journal.
    pub buffered: BTreeSet<(LogId, u32)>,
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
}

enum Stated {
    Head(Head, Signature),
    Lost(Lost, Signature),
}

/// Where the next batch of a log goes on, while a step is being sealed.
#[derive(Clone, Copy)]
struct Tip {
    run: RunId,
    until: Seq,
    link: Digest,
    next: Place,
}

/// Bytes of buffered batches after which a checkpoint is made, so that opening never walks more.
const BUFFERED_BYTES_MAX: u64 = 64 << 20;

/// Writes steps.
pub struct Writer {
    store: Arc<Store>,
    signer: Arc<dyn Signer>,
    journal: Journal,
    slots: Arc<Mutex<Slots>>,
    /// Logs that took batches which are in no journal since the last rotation.
    dirty: BTreeSet<LogId>,
    dirty_segments: BTreeSet<(LogId, u32)>,
    buffered_bytes: u64,
}

impl Writer {
    pub(crate) fn new(
        store: Arc<Store>,
        signer: Arc<dyn Signer>,
        journal: Journal,
        slots: Arc<Mutex<Slots>>,
    ) -> Self {
        let (dirty, dirty_segments) = (BTreeSet::new(), BTreeSet::new());
        Self { store, signer, journal, slots, dirty, dirty_segments, buffered_bytes: 0 }
    }

    /// The journal's files.
    pub fn slots(&self) -> Arc<Mutex<Slots>> {
        self.slots.clone()
    }

    /// Writes a step, calls `on_written` when all of it is with the operating system, makes it durable and lets readers
    /// see it. What is buffered readers see when it is written.
    pub fn write(&mut self, step: Step, on_written: impl FnOnce()) -> Result<StepDone, WriteError> {
        let mut done = StepDone::default();
        let must_sync = step.work.iter().any(needs_sync);
        let (mut records, mut statements) = (Vec::new(), Vec::new());
        let sealed = self.seal(step.work, &mut records, &mut statements);
        let to_sync = self.write_segments(&sealed, &mut records)?;
        let bytes: u64 = records.iter().map(Record::bytes).sum();
        if bytes > self.journal.room() || self.buffered_bytes > BUFFERED_BYTES_MAX {
            self.rotate(&mut done).map_err(failing("beginning a journal file"))?;
            // The new file knows nothing of segments that take buffered batches.
            let again = sealed.iter().filter(|s| s.path == Path::Buffered);
            let again: Vec<Record> = again.filter_map(|s| self.note_dirty(s)).collect();
            records.splice(0..0, again);
        }
        self.write_records(records)?;
        self.publish(sealed.iter().filter(|s| s.path == Path::Buffered), &mut done);
        on_written();
        if must_sync {
            self.sync(&to_sync)?;
        }
        self.publish(sealed.iter().filter(|s| s.path != Path::Buffered), &mut done);
        self.note(statements, &mut done);
        self.store.evict();
        Ok(done)
    }

    /// Says in the journal that everything before is durable, so that rot at its end is not taken for a tear.
    pub fn mark(&mut self) -> Result<(), WriteError> {
        let mark = Record::new(RecordKind::Mark, Bytes::new());
        if self.journal.room() >= mark.bytes() {
            self.journal.write(&[mark]).map_err(fatal("writing a mark"))?;
        }
        Ok(())
    }

    /// Makes everything durable that is not: for a clean stop.
    pub fn finish(&mut self) -> Result<(), WriteError> {
        let dirty = std::mem::take(&mut self.dirty_segments);
        self.sync(&dirty)?;
        self.mark()?;
        self.journal.sync().map_err(fatal("syncing the journal"))
    }

    fn seal(
        &mut self,
        work: Vec<Work>,
        records: &mut Vec<Record>,
        statements: &mut Vec<(Arc<Log>, Stated)>,
    ) -> Vec<Sealed> {
        let bulk = self.bulk_logs(&work);
        let (mut sealed, mut tips, mut named) = (Vec::new(), BTreeMap::new(), BTreeSet::new());
        for work in work {
            match work {
                Work::Append(append) => {
                    let log = self.log(append.log, &append.topic, records, &mut named);
                    let path = self.path(&append, &bulk);
                    let tip = tips.entry(log.id).or_insert_with(|| tip_of(&log));
                    let batch = self.seal_append(append, tip);
                    let place = self.place(tip, &batch);
                    sealed.push(Sealed { log, batch, place, path });
                }
                Work::Foreign { topic, batch } => {
                    let log = self.log(batch.statement().log, &topic, records, &mut named);
                    let is_bulk = bulk.contains(&log.id);
                    let tip = tips.entry(log.id).or_insert_with(|| tip_of(&log));
                    let place = self.place(tip, &batch);
                    let path = if is_bulk { Path::Bulk } else { Path::Journal };
                    sealed.push(Sealed { log, batch, place, path });
                }
                Work::Trim { log, start, time } => {
                    statements.extend(self.trim(log, start, time, &tips, records));
                }
                Work::Lost(lost) => statements.extend(self.lose(lost, records)),
                Work::Certificate { peer, der } => {
                    let payload = [peer.0.as_slice(), &der].concat();
                    records.push(Record::new(RecordKind::Certificate, payload));
                    self.store.add_certificate(peer, der);
                }
            }
        }
        sealed
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

    fn log(
        &self,
        id: LogId,
        topic: &TopicName,
        records: &mut Vec<Record>,
        named: &mut BTreeSet<TopicId>,
    ) -> Arc<Log> {
        if named.insert(id.topic) && self.store.topic_name(id.topic).is_none() {
            let payload = [id.topic.0.as_slice(), topic.as_str().as_bytes()].concat();
            records.push(Record::new(RecordKind::Topic, payload));
            self.store.add_topic(id.topic, topic.clone());
        }
        self.store.log_or_new(id, topic)
    }

    fn seal_append(&self, append: AppendWork, tip: &mut Tip) -> Batch {
        if append.opens_run {
            assert!(append.run != tip.run, "a run is opened once");
        } else {
            assert_eq!(append.run, tip.run, "a batch goes on in the run of the one before");
        }
        assert_eq!(append.first_seq, tip.until, "a log's numbers are dense");
        let blank = Statement {
            log: append.log,
            run: append.run,
            parent: append.parent,
            opens_run: append.opens_run,
            first_seq: append.first_seq,
            first_time: append.first_time,
            entry_count: 0,
            raw_bytes: 0,
            previous: tip.link,
            root: Digest::ZERO,
        };
        let statement = batch::state(&blank, &append.chunks);
        let signature = sign_statement(&*self.signer, &statement);
        let batch = Batch::assemble(statement, signature, &append.chunks);
        *tip = Tip { run: append.run, until: statement.until(), link: batch.link(), next: tip.next };
        batch
    }

    fn place(&self, tip: &mut Tip, batch: &Batch) -> Place {
        if tip.next.offset >= self.store.config.segment_bytes {
            tip.next = Place { segment: tip.next.segment + 1, offset: 0 };
        }
        let place = tip.next;
        tip.next.offset += batch.bytes().len() as u64;
        place
    }

    fn trim(
        &self,
        id: LogId,
        start: Seq,
        time: Timestamp,
        tips: &BTreeMap<LogId, Tip>,
        records: &mut Vec<Record>,
    ) -> Option<(Arc<Log>, Stated)> {
        let log = self.store.log(&id)?;
        let tip = tips.get(&id).copied().unwrap_or_else(|| tip_of(&log));
        if !tip.run.is_some() || start <= log.look().start {
            return None;
        }
        let (start, until) = (start.min(tip.until), tip.until);
        let head = Head { log: id, run: tip.run, start, until, time, last: tip.link, is_sealed: false };
        let signature = sign_statement(&*self.signer, &head);
        records.push(Record::new(RecordKind::Head, [head.encode().as_slice(), &signature.0].concat()));
        Some((log, Stated::Head(head, signature)))
    }

    fn lose(&self, lost: Lost, records: &mut Vec<Record>) -> Option<(Arc<Log>, Stated)> {
        let log = self.store.log(&lost.log)?;
        let signature = sign_statement(&*self.signer, &lost);
        records.push(Record::new(RecordKind::Lost, [lost.encode().as_slice(), &signature.0].concat()));
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

    /// Writes what goes to segments now, and adds the records of everything; answers the segments to sync.
    fn write_segments(
        &mut self,
        sealed: &[Sealed],
        records: &mut Vec<Record>,
    ) -> Result<BTreeSet<(LogId, u32)>, WriteError> {
        let mut to_sync = BTreeSet::new();
        for s in sealed {
            if s.path != Path::Journal {
                self.write_segment(s).map_err(failing("writing to a segment"))?;
                to_sync.insert((s.log.id, s.place.segment));
            }
            if s.path == Path::Buffered {
                // A durable entry has a durable prefix: what the log left unsynced before goes with it.
                let of_log = (s.log.id, 0)..=(s.log.id, u32::MAX);
                to_sync.extend(self.dirty_segments.range(of_log).copied());
            }
        }
        for s in sealed {
            match s.path {
                Path::Journal => records.push(record_of(s, RecordKind::Batch, s.batch.bytes().clone())),
                Path::Bulk => {
                    let header = s.batch.bytes().slice(..batch::HEADER_BYTES);
                    records.push(record_of(s, RecordKind::Bulk, header));
                }
                Path::Buffered => {
                    self.buffered_bytes += s.batch.bytes().len() as u64;
                    records.extend(self.note_dirty(s));
                }
            }
        }
        Ok(to_sync)
    }

    fn write_segment(&self, s: &Sealed) -> io::Result<()> {
        let file = self.store.segment_file(&s.log, s.place.segment, true)?;
        file.write_at(s.place.offset, &[s.batch.bytes()])?;
        let bytes = s.batch.bytes().len() as u64;
        self.store.count(&self.store.counters.segment_bytes, bytes);
        lock(&self.store.unsynced).insert((s.log.id, s.place.segment));
        Ok(())
    }

    /// The record that a segment takes buffered batches from here on, unless one stands in this journal file.
    fn note_dirty(&mut self, s: &Sealed) -> Option<Record> {
        self.dirty.insert(s.log.id);
        let is_new = self.dirty_segments.insert((s.log.id, s.place.segment));
        let payload = [s.log.id.topic.0.as_slice(), &s.log.id.peer.0].concat();
        is_new.then(|| record_of(s, RecordKind::Dirty, payload.into()))
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

    fn sync(&mut self, segments: &BTreeSet<(LogId, u32)>) -> Result<(), WriteError> {
        for (id, segment) in segments {
            let Some(log) = self.store.log(id) else { continue };
            let file = self.store.segment_file(&log, *segment, false).map_err(fatal("opening a segment"))?;
            file.sync_data().map_err(fatal("syncing a segment"))?;
            self.store.count(&self.store.counters.segment_syncs, 1);
        }
        self.journal.sync().map_err(fatal("syncing the journal"))?;
        self.store.count(&self.store.counters.journal_syncs, 1);
        Ok(())
    }

    fn publish<'a>(&self, sealed: impl Iterator<Item = &'a Sealed>, done: &mut StepDone) {
        for s in sealed {
            let statement = s.batch.statement();
            let mut state = s.log.change();
            state.add(statement, s.batch.link(), s.place, s.batch.bytes().len() as u64);
            let is_flushed = s.path != Path::Journal;
            self.store.keep(&s.log, &mut state, s.batch.clone(), s.place, is_flushed);
            done.changed.insert(statement.log.topic);
        }
    }

    /// Goes on in a new journal file, between two steps: everything before it is durable and published.
    fn rotate(&mut self, done: &mut StepDone) -> io::Result<()> {
        self.journal.sync()?;
        let number = self.journal.number();
        self.journal.rotate()?;
        let from = Lsn::new(number + 1, 0);
        let buffered = std::mem::take(&mut self.dirty_segments);
        self.dirty.clear();
        self.buffered_bytes = 0;
        done.rotation =
            Some(Rotation { snapshot: checkpoint::snapshot(&self.store, from), number, buffered });
        Ok(())
    }

    /// Goes on in a new journal file in the middle of a step: no checkpoint covers the file that is left yet.
    fn rotate_within(&mut self) -> Result<(), WriteError> {
        self.journal.sync().map_err(fatal("syncing the journal"))?;
        self.journal.rotate().map_err(fatal("beginning a journal file"))
    }
}

fn needs_sync(work: &Work) -> bool {
    match work {
        Work::Append(append) => append.must_sync,
        _ => true,
    }
}

fn record_of(s: &Sealed, kind: RecordKind, payload: Bytes) -> Record {
    Record { kind, segment: s.place.segment, offset: s.place.offset, payload }
}

fn tip_of(log: &Log) -> Tip {
    let state = log.look();
    let next = state.next_place.unwrap_or(Place { segment: 0, offset: 0 });
    match state.tip() {
        Some(run) => Tip { run: run.id, until: run.until, link: run.link, next },
        None => Tip { run: RunId::NONE, until: Seq::FIRST, link: Digest::ZERO, next },
    }
}

/// What a head's or a lost record holds: the statement, and its signature.
pub(crate) fn split_signed<const N: usize>(payload: &[u8]) -> Option<(&[u8; N], Signature)> {
    let (statement, rest) = payload.split_first_chunk::<N>()?;
    Some((statement, Signature(rest.try_into().ok()?)))
}
