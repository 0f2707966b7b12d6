//! Reading one log: batches from a number on, from memory or from segments, and what stands in the way.
//!
//! A lock is held only to look where bytes lie. What turns out bad is noted as damaged and told; the batches behind it
//! are found again and served. What the disk cannot read is told too, but not noted: it may be there the next time.
use crate::base::planted::{self, Bug};
use crate::base::{Batch, EntryId, RunId, Seq, Timestamp};
use crate::disk::DiskFile;
use crate::log::bad_sectors::OverBadSectors;
use crate::log::flush::count_damage;
use crate::log::segment::BadBatch;
use crate::log::state::{LogState, Lookup, Range, Span};
use crate::log::store::{Log, Store};
use crate::log::stretch::{Search, Stretch};
use bytes::Bytes;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub use crate::log::stretch::Hint;

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
    /// The disk cannot read it, now.
    Unreadable {
        /// The number behind what cannot be read; none where the disk reads nothing around it either.
        until: Option<Seq>,
        /// What the disk said.
        error: io::Error,
    },
    /// Behind the end.
    End,
}

/// Sectors that a reader asks for in vain at most.
pub(super) const ERRORS_MAX: usize = 64;
/// How often one read begins anew, because its entries were stored elsewhere or trimmed meanwhile.
const LOOKS_MAX: usize = 8;

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
    read_part(store, log, Part::Counts, (run, seq), bytes_max, hint)
}

/// The same of what is set aside, since the log's peer was removed.
pub fn read_aside(store: &Store, log: &Log, run: RunId, seq: Seq, bytes_max: usize) -> io::Result<Found> {
    read_part(store, log, Part::All, (run, seq), bytes_max, &mut None)
}

/// What is looked at of a log.
#[derive(Debug, Clone, Copy)]
enum Part {
    /// What counts.
    Counts,
    /// That, and what is set aside.
    All,
}

impl Part {
    fn find(self, state: &LogState, run: RunId, seq: Seq) -> Lookup {
        match self {
            Self::Counts => state.find(run, seq),
            Self::All => state.find_here(run, seq),
        }
    }

    fn end(self, state: &LogState, run: RunId) -> Seq {
        match self {
            Self::Counts => state.end_in_books(run),
            Self::All => Seq(u64::MAX),
        }
    }
}

fn read_part(
    store: &Store,
    log: &Log,
    part: Part,
    at: (RunId, Seq),
    bytes_max: usize,
    hint: &mut Option<Hint>,
) -> io::Result<Found> {
    for _ in 0..LOOKS_MAX {
        if let Some(found) = read_once(store, log, part, at, bytes_max, hint) {
            return Ok(found);
        }
    }
    let error = io::Error::other("what is read here is stored elsewhere again and again");
    Ok(Found::Unreadable { until: None, error })
}

/// The same; `None` when what was bad lies elsewhere by now.
fn read_once(
    store: &Store,
    log: &Log,
    part: Part,
    (run, seq): (RunId, Seq),
    bytes_max: usize,
    hint: &mut Option<Hint>,
) -> Option<Found> {
    let found = {
        let state = log.look();
        match part.find(&state, run, seq) {
            Lookup::Tail(index) => {
                let end = part.end(&state, run);
                return Some(Found::Batches(from_tail(&state, index, (run, end), bytes_max)));
            }
            Lookup::Damaged(until) => return Some(Found::Damaged(until)),
            Lookup::Lost(until) => return Some(Found::Lost(until)),
            Lookup::Absent(until) => return Some(Found::Absent(until)),
            Lookup::Beyond => return Some(Found::End),
            Lookup::Span { span, readable_end } => (span, readable_end, state.served_until(&span, seq)),
        }
    };
    let (span, end, served_until) = found;
    let file = match open_twice(store, log, span.segment) {
        Ok(file) => OverBadSectors::new(file, ERRORS_MAX),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let range = Range { run, from: span.from, until: span.until };
            return set_aside(store, log, &span, range, seq, &error.to_string());
        }
        Err(error) => return Some(Found::Unreadable { until: None, error }),
    };
    let stretch = Stretch { store, log, file: &file, span, end };
    match stretch.read(seq, bytes_max, hint) {
        Ok(mut batches) => {
            // Checksums may be right of what was set aside all the same.
            let count = batches.iter().take_while(|batch| batch.statement().first_seq < served_until).count();
            batches.truncate(count);
            store.count(&store.counters.read_bytes, batches.iter().map(|b| b.bytes().len() as u64).sum());
            Some(Found::Batches(batches))
        }
        Err(BadBatch::Io(error)) => Some(Found::Unreadable { until: None, error }),
        Err(BadBatch::At(offset)) => not_readable(&stretch, seq, offset, hint),
    }
}

/// What stands at `seq` where no good batch begins at `offset`: damage, or sectors that cannot be read; `None` when it
/// lies elsewhere: stored anew by now, or a little further on, where `hint` leads.
fn not_readable(stretch: &Stretch, seq: Seq, offset: u64, hint: &mut Option<Hint>) -> Option<Found> {
    let (log, span) = (stretch.log, &stretch.span);
    let (hole_end, until) = match stretch.next_good(offset, seq, u64::MAX) {
        Ok(Search::Found(next)) if next.seq <= seq => {
            *hint = Some(Hint { seq, ..next });
            return None;
        }
        Ok(Search::Found(next)) => (next.offset, Some(next.seq)),
        Ok(Search::End) => (stretch.end, Some(span.until)),
        Ok(Search::Paused(at)) => (at.max(offset + 1), None),
        Err(error) => return Some(Found::Unreadable { until: None, error }),
    };
    match until {
        Some(until) if !stretch.file.has_errors_in(offset..hole_end) => {
            let from = stretch.bad_from(seq, offset).unwrap_or(seq);
            let range = Range { run: span.run, from, until };
            set_aside(stretch.store, log, span, range, seq, &format!("no good batch at byte {offset}"))
        }
        until => {
            let held_until = |until| found_here(&log.look(), span, seq, span.from, until).1;
            let error = io::Error::other("the disk cannot read sectors of this batch");
            Some(Found::Unreadable { until: until.map(held_until), error })
        }
    }
}

fn from_tail(state: &LogState, index: usize, (run, end): (RunId, Seq), bytes_max: usize) -> Vec<Batch> {
    let (mut bytes, mut next, mut batches) = (0, None, Vec::new());
    for kept in state.tail.range(index..) {
        let s = kept.batch.statement();
        let counts = s.first_seq < end;
        let goes_on = s.run == run && next.is_none_or(|next| next == s.first_seq) && counts;
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

/// Notes that what should be at `seq` is damaged, with what lies around it without a good batch. `None`, and nothing is
/// noted, when it was trimmed while we looked, or is in memory or elsewhere now: what came to be stored anew is sound.
fn set_aside(store: &Store, log: &Log, span: &Span, range: Range, seq: Seq, why: &str) -> Option<Found> {
    let mut state = log.change();
    match state.find(span.run, seq) {
        Lookup::Span { span: now, .. } if now.overlaps(span) => {}
        _ => return None,
    }
    let (from, until) = found_here(&state, span, seq, range.from, range.until);
    note_damage(store, log, &mut state, span, Range { run: span.run, from, until }, why);
    Some(match state.find(range.run, seq) {
        // It was known to be damaged before the last start, and declared lost.
        Lookup::Lost(until) => Found::Lost(until),
        _ => Found::Damaged(until),
    })
}

/// The part of `[from, until)` around `seq` that is to be found in `span`: neither in memory nor stored anew.
fn found_here(state: &LogState, span: &Span, seq: Seq, from: Seq, until: Seq) -> (Seq, Seq) {
    let (mut from, mut until) = state.newest_in(span, seq, from, until);
    for s in state.tail.iter().map(|t| t.batch.statement()).filter(|s| s.run == span.run) {
        if s.first_seq > seq {
            until = until.min(s.first_seq);
        } else {
            from = from.max(s.until());
        }
    }
    (from, until)
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

/// One entry's time and raw bytes, or why it is not to be had.
#[derive(Debug)]
pub enum Single {
    /// Its time, its raw bytes, and the run that was signed.
    Entry(Timestamp, Bytes, RunId),
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
        Found::Damaged(_) | Found::Absent(_) if planted::is(Bug::MissingIsCalledLost) => Ok(Single::Lost),
        Found::Damaged(_) | Found::Absent(_) => Ok(Single::Damaged),
        Found::Unreadable { error, .. } => Err(error),
        Found::End => Ok(Single::Ahead(id.seq)),
    }
}

fn entry_of(batch: &Batch, id: &EntryId) -> Option<Single> {
    let mut found = None;
    let walked = batch.for_each_entry(|at, time, view| {
        if at.seq == id.seq {
            let signed_run = batch.statement().signed_run().run;
            found = Some(Single::Entry(time, Bytes::copy_from_slice(view.raw), signed_run));
        }
        found.is_none()
    });
    walked.ok().and(found)
}

/// Counts what a store had to set aside since it was opened.
pub fn damage_found(store: &Store) -> u64 {
    store.counters.damage_found.load(Ordering::Relaxed)
}
