//! One run that two processes write: a machine was resumed from a snapshot in the middle of it.
use crate::cluster::faults::Power;
use crate::cluster::model::payload;
use crate::cluster::scenarios::{append, pass, tell_and_plant};
use crate::cluster::{Cluster, JOBS, Setup, lock};
use conveyor::base::planted::Bug;
use conveyor::base::{Chunk, ChunkBuilder, Codec, Entry};
use conveyor::wire::outcome::Appended;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Three sites of two peers: the third is the first, resumed from a snapshot; the runs that they draw next are the same.
/// Neither reaches the other, nor the third site anybody.
async fn resumed(cluster: &Arc<Cluster>) -> usize {
    cluster.resume(0);
    cluster.start_all();
    pass(3).await;
    append(cluster, 0, 5).await;
    pass(10).await;
    cluster.crash(0, Power::Stays).await;
    let copy = cluster.copy(0, &cluster.backup(0));
    cut(cluster, &[0, 1], &[copy]);
    cluster.start_all();
    pass(3).await;
    copy
}

fn cut(cluster: &Cluster, some: &[usize], others: &[usize]) {
    let both = |a: &usize| others.iter().flat_map(|b| [(*a, *b), (*b, *a)]).collect::<Vec<_>>();
    cluster.network.block(some.iter().flat_map(both).collect::<BTreeSet<_>>());
}

/// One append of which the model is told nothing.
async fn write(cluster: &Cluster, site: usize) -> Appended {
    let nonce = lock(&cluster.model).attempt();
    let mut builder = ChunkBuilder::new();
    builder.push(&Entry::from(payload(nonce))).expect("a small entry");
    let chunk = Chunk::parse(builder.finish(Codec::None)).expect("a chunk that was just built");
    let handle = cluster.live(site).expect("it is up").handle;
    handle.append(JOBS.name(), None, chunk).await.expect("it takes appends")
}

#[test]
fn whoever_hears_that_another_process_writes_its_run_goes_on_in_a_new_one() {
    tell_and_plant(120, Setup::alike(2), &[(Bug::RunsAreNeverLeft, "P2")], |cluster| async move {
        let copy = resumed(&cluster).await;
        let (first, other) = (write(&cluster, 0).await, write(&cluster, copy).await);
        assert_eq!((first.run, first.first_seq), (other.run, other.first_seq), "the snapshot goes on alike");
        for _ in 0..5 {
            write(&cluster, copy).await;
        }
        cluster.network.block([].into());
        pass(10).await;
        let (after, other_after) = (write(&cluster, 0).await, write(&cluster, copy).await);
        assert_ne!(after.run, first.run, "P2: 0 goes on in a run that {copy} writes too");
        assert_ne!((after.run, after.first_seq), (other_after.run, other_after.first_seq), "P2: two names");
        pass(30).await;
        // Which is enough: neither writes the other's run any more.
        let (last, other_last) = (write(&cluster, 0).await, write(&cluster, copy).await);
        assert_ne!(last.run, other_last.run, "P2: both go on in one run");
    });
}
