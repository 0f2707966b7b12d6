//! What peers wrote that sign two contents for one id. Such an entry has one name in its run, until that is known to have
//! forked, and another in a branch from then on; so it is known by what it is: its log, number, time and payload.
//!
//! ```text
//! run/12 (payload 7) ──> the run is known to have forked at 10 ──> a/12 (payload 7), b/12 (payload 9): both are owed
//! ```
//!
//! A store takes note of so many forks of a log and no more: beyond that nothing is promised of it. Nor is it where a cheat
//! keeps back what comes before a fork, or one side of it: who heard of that while it was here knows the branches, others do
//! not, and readers wait before the hole at either. Nor where two machines began one run at two numbers: nothing that both go
//! on from proves that.
use crate::cluster::follower::{Given, runs_at};
use crate::cluster::model::{Fact, Model, Owed};
use crate::cluster::site::Live;
use crate::cluster::{Cluster, Topic, lock};
use conveyor::base::limits::FORKS_MAX;
use conveyor::base::{Durability, EntryId, Fork, LogId, RunId, Seq};
use conveyor::log::state::{LogState, Run};
use conveyor::log::store::Log;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// An entry, whatever its name is.
pub type Content = (LogId, Seq, Fact);

/// What is owed of it.
#[derive(Debug, Default)]
pub struct Written {
    owed: BTreeMap<Content, Owed>,
}

impl Written {
    /// It was acknowledged, or read, at a site.
    pub fn add(&mut self, content: Content, level: Durability, site: usize) {
        let new = || Owed { level, holders: BTreeSet::new() };
        let owed = self.owed.entry(content).or_insert_with(new);
        owed.level = owed.level.max(level);
        owed.holders.insert(site);
    }

    /// A site is about to lose what `keeps` does not keep.
    pub fn lose(&mut self, site: usize, keeps: impl Fn(&EntryId, Durability) -> bool) {
        self.owed.retain(|(log, seq, _), owed| {
            let id = EntryId { topic: log.topic, peer: log.peer, run: RunId::NONE, seq: *seq };
            let is_lost = owed.holders.contains(&site) && !keeps(&id, owed.level);
            !is_lost || (owed.holders.remove(&site) && !owed.holders.is_empty())
        });
    }

    /// Whether nothing of it is held by one site alone.
    pub fn is_held_beside(&self, site: usize) -> bool {
        let only = BTreeSet::from([site]);
        self.owed.values().all(|owed| owed.holders != only)
    }

    /// Nobody can say any more what a site holds.
    pub fn mistrust(&mut self, site: usize) {
        self.owed.values_mut().for_each(|owed| _ = owed.holders.remove(&site));
    }
}

/// Whether there is room for more forks of a log wherever it is held, a cheat shows all of it, and each run begins where it does
/// everywhere: else nothing is promised of it.
pub fn is_within_bounds(model: &Model, id: &LogId, live: &BTreeMap<usize, Live>) -> bool {
    let hangs = |state: &LogState, fork: &Fork| state.run(fork.run).is_none_or(|run| run.until < fork.from());
    let is_sound = |log: Arc<Log>| {
        let state = log.look();
        let lacks = || state.forks.iter().any(|fork| hangs(&state, fork)) || !state.holes().is_empty();
        state.forks.len() < FORKS_MAX && !(model.is_cheat(&id.peer) && lacks())
    };
    let logs = || live.values().filter_map(|live| live.handle.store().log(id));
    let mut begins: BTreeMap<RunId, Seq> = BTreeMap::new();
    let mut begins_alike = |log: Arc<Log>| {
        let known = |run: &&Run| run.has_beginning();
        let runs: Vec<Run> = log.look().runs.iter().filter(known).copied().collect();
        runs.iter().all(|run| *begins.entry(run.id).or_insert(run.from) == run.from)
    };
    logs().all(is_sound) && logs().all(&mut begins_alike)
}

/// P1: what was acknowledged or read of what a two-faced peer wrote is there, under the name of the run or of a branch.
/// P4: all know the same forks.
pub fn check_written(
    cluster: &Cluster,
    topic: Topic,
    live: &BTreeMap<usize, Live>,
    given: &BTreeMap<usize, Given>,
) {
    let model = lock(&cluster.model);
    let here: BTreeMap<usize, BTreeSet<Content>> =
        given.iter().map(|(site, given)| (*site, given.contents())).collect();
    let of_topic = model.written().owed.iter().filter(|((log, ..), _)| log.topic == topic.id());
    for (content @ (log, seq, fact), owed) in of_topic {
        // Where entries of a topic go, what went of one branch says nothing of the other. And a cheat that shows everyone something
        // else for each batch leaves stores with what goes on from nothing that they have, which is let go.
        if !is_within_bounds(&model, log, live) || model.is_trimmed(topic.id()) || model.is_cheat(&log.peer) {
            continue;
        }
        let is_among = owed.holders.iter().any(|holder| live.contains_key(holder));
        let must = |site: &usize| (cluster.setup.converges && is_among) || owed.holders.contains(site);
        for (site, here) in here.iter().filter(|(site, _)| must(site)) {
            assert!(
                here.contains(content) || waits(&live[site], log),
                "P1: {seq} of {log:?} with {fact:?} was acknowledged and is not at {site}, which has {:?}: {owed:?}; {}",
                here.iter()
                    .filter(|(of, at, _)| (of, at) == (log, seq))
                    .map(|(.., fact)| fact)
                    .collect::<Vec<_>>(),
                told_runs(cluster, live, log)
            );
        }
    }
    if cluster.setup.converges {
        check_forks(cluster, &model, topic, live);
    }
}

/// What each site knows of the runs of a log.
fn told_runs(cluster: &Cluster, live: &BTreeMap<usize, Live>, log: &LogId) -> String {
    let told = live.keys().map(|site| format!("{site}: {}", runs_at(cluster, *site, log)));
    told.collect::<Vec<_>>().join("; ")
}

/// Whether readers wait in a log for what is not held.
fn waits(live: &Live, log: &LogId) -> bool {
    let log = live.handle.store().log(log);
    log.is_none_or(|log| !log.look().damaged.is_empty() || !log.look().holes().is_empty())
}

fn check_forks(cluster: &Cluster, model: &Model, topic: Topic, live: &BTreeMap<usize, Live>) {
    let mut known: BTreeMap<LogId, (usize, BTreeSet<RunId>)> = BTreeMap::new();
    for (site, of_site) in live {
        for log in of_site.handle.store().logs_of(topic.id()) {
            if !is_within_bounds(model, &log.id, live) {
                continue;
            }
            let branches: BTreeSet<RunId> =
                log.look().forks.iter().flat_map(|fork| fork.branches()).collect();
            let (first, of_first) = known.entry(log.id).or_insert_with(|| (*site, branches.clone()));
            let id = log.id;
            assert_eq!(
                *of_first,
                branches,
                "P4: {first} and {site} know different branches of {id:?}; {}",
                told_runs(cluster, live, &id)
            );
        }
    }
}
