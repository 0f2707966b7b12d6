//! Opening: the checkpoint, the journal behind it, and what to believe of its end.
//!
//! ```text
//! checkpoint ──> files of the journal, oldest first ──> accepted tail, written anew and synced ──> writer
//!
//!   good good BAD good(synced until beyond BAD)     damage: what it held is set aside, the rest is served
//!   good good BAD good(synced until before BAD)     a tear: cut there, nobody was told of what follows
//! ```
//!
//! The accepted tail, what lies beyond the highest `synced_until` of a good record, may be in the page cache and not on
//! the disk (a flush that failed leaves such pages). So it is written to a new file and synced before anything speaks
//! of it. What cannot be read is never deleted.
use crate::base::batch::{self, BatchHeader};
use crate::base::statement::{HEAD_BYTES, LOST_BYTES};
use crate::base::{Batch, Head, LogId, Lost, PeerId, TopicId, TopicName, statement};
use crate::disk::{Disk, DiskLock, OpenMode};
use crate::identity::sign::Signer;
use crate::log::checkpoint::{self, CheckpointError, CheckpointHead};
use crate::log::flush;
use crate::log::journal::{self, FoundFile, FoundRecord, Journal, Record, Slots};
use crate::log::place::{self, Place};
use crate::log::record::{Lsn, RecordKind};
use crate::log::segment;
use crate::log::state::Range;
use crate::log::store::{LogConfig, Store, StoreError, lock, while_doing};
use crate::log::writer::{Rotation, Writer, split_signed};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};

/// What opening found, for the log file and for `status`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Records of the journal that were taken over.
    pub record_count: u64,
    /// Journal files whose end was cut off at a tear.
    pub torn: Vec<String>,
    /// What was found damaged, in words.
    pub damage: Vec<String>,
    /// Whether the checkpoint was unreadable and everything was found by walking the segments.
    pub is_rebuilt: bool,
}

/// A store that was opened.
pub struct Opened {
    /// What it holds.
    pub store: Arc<Store>,
    /// The only one that may write it.
    pub writer: Writer,
    /// What the engine asked to be remembered.
    pub engine: Vec<u8>,
    /// Batches found in the journal, in order: what the engine may not remember yet.
    pub replayed: Vec<Batch>,
    /// A checkpoint to write soon, so that old journal files are free again.
    pub rotation: Rotation,
    /// What was found.
    pub recovered: Recovered,
    /// The directory is ours while this lives.
    pub lock: DiskLock,
}

/// Opens the store on `disk`, or makes an empty one.
pub fn open(disk: Arc<dyn Disk>, config: LogConfig, signer: Arc<dyn Signer>) -> Result<Opened, StoreError> {
    let held = disk.lock().map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => StoreError::InUse,
        _ => while_doing("locking the data directory")(error),
    })?;
    disk.create_dir_all(place::JOURNAL_DIR).map_err(while_doing("making the journal's directory"))?;
    disk.create_dir_all("topics").map_err(while_doing("making the topics' directory"))?;
    let store = Arc::new(Store::empty(disk.clone(), config));
    let mut replay = Replay::new(store.clone());
    let head = replay.load_checkpoint()?;
    let (files, mut slots) = read_journal(&*disk, head.journal_from)?;
    let tail = replay.files(&files)?;
    let last = files.last().map_or(0, |file| file.number).max(head.journal_from.number());
    let previous_end = replay.end.unwrap_or(Lsn::new(last, 0));
    slots.damaged = std::mem::take(&mut replay.damaged_files);
    let slots = Arc::new(Mutex::new(slots));
    let journal = Journal::begin(disk, slots.clone(), config.journal_file_bytes, last + 1, previous_end);
    let mut journal = journal.map_err(while_doing("beginning a journal file"))?;
    rewrite(&mut journal, tail).map_err(while_doing("rewriting the journal's tail"))?;
    // On a full disk the rest stays in memory and in the journal; it is flushed when there is room.
    if let Err(error) = flush::flush(&store) {
        tracing::warn!(%error, "batches of the journal could not be brought into their segments yet");
    }
    let rotation = Rotation {
        snapshot: checkpoint::snapshot(&store, Lsn::new(last + 1, 0)),
        number: last,
        buffered: replay.dirty.iter().copied().collect(),
    };
    let writer = Writer::new(store.clone(), signer, journal, slots);
    Ok(Opened {
        store,
        writer,
        engine: head.engine,
        replayed: replay.batches,
        rotation,
        recovered: replay.recovered,
        lock: held,
    })
}

/// Reads the journal files that hold records from `from` on; all others are free.
fn read_journal(disk: &dyn Disk, from: Lsn) -> Result<(Vec<FoundFile>, Slots), StoreError> {
    let (mut files, mut slots) = (Vec::new(), Slots::default());
    for name in disk.list(place::JOURNAL_DIR).map_err(while_doing("listing the journal"))? {
        let Some(slot) = name.strip_suffix(".journal").and_then(|stem| stem.parse::<u32>().ok()) else {
            continue;
        };
        let read = || -> io::Result<Bytes> {
            let file = disk.open(&place::journal_path(slot), OpenMode::Read)?;
            // A spare file is told by its beginning: nothing but zeros, or an earlier life.
            let start = segment::read_block(&*file, 0, 4096)?;
            if start.iter().all(|byte| *byte == 0) || journal::begun_before(&start, from) {
                return Ok(Bytes::new());
            }
            segment::read_block(&*file, 0, file.len()? as usize)
        };
        match journal::scan(&read().map_err(while_doing("reading the journal"))?) {
            Some(found) if found.number >= from.number() => {
                slots.used.insert(found.number, slot);
                files.push(found);
            }
            _ => slots.free.push(slot),
        }
    }
    files.sort_by_key(|file| file.number);
    Ok((files, slots))
}

fn rewrite(journal: &mut Journal, tail: Vec<Record>) -> io::Result<()> {
    let mut rest = tail.as_slice();
    while !rest.is_empty() {
        let mut room = journal.room();
        let fits = |record: &&Record| {
            let takes = record.bytes() <= room;
            room = room.saturating_sub(record.bytes());
            takes
        };
        let count = rest.iter().take_while(fits).count();
        if count == 0 {
            journal.sync()?;
            journal.rotate()?;
            continue;
        }
        journal.write(&rest[..count])?;
        rest = &rest[count..];
    }
    journal.sync()
}

struct Replay {
    store: Arc<Store>,
    batches: Vec<Batch>,
    dirty: BTreeSet<(LogId, u32)>,
    recovered: Recovered,
    damaged_files: BTreeSet<u32>,
    /// Where the newest file's good part ends.
    end: Option<Lsn>,
}

impl Replay {
    fn new(store: Arc<Store>) -> Self {
        let (batches, dirty, recovered) = (Vec::new(), BTreeSet::new(), Recovered::default());
        Self { store, batches, dirty, recovered, damaged_files: BTreeSet::new(), end: None }
    }

    fn load_checkpoint(&mut self) -> Result<CheckpointHead, StoreError> {
        match checkpoint::load(&self.store) {
            Ok(head) => Ok(head.unwrap_or_default()),
            Err(CheckpointError::Disk(error)) => Err(while_doing("reading the checkpoint")(error)),
            Err(CheckpointError::Damaged) => {
                self.damage("the checkpoint is damaged: every segment was walked instead".into());
                self.recovered.is_rebuilt = true;
                rebuild(&self.store).map_err(while_doing("walking the segments"))?;
                Ok(CheckpointHead::default())
            }
        }
    }

    fn damage(&mut self, what: String) {
        tracing::error!("{what}");
        flush::count_damage(&self.store);
        self.recovered.damage.push(what);
    }

    /// Takes over the records of all files; answers those that may not be on the disk.
    fn files(&mut self, files: &[FoundFile]) -> Result<Vec<Record>, StoreError> {
        let ends = ends_of(files);
        let synced = files.iter().flat_map(|f| &f.records).map(|r| r.header.synced_until).max();
        let mut tail = Vec::new();
        for file in files {
            let end = self.end_of(file, ends.get(&file.number).copied(), synced.unwrap_or_default());
            for (at, next) in file.holes.iter().filter(|(at, _)| *at < end) {
                let until = next.unwrap_or(end).min(end);
                self.damaged_files.insert(file.number);
                self.damage(format!("journal {}: bytes {at} to {until} are damaged", file.number));
            }
            for record in file.records.iter().filter(|r| r.header.lsn.offset() < end) {
                let is_synced = record.header.lsn < synced.unwrap_or_default();
                tail.extend(self.record(record)?.filter(|_| !is_synced));
            }
            self.end = Some(Lsn::new(file.number, end));
        }
        Ok(tail)
    }

    /// Where a file's good part ends: where the next file says so, else at the first tear.
    fn end_of(&mut self, file: &FoundFile, told: Option<u64>, synced: Lsn) -> u64 {
        if let Some(told) = told {
            return told;
        }
        let bad_payloads = file.records.iter().filter(|r| r.payload.is_none()).map(|r| r.header.lsn.offset());
        let holes = file.holes.iter().map(|(at, _)| *at);
        let is_torn = |at: &u64| synced <= Lsn::new(file.number, *at);
        let tear = bad_payloads.chain(holes).filter(is_torn).min();
        let end = tear.unwrap_or(file.end);
        if end < file.records.last().map_or(0, |r| r.header.lsn.offset() + r.header.record_bytes()) {
            let what = format!("journal {}: torn at byte {end} and cut there", file.number);
            tracing::info!("{what}");
            self.recovered.torn.push(what);
        }
        end
    }

    /// Takes over one record; answers it again where it may have to be rewritten.
    fn record(&mut self, found: &FoundRecord) -> Result<Option<Record>, StoreError> {
        let place = Place { segment: found.header.segment, offset: found.header.offset };
        let Some(payload) = &found.payload else {
            self.damaged_files.insert(found.header.lsn.number());
            self.damage(format!("journal record {:?} is damaged", found.header.lsn));
            return Ok(None);
        };
        self.recovered.record_count += 1;
        let taken = match found.header.kind {
            RecordKind::Batch => self.batch(payload, place),
            RecordKind::Bulk => self.bulk(payload, place),
            RecordKind::Dirty => self.buffered(payload, place).map_err(while_doing("reading a segment"))?,
            RecordKind::Head => split_signed::<HEAD_BYTES>(payload).and_then(|(head, signature)| {
                let head = Head::decode(head).ok()?;
                let log = self.store.log(&head.log)?;
                let mut state = log.change();
                state.add_head(head, signature);
                state.roll_if_empty();
                Some(())
            }),
            RecordKind::Lost => split_signed::<LOST_BYTES>(payload).and_then(|(lost, signature)| {
                let lost = Lost::decode(lost).ok()?;
                let log = self.store.log(&lost.log)?;
                let mut state = log.change();
                if !state.lost.contains(&(lost, signature)) {
                    state.lost.push((lost, signature));
                }
                Some(())
            }),
            RecordKind::Topic => topic_of(payload).map(|(id, name)| self.store.add_topic(id, name)),
            RecordKind::Certificate => payload.split_first_chunk::<32>().map(|(peer, der)| {
                self.store.add_certificate(PeerId(*peer), der.into());
            }),
            RecordKind::Mark | RecordKind::Open => return Ok(None),
        };
        if taken.is_none() {
            self.damage(format!("journal record {:?} makes no sense", found.header.lsn));
        }
        let header = found.header;
        let again = Record {
            kind: header.kind,
            segment: place.segment,
            offset: place.offset,
            payload: payload.clone(),
        };
        Ok(taken.map(|()| again))
    }

    fn log_of(&self, id: LogId) -> Arc<crate::log::store::Log> {
        let name = self.store.topic_name(id.topic).unwrap_or_else(|| unnamed(id.topic));
        self.store.add_topic(id.topic, name.clone());
        self.store.log_or_new(id, &name)
    }

    fn batch(&mut self, payload: &Bytes, place: Place) -> Option<()> {
        let batch = Batch::parse(payload.clone()).ok()?;
        let log = self.log_of(batch.statement().log);
        let mut state = log.change();
        if !state.holds(batch.statement()) {
            state.add(batch.statement(), batch.link(), place, batch.bytes().len() as u64);
        }
        // Its segment may not have it yet, whatever the checkpoint knows: the same bytes go to the same place.
        self.store.keep(&log, &mut state, batch.clone(), place, false);
        self.batches.push(batch);
        Some(())
    }

    fn bulk(&mut self, payload: &Bytes, place: Place) -> Option<()> {
        let header = BatchHeader::parse(payload.first_chunk()?).ok()?;
        let log = self.log_of(header.statement.log);
        let bytes: &[u8; statement::STATEMENT_BYTES] = payload.first_chunk()?;
        let link = statement::link(bytes, &header.signature);
        let mut state = log.change();
        if !state.holds(&header.statement) {
            state.add(&header.statement, link, place, header.batch_bytes() as u64);
        }
        drop(state);
        let file = self.store.segment_file(&log, place.segment, false).ok();
        let end = place.offset + header.batch_bytes() as u64;
        let read = file.and_then(|file| {
            segment::read_batches(&*file, &log.id, place.offset, end, header.batch_bytes()).ok()
        });
        match read {
            Some(batches) => self.batches.extend(batches.into_iter().map(|(_, batch)| batch)),
            None => {
                let s = &header.statement;
                log.change().add_damage(Range { run: s.run, from: s.first_seq, until: s.until() });
                self.damage(format!(
                    "a large batch at {place:?} is damaged: entries {} to {}",
                    s.first_seq,
                    s.until()
                ));
            }
        }
        Some(())
    }

    /// Takes over batches that are in no journal, from `place` to the end of the segment or the first bad one.
    fn buffered(&mut self, payload: &Bytes, place: Place) -> io::Result<Option<()>> {
        let Some((topic, peer)) = payload.split_first_chunk::<16>() else { return Ok(None) };
        let Ok(peer) = peer.try_into() else { return Ok(None) };
        let log = self.log_of(LogId { topic: TopicId(*topic), peer: PeerId(peer) });
        self.dirty.insert((log.id, place.segment));
        let file = match self.store.segment_file(&log, place.segment, false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(())),
            answered => answered?,
        };
        let (mut at, end) = (place.offset, file.len()?);
        while at < end {
            let Ok(batches) = segment::read_batches(&*file, &log.id, at, end, 1 << 20) else { break };
            for (offset, batch) in batches {
                at = offset + batch.bytes().len() as u64;
                let mut state = log.change();
                let goes_on = state.tip().is_none_or(|tip| tip.until == batch.statement().first_seq);
                if goes_on && !state.holds(batch.statement()) {
                    let place = Place { segment: place.segment, offset };
                    state.add(batch.statement(), batch.link(), place, batch.bytes().len() as u64);
                    drop(state);
                    self.batches.push(batch);
                }
            }
        }
        if at < end {
            tracing::info!(topic = ?log.dir, "a segment that skips the journal ends at byte {at} of {end}");
        }
        Ok(Some(()))
    }
}

/// Where each file ended, as the first record of the file behind it says.
fn ends_of(files: &[FoundFile]) -> BTreeMap<u32, u64> {
    let opens = files.iter().filter_map(|file| file.records.first()).filter_map(|record| {
        let payload = record.payload.as_ref().filter(|_| record.header.kind == RecordKind::Open)?;
        Some(Lsn(u64::from_le_bytes(payload.as_ref().try_into().ok()?)))
    });
    opens.map(|end| (end.number(), end.offset())).collect()
}

fn topic_of(payload: &Bytes) -> Option<(TopicId, TopicName)> {
    let (id, name) = payload.split_first_chunk::<16>()?;
    Some((TopicId(*id), TopicName::system(std::str::from_utf8(name).ok()?).ok()?))
}

/// What a topic is called whose name was lost to damage.
fn unnamed(topic: TopicId) -> TopicName {
    TopicName::system(&format!("$unnamed-{topic}")).expect("forty-two plain characters are a name")
}

/// Finds everything by walking every segment: for a store whose checkpoint is unreadable.
fn rebuild(store: &Store) -> io::Result<()> {
    let mut found: BTreeMap<(String, u32), String> = BTreeMap::new();
    for dir in store.disk.list("topics")? {
        let path = format!("topics/{dir}");
        for name in store.disk.list(&path)? {
            let number = name.strip_suffix(".segment").and_then(|stem| stem.rsplit_once('-'));
            if let Some((peer, number)) = number
                && let Ok(number) = u32::from_str_radix(number, 16)
            {
                found.insert((format!("{path}/{peer}"), number), path.clone());
            }
        }
    }
    for ((stem, number), dir) in found {
        rebuild_segment(store, &stem, number, &dir)?;
    }
    Ok(())
}

fn rebuild_segment(store: &Store, stem: &str, number: u32, dir: &str) -> io::Result<()> {
    let file = store.disk.open(&format!("{stem}-{number:08x}.segment"), OpenMode::Read)?;
    let end = file.len()?;
    let Some(log) = log_in(&*file, end)? else { return Ok(()) };
    let name = unescape(dir).unwrap_or_else(|| unnamed(log.topic));
    store.add_topic(log.topic, name.clone());
    let log = store.log_or_new(log, &name);
    let mut walk = segment::Walk::new(&*file, 0, end);
    let mut state = log.change();
    while let Some((offset, header)) = walk.next(&log.id)? {
        let bytes = segment::read_block(&*file, offset, batch::HEADER_BYTES)?;
        let Some(bytes) = bytes.first_chunk::<{ statement::STATEMENT_BYTES }>() else { break };
        let link = statement::link(bytes, &header.signature);
        let place = Place { segment: number, offset };
        state.add(&header.statement, link, place, header.batch_bytes() as u64);
    }
    // What comes next goes to a segment of its own: the end of this one is not known for sure.
    state.next_place = state.next_place.max(Some(Place { segment: number + 1, offset: 0 }));
    Ok(())
}

/// The log that a segment belongs to: that of the first header in it that is sound.
pub(crate) fn log_in(file: &dyn crate::disk::DiskFile, end: u64) -> io::Result<Option<LogId>> {
    let mut at = 0;
    while at < end {
        let block = segment::read_block(file, at, (1 << 20) + batch::HEADER_BYTES)?;
        let places = block.len().saturating_sub(batch::HEADER_BYTES - 1);
        let header = |i: usize| block[i..].first_chunk().and_then(|bytes| BatchHeader::parse(bytes).ok());
        let found = (0..places).filter(|i| block[*i..*i + 4] == *b"CVYB").find_map(header);
        if found.is_some() || places == 0 {
            return Ok(found.map(|header| header.statement.log));
        }
        at += places as u64;
    }
    Ok(None)
}

/// The name that a topic's directory spells; `None` when it was too long to be spelled.
fn unescape(dir: &str) -> Option<TopicName> {
    let escaped = dir.strip_prefix("topics/")?;
    let (mut bytes, mut rest) = (Vec::new(), escaped.as_bytes());
    while let [first, tail @ ..] = rest {
        if *first == b'=' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    TopicName::system(&String::from_utf8(bytes).ok()?).ok()
}

/// Frees journal files that hold nothing a synced checkpoint does not cover. For tests of what opening leaves.
pub fn free_files(slots: &Mutex<Slots>) -> usize {
    lock(slots).free.len()
}
