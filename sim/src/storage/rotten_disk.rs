//! Stories of disks that rot, told like those in `scenarios`.
use crate::storage::check::read_all;
use crate::storage::plan::{End, Outcome};
use crate::storage::scenarios::{appends, reopen_and_check};
use crate::storage::site::CONFIG;
use crate::storage::{JOBS, METRICS, ORDERS, Scenario, Topic};
use conveyor::base::Seq;
use conveyor::base::batch::BatchHeader;
use conveyor::disk::{Disk, Fault, OpenMode};
use conveyor::log::journal;
use conveyor::log::place::{CHECKPOINT, JOURNAL_DIR, segment_path};
use conveyor::log::segment::{read_batches, read_block};
use conveyor::log::state::Lookup;
use conveyor::log::store::Log;
use conveyor::log::topic_reader::Start;
use conveyor::wire::outcome::GapReason;
use std::sync::Arc;

/// The log of the first site in a topic.
fn log_of(t: &Scenario, topic: Topic) -> Arc<Log> {
    let live = t.sites[0].live.as_ref().expect("it is open");
    live.store.log(&t.sites[0].log_id(topic)).expect("it holds the log")
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
    assert_eq!(log_of(&t, JOBS).look().until().0, 6, "what is damaged keeps its number");
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

/// The journal still tells of the place that has the damage.
#[test]
fn what_was_had_back_is_not_told_damaged_by_the_next_start() {
    let mut t = Scenario::seed(26);
    t.append(JOBS, 3, 100);
    t.write(0, &[appends(JOBS, 3, 3000, true)]);
    t.append(JOBS, 3, 100);
    let backup = t.backup(0);
    let copy = t.copy(&backup);
    assert!(t.open(copy));
    let log = log_of(&t, JOBS);
    let place = log.look().tail[1].place;
    assert!(log.look().tail[1].batch.bytes().len() >= CONFIG.bulk_bytes_min, "it is in its segment alone");
    // What comes behind it takes its place in memory; and no checkpoint is written.
    (0..40).for_each(|_| assert_eq!(t.append(ORDERS, 2, 1000), Outcome::Done));
    assert!(t.sites[0].flush(&mut t.shared));
    t.flip(0, &segment_path(&log.dir, &log.id, place.segment), place.offset + 2000);
    t.sites[0].scrub_round(&mut t.shared);
    t.heal_from(0, copy, JOBS);
    for _ in 0..2 {
        t.process_crash();
        assert_eq!(log_of(&t, JOBS).look().damaged, []);
        assert!(!t.sites[0].harm.is_told);
        t.check(0);
    }
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
    let log = log_of(&t, JOBS);
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
    let log = log_of(&t, METRICS);
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
    let log = log_of(&t, METRICS);
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

/// What a head says of where its run begins others take for true, and trim what comes before by it.
#[test]
fn where_a_run_begins_is_not_signed_when_damage_took_its_first_batch() {
    let mut t = Scenario::seed(23);
    t.append(JOBS, 4, 100);
    t.process_crash();
    (0..4).for_each(|_| assert_eq!(t.append(JOBS, 3, 100), Outcome::Done));
    let run = t.sites[0].live.as_ref().expect("it is open").run;
    t.end(0, End::Process);
    let disk = t.sites[0].control.disk();
    let names = disk.list(JOURNAL_DIR).expect("it is there");
    let first_batch = names.iter().find_map(|name| {
        let path = format!("{JOURNAL_DIR}/{name}");
        let bytes = read_block(&*disk.open(&path, OpenMode::Read).ok()?, 0, 1 << 20).ok()?;
        let is_it = |at: &usize| {
            let header = bytes[*at..].first_chunk().and_then(|bytes| BatchHeader::parse(bytes).ok());
            header.is_some_and(|header| header.statement.run == run && header.statement.opens_run)
        };
        (0..bytes.len() - 256).find(is_it).map(|at| (path, at as u64))
    });
    let (path, at) = first_batch.expect("the journal has it");
    // In the header of its record.
    t.flip(0, &path, at - 20);
    assert!(t.open(0));
    for keep in [2, 1] {
        assert_eq!(t.trim(JOBS, keep), Outcome::Done);
        let log = log_of(&t, JOBS);
        let state = log.look();
        assert_eq!(state.run(run).map(|run| run.from), Some(Seq(5)), "a good guess");
        let head = state.heads.get(run).map(|(head, _)| *head).expect("it is trimmed");
        assert_eq!((head.from, head.start), (Seq::FIRST, Seq(17 - keep)));
        drop(state);
        // The next start knows that it is one.
        t.process_crash();
    }
    t.check(0);
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
    assert_eq!(log_of(&t, JOBS).look().until(), Seq(17), "what lies behind the block is there");
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

/// Seed 9381: what a site could not read it brings nobody; the hole is told where it came, and is no damage of that disk.
#[test]
fn a_hole_that_another_brings_is_told_as_damage_where_it_comes_to() {
    let mut t = Scenario::seed(31);
    t.append(JOBS, 3, 1000);
    let backup = t.backup(0);
    let copy = t.copy(&backup);
    assert!(t.open(copy));
    t.append(JOBS, 3, 1000);
    let place = log_of(&t, JOBS).look().tail[1].place;
    for _ in 0..2 {
        // The second time the journal has nothing, and nothing is in memory.
        t.end(0, End::Clean);
        assert!(t.open(0));
    }
    t.append(JOBS, 2, 1000);
    let log = log_of(&t, JOBS);
    t.flip(0, &segment_path(&log.dir, &log.id, place.segment), place.offset + 250);
    t.sites[0].scrub_round(&mut t.shared);
    assert_eq!(t.import(0, copy, 9), Outcome::Done);
    assert!(!t.sites[copy].harm.is_rotten);
    let delivered = read_all(&t.sites[copy], &mut t.shared, JOBS, Start::Oldest).expect("a live disk");
    let [gap] = &delivered.gaps[..] else { panic!("one gap: {:?}", delivered.gaps) };
    assert_eq!((gap.from, gap.until, gap.reason), (Seq(4), Seq(7), GapReason::Damaged));
    t.end(copy, End::Clean);
    assert!(t.open(copy));
    t.check(copy);
}

/// The bytes of a file that is there.
fn bytes_of(t: &Scenario, path: &str) -> Vec<u8> {
    let file = t.sites[0].control.disk().open(path, OpenMode::Read).expect("it is there");
    let bytes = file.len().expect("a live disk") as usize;
    read_block(&*file, 0, bytes).expect("a live disk").to_vec()
}

/// Without the checkpoint nothing says that the file is of a log, and the log would begin where that lies.
#[test]
fn a_segment_that_cannot_be_told_is_kept_and_never_written_again() {
    // The only segment of the log, and the last of several; with another peer's log nearby.
    for batches in [1, 24] {
        let mut t = Scenario::seed(32);
        (0..batches).for_each(|_| assert_eq!(t.append(JOBS, 1, 4000), Outcome::Done));
        t.append(ORDERS, 2, 1000);
        let log = log_of(&t, JOBS);
        for _ in 0..2 {
            // The second time the journal has nothing.
            t.end(0, End::Clean);
            assert!(t.open(0));
        }
        let last = log.look().next_place.expect("it has entries").segment;
        assert_eq!(last == 0, batches == 1);
        t.end(0, End::Clean);
        let path = segment_path(&log.dir, &log.id, last);
        let bytes = bytes_of(&t, &path);
        let headers: Vec<usize> = (0..bytes.len() - 4).filter(|at| bytes[*at..at + 4] == *b"CVYB").collect();
        headers.iter().for_each(|at| t.flip(0, &path, *at as u64));
        let rotten = bytes_of(&t, &path);
        t.remove(0, CHECKPOINT);
        for round in 0..3 {
            assert!(t.open(0), "whatever became of one segment");
            assert!(t.sites[0].harm.is_told);
            assert_eq!(t.append(JOBS, 1, 300), Outcome::Done);
            t.check(0);
            t.end(0, End::Clean);
            let names = t.sites[0].control.disk().list(&log.dir).expect("a live disk");
            let is_it = |name: &String| bytes_of(&t, &format!("{}/{name}", log.dir)) == rotten;
            assert!(names.iter().any(is_it), "round {round}: what was damaged is kept as it was");
        }
    }
}

/// From now on the disk cannot read the third sector of a segment.
fn break_third_sector(t: &mut Scenario, path: &str) {
    t.sites[0].control.inject(Fault::read_error().at(path).within(8192..12288));
    t.sites[0].harm.is_armed = true;
    t.sites[0].harm.is_rotten = true;
}

/// The entries of a topic that are served, over gaps, and those that are not.
fn served_and_missing(t: &mut Scenario, topic: Topic) -> (usize, usize) {
    let delivered = read_all(&t.sites[0], &mut t.shared, topic, Start::Oldest).expect("over what is bad");
    assert!(delivered.gaps.iter().all(|gap| gap.reason == GapReason::Damaged), "{:?}", delivered.gaps);
    let missing: u64 = delivered.gaps.iter().map(|gap| gap.until.0 - gap.from.0).sum();
    (delivered.entries.len(), missing as usize)
}

/// Without a checkpoint opening walks every segment; a segment that no journal speaks of is walked at each.
#[test]
fn a_sector_that_cannot_be_read_keeps_no_peer_from_starting_and_its_neighbours_are_served() {
    for (topic, is_rebuilt) in [(JOBS, true), (METRICS, true), (METRICS, false)] {
        let mut t = Scenario::seed(33);
        (0..7).for_each(|_| assert_eq!(t.append(topic, 3, 1000), Outcome::Done));
        let log = log_of(&t, topic);
        let path = segment_path(&log.dir, &log.id, 0);
        if is_rebuilt {
            for _ in 0..2 {
                t.end(0, End::Clean);
                assert!(t.open(0));
            }
            t.end(0, End::Clean);
            t.remove(0, CHECKPOINT);
            // Old files of the journal would have it all again.
            let names = t.sites[0].control.disk().list(JOURNAL_DIR).expect("a live disk");
            names.iter().for_each(|name| t.remove(0, &format!("{JOURNAL_DIR}/{name}")));
        } else {
            t.end(0, End::Process);
        }
        let before = bytes_of(&t, &path);
        break_third_sector(&mut t, &path);
        assert!(t.open(0), "a bad sector keeps nobody from starting");
        assert!(t.sites[0].harm.is_told);
        let (served, missing) = served_and_missing(&mut t, topic);
        assert!((3..=9).contains(&missing) && served + missing == 21, "{topic:?}: {served}, {missing}");
        // What cannot be read now may be another time: nothing is written there.
        assert_eq!(t.append(topic, 3, 1000), Outcome::Done);
        t.end(0, End::Clean);
        assert!(t.open(0));
        assert_eq!(served_and_missing(&mut t, topic), (served + 3, missing));
        t.calm(0);
        assert_eq!(bytes_of(&t, &path), before);
        reopen_and_check(&mut t);
    }
}

/// A large batch is in its segment alone, and opening looks whether it is.
#[test]
fn a_large_batch_that_cannot_be_read_is_told_damaged_and_heals_when_it_can() {
    let mut t = Scenario::seed(26);
    t.append(JOBS, 3, 100);
    t.write(0, &[appends(JOBS, 3, 3000, true)]);
    t.append(JOBS, 3, 100);
    let log = log_of(&t, JOBS);
    assert!(log.look().tail[1].batch.bytes().len() >= CONFIG.bulk_bytes_min, "it is in its segment alone");
    let path = segment_path(&log.dir, &log.id, 0);
    t.end(0, End::Process);
    break_third_sector(&mut t, &path);
    assert!(t.open(0), "a bad sector keeps nobody from starting");
    assert_eq!(served_and_missing(&mut t, JOBS), (6, 3));
    t.calm(0);
    t.sites[0].scrub_round(&mut t.shared);
    assert_eq!(served_and_missing(&mut t, JOBS), (9, 0), "it can be read again");
}
