//! What is known of a log, in small.
use super::*;
use crate::base::{Head, LogId, PeerId, TopicId};
use crate::log::heads::tests::{STARTS_SET, add, head};

fn statement(run: u64, parent: u64, opens_run: bool, first_seq: u64, count: u32) -> Statement {
    Statement {
        log: LogId { topic: TopicId([1; 16]), peer: PeerId([2; 32]) },
        run: RunId(run),
        parent: RunId(parent),
        opens_run,
        first_seq: Seq(first_seq),
        first_time: Timestamp(first_seq * 10),
        entry_count: count,
        raw_bytes: 1,
        previous: Digest::ZERO,
        root: Digest::ZERO,
        signed: None,
    }
}

fn place(segment: u32, offset: u64) -> Place {
    Place { segment, offset }
}

fn two_runs() -> LogState {
    let mut state = LogState::new();
    state.add(&statement(1, 0, true, 1, 10), Digest([1; 32]), place(0, 0), 100);
    state.add(&statement(1, 0, false, 11, 10), Digest([2; 32]), place(0, 100), 100);
    state.add(&statement(2, 1, true, 21, 5), Digest([3; 32]), place(1, 0), 50);
    state
}

#[test]
fn neighbouring_batches_are_one_span_and_runs_form_a_chain() {
    let state = two_runs();
    assert_eq!(state.spans.len(), 2);
    assert_eq!((state.until(), state.stored_bytes()), (Seq(26), 250));
    assert!(state.is_ancestor(RunId(1), RunId(2)) && !state.is_ancestor(RunId(2), RunId(1)));
    assert!(matches!(state.find(RunId(1), Seq(15)), Lookup::Span { span, .. } if span.end == 200));
    assert_eq!(state.find(RunId(1), Seq(21)), Lookup::Beyond);
    assert_eq!(state.next_place, Some(place(1, 50)));
}

#[test]
fn a_hole_before_a_later_batch_is_absent_and_damage_only_in_a_log_of_our_own() {
    let mut state = two_runs();
    state.add(&statement(2, 1, false, 30, 1), Digest([4; 32]), place(1, 50), 10);
    assert_eq!(state.find(RunId(2), Seq(27)), Lookup::Absent(Seq(30)));
    state.add(&statement(3, 2, false, 35, 1), Digest([5; 32]), place(1, 60), 10);
    assert_eq!(state.find(RunId(3), Seq(1)), Lookup::Absent(Seq(35)), "nobody knows where it begins");
    assert_eq!(state.damaged, []);
    state.add_holes_as_damage();
    assert_eq!(state.find(RunId(2), Seq(27)), Lookup::Damaged(Seq(30)));
    assert_eq!(state.find(RunId(3), Seq(31)), Lookup::Damaged(Seq(35)));
    assert_eq!(state.holes(), []);
}

#[test]
fn the_first_batch_of_a_run_says_where_it_begins_also_when_it_comes_late() {
    let mut state = LogState::new();
    state.add(&statement(1, 0, true, 1, 5), Digest([1; 32]), place(0, 0), 10);
    state.add(&statement(2, 1, false, 14, 6), Digest([2; 32]), place(0, 10), 10);
    assert_eq!(state.holes(), [Range { run: RunId(2), from: Seq(1), until: Seq(14) }]);
    state.add(&statement(2, 1, true, 10, 4), Digest([3; 32]), place(0, 20), 10);
    assert_eq!((state.runs[1].from, state.holes()), (Seq(10), vec![]));
}

#[test]
fn batches_found_in_any_order_make_the_same_chain() {
    let mut state = LogState::new();
    state.add(&statement(3, 2, false, 30, 5), Digest([4; 32]), place(1, 50), 10);
    state.add(&statement(2, 1, true, 11, 9), Digest([2; 32]), place(1, 0), 50);
    state.add(&statement(1, 0, true, 1, 10), Digest([1; 32]), place(0, 0), 100);
    state.settle();
    state.add_holes_as_damage();
    let runs: Vec<_> = state.runs.iter().map(|run| (run.id.0, run.from.0)).collect();
    assert_eq!(runs, [(1, 1), (2, 11), (3, 20)]);
    assert_eq!(state.damaged, [Range { run: RunId(3), from: Seq(20), until: Seq(30) }]);
    assert_eq!(state.spans.iter().map(|span| span.run.0).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn a_trim_spares_what_is_not_below_it_and_frees_whole_segments() {
    let mut state = two_runs();
    let log = statement(1, 0, true, 1, 1).log;
    let head = |start| Head {
        log,
        run: RunId(2),
        parent: RunId::NONE,
        from: Seq::FIRST,
        start: Seq(start),
        until: Seq(26),
        time: Timestamp(start),
        last: Digest::ZERO,
        is_sealed: false,
    };
    state.add_head(head(15), Signature([0; 64]));
    state.covered = 1;
    assert_eq!(state.discard_trimmed(), Vec::<u32>::new());
    assert_eq!(state.start_of(&state.runs[0]), Seq(15));
    state.add_head(head(21), Signature([0; 64]));
    state.covered = 0;
    assert_eq!(state.discard_trimmed(), Vec::<u32>::new(), "no checkpoint knows of what was in it");
    state.covered = 1;
    assert_eq!(state.discard_trimmed(), vec![0]);
    state.add_head(head(3), Signature([0; 64]));
    assert_eq!(state.start, Seq(21), "a start never goes back");
}

#[test]
fn a_log_that_was_wholly_trimmed_gives_back_its_last_segment() {
    let mut state = two_runs();
    let log = statement(1, 0, true, 1, 1).log;
    let head = |start| Head {
        log,
        run: RunId(2),
        parent: RunId::NONE,
        from: Seq::FIRST,
        start: Seq(start),
        until: Seq(26),
        time: Timestamp(start),
        last: Digest::ZERO,
        is_sealed: false,
    };
    state.covered = 9;
    state.add_head(head(25), Signature([0; 64]));
    state.roll_if_empty();
    assert_eq!(state.discard_trimmed(), vec![0], "one entry is left in segment 1");
    state.add_head(head(26), Signature([0; 64]));
    state.roll_if_empty();
    assert_eq!(state.discard_trimmed(), vec![1]);
    assert_eq!(state.next_place, Some(place(2, 0)));
    assert_eq!(state.until(), Seq(26), "numbers go on");
}

#[test]
fn a_branch_keeps_what_the_trim_of_the_other_does_not_cover() {
    let mut state = two_runs();
    state.add(&statement(9, 1, true, 15, 3), Digest([6; 32]), place(2, 0), 30);
    let head = Head {
        log: statement(1, 0, true, 1, 1).log,
        run: RunId(2),
        parent: RunId::NONE,
        from: Seq::FIRST,
        start: Seq(26),
        until: Seq(26),
        time: Timestamp(1),
        last: Digest::ZERO,
        is_sealed: false,
    };
    state.add_head(head, Signature([0; 64]));
    state.covered = 3;
    state.discard_trimmed();
    assert!(matches!(state.find(RunId(9), Seq(16)), Lookup::Span { .. }));
    assert_eq!(state.find(RunId(1), Seq(16)), Lookup::Absent(Seq(21)));
}

#[test]
fn a_trim_of_a_copy_spares_what_the_original_wrote_after_it_was_copied() {
    let mut state = LogState::new();
    state.add(&statement(1, 0, true, 1, 14), Digest([1; 32]), place(0, 0), 100);
    state.add(&statement(2, 1, true, 15, 10), Digest([2; 32]), place(0, 100), 100);
    state.add(&statement(1, 0, false, 15, 5), Digest([3; 32]), place(0, 200), 100);
    let (log, run, start, until) = (statement(1, 0, true, 1, 1).log, RunId(2), Seq(20), Seq(25));
    let head = Head {
        log,
        run,
        parent: RunId::NONE,
        from: Seq::FIRST,
        start,
        until,
        time: Timestamp(1),
        last: Digest::ZERO,
        is_sealed: false,
    };
    state.add_head(head, Signature([0; 64]));
    assert_eq!((state.start_of(&state.runs[0]), state.start_of(&state.runs[1])), (Seq(15), Seq(20)));
}

#[test]
fn damage_beside_what_was_declared_lost_is_all_that_is_still_damaged() {
    let mut state = two_runs();
    let log = statement(1, 0, true, 1, 1).log;
    let lost = |from, until| Lost {
        log,
        run: RunId(1),
        from: Seq(from),
        until: Seq(until),
        time: Timestamp(1),
        signer: log.peer,
    };
    state.add_damage(Range { run: RunId(1), from: Seq(5), until: Seq(8) });
    state.add_lost(lost(5, 8), Signature([0; 64]));
    assert_eq!(state.damaged_not_lost(), []);
    state.add_damage(Range { run: RunId(1), from: Seq(8), until: Seq(9) });
    assert_eq!(state.damaged_not_lost(), [Range { run: RunId(1), from: Seq(8), until: Seq(9) }]);
    assert_eq!(state.find(RunId(1), Seq(6)), Lookup::Lost(Seq(8)));
}

#[test]
fn of_many_ranges_what_was_declared_lost_is_taken_off_in_one_pass_as_one_by_one() {
    let log = statement(1, 0, true, 1, 1).log;
    let mut drawn = crate::log::testing::drawn(5);
    for _ in 0..500 {
        let mut range = || {
            let from = 1 + drawn(40);
            Range { run: RunId(1 + drawn(3)), from: Seq(from), until: Seq(from + 1 + drawn(12)) }
        };
        let mut state = LogState::new();
        (0..6).for_each(|_| state.add_damage(range()));
        let mut wanted = state.damaged.clone();
        for Range { run, from, until } in (0..6).map(|_| range()).collect::<Vec<_>>() {
            let lost = Lost { log, run, from, until, time: Timestamp(1), signer: log.peer };
            state.add_lost(lost, Signature([0; 64]));
            subtract(&mut wanted, Range { run, from, until });
        }
        assert_eq!(state.damaged_not_lost(), wanted, "{:?} {:?}", state.damaged, state.lost);
    }
}

#[test]
fn what_was_stored_again_counts_however_long_its_span_is() {
    let mut state = LogState::new();
    state.add(&statement(1, 0, true, 1, 10), Digest([1; 32]), place(0, 0), 100);
    state.add(&statement(1, 0, false, 11, 10), Digest([2; 32]), place(1, 0), 100);
    state.add_damage(Range { run: RunId(1), from: Seq(1), until: Seq(21) });
    assert!(!state.holds(&statement(1, 0, false, 11, 10)));
    state.add(&statement(1, 0, true, 1, 10), Digest([1; 32]), place(1, 100), 100);
    state.add(&statement(1, 0, false, 11, 10), Digest([2; 32]), place(1, 200), 100);
    assert!(state.holds(&statement(1, 0, false, 11, 10)));
    for seq in [1, 10, 11, 20] {
        let found = state.find(RunId(1), Seq(seq));
        assert!(matches!(found, Lookup::Span { span, .. } if span.offset == 100), "{seq}: {found:?}");
    }
}

#[test]
fn a_run_of_which_only_a_head_came_is_trimmed_as_far_as_that_says_and_goes_on_when_its_batches_come() {
    let mut state = LogState::new();
    let log = statement(2, 1, false, 1, 1).log;
    let (run, parent, from) = (RunId(2), RunId(1), Seq(9));
    let (start, until, time) = (Seq(40), Seq(50), Timestamp(1));
    let head = Head { log, run, parent, from, start, until, time, last: Digest::ZERO, is_sealed: false };
    state.add_head(head, Signature([0; 64]));
    let known = state.run(run).map(|run| (run.from, run.start, run.until));
    assert_eq!(known, Some((Seq(9), Seq(40), Seq(40))), "what is not trimmed may come");
    state.add(&statement(2, 1, false, 40, 5), Digest([1; 32]), place(0, 0), 10);
    let of_run = *state.run(run).unwrap();
    assert_eq!((of_run.parent, state.begin_of(&of_run), of_run.until), (RunId(1), Seq(40), Seq(45)));
    assert_eq!(state.holes(), []);
}

#[test]
fn where_a_run_begins_of_which_damage_took_the_first_batch_is_a_guess_until_that_is_back() {
    let mut state = two_runs();
    // The run before it has got more since: it ends behind what is here of run 3.
    state.add(&statement(3, 2, false, 23, 2), Digest([4; 32]), place(1, 50), 10);
    state.add_holes_as_damage();
    let from = |state: &LogState| state.run(RunId(3)).map(|run| (run.from.0, state.from_to_sign(run).0));
    assert_eq!(from(&state), Some((22, 1)), "one entry at least was before");
    assert_eq!(state.find(RunId(3), Seq(22)), Lookup::Damaged(Seq(23)));
    assert!(
        state.runs.iter().filter(|run| run.id != RunId(3)).all(|run| state.from_to_sign(run) == run.from)
    );
    state.add(&statement(3, 2, true, 21, 2), Digest([5; 32]), place(1, 60), 10);
    assert_eq!((from(&state), state.holes()), (Some((21, 21)), vec![]));
    assert_eq!(state.damaged, []);
}

#[test]
fn an_append_to_a_log_of_many_runs_looks_through_none_of_them() {
    let mut state = LogState::new();
    (1..1_000).for_each(|run| add(&mut state, run, run - 1, run * 10, 10));
    state.add_head(head(1, 13, 20), Signature([0; 64]));
    state.go_on_from(RunId(998));
    let (before, start) = (STARTS_SET.get(), state.start);
    for seq in 0..100 {
        add(&mut state, 998, 997, 9_990 + seq, 1);
        state.go_on_from(RunId(998));
    }
    assert_eq!((STARTS_SET.get(), state.start), (before, start));
    state.go_on_from(RunId(999));
    assert_eq!(STARTS_SET.get(), before + 1, "that is news");
}
