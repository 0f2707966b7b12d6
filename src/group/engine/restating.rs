//! When what counts is said again, and how much of the own log may go then.
use super::*;

/// What counts is being said again.
#[derive(Debug)]
pub(super) struct Restating {
    /// What was on its way when it was put together: it is not in it.
    meanwhile: BTreeSet<Ticket>,
    /// Parts that are on their way.
    left: usize,
    /// The first entry to keep.
    keep: Option<EntryId>,
    has_failed: bool,
}

/// Own writes after which what counts is said again, at least.
pub(super) const OWN_COUNT_MAX: usize = 2_000;

impl Engine {
    /// Says again what counts, when there is much that does not.
    pub(super) fn restate(&mut self, outputs: &mut Vec<Output>) {
        if self.own_count < self.own_count_max
            || self.restating.is_some()
            || self.early.is_some()
            || self.is_stopped
        {
            return;
        }
        let meanwhile = self.desk.appends.keys().copied().collect();
        let parts = self.fold.restate();
        // Where very much counts, it is said more rarely.
        self.own_count_max = OWN_COUNT_MAX.max(parts.len() * 500);
        self.restating = Some(Restating { meanwhile, left: parts.len(), keep: None, has_failed: false });
        for write in parts {
            let ticket = self.desk.number();
            outputs.push(Output::Append { ticket, write: write.clone() });
            self.desk.appends.insert(ticket, Append { write, purpose: Purpose::Restate });
        }
    }

    /// Something that was on its way is written, or could not be.
    pub(super) fn restated(
        &mut self,
        ticket: Ticket,
        is_part: bool,
        id: Option<EntryId>,
        outputs: &mut Vec<Output>,
    ) {
        let Some(restating) = &mut self.restating else {
            return;
        };
        if is_part || restating.meanwhile.contains(&ticket) {
            // Whichever is reported first: the lowest stays, and all behind it.
            restating.keep = restating.keep.into_iter().chain(id).min_by_key(|id| id.seq);
        }
        if !is_part {
            return;
        }
        restating.left -= 1;
        restating.has_failed |= id.is_none();
        if restating.left > 0 {
            return;
        }
        match restating.keep.filter(|_| !restating.has_failed) {
            Some(before) => {
                self.own_count = 0;
                outputs.push(Output::Trim { before });
            }
            None => self.own_count = self.own_count_max / 2,
        }
        self.restating = None;
    }
}
