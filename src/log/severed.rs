//! Runs of which the end is gone without a trace, after damage: what goes on from them says how far they reached.
//!
//! ```text
//! r1 [1..40)  50 <── r2 [50..90)         40 to 49 of r1 are damaged, and its last batch is the one that r2 names
//! ```
//!
//! In a log that this peer wrote they were here once. Unless they are told as damage readers wait before them for ever, and
//! there is nothing that could be declared lost.
use crate::base::{Digest, RunId, Seq};
use crate::log::read::{self, Found};
use crate::log::state::{LogState, Range};
use crate::log::store::{Log, Store};

/// Takes what is missing between the end of a run, as it is known, and the run that goes on from it for damage.
pub(crate) fn add_as_damage(store: &Store, log: &Log) {
    let severed = log.look().severed();
    for (parent, child, from) in severed {
        if let Some(link) = named_by(store, log, child, from) {
            log.change().reaches(parent, from, link);
        }
    }
}

/// What the first batch of a run names as the one before it, where that batch is here.
fn named_by(store: &Store, log: &Log, run: RunId, first: Seq) -> Option<Digest> {
    match read::read(store, log, run, first, 1, &mut None) {
        Ok(Found::Batches(batches)) => {
            let s = batches.first()?.statement();
            (s.opens_run && s.first_seq == first).then_some(s.previous)
        }
        _ => None,
    }
}

impl LogState {
    /// Runs that another goes on from behind their end, as it is known, where more is kept: with that other, and where it
    /// does.
    fn severed(&self) -> Vec<(RunId, RunId, Seq)> {
        let severed = |child: &crate::log::state::Run| {
            let parent = self.run(child.parent)?;
            let is_severed = child.has_beginning() && parent.until.max(parent.start) < child.from;
            // A run that forked ends there, whatever goes on from a branch of it that is not here.
            let is_severed = is_severed && self.cut_of(parent.id).is_none();
            is_severed.then_some((parent.id, child.id, child.from))
        };
        self.runs.iter().filter_map(severed).collect()
    }

    /// A run was here up to `until`, and its last batch is known by `link`.
    fn reaches(&mut self, run: RunId, until: Seq, link: Digest) {
        let Some(index) = self.runs.index_of(run).filter(|index| self.runs[*index].until < until) else {
            return;
        };
        let known = self.runs.change(index);
        let from = known.until.max(known.start);
        (known.until, known.link) = (until, link);
        self.add_damage(Range { run, from, until });
    }
}
