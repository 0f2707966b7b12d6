//! Appends that wait until other peers hold them.
use crate::cluster::faults::Power;
use crate::cluster::model::{Fact, payload};
use crate::cluster::scenarios::{pass, tell};
use crate::cluster::{JOBS, Setup, check, lock};
use conveyor::base::{Chunk, ChunkBuilder, Codec, Durability, Entry, EntryId};
use conveyor::wire::outcome::Appended;

#[test]
fn what_was_acknowledged_with_two_copies_survives_the_loss_of_either_disk() {
    tell(11, Setup::alike(3), |cluster| async move {
        cluster.start_all();
        pass(5).await;
        for lost in [0, 1, 0] {
            let level = Durability::Replicas(2);
            for _ in 0..5 {
                let nonce = lock(&cluster.model).attempt();
                let mut builder = ChunkBuilder::new();
                builder.push(&Entry::from(payload(nonce))).expect("a small entry");
                let chunk = Chunk::parse(builder.finish(Codec::None)).expect("a chunk that was just built");
                let handle = cluster.live(lost).expect("it is up").handle;
                let appended = handle.append(JOBS.name(), Some(level), chunk).await.expect("others hold it");
                assert!(
                    !appended.holders.is_empty()
                        && appended.holders.iter().all(|holder| holder.peer != appended.peer)
                );
                let Appended { peer, run, first_seq: seq, first_time: time, .. } = appended;
                let id = EntryId { topic: JOBS.id(), peer, run, seq };
                lock(&cluster.model).acknowledge(id, Fact { nonce, time }, level, lost);
            }
            let owed = lock(&cluster.model).owed_count();
            // At once: whoever was told had counted on the copies, not on time.
            cluster.crash(lost, Power::Lost).await;
            cluster.wipe(lost);
            assert_eq!(lock(&cluster.model).owed_count(), owed, "somebody else holds each of them");
            cluster.start_all();
            pass(30).await;
            check::check_all(&cluster);
        }
    });
}
