//! Processes that crash, stop, freeze and are copied, and the sessions between them.
use crate::cluster::client::{Client, Habits};
use crate::cluster::faults::Power;
use crate::cluster::follower::Follower;
use crate::cluster::life::spawn;
use crate::cluster::membership::Manners;
use crate::cluster::scenarios::{append, end_alike, habits, pass, synced, tell, tell_and_plant};
use crate::cluster::{JOBS, Setup, check};
use conveyor::base::StoreId;
use conveyor::base::planted::Bug;
use conveyor::runtime::PeerNet;
use conveyor::wire::peer::PeerMessage;
use std::collections::BTreeSet;

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
fn a_session_that_begins_is_not_ended_by_what_was_still_to_be_told_of_the_one_before() {
    tell(106, Setup::alike(2), |cluster| async move {
        cluster.start_all();
        // Sessions are given up for nothing: one side hears of it late, when the next has begun long since.
        let (up_ms_max, down_ms) = (200, (100, 10_000));
        cluster.network.set_manners(Manners { up_ms_max, down_ms, spurious: 300_000, one_sided: 0 });
        pass(20).await;
        cluster.network.set_manners(Manners::CALM);
        pass(15).await;
        assert!(Client::new(cluster.clone(), habits(&[0])).append().await);
        pass(2).await;
        check::check_all(&cluster);
    });
}

/// What others hold comes back to it; what it writes before it hears of that is in a run of its own.
#[test]
fn a_restored_backup_never_writes_under_names_that_others_know() {
    let bugs = [(Bug::RunGoesOnAfterRestart, "P2")];
    tell_and_plant(9, Setup::alike(3), &bugs, |cluster| async move {
        cluster.start_all();
        pass(3).await;
        append(&cluster, 0, 20).await;
        let backup = cluster.backup(0);
        append(&cluster, 0, 20).await;
        end_alike(&cluster).await;
        cluster.crash(0, Power::Lost).await;
        cluster.restore(0, &backup);
        cluster.network.block([(0, 1), (1, 0), (0, 2), (2, 0)].into());
        cluster.start_all();
        append(&cluster, 0, 20).await;
        cluster.network.block([].into());
        end_alike(&cluster).await;
    });
}

/// What a restore left behind is deleted by name: what the peer writes beside it meanwhile, under lower numbers, stays.
#[test]
fn what_is_written_while_a_deletion_is_on_its_way_stays_beside_a_longer_branch() {
    let way = BTreeSet::from([(0, 1), (1, 0)]);
    tell(11, Setup::alike(2), |cluster| async move {
        cluster.start_all();
        pass(3).await;
        append(&cluster, 0, 10).await;
        let backup = cluster.backup(0);
        append(&cluster, 0, 60).await;
        end_alike(&cluster).await;
        cluster.crash(0, Power::Lost).await;
        cluster.restore(0, &backup);
        cluster.network.block(way.clone());
        cluster.start_all();
        append(&cluster, 0, 5).await;
        cluster.network.block([].into());
        end_alike(&cluster).await;
        cluster.network.block(way);
        cluster.delete(1, JOBS).await;
        append(&cluster, 0, 10).await;
        cluster.network.block([].into());
        end_alike(&cluster).await;
        cluster.crash(0, Power::Lost).await;
        cluster.start_all();
        pass(20).await;
        end_alike(&cluster).await;
    });
}

/// The first entries of a new run are numbered and not on the disk yet: the deletion names that run, not the one before.
#[test]
fn a_deletion_names_the_run_that_is_on_its_way_to_the_disk() {
    tell(579, Setup::peers(1), |cluster| async move {
        cluster.start_all();
        append(&cluster, 0, 10).await;
        cluster.crash(0, Power::Stays).await;
        cluster.start_all();
        let mut client = Client::new(cluster.clone(), synced(&[0]));
        let (was_taken, ()) = tokio::join!(client.append(), cluster.delete(0, JOBS));
        assert!(was_taken);
        cluster.crash(0, Power::Lost).await;
        cluster.start_all();
        append(&cluster, 0, 1).await;
        check::check_all(&cluster);
    });
}

/// It is another store than the one that was there before under the same key, and is given all that the first one had.
#[test]
fn a_wiped_disk_under_the_same_key_is_given_everything_again() {
    tell(10, Setup::alike(3), |cluster| async move {
        cluster.start_all();
        pass(3).await;
        append(&cluster, 0, 20).await;
        end_alike(&cluster).await;
        for site in [0, 1, 2] {
            cluster.crash(site, Power::Lost).await;
            cluster.wipe(site);
            cluster.start_all();
            append(&cluster, site, 5).await;
            end_alike(&cluster).await;
        }
    });
}
