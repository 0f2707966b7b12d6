//! What retention leaves of a log: the first number to keep by count, by bytes and by age.
use crate::base::{LogId, Retention, Seq, Timestamp};
use crate::log::read::seek_time;
use crate::log::segment;
use crate::log::state::Span;
use crate::log::store::{Log, Store};
use std::io;

/// The first number of log `id` to keep. Age counts only where `before` says what is too old; count is exact; bytes go
/// by index marks, so up to 64 KiB more than asked for are kept. Answers the present start when nothing is to go.
pub fn plan(store: &Store, id: &LogId, retention: &Retention, before: Option<Timestamp>) -> io::Result<Seq> {
    let Some(log) = store.log(id) else { return Ok(Seq::FIRST) };
    let (start, until, run) = {
        let state = log.look();
        (state.start, state.until(), state.tip().copied())
    };
    let Some(run) = run else { return Ok(start) };
    let mut keep_from = start;
    if let Some(count) = retention.count {
        keep_from = keep_from.max(Seq(until.0.saturating_sub(count)));
    }
    if let Some(bytes) = retention.bytes {
        keep_from = keep_from.max(by_bytes(store, &log, bytes)?);
    }
    if let Some(before) = before {
        keep_from = keep_from.max(by_age(store, &log, before, run.until)?);
    }
    Ok(keep_from.min(until))
}

fn by_bytes(store: &Store, log: &Log, bytes_max: u64) -> io::Result<Seq> {
    let spans: Vec<Span> = log.look().spans.clone();
    let mut bytes = 0;
    for span in spans.iter().rev() {
        let span_bytes = span.end - span.offset;
        if bytes + span_bytes <= bytes_max {
            bytes += span_bytes;
            continue;
        }
        // The batch that a mark names is the first to stay.
        let keep_from = span.end - (bytes_max - bytes);
        let index = segment::index(store, log, span.segment, readable_end(log, span))?;
        let mut marks = index
            .marks
            .iter()
            .filter(|m| m.offset >= span.offset && m.offset <= keep_from && m.run == span.run);
        return Ok(marks.next_back().map_or(span.from, |mark| mark.seq));
    }
    Ok(Seq::FIRST)
}

fn readable_end(log: &Log, span: &Span) -> u64 {
    let state = log.look();
    let is_unflushed = |t: &&crate::log::state::TailBatch| {
        t.place.segment == span.segment && !t.is_flushed.load(std::sync::atomic::Ordering::Acquire)
    };
    state.tail.iter().find(is_unflushed).map_or(span.end, |t| t.place.offset)
}

/// The first number whose time is `before` or later, in the first run that has one; the end when all are older.
fn by_age(store: &Store, log: &Log, before: Timestamp, until: Seq) -> io::Result<Seq> {
    let runs = log.look().runs.to_vec();
    for run in runs {
        let seq = seek_time(store, log, run.id, before)?;
        if seq < run.until {
            return Ok(seq);
        }
    }
    Ok(until)
}
