//! Every file of a data directory: what in it is good, and what is not.
//!
//! What was never synced may be torn after a power loss, and is no finding: the end of a segment beyond what the
//! checkpoint and the journal know, and the end of the journal beyond what a later record declares synced.
use super::Finding;
use super::chain::Good;
use crate::base::{Batch, Head, LogId, Seq, Signature, TopicId};
use crate::disk::{Disk, DiskFile, FileDisk, OpenMode};
use crate::identity::sign::verify_signed;
use crate::identity::{Authority, Certificate, Credentials};
use crate::log::journal::{self, FoundFile};
use crate::log::record::{Lsn, RecordKind};
use crate::log::segment::{self, Walk};
use crate::log::{LogConfig, Store, checkpoint, place};
use anyhow::Result;
use bytes::Bytes;
use indicatif::ProgressBar;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// What was read.
pub struct Scan {
    /// What is not as it should be.
    pub findings: Vec<Finding>,
    /// What is worth saying and is no damage.
    pub notes: Vec<String>,
    /// Good batches of each log; some twice, from the journal and from their segment.
    pub logs: BTreeMap<LogId, Vec<Good>>,
    /// Files read.
    pub file_count: u64,
    /// Bytes read.
    pub read_bytes: u64,
    disk: Arc<FileDisk>,
    store: Store,
    journal_from: Lsn,
    /// Names of topics that the journal has and the checkpoint has not.
    topics: BTreeMap<TopicId, String>,
    /// What is kept of each log, by heads that the journal has.
    starts: BTreeMap<LogId, Seq>,
    authority: Option<Authority>,
    bar: ProgressBar,
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
            file_count: 0,
            read_bytes: 0,
            store: Store::empty(disk.clone(), LogConfig::default()),
            disk,
            journal_from: Lsn::default(),
            topics: BTreeMap::new(),
            starts: BTreeMap::new(),
            authority,
            bar,
        };
        scan.checkpoint();
        scan.journal()?;
        for dir in scan.disk.list("topics")? {
            let dir = format!("topics/{dir}");
            for name in scan.disk.list(&dir)?.into_iter().filter(|name| name.ends_with(".segment")) {
                scan.segment(&format!("{dir}/{name}"))?;
            }
        }
        Ok(scan)
    }

    /// The topic of a log, as people know it.
    pub fn topic_words(&self, log: &LogId) -> String {
        let known = self.store.topic_name(log.topic).map(|name| name.to_string());
        let known = known.or_else(|| self.topics.get(&log.topic).cloned());
        known.unwrap_or_else(|| format!("topic {}", log.topic.short()))
    }

    /// The first number of a log that is kept, as far as the checkpoint and the journal know.
    pub fn start_of(&self, log: &LogId) -> Seq {
        let old = self.store.log(log).map_or(Seq::FIRST, |log| log.look().start);
        self.starts.get(log).copied().unwrap_or_default().max(old).max(Seq::FIRST)
    }

    fn found(&mut self, place: &str, what: impl Into<String>) {
        self.findings.push(Finding { place: place.to_owned(), what: what.into() });
    }

    fn count(&mut self, bytes: u64) {
        self.read_bytes += bytes;
        self.bar.inc(bytes);
    }

    fn checkpoint(&mut self) {
        match checkpoint::load(&self.store) {
            Ok(Some(head)) => self.journal_from = head.journal_from,
            Ok(None) => self.notes.push("there is no checkpoint yet".to_owned()),
            Err(error) => self.found(place::CHECKPOINT, error.to_string()),
        }
        self.file_count += 1;
        for (peer, der) in self.store.certificates() {
            self.certificate(place::CHECKPOINT, &peer.to_string(), &der);
        }
    }

    fn certificate(&mut self, place: &str, peer: &str, der: &[u8]) {
        let checked = match &self.authority {
            Some(authority) => authority.check_ignoring_time(der),
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
        // Whatever lies before this was declared synced by a good record.
        let good = files.iter().flat_map(|(_, file)| &file.records).filter(|record| record.payload.is_some());
        let synced_until = good.map(|record| record.header.synced_until).max().unwrap_or_default();
        for (path, file) in files {
            self.journal_file(&path, file, synced_until);
        }
        Ok(())
    }

    fn journal_file(&mut self, path: &str, file: FoundFile, synced_until: Lsn) {
        for (at, next) in &file.holes {
            if Lsn::new(file.number, *at) < synced_until && next.is_some() {
                self.found(path, format!("no record begins at byte {at}, where a synced one should"));
            }
        }
        for record in file.records {
            let (header, at) = (record.header, record.header.lsn.offset());
            let Some(payload) = record.payload else {
                if header.lsn < synced_until {
                    self.found(
                        path,
                        format!("the record at byte {at} was synced, and its bytes changed since"),
                    );
                }
                continue;
            };
            if header.lsn < self.journal_from {
                continue;
            }
            self.record(path, at, header.kind, payload);
        }
    }

    fn record(&mut self, path: &str, at: u64, kind: RecordKind, payload: Bytes) {
        match kind {
            RecordKind::Batch => match Batch::parse(payload) {
                Ok(batch) => self.batch(path, at, &batch),
                Err(error) => self.found(path, format!("the batch at byte {at}: {error}")),
            },
            RecordKind::Topic => {
                if let Some((id, name)) = payload.split_first_chunk() {
                    self.topics.insert(TopicId(*id), String::from_utf8_lossy(name).into_owned());
                }
            }
            RecordKind::Head => {
                match payload.split_first_chunk().map(|(head, rest)| (Head::decode(head), rest.try_into())) {
                    Some((Ok(head), Ok(signature))) if verify_signed(&head, &Signature(signature)) => {
                        let start = self.starts.entry(head.log).or_default();
                        *start = head.start.max(*start);
                    }
                    _ => self.found(path, format!("the head at byte {at} is not what its peer signed")),
                }
            }
            _ => (),
        }
    }

    fn segment(&mut self, path: &str) -> Result<()> {
        let file = self.disk.open(path, OpenMode::Read)?;
        let length = file.len()?;
        self.file_count += 1;
        self.count(length);
        if length == 0 {
            return Ok(());
        }
        let Some(log) = log_of(&*file, length)? else {
            self.found(path, "no batch could be found in it");
            return Ok(());
        };
        let mut walk = Walk::new(&*file, 0, length);
        while let Some((offset, header)) = walk.next(&log)? {
            let bytes = segment::read_block(&*file, offset, header.batch_bytes())?;
            match Batch::parse(bytes) {
                Ok(batch) => self.batch(path, offset, &batch),
                Err(error) => self.found(path, format!("the batch at byte {offset}: {error}")),
            }
        }
        let known_end = self.known_end(path, &log);
        for (from, until) in walk.holes {
            if from < known_end {
                self.found(path, format!("bytes {from} up to {until} hold no batch that can be read"));
            } else {
                self.notes.push(format!(
                    "{path}: bytes {from} up to {until} were never declared durable, and are torn"
                ));
            }
        }
        Ok(())
    }

    /// The byte behind the last batch of a segment that the checkpoint knows.
    fn known_end(&self, path: &str, log: &LogId) -> u64 {
        let Some(log) = self.store.log(log) else { return 0 };
        let state = log.look();
        let here =
            state.spans.iter().filter(|span| place::segment_path(&log.dir, &log.id, span.segment) == path);
        here.map(|span| span.end).max().unwrap_or(0)
    }

    /// Checks one batch whose header is good, and keeps what the chain needs of it.
    fn batch(&mut self, path: &str, at: u64, batch: &Batch) {
        let s = batch.statement();
        let name = format!(
            "the batch at byte {at} (run {}, entries {} up to {})",
            s.run.short(),
            s.first_seq,
            s.until()
        );
        if let Err(error) = batch.check_body().and_then(|()| batch.check_entries()) {
            return self.found(path, format!("{name}: {error}"));
        }
        if !verify_signed(s, batch.signature()) {
            return self.found(path, format!("{name}: the signature is not that of its peer"));
        }
        let good = Good { statement: *s, link: batch.link(), bytes: batch.bytes().len() as u64 };
        self.logs.entry(s.log).or_default().push(good);
    }
}

/// The log whose batches a segment holds, by the first batch header that can be found.
pub fn log_of(file: &dyn DiskFile, length: u64) -> Result<Option<LogId>> {
    const BLOCK: usize = 1 << 20;
    let mut at = 0;
    while at < length {
        let bytes: Bytes = segment::read_block(file, at, BLOCK + crate::base::batch::HEADER_BYTES)?;
        let places = 0..bytes.len().saturating_sub(crate::base::batch::HEADER_BYTES - 1).min(BLOCK);
        let begins = |i: &usize| bytes[*i..].starts_with(b"CVYB");
        let parse = |i: usize| crate::base::batch::BatchHeader::parse(bytes[i..].first_chunk()?).ok();
        if let Some(header) = places.filter(begins).find_map(parse) {
            return Ok(Some(header.statement.log));
        }
        at += BLOCK as u64;
    }
    Ok(None)
}

/// What peers' certificates are checked against, where the directory says.
fn authority(dir: &Path) -> Option<Authority> {
    Credentials::peer_of_data_dir(dir).ok().map(|credentials| credentials.authority().clone())
}
