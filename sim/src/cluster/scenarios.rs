//! Stories, told by hand: each holds, and goes the same way twice. With a bug put in, it must break what it is about.
use crate::cluster::answers::check_answers;
use crate::cluster::client::{Client, Habits};
use crate::cluster::life::{Life, LifeSpawn};
use crate::cluster::{Cluster, JOBS, METRICS, Setup, Topic, check, run};
use conveyor::base::planted::Bug;
use conveyor::runtime::Spawn;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

mod alone;
mod answers;
mod clocks;
mod copies;
mod deletions;
mod disks;
mod forks;
mod forks_trimmed;
mod groups;
mod liars;
mod partitions;
mod processes;
mod removals;
mod removals_met;
mod tails;

/// Tells a story twice: it holds, and goes the same way.
fn tell<F: Future<Output = ()>>(
    seed: u64,
    setup: Setup,
    story: impl FnOnce(Arc<Cluster>) -> F + Send + Clone + 'static,
) {
    tell_and_plant(seed, setup, &[], story);
}

/// The same, and then once with each of these bugs, which must break the promise that stands beside it.
fn tell_and_plant<F: Future<Output = ()>>(
    seed: u64,
    setup: Setup,
    bugs: &[(Bug, &str)],
    story: impl FnOnce(Arc<Cluster>) -> F + Send + Clone + 'static,
) {
    let first = run(seed, setup, story.clone());
    assert_eq!(first.failure, None, "{:#?}", first.last);
    assert_eq!(run(seed, setup, story.clone()), first, "the same seed, another run");
    for (bug, promise) in bugs {
        let failure = run(seed, Setup { bug: Some(*bug), ..setup }, story.clone()).failure;
        let why = failure.unwrap_or_else(|| "nothing".to_owned());
        assert!(why.contains(&format!("{promise}:")), "{bug:?} should break {promise} and breaks: {why}");
    }
}

fn habits(sites: &[usize]) -> Habits {
    Habits {
        sites: sites.to_vec(),
        topics: vec![JOBS, METRICS],
        pause_ms: 200,
        entries_max: 4,
        retries_max: 5,
        wants_copies: false,
    }
}

/// The same in the topic that is synced and loses nothing to power.
fn synced(sites: &[usize]) -> Habits {
    Habits { topics: vec![JOBS], ..habits(sites) }
}

/// A client that appends until it is ended.
fn write(cluster: &Arc<Cluster>, habits: Habits) -> Arc<Life> {
    let life = Life::new(cluster.recorder.clone());
    LifeSpawn(life.clone()).spawn(Box::pin(Client::new(cluster.clone(), habits).work()));
    life
}

/// So many appends, one after the other, each of which must be acknowledged.
async fn append(cluster: &Arc<Cluster>, site: usize, count: usize) {
    append_to(cluster, JOBS, site, count).await;
}

/// The same to any topic.
async fn append_to(cluster: &Arc<Cluster>, topic: Topic, site: usize, count: usize) {
    let mut client = Client::new(cluster.clone(), Habits { topics: vec![topic], ..synced(&[site]) });
    for _ in 0..count {
        assert!(client.append().await, "{site} takes appends");
    }
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// Waits as long as healthy peers may take until they hold the same, and looks.
async fn end_alike(cluster: &Arc<Cluster>) {
    tokio::time::sleep(check::converged_within()).await;
    check::check_all(cluster);
    check_answers(cluster, true).await;
}
