//! An open file of a memory disk: each call asks the faults first, then the content.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use super::content::Content;
use super::faults::{Op, Verdict};
use super::inode::Inode;
use super::{EVERYWHERE, State, alive, begin, input_output_error};
use crate::disk::DiskFile;

pub(super) struct MemFile {
    pub(super) state: Arc<Mutex<State>>,
    pub(super) epoch: u64,
    pub(super) inode: Arc<Inode>,
    /// The one it was opened with.
    pub(super) path: String,
    pub(super) writable: bool,
}

impl MemFile {
    fn begin(&self, op: Op, bytes: &Range<u64>) -> io::Result<(MutexGuard<'_, State>, Verdict)> {
        if op == Op::Write && !self.writable {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the file is open for reading only"));
        }
        begin(&self.state, self.epoch, op, &self.path, bytes)
    }
}

/// A call for nothing touches the byte where it is made.
fn touched(offset: u64, bytes: usize) -> Range<u64> {
    offset..offset + bytes.max(1) as u64
}

impl DiskFile for MemFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let (mut state, verdict) = self.begin(Op::Read, &touched(offset, buf.len()))?;
        state.stats.reads += 1;
        if verdict.error {
            return Err(input_output_error());
        }
        let count = self.inode.look(|content| content.read(offset, buf));
        state.stats.read_bytes += count as u64;
        if verdict.rot && count > 0 {
            let bit = state.random.below(count as u64 * 8);
            buf[bit as usize / 8] ^= 1 << (bit % 8);
        }
        Ok(count)
    }

    fn write_at(&self, offset: u64, parts: &[&[u8]]) -> io::Result<()> {
        let bytes = parts.concat();
        let (mut state, verdict) = self.begin(Op::Write, &touched(offset, bytes.len()))?;
        state.stats.writes += 1;
        if verdict.error {
            let part = state.random.below(bytes.len() as u64 + 1) as usize;
            state.write(&self.inode, offset, &bytes[..part])?;
            return Err(input_output_error());
        }
        if verdict.misdirect && !bytes.is_empty() {
            return state.misdirect(&self.inode, offset, &bytes);
        }
        state.write(&self.inode, offset, &bytes)
    }

    fn len(&self) -> io::Result<u64> {
        let _state = alive(&self.state, self.epoch)?;
        Ok(self.inode.look(Content::len))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let (_state, verdict) = self.begin(Op::Write, &EVERYWHERE)?;
        if verdict.error {
            return Err(input_output_error());
        }
        self.inode.change(|content| content.set_len(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let (mut state, verdict) = self.begin(Op::Sync, &EVERYWHERE)?;
        state.stats.syncs += 1;
        let cost = state.sync_cost + verdict.slow;
        state.sync_cost_last = cost;
        state.stats.sync_cost += cost;
        if verdict.error {
            self.inode.change(Content::sync_failed);
            return Err(input_output_error());
        }
        self.inode.change(Content::sync);
        Ok(())
    }
}

impl State {
    /// Writes what the disk has space for; says whether that was all.
    fn write(&mut self, inode: &Inode, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let free = self.free_page_count();
        let random = &mut self.random;
        let fits = inode.change(|content| {
            let fits = content.bytes_that_fit(offset, bytes.len(), free);
            content.write(offset, &bytes[..fits], random);
            fits
        });
        self.stats.written_bytes += fits as u64;
        if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    /// The file grows as if all were well, and the bytes land in a sector that was not asked for.
    fn misdirect(&mut self, inode: &Inode, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let len = inode.look(Content::len).max(offset + bytes.len() as u64);
        inode.change(|content| content.set_len(len));
        let elsewhere = self.random.below(len.div_ceil(512)) * 512;
        let count = (len - elsewhere).min(bytes.len() as u64) as usize;
        self.write(inode, elsewhere, &bytes[..count])
    }
}
