//! One fault at a time, and nothing else: what each does to peers that bring each other what they lack.
use crate::cluster::faults::Power;
use crate::cluster::life::Life;
use crate::cluster::membership::Manners;
use crate::cluster::network::Weather;
use crate::cluster::scenarios::{append, end_alike, pass, synced, tell, write};
use crate::cluster::{Cluster, Setup};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// So many peers that all write, each at itself.
async fn writing(cluster: &Arc<Cluster>) -> Vec<Arc<Life>> {
    cluster.start_all();
    pass(3).await;
    let writers = (0..cluster.site_count()).map(|site| write(cluster, synced(&[site]))).collect();
    pass(5).await;
    writers
}

async fn end(cluster: &Arc<Cluster>, writers: &[Arc<Life>]) {
    writers.iter().for_each(|writer| writer.end());
    end_alike(cluster).await;
}

#[test]
fn every_fault_of_messages_alone_is_lived_through() {
    let weathers = [
        ("lost", Weather { lost: 200_000, ..Weather::FAIR }),
        ("doubled", Weather { doubled: 300_000, ..Weather::FAIR }),
        ("swapped", Weather { swapped: 300_000, ..Weather::FAIR }),
        ("held up", Weather { delayed: 20_000, ..Weather::FAIR }),
        ("slow", Weather { latency_ms: 600, jitter_ms: 600, ..Weather::FAIR }),
        ("thin", Weather { bytes_per_s: 10 << 10, ..Weather::FAIR }),
    ];
    for (seed, (what, weather)) in (70..).zip(weathers) {
        println!("messages that are {what}");
        tell(seed, Setup::alike(3), move |cluster| async move {
            let writers = writing(&cluster).await;
            cluster.network.set_weather(weather);
            pass(15).await;
            cluster.network.set_weather(Weather::FAIR);
            end(&cluster, &writers).await;
        });
    }
}

/// Ways from one site to another that are closed.
type Ways = &'static [(usize, usize)];

#[test]
fn every_partition_alone_is_lived_through() {
    let partitions: [(&str, usize, Ways); 5] = [
        ("one way from a peer to all others", 3, &[(0, 1), (0, 2)]),
        ("one way to a peer from all others", 3, &[(1, 0), (2, 0)]),
        ("some ways among four", 4, &[(0, 1), (1, 0), (2, 3), (3, 2), (1, 3)]),
        ("a ring of one-way ways", 3, &[(0, 1), (1, 2), (2, 0)]),
        ("two halves and a bridge", 5, &[(0, 3), (3, 0), (0, 4), (4, 0), (1, 3), (3, 1), (1, 4), (4, 1)]),
    ];
    for (seed, (what, peer_count, closed)) in (80..).zip(partitions) {
        println!("{what}");
        tell(seed, Setup::alike(peer_count), move |cluster| async move {
            let writers = writing(&cluster).await;
            cluster.network.block(closed.iter().copied().collect());
            pass(20).await;
            if peer_count > 3 {
                // Everyone still reaches everyone, through others.
                writers.iter().for_each(|writer| writer.end());
                end_alike(&cluster).await;
            }
            cluster.network.block(BTreeSet::new());
            end(&cluster, &writers).await;
        });
    }
}

/// Nothing gets through for a moment, too short for anybody to end a session, again and again.
#[test]
fn clogged_ways_alone_are_lived_through() {
    tell(86, Setup::alike(3), |cluster| async move {
        let writers = writing(&cluster).await;
        let all = [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)];
        let sessions = cluster.network.counts().sessions;
        for _ in 0..20 {
            cluster.network.block(all.into());
            tokio::time::sleep(Duration::from_millis(400)).await;
            cluster.network.block(BTreeSet::new());
            tokio::time::sleep(Duration::from_millis(600)).await;
        }
        assert_eq!(cluster.network.counts().sessions, sessions, "sessions outlive it");
        end(&cluster, &writers).await;
    });
}

#[test]
fn sessions_that_end_for_nothing_alone_are_lived_through() {
    for (seed, (spurious, one_sided)) in (87..).zip([(200_000, 0), (0, 200_000)]) {
        tell(seed, Setup::alike(3), move |cluster| async move {
            let writers = writing(&cluster).await;
            let (up_ms_max, down_ms) = (1_000, (100, 5_000));
            cluster.network.set_manners(Manners { up_ms_max, down_ms, spurious, one_sided });
            pass(20).await;
            cluster.network.set_manners(Manners::CALM);
            end(&cluster, &writers).await;
        });
    }
}

/// By an hour and by a day while it runs, and before it starts again.
#[test]
fn a_clock_that_is_set_back_alone_is_lived_through() {
    for (seed, back_ms) in (90..).zip([-3_600_000, -86_400_000]) {
        tell(seed, Setup::alike(3), move |cluster| async move {
            let writers = writing(&cluster).await;
            cluster.skew(0, back_ms);
            pass(10).await;
            cluster.crash(0, Power::Lost).await;
            cluster.skew(0, 2 * back_ms);
            cluster.start(0);
            pass(10).await;
            cluster.skew(0, 0);
            pass(5).await;
            end(&cluster, &writers).await;
        });
    }
}

/// What was being written when power went is garbage, not merely missing.
#[test]
fn a_torn_end_full_of_garbage_alone_is_lived_through() {
    tell(92, Setup::alike(3), |cluster| async move {
        cluster.set_garbage(1_000);
        let writers = writing(&cluster).await;
        for count in 0..6 {
            cluster.doom(0, 5 * count);
            pass(4).await;
            cluster.crash(0, Power::Lost).await;
            cluster.start_all();
            pass(2).await;
        }
        cluster.calm(0);
        cluster.recover(0).await;
        end(&cluster, &writers).await;
    });
}

/// One file after the other is what it was some time ago, as after a repair of a file system.
#[test]
fn a_file_that_goes_back_in_time_alone_is_lived_through() {
    for seed in 93..99 {
        tell(seed, Setup::alike(3), |cluster| async move {
            cluster.start_all();
            pass(3).await;
            append(&cluster, 0, 20).await;
            let backup = cluster.backup(0);
            append(&cluster, 0, 40).await;
            append(&cluster, 1, 20).await;
            end_alike(&cluster).await;
            cluster.crash(0, Power::Lost).await;
            cluster.roll_back(0, &backup);
            cluster.start_all();
            append(&cluster, 0, 5).await;
            cluster.read_through(&cluster.honest()).await;
            end_alike(&cluster).await;
        });
    }
}
