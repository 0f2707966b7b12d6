//! One record of the journal: what it is, where it stands, and how far the journal was synced when it was written.
//!
//! ```text
//!  0 magic "CVYJ"      8 position of this record (LSN)      24 payload bytes      36 offset in the segment
//!  4 kind, 0 0 0      16 synced until (LSN)                 28 CRC32C of payload  44 CRC32C of bytes 0..44
//!                                                           32 segment            48 payload, padded to 8
//! ```
//!
//! The position holds the number of the journal file, so a file used again never yields a record of its earlier life.
use crate::base::bytes_io::Reader;
use std::fmt;

/// Bytes before a record's payload.
pub const HEADER_BYTES: usize = 48;
const MAGIC: [u8; 4] = *b"CVYJ";

/// A position in the journal: the number of the file in the upper 32 bits, the byte in it below. Only ever grows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Byte `offset` of journal file `number`.
    pub fn new(number: u32, offset: u64) -> Self {
        assert!(offset <= u64::from(u32::MAX), "a journal file is far smaller");
        Self(u64::from(number) << 32 | offset)
    }

    /// The number of the file.
    pub fn number(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The byte in the file.
    pub fn offset(self) -> u64 {
        self.0 & u64::from(u32::MAX)
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.number(), self.offset())
    }
}

/// What a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum RecordKind {
    /// A batch, whole; segment and offset say where it will be flushed.
    Batch = 1,
    /// The header of a batch that was written to its segment, at segment and offset, and synced before this.
    Bulk = 2,
    /// A head and its signature: the log's trim.
    Head = 3,
    /// A lost statement and its signature.
    Lost = 4,
    /// Nothing: it only says how far the journal is synced.
    Mark = 5,
    /// A log's id: from here on its segment takes batches that are in no journal.
    Dirty = 6,
    /// A topic's id and name.
    Topic = 7,
    /// A peer's key and certificate.
    Certificate = 8,
    /// The first record of a file: the position where the file before it ended.
    Open = 9,
    /// A fork: its run, and twice a batch's statement and its signature.
    Fork = 10,
}

impl RecordKind {
    /// All of them.
    pub const ALL: [Self; 10] = {
        use RecordKind::*;
        [Batch, Bulk, Head, Lost, Mark, Dirty, Topic, Certificate, Open, Fork]
    };

    fn of(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// The first 48 bytes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeader {
    /// What follows.
    pub kind: RecordKind,
    /// Where this record stands.
    pub lsn: Lsn,
    /// Everything before this was synced when this was written.
    pub synced_until: Lsn,
    /// Bytes of the payload, padding left out.
    pub payload_bytes: u32,
    /// CRC32C of the payload.
    pub payload_crc: u32,
    /// The segment that batches go to, or 0.
    pub segment: u32,
    /// The offset in it, or 0.
    pub offset: u64,
}

impl RecordHeader {
    /// Bytes of the whole record, padded.
    pub fn record_bytes(&self) -> u64 {
        record_bytes(self.payload_bytes as usize)
    }

    /// The 48 bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[0..4].copy_from_slice(&MAGIC);
        out[4] = self.kind as u8;
        out[8..16].copy_from_slice(&self.lsn.0.to_le_bytes());
        out[16..24].copy_from_slice(&self.synced_until.0.to_le_bytes());
        out[24..28].copy_from_slice(&self.payload_bytes.to_le_bytes());
        out[28..32].copy_from_slice(&self.payload_crc.to_le_bytes());
        out[32..36].copy_from_slice(&self.segment.to_le_bytes());
        out[36..44].copy_from_slice(&self.offset.to_le_bytes());
        let crc = crc32c::crc32c(&out[..44]);
        out[44..48].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads 48 bytes; `None` when they are no record's header.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let (covered, crc) = bytes.split_at(44);
        if covered[0..4] != MAGIC || crc != crc32c::crc32c(covered).to_le_bytes() {
            return None;
        }
        let mut r = Reader::new(&covered[4..]);
        let kind = RecordKind::of(r.u8().ok()?)?;
        r.take(3).ok()?;
        Some(Self {
            kind,
            lsn: Lsn(r.u64().ok()?),
            synced_until: Lsn(r.u64().ok()?),
            payload_bytes: r.u32().ok()?,
            payload_crc: r.u32().ok()?,
            segment: r.u32().ok()?,
            offset: r.u64().ok()?,
        })
    }
}

/// Bytes of a record with `payload_bytes`, header and padding included.
pub fn record_bytes(payload_bytes: usize) -> u64 {
    (HEADER_BYTES + payload_bytes.next_multiple_of(8)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_and_no_flipped_bit_goes_unnoticed() {
        let header = RecordHeader {
            kind: RecordKind::Batch,
            lsn: Lsn::new(7, 4096),
            synced_until: Lsn::new(7, 100),
            payload_bytes: 77,
            payload_crc: 5,
            segment: 3,
            offset: 1 << 40,
        };
        let bytes = header.encode();
        assert_eq!(RecordHeader::decode(&bytes), Some(header));
        assert_eq!(header.record_bytes(), 48 + 80);
        for at in 0..HEADER_BYTES * 8 {
            let mut bad = bytes;
            bad[at / 8] ^= 1 << (at % 8);
            assert_eq!(RecordHeader::decode(&bad), None, "bit {at}");
        }
    }

    #[test]
    fn positions_order_by_file_and_then_by_byte() {
        assert!(Lsn::new(1, 4_000_000_000) < Lsn::new(2, 0));
        assert_eq!((Lsn::new(3, 9).number(), Lsn::new(3, 9).offset()), (3, 9));
    }
}
