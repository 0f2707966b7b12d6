//! A disk in memory that knows what power loss would leave, and fails when told to.
//!
//! It promises what [`Disk`] promises and nothing more: each choice that the interface leaves open is made by
//! a seeded generator, so that a run repeats. The order to read in: `content` (bytes of one file), `names`
//! (directories), `faults`, `control` (crash, rot, images), and here the disk itself.
//!
//! A handle lives until the next crash; then it answers an error for ever, and [`DiskControl::crash`] returns
//! the disk as the next process finds it.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Disk, DiskFile, DiskLock, OpenMode, dir_parts, file_parts, lock_held};
use content::{Content, PAGE_BYTES};
use faults::{Op, Verdict, judge};
use file::MemFile;
use inode::Inode;
use names::{Names, Node};
use random::SplitMix64;

mod random;

mod content;
mod inode;
mod names;

mod file;

mod control;
mod faults;

#[cfg(test)]
mod tests;

pub use control::{DiskControl, DiskImage, DiskStats};
pub use faults::Fault;
#[cfg(test)]
pub(super) use random::SplitMix64 as TestRandom;

/// Space on a disk of which nobody said how large it is.
const CAPACITY_DEFAULT: u64 = 1 << 40;

/// One sector in a hundred that was being changed when power went holds neither the old bytes nor the new.
const GARBAGE_PER_MILLE_DEFAULT: u16 = 10;

/// A seeded disk in memory, for tests and simulation.
#[derive(Clone)]
pub struct MemDisk {
    state: Arc<Mutex<State>>,
    epoch: u64,
}

struct State {
    names: Names,
    random: SplitMix64,
    /// Handles of earlier epochs are dead.
    epoch: u64,
    lock: Option<u64>,
    lock_next: u64,
    faults: Vec<Fault>,
    garbage_per_mille: u16,
    capacity: u64,
    page_count: Arc<AtomicU64>,
    sync_cost: Duration,
    sync_cost_last: Duration,
    stats: DiskStats,
}

impl MemDisk {
    /// An empty disk; whatever chance decides on it follows from `seed`.
    pub fn new(seed: u64) -> Self {
        let state = State {
            names: Names::new(),
            random: SplitMix64::new(seed),
            epoch: 0,
            lock: None,
            lock_next: 0,
            faults: Vec::new(),
            garbage_per_mille: GARBAGE_PER_MILLE_DEFAULT,
            capacity: CAPACITY_DEFAULT,
            page_count: Arc::default(),
            sync_cost: Duration::ZERO,
            sync_cost_last: Duration::ZERO,
            stats: DiskStats::default(),
        };
        Self { state: Arc::new(Mutex::new(state)), epoch: 0 }
    }

    /// A disk that holds `image`, all of it durable: a restored backup, or a directory somebody cloned.
    pub fn from_image(seed: u64, image: &DiskImage) -> Self {
        Self::new(seed).control().restore(image)
    }

    /// The hand that breaks it.
    pub fn control(&self) -> DiskControl {
        DiskControl::new(self.state.clone())
    }

    /// What the last sync would have cost on a real device; for whoever lets simulated time pass.
    pub fn last_sync_cost(&self) -> Duration {
        lock_state(&self.state).sync_cost_last
    }

    fn begin(&self, op: Op, path: &str) -> io::Result<MutexGuard<'_, State>> {
        let (state, verdict) = begin(&self.state, self.epoch, op, path, &EVERYWHERE)?;
        if verdict.error { Err(input_output_error()) } else { Ok(state) }
    }
}

fn lock_state(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // A test that panicked elsewhere has its own story; the state is whole between calls.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Every call begins here: is the handle alive?
fn alive(state: &Mutex<State>, epoch: u64) -> io::Result<MutexGuard<'_, State>> {
    let guard = lock_state(state);
    if guard.epoch != epoch {
        return Err(io::Error::other("the disk crashed since this handle was opened"));
    }
    Ok(guard)
}

/// What a call touches that is about a whole file, or about names.
const EVERYWHERE: Range<u64> = 0..u64::MAX;

/// And what goes wrong with the call?
fn begin<'a>(
    state: &'a Mutex<State>,
    epoch: u64,
    op: Op,
    path: &str,
    bytes: &Range<u64>,
) -> io::Result<(MutexGuard<'a, State>, Verdict)> {
    let mut guard = alive(state, epoch)?;
    let State { faults, random, .. } = &mut *guard;
    let verdict = judge(faults, op, path, bytes, random);
    Ok((guard, verdict))
}

/// EIO, as a device answers that cannot.
fn input_output_error() -> io::Error {
    io::Error::from_raw_os_error(5)
}

impl Disk for MemDisk {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let parts = file_parts(path)?;
        let mut state = self.begin(Op::Open, path)?;
        let inode = match (state.names.find(&parts)?, mode) {
            (Some(_), OpenMode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(Node::Dir(_)), _) => return Err(io::ErrorKind::IsADirectory.into()),
            (Some(Node::File(inode)), _) => inode,
            (None, OpenMode::Read | OpenMode::Write) => return Err(io::ErrorKind::NotFound.into()),
            (None, OpenMode::Create | OpenMode::CreateNew) => {
                let inode = Inode::new(Content::default(), &state.page_count);
                state.names.create_file(&parts, inode.clone())?;
                inode
            }
        };
        state.stats.opens += 1;
        let writable = mode != OpenMode::Read;
        Ok(Arc::new(MemFile {
            state: self.state.clone(),
            epoch: self.epoch,
            inode,
            path: path.into(),
            writable,
        }))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let parts = file_parts(path)?;
        self.begin(Op::Name, path)?.names.remove_file(&parts)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from_parts, to_parts) = (file_parts(from)?, file_parts(to)?);
        self.begin(Op::Name, to)?.names.rename(&from_parts, &to_parts)
    }

    fn create_dir_all(&self, path: &str) -> io::Result<()> {
        let parts = dir_parts(path)?;
        let mut state = self.begin(Op::Name, path)?;
        let mut dir = state.names.dir(&[])?;
        for part in parts {
            dir = state.names.create_dir(dir, part)?;
            state.stats.dir_syncs += 1;
        }
        Ok(())
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        let parts = file_parts(path)?;
        self.begin(Op::Name, path)?.names.remove_dir(&parts)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let parts = dir_parts(dir)?;
        let state = self.begin(Op::Open, dir)?;
        Ok(state.names.list(state.names.dir(&parts)?))
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let parts = dir_parts(dir)?;
        let mut state = self.begin(Op::SyncDir, dir)?;
        let id = state.names.dir(&parts)?;
        state.stats.dir_syncs += 1;
        state.names.sync_dir(id);
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(alive(&self.state, self.epoch)?.free_page_count() * PAGE_BYTES as u64)
    }

    fn lock(&self) -> io::Result<DiskLock> {
        let mut state = alive(&self.state, self.epoch)?;
        if state.lock.is_some() {
            return Err(lock_held());
        }
        state.lock_next += 1;
        state.lock = Some(state.lock_next);
        Ok(DiskLock::new(HeldLock { state: self.state.clone(), number: state.lock_next }))
    }
}

impl State {
    fn free_page_count(&self) -> u64 {
        (self.capacity / PAGE_BYTES as u64).saturating_sub(self.page_count.load(Ordering::Relaxed))
    }
}

/// Gives the lock back, unless a crash did.
struct HeldLock {
    state: Arc<Mutex<State>>,
    number: u64,
}

impl Drop for HeldLock {
    fn drop(&mut self) {
        let mut state = lock_state(&self.state);
        if state.lock == Some(self.number) {
            state.lock = None;
        }
    }
}
