//! Everything a peer holds, shared by the writer, the flusher and the readers.
//!
//! Locks are held to look or to note, never across a disk call. The writer and the flusher each run in a lane of
//! their own; readers come from anywhere.
use crate::base::batch::BatchHeader;
use crate::base::limits;
use crate::base::{Batch, LogId, PeerId, Remains, TopicId, TopicName};
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::identity::sign::{Verifier, verify_with};
use crate::log::place::{self, Place};
use crate::log::prewrite::Prewritten;
use crate::log::segment::IndexCache;
use crate::log::state::{LogState, TailBatch};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Why the store could not be opened or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process, or another part of this one, has the directory.
    #[error("the data directory is in use by another process")]
    InUse,
    /// The disk has no room for what opening writes, which is a file of the journal at most. Nothing is lost: with room it
    /// opens.
    #[error(
        "the disk is full, and opening must write up to {needed_mib} MiB ({what}); make room and start again, nothing \
         is lost"
    )]
    NoSpace {
        /// What was being done.
        what: &'static str,
        /// How much it may need.
        needed_mib: u64,
    },
    /// Another version of the program wrote the directory. Nothing in it was changed.
    #[error(
        "the data directory is of version {found}, and this program knows version {known}: start the program that wrote it, \
         or begin with another directory, to which other peers bring what they hold; nothing was changed"
    )]
    Version {
        /// The version that its checkpoint says.
        found: u8,
        /// The one known here.
        known: u8,
    },
    /// The disk failed.
    #[error("{what}: {error}")]
    Disk {
        /// What was being done.
        what: &'static str,
        /// What the disk said.
        error: io::Error,
    },
}

/// Adds what was being done to a disk error.
pub(crate) fn while_doing(what: &'static str) -> impl Fn(io::Error) -> StoreError {
    move |error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            StoreError::NoSpace { what, needed_mib: limits::JOURNAL_FILE_BYTES >> 20 }
        }
        _ => StoreError::Disk { what, error },
    }
}

/// Sizes that tests and simulations make small.
#[derive(Debug, Clone, Copy)]
pub struct LogConfig {
    /// Bytes of one journal file.
    pub journal_file_bytes: u64,
    /// Bytes from which on a segment takes no further batch.
    pub segment_bytes: u64,
    /// Bytes of one log in one step from which on they go straight to the segment.
    pub bulk_bytes_min: usize,
    /// Bytes that may be in the journal and in no segment.
    pub unflushed_bytes_max: usize,
    /// Bytes of batches kept in memory for readers, those that are not flushed included.
    pub tail_bytes_max: usize,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            journal_file_bytes: limits::JOURNAL_FILE_BYTES,
            segment_bytes: limits::SEGMENT_BYTES,
            bulk_bytes_min: limits::BULK_BYTES_MIN,
            unflushed_bytes_max: limits::UNFLUSHED_BYTES_MAX,
            tail_bytes_max: limits::UNFLUSHED_BYTES_MAX + (8 << 20),
        }
    }
}

/// One log and where its files are.
#[derive(Debug)]
pub struct Log {
    /// Its id.
    pub id: LogId,
    /// The directory of its topic.
    pub dir: Arc<str>,
    state: RwLock<LogState>,
    /// Grows with each change.
    revision: AtomicU64,
}

impl Log {
    /// A log with what is known of it.
    pub fn new(id: LogId, dir: Arc<str>, state: LogState) -> Self {
        Self { id, dir, state: RwLock::new(state), revision: AtomicU64::new(0) }
    }

    /// A look at what is known.
    pub fn look(&self) -> RwLockReadGuard<'_, LogState> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is known.
    pub fn change(&self) -> RwLockWriteGuard<'_, LogState> {
        let state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        self.revision.fetch_add(1, Ordering::Release);
        state
    }

    /// Another number after each change. Whoever asks for it before a look has seen all that it counts.
    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }
}

/// A batch on its way to its segment.
#[derive(Debug, Clone)]
pub struct FlushItem {
    /// Its log.
    pub log: Arc<Log>,
    /// Its bytes.
    pub batch: Batch,
    /// Where it goes.
    pub place: Place,
    /// Set once it is there.
    pub is_flushed: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Memory {
    /// Batches in the tails of logs, oldest first.
    ring: VecDeque<(Arc<Log>, usize, Arc<AtomicBool>)>,
    bytes: usize,
}

/// What a store counted since it was opened.
#[derive(Debug, Default)]
pub struct StoreCounters {
    /// Syncs of the journal.
    pub journal_syncs: AtomicU64,
    /// Bytes written to the journal.
    pub journal_bytes: AtomicU64,
    /// Syncs of segments.
    pub segment_syncs: AtomicU64,
    /// Bytes written to segments.
    pub segment_bytes: AtomicU64,
    /// Checkpoints written.
    pub checkpoints: AtomicU64,
    /// Bad records, batches or indexes that were found.
    pub damage_found: AtomicU64,
    /// Bytes read from segments.
    pub read_bytes: AtomicU64,
    /// Bytes that the scrub read.
    pub scrub_bytes: AtomicU64,
    /// Places at which the scrub found damage.
    pub scrub_damage: AtomicU64,
    /// Places that the scrub passed over, since the disk gave errors there.
    pub scrub_errors: AtomicU64,
    /// Batches that the scrub found well again.
    pub scrub_healed: AtomicU64,
    /// Forks of runs that came into the books.
    pub forks_found: AtomicU64,
}

/// Everything a peer holds.
pub struct Store {
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// Sizes.
    pub config: LogConfig,
    /// Counted since the start.
    pub counters: StoreCounters,
    logs: RwLock<BTreeMap<LogId, Arc<Log>>>,
    /// What is left of removed peers, for logs of theirs that are not here yet.
    remains: RwLock<BTreeMap<PeerId, Arc<Remains>>>,
    topics: RwLock<BTreeMap<TopicId, TopicName>>,
    certificates: RwLock<BTreeMap<PeerId, Arc<[u8]>>>,
    pub(crate) files: FileCache,
    pub(crate) indexes: IndexCache,
    memory: Mutex<Memory>,
    flush: Mutex<VecDeque<FlushItem>>,
    unflushed_bytes: AtomicUsize,
    is_unsound: AtomicBool,
    unsynced: Mutex<BTreeMap<(LogId, u32), Unsynced>>,
    pub(crate) prewritten: Prewritten,
    pub(crate) verifier: Arc<dyn Verifier>,
    /// Segments that were written since the start: their names are durable.
    named: Mutex<BTreeSet<(LogId, u32)>>,
}

/// A segment that was written and not synced since.
#[derive(Debug, Clone, Copy, Default)]
struct Unsynced {
    /// Counts the writes to it, so that a sync does not stand for a write that came after it began.
    writes: u64,
    /// Whether it holds batches that are in no journal.
    is_buffered: bool,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(of: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    of.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(of: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    of.write().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// An empty store over `disk`, which checks signatures with `verifier`: of batches that are found by searching, behind
    /// damage, and of what the scrub reads.
    pub fn empty(disk: Arc<dyn Disk>, config: LogConfig, verifier: Arc<dyn Verifier>) -> Self {
        assert!(config.bulk_bytes_min as u64 * 2 < config.journal_file_bytes, "a record fits a journal file");
        Self {
            files: FileCache::new(disk.clone()),
            disk,
            config,
            counters: StoreCounters::default(),
            logs: RwLock::default(),
            remains: RwLock::default(),
            topics: RwLock::default(),
            certificates: RwLock::default(),
            indexes: IndexCache::default(),
            memory: Mutex::default(),
            flush: Mutex::default(),
            unflushed_bytes: AtomicUsize::new(0),
            is_unsound: AtomicBool::new(false),
            unsynced: Mutex::default(),
            prewritten: Prewritten::default(),
            verifier,
            named: Mutex::default(),
        }
    }

    /// Whether a batch is what its peer signed, as far as its header tells.
    pub(crate) fn is_signed(&self, header: &BatchHeader) -> bool {
        verify_with(&*self.verifier, &header.statement, &header.signature)
    }

    /// The log called `id`.
    pub fn log(&self, id: &LogId) -> Option<Arc<Log>> {
        read(&self.logs).get(id).cloned()
    }

    /// All logs, in order.
    pub fn logs(&self) -> Vec<Arc<Log>> {
        read(&self.logs).values().cloned().collect()
    }

    /// The first log at or behind a bound, in order.
    pub(crate) fn first_log(&self, from: Bound<LogId>) -> Option<Arc<Log>> {
        read(&self.logs).range((from, Bound::Unbounded)).next().map(|(_, log)| log.clone())
    }

    /// The logs of one topic, in order of their peers.
    pub fn logs_of(&self, topic: TopicId) -> Vec<Arc<Log>> {
        let from = LogId { topic, peer: PeerId([0; 32]) };
        let until = LogId { topic, peer: PeerId([0xff; 32]) };
        read(&self.logs).range(from..=until).map(|(_, log)| log.clone()).collect()
    }

    /// How many logs there are.
    pub fn log_count(&self) -> usize {
        read(&self.logs).len()
    }

    /// The name of a topic, once it is known.
    pub fn topic_name(&self, topic: TopicId) -> Option<TopicName> {
        read(&self.topics).get(&topic).cloned()
    }

    /// All topics, with their names.
    pub fn topics(&self) -> Vec<(TopicId, TopicName)> {
        read(&self.topics).iter().map(|(id, name)| (*id, name.clone())).collect()
    }

    pub(crate) fn add_topic(&self, id: TopicId, name: TopicName) {
        write(&self.topics).insert(id, name);
    }

    /// The certificate of a peer whose batches are held.
    pub fn certificate(&self, peer: &PeerId) -> Option<Arc<[u8]>> {
        read(&self.certificates).get(peer).cloned()
    }

    /// All certificates.
    pub fn certificates(&self) -> Vec<(PeerId, Arc<[u8]>)> {
        read(&self.certificates).iter().map(|(peer, der)| (*peer, der.clone())).collect()
    }

    /// Takes note of the certificate of the peer whose store this is. It is written with the next checkpoint, and is known
    /// at every start without that.
    pub fn set_certificate(&self, peer: PeerId, der: Arc<[u8]>) {
        self.add_certificate(peer, der);
    }

    pub(crate) fn add_certificate(&self, peer: PeerId, der: Arc<[u8]>) {
        write(&self.certificates).insert(peer, der);
    }

    /// The log called `id`, made when it is not there.
    pub(crate) fn log_or_new(&self, id: LogId, name: &TopicName) -> Arc<Log> {
        if let Some(log) = self.log(&id) {
            return log;
        }
        let dir = self.logs_of(id.topic).first().map(|log| log.dir.clone());
        let dir = dir.unwrap_or_else(|| place::topic_dir(name).into());
        let mut logs = write(&self.logs);
        let mut state = LogState::new();
        // Looked at while nobody else looks at all logs: who notes a removal does that next.
        if let Some(remains) = read(&self.remains).get(&id.peer) {
            state.end_by(id.topic, remains.clone(), &BTreeMap::new());
        }
        logs.entry(id).or_insert_with(|| Arc::new(Log::new(id, dir, state))).clone()
    }

    /// A peer was removed: logs of it that are made from now on end where its removal says. Those that are here are to be
    /// ended next.
    pub(crate) fn note_removed(&self, peer: PeerId, remains: Arc<Remains>) {
        write(&self.remains).insert(peer, remains);
    }

    /// All who were ever named to succeed `peer`, which was removed: what they sign of its logs counts too.
    pub(crate) fn successors_of(&self, peer: &PeerId) -> BTreeSet<PeerId> {
        read(&self.remains).get(peer).map(|remains| remains.successors.clone()).unwrap_or_default()
    }

    /// Forgets everything that was read of a checkpoint.
    pub(crate) fn forget_all(&self) {
        write(&self.logs).clear();
        write(&self.topics).clear();
        write(&self.certificates).clear();
    }

    pub(crate) fn put_log(&self, log: Log) {
        write(&self.logs).insert(log.id, Arc::new(log));
    }

    /// The file of a segment, which is there.
    pub(crate) fn segment_file(&self, log: &Log, segment: u32) -> io::Result<Arc<dyn DiskFile>> {
        self.files.open(&place::segment_path(&log.dir, &log.id, segment), OpenMode::Write)
    }

    /// The file of a segment, made with its directory when it is not there, with both names durable.
    pub(crate) fn named_segment(&self, log: &Log, segment: u32) -> io::Result<Arc<dyn DiskFile>> {
        let key = (log.id, segment);
        // A file that is there already may be what a process left that died before the name was durable.
        if lock(&self.named).contains(&key) {
            return self.segment_file(log, segment);
        }
        self.disk.create_dir_all(&log.dir)?;
        let file = self.files.open(&place::segment_path(&log.dir, &log.id, segment), OpenMode::Create)?;
        self.disk.sync_dir(&log.dir)?;
        lock(&self.named).insert(key);
        Ok(file)
    }

    /// Writes neighbouring batches to their segment, which is not synced.
    pub(crate) fn write_segment(
        &self,
        log: &Log,
        place: Place,
        parts: &[&[u8]],
        is_buffered: bool,
    ) -> io::Result<()> {
        let key = (log.id, place.segment);
        let file = self.named_segment(log, place.segment)?;
        let mut unsynced = lock(&self.unsynced);
        let written = unsynced.entry(key).or_default();
        written.writes += 1;
        written.is_buffered |= is_buffered;
        drop(unsynced);
        file.write_at(place.offset, parts)?;
        self.count(&self.counters.segment_bytes, parts.iter().map(|part| part.len() as u64).sum());
        Ok(())
    }

    /// Syncs a segment, if it was written since it was synced last and is still there.
    pub(crate) fn sync_segment(&self, log: &Log, segment: u32) -> io::Result<()> {
        let key = (log.id, segment);
        let Some(written) = lock(&self.unsynced).get(&key).copied() else { return Ok(()) };
        match self.segment_file(log, segment) {
            // What was trimmed is removed, synced or not.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !log.look().uses(segment) => {}
            file => {
                let synced = file?.sync_data();
                self.must_be_sound(&synced)?;
                synced?;
                self.count(&self.counters.segment_syncs, 1);
            }
        }
        let mut unsynced = lock(&self.unsynced);
        if unsynced.get(&key).is_some_and(|now| now.writes == written.writes) {
            unsynced.remove(&key);
        }
        Ok(())
    }

    /// Remembers that a sync failed: from then on nothing counts as durable, whatever later syncs say, since the system
    /// tells of a failure once and then forgets it.
    pub(crate) fn must_be_sound(&self, synced: &io::Result<()>) -> io::Result<()> {
        if synced.is_err() {
            self.set_unsound();
        }
        if self.is_unsound.load(Ordering::SeqCst) {
            return Err(io::Error::other(
                "a sync or a write failed before: what is on the disk is not known until recovery",
            ));
        }
        Ok(())
    }

    /// Remembers that what is on the disk is not known: from then on nothing counts as durable.
    pub(crate) fn set_unsound(&self) {
        self.is_unsound.store(true, Ordering::SeqCst);
    }

    /// Forgets a segment that is about to be removed.
    pub(crate) fn forget_segment(&self, log: &Log, segment: u32) {
        let key = (log.id, segment);
        self.indexes.forget(&key);
        lock(&self.named).remove(&key);
        lock(&self.unsynced).remove(&key);
    }

    /// Segments that were written and not synced since.
    pub(crate) fn unsynced(&self) -> Vec<(LogId, u32)> {
        lock(&self.unsynced).keys().copied().collect()
    }

    /// Segments of a log that hold batches which are in no journal, and were not synced since.
    pub(crate) fn unsynced_buffered(&self, log: LogId) -> Vec<u32> {
        let unsynced = lock(&self.unsynced);
        let of_log = unsynced.range((log, 0)..=(log, u32::MAX));
        of_log.filter(|(_, written)| written.is_buffered).map(|((_, segment), _)| *segment).collect()
    }

    /// Keeps a batch in memory for readers, and for the flusher when it is in no segment yet.
    /// The caller holds the log's lock and has noted the batch.
    pub(crate) fn keep(
        &self,
        log: &Arc<Log>,
        state: &mut LogState,
        batch: Batch,
        place: Place,
        is_flushed: bool,
    ) {
        let flag = Arc::new(AtomicBool::new(is_flushed));
        let bytes = batch.bytes().len();
        state.tail.push_back(TailBatch { batch: batch.clone(), place, is_flushed: flag.clone() });
        let mut memory = lock(&self.memory);
        let kept_bytes = bytes + KEPT_BATCH_BYTES;
        memory.bytes += kept_bytes;
        memory.ring.push_back((log.clone(), kept_bytes, flag.clone()));
        drop(memory);
        if !is_flushed {
            self.unflushed_bytes.fetch_add(bytes, Ordering::Relaxed);
            lock(&self.flush).push_back(FlushItem { log: log.clone(), batch, place, is_flushed: flag });
        }
    }

    /// Lets go of the oldest batches in memory beyond the bound, as far as they are flushed.
    pub(crate) fn evict(&self) {
        loop {
            let mut memory = lock(&self.memory);
            let over = memory.bytes > self.config.tail_bytes_max;
            match memory.ring.front() {
                Some((_, _, flag)) if over && flag.load(Ordering::Acquire) => {}
                _ => return,
            }
            let Some((log, bytes, _)) = memory.ring.pop_front() else { return };
            memory.bytes -= bytes;
            drop(memory);
            // Each log's tail is in the order of the ring.
            log.change().tail.pop_front();
        }
    }

    /// Whether more is kept in memory than should be, because something before it is in no segment.
    pub(crate) fn keeps_too_much(&self) -> bool {
        lock(&self.memory).bytes > self.config.tail_bytes_max
    }

    /// Bytes that are in the journal and in no segment.
    pub fn unflushed_bytes(&self) -> usize {
        self.unflushed_bytes.load(Ordering::Relaxed)
    }

    /// Batches to flush next, at most `bytes_max` of them (one at least), oldest first.
    pub(crate) fn next_flush(&self, bytes_max: usize) -> Vec<FlushItem> {
        let mut queue = lock(&self.flush);
        let (mut bytes, mut items) = (0, Vec::new());
        while let Some(item) = queue.front() {
            bytes += item.batch.bytes().len();
            if !items.is_empty() && bytes > bytes_max {
                break;
            }
            items.extend(queue.pop_front());
        }
        items
    }

    /// Puts back what could not be flushed.
    pub(crate) fn put_back(&self, items: Vec<FlushItem>) {
        let mut queue = lock(&self.flush);
        items.into_iter().rev().for_each(|item| queue.push_front(item));
    }

    /// Takes note that a batch is in its segment.
    pub(crate) fn flushed(&self, item: &FlushItem) {
        item.is_flushed.store(true, Ordering::Release);
        self.unflushed_bytes.fetch_sub(item.batch.bytes().len(), Ordering::Relaxed);
    }

    /// Adds to a counter.
    pub(crate) fn count(&self, counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }
}

/// What is kept of a batch beside its bytes: its statement, places in the tail, the ring and the flusher's queue.
const KEPT_BATCH_BYTES: usize = 768;

/// A few open files, the least used closed first.
pub struct FileCache {
    disk: Arc<dyn Disk>,
    open: Mutex<(u64, BTreeMap<String, Opened>)>,
}

type Opened = (u64, Arc<dyn DiskFile>);

/// Files kept open at most.
const OPEN_FILES_MAX: usize = 256;

impl FileCache {
    fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, open: Mutex::default() }
    }

    /// The file at `path`, open for reading and writing.
    pub(crate) fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        if let Some(file) = self.find(path) {
            return Ok(file);
        }
        let file = self.disk.open(path, mode)?;
        let mut open = lock(&self.open);
        open.0 += 1;
        let tick = open.0;
        open.1.insert(path.to_owned(), (tick, file.clone()));
        if open.1.len() > OPEN_FILES_MAX {
            let oldest = open.1.iter().min_by_key(|(_, (tick, _))| *tick).map(|(path, _)| path.clone());
            oldest.and_then(|path| open.1.remove(&path));
        }
        Ok(file)
    }

    fn find(&self, path: &str) -> Option<Arc<dyn DiskFile>> {
        let mut open = lock(&self.open);
        open.0 += 1;
        let tick = open.0;
        let found = open.1.get_mut(path)?;
        found.0 = tick;
        Some(found.1.clone())
    }

    /// Forgets a file that is about to be removed.
    pub(crate) fn forget(&self, path: &str) {
        lock(&self.open).1.remove(path);
    }
}
