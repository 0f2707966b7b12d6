//! A batch taken apart: each entry as a slice of the bytes that arrived, with its name and time.
//!
//! Plain chunks are not copied; a compressed chunk is unpacked once into bytes of its own, at most 128 KiB. Taking a
//! batch apart can check its digests in the same walk: a client does, a peer that reads what it verified at ingest
//! does not need to.
use crate::base::batch::HEADER_BYTES;
use crate::base::bytes_io::Reader;
use crate::base::chunk::{self, ChunkError, ChunkHeader};
use crate::base::{
    Batch, BatchError, Codec, Digest, Entry, EntryError, EntryId, EntryView, RunId, Seq, Statement,
};
use crate::base::{Timestamp, merkle};
use bytes::Bytes;

/// An entry as its log's peer numbered and stamped it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawEntry {
    /// Its name.
    pub id: EntryId,
    /// The run that was signed: that of its name, or the one that this is a branch of.
    pub signed_run: RunId,
    /// When it was appended.
    pub time: Timestamp,
    /// Its bytes.
    pub raw: Bytes,
}

impl RawEntry {
    /// The entry as a value that shares its bytes.
    pub fn entry(&self) -> Result<Entry, EntryError> {
        Ok(EntryView::parse(&self.raw)?.to_entry_within(&self.raw))
    }
}

/// Where an entry's bytes lie.
#[derive(Debug, Clone, Copy)]
struct Span {
    chunk: u32,
    at: u32,
    bytes: u32,
}

/// The entries of one batch.
#[derive(Debug)]
pub struct Contents {
    statement: Statement,
    chunks: Vec<Bytes>,
    spans: Vec<Span>,
}

impl Contents {
    /// Takes a batch apart without asking whether its entries are those that were signed.
    pub fn open(batch: &Batch) -> Result<Self, BatchError> {
        Self::walk(batch, |_| ())
    }

    /// Takes a batch apart and compares its digests with its root. Whether the root is signed is another question.
    pub fn check(batch: &Batch) -> Result<Self, BatchError> {
        let mut leaves: Vec<Digest> = Vec::new();
        let contents = Self::walk(batch, |raw| leaves.push(merkle::leaf(raw)))?;
        if merkle::root(&leaves) == contents.statement.root { Ok(contents) } else { Err(BatchError::Root) }
    }

    fn walk(batch: &Batch, mut each: impl FnMut(&[u8])) -> Result<Self, BatchError> {
        let statement = *batch.statement();
        let (mut chunks, mut spans, mut raw_bytes) = (Vec::new(), Vec::new(), 0usize);
        let body = batch.bytes().slice(HEADER_BYTES..);
        let mut reader = Reader::new(&body);
        while !reader.is_empty() {
            let header = ChunkHeader::parse(&mut reader)?;
            let stored = reader.take(header.stored_bytes as usize).map_err(ChunkError::from)?;
            let raw = unpack(&header, &body, stored)?;
            let mut at = 0usize;
            for view in chunk::entries(&raw, header.entry_count) {
                let bytes = view?.raw.len();
                each(&raw[at..at + bytes]);
                spans.push(Span { chunk: chunks.len() as u32, at: at as u32, bytes: bytes as u32 });
                at += bytes;
            }
            raw_bytes += raw.len();
            chunks.push(raw);
        }
        let whole =
            spans.len() == statement.entry_count as usize && raw_bytes == statement.raw_bytes as usize;
        if whole { Ok(Self { statement, chunks, spans }) } else { Err(BatchError::Root) }
    }

    /// What the batch says of itself.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// How many entries it has, at least 1.
    pub fn entry_count(&self) -> usize {
        self.spans.len()
    }

    /// The time of entry `index`.
    pub fn time(&self, index: usize) -> Timestamp {
        self.statement.first_time.plus(index as u64)
    }

    /// The number of entry `index`.
    pub fn seq(&self, index: usize) -> Seq {
        self.statement.first_seq.after(index as u64)
    }

    /// Entry `index`. Panics when there is none.
    pub fn entry(&self, index: usize) -> RawEntry {
        let Span { chunk, at, bytes } = self.spans[index];
        let (log, run) = (self.statement.log, self.statement.run);
        RawEntry {
            id: EntryId { topic: log.topic, peer: log.peer, run, seq: self.seq(index) },
            signed_run: self.statement.signed_run().run,
            time: self.time(index),
            raw: self.chunks[chunk as usize].slice(at as usize..(at + bytes) as usize),
        }
    }
}

fn unpack(header: &ChunkHeader, body: &Bytes, stored: &[u8]) -> Result<Bytes, ChunkError> {
    match header.codec {
        Codec::None => Ok(body.slice_ref(stored)),
        Codec::Zstd => {
            let mut raw = Vec::new();
            header.unpack(stored, &mut raw)?;
            Ok(raw.into())
        }
    }
}
