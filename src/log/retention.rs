//! What retention leaves of a log: the first number to keep by count, by bytes and by age.
use crate::base::planted::{self, Bug};
use crate::base::{LogId, Retention, RunId, Seq, Timestamp};
use crate::log::seek::seek_time;
use crate::log::segment;
use crate::log::state::{LogState, Span};
use crate::log::store::{Log, Store};
use std::io;
use std::ops::Range;

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

/// The first numbers of log `id` to keep where that is later than now. Age counts only where `dated` says what is neither
/// too old nor dated ahead; count is exact; bytes go by index marks, so up to 64 KiB more than asked for are kept. A branch, which a restore
/// or a copy left beside the log, is kept until the log is trimmed to where it begins, and counts by itself from there.
///
/// Each rule is by itself: where the disk keeps one from being looked after, the others hold. The error comes when nothing
/// else does.
pub fn plan(
    store: &Store,
    id: &LogId,
    retention: &Retention,
    dated: Option<Range<Timestamp>>,
) -> io::Result<Vec<Kept>> {
    let Some(log) = store.log(id) else { return Ok(vec![]) };
    let chains = chains(&log.look());
    let (mut kept, mut failed) = (Vec::new(), None);
    for chain in chains {
        let too_few = u64::from(planted::is(Bug::KeepsTooFew));
        let by_count = retention.count.map(|count| Ok(Seq((chain.until.0 + too_few).saturating_sub(count))));
        let by_bytes = retention.bytes.map(|bytes| by_bytes(store, &log, &chain, bytes));
        let by_age = dated.as_ref().map(|dated| by_age(store, &log, &chain, dated));
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
            let span = &ended_at(store, log, span, *end)?;
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

/// The part of a span before `end`, by index marks: what is set aside behind it takes no room from what is kept.
fn ended_at(store: &Store, log: &Log, span: &Span, end: Seq) -> io::Result<Span> {
    if span.until <= end {
        return Ok(*span);
    }
    let index = segment::index(store, log, span.segment, readable_end(log, span))?;
    let is_inside = |offset| span.offset < offset && offset < span.end;
    let mut marks = index.marks.iter().filter(|mark| mark.run == span.run && is_inside(mark.offset));
    let offset = marks.find(|mark| mark.seq >= end).map_or(span.end, |mark| mark.offset);
    Ok(Span { until: end, end: offset, ..*span })
}

fn readable_end(log: &Log, span: &Span) -> u64 {
    let state = log.look();
    let is_unflushed = |t: &&crate::log::state::TailBatch| {
        t.place.segment == span.segment && !t.is_flushed.load(std::sync::atomic::Ordering::Acquire)
    };
    state.tail.iter().find(is_unflushed).map_or(span.end, |t| t.place.offset)
}

/// The first number that is `dated` as what is kept is, in the oldest run that has one; the end when all are older. What is
/// dated ahead of all that, since the clock ran ahead, is as old as what was appended behind it: it keeps nothing that comes
/// before older entries.
fn by_age(store: &Store, log: &Log, chain: &Chain, dated: &Range<Timestamp>) -> io::Result<Seq> {
    let mut start = Seq::FIRST;
    for (run, end) in chain.runs.iter().rev() {
        let seq = seek_time(store, log, *run, dated.start)?.min(*end);
        let begin = log.look().run(*run).map_or(seq, |known| known.from.max(known.start));
        if begin < seq {
            start = seq;
        }
        if seq < *end && seek_time(store, log, *run, dated.end)? > seq {
            break;
        }
    }
    Ok(start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::seek::tests::Replica;

    /// What is kept by age, of entries whose time is their number and more.
    fn kept(replica: &Replica, times: Range<u64>) -> Option<u64> {
        let dated = Timestamp(times.start)..Timestamp(times.end);
        let retention = Retention { age_ms: Some(1), ..Retention::default() };
        let kept = plan(&replica.store, &replica.id, &retention, Some(dated)).unwrap();
        kept.first().map(|kept| kept.start.0)
    }

    #[test]
    fn entries_dated_ahead_hold_up_nothing_that_is_older_behind_them() {
        let mut replica = Replica::new();
        replica.take(1, 0, true, 1..5, 0);
        replica.take(1, 0, false, 5..10, 10_000);
        replica.take(2, 1, true, 10..20, 0);
        replica.take(3, 2, true, 20..30, 0);
        assert_eq!(kept(&replica, 1..40), None);
        assert_eq!(kept(&replica, 3..40), Some(3));
        assert_eq!(kept(&replica, 5..40), Some(5), "they are no older than what comes behind them");
        assert_eq!(kept(&replica, 15..40), Some(15));
        assert_eq!(kept(&replica, 25..40), Some(25));
        assert_eq!(kept(&replica, 30..40), Some(30));
        assert_eq!(kept(&replica, 30..20_000), Some(5), "by then they are not ahead any more, nor too old");
        assert_eq!(kept(&replica, 15_000..20_000), Some(30));
    }

    #[test]
    fn what_is_dated_far_back_takes_nothing_that_came_before_it() {
        let mut replica = Replica::new();
        replica.take(1, 0, true, 1..5, 1_000);
        replica.take(2, 1, true, 5..10, 0);
        replica.take(2, 1, false, 10..20, 1_000);
        assert_eq!(kept(&replica, 500..2_000), None);
        assert_eq!(kept(&replica, 1_003..2_000), Some(3));
        assert_eq!(kept(&replica, 1_005..2_000), Some(10));
    }
}
