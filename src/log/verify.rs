//! Looking at a store without opening it: every checksum, digest, signature and link, and what is missing.
//!
//! Nothing is written. The caller holds the directory's lock, so nothing moves meanwhile. What lies behind the checkpoint
//! in a segment may be on its way there from the journal when the peer was stopped hard; it is walked too, and counts as
//! damaged only where good batches surround it.
use crate::base::{Batch, Digest, LogId, RunId, Seq};
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::identity::sign::{Verifier, verify_with};
use crate::log::checkpoint::{self, CheckpointError};
use crate::log::journal;
use crate::log::place::{JOURNAL_DIR, segment_path};
use crate::log::record::RecordKind;
use crate::log::segment::{Walk, read_block};
use crate::log::state::Span;
use crate::log::store::{LogConfig, Store};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// What was looked at, and what is wrong.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Segments walked.
    pub segment_count: u64,
    /// Batches checked.
    pub batch_count: u64,
    /// Entries whose digests were checked.
    pub entry_count: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Records of the journal that were checked.
    pub record_count: u64,
    /// Signatures checked; each authenticates all batches that it is linked to.
    pub signature_count: u64,
    /// What is wrong.
    pub damage: Vec<Damage>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// The file.
    pub path: String,
    /// The first byte.
    pub from: u64,
    /// The byte behind the last.
    pub until: u64,
    /// What is wrong, in words.
    pub what: String,
}

struct Check<'a> {
    disk: &'a dyn Disk,
    verifier: &'a dyn Verifier,
    progress: &'a mut dyn FnMut(u64),
    report: Report,
}

/// Checks everything on `disk`. `progress` is told of bytes as they are read.
pub fn verify(
    disk: Arc<dyn Disk>,
    verifier: &dyn Verifier,
    progress: &mut dyn FnMut(u64),
) -> io::Result<Report> {
    let store = Store::empty(disk.clone(), LogConfig::default());
    let mut check = Check { disk: &*disk, verifier, progress, report: Report::default() };
    match checkpoint::load(&store) {
        Ok(_) => {}
        Err(CheckpointError::Disk(error)) => return Err(error),
        Err(CheckpointError::Damaged) => check.damage("checkpoint", 0, 0, "the checkpoint is damaged".into()),
    }
    check.journal()?;
    let mut known: BTreeMap<String, (LogId, Vec<Span>)> = BTreeMap::new();
    for log in store.logs() {
        for span in &log.look().spans {
            let path = segment_path(&log.dir, &log.id, span.segment);
            known.entry(path).or_insert((log.id, Vec::new())).1.push(*span);
        }
    }
    for path in segments(&*disk)? {
        check.segment(&path, known.remove(&path))?;
    }
    for (path, (_, spans)) in known {
        let (from, until) = (spans.iter().map(|s| s.offset).min(), spans.iter().map(|s| s.end).max());
        check.damage(&path, from.unwrap_or(0), until.unwrap_or(0), "the segment is missing".into());
    }
    Ok(check.report)
}

/// All segments, in order.
pub fn segments(disk: &dyn Disk) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    let topics = match disk.list("topics") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        answered => answered?,
    };
    for dir in topics {
        let path = format!("topics/{dir}");
        let names = disk.list(&path)?;
        found.extend(names.iter().filter(|n| n.ends_with(".segment")).map(|n| format!("{path}/{n}")));
    }
    Ok(found)
}

impl Check<'_> {
    fn damage(&mut self, path: &str, from: u64, until: u64, what: String) {
        self.report.damage.push(Damage { path: path.to_owned(), from, until, what });
    }

    fn journal(&mut self) -> io::Result<()> {
        let names = match self.disk.list(JOURNAL_DIR) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            answered => answered?,
        };
        for name in names.iter().filter(|name| name.ends_with(".journal")) {
            let path = format!("{JOURNAL_DIR}/{name}");
            let file = self.disk.open(&path, OpenMode::Read)?;
            let bytes = read_block(&*file, 0, file.len()? as usize)?;
            self.read(bytes.len());
            let Some(found) = journal::scan(&bytes) else { continue };
            let synced = found.records.iter().map(|r| r.header.synced_until).max();
            for record in &found.records {
                let (from, until) =
                    (record.header.lsn.offset(), record.header.lsn.offset() + record.header.record_bytes());
                self.report.record_count += 1;
                let Some(payload) = &record.payload else {
                    if synced > Some(record.header.lsn) {
                        self.damage(&path, from, until, "a record's payload is damaged".into());
                    }
                    continue;
                };
                if record.header.kind == RecordKind::Batch {
                    match Batch::parse(payload.clone()) {
                        Ok(batch) => self.batch(&path, from, &batch),
                        Err(error) => self.damage(&path, from, until, error.to_string()),
                    }
                }
            }
            for (from, next) in found.holes {
                if let Some(until) = next {
                    self.damage(&path, from, until, "no record begins where one should".into());
                }
            }
        }
        Ok(())
    }

    fn read(&mut self, bytes: usize) {
        self.report.read_bytes += bytes as u64;
        (self.progress)(bytes as u64);
    }

    fn segment(&mut self, path: &str, known: Option<(LogId, Vec<Span>)>) -> io::Result<()> {
        self.report.segment_count += 1;
        let file = self.disk.open(path, OpenMode::Read)?;
        let end = file.len()?;
        let log = match &known {
            Some((log, _)) => Some(*log),
            None => crate::log::rebuild::log_in(&*file, end)?,
        };
        let Some(log) = log else {
            if end > 0 {
                self.damage(path, 0, end, "no batch can be found in it".into());
            }
            return Ok(());
        };
        let spans = known.map(|(_, spans)| spans).unwrap_or_default();
        for span in &spans {
            if span.end > end {
                self.damage(
                    path,
                    end,
                    span.end,
                    format!("the file is too short: it should have {} bytes", span.end),
                );
            }
        }
        self.walk(path, &*file, &log, end, &spans)
    }

    fn walk(
        &mut self,
        path: &str,
        file: &dyn DiskFile,
        log: &LogId,
        end: u64,
        spans: &[Span],
    ) -> io::Result<()> {
        let mut chain = Chain::default();
        let mut walk = Walk::new(file, 0, end);
        while let Some((offset, header)) = walk.next(log)? {
            let bytes = read_block(file, offset, header.batch_bytes())?;
            self.read(bytes.len());
            let until = offset + header.batch_bytes() as u64;
            let batch = match Batch::parse(bytes) {
                Ok(batch) => batch,
                Err(error) => {
                    self.damage(path, offset, until, error.to_string());
                    continue;
                }
            };
            if !chain.goes_on(&batch) {
                self.signature(path, chain.last.take());
            }
            if let Some(what) = chain.contradiction(&batch) {
                self.damage(path, offset, until, what);
            }
            chain.last = Some((offset, batch.clone()));
            chain.note(&batch);
            self.entries(path, offset, &batch);
        }
        self.signature(path, chain.last.take());
        for (from, until) in walk.holes {
            // Behind the checkpoint a hole at the end of the file is what was on its way there.
            let is_known = spans.iter().any(|span| span.offset < until && from < span.end);
            if is_known || until < end {
                self.damage(path, from, until, "no batch begins where one should".into());
            }
        }
        Ok(())
    }

    fn batch(&mut self, path: &str, offset: u64, batch: &Batch) {
        self.entries(path, offset, batch);
        self.signature(path, Some((offset, batch.clone())));
    }

    fn entries(&mut self, path: &str, offset: u64, batch: &Batch) {
        self.report.batch_count += 1;
        self.report.entry_count += u64::from(batch.statement().entry_count);
        let checked = batch.check_body().and_then(|()| batch.check_entries());
        if let Err(error) = checked {
            let until = offset + batch.bytes().len() as u64;
            let s = batch.statement();
            self.damage(path, offset, until, format!("entries {} to {}: {error}", s.first_seq, s.until()));
        }
    }

    fn signature(&mut self, path: &str, last: Option<(u64, Batch)>) {
        let Some((offset, batch)) = last else { return };
        self.report.signature_count += 1;
        if !verify_with(self.verifier, batch.statement(), batch.signature()) {
            let until = offset + batch.bytes().len() as u64;
            let what =
                format!("the signature of the batch of entry {} is wrong", batch.statement().first_seq);
            self.damage(path, offset, until, what);
        }
    }
}

/// The batches seen last of one segment, for the links between them.
#[derive(Default)]
struct Chain {
    /// The last batch, whose signature is still to be checked.
    last: Option<(u64, Batch)>,
    link: Option<Digest>,
    until: BTreeMap<RunId, Seq>,
}

impl Chain {
    /// Whether the batch names the one before as its previous.
    fn goes_on(&self, batch: &Batch) -> bool {
        self.link.is_none_or(|link| link == batch.statement().previous)
    }

    /// What the batch says that cannot be true after those before it.
    fn contradiction(&self, batch: &Batch) -> Option<String> {
        let s = batch.statement();
        let until = *self.until.get(&s.run)?;
        if s.first_seq == until && !self.goes_on(batch) {
            return Some(format!("the batch of entry {} does not name the one before it", s.first_seq));
        }
        (s.first_seq != until).then(|| format!("entries {until} to {} are missing", s.first_seq))
    }

    fn note(&mut self, batch: &Batch) {
        self.link = Some(batch.link());
        self.until.insert(batch.statement().run, batch.statement().until());
    }
}
