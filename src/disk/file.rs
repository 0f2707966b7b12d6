//! The disk of production: a directory of the operating system.
//!
//! Files are made with mode 0600 and directories with 0700, since entries are nobody else's business. A sync
//! is `fdatasync` for bytes (which includes the size) and `fsync` of the directory for names. Whether the
//! hardware honours a flush is beyond what a program can know.
#![allow(clippy::disallowed_methods, reason = "the files that everybody else reaches through `Disk`")]

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, IoSlice};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Disk, DiskFile, DiskLock, OpenMode, dir_parts, file_parts, lock_held};

const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// Slices in one vectored write; POSIX names 1 024 `IOV_MAX` on every system we run on.
const SLICE_COUNT_MAX: usize = 1024;

/// A data directory in the file system.
#[derive(Debug)]
pub struct FileDisk {
    root: PathBuf,
}

impl FileDisk {
    /// Opens the data directory `root`, and makes it, durably, if it is missing. Takes no lock; see
    /// [`Disk::lock`].
    pub fn open(root: impl AsRef<Path>) -> io::Result<Self> {
        // Absolute, so that a later change of the working directory changes nothing for us.
        let root = std::path::absolute(root)?;
        make_root(&root).map_err(|e| explain(e, "cannot make the data directory", &root))?;
        if !fs::metadata(&root)?.is_dir() {
            return Err(explain(io::ErrorKind::NotADirectory.into(), "cannot use as data directory", &root));
        }
        Ok(Self { root })
    }

    /// Where the data directory is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn file_path(&self, path: &str) -> io::Result<PathBuf> {
        Ok(self.root.join(file_parts(path)?.join("/")))
    }

    fn dir_path(&self, dir: &str) -> io::Result<PathBuf> {
        // `join("")` would end in a slash.
        if dir_parts(dir)?.is_empty() { Ok(self.root.clone()) } else { Ok(self.root.join(dir)) }
    }
}

impl Disk for FileDisk {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(mode != OpenMode::Read).mode(FILE_MODE);
        match mode {
            OpenMode::Read | OpenMode::Write => {}
            OpenMode::Create => _ = options.create(true),
            OpenMode::CreateNew => _ = options.create_new(true),
        }
        let file = options.open(self.file_path(path)?)?;
        // A directory opens for reading as well as a file does.
        if mode == OpenMode::Read && file.metadata()?.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        Ok(Arc::new(OsFile(file)))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.file_path(path)?)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.file_path(from)?, self.file_path(to)?)
    }

    fn create_dir_all(&self, path: &str) -> io::Result<()> {
        let mut at = self.root.clone();
        for part in dir_parts(path)? {
            let parent = at.clone();
            at.push(part);
            make_dir(&at)?;
            // Also if it was there: whoever made it may have died before this line.
            sync_names(&parent)?;
        }
        Ok(())
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        fs::remove_dir(self.file_path(path)?)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.dir_path(dir)?)? {
            names.extend(entry?.file_name().into_string().ok());
        }
        names.sort();
        Ok(names)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        sync_names(&self.dir_path(dir)?)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.root)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Locks the directory itself: there is no lock file that somebody could delete to "repair" things.
    /// The lock belongs to this opening of the directory, so a second call is refused in this process too.
    fn lock(&self) -> io::Result<DiskLock> {
        let directory = File::open(&self.root)?;
        match directory.try_lock() {
            Ok(()) => Ok(DiskLock::new(directory)),
            Err(TryLockError::WouldBlock) => Err(lock_held()),
            Err(TryLockError::Error(e)) => Err(explain(e, "cannot lock the data directory", &self.root)),
        }
    }
}

/// Makes `root` and what is missing above it, each durable in its parent.
fn make_root(root: &Path) -> io::Result<()> {
    let Some(parent) = root.parent() else { return Ok(()) };
    if root.try_exists()? {
        // Whoever made it may have died before it was durable. Where we may not even look, it is not our
        // making.
        return match sync_names(parent) {
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            result => result,
        };
    }
    if !parent.try_exists()? {
        make_root(parent)?;
    }
    make_dir(root)?;
    sync_names(parent)
}

/// Makes one directory; that it is there already is fine, that something else is there is not.
fn make_dir(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(DIRECTORY_MODE).create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        result => result,
    }
}

fn sync_names(directory: &Path) -> io::Result<()> {
    let directory_file = File::open(directory)?;
    if !directory_file.metadata()?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    directory_file.sync_all()
}

fn explain(error: io::Error, what: &str, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{what} {}: {error}", path.display()))
}

struct OsFile(File);

impl DiskFile for OsFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.0.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    fn write_at(&self, offset: u64, parts: &[&[u8]]) -> io::Result<()> {
        let mut at = offset;
        // Empty slices would make a write of nothing look like a full disk.
        let mut slices: Vec<IoSlice<'_>> =
            parts.iter().filter(|part| !part.is_empty()).map(|part| IoSlice::new(part)).collect();
        let mut rest = &mut slices[..];
        while !rest.is_empty() {
            let now = &rest[..rest.len().min(SLICE_COUNT_MAX)];
            match rustix::io::pwritev(&self.0, now, at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    at += count as u64;
                    IoSlice::advance_slices(&mut rest, count);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_we_make_is_closed_to_others() {
        let directory = tempfile::tempdir().unwrap();
        let disk = FileDisk::open(directory.path().join("var/data")).unwrap();
        disk.create_dir_all("a").unwrap();
        disk.open("a/file", OpenMode::CreateNew).unwrap();
        let mode = |path: &str| fs::metadata(disk.root().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(""), mode("a"), mode("a/file")), (0o700, 0o700, 0o600));
    }

    #[test]
    fn more_parts_than_one_system_call_takes_are_all_written() {
        let directory = tempfile::tempdir().unwrap();
        let disk = FileDisk::open(directory.path()).unwrap();
        let file = disk.open("file", OpenMode::CreateNew).unwrap();
        let bytes: Vec<u8> = (0..3 * SLICE_COUNT_MAX).map(|i| i as u8).collect();
        let parts: Vec<&[u8]> = bytes.chunks(1).collect();
        file.write_at(5, &parts).unwrap();
        let mut read = vec![0; bytes.len()];
        file.read_exact_at(5, &mut read).unwrap();
        assert_eq!(read, bytes);
        assert_eq!(file.len().unwrap(), 5 + bytes.len() as u64);
    }

    #[test]
    fn a_file_in_the_place_of_the_data_directory_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        fs::write(&path, b"x").unwrap();
        let error = FileDisk::open(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
        assert!(error.to_string().contains("data"), "{error}");
    }

    #[test]
    fn another_disk_on_the_same_directory_cannot_lock_it() {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) =
            (FileDisk::open(directory.path()).unwrap(), FileDisk::open(directory.path()).unwrap());
        let held = one.lock().unwrap();
        assert_eq!(two.lock().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(held);
        two.lock().unwrap();
    }
}
