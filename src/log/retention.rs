//! What retention leaves of a log: the first number to keep by count, by bytes and by age.
use crate::base::{LogId, Retention, RunId, Seq, Timestamp};
use crate::log::seek::seek_time;
use crate::log::segment;
use crate::log::state::{LogState, Span};
use crate::log::store::{Log, Store};
use std::io;

/// What is to be kept of a chain of runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// The last run of the chain; `None`: the log's own.
    pub run: Option<RunId>,
    /// The first number to keep.
    pub start: Seq,
}

/// A chain of runs to plan for: the log's own, or a branch from where it leaves that.
struct Chain {
    run: Option<RunId>,
    start: Seq,
    until: Seq,
    /// Newest first, each with the number at which the chain leaves it.
    runs: Vec<(RunId, Seq)>,
}

/// The first numbers of log `id` to keep where that is later than now. Age counts only where `before` says what is too
/// old; count is exact; bytes go by index marks, so up to 64 KiB more than asked for are kept. A branch, which a restore
/// or a copy left beside the log, is kept until the log is trimmed to where it begins, and counts by itself from there.
///
/// Each rule is by itself: where the disk keeps one from being looked after, the others hold. The error comes when nothing
/// else does.
pub fn plan(
    store: &Store,
    id: &LogId,
    retention: &Retention,
    before: Option<Timestamp>,
) -> io::Result<Vec<Kept>> {
    let Some(log) = store.log(id) else { return Ok(vec![]) };
    let chains = chains(&log.look());
    let (mut kept, mut failed) = (Vec::new(), None);
    for chain in chains {
        let by_count = retention.count.map(|count| Ok(Seq(chain.until.0.saturating_sub(count))));
        let by_bytes = retention.bytes.map(|bytes| by_bytes(store, &log, &chain, bytes));
        let by_age = before.map(|before| by_age(store, &log, &chain, before));
        let mut start = chain.start;
        for rule in [by_count, by_bytes, by_age].into_iter().flatten() {
            match rule {
                Ok(from) => start = start.max(from),
                Err(error) => {
                    tracing::warn!(%error, dir = ?log.dir, "a rule of retention must wait for the disk");
                    failed = Some(error);
                }
            }
        }
        start = start.min(chain.until);
        if start > chain.start {
            kept.push(Kept { run: chain.run, start });
        }
    }
    match failed {
        Some(error) if kept.is_empty() => Err(error),
        _ => Ok(kept),
    }
}

fn chains(state: &LogState) -> Vec<Chain> {
    let Some(tip) = state.tip() else { return vec![] };
    let runs = |leaf| state.chain(leaf).map(|(run, end)| (run.id, end));
    let own = Chain { run: None, start: state.start, until: tip.until, runs: runs(tip.id).collect() };
    let branch = |(leaf, from): (RunId, Seq)| {
        let until = state.run(leaf)?.until;
        let start = state.kept_from(Some(leaf)).max(from);
        let runs = runs(leaf).take_while(|(_, end)| *end > from).collect();
        (state.start >= from).then_some(Chain { run: Some(leaf), start, until, runs })
    };
    std::iter::once(own).chain(state.branches().into_iter().filter_map(branch)).collect()
}

fn by_bytes(store: &Store, log: &Log, chain: &Chain, bytes_max: u64) -> io::Result<Seq> {
    let mut bytes = 0;
    for (run, end) in &chain.runs {
        let spans: Vec<Span> = log.look().spans_of(*run).to_vec();
        for span in spans.iter().rev().filter(|span| span.from < *end) {
            let span_bytes = span.end - span.offset;
            if bytes + span_bytes <= bytes_max {
                bytes += span_bytes;
                continue;
            }
            // The batch that a mark names is the first to stay.
            let keep_from = span.end - (bytes_max - bytes);
            let index = segment::index(store, log, span.segment, readable_end(log, span))?;
            let is_before = |offset| offset >= span.offset && offset <= keep_from;
            let mut marks = index.marks.iter().filter(|m| is_before(m.offset) && m.run == span.run);
            return Ok(marks.next_back().map_or(span.from, |mark| mark.seq).min(*end));
        }
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

/// The first number whose time is `before` or later, in the oldest run that has one; the end when all are older.
fn by_age(store: &Store, log: &Log, chain: &Chain, before: Timestamp) -> io::Result<Seq> {
    for (run, end) in chain.runs.iter().rev() {
        let seq = seek_time(store, log, *run, before)?;
        if seq < *end {
            return Ok(seq);
        }
    }
    Ok(chain.until)
}
