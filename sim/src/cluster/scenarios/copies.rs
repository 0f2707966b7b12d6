//! Appends that wait until other peers hold them.
use crate::cluster::faults::Power;
use crate::cluster::model::{Fact, payload};
use crate::cluster::scenarios::{pass, tell, tell_and_plant};
use crate::cluster::site::{REPLICATION, holds};
use crate::cluster::{JOBS, Setup, check, lock};
use conveyor::base::planted::Bug;
use conveyor::base::{Chunk, ChunkBuilder, Codec, Durability, Entry, EntryId};
use conveyor::replication::ReplicationConfig;
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

/// A peer said that it holds an append, and loses its disk before the others have said so too. It comes back under the same key,
/// with another store, and reaches nobody: what it said before counts no more.
#[test]
fn what_a_wiped_store_said_before_counts_for_no_copy() {
    let replication = ReplicationConfig { replicas_timeout_ms: 60_000, ..REPLICATION };
    let setup = Setup { replication, ..Setup::alike(3) };
    tell_and_plant(12, setup, &[(Bug::HavesOutliveTheirStore, "P3")], |cluster| async move {
        cluster.start_all();
        pass(5).await;
        let cut = |some: &[(usize, usize)]| {
            cluster.network.block(some.iter().flat_map(|(a, b)| [(*a, *b), (*b, *a)]).collect());
        };
        cut(&[(0, 2), (1, 2)]);
        pass(3).await;
        let mut builder = ChunkBuilder::new();
        builder.push(&Entry::from(payload(lock(&cluster.model).attempt()))).expect("a small entry");
        let chunk = Chunk::parse(builder.finish(Codec::None)).expect("a chunk that was just built");
        let handle = cluster.live(0).expect("it is up").handle;
        let append = handle.append(JOBS.name(), Some(Durability::Replicas(3)), chunk);
        let lose_one = async {
            pass(3).await;
            cluster.crash(1, Power::Lost).await;
            cluster.wipe(1);
            // As long as anybody believes to be in a session with it, what it said counts.
            pass(5).await;
            cut(&[(0, 1), (1, 2)]);
            cluster.start(1);
            pass(10).await;
            cut(&[]);
        };
        let (appended, ()) = tokio::join!(append, lose_one);
        let Appended { peer, run, first_seq: seq, .. } = appended.expect("all hold it in the end");
        let id = EntryId { topic: JOBS.id(), peer, run, seq };
        let held = cluster.all_live().into_values().filter(|live| holds(live.handle.store(), &id)).count();
        assert_eq!(held, 3, "P3: it was acknowledged with three copies");
    });
}
