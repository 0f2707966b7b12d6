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
use crate::base::planted::{self, Bug};
use crate::base::statement::{HEAD_BYTES, LOST_BYTES};
use crate::base::{
    Batch, Fork, Head, LogId, Lost, PeerId, RunId, Seq, Statement, TopicId, TopicName, statement,
};
use crate::disk::{Disk, DiskFile, DiskLock};
use crate::identity::sign::{Signer, Verifier};
use crate::log::bad_sectors::OverBadSectors;
use crate::log::checkpoint::{self, CheckpointError, CheckpointHead};
use crate::log::flush;
use crate::log::journal::{Before, FoundRecord, Journal, Record};
use crate::log::journal_files::{self, FileFacts};
use crate::log::place::{self, Place};
use crate::log::rebuild::{ERRORS_MAX, dir_of, rebuild, segments, unescape, unnamed};
use crate::log::record::{Lsn, RecordKind};
use crate::log::segment::{self, BadBatch};
use crate::log::severed;
use crate::log::state::{LogState, Lookup, Range};
use crate::log::store::{Log, LogConfig, Store, StoreError, while_doing};
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
    /// A checkpoint to write soon, so that old journal files are free again.
    pub rotation: Rotation,
    /// What was found.
    pub recovered: Recovered,
    /// The directory is ours while this lives.
    pub lock: DiskLock,
}

/// Opens the store on `disk`, or makes an empty one. `on_batch` is shown each batch that the engine may not remember
/// yet, in order; what it keeps of one should be small, since a slice of it keeps more in memory than itself.
pub fn open(
    disk: Arc<dyn Disk>,
    config: LogConfig,
    signer: Arc<dyn Signer>,
    verifier: Arc<dyn Verifier>,
    on_batch: &mut dyn FnMut(&Batch),
) -> Result<Opened, StoreError> {
    let held = disk.lock().map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => StoreError::InUse,
        _ => while_doing("locking the data directory")(error),
    })?;
    make_dirs(&*disk).map_err(while_doing("making the directories"))?;
    let store = Arc::new(Store::empty(disk.clone(), config, verifier));
    let mut replay = Replay::new(store.clone(), on_batch);
    let head = replay.load_checkpoint()?;
    let (files, mut slots) = journal_files::find(&*disk, head.journal_from, config.journal_file_bytes)
        .map_err(while_doing("reading the journal"))?;
    replay.fill_gaps(&files, head.journal_from)?;
    let tail = replay.files(&files)?;
    if !replay.recovered.damage.is_empty() {
        // What this peer wrote was here; what others wrote may never have come.
        let own = store.logs().into_iter().filter(|log| log.id.peer == signer.peer());
        own.for_each(|log| {
            log.change().add_holes_as_damage();
            severed::add_as_damage(&store, &log);
        });
    }
    let last = files.last().map_or(0, |file| file.number).max(head.journal_from.number());
    slots.damaged = std::mem::take(&mut replay.damaged_files);
    let slots = Arc::new(Mutex::new(slots));
    let before = replay.before(Lsn::new(last, 0));
    let journal = Journal::begin(disk, slots.clone(), config.journal_file_bytes, last + 1, before);
    let mut journal = journal.map_err(while_doing("beginning a journal file"))?;
    if !planted::is(Bug::TailNotRewritten) {
        rewrite(&mut journal, tail).map_err(while_doing("rewriting the journal's tail"))?;
    }
    tidy(&store);
    let (snapshot, covered) =
        (checkpoint::snapshot(&store, Lsn::new(last + 1, 0)), checkpoint::covered(&store));
    let writer = Writer::new(store.clone(), signer, journal, slots);
    Ok(Opened {
        store,
        writer,
        engine: head.engine,
        rotation: Rotation { snapshot, number: last, covered },
        recovered: replay.recovered,
        lock: held,
    })
}

/// The directories, and every name in them that matters here: what a process left that died between a change of names
/// and its sync must not be built upon.
fn make_dirs(disk: &dyn Disk) -> io::Result<()> {
    disk.create_dir_all(place::JOURNAL_DIR)?;
    disk.create_dir_all(place::TOPICS_DIR)?;
    disk.sync_dir("")?;
    disk.sync_dir(place::JOURNAL_DIR)
}

/// Removes segments that were trimmed and are still there. What is in no segment yet stays in memory and in the journal:
/// the first checkpoint brings it there, while the peer serves.
fn tidy(store: &Store) {
    for log in store.logs() {
        if let Err(error) = flush::discard(store, &log.id) {
            tracing::warn!(%error, "trimmed segments could not be removed yet");
        }
    }
}

fn flush_or_warn(store: &Store) {
    // On a full disk the rest stays in memory and in the journal; it is flushed when there is room.
    if let Err(error) = flush::flush(store) {
        tracing::warn!(%error, "batches of the journal could not be brought into their segments yet");
    }
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

/// Why no batch was read where one may be.
enum NoBatch {
    /// There is none.
    Absent,
    /// The disk cannot read what lies there.
    Unreadable,
}

struct Replay<'a> {
    store: Arc<Store>,
    on_batch: &'a mut dyn FnMut(&Batch),
    /// Where the batches begin that were taken over from the journal.
    seen: BTreeSet<(LogId, Place)>,
    recovered: Recovered,
    damaged_files: BTreeSet<u32>,
    /// Which batches the journal tells of, and where: what else lies there was refused on a full disk.
    recorded: BTreeMap<(LogId, Place), (RunId, Seq)>,
    /// Where walks of buffered batches were cut although more bytes follow.
    cuts: BTreeMap<LogId, Place>,
    /// Whether good batches may lie behind damage that nothing else tells of.
    must_salvage: bool,
    /// Batches that were not found in their segments, and where they should be.
    unread: Vec<(Arc<Log>, Place, Range)>,
    /// Where logs went on at the checkpoint.
    places: BTreeMap<LogId, Place>,
    /// Where the newest file's good part ends.
    end: Option<Lsn>,
    /// Everything before this was synced.
    synced: Lsn,
    /// Whether segments hold batches that neither checkpoint nor journal tell of.
    must_walk: bool,
}

impl<'a> Replay<'a> {
    fn new(store: Arc<Store>, on_batch: &'a mut dyn FnMut(&Batch)) -> Self {
        Self {
            store,
            on_batch,
            seen: BTreeSet::new(),
            recovered: Recovered::default(),
            damaged_files: BTreeSet::new(),
            recorded: BTreeMap::new(),
            cuts: BTreeMap::new(),
            must_salvage: false,
            unread: Vec::new(),
            places: BTreeMap::new(),
            end: None,
            synced: Lsn::default(),
            must_walk: false,
        }
    }

    fn load_checkpoint(&mut self) -> Result<CheckpointHead, StoreError> {
        let head = match checkpoint::load(&self.store) {
            Ok(Some(head)) => head,
            Ok(None) => self.without_checkpoint().map_err(while_doing("writing the first checkpoint"))?,
            Err(CheckpointError::Disk(error)) => return Err(while_doing("reading the checkpoint")(error)),
            Err(CheckpointError::Version { found }) => {
                return Err(StoreError::Version { found, known: checkpoint::VERSION });
            }
            Err(CheckpointError::Damaged) => {
                // What was read of it before the damage showed is not to be believed either.
                self.store.forget_all();
                self.must_walk = true;
                self.damage("the checkpoint is damaged: every segment was walked instead".into());
                CheckpointHead::default()
            }
        };
        let next = |log: Arc<Log>| Some((log.id, log.look().next_place?));
        self.places = self.store.logs().into_iter().filter_map(next).collect();
        Ok(head)
    }

    /// A store without segments is new and gets a checkpoint, so that a checkpoint that is missing later is a loss.
    fn without_checkpoint(&mut self) -> io::Result<CheckpointHead> {
        if segments(&*self.store.disk)?.is_empty() {
            let (snapshot, head) =
                (checkpoint::snapshot(&self.store, Lsn::default()), CheckpointHead::default());
            checkpoint::write(&self.store, snapshot, &|_| {})?;
            return Ok(head);
        }
        self.must_walk = true;
        self.damage("the checkpoint is missing: every segment was walked instead".into());
        Ok(CheckpointHead::default())
    }

    /// Walks the segments when the journal does not go on where the checkpoint ends, or a file of it is missing.
    fn fill_gaps(&mut self, files: &[FileFacts], from: Lsn) -> Result<(), StoreError> {
        let mut next = from.number();
        for file in files {
            // Openings cut short by power loss leave numbers of which there is nothing that is not in this file again.
            let is_again = file.before.is_some_and(|before| before.copied_from <= Lsn::new(next, 0));
            if file.number > next && !is_again {
                self.must_walk = true;
                self.damage(format!("journal files {next} to {} are missing", file.number - 1));
            }
            next = file.number + 1;
        }
        if self.must_walk {
            self.recovered.is_rebuilt = true;
            let damage = rebuild(&self.store).map_err(while_doing("walking the segments"))?;
            damage.into_iter().for_each(|what| self.damage(what));
        }
        Ok(())
    }

    fn damage(&mut self, what: String) {
        tracing::error!("{what}");
        flush::count_damage(&self.store);
        self.recovered.damage.push(what);
    }

    /// Takes over the records of all files; answers those that may not be on the disk.
    fn files(&mut self, files: &[FileFacts]) -> Result<Vec<Record>, StoreError> {
        self.synced = files.iter().map(|file| file.synced_until).max().unwrap_or_default();
        let ends: Vec<u64> = (0..files.len()).map(|i| self.end_of(&files[i], &files[i + 1..])).collect();
        let recorded = files.iter().zip(&ends).flat_map(|(file, end)| {
            file.recorded.iter().filter(move |found| found.at < *end).map(|f| ((f.log, f.place), f.starts))
        });
        self.recorded = recorded.collect();
        let (mut tail, mut copies) = (Vec::new(), BTreeSet::<(u8, u32, u64, [u8; 32])>::new());
        for (file, end) in files.iter().zip(ends) {
            for (at, next) in file.holes.iter().filter(|(at, _)| *at < end) {
                let until = next.unwrap_or(end).min(end);
                self.damaged_files.insert(file.number);
                self.damage(format!("journal {}: bytes {at} to {until} are damaged", file.number));
            }
            // Its bytes are in memory until its records are taken over, and of no two files at once.
            let records = file.read(&*self.store.disk).map_err(while_doing("reading the journal again"))?;
            for record in records.iter().filter(|r| r.header.lsn.offset() < end) {
                let is_synced = record.header.lsn < self.synced;
                let again = self.record(record)?.filter(|_| !is_synced);
                // The digest tells copies, and not the checksum: that of bytes which end with their own is always the same.
                let is_new = |r: &Record| {
                    copies.insert((r.kind as u8, r.segment, r.offset, blake3::hash(&r.payload).into()))
                };
                tail.extend(again.filter(is_new));
                self.make_room(is_synced);
            }
            self.end = Some(Lsn::new(file.number, end));
        }
        if self.must_salvage || !self.damaged_files.is_empty() {
            self.salvage().map_err(while_doing("looking for batches of damaged records"))?;
        }
        if !self.recovered.damage.is_empty() || !self.unread.is_empty() {
            self.store.logs().iter().for_each(|log| log.change().settle());
        }
        self.tell_unread();
        Ok(tail)
    }

    /// Brings what was taken over into its segments when it is too much to be kept in memory. What may not be on the
    /// disk stays: nothing speaks of it before it is written again.
    fn make_room(&self, is_synced: bool) {
        if is_synced && self.store.unflushed_bytes() > self.store.config.unflushed_bytes_max {
            flush_or_warn(&self.store);
        }
    }

    /// Batches that should be in their segments and are not, unless they were trimmed, or had back since and lie elsewhere.
    fn tell_unread(&mut self) {
        for (log, place, range) in std::mem::take(&mut self.unread) {
            let is_missed = {
                let state = log.look();
                let start = state.run(range.run).map_or(Seq::FIRST, |run| state.start_of(run));
                let newest = state.find_written(range.run, range.from.max(start));
                let is_elsewhere = matches!(newest, Lookup::Span { span, .. } if !span.is_over(place));
                start < range.until && !is_elsewhere
            };
            if is_missed {
                log.change().add_damage(range);
                self.damage(format!("{}: entries {} to {} are damaged", log.dir, range.from, range.until));
            }
        }
    }

    /// Where a file's good part ends: where the file behind it says so, or at a tear before.
    fn end_of(&mut self, file: &FileFacts, behind: &[FileFacts]) -> u64 {
        let opens = || behind.iter().filter_map(|file| file.before);
        let told = opens().map(|before| before.end).find(|end| end.number() == file.number);
        let end = told.map_or(file.end, Lsn::offset);
        // Bad bytes before this are damage; behind it nobody was told of them, or the next file has them again.
        let copied_from = opens().map(|before| before.copied_from).min();
        let sure_until = copied_from.map_or(self.synced, |from| from.min(self.synced));
        let sure_until = if planted::is(Bug::RotTakenForTear) { Lsn::default() } else { sure_until };
        let holes = file.holes.iter().map(|(at, _)| *at);
        let is_tear = |at: &u64| *at < end && Lsn::new(file.number, *at) >= sure_until;
        let Some(tear) = file.bad_payloads.iter().copied().chain(holes).filter(is_tear).min() else {
            return end;
        };
        let what = format!("journal {}: torn at byte {tear} and cut there", file.number);
        tracing::info!("{what}");
        self.recovered.torn.push(what);
        tear
    }

    /// What the next file's first record says of those that were found.
    fn before(&self, nothing: Lsn) -> Before {
        let end = self.end.unwrap_or(nothing);
        let synced_until = self.synced.min(end);
        Before { end, copied_from: synced_until, synced_until }
    }

    /// Takes over one record; answers it again where it may have to be rewritten.
    fn record(&mut self, found: &FoundRecord) -> Result<Option<Record>, StoreError> {
        let place = Place { segment: found.header.segment, offset: found.header.offset };
        let Some(payload) = &found.payload else {
            self.damaged_files.insert(found.header.lsn.number());
            self.damage(format!("journal record {:?} is damaged", found.header.lsn));
            return self.bad_record(found, place).map(|()| None);
        };
        // In a buffer of its own: what is kept of it must not keep the whole file in memory.
        let payload = &Bytes::copy_from_slice(payload);
        self.recovered.record_count += 1;
        let taken = match found.header.kind {
            RecordKind::Batch => self.batch(payload, place),
            RecordKind::Bulk => self.bulk(payload, place).map_err(while_doing("reading a segment"))?,
            RecordKind::Dirty => self.buffered(payload, place).map_err(while_doing("reading a segment"))?,
            RecordKind::Head => split_signed::<HEAD_BYTES>(payload).and_then(|(head, signature)| {
                let head = Head::decode(head).ok()?;
                // Of another peer's log this may be all that is known.
                let log = self.log_of(head.log);
                let mut state = log.change();
                state.add_head(head, signature);
                state.roll_if_empty();
                Some(())
            }),
            RecordKind::Lost => split_signed::<LOST_BYTES>(payload).and_then(|(lost, signature)| {
                let lost = Lost::decode(lost).ok()?;
                self.log_of(lost.log).change().add_lost(lost, signature);
                Some(())
            }),
            RecordKind::Fork => payload.first_chunk().and_then(|bytes| {
                let fork = Fork::decode(bytes).ok()?;
                self.log_of(fork.log()).change().add_fork(&fork);
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

    /// A damaged record of a batch may still name the batch, which may be in its segment.
    fn bad_record(&mut self, found: &FoundRecord, place: Place) -> Result<(), StoreError> {
        let header = found.bad_payload.as_ref().filter(|bad| bad.len() >= batch::HEADER_BYTES);
        let Some(header) = header.map(|bad| bad.slice(..batch::HEADER_BYTES)) else { return Ok(()) };
        if matches!(found.header.kind, RecordKind::Batch | RecordKind::Bulk) {
            self.bulk(&header, place).map_err(while_doing("reading a segment"))?;
        }
        Ok(())
    }

    fn log_of(&self, id: LogId) -> Arc<Log> {
        if let Some(name) = self.store.topic_name(id.topic) {
            return self.store.log_or_new(id, &name);
        }
        // Its name was lost to damage; its segments, if it has any, lie in the directory that the name spelled.
        let found = dir_of(&self.store, id.topic).ok().flatten();
        let name = found.as_deref().and_then(unescape).unwrap_or_else(|| unnamed(id.topic));
        self.store.add_topic(id.topic, name.clone());
        if let Some(dir) = found {
            self.store.put_log(Log::new(id, dir.into(), LogState::new()));
        }
        self.store.log_or_new(id, &name)
    }

    fn batch(&mut self, payload: &Bytes, place: Place) -> Option<()> {
        let batch = Batch::parse(payload.clone()).ok()?;
        let log = self.log_of(batch.statement().log);
        if !self.seen.insert((log.id, place)) {
            return Some(());
        }
        self.judge_cut(&log, batch.statement(), place);
        let mut state = log.change();
        // A checkpoint that knows of it already was made with the record, before anybody could find damage there.
        if !state.holds_at(batch.statement(), place) {
            state.add(batch.statement(), batch.link(), place, batch.bytes().len() as u64);
        }
        // Its segment may not have it yet, whatever the checkpoint knows: the same bytes go to the same place.
        self.store.keep(&log, &mut state, batch.clone(), place, false);
        drop(state);
        (self.on_batch)(&batch);
        Some(())
    }

    /// What comes before a durable batch was durable when it was written: where a walk was cut before it, there was no
    /// tear. Where the log went on at the cut, or the batch lies where the next one had to, there was.
    fn judge_cut(&mut self, log: &Log, s: &Statement, place: Place) {
        let is_cut = self.cuts.remove(&log.id).is_some_and(|cut| cut < place);
        let is_next = {
            let state = log.look();
            // A branch that came from elsewhere goes on from nothing that lies before it; and what the checkpoint knows it
            // knows with everything before.
            state.goes_on_with(s)
                || state.holds_at(s, place)
                || state.next_place.map(|next| self.rolled(next)) == Some(place)
        };
        if is_cut && !is_next {
            self.must_salvage = true;
            self.damage(format!("{}: batches before {place:?} are damaged", log.dir));
        }
    }

    /// Where a batch went that had to go to `next`.
    fn rolled(&self, next: Place) -> Place {
        let is_full = next.offset >= self.store.config.segment_bytes;
        if is_full { Place { segment: next.segment + 1, offset: 0 } } else { next }
    }

    /// Takes over a batch that is in its segment and not in the journal.
    fn bulk(&mut self, payload: &Bytes, place: Place) -> io::Result<Option<()>> {
        let header = payload.first_chunk().and_then(|bytes| BatchHeader::parse(bytes).ok());
        let (Some(header), Some(bytes)) = (header, payload.first_chunk()) else { return Ok(None) };
        let log = self.log_of(header.statement.log);
        if !self.seen.insert((log.id, place)) {
            return Ok(Some(()));
        }
        self.judge_cut(&log, &header.statement, place);
        let s = &header.statement;
        let batch_bytes = header.batch_bytes();
        {
            let mut state = log.change();
            if !state.holds_at(s, place) {
                state.add(s, statement::link(bytes, &header.signature), place, batch_bytes as u64);
            }
        }
        let read = self.read(&log, place, place.offset + batch_bytes as u64, batch_bytes)?;
        match read.unwrap_or_default().into_iter().find(|(_, batch)| batch.statement() == s) {
            Some((_, batch)) => (self.on_batch)(&batch),
            None => self.unread.push((log, place, Range { run: s.run, from: s.first_seq, until: s.until() })),
        }
        Ok(Some(()))
    }

    /// Good batches one behind the other from `place` to `end`. Where there is none: whether the disk cannot read what lies
    /// there. It read the journal, so it is not away.
    fn read(
        &self,
        log: &Log,
        place: Place,
        end: u64,
        bytes_max: usize,
    ) -> io::Result<Result<Vec<(u64, Batch)>, NoBatch>> {
        let file = match self.store.segment_file(log, place.segment) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Err(NoBatch::Absent)),
            answered => OverBadSectors::new(answered?, ERRORS_MAX),
        };
        let end = end.min(file.len()?);
        Ok(match segment::read_batches(&file, &log.id, place.offset, end, bytes_max) {
            Ok(batches) => Ok(batches),
            Err(BadBatch::At(_)) if !file.has_errors_in(place.offset..end) => Err(NoBatch::Absent),
            Err(BadBatch::At(_) | BadBatch::Io(_)) => Err(NoBatch::Unreadable),
        })
    }

    /// Takes over batches that are in no journal, from `place` to the end of the segment or the first that does not go
    /// on from the one before. They are written again where they are: pages of a sync that failed look good until power
    /// is lost.
    fn buffered(&mut self, payload: &Bytes, place: Place) -> io::Result<Option<()>> {
        let Some(id) = journal_files::dirty_log(payload) else { return Ok(None) };
        let log = self.log_of(id);
        if self.cuts.get(&log.id).is_some_and(|cut| place <= *cut) {
            self.cuts.remove(&log.id);
        }
        let mut at = place;
        'walk: loop {
            let batches = match self.read(&log, at, u64::MAX, 1 << 20)? {
                Ok(batches) => batches,
                Err(NoBatch::Absent) => break,
                Err(NoBatch::Unreadable) => {
                    self.unreadable(&log, at);
                    return Ok(Some(()));
                }
            };
            for (offset, batch) in batches {
                let here = Place { segment: place.segment, offset };
                if !self.buffered_batch(&log, here, &batch)? {
                    break 'walk;
                }
                at.offset = offset + batch.bytes().len() as u64;
            }
        }
        let bytes = self.store.segment_file(&log, place.segment).and_then(|file| file.len()).unwrap_or(0);
        if at.offset < bytes {
            self.cuts.entry(log.id).or_insert(at);
            self.recovered
                .torn
                .push(format!("{} segment {}: cut at byte {}", log.dir, at.segment, at.offset));
        }
        Ok(Some(()))
    }

    /// What the disk cannot read is no tear: what lies behind it is looked for, and nothing is written over it.
    fn unreadable(&mut self, log: &Log, at: Place) {
        let what = format!(
            "{} segment {}: the disk cannot read what lies at byte {}",
            log.dir, at.segment, at.offset
        );
        if self.recovered.damage.contains(&what) {
            return;
        }
        self.damage(what);
        self.must_salvage = true;
        let mut state = log.change();
        state.next_place = state.next_place.max(Some(Place { segment: at.segment + 1, offset: 0 }));
    }

    fn buffered_batch(&mut self, log: &Arc<Log>, place: Place, batch: &Batch) -> io::Result<bool> {
        let s = batch.statement();
        let recorded = self.recorded.get(&(log.id, place));
        if recorded.is_some_and(|recorded| *recorded != (s.run, s.first_seq)) {
            return Ok(false);
        }
        {
            let mut state = log.change();
            if !state.holds_at(s, place) {
                // Behind a tear lies what was written before it and never heard of again.
                if !state.goes_on_with(s) {
                    return Ok(false);
                }
                // Nothing is missing between this and where an earlier walk was cut.
                self.cuts.remove(&log.id);
                state.add(s, batch.link(), place, batch.bytes().len() as u64);
            }
        }
        self.store.write_segment(log, place, &[batch.bytes()], true)?;
        if self.seen.insert((log.id, place)) {
            (self.on_batch)(batch);
        }
        Ok(true)
    }

    /// Looks behind the checkpoint in the segments for batches whose records are damaged.
    fn salvage(&mut self) -> io::Result<()> {
        for log in self.store.logs() {
            let first = Place { segment: 0, offset: 0 };
            let from = self.places.get(&log.id).copied().unwrap_or(first);
            let until = log.look().next_place.unwrap_or(from);
            for segment in from.segment..=until.segment + 1 {
                let Ok(file) = self.store.segment_file(&log, segment) else { continue };
                let offset = if segment == from.segment { from.offset } else { 0 };
                let is_signed = |header: &BatchHeader| self.store.is_signed(header);
                let file = OverBadSectors::new(file, ERRORS_MAX);
                let mut walk = segment::Walk::new(&file, offset, file.len()?).checked(&is_signed);
                // Of a segment that cannot be read at all nothing is found.
                while let Ok(Some((offset, header))) = walk.next(&log.id) {
                    let place = Place { segment, offset };
                    if log.look().holds_at(&header.statement, place) || self.seen.contains(&(log.id, place)) {
                        continue;
                    }
                    let end = offset + header.batch_bytes() as u64;
                    for (_, batch) in self.read(&log, place, end, header.batch_bytes())?.unwrap_or_default() {
                        let bytes = batch.bytes().len() as u64;
                        log.change().add(batch.statement(), batch.link(), place, bytes);
                        self.store.write_segment(&log, place, &[batch.bytes()], false)?;
                        (self.on_batch)(&batch);
                    }
                }
            }
        }
        Ok(())
    }
}

fn topic_of(payload: &Bytes) -> Option<(TopicId, TopicName)> {
    let (id, name) = payload.split_first_chunk::<16>()?;
    Some((TopicId(*id), TopicName::system(std::str::from_utf8(name).ok()?).ok()?))
}
