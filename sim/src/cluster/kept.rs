//! What may be trimmed of what was acknowledged: what a deletion named, and what is older than the newest that a topic keeps.
//! Nothing goes by its age here: ages are kept longer than any run lasts, whatever a peer's clock says.
use crate::cluster::model::Model;
use crate::cluster::site::Live;
use conveyor::base::{EntryId, PeerId, RunId, Seq};
use conveyor::log::state::LogState;
use std::collections::BTreeMap;

/// Whether `site` may say of an entry that it is trimmed, among those who are `live`.
pub fn may_be_trimmed(model: &Model, live: &BTreeMap<usize, Live>, site: &Live, id: &EntryId) -> bool {
    let ends = model.deletions(id.topic);
    // How runs go on from each other is not known everywhere; that there are so many newer ones is.
    let is_surplus = |count| {
        look(site, id, |state| is_surplus(state, id, count)) || model.reaches(id, id.seq.after(count))
    };
    model.may_trim_all(id.topic)
        || model.keeps_newest(id.topic).is_some_and(is_surplus)
        // A site that never held the first batch of a run does not know what that goes on from.
        || live.values().any(|live| look(live, id, |state| is_deleted(state, id, ends)))
}

fn look(live: &Live, id: &EntryId, is_so: impl FnOnce(&LogState) -> bool) -> bool {
    live.handle.store().log(&id.log()).is_some_and(|log| is_so(&log.look()))
}

/// Whether so many newer entries stand behind it, in its run or in one that goes on from there, also such as are only known
/// from what its peer signed of where it starts.
fn is_surplus(state: &LogState, id: &EntryId, count: u64) -> bool {
    // Of the leaf itself perhaps less is here than its peer signed of it.
    let is_before = |leaf: RunId, run: RunId, end: Seq| run == id.run && (run == leaf || id.seq < end);
    let is_on_the_way = |leaf: RunId| state.chain(leaf).any(|(run, end)| is_before(leaf, run.id, end));
    let runs = state.runs.iter().map(|run| (run.id, run.until));
    let mut ends = runs.chain(state.heads.iter().map(|(head, _)| (head.run, head.until)));
    ends.any(|(leaf, until)| id.seq.after(count) < until && is_on_the_way(leaf))
}

/// Whether a deletion named its run, or one that goes on from it, up to a number behind it.
fn is_deleted(state: &LogState, id: &EntryId, ends: &[(PeerId, RunId, Seq)]) -> bool {
    let of_log = ends.iter().filter(|(peer, _, until)| *peer == id.peer && id.seq < *until);
    of_log.into_iter().any(|(_, run, _)| {
        *run == id.run || state.chain(*run).any(|(before, end)| before.id == id.run && id.seq < end)
    })
}
