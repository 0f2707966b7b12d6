//! Stories: what happened once, told in events, so that it never happens again unseen.
use crate::storage::plan::{End, Outcome, Plan};
use crate::storage::site::CONFIG;
use crate::storage::{JOBS, METRICS, ORDERS, Scenario, TRACES, Topic, run};
use conveyor::disk::{Disk, OpenMode};
use conveyor::log::flush;
use conveyor::log::place::segment_path;
use conveyor::log::store::Log;

pub(super) fn appends(topic: Topic, count: usize, bytes: u32, must_sync: bool) -> Plan {
    Plan::Append { topic, sizes: vec![bytes; count], must_sync }
}

pub(super) fn reopen_and_check(t: &mut Scenario) {
    t.power_loss();
    t.follow(0);
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [1, 2, 3] {
        assert_eq!(run(seed, false), run(seed, false));
    }
    assert_ne!(run(1, false).hash, run(2, false).hash);
}

fn every_promise_is_kept(seeds: impl IntoIterator<Item = u64>) {
    for seed in seeds {
        let report = run(seed, false);
        assert_eq!(report.failure, None, "seed {seed}: {:#?}", report.last);
    }
}

// In two halves, so that they run beside each other.
#[test]
fn the_first_hundred_and_fifty_seeds_keep_every_promise() {
    every_promise_is_kept(0..150);
}

#[test]
fn the_next_hundred_and_fifty_seeds_keep_every_promise() {
    every_promise_is_kept(150..300);
}

/// Each of these found a bug that is mended; what it was stands in the commit that added it.
#[test]
fn seeds_that_found_something_stay_quiet() {
    every_promise_is_kept([
        433, 739, 876, 925, 1862, 2447, 2825, 3886, 3941, 8952, 9134, 34906, 55509, 104489, 104696, 111630,
        117395,
    ]);
}

#[test]
fn a_crash_before_sync_loses_only_what_nobody_was_told() {
    for changes in 0..12 {
        let mut t = Scenario::seed(changes);
        assert_eq!(t.append(JOBS, 10, 100), Outcome::Done);
        t.sites[0].fuse.set(changes);
        let plans =
            [appends(JOBS, 5, 3000, true), appends(METRICS, 5, 10, false), appends(ORDERS, 3, 50, true)];
        let outcome = t.write(0, &plans);
        assert!(changes > 5 || outcome == Outcome::Dead);
        reopen_and_check(&mut t);
    }
}

#[test]
fn power_may_go_at_any_change_of_an_opening_and_its_checkpoint() {
    for changes in 0..60 {
        let mut t = Scenario::seed(changes);
        t.write(
            0,
            &[appends(JOBS, 8, 2000, true), appends(METRICS, 4, 200, true), appends(ORDERS, 2, 100, true)],
        );
        t.end(0, End::Process);
        for _ in 0..2 {
            t.sites[0].fuse.set(changes);
            t.open(0);
            t.end(0, if changes % 2 == 0 { End::Power } else { End::Process });
        }
        assert!(t.open(0));
        reopen_and_check(&mut t);
    }
}

/// F1: a directory is copied and started twice; nobody can know, and no id means two things.
#[test]
fn a_copied_directory_goes_on_in_a_run_of_its_own_and_both_can_be_read_everywhere() {
    let mut t = Scenario::seed(1);
    t.append(JOBS, 10, 100);
    let backup = t.backup(0);
    let copy = t.copy(&backup);
    assert!(t.open(copy));
    for round in 0..3 {
        t.write(0, &[appends(JOBS, 5 + round, 100, true)]);
        t.write(copy, &[appends(JOBS, 4, 100, true), appends(ORDERS, 1, 9000, true)]);
    }
    assert_eq!(t.import(copy, 0, 100), Outcome::Done);
    assert_eq!(t.import(0, copy, 100), Outcome::Done);
    assert_eq!(t.append(JOBS, 3, 100), Outcome::Done, "the original goes on in its own run");
    for site in [0, copy] {
        t.end(site, End::Power);
        assert!(t.open(site));
        t.follow(site);
    }
}

/// F1: a backup is restored; what readers saw beyond it keeps its name.
#[test]
fn a_restored_backup_never_gives_a_number_of_a_run_again() {
    let mut t = Scenario::seed(2);
    t.append(JOBS, 10, 100);
    let backup = t.backup(0);
    t.append(JOBS, 10, 100);
    t.follow(0);
    t.restore(0, &backup);
    assert!(t.open(0));
    t.append(JOBS, 20, 100);
    reopen_and_check(&mut t);
}

#[test]
fn a_segment_that_was_trimmed_before_it_was_synced_hinders_nobody() {
    let mut t = Scenario::seed(6);
    for _ in 0..40 {
        t.append(METRICS, 6, 900);
        t.write(0, &[Plan::Trim { topic: METRICS, keep: 2 }, appends(TRACES, 1, 10, true)]);
        assert!(t.maintain(0));
    }
    t.end(0, End::Clean);
    assert!(t.open(0));
    reopen_and_check(&mut t);
}

#[test]
fn a_reader_that_was_away_is_told_of_every_run_that_was_trimmed_meanwhile() {
    let mut t = Scenario::seed(7);
    t.append(JOBS, 10, 100);
    t.follow(0);
    for _ in 0..4 {
        t.process_crash();
        t.append(JOBS, 10, 100);
    }
    assert_eq!(t.trim(JOBS, 5), Outcome::Done);
    t.follow(0);
}

#[test]
fn a_missing_checkpoint_is_told_and_everything_is_found_again() {
    let mut t = Scenario::seed(8);
    for _ in 0..120 {
        t.write(0, &[appends(JOBS, 4, 1000, true), appends(TRACES, 2, 500, true)]);
        assert!(t.maintain(0));
    }
    t.end(0, End::Power);
    t.remove(0, "checkpoint");
    t.sites[0].harm.is_rotten = true;
    assert!(t.open(0));
    assert!(t.sites[0].harm.is_told);
    t.sites[0].harm.is_rotten = false;
    t.check(0);
    // Also by the next start, which has a checkpoint again, with a name made up for the topic whose own was lost.
    t.power_loss();
    t.follow(0);
}

/// Seed 303837: behind the end of a full segment lies what an earlier life left, and the next segment begins with a batch
/// of a copy, which goes on from nothing here.
#[test]
fn a_branch_at_the_beginning_of_a_segment_does_not_make_damage_of_what_lies_behind_the_one_before() {
    let mut t = Scenario::seed(19);
    t.append(METRICS, 2, 100);
    let backup = t.backup(0);
    let copy = t.copy(&backup);
    assert!(t.open(copy));
    t.write(copy, &[appends(METRICS, 2, 100, true)]);
    let log = t.sites[0].live.as_ref().and_then(|live| live.store.log(&t.sites[0].log_id(METRICS)));
    let log = log.expect("it was appended to");
    let end = |log: &Log| log.look().next_place.map_or(0, |next| next.offset);
    while end(&log) < CONFIG.segment_bytes {
        t.append(METRICS, 3, 1000);
    }
    let path = segment_path(&log.dir, &log.id, 0);
    let file = t.sites[0].control.disk().open(&path, OpenMode::Write).expect("it is there");
    file.write_at(end(&log), &[&[7; 500]]).expect("a live disk");
    assert_eq!(t.import(copy, 0, 9), Outcome::Done);
    t.process_crash();
    reopen_and_check(&mut t);
}

/// Two large batches at the same place of two logs have records with the same checksum.
#[test]
fn records_of_two_logs_are_never_taken_for_copies_of_one() {
    let mut t = Scenario::seed(11);
    let large = |topic| appends(topic, 3, 3000, true);
    t.write(0, &[large(JOBS), large(ORDERS), appends(JOBS, 1, 10, true)]);
    t.process_crash();
    reopen_and_check(&mut t);
}

#[test]
fn what_is_kept_of_the_journal_does_not_keep_its_files_in_memory() {
    let mut t = Scenario::seed(12);
    for _ in 0..150 {
        // No checkpoint is written, so everything is found in the journal.
        t.append(JOBS, 2, 900);
    }
    t.process_crash();
    let store = &t.sites[0].live.as_ref().expect("it is open").store;
    flush::flush(store).expect("there is room");
    let log = store.log(&t.sites[0].log_id(JOBS)).expect("it holds the log");
    assert!(log.look().tail.len() > 10);
    let shared = log.look().tail.iter().filter(|kept| !kept.batch.bytes().is_unique()).count();
    assert_eq!(shared, 0, "batches share the buffer in which they were found");
}

#[test]
fn opening_keeps_no_more_in_memory_than_running_does() {
    let mut t = Scenario::seed(13);
    for _ in 0..150 {
        t.append(JOBS, 2, 900);
    }
    t.end(0, End::Process);
    assert!(t.sites[0].open(&mut t.shared));
    let store = &t.sites[0].live.as_ref().expect("it is open").store;
    let bytes = store.unflushed_bytes();
    assert!(bytes <= CONFIG.unflushed_bytes_max, "{bytes} bytes wait for their segments");
    t.check(0);
    reopen_and_check(&mut t);
}

#[test]
fn journal_files_are_used_again_over_many_openings() {
    let mut t = Scenario::seed(9);
    for _ in 0..30 {
        t.append(JOBS, 3, 500);
        t.power_loss();
    }
}

#[test]
fn a_directory_that_is_open_is_not_opened_again() {
    let mut t = Scenario::seed(10);
    t.sites[0].check_lock();
    t.power_loss();
    t.sites[0].check_lock();
}
