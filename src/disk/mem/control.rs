//! The hand that breaks a memory disk: power loss, rot, full disks, images of other times.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::content::{Content, Version};
use super::faults::Fault;
use super::inode::Inode;
use super::names::{Names, Node};
use super::{MemDisk, State, lock_state};
use crate::disk::file_parts;

/// Breaks a [`MemDisk`] from outside; every clone is the same hand, and it outlives crashes.
#[derive(Clone)]
pub struct DiskControl {
    state: Arc<Mutex<State>>,
}

/// What was asked of a disk since it was made, over all crashes. Calls that failed count too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskStats {
    /// Files opened.
    pub opens: u64,
    /// Calls that read.
    pub reads: u64,
    /// Bytes that came back from them.
    pub read_bytes: u64,
    /// Calls that wrote.
    pub writes: u64,
    /// Bytes they wrote.
    pub written_bytes: u64,
    /// Files synced.
    pub syncs: u64,
    /// Directories synced, also those that `create_dir_all` syncs.
    pub dir_syncs: u64,
    /// What all syncs of files would have cost on a real device.
    pub sync_cost: Duration,
}

/// A copy of everything on a disk at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskImage {
    /// Directories have no content.
    nodes: BTreeMap<String, Option<Version>>,
}

impl DiskImage {
    /// The paths of all files in it, sorted.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().filter(|(_, content)| content.is_some()).map(|(path, _)| path.as_str())
    }
}

impl DiskControl {
    pub(super) fn new(state: Arc<Mutex<State>>) -> Self {
        Self { state }
    }

    /// The disk as a process that starts now finds it.
    pub fn disk(&self) -> MemDisk {
        MemDisk { state: self.state.clone(), epoch: lock_state(&self.state).epoch }
    }

    /// Power is lost: what was synced is there, the rest in part or not at all. All handles die, the lock is
    /// free.
    pub fn crash(&self) -> MemDisk {
        let mut state = lock_state(&self.state);
        state.end_epoch();
        let State { names, random, garbage_per_mille, page_count, .. } = &mut *state;
        names.crash(random);
        // Space that only dead handles held is free: the count starts anew.
        *page_count = Arc::new(AtomicU64::new(0));
        names.replace_files(|inode| {
            Inode::new(inode.look(Content::clone).crash(*garbage_per_mille, random), page_count)
        });
        drop(state);
        self.disk()
    }

    /// The process dies and the machine goes on: everything written can still be read and synced by the next
    /// one.
    pub fn crash_process(&self) -> MemDisk {
        lock_state(&self.state).end_epoch();
        self.disk()
    }

    /// From now on this goes wrong, beside what went wrong before.
    pub fn inject(&self, fault: Fault) {
        lock_state(&self.state).faults.push(fault);
    }

    /// Nothing injected goes wrong any more. Rot that is in a file, and its size, stay.
    pub fn clear_faults(&self) {
        lock_state(&self.state).faults.clear();
    }

    /// How large the disk is, in bytes. Files take space in blocks of 4 096 where they were written; bytes
    /// that were written once can be written again on a full disk. A removed file gives its space back when
    /// the removal is durable and nobody has it open.
    pub fn set_capacity(&self, bytes: u64) {
        lock_state(&self.state).capacity = bytes;
    }

    /// How many in a thousand unsynced sectors hold garbage after power loss, in the bytes that were being
    /// changed; 10 unless set.
    pub fn set_garbage(&self, per_mille: u16) {
        lock_state(&self.state).garbage_per_mille = per_mille;
    }

    /// What each `sync_data` costs; nothing unless set. Only reported, nobody sleeps.
    pub fn set_sync_cost(&self, cost: Duration) {
        lock_state(&self.state).sync_cost = cost;
    }

    /// Rot at rest: turns `count` bits of the file over, wherever chance has it.
    pub fn flip_bits(&self, path: &str, count: usize) -> io::Result<()> {
        let mut state = lock_state(&self.state);
        let inode = state.file(path)?;
        for _ in 0..count {
            let bit = state.random.below(inode.look(Content::len) * 8);
            inode.change(|content| content.flip(bit / 8, (bit % 8) as u8));
        }
        Ok(())
    }

    /// Rot at rest: turns bit `bit` (0 to 7) of the byte at `offset` over.
    pub fn flip_at(&self, path: &str, offset: u64, bit: u8) -> io::Result<()> {
        let inode = lock_state(&self.state).file(path)?;
        inode.change(|content| content.flip(offset, bit));
        Ok(())
    }

    /// Everything as programs see it now: a backup. For what a snapshot of the device would hold, crash
    /// first.
    pub fn image(&self) -> DiskImage {
        let mut nodes = BTreeMap::new();
        lock_state(&self.state).names.walk(|path, node| {
            let content = match node {
                Node::File(inode) => Some(inode.look(|content| content.now().clone())),
                Node::Dir(_) => None,
            };
            nodes.insert(path.to_owned(), content);
        });
        DiskImage { nodes }
    }

    /// The disk holds `image` and nothing else, all durable. All handles die, the lock is free.
    pub fn restore(&self, image: &DiskImage) -> MemDisk {
        let mut state = lock_state(&self.state);
        state.end_epoch();
        state.page_count = Arc::new(AtomicU64::new(0));
        state.names = image.names(&state.page_count);
        drop(state);
        self.disk()
    }

    /// Gives one file the bytes it had in `image`, durably: a device that lied about its flushes, a file
    /// restored alone. Handles stay good and see them.
    pub fn roll_back(&self, path: &str, image: &DiskImage) -> io::Result<()> {
        let Some(Some(version)) = image.nodes.get(path) else {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("no file {path} in the image")));
        };
        let inode = lock_state(&self.state).file(path)?;
        inode.change(|content| *content = Content::durable(version.clone()));
        Ok(())
    }

    /// What was asked of the disk so far.
    pub fn stats(&self) -> DiskStats {
        lock_state(&self.state).stats
    }
}

impl DiskImage {
    fn names(&self, page_count: &Arc<AtomicU64>) -> Names {
        const WHOLE: &str = "an image holds each directory before what is in it";
        let mut names = Names::new();
        // In the order of paths a directory comes before what is in it.
        for (path, content) in &self.nodes {
            let parts = file_parts(path).expect(WHOLE);
            match (content, parts.split_last()) {
                (Some(version), _) => {
                    let inode = Inode::new(Content::durable(version.clone()), page_count);
                    names.create_file(&parts, inode).expect(WHOLE);
                }
                (None, Some((name, above))) => {
                    let parent = names.dir(above).expect(WHOLE);
                    names.create_dir(parent, name).expect(WHOLE);
                }
                (None, None) => unreachable!("the data directory itself is not listed"),
            }
        }
        names.keep_all();
        names
    }
}

impl State {
    fn end_epoch(&mut self) {
        self.epoch += 1;
        self.lock = None;
    }

    fn file(&self, path: &str) -> io::Result<Arc<Inode>> {
        match self.names.find(&file_parts(path)?)? {
            Some(Node::File(inode)) => Ok(inode),
            Some(Node::Dir(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}
