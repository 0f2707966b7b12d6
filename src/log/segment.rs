//! Segments: batches of one log one behind the other, and the sparse index beside them.
//!
//! An index mark names the first batch that starts in each 64 KiB of the segment. The index is made when it is first
//! needed, kept in memory for a few segments, and written beside a segment that takes no more batches. It names the
//! length and the last batch header of the segment it was made from; one that does not fit is made again.
//!
//! A batch is accepted when its header's and its body's checksums are right and it belongs to the log. Where none
//! begins although one should, the next good one is searched for, byte by byte: what lies between is damaged. Bytes of an
//! entry may look like a batch, so what is found by searching must be signed too.
use crate::base::batch::{self, BatchHeader};
use crate::base::bytes_io::Reader;
use crate::base::limits::INDEX_STRIDE_BYTES;
use crate::base::{Batch, LogId, RunId, Seq, Timestamp};
use crate::disk::{DiskFile, OpenMode};
use crate::log::bad_sectors::OverBadSectors;
use crate::log::place;
use crate::log::store::{Log, Store, lock};
use bytes::{Bytes, BytesMut};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

/// Bytes read at once while headers are walked.
const WALK_BYTES: usize = 256 << 10;
/// Bytes read at once while the next batch is searched for.
pub(super) const SEARCH_BYTES: usize = 64 << 10;
/// Sectors that cannot be read which making an index puts up with.
const INDEX_ERRORS_MAX: usize = 64;

/// A place to begin a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexMark {
    /// The batch's run.
    pub run: RunId,
    /// Its first number.
    pub seq: Seq,
    /// Its first time.
    pub time: Timestamp,
    /// Where it begins.
    pub offset: u64,
}

/// Marks of a segment, as far as it was walked.
#[derive(Debug, Clone, Default)]
pub struct SegmentIndex {
    /// In order of offset.
    pub marks: Vec<IndexMark>,
    /// The byte behind the last batch that was walked.
    pub until: u64,
    /// The checksum of that batch's body.
    pub last_crc: u32,
}

impl SegmentIndex {
    /// The last mark in `[offset, end)` whose batch `fits` and does not begin behind what is searched for.
    pub fn mark_before(
        &self,
        offset: u64,
        end: u64,
        fits: impl Fn(&IndexMark) -> bool,
        is_behind: impl Fn(&IndexMark) -> bool,
    ) -> u64 {
        let from = self.marks.partition_point(|mark| mark.offset < offset);
        let until = self.marks.partition_point(|mark| mark.offset < end);
        let of_span = self.marks.get(from..until).unwrap_or(&[]);
        let at = of_span.partition_point(|mark| !is_behind(mark));
        // Where something strange lies between them, marks are in no order.
        let found = match at.checked_sub(1).map(|at| &of_span[at]) {
            Some(mark) if !fits(mark) || is_behind(mark) => {
                of_span.iter().filter(|mark| fits(mark)).take_while(|mark| !is_behind(mark)).last()
            }
            found => found,
        };
        found.map_or(offset, |mark| mark.offset)
    }

    fn walk(
        &mut self,
        file: &dyn DiskFile,
        log: &LogId,
        until: u64,
        is_signed: &dyn Fn(&BatchHeader) -> bool,
    ) -> io::Result<()> {
        let mut next_mark = self.marks.last().map_or(0, |mark| mark.offset / INDEX_STRIDE_BYTES + 1);
        let mut walk = Walk::new(file, self.until, until).checked(is_signed);
        while let Some((offset, header)) = walk.next(log)? {
            if offset / INDEX_STRIDE_BYTES >= next_mark {
                let s = header.statement;
                self.marks.push(IndexMark { run: s.run, seq: s.first_seq, time: s.first_time, offset });
                next_mark = offset / INDEX_STRIDE_BYTES + 1;
            }
            self.until = offset + header.batch_bytes() as u64;
            self.last_crc = header.envelope.body_crc;
        }
        self.until = until;
        Ok(())
    }
}

/// Walks the headers of batches from one offset to another, over damage.
pub struct Walk<'a> {
    file: &'a dyn DiskFile,
    at: u64,
    until: u64,
    block: Bytes,
    block_at: u64,
    is_signed: &'a dyn Fn(&BatchHeader) -> bool,
    /// Where no batch began although one should: from, until.
    pub holes: Vec<(u64, u64)>,
}

impl<'a> Walk<'a> {
    /// Walks `file` from `at`, where a batch begins, to `until`.
    pub fn new(file: &'a dyn DiskFile, at: u64, until: u64) -> Self {
        Self { file, at, until, block: Bytes::new(), block_at: 0, is_signed: &|_| true, holes: Vec::new() }
    }

    /// The same, going on behind damage only with a batch for which `is_signed` holds.
    pub fn checked(self, is_signed: &'a dyn Fn(&BatchHeader) -> bool) -> Self {
        Self { is_signed, ..self }
    }

    /// The next batch's offset and header; `None` at the end.
    pub fn next(&mut self, log: &LogId) -> io::Result<Option<(u64, BatchHeader)>> {
        loop {
            if self.at + batch::HEADER_BYTES as u64 > self.until {
                if self.at < self.until {
                    self.holes.push((self.at, self.until));
                    self.at = self.until;
                }
                return Ok(None);
            }
            if let Some(header) = self.header_at(self.at, log)? {
                let found = (self.at, header);
                self.at += header.batch_bytes() as u64;
                return Ok(Some(found));
            }
            let from = self.at;
            let found = find_batch(self.file, from + 1, self.until, log, self.is_signed)?;
            self.at = found.map_or(self.until, |(at, _)| at);
            self.holes.push((from, self.at));
        }
    }

    fn header_at(&mut self, at: u64, log: &LogId) -> io::Result<Option<BatchHeader>> {
        let block_end = self.block_at + self.block.len() as u64;
        if at < self.block_at || at + batch::HEADER_BYTES as u64 > block_end {
            // Behind a large batch the header alone is wanted; among small ones their neighbours too.
            let is_near = at < block_end + WALK_BYTES as u64;
            let bytes = if is_near { WALK_BYTES } else { batch::HEADER_BYTES };
            self.block = read_block(self.file, at, bytes)?;
            self.block_at = at;
        }
        let bytes = &self.block[(at - self.block_at) as usize..];
        Ok(bytes
            .first_chunk()
            .and_then(|bytes| good_header(bytes, log))
            .filter(|header| at + header.batch_bytes() as u64 <= self.until))
    }
}

fn good_header(bytes: &[u8; batch::HEADER_BYTES], log: &LogId) -> Option<BatchHeader> {
    BatchHeader::parse(bytes).ok().filter(|header| header.statement.log == *log)
}

/// The first offset in `[from, until)` where a batch of `log` begins that `accepts`, and its header.
pub fn find_batch(
    file: &dyn DiskFile,
    from: u64,
    until: u64,
    log: &LogId,
    accepts: &dyn Fn(&BatchHeader) -> bool,
) -> io::Result<Option<(u64, BatchHeader)>> {
    let mut at = from;
    while at + batch::HEADER_BYTES as u64 <= until {
        let wanted = (until - at).min((SEARCH_BYTES + batch::HEADER_BYTES - 1) as u64);
        let bytes = read_block(file, at, wanted as usize)?;
        let places = bytes.len().saturating_sub(batch::HEADER_BYTES - 1);
        let header = |i: usize| {
            let begins = bytes[i..i + 4] == *b"CVYB";
            let header =
                bytes[i..].first_chunk().filter(|_| begins).and_then(|bytes| good_header(bytes, log));
            Some((at + i as u64, header.filter(|header| accepts(header))?))
        };
        if let Some(found) = (0..places).find_map(header) {
            return Ok(Some(found));
        }
        if places == 0 {
            break;
        }
        at += places as u64;
    }
    Ok(None)
}

/// Up to `bytes` from `offset` on; fewer at the end of the file.
pub fn read_block(file: &dyn DiskFile, offset: u64, bytes: usize) -> io::Result<Bytes> {
    let mut block = BytesMut::zeroed(bytes);
    let count = file.read_at(offset, &mut block)?;
    block.truncate(count);
    Ok(block.freeze())
}

/// Why a batch could not be read where it should be.
#[derive(Debug)]
pub enum BadBatch {
    /// The disk gave an error.
    Io(io::Error),
    /// No good batch begins at this offset.
    At(u64),
}

/// Whole batches of `log` that lie one behind the other from `offset` on, up to `end`: at least one, and no more than
/// fit in `bytes_max`. Their checksums are right; they share one block of memory.
pub fn read_batches(
    file: &dyn DiskFile,
    log: &LogId,
    offset: u64,
    end: u64,
    bytes_max: usize,
) -> Result<Vec<(u64, Batch)>, BadBatch> {
    // A file that power loss left short ends before what is asked for.
    let wanted = end.saturating_sub(offset).min(bytes_max.max(batch::HEADER_BYTES) as u64) as usize;
    let mut block = read_block(file, offset, wanted).map_err(BadBatch::Io)?;
    let header = block.first_chunk().and_then(|bytes| good_header(bytes, log)).ok_or(BadBatch::At(offset))?;
    if header.batch_bytes() > block.len() {
        if offset + header.batch_bytes() as u64 > end {
            return Err(BadBatch::At(offset));
        }
        block = read_block(file, offset, header.batch_bytes()).map_err(BadBatch::Io)?;
    }
    let (mut batches, mut at) = (Vec::new(), 0usize);
    while let Some(header) = block[at..].first_chunk().and_then(|bytes| good_header(bytes, log)) {
        let until = at + header.batch_bytes();
        if until > block.len() {
            break;
        }
        let good = Batch::parse(block.slice(at..until)).ok().filter(|batch| batch.check_body().is_ok());
        let Some(batch) = good else { break };
        batches.push((offset + at as u64, batch));
        at = until;
    }
    if batches.is_empty() { Err(BadBatch::At(offset)) } else { Ok(batches) }
}

/// A count of uses, and for each segment when its index was used last, and the index.
type HeldIndexes = (u64, BTreeMap<(LogId, u32), (u64, Arc<SegmentIndex>)>);

/// Indexes of a few segments, the least used forgotten first.
#[derive(Debug, Default)]
pub struct IndexCache {
    held: Mutex<HeldIndexes>,
}

/// Indexes kept in memory at most; one of a full segment takes some 64 KiB.
const INDEXES_MAX: usize = 128;

impl IndexCache {
    fn get(&self, key: &(LogId, u32)) -> Option<Arc<SegmentIndex>> {
        let mut held = lock(&self.held);
        held.0 += 1;
        let tick = held.0;
        let found = held.1.get_mut(key)?;
        found.0 = tick;
        Some(found.1.clone())
    }

    fn put(&self, key: (LogId, u32), index: Arc<SegmentIndex>) {
        let mut held = lock(&self.held);
        held.0 += 1;
        let tick = held.0;
        held.1.insert(key, (tick, index));
        if held.1.len() > INDEXES_MAX {
            let oldest = held.1.iter().min_by_key(|(_, (tick, _))| *tick).map(|(key, _)| *key);
            oldest.and_then(|key| held.1.remove(&key));
        }
    }

    pub(crate) fn forget(&self, key: &(LogId, u32)) {
        lock(&self.held).1.remove(key);
    }
}

/// The index of a segment up to `end`, from memory, from its file, or made now. One that was made over sectors that cannot
/// be read has no marks there, and is not kept: they may be readable the next time.
pub fn index(store: &Store, log: &Log, segment: u32, end: u64) -> io::Result<Arc<SegmentIndex>> {
    let key = (log.id, segment);
    let held = store.indexes.get(&key);
    if let Some(index) = held.as_ref().filter(|index| index.until >= end) {
        return Ok(index.clone());
    }
    let mut index = match held {
        Some(index) => (*index).clone(),
        None => load(store, log, segment, end).unwrap_or_default(),
    };
    if index.until < end {
        let file = store.segment_file(log, segment)?;
        let is_signed = |header: &BatchHeader| store.is_signed(header);
        if index.walk(&*file, &log.id, end, &is_signed).is_err() {
            let over = OverBadSectors::new(file, INDEX_ERRORS_MAX);
            index.walk(&over, &log.id, end, &is_signed)?;
            if over.has_errors() {
                return Ok(Arc::new(index));
            }
        }
    }
    let index = Arc::new(index);
    store.indexes.put(key, index.clone());
    Ok(index)
}

const INDEX_MAGIC: [u8; 8] = *b"CVYI\x01\0\0\0";
const INDEX_HEADER_BYTES: usize = 32;
const MARK_BYTES: usize = 32;

/// Writes the index of a segment that ends at `end` beside it. It is not synced: what is missing is made again.
pub fn save(store: &Store, log: &Log, segment: u32, end: u64) -> io::Result<()> {
    let out = encode_index(&*index(store, log, segment, end)?);
    let path = place::index_path(&log.dir, &log.id, segment);
    let file = store.disk.open(&path, OpenMode::Create)?;
    file.set_len(0)?;
    file.write_at(0, &[&out])
}

/// The bytes of an index file.
pub fn encode_index(index: &SegmentIndex) -> Vec<u8> {
    let mut out = Vec::with_capacity(INDEX_HEADER_BYTES + index.marks.len() * MARK_BYTES + 4);
    out.extend_from_slice(&INDEX_MAGIC);
    out.extend_from_slice(&index.until.to_le_bytes());
    out.extend_from_slice(&index.last_crc.to_le_bytes());
    out.extend_from_slice(&(index.marks.len() as u32).to_le_bytes());
    out.extend_from_slice(&[0; 8]);
    for mark in &index.marks {
        for field in [mark.run.0, mark.seq.0, mark.time.0, mark.offset] {
            out.extend_from_slice(&field.to_le_bytes());
        }
    }
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

/// Reads the index beside a segment; `None` when there is none that fits.
fn load(store: &Store, log: &Log, segment: u32, end: u64) -> Option<SegmentIndex> {
    let path = place::index_path(&log.dir, &log.id, segment);
    let file = store.disk.open(&path, OpenMode::Read).ok()?;
    let bytes = read_block(&*file, 0, usize::try_from(file.len().ok()?).ok()?).ok()?;
    let index = decode_index(&bytes)?;
    (index.until == end && ends_with(store, log, segment, &index)).then_some(index)
}

/// Reads an index file's bytes; `None` when they are damaged.
pub fn decode_index(bytes: &[u8]) -> Option<SegmentIndex> {
    let (covered, crc) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    if crc != crc32c::crc32c(covered).to_le_bytes() {
        return None;
    }
    let mut r = Reader::new(covered);
    if r.array::<8>().ok()? != INDEX_MAGIC {
        return None;
    }
    let (until, last_crc, count) = (r.u64().ok()?, r.u32().ok()?, r.u32().ok()? as usize);
    r.take(8).ok()?;
    if r.rest().len() != count.checked_mul(MARK_BYTES)? {
        return None;
    }
    let mut marks = Vec::with_capacity(count);
    for _ in 0..count {
        let (run, seq, time, offset) = (r.u64().ok()?, r.u64().ok()?, r.u64().ok()?, r.u64().ok()?);
        marks.push(IndexMark { run: RunId(run), seq: Seq(seq), time: Timestamp(time), offset });
    }
    Some(SegmentIndex { marks, until, last_crc })
}

/// Whether the segment still ends with the batch that the index names, walking from the last mark.
fn ends_with(store: &Store, log: &Log, segment: u32, index: &SegmentIndex) -> bool {
    let Ok(file) = store.segment_file(log, segment) else { return false };
    let from = index.marks.last().map_or(0, |mark| mark.offset);
    let (mut walk, mut last) = (Walk::new(&*file, from, index.until), None);
    while let Ok(Some((offset, header))) = walk.next(&log.id) {
        last = Some((offset + header.batch_bytes() as u64, header.envelope.body_crc));
    }
    last == Some((index.until, index.last_crc))
}
