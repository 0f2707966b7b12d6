//! What rotted comes back from a backup, or is declared lost.
use crate::{Site, append, batches, jobs, payloads, until};
use conveyor::base::{Batch, Seq};
use conveyor::disk::{Disk, DiskControl, MemDisk, OpenMode};
use conveyor::runtime::Handle;
use conveyor::wire::outcome::{Imported, TopicChange};
use std::sync::atomic::Ordering;

/// Changes a byte of `payload` in its segment, and starts the peer again so that it reads what lies there.
async fn damage(site: &Site, disk: &DiskControl, payload: &[u8]) -> Handle {
    for _ in 0..2 {
        // The first start may have to bring it into its segment; the second reads nothing of the journal.
        let peer = site.start(disk.disk());
        until("a checkpoint", || peer.store().counters.checkpoints.load(Ordering::Relaxed) > 0).await;
        peer.shutdown().await;
    }
    let image = disk.image();
    let path = image.files().find(|path| path.contains("jobs") && path.ends_with(".segment")).unwrap();
    let file = disk.disk().open(path, OpenMode::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(0, &mut bytes).unwrap();
    let at = bytes.windows(payload.len()).position(|window| window == payload).unwrap();
    disk.flip_at(path, at as u64, 0).unwrap();
    site.start(disk.disk())
}

/// A peer that holds "one", "two" and "three", of which the second rotted; and a backup of before.
async fn peer_whose_second_of_three_rotted() -> (Site, DiskControl, Vec<Batch>, Handle) {
    let site = Site::new();
    let disk = MemDisk::new(1);
    let control = disk.control();
    let first = site.start(disk);
    for payload in ["one", "two", "three"] {
        append(&first, payload).await;
    }
    let backup = batches(&first).await;
    first.shutdown().await;
    drop(first);
    let peer = damage(&site, &control, b"two").await;
    assert_eq!(payloads(&peer).await, ["one"]);
    (site, control, backup, peer)
}

#[tokio::test]
async fn a_backup_brings_back_what_rotted_and_nothing_else() {
    let (site, control, backup, peer) = peer_whose_second_of_three_rotted().await;
    assert_eq!(peer.status().damaged_count, 1);
    let mut taken = Vec::new();
    for batch in &backup {
        taken.push(peer.import(&site.certificate(), jobs(), batch.clone()).await.unwrap());
    }
    assert_eq!(taken, [Imported::Held, Imported::New, Imported::Held]);
    assert_eq!((payloads(&peer).await.len(), peer.status().damaged_count), (3, 0));
    let again = site.start(control.crash());
    assert_eq!(payloads(&again).await, ["one", "three", "two"]);
}

/// Turns a bit over in the header of the batch that holds `payload`, wherever it is written.
fn rot_header(disk: &DiskControl, payload: &[u8]) {
    for path in disk.image().files() {
        let file = disk.disk().open(path, OpenMode::Read).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_at(0, &mut bytes).unwrap();
        let places = bytes.windows(payload.len()).enumerate().filter(|(_, window)| *window == payload);
        for (at, _) in places {
            let batch = bytes[..at].windows(4).rposition(|window| window == b"CVYB").unwrap();
            disk.flip_at(path, batch as u64 + 72, 0).unwrap();
        }
    }
}

#[tokio::test]
async fn what_rotted_at_the_end_of_a_run_beside_the_checkpoint_comes_back_or_is_declared_lost() {
    for is_declared in [true, false] {
        let site = Site::new();
        let disk = MemDisk::new(1);
        let mut control = disk.control();
        let mut peer = site.start(disk);
        let mut backup = Vec::new();
        // Once more for each start: all lies in segments then.
        for payloads in [&["one", "two"][..], &["three"], &[], &[]] {
            until("a checkpoint", || peer.store().counters.checkpoints.load(Ordering::Relaxed) > 0).await;
            for payload in payloads {
                append(&peer, payload).await;
            }
            backup = batches(&peer).await;
            peer.shutdown().await;
            let disk = control.crash();
            control = disk.control();
            peer = site.start(disk);
        }
        peer.shutdown().await;
        let disk = control.crash();
        control = disk.control();
        rot_header(&control, b"two");
        control.flip_at("checkpoint", 20, 0).unwrap();
        let peer = site.start(disk);
        assert_eq!(payloads(&peer).await, ["one"]);
        let log = peer.topic(&jobs()).unwrap().logs.remove(0);
        let (run, from, until) = log.damaged[0];
        assert_eq!((log.damaged.len(), from, until), (1, Seq(2), Seq(3)));
        assert_ne!(run, log.run, "it is of the run before the last");
        if is_declared {
            let (topic, peer_id) = (jobs(), peer.about().peer);
            let lost = TopicChange::Lost { topic, peer: peer_id, run, from, until };
            peer.change_topic(lost).await.unwrap();
            assert_eq!(payloads(&peer).await, ["one", "three"]);
        } else {
            let mut taken = Vec::new();
            for batch in &backup {
                taken.push(peer.import(&site.certificate(), jobs(), batch.clone()).await.unwrap());
            }
            assert_eq!(taken, [Imported::Held, Imported::New, Imported::Held]);
            assert_eq!(payloads(&peer).await, ["one", "three", "two"]);
        }
        append(&peer, "four").await;
        peer.shutdown().await;
        let again = site.start(control.crash());
        let rest = if is_declared { &["three"][..] } else { &["three", "two"] };
        assert_eq!(payloads(&again).await, [&["four", "one"], rest].concat());
        assert_eq!(again.status().damaged_count, 0);
    }
}

#[tokio::test]
async fn a_backup_brings_back_what_was_declared_lost() {
    let (site, _, backup, peer) = peer_whose_second_of_three_rotted().await;
    let (run, from, until) = peer.topic(&jobs()).unwrap().logs[0].damaged[0];
    let change = TopicChange::Lost { topic: jobs(), peer: peer.about().peer, run, from, until };
    peer.change_topic(change).await.unwrap();
    assert_eq!(payloads(&peer).await, ["one", "three"]);
    assert_eq!(peer.import(&site.certificate(), jobs(), backup[1].clone()).await, Ok(Imported::New));
    assert_eq!(payloads(&peer).await, ["one", "three", "two"]);
}
