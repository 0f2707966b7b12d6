//! Disks that rot, lie, fail and fill up.
use crate::cluster::client::{Client, Habits};
use crate::cluster::faults::Power;
use crate::cluster::life::Life;
use crate::cluster::scenarios::{append, end_alike, pass, synced, tell, tell_and_plant, write};
use crate::cluster::site::REPLICATION;
use crate::cluster::{Cluster, JOBS, Setup, check, lock};
use conveyor::base::planted::Bug;
use conveyor::base::{Retention, TopicSettings};
use conveyor::disk::Fault;
use conveyor::replication::ReplicationConfig;
use conveyor::wire::outcome::TopicChange;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

#[test]
fn a_store_that_lost_its_certificates_with_its_checkpoint_is_given_them_with_the_batches_it_lacks() {
    tell(43, Setup::alike(3), |cluster| async move {
        cluster.start_all();
        pass(3).await;
        append(&cluster, 0, 20).await;
        append(&cluster, 1, 20).await;
        end_alike(&cluster).await;
        cluster.crash(2, Power::Lost).await;
        cluster.rot(2, "checkpoint", 3);
        append(&cluster, 0, 20).await;
        cluster.start_all();
        end_alike(&cluster).await;
        let messages = cluster.network.counts().delivered;
        assert!(messages < 2_000, "P9: {messages} messages went for 60 appends");
    });
}

#[test]
fn what_rots_at_rest_is_found_by_the_scrub_and_had_back() {
    let bugs = [(Bug::DamageStillHeld, "P4")];
    tell_and_plant(44, Setup::alike(2), &bugs, |cluster| async move {
        cluster.start_all();
        pass(3).await;
        append(&cluster, 0, 200).await;
        end_alike(&cluster).await;
        for site in [0, 1] {
            // Only once the other holds everything for sure again.
            cluster.rot(site, ".segment", 3);
            cluster.read_through(&cluster.honest()).await;
            end_alike(&cluster).await;
        }
    });
}

#[test]
fn damage_is_never_done_where_an_entry_has_no_other_holder() {
    tell(45, Setup::alike(2), |cluster| async move {
        cluster.start_all();
        pass(3).await;
        append(&cluster, 0, 200).await;
        end_alike(&cluster).await;
        cluster.crash(1, Power::Lost).await;
        cluster.wipe(1);
        let before = cluster.files(0, ".segment").len();
        assert!(before > 0);
        cluster.rot(0, ".segment", 1_000);
        check::check_among(&cluster, &BTreeSet::from([0]));
        cluster.start_all();
        end_alike(&cluster).await;
    });
}

/// What is done to a disk.
type Fate = fn(&Cluster);

/// Two sound peers and one with a fault of its own, while all write.
async fn live_with(cluster: Arc<Cluster>, fault: Fate) {
    cluster.start_all();
    pass(3).await;
    let writers: Vec<Arc<Life>> = (0..3).map(|site| write(&cluster, synced(&[site, 1, 2]))).collect();
    pass(5).await;
    fault(&cluster);
    pass(10).await;
    writers.iter().for_each(|writer| writer.end());
    cluster.calm(0);
    cluster.recover(0).await;
    cluster.read_through(&cluster.honest()).await;
    end_alike(&cluster).await;
}

#[test]
fn every_fault_of_a_disk_alone_is_lived_through() {
    let faults: [(&str, Fate); 11] = [
        ("fails a sync", |cluster| cluster.inject(0, "fails a sync", Fault::sync_error().nth(3))),
        ("fails a write", |cluster| cluster.inject(0, "fails a write", Fault::write_error().nth(3))),
        ("fails to open", |cluster| cluster.inject(0, "fails to open", Fault::open_error().nth(1))),
        ("fails to sync names", |cluster| cluster.inject(0, "fails", Fault::sync_dir_error().nth(1))),
        ("fails reads", |cluster| cluster.inject(0, "fails reads", Fault::read_error().one_in(3))),
        ("syncs slowly", |cluster| {
            cluster.inject(0, "syncs slowly", Fault::slow_sync(Duration::from_millis(700)));
        }),
        ("is full", |cluster| cluster.fill(0, 8_192)),
        ("rots", |cluster| cluster.rot(0, "", 8)),
        ("rots as it is read", |cluster| cluster.rot_on_read(0, 3)),
        ("writes to other places", |cluster| cluster.send_astray(0, 2)),
        ("dies in its work", |cluster| cluster.doom(0, 7)),
    ];
    for (seed, (what, fault)) in (50..).zip(faults) {
        println!("a disk that {what}");
        tell(seed, Setup::alike(3), move |cluster| live_with(cluster, fault));
    }
}

/// It goes on to trim, which makes room, and then takes appends again, though nobody made its disk larger.
#[test]
fn a_full_disk_trims_and_takes_appends_again_by_itself() {
    let bugs = [(Bug::FullDiskTakesNoTrims, "P9")];
    tell_and_plant(46, Setup::alike(2), &bugs, |cluster| async move {
        cluster.start_all();
        pass(3).await;
        let mut client =
            Client::new(cluster.clone(), Habits { retries_max: 0, wants_copies: false, ..synced(&[0]) });
        while cluster.files(0, ".segment").len() < 10 {
            assert!(client.append().await);
        }
        cluster.fill(0, 400 << 10);
        pass(5).await;
        assert!(!client.append().await, "a full disk takes no appends");
        lock(&cluster.model).trim(JOBS.id());
        let retention = Retention { count: Some(10), ..Retention::default() };
        let settings = TopicSettings { retention, ..TopicSettings::default() };
        let live = cluster.live(0).expect("it runs");
        let set = live.handle.change_topic(TopicChange::Set { topic: JOBS.name(), settings });
        assert!(set.await.is_ok(), "a full disk takes what makes room");
        pass(90).await;
        assert!(client.append().await, "P9: a disk that is full of what is not kept any more takes nothing");
        end_alike(&cluster).await;
    });
}

/// A sync failed, so what it was for is in memory and not on the disk, and looks good to whoever starts next.
#[test]
fn what_was_read_back_after_a_failed_sync_is_on_the_disk_before_anybody_is_told() {
    let bugs = [(Bug::TailNotRewritten, "P1")];
    tell_and_plant(47, Setup::peers(1), &bugs, |cluster| async move {
        cluster.start_all();
        append(&cluster, 0, 5).await;
        cluster.inject(0, "fails the next sync", Fault::sync_error().under("journal/").nth(1));
        let mut client = Client::new(cluster.clone(), Habits { retries_max: 0, ..synced(&[0]) });
        // Nobody starts it meanwhile, and its machine goes on.
        cluster.keep_power(0);
        assert!(cluster.claim(0));
        assert!(!client.append().await, "it was not synced");
        pass(1).await;
        assert!(cluster.live(0).is_none(), "it stopped");
        cluster.start_all();
        check::check_all(&cluster);
        cluster.crash(0, Power::Lost).await;
        cluster.start_all();
        check::check_all(&cluster);
    });
}

/// A batch rots in the journal, and others stand behind it that say that it was synced: it is damage, of which the peer is
/// told, and nothing behind it goes with it.
#[test]
fn what_rots_in_the_journal_is_not_taken_for_its_torn_end() {
    let bugs = [(Bug::RotTakenForTear, "P1")];
    tell_and_plant(40, Setup::peers(1), &bugs, |cluster| async move {
        cluster.start_all();
        append(&cluster, 0, 3).await;
        cluster.rot_newest_record(0);
        cluster.read_through(&cluster.honest()).await;
        append(&cluster, 0, 5).await;
        cluster.crash(0, Power::Stays).await;
        cluster.start_all();
        check::check_all(&cluster);
        assert!(lock(&cluster.model).owed_count() > 0, "what came after is owed");
        let damaged = cluster.live(0).expect("it runs").handle.status().damaged_count;
        assert_eq!(damaged, 1, "P7: what rotted is told");
    });
}

/// Entries rot where alone they were, others hold what came after them. Readers wait before the hole, until its peer
/// says that there is nothing to wait for.
#[test]
fn a_hole_that_its_peer_declares_lost_is_a_gap_to_every_reader() {
    let bugs = [(Bug::LostUntold, "P4")];
    tell_and_plant(48, Setup::alike(2), &bugs, |cluster| async move {
        cluster.network.block([(0, 1), (1, 0)].into());
        cluster.start_all();
        while cluster.files(0, "-00000001.segment").is_empty() {
            append(&cluster, 0, 10).await;
        }
        cluster.rot_for_good(0, "-00000000.segment", 2);
        cluster.read_through(&cluster.honest()).await;
        append(&cluster, 0, 10).await;
        cluster.network.block([].into());
        end_alike(&cluster).await;
        let live = cluster.live(0).expect("it runs");
        let logs = live.handle.topic(&JOBS.name()).map(|topic| topic.logs).unwrap_or_default();
        let damaged: Vec<_> = logs.iter().flat_map(|log| &log.damaged).collect();
        assert!(!damaged.is_empty(), "something rotted");
        for (run, from, until) in damaged {
            let (topic, peer) = (JOBS.name(), live.handle.about().peer);
            let lost = TopicChange::Lost { topic, peer, run: *run, from: *from, until: *until };
            assert!(live.handle.change_topic(lost).await.is_ok(), "what is damaged may be declared lost");
        }
        end_alike(&cluster).await;
        let given = check::read_all(&cluster, 1, &cluster.live(1).expect("it runs"), JOBS);
        let given = given.expect("a sound disk");
        assert!(!given.gaps.is_empty() && given.entries.len() > 10, "P5: what comes behind the gap is read");
    });
}

/// Nobody says that he holds what is not on his disk: copies are counted by that.
#[test]
fn copies_that_are_counted_are_on_the_disks_of_those_who_say_so() {
    let bugs = [(Bug::HaveBeforeDurable, "P3")];
    tell_and_plant(49, Setup::alike(2), &bugs, |cluster| async move {
        cluster.start_all();
        pass(3).await;
        cluster.inject(1, "syncs slowly", Fault::slow_sync(Duration::from_millis(800)));
        let habits = Habits { wants_copies: true, ..synced(&[0]) };
        let writer = write(&cluster, habits);
        pass(40).await;
        writer.end();
        cluster.calm(1);
        end_alike(&cluster).await;
    });
}

/// Segments are written slowly: appends wait, and memory does not grow.
#[test]
fn appends_wait_while_what_came_before_is_brought_into_segments() {
    let bugs = [(Bug::NothingWaitsForFlushes, "P9")];
    tell_and_plant(39, Setup::peers(1), &bugs, |cluster| async move {
        cluster.slow_down(0, 60_000);
        cluster.start_all();
        // Small enough to wait in the journal, rather than to go to a segment at once.
        let habits = Habits { pause_ms: 0, entries_max: 8, ..synced(&[0]) };
        let writers: Vec<Arc<Life>> = (0..6).map(|_| write(&cluster, habits.clone())).collect();
        for _ in 0..80 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            check::check_bounds(&cluster, 0, &cluster.live(0).expect("it runs"));
        }
        writers.iter().for_each(|writer| writer.end());
    });
}

/// A disk syncs slowly while many append: those that there is no room for wait, and are taken in the end.
#[test]
fn appends_wait_for_room_beside_others_that_are_not_answered_yet() {
    let setup = Setup { in_flight_bytes_max: 64 << 10, ..Setup::alike(2) };
    tell_and_plant(65, setup, &[(Bug::AppendsWithoutRoom, "P9")], |cluster| async move {
        cluster.start_all();
        pass(3).await;
        cluster.inject(0, "syncs slowly", Fault::slow_sync(Duration::from_millis(800)));
        let habits = Habits { pause_ms: 10, entries_max: 40, ..synced(&[0]) };
        let writers: Vec<Arc<Life>> = (0..20).map(|_| write(&cluster, habits.clone())).collect();
        let mut most = 0;
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            most = most.max(cluster.live(0).expect("it runs").handle.in_flight_bytes());
        }
        assert!(most > 56 << 10, "no more than {most} bytes were under way: that is no story");
        writers.iter().for_each(|writer| writer.end());
        cluster.calm(0);
        end_alike(&cluster).await;
    });
}

/// A disk syncs for seconds while others write as fast as they can: what came and is not on it yet keeps within its bound,
/// whether it was pushed or asked for, and all of it comes in the end.
#[test]
fn what_others_send_waits_for_a_slow_disk_within_its_bound() {
    let replication =
        ReplicationConfig { taken_bytes_max: 256 << 10, want_bytes_max: 2 << 10, ..REPLICATION };
    let setup = Setup { replication, ..Setup::alike(3) };
    let bugs = [(Bug::TakesWithoutRoom, "P9")];
    tell_and_plant(38, setup, &bugs, |cluster| async move {
        cluster.start_all();
        pass(3).await;
        cluster.inject(2, "syncs slowly", Fault::slow_sync(Duration::from_secs(4)));
        let habits = |site| Habits { pause_ms: 10, ..synced(&[site]) };
        let writers: Vec<Arc<Life>> = (0..4).map(|client| write(&cluster, habits(client % 2))).collect();
        let mut most = 0;
        for _ in 0..12 {
            pass(1).await;
            let live = cluster.live(2).expect("it runs");
            check::check_bounds(&cluster, 2, &live);
            most = most.max(live.handle.remembered().taken_bytes);
        }
        assert!(most > 128 << 10, "no more than {most} bytes waited: that is no story");
        writers.iter().for_each(|writer| writer.end());
        cluster.calm(2);
        end_alike(&cluster).await;
    });
}
