//! A clock that ran ahead and was set back: an administrator says so once.
use crate::{chunk, config, env, topic};
use conveyor::disk::MemDisk;
use conveyor::identity::sign::Ed25519Signer;
use conveyor::runtime::{Env, Handle, WallClock, start};
use conveyor::wire::outcome::ClockState;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const START: u64 = 1_800_000_000_000;
const YEAR_MS: u64 = 365 * 86_400_000;

/// A clock that stands where it was set.
struct Set(AtomicU64);

impl WallClock for Set {
    fn unix_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

fn started(disk: MemDisk, clock: &Arc<Set>) -> Handle {
    let signer = Ed25519Signer::from_seed(&[7; 32]);
    let config = config(&signer);
    let env = Env { clock: clock.clone(), ..env(disk) };
    start(env, Arc::new(signer), config).unwrap().0
}

/// Waits until the clock is trusted, or not.
async fn until_trusted(peer: &Handle, is_trusted: bool) {
    for _ in 0..1000 {
        if (peer.status().clock == ClockState::Trusted) == is_trusted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it stays {:?}", peer.status().clock);
}

#[tokio::test]
async fn a_clock_that_was_accepted_is_trusted_after_a_restart_too_though_entries_are_dated_ahead() {
    for is_clean in [true, false] {
        let (disk, clock) = (MemDisk::new(1), Arc::new(Set(AtomicU64::new(START + YEAR_MS))));
        let mut control = disk.control();
        let peer = started(disk, &clock);
        for name in ["jobs", "others"] {
            peer.append(topic(name), None, chunk(&["a year ahead"], None)).await.unwrap();
        }
        clock.0.store(START, Ordering::Relaxed);
        until_trusted(&peer, false).await;
        peer.append(topic("jobs"), None, chunk(&["now"], None)).await.unwrap();
        peer.accept_clock().await;
        until_trusted(&peer, true).await;
        let checkpoints = || peer.store().counters.checkpoints.load(Ordering::Relaxed);
        match is_clean {
            true => peer.shutdown().await,
            false => {
                while checkpoints() < 2 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
        for start in 1..3 {
            clock.0.store(START + 1000 * start, Ordering::Relaxed);
            let disk = control.crash();
            control = disk.control();
            let peer = started(disk, &clock);
            peer.append(topic("jobs"), None, chunk(&["later"], None)).await.unwrap();
            assert_eq!(
                peer.status().clock,
                ClockState::Trusted,
                "start {start}, after a clean stop: {is_clean}"
            );
            peer.shutdown().await;
        }
    }
}
