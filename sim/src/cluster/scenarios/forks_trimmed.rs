//! Forks of which what lies around them was trimmed before everybody had heard of them.
use crate::cluster::faults::Power;
use crate::cluster::scenarios::forks::{copied, cut};
use crate::cluster::scenarios::{append_to, end_alike, pass, tell};
use crate::cluster::{Cluster, EVENTS, NEWEST_KEPT, Setup};
use std::sync::Arc;

/// Two machines in the middle of one run, the first and a copy of it, each in a part of the network with a peer of its own.
async fn begun(cluster: &Arc<Cluster>, reached: &[usize]) -> usize {
    cluster.start_all();
    pass(3).await;
    append_to(cluster, EVENTS, 0, 5).await;
    pass(10).await;
    cluster.crash(0, Power::Stays).await;
    cluster.resume_amid(0, false);
    copied(cluster, reached).await
}

/// So much that all of a log before it is trimmed, and the files are gone that it was in.
async fn write_much(cluster: &Arc<Cluster>, site: usize) {
    for _ in 0..8 {
        append_to(cluster, EVENTS, site, NEWEST_KEPT as usize).await;
        pass(5).await;
    }
}

/// The peer itself is cut off while the others learn that its run forked, and trims its log beyond that.
#[test]
fn a_store_that_trimmed_a_run_beyond_its_fork_before_it_heard_of_it_ends_with_the_same_branches() {
    tell(140, Setup::alike(3), |cluster| async move {
        let copy = begun(&cluster, &[2]).await;
        append_to(&cluster, EVENTS, 0, 2).await;
        append_to(&cluster, EVENTS, copy, 2).await;
        pass(10).await;
        cut(&cluster, &[0], &[1, 2, copy]);
        pass(20).await;
        write_much(&cluster, 0).await;
        cluster.network.block([].into());
        pass(20).await;
        // From here on it goes on in a new run, which takes all of the other with it.
        write_much(&cluster, 0).await;
        write_much(&cluster, copy).await;
        end_alike(&cluster).await;
    });
}

/// Each side trims the run beyond its fork before they meet. Then nothing proves it: each store keeps what came to it first, and
/// no longer than until the run is trimmed whole, from when on all hold the same again.
#[test]
fn two_sides_that_trimmed_a_run_beyond_its_fork_before_they_met_are_alike_again_once_the_run_is_trimmed_whole()
 {
    tell(141, Setup::alike(3), |cluster| async move {
        let copy = begun(&cluster, &[2]).await;
        for site in [0, copy] {
            write_much(&cluster, site).await;
        }
        cluster.network.block([].into());
        pass(20).await;
        for site in [0, copy] {
            write_much(&cluster, site).await;
        }
        end_alike(&cluster).await;
    });
}
