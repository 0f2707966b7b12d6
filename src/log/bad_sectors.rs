//! Reading over sectors that the disk cannot read any more: their bytes are gone, and those around them are not.
//!
//! A read that fails is tried again sector by sector, each several times. What cannot be read then reads as zeros, which
//! are no batch, and its neighbours can be served. Where nothing around can be read either, the disk is away rather than
//! bad, and its error stands.
//!
//! The scrub takes such zeros for damage. A reader does not: it hands on the error, for who asks again may get an answer.
use crate::disk::DiskFile;
use std::io;
use std::sync::Arc;

/// What a disk fails to read at once.
const SECTOR_BYTES: usize = 4 << 10;
/// How often a sector is asked for before it counts as lost.
const ATTEMPTS: usize = 4;

/// A file in which sectors that cannot be read are zeros, as long as others of it can.
pub(super) struct OverBadSectors(pub(super) Arc<dyn DiskFile>);

impl OverBadSectors {
    /// One sector, or what of it is before the end of the file.
    fn sector(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut read = self.0.read_at(offset, buf);
        for _ in 1..ATTEMPTS {
            match read {
                Ok(_) => break,
                Err(_) => read = self.0.read_at(offset, buf),
            }
        }
        read
    }

    fn by_sectors(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let (mut at, mut bad, mut has_good) = (0, None, false);
        let wanted =
            buf.len().min(usize::try_from(self.0.len()?.saturating_sub(offset)).unwrap_or(usize::MAX));
        while at < wanted {
            let begin = offset + at as u64;
            let bytes = (SECTOR_BYTES - (begin % SECTOR_BYTES as u64) as usize).min(wanted - at);
            match self.sector(begin, &mut buf[at..at + bytes]) {
                Ok(_) => has_good = true,
                Err(error) => {
                    buf[at..at + bytes].fill(0);
                    bad = Some(error);
                }
            }
            at += bytes;
        }
        match bad {
            Some(error) if !has_good && !self.is_readable_around(offset, wanted) => Err(error),
            _ => Ok(wanted),
        }
    }

    /// Whether a sector can be read that lies before or behind these bytes, or at the beginning.
    fn is_readable_around(&self, offset: u64, bytes: usize) -> bool {
        let sector_bytes = SECTOR_BYTES as u64;
        let (first, behind) = (offset / sector_bytes, (offset + bytes as u64).div_ceil(sector_bytes));
        let others = [first.checked_sub(1), Some(behind), Some(0).filter(|_| first > 0)];
        let is_readable =
            |sector: u64| self.sector(sector * sector_bytes, &mut [0]).is_ok_and(|count| count > 0);
        others.into_iter().flatten().any(is_readable)
    }
}

impl DiskFile for OverBadSectors {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(offset, buf).or_else(|_| self.by_sectors(offset, buf))
    }

    fn write_at(&self, offset: u64, parts: &[&[u8]]) -> io::Result<()> {
        self.0.write_at(offset, parts)
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}
