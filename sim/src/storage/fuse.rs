//! A disk that dies in the middle of things: after a number of changes nothing reaches it any more.
//!
//! What the dying process had done until then is on the memory disk, synced or not; the driver then says whether only
//! the process died, or power was lost too.
use crate::storage::planted::Plant;
use conveyor::disk::{Disk, DiskFile, DiskLock, MemDisk, OpenMode};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Counts the changes that are still let through.
#[derive(Debug)]
pub struct Fuse(AtomicI64);

impl Default for Fuse {
    fn default() -> Self {
        Self(AtomicI64::new(i64::MAX))
    }
}

impl Fuse {
    /// Blows at the change after `count` more.
    pub fn set(&self, count: u64) {
        self.0.store(count as i64, Ordering::Relaxed);
    }

    /// Never blows.
    pub fn mend(&self) {
        self.0.store(i64::MAX, Ordering::Relaxed);
    }

    /// Whether it blew.
    pub fn is_blown(&self) -> bool {
        self.0.load(Ordering::Relaxed) < 0
    }

    /// Whether it was set, blown or not.
    pub fn is_set(&self) -> bool {
        // More changes than a run can make are left when nobody set it.
        self.0.load(Ordering::Relaxed) < i64::MAX / 2
    }

    fn look(&self) -> io::Result<()> {
        if self.is_blown() { Err(io::Error::other("the process is dead")) } else { Ok(()) }
    }

    fn change(&self) -> io::Result<()> {
        if self.0.load(Ordering::Relaxed) >= 0 {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
        self.look()
    }
}

/// A memory disk behind a fuse, and perhaps one that lies.
pub struct FusedDisk {
    disk: MemDisk,
    fuse: Arc<Fuse>,
    plant: Option<Plant>,
}

impl FusedDisk {
    /// Puts `fuse` before `disk`; with `plant` it lies.
    pub fn new(disk: MemDisk, fuse: Arc<Fuse>, plant: Option<Plant>) -> Self {
        Self { disk, fuse, plant }
    }
}

impl Disk for FusedDisk {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        match mode {
            OpenMode::Read | OpenMode::Write => self.fuse.look()?,
            OpenMode::Create | OpenMode::CreateNew => self.fuse.change()?,
        }
        let file = self.disk.open(path, mode)?;
        Ok(Arc::new(FusedFile { file, fuse: self.fuse.clone(), plant: self.plant, path: path.to_owned() }))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.fuse.change()?;
        self.disk.remove(path)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.fuse.change()?;
        self.disk.rename(from, to)
    }

    fn create_dir_all(&self, path: &str) -> io::Result<()> {
        self.fuse.change()?;
        self.disk.create_dir_all(path)
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        self.fuse.change()?;
        self.disk.remove_dir(path)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.fuse.look()?;
        self.disk.list(dir)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.fuse.change()?;
        if self.plant.is_some_and(|plant| plant.skips_sync_dir(dir)) {
            return Ok(());
        }
        self.disk.sync_dir(dir)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.fuse.look()?;
        self.disk.free_bytes()
    }

    fn lock(&self) -> io::Result<DiskLock> {
        self.fuse.look()?;
        self.disk.lock()
    }
}

struct FusedFile {
    file: Arc<dyn DiskFile>,
    fuse: Arc<Fuse>,
    plant: Option<Plant>,
    path: String,
}

impl DiskFile for FusedFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.fuse.look()?;
        self.file.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, parts: &[&[u8]]) -> io::Result<()> {
        self.fuse.change()?;
        match self.plant {
            Some(plant) => self.file.write_at(offset, &[&plant.rewrite(&self.path, offset, parts.concat())]),
            None => self.file.write_at(offset, parts),
        }
    }

    fn len(&self) -> io::Result<u64> {
        self.fuse.look()?;
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.fuse.change()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.fuse.change()?;
        if self.plant.is_some_and(|plant| plant.skips_sync(&self.path)) {
            return Ok(());
        }
        self.file.sync_data()
    }
}
