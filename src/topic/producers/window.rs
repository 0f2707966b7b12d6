//! What is remembered of one producer in one topic: its last chunks, in the order in which they were appended.
//!
//! Half a million of them are kept, so they are kept small: what differs from the chunk before, as varints, some ten
//! bytes. Each [`BLOCK_CHUNKS`] are sealed into a block that never changes and that snapshots share; only the last block
//! is open, and it is all that a snapshot copies.
//!
//! ```text
//! sealed        sealed        sealed        open
//! [64 chunks]   [64 chunks]   [64 chunks]   [1 to 64 chunks]
//!  ^ what is too old at the front counts as forgotten; its block goes when all of it is
//! ```
use super::{Known, Remembered};
use crate::base::bytes_io::{Reader, Truncated, put_varint};
use crate::base::limits::PRODUCER_WINDOW;
use crate::base::{RunId, Seq, Timestamp};
use std::sync::Arc;

/// Chunks in a sealed block: so many are read to find one of them, and so many too old ones may be kept.
pub(super) const BLOCK_CHUNKS: usize = 64;
/// What one chunk takes at most: count and run, and four differences.
const CHUNK_BYTES_MAX: usize = 5 + 8 + 4 * 10;

/// A chunk that was appended before all others: what the first of a block differs from.
const NONE: Remembered =
    Remembered { number: 0, count: 0, run: RunId(0), first_seq: Seq(0), first_time: Timestamp(0), step: 0 };

/// What one producer sent last. A clone shares all but the open block.
#[derive(Debug, Clone)]
pub(super) struct Window {
    sealed: Vec<Block<Arc<[u8]>>>,
    /// Not empty, but in a window that holds nothing.
    open: Block<Vec<u8>>,
    open_count: usize,
    /// The last chunk of the open block.
    last: Remembered,
    /// The number behind the highest that was appended.
    until: u64,
    /// Numbers below this were forgotten, whether they were appended or not.
    floor: u64,
    /// When it was used last, to forget the producer used least recently.
    pub(super) used: u64,
}

/// Chunks one after the other.
#[derive(Debug, Clone)]
struct Block<B> {
    /// All their numbers are in this range.
    low: u64,
    high: u64,
    bytes: B,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            sealed: Vec::new(),
            open: Block::empty(),
            open_count: 0,
            last: NONE,
            until: 0,
            floor: 0,
            used: 0,
        }
    }
}

impl Window {
    /// What is known of `count` entries from `number` on. Numbers that were never seen cost no search.
    pub(super) fn look(&self, number: u64, count: u32) -> Known {
        if number >= self.until {
            return Known::New;
        }
        let until = number.saturating_add(u64::from(count));
        let is_beyond = number < self.floor || self.until - number > PRODUCER_WINDOW;
        match self.find(number, until) {
            Some(found) if self.is_old(&found) && !self.chunks().any(|chunk| chunk == found) => {
                Known::Forgotten
            }
            Some(found) if (found.number, found.count) == (number, count) => Known::Repeat(found),
            Some(_) => Known::Mixed,
            None if is_beyond => Known::Forgotten,
            None => Known::New,
        }
    }

    /// The last chunk that holds one of these numbers.
    fn find(&self, number: u64, until: u64) -> Option<Remembered> {
        let in_sealed = || self.sealed.iter().rev().find_map(|block| block.find(number, until));
        self.open.find(number, until).or_else(in_sealed)
    }

    /// Remembers a chunk that was appended; one that is there already, among the last two, is not taken twice.
    pub(super) fn add(&mut self, chunk: Remembered) {
        let is_same =
            |c: &Remembered| (c.number, c.run, c.first_seq) == (chunk.number, chunk.run, chunk.first_seq);
        // Below the last number there is, what is behind all others is not among them.
        let may_be_there = chunk.number < self.until || chunk.number == u64::MAX;
        self.until = self.until.max(chunk.until());
        let is_there = may_be_there && self.all().skip(self.held().saturating_sub(2)).any(|c| is_same(&c));
        if !is_there {
            self.push(chunk);
        }
        let is_old = |block: &Block<_>| block.high.saturating_add(PRODUCER_WINDOW) < self.until;
        let old = self.sealed.iter().take_while(|block| is_old(block)).count();
        self.sealed.drain(..old);
    }

    fn push(&mut self, chunk: Remembered) {
        if self.open_count == BLOCK_CHUNKS {
            let full = std::mem::replace(&mut self.open, Block::empty());
            self.sealed.reserve_exact(1);
            self.sealed.push(Block { low: full.low, high: full.high, bytes: full.bytes.into() });
            (self.open_count, self.last) = (0, NONE);
        }
        self.open.push(&self.last, &chunk);
        (self.open_count, self.last) = (self.open_count + 1, chunk);
    }

    /// What is remembered, in the order of appending.
    pub(super) fn chunks(&self) -> impl Iterator<Item = Remembered> + '_ {
        let mut left = self.held();
        // What came last stays, however old its numbers: a window holds something, or it is not kept.
        self.all().skip_while(move |chunk| {
            left -= 1;
            left > 0 && self.is_old(chunk)
        })
    }

    fn all(&self) -> impl Iterator<Item = Remembered> + '_ {
        self.sealed.iter().flat_map(|block| read(&block.bytes)).chain(read(&self.open.bytes))
    }

    fn is_old(&self, chunk: &Remembered) -> bool {
        chunk.until().saturating_add(PRODUCER_WINDOW) < self.until
    }

    /// Chunks that take room: those that are remembered, and some that are too old.
    pub(super) fn held(&self) -> usize {
        self.sealed.len() * BLOCK_CHUNKS + self.open_count
    }

    /// Bytes that it takes, with what snapshots share.
    pub(super) fn bytes(&self) -> usize {
        let sealed: usize = self.sealed.iter().map(|block| block.bytes.len() + 2 * size_of::<usize>()).sum();
        let list = self.sealed.capacity() * size_of::<Block<Arc<[u8]>>>();
        size_of::<Self>() + list + sealed + self.open.bytes.capacity()
    }

    /// Numbers below this were forgotten, whether they were appended or not.
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// Says which numbers were forgotten.
    pub(super) fn set_floor(&mut self, floor: u64) {
        self.floor = floor;
    }

    /// Keeps the chunks that `keep` names; what was dropped is new when it comes again.
    pub(super) fn retain(&mut self, keep: impl Fn(&Remembered) -> bool) {
        let kept: Vec<_> = self.chunks().filter(keep).collect();
        self.rebuild(&kept);
        self.until = kept.iter().map(Remembered::until).max().unwrap_or(0);
    }

    /// Chunks that `is_meant` names are in another run.
    pub(super) fn rename(&mut self, run: RunId, is_meant: impl Fn(&Remembered) -> bool) {
        let rename = |chunk: Remembered| if is_meant(&chunk) { Remembered { run, ..chunk } } else { chunk };
        let all: Vec<_> = self.all().map(rename).collect();
        self.rebuild(&all);
    }

    /// Forgets the older half, and keeps that it did; returns how many chunks that was.
    pub(super) fn forget_half(&mut self) -> usize {
        let all: Vec<_> = self.all().collect();
        let (dropped, kept) = all.split_at(all.len() / 2);
        let old = all.len() - self.chunks().count();
        self.floor = dropped.iter().skip(old).map(Remembered::until).fold(self.floor, u64::max);
        self.rebuild(kept);
        dropped.len()
    }

    fn rebuild(&mut self, chunks: &[Remembered]) {
        *self = Self { until: self.until, floor: self.floor, used: self.used, ..Self::default() };
        chunks.iter().for_each(|chunk| self.push(*chunk));
    }
}

impl<B: AsRef<[u8]>> Block<B> {
    /// The last of its chunks that holds one of these numbers.
    fn find(&self, number: u64, until: u64) -> Option<Remembered> {
        let overlaps = |chunk: &Remembered| chunk.number < until && number < chunk.until();
        let may_hold = self.low < until && number < self.high;
        may_hold.then(|| read(self.bytes.as_ref()).filter(overlaps).last())?
    }
}

impl Block<Vec<u8>> {
    fn empty() -> Self {
        Self { low: u64::MAX, high: 0, bytes: Vec::new() }
    }

    /// Adds `chunk`, which comes behind `last`.
    fn push(&mut self, last: &Remembered, chunk: &Remembered) {
        self.low = self.low.min(chunk.number);
        self.high = self.high.max(chunk.until());
        // Growing by doubling would leave half of it empty in each of ten thousand windows.
        if self.bytes.capacity() - self.bytes.len() < CHUNK_BYTES_MAX {
            self.bytes.reserve_exact(CHUNK_BYTES_MAX);
        }
        let out = &mut self.bytes;
        let is_other_run = chunk.run != last.run;
        put_varint(out, u64::from(chunk.count) << 1 | u64::from(is_other_run));
        if is_other_run {
            out.extend_from_slice(&chunk.run.0.to_le_bytes());
        }
        put_difference(out, last.until(), chunk.number);
        put_difference(out, next_seq(last), chunk.first_seq.0);
        put_difference(out, last.first_time.0, chunk.first_time.0);
        put_difference(out, last.step, chunk.step);
    }
}

/// The chunks of a block, which [`Block::push`] wrote.
fn read(bytes: &[u8]) -> impl Iterator<Item = Remembered> + '_ {
    let (mut r, mut last) = (Reader::new(bytes), NONE);
    std::iter::from_fn(move || {
        last = read_chunk(&mut r, &last).ok()?;
        Some(last)
    })
}

fn read_chunk(r: &mut Reader<'_>, last: &Remembered) -> Result<Remembered, Truncated> {
    let count_and_run = r.varint()?;
    let run = if count_and_run & 1 == 1 { RunId(r.u64()?) } else { last.run };
    Ok(Remembered {
        count: (count_and_run >> 1) as u32,
        run,
        number: difference(r, last.until())?,
        first_seq: Seq(difference(r, next_seq(last))?),
        first_time: Timestamp(difference(r, last.first_time.0)?),
        step: difference(r, last.step)?,
    })
}

/// The number in the log behind the last entry of `chunk`.
fn next_seq(chunk: &Remembered) -> u64 {
    chunk.first_seq.0.wrapping_add(u64::from(chunk.count))
}

/// Writes how far `to` is from `from`; a short way takes few bytes in either direction.
fn put_difference(out: &mut Vec<u8>, from: u64, to: u64) {
    let way = to.wrapping_sub(from) as i64;
    put_varint(out, (way << 1 ^ way >> 63) as u64);
}

fn difference(r: &mut Reader<'_>, from: u64) -> Result<u64, Truncated> {
    let way = r.varint()?;
    Ok(from.wrapping_add(way >> 1 ^ (way & 1).wrapping_neg()))
}

#[cfg(test)]
mod tests;
