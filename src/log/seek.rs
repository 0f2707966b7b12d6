//! Reading from a time: where it begins in a run, and in a log of many runs.
//!
//! ```text
//! r1 [1..40) ──> r2 [40..90)          older than the time, up to 50: {r2: 50}
//!      └───────> r3 [30..35) ──> …    all of it older: {r3: 35}; each end of the log is looked for by itself
//! ```
//!
//! A position in a run says that all before it was read. So it stands only behind what is older for sure: where entries
//! are not here, and may not be older, reading begins before them, and waits for them or is told of a gap as everywhere.
//! What comes there later may then turn out older than the time, and is handed out too.
use crate::base::planted::{self, Bug};
use crate::base::{RunId, Seq, Statement, Timestamp};
use crate::log::bad_sectors::OverBadSectors;
use crate::log::positions::Positions;
use crate::log::read::{ERRORS_MAX, open_twice};
use crate::log::segment::{BadBatch, Walk};
use crate::log::state::{LogState, Lookup, Run, Span};
use crate::log::store::{Log, Store};
use crate::log::stretch::Stretch;
use std::collections::BTreeMap;
use std::io;

/// The position in a log before the first entry at or after `time`, along each chain of runs; behind all where there is
/// none. The error is the disk's.
pub fn positions_at(store: &Store, log: &Log, time: Timestamp) -> io::Result<Positions> {
    let runs: Vec<Run> = log.look().runs.to_vec();
    if planted::is(Bug::SeeksAsHeard) {
        return first_heard_of(store, log, time, &runs);
    }
    let index_of: BTreeMap<RunId, usize> =
        runs.iter().enumerate().map(|(index, run)| (run.id, index)).collect();
    let mut children: BTreeMap<RunId, Vec<usize>> = BTreeMap::new();
    let mut reached: Vec<usize> = Vec::new();
    for (index, run) in runs.iter().enumerate() {
        match index_of.contains_key(&run.parent) {
            true => children.entry(run.parent).or_default().push(index),
            false => reached.push(index),
        }
    }
    // What is known of each run of which all that comes before is older: where reading begins in it.
    let mut begins: BTreeMap<usize, Seq> = BTreeMap::new();
    while let Some(index) = reached.pop() {
        let run = &runs[index];
        let seq = seek_time(store, log, run.id, time)?;
        // Nothing of it is known to be older, and what it goes on from is not here, or not known to be whole.
        let is_known_before = index_of.contains_key(&run.parent) && run.has_beginning();
        let is_trimmed_before = run.start >= run.from && run.start > Seq::FIRST;
        if is_known_before || is_trimmed_before || !run.parent.is_some() || seq > run.from {
            begins.insert(index, seq);
        }
        let is_behind = |child: &&usize| match runs[**child].has_beginning() {
            true => runs[**child].from <= seq,
            false => seq >= run.until,
        };
        reached.extend(children.get(&run.id).into_iter().flatten().filter(is_behind));
    }
    let mut positions = Positions::default();
    for (index, seq) in &begins {
        let run = &runs[*index];
        // A run that goes on from its end says so of it too.
        let implies = |child: &usize| {
            begins.contains_key(child) && (!runs[*child].has_beginning() || runs[*child].from == *seq)
        };
        let is_implied = *seq >= run.until && children.get(&run.id).into_iter().flatten().any(implies);
        if !is_implied {
            positions.set(run.id, *seq);
        }
    }
    Ok(positions)
}

/// Not what it should be: a bug to be found.
fn first_heard_of(store: &Store, log: &Log, time: Timestamp, runs: &[Run]) -> io::Result<Positions> {
    let mut positions = Positions::default();
    for run in runs {
        let seq = seek_time(store, log, run.id, time)?;
        if seq < run.until {
            positions.set(run.id, seq);
            return Ok(positions);
        }
    }
    Ok(Positions::at_end(&log.look()))
}

/// The first number of `run` before which everything is older than `time`: that of the first entry whose time is `time`
/// or later, or where entries are not here that may be such; the end of the run when all are older.
pub fn seek_time(store: &Store, log: &Log, run: RunId, time: Timestamp) -> io::Result<Seq> {
    let found = seek_stored(store, log, run, time)?;
    let state = log.look();
    // What was set aside does not count; but what goes on from a run that forked may begin where that was trimmed to, behind
    // the fork.
    let begin = state.run(run).map_or(Seq::FIRST, |known| state.begin_of(known));
    Ok(found.min(state.end_in_books(run).max(begin)))
}

fn seek_stored(store: &Store, log: &Log, run: RunId, time: Timestamp) -> io::Result<Seq> {
    let state = log.look();
    let Some(known) = state.run(run).copied() else { return Ok(Seq::FIRST) };
    let begin = state.begin_of(&known);
    let spans = state.spans_of(run);
    let older =
        spans.iter().filter(|span| span.last_time < time).map(|span| span.until).fold(begin, Seq::max);
    let Some(span) = spans.iter().find(|span| span.last_time >= time && span.until > older).copied() else {
        // What is not here at its end is no newer than the last entry known.
        return Ok(if known.last_time < time { known.until.max(begin) } else { older });
    };
    match span.first_time.cmp(&time) {
        // What lies between may be missing, and as new.
        std::cmp::Ordering::Greater => return Ok(older),
        std::cmp::Ordering::Equal => return Ok(span.from.max(older)),
        std::cmp::Ordering::Less => {}
    }
    let newest = newest_in_tail(&state, &span, time);
    let older = newest.map_or(older, |(statement, _)| seq_in(&statement, time).max(older));
    let readable_end = match state.find(run, span.from) {
        Lookup::Span { span: found, readable_end } if found.overlaps(&span) => readable_end,
        _ => span.end,
    };
    drop(state);
    match newest {
        Some((_, true)) => Ok(older),
        _ => Ok(seek_in_segment(store, log, span, readable_end, time)?.max(older)),
    }
}

/// The number in a batch before which all of it is older than `time`.
fn seq_in(s: &Statement, time: Timestamp) -> Seq {
    s.first_seq.after((time.0 - s.first_time.0).min(u64::from(s.entry_count)))
}

/// The last batch in memory that begins no later than `time`; and whether no other can be behind it that does. What others
/// brought is there in the order in which it came, and some of it is not there any more.
fn newest_in_tail(state: &LogState, span: &Span, time: Timestamp) -> Option<(Statement, bool)> {
    let is_in = |s: &Statement| s.run == span.run && (span.from..span.until).contains(&s.first_seq);
    let of_span = || state.tail.iter().map(|kept| *kept.batch.statement()).filter(is_in);
    let newest = of_span().filter(|s| s.first_time <= time).max_by_key(|s| s.first_seq)?;
    // Where a run was cut, since it forked, the span ends before the time that is known of its end.
    let is_end = newest.last_time() >= time || newest.until() >= span.until;
    let is_last = is_end || of_span().any(|s| s.first_seq == newest.until());
    Some((newest, is_last))
}

fn seek_in_segment(store: &Store, log: &Log, span: Span, end: u64, time: Timestamp) -> io::Result<Seq> {
    let bad = |bad| match bad {
        BadBatch::Io(error) => error,
        BadBatch::At(_) => io::Error::new(io::ErrorKind::InvalidData, "a damaged batch is in the way"),
    };
    // Where sectors cannot be read, what lies before them is the answer.
    let file = OverBadSectors::new(open_twice(store, log, span.segment)?, ERRORS_MAX);
    let stretch = Stretch { store, log, file: &file, span, end };
    let Some(offset) = stretch.locate(|_, first| first <= time).map_err(bad)? else {
        return Ok(span.from);
    };
    match Walk::new(&file, offset, end).next(&log.id)? {
        Some((_, header)) => Ok(seq_in(&header.statement, time)),
        None => Ok(span.from),
    }
}

#[cfg(test)]
pub(crate) mod tests;
