use super::*;
use crate::base::{Digest, LogId, PeerId, Statement, Timestamp, TopicId};
use crate::log::place::Place;
use crate::log::state::Range;
use crate::log::testing::drawn;
use std::cell::Cell;

thread_local! {
    /// How often it was looked where a log's own chain starts.
    pub(in crate::log) static STARTS_SET: Cell<u64> = const { Cell::new(0) };
}

pub(in crate::log) const LOG: LogId = LogId { topic: TopicId([1; 16]), peer: PeerId([2; 32]) };

pub(in crate::log) fn add(state: &mut LogState, run: u64, parent: u64, first_seq: u64, count: u32) {
    let opens_run = state.run(RunId(run)).is_none();
    let statement = Statement { opens_run, ..statement_of(run, parent, first_seq, count) };
    state.add(&statement, Digest::ZERO, Place { segment: 0, offset: first_seq * 100 + run }, 100);
}

pub(in crate::log) fn statement_of(run: u64, parent: u64, first_seq: u64, count: u32) -> Statement {
    Statement {
        log: LOG,
        run: RunId(run),
        parent: RunId(parent),
        opens_run: true,
        first_seq: Seq(first_seq),
        first_time: Timestamp(first_seq),
        entry_count: count,
        raw_bytes: 1,
        previous: Digest::ZERO,
        root: Digest::ZERO,
        signed: None,
    }
}

pub(in crate::log) fn head(run: u64, start: u64, until: u64) -> Head {
    let (run, start, until) = (RunId(run), Seq(start), Seq(until));
    Head {
        log: LOG,
        run,
        parent: RunId::NONE,
        from: Seq::FIRST,
        start,
        until,
        time: Timestamp(1),
        last: Digest::ZERO,
        is_sealed: false,
    }
}

/// A chain of three runs, and a branch: what run 1 went on with at the original while a copy went on in run 2.
fn branched() -> LogState {
    let mut state = LogState::new();
    add(&mut state, 1, 0, 1, 14);
    add(&mut state, 1, 0, 15, 5);
    add(&mut state, 2, 1, 15, 10);
    add(&mut state, 3, 2, 25, 5);
    state
}

#[test]
fn a_chain_leaves_each_run_where_the_next_goes_on() {
    let state = branched();
    let chain: Vec<_> = state.chain(RunId(3)).map(|(run, end)| (run.id.0, end.0)).collect();
    assert_eq!(chain, [(3, 30), (2, 25), (1, 15)]);
    assert_eq!(state.branches(), [(RunId(1), Seq(15))]);
    let mut state = branched();
    add(&mut state, 4, 1, 20, 2);
    state.go_on_from(RunId(3));
    assert_eq!(state.branches(), [(RunId(4), Seq(15))], "the branch reaches into another run");
}

#[test]
fn a_branch_is_trimmed_by_itself_and_the_log_by_itself() {
    let mut state = branched();
    state.add_head(head(3, 20, 30), Signature([0; 64]));
    let starts = |state: &LogState| state.runs.iter().map(|run| state.start_of(run).0).collect::<Vec<_>>();
    assert_eq!((starts(&state), state.start), (vec![15, 20, 25], Seq(20)));
    assert_eq!(state.kept_from(Some(RunId(1))), Seq(15));
    state.add_head(head(1, 18, 20), Signature([0; 64]));
    assert_eq!((starts(&state), state.start), (vec![18, 20, 25], Seq(20)));
    assert_eq!(state.kept_from(Some(RunId(1))), Seq(18));
}

#[test]
fn a_head_that_came_before_its_run_counts_once_that_is_heard_of() {
    let mut state = LogState::new();
    let head = Head { parent: RunId(2), from: Seq(25), ..head(3, 27, 30) };
    state.add_head(head, Signature([0; 64]));
    add(&mut state, 3, 2, 25, 5);
    assert_eq!(state.start, Seq(27));
    add(&mut state, 2, 1, 15, 10);
    assert_eq!(state.run(RunId(2)).map(|run| state.start_of(run)), Some(Seq(25)));
}

#[test]
fn a_head_that_came_before_its_run_and_trims_nothing_says_where_the_run_begins() {
    let mut state = LogState::new();
    let head = Head { parent: RunId(2), from: Seq(25), ..head(3, 25, 40) };
    state.add_head(head, Signature([0; 64]));
    let later = Statement { opens_run: false, ..statement_of(3, 2, 30, 10) };
    state.add(&later, Digest::ZERO, Place { segment: 0, offset: 0 }, 100);
    assert_eq!(state.run(RunId(3)).map(|run| run.from), Some(Seq(25)));
    assert_eq!(state.holes(), [Range { run: RunId(3), from: Seq(25), until: Seq(30) }]);
}

#[test]
fn heads_applied_at_once_or_one_by_one_say_the_same() {
    let mut one_by_one = branched();
    for (run, start, until) in [(3, 28, 30), (2, 25, 25), (1, 17, 20)] {
        one_by_one.add_head(head(run, start, until), Signature([0; 64]));
    }
    let mut at_once = branched();
    for (run, start, until) in [(3, 28, 30), (2, 25, 25), (1, 17, 20)] {
        at_once.heads.keep(head(run, start, until), Signature([0; 64]));
    }
    at_once.settle();
    let starts = |state: &LogState| {
        let mut starts: Vec<_> = state.runs.iter().map(|run| (run.id.0, state.start_of(run).0)).collect();
        starts.sort_unstable();
        starts
    };
    assert_eq!(starts(&at_once), starts(&one_by_one));
    assert_eq!(at_once.start, one_by_one.start);
}

#[test]
fn runs_and_heads_that_come_in_any_order_say_the_same_as_all_at_once() {
    let mut below = drawn(3);
    for _ in 0..200 {
        let mut runs: Vec<(u64, u64, u64, u64)> = vec![(1, 0, 1, 11)];
        for id in 2..12 {
            let (parent, _, from, until) = runs[below(id - 1) as usize];
            let from = from + 1 + below(until - from);
            runs.push((id, parent, from, from + 10));
        }
        let mut one_by_one = LogState::new();
        let mut coming = Vec::new();
        for run in &runs {
            coming.push((below(1_000), *run, None));
            if below(2) == 0 {
                coming.push((below(1_000), *run, Some(below(run.3 + 1))));
            }
        }
        coming.sort_unstable();
        let heads = coming.iter().filter_map(|(_, (run, parent, from, until), start)| {
            let head = head(*run, (*start)?, *until);
            Some(Head { parent: RunId(*parent), from: Seq(*from), ..head })
        });
        let heads: Vec<Head> = heads.collect();
        for (_, (run, parent, from, until), start) in &coming {
            match start {
                None => add(&mut one_by_one, *run, *parent, *from, (until - from) as u32),
                Some(start) => {
                    let head = head(*run, *start, *until);
                    let head = Head { parent: RunId(*parent), from: Seq(*from), ..head };
                    one_by_one.add_head(head, Signature([0; 64]));
                }
            }
        }
        let mut at_once = LogState::new();
        for (run, parent, from, until) in &runs {
            add(&mut at_once, *run, *parent, *from, (until - from) as u32);
        }
        heads.into_iter().for_each(|head| at_once.heads.keep(head, Signature([0; 64])));
        at_once.settle();
        let starts = |state: &LogState| {
            let start_of = |id: u64| state.run(RunId(id)).map(|run| state.start_of(run));
            (1..12).map(start_of).collect::<Vec<_>>()
        };
        assert_eq!(starts(&one_by_one), starts(&at_once), "{coming:?}");
    }
}

#[test]
fn ten_thousand_runs_with_heads_are_settled_and_trimmed_in_few_steps() {
    let mut state = LogState::new();
    for n in (0..10_000).rev() {
        state.heads.keep(head(n + 1, n * 10 + 5, n * 10 + 11), Signature([0; 64]));
    }
    let runs = (0..10_000).rev().map(|n| Run {
        id: RunId(n + 1),
        parent: RunId(n),
        from: Seq(n * 10 + 1),
        until: Seq(n * 10 + 11),
        start: Seq::FIRST,
        last_time: Timestamp(n),
        link: Digest::ZERO,
        previous: Digest::ZERO,
    });
    state.runs = runs.collect::<Vec<_>>().into();
    // What grew with the square of the runs would be felt here, with the cube never end.
    state.settle();
    assert_eq!(state.runs.first().map(|run| run.id), Some(RunId(1)));
    assert_eq!(state.start, Seq(99_995));
    assert_eq!(state.start_of(&state.runs[4]), Seq(51));
}

#[test]
fn a_run_of_which_nothing_was_ever_held_is_known_to_be_trimmed() {
    let mut state = LogState::new();
    state.add_head(head(1, 15, 15), Signature([0; 64]));
    add(&mut state, 2, 1, 15, 10);
    assert_eq!(state.run(RunId(1)).map(|run| state.start_of(run)), Some(Seq(15)));
    let mut positions = crate::log::Positions::default();
    positions.set(RunId(1), Seq(5));
    assert_eq!(positions.next(&state), crate::log::positions::Next::Trimmed(RunId(1), Seq(5), Seq(15)));
    positions.pass(&state, RunId(1), Seq(15));
    assert_eq!(positions.next(&state), crate::log::positions::Next::Entry(RunId(2), Seq(15)));
}

#[test]
fn what_a_head_says_of_its_run_never_goes_back() {
    let mut state = branched();
    state.add_head(head(3, 27, 30), Signature([1; 64]));
    state.add_head(head(3, 20, 30), Signature([2; 64]));
    assert_eq!(state.heads.iter().len(), 1);
    assert_eq!(state.heads.get(RunId(3)).map(|(_, signature)| *signature), Some(Signature([1; 64])));
    assert_eq!(state.start, Seq(27));
}

#[test]
fn a_peer_goes_on_from_what_it_knows_the_end_of_and_not_from_what_a_head_tells_was_trimmed() {
    let (last, signature) = (Digest([7; 32]), crate::base::Signature([0; 64]));
    let known = |until| {
        let mut state = LogState::new();
        state.add_head(Head { last, ..head(1, 172, until) }, signature);
        state.go_on_from_furthest();
        assert_eq!(state.until(), Seq(172));
        state.furthest_known().map(|run| (run.id, run.until, run.link))
    };
    // A restored peer heard of its own head, and of none of what it had written behind what that trimmed.
    assert_eq!(known(272), None, "what the next batch would have to name is not known");
    assert_eq!(
        known(172),
        Some((RunId(1), Seq(172), last)),
        "all is trimmed, and the head names the last one"
    );
}
