//! What one client sent at once: entries, packed, perhaps compressed, kept verbatim for ever.
//!
//! ```text
//! stored bytes u32 | raw bytes u32 | entry count u32 | codec u8 | 0 0 0 | entries (stored bytes)
//! ```
//!
//! A [`Chunk`] can only be made by [`ChunkBuilder`] or by [`Chunk::parse`], which unpacks it within its stated
//! bounds and walks every entry. So whoever holds one knows that its entries are well formed and has their digests.
use crate::base::bytes_io::{Reader, Truncated};
use crate::base::entry::{Entry, EntryError, EntryView};
use crate::base::ids::{Digest, ProducerId};
use crate::base::limits::*;
use crate::base::merkle;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use zstd::bulk::Decompressor;

/// Bytes before a chunk's entries.
pub const HEADER_BYTES: usize = 16;

/// How a chunk's entries are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[repr(u8)]
pub enum Codec {
    /// As they are.
    #[default]
    None = 0,
    /// One zstd frame (RFC 8878).
    Zstd = 1,
}

/// Why bytes are no chunk. Nothing was stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum ChunkError {
    /// The bytes end inside the chunk, or go on behind it.
    #[error("a chunk's bytes do not have the length its header names")]
    Length,
    /// The codec is not known here, or a reserved byte is set.
    #[error("a chunk's codec is not known here")]
    Codec,
    /// It names more raw bytes or entries than a chunk may have, or none.
    #[error("a chunk of {entries} entries and {raw_bytes} raw bytes is outside its limits")]
    Limits {
        /// Entries it claims.
        entries: u32,
        /// Raw bytes it claims.
        raw_bytes: u32,
    },
    /// It does not unpack to what its header names.
    #[error("a compressed chunk does not unpack to what its header names")]
    Unpack,
    /// One of its entries is not well formed.
    #[error("entry {index} of a chunk: {error}")]
    Entry {
        /// Its place in the chunk, from 0.
        index: u32,
        /// What is wrong with it.
        error: EntryError,
    },
}

impl From<Truncated> for ChunkError {
    fn from(_: Truncated) -> Self {
        Self::Length
    }
}

/// A chunk's 16 bytes, within their limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkHeader {
    /// Bytes that follow the header.
    pub stored_bytes: u32,
    /// Bytes of the entries, unpacked.
    pub raw_bytes: u32,
    /// Entries.
    pub entry_count: u32,
    /// How they are stored.
    pub codec: Codec,
}

impl ChunkHeader {
    /// Reads and checks the header at the start of `reader`.
    pub fn parse(reader: &mut Reader<'_>) -> Result<Self, ChunkError> {
        let (stored_bytes, raw_bytes, entry_count) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let codec = match reader.array::<4>()? {
            [0, 0, 0, 0] => Codec::None,
            [1, 0, 0, 0] => Codec::Zstd,
            _ => return Err(ChunkError::Codec),
        };
        let raw_max = match (codec, entry_count) {
            (Codec::Zstd, _) => COMPRESSED_CHUNK_RAW_BYTES_MAX,
            (Codec::None, 1) => ENTRY_BYTES_MAX,
            (Codec::None, _) => CHUNK_RAW_BYTES_MAX,
        };
        let counts = 1..=CHUNK_ENTRY_COUNT_MAX as u32;
        if !counts.contains(&entry_count) || raw_bytes as usize > raw_max {
            return Err(ChunkError::Limits { entries: entry_count, raw_bytes });
        }
        let fits = match codec {
            Codec::None => stored_bytes == raw_bytes,
            Codec::Zstd => stored_bytes < raw_bytes,
        };
        if fits { Ok(Self { stored_bytes, raw_bytes, entry_count, codec }) } else { Err(ChunkError::Length) }
    }

    /// Bytes of memory that the chunk will take, see [`memory_bytes`]: known before it is unpacked.
    pub fn cost_bytes(&self) -> usize {
        memory_bytes(HEADER_BYTES + self.stored_bytes as usize, self.raw_bytes, self.entry_count)
    }

    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[0..4].copy_from_slice(&self.stored_bytes.to_le_bytes());
        out[4..8].copy_from_slice(&self.raw_bytes.to_le_bytes());
        out[8..12].copy_from_slice(&self.entry_count.to_le_bytes());
        out[12] = self.codec as u8;
        out
    }

    /// The raw entries behind this header: borrowed when stored as they are, unpacked into `scratch` otherwise.
    pub fn unpack<'a>(&self, stored: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<&'a [u8], ChunkError> {
        match self.codec {
            Codec::None => Ok(stored),
            Codec::Zstd => {
                scratch.clear();
                scratch.resize(self.raw_bytes as usize, 0);
                match UNPACKER
                    .with_borrow_mut(|unpacker| unpacker.decompress_to_buffer(stored, &mut scratch[..]))
                {
                    Ok(length) if length == scratch.len() => Ok(scratch),
                    _ => Err(ChunkError::Unpack),
                }
            }
        }
    }
}

thread_local! {
    /// Making one takes as long as unpacking a small chunk. It keeps nothing from one chunk to the next.
    static UNPACKER: RefCell<Decompressor<'static>> = RefCell::new(Decompressor::new().expect("there is memory"));
}

/// The entries of one chunk's raw bytes; ends after the first error.
pub fn entries(raw: &[u8], entry_count: u32) -> impl Iterator<Item = Result<EntryView<'_>, ChunkError>> {
    let (mut rest, mut index, mut failed) = (raw, 0u32, false);
    std::iter::from_fn(move || {
        if failed {
            return None;
        }
        if index == entry_count {
            failed = true;
            return if rest.is_empty() { None } else { Some(Err(ChunkError::Length)) };
        }
        let item = EntryView::parse(rest).map_err(|error| ChunkError::Entry { index, error });
        match &item {
            Ok(view) => rest = &rest[view.raw.len()..],
            Err(_) => failed = true,
        }
        index += 1;
        Some(item)
    })
}

/// What a peer must know of a chunk's entries before it may number them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChunkFacts {
    /// The producer and number of each entry, when every entry has them.
    pub producers: Vec<(ProducerId, u64)>,
    /// The latest `deliver_at` among the entries, in Unix milliseconds.
    pub deliver_at_ms_max: Option<u64>,
    /// Whether all entries are plain data, which is all that users may append.
    pub is_data: bool,
    /// Whether all are what a group did.
    pub is_group: bool,
}

/// Memory for each entry beside its bytes: 32 for its digest, 16 for its producer and number.
pub const ENTRY_COST_BYTES: usize = 48;

/// What `stored_bytes` that hold `entry_count` entries of `raw_bytes` take of memory: the larger of what is stored and
/// what comes out of it, and [`ENTRY_COST_BYTES`] for each entry. A packed chunk, or one of entries with nothing in them,
/// is many times larger in memory than on the wire, so whatever bounds memory counts this and not the bytes that came.
pub fn memory_bytes(stored_bytes: usize, raw_bytes: u32, entry_count: u32) -> usize {
    stored_bytes.max(raw_bytes as usize) + ENTRY_COST_BYTES * entry_count as usize
}

/// Entries sent together, checked, with their digests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    bytes: Bytes,
    header: ChunkHeader,
    leaves: Vec<Digest>,
    facts: ChunkFacts,
}

impl Chunk {
    /// Checks `bytes`, which are one chunk and nothing else. Never allocates more than the header's own limits allow.
    pub fn parse(bytes: Bytes) -> Result<Self, ChunkError> {
        let mut reader = Reader::new(&bytes);
        let header = ChunkHeader::parse(&mut reader)?;
        if reader.rest().len() != header.stored_bytes as usize {
            return Err(ChunkError::Length);
        }
        let mut scratch = Vec::new();
        let raw = header.unpack(reader.rest(), &mut scratch)?;
        // An entry has at least 4 bytes, so a count that lies is found before room is made for it.
        if header.entry_count as usize > raw.len() / 4 {
            return Err(ChunkError::Limits { entries: header.entry_count, raw_bytes: header.raw_bytes });
        }
        let mut leaves = Vec::with_capacity(header.entry_count as usize);
        let mut facts = ChunkFacts { is_data: true, is_group: true, ..ChunkFacts::default() };
        for view in entries(raw, header.entry_count) {
            let view = view?;
            leaves.push(merkle::leaf(view.raw));
            facts.producers.extend(view.producer);
            facts.deliver_at_ms_max = facts.deliver_at_ms_max.max(view.deliver_at_ms);
            facts.is_data &= view.kind == crate::base::EntryKind::Data;
            facts.is_group &= view.kind == crate::base::EntryKind::Group;
        }
        if facts.producers.len() != leaves.len() {
            facts.producers.clear();
        }
        Ok(Self { bytes, header, leaves, facts })
    }

    /// The chunk as stored and sent, its header included.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Its header.
    pub fn header(&self) -> &ChunkHeader {
        &self.header
    }

    /// Bytes of memory that holding it and working on it takes, see [`memory_bytes`]: what queues count.
    pub fn cost_bytes(&self) -> usize {
        self.header.cost_bytes()
    }

    /// The digest of each entry.
    pub fn leaves(&self) -> &[Digest] {
        &self.leaves
    }

    /// What its entries say of themselves.
    pub fn facts(&self) -> &ChunkFacts {
        &self.facts
    }
}

/// Packs entries until a chunk is full.
#[derive(Debug)]
pub struct ChunkBuilder {
    raw: Vec<u8>,
    entry_count: u32,
}

impl Default for ChunkBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl ChunkBuilder {
    /// An empty chunk.
    pub fn new() -> Self {
        Self { raw: vec![0; HEADER_BYTES], entry_count: 0 }
    }

    /// Entries added so far.
    pub fn entry_count(&self) -> u32 {
        self.entry_count
    }

    /// Raw bytes of the entries added so far.
    pub fn raw_bytes(&self) -> usize {
        self.raw.len() - HEADER_BYTES
    }

    /// Whether an entry of `raw_bytes` more still belongs into a chunk of at most `target` bytes.
    /// The first always does: a large entry is a chunk of its own.
    pub fn has_room(&self, raw_bytes: usize, target: usize) -> bool {
        let target = target.min(CHUNK_RAW_BYTES_MAX);
        self.entry_count == 0
            || (self.raw_bytes() + raw_bytes <= target && (self.entry_count as usize) < CHUNK_ENTRY_COUNT_MAX)
    }

    /// Adds an entry; on an error the chunk is as before. The caller asked [`Self::has_room`].
    pub fn push(&mut self, entry: &Entry) -> Result<usize, EntryError> {
        let bytes = entry.encode(&mut self.raw)?;
        self.entry_count += 1;
        Ok(bytes)
    }

    /// The chunk's bytes, compressed when `codec` asks for it, it is small enough, and it gets smaller by a tenth
    /// or more. Panics when nothing was pushed.
    pub fn finish(self, codec: Codec) -> Bytes {
        assert!(self.entry_count > 0, "a chunk has at least one entry");
        let raw_bytes = self.raw_bytes();
        let mut header = ChunkHeader {
            stored_bytes: raw_bytes as u32,
            raw_bytes: raw_bytes as u32,
            entry_count: self.entry_count,
            codec: Codec::None,
        };
        let mut out = self.raw;
        if codec == Codec::Zstd && raw_bytes <= COMPRESSED_CHUNK_RAW_BYTES_MAX {
            match zstd::bulk::compress(&out[HEADER_BYTES..], 1) {
                Ok(packed) if packed.len() + raw_bytes / 10 < raw_bytes => {
                    header.stored_bytes = packed.len() as u32;
                    header.codec = Codec::Zstd;
                    out.truncate(HEADER_BYTES);
                    out.extend_from_slice(&packed);
                }
                _ => {}
            }
        }
        out[..HEADER_BYTES].copy_from_slice(&header.encode());
        out.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(codec: Codec, count: u64) -> Bytes {
        let mut builder = ChunkBuilder::new();
        for number in 0..count {
            let mut entry = Entry::from(vec![b'x'; 100]);
            entry.producer = Some((ProducerId(1), number));
            builder.push(&entry).unwrap();
        }
        builder.finish(codec)
    }

    #[test]
    fn packed_or_not_a_chunk_has_the_same_entries_and_digests() {
        let (plain, packed) = (chunk(Codec::None, 10), chunk(Codec::Zstd, 10));
        assert!(packed.len() < plain.len() / 2);
        let (plain, packed) = (Chunk::parse(plain).unwrap(), Chunk::parse(packed).unwrap());
        assert_eq!(plain.leaves(), packed.leaves());
        assert_eq!(plain.facts(), packed.facts());
        assert_eq!(plain.facts().producers.len(), 10);
    }

    #[test]
    fn a_chunk_costs_what_it_takes_unpacked_and_something_for_each_entry() {
        let (plain, packed) = (chunk(Codec::None, 10), chunk(Codec::Zstd, 10));
        let (plain, packed) = (Chunk::parse(plain).unwrap(), Chunk::parse(packed).unwrap());
        assert_eq!(plain.cost_bytes(), plain.bytes().len() + 10 * ENTRY_COST_BYTES);
        assert_eq!(packed.cost_bytes() + HEADER_BYTES, plain.cost_bytes(), "packing makes nothing cheaper");
        let mut builder = ChunkBuilder::new();
        for _ in 0..CHUNK_ENTRY_COUNT_MAX {
            builder.push(&Entry::from("")).unwrap();
        }
        let empty = Chunk::parse(builder.finish(Codec::Zstd)).unwrap();
        assert!(empty.cost_bytes() > CHUNK_ENTRY_COUNT_MAX * ENTRY_COST_BYTES && empty.bytes().len() < 1024);
    }

    #[test]
    fn headers_that_lie_are_refused() {
        let good = chunk(Codec::Zstd, 10);
        let lie = |at: usize, value: u32| {
            let mut bytes = good.to_vec();
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            Chunk::parse(bytes.into()).unwrap_err()
        };
        assert_eq!(lie(0, 5), ChunkError::Length);
        assert!(matches!(lie(4, u32::MAX), ChunkError::Limits { .. }));
        assert_eq!(lie(4, 100_000), ChunkError::Unpack);
        assert!(matches!(lie(8, 0), ChunkError::Limits { .. }));
        assert!(matches!(lie(8, 16_000), ChunkError::Limits { .. }));
        assert_eq!(lie(8, 9), ChunkError::Length);
        assert!(matches!(lie(8, 11), ChunkError::Entry { index: 10, .. }));
        assert_eq!(lie(12, 7), ChunkError::Codec);
        assert_eq!(lie(12, 0), ChunkError::Length);
    }

    #[test]
    fn a_large_entry_is_a_chunk_of_its_own() {
        let mut builder = ChunkBuilder::new();
        assert!(builder.has_room(ENTRY_BYTES_MAX, 1024));
        builder.push(&Entry::from(vec![0; PAYLOAD_BYTES_MAX])).unwrap();
        assert!(!builder.has_room(1, usize::MAX));
        assert!(Chunk::parse(builder.finish(Codec::Zstd)).is_ok());
    }

    #[test]
    fn every_cut_is_a_typed_error() {
        for codec in [Codec::None, Codec::Zstd] {
            let good = chunk(codec, 3);
            for cut in 0..good.len() {
                assert!(Chunk::parse(good.slice(..cut)).is_err());
            }
        }
    }
}
