//! Stories, told by hand.
use crate::cluster::client::{Client, Habits};
use crate::cluster::faults::Power;
use crate::cluster::follower::Follower;
use crate::cluster::life::spawn;
use crate::cluster::{Cluster, JOBS, METRICS, Setup, check, run};
use conveyor::base::StoreId;
use conveyor::runtime::PeerNet;
use conveyor::wire::peer::PeerMessage;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// Tells a story twice: it holds, and goes the same way.
fn tell<F: Future<Output = ()>>(
    seed: u64,
    setup: Setup,
    story: impl FnOnce(Arc<Cluster>) -> F + Send + Clone + 'static,
) {
    let first = run(seed, setup, story.clone());
    assert_eq!(first.failure, None, "{:#?}", first.last);
    assert_eq!(run(seed, setup, story), first, "the same seed, another run");
}

fn habits(sites: &[usize]) -> Habits {
    Habits {
        sites: sites.to_vec(),
        topics: vec![JOBS, METRICS],
        pause_ms: 200,
        entries_max: 4,
        retries_max: 5,
    }
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[test]
fn one_peer_keeps_what_it_acknowledged_over_crashes_and_power_loss() {
    tell(1, Setup::peers(1), |cluster| async move {
        cluster.start_all();
        spawn(&cluster.recorder, Client::new(cluster.clone(), habits(&[0])).work());
        let (follower, given) = Follower::new(cluster.clone(), JOBS, vec![0]);
        spawn(&cluster.recorder, follower.work());
        for power in [Power::Stays, Power::Lost, Power::Lost] {
            pass(10).await;
            cluster.crash(0, power).await;
            pass(1).await;
            cluster.start_all();
        }
        cluster.start_twice(0);
        pass(10).await;
        check::check_all(&cluster);
        check::check_followed(&cluster, 0, JOBS, &given);
        assert!(cluster.recorder.look(|trace| trace.count()) > 50);
    });
}

#[test]
fn messages_between_three_peers_arrive_while_there_are_sessions() {
    tell(2, Setup::peers(3), |cluster| async move {
        cluster.start_all();
        pass(5).await;
        let live = cluster.all_live();
        let stores: Vec<StoreId> = live.values().map(|live| live.store).collect();
        let port = cluster.network.port();
        port.belongs_to(stores[0]);
        let salt = |salt| PeerMessage::Digest { salt, buckets: Vec::new() };
        (0..10).for_each(|index| port.send(stores[1 + index % 2], salt(index as u64)));
        pass(1).await;
        assert_eq!(cluster.network.counts().delivered, 10);
        cluster.network.block([(0, 1)].into());
        pass(5).await;
        port.send(stores[1], salt(11));
        assert_eq!(cluster.network.counts().lost, 1, "the session was given up");
        cluster.network.block([].into());
        pass(5).await;
        port.send(stores[1], salt(12));
        pass(1).await;
        assert_eq!(cluster.network.counts().delivered, 11);
    });
}
