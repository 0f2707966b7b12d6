//! Every file of a data directory: what in it is good, and what is not.
//!
//! What was never synced may be torn after a power loss, and is no finding: the end of a segment beyond what the
//! checkpoint and the journal know, and the end of the journal beyond what a later record declares synced.
use super::Finding;
use super::chain::{Chain, Good};
use crate::base::batch::BatchHeader;
use crate::base::{Batch, Digest, Head, LogId, Lost, RunId, Seq, Signature, TopicId, TopicName};
use crate::cli::exit::{Exit, failure};
use crate::disk::{Disk, FileDisk, OpenMode};
use crate::identity::certificate::Usage;
use crate::identity::sign::{Ed25519Verifier, verify_signed};
use crate::identity::{Authority, Certificate, Credentials};
use crate::log::checkpoint::{self, CheckpointError};
use crate::log::journal::{self, Before, FoundFile};
use crate::log::record::{Lsn, RecordHeader, RecordKind};
use crate::log::segment::{self, Walk};
use crate::log::state::Range;
use crate::log::{LogConfig, Store, StoreError, place};
use anyhow::Result;
use bytes::Bytes;
use indicatif::ProgressBar;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

mod batches;
mod lost;

pub use batches::log_of;

/// What was read.
pub struct Scan {
    /// What is not as it should be.
    pub findings: Vec<Finding>,
    /// What is worth saying and is no damage.
    pub notes: Vec<String>,
    /// The good batches of each log, as far as they are in segments.
    logs: BTreeMap<LogId, Chain>,
    /// Good batches of the journal that were seen in no segment yet.
    in_journal_alone: BTreeMap<Digest, Good>,
    /// Segments, and where in them batches lie of which the header is good, and no more.
    paths: Vec<String>,
    bad: BTreeSet<(String, u64)>,
    /// How far runs reach, by the checkpoint and by the journal.
    pub known: BTreeMap<LogId, BTreeMap<RunId, Seq>>,
    /// Files read.
    pub file_count: u64,
    /// Bytes read.
    pub read_bytes: u64,
    disk: Arc<FileDisk>,
    store: Store,
    journal_from: Lsn,
    has_no_checkpoint: bool,
    /// What is kept of each run, by heads that the journal has.
    starts: BTreeMap<(LogId, RunId), Seq>,
    /// What was declared lost of each log, neighbours put together.
    lost: BTreeMap<LogId, Vec<Range>>,
    /// Segments that must be there, by the checkpoint and the journal.
    segments: BTreeMap<(LogId, u32), Reach>,
    /// Which bytes of segments the journal has whole, so that they may not be there yet.
    in_journal: BTreeMap<(LogId, u32), Vec<(u64, u64)>>,
    authority: Option<Authority>,
    bar: ProgressBar,
}

/// How far a segment reaches at least.
#[derive(Debug, Default)]
struct Reach {
    /// In bytes.
    end: u64,
    /// What is in it.
    ranges: Vec<Range>,
}

impl Scan {
    /// Reads everything in `disk`, whose lock the caller holds.
    pub fn of(disk: FileDisk, bar: ProgressBar) -> Result<Self> {
        let authority = authority(disk.root());
        let disk = Arc::new(disk);
        let mut scan = Self {
            findings: Vec::new(),
            notes: Vec::new(),
            logs: BTreeMap::new(),
            in_journal_alone: BTreeMap::new(),
            paths: Vec::new(),
            bad: BTreeSet::new(),
            known: BTreeMap::new(),
            segments: BTreeMap::new(),
            in_journal: BTreeMap::new(),
            file_count: 0,
            read_bytes: 0,
            store: Store::empty(disk.clone(), LogConfig::default(), Arc::new(Ed25519Verifier)),
            disk,
            journal_from: Lsn::default(),
            has_no_checkpoint: false,
            starts: BTreeMap::new(),
            lost: BTreeMap::new(),
            authority,
            bar,
        };
        scan.checkpoint()?;
        scan.journal()?;
        scan.lost.values_mut().for_each(lost::join);
        let known: BTreeMap<String, (LogId, u32)> = scan.known_segments();
        let mut paths = Vec::new();
        for dir in scan.disk.list("topics")? {
            let dir = format!("topics/{dir}");
            let names = scan.disk.list(&dir)?.into_iter().filter(|name| name.ends_with(".segment"));
            paths.extend(names.map(|name| format!("{dir}/{name}")));
        }
        if scan.has_no_checkpoint && !paths.is_empty() {
            scan.found(place::CHECKPOINT, "it is missing, and there are segments");
        }
        paths.sort_unstable();
        for path in &paths {
            scan.segment(path, known.get(path).copied())?;
        }
        for (path, key) in known.iter().filter(|(path, _)| !paths.contains(path)) {
            let what = format!("it is missing, and should hold {} bytes", scan.segments[key].end);
            let is_lost = scan.rest_is_lost(key, &BTreeMap::new());
            scan.told(is_lost, path, what);
        }
        scan.paths = paths;
        Ok(scan)
    }

    /// The segments of which something is kept, by their paths.
    fn known_segments(&self) -> BTreeMap<String, (LogId, u32)> {
        let mut known = BTreeMap::new();
        for ((log, segment), reach) in &self.segments {
            let is_kept = reach.ranges.iter().any(|range| range.until > self.start_of(log, range.run));
            if let Some(name) = self.store.topic_name(log.topic).filter(|_| is_kept) {
                let path = place::segment_path(&place::topic_dir(&name), log, *segment);
                known.insert(path, (*log, *segment));
            }
        }
        known
    }

    /// Takes note of what is said to be durable: numbers of a run, in a segment up to byte `end`.
    fn must_hold(&mut self, log: LogId, range: Range, segment: u32, end: u64) {
        let reach = self.known.entry(log).or_default().entry(range.run).or_default();
        *reach = range.until.max(*reach);
        let known = self.segments.entry((log, segment)).or_default();
        known.end = end.max(known.end);
        match known.ranges.last_mut() {
            Some(last) if last.run == range.run && last.until == range.from => last.until = range.until,
            _ => known.ranges.push(range),
        }
    }

    /// The topic of a log, as people know it.
    pub fn topic_words(&self, log: &LogId) -> String {
        let known = self.store.topic_name(log.topic).map(|name| name.to_string());
        known.unwrap_or_else(|| format!("topic {}", log.topic.short()))
    }

    /// The first number of a run that is kept, as far as the checkpoint and the journal know.
    pub fn start_of(&self, log: &LogId, run: RunId) -> Seq {
        let old = self.store.log(log).and_then(|log| Some(log.look().run(run)?.start));
        let new = self.starts.get(&(*log, run)).copied();
        old.max(new).unwrap_or(Seq::FIRST)
    }

    fn found(&mut self, place: &str, what: impl Into<String>) {
        self.findings.push(Finding { place: place.to_owned(), what: what.into() });
    }

    fn count(&mut self, bytes: u64) {
        self.read_bytes += bytes;
        self.bar.inc(bytes);
    }

    fn checkpoint(&mut self) -> Result<()> {
        match checkpoint::load(&self.store) {
            Err(CheckpointError::Version { found }) => {
                let known = checkpoint::VERSION;
                let message = StoreError::Version { found, known }.to_string();
                return Err(failure(Exit::Refused, message));
            }
            Ok(Some(head)) => self.journal_from = head.journal_from,
            Ok(None) => self.has_no_checkpoint = true,
            Err(error) => self.found(place::CHECKPOINT, error.to_string()),
        }
        self.file_count += 1;
        for log in self.store.logs() {
            let state = log.look();
            for span in &state.spans {
                let start = state.run(span.run).map_or(Seq::FIRST, |run| state.start_of(run));
                if span.until > start {
                    let range = Range { run: span.run, from: span.from, until: span.until };
                    self.must_hold(log.id, range, span.segment, span.end);
                }
            }
            for (lost, _) in &state.lost {
                let range = Range { run: lost.run, from: lost.from, until: lost.until };
                self.lost.entry(log.id).or_default().push(range);
            }
        }
        for (peer, der) in self.store.certificates() {
            self.certificate(place::CHECKPOINT, &peer.to_string(), &der);
        }
        Ok(())
    }

    fn certificate(&mut self, place: &str, peer: &str, der: &[u8]) {
        let checked = match &self.authority {
            Some(authority) => authority.check_ignoring_time(der, Usage::Serve),
            None => Certificate::parse(der),
        };
        match checked {
            Ok(certificate) if certificate.key.to_string() == peer => (),
            Ok(_) => self.found(place, format!("the certificate kept for {peer} is that of another peer")),
            Err(error) => self.found(place, format!("the certificate of {peer}: {error}")),
        }
    }

    fn journal(&mut self) -> Result<()> {
        let mut files = Vec::new();
        for name in self.disk.list(place::JOURNAL_DIR)?.into_iter().filter(|name| name.ends_with(".journal"))
        {
            let path = format!("{}/{name}", place::JOURNAL_DIR);
            let file = self.disk.open(&path, OpenMode::Read)?;
            let bytes = segment::read_block(&*file, 0, file.len()? as usize)?;
            self.file_count += 1;
            self.count(bytes.len() as u64);
            let used = journal::scan(&bytes).filter(|found| found.number >= self.journal_from.number());
            files.extend(used.map(|found| (path, found)));
        }
        files.sort_by_key(|(_, file)| file.number);
        // Whatever lies before this was declared synced by a good record.
        let good = files.iter().flat_map(|(_, file)| &file.records).filter(|record| record.payload.is_some());
        let synced_until = good.map(|record| record.header.synced_until).max().unwrap_or_default();
        let mut next = self.journal_from.number();
        for index in 0..files.len() {
            let (path, file) = &files[index];
            let before = file.records.first().and_then(Before::of);
            let is_again = before.is_some_and(|before| before.copied_from <= Lsn::new(next, 0));
            if file.number > next && !is_again {
                self.found(path, format!("journal files {next} up to {} are missing before it", file.number));
            }
            next = file.number + 1;
            let behind: Vec<Before> =
                files[index + 1..].iter().filter_map(|(_, f)| Before::of(f.records.first()?)).collect();
            self.journal_file(path, file, &behind, synced_until);
        }
        Ok(())
    }

    /// Checks a file whose end and whose copies the files `behind` it tell of, as recovery does.
    fn journal_file(&mut self, path: &str, file: &FoundFile, behind: &[Before], synced_until: Lsn) {
        let copied_from = behind.iter().map(|before| before.copied_from).min();
        let sure_until = copied_from.map_or(synced_until, |from| from.min(synced_until));
        let told = behind.iter().map(|before| before.end).find(|end| end.number() == file.number);
        let bad = file.records.iter().filter(|r| r.payload.is_none()).map(|r| r.header.lsn.offset());
        let bad = bad.chain(file.holes.iter().map(|(at, _)| *at));
        let is_tear = |at: &u64| Lsn::new(file.number, *at) >= sure_until;
        let end = bad.filter(is_tear).chain(told.map(Lsn::offset)).min().unwrap_or(u64::MAX);
        for (at, _) in file.holes.iter().filter(|(at, _)| *at < end) {
            self.found(path, format!("no record begins at byte {at}, where a synced one should"));
        }
        for record in file.records.iter().filter(|record| record.header.lsn.offset() < end) {
            let (header, at) = (&record.header, record.header.lsn.offset());
            match &record.payload {
                Some(payload) => self.record(path, at, header, payload.clone()),
                None => self
                    .found(path, format!("the record at byte {at} was synced, and its bytes changed since")),
            }
        }
    }

    fn record(&mut self, path: &str, at: u64, header: &RecordHeader, payload: Bytes) {
        let goes_to = (header.segment, header.offset);
        match header.kind {
            RecordKind::Batch => match Batch::parse(payload) {
                Ok(batch) => {
                    let ((segment, offset), log) = (goes_to, batch.statement().log);
                    let bytes = (offset, offset + batch.bytes().len() as u64);
                    self.in_journal.entry((log, segment)).or_default().push(bytes);
                    let good = self.batch(path, at, &batch);
                    self.in_journal_alone.extend(good.map(|good| (good.link, good)));
                }
                Err(error) => self.found(path, format!("the batch at byte {at}: {error}")),
            },
            RecordKind::Bulk => match payload.first_chunk().map(BatchHeader::parse) {
                // It was synced before the journal spoke of it.
                Some(Ok(batch)) => {
                    let (s, (segment, offset)) = (&batch.statement, goes_to);
                    let range = Range { run: s.run, from: s.first_seq, until: s.until() };
                    self.must_hold(s.log, range, segment, offset + batch.batch_bytes() as u64);
                }
                _ => self.found(path, format!("the record at byte {at} names no batch")),
            },
            RecordKind::Topic => {
                let named = payload.split_first_chunk().and_then(|(id, name)| {
                    Some((TopicId(*id), TopicName::system(std::str::from_utf8(name).ok()?).ok()?))
                });
                match named {
                    Some((id, name)) => self.store.add_topic(id, name),
                    None => self.found(path, format!("the record at byte {at} names no topic")),
                }
            }
            RecordKind::Head => {
                match payload.split_first_chunk().map(|(head, rest)| (Head::decode(head), rest.try_into())) {
                    Some((Ok(head), Ok(signature))) if verify_signed(&head, &Signature(signature)) => {
                        let start = self.starts.entry((head.log, head.run)).or_default();
                        *start = head.start.max(*start);
                    }
                    _ => self.found(path, format!("the head at byte {at} is not what its peer signed")),
                }
            }
            RecordKind::Lost => {
                match payload.split_first_chunk().map(|(lost, rest)| (Lost::decode(lost), rest.try_into())) {
                    Some((Ok(lost), Ok(signature))) if verify_signed(&lost, &Signature(signature)) => {
                        let range = Range { run: lost.run, from: lost.from, until: lost.until };
                        self.lost.entry(lost.log).or_default().push(range);
                    }
                    _ => self.found(path, format!("the loss at byte {at} is not what its peer signed")),
                }
            }
            _ => (),
        }
    }

    /// Reads a segment that must be good as far as it is known.
    fn segment(&mut self, path: &str, known: Option<(LogId, u32)>) -> Result<()> {
        let file = self.disk.open(path, OpenMode::Read)?;
        let (length, known_end) = (file.len()?, known.map_or(0, |key| self.segments[&key].end));
        self.file_count += 1;
        self.count(length);
        let (mut seen, mut edges) = (BTreeMap::new(), Vec::new());
        if let Some(log) = log_of(&*file, length)? {
            let mut walk = Walk::new(&*file, 0, length);
            let (mut last, mut hole_count) = (None, 0);
            while let Some((offset, header)) = walk.next(&log)? {
                let (s, end) = (header.statement, offset + header.batch_bytes() as u64);
                // Of the batches those are kept that lie beside a hole.
                let before = last.replace((offset, end, s));
                if std::mem::replace(&mut hole_count, walk.holes.len()) != hole_count {
                    edges.extend(before.into_iter().chain(last));
                }
                seen.entry(s.run)
                    .and_modify(|seen: &mut Seq| *seen = s.until().max(*seen))
                    .or_insert(s.until());
                let good = match Batch::parse(segment::read_block(&*file, offset, header.batch_bytes())?) {
                    Ok(batch) => self.batch(path, offset, &batch),
                    Err(error) => {
                        self.bad_batch(path, &s, format!("the batch at byte {offset}: {error}"));
                        None
                    }
                };
                self.chain(path, offset, good);
            }
            edges.extend(last);
            edges.dedup_by_key(|(offset, ..)| *offset);
            let in_journal = number_of(path).and_then(|number| self.in_journal.get(&(log, number)));
            let holes = without(walk.holes, in_journal.map_or(&[], Vec::as_slice));
            self.holes(path, &log, known_end, &holes, &edges);
        } else if length > 0 {
            match known {
                None => {
                    self.notes.push(format!("{path}: nothing in it was declared durable, and it is torn"))
                }
                Some(key) => {
                    self.told(self.rest_is_lost(&key, &seen), path, "no batch could be found in it");
                }
            }
        }
        if length < known_end {
            let is_lost = known.is_some_and(|key| self.rest_is_lost(&key, &seen));
            self.told(is_lost, path, format!("it ends at byte {length}, and should hold {known_end} bytes"));
        }
        Ok(())
    }
}

/// The number of a segment, by the name of its file.
fn number_of(path: &str) -> Option<u32> {
    let (_, number) = path.strip_suffix(".segment")?.rsplit_once('-')?;
    u32::from_str_radix(number, 16).ok()
}

/// What is left of `holes` without the bytes in `spared`.
fn without(holes: Vec<(u64, u64)>, spared: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let cut = |left: Vec<(u64, u64)>, (from, until): &(u64, u64)| -> Vec<(u64, u64)> {
        let parts = left.into_iter().flat_map(|(a, b)| [(a, b.min(*from)), (a.max(*until), b)]);
        parts.filter(|(a, b)| a < b).collect()
    };
    spared.iter().fold(holes, cut)
}

/// What peers' certificates are checked against, where the directory says.
fn authority(dir: &Path) -> Option<Authority> {
    Credentials::peer_of_data_dir(dir).ok().map(|credentials| credentials.authority().clone())
}
