//! How far a group has come, on its way into the log: so that acknowledgements need not be said again for ever, and whoever
//! hands out next need not read what is done.
use crate::base::Cursor;
use crate::group::desk::{Ctx, Purpose};
use crate::group::dispense::Dispense;
use crate::group::write::GroupWrite;
use crate::topic::catalog::WriteId;
use std::collections::BTreeMap;

/// Entries that are done since it was last said how far the group is, from which on it is said again.
const DONE_COUNT: usize = 1000;
/// When there were fewer, it is said after so many milliseconds.
const PROGRESS_MS: u64 = 5_000;

/// What is to be said.
#[derive(Debug, Default)]
pub struct Progress {
    /// For the epochs of each reading how far it is.
    reached: BTreeMap<Vec<WriteId>, Cursor>,
    done_count: usize,
    since_ms: Option<u64>,
    in_flight: usize,
}

impl Progress {
    /// Entries are done.
    pub fn note(&mut self, now_ms: u64, count: usize) {
        if count > 0 {
            self.done_count += count;
            self.since_ms.get_or_insert(now_ms);
        }
    }

    /// The epoch is over.
    pub fn begin_anew(&mut self) {
        let in_flight = self.in_flight;
        *self = Self { in_flight, ..Self::default() };
    }

    /// When it is said next.
    pub fn next_wake(&self) -> Option<u64> {
        let waits = self.in_flight == 0 && !self.reached.is_empty();
        self.since_ms.filter(|_| waits).map(|since| since + PROGRESS_MS)
    }
}

impl Dispense {
    /// Says how far the group is, when it is time.
    pub(super) fn send_progress(&mut self, ctx: &mut Ctx<'_>) {
        for reading in &mut self.readings {
            if let Some(reached) = reading.advance() {
                self.progress.reached.insert(reading.epochs.clone(), reached);
            }
        }
        let progress = &mut self.progress;
        let is_over = progress.since_ms.is_some_and(|since| since + PROGRESS_MS <= ctx.now.mono_ms);
        if progress.in_flight > 0
            || progress.reached.is_empty()
            || !(is_over || progress.done_count >= DONE_COUNT)
        {
            return;
        }
        (progress.done_count, progress.since_ms) = (0, None);
        for (epochs, done) in std::mem::take(&mut progress.reached) {
            progress.in_flight += 1;
            ctx.append(GroupWrite::Progress { group: self.name.clone(), epochs, done }, Purpose::Progress);
        }
    }

    /// It was said, or could not be: the next says more.
    pub fn progress_logged(&mut self) {
        self.progress.in_flight = self.progress.in_flight.saturating_sub(1);
    }
}
