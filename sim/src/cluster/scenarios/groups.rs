//! Groups: consumers that share a topic's entries, whatever happens to them and to the peers.
use crate::cluster::faults::Power;
use crate::cluster::life::{Life, LifeSpawn};
use crate::cluster::scenarios::{append, end_alike, pass, synced, tell, tell_and_plant, write};
use crate::cluster::worker::{Habits, Work, Worker, check_worked, create};
use crate::cluster::{Cluster, Setup, lock};
use conveyor::base::planted::Bug;
use conveyor::runtime::Spawn;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// All ways between two groups of sites.
fn between(some: &[usize], others: &[usize]) -> BTreeSet<(usize, usize)> {
    some.iter().flat_map(|a| others.iter().flat_map(move |b| [(*a, *b), (*b, *a)])).collect()
}

/// A consumer that works until it is ended.
fn work(cluster: &Arc<Cluster>, habits: Habits, done: &Arc<Mutex<Work>>) -> Arc<Life> {
    let life = Life::new(cluster.recorder.clone());
    let worker = Worker::new(cluster.clone(), habits, done.clone());
    LifeSpawn(life.clone()).spawn(Box::pin(worker.work()));
    life
}

#[test]
fn one_peer_hands_each_entry_to_one_consumer_while_nothing_goes_wrong() {
    tell_and_plant(400, Setup::peers(1), &[(Bug::GroupsSkipEntries, "P6")], |cluster| async move {
        cluster.start_all();
        let done: Arc<Mutex<Work>> = Arc::default();
        assert!(create(&cluster, 0).await);
        let workers: Vec<_> = (0..4).map(|_| work(&cluster, Habits::good(&[0]), &done)).collect();
        append(&cluster, 0, 50).await;
        pass(20).await;
        workers.iter().for_each(|worker| worker.end());
        let twice = lock(&done).handed.values().filter(|count| **count > 1).count();
        assert_eq!(twice, 0, "P6: {twice} entries were handed out twice for no reason");
        assert!(lock(&done).acked.len() >= 50);
        check_worked(&cluster, &done, true).await;
    });
}

#[test]
fn consumers_that_crash_stall_and_give_back_lose_nothing() {
    tell(401, Setup::peers(1), |cluster| async move {
        cluster.start_all();
        let done: Arc<Mutex<Work>> = Arc::default();
        assert!(create(&cluster, 0).await);
        let workers: Vec<_> = (0..4).map(|_| work(&cluster, Habits::bad(&[0]), &done)).collect();
        append(&cluster, 0, 50).await;
        pass(60).await;
        workers.iter().for_each(|worker| worker.end());
        check_worked(&cluster, &done, true).await;
    });
}

#[test]
fn a_peer_that_is_killed_while_it_hands_out_loses_nothing_and_takes_nothing_back() {
    tell_and_plant(402, Setup::peers(1), &[(Bug::AcksForgotten, "P6")], |cluster| async move {
        cluster.start_all();
        let done: Arc<Mutex<Work>> = Arc::default();
        assert!(create(&cluster, 0).await);
        let writer = write(&cluster, synced(&[0]));
        let workers: Vec<_> = (0..3).map(|_| work(&cluster, Habits::bad(&[0]), &done)).collect();
        for power in [Power::Lost, Power::Stays, Power::Lost] {
            pass(10).await;
            cluster.crash(0, power).await;
            pass(1).await;
            cluster.start_all();
        }
        cluster.stop(0).await;
        cluster.start_all();
        pass(10).await;
        writer.end();
        workers.iter().for_each(|worker| worker.end());
        check_worked(&cluster, &done, true).await;
    });
}

#[test]
fn three_peers_hand_out_what_any_wrote_to_consumers_at_each() {
    tell(403, Setup::alike(3), |cluster| async move {
        cluster.start_all();
        pass(3).await;
        let done: Arc<Mutex<Work>> = Arc::default();
        assert!(create(&cluster, 0).await);
        pass(3).await;
        // All consumers are at one, and whoever writes is at the others.
        let workers: Vec<_> = (0..3).map(|_| work(&cluster, Habits::good(&[2]), &done)).collect();
        for site in 0..2 {
            append(&cluster, site, 20).await;
        }
        pass(30).await;
        let handed = lock(&done).handed.len();
        assert!(handed >= 40, "P6: {handed} of at least 40 entries were handed out while all were connected");
        workers.iter().for_each(|worker| worker.end());
        end_alike(&cluster).await;
        check_worked(&cluster, &done, true).await;
    });
}

#[test]
fn both_sides_of_a_split_work_and_are_one_group_again() {
    tell(404, Setup::alike(3), |cluster| async move {
        cluster.start_all();
        pass(3).await;
        let done: Arc<Mutex<Work>> = Arc::default();
        assert!(create(&cluster, 0).await);
        append(&cluster, 0, 20).await;
        append(&cluster, 1, 20).await;
        pass(5).await;
        cluster.network.block(between(&[0], &[1, 2]));
        let workers: Vec<_> = (0..3).map(|site| work(&cluster, Habits::bad(&[site]), &done)).collect();
        let writers: Vec<_> = (0..3).map(|site| write(&cluster, synced(&[site]))).collect();
        pass(60).await;
        cluster.network.block([].into());
        pass(20).await;
        writers.iter().for_each(|writer| writer.end());
        workers.iter().for_each(|worker| worker.end());
        end_alike(&cluster).await;
        check_worked(&cluster, &done, true).await;
    });
}

#[test]
fn what_a_dead_peer_wrote_is_handed_out_by_another_that_holds_it() {
    tell(405, Setup::alike(3), |cluster| async move {
        cluster.start_all();
        pass(3).await;
        let done: Arc<Mutex<Work>> = Arc::default();
        assert!(create(&cluster, 1).await);
        append(&cluster, 0, 20).await;
        pass(5).await;
        cluster.crash(0, Power::Lost).await;
        let workers: Vec<_> = [1, 2].map(|site| work(&cluster, Habits::good(&[site]), &done)).into();
        pass(30).await;
        let handed = lock(&done).handed.len();
        assert!(handed >= 20, "P6: {handed} of at least 20 entries of a dead peer were handed out");
        cluster.start_all();
        append(&cluster, 0, 5).await;
        pass(20).await;
        workers.iter().for_each(|worker| worker.end());
        end_alike(&cluster).await;
        check_worked(&cluster, &done, true).await;
    });
}
