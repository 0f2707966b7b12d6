use super::*;
use crate::base::{Digest, Timestamp};
use crate::log::testing::{drawn, state};

/// Reads everything one entry at a time and answers what was read.
fn drain(state: &LogState, positions: &mut Positions) -> Vec<(u64, u64)> {
    let mut read = Vec::new();
    while let Next::Entry(run, seq) = positions.next(state) {
        read.push((run.0, seq.0));
        positions.pass(state, run, seq.after(1));
    }
    read
}

#[test]
fn a_chain_is_read_in_order_and_only_its_last_run_is_named() {
    let state = state(&[(1, 0, 1, 3), (2, 1, 3, 4), (3, 2, 4, 6)]);
    let mut positions = Positions::default();
    assert_eq!(drain(&state, &mut positions), [(1, 1), (1, 2), (2, 3), (3, 4), (3, 5)]);
    assert_eq!(positions, Positions::at_end(&state));
    assert_eq!(positions.named.len(), 1);
}

#[test]
fn a_branch_is_read_whole_and_neither_side_twice() {
    let state = state(&[(1, 0, 1, 5), (2, 1, 3, 5), (3, 1, 5, 6)]);
    let mut positions = Positions::default();
    let read = drain(&state, &mut positions);
    assert_eq!(read, [(1, 1), (1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 5)]);
    let again = Positions::from_cursor(positions.to_cursor(PeerId([0; 32])));
    assert_eq!(drain(&state, &mut again.clone()), []);
}

#[test]
fn a_position_ahead_of_what_is_known_waits() {
    let mut positions = Positions::default();
    positions.set(RunId(7), Seq(9));
    let known = state(&[(1, 0, 1, 5)]);
    assert_eq!(positions.next(&known), Next::Ahead(RunId(7), Seq(9)));
    let mut ahead = Positions::default();
    ahead.set(RunId(1), Seq(9));
    assert_eq!(ahead.next(&known), Next::End);
}

#[test]
fn a_run_that_was_trimmed_whole_is_told_to_who_read_the_one_before() {
    let mut state = state(&[(1, 0, 1, 5), (2, 1, 5, 8), (3, 2, 8, 9)]);
    let log = crate::base::LogId { topic: crate::base::TopicId([1; 16]), peer: PeerId([0; 32]) };
    let (start, until, time) = (Seq(8), Seq(9), Timestamp(9));
    let head = crate::base::Head {
        log,
        run: RunId(3),
        parent: crate::base::RunId::NONE,
        from: crate::base::Seq::FIRST,
        start,
        until,
        time,
        last: Digest::ZERO,
        is_sealed: false,
    };
    state.add_head(head, crate::base::Signature([0; 64]));
    let mut positions = Positions::default();
    assert_eq!(positions.next(&state), Next::Entry(RunId(3), Seq(8)));
    positions.set(RunId(1), Seq(5));
    assert_eq!(positions.next(&state), Next::Trimmed(RunId(2), Seq(5), Seq(8)));
    positions.pass(&state, RunId(2), Seq(8));
    assert_eq!(drain(&state, &mut positions), [(3, 8)]);
    assert_eq!(positions.named.len(), 1);
}

#[test]
fn a_run_waits_for_what_it_goes_on_from_when_that_is_not_here() {
    let missing = |run, from, until, child| {
        let (run, child, until) = (RunId(run), RunId(child), Seq(until));
        Next::Missing(Missing { run, from: Seq(from), until, child, next: until })
    };
    // Nothing of run 1 is known; or not its end.
    let unknown = state(&[(2, 1, 5, 8)]);
    assert_eq!(Positions::default().next(&unknown), missing(1, 1, 5, 2));
    let short = state(&[(2, 1, 5, 8), (1, 0, 1, 3)]);
    let mut positions = Positions::default();
    assert_eq!(drain(&short, &mut positions), [(1, 1), (1, 2)]);
    assert_eq!(positions.next(&short), missing(1, 3, 5, 2));
    // It came.
    let whole = state(&[(2, 1, 5, 8), (1, 0, 1, 5)]);
    assert_eq!(drain(&whole, &mut positions), [(1, 3), (1, 4), (2, 5), (2, 6), (2, 7)]);
    // A trim of the second run takes the first too; who reads the second already has read the first.
    let mut trimmed = state(&[(2, 1, 5, 8)]);
    trimmed.runs.start_at(0, Seq(6));
    assert_eq!(drain(&trimmed, &mut Positions::default()), [(2, 6), (2, 7)]);
    let mut positions = Positions::default();
    positions.set(RunId(2), Seq(6));
    assert_eq!(drain(&unknown, &mut positions), [(2, 6), (2, 7)]);
}

#[test]
fn what_a_position_may_imply_is_not_read_again_while_that_is_not_known() {
    // Read to 9 in run 3; run 2, which it goes on from, is not here, or its own beginning is not.
    let mut positions = Positions::default();
    positions.set(RunId(3), Seq(9));
    let (run, from, until, child, next) = (RunId(2), Seq(1), Seq(7), RunId(1), Seq(1));
    let missing = Missing { run, from, until, child, next };
    assert_eq!(positions.clone().next(&state(&[(1, 0, 1, 5), (3, 2, 7, 9)])), Next::Missing(missing));
    let unopened = state(&[(1, 0, 1, 5), (2, 1, 1, 7), (3, 2, 7, 9)]);
    assert_eq!(positions.clone().next(&unopened), Next::Ahead(RunId(2), Seq(7)));
    let whole = state(&[(1, 0, 1, 5), (2, 1, 5, 7), (3, 2, 7, 9)]);
    assert_eq!(positions.clone().next(&whole), Next::End);
    // What is in the runs that were read is read on meanwhile, be it behind where the next one goes on.
    let unopened = state(&[(1, 0, 1, 5), (2, 1, 1, 9), (3, 2, 7, 11), (4, 0, 1, 3)]);
    let read = drain(&unopened, &mut positions.clone());
    assert_eq!(read, [(2, 7), (2, 8), (3, 9), (3, 10), (4, 1), (4, 2)]);
    // Nor where it is not even known where the run that was read begins.
    let nothing = state(&[(1, 0, 1, 5), (3, 2, 1, 9)]);
    assert!(matches!(positions.clone().next(&nothing), Next::Missing(missing) if missing.child == RunId(1)));
    // What goes on from it is read on meanwhile.
    let goes_on = state(&[(1, 0, 1, 5), (3, 2, 7, 10)]);
    assert_eq!(positions.clone().next(&goes_on), Next::Entry(RunId(3), Seq(9)));
}

#[test]
fn what_was_read_of_a_run_is_not_read_again_and_its_rest_is_whatever_is_missing_before() {
    // Read to 9 in run 3, which says that run 2 was read to 8; that goes on from what is not here.
    let mut positions = Positions::default();
    positions.set(RunId(3), Seq(9));
    let known = state(&[(2, 1, 5, 10), (3, 2, 8, 10)]);
    assert_eq!(drain(&known, &mut positions), [(2, 8), (2, 9), (3, 9)]);
}

#[test]
fn a_position_in_a_run_that_is_not_here_holds_up_nothing_that_goes_on_from_it_there() {
    // As a reader has it who was told of a gap in run 1.
    let mut positions = Positions::default();
    positions.set(RunId(1), Seq(5));
    let known = state(&[(2, 1, 5, 7), (3, 1, 4, 6), (4, 2, 7, 8)]);
    let read = drain(&known, &mut positions);
    assert_eq!(read, [(2, 5), (2, 6), (3, 4), (3, 5), (4, 7)]);
    let mut again = Positions::from_cursor(positions.to_cursor(PeerId([0; 32])));
    assert_eq!(drain(&known, &mut again), []);
    let mut short = Positions::default();
    short.set(RunId(1), Seq(4));
    assert_eq!(drain(&known, &mut short), [(3, 4), (3, 5)]);
    assert!(matches!(short.next(&known), Next::Missing(missing) if missing.child == RunId(2)));
}

#[test]
fn what_a_run_that_is_not_here_implies_is_not_read_again_when_another_goes_on_from_it() {
    // Read to 9 in run 2, which goes on from run 1 elsewhere; here nothing is known of that but run 3, behind it.
    let mut positions = Positions::default();
    positions.set(RunId(2), Seq(9));
    let known = state(&[(1, 0, 1, 5), (3, 2, 9, 11)]);
    assert_eq!(drain(&known, &mut positions), [(3, 9), (3, 10)]);
    assert!(matches!(positions.next(&known), Next::Missing(missing) if missing.run == RunId(2)));
    let whole = state(&[(1, 0, 1, 5), (2, 1, 5, 9), (3, 2, 9, 11)]);
    assert_eq!(drain(&whole, &mut positions), []);
    // What a trim took of the run behind it is told.
    let mut positions = Positions::default();
    positions.set(RunId(2), Seq(9));
    let mut trimmed = state(&[(3, 2, 9, 11)]);
    trimmed.runs.start_at(0, Seq(10));
    assert_eq!(positions.next(&trimmed), Next::Trimmed(RunId(3), Seq(9), Seq(10)));
}

#[test]
fn a_trim_to_where_a_run_begins_says_that_nothing_before_it_is_waited_for() {
    let mut known = state(&[(2, 1, 5, 8)]);
    let mut positions = Positions::default();
    assert!(matches!(positions.next(&known), Next::Missing(_)));
    known.runs.start_at(0, Seq(5));
    assert_eq!(drain(&known, &mut positions), [(2, 5), (2, 6), (2, 7)]);
}

#[test]
fn a_run_that_grows_is_looked_at_alone_whichever_it_is() {
    let mut known = restarted(1_000);
    let (mut positions, grows) = (Positions::at_end(&known), RunId(7));
    let index = known.runs.index_of(grows).unwrap();
    let begin = known.runs[index].until.0;
    let steps = |positions: &Positions| positions.view.as_ref().map_or(0, |view| view.step_count);
    let mut before = 0;
    for until in begin..begin + 100 {
        known.runs.grow(index, &goes_on(grows.0, until), Digest::ZERO);
        assert_eq!(positions.next(&known), Next::Entry(grows, Seq(until)));
        positions.pass(&known, grows, Seq(until + 1));
        assert_eq!(positions.next(&known), Next::End);
        before = if until == begin { steps(&positions) } else { before };
    }
    let more = steps(&positions) - before;
    assert!((99..2_000).contains(&more), "{more} steps for 99 batches");
}

#[test]
fn a_run_of_which_only_what_a_trim_left_is_known_is_read_from_there() {
    let mut known = state(&[(2, 1, 1, 9), (1, 0, 1, 3)]);
    known.runs.start_at(1, Seq(3));
    known.runs.start_at(0, Seq(7));
    assert_eq!(drain(&known, &mut Positions::default()), [(2, 7), (2, 8)]);
}

#[test]
fn a_run_that_cannot_be_read_on_holds_up_no_other() {
    let known = state(&[(1, 0, 1, 5), (2, 0, 1, 3), (3, 1, 5, 6)]);
    let mut positions = Positions::default();
    assert_eq!(positions.next_but(&known, |run| run == RunId(1)), Next::Entry(RunId(2), Seq(1)));
    positions.pass(&known, RunId(2), Seq(3));
    assert_eq!(positions.next_but(&known, |run| run == RunId(1)), Next::End, "what goes on from it waits");
}

/// Seed 2351: run 2 goes on from run 1, nobody here knows where; run 3 goes on from the end of run 1, all of which was trimmed.
#[test]
fn a_run_whose_parent_was_trimmed_is_read_though_another_may_go_on_from_that_further_on() {
    let mut known = state(&[(1, 0, 1, 77), (2, 1, 1, 223), (3, 1, 77, 80)]);
    known.runs.start_at(0, Seq(77));
    known.runs.start_at(1, Seq(220));
    let mut positions = Positions::default();
    let given = drain(&known, &mut positions);
    assert_eq!(given, [(2, 220), (2, 221), (2, 222), (3, 77), (3, 78), (3, 79)]);
    assert_eq!(positions.next(&known), Next::End, "and it waits for nothing");
}

#[test]
fn a_restored_backup_goes_on_in_a_run_that_is_read_whole() {
    // The reader had 1..9 of run 1; the peer came back with 1..5 and went on from there in run 2.
    let mut positions = Positions::default();
    positions.set(RunId(1), Seq(9));
    let known = state(&[(1, 0, 1, 5), (2, 1, 5, 7)]);
    assert_eq!(drain(&known, &mut positions), [(2, 5), (2, 6)]);
}

/// A log whose peer was started `count` times and wrote two entries each time; every tenth start found a backup.
fn restarted(count: u64) -> LogState {
    let run = |i: u64| {
        let parent = if i.is_multiple_of(10) { i.saturating_sub(3) } else { i - 1 };
        (i + 1, if i == 0 { 0 } else { parent + 1 })
    };
    let (mut runs, mut ends) = (Vec::new(), vec![1]);
    for (id, parent) in (0..count).map(run) {
        let from: u64 = ends[parent as usize];
        ends.push(from + 2);
        runs.push((id, parent, from, from + 2));
    }
    state(&runs)
}

#[test]
fn a_reader_at_the_end_sees_whichever_run_goes_on() {
    for (grows, from) in [(1, 5), (2, 4)] {
        let mut known = state(&[(1, 0, 1, 5), (2, 1, 3, 4)]);
        // What was heard of last came back after a restore: the log goes on from the run before it.
        known.go_on_from(RunId(1));
        let mut positions = Positions::at_end(&known);
        assert_eq!(positions.next(&known), Next::End);
        let run = known.runs.index_of(RunId(grows)).unwrap();
        known.runs.grow(run, &goes_on(grows, from), Digest::ZERO);
        assert_eq!(positions.next(&known), Next::Entry(RunId(grows), Seq(from)));
    }
}

fn goes_on(run: u64, from: u64) -> crate::base::Statement {
    crate::base::Statement {
        log: crate::base::LogId { topic: crate::base::TopicId([1; 16]), peer: PeerId([0; 32]) },
        run: RunId(run),
        parent: RunId::NONE,
        opens_run: false,
        first_seq: Seq(from),
        first_time: Timestamp(from),
        entry_count: 1,
        raw_bytes: 1,
        previous: Digest::ZERO,
        root: Digest::ZERO,
        signed: None,
    }
}

#[test]
fn what_reading_takes_grows_as_the_runs_do_and_no_faster() {
    let steps = |count| {
        let (known, mut positions) = (restarted(count), Positions::default());
        assert_eq!(drain(&known, &mut positions).len() as u64, count * 2);
        assert_eq!(positions, Positions::at_end(&known));
        positions.view.map_or(0, |view| view.step_count)
    };
    let (few, many) = (steps(1_000), steps(10_000));
    assert!(many < 11 * few, "{few} steps for a thousand runs, {many} for ten thousand");
    assert!(few < 20_000, "{few} steps");
}

/// Each with one it goes on from, and where it does: so some come before that.
fn runs_in_any_order(mut below: impl FnMut(u64) -> u64) -> Vec<(u64, u64, u64, u64)> {
    let mut runs = vec![(0, 0, 1, 1)];
    for id in 1..30 {
        let parent = below(id);
        let (_, _, begins, ends): (u64, u64, u64, u64) = runs[parent as usize];
        // What goes on from a run goes on from one of its entries.
        let from = if begins < ends { begins + 1 + below(ends - begins) } else { 1 };
        runs.push((id, parent, from, from + 1 + below(5)));
    }
    runs.remove(0);
    for _ in 0..below(40) {
        let (at, to) = (below(29) as usize, below(29) as usize);
        runs.swap(at, to);
    }
    runs
}

#[test]
fn a_view_that_is_kept_says_what_one_made_anew_says() {
    let mut below = drawn(7);
    let mut seen = BTreeSet::new();
    for _ in 0..400 {
        let (mut known, mut kept) = (LogState::new(), Positions::default());
        let runs = runs_in_any_order(&mut below);
        for (id, parent, from, until) in runs {
            // Of some the first batch is not here yet.
            let begins = if below(4) == 0 { 1 } else { from };
            known.runs.push(state(&[(id, parent, begins, until)]).runs[0]);
            let index = below(known.runs.len() as u64) as usize;
            match below(16) {
                0 | 1 => {
                    let start = Seq(known.runs[index].from.0 + below(6));
                    known.runs.start_at(index, start);
                }
                2 | 3 => {
                    let (run, until) = (known.runs[index].id.0, known.runs[index].until.0);
                    known.runs.grow(index, &goes_on(run, until), Digest::ZERO);
                }
                4 => known.runs.change(known.runs.len() - 1).from = Seq(from),
                _ => {}
            }
            for _ in 0..below(12) {
                // Whoever does without what is damaged passes over what is missing.
                let stuck = RunId(below(60));
                let next = kept.next_but(&known, |run| run == stuck);
                assert_eq!(next, kept.clone().next_but(&known, |run| run == stuck));
                seen.insert(match next {
                    Next::Entry(..) => "an entry",
                    Next::Trimmed(..) => "a trim",
                    Next::Ahead(..) => "ahead",
                    Next::Missing(..) => "missing",
                    Next::End => "the end",
                });
                match next {
                    Next::Entry(run, seq) => kept.pass(&known, run, seq.after(1)),
                    Next::Trimmed(run, _, until) => kept.pass(&known, run, until),
                    Next::Missing(missing) if below(4) == 0 => kept.set(missing.child, missing.next),
                    _ => break,
                }
            }
        }
    }
    assert_eq!(seen.len(), 5, "everything that may come next came");
}

/// The same entries as at all peers together, each once, whatever each of them has when the reader comes.
#[test]
fn a_reader_who_goes_from_peer_to_peer_is_given_nothing_twice_and_in_the_end_everything() {
    let mut below = drawn(11);
    for round in 0..2_000 {
        let runs = runs_in_any_order(&mut below);
        let (mut positions, mut given) = (Positions::default(), BTreeSet::new());
        for visit in 0..6 {
            let mut known = Vec::new();
            for &(id, parent, from, until) in &runs {
                // Of each peer's runs some are not there, of some the end is not.
                match if visit == 5 { 9 } else { below(10) } {
                    0..3 => {}
                    3 if from + 1 < until => {
                        known.push((id, parent, from, from + 1 + below(until - from - 1)))
                    }
                    _ => known.push((id, parent, from, until)),
                }
            }
            let known = state(&known);
            positions = Positions::from_cursor(positions.to_cursor(PeerId([0; 32])));
            for _ in 0..if visit == 5 { 10_000 } else { below(60) } {
                let Next::Entry(run, seq) = positions.next(&known) else { break };
                assert!(given.insert((run, seq)), "{run:?} {seq:?} twice in round {round}: {runs:?}");
                positions.pass(&known, run, seq.after(1));
            }
        }
        let all = runs.iter().map(|(_, _, from, until)| (until - from) as usize).sum::<usize>();
        assert_eq!(given.len(), all, "round {round}: {runs:?}");
    }
}
