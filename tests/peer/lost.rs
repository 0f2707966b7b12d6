//! Entries whose bytes are gone: readers stop before them until someone declares them lost.
use crate::{chunk, config, drain, env, topic};
use conveyor::base::{EntryRef, RunId, Seq};
use conveyor::disk::{Disk, DiskControl, MemDisk, OpenMode};
use conveyor::identity::sign::Ed25519Signer;
use conveyor::runtime::{Handle, start};
use conveyor::wire::outcome::{ReadError, ReadFrom, TopicChange, TopicError};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

fn started(disk: MemDisk) -> Handle {
    let signer = Ed25519Signer::from_seed(&[7; 32]);
    let mut config = config(&signer);
    config.log.tail_bytes_max = 0;
    start(env(disk), Arc::new(signer), config).unwrap().0
}

/// A peer with three entries, of which the second rotted in its segment.
async fn damaged() -> (Handle, DiskControl) {
    let disk = MemDisk::new(1);
    let control = disk.control();
    let peer = started(disk);
    for payload in ["one", "two", "three"] {
        peer.append(topic("jobs"), None, chunk(&[payload], None)).await.unwrap();
    }
    peer.shutdown().await;
    let disk = control.crash();
    let control = disk.control();
    let peer = started(disk);
    checkpointed(&peer, 1).await;
    let image = control.image();
    let path =
        image.files().find(|path| path.contains("jobs") && path.ends_with(".segment")).unwrap().to_owned();
    let file = control.disk().open(&path, OpenMode::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(0, &mut bytes).unwrap();
    let at = bytes.windows(3).position(|window| window == b"two").unwrap();
    control.flip_at(&path, at as u64, 0).unwrap();
    (peer, control)
}

async fn read(peer: &Handle) -> Vec<String> {
    let mut reader = peer.reader(&topic("jobs"), ReadFrom::Start, false).await.unwrap();
    drain(&mut reader).await
}

fn lost(peer: &Handle, run: RunId, from: u64, until: u64) -> TopicChange {
    let (topic, peer) = (topic("jobs"), peer.about().peer);
    TopicChange::Lost { topic, peer, run, from: Seq(from), until: Seq(until) }
}

#[tokio::test]
async fn a_damaged_range_that_was_declared_lost_is_a_gap_also_after_a_restart() {
    let (peer, control) = damaged().await;
    assert_eq!(read(&peer).await, ["one", "blocked at 2"]);
    let log = &peer.topic(&topic("jobs")).unwrap().logs[0];
    let (run, from, until) = log.damaged[0];
    assert_eq!((from, until), (Seq(2), Seq(3)));
    for (run, from, until) in [(run, 1, 3), (run, 2, 4), (run, 3, 3), (RunId(9), 2, 3)] {
        let refused = peer.change_topic(lost(&peer, run, from, until)).await;
        assert!(matches!(refused, Err(TopicError::NotDamaged { .. })), "{refused:?}");
    }
    peer.change_topic(lost(&peer, run, 2, 3)).await.unwrap();
    for round in 0..2 {
        let peer = if round == 0 { peer.clone() } else { started(control.crash()) };
        assert_eq!(read(&peer).await, ["one", "gap 2..3 Lost", "three"]);
        let log = &peer.topic(&topic("jobs")).unwrap().logs[0];
        assert_eq!((log.damaged.as_slice(), log.lost.as_slice()), (&[][..], &[(run, Seq(2), Seq(3))][..]));
        assert_eq!(peer.status().damaged_count, 0);
        let id = EntryRef::parse(&format!("jobs/{}.{run}/2", peer.about().peer)).unwrap();
        assert!(matches!(peer.get(&id).await, Err(ReadError::IdLost { .. })));
    }
}

#[tokio::test]
async fn damage_that_a_reader_found_is_declared_lost_also_after_a_stop_and_a_start() {
    let (peer, control) = damaged().await;
    assert_eq!(read(&peer).await, ["one", "blocked at 2"]);
    peer.shutdown().await;
    let peer = started(control.crash());
    let log = &peer.topic(&topic("jobs")).unwrap().logs[0];
    let (run, from, until) = *log.damaged.first().expect("it is known before anyone reads");
    assert_eq!((from, until, peer.status().damaged_count), (Seq(2), Seq(3), 1));
    peer.change_topic(lost(&peer, run, 2, 3)).await.unwrap();
    assert_eq!(read(&peer).await, ["one", "gap 2..3 Lost", "three"]);
}

/// Turns a bit over in the header of the record of the journal that holds `payload`: nothing names that batch any more.
fn rot_record_of(control: &DiskControl, payload: &[u8]) {
    let image = control.image();
    for path in image.files().filter(|path| path.ends_with(".journal")) {
        let file = control.disk().open(path, OpenMode::Read).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_at(0, &mut bytes).unwrap();
        if let Some(at) = bytes.windows(payload.len()).position(|window| window == payload) {
            let record = bytes[..at].windows(4).rposition(|window| window == b"CVYJ").unwrap();
            return control.flip_at(path, record as u64 + 20, 0).unwrap();
        }
    }
    panic!("no journal file holds it");
}

/// Waits for so many checkpoints after a start, one for the start itself and one for a clock that is not believed yet: what is
/// appended before may go to its segment with them.
async fn checkpointed(peer: &Handle, count: u64) {
    while peer.store().counters.checkpoints.load(Ordering::Relaxed) < count {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_hole_that_damage_left_in_its_own_log_is_declared_lost_also_where_a_run_begins() {
    for begins_run in [false, true] {
        let disk = MemDisk::new(1);
        let mut control = disk.control();
        let mut peer = started(disk);
        checkpointed(&peer, 1).await;
        for payload in ["one", "two", "three"] {
            if begins_run && payload == "two" {
                peer.shutdown().await;
                let disk = control.crash();
                control = disk.control();
                peer = started(disk);
                checkpointed(&peer, 2).await;
            }
            peer.append(topic("jobs"), None, chunk(&[payload], None)).await.unwrap();
        }
        peer.shutdown().await;
        let disk = control.crash();
        control = disk.control();
        rot_record_of(&control, b"two");
        let peer = started(disk);
        assert_eq!(read(&peer).await, ["one", "blocked at 2"], "begins a run: {begins_run}");
        let log = &peer.topic(&topic("jobs")).unwrap().logs[0];
        assert_eq!(log.damaged, [(log.run, Seq(2), Seq(3))]);
        peer.change_topic(lost(&peer, log.run, 2, 3)).await.unwrap();
        assert_eq!(read(&peer).await, ["one", "gap 2..3 Lost", "three"]);
        peer.shutdown().await;
        assert_eq!(read(&started(control.crash())).await, ["one", "gap 2..3 Lost", "three"]);
    }
}

#[tokio::test]
async fn a_reader_that_waits_before_damage_goes_on_when_it_is_declared_lost() {
    let (peer, _control) = damaged().await;
    let mut reader = peer.reader(&topic("jobs"), ReadFrom::Start, false).await.unwrap();
    assert_eq!(drain(&mut reader).await, ["one", "blocked at 2"]);
    let (run, ..) = peer.topic(&topic("jobs")).unwrap().logs[0].damaged[0];
    let (waited, changed) = tokio::join!(reader.changed(), peer.change_topic(lost(&peer, run, 2, 3)));
    let () = waited;
    changed.unwrap();
    assert_eq!(drain(&mut reader).await, ["gap 2..3 Lost", "three"]);
}
