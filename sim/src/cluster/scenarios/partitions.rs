//! Peers that do not reach each other, for a while or ever, and those who come late.
use crate::cluster::client::{Client, Habits};
use crate::cluster::faults::Power;
use crate::cluster::follower::Follower;
use crate::cluster::life::{Life, spawn};
use crate::cluster::network::Weather;
use crate::cluster::scenarios::{append, end_alike, habits, pass, synced, tell, tell_and_plant, write};
use crate::cluster::site::REPLICATION;
use crate::cluster::{JOBS, Setup, check};
use conveyor::base::planted::Bug;
use conveyor::base::{Chunk, ChunkBuilder, Codec, Durability, Entry, TopicName};
use conveyor::replication::ReplicationConfig;
use std::collections::BTreeSet;
use std::sync::Arc;

/// All ways between two groups of sites.
fn between(some: &[usize], others: &[usize]) -> BTreeSet<(usize, usize)> {
    some.iter().flat_map(|a| others.iter().flat_map(move |b| [(*a, *b), (*b, *a)])).collect()
}

#[test]
fn a_peer_that_was_gone_for_long_is_given_all_that_it_missed() {
    tell(30, Setup::alike(3), |cluster| async move {
        cluster.start_all();
        pass(3).await;
        append(&cluster, 2, 10).await;
        cluster.crash(2, Power::Lost).await;
        let slow = |site| Habits { pause_ms: 5_000, ..synced(&[site]) };
        let writers: Vec<Arc<Life>> = [0, 1].into_iter().map(|site| write(&cluster, slow(site))).collect();
        pass(600).await;
        writers.iter().for_each(|writer| writer.end());
        cluster.start_all();
        end_alike(&cluster).await;
    });
}

#[test]
fn a_newcomer_catches_up_on_a_hundred_times_what_may_be_on_its_way_while_others_write() {
    // Every budget a hundredth of what it is: bytes and entries that are asked for at once, bytes that were taken and are not
    // durable, runs that may be offered.
    let all = ReplicationConfig::DEFAULT;
    let replication = ReplicationConfig {
        want_bytes_max: all.want_bytes_max / 100,
        want_entries_max: all.want_entries_max / 100,
        taken_bytes_max: all.taken_bytes_max / 100,
        offered_runs_max: all.offered_runs_max / 100,
        ..REPLICATION
    };
    let setup = Setup { replication, ..Setup::alike(3) };
    tell(31, setup, |cluster| async move {
        cluster.start(0);
        cluster.start(1);
        pass(3).await;
        let mut client = Client::new(cluster.clone(), Habits { entries_max: 20, ..synced(&[0, 1]) });
        while cluster.files(0, ".segment").len() < 10 {
            assert!(client.append().await);
        }
        let slow = Habits { pause_ms: 1_000, ..synced(&[0]) };
        let writer = write(&cluster, slow);
        cluster.start(2);
        pass(20).await;
        writer.end();
        end_alike(&cluster).await;
    });
}

#[test]
fn the_ends_of_a_chain_bring_each_other_everything_by_the_one_between() {
    let bugs = [(Bug::RelaysKeepToThemselves, "P1")];
    tell_and_plant(32, Setup::alike(3), &bugs, |cluster| async move {
        cluster.network.block(between(&[0], &[2]));
        cluster.start_all();
        pass(3).await;
        let (follower, given) = Follower::new(cluster.clone(), JOBS, vec![2]);
        spawn(&cluster.recorder, follower.work());
        append(&cluster, 0, 30).await;
        append(&cluster, 2, 30).await;
        end_alike(&cluster).await;
        check::check_followed(&cluster, 2, JOBS, &given);
    });
}

#[test]
fn both_halves_of_a_split_write_for_an_hour_and_are_one_again() {
    tell(33, Setup::alike(4), |cluster| async move {
        cluster.start_all();
        pass(3).await;
        cluster.network.block(between(&[0, 1], &[2, 3]));
        let slow = |site| Habits { pause_ms: 60_000, ..habits(&[site]) };
        let writers: Vec<Arc<Life>> = (0..4).map(|site| write(&cluster, slow(site))).collect();
        pass(3_600).await;
        writers.iter().for_each(|writer| writer.end());
        for half in [[0, 1], [2, 3]] {
            check::check_among(&cluster, &half.into());
        }
        cluster.network.block([].into());
        end_alike(&cluster).await;
    });
}

#[test]
fn a_rolling_restart_loses_nothing_and_whoever_tries_elsewhere_is_served() {
    tell(34, Setup::alike(3), |cluster| async move {
        cluster.start_all();
        pass(3).await;
        for site in 0..3 {
            cluster.stop(site).await;
            let others: Vec<usize> = (0..3).filter(|other| *other != site).collect();
            let mut client = Client::new(cluster.clone(), synced(&others));
            for _ in 0..5 {
                assert!(client.append().await, "two of three are up");
            }
            cluster.start(site);
            pass(5).await;
        }
        end_alike(&cluster).await;
    });
}

/// The messages that tell of what is new are lost, and later what was asked for is not answered: comparing finds out, and
/// what does not come is asked for again.
#[test]
fn what_was_lost_on_the_way_is_found_by_comparing_and_asked_for_again() {
    let bugs = [(Bug::DigestsAlwaysEqual, "P4"), (Bug::LeasesNeverExpire, "P1")];
    tell_and_plant(36, Setup::alike(2), &bugs, |cluster| async move {
        cluster.start_all();
        pass(3).await;
        append(&cluster, 0, 3).await;
        end_alike(&cluster).await;
        cluster.network.set_weather(Weather { lost: 1_000_000, ..Weather::FAIR });
        append(&cluster, 0, 3).await;
        pass(1).await;
        cluster.network.set_weather(Weather::FAIR);
        end_alike(&cluster).await;
        cluster.network.set_weather(Weather { lost: 500_000, ..Weather::FAIR });
        // Long enough for comparisons to find what was not heard of, and for what is asked then to be lost too.
        for _ in 0..100 {
            append(&cluster, 0, 1).await;
            pass(1).await;
        }
        cluster.network.set_weather(Weather::FAIR);
        end_alike(&cluster).await;
    });
}

/// A reader comes from a peer that had the log to one that has not heard of it, and reads on where it was.
#[test]
fn a_cursor_keeps_what_it_names_at_a_peer_that_does_not_know_it_yet() {
    let bugs = [(Bug::CursorForgetsUnknownLogs, "P5")];
    tell_and_plant(36, Setup::alike(2), &bugs, |cluster| async move {
        cluster.network.block(between(&[0], &[1]));
        cluster.start_all();
        let (follower, given) = Follower::new(cluster.clone(), JOBS, vec![0, 1]);
        spawn(&cluster.recorder, follower.work());
        append(&cluster, 0, 20).await;
        pass(5).await;
        cluster.crash(0, Power::Lost).await;
        // At the other peer now, which lacks all of it.
        pass(15).await;
        cluster.start(0);
        cluster.network.block([].into());
        append(&cluster, 0, 20).await;
        append(&cluster, 1, 20).await;
        end_alike(&cluster).await;
        (0..2).for_each(|site| check::check_followed(&cluster, site, JOBS, &given));
    });
}

/// A peer that was started often is met by one that knows nothing of it and hears of its newest run first.
#[test]
fn who_reads_from_a_time_gets_the_runs_that_were_heard_of_after_those_that_go_on_from_them() {
    let bugs = [(Bug::SeeksAsHeard, "P5")];
    tell_and_plant(37, Setup::alike(2), &bugs, |cluster| async move {
        cluster.network.block(between(&[0], &[1]));
        cluster.network.set_weather(Weather { latency_ms: 400, ..Weather::FAIR });
        cluster.start_all();
        append(&cluster, 1, 1).await;
        for _ in 0..4 {
            append(&cluster, 0, 30).await;
            cluster.crash(0, Power::Lost).await;
            cluster.start(0);
        }
        let writer = write(&cluster, Habits { pause_ms: 5, ..synced(&[0]) });
        pass(1).await;
        cluster.network.block([].into());
        pass(30).await;
        writer.end();
        end_alike(&cluster).await;
    });
}

/// Two corners of a square reach each other by the other two. When the one goes that brought what is new, the other brings it.
#[test]
fn when_a_relay_goes_what_is_new_comes_by_another() {
    tell(26, Setup::alike(4), |cluster| async move {
        cluster.network.block([(0, 3), (3, 0), (1, 2), (2, 1)].into());
        cluster.start_all();
        pass(3).await;
        append(&cluster, 0, 20).await;
        for relay in [1, 2] {
            pass(10).await;
            cluster.crash(relay, Power::Lost).await;
            append(&cluster, 0, 5).await;
            pass(3).await;
            check::check_among(&cluster, &[0, 3].into());
            cluster.start(relay);
        }
        end_alike(&cluster).await;
    });
}

/// A peer that was started very often wrote a run of its own to each of its topics each time: what it has to tell a newcomer
/// is more than goes into a message.
#[test]
fn what_is_told_of_logs_with_very_many_runs_comes_in_messages_of_a_bounded_size() {
    const TOPICS: usize = 40;
    const STARTS: usize = 90;
    tell_and_plant(66, Setup::alike(2), &[(Bug::TellsAllAtOnce, "P9")], |cluster| async move {
        for _ in 0..STARTS {
            cluster.start(0);
            let handle = cluster.live(0).expect("it is up").handle;
            for number in 0..TOPICS {
                let topic = TopicName::system(&format!("topic-{number}")).expect("a legal name");
                let mut builder = ChunkBuilder::new();
                builder.push(&Entry::from(vec![7])).expect("a small entry");
                let chunk = Chunk::parse(builder.finish(Codec::None)).expect("a chunk that was just built");
                let appended = handle.append(topic, Some(Durability::Buffered), chunk).await;
                assert!(appended.is_ok(), "{appended:?}");
            }
            cluster.crash(0, Power::Stays).await;
        }
        cluster.start_all();
        pass(30).await;
        let logs = cluster.live(1).expect("it is up").handle.store().logs();
        let runs: usize = logs.iter().map(|log| log.look().runs.len()).sum();
        assert!(runs >= TOPICS * STARTS, "P4: {runs} runs came");
        end_alike(&cluster).await;
    });
}
