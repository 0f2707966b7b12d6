//! How long steps take, and where: counted in buckets, so that a slow flush in a hundred shows.
//!
//! ```text
//! first input ── gather ──> closed ── seal ──> hashed, signed ── sync ──> durable ── release ──> answers left
//!                             └───────────────── whole ───────────────────┘
//! ```
//!
//! A step that is sealed while the one before it is synced waits in between: that is in the whole, and in no part.
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::time::Duration;

/// Upper bounds of the buckets in microseconds; one more bucket holds what took longer.
pub const BOUNDS_MICROS: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000,
];
const BUCKETS: usize = BOUNDS_MICROS.len() + 1;

/// Durations, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// How many fell into each bucket: at most its bound, and longer than the bound before.
    pub counts: [u64; BUCKETS],
    /// What all of them come to, in microseconds.
    pub micros: u64,
}

impl Times {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// How long the steps took that were written since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StepTimes {
    /// From closing a step until it was durable.
    pub whole: Times,
    /// From its first input until it was closed.
    pub gather: Times,
    /// Hashing and signing.
    pub seal: Times,
    /// Writing and flushing.
    pub sync: Times,
    /// From its being durable until its answers had left.
    pub release: Times,
    /// For appends that wait for other peers: from being durable here until enough of them hold it.
    pub copies: Times,
}

/// Counts durations; cheap enough for every step.
#[derive(Debug, Default)]
pub(super) struct Timer {
    counts: [AtomicU64; BUCKETS],
    micros: AtomicU64,
}

impl Timer {
    /// Counts one.
    pub(super) fn add(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_MICROS.partition_point(|bound| *bound < micros);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    fn read(&self) -> Times {
        let counts = std::array::from_fn(|index| self.counts[index].load(Ordering::Relaxed));
        Times { counts, micros: self.micros.load(Ordering::Relaxed) }
    }
}

/// One timer for each part of a step.
#[derive(Debug, Default)]
pub(super) struct Timers {
    pub(super) whole: Timer,
    pub(super) gather: Timer,
    pub(super) seal: Timer,
    pub(super) sync: Timer,
    pub(super) release: Timer,
    pub(super) copies: Timer,
}

impl Timers {
    /// What was counted.
    pub(super) fn read(&self) -> StepTimes {
        StepTimes {
            whole: self.whole.read(),
            gather: self.gather.read(),
            seal: self.seal.read(),
            sync: self.sync.read(),
            release: self.release.read(),
            copies: self.copies.read(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_bucket_whose_bound_it_does_not_pass() {
        let timer = Timer::default();
        for micros in [0, 100, 101, 10_000_000, 10_000_001, 99_000_000] {
            timer.add(Duration::from_micros(micros));
        }
        let times = timer.read();
        let (first, last) = ([2, 1, 0], [0, 1, 2]);
        assert_eq!((&times.counts[..3], &times.counts[BUCKETS - 3..]), (&first[..], &last[..]));
        assert_eq!((times.count(), times.micros), (6, 119_000_202));
        assert!(BOUNDS_MICROS.is_sorted());
    }
}
