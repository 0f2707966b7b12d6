//! What both disks must do alike: the tests here run once against each.

use std::io::ErrorKind;
use std::sync::Arc;

use super::{Disk, DiskFile, OpenMode};

/// Makes one test for each claim below, against the disk that `$make` returns (with what keeps it alive).
macro_rules! contract {
    ($module:ident, $make:expr) => {
        mod $module {
            contract!(@tests $make;
                what_was_written_reads_back,
                a_read_past_the_end_is_short_and_an_exact_one_fails,
                a_write_past_the_end_leaves_zeros_between,
                a_file_that_is_cut_and_grows_again_has_zeros_there,
                open_modes_say_whether_a_file_must_exist,
                a_file_open_for_reading_refuses_to_be_written,
                a_path_cannot_leave_the_directory,
                names_come_sorted_and_a_missing_directory_is_not_found,
                a_rename_replaces_and_the_old_file_stays_readable_where_open,
                a_directory_that_is_not_empty_stays,
                a_file_is_no_directory_and_a_directory_no_file,
                a_directory_can_be_moved_with_what_is_in_it,
                making_a_directory_twice_is_fine_unless_a_file_is_in_its_place,
                two_openers_of_one_directory_the_second_is_refused,
                there_is_free_space_and_everything_can_be_synced,
            );
        }
    };
    (@tests $make:expr; $($name:ident,)*) => {
        $(#[test]
        fn $name() {
            let (_alive, disk) = $make;
            super::$name(&disk);
        })*
    };
}

contract!(file_disk, {
    let directory = tempfile::tempdir().unwrap();
    let disk = crate::disk::FileDisk::open(directory.path()).unwrap();
    (directory, disk)
});

contract!(mem_disk, ((), crate::disk::MemDisk::new(1)));

fn create(disk: &dyn Disk, path: &str, bytes: &[u8]) -> Arc<dyn DiskFile> {
    let file = disk.open(path, OpenMode::CreateNew).unwrap();
    file.write_at(0, &[bytes]).unwrap();
    file
}

fn content(file: &dyn DiskFile) -> Vec<u8> {
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(0, &mut bytes).unwrap();
    bytes
}

fn what_was_written_reads_back(disk: &dyn Disk) {
    let file = disk.open("file", OpenMode::Create).unwrap();
    assert!(file.is_empty().unwrap());
    file.write_at(0, &[b"one ", b"", b"two ", b"three"]).unwrap();
    file.write_at(4, &[b"TWO"]).unwrap();
    file.write_at(2, &[]).unwrap();
    assert_eq!(content(&*file), b"one TWO three");
    // A second handle sees the same bytes, and a large write that starts inside a block is one piece.
    let large: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
    disk.open("file", OpenMode::Write).unwrap().write_at(3, &[&large[..7], &large[7..]]).unwrap();
    assert_eq!(content(&*file)[3..], large);
}

fn a_read_past_the_end_is_short_and_an_exact_one_fails(disk: &dyn Disk) {
    let file = create(disk, "file", b"0123456789");
    let mut buf = [0; 8];
    assert_eq!(file.read_at(6, &mut buf).unwrap(), 4);
    assert_eq!(&buf[..4], b"6789");
    assert_eq!(file.read_at(10, &mut buf).unwrap(), 0);
    assert_eq!(file.read_at(1 << 40, &mut buf).unwrap(), 0);
    assert_eq!(file.read_exact_at(6, &mut buf).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    file.read_exact_at(10, &mut []).unwrap();
}

fn a_write_past_the_end_leaves_zeros_between(disk: &dyn Disk) {
    let file = create(disk, "file", b"a");
    file.write_at(9_000, &[b"b"]).unwrap();
    let bytes = content(&*file);
    assert_eq!((bytes.len(), bytes[0], bytes[9_000]), (9_001, b'a', b'b'));
    assert!(bytes[1..9_000].iter().all(|byte| *byte == 0));
}

fn a_file_that_is_cut_and_grows_again_has_zeros_there(disk: &dyn Disk) {
    let file = create(disk, "file", &[7; 10_000]);
    file.set_len(5_000).unwrap();
    assert_eq!(content(&*file), [7; 5_000]);
    file.set_len(10_000).unwrap();
    assert!(content(&*file)[5_000..].iter().all(|byte| *byte == 0));
}

fn open_modes_say_whether_a_file_must_exist(disk: &dyn Disk) {
    let kind = |mode| disk.open("file", mode).err().map(|e| e.kind());
    assert_eq!(kind(OpenMode::Read), Some(ErrorKind::NotFound));
    assert_eq!(kind(OpenMode::Write), Some(ErrorKind::NotFound));
    create(disk, "file", b"kept");
    assert_eq!(kind(OpenMode::CreateNew), Some(ErrorKind::AlreadyExists));
    for mode in [OpenMode::Read, OpenMode::Write, OpenMode::Create] {
        assert_eq!(content(&*disk.open("file", mode).unwrap()), b"kept");
    }
    let no_directory = disk.open("no/file", OpenMode::Create).err().map(|e| e.kind());
    assert_eq!(no_directory, Some(ErrorKind::NotFound));
}

fn a_file_open_for_reading_refuses_to_be_written(disk: &dyn Disk) {
    create(disk, "file", b"kept");
    let file = disk.open("file", OpenMode::Read).unwrap();
    assert!(file.write_at(0, &[b"lost"]).is_err());
    assert!(file.set_len(0).is_err());
    assert_eq!(content(&*file), b"kept");
}

fn a_path_cannot_leave_the_directory(disk: &dyn Disk) {
    for path in ["", "..", ".", "/etc", "a/../b", "a//b", "a/", "a/./b", "a\0b"] {
        let error = disk.open(path, OpenMode::Create).err().map(|e| e.kind());
        assert_eq!(error, Some(ErrorKind::InvalidInput), "{path:?}");
        assert_eq!(disk.remove(path).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(disk.rename(path, "to").unwrap_err().kind(), ErrorKind::InvalidInput);
        if !path.is_empty() {
            assert_eq!(disk.list(path).unwrap_err().kind(), ErrorKind::InvalidInput);
            assert_eq!(disk.sync_dir(path).unwrap_err().kind(), ErrorKind::InvalidInput);
            assert_eq!(disk.create_dir_all(path).unwrap_err().kind(), ErrorKind::InvalidInput);
        }
    }
}

fn names_come_sorted_and_a_missing_directory_is_not_found(disk: &dyn Disk) {
    disk.create_dir_all("d/e").unwrap();
    for name in ["d/b", "d/é", "d/a", "d/10", "d/9"] {
        create(disk, name, b"");
    }
    assert_eq!(disk.list("d").unwrap(), ["10", "9", "a", "b", "e", "é"]);
    assert_eq!(disk.list("").unwrap(), ["d"]);
    assert_eq!(disk.list("none").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(disk.sync_dir("none").unwrap_err().kind(), ErrorKind::NotFound);
    disk.remove("d/10").unwrap();
    assert_eq!(disk.remove("d/10").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(disk.list("d").unwrap(), ["9", "a", "b", "e", "é"]);
}

fn a_rename_replaces_and_the_old_file_stays_readable_where_open(disk: &dyn Disk) {
    let old = create(disk, "to", b"old");
    create(disk, "from", b"new");
    disk.rename("from", "to").unwrap();
    assert_eq!(disk.list("").unwrap(), ["to"]);
    assert_eq!(content(&*disk.open("to", OpenMode::Read).unwrap()), b"new");
    assert_eq!(content(&*old), b"old");
    assert_eq!(disk.rename("from", "to").unwrap_err().kind(), ErrorKind::NotFound);
    disk.rename("to", "to").unwrap();
    disk.remove("to").unwrap();
    assert_eq!(content(&*old), b"old");
}

fn a_directory_that_is_not_empty_stays(disk: &dyn Disk) {
    disk.create_dir_all("a/b").unwrap();
    create(disk, "a/b/file", b"");
    assert_eq!(disk.remove_dir("a/b").unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);
    disk.remove("a/b/file").unwrap();
    disk.remove_dir("a/b").unwrap();
    assert!(disk.list("a").unwrap().is_empty());
    assert_eq!(disk.remove_dir("a/b").unwrap_err().kind(), ErrorKind::NotFound);
}

fn a_file_is_no_directory_and_a_directory_no_file(disk: &dyn Disk) {
    disk.create_dir_all("dir").unwrap();
    create(disk, "file", b"");
    assert_eq!(disk.list("file").unwrap_err().kind(), ErrorKind::NotADirectory);
    assert_eq!(disk.sync_dir("file").unwrap_err().kind(), ErrorKind::NotADirectory);
    assert_eq!(disk.remove_dir("file").unwrap_err().kind(), ErrorKind::NotADirectory);
    assert!(disk.open("file/below", OpenMode::Create).is_err());
    assert!(disk.remove("dir").is_err());
    for mode in [OpenMode::Read, OpenMode::Write, OpenMode::Create, OpenMode::CreateNew] {
        assert!(disk.open("dir", mode).is_err(), "{mode:?}");
    }
    assert!(disk.rename("file", "dir").is_err());
    assert!(disk.rename("dir", "file").is_err());
    assert_eq!(disk.list("").unwrap(), ["dir", "file"]);
}

fn a_directory_can_be_moved_with_what_is_in_it(disk: &dyn Disk) {
    disk.create_dir_all("a/inner").unwrap();
    disk.create_dir_all("b/empty").unwrap();
    create(disk, "a/inner/file", b"x");
    assert!(disk.rename("a", "a/inner/a").is_err());
    disk.rename("a/inner", "b/empty").unwrap();
    assert_eq!(content(&*disk.open("b/empty/file", OpenMode::Read).unwrap()), b"x");
    assert!(disk.list("a").unwrap().is_empty());
    assert_eq!(disk.rename("a", "b").unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);
}

fn making_a_directory_twice_is_fine_unless_a_file_is_in_its_place(disk: &dyn Disk) {
    disk.create_dir_all("a/b").unwrap();
    disk.create_dir_all("a/b").unwrap();
    disk.create_dir_all("").unwrap();
    create(disk, "a/file", b"");
    assert!(disk.create_dir_all("a/file").is_err());
    assert!(disk.create_dir_all("a/file/c").is_err());
    assert_eq!(disk.list("a").unwrap(), ["b", "file"]);
}

fn two_openers_of_one_directory_the_second_is_refused(disk: &dyn Disk) {
    let held = disk.lock().unwrap();
    assert_eq!(disk.lock().unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(held);
    let held = disk.lock().unwrap();
    assert_eq!(disk.lock().unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(held);
}

fn there_is_free_space_and_everything_can_be_synced(disk: &dyn Disk) {
    assert!(disk.free_bytes().unwrap() > 0);
    disk.create_dir_all("a").unwrap();
    create(disk, "a/file", b"x").sync_data().unwrap();
    disk.sync_dir("a").unwrap();
    disk.sync_dir("").unwrap();
}

/// Any sequence of calls has the same answers on both disks, and leaves the same bytes.
#[test]
fn both_disks_tell_the_same_story() {
    const PATHS: [&str; 8] = ["a", "b", "c", "a/x", "a/y", "b/x", "a/x/z", "b/x/y"];
    for seed in 0..60 {
        let directory = tempfile::tempdir().unwrap();
        let disks: [Box<dyn Disk>; 2] = [
            Box::new(crate::disk::FileDisk::open(directory.path()).unwrap()),
            Box::new(crate::disk::MemDisk::new(seed)),
        ];
        let mut random = crate::disk::mem::TestRandom::new(seed);
        for step in 0..120 {
            let [call, path, other, offset, len] = [8, 8, 8, 10_000, 9_000].map(|bound| random.below(bound));
            let (path, other) = (PATHS[path as usize], PATHS[other as usize]);
            let answers = disks.each_ref().map(|disk| match call {
                0 => disk.create_dir_all(path).is_ok(),
                1 => disk.remove(path).is_ok(),
                2 => disk.remove_dir(path).is_ok(),
                3 | 4 => disk.rename(path, other).is_ok(),
                5 => disk.open(path, OpenMode::Write).is_ok_and(|file| file.set_len(offset).is_ok()),
                _ => disk.open(path, OpenMode::Create).is_ok_and(|file| {
                    let bytes = vec![step as u8; len as usize];
                    file.write_at(offset, &[&bytes]).is_ok() && (call == 6 || file.sync_data().is_ok())
                }),
            });
            assert_eq!(answers[0], answers[1], "seed {seed}, step {step}: call {call} on {path}, {other}");
            for path in PATHS {
                let looks = disks.each_ref().map(|disk| {
                    let bytes = disk.open(path, OpenMode::Read).map(|file| content(&*file));
                    (bytes.ok(), disk.list(path).map_err(|e| e.kind()))
                });
                assert!(looks[0] == looks[1], "seed {seed}, step {step}: {path} differs");
            }
        }
    }
}
