//! Damage that nobody read is found by itself, told to everyone, and takes nothing else.
use crate::{chunk, config, drain, env, read, topic};
use conveyor::base::{PeerId, StoreId};
use conveyor::disk::{Disk, DiskControl, MemDisk};
use conveyor::identity::sign::Ed25519Signer;
use conveyor::runtime::{Env, Handle, PeerNet, ScrubConfig, start};
use conveyor::wire::outcome::ReadFrom;
use conveyor::wire::peer::{PeerMessage, RunRange};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const ROUND_AFTER_ROUND: ScrubConfig = ScrubConfig { bytes_per_s: 1 << 30, interval_ms: 5, quiet_ms: 0 };

fn peer(disk: MemDisk, scrub: ScrubConfig) -> Handle {
    let signer = Ed25519Signer::from_seed(&[7; 32]);
    let config = conveyor::runtime::RuntimeConfig { scrub, ..config(&signer) };
    start(env(disk), Arc::new(signer), config).unwrap().0
}

/// A disk with entries of which nothing is in the journal alone.
async fn filled() -> DiskControl {
    let disk = MemDisk::new(1);
    let control = disk.control();
    let peer = peer(disk, ScrubConfig { bytes_per_s: 0, ..ROUND_AFTER_ROUND });
    for index in 0..8 {
        let payload = format!("{index}{}", "x".repeat(5000));
        peer.append(topic("jobs"), None, chunk(&[&payload], None)).await.unwrap();
    }
    peer.shutdown().await;
    drop(peer);
    for _ in 0..2 {
        // The second start finds the checkpoint of the first, and reads nothing of the journal.
        let peer = crate::peer(control.disk());
        while peer.store().counters.checkpoints.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        peer.shutdown().await;
    }
    control
}

async fn rounds(peer: &Handle, count: u64) {
    let until = peer.scrub_rounds().0 + count;
    while peer.scrub_rounds().0 < until {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn damage_that_nobody_read_is_found_told_and_spares_its_neighbours() {
    let control = filled().await;
    let dir = control.disk().list("topics").unwrap().into_iter().find(|name| name == "jobs").unwrap();
    let path = control.disk().list(&format!("topics/{dir}")).unwrap();
    let path = path.iter().find(|name| name.ends_with(".segment")).unwrap();
    let peer = peer(control.disk(), ROUND_AFTER_ROUND);
    rounds(&peer, 2).await;
    assert_eq!((peer.status().damaged_count, peer.scrub_rounds().1 > 0), (0, true));
    // In the third of eight batches of some 5 300 bytes.
    control.flip_at(&format!("topics/{dir}/{path}"), 12_000, 3).unwrap();
    rounds(&peer, 2).await;
    assert_eq!(peer.status().damaged_count, 1);
    let counters = &peer.store().counters;
    assert_eq!(counters.scrub_damage.load(Ordering::Relaxed), 1, "each damage is told once");
    assert_eq!(counters.read_bytes.load(Ordering::Relaxed), 0, "no reader found it");
    assert_eq!(peer.topic(&topic("jobs")).unwrap().logs[0].damaged.len(), 1);
    let mut reader = peer.reader(&topic("jobs"), ReadFrom::Start, true).await.unwrap();
    let seen: Vec<String> = drain(&mut reader).await.iter().map(|item| item[..1].to_owned()).collect();
    assert_eq!(seen, ["0", "1", "g", "3", "4", "5", "6", "7"]);
    peer.append(topic("jobs"), None, chunk(&["on it goes"], None)).await.unwrap();
    peer.shutdown().await;
}

/// Hears what a peer tells another.
#[derive(Default)]
struct Told(Mutex<Vec<PeerMessage>>);

impl PeerNet for Told {
    fn send(&self, _to: StoreId, message: PeerMessage) {
        self.0.lock().unwrap().push(message);
    }
}

fn gone(message: &PeerMessage) -> Option<&RunRange> {
    if let PeerMessage::Gone(range) = message { Some(range) } else { None }
}

fn have(message: &PeerMessage) -> Option<&RunRange> {
    if let PeerMessage::Have(range, _) = message { Some(range) } else { None }
}

#[tokio::test]
async fn what_is_well_again_goes_to_the_reader_that_waits_for_it_and_other_peers_hear_of_it() {
    let control = filled().await;
    let path = control
        .image()
        .files()
        .find(|path| path.contains("jobs") && path.ends_with(".segment"))
        .unwrap()
        .to_owned();
    let signer = Ed25519Signer::from_seed(&[7; 32]);
    let config = conveyor::runtime::RuntimeConfig { scrub: ROUND_AFTER_ROUND, ..config(&signer) };
    let told = Arc::new(Told::default());
    let env = Env { peers: told.clone(), ..env(control.disk()) };
    let peer = start(env, Arc::new(signer), config).unwrap().0;
    peer.peer_up(StoreId(9), PeerId([9; 32])).await;
    control.flip_at(&path, 12_000, 3).unwrap();
    let is_told = |is_wanted: fn(&PeerMessage) -> Option<&RunRange>| {
        let told = told.0.lock().unwrap();
        told.iter().filter_map(is_wanted).any(|range| (range.from.0, range.until.0) == (3, 4))
    };
    while !is_told(gone) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut reader = peer.reader(&topic("jobs"), ReadFrom::Start, false).await.unwrap();
    assert_eq!(drain(&mut reader).await.last().unwrap(), "blocked at 3");
    control.flip_at(&path, 12_000, 3).unwrap();
    reader.changed().await;
    assert_eq!((drain(&mut reader).await.len(), peer.status().damaged_count), (6, 0));
    assert_eq!(peer.store().counters.scrub_healed.load(Ordering::Relaxed), 1);
    while !is_told(have) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_scrub_that_is_off_reads_nothing() {
    let control = filled().await;
    let peer = peer(control.disk(), ScrubConfig { bytes_per_s: 0, ..ROUND_AFTER_ROUND });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(read(&peer, "jobs", ReadFrom::Start).await.len(), 8);
    assert_eq!(peer.store().counters.scrub_bytes.load(Ordering::Relaxed), 0);
    assert_eq!(peer.scrub_rounds(), (0, 0));
}
