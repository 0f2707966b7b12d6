//! A disk that is full, or fails: who asks is told, and nobody waits for what will not come.
use crate::{HeldLane, chunk, config, env, read, topic};
use conveyor::base::Seq;
use conveyor::disk::{DiskControl, Fault, Lane, MemDisk};
use conveyor::identity::sign::Ed25519Signer;
use conveyor::runtime::{Env, Handle, start};
use conveyor::wire::outcome::{AppendError, ReadFrom, TopicChange, TopicError};
use std::sync::Arc;
use std::sync::atomic::Ordering;

#[tokio::test]
async fn a_full_disk_refuses_appends_and_takes_them_again_when_there_is_room() {
    let disk = MemDisk::new(1);
    let control = disk.control();
    let peer = crate::peer(disk);
    peer.append(topic("jobs"), None, chunk(&["a"], None)).await.unwrap();
    control.set_capacity(1 << 10);
    let big = "x".repeat(1 << 19);
    let refused = loop {
        match peer.append(topic("jobs"), None, chunk(&[&big], None)).await {
            Ok(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, AppendError::DiskFull { .. }), "{refused}");
    assert_eq!(read(&peer, "jobs", ReadFrom::Start).await[0], "a");
    control.set_capacity(1 << 40);
    let appended = loop {
        match peer.append(topic("jobs"), None, chunk(&["b"], None)).await {
            Ok(appended) => break appended,
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
    };
    assert_eq!(read(&peer, "jobs", ReadFrom::Start).await.last().unwrap(), "b");
    drop(peer);
    let peer = crate::peer(control.crash());
    assert_eq!(read(&peer, "jobs", ReadFrom::Start).await.last().unwrap(), "b");
    assert!(appended.first_seq > Seq(1));
}

/// Resolves when what a start has to do is done, which syncs too and has its own words for a sync that fails.
async fn settled(peer: &Handle, control: &DiskControl) {
    let pause = || tokio::time::sleep(std::time::Duration::from_millis(5));
    while peer.store().counters.checkpoints.load(Ordering::Relaxed) == 0 {
        pause().await;
    }
    // The room is asked for behind the checkpoint, in the same lane.
    control.set_capacity(1 << 60);
    while peer.status().disk_free_bytes < 1 << 59 {
        pause().await;
    }
}

#[tokio::test]
async fn a_failed_flush_stops_the_peer_with_a_reason_and_a_restart_recovers() {
    let disk = MemDisk::new(1);
    let control = disk.control();
    let peer = crate::peer(disk);
    peer.append(topic("jobs"), None, chunk(&["a"], None)).await.unwrap();
    settled(&peer, &control).await;
    control.inject(Fault::sync_error());
    let failed = peer.append(topic("jobs"), None, chunk(&["b"], None)).await;
    assert!(matches!(failed, Err(AppendError::Stopped { .. })), "{failed:?}");
    assert!(peer.failed().await.contains("sync"));
    assert_eq!(read(&peer, "jobs", ReadFrom::Start).await, ["a"], "reads go on");
    control.clear_faults();
    let peer = crate::peer(control.crash());
    assert_eq!(read(&peer, "jobs", ReadFrom::Start).await[0], "a");
    peer.append(topic("jobs"), None, chunk(&["c"], None)).await.unwrap();
}

#[tokio::test]
async fn a_write_that_fails_stops_the_peer_with_a_reason_and_a_restart_recovers() {
    let disk = MemDisk::new(1);
    let control = disk.control();
    let peer = crate::peer(disk);
    peer.append(topic("jobs"), None, chunk(&["a"], None)).await.unwrap();
    settled(&peer, &control).await;
    control.inject(Fault::write_error());
    let failed = peer.append(topic("jobs"), None, chunk(&["b"], None)).await;
    assert!(matches!(failed, Err(AppendError::Stopped { .. })), "{failed:?}");
    let reason = peer.failed().await;
    assert!(reason.contains("writing the journal") && reason.contains("error"), "{reason}");
    assert_eq!(read(&peer, "jobs", ReadFrom::Start).await, ["a"], "reads go on");
    control.clear_faults();
    let peer = crate::peer(control.crash());
    assert_eq!(read(&peer, "jobs", ReadFrom::Start).await[0], "a");
    peer.append(topic("jobs"), None, chunk(&["c"], None)).await.unwrap();
}

#[tokio::test]
async fn a_disk_that_fails_under_load_keeps_nobody_waiting() {
    let disk = MemDisk::new(1);
    let control = disk.control();
    let (signer, io) = (Ed25519Signer::from_seed(&[7; 32]), Arc::new(HeldLane::new(Lane::Sync)));
    let config = config(&signer);
    let env = Env { io: io.clone(), ..env(disk) };
    let peer = start(env, Arc::new(signer), config).unwrap().0;
    peer.append(topic("jobs"), None, chunk(&["a"], None)).await.unwrap();
    io.hold();
    // Some are being written, a full step is gathered, some wait to be taken, and some for room.
    let payload = "x".repeat(1 << 20);
    let append = || {
        let (peer, chunk) = (peer.clone(), chunk(&[&payload], None));
        tokio::spawn(async move { peer.append(topic("jobs"), None, chunk).await })
    };
    let appends: Vec<_> = (0..64).map(|_| append()).collect();
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert!(peer.in_flight_bytes() > 20 << 20, "{}", peer.in_flight_bytes());
    control.inject(Fault::sync_error());
    io.let_go();
    for append in appends {
        let result = append.await.unwrap();
        assert!(matches!(result, Err(AppendError::Stopped { .. })), "{result:?}");
    }
    let late = peer.append(topic("jobs"), None, chunk(&["late"], None)).await;
    assert!(matches!(late, Err(AppendError::Stopped { .. })), "{late:?}");
    let change = peer.change_topic(TopicChange::Delete { topic: topic("jobs") }).await;
    assert!(matches!(change, Err(TopicError::Stopped { .. })), "{change:?}");
    peer.accept_clock().await;
    assert_eq!(peer.in_flight_bytes(), 0);
    peer.shutdown().await;
}

#[tokio::test]
async fn a_flush_that_fails_while_the_next_step_is_sealed_stops_the_peer_with_its_reason() {
    let one = async |seed| {
        let disk = MemDisk::new(seed);
        let control = disk.control();
        let peer = crate::peer(disk);
        peer.append(topic("jobs"), None, chunk(&["a"], None)).await.unwrap();
        settled(&peer, &control).await;
        control.inject(Fault::sync_error().nth(1 + seed % 2));
        let payload = "x".repeat(300 << 10);
        let appends = (0..12).map(|_| peer.append(topic("jobs"), None, chunk(&[&payload], None)));
        let results = futures_util::future::join_all(appends).await;
        assert!(matches!(results.last(), Some(Err(AppendError::Stopped { .. }))), "{:?}", results.last());
        assert!(!peer.failed().await.is_empty());
        assert_eq!(read(&peer, "jobs", ReadFrom::Start).await[0], "a", "reads go on");
    };
    futures_util::future::join_all((0..20).map(one)).await;
}

#[tokio::test]
async fn on_a_full_disk_a_retry_is_answered_and_a_topic_deleted() {
    let disk = MemDisk::new(1);
    let control = disk.control();
    let peer = crate::peer(disk);
    let first = peer.append(topic("jobs"), None, chunk(&["a"], Some(1))).await.unwrap();
    control.set_capacity(1 << 10);
    while peer.append(topic("jobs"), None, chunk(&["b"], None)).await.is_ok() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let again = peer.append(topic("jobs"), None, chunk(&["a"], Some(1))).await.unwrap();
    assert!(again.is_repeat && again.first_seq == first.first_seq);
    peer.change_topic(TopicChange::Delete { topic: topic("jobs") }).await.unwrap();
    assert_eq!(read(&peer, "jobs", ReadFrom::Start).await, [""; 0]);
    peer.shutdown().await;
}

#[tokio::test]
async fn a_deletion_that_shares_its_step_with_what_does_not_fit_is_carried_out() {
    let disk = MemDisk::new(1);
    let control = disk.control();
    let peer = crate::peer(disk);
    peer.append(topic("jobs"), None, chunk(&["a"], None)).await.unwrap();
    settled(&peer, &control).await;
    control.set_capacity(1 << 10);
    let big = "x".repeat(900 << 10);
    let appends = (0..2).map(|_| peer.append(topic("other"), None, chunk(&[&big], None)));
    let delete = peer.change_topic(TopicChange::Delete { topic: topic("jobs") });
    let create = TopicChange::Create { topic: topic("more"), settings: Default::default() };
    let (appends, deleted, created) =
        tokio::join!(futures_util::future::join_all(appends), delete, peer.change_topic(create));
    assert!(appends.iter().all(|result| matches!(result, Err(AppendError::DiskFull { .. }))), "{appends:?}");
    assert!(matches!(created, Err(TopicError::DiskFull { .. })), "{created:?}");
    assert!(deleted.is_ok(), "{deleted:?}");
    assert_eq!(read(&peer, "jobs", ReadFrom::Start).await, [""; 0]);
    peer.shutdown().await;
}
