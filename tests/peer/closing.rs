//! A peer that is about to stop: it takes nothing new, and what it took is on the disk before anybody looks who holds it.
use crate::{HeldLane, chunk, config, env, topic};
use conveyor::disk::{Lane, MemDisk};
use conveyor::identity::sign::Ed25519Signer;
use conveyor::runtime::{Env, start};
use conveyor::wire::outcome::AppendError;
use std::sync::Arc;

#[tokio::test]
async fn a_peer_is_closed_once_all_that_it_took_is_on_the_disk() {
    let small = "a".to_owned();
    // A step that is being synced; a large entry that is in none yet, and what waits behind it.
    for (lane, payloads) in [(Lane::Sync, vec![&small]), (Lane::Bulk, vec![&"b".repeat(3 << 20), &small])] {
        let (signer, io) = (Ed25519Signer::from_seed(&[7; 32]), Arc::new(HeldLane::new(lane)));
        let mut config = config(&signer);
        config.log.journal_file_bytes = 8 << 20;
        let env = Env { io: io.clone(), ..env(MemDisk::new(1)) };
        let peer = start(env, Arc::new(signer), config).unwrap().0;
        peer.append(topic("jobs"), None, chunk(&["first"], None)).await.unwrap();
        io.hold();
        let mut taken = Vec::new();
        for payload in payloads {
            taken.push(peer.submit(topic("jobs"), None, chunk(&[payload], None)).await.unwrap());
        }
        let closing = tokio::spawn({
            let peer = peer.clone();
            async move { peer.close().await }
        });
        let late = loop {
            let late = peer.submit(topic("other"), None, chunk(&["late"], None)).await.unwrap();
            tokio::select! {
                late = late => break late,
                () = tokio::task::yield_now() => {}
            }
        };
        assert!(matches!(late, Err(AppendError::Stopped { .. })), "{late:?}");
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        assert!(!closing.is_finished(), "what it took is not on the disk yet");
        io.let_go();
        closing.await.unwrap();
        for ticket in taken {
            ticket.await.unwrap();
        }
    }
}
