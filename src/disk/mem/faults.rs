//! What can go wrong on a memory disk when it is used: which calls, on which paths, how often.
//!
//! ```
//! # use conveyor::disk::{Fault, MemDisk};
//! let disk = MemDisk::new(7);
//! let control = disk.control();
//! control.inject(Fault::sync_error().under("journal/").nth(3));   // the third sync from now on, once
//! control.inject(Fault::rot_on_read().one_in(1_000));             // now and then, everywhere
//! ```

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use super::random::SplitMix64;

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Open,
    Read,
    Write,
    Sync,
    SyncDir,
    Name,
}

#[derive(Clone, Copy, Debug)]
enum Effect {
    Error,
    Rot,
    Misdirect,
    Slow(Duration),
}

enum When {
    Always,
    /// After so many more calls that match, once.
    Nth(u64),
    OneIn(u64),
}

/// A thing that goes wrong: always and everywhere, until narrowed down.
pub struct Fault {
    op: Op,
    effect: Effect,
    when: When,
    paths: Box<dyn Fn(&str) -> bool + Send>,
    bytes: Range<u64>,
}

impl Fault {
    fn new(op: Op, effect: Effect) -> Self {
        Self { op, effect, when: When::Always, paths: Box::new(|_| true), bytes: 0..u64::MAX }
    }

    /// Files do not open: EIO.
    pub fn open_error() -> Self {
        Self::new(Op::Open, Effect::Error)
    }

    /// Reads fail: EIO.
    pub fn read_error() -> Self {
        Self::new(Op::Read, Effect::Error)
    }

    /// Writes and changes of size fail: EIO. The first part of the bytes may have been written.
    pub fn write_error() -> Self {
        Self::new(Op::Write, Effect::Error)
    }

    /// `sync_data` fails, EIO, and what was dirty counts as clean though it is not durable, as on Linux: it
    /// can be read until power is lost, and no later sync saves it.
    pub fn sync_error() -> Self {
        Self::new(Op::Sync, Effect::Error)
    }

    /// `sync_dir` fails, EIO; the names stay as undecided as they were.
    pub fn sync_dir_error() -> Self {
        Self::new(Op::SyncDir, Effect::Error)
    }

    /// Removing, renaming and making directories fails, EIO, and changes nothing.
    pub fn name_error() -> Self {
        Self::new(Op::Name, Effect::Error)
    }

    /// A read returns with one bit turned over; the file itself stays good.
    pub fn rot_on_read() -> Self {
        Self::new(Op::Read, Effect::Rot)
    }

    /// A write succeeds, but its bytes land in another place of the same file.
    pub fn misdirected_write() -> Self {
        Self::new(Op::Write, Effect::Misdirect)
    }

    /// `sync_data` costs so much more.
    pub fn slow_sync(cost: Duration) -> Self {
        Self::new(Op::Sync, Effect::Slow(cost))
    }

    /// Only for the file or directory `path`.
    pub fn at(self, path: &str) -> Self {
        let path = path.to_owned();
        self.whose(move |other| other == path)
    }

    /// Only for paths that begin with `prefix`.
    pub fn under(self, prefix: &str) -> Self {
        let prefix = prefix.to_owned();
        self.whose(move |path| path.starts_with(&prefix))
    }

    /// Only for paths that `paths` picks; a handle has the path it was opened with.
    pub fn whose(self, paths: impl Fn(&str) -> bool + Send + 'static) -> Self {
        Self { paths: Box::new(paths), ..self }
    }

    /// Only for calls that touch some of these bytes of a file: a sector that is bad for good.
    pub fn within(self, bytes: Range<u64>) -> Self {
        Self { bytes, ..self }
    }

    /// Only once: at the `n`th call that matches from now on, counted from 1.
    pub fn nth(self, n: u64) -> Self {
        assert!(n > 0, "calls are counted from 1");
        Self { when: When::Nth(n), ..self }
    }

    /// Only at one call in `count`, on average.
    pub fn one_in(self, count: u64) -> Self {
        assert!(count > 0, "one in none is no chance");
        Self { when: When::OneIn(count), ..self }
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fault({:?} of {:?})", self.effect, self.op)
    }
}

/// What goes wrong with one call.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) error: bool,
    pub(super) rot: bool,
    pub(super) misdirect: bool,
    pub(super) slow: Duration,
}

/// Asks each of `faults` about one call, which touches `bytes`; those that happen once are gone afterwards.
pub(super) fn judge(
    faults: &mut Vec<Fault>,
    op: Op,
    path: &str,
    bytes: &Range<u64>,
    random: &mut SplitMix64,
) -> Verdict {
    let mut verdict = Verdict::default();
    faults.retain_mut(|fault| {
        let is_touched = bytes.start < fault.bytes.end && fault.bytes.start < bytes.end;
        if fault.op != op || !is_touched || !(fault.paths)(path) {
            return true;
        }
        let strikes = match &mut fault.when {
            When::Always => true,
            When::OneIn(count) => random.one_in(*count),
            When::Nth(left) => {
                *left -= 1;
                *left == 0
            }
        };
        if strikes {
            match fault.effect {
                Effect::Error => verdict.error = true,
                Effect::Rot => verdict.rot = true,
                Effect::Misdirect => verdict.misdirect = true,
                Effect::Slow(cost) => verdict.slow += cost,
            }
        }
        !(strikes && matches!(fault.when, When::Nth(_)))
    });
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Disk, MemDisk, OpenMode};

    #[test]
    fn a_sector_that_is_bad_for_good_fails_who_touches_it_and_nobody_else() {
        let disk = MemDisk::new(7);
        let file = disk.open("a", OpenMode::Create).unwrap();
        file.write_at(0, &[&[7; 12_288]]).unwrap();
        disk.control().inject(Fault::read_error().at("a").within(4096..8192));
        let mut buf = [0; 4096];
        for _ in 0..3 {
            assert!(file.read_at(0, &mut buf).is_ok() && file.read_at(8192, &mut buf).is_ok());
            assert!(file.read_at(4096, &mut buf).is_err() && file.read_at(4095, &mut buf[..2]).is_err());
        }
    }
}
