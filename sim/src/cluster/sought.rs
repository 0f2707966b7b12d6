//! Readers from a time: at each site they are given what a reader from the start is, from that time on.
use crate::cluster::check::read_from;
use crate::cluster::follower::Given;
use crate::cluster::site::Live;
use crate::cluster::{Cluster, Topic, lock};
use conveyor::base::{EntryId, LogId, RunId, Seq, Timestamp};
use conveyor::log::seek::positions_at;
use conveyor::log::state::LogState;
use conveyor::log::store::Log;
use conveyor::log::topic_reader::Start;
use std::collections::BTreeMap;

/// From how many times a topic is read at a site at most.
const TIMES_MAX: usize = 6;

/// P5: a reader from a time gets every entry of that time and later that its site has, once, and nothing older but what
/// comes behind such an entry in its log. `held` is what a reader from the start was given.
pub fn check_sought(cluster: &Cluster, site: usize, live: &Live, topic: Topic, held: &Given) {
    let times: BTreeMap<EntryId, Timestamp> = {
        let model = lock(&cluster.model);
        held.entries
            .iter()
            .filter_map(|id| Some((*id, model.time_of(id).or_else(|| held.time_of(id))?)))
            .collect()
    };
    for time in times_to_seek(&times) {
        let given = read_from(cluster, site, live, topic, Start::Time(time));
        let given = given.unwrap_or_else(|error| panic!("{site} cannot be read from {time:?}: {error}"));
        // Of what a cheat keeps back, the one reader may come to what it waits for before the other does.
        let waits =
            |id: &EntryId| given.waits_for(&id.log()).is_some() && lock(&cluster.model).is_cheat(&id.peer);
        let missed = times.iter().find(|(id, at)| **at >= time && !given.accounts_for(id) && !waits(id));
        assert!(
            missed.is_none(),
            "P5: a reader at {site} from {time:?} passed over {missed:?}: {}",
            missed.map_or_else(String::new, |(id, _)| told(live, &given, &id.log()))
        );
        let older: Vec<EntryId> =
            given.entries.iter().filter(|id| times.get(id).is_some_and(|at| *at < time)).copied().collect();
        // Behind what rot took, reading begins early, also where another copy lies elsewhere.
        if lock(&cluster.model).was_damaged(site) {
            continue;
        }
        let as_new = times.iter().filter(|(_, at)| **at >= time).map(|(id, _)| *id).collect();
        check_older(site, live, time, &older, as_new);
    }
}

/// The times of entries in the middle of some runs.
fn times_to_seek(times: &BTreeMap<EntryId, Timestamp>) -> Vec<Timestamp> {
    let mut of_runs: BTreeMap<(LogId, RunId), Vec<Timestamp>> = BTreeMap::new();
    for (id, time) in times {
        of_runs.entry((id.log(), id.run)).or_default().push(*time);
    }
    // Names of runs are drawn, so that these are any of them.
    let step = of_runs.len().div_ceil(TIMES_MAX).max(1);
    of_runs.values().step_by(step).map(|of_run| of_run[of_run.len() / 2]).collect()
}

fn told(live: &Live, given: &Given, log: &LogId) -> String {
    let Some(of_log) = live.handle.store().log(log) else { return "its log is unknown".to_owned() };
    let runs: Vec<String> = of_log.look().runs.iter().map(crate::cluster::check::told_run).collect();
    format!("{}; runs {}", given.told(log), runs.join(", "))
}

/// What is older came behind an entry that is not, because a clock was set back between them.
fn check_older(site: usize, live: &Live, time: Timestamp, older: &[EntryId], as_new: Vec<EntryId>) {
    let mut first: BTreeMap<(LogId, RunId), Seq> = BTreeMap::new();
    for id in as_new {
        first.entry((id.log(), id.run)).or_insert(id.seq);
    }
    for id in older {
        let Some(log) = live.handle.store().log(&id.log()) else { continue };
        let state = log.look();
        let is_behind = |run: RunId, end: Seq| first.get(&(id.log(), run)).is_some_and(|seq| *seq < end);
        let mut chain = state.chain(id.run).map(|(run, end)| (run.id, end));
        let is_behind = chain.any(|(run, end)| is_behind(run, if run == id.run { id.seq } else { end }));
        assert!(
            is_behind || !is_whole(&state),
            "P5: a reader at {site} from {time:?} is given {id:?}, which is older: {}",
            told_times(live, &log, &state, id, time)
        );
    }
}

/// Where reading from a time begins in a log, and what is known of the run of an entry.
fn told_times(live: &Live, log: &Log, state: &LogState, id: &EntryId, time: Timestamp) -> String {
    let runs: Vec<String> = state
        .runs
        .iter()
        .map(|run| format!("{} to {:?}", crate::cluster::check::told_run(run), run.last_time))
        .collect();
    let spans: Vec<String> = state
        .spans_of(id.run)
        .iter()
        .map(|s| format!("{}..{} {:?} to {:?}", s.from, s.until, s.first_time, s.last_time))
        .collect();
    let begins = positions_at(live.handle.store(), log, time);
    format!("it begins at {begins:?}; runs {}; spans {}", runs.join(", "), spans.join(", "))
}

/// Whether nothing is missing before any entry of a log.
fn is_whole(state: &LogState) -> bool {
    let has_parent = |run: &conveyor::log::state::Run| {
        let is_trimmed = run.start >= run.from && run.start > Seq::FIRST;
        let reaches = state.run(run.parent).is_some_and(|parent| parent.until >= run.from);
        !run.parent.is_some() || (run.has_beginning() && (reaches || is_trimmed))
    };
    state.damaged.is_empty() && state.holes().is_empty() && state.runs.iter().all(has_parent)
}
