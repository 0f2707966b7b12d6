//! Peers on several hosts (network namespaces), real processes, and what happens to both: links with delay and loss, cut
//! one way or both, processes killed, stopped for a while, their directories wiped and restored. A checker outside knows what was
//! acknowledged, and finds nothing lost, repeated, or out of its order.
#![allow(
    clippy::disallowed_methods,
    reason = "this test starts programs and threads, looks at the clock and at files"
)]

mod cluster;
mod net;
mod tail;

use cluster::Peers;
use std::time::Duration;

fn pause(seconds: u64) {
    std::thread::sleep(Duration::from_secs(seconds));
}

/// Runs a story where namespaces are allowed. Elsewhere says so, on the screen and in a file that `.ci/run` shows at its end.
fn on_hosts(name: &str, story: impl FnOnce()) {
    drop(std::fs::remove_file(note_of(name)));
    match net::missing() {
        None => story(),
        Some(why) => not_run(name, why),
    }
}

fn note_of(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("not-run-{name}"))
}

fn not_run(name: &str, why: &str) {
    eprintln!("not run: {name}: {why}");
    std::fs::write(note_of(name), format!("{name}: {why}\n")).unwrap();
}

#[test]
fn links_with_delay_and_loss_that_are_cut_and_mended() {
    on_hosts("links_with_delay_and_loss_that_are_cut_and_mended", || {
        let mut peers = Peers::new(3);
        if let Err(why) = (1..=3).try_for_each(|host| peers.network.weather(host, 10, 1)) {
            not_run("links_with_delay_and_loss_that_are_cut_and_mended", &format!("in part: {why}"));
        }
        peers.start_all();
        let writers: Vec<_> = (1..=3).map(|host| peers.writer(host, &format!("w{host}"))).collect();
        let tails = [peers.tail(1, &[1]), peers.tail(3, &[2, 1])];
        pause(2);
        peers.network.cut_out(1);
        pause(4);
        peers.network.mend(1);
        peers.network.cut_in(2);
        pause(4);
        peers.network.mend(2);
        peers.network.cut_in(3);
        peers.network.cut_out(3);
        // Longer than a connection lives without an answer.
        pause(16);
        peers.network.mend(3);
        pause(1);
        let counts: Vec<usize> = writers.into_iter().map(|writer| writer.finish()).collect();
        assert!(counts.iter().all(|count| *count > 500), "each peer took writes all along: {counts:?}");
        peers.check();
        tails.into_iter().for_each(|tail| peers.check_tail(tail));
    });
}

#[test]
fn peers_that_are_killed_and_stopped_for_a_while() {
    on_hosts("peers_that_are_killed_and_stopped_for_a_while", || {
        let mut peers = Peers::new(3);
        peers.start_all();
        let writers: Vec<_> = (1..=3).map(|host| peers.writer(host, &format!("w{host}"))).collect();
        let tails = [peers.tail(1, &[2, 3]), peers.tail(2, &[1, 2])];
        for round in 0..6 {
            let host = 1 + round % 3;
            pause(1);
            if round % 2 == 0 {
                peers.kill(host);
                pause(1);
                peers.start(host);
            } else {
                peers.signal(host, "-STOP");
                pause(2);
                peers.signal(host, "-CONT");
            }
        }
        pause(2);
        let counts: Vec<usize> = writers.into_iter().map(|writer| writer.finish()).collect();
        assert!(counts.iter().all(|count| *count > 100), "{counts:?}");
        peers.check();
        tails.into_iter().for_each(|tail| peers.check_tail(tail));
    });
}

#[test]
fn a_rolling_restart() {
    on_hosts("a_rolling_restart", || {
        let mut peers = Peers::new(3);
        peers.start_all();
        let writers: Vec<_> = (1..=3).map(|host| peers.writer(host, &format!("w{host}"))).collect();
        for host in 1..=3 {
            pause(1);
            peers.stop(host);
            peers.start(host);
            peers.until_up(host);
        }
        pause(1);
        let counts: Vec<usize> = writers.into_iter().map(|writer| writer.finish()).collect();
        assert!(counts.iter().all(|count| *count > 50), "{counts:?}");
        peers.check();
    });
}

#[test]
fn a_disk_that_is_wiped_and_one_that_is_put_back_to_a_backup() {
    on_hosts("a_disk_that_is_wiped_and_one_that_is_put_back_to_a_backup", || {
        let mut peers = Peers::new(3);
        peers.start_all();
        let write = |peers: &Peers, name: &str| {
            let writers: Vec<_> = (1..=3).map(|host| peers.writer(host, &format!("{name}{host}"))).collect();
            pause(2);
            writers.into_iter().for_each(|writer| assert!(writer.finish() > 20));
        };
        write(&peers, "a");
        peers.check();
        peers.stop(2);
        let (data, backup) = (peers.data_dir(2), peers.data_dir(2).with_extension("backup"));
        copy(&data, &backup);
        peers.start(2);
        peers.until_up(2);
        write(&peers, "b");
        // What was acknowledged is on several disks now: one of them may go.
        peers.check();
        peers.kill(2);
        std::fs::remove_dir_all(&data).unwrap();
        std::fs::rename(&backup, &data).unwrap();
        peers.start(2);
        peers.until_up(2);
        write(&peers, "c");
        peers.check();
        peers.wipe(3);
        peers.start(3);
        peers.until_up(3);
        write(&peers, "d");
        peers.check();
    });
}

#[test]
fn five_hosts_of_which_one_disk_after_the_other_is_lost_while_two_hold_each_entry() {
    on_hosts("five_hosts_of_which_one_disk_after_the_other_is_lost_while_two_hold_each_entry", || {
        let mut peers = Peers::new(5);
        peers.start_all();
        (1..=5).for_each(|host| peers.until_even(host));
        let flags = ["--durability", "replicas=2"];
        for lost in 3..=5 {
            // A client of the lost one may be refused what it does not remember: it ends, with what was acknowledged.
            let write = |host: usize| peers.writer_with(host, &format!("{lost}w{host}"), &flags);
            let writers: Vec<_> = [1, 2, lost].map(write).into();
            pause(2);
            peers.wipe(lost);
            pause(1);
            peers.start(lost);
            pause(1);
            let counts: Vec<usize> = writers.into_iter().map(|writer| writer.finish()).collect();
            assert!(counts.iter().all(|count| *count > 20), "{counts:?}");
            // The next disk may go when this one has all again.
            peers.until_up(lost);
            (1..=5).for_each(|host| peers.until_even(host));
        }
        peers.check();
    });
}

#[test]
fn a_peer_whose_disk_is_full() {
    on_hosts("a_peer_whose_disk_is_full", || {
        let mut peers = Peers::new(3);
        let small = net::SmallDisk::mount(&peers.data_dir(3), 160);
        peers.start_all();
        // More than fits there, of which nothing is acknowledged that only that peer was to keep.
        let big = vec![b'x'; 1 << 20];
        for _ in 0..120 {
            assert!(peers.append_blob(1, &big), "the first peer has room");
        }
        peers.until("the third says that it is full", || peers.is_full(3));
        assert!(!peers.append_blob(3, b"nor this"), "appends are refused there");
        let writers: Vec<_> = (1..=2).map(|host| peers.writer(host, &format!("w{host}"))).collect();
        pause(2);
        writers.into_iter().for_each(|writer| assert!(writer.finish() > 20));
        // Room comes back, and with it everything.
        small.grow(600);
        peers.until("the third takes appends again", || peers.append_blob(3, b"at last"));
        peers.until("all hold all", || (1..=3).all(|host| peers.entries(host, "blobs") == 121));
        peers.check();
    });
}

/// Bytes of text that are appended as a file: 16 MiB, or as `CONVEYOR_TEXT_MIB` has it.
fn text_bytes() -> usize {
    std::env::var("CONVEYOR_TEXT_MIB").ok().and_then(|mib| mib.parse().ok()).unwrap_or(16) << 20
}

#[test]
fn a_long_file_that_is_appended_through_cuts_and_crashes_is_the_same_everywhere() {
    on_hosts("a_long_file_that_is_appended_through_cuts_and_crashes_is_the_same_everywhere", || {
        let mut peers = Peers::new(3);
        peers.start_all();
        let file = peers.text(text_bytes());
        let mut append = peers.append_file(1, &file);
        for round in 0..3 {
            let (cut, killed) = (1 + round % 2, 3 - round % 2);
            peers.network.cut_out(cut);
            peers.kill(killed);
            std::thread::sleep(Duration::from_millis(700));
            peers.start(killed);
            std::thread::sleep(Duration::from_millis(700));
            peers.network.mend(cut);
        }
        assert!(append.wait().unwrap().success());
        let lines = std::fs::read_to_string(&file).unwrap();
        let count = lines.lines().count() as u64;
        peers.until("all hold all of it", || (1..=3).all(|host| peers.entries(host, "text") == count));
        let exports: Vec<Vec<u8>> = (1..=3).map(|host| peers.export(host, "text")).collect();
        assert!(exports[0].len() > text_bytes(), "{}", exports[0].len());
        assert!(exports.windows(2).all(|two| two[0] == two[1]), "one log, byte for byte");
        assert!(peers.read_lines(2, "text") == lines, "and it is what was appended");
    });
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        let to = to.join(file.file_name());
        match file.file_type().unwrap().is_dir() {
            true => copy(&file.path(), &to),
            false => drop(std::fs::copy(file.path(), to).unwrap()),
        }
    }
}
