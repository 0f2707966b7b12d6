//! Reading one log: batches from a number on, from memory or from segments, and what stands in the way.
//!
//! A lock is held only to look where bytes lie. What turns out bad is noted as damaged and told; the batches behind it
//! are found again and served.
use crate::base::{Batch, EntryId, RunId, Seq, Timestamp};
use crate::disk::DiskFile;
use crate::log::bad_sectors::OverBadSectors;
use crate::log::flush::count_damage;
use crate::log::segment::{self, BadBatch, Walk};
use crate::log::state::{LogState, Lookup, Range, Span};
use crate::log::store::{Log, Store};
use bytes::Bytes;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What is found at a number.
#[derive(Debug)]
pub enum Found {
    /// Batches of the run one behind the other; the first holds the number.
    Batches(Vec<Batch>),
    /// Damaged here, up to this number.
    Damaged(Seq),
    /// Declared lost, up to this number.
    Lost(Seq),
    /// Nothing held, although later numbers are, up to this number.
    Absent(Seq),
    /// Behind the end.
    End,
}

/// Where a sequential reader goes on, so that it need not search again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hint {
    run: RunId,
    pub(super) seq: Seq,
    segment: u32,
    pub(super) offset: u64,
}

/// Whether the entry `seq` of `run` can be had without the disk (or is not to be had at all).
pub fn is_in_memory(state: &LogState, run: RunId, seq: Seq) -> bool {
    !matches!(state.find(run, seq), Lookup::Span { .. })
}

/// Reads batches of `run` from the one that holds `seq`, about `bytes_max` bytes of them, at least one.
pub fn read(
    store: &Store,
    log: &Log,
    run: RunId,
    seq: Seq,
    bytes_max: usize,
    hint: &mut Option<Hint>,
) -> io::Result<Found> {
    let found = {
        let state = log.look();
        match state.find(run, seq) {
            Lookup::Tail(index) => return Ok(Found::Batches(from_tail(&state, index, run, bytes_max))),
            Lookup::Damaged(until) => return Ok(Found::Damaged(until)),
            Lookup::Lost(until) => return Ok(Found::Lost(until)),
            Lookup::Absent(until) => return Ok(Found::Absent(until)),
            Lookup::Beyond => return Ok(Found::End),
            Lookup::Span { span, readable_end } => (span, readable_end),
        }
    };
    let (span, end) = found;
    match read_span(store, log, span, end, seq, bytes_max, hint) {
        Ok(batches) => {
            store.count(&store.counters.read_bytes, batches.iter().map(|b| b.bytes().len() as u64).sum());
            Ok(Found::Batches(batches))
        }
        Err(BadBatch::Io(error)) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Err(bad) => {
            let found = set_aside(store, log, &span, end, seq, bad)?;
            Ok(match (&found, log.look().find(run, seq)) {
                // It was known to be damaged before the last start, and declared lost.
                (Found::Damaged(_), Lookup::Lost(until)) => Found::Lost(until),
                _ => found,
            })
        }
    }
}

/// Reads from a segment. An error of the disk is no damage for who reads, and what lies beside it is served.
fn read_span(
    store: &Store,
    log: &Log,
    span: Span,
    end: u64,
    seq: Seq,
    bytes_max: usize,
    hint: &mut Option<Hint>,
) -> Result<Vec<Batch>, BadBatch> {
    let file = open_twice(store, log, span.segment).map_err(BadBatch::Io)?;
    match (Stretch { store, log, file: &*file, span, end }).read(seq, bytes_max, hint) {
        Err(BadBatch::Io(error)) => {
            let file = OverBadSectors(file);
            let beside = Stretch { store, log, file: &file, span, end }.read(seq, bytes_max, hint);
            beside.map_err(|_| BadBatch::Io(error))
        }
        read => read,
    }
}

fn from_tail(state: &LogState, index: usize, run: RunId, bytes_max: usize) -> Vec<Batch> {
    let (mut bytes, mut next, mut batches) = (0, None, Vec::new());
    for kept in state.tail.range(index..) {
        let s = kept.batch.statement();
        let goes_on = s.run == run && next.is_none_or(|next| next == s.first_seq);
        bytes += kept.batch.bytes().len();
        if !goes_on || (!batches.is_empty() && bytes > bytes_max) {
            break;
        }
        next = Some(s.until());
        batches.push(kept.batch.clone());
    }
    batches
}

/// The file of a segment. An error of the disk is believed the second time.
pub(super) fn open_twice(store: &Store, log: &Log, segment: u32) -> io::Result<Arc<dyn DiskFile>> {
    store.segment_file(log, segment).or_else(|_| store.segment_file(log, segment))
}

/// Neighbouring batches of one run in a segment, and the file they are read from.
pub(super) struct Stretch<'a> {
    pub(super) store: &'a Store,
    pub(super) log: &'a Log,
    pub(super) file: &'a dyn DiskFile,
    pub(super) span: Span,
    /// The end of what can be read of it.
    pub(super) end: u64,
}

impl Stretch<'_> {
    /// Batches from the one that holds `seq`. Before it is called bad it is looked for again, without a hint and with an
    /// index made anew.
    pub(super) fn read(
        &self,
        seq: Seq,
        bytes_max: usize,
        hint: &mut Option<Hint>,
    ) -> Result<Vec<Batch>, BadBatch> {
        self.read_once(seq, bytes_max, hint).or_else(|_| {
            self.store.indexes.forget(&(self.log.id, self.span.segment));
            *hint = None;
            self.read_once(seq, bytes_max, hint)
        })
    }

    fn read_once(&self, seq: Seq, bytes_max: usize, hint: &mut Option<Hint>) -> Result<Vec<Batch>, BadBatch> {
        let span = &self.span;
        let known = hint.filter(|h| (h.run, h.seq, h.segment) == (span.run, seq, span.segment));
        let offset = match known {
            Some(hint) => hint.offset,
            None if seq == span.from => span.offset,
            None => self.locate(|first, _| first <= seq)?.unwrap_or(span.offset),
        };
        let mut batches = segment::read_batches(self.file, &self.log.id, offset, self.end, bytes_max)?;
        // A write that was lost leaves what lay there before, which may be a good batch.
        let goes_on = |pair: &[(u64, Batch)]| {
            let (a, b) = (pair[0].1.statement(), pair[1].1.statement());
            a.run == b.run && a.until() == b.first_seq
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

    /// The offset of the last batch for which `is_before(first seq, first time)` holds, over damage.
    fn locate(&self, is_before: impl Fn(Seq, Timestamp) -> bool) -> Result<Option<u64>, BadBatch> {
        let span = &self.span;
        let from = match segment::index(self.store, self.log, span.segment, self.end) {
            Ok(index) => index.mark_before(span.offset, self.end, |mark| !is_before(mark.seq, mark.time)),
            // Without an index all of it is walked.
            Err(_) => span.offset,
        };
        let (mut walk, mut last) = (Walk::new(self.file, from, self.end), None);
        while let Some((offset, header)) = walk.next(&self.log.id).map_err(BadBatch::Io)? {
            let s = header.statement;
            if s.run != span.run || !is_before(s.first_seq, s.first_time) {
                break;
            }
            last = Some(offset);
        }
        Ok(last)
    }

    /// Where the first good batch of the run lies that begins behind `seq`, looked for from `offset` on.
    pub(super) fn next_good(&self, offset: u64, seq: Seq) -> io::Result<Option<Hint>> {
        let mut walk = Walk::new(self.file, offset, self.end);
        while let Some((offset, header)) = walk.next(&self.log.id)? {
            let (s, bytes) = (header.statement, header.batch_bytes());
            let is_behind = s.run == self.span.run && s.first_seq > seq;
            let (log, end) = (&self.log.id, offset + bytes as u64);
            if is_behind && segment::read_batches(self.file, log, offset, end, bytes).is_ok() {
                let segment = self.span.segment;
                return Ok(Some(Hint { run: s.run, seq: s.first_seq, segment, offset }));
            }
        }
        Ok(None)
    }
}

/// Notes that what should be at `seq` is damaged, between the good batches of the span before and behind it.
fn set_aside(store: &Store, log: &Log, span: &Span, end: u64, seq: Seq, bad: BadBatch) -> io::Result<Found> {
    let (mut from, mut until) = (span.from, span.until);
    if let (BadBatch::At(_), Ok(file)) = (&bad, open_twice(store, log, span.segment)) {
        let mut walk = Walk::new(&*file, span.offset, end);
        while let Some((offset, header)) = walk.next(&log.id)? {
            let s = header.statement;
            let batch_end = offset + header.batch_bytes() as u64;
            let is_good = s.run == span.run
                && segment::read_batches(&*file, &log.id, offset, batch_end, header.batch_bytes()).is_ok();
            if is_good && s.until() <= seq {
                from = from.max(s.until());
            } else if is_good && s.first_seq > seq {
                until = until.min(s.first_seq);
                break;
            }
        }
    }
    // A trim may have removed the segment while we looked; and what is in memory is served from there.
    let mut state = log.change();
    for s in state.tail.iter().map(|t| t.batch.statement()).filter(|s| s.run == span.run) {
        if s.first_seq > seq {
            until = until.min(s.first_seq);
        } else {
            from = from.max(s.until());
        }
    }
    if !matches!(state.find(span.run, seq), Lookup::Span { .. }) {
        return Ok(Found::Absent(until));
    }
    note_damage(store, log, &mut state, span, Range { run: span.run, from, until }, &format!("{bad:?}"));
    Ok(Found::Damaged(until))
}

/// Sets entries aside: from now on whoever asks for them is told.
pub(super) fn note_damage(
    store: &Store,
    log: &Log,
    state: &mut LogState,
    span: &Span,
    range: Range,
    why: &str,
) {
    let Range { run, from, until } = range;
    let run = run.short();
    tracing::error!(dir = ?log.dir, segment = span.segment, %run, %from, %until, "damaged entries set aside: {why}");
    state.add_damage(range);
    count_damage(store);
}

/// The first number of `run` whose time is `time` or later; the end of the run when there is none.
pub fn seek_time(store: &Store, log: &Log, run: RunId, time: Timestamp) -> io::Result<Seq> {
    let state = log.look();
    let Some(known) = state.run(run).copied() else { return Ok(Seq::FIRST) };
    let Some(span) = state.spans_of(run).iter().find(|s| s.last_time >= time).copied() else {
        return Ok(known.until);
    };
    if span.first_time >= time {
        return Ok(span.from.max(state.start_of(&known)));
    }
    // The newest batches are in memory, in order; only when none of them begins before `time` the segment is asked.
    let in_tail =
        state.tail.iter().rev().map(|t| *t.batch.statement()).find(|s| s.run == run && s.first_time <= time);
    let readable_end = match state.find(run, span.from) {
        Lookup::Span { readable_end, .. } => readable_end,
        _ => span.end,
    };
    let start = state.start_of(&known);
    drop(state);
    let seq_in = |s: &crate::base::Statement| {
        s.first_seq.after((time.0 - s.first_time.0).min(u64::from(s.entry_count)))
    };
    if let Some(s) = in_tail {
        return Ok(seq_in(&s).max(start));
    }
    let bad = |bad| match bad {
        BadBatch::Io(error) => error,
        BadBatch::At(_) => io::Error::new(io::ErrorKind::InvalidData, "a damaged batch is in the way"),
    };
    let file = open_twice(store, log, span.segment)?;
    let stretch = Stretch { store, log, file: &*file, span, end: readable_end };
    let Some(offset) = stretch.locate(|_, first| first <= time).map_err(bad)? else {
        return Ok(span.from.max(start));
    };
    let mut walk = Walk::new(&*file, offset, readable_end);
    match walk.next(&log.id)? {
        Some((_, header)) => Ok(seq_in(&header.statement).max(start)),
        None => Ok(span.from.max(start)),
    }
}

/// One entry's time and raw bytes, or why it is not to be had.
#[derive(Debug)]
pub enum Single {
    /// Its time and raw bytes.
    Entry(Timestamp, Bytes),
    /// Trimmed; the log now starts here.
    Trimmed(Seq),
    /// Damaged or not held here.
    Damaged,
    /// Declared lost.
    Lost,
    /// Behind the end, which is here.
    Ahead(Seq),
    /// No such run here.
    Unknown,
}

/// Reads one entry.
pub fn get(store: &Store, log: &Log, id: &EntryId) -> io::Result<Single> {
    {
        let state = log.look();
        let Some(run) = state.run(id.run) else { return Ok(Single::Unknown) };
        let start = state.begin_of(run);
        if id.seq < start {
            return Ok(if id.seq < run.from { Single::Unknown } else { Single::Trimmed(start) });
        }
        if id.seq >= run.until {
            return Ok(Single::Ahead(run.until));
        }
    }
    match read(store, log, id.run, id.seq, 1, &mut None)? {
        Found::Batches(batches) => {
            Ok(batches.first().and_then(|b| entry_of(b, id)).unwrap_or(Single::Damaged))
        }
        Found::Lost(_) => Ok(Single::Lost),
        Found::Damaged(_) | Found::Absent(_) => Ok(Single::Damaged),
        Found::End => Ok(Single::Ahead(id.seq)),
    }
}

fn entry_of(batch: &Batch, id: &EntryId) -> Option<Single> {
    let mut found = None;
    let walked = batch.for_each_entry(|at, time, view| {
        if at.seq == id.seq {
            found = Some(Single::Entry(time, Bytes::copy_from_slice(view.raw)));
        }
        found.is_none()
    });
    walked.ok().and(found)
}

/// Counts what a store had to set aside since it was opened.
pub fn damage_found(store: &Store) -> u64 {
    store.counters.damage_found.load(Ordering::Relaxed)
}
