//! In whichever order what belongs to a fork comes, the books end alike.
use super::*;
use crate::base::statement::link;
use crate::base::{Signature, Timestamp};
use crate::log::heads::tests::LOG;
use crate::log::place::Place;
use crate::log::positions::{Next, Positions};
use crate::log::state::Lookup;

/// A batch that goes on from another, of which only the statement matters.
fn batch(run: u64, parent: u64, first_seq: u64, count: u32, previous: Digest, root: u8) -> Statement {
    Statement {
        log: LOG,
        run: RunId(run),
        parent: RunId(parent),
        opens_run: parent != 0 || first_seq == 1,
        first_seq: Seq(first_seq),
        first_time: Timestamp(first_seq),
        entry_count: count,
        raw_bytes: 1,
        previous,
        root: Digest([root; 32]),
        signed: None,
    }
}

fn link_of(s: &Statement) -> Digest {
    link(&s.encode(), &Signature([7; 64]))
}

fn put(state: &mut LogState, s: &Statement) -> Digest {
    let offset = state.next_place.map_or(0, |next| next.offset);
    state.add(s, link_of(s), Place { segment: 0, offset }, 100);
    link_of(s)
}

#[test]
fn a_run_whose_first_batch_comes_last_goes_on_from_the_branch_that_it_names() {
    let mut state = LogState::new();
    let before = put(&mut state, &batch(1, 0, 1, 4, Digest::ZERO, 0));
    let (one, other) = (batch(1, 0, 5, 2, before, 1), batch(1, 0, 5, 3, before, 2));
    let child = batch(2, 1, 7, 2, link_of(&one), 3);
    let later = Statement { opens_run: false, ..batch(2, 1, 9, 2, link_of(&child), 4) };
    put(&mut state, &later);
    let side = |s: &Statement| (*s, Signature([7; 64]));
    let a = crate::base::statement::branch_of(&link_of(&one));
    put(&mut state, &one.in_branch(a, RunId(1), &link_of(&one)));
    state.add_fork(&Fork::of(RunId(1), &side(&one), &side(&other)).expect("a fork"));
    assert_eq!(state.run(RunId(2)).map(|run| run.parent), Some(RunId(1)));
    state.moved.clear();
    put(&mut state, &child);
    assert_eq!(state.run(RunId(2)).map(|run| run.parent), Some(a));
    assert_eq!(state.moved, [(RunId(2), a)]);
}

/// Seed 3326: the branch is longer than what goes on from it, in whichever order they come, and before or after the fork.
#[test]
fn a_run_that_goes_on_from_the_middle_of_a_branch_is_known_to_in_any_order() {
    let before = batch(1, 0, 1, 4, Digest::ZERO, 0);
    let (one, other) = (batch(1, 0, 5, 2, link_of(&before), 1), batch(1, 0, 5, 3, link_of(&before), 2));
    let more = batch(1, 0, 7, 5, link_of(&one), 4);
    let child = batch(2, 1, 7, 2, link_of(&one), 3);
    let side = |s: &Statement| (*s, Signature([7; 64]));
    let fork = Fork::of(RunId(1), &side(&one), &side(&other)).expect("a fork");
    let a = crate::base::statement::branch_of(&link_of(&one));
    // Which comes first of: the branch's two batches, what goes on from the first of them, and the fork.
    for order in
        [[0, 1, 2, 3], [0, 1, 3, 2], [0, 2, 1, 3], [2, 0, 1, 3], [2, 3, 1, 0], [3, 1, 0, 2], [3, 2, 1, 0]]
    {
        let mut state = LogState::new();
        put(&mut state, &before);
        for what in order {
            match what {
                0 => drop(put(&mut state, &one.in_branch(a, RunId(1), &link_of(&one)))),
                1 => drop(put(&mut state, &more.in_branch(a, RunId(1), &link_of(&more)))),
                2 => drop(put(&mut state, &child)),
                _ => state.add_fork(&fork),
            }
        }
        assert_eq!(state.run(RunId(2)).map(|run| run.parent), Some(a), "{order:?}");
    }
}

/// Seed 750: of a branch its second batch came, as that of a run which turns out to have forked before.
#[test]
fn a_branch_of_which_the_first_batch_is_missing_goes_on_from_the_branch_that_it_is_found_to_be_of() {
    let before = batch(1, 0, 1, 4, Digest::ZERO, 0);
    let (one, other) = (batch(1, 0, 5, 2, link_of(&before), 1), batch(1, 0, 5, 3, link_of(&before), 2));
    let (x, y) = (batch(1, 0, 7, 2, link_of(&one), 3), batch(1, 0, 7, 3, link_of(&one), 4));
    let second = batch(1, 0, 9, 2, link_of(&x), 5);
    let side = |s: &Statement| (*s, Signature([7; 64]));
    let fork = |one, other| Fork::of(RunId(1), &side(one), &side(other)).expect("a fork");
    let [a, b] = [&one, &x].map(|s| crate::base::statement::branch_of(&link_of(s)));
    let of_branch = |s: &Statement, branch| s.in_branch(branch, RunId(1), &link_of(s));
    for order in [[0, 1, 2, 3], [0, 2, 1, 3], [2, 3, 0, 1], [2, 3, 1, 0]] {
        let mut state = LogState::new();
        put(&mut state, &before);
        for what in order {
            match what {
                0 => state.add_fork(&fork(&x, &y)),
                1 => drop(put(&mut state, &of_branch(&second, b))),
                2 => state.add_fork(&fork(&one, &other)),
                _ => drop(put(&mut state, &of_branch(&one, a))),
            }
        }
        let moved = state.moved.iter().rfind(|(run, _)| *run == b).map(|(_, of)| *of);
        assert_eq!((state.run(b).map(|run| run.parent), moved), (Some(a), Some(a)), "{order:?}");
    }
}

/// Seed 385: the reader had read the other side before it was known that the run forked.
#[test]
fn what_goes_on_from_a_branch_waits_for_all_of_that_whoever_was_in_the_run_beyond_the_fork() {
    let before = batch(1, 0, 1, 4, Digest::ZERO, 0);
    let (one, other) = (batch(1, 0, 5, 2, link_of(&before), 1), batch(1, 0, 5, 3, link_of(&before), 2));
    let more = batch(1, 0, 7, 2, link_of(&one), 4);
    let child = batch(2, 1, 9, 1, link_of(&more), 3);
    let side = |s: &Statement| (*s, Signature([7; 64]));
    let a = crate::base::statement::branch_of(&link_of(&one));
    let mut state = LogState::new();
    put(&mut state, &before);
    put(&mut state, &child);
    state.add_fork(&Fork::of(RunId(1), &side(&one), &side(&other)).expect("a fork"));
    put(&mut state, &one.in_branch(a, RunId(1), &link_of(&one)));
    let mut read = Vec::new();
    let mut read_on = |state: &LogState, positions: &mut Positions| {
        while let Next::Entry(run, seq) = positions.next(state) {
            read.push((run, seq.0));
            positions.pass(state, run, seq.after(1));
        }
        std::mem::take(&mut read)
    };
    // Another had read on in the one that goes on from the branch too.
    let (mut positions, mut other) = (Positions::default(), Positions::default());
    positions.set(RunId(1), Seq(20));
    other.set(RunId(1), Seq(20));
    other.set(RunId(2), Seq(10));
    for positions in [&mut positions, &mut other] {
        assert_eq!(read_on(&state, positions), [(a, 5), (a, 6)]);
    }
    assert!(matches!(positions.next(&state), Next::Missing(_)));
    put(&mut state, &more.in_branch(a, RunId(1), &link_of(&more)));
    assert_eq!(read_on(&state, &mut positions), [(a, 7), (a, 8), (RunId(2), 9)]);
    assert_eq!(read_on(&state, &mut other), [(a, 7), (a, 8)]);
}

#[test]
fn what_a_run_went_on_with_is_read_as_its_branches_and_what_goes_on_from_one_as_that() {
    let mut state = LogState::new();
    let before = put(&mut state, &batch(1, 0, 1, 4, Digest::ZERO, 0));
    let (one, other) = (batch(1, 0, 5, 2, before, 1), batch(1, 0, 5, 3, before, 2));
    let end = put(&mut state, &one);
    put(&mut state, &batch(2, 1, 7, 2, end, 3));
    let side = |s: &Statement| (*s, Signature([7; 64]));
    let fork = Fork::of(RunId(1), &side(&one), &side(&other)).expect("a fork");
    let of_branch =
        |s: &Statement| s.in_branch(crate::base::statement::branch_of(&link_of(s)), RunId(1), &link_of(s));
    put(&mut state, &of_branch(&one));
    state.add_fork(&fork);
    put(&mut state, &of_branch(&other));
    let (a, b) = (of_branch(&one).run, of_branch(&other).run);
    let runs: Vec<_> = state.runs.iter().map(|run| (run.id, run.parent, run.from.0, run.until.0)).collect();
    let expected =
        [(RunId(1), RunId(0), 1, 5), (RunId(2), a, 7, 9), (a, RunId(1), 5, 7), (b, RunId(1), 5, 8)];
    assert_eq!(runs, expected);
    assert!(state.holes().is_empty(), "{:?}", state.holes());
    assert_eq!(state.find(RunId(1), Seq(5)), Lookup::Beyond);
    // A reader that was beyond the fork reads both branches.
    let (mut positions, mut read) = (Positions::default(), Vec::new());
    positions.set(RunId(1), Seq(7));
    while let Next::Entry(run, seq) = positions.next(&state) {
        read.push((run, seq.0));
        positions.pass(&state, run, seq.after(1));
    }
    read.sort_unstable();
    let mut all = vec![(RunId(2), 7), (RunId(2), 8), (a, 5), (a, 6), (b, 5), (b, 6), (b, 7)];
    all.sort_unstable();
    assert_eq!(read, all);
    // One that read on in a branch has not read another that the run turns out to have had before.
    let (mut positions, earlier) = (Positions::default(), Seq(5));
    positions.set(RunId(1), earlier);
    positions.pass(&state, a, Seq(6));
    assert!(
        positions.to_cursor(LOG.peer).any(|position| (position.run, position.next) == (RunId(1), earlier))
    );
    // One that read on in what goes on from a branch has read that, unless it was in the run beyond the fork: what it read
    // there may have been the other.
    for (named, expected) in [(vec![(2, 9)], vec![b; 3]), (vec![(1, 7), (2, 9)], vec![a, a, b, b, b])] {
        let (mut positions, mut read) = (Positions::default(), Vec::new());
        named.into_iter().for_each(|(run, next)| positions.set(RunId(run), Seq(next)));
        while let Next::Entry(run, seq) = positions.next(&state) {
            read.push(run);
            positions.pass(&state, run, seq.after(1));
        }
        read.sort_unstable_by_key(|run| *run != a);
        assert_eq!(read, expected);
    }
    // What is still found of it elsewhere is none of the run's.
    put(&mut state, &one);
    assert_eq!(state.run(RunId(1)).map(|run| run.until), Some(Seq(5)));
}
