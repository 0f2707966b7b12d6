//! The disk: one small interface between everything we store and whatever stores it.
//!
//! What is promised here is what a careful program may believe of a POSIX file system, and no more:
//!
//! ```text
//! write_at ──> readable at once ──> sync_data ──> bytes and size survive power loss
//! create, rename, remove ──> visible at once ──> sync_dir ──> the name survives power loss
//! ```
//!
//! Until its sync returned `Ok`, a change may be there after power loss, or not, or in part and out of order.
//! After a sync *failed* nothing is known of what it covered: the pages may look written and be gone after
//! the next power loss, and a later sync may succeed without them. So nobody syncs again in hope; stop, and
//! recover.
//!
//! [`FileDisk`] is the production disk, [`MemDisk`] the one that loses power, rots and fills up on demand.
//! Everything here blocks: [`IoExec`] runs such calls off the caller's task, in [`Lane`]s.
//! This module knows nothing of logs, batches or peers.
#![cfg(feature = "server")]

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::Arc;

mod file;
mod lanes;
mod mem;

#[cfg(test)]
mod contract;

pub use file::FileDisk;
pub use lanes::{InlineLanes, IoExec, Job, Lane, ThreadLanes};
pub use mem::{DiskControl, DiskImage, DiskStats, Fault, MemDisk};

/// One data directory.
///
/// Paths are relative to it, with `/` between their parts and neither `.`, `..` nor empty parts in them;
/// anything else is `InvalidInput`. The empty path is the directory itself, where a directory is asked for.
pub trait Disk: Send + Sync + 'static {
    /// Opens the file `path`. Its directory must exist; a new name is durable after [`Disk::sync_dir`].
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;

    /// Removes the file `path`. Who has it open goes on reading it.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// Gives `from` the name `to` and replaces what had it, atomically: whoever looks, also after power loss,
    /// finds the file under one of the two names. Between two directories it is durable when both are synced.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Makes the directory `path` and those above it where they are missing. On return the whole path is
    /// durable, also where an earlier attempt made part of it and was cut short.
    fn create_dir_all(&self, path: &str) -> io::Result<()>;

    /// Removes the directory `path`, which must be empty.
    fn remove_dir(&self, path: &str) -> io::Result<()>;

    /// The names in the directory `dir`, sorted. A missing directory is `NotFound`. Names that are not UTF-8
    /// are none of ours and are left out.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;

    /// Makes the names in the directory `dir` durable: what was created, renamed and removed in it.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;

    /// How many bytes can still be written here by us.
    fn free_bytes(&self) -> io::Result<u64>;

    /// Takes the directory for the caller alone, against other processes and within this one. `WouldBlock` if
    /// somebody holds it. The end of the process releases it, however it ends.
    fn lock(&self) -> io::Result<DiskLock>;
}

/// How [`Disk::open`] treats a file that is there, or is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Must exist; for reading.
    Read,
    /// Must exist; for reading and writing.
    Write,
    /// Made empty if missing; for reading and writing. What exists keeps its bytes.
    Create,
    /// Must not exist, else `AlreadyExists`; for reading and writing.
    CreateNew,
}

/// An open file. Every call names its position; any number of threads may call at once.
pub trait DiskFile: Send + Sync + 'static {
    /// Reads into all of `buf` from byte `offset` on; fewer bytes only where the file ends.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;

    /// Reads exactly `buf`; `UnexpectedEof` if the file ends before, and then `buf` holds anything.
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let wanted = buf.len();
        let got = self.read_at(offset, buf)?;
        if got < wanted {
            let message =
                format!("the file ends at byte {}, wanted {wanted} from {offset}", offset + got as u64);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        Ok(())
    }

    /// Writes all `parts`, one after the other, from byte `offset` on; past the end the file grows, and what
    /// is skipped reads as zeros. After an error any part of the bytes may have been written.
    fn write_at(&self, offset: u64, parts: &[&[u8]]) -> io::Result<()>;

    /// The size in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether there are no bytes in it.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts the file, or lets it grow by zeros that take no space until they are written.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes the bytes and the size durable; not the name, which belongs to the directory.
    fn sync_data(&self) -> io::Result<()>;
}

/// The directory is ours alone until this is dropped.
pub struct DiskLock {
    _held: Box<dyn Any + Send + Sync>,
}

impl DiskLock {
    /// Wraps what holds the lock; dropping it must release it.
    pub fn new(held: impl Any + Send + Sync) -> Self {
        Self { _held: Box::new(held) }
    }
}

impl fmt::Debug for DiskLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DiskLock")
    }
}

/// What every disk answers when the lock is held already.
fn lock_held() -> io::Error {
    io::Error::new(io::ErrorKind::WouldBlock, "the data directory is in use: somebody else holds its lock")
}

/// The parts of a path to something below the data directory.
fn file_parts(path: &str) -> io::Result<Vec<&str>> {
    let parts = dir_parts(path)?;
    if parts.is_empty() {
        return Err(invalid_path(path));
    }
    Ok(parts)
}

/// The parts of a path to a directory; none for the data directory itself.
fn dir_parts(path: &str) -> io::Result<Vec<&str>> {
    if path.is_empty() {
        return Ok(Vec::new());
    }
    let parts: Vec<&str> = path.split('/').collect();
    if parts.iter().any(|part| matches!(*part, "" | "." | "..") || part.contains('\0')) {
        return Err(invalid_path(path));
    }
    Ok(parts)
}

fn invalid_path(path: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("not a path below the data directory: {path:?}"))
}
