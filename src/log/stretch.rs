//! A stretch of a segment: neighbouring batches of one run, how one of them is found, and what comes behind a bad one.
//!
//! Bytes between good batches may be anything, an entry's that look like a batch included. So a batch is believed here when
//! its numbers are those of the stretch, and where it was found by searching, when its peer signed it.
use crate::base::batch::{BatchHeader, HEADER_BYTES};
use crate::base::{Batch, RunId, Seq, Statement, Timestamp};
use crate::log::bad_sectors::OverBadSectors;
use crate::log::segment::{self, BadBatch, IndexMark, SEARCH_BYTES, Walk};
use crate::log::state::Span;
use crate::log::store::{Log, Store};
use std::io;

/// Where a sequential reader goes on, so that it need not search again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hint {
    pub(super) run: RunId,
    pub(super) seq: Seq,
    pub(super) segment: u32,
    pub(super) offset: u64,
}

/// Neighbouring batches of one run in a segment, and the file they are read from.
pub(super) struct Stretch<'a> {
    pub(super) store: &'a Store,
    pub(super) log: &'a Log,
    pub(super) file: &'a OverBadSectors,
    pub(super) span: Span,
    /// The end of what can be read of it.
    pub(super) end: u64,
}

impl Stretch<'_> {
    /// Batches from the one that holds `seq`. Before it is called bad it is looked for again, without a hint and with an
    /// index made anew; or where sectors cannot be read, alone.
    pub(super) fn read(
        &self,
        seq: Seq,
        bytes_max: usize,
        hint: &mut Option<Hint>,
    ) -> Result<Vec<Batch>, BadBatch> {
        self.read_once(seq, bytes_max, hint).or_else(|_| {
            if self.file.has_errors() {
                return self.read_once(seq, 1, hint);
            }
            self.store.indexes.forget(&(self.log.id, self.span.segment));
            *hint = None;
            self.read_once(seq, bytes_max, hint).or_else(|bad| match bad {
                BadBatch::At(offset) => match self.find_before(seq, offset) {
                    Some(found) => self.read_found(seq, &found, bytes_max, hint),
                    None => Err(bad),
                },
                bad => Err(bad),
            })
        })
    }

    /// A good batch that holds `seq`, between a mark of the index and the byte `bad`: what lies at `bad` may be a part of
    /// the same batch, which a write that went astray left there.
    fn find_before(&self, seq: Seq, bad: u64) -> Option<Hint> {
        let (log, file) = (&self.log.id, self.file);
        let is_it = |header: &BatchHeader| {
            let s = &header.statement;
            self.fits(s) && s.first_seq <= seq && seq < s.until() && self.store.is_signed(header)
        };
        let mut at = self.mark_before(|first, _| first <= seq);
        while at < bad {
            let (offset, header) = segment::find_batch(file, at, bad, log, &is_it).ok()??;
            let (bytes, s) = (header.batch_bytes(), header.statement);
            let end = (offset + bytes as u64).min(self.end);
            if segment::read_batches(file, log, offset, end, bytes).is_ok() {
                return Some(Hint { run: s.run, seq: s.first_seq, segment: self.span.segment, offset });
            }
            at = offset + 1;
        }
        None
    }

    /// Batches from the one that holds `seq`, which a search came to.
    pub(super) fn read_found(
        &self,
        seq: Seq,
        found: &Hint,
        bytes_max: usize,
        hint: &mut Option<Hint>,
    ) -> Result<Vec<Batch>, BadBatch> {
        *hint = Some(Hint { seq, ..*found });
        self.read_once(seq, bytes_max, hint)
    }

    fn read_once(&self, seq: Seq, bytes_max: usize, hint: &mut Option<Hint>) -> Result<Vec<Batch>, BadBatch> {
        let span = &self.span;
        // In one segment there may be two copies, of which one counts.
        let is_over = |h: &Hint| (span.offset..span.end).contains(&h.offset);
        let known = hint.filter(|h| (h.run, h.seq, h.segment) == (span.run, seq, span.segment) && is_over(h));
        let offset = match known {
            Some(hint) => hint.offset,
            None if seq == span.from => span.offset,
            None => self.locate(|first, _| first <= seq)?.unwrap_or(span.offset),
        };
        let read = segment::read_batches(self.file, &self.log.id, offset, self.end, bytes_max);
        let mut batches = read.map_err(|bad| match bad {
            BadBatch::Io(_) if self.file.has_read() => BadBatch::At(offset),
            bad => bad,
        })?;
        // A write that was lost leaves what lay there before, which may be a good batch.
        let goes_on = |pair: &[(u64, Batch)]| {
            let (a, b) = (pair[0].1.statement(), pair[1].1.statement());
            a.run == b.run && a.until() == b.first_seq && b.until() <= span.until
        };
        let count = 1 + batches.windows(2).take_while(|pair| goes_on(pair)).count();
        batches.truncate(count);
        let holds = batches.first().is_some_and(|(_, batch)| {
            let s = batch.statement();
            s.run == span.run && s.first_seq <= seq && seq < s.until()
        });
        if !holds {
            return Err(BadBatch::At(offset));
        }
        *hint = batches.last().map(|(offset, batch)| Hint {
            run: span.run,
            seq: batch.statement().until(),
            segment: span.segment,
            offset: offset + batch.bytes().len() as u64,
        });
        Ok(batches.into_iter().map(|(_, batch)| batch).collect())
    }

    /// Whether a batch may be one of these, by its numbers.
    fn fits(&self, s: &Statement) -> bool {
        s.run == self.span.run && self.span.from <= s.first_seq && s.until() <= self.span.until
    }

    /// The offset of the last batch for which `is_before(first seq, first time)` holds, over damage.
    pub(super) fn locate(&self, is_before: impl Fn(Seq, Timestamp) -> bool) -> Result<Option<u64>, BadBatch> {
        let from = self.mark_before(&is_before);
        let is_signed = |header: &BatchHeader| self.store.is_signed(header);
        let (mut walk, mut last) = (Walk::new(self.file, from, self.end).checked(&is_signed), None);
        while let Some((offset, header)) = walk.next(&self.log.id).map_err(BadBatch::Io)? {
            let s = header.statement;
            // What does not belong here is passed over.
            if !self.fits(&s) {
                continue;
            }
            if !is_before(s.first_seq, s.first_time) {
                break;
            }
            last = Some(offset);
        }
        Ok(last)
    }

    /// A batch to walk from in search of the last for which `is_before` holds.
    fn mark_before(&self, is_before: impl Fn(Seq, Timestamp) -> bool) -> u64 {
        let span = &self.span;
        // Without an index all of it is walked.
        let Ok(index) = segment::index(self.store, self.log, span.segment, self.end) else {
            return span.offset;
        };
        let fits = |mark: &IndexMark| mark.run == span.run && (span.from..span.until).contains(&mark.seq);
        index.mark_before(span.offset, self.end, fits, |mark| !is_before(mark.seq, mark.time))
    }

    /// Looks from the byte `from` on for the first good batch of the span that holds `seq` or begins behind it, signed, for
    /// bytes that an entry brought may look like one. Pauses after some `bytes_max`, and when no further sector may be
    /// asked for.
    ///
    /// It may hold `seq` although a walk did not come to it: a write that went astray leaves a header with a part of its
    /// batch, and whoever walks takes that header's word for where the next batch begins.
    pub(super) fn next_good(&self, from: u64, seq: Seq, bytes_max: u64) -> io::Result<Search> {
        let (log, file) = (&self.log.id, self.file);
        let is_next = |header: &BatchHeader| {
            let s = &header.statement;
            self.fits(s) && s.until() > seq && self.store.is_signed(header)
        };
        let (mut at, stop) = (from, from.saturating_add(bytes_max));
        while at < self.end {
            if at >= stop || file.is_spent() {
                return Ok(Search::Paused(at));
            }
            let step_end = (at + (SEARCH_BYTES + HEADER_BYTES - 1) as u64).min(self.end);
            let found = match segment::find_batch(file, at, step_end, log, &is_next) {
                Err(_) if at > from || (file.is_spent() && file.has_read()) => return Ok(Search::Paused(at)),
                found => found?,
            };
            let Some((offset, header)) = found else {
                at = if step_end < self.end { at + SEARCH_BYTES as u64 } else { self.end };
                continue;
            };
            let (bytes, batch_end) = (header.batch_bytes(), offset + header.batch_bytes() as u64);
            let s = header.statement;
            let next = Hint { run: s.run, seq: s.first_seq, segment: self.span.segment, offset };
            match segment::read_batches(file, log, offset, batch_end.min(self.end), bytes) {
                Ok(_) => return Ok(Search::Found(next)),
                Err(BadBatch::Io(_)) if offset > from => return Ok(Search::Paused(offset)),
                Err(_) => at = offset + 1,
            }
        }
        Ok(Search::End)
    }

    /// Where what is bad around `seq` and the byte `bad` begins: behind the last good batch before, if the disk could read
    /// what lies between, or with the batch whose header is there.
    pub(super) fn bad_from(&self, seq: Seq, bad: u64) -> Option<Seq> {
        let is_signed = |header: &BatchHeader| self.store.is_signed(header);
        let begin = self.mark_before(|first, _| first < seq);
        let mut walk = Walk::new(self.file, begin, self.end).checked(&is_signed);
        let mut good = Some((self.span.from, begin)).filter(|_| begin == self.span.offset);
        let mut named = None;
        while let Some((offset, header)) = walk.next(&self.log.id).ok()? {
            let (s, bytes) = (header.statement, header.batch_bytes());
            if !self.fits(&s) {
                continue;
            }
            if s.first_seq > seq {
                break;
            }
            let batch_end = offset + bytes as u64;
            let is_good = || segment::read_batches(self.file, &self.log.id, offset, batch_end, bytes).is_ok();
            if s.until() > seq {
                named = Some(s.first_seq).filter(|_| offset == bad);
            } else if is_good() {
                good = Some((s.until(), batch_end));
            }
        }
        let is_whole = |(_, end): &(Seq, u64)| !self.file.has_errors_in(*end..bad);
        good.filter(is_whole).map(|(until, _)| until).or(named)
    }
}

/// What a search came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Search {
    /// The next good batch.
    Found(Hint),
    /// There is none.
    End,
    /// None begins before this byte.
    Paused(u64),
}
