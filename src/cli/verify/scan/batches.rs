//! The batches that were found good, one log after the other, and what must be looked for in them a second time.
use super::super::chain::{Chain, Good};
use super::Scan;
use crate::base::batch::{self, BatchHeader};
use crate::base::{Batch, LogId, statement};
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::identity::sign::verify_signed;
use crate::log::segment::{self, Walk};
use anyhow::Result;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

impl Scan {
    /// Checks one batch whose header is good; answers what its chain needs of it, where all of it is.
    pub(super) fn batch(&mut self, path: &str, at: u64, batch: &Batch) -> Option<Good> {
        let s = batch.statement();
        let name = format!(
            "the batch at byte {at} (run {}, entries {} up to {})",
            s.run.short(),
            s.first_seq,
            s.until()
        );
        if let Err(error) = batch.check_body().and_then(|()| batch.check_entries()) {
            self.bad_batch(path, s, format!("{name}: {error}"));
            return None;
        }
        if !verify_signed(s, batch.signature()) {
            self.bad_batch(path, s, format!("{name}: the signature is not that of its peer"));
            return None;
        }
        Some(Good { statement: *s, link: batch.link(), bytes: batch.bytes().len() as u64 })
    }

    /// Takes note of what lies in a segment.
    pub(super) fn chain(&mut self, path: &str, at: u64, good: Option<Good>) {
        match good {
            Some(good) => {
                self.in_journal_alone.remove(&good.link);
                self.logs.entry(good.statement.log).or_default().add(good);
            }
            None => drop(self.bad.insert((path.to_owned(), at))),
        }
    }

    /// The batches of each log that something is known of, those of the journal behind those of segments.
    pub fn chains(&mut self) -> Result<BTreeMap<LogId, Chain>> {
        let mut logs = std::mem::take(&mut self.logs);
        // A log of which nothing is left is missed too.
        for log in self.known.keys() {
            logs.entry(*log).or_default();
        }
        let mut rest: Vec<Good> = std::mem::take(&mut self.in_journal_alone).into_values().collect();
        rest.sort_by_key(|good| (good.statement.run, good.statement.first_seq));
        for good in &rest {
            logs.entry(good.statement.log).or_default().add(good.clone());
        }
        let mut sought = BTreeSet::new();
        for (log, chain) in &mut logs {
            if chain.seek(|run| self.start_of(log, run)) {
                sought.insert(*log);
            }
        }
        if !sought.is_empty() {
            self.look_again(&mut logs, &sought)?;
        }
        for good in &rest {
            let chain = logs.get_mut(&good.statement.log);
            chain.into_iter().for_each(|chain| chain.look(&good.statement, good.link));
        }
        Ok(logs)
    }

    /// Goes through the headers of all good batches of some logs.
    fn look_again(&self, logs: &mut BTreeMap<LogId, Chain>, sought: &BTreeSet<LogId>) -> Result<()> {
        for path in &self.paths {
            let file = self.disk.open(path, OpenMode::Read)?;
            let length = file.len()?;
            let log = log_of(&*file, length)?.filter(|log| sought.contains(log));
            let Some((log, chain)) = log.and_then(|log| Some((log, logs.get_mut(&log)?))) else { continue };
            let mut walk = Walk::new(&*file, 0, length);
            while let Some((offset, BatchHeader { statement, signature, .. })) = walk.next(&log)? {
                if !self.bad.contains(&(path.clone(), offset)) {
                    chain.look(&statement, statement::link(&statement.encode(), &signature));
                }
            }
        }
        Ok(())
    }
}

/// The log whose batches a segment holds, by the first batch header that can be found.
pub fn log_of(file: &dyn DiskFile, length: u64) -> Result<Option<LogId>> {
    const BLOCK: usize = 1 << 20;
    let mut at = 0;
    while at < length {
        let bytes: Bytes = segment::read_block(file, at, BLOCK + batch::HEADER_BYTES)?;
        let places = 0..bytes.len().saturating_sub(batch::HEADER_BYTES - 1).min(BLOCK);
        let begins = |i: &usize| bytes[*i..].starts_with(b"CVYB");
        let parse = |i: usize| BatchHeader::parse(bytes[i..].first_chunk()?).ok();
        if let Some(header) = places.filter(begins).find_map(parse) {
            return Ok(Some(header.statement.log));
        }
        at += BLOCK as u64;
    }
    Ok(None)
}
