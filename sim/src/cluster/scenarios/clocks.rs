//! Clocks that are wrong.
use crate::cluster::scenarios::{append, end_alike, pass, tell_and_plant};
use crate::cluster::{JOBS, Setup};
use conveyor::base::planted::Bug;
use conveyor::base::{Retention, TopicSettings};
use conveyor::wire::outcome::{ClockState, TopicChange};

const YEAR_MS: i64 = 366 * 86_400_000;

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
