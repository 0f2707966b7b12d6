//! Readers that begin now, and hear later of what is old.
use crate::cluster::scenarios::{append, end_alike, pass, tell_and_plant};
use crate::cluster::{Cluster, JOBS, Setup, lock};
use conveyor::base::EntryId;
use conveyor::base::planted::Bug;
use conveyor::log::ReadItem;
use conveyor::runtime::TopicReader;
use conveyor::wire::outcome::ReadFrom;
use std::collections::BTreeSet;
use std::time::Duration;

async fn tail(cluster: &Cluster, site: usize, from: ReadFrom) -> TopicReader {
    let handle = cluster.live(site).expect("it is up").handle;
    handle.reader(&JOBS.name(), from, false).await.expect("the topic is there")
}

/// All that it gives by now.
async fn given(reader: &mut TopicReader) -> BTreeSet<EntryId> {
    let mut given = BTreeSet::new();
    loop {
        let items = reader.next(64 << 10).await.expect("a sound disk");
        if items.is_empty() {
            return given;
        }
        for item in items {
            let ReadItem::Batch { batch, from, .. } = item else { continue };
            let walked = batch.for_each_entry(|id, _, _| id.seq < from || given.insert(id));
            walked.expect("a good batch");
        }
    }
}

/// All that was ever acknowledged.
fn known(cluster: &Cluster) -> BTreeSet<EntryId> {
    lock(&cluster.model).facts().map(|(id, _)| *id).collect()
}

/// A year of what a peer wrote before comes from elsewhere, slowly: none of it is new to who reads from now on, and what that
/// peer writes after that is.
#[test]
fn who_reads_from_now_on_is_given_nothing_of_an_old_log_that_comes_later() {
    tell_and_plant(63, Setup::alike(2), &[(Bug::NowIsForgotten, "P5")], |cluster| async move {
        cluster.network.block([(0, 1), (1, 0)].into());
        cluster.start_all();
        append(&cluster, 1, 3).await;
        while cluster.files(0, ".segment").len() < 4 {
            append(&cluster, 0, 10).await;
        }
        pass(60).await;
        let mut reader = tail(&cluster, 1, ReadFrom::Now).await;
        assert_eq!(given(&mut reader).await.len(), 0);
        let old = known(&cluster);
        cluster.network.block([].into());
        let mut new = BTreeSet::new();
        for _ in 0..40 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            new.extend(given(&mut reader).await);
        }
        assert!(new.is_empty(), "P5: {} of {} old entries are given as new", new.len(), old.len());
        end_alike(&cluster).await;
        append(&cluster, 0, 5).await;
        append(&cluster, 1, 5).await;
        end_alike(&cluster).await;
        // Where it goes on elsewhere, by its cursor.
        new.extend(given(&mut reader).await);
        let mut elsewhere = tail(&cluster, 0, ReadFrom::Cursor(reader.cursor())).await;
        append(&cluster, 1, 5).await;
        end_alike(&cluster).await;
        new.extend(given(&mut elsewhere).await);
        let all: BTreeSet<EntryId> = old.union(&new).copied().collect();
        assert!(
            old.is_disjoint(&new) && all == known(&cluster),
            "P5: what is new is given, and nothing else"
        );
    });
}
