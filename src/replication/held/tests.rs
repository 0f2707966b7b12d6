use super::*;
use crate::base::{ClusterId, Digest, Fork, Signature, Statement, Timestamp};

thread_local! {
    /// How often the content of a log was hashed.
    pub(super) static HASHED: Cell<usize> = const { Cell::new(0) };
    /// How many runs were looked at for the sake of others.
    pub(super) static LOOKED_AT: Cell<usize> = const { Cell::new(0) };
}

fn hashed() -> usize {
    HASHED.with(Cell::take)
}

fn log(number: u64) -> (TopicName, LogId) {
    let topic = TopicName::new(&format!("topic {number}")).expect("a name");
    let id = TopicId::of(ClusterId([0; 16]), topic.as_str());
    (topic, LogId { topic: id, peer: PeerId([7; 32]) })
}

fn range(number: u64, run: u64, from: u64, until: u64) -> HeldRange {
    let (_, log) = log(number);
    let range = RunRange { log, run: RunId(run), from: Seq(from), until: Seq(until) };
    HeldRange { range, parent: RunId::NONE, begin: Seq::FIRST, link: 0 }
}

fn of(count: u64) -> Held {
    let mut held = Held::default();
    for number in 0..count {
        held.add(&log(number).0, &range(number, 1, 1, 100));
    }
    held
}

fn sum(held: &Held, salt: u64) -> u64 {
    held.leaves(salt, Prefix::ALL).fold(0, |sum, (_, hash)| sum.wrapping_add(hash))
}

/// A batch may have been compared with what was here before the fork was known: it is refused where it cannot be what the fork
/// goes on from.
#[test]
fn the_last_batch_before_a_fork_is_the_one_that_the_fork_names() {
    let side = |root: u8| {
        let statement = Statement {
            log: log(1).1,
            run: RunId(1),
            parent: RunId::NONE,
            opens_run: false,
            first_seq: Seq(5),
            first_time: Timestamp(7),
            entry_count: 2,
            raw_bytes: 20,
            previous: Digest([1; 32]),
            root: Digest([root; 32]),
            signed: None,
        };
        (statement, Signature([9; 64]))
    };
    let fork = Fork::of(RunId(1), &side(1), &side(2)).unwrap();
    let mut held = Held::default();
    held.add_fork(&log(1).0, &fork);
    let of_log = held.log(&log(1).1).unwrap();
    let may_hold = |until, link| of_log.may_hold(RunId(1), Seq(until), Digest([link; 32]));
    assert!(may_hold(5, 1) && !may_hold(5, 2), "the same numbers, another batch");
    assert!(may_hold(4, 2) && !may_hold(7, 1));
}

#[test]
fn a_comparison_hashes_only_what_changed_since_the_last() {
    let mut held = of(1_000);
    let first = sum(&held, 1);
    assert_eq!(hashed(), 1_000);
    assert_ne!(sum(&held, 2), first, "each salt gives other sums");
    assert_eq!((sum(&held, 1), hashed()), (first, 0));
    let (topic, id) = log(3);
    let (start, until, time) = (Seq(10), Seq(100), Timestamp(1));
    let (parent, last) = (RunId::NONE, Digest::ZERO);
    let head =
        Head { log: id, run: RunId(1), parent, from: Seq(1), start, until, time, last, is_sealed: true };
    let lost = Lost { log: id, run: RunId(1), from: Seq(50), until: Seq(60), time, signer: id.peer };
    let changes: [&dyn Fn(&mut Held); 5] = [
        &|held| assert!(held.add(&topic, &range(3, 1, 100, 101))),
        &|held| held.remove(&range(3, 1, 20, 30).range),
        &|held| held.add_head(&topic, head, Signature([0; 64])),
        &|held| held.add_lost(&topic, lost, Signature([0; 64])),
        &|held| assert!(held.add(&topic, &range(3, 2, 101, 102))),
    ];
    let mut seen = vec![first];
    for change in changes {
        change(&mut held);
        let changed = sum(&held, 1);
        assert!(!seen.contains(&changed), "the sum says that something changed");
        assert_eq!(hashed(), 1);
        seen.push(changed);
    }
}

#[test]
fn the_order_in_which_it_came_makes_no_difference() {
    let (mut one, mut other) = (of(10), Held::default());
    for number in (0..10).rev() {
        for (from, until) in [(50, 100), (1, 20), (20, 50)] {
            other.add(&log(number).0, &range(number, 1, from, until));
        }
    }
    assert_eq!(sum(&one, 5), sum(&other, 5));
    // A log of which nothing is left is as one that was never heard of.
    one.add(&log(99).0, &range(99, 1, 1, 2));
    one.remove(&range(99, 1, 1, 2).range);
    assert_eq!(sum(&one, 5), sum(&other, 5));
}

#[test]
fn a_log_with_one_run_takes_little() {
    // Beside the tree's own, two thirds full: what is in it, and the list of one run.
    let of_log = size_of::<(Place, HeldLog)>() * 3 / 2 + size_of::<(RunId, HeldRun)>();
    let of_topic = size_of::<(TopicId, TopicName)>() * 3 / 2;
    assert!(of_log + of_topic <= 258, "{of_log} and {of_topic}");
}

#[test]
fn logs_stand_in_the_order_of_their_tags_and_are_found_by_them() {
    let held = of(300);
    let leaves: Vec<LogTag> = held.leaves(1, Prefix::ALL).map(|(tag, _)| tag).collect();
    assert_eq!(leaves.len(), 300);
    assert!(leaves.is_sorted());
    for tag in leaves {
        let found: Vec<LogTag> = held.summaries(tag).map(|summary| tag_of(&summary.log)).collect();
        assert_eq!(found, [tag]);
    }
    let parts: usize = Prefix::ALL.parts().map(|part| held.leaves(1, part).count()).sum();
    assert_eq!(parts, 300);
}

/// Something that a store comes to hold.
type Part = Box<dyn Fn(&mut Held)>;

/// A run that branched off another at 31, of which a trim took all below 69; the other goes on to 131.
fn parts() -> Vec<Part> {
    let (topic, id) = log(1);
    let held = move |run, parent, begin, from, until| -> Part {
        let range = RunRange { log: id, run: RunId(run), from: Seq(from), until: Seq(until) };
        let (topic, range) =
            (topic.clone(), HeldRange { range, parent: RunId(parent), begin: Seq(begin), link: 0 });
        Box::new(move |held| {
            held.add(&topic, &range);
        })
    };
    let (topic, (run, parent, from)) = (log(1).0, (RunId(2), RunId(1), Seq(31)));
    let (start, until, time, last) = (Seq(69), Seq(100), Timestamp(1), Digest::ZERO);
    let head = Head { log: id, run, parent, from, start, until, time, last, is_sealed: false };
    vec![
        held(1, 0, 1, 1, 131),
        // What is left of it after the trim does not say where it begins.
        held(2, 1, 1, 69, 100),
        held(2, 1, 31, 31, 40),
        Box::new(move |held| held.add_head(&topic, head, Signature([0; 64]))),
    ]
}

#[test]
fn a_trim_takes_of_the_run_before_what_comes_before_the_fork_and_no_more_in_whatever_order_it_comes() {
    let (parts, count) = (parts(), 4usize);
    for order in 0..count.pow(4) {
        let order: Vec<usize> = (0..4).map(|at| order / count.pow(at) % count).collect();
        if (0..count).any(|part| !order.contains(&part)) {
            continue;
        }
        let mut held = Held::default();
        order.iter().for_each(|part| parts[*part](&mut held));
        let of_log = held.log(&log(1).1).unwrap();
        let ranges = |run| of_log.run(RunId(run)).unwrap().ranges.iter().collect::<Vec<_>>();
        assert_eq!(ranges(1), [(Seq(31), Seq(131))], "{order:?}");
        assert_eq!(ranges(2), [(Seq(69), Seq(100))], "{order:?}");
        assert_eq!(of_log.first_missing(RunId(1), Seq(1), Seq(131)), None);
    }
}

/// Seed 1214: what was left of a run after damage began at a guess, and its first batch came from another store.
#[test]
fn the_first_batch_of_a_run_says_where_it_begins_whatever_was_guessed_before() {
    let (topic, _) = log(1);
    let mut held = Held::default();
    let mut add = |begin, from, until| {
        let range = HeldRange { parent: RunId(1), begin: Seq(begin), ..range(1, 2, from, until) };
        held.add(&topic, &range);
        held.log(&log(1).1).and_then(|log| log.run(RunId(2))).map(|run| run.from)
    };
    assert_eq!(add(9, 10, 14), Some(Seq(9)));
    assert_eq!(add(1, 14, 16), Some(Seq(9)));
    assert_eq!(add(1, 8, 10), Some(Seq(8)), "what was not its first batch was before that");
    assert_eq!(add(6, 6, 8), Some(Seq(6)));
    assert_eq!(add(7, 7, 8), Some(Seq(7)), "what the first batch says counts");
}

#[test]
fn what_is_missing_is_what_is_neither_held_nor_trimmed_nor_lost() {
    let (topic, id) = log(0);
    let mut state = 11u64;
    let mut draw = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % below
    };
    for _ in 0..300 {
        let (mut held, mut missing) = (Held::default(), [[true; 40]; 2]);
        for _ in 0..draw(12) {
            let (run, from, until) = (draw(2), 1 + draw(38), 1 + draw(40));
            let until = until.max(from + 1).min(40);
            let time = Timestamp(draw(3));
            match draw(4) {
                0 => {
                    let (from, until, run) = (Seq(from), Seq(until), RunId(run + 1));
                    let lost = Lost { log: id, run, from, until, time, signer: id.peer };
                    let signature = Signature([draw(2) as u8; 64]);
                    held.add_lost(&topic, lost, signature);
                    assert!(held.log(&id).is_some_and(|log| log.knows_lost(&lost, &signature)));
                    assert!(!held.log(&id).is_some_and(|log| log.knows_lost(&lost, &Signature([9; 64]))));
                }
                _ => drop(held.add(&topic, &range(0, run + 1, from, until))),
            }
            (from..until).for_each(|at| missing[run as usize][at as usize] = false);
        }
        let lost = held.log(&id).map_or(&[][..], |log| log.lost());
        assert!(lost.is_sorted_by_key(|(lost, _)| (lost.run, lost.from, lost.until)));
        for (run, from, until) in (0..60).map(|_| (draw(2), 1 + draw(39), 1 + draw(40))).collect::<Vec<_>>() {
            let first = (from..until).find(|at| missing[run as usize][*at as usize]);
            let end = first.and_then(|first| (first..until).find(|at| !missing[run as usize][*at as usize]));
            let expected = first.map(|first| (Seq(first), Seq(end.unwrap_or(until))));
            let found = held.log(&id).map(|log| log.first_missing(RunId(run + 1), Seq(from), Seq(until)));
            assert_eq!(found.unwrap_or(expected), expected);
        }
    }
}

#[test]
fn thousands_of_runs_are_recalled_without_looking_at_each_for_each() {
    const RUNS: u64 = 5_000;
    let (topic, id) = log(1);
    let mut held = Held::default();
    // Each has two entries and goes on from the one before; the first half is trimmed, each run by a head of its own.
    for run in 1..=RUNS {
        let (from, until) = (run * 2 - 1, run * 2 + 1);
        let HeldRange { range, .. } = range(1, run, if run <= RUNS / 2 { until } else { from }, until);
        held.add(&topic, &HeldRange { range, parent: RunId(run - 1), begin: Seq(from), link: 0 });
    }
    for run in 1..=RUNS / 2 {
        let (from, until, time) = (Seq(run * 2 - 1), Seq(run * 2 + 1), Timestamp(1));
        let (run, parent, last) = (RunId(run), RunId(run - 1), Digest::ZERO);
        let head = Head { log: id, run, parent, from, start: until, until, time, last, is_sealed: true };
        held.add_head(&topic, head, Signature([0; 64]));
    }
    assert_eq!(LOOKED_AT.with(Cell::get), 0);
    let log = held.log(&id).unwrap();
    let begins = |run: u64| log.run(RunId(run)).map(|run| (run.begin().0, run.ranges.is_empty()));
    assert_eq!(begins(RUNS / 2), Some((RUNS + 1, true)));
    assert_eq!(begins(RUNS / 2 + 1), Some((RUNS + 1, false)));
}
