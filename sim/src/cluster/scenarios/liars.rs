//! One peer lies: the honest keep what they promised each other, and hear no end of it neither in messages nor in memory.
use crate::cluster::client::Habits;
use crate::cluster::liar::{LIES, Lie};
use crate::cluster::life::Life;
use crate::cluster::scenarios::{append, end_alike, pass, synced, tell, tell_and_plant, write};
use crate::cluster::{Cluster, Setup, check};
use conveyor::base::planted::Bug;
use std::sync::Arc;

/// Three peers of whom the first lies; all write, and the last is away for a part of it.
async fn live_with(cluster: Arc<Cluster>, lies: &[Lie]) {
    cluster.lie(0, lies);
    cluster.start_all();
    pass(3).await;
    let writers: Vec<Arc<Life>> =
        (0..3).map(|site| write(&cluster, Habits { pause_ms: 500, ..synced(&[site]) })).collect();
    pass(5).await;
    // What it writes now the third hears of from both.
    cluster.freeze(2, true);
    pass(8).await;
    cluster.freeze(2, false);
    pass(5).await;
    writers.iter().for_each(|writer| writer.end());
}

#[test]
fn the_honest_keep_what_they_promised_whatever_one_peer_says() {
    for (seed, lie) in (0..).zip(LIES) {
        tell(seed, Setup::alike(3), move |cluster| async move {
            live_with(cluster.clone(), &[lie]).await;
            let before = cluster.network.counts().delivered;
            end_alike(&cluster).await;
            let messages = cluster.network.counts().delivered - before;
            assert!(messages < 20_000, "P9: {lie:?} makes {messages} messages in a few seconds");
        });
    }
}

#[test]
fn answers_that_bring_nothing_are_asked_for_again_only_when_stores_compare() {
    tell(20, Setup::alike(2), |cluster| async move {
        cluster.lie(0, &[Lie::AnswersEmpty]);
        cluster.start_all();
        pass(3).await;
        append(&cluster, 0, 10).await;
        let before = cluster.network.counts().delivered;
        pass(60).await;
        let messages = cluster.network.counts().delivered - before;
        assert!(messages < 500, "P9: {messages} messages in a minute, for what never comes");
    });
}

#[test]
fn nobody_but_its_own_peer_trims_a_log() {
    tell_and_plant(21, Setup::alike(3), &[(Bug::TrimsUnsigned, "P1")], |cluster| async move {
        live_with(cluster.clone(), &[Lie::TrimsOthers]).await;
        end_alike(&cluster).await;
    });
}

#[test]
fn a_batch_with_entries_thinned_out_is_not_stored_and_the_whole_one_still_comes() {
    tell_and_plant(22, Setup::alike(3), &[(Bug::EntriesUnchecked, "P7")], |cluster| async move {
        live_with(cluster.clone(), &[Lie::Thins]).await;
        end_alike(&cluster).await;
    });
}

#[test]
fn a_batch_whose_signature_is_wrong_is_not_stored_even_from_its_own_peer() {
    tell_and_plant(23, Setup::alike(3), &[(Bug::SignatureUnchecked, "P7")], |cluster| async move {
        live_with(cluster.clone(), &[Lie::BadSignatures]).await;
        end_alike(&cluster).await;
    });
}

/// One says as much as it can of logs that are not there, all the time. What the others remember of it keeps within its
/// bounds, and what they write comes to each other all the same.
#[test]
fn what_is_remembered_of_a_flood_of_offers_keeps_within_its_bounds() {
    tell_and_plant(24, Setup::alike(3), &[(Bug::OffersWithoutBound, "P9")], |cluster| async move {
        cluster.lie(0, &[Lie::Floods]);
        cluster.start_all();
        pass(3).await;
        let writers: Vec<Arc<Life>> =
            (1..3).map(|site| write(&cluster, Habits { pause_ms: 500, ..synced(&[site]) })).collect();
        let mut most = 0;
        for _ in 0..20 {
            pass(1).await;
            for (site, live) in cluster.all_live().into_iter().filter(|(site, _)| *site > 0) {
                check::check_bounds(&cluster, site, &live);
                most = most.max(live.handle.remembered().offered_runs_of_one);
            }
        }
        assert!(most > 200, "{most} runs were offered at once: that is no flood");
        writers.iter().for_each(|writer| writer.end());
        end_alike(&cluster).await;
    });
}
