//! What peers wrote that sign two contents for one id. Such an entry has one name in its run, until that is known to have
//! forked, and another in a branch from then on; so it is known by what it is: its log, number, time and payload.
//!
//! ```text
//! run/12 (payload 7) ──> the run is known to have forked at 10 ──> a/12 (payload 7), b/12 (payload 9): both are owed
//! ```
//!
//! A store takes note of so many forks of a log and no more: beyond that nothing is promised of it. Nor is it where a cheat
//! keeps back what comes before a fork, or one side of it, from there on: who heard of that while it was here knows the
//! branches, others do not, and readers wait before the hole at either.
use crate::cluster::check::is_behind_a_hole;
use crate::cluster::follower::{Given, runs_at};
use crate::cluster::model::{Fact, Model, Owed, nonce_of};
use crate::cluster::site::Live;
use crate::cluster::{Cluster, Topic, lock};
use conveyor::base::limits::FORKS_MAX;
use conveyor::base::{Durability, EntryId, EntryView, Fork, LogId, RunId, Seq};
use conveyor::log::read::{self, Single};
use conveyor::log::state::{LogState, Run};
use conveyor::log::store::{Log, Store};
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
    pub fn lose(&mut self, site: usize, keeps: impl Fn(&Content, Durability) -> bool) {
        self.owed.retain(|content, owed| {
            let is_lost = owed.holders.contains(&site) && !keeps(content, owed.level);
            !is_lost || (owed.holders.remove(&site) && !owed.holders.is_empty())
        });
    }

    /// Takes note of what a site holds.
    pub fn count_in(&mut self, site: usize, holds: impl Fn(&Content) -> bool) {
        for (content, owed) in &mut self.owed {
            if !owed.holders.contains(&site) && holds(content) {
                owed.holders.insert(site);
            }
        }
    }

    /// What is owed.
    pub fn owed(&self) -> impl Iterator<Item = (&Content, &Owed)> {
        self.owed.iter()
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

/// Below which number something is promised of a log: of one with as many forks as are kept nothing, of a cheat's what lies
/// before everything that it keeps back from anybody, and of all others everything.
pub fn promised_below(model: &Model, id: &LogId, live: &BTreeMap<usize, Live>) -> Seq {
    let hangs = |state: &LogState, fork: &Fork| state.run(fork.run).is_none_or(|run| run.until < fork.from());
    let of = |log: Arc<Log>| {
        let state = log.look();
        if state.forks.len() >= FORKS_MAX {
            return Seq(0);
        }
        if !model.is_cheat(&id.peer) {
            return Seq(u64::MAX);
        }
        let hanging = state.forks.iter().filter(|fork| hangs(&state, fork)).map(Fork::from);
        let holes = state.holes().into_iter().map(|hole| hole.from);
        let is_orphan = |run: &&Run| run.parent.is_some() && state.run(run.parent).is_none();
        let orphans = state.runs.iter().filter(is_orphan).map(|run| run.from);
        hanging.chain(holes).chain(orphans).min().unwrap_or(Seq(u64::MAX))
    };
    let logs = live.values().filter_map(|live| live.handle.store().log(id));
    logs.map(of).min().unwrap_or(Seq(u64::MAX))
}

/// Whether something is promised of an entry.
pub fn is_promised(model: &Model, id: &EntryId, live: &BTreeMap<usize, Live>) -> bool {
    !model.is_two_faced(&id.peer) || id.seq < promised_below(model, &id.log(), live)
}

/// The names under which a store holds something.
pub fn names_of(store: &Store, (id, seq, fact): &Content) -> Vec<EntryId> {
    let Some(log) = store.log(id) else { return Vec::new() };
    let runs: Vec<RunId> = log.look().runs.iter().map(|run| run.id).collect();
    let name = |run| EntryId { topic: id.topic, peer: id.peer, run, seq: *seq };
    let is_it = |id: &EntryId| match read::get(store, &log, id) {
        Ok(Single::Entry(time, raw, _)) => {
            let view = EntryView::parse(&raw);
            time == fact.time && view.is_ok_and(|view| nonce_of(view.payload) == Some(fact.nonce))
        }
        _ => false,
    };
    runs.into_iter().map(name).filter(is_it).collect()
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
        let is_promised = *seq < promised_below(&model, log, live);
        if !is_promised || model.is_trimmed(topic.id()) || model.is_cheat(&log.peer) {
            continue;
        }
        let is_among = owed.holders.iter().any(|holder| live.contains_key(holder));
        let must = |site: &usize| (cluster.setup.converges && is_among) || owed.holders.contains(site);
        for (site, here) in here.iter().filter(|(site, _)| must(site)) {
            assert!(
                here.contains(content) || is_waited_before(&live[site], content),
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

/// Whether something is held, and readers wait before it for what is lost for good.
fn is_waited_before(live: &Live, content: &Content) -> bool {
    names_of(live.handle.store(), content).iter().any(|id| is_behind_a_hole(live, id))
}

fn check_forks(cluster: &Cluster, model: &Model, topic: Topic, live: &BTreeMap<usize, Live>) {
    let mut known: BTreeMap<LogId, (usize, BTreeSet<RunId>)> = BTreeMap::new();
    for (site, of_site) in live {
        for log in of_site.handle.store().logs_of(topic.id()) {
            let below = promised_below(model, &log.id, live);
            let forks = log.look().forks.clone();
            let promised = forks.iter().filter(|fork| fork.from() < below);
            let branches: BTreeSet<RunId> = promised.flat_map(|fork| fork.branches()).collect();
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
