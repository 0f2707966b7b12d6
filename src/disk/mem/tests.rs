//! What power loss and faults do to a memory disk, told as claims. What it does like any disk is in
//! `contract`.

use std::io::ErrorKind;

use super::*;

/// A disk with `path` on it, bytes and name durable.
fn disk_with(seed: u64, path: &str, bytes: &[u8]) -> MemDisk {
    let disk = MemDisk::new(seed);
    put(&disk, path, bytes);
    disk.sync_dir("").unwrap();
    disk
}

fn put(disk: &MemDisk, path: &str, bytes: &[u8]) {
    let file = disk.open(path, OpenMode::Create).unwrap();
    file.write_at(0, &[bytes]).unwrap();
    file.sync_data().unwrap();
}

fn get(disk: &MemDisk, path: &str) -> Option<Vec<u8>> {
    let file = disk.open(path, OpenMode::Read).ok()?;
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(0, &mut bytes).unwrap();
    Some(bytes)
}

fn kind<T>(result: io::Result<T>) -> Option<ErrorKind> {
    result.err().map(|e| e.kind())
}

#[test]
fn a_crash_before_sync_keeps_only_durable_bytes() {
    let mut lost = 0;
    for seed in 0..100 {
        let disk = disk_with(seed, "file", b"durable");
        let file = disk.open("file", OpenMode::Write).unwrap();
        file.write_at(7, &[b" and not"]).unwrap();
        assert_eq!(get(&disk, "file").unwrap(), b"durable and not");
        let bytes = get(&disk.control().crash(), "file").unwrap();
        assert_eq!(&bytes[..7], b"durable");
        lost += usize::from(bytes == b"durable");
    }
    assert!(lost > 10, "{lost}");
}

#[test]
fn what_was_synced_survives_any_number_of_crashes() {
    for seed in 0..50 {
        let mut disk = disk_with(seed, "file", &[1; 5_000]);
        for round in 2..8 {
            put(&disk, "file", &[round; 5_000]);
            disk.open("other", OpenMode::Create).unwrap().write_at(0, &[&[9; 9_000]]).unwrap();
            disk = disk.control().crash();
            assert_eq!(get(&disk, "file").unwrap(), [round; 5_000]);
        }
    }
}

#[test]
fn a_crash_of_the_process_loses_nothing_that_was_written() {
    let disk = disk_with(1, "file", b"old");
    disk.open("new", OpenMode::Create).unwrap().write_at(0, &[b"new"]).unwrap();
    let disk = disk.control().crash_process();
    assert_eq!(get(&disk, "new").unwrap(), b"new");
    // But the power may still go.
    let lost = (0..20).any(|seed| {
        let disk = disk_with(seed, "file", b"old");
        disk.open("new", OpenMode::Create).unwrap();
        disk.control().crash_process().control().crash().list("").unwrap() == ["file"]
    });
    assert!(lost);
}

#[test]
fn handles_answer_an_error_after_a_crash() {
    let disk = disk_with(1, "file", b"x");
    let file = disk.open("file", OpenMode::Write).unwrap();
    for again in [DiskControl::crash, DiskControl::crash_process] {
        let disk = disk.control().disk();
        let file_then = disk.open("file", OpenMode::Write).unwrap();
        again(&disk.control());
        assert!(disk.list("").is_err() && disk.open("file", OpenMode::Read).is_err() && disk.lock().is_err());
        assert!(file_then.read_at(0, &mut [0]).is_err() && file_then.write_at(0, &[b"y"]).is_err());
        assert!(file_then.sync_data().is_err() && file_then.len().is_err() && file_then.set_len(0).is_err());
    }
    assert!(file.sync_data().is_err());
    assert_eq!(get(&disk.control().disk(), "file").unwrap(), b"x");
}

#[test]
fn a_crash_releases_the_lock_and_the_dead_holder_cannot_release_the_next() {
    let disk = MemDisk::new(1);
    let held = disk.lock().unwrap();
    let disk = disk.control().crash();
    let held_now = disk.lock().unwrap();
    drop(held);
    assert_eq!(kind(disk.lock()), Some(ErrorKind::WouldBlock));
    drop(held_now);
    disk.lock().unwrap();
}

#[test]
fn names_that_were_not_synced_are_each_there_or_not() {
    let mut outcomes = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let disk = disk_with(seed, "old", b"");
        put(&disk, "a", b"");
        put(&disk, "b", b"");
        disk.remove("old").unwrap();
        outcomes.insert(disk.control().crash().list("").unwrap());
    }
    assert_eq!(outcomes.len(), 8, "{outcomes:?}");
}

#[test]
fn a_rename_leaves_the_old_file_or_the_new_and_never_neither() {
    let (mut old, mut new) = (0, 0);
    for seed in 0..100 {
        let disk = disk_with(seed, "file", b"old");
        put(&disk, "file.tmp", b"new");
        disk.rename("file.tmp", "file").unwrap();
        match get(&disk.control().crash(), "file").unwrap().as_slice() {
            b"old" => old += 1,
            b"new" => new += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(old > 20 && new > 20);
}

#[test]
fn a_file_moved_between_directories_is_under_exactly_one_of_its_names() {
    for seed in 0..100 {
        let disk = MemDisk::new(seed);
        disk.create_dir_all("a").unwrap();
        disk.create_dir_all("b").unwrap();
        put(&disk, "a/file", b"x");
        disk.sync_dir("a").unwrap();
        disk.rename("a/file", "b/file").unwrap();
        if seed % 2 == 0 {
            // One of the two directories is not enough.
            disk.sync_dir("b").unwrap();
        }
        disk.remove_dir("a").unwrap();
        let disk = disk.control().crash();
        let names = (get(&disk, "a/file").is_some(), get(&disk, "b/file").is_some());
        assert!(names.0 != names.1, "seed {seed}: {names:?}");
    }
}

#[test]
fn synced_names_stay_whatever_happened_to_them_before() {
    for seed in 0..100 {
        let disk = MemDisk::new(seed);
        put(&disk, "one", b"1");
        disk.rename("one", "two").unwrap();
        put(&disk, "one", b"2");
        disk.rename("one", "two").unwrap();
        put(&disk, "three", b"3");
        disk.remove("three").unwrap();
        disk.sync_dir("").unwrap();
        let disk = disk.control().crash();
        assert_eq!(disk.list("").unwrap(), ["two"]);
        assert_eq!(get(&disk, "two").unwrap(), b"2");
    }
}

#[test]
fn a_made_directory_is_durable_and_a_file_in_it_is_not_yet() {
    let mut kept = 0;
    for seed in 0..100 {
        let disk = MemDisk::new(seed);
        disk.create_dir_all("a/b/c").unwrap();
        put(&disk, "a/b/c/file", b"");
        let disk = disk.control().crash();
        kept += disk.list("a/b/c").unwrap().len();
    }
    assert!((20..80).contains(&kept), "{kept}");
}

#[test]
fn a_directory_moved_about_is_never_lost() {
    for seed in 0..200 {
        let disk = MemDisk::new(seed);
        disk.create_dir_all("b/x").unwrap();
        put(&disk, "b/x/file", b"kept");
        disk.sync_dir("b/x").unwrap();
        disk.rename("b/x", "x").unwrap();
        disk.rename("b", "x/b").unwrap();
        let disk = disk.control().crash();
        let image = disk.control().image();
        assert_eq!(image.files().filter(|path| path.ends_with("x/file")).count(), 1, "seed {seed}");
    }
}

#[test]
fn a_failed_fsync_loses_pages_at_the_next_power_loss() {
    let disk = disk_with(1, "file", &[1; 10_000]);
    let file = disk.open("file", OpenMode::Write).unwrap();
    file.write_at(0, &[&[2; 12_000]]).unwrap();
    disk.control().inject(Fault::sync_error().nth(1));
    assert!(file.sync_data().is_err());
    // The next sync succeeds and everything looks well, also to the next process.
    file.sync_data().unwrap();
    let disk = disk.control().crash_process();
    assert_eq!(get(&disk, "file").unwrap(), [2; 12_000]);
    disk.open("file", OpenMode::Write).unwrap().sync_data().unwrap();
    assert_eq!(get(&disk.control().crash(), "file").unwrap(), [1; 10_000]);
}

#[test]
fn what_is_written_again_after_a_failed_fsync_is_durable_with_the_next() {
    let disk = disk_with(1, "file", b"");
    let file = disk.open("file", OpenMode::Write).unwrap();
    file.write_at(0, &[&[2; 12_288]]).unwrap();
    disk.control().inject(Fault::sync_error().nth(1));
    assert!(file.sync_data().is_err());
    file.write_at(8_192, &[&[3; 4_096]]).unwrap();
    file.sync_data().unwrap();
    let bytes = get(&disk.control().crash(), "file").unwrap();
    assert_eq!((&bytes[..8_192], &bytes[8_192..]), (&[0; 8_192][..], &[3; 4_096][..]));
}

#[test]
fn a_fault_strikes_where_and_when_it_was_told_to() {
    let disk = disk_with(1, "a", b"x");
    put(&disk, "b", b"x");
    let control = disk.control();
    control.inject(Fault::read_error().at("a").nth(2));
    control.inject(Fault::open_error().under("c"));
    control.inject(Fault::name_error().whose(|path| path.len() > 3));
    control.inject(Fault::sync_dir_error());
    assert!(get(&disk, "a").is_some() && get(&disk, "b").is_some());
    assert_eq!(
        disk.open("a", OpenMode::Read).unwrap().read_at(0, &mut [0]).unwrap_err().raw_os_error(),
        Some(5)
    );
    assert!(get(&disk, "a").is_some());
    assert!(disk.open("cold", OpenMode::Create).is_err() && disk.open("old", OpenMode::Create).is_ok());
    assert!(disk.rename("a", "long").is_err() && disk.remove("b").is_ok());
    assert!(disk.sync_dir("").is_err());
    control.clear_faults();
    disk.sync_dir("").unwrap();
    control.inject(Fault::read_error().one_in(10));
    let file = disk.open("a", OpenMode::Read).unwrap();
    let failed = (0..1_000).filter(|_| file.read_at(0, &mut [0]).is_err()).count();
    assert!((50..200).contains(&failed), "{failed}");
}

#[test]
fn a_failed_write_may_have_written_its_first_part() {
    let disk = disk_with(3, "file", &[1; 5_000]);
    disk.control().inject(Fault::write_error().nth(1));
    let file = disk.open("file", OpenMode::Write).unwrap();
    assert!(file.write_at(0, &[&[2; 5_000]]).is_err());
    let bytes = get(&disk, "file").unwrap();
    let written = bytes.iter().filter(|byte| **byte == 2).count();
    assert!(written > 0 && bytes[written..].iter().all(|byte| *byte == 1));
}

#[test]
fn a_full_disk_takes_overwrites_and_nothing_more() {
    let disk = MemDisk::new(1);
    disk.control().set_capacity(3 * 4_096);
    let file = disk.open("file", OpenMode::Create).unwrap();
    file.write_at(0, &[&[1; 8_192]]).unwrap();
    assert_eq!(disk.free_bytes().unwrap(), 4_096);
    assert_eq!(kind(file.write_at(8_192, &[&[2; 5_000]])), Some(ErrorKind::StorageFull));
    assert_eq!((disk.free_bytes().unwrap(), file.len().unwrap()), (0, 12_288));
    file.write_at(100, &[&[3; 12_000]]).unwrap();
    // A hole takes no space until it is written.
    file.set_len(1 << 30).unwrap();
    assert_eq!(kind(file.write_at(1 << 20, &[b"x"])), Some(ErrorKind::StorageFull));
    disk.control().set_capacity(4 * 4_096);
    file.write_at(1 << 20, &[b"x"]).unwrap();
}

#[test]
fn space_comes_back_with_a_durable_removal_a_cut_or_a_crash() {
    let disk = disk_with(1, "file", &[1; 8_192]);
    let free = disk.free_bytes().unwrap();
    disk.open("file", OpenMode::Write).unwrap().set_len(4_096).unwrap();
    assert_eq!(disk.free_bytes().unwrap(), free + 4_096);
    disk.remove("file").unwrap();
    disk.sync_dir("").unwrap();
    assert_eq!(disk.free_bytes().unwrap(), free + 8_192);
    let file = disk.open("other", OpenMode::Create).unwrap();
    file.write_at(0, &[&[1; 8_192]]).unwrap();
    disk.remove("other").unwrap();
    disk.sync_dir("").unwrap();
    assert_eq!(disk.free_bytes().unwrap(), free);
    let after = disk.control().crash();
    assert_eq!(after.free_bytes().unwrap(), free + 8_192);
    drop(file);
    assert_eq!(after.free_bytes().unwrap(), free + 8_192);
}

#[test]
fn rot_at_rest_stays_and_rot_on_read_passes() {
    let disk = disk_with(1, "file", &[0; 1_000]);
    let control = disk.control();
    control.inject(Fault::rot_on_read().nth(1));
    let ones = |bytes: &[u8]| bytes.iter().map(|byte| byte.count_ones()).sum::<u32>();
    assert_eq!(ones(&get(&disk, "file").unwrap()), 1);
    assert_eq!(ones(&get(&disk, "file").unwrap()), 0);
    control.flip_at("file", 999, 7).unwrap();
    let disk = control.crash();
    assert_eq!(get(&disk, "file").unwrap()[999], 0x80);
    control.flip_bits("file", 1).unwrap();
    assert_ne!(ones(&get(&disk, "file").unwrap()), 1);
    assert_eq!(kind(control.flip_bits("none", 1)), Some(ErrorKind::NotFound));
}

#[test]
fn a_misdirected_write_leaves_its_place_untouched_and_damages_another() {
    let damaged = (0..50).filter(|seed| {
        let disk = disk_with(*seed, "file", &[1; 100 * 512]);
        disk.control().inject(Fault::misdirected_write().nth(1));
        let file = disk.open("file", OpenMode::Write).unwrap();
        file.write_at(512, &[&[2; 512]]).unwrap();
        let bytes = get(&disk, "file").unwrap();
        assert_eq!((bytes.len(), bytes.iter().filter(|byte| **byte == 2).count()), (100 * 512, 512));
        bytes[512] == 1
    });
    assert!(damaged.count() > 40);
}

#[test]
fn an_image_restores_an_earlier_time_or_makes_a_clone() {
    let disk = disk_with(1, "file", b"early");
    disk.create_dir_all("a-b/c").unwrap();
    disk.create_dir_all("a").unwrap();
    put(&disk, "a/file", b"x");
    let control = disk.control();
    let image = control.image();
    assert_eq!(image.files().collect::<Vec<_>>(), ["a/file", "file"]);
    put(&disk, "file", b"later");
    disk.remove("a/file").unwrap();
    assert_ne!(control.image(), image);

    let clone = MemDisk::from_image(2, &image).control().crash();
    assert_eq!(get(&clone, "file").unwrap(), b"early");
    assert_eq!(clone.list("").unwrap(), ["a", "a-b", "file"]);
    control.roll_back("file", &image).unwrap();
    assert_eq!(get(&disk, "file").unwrap(), b"early");
    assert!(get(&disk, "a/file").is_none());
    let restored = control.restore(&image);
    assert_eq!(control.image(), image);
    assert!(disk.list("").is_err());
    assert_eq!(get(&restored, "a/file").unwrap(), b"x");
    assert_eq!(control.roll_back("none", &image).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn syncs_cost_what_was_set_and_everything_is_counted() {
    let disk = disk_with(1, "file", &[1; 100]);
    let control = disk.control();
    control.set_sync_cost(Duration::from_millis(1));
    control.inject(Fault::slow_sync(Duration::from_millis(50)).nth(2));
    let file = disk.open("file", OpenMode::Write).unwrap();
    let costs = [(); 3].map(|()| {
        file.sync_data().unwrap();
        disk.last_sync_cost().as_millis()
    });
    assert_eq!(costs, [1, 51, 1]);
    file.read_at(50, &mut [0; 100]).unwrap();
    let expected = DiskStats {
        opens: 2,
        reads: 1,
        read_bytes: 50,
        writes: 1,
        written_bytes: 100,
        syncs: 4,
        dir_syncs: 1,
        sync_cost: Duration::from_millis(53),
    };
    assert_eq!(control.stats(), expected);
}

#[test]
fn the_same_seed_leaves_the_same_disk() {
    let story = |seed| {
        let mut disk = MemDisk::new(seed);
        disk.control().inject(Fault::write_error().one_in(5));
        for round in 0..20u8 {
            disk.create_dir_all("d").unwrap();
            for name in ["d/a", "d/b", "d/c"] {
                let file = disk.open(name, OpenMode::Create).unwrap();
                let _ = file.write_at(u64::from(round) * 700, &[&[round; 3_000]]);
            }
            let _ = disk.rename("d/a", "d/b");
            disk = disk.control().crash();
        }
        disk.control().image()
    };
    assert_eq!(story(5), story(5));
    assert_ne!(story(5), story(6));
}
