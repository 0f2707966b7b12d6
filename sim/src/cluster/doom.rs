//! A process that dies in the middle of its disk work: at a change of the disk, or when a job is done and nobody was told.
use crate::storage::fuse::Fuse;
use conveyor::disk::Lane;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// When a process dies by itself.
#[derive(Debug)]
pub struct Doom {
    /// Counts changes of the disk.
    pub fuse: Arc<Fuse>,
    /// Jobs of the sync lane that are still done.
    jobs: AtomicI64,
}

impl Default for Doom {
    fn default() -> Self {
        Self { fuse: Arc::default(), jobs: AtomicI64::new(i64::MAX) }
    }
}

impl Doom {
    /// It dies when `count` more jobs of the sync lane are done, before anybody hears of the last.
    pub fn after_jobs(&self, count: u64) {
        self.jobs.store(count as i64, Ordering::Relaxed);
    }

    /// It does not die by itself.
    pub fn lift(&self) {
        self.fuse.mend();
        self.jobs.store(i64::MAX, Ordering::Relaxed);
    }

    /// Whether it may die.
    pub fn is_set(&self) -> bool {
        self.fuse.is_set() || self.jobs.load(Ordering::Relaxed) < i64::MAX / 2
    }

    /// Whether it dies, now that a job of `lane` is done.
    pub fn strikes(&self, lane: Lane) -> bool {
        let is_counted = lane == Lane::Sync && self.is_set();
        let is_last = is_counted && self.jobs.fetch_sub(1, Ordering::Relaxed) <= 1;
        is_last || self.fuse.is_blown()
    }
}
