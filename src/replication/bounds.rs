//! What others make this store remember and do, and no more.
//!
//! | what | bound | beyond it |
//! |---|---|---|
//! | runs that a session offers | its share of [`OFFERED_RUNS_MAX`] | passed over; compared again once half of them came |
//! | ranges of an offered run | [`OFFERED_RANGES_MAX`] | the last are passed over, likewise |
//! | names of topics, origins of runs | those of runs that are offered or on their way | passed over |
//! | heads, and ranges declared lost, of a log | [`STATED_MAX`] | passed over |
//! | neighbors of a session | [`NEIGHBORS_MAX`] | passed over |
//! | buckets looked at in a message | [`BUCKETS_MAX`], apart from each other | passed over |
//! | buckets that differ, followed at once | [`DIFFERING_MAX`], others each time | compared again when it is quiet |
//! | logs told of for one message | [`TOLD_MAX`] | the next comparison |
//! | answers with batches open to a session | [`SERVES_MAX`] | `Busy` |
//! | peers whose entries a session has from elsewhere | [`ELSEWHERE_MAX`] | pushed to it all the same |
//! | peers of whom it is known who pushes | [`PUSHERS_MAX`] | all are learned anew |
//! | ranges told of that a push may bring | [`TOLD_OF_MAX`], twice | asked for at once |
//! | batches taken and not durable yet, in bytes | [`TAKEN_BYTES_MAX`] | not asked for, and not taken (`room.rs`) |
//!
//! What is passed over is found again by a later comparison, so that a bound costs time and never entries.
use crate::base::limits::BATCH_BYTES_MAX;
use crate::base::planted::{self, Bug};
use crate::base::{LogId, PeerId, RunId, Seq, StoreId, TopicName};
use crate::replication::engine::Replication;
use crate::replication::session::{RunKey, Session};
use crate::wire::peer::RunRange;

// The largest batch can be taken though another one waits beyond what may wait, and as much is on its way to the disk.
const _: () = assert!(TAKEN_BYTES_MAX / 2 > 3 * (BATCH_BYTES_MAX + (1 << 20)));
const _: () = assert!(TAKEN_BYTES_MAX / 2 >= LEASES_MAX << 20);

/// Runs that all sessions together offer. Sessions that were there before others have what they offered then, so that it may
/// be somewhat more for a while.
pub const OFFERED_RUNS_MAX: usize = 1 << 16;
/// So many sessions share that at least, so that the first leaves room for the next.
pub const OFFERED_SHARES_MIN: usize = 8;
/// Ranges of one run that one session offers.
pub const OFFERED_RANGES_MAX: usize = 64;
/// Heads of one log, and ranges of it that were declared lost: one of each for every run at most, which is one each start.
pub const STATED_MAX: usize = 100_000;
/// Ranges of one run that one store said it holds, while appends wait for that. Of what is beyond, a summary says the same
/// again.
pub const SAID_RANGES_MAX: usize = 64;
/// Pairs of a store and a peer for which it is remembered whom to tell.
pub const LISTENERS_MAX: usize = 1_024;
/// Pieces that are asked for at once, of all stores: each is one answer of 1 MiB, or one batch. Beyond that each store is
/// asked for one, so that nobody who does not answer keeps others from it.
pub const LEASES_MAX: usize = 64;
/// Peers of whom it is remembered that a store has what they write from elsewhere.
pub const ELSEWHERE_MAX: usize = 1_000;
/// Peers of whom it is remembered who pushed what they wrote last.
pub const PUSHERS_MAX: usize = 10_000;
/// Ranges that were told of and are expected to be pushed by another, in one second; what is beyond is asked for at once.
pub const TOLD_OF_MAX: usize = 1_024;
/// Neighbors of one store that are remembered.
pub const NEIGHBORS_MAX: usize = 1_000;
/// Buckets of one message that are looked at.
pub const BUCKETS_MAX: usize = 16 * DIFFERING_MAX;
/// Buckets that are followed to their parts or logs at once.
pub const DIFFERING_MAX: usize = 512;
/// Logs that are told of, or asked about, for one message.
pub const TOLD_MAX: usize = 1_024;
/// Messages with summaries are cut when they have about this many bytes.
pub const LOGS_BYTES_MAX: usize = 128 << 10;
/// Answers with batches that are open to one session: twice what one of ours asks for at once.
pub const SERVES_MAX: usize = 16;
/// Memory of batches that were taken from others and are not durable yet: 48 MiB that wait for what comes before them, 16 MiB
/// on their way to the disk, and 64 answers of 1 MiB that were asked for by then.
pub const TAKEN_BYTES_MAX: usize = 128 << 20;
/// Pause asked of a store that wants more than that, in milliseconds.
pub const BUSY_MS: u32 = 500;

/// Time without wants after which a session is quiet, in milliseconds.
const QUIET_MS: u64 = 2_000;
/// Time between two looks for what need not be remembered any more, in milliseconds.
const PRUNE_MS: u64 = 1_000;

impl Session {
    /// It says that it holds a range; of so many runs at most. Whether that is taken note of.
    pub(super) fn offer_within(&mut self, range: &RunRange, runs_max: usize) -> bool {
        let key = (range.log, range.run);
        if planted::is(Bug::OffersWithoutBound) {
            self.offer(range);
            return true;
        }
        if !self.offers.contains_key(&key) && self.offers.len() >= runs_max {
            self.is_cut = true;
            return false;
        }
        self.offer(range);
        self.bound_offer(key);
        true
    }

    /// Passes over the last ranges of a run where they are too many: one more comes to be also where some of one is taken out.
    pub(super) fn bound_offer(&mut self, key: RunKey) {
        if let Some(offered) = self.offers.get_mut(&key)
            && offered.iter().len() > OFFERED_RANGES_MAX
            && !planted::is(Bug::OffersWithoutBound)
        {
            offered.truncate(OFFERED_RANGES_MAX);
            self.is_cut = true;
        }
    }
}

impl Replication {
    /// Runs that one session may offer.
    pub(super) fn runs_share(&self) -> usize {
        self.config.offered_runs_max / self.sessions.len().max(OFFERED_SHARES_MIN)
    }

    /// What a run that somebody offers goes on from, and the name of its topic.
    pub(super) fn remember(&mut self, now_ms: u64, key: RunKey, topic: &TopicName, origin: (RunId, Seq)) {
        if !self.offered.holds(key) {
            return;
        }
        let runs_max = self.config.offered_runs_max;
        if self.parents.len().max(self.names.len()) >= runs_max && self.next_prune_ms <= now_ms {
            self.next_prune_ms = now_ms + PRUNE_MS;
            self.prune();
        }
        if self.parents.len() < runs_max {
            self.parents.entry(key).or_insert(origin);
        }
        if self.held.topic(&key.0.topic).is_none() && self.names.len() < runs_max {
            self.names.entry(key.0.topic).or_insert_with(|| topic.clone());
        }
    }

    /// Forgets names and origins of what nobody offers and nothing is on its way of.
    pub(super) fn prune(&mut self) {
        let (offered, taken) = (&self.offered, &self.taken);
        self.parents.retain(|key, _| offered.holds(*key) || taken.contains_key(key));
        self.names.retain(|topic, _| {
            let first = (LogId { topic: *topic, peer: PeerId([0; 32]) }, RunId(0));
            let is_of = |key: Option<RunKey>| key.is_some_and(|key| key.0.topic == *topic);
            is_of(offered.next(first)) || is_of(taken.range(first..).next().map(|(key, _)| *key))
        });
    }

    /// Sessions whose comparison passed something over, and for which there is room again.
    pub(super) fn compare_rest(&mut self, now_ms: u64) {
        let share = self.runs_share();
        for session in self.sessions.values_mut().filter(|session| session.is_cut) {
            if session.offers.len() <= share / 2 && session.wanted_ms + QUIET_MS <= now_ms {
                session.is_cut = false;
                session.compare_ms = session.compare_ms.min(now_ms);
            }
        }
    }

    /// Whether one more answer with batches may be open to a store; if so, it is.
    pub(super) fn begin_serving(&mut self, now_ms: u64, to: StoreId) -> bool {
        if let Some(session) = self.sessions.get_mut(&to) {
            session.wanted_ms = now_ms;
        }
        let open = self.serving.entry(to).or_default();
        let has_room = *open < SERVES_MAX;
        *open += usize::from(has_room);
        has_room
    }

    /// An answer with batches has ended.
    pub(super) fn end_serving(&mut self, to: StoreId) {
        if let Some(open) = self.serving.get_mut(&to) {
            *open = open.saturating_sub(1);
            if *open == 0 {
                self.serving.remove(&to);
            }
        }
    }
}

#[cfg(test)]
mod tests;
