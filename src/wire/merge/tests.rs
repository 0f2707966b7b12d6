use super::*;
use crate::base::TopicId;
use crate::base::batch::state;
use crate::base::{Batch, Chunk, ChunkBuilder, ClusterId, Codec, Digest, Entry, LogId, Signature};
use crate::wire::outcome::{BlockedReason, GapReason};

const TOPIC: TopicId = TopicId([1; 16]);

fn contents(peer: u8, run: u64, parent: u64, first_seq: u64, time: u64, count: usize) -> Contents {
    let mut builder = ChunkBuilder::new();
    for _ in 0..count {
        builder.push(&Entry::from("x")).unwrap();
    }
    let chunks = [Chunk::parse(builder.finish(Codec::None)).unwrap()];
    let starts_log = first_seq == 1;
    let blank = Statement {
        log: LogId { topic: TOPIC, peer: PeerId([peer; 32]) },
        run: RunId(run),
        parent: RunId(parent),
        opens_run: starts_log || parent != 0,
        first_seq: Seq(first_seq),
        first_time: Timestamp(time),
        entry_count: 0,
        raw_bytes: 0,
        previous: if starts_log { Digest::ZERO } else { Digest([1; 32]) },
        root: Digest::ZERO,
        signed: None,
    };
    let batch = Batch::assemble(state(&blank, &chunks), Signature([0; 64]), &chunks);
    Contents::check(&batch).unwrap()
}

fn merger() -> Merger {
    Merger::new(Cursor::start(ClusterId([9; 16]), TOPIC))
}

/// What comes out, as (peer, seq); what is no entry as (peer, 0).
fn drain(merger: &mut Merger) -> Vec<(u8, u64)> {
    std::iter::from_fn(|| merger.pop())
        .map(|merged| match merged {
            Merged::Entry(entry) => (entry.id.peer.0[0], entry.id.seq.0),
            Merged::Gap(gap) => (gap.peer.0[0], 0),
            Merged::Blocked(blocked) => (blocked.peer.0[0], 0),
        })
        .collect()
}

fn positions(merger: &Merger) -> Vec<(u8, u64, u64)> {
    merger.cursor().positions.iter().map(|p| (p.peer.0[0], p.run.0, p.next.0)).collect()
}

#[test]
fn logs_are_merged_by_time_as_far_as_the_sender_released() {
    let mut m = merger();
    m.push_batch(contents(2, 1, 0, 1, 10, 3), Seq(1), Timestamp(11));
    assert_eq!(drain(&mut m), [(2, 1)], "the rest waits for what another log may still bring");
    m.push_batch(contents(1, 1, 0, 1, 11, 3), Seq(1), Timestamp(12));
    assert_eq!(drain(&mut m), [(1, 1), (2, 2)], "of equal times the lower peer goes first");
    m.release_all();
    assert_eq!(drain(&mut m), [(1, 2), (2, 3), (1, 3)]);
    assert_eq!(positions(&m), [(1, 1, 4), (2, 1, 4)]);
    assert!(m.is_empty());
}

#[test]
fn what_one_item_released_does_not_hold_for_what_came_later() {
    let mut m = merger();
    m.push_batch(contents(1, 1, 0, 1, 10, 1), Seq(1), Timestamp(u64::MAX));
    assert_eq!(drain(&mut m), [(1, 1)]);
    m.push_batch(contents(1, 1, 0, 2, 20, 2), Seq(2), Timestamp(21));
    assert_eq!(drain(&mut m), [(1, 2)], "another log has written meanwhile, and comes next");
    m.push_batch(contents(2, 1, 0, 1, 21, 1), Seq(1), Timestamp(u64::MAX));
    assert_eq!(drain(&mut m), [(1, 3), (2, 1)]);
}

#[test]
fn of_two_items_the_later_says_how_much_is_released_be_it_more_or_less() {
    let cases = [(12, 31, vec![(1, 1), (1, 2), (1, 3), (2, 1)]), (31, 12, vec![(1, 1), (1, 2)])];
    for (first, second, released) in cases {
        let mut m = merger();
        m.push_batch(contents(1, 1, 0, 1, 10, 3), Seq(1), Timestamp(first));
        m.push_batch(contents(2, 1, 0, 1, 30, 1), Seq(1), Timestamp(second));
        assert_eq!(drain(&mut m), released, "{first}, then {second}");
        m.release_all();
        assert_eq!(drain(&mut m).len(), 4 - released.len());
    }
}

#[test]
fn entries_below_the_position_are_passed_over() {
    let mut m = merger();
    m.push_batch(contents(1, 1, 0, 1, 10, 5), Seq(4), Timestamp(99));
    m.push_batch(contents(1, 1, 0, 1, 10, 5), Seq(9), Timestamp(99));
    assert_eq!(drain(&mut m), [(1, 4), (1, 5)]);
}

#[test]
fn within_a_log_order_holds_even_when_a_clock_was_set_back() {
    let mut m = merger();
    m.push_batch(contents(1, 1, 0, 1, 100, 2), Seq(1), Timestamp(0));
    m.push_batch(contents(1, 2, 1, 3, 50, 2), Seq(3), Timestamp(0));
    m.push_batch(contents(2, 7, 0, 1, 60, 1), Seq(1), Timestamp(0));
    m.release_all();
    assert_eq!(drain(&mut m), [(2, 1), (1, 1), (1, 2), (1, 3), (1, 4)]);
    assert_eq!(positions(&m), [(1, 2, 5), (2, 7, 2)], "the child run stands for its parent");
}

#[test]
fn a_run_that_branches_off_a_point_already_passed_is_listed_beside_the_other() {
    let mut m = merger();
    m.push_batch(contents(1, 1, 0, 1, 10, 4), Seq(1), Timestamp(99));
    m.push_batch(contents(1, 2, 1, 3, 20, 2), Seq(3), Timestamp(99));
    assert_eq!(drain(&mut m).len(), 6);
    assert_eq!(positions(&m), [(1, 1, 5), (1, 2, 5)]);
}

#[test]
fn a_branch_is_listed_beside_the_run_that_forked() {
    let mut m = merger();
    m.pass_batch(contents(1, 1, 0, 1, 10, 2).statement());
    let branch = *contents(1, 1, 0, 3, 20, 2).statement();
    let link = Digest([[0; 7].as_slice(), &[2; 25]].concat().try_into().unwrap());
    let branch = branch.in_branch(RunId(2), RunId(1), &link);
    assert!(branch.opens_run);
    m.pass_batch(&branch);
    assert_eq!(positions(&m), [(1, 1, 3), (1, 2, 5)]);
}

#[test]
fn a_gap_comes_in_its_logs_order_and_moves_the_cursor() {
    let mut m = merger();
    let gap = |from, until| Gap {
        peer: PeerId([1; 32]),
        run: RunId(1),
        from: Seq(from),
        until: Seq(until),
        reason: GapReason::Trimmed,
        goes_on_from: None,
    };
    m.push_gap(gap(1, 3));
    assert_eq!(drain(&mut m), [(1, 0)]);
    assert_eq!(positions(&m), [(1, 1, 3)]);
    m.push_batch(contents(1, 1, 0, 3, 30, 1), Seq(3), Timestamp(0));
    m.push_gap(gap(4, 9));
    assert_eq!(drain(&mut m), [], "the gap lies behind an entry that still waits");
    m.release_all();
    assert_eq!(drain(&mut m), [(1, 3), (1, 0)]);
    assert_eq!(positions(&m), [(1, 1, 9)]);
}

#[test]
fn a_run_of_which_a_gap_is_all_stands_for_its_parent_like_one_that_came() {
    let mut m = merger();
    let gap = |run, from, until, parent: Option<u64>| Gap {
        peer: PeerId([1; 32]),
        run: RunId(run),
        from: Seq(from),
        until: Seq(until),
        reason: GapReason::Trimmed,
        goes_on_from: parent.map(RunId),
    };
    m.push_gap(gap(1, 1, 3, None));
    m.push_gap(gap(2, 3, 9, Some(1)));
    assert_eq!(drain(&mut m), [(1, 0), (1, 0)]);
    assert_eq!(positions(&m), [(1, 2, 9)]);
    m.push_gap(gap(3, 7, 8, Some(2)));
    m.push_gap(gap(4, 9, 11, None));
    m.push_gap(gap(5, 11, 12, Some(4)));
    assert_eq!(drain(&mut m).len(), 3);
    assert_eq!(positions(&m), [(1, 2, 9), (1, 3, 8), (1, 5, 12)], "a branch implies nothing behind it");
}

#[test]
fn a_log_is_blocked_behind_its_entries_and_the_cursor_stays_there() {
    let mut m = merger();
    m.push_batch(contents(1, 1, 0, 1, 30, 2), Seq(1), Timestamp(0));
    let (peer, run, from, until) = (PeerId([1; 32]), RunId(1), Seq(3), Seq(4));
    m.push_blocked(Blocked { peer, run, from, until, reason: BlockedReason::Damaged });
    assert_eq!(drain(&mut m), [], "it lies behind entries that still wait");
    m.push_batch(contents(2, 7, 0, 1, 31, 2), Seq(1), Timestamp(0));
    m.release_all();
    assert_eq!(drain(&mut m), [(1, 1), (1, 2), (1, 0), (2, 1), (2, 2)]);
    assert_eq!(positions(&m), [(1, 1, 3), (2, 7, 3)]);
    assert!(m.is_empty());
}
