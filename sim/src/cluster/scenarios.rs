//! Stories, told by hand.
use crate::cluster::client::{Client, Habits};
use crate::cluster::faults::Power;
use crate::cluster::follower::Follower;
use crate::cluster::life::spawn;
use crate::cluster::model::{Fact, payload};
use crate::cluster::{Cluster, JOBS, METRICS, Setup, check, lock, run};
use conveyor::base::{Chunk, ChunkBuilder, Codec, Durability, Entry, EntryId, StoreId};
use conveyor::runtime::PeerNet;
use conveyor::wire::outcome::Appended;
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
        let before = cluster.network.counts();
        (0..10).for_each(|index| port.send(stores[1 + index % 2], salt(index as u64)));
        pass(1).await;
        assert!(cluster.network.counts().delivered >= before.delivered + 10);
        cluster.network.block([(0, 1)].into());
        pass(5).await;
        port.send(stores[1], salt(11));
        assert!(cluster.network.counts().lost > before.lost, "the session was given up");
        cluster.network.block([].into());
        pass(5).await;
        let before = cluster.network.counts();
        port.send(stores[1], salt(12));
        pass(1).await;
        assert!(cluster.network.counts().delivered > before.delivered);
    });
}

#[test]
fn copies_of_a_directory_never_give_one_name_to_two_entries() {
    tell(3, Setup::peers(1), |cluster| async move {
        cluster.start_all();
        let mut client = Client::new(cluster.clone(), habits(&[0, 1]));
        let first = Client::new(cluster.clone(), habits(&[0]));
        spawn(&cluster.recorder, first.work());
        pass(5).await;
        let copied = cluster.copy(0, &cluster.backup(0));
        cluster.start_all();
        for _ in 0..20 {
            assert!(client.append().await);
        }
        let second = Client::new(cluster.clone(), habits(&[copied]));
        spawn(&cluster.recorder, second.work());
        pass(10).await;
        check::check_all(&cluster);
    });
}

#[test]
fn a_full_disk_takes_appends_again_when_there_is_room() {
    tell(4, Setup::peers(1), |cluster| async move {
        cluster.start_all();
        let mut client = Client::new(cluster.clone(), Habits { retries_max: 0, ..habits(&[0]) });
        assert!(client.append().await);
        cluster.fill(0, 8192);
        pass(3).await;
        assert!(!client.append().await, "a full disk takes no appends");
        cluster.make_room(0);
        pass(3).await;
        assert!(client.append().await, "there is room");
        check::check_all(&cluster);
    });
}

#[test]
fn a_frozen_peer_loses_its_sessions_and_nothing_else() {
    tell(5, Setup::peers(2), |cluster| async move {
        cluster.start_all();
        pass(5).await;
        spawn(&cluster.recorder, Client::new(cluster.clone(), habits(&[0])).work());
        pass(5).await;
        let sessions = cluster.network.counts().sessions;
        cluster.freeze(0, true);
        pass(10).await;
        cluster.freeze(0, false);
        pass(10).await;
        assert!(cluster.network.counts().sessions > sessions, "there are new sessions");
        check::check_all(&cluster);
    });
}

#[test]
fn a_wiped_disk_takes_only_its_own_entries_with_it() {
    tell(6, Setup::peers(2), |cluster| async move {
        cluster.start_all();
        for site in [0, 1] {
            assert!(Client::new(cluster.clone(), habits(&[site])).append().await);
        }
        cluster.crash(0, Power::Lost).await;
        cluster.wipe(0);
        cluster.start_all();
        assert!(Client::new(cluster.clone(), habits(&[0])).append().await, "the same key goes on");
        pass(5).await;
        check::check_all(&cluster);
    });
}

#[test]
fn a_process_that_dies_in_its_disk_work_is_started_again_with_what_it_acknowledged() {
    tell(7, Setup::peers(1), |cluster| async move {
        cluster.start_all();
        spawn(&cluster.recorder, Client::new(cluster.clone(), habits(&[0])).work());
        for count in 0..12 {
            pass(5).await;
            cluster.doom(0, count);
            pass(10).await;
        }
        cluster.calm(0);
        cluster.recover(0).await;
        pass(5).await;
        check::check_all(&cluster);
    });
}

#[test]
fn a_peer_a_year_ahead_takes_appends_before_and_after_its_clock_is_set_back() {
    tell(8, Setup::peers(1), |cluster| async move {
        cluster.skew(0, 366 * 86_400_000);
        cluster.start_all();
        let mut client = Client::new(cluster.clone(), habits(&[0]));
        assert!(client.append().await);
        cluster.skew(0, 0);
        assert!(client.append().await);
        cluster.crash(0, Power::Lost).await;
        cluster.start_all();
        assert!(client.append().await);
        check::check_all(&cluster);
    });
}

#[test]
fn what_was_acknowledged_with_two_copies_survives_the_loss_of_either_disk() {
    let setup = Setup { converges: true, ..Setup::peers(3) };
    tell(11, setup, |cluster| async move {
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
                assert!(!appended.holders.is_empty() && !appended.holders.contains(&appended.peer));
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
