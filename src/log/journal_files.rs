//! Which files the journal has, and what must be known of all of them before the records of the first are taken over.
//!
//! ```text
//! find ──> numbers and facts of every file, read one at a time ──> read ──> the records of one file
//! ```
//!
//! A file is read twice, since it is as large as everything that may be kept in memory of it, and what ends it stands
//! in the files behind it. It knows nothing of logs; what to believe of a file's end is up to recovery.
use crate::base::batch::BatchHeader;
use crate::base::{LogId, PeerId, RunId, Seq, TopicId};
use crate::disk::{Disk, OpenMode};
use crate::log::journal::{self, Before, FoundRecord, Slots};
use crate::log::place::{self, Place};
use crate::log::record::{Lsn, RecordKind};
use crate::log::segment::read_block;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::io;

/// What is kept of a journal file between the two times it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileFacts {
    /// The journal number, from its records.
    pub(crate) number: u32,
    /// What its first record says of the files before it.
    pub(crate) before: Option<Before>,
    /// The furthest that one of its records says was synced.
    pub(crate) synced_until: Lsn,
    /// The byte behind its last record.
    pub(crate) end: u64,
    /// Where records begin whose payload is bad.
    pub(crate) bad_payloads: Vec<u64>,
    /// Positions where a record should begin and none does, with the position of the next good one, if any.
    pub(crate) holes: Vec<(u64, Option<u64>)>,
    /// Where the records of batches lie of logs that also have batches which are in no journal.
    pub(crate) recorded: Vec<Recorded>,
    slot: u32,
}

/// A record that tells which batch lies at a place of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recorded {
    /// The byte at which the record begins.
    pub(crate) at: u64,
    /// The batch's log.
    pub(crate) log: LogId,
    /// Where the batch lies.
    pub(crate) place: Place,
    /// Its run and first number.
    pub(crate) starts: (RunId, Seq),
}

/// Finds the journal files that hold records from `from` on, in their order; all others are free, but for those that
/// are shorter than a file should be, which are made anew when they are needed.
pub(crate) fn find(disk: &dyn Disk, from: Lsn, file_bytes: u64) -> io::Result<(Vec<FileFacts>, Slots)> {
    let (mut numbered, mut slots) = (Vec::new(), Slots::default());
    for name in disk.list(place::JOURNAL_DIR)? {
        let Some(slot) = name.strip_suffix(".journal").and_then(|stem| stem.parse::<u32>().ok()) else {
            continue;
        };
        let file = disk.open(&place::journal_path(slot), OpenMode::Read)?;
        // A spare file is told by its beginning, when that is of an earlier life. Zeros tell nothing: the block may be
        // lost, and what follows it not.
        let start = read_block(&*file, 0, 4096)?;
        let number = match journal::number_at_start(&start) {
            Some(number) => Some(number),
            None => journal::newest_number(&read_block(&*file, 0, file.len()? as usize)?),
        };
        match number.filter(|number| *number >= from.number()) {
            Some(number) => numbered.push((number, slot)),
            None if file.len()? >= file_bytes => slots.free.push(slot),
            None => {}
        }
    }
    numbered.sort_unstable();
    slots.used = numbered.iter().copied().collect();
    let mut dirty = BTreeSet::new();
    let facts = |(number, slot)| facts(disk, slot, number, &mut dirty);
    Ok((numbered.into_iter().map(facts).collect::<io::Result<_>>()?, slots))
}

impl FileFacts {
    /// The records of the file, read again. They share one buffer.
    pub(crate) fn read(&self, disk: &dyn Disk) -> io::Result<Vec<FoundRecord>> {
        let found = scan(disk, self.slot, self.number)?;
        let of = |r: &FoundRecord| r.payload.is_none().then_some(r.header.lsn.offset());
        let is_same = found.holes == self.holes
            && found.records.iter().filter_map(of).eq(self.bad_payloads.iter().copied());
        // What recovery decided of all files stands on what was read before.
        if !is_same {
            let what = format!("journal file {} reads otherwise than a moment ago", self.slot);
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(found.records)
    }
}

fn scan(disk: &dyn Disk, slot: u32, number: u32) -> io::Result<journal::FoundFile> {
    let file = disk.open(&place::journal_path(slot), OpenMode::Read)?;
    Ok(journal::scan_number(&read_block(&*file, 0, file.len()? as usize)?, number))
}

/// Reads a file for what must be known of it. `dirty` are the logs that have batches which are in no journal, as far as
/// the files before it tell: what a walk of those meets that is recorded was recorded behind that.
fn facts(disk: &dyn Disk, slot: u32, number: u32, dirty: &mut BTreeSet<LogId>) -> io::Result<FileFacts> {
    let found = scan(disk, slot, number)?;
    let mut facts = FileFacts {
        number,
        before: found.records.first().and_then(Before::of),
        synced_until: Lsn::default(),
        end: found.records.last().map_or(0, |r| r.header.lsn.offset() + r.header.record_bytes()),
        bad_payloads: Vec::new(),
        holes: found.holes,
        recorded: Vec::new(),
        slot,
    };
    for record in &found.records {
        let (header, at) = (&record.header, record.header.lsn.offset());
        facts.synced_until = facts.synced_until.max(header.synced_until);
        let Some(payload) = &record.payload else {
            facts.bad_payloads.push(at);
            continue;
        };
        match header.kind {
            RecordKind::Dirty => dirty.extend(dirty_log(payload)),
            RecordKind::Batch | RecordKind::Bulk => {
                let batch = payload.first_chunk().and_then(|bytes| BatchHeader::parse(bytes).ok());
                let place = Place { segment: header.segment, offset: header.offset };
                facts.recorded.extend(
                    batch.map(|b| b.statement).filter(|s| dirty.contains(&s.log)).map(|s| Recorded {
                        at,
                        log: s.log,
                        place,
                        starts: (s.run, s.first_seq),
                    }),
                );
            }
            _ => {}
        }
    }
    Ok(facts)
}

/// The log that a dirty record names.
pub(crate) fn dirty_log(payload: &Bytes) -> Option<LogId> {
    let (topic, peer) = payload.split_first_chunk::<16>()?;
    Some(LogId { topic: TopicId(*topic), peer: PeerId(peer.try_into().ok()?) })
}
