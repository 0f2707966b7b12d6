//! Clocks that are wrong.
use crate::cluster::faults::Power;
use crate::cluster::scenarios::{append, append_to, end_alike, pass, tell_and_plant};
use crate::cluster::{Cluster, JOBS, METRICS, Setup};
use conveyor::base::planted::Bug;
use conveyor::base::{Retention, TopicSettings};
use conveyor::wire::outcome::{ClockState, TopicChange};

const YEAR_MS: i64 = 366 * 86_400_000;

/// Longer than a clock is watched, in seconds.
const SETTLES_S: u64 = 3_700;

/// By its own clock everything is older than what the topic keeps. It takes appends all the while, and decides nothing
/// that cannot be undone.
#[test]
fn a_peer_a_year_ahead_trims_nothing_by_age_and_comes_back_to_its_senses() {
    let bugs = [(Bug::ClockAlwaysTrusted, "P1")];
    tell_and_plant(40, Setup::alike(3), &bugs, |cluster| async move {
        cluster.start_all();
        pass(3).await;
        let live = cluster.live(1).expect("it runs");
        let retention = Retention { age_ms: Some(86_400_000), ..Retention::default() };
        let settings = TopicSettings { retention, ..TopicSettings::default() };
        let set = live.handle.change_topic(TopicChange::Set { topic: JOBS.name(), settings });
        assert!(set.await.is_ok(), "settings are taken");
        for site in 0..3 {
            append(&cluster, site, 10).await;
        }
        pass(5).await;
        cluster.skew(0, YEAR_MS);
        append(&cluster, 0, 10).await;
        pass(30).await;
        let clock = cluster.live(0).expect("it runs").handle.status().clock;
        assert!(clock != ClockState::Trusted, "P1: a jump of a year is believed");
        append(&cluster, 0, 10).await;
        end_alike(&cluster).await;
        cluster.skew(0, 0);
        pass(10).await;
        // In a run of its own, whose times are those of the others again.
        append(&cluster, 0, 10).await;
        end_alike(&cluster).await;
    });
}

/// A peer a year ahead sets that little of a topic is kept. An administrator sees it and sets otherwise, at a peer whose clock is
/// right: that counts, for what it replaces, and not the time that either has.
#[test]
fn what_an_administrator_sets_beats_what_a_peer_a_year_ahead_set_before() {
    tell_and_plant(41, Setup::alike(3), &[(Bug::ReplacedStillCounts, "P1")], |cluster| async move {
        cluster.skew(0, YEAR_MS);
        cluster.start_all();
        pass(3).await;
        set_kept(&cluster, 0, Some(10)).await;
        end_alike(&cluster).await;
        set_kept(&cluster, 1, None).await;
        end_alike(&cluster).await;
        for site in 0..3 {
            append(&cluster, site, 40).await;
        }
        pass(30).await;
        end_alike(&cluster).await;
        for site in 0..3 {
            cluster.crash(site, Power::Lost).await;
        }
        cluster.start_all();
        pass(30).await;
        end_alike(&cluster).await;
        for live in cluster.all_live().into_values() {
            let settings = live.handle.topic(&JOBS.name()).expect("it is set").settings;
            assert_eq!(settings.retention.count, None, "P1: what was replaced counts");
        }
    });
}

async fn set_kept(cluster: &Cluster, site: usize, count: Option<u64>) {
    let retention = Retention { count, ..Retention::default() };
    let settings = TopicSettings { retention, ..TopicSettings::default() };
    let set = TopicChange::Set { topic: JOBS.name(), settings };
    let set = cluster.live(site).expect("it runs").handle.change_topic(set).await;
    assert!(set.is_ok(), "settings are taken");
}

/// Its clock jumps while it runs, it goes on to write, with those times, and starts again: what it dated itself is no reason to
/// believe the clock. Nor is it where its disk was wiped, and what it wrote before comes back from the others.
#[test]
fn a_peer_that_starts_again_a_year_ahead_is_not_believed_for_what_it_dated_itself() {
    for is_wiped in [false, true] {
        tell_and_plant(42, Setup::alike(2), &[(Bug::ClockAlwaysTrusted, "P1")], move |cluster| async move {
            cluster.start_all();
            pass(3).await;
            append_to(&cluster, METRICS, 0, 20).await;
            end_alike(&cluster).await;
            cluster.skew(0, YEAR_MS);
            append_to(&cluster, METRICS, 0, 5).await;
            end_alike(&cluster).await;
            cluster.crash(0, Power::Stays).await;
            if is_wiped {
                cluster.wipe(0);
            }
            cluster.start_all();
            for _ in 0..3 {
                pass(10).await;
                append_to(&cluster, METRICS, 0, 5).await;
                end_alike(&cluster).await;
            }
        });
    }
}

/// Its clock stays a year ahead for longer than a clock is watched. The others show another time, so nothing of what it wrote
/// goes by its age; nor is it believed at once when it is cut off from them.
#[test]
fn a_clock_that_stays_a_year_ahead_is_not_believed_while_others_show_another_time() {
    tell_and_plant(43, Setup::alike(3), &[(Bug::ClocksOfOthersUnheard, "P1")], |cluster| async move {
        cluster.start_all();
        pass(3).await;
        append_to(&cluster, METRICS, 0, 20).await;
        end_alike(&cluster).await;
        cluster.skew(0, YEAR_MS);
        pass(SETTLES_S).await;
        append_to(&cluster, METRICS, 0, 5).await;
        end_alike(&cluster).await;
        let clock = |site: usize| cluster.live(site).expect("it runs").handle.status().clock;
        let ClockState::Apart { by_ms } = clock(0) else { panic!("P1: it is {:?}", clock(0)) };
        assert!((by_ms - YEAR_MS).abs() < 10_000, "it is {by_ms} ms ahead");
        assert_eq!((clock(1), clock(2)), (ClockState::Trusted, ClockState::Trusted), "two of three agree");
        let cut = cluster.network.block([(0, 1), (1, 0), (0, 2), (2, 0)].into());
        pass(60).await;
        append_to(&cluster, METRICS, 0, 5).await;
        assert!(matches!(clock(0), ClockState::Jumped { .. }), "P1: alone it is {:?}", clock(0));
        cluster.network.open_again(cut);
        cluster.skew(0, 0);
        end_alike(&cluster).await;
    });
}

/// A peer that was away for long finds its clock far ahead of when it was last believed. That others show the same time is enough.
#[test]
fn a_peer_that_was_away_for_long_is_believed_when_others_show_the_same_time() {
    tell_and_plant(
        44,
        Setup::alike(3),
        &[(Bug::ClocksOfOthersUnheard, "its clock is not believed")],
        |cluster| async move {
            cluster.start_all();
            pass(3).await;
            append_to(&cluster, METRICS, 0, 5).await;
            cluster.crash(0, Power::Lost).await;
            pass(900).await;
            cluster.start_all();
            pass(20).await;
            let clock = cluster.live(0).expect("it runs").handle.status().clock;
            assert_eq!(clock, ClockState::Trusted, "its clock is not believed: others show the same time");
            end_alike(&cluster).await;
        },
    );
}
