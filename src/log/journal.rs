//! The journal: a few preallocated, prewritten files, used in turn, that take every log's batches of a step in one write.
//!
//! ```text
//! file 7 (full)   file 8 (being written)        file 6, synced into segments: free, used again as file 9
//! └ Open Batch Batch Head … │ └ Open Batch … ← position        synced_until <= position
//! ```
//!
//! Overwriting bytes that were written before costs a sync about half of what appending costs, since nothing but data
//! moves. The first record of a file says where the file before it ended, so that a tail that was cut stays cut.
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::log::place;
use crate::log::record::{HEADER_BYTES, Lsn, RecordHeader, RecordKind, record_bytes};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};

/// Files that are ready to be written beside the one that is.
pub const SPARE_FILES: usize = 2;

/// What goes into the journal as one record.
#[derive(Debug, Clone)]
pub struct Record {
    /// What it is.
    pub kind: RecordKind,
    /// The segment that a batch goes to.
    pub segment: u32,
    /// The offset in it.
    pub offset: u64,
    /// The payload.
    pub payload: Bytes,
}

impl Record {
    /// A record without a place.
    pub fn new(kind: RecordKind, payload: impl Into<Bytes>) -> Self {
        Self { kind, segment: 0, offset: 0, payload: payload.into() }
    }

    /// Bytes it takes in the journal.
    pub fn bytes(&self) -> u64 {
        record_bytes(self.payload.len())
    }
}

/// Which files there are, and which of them hold records that are still needed.
#[derive(Debug, Default)]
pub struct Slots {
    /// Files that may be overwritten.
    pub free: Vec<u32>,
    /// Journal number → file.
    pub used: BTreeMap<u32, u32>,
    /// Files that are being made, which nobody else may take.
    pub making: BTreeSet<u32>,
    /// Numbers of files with damage in them, which are set aside and never overwritten.
    pub damaged: BTreeSet<u32>,
}

impl Slots {
    /// The number of a file that is not there yet.
    pub fn unused(&self) -> u32 {
        let taken = |slot: &u32| {
            self.free.contains(slot)
                || self.making.contains(slot)
                || self.used.values().any(|used| used == slot)
        };
        (0..).find(|slot| !taken(slot)).unwrap_or(u32::MAX)
    }

    /// Files whose journal number is at most `number` hold nothing that is needed any more; answers the numbers and
    /// files of those that are to be set aside, because some of what they held could not be read.
    pub fn release(&mut self, number: u32) -> Vec<(u32, u32)> {
        let keep = self.used.split_off(&(number + 1));
        let released = std::mem::replace(&mut self.used, keep);
        let (aside, free): (Vec<_>, Vec<_>) =
            released.into_iter().partition(|(number, _)| self.damaged.contains(number));
        self.free.extend(free.into_iter().map(|(_, slot)| slot));
        self.damaged.retain(|damaged| *damaged > number);
        aside
    }
}

/// Writes zeros over a whole file, so that later writes change nothing but data, and makes its name durable. Where there
/// is no room for all of it, none is taken.
pub fn prewrite(disk: &dyn Disk, slot: u32, bytes: u64) -> io::Result<()> {
    let path = place::journal_path(slot);
    let file = disk.open(&path, OpenMode::Create)?;
    if let Err(error) = write_zeros(&*file, bytes) {
        // A part of a file is of no use, and others need the room.
        drop(file.set_len(0).and_then(|()| disk.remove(&path)));
        return Err(error);
    }
    file.sync_data()?;
    disk.sync_dir(place::JOURNAL_DIR)
}

fn write_zeros(file: &dyn DiskFile, bytes: u64) -> io::Result<()> {
    let zeros = vec![0u8; 1 << 20];
    let mut at = 0;
    while at < bytes {
        let count = (bytes - at).min(zeros.len() as u64);
        file.write_at(at, &[&zeros[..count as usize]])?;
        at += count;
    }
    Ok(())
}

/// The journal as it is written.
pub struct Journal {
    disk: Arc<dyn Disk>,
    slots: Arc<Mutex<Slots>>,
    file: Arc<dyn DiskFile>,
    file_bytes: u64,
    number: u32,
    position: u64,
    synced_until: Lsn,
}

/// What the first record of a file says of those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Before {
    /// Where the file before ended.
    pub end: Lsn,
    /// From here to the end everything is written again in the new file: what is bad there is no damage. The end
    /// itself when nothing is.
    pub copied_from: Lsn,
    /// Everything before this was synced.
    pub synced_until: Lsn,
}

impl Before {
    fn encode(&self) -> Vec<u8> {
        [self.end.0.to_le_bytes(), self.copied_from.0.to_le_bytes()].concat()
    }

    /// What a good first record says.
    pub fn of(record: &FoundRecord) -> Option<Self> {
        let payload = record.payload.as_ref().filter(|_| record.header.kind == RecordKind::Open)?;
        let (end, copied_from) = payload.split_first_chunk()?;
        Some(Self {
            end: Lsn(u64::from_le_bytes(*end)),
            copied_from: Lsn(u64::from_le_bytes(copied_from.try_into().ok()?)),
            synced_until: record.header.synced_until,
        })
    }
}

impl Journal {
    /// Begins file `number`. Nothing is synced yet.
    pub fn begin(
        disk: Arc<dyn Disk>,
        slots: Arc<Mutex<Slots>>,
        file_bytes: u64,
        number: u32,
        before: Before,
    ) -> io::Result<Self> {
        let file = take_slot(&*disk, &slots, file_bytes, number)?;
        let synced_until = before.synced_until;
        let mut journal = Self { disk, slots, file, file_bytes, number, position: 0, synced_until };
        journal.write(&[Record::new(RecordKind::Open, before.encode())])?;
        Ok(journal)
    }

    /// The number of the file that is being written.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Where the next record will stand.
    pub fn end(&self) -> Lsn {
        Lsn::new(self.number, self.position)
    }

    /// Bytes left in the file.
    pub fn room(&self) -> u64 {
        self.file_bytes - self.position
    }

    /// Writes `records` in one go; the caller saw to it that they fit. On an error the position is as before, and what
    /// was written of them will be written over.
    pub fn write(&mut self, records: &[Record]) -> io::Result<u64> {
        const PADDING: [u8; 8] = [0; 8];
        let mut headers = Vec::with_capacity(records.len());
        let mut position = self.position;
        for record in records {
            let header = self.header(record, position);
            position += record.bytes();
            headers.push(header.encode());
        }
        assert!(position <= self.file_bytes, "the caller looked for room");
        let mut parts: Vec<&[u8]> = Vec::with_capacity(records.len() * 3);
        for (header, record) in headers.iter().zip(records) {
            let padding = record.payload.len().next_multiple_of(8) - record.payload.len();
            parts.extend([header.as_slice(), &record.payload, &PADDING[..padding]]);
        }
        self.file.write_at(self.position, &parts)?;
        let bytes = position - self.position;
        self.position = position;
        Ok(bytes)
    }

    fn header(&self, record: &Record, position: u64) -> RecordHeader {
        RecordHeader {
            kind: record.kind,
            lsn: Lsn::new(self.number, position),
            synced_until: self.synced_until,
            payload_bytes: record.payload.len() as u32,
            payload_crc: crc32c::crc32c(&record.payload),
            segment: record.segment,
            offset: record.offset,
        }
    }

    /// Makes everything written durable. After an error nothing is known: stop.
    pub fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        self.synced_until = self.end();
        Ok(())
    }

    /// Goes on in another file. Everything written so far must be synced.
    pub fn rotate(&mut self) -> io::Result<()> {
        let end = self.end();
        assert_eq!(self.synced_until, end, "a file is synced before the next is begun");
        let before = Before { end, copied_from: end, synced_until: end };
        let (disk, slots) = (self.disk.clone(), self.slots.clone());
        *self = Self::begin(disk, slots, self.file_bytes, self.number + 1, before)?;
        Ok(())
    }
}

fn take_slot(
    disk: &dyn Disk,
    slots: &Mutex<Slots>,
    file_bytes: u64,
    number: u32,
) -> io::Result<Arc<dyn DiskFile>> {
    let mut guard = crate::log::store::lock(slots);
    let free = guard.free.pop();
    let slot = free.unwrap_or_else(|| guard.unused());
    guard.used.insert(number, slot);
    drop(guard);
    let opened = (|| {
        if free.is_none() {
            prewrite(disk, slot, file_bytes)?;
        }
        disk.open(&place::journal_path(slot), OpenMode::Write)
    })();
    if opened.is_err() {
        let mut guard = crate::log::store::lock(slots);
        guard.used.remove(&number);
        guard.free.extend(free);
    }
    opened
}

/// One record as it was found.
#[derive(Debug, Clone)]
pub struct FoundRecord {
    /// Its header, whose checksum is right.
    pub header: RecordHeader,
    /// Its payload; `None` when its checksum is wrong.
    pub payload: Option<Bytes>,
    /// The bytes whose checksum is wrong, as far as the file has them.
    pub bad_payload: Option<Bytes>,
}

/// What a journal file holds.
#[derive(Debug, Default)]
pub struct FoundFile {
    /// The journal number, from its records.
    pub number: u32,
    /// Records with a good header, in order.
    pub records: Vec<FoundRecord>,
    /// Positions where a record should begin and none does, with the position of the next good one, if any.
    pub holes: Vec<(u64, Option<u64>)>,
    /// The byte behind the last good record.
    pub end: u64,
}

/// Reads everything that a journal file holds of its newest life; `None` when it never had one.
pub fn scan(bytes: &Bytes) -> Option<FoundFile> {
    newest_number(bytes).map(|number| scan_number(bytes, number))
}

/// Reads everything that a journal file holds of its life with this number.
pub(crate) fn scan_number(bytes: &Bytes, number: u32) -> FoundFile {
    let mut found = FoundFile { number, ..FoundFile::default() };
    let mut at = 0u64;
    while at + HEADER_BYTES as u64 <= bytes.len() as u64 {
        match record_at(bytes, number, at) {
            Some(record) => {
                at += record.header.record_bytes();
                // A record whose header is good and whose payload is not does not move the end by itself.
                if record.payload.is_some() {
                    found.end = at;
                }
                found.records.push(record);
            }
            None => {
                let next = next_record(bytes, number, at + 8);
                found.holes.push((at, next));
                match next {
                    Some(next) => at = next,
                    None => break,
                }
            }
        }
    }
    found
}

/// The journal number that the first record names of a file that begins with `start`.
pub(crate) fn number_at_start(start: &Bytes) -> Option<u32> {
    let first = start.first_chunk().and_then(RecordHeader::decode)?;
    (first.lsn.offset() == 0).then(|| first.lsn.number())
}

/// The journal number of a file's newest life; `None` when it never had one.
pub(crate) fn newest_number(bytes: &Bytes) -> Option<u32> {
    if let Some(number) = number_at_start(bytes) {
        return Some(number);
    }
    // The first record is damaged: the newest life is the highest number that any record names.
    let step = |at: usize| RecordHeader::decode(bytes.get(at..)?.first_chunk()?);
    let places = (0..bytes.len().saturating_sub(HEADER_BYTES)).step_by(8);
    let numbers = places.filter(|at| &bytes[*at..*at + 4] == b"CVYJ");
    numbers.filter_map(|at| step(at).filter(|h| h.lsn.offset() == at as u64)).map(|h| h.lsn.number()).max()
}

fn record_at(bytes: &Bytes, number: u32, at: u64) -> Option<FoundRecord> {
    let header = RecordHeader::decode(bytes.get(at as usize..)?.first_chunk()?)?;
    if header.lsn != Lsn::new(number, at) {
        return None;
    }
    let from = at as usize + HEADER_BYTES;
    let until = from.checked_add(header.payload_bytes as usize)?;
    let payload = bytes.slice(from..until.min(bytes.len()));
    let is_good = until <= bytes.len() && crc32c::crc32c(&payload) == header.payload_crc;
    let (payload, bad_payload) = if is_good { (Some(payload), None) } else { (None, Some(payload)) };
    Some(FoundRecord { header, payload, bad_payload })
}

fn next_record(bytes: &Bytes, number: u32, from: u64) -> Option<u64> {
    let end = bytes.len().saturating_sub(HEADER_BYTES) as u64;
    (from..=end).step_by(8).find(|at| {
        let at = *at as usize;
        &bytes[at..at + 4] == b"CVYJ"
            && bytes[at..]
                .first_chunk()
                .and_then(RecordHeader::decode)
                .is_some_and(|h| h.lsn == Lsn::new(number, at as u64))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemDisk;

    fn journal(disk: &MemDisk, number: u32) -> (Journal, Arc<Mutex<Slots>>) {
        disk.create_dir_all(place::JOURNAL_DIR).unwrap();
        let slots = Arc::new(Mutex::new(Slots::default()));
        let none = Lsn::new(0, 0);
        let before = Before { end: none, copied_from: none, synced_until: none };
        let journal = Journal::begin(Arc::new(disk.clone()), slots.clone(), 4096, number, before).unwrap();
        (journal, slots)
    }

    fn bytes(disk: &MemDisk, slot: u32) -> Bytes {
        let file = disk.open(&place::journal_path(slot), OpenMode::Read).unwrap();
        let mut out = vec![0; file.len().unwrap() as usize];
        file.read_exact_at(0, &mut out).unwrap();
        out.into()
    }

    #[test]
    fn records_are_found_as_they_were_written() {
        let disk = MemDisk::new(1);
        let (mut journal, _) = journal(&disk, 1);
        for size in [0, 1, 8, 100] {
            journal.write(&[Record::new(RecordKind::Mark, vec![7; size])]).unwrap();
            journal.sync().unwrap();
        }
        let found = scan(&bytes(&disk, 0)).unwrap();
        let sizes: Vec<_> = found.records.iter().map(|r| r.payload.as_ref().unwrap().len()).collect();
        assert_eq!(sizes, [16, 0, 1, 8, 100]);
        assert_eq!(found.end, journal.end().offset());
        assert_eq!(found.holes, [(found.end, None)]);
    }

    #[test]
    fn a_file_used_again_never_yields_its_earlier_life() {
        let disk = MemDisk::new(1);
        let (mut journal, slots) = journal(&disk, 1);
        for _ in 0..20 {
            journal.write(&[Record::new(RecordKind::Mark, vec![7; 40])]).unwrap();
        }
        journal.sync().unwrap();
        assert_eq!(crate::log::store::lock(&slots).release(1), []);
        journal.rotate().unwrap();
        journal.write(&[Record::new(RecordKind::Mark, vec![9; 40])]).unwrap();
        let found = scan(&bytes(&disk, 0)).unwrap();
        assert_eq!((found.number, found.records.len()), (2, 2));
        assert_eq!(found.holes, [(found.end, None)]);
    }

    #[test]
    fn a_file_that_is_being_made_is_not_taken_for_the_journal() {
        let disk = MemDisk::new(1);
        let (mut journal, slots) = journal(&disk, 1);
        let making = crate::log::store::lock(&slots).unused();
        crate::log::store::lock(&slots).making.insert(making);
        journal.sync().unwrap();
        journal.rotate().unwrap();
        assert_ne!(
            crate::log::store::lock(&slots).used[&2],
            making,
            "zeros would be written over its records"
        );
    }

    #[test]
    fn a_file_for_which_there_is_no_room_takes_none() {
        let disk = MemDisk::new(1);
        disk.create_dir_all(place::JOURNAL_DIR).unwrap();
        disk.control().set_capacity(64 << 10);
        let free = disk.free_bytes().unwrap();
        assert_eq!(prewrite(&disk, 0, 1 << 20).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!((disk.free_bytes().unwrap(), disk.list(place::JOURNAL_DIR).unwrap()), (free, vec![]));
    }

    #[test]
    fn damage_between_good_records_is_a_hole_with_an_end() {
        let disk = MemDisk::new(1);
        let (mut journal, _) = journal(&disk, 1);
        for _ in 0..3 {
            journal.write(&[Record::new(RecordKind::Mark, vec![7; 40])]).unwrap();
        }
        let mut bad = bytes(&disk, 0).to_vec();
        let second = record_bytes(16) + record_bytes(40);
        bad[second as usize + 9] ^= 1;
        let found = scan(&bad.into()).unwrap();
        assert_eq!(found.records.len(), 3);
        assert_eq!(found.holes[0], (second, Some(second + record_bytes(40))));
    }
}
