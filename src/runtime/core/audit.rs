//! Whether replication's books say what the log's say. Both follow the same rules from the same events; where they part,
//! entries are never asked for, or offered although they are not here. And how much is remembered of others. Only the
//! simulator pays for looking.
use crate::base::{Fork, RunId};
use crate::log::state::LogState;
use crate::log::store::Log;
use crate::replication::Remembered;
use crate::replication::held::HeldLog;
use crate::replication::ranges::Ranges;
use crate::runtime::core::Core;
use crate::runtime::handle::Handle;
use crate::runtime::peers::held_ranges;
use crate::runtime::shared::lock;
use std::collections::{BTreeMap, BTreeSet};

impl Core {
    /// Keeps the first difference, for [`Handle::books_differ`], and what the handle answers beside that. While a step is
    /// under way the log is ahead.
    pub(super) fn audit(&self) {
        *lock(&self.shared.remembered) = self.node.replication().remembered();
        *lock(&self.shared.open_runs) = self.node.open_runs();
        if !self.at_disk.is_empty() || self.stopped.is_some() || self.leaving > 0 {
            return;
        }
        let held = self.node.replication().held();
        for log in self.shared.store.logs() {
            if let Some(difference) = difference(&log, held.log(&log.id)) {
                let mut differs = lock(&self.shared.books_differ);
                differs.get_or_insert_with(|| format!("{:?}: {difference}", log.id));
            }
        }
    }
}

impl Handle {
    /// Where replication's books and the log's were seen to say different things, if ever.
    pub fn books_differ(&self) -> Option<String> {
        lock(&self.shared.books_differ).clone()
    }

    /// How much it remembers of what other peers said and sent, as of the last second.
    pub fn remembered(&self) -> Remembered {
        *lock(&self.shared.remembered)
    }

    /// The runs that it writes, each with the one that it goes on from, as of the last second.
    pub fn open_runs(&self) -> BTreeMap<RunId, RunId> {
        lock(&self.shared.open_runs).clone()
    }
}

fn difference(log: &Log, held: Option<&HeldLog>) -> Option<String> {
    let (state, none) = (log.look(), HeldLog::default());
    let held = held.unwrap_or(&none);
    let mut here: BTreeMap<_, Ranges> = BTreeMap::new();
    for of_run in held_ranges(&state, log.id) {
        here.entry(of_run.range.run).or_default().insert(of_run.range.from, of_run.range.until);
    }
    // A log that nothing is held of says nothing of its links: what a run ends with is compared where it is held to there.
    let links = held_ranges(&state, log.id).into_iter().filter(|held| held.range.from < held.range.until);
    let ends: BTreeMap<_, _> = links.map(|held| (held.range.run, (held.range.until, held.link))).collect();
    let of_runs = state.runs.iter().map(|run| (run.id, here.remove(&run.id).unwrap_or_default()));
    for (run, here) in of_runs {
        let told = held.run(run).map(|run| run.ranges.clone()).unwrap_or_default();
        if here != told {
            return Some(format!("of {} the log holds {here:?}, others are told {told:?}", run.short()));
        }
        let (end, link) = ends.get(&run).copied().unwrap_or_default();
        let link_told = held.run(run).map_or(0, |run| run.link);
        if link != 0 && link != link_told {
            return Some(format!(
                "{} ends at {end} with {link:x}, others are told {link_told:x}",
                run.short()
            ));
        }
    }
    difference_of_trims(&state, held).or_else(|| difference_of_forks(&state, held))
}

fn difference_of_forks(state: &LogState, held: &HeldLog) -> Option<String> {
    let named = |forks: &[Fork]| -> BTreeSet<_> {
        let of_fork = |fork: &Fork| fork.branches().map(|branch| (branch, fork.run, fork.from()));
        forks.iter().flat_map(of_fork).collect()
    };
    let (here, told) = (named(&state.forks), named(held.forks()));
    (here != told).then(|| format!("the log has the forks {here:?}, others are told {told:?}"))
}

fn difference_of_trims(state: &LogState, held: &HeldLog) -> Option<String> {
    let heads: Vec<_> = state.heads.iter().map(|(head, _)| (head.run, head.start, head.until)).collect();
    let told: Vec<_> = held.heads().iter().map(|(head, _)| (head.run, head.start, head.until)).collect();
    if heads != told {
        return Some(format!("the log has the heads {heads:?}, others are told {told:?}"));
    }
    for run in state.runs.iter() {
        let Some(told) = held.run(run.id) else { continue };
        let (here, there) =
            ((run.parent, run.from, state.begin_of(run)), (told.parent, told.from, told.begin()));
        if here != there {
            return Some(format!("{} is {here:?} in the log and {there:?} to others", run.id.short()));
        }
    }
    None
}
