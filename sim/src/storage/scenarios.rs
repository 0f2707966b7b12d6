//! Stories: what happened once, told in events, so that it never happens again unseen.
use crate::storage::plan::{End, Outcome, Plan};
use crate::storage::site::CONFIG;
use crate::storage::{JOBS, METRICS, ORDERS, Scenario, TRACES, Topic, run};
use conveyor::base::Seq;
use conveyor::disk::{Disk, OpenMode};
use conveyor::log::place::{JOURNAL_DIR, segment_path};
use conveyor::log::segment::{read_batches, read_block};
use conveyor::log::state::Lookup;
use conveyor::log::store::Log;
use conveyor::log::{flush, journal};

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

/// F7: the last acknowledged batch rots after a mark; it is told as damage and not cut as a tear.
#[test]
fn the_last_acknowledged_batch_may_rot_and_is_told_not_forgotten() {
    let mut t = Scenario::seed(3);
    t.append(JOBS, 4, 100);
    t.append(JOBS, 1, 4000);
    assert!(t.sites[0].mark(&mut t.shared));
    t.end(0, End::Clean);
    // In the body of the last batch: behind the record's and the batch's headers.
    let journal = "journal/0002.journal";
    t.flip(0, journal, 2500);
    assert!(t.open(0));
    let live = t.sites[0].live.as_ref().expect("it is open");
    let log = live.store.log(&t.sites[0].log_id(JOBS)).expect("it holds the log");
    assert_eq!(log.look().until().0, 6, "what is damaged keeps its number");
    reopen_and_check(&mut t);
}

/// F12: damage takes the batch it is in, its neighbours are served, and a copy heals it for good.
#[test]
fn damage_spares_its_neighbours_and_heals_from_a_copy() {
    let mut t = Scenario::seed(5);
    for _ in 0..12 {
        t.append(JOBS, 3, 1000);
    }
    let backup = t.backup(0);
    let copy = t.copy(&backup);
    assert!(t.open(copy));
    for _ in 0..2 {
        // The second time the journal has nothing, and nothing is in memory.
        t.end(0, End::Clean);
        assert!(t.open(0));
    }
    t.rot(0, "jobs/0101010101010101-00000000.segment", 1);
    t.check(0);
    t.heal_from(0, copy, JOBS);
    t.sites[0].harm.is_rotten = false;
    t.sites[0].harm.is_told = false;
    t.process_crash();
    assert!(t.maintain(0));
    t.check(0);
    t.follow(0);
}

/// Nobody reads it, so nobody would know.
#[test]
fn rot_in_the_last_batch_of_a_full_segment_is_found_by_a_round_of_the_scrub() {
    let mut t = Scenario::seed(20);
    for _ in 0..16 {
        t.append(JOBS, 3, 1000);
    }
    t.end(0, End::Clean);
    assert!(t.open(0));
    let log = t.sites[0].live.as_ref().and_then(|live| live.store.log(&t.sites[0].log_id(JOBS)));
    let log = log.expect("it was appended to");
    let last = log.look().spans[0];
    assert_eq!(last.segment + 1, log.look().spans[1].segment, "the first segment is full");
    t.flip(0, &segment_path(&log.dir, &log.id, last.segment), last.end - 500);
    let site = &mut t.sites[0];
    site.scrub_round(&mut t.shared);
    let damaged: Vec<_> = log.look().damaged.iter().map(|range| (range.from, range.until)).collect();
    assert_eq!(damaged, [(Seq(last.until.0 - 3), last.until)], "the batch it is in, and no other");
    t.check(0);
    site_is_quiet(&mut t);
}

/// Seed 500533: of two neighbours that rot one is still in memory, and is served from there.
#[test]
fn rot_is_told_no_further_than_to_what_is_still_in_memory() {
    let mut t = Scenario::seed(21);
    (0..40).for_each(|_| assert_eq!(t.append(METRICS, 3, 1000), Outcome::Done));
    let log = t.sites[0].live.as_ref().and_then(|live| live.store.log(&t.sites[0].log_id(METRICS)));
    let log = log.expect("it was appended to");
    let (place, first) = {
        let state = log.look();
        let oldest = state.tail.front().expect("the newest are in memory");
        (oldest.place, oldest.batch.statement().first_seq)
    };
    assert!(first > Seq(1) && place.offset > 0, "and the oldest are not");
    let path = segment_path(&log.dir, &log.id, place.segment);
    [place.offset - 500, place.offset + 500].into_iter().for_each(|at| t.flip(0, &path, at));
    t.sites[0].scrub_round(&mut t.shared);
    assert_eq!(log.look().find(log.look().runs[0].id, Seq(first.0 - 1)), Lookup::Damaged(first));
    t.check(0);
    t.follow(0);
}

/// Seed 500946: a write that went astray put a whole batch in the place of another of its run.
#[test]
fn a_batch_in_the_place_of_another_takes_that_one_and_spares_what_lies_behind() {
    let mut t = Scenario::seed(22);
    (0..16).for_each(|_| assert_eq!(t.append(METRICS, 3, 1000), Outcome::Done));
    let log = t.sites[0].live.as_ref().and_then(|live| live.store.log(&t.sites[0].log_id(METRICS)));
    let log = log.expect("it was appended to");
    let disk = t.sites[0].control.disk();
    let [first, second] = [0, 1].map(|segment| {
        let file =
            disk.open(&segment_path(&log.dir, &log.id, segment), OpenMode::Write).expect("it is there");
        let end = file.len().expect("a live disk");
        let batches = read_batches(&*file, &log.id, 0, end, 1 << 20).expect("they are sound");
        (file, batches)
    });
    let (place, astray) = (first.1[2].0, second.1[0].1.bytes());
    assert_eq!(astray.len(), first.1[2].1.bytes().len());
    first.0.write_at(place, &[astray]).expect("a live disk");
    t.sites[0].harm.has_lied = true;
    t.sites[0].scrub_round(&mut t.shared);
    let damaged: Vec<_> = log.look().damaged.iter().map(|range| (range.from, range.until)).collect();
    assert_eq!(damaged, [(Seq(7), Seq(10))], "the batch that lay there, and no other");
    t.check(0);
    t.follow(0);
}

/// What was found is not found again.
fn site_is_quiet(t: &mut Scenario) {
    let damage = |t: &Scenario| {
        let live = t.sites[0].live.as_ref().expect("it is open");
        live.store.counters.damage_found.load(std::sync::atomic::Ordering::Relaxed)
    };
    let found = damage(t);
    t.sites[0].scrub_round(&mut t.shared);
    assert_eq!(damage(t), found);
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
fn a_journal_file_that_lost_its_first_block_is_not_taken_for_an_empty_one() {
    let mut t = Scenario::seed(18);
    (0..8).for_each(|_| assert_eq!(t.append(JOBS, 2, 1500), Outcome::Done));
    t.end(0, End::Clean);
    let disk = t.sites[0].control.disk();
    let names = disk.list(JOURNAL_DIR).expect("it is there");
    let paths = names.iter().map(|name| format!("{JOURNAL_DIR}/{name}"));
    let newest = paths.max_by_key(|path| journal_number(&disk, path)).expect("it was written");
    let file = disk.open(&newest, OpenMode::Write).expect("it is there");
    file.write_at(0, &[&[0; 4096]]).and_then(|()| file.sync_data()).expect("a live disk");
    t.sites[0].harm.is_rotten = true;
    assert!(t.open(0));
    assert!(t.sites[0].harm.is_told, "what is lost is told");
    let live = t.sites[0].live.as_ref().expect("it is open");
    let log = live.store.log(&t.sites[0].log_id(JOBS)).expect("it holds the log");
    assert_eq!(log.look().until(), Seq(17), "what lies behind the block is there");
    let is_aside = |name: &String| name.ends_with(".damaged");
    let names = t.sites[0].control.disk().list(JOURNAL_DIR).expect("it is there");
    assert!(names.iter().any(is_aside), "and the file is kept");
    reopen_and_check(&mut t);
}

fn journal_number(disk: &dyn Disk, path: &str) -> Option<u32> {
    let file = disk.open(path, OpenMode::Read).expect("it is there");
    let bytes = read_block(&*file, 0, 1 << 20).expect("a live disk");
    journal::scan(&bytes).map(|found| found.number)
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
