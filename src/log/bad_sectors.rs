//! Reading over sectors that the disk cannot read: their bytes are not to be had, and those around them are.
//!
//! A read that fails is tried again sector by sector, each several times. What cannot be read then reads as zeros, which
//! are no batch, and its neighbours can be served. Where nothing around can be read either, the disk is away rather than
//! bad, and its error stands.
//!
//! Such zeros are no damage yet: an outage passes. So it is remembered which sectors they stand for. A disk takes seconds
//! for each, so only so many are asked for in vain. Who comes again then gets the error; who wants what lies behind them
//! now reads on in larger pieces, of which one that fails is zeros as a whole:
//!
//! ```text
//! sector by sector, up to so many in vain │ 16 KiB, up to 16 in vain │ 32 KiB, up to 16 │ 64 KiB … to the end
//! ```
use crate::disk::DiskFile;
use crate::log::store::lock;
use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

/// What a disk fails to read at once.
const SECTOR_BYTES: usize = 4 << 10;
/// How often a sector is asked for before it counts as bad.
const ATTEMPTS: usize = 4;
/// Sectors read at once when so many were asked for in vain.
const PIECE_SECTORS_MIN: u64 = 4;
/// Pieces in vain before they are made twice as large.
const PIECES_IN_VAIN: u32 = 16;

/// A file in which sectors that cannot be read are zeros, as long as others of it can.
pub(super) struct OverBadSectors {
    file: Arc<dyn DiskFile>,
    errors_max: usize,
    /// Whether it reads on when so many were asked for in vain.
    goes_on: bool,
    /// Larger pieces that were asked for in vain.
    piece_count: AtomicU32,
    /// Sectors that could not be read.
    bad: Mutex<BTreeSet<u64>>,
    /// How many were known before: they are not asked for again.
    known_count: usize,
    has_read: AtomicBool,
}

impl OverBadSectors {
    /// Asks in vain for `errors_max` sectors at most, and goes on behind them in larger pieces.
    pub(super) fn new(file: Arc<dyn DiskFile>, errors_max: usize) -> Self {
        Self { goes_on: true, ..Self::knowing(file, errors_max, BTreeSet::new()) }
    }

    /// Asks in vain for `errors_max` sectors at most, and for none of those in `bad`.
    pub(super) fn knowing(file: Arc<dyn DiskFile>, errors_max: usize, bad: BTreeSet<u64>) -> Self {
        Self {
            file,
            errors_max,
            goes_on: false,
            piece_count: AtomicU32::new(0),
            known_count: bad.len(),
            bad: Mutex::new(bad),
            has_read: AtomicBool::new(false),
        }
    }

    /// Whether some sector reads as zeros.
    pub(super) fn has_errors(&self) -> bool {
        !lock(&self.bad).is_empty()
    }

    /// Whether one does that has some of these bytes.
    pub(super) fn has_errors_in(&self, bytes: Range<u64>) -> bool {
        let sectors = bytes.start / SECTOR_BYTES as u64..bytes.end.div_ceil(SECTOR_BYTES as u64);
        !sectors.is_empty() && lock(&self.bad).range(sectors).next().is_some()
    }

    /// How many sectors were asked for in vain.
    pub(super) fn error_count(&self) -> usize {
        lock(&self.bad).len() - self.known_count
    }

    /// Whether no further sector may be asked for in vain, and nothing is read behind them.
    pub(super) fn is_spent(&self) -> bool {
        !self.goes_on && self.is_at_limit()
    }

    fn is_at_limit(&self) -> bool {
        self.error_count() >= self.errors_max
    }

    /// How many sectors are known to be bad.
    pub(super) fn bad_count(&self) -> usize {
        lock(&self.bad).len()
    }

    /// Whether something could be read.
    pub(super) fn has_read(&self) -> bool {
        self.has_read.load(Ordering::Relaxed)
    }

    /// The sectors that could not be read.
    pub(super) fn into_bad(self) -> BTreeSet<u64> {
        self.bad.into_inner().unwrap_or_default()
    }

    /// One sector, or what of it is before the end of the file.
    fn sector(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut read = self.file.read_at(offset, buf);
        for _ in 1..ATTEMPTS {
            match read {
                Ok(_) => break,
                Err(_) => read = self.file.read_at(offset, buf),
            }
        }
        if read.as_ref().is_ok_and(|count| *count > 0) {
            self.has_read.store(true, Ordering::Relaxed);
        }
        read
    }

    fn by_sectors(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let (mut at, mut bad) = (0, None);
        let wanted =
            buf.len().min(usize::try_from(self.file.len()?.saturating_sub(offset)).unwrap_or(usize::MAX));
        while at < wanted {
            let begin = offset + at as u64;
            if self.goes_on && self.is_at_limit() && self.has_read() {
                at += self.piece(begin, &mut buf[at..wanted]);
                continue;
            }
            let sector = begin / SECTOR_BYTES as u64;
            let bytes = (SECTOR_BYTES - (begin % SECTOR_BYTES as u64) as usize).min(wanted - at);
            let is_known = lock(&self.bad).contains(&sector);
            if is_known || self.sector_or_zeros(sector, begin, &mut buf[at..at + bytes], &mut bad) {
                buf[at..at + bytes].fill(0);
            }
            at += bytes;
            if bad.is_some() && self.is_at_limit() && at < wanted {
                let is_readable = self.is_readable_around(offset, wanted);
                if let Some(error) = bad.take_if(|_| !self.goes_on || !is_readable) {
                    return Err(error);
                }
            }
        }
        match bad {
            Some(error) if !self.is_readable_around(offset, wanted) => Err(error),
            _ => Ok(wanted),
        }
    }

    /// Reads what lies at `begin`, or zeros, up to where another piece begins; answers how much.
    fn piece(&self, begin: u64, buf: &mut [u8]) -> usize {
        let sector_bytes = SECTOR_BYTES as u64;
        let sectors =
            PIECE_SECTORS_MIN << (self.piece_count.load(Ordering::Relaxed) / PIECES_IN_VAIN).min(16);
        let first = begin / sector_bytes;
        let next_bad = lock(&self.bad).range(first..).next().copied();
        let is_bad = next_bad == Some(first);
        let until = if is_bad { first + 1 } else { next_bad.unwrap_or(u64::MAX).min(first + sectors) };
        let bytes = usize::try_from(until * sector_bytes - begin).unwrap_or(usize::MAX).min(buf.len());
        let piece = &mut buf[..bytes];
        if is_bad {
            piece.fill(0);
        } else if self.file.read_at(begin, piece).is_err() {
            piece.fill(0);
            lock(&self.bad).extend(first..first + sectors);
            self.piece_count.fetch_add(1, Ordering::Relaxed);
        }
        bytes
    }

    /// Reads a sector; answers whether it cannot be read.
    fn sector_or_zeros(&self, sector: u64, begin: u64, buf: &mut [u8], bad: &mut Option<io::Error>) -> bool {
        let Err(error) = self.sector(begin, buf) else { return false };
        lock(&self.bad).insert(sector);
        *bad = Some(error);
        true
    }

    /// Whether some sector could be read, or can be that lies before or behind these bytes, or at the beginning.
    fn is_readable_around(&self, offset: u64, bytes: usize) -> bool {
        let sector_bytes = SECTOR_BYTES as u64;
        let (first, behind) = (offset / sector_bytes, (offset + bytes as u64).div_ceil(sector_bytes));
        let others = [first.checked_sub(1), Some(behind), Some(0).filter(|_| first > 0)];
        let is_readable =
            |sector: u64| self.sector(sector * sector_bytes, &mut [0]).is_ok_and(|count| count > 0);
        self.has_read() || others.into_iter().flatten().any(is_readable)
    }
}

impl DiskFile for OverBadSectors {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        // The disk takes long to fail: it is asked for nothing that is known to be bad.
        let is_known = self.has_errors_in(offset..offset + buf.len() as u64);
        if is_known || (self.goes_on && self.is_at_limit()) {
            return self.by_sectors(offset, buf);
        }
        match self.file.read_at(offset, buf) {
            Ok(count) => {
                self.has_read.fetch_or(count > 0, Ordering::Relaxed);
                Ok(count)
            }
            Err(_) => self.by_sectors(offset, buf),
        }
    }

    fn write_at(&self, offset: u64, parts: &[&[u8]]) -> io::Result<()> {
        self.file.write_at(offset, parts)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of a hundred sectors, of which some cannot be read; and how many reads failed.
    struct Hundred(Range<u64>, AtomicU32);

    impl DiskFile for Hundred {
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
            let (first, behind) = (offset / 4096, (offset + buf.len() as u64).div_ceil(4096));
            if first < self.0.end && self.0.start < behind {
                self.1.fetch_add(1, Ordering::Relaxed);
                return Err(io::Error::other("an unreadable sector"));
            }
            buf.fill(7);
            Ok(buf.len())
        }
        fn write_at(&self, _offset: u64, _parts: &[&[u8]]) -> io::Result<()> {
            Ok(())
        }
        fn len(&self) -> io::Result<u64> {
            Ok(100 * 4096)
        }
        fn set_len(&self, _len: u64) -> io::Result<()> {
            Ok(())
        }
        fn sync_data(&self) -> io::Result<()> {
            Ok(())
        }
    }

    fn sevens(file: &OverBadSectors) -> usize {
        let mut bytes = vec![0; 100 * 4096];
        assert_eq!(file.read_at(0, &mut bytes).unwrap(), bytes.len());
        bytes.iter().filter(|byte| **byte == 7).count() / 4096
    }

    #[test]
    fn a_sector_that_is_known_to_be_bad_is_not_asked_for_again() {
        let disk = Arc::new(Hundred(40..42, AtomicU32::new(0)));
        let file = OverBadSectors::new(disk.clone(), 5);
        assert_eq!(sevens(&file), 98);
        let failed = disk.1.load(Ordering::Relaxed);
        assert!(failed > 0);
        assert_eq!(sevens(&file), 98);
        assert_eq!(disk.1.load(Ordering::Relaxed), failed);
    }

    #[test]
    fn behind_many_bad_sectors_it_goes_on_in_larger_pieces_or_says_that_it_may_not() {
        let disk = Arc::new(Hundred(10..62, AtomicU32::new(0)));
        let file = OverBadSectors::new(disk.clone(), 5);
        // The last piece that fails takes three sectors along.
        assert_eq!(sevens(&file), 100 - 52 - 1);
        assert!(disk.1.load(Ordering::Relaxed) < 40);
        let file = OverBadSectors::knowing(disk, 5, BTreeSet::new());
        assert!(file.read_at(0, &mut vec![0; 100 * 4096]).is_err() && file.is_spent());
    }
}
