//! Neighbouring entries of one run as one run of bytes: made durable, signed, sent and stored as they are.
//!
//! ```text
//!   0 statement (160)   signed by the log's peer
//! 160 signature (64)
//! 224 envelope (32)     written by each store for itself: lengths, form, checksums
//! 256 body              chunks, one behind the other
//! ```
//!
//! A [`Batch`] has a header that is sound and a body of the length it names. Whether the body matches the signed
//! root is asked with [`Batch::check_entries`]; whether the signature holds is asked of `identity`.
use crate::base::bytes_io::Reader;
use crate::base::chunk::{self, Chunk, ChunkError, ChunkHeader};
use crate::base::entry::EntryView;
use crate::base::ids::{Digest, EntryId, ProducerId, RunId, Seq};
use crate::base::limits::*;
use crate::base::merkle;
use crate::base::statement::{self, SIGNATURE_BYTES, STATEMENT_BYTES, Signature, Statement, StatementError};
use crate::base::time::Timestamp;
use bytes::Bytes;

/// Bytes before the body.
pub const HEADER_BYTES: usize = 256;
const ENVELOPE_AT: usize = STATEMENT_BYTES + SIGNATURE_BYTES;
const BRANCH_AT: usize = ENVELOPE_AT + 8;
const HEADER_CRC_AT: usize = HEADER_BYTES - 4;

/// Why bytes are no good batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// They are shorter or longer than the header says.
    #[error("a batch's bytes do not have the length its header names")]
    Length,
    /// The header's checksum is wrong: the bytes were damaged at rest or on the way.
    #[error("the checksum of a batch's header is wrong")]
    HeaderChecksum,
    /// The body's checksum is wrong: the bytes were damaged at rest or on the way.
    #[error("the checksum of a batch's body is wrong")]
    BodyChecksum,
    /// The statement is none.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// The envelope names a form or sizes that are not known here.
    #[error("a batch's envelope is not known here")]
    Envelope,
    /// The body is not made of chunks.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// The entries are not those that were signed.
    #[error("a batch's entries do not match its signed root")]
    Root,
}

/// What a store writes of a batch for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope {
    /// Bytes of the body.
    pub body_bytes: u32,
    /// Chunks in the body.
    pub chunk_count: u16,
    /// CRC32C of the body.
    pub body_crc: u32,
}

/// A batch whose header is sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    bytes: Bytes,
    statement: Statement,
    signature: Signature,
    envelope: Envelope,
}

/// The header of a batch, read on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// What is signed.
    pub statement: Statement,
    /// The signature, not yet checked.
    pub signature: Signature,
    /// What the store wrote for itself.
    pub envelope: Envelope,
}

impl BatchHeader {
    /// Bytes of the whole batch.
    pub fn batch_bytes(&self) -> usize {
        HEADER_BYTES + self.envelope.body_bytes as usize
    }

    /// Reads and checks the 256 bytes.
    pub fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Self, BatchError> {
        let (covered, crc) = bytes.split_at(HEADER_CRC_AT);
        if crc != crc32c::crc32c(covered).to_le_bytes() {
            return Err(BatchError::HeaderChecksum);
        }
        let mut r = Reader::new(covered);
        let field = |_| BatchError::Length;
        let statement = Statement::decode(&r.array().map_err(field)?)?;
        let signature = Signature(r.array().map_err(field)?);
        let body_bytes = r.u32().map_err(field)?;
        let (form, chunk_count) = (r.u16().map_err(field)?, r.u16().map_err(field)?);
        let (branch, of) = (RunId(r.u64().map_err(field)?), RunId(r.u64().map_err(field)?));
        let body_crc = r.u32().map_err(field)?;
        let sizes = HEADER_BYTES + body_bytes as usize <= BATCH_BYTES_MAX
            && (1..=BATCH_CHUNK_COUNT_MAX).contains(&usize::from(chunk_count))
            && body_bytes as usize >= chunk::HEADER_BYTES * usize::from(chunk_count);
        let is_branch = branch.is_some() && of.is_some() && branch != of && branch != statement.run;
        if form != 0 || !sizes || (!is_branch && (branch.is_some() || of.is_some())) {
            return Err(BatchError::Envelope);
        }
        let statement = match is_branch {
            true => statement.in_branch(branch, of, &statement::link(&covered_statement(bytes), &signature)),
            false => statement,
        };
        Ok(Self { statement, signature, envelope: Envelope { body_bytes, chunk_count, body_crc } })
    }
}

fn covered_statement(bytes: &[u8; HEADER_BYTES]) -> [u8; STATEMENT_BYTES] {
    *bytes.first_chunk().expect("a header begins with a statement")
}

impl Batch {
    /// Puts a batch together from chunks whose digests are known. Copies their bytes once.
    /// Panics when the statement does not count them: the caller made it from them.
    pub fn assemble(statement: Statement, signature: Signature, chunks: &[Chunk]) -> Self {
        let entry_count: u32 = chunks.iter().map(|c| c.header().entry_count).sum();
        assert_eq!(entry_count, statement.entry_count, "the statement counts the entries of its chunks");
        assert!(chunks.len() <= BATCH_CHUNK_COUNT_MAX, "the envelope can count the chunks");
        let body_bytes: usize = chunks.iter().map(|c| c.bytes().len()).sum();
        let mut out = Vec::with_capacity(HEADER_BYTES + body_bytes);
        out.extend_from_slice(&statement.encode());
        out.extend_from_slice(&signature.0);
        out.resize(HEADER_BYTES, 0);
        chunks.iter().for_each(|c| out.extend_from_slice(c.bytes()));
        let body_crc = crc32c::crc32c(&out[HEADER_BYTES..]);
        let envelope = Envelope { body_bytes: body_bytes as u32, chunk_count: chunks.len() as u16, body_crc };
        write_envelope(&mut out, &envelope);
        Self { bytes: out.into(), statement, signature, envelope }
    }

    /// Reads a batch that is all of `bytes`: checks the header and the length, not the body.
    pub fn parse(bytes: Bytes) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(bytes.first_chunk().ok_or(BatchError::Length)?)?;
        if bytes.len() != header.batch_bytes() {
            return Err(BatchError::Length);
        }
        let BatchHeader { statement, signature, envelope } = header;
        Ok(Self { bytes, statement, signature, envelope })
    }

    /// The same batch in a branch of the run `of`; or as it was signed, when that is [`RunId::NONE`]. Copies its bytes.
    pub fn in_branch(&self, branch: RunId, of: RunId) -> Self {
        let mut out = self.bytes.to_vec();
        let (branch, of) = if of.is_some() { (branch, of) } else { (RunId::NONE, RunId::NONE) };
        out[BRANCH_AT..BRANCH_AT + 8].copy_from_slice(&branch.0.to_le_bytes());
        out[BRANCH_AT + 8..BRANCH_AT + 16].copy_from_slice(&of.0.to_le_bytes());
        write_envelope(&mut out, &self.envelope);
        let statement = match of.is_some() {
            true => self.statement.in_branch(branch, of, &self.link()),
            false => self.statement.as_signed(),
        };
        Self { bytes: out.into(), statement, signature: self.signature, envelope: self.envelope }
    }

    /// The whole batch as stored.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What is signed.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// Bytes of memory that it takes once it is taken apart, see [`chunk::memory_bytes`]: what a read counts.
    pub fn cost_bytes(&self) -> usize {
        chunk::memory_bytes(self.bytes.len(), self.statement.raw_bytes, self.statement.entry_count)
    }

    /// The signature, which `identity` checks.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// What the next batch of the log names as `previous`.
    pub fn link(&self) -> Digest {
        // A batch is at least as long as its header.
        statement::link(self.bytes.first_chunk().unwrap_or(&[0; STATEMENT_BYTES]), &self.signature)
    }

    fn body(&self) -> &[u8] {
        &self.bytes[HEADER_BYTES..]
    }

    /// Compares the body with its checksum: the check of the read path.
    pub fn check_body(&self) -> Result<(), BatchError> {
        if crc32c::crc32c(self.body()) == self.envelope.body_crc {
            Ok(())
        } else {
            Err(BatchError::BodyChecksum)
        }
    }

    /// Calls `each` with every entry, its name and its time, in order, until it answers `false`.
    pub fn for_each_entry(
        &self,
        mut each: impl FnMut(EntryId, Timestamp, &EntryView<'_>) -> bool,
    ) -> Result<(), BatchError> {
        let s = &self.statement;
        let (mut index, mut scratch, mut raw_bytes) = (0u64, Vec::new(), 0usize);
        let mut reader = Reader::new(self.body());
        for _ in 0..self.envelope.chunk_count {
            let header = ChunkHeader::parse(&mut reader)?;
            let stored = reader.take(header.stored_bytes as usize).map_err(ChunkError::from)?;
            for view in chunk::entries(header.unpack(stored, &mut scratch)?, header.entry_count) {
                let view = view?;
                let id = EntryId {
                    topic: s.log.topic,
                    peer: s.log.peer,
                    run: s.run,
                    seq: Seq(s.first_seq.0 + index),
                };
                if !each(id, s.first_time.plus(index), &view) {
                    return Ok(());
                }
                raw_bytes += view.raw.len();
                index += 1;
            }
        }
        let whole =
            reader.is_empty() && index == u64::from(s.entry_count) && raw_bytes == s.raw_bytes as usize;
        if whole { Ok(()) } else { Err(BatchError::Root) }
    }

    /// Calls `each` for every chunk in which all entries are of a producer, with the place of its first entry in the
    /// batch and the producer and number of each.
    pub fn for_each_chunk(
        &self,
        mut each: impl FnMut(u64, Vec<(ProducerId, u64)>),
    ) -> Result<(), BatchError> {
        let (mut index, mut scratch) = (0u64, Vec::new());
        let mut reader = Reader::new(self.body());
        for _ in 0..self.envelope.chunk_count {
            let header = ChunkHeader::parse(&mut reader)?;
            let stored = reader.take(header.stored_bytes as usize).map_err(ChunkError::from)?;
            let mut producers = Vec::new();
            for view in chunk::entries(header.unpack(stored, &mut scratch)?, header.entry_count) {
                producers.extend(view?.producer);
            }
            if producers.len() == header.entry_count as usize {
                each(index, producers);
            }
            index += u64::from(header.entry_count);
        }
        Ok(())
    }

    /// The digests of all entries.
    pub fn leaves(&self) -> Result<Vec<Digest>, BatchError> {
        // Not sized by the statement: its count is only believed once as many entries were walked.
        let mut leaves = Vec::new();
        self.for_each_entry(|_, _, view| {
            leaves.push(merkle::leaf(view.raw));
            true
        })?;
        Ok(leaves)
    }

    /// Recomputes every digest and the root and compares with what was signed.
    pub fn check_entries(&self) -> Result<(), BatchError> {
        let leaves = self.leaves()?;
        if merkle::root(&leaves) == self.statement.root { Ok(()) } else { Err(BatchError::Root) }
    }
}

fn write_envelope(out: &mut [u8], envelope: &Envelope) {
    out[ENVELOPE_AT..ENVELOPE_AT + 4].copy_from_slice(&envelope.body_bytes.to_le_bytes());
    out[ENVELOPE_AT + 6..ENVELOPE_AT + 8].copy_from_slice(&envelope.chunk_count.to_le_bytes());
    out[ENVELOPE_AT + 24..ENVELOPE_AT + 28].copy_from_slice(&envelope.body_crc.to_le_bytes());
    let crc = crc32c::crc32c(&out[..HEADER_CRC_AT]);
    out[HEADER_CRC_AT..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
}

/// The statement of a batch over `chunks`, but for the signature: counts, sizes and root are taken from them.
pub fn state(of: &Statement, chunks: &[Chunk]) -> Statement {
    let leaves: Vec<Digest> = chunks.iter().flat_map(|c| c.leaves().iter().copied()).collect();
    Statement {
        entry_count: leaves.len() as u32,
        raw_bytes: chunks.iter().map(|c| c.header().raw_bytes).sum(),
        root: merkle::root(&leaves),
        ..*of
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::chunk::{ChunkBuilder, Codec};
    use crate::base::entry::Entry;
    use crate::base::ids::{LogId, PeerId, TopicId};

    fn chunk(codec: Codec, payloads: &[&str]) -> Chunk {
        let mut builder = ChunkBuilder::new();
        for payload in payloads {
            builder.push(&Entry::from(payload.repeat(50))).unwrap();
        }
        Chunk::parse(builder.finish(codec)).unwrap()
    }

    fn batch() -> Batch {
        let chunks = [chunk(Codec::None, &["a", "b"]), chunk(Codec::Zstd, &["c", "d", "e"])];
        let blank = Statement {
            log: LogId { topic: TopicId([1; 16]), peer: PeerId([2; 32]) },
            run: RunId(3),
            parent: RunId::NONE,
            opens_run: true,
            first_seq: Seq(1),
            first_time: Timestamp::from_ms(7),
            entry_count: 0,
            raw_bytes: 0,
            previous: Digest::ZERO,
            root: Digest::ZERO,
            signed: None,
        };
        Batch::assemble(state(&blank, &chunks), Signature([9; 64]), &chunks)
    }

    #[test]
    fn a_batch_reads_back_with_numbers_and_times_counted_on() {
        let batch = Batch::parse(batch().bytes().clone()).unwrap();
        assert_eq!((batch.check_body(), batch.check_entries()), (Ok(()), Ok(())));
        let mut seen = Vec::new();
        batch
            .for_each_entry(|id, time, view| {
                seen.push((id.seq.0, time, view.payload[0]));
                true
            })
            .unwrap();
        let t = Timestamp::from_ms(7);
        let expected: Vec<_> = (0..5u64).map(|i| (i + 1, t.plus(i), b"abcde"[i as usize])).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn no_flipped_bit_goes_unnoticed() {
        let good = batch();
        for at in 0..good.bytes().len() {
            let mut bad = good.bytes().to_vec();
            bad[at] ^= 1 << (at % 8);
            let caught = match Batch::parse(bad.into()) {
                Err(_) => true,
                Ok(batch) => {
                    batch.check_body().is_err() && (batch.check_entries().is_err() || at >= HEADER_BYTES)
                }
            };
            assert!(caught, "byte {at}");
        }
    }

    #[test]
    fn a_batch_of_a_branch_names_it_and_is_signed_as_it_was() {
        let plain = batch();
        let first = crate::base::statement::branch_of(&plain.link());
        for (branch, opens_run) in [(first, true), (RunId(77), false)] {
            let of_branch = Batch::parse(plain.in_branch(branch, RunId(3)).bytes().clone()).unwrap();
            let s = of_branch.statement();
            assert_eq!((s.run, s.parent, s.opens_run), (branch, RunId(3), opens_run));
            assert_eq!((s.encode(), of_branch.link()), (plain.statement().encode(), plain.link()));
            assert_eq!(of_branch, plain.in_branch(branch, RunId(3)));
            assert_eq!(of_branch.in_branch(RunId::NONE, RunId::NONE), plain);
        }
    }

    #[test]
    fn every_cut_is_a_typed_error() {
        let good = batch();
        for cut in 0..good.bytes().len() {
            assert!(Batch::parse(good.bytes().slice(..cut)).is_err());
        }
    }
}
