//! The bytes of one file: as programs see them, and as power loss would leave them.
//!
//! ```text
//! write ──> now ──────── sync ────────> durable      page by page, shared, so that a copy costs nothing
//!            └─ dirty: sectors not synced; at a crash each is old, new or garbage
//! ```
//!
//! A missing page reads as zeros and takes no space. Pages are what a sync carries over (4 096 bytes, as the
//! page cache does), sectors what a device writes as one (512 bytes).

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use super::random::SplitMix64;

pub(super) const PAGE_BYTES: usize = 4096;
const SECTOR_BYTES: usize = 512;
const SECTOR_COUNT: usize = PAGE_BYTES / SECTOR_BYTES;
const _: () = assert!(SECTOR_COUNT == u8::BITS as usize, "the sectors of a page are the bits of a byte");

type Page = Arc<[u8; PAGE_BYTES]>;

/// One for all zeros: preallocated files are mostly that.
fn zero_page() -> Page {
    static ZEROS: OnceLock<Page> = OnceLock::new();
    ZEROS.get_or_init(|| Arc::new([0; PAGE_BYTES])).clone()
}

/// Bytes and size at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Version {
    pages: BTreeMap<u64, Page>,
    len: u64,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    now: Version,
    durable: Version,
    /// By page, one bit per sector.
    dirty: BTreeMap<u64, u8>,
    len_dirty: bool,
}

impl Content {
    /// A file whose bytes have all been durable for long.
    pub(super) fn durable(version: Version) -> Self {
        Self { now: version.clone(), durable: version, dirty: BTreeMap::new(), len_dirty: false }
    }

    pub(super) fn now(&self) -> &Version {
        &self.now
    }

    pub(super) fn len(&self) -> u64 {
        self.now.len
    }

    pub(super) fn page_count(&self) -> u64 {
        self.now.pages.len() as u64
    }

    pub(super) fn read(&self, offset: u64, buf: &mut [u8]) -> usize {
        let wanted = self.now.len.saturating_sub(offset).min(buf.len() as u64) as usize;
        for piece in pieces(offset, wanted) {
            let target = &mut buf[piece.done..piece.done + piece.len];
            match self.now.pages.get(&piece.page) {
                Some(page) => target.copy_from_slice(&page[piece.start..piece.start + piece.len]),
                None => target.fill(0),
            }
        }
        wanted
    }

    /// How many of `len` bytes at `offset` can be written with `page_count` new pages.
    pub(super) fn bytes_that_fit(&self, offset: u64, len: usize, mut page_count: u64) -> usize {
        for piece in pieces(offset, len) {
            if !self.now.pages.contains_key(&piece.page) {
                if page_count == 0 {
                    return piece.done;
                }
                page_count -= 1;
            }
        }
        len
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8], random: &mut SplitMix64) {
        for piece in pieces(offset, bytes.len()) {
            self.write_back_sometimes(&piece, random);
            let source = &bytes[piece.done..piece.done + piece.len];
            let page = self.now.pages.entry(piece.page).or_insert_with(zero_page);
            if piece.len == PAGE_BYTES && source.iter().all(|byte| *byte == 0) {
                *page = zero_page();
            } else {
                Arc::make_mut(page)[piece.start..piece.start + piece.len].copy_from_slice(source);
            }
            *self.dirty.entry(piece.page).or_default() |= piece.sectors();
        }
        let end = offset + bytes.len() as u64;
        if !bytes.is_empty() && end > self.now.len {
            self.now.len = end;
            self.len_dirty = true;
        }
    }

    /// The system may write a dirty sector whenever it likes, so what a crash leaves of one that was written
    /// twice can be the state between.
    fn write_back_sometimes(&mut self, piece: &Piece, random: &mut SplitMix64) {
        let mask = self.dirty.get(&piece.page).copied().unwrap_or(0) & piece.sectors();
        for sector in sectors_of(mask) {
            if random.one_in(8) {
                self.keep_sector(piece.page, sector);
            }
        }
    }

    /// Makes one sector as durable as it stands now.
    fn keep_sector(&mut self, page: u64, sector: usize) {
        let range = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
        let target = Arc::make_mut(self.durable.pages.entry(page).or_insert_with(zero_page));
        match self.now.pages.get(&page) {
            Some(source) => target[range.clone()].copy_from_slice(&source[range]),
            None => target[range].fill(0),
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.now.len {
            let first = len / PAGE_BYTES as u64;
            let cut: Vec<u64> = self.now.pages.range(first..).map(|(page, _)| *page).collect();
            for page in cut {
                // Of the page with the new end, the sectors from that end on.
                let kept = if page == first { (len as usize % PAGE_BYTES) / SECTOR_BYTES } else { 0 };
                *self.dirty.entry(page).or_default() |= u8::MAX << kept;
            }
        }
        self.len_dirty |= len != self.now.len;
        self.now.set_len(len);
    }

    /// Everything dirty is durable.
    pub(super) fn sync(&mut self) {
        if self.len_dirty || !self.dirty.is_empty() {
            self.durable.len = self.now.len;
        }
        for page in std::mem::take(&mut self.dirty).into_keys() {
            match self.now.pages.get(&page) {
                Some(bytes) => self.durable.pages.insert(page, bytes.clone()),
                None => self.durable.pages.remove(&page),
            };
        }
        self.len_dirty = false;
    }

    /// What Linux does: the dirty pages are marked clean though they never reached the device.
    pub(super) fn sync_failed(&mut self) {
        self.dirty.clear();
        self.len_dirty = false;
    }

    /// What the file holds after power was lost.
    pub(super) fn crash(mut self, garbage_per_mille: u16, random: &mut SplitMix64) -> Self {
        let dirty = std::mem::take(&mut self.dirty);
        let sectors: Vec<(u64, usize)> =
            dirty.iter().flat_map(|(page, mask)| sectors_of(*mask).map(|sector| (*page, sector))).collect();
        // A fair coin per sector alone would nearly never leave a long write whole, or gone, or cut once.
        let count = sectors.len() as u64;
        let (kept_first, coin) = match random.below(4) {
            0 => (0, false),
            1 => (count, false),
            2 => (random.below(count + 1), false),
            _ => (0, true),
        };
        for (index, (page, sector)) in sectors.into_iter().enumerate() {
            let old = self.durable.pages.get(&page).cloned().unwrap_or_else(zero_page);
            if (index as u64) < kept_first || (coin && random.one_in(2)) {
                self.keep_sector(page, sector);
            }
            if random.below(1000) < u64::from(garbage_per_mille) {
                self.spoil_sector(page, sector, &old, random);
            }
        }
        let (old, new) = (self.durable.len, self.now.len);
        let len = match random.below(3) {
            _ if !self.len_dirty => old,
            0 => old,
            1 if new > old => old + random.below(new - old + 1),
            _ => new,
        };
        // Pages beyond the size that lasted are gone, also where the size did not change.
        self.durable.set_len(len);
        Self::durable(self.durable)
    }

    /// Garbage where bytes were being changed. Those beside them in the sector stay good: like SQLite we take
    /// it that a device harms nothing outside the range it was given (<https://sqlite.org/psow.html>).
    fn spoil_sector(&mut self, page: u64, sector: usize, old: &Page, random: &mut SplitMix64) {
        let mut garbage = [0; SECTOR_BYTES];
        random.fill(&mut garbage);
        let new = self.now.pages.get(&page).cloned().unwrap_or_else(zero_page);
        let target = Arc::make_mut(self.durable.pages.entry(page).or_insert_with(zero_page));
        for (index, byte) in garbage.into_iter().enumerate() {
            let at = sector * SECTOR_BYTES + index;
            if old[at] != new[at] {
                target[at] = byte;
            }
        }
    }

    /// Turns one bit over, on the device and in the cache. Beyond the end there is nothing to turn.
    pub(super) fn flip(&mut self, offset: u64, bit: u8) {
        for version in [&mut self.now, &mut self.durable] {
            if offset < version.len {
                let page = version.pages.entry(offset / PAGE_BYTES as u64).or_insert_with(zero_page);
                Arc::make_mut(page)[offset as usize % PAGE_BYTES] ^= 1 << (bit % 8);
            }
        }
    }
}

impl Version {
    fn set_len(&mut self, len: u64) {
        let last = len / PAGE_BYTES as u64;
        let start = len as usize % PAGE_BYTES;
        self.pages.split_off(&(last + u64::from(start > 0)));
        if let Some(page) = self.pages.get_mut(&last) {
            Arc::make_mut(page)[start..].fill(0);
        }
        self.len = len;
    }
}

/// The part of a range of bytes that lies in one page.
struct Piece {
    page: u64,
    /// Where it begins in the page.
    start: usize,
    len: usize,
    /// Bytes of the range before it.
    done: usize,
}

impl Piece {
    /// The sectors it touches, as bits.
    fn sectors(&self) -> u8 {
        let (first, last) = (self.start / SECTOR_BYTES, (self.start + self.len - 1) / SECTOR_BYTES);
        (u8::MAX << first) & (u8::MAX >> (SECTOR_COUNT - 1 - last))
    }
}

fn pieces(offset: u64, len: usize) -> impl Iterator<Item = Piece> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        let start = at as usize % PAGE_BYTES;
        let piece =
            Piece { page: at / PAGE_BYTES as u64, start, len: (PAGE_BYTES - start).min(len - done), done };
        done += piece.len;
        Some(piece)
    })
}

fn sectors_of(mask: u8) -> impl Iterator<Item = usize> {
    (0..SECTOR_COUNT).filter(move |sector| mask & (1 << sector) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(content: &Content) -> Vec<u8> {
        let mut bytes = vec![0; content.len() as usize];
        content.read(0, &mut bytes);
        bytes
    }

    #[test]
    fn a_piece_names_the_sectors_it_touches() {
        let sectors = |offset, len| pieces(offset, len).map(|piece| piece.sectors()).collect::<Vec<_>>();
        assert_eq!(sectors(0, 512), [0b0000_0001]);
        assert_eq!(sectors(511, 2), [0b0000_0011]);
        assert_eq!(sectors(4095, 2), [0b1000_0000, 0b0000_0001]);
        assert_eq!(sectors(512, 8192), [0b1111_1110, 0b1111_1111, 0b0000_0001]);
    }

    #[test]
    fn overwritten_sectors_are_each_old_or_new_after_power_loss() {
        let (mut torn_in_the_middle, mut whole, mut gone) = (0, 0, 0);
        for seed in 0..400 {
            let mut random = SplitMix64::new(seed);
            let mut content = Content::default();
            content.write(0, &[1; 6_000], &mut random);
            content.sync();
            content.write(1_000, &[2; 4_000], &mut random);
            let after = bytes(&content.crash(0, &mut random));
            assert_eq!(after.len(), 6_000);
            assert!(after[..1_000].iter().chain(&after[5_000..]).all(|byte| *byte == 1));
            let runs = after.chunk_by(|a, b| a == b).count();
            match after.iter().filter(|byte| **byte == 2).count() {
                0 => gone += 1,
                4_000 => whole += 1,
                _ if runs > 3 => torn_in_the_middle += 1,
                _ => {}
            }
        }
        assert!(torn_in_the_middle > 50 && whole > 50 && gone > 50, "{torn_in_the_middle} {whole} {gone}");
    }

    #[test]
    fn a_size_that_was_not_synced_lands_anywhere_between_and_bytes_may_be_missing_before_it() {
        let mut seen = BTreeMap::new();
        for seed in 0..200 {
            let mut random = SplitMix64::new(seed);
            let mut content = Content::default();
            content.write(0, &[1; 100], &mut random);
            content.sync();
            content.write(100, &[2; 5_000], &mut random);
            let after = bytes(&content.crash(0, &mut random));
            assert_eq!(after[..100], [1; 100]);
            let holes = after[100..].contains(&0);
            let size = match after.len() {
                100 => "old",
                5_100 => "new",
                _ => "between",
            };
            *seen.entry((size, holes)).or_insert(0) += 1;
        }
        assert_eq!(seen.len(), 5, "{seen:?}");
    }

    #[test]
    fn a_cut_that_was_not_synced_leaves_the_old_size_or_the_new() {
        for seed in 0..100 {
            let mut random = SplitMix64::new(seed);
            let mut content = Content::default();
            content.write(0, &[1; 10_000], &mut random);
            content.sync();
            content.set_len(3_000);
            let after = bytes(&content.crash(0, &mut random));
            assert!([3_000, 10_000].contains(&after.len()));
            assert_eq!(after[..3_000], [1; 3_000]);
        }
    }

    #[test]
    fn garbage_comes_only_where_bytes_were_being_changed() {
        for seed in 0..100 {
            let mut random = SplitMix64::new(seed);
            let mut content = Content::default();
            content.write(0, &[1; 8_192], &mut random);
            content.sync();
            content.write(4_200, &[2; 300], &mut random);
            let after = bytes(&content.crash(1_000, &mut random));
            assert!(after[..4_200].iter().chain(&after[4_500..]).all(|byte| *byte == 1));
            assert!(after[4_200..4_500].iter().any(|byte| ![1, 2].contains(byte)));
        }
    }

    #[test]
    fn a_state_between_two_writes_can_be_what_lasts() {
        let between = (0..400).any(|seed| {
            let mut random = SplitMix64::new(seed);
            let mut content = Content::default();
            content.write(0, &[1; 10], &mut random);
            content.sync();
            content.write(0, &[2; 10], &mut random);
            content.write(0, &[3; 10], &mut random);
            bytes(&content.crash(0, &mut random)) == [2; 10]
        });
        assert!(between);
    }

    #[test]
    fn zeros_that_fill_pages_are_stored_once_and_count_as_space() {
        let mut content = Content::default();
        content.write(0, &vec![0; 10 * PAGE_BYTES], &mut SplitMix64::new(1));
        assert_eq!(content.page_count(), 10);
        assert!(content.now.pages.values().all(|page| Arc::ptr_eq(page, &zero_page())));
        assert_eq!(content.bytes_that_fit(9 * PAGE_BYTES as u64 + 5, 3 * PAGE_BYTES, 1), 2 * PAGE_BYTES - 5);
    }
}
