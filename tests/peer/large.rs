//! Large entries: on the disk before their step, in order within their log, and in nobody else's way.
use super::{HeldLane, chunk, config, env, read, topic};
use conveyor::base::Seq;
use conveyor::disk::{Lane, MemDisk};
use conveyor::identity::sign::Ed25519Signer;
use conveyor::runtime::{AppendTicket, Env, Handle, start};
use conveyor::wire::outcome::{AppendError, ReadFrom};
use std::sync::Arc;
use std::sync::atomic::Ordering;

const LARGE_BYTES: usize = 3 << 20;

fn peer(disk: MemDisk, io: Arc<HeldLane>) -> Handle {
    let signer = Ed25519Signer::from_seed(&[7; 32]);
    let mut config = config(&signer);
    config.log.journal_file_bytes = 8 << 20;
    start(Env { io, ..env(disk) }, Arc::new(signer), config).unwrap().0
}

fn large(letter: &str) -> String {
    letter.repeat(LARGE_BYTES)
}

async fn submit(peer: &Handle, name: &str, payload: &str) -> AppendTicket {
    peer.submit(topic(name), None, chunk(&[payload], None)).await.unwrap()
}

async fn first_letters(peer: &Handle, name: &str) -> String {
    read(peer, name, ReadFrom::Start).await.iter().map(|payload| &payload[..1]).collect()
}

#[tokio::test]
async fn small_entries_wait_behind_a_large_one_of_their_own_log_alone() {
    let io = Arc::new(HeldLane::new(Lane::Bulk));
    let disk = MemDisk::new(1);
    let control = disk.control();
    let peer = peer(disk, io.clone());
    submit(&peer, "jobs", "a").await.await.unwrap();
    submit(&peer, "blobs", &large("z")).await.await.unwrap();
    let of_new_log = peer.store().counters.segment_bytes.swap(0, Ordering::Relaxed);
    assert!(of_new_log < (LARGE_BYTES + LARGE_BYTES / 2) as u64, "the first of a log is written once too");
    io.hold();
    let behind = [
        submit(&peer, "jobs", &large("b")).await,
        submit(&peer, "jobs", "c").await,
        submit(&peer, "jobs", &large("d")).await,
        submit(&peer, "jobs", "e").await,
    ];
    for _ in 0..5 {
        submit(&peer, "other", "x").await.await.unwrap();
    }
    assert_eq!(first_letters(&peer, "jobs").await, "a");
    assert_eq!(io.let_go(), 1, "the second waits for the first");
    for (ticket, seq) in behind.into_iter().zip(2..) {
        assert_eq!(ticket.await.unwrap().first_seq, Seq(seq));
    }
    assert_eq!(first_letters(&peer, "jobs").await, "abcde");
    let written = peer.store().counters.segment_bytes.load(Ordering::Relaxed);
    assert!(written < (2 * LARGE_BYTES + LARGE_BYTES / 2) as u64, "{written} bytes: each was written once");
    let peer = crate::peer(control.crash());
    assert_eq!(first_letters(&peer, "jobs").await, "abcde");
    assert_eq!(read(&peer, "jobs", ReadFrom::Start).await[3], large("d"));
}

#[tokio::test]
async fn what_was_brought_to_the_disk_for_a_step_that_never_came_is_not_there() {
    let io = Arc::new(HeldLane::new(Lane::Sync));
    let disk = MemDisk::new(1);
    let control = disk.control();
    let peer = peer(disk, io.clone());
    submit(&peer, "jobs", "a").await.await.unwrap();
    let syncs = || peer.store().counters.segment_syncs.load(Ordering::Relaxed);
    let before = syncs();
    io.hold();
    let ticket = submit(&peer, "jobs", &large("b")).await;
    while syncs() < before + 3 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let disk = control.crash();
    drop((io, ticket));
    let peer = crate::peer(disk);
    assert_eq!(first_letters(&peer, "jobs").await, "a");
    submit(&peer, "jobs", &"c".repeat(300 << 10)).await.await.unwrap();
    submit(&peer, "jobs", &large("d")).await.await.unwrap();
    drop(peer);
    let peer = crate::peer(control.crash());
    assert_eq!(first_letters(&peer, "jobs").await, "acd");
}

#[tokio::test]
async fn a_large_entry_for_which_there_is_no_room_is_refused_alone() {
    let disk = MemDisk::new(1);
    let control = disk.control();
    let peer = peer(disk, Arc::new(HeldLane::new(Lane::Bulk)));
    submit(&peer, "jobs", "a").await.await.unwrap();
    control.set_capacity(1 << 30);
    let used = (1 << 30) - peer.store().disk.free_bytes().unwrap();
    control.set_capacity(used + (1 << 20));
    let refused = submit(&peer, "jobs", &large("b")).await.await;
    assert!(matches!(refused, Err(AppendError::DiskFull { .. })), "{refused:?}");
    control.set_capacity(1 << 40);
    while submit(&peer, "jobs", &large("c")).await.await.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(first_letters(&peer, "jobs").await, "ac");
}

#[tokio::test]
async fn what_waits_behind_a_large_entry_does_not_make_a_step_of_its_own_size() {
    let io = Arc::new(HeldLane::new(Lane::Bulk));
    let peer = peer(MemDisk::new(1), io.clone());
    submit(&peer, "jobs", "a").await.await.unwrap();
    io.hold();
    let mut tickets = vec![submit(&peer, "jobs", &large("b")).await];
    let small = "c".repeat(900 << 10);
    for _ in 0..24 {
        tickets.push(submit(&peer, "jobs", &small).await);
    }
    let syncs = peer.store().counters.journal_syncs.load(Ordering::Relaxed);
    io.let_go();
    for ticket in tickets {
        ticket.await.unwrap();
    }
    let steps = peer.store().counters.journal_syncs.load(Ordering::Relaxed) - syncs;
    assert!(steps >= 3, "21 MiB in {steps} steps");
}
