//! What tests of several parts of the log, and of those who read it, have in common.
use crate::base::{Digest, RunId, Seq, Timestamp};
use crate::log::state::{LogState, Run};

/// A log of runs, of which each is its name, the run it goes on from, its first number, and the one behind its last.
pub(crate) fn state(runs: &[(u64, u64, u64, u64)]) -> LogState {
    let run = |&(id, parent, from, until): &(u64, u64, u64, u64)| Run {
        id: RunId(id),
        parent: RunId(parent),
        from: Seq(from),
        until: Seq(until),
        start: Seq::FIRST,
        last_time: Timestamp(until),
        link: Digest::ZERO,
        previous: Digest::ZERO,
    };
    LogState { runs: runs.iter().map(run).collect::<Vec<_>>().into(), ..LogState::new() }
}

/// Numbers drawn by lot, below what is asked for, the same in every run: a linear congruential generator (Knuth's MMIX).
pub(crate) fn drawn(mut random: u64) -> impl FnMut(u64) -> u64 {
    move |bound| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % bound
    }
}
