//! What peers sign: batches, heads, and ranges that are lost. These bytes are frozen.
//!
//! A signature is Ed25519 over the 8 bytes that name the kind of statement, then the statement. Nothing about
//! storage is signed, so one statement holds for a batch compressed, recompressed or thinned.
//!
//! Every batch of a run carries the run and the run it goes on from. The first batch of a run has
//! [`Statement::OPENS_RUN`] set; its first seq and `previous` say where in the parent it goes on.
use crate::base::bytes_io::Reader;
use crate::base::ids::{Digest, LogId, PeerId, RunId, Seq, TopicId};
use crate::base::time::Timestamp;

/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;

/// An Ed25519 signature (or, in simulation, 64 bytes that stand for one).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; SIGNATURE_BYTES]);

impl std::fmt::Debug for Signature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signature({}…)", crate::base::hex::encode(&self.0[..4]))
    }
}

/// Why bytes are no statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// They do not begin as one, or are of a version not known here.
    #[error("these bytes are no statement of a version known here")]
    Magic,
    /// A field has a value that no peer writes.
    #[error("a statement's fields contradict each other")]
    Fields,
}

/// What can be signed: fixed bytes under a name of their own.
pub trait Signed {
    /// The 8 bytes that go before the statement when it is signed.
    const KIND: &'static [u8; 8];
    /// The statement's bytes.
    fn statement_bytes(&self) -> Vec<u8>;
    /// The peer whose key signs.
    fn signer(&self) -> PeerId;
    /// What the signature is made over.
    fn message(&self) -> Vec<u8> {
        [Self::KIND.as_slice(), &self.statement_bytes()].concat()
    }
}

/// What a batch says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statement {
    /// The log.
    pub log: LogId,
    /// The run.
    pub run: RunId,
    /// The run it goes on from; [`RunId::NONE`] for a log's first.
    pub parent: RunId,
    /// Whether this is the first batch of the run.
    pub opens_run: bool,
    /// The number of the first entry.
    pub first_seq: Seq,
    /// The time of the first entry; entry `i` has `first_time + i`.
    pub first_time: Timestamp,
    /// Entries, at least 1.
    pub entry_count: u32,
    /// Bytes of the raw entries.
    pub raw_bytes: u32,
    /// [`link`] of the batch before, also across runs; zero for a log's first batch.
    pub previous: Digest,
    /// Merkle root over the digests of the raw entries.
    pub root: Digest,
    /// What was signed in the place of run, parent and `opens_run`, where the batch is of a branch: of what a run that forked
    /// went on with. The fields above then say which branch.
    pub signed: Option<SignedRun>,
}

/// The run that a statement was signed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedRun {
    /// The run.
    pub run: RunId,
    /// The run it goes on from.
    pub parent: RunId,
    /// Whether the batch is the run's first.
    pub opens_run: bool,
}

/// Bytes of a batch's statement.
pub const STATEMENT_BYTES: usize = 160;
const STATEMENT_MAGIC: [u8; 4] = *b"CVYB";
const VERSION: u16 = 1;

impl Statement {
    /// The bit of the flags that marks the first batch of a run.
    pub const OPENS_RUN: u16 = 1;

    /// The number behind the last entry.
    pub fn until(&self) -> Seq {
        self.first_seq.after(u64::from(self.entry_count))
    }

    /// The time of the last entry.
    pub fn last_time(&self) -> Timestamp {
        self.first_time.plus(u64::from(self.entry_count) - 1)
    }

    /// The run that it was signed with.
    pub fn signed_run(&self) -> SignedRun {
        let Self { run, parent, opens_run, .. } = *self;
        self.signed.unwrap_or(SignedRun { run, parent, opens_run })
    }

    /// The same as it was signed, whatever branch it is of.
    pub fn as_signed(&self) -> Self {
        let SignedRun { run, parent, opens_run } = self.signed_run();
        Self { run, parent, opens_run, signed: None, ..*self }
    }

    /// The same in a branch of the run `parent`; `link` is its own.
    pub fn in_branch(&self, branch: RunId, parent: RunId, link: &Digest) -> Self {
        let signed = Some(self.signed_run());
        Self { run: branch, parent, opens_run: branch_of(link) == branch, signed, ..*self }
    }

    /// The 160 bytes that are signed.
    pub fn encode(&self) -> [u8; STATEMENT_BYTES] {
        let mut out = [0; STATEMENT_BYTES];
        out[0..4].copy_from_slice(&STATEMENT_MAGIC);
        out[4..6].copy_from_slice(&VERSION.to_le_bytes());
        let SignedRun { run, parent, opens_run } = self.signed_run();
        let flags = if opens_run { Self::OPENS_RUN } else { 0 };
        out[6..8].copy_from_slice(&flags.to_le_bytes());
        out[8..24].copy_from_slice(&self.log.topic.0);
        out[24..56].copy_from_slice(&self.log.peer.0);
        out[56..64].copy_from_slice(&run.0.to_le_bytes());
        out[64..72].copy_from_slice(&parent.0.to_le_bytes());
        out[72..80].copy_from_slice(&self.first_seq.0.to_le_bytes());
        out[80..88].copy_from_slice(&self.first_time.0.to_le_bytes());
        out[88..92].copy_from_slice(&self.entry_count.to_le_bytes());
        out[92..96].copy_from_slice(&self.raw_bytes.to_le_bytes());
        out[96..128].copy_from_slice(&self.previous.0);
        out[128..160].copy_from_slice(&self.root.0);
        out
    }

    /// Reads 160 bytes and checks what can be checked without a key.
    pub fn decode(bytes: &[u8; STATEMENT_BYTES]) -> Result<Self, StatementError> {
        // The array is as long as the fields below together.
        Self::read(&mut Reader::new(bytes)).unwrap_or(Err(StatementError::Magic))
    }

    fn read(r: &mut Reader<'_>) -> Result<Result<Self, StatementError>, crate::base::bytes_io::Truncated> {
        if r.array::<4>()? != STATEMENT_MAGIC || r.u16()? != VERSION {
            return Ok(Err(StatementError::Magic));
        }
        let flags = r.u16()?;
        let statement = Self {
            log: LogId { topic: TopicId(r.array()?), peer: PeerId(r.array()?) },
            run: RunId(r.u64()?),
            parent: RunId(r.u64()?),
            opens_run: flags & Self::OPENS_RUN != 0,
            first_seq: Seq(r.u64()?),
            first_time: Timestamp(r.u64()?),
            entry_count: r.u32()?,
            raw_bytes: r.u32()?,
            previous: Digest(r.array()?),
            root: Digest(r.array()?),
            signed: None,
        };
        let known = flags & !Self::OPENS_RUN == 0;
        Ok(if known && statement.is_sound() { Ok(statement) } else { Err(StatementError::Fields) })
    }

    /// What no honest peer violates: runs named, numbers from 1 and far from their end, sizes within limits,
    /// and a log's very first batch going on from nothing.
    pub fn is_sound(&self) -> bool {
        use crate::base::limits::{BATCH_ENTRY_COUNT_MAX, BATCH_RAW_BYTES_TARGET, ENTRY_BYTES_MAX};
        let counts = 1..=BATCH_ENTRY_COUNT_MAX as u32;
        let raw_max = if self.entry_count == 1 { ENTRY_BYTES_MAX } else { BATCH_RAW_BYTES_TARGET };
        let starts_log = self.first_seq == Seq::FIRST;
        self.run.is_some()
            && self.run != self.parent
            && self.first_seq >= Seq::FIRST
            && self.first_seq.0 < u64::MAX / 2
            && self.first_time.0 < u64::MAX / 2
            && counts.contains(&self.entry_count)
            && self.raw_bytes as usize <= raw_max
            && starts_log == (self.previous == Digest::ZERO)
            && (!starts_log || (self.opens_run && !self.parent.is_some()))
            && (!self.opens_run || starts_log || self.parent.is_some())
    }
}

impl Signed for Statement {
    const KIND: &'static [u8; 8] = b"CV-batch";

    fn statement_bytes(&self) -> Vec<u8> {
        self.encode().to_vec()
    }

    fn signer(&self) -> PeerId {
        self.log.peer
    }
}

/// What the next batch names as `previous`: BLAKE3 of a batch's statement and signature.
pub fn link(statement: &[u8; STATEMENT_BYTES], signature: &Signature) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(statement);
    hasher.update(&signature.0);
    Digest(*hasher.finalize().as_bytes())
}

/// The name of the branch that begins with the batch of this link: its first 8 bytes, which are the first 16 digits of it.
pub fn branch_of(link: &Digest) -> RunId {
    RunId(link.0.first_chunk().map_or(0, |first| u64::from_be_bytes(*first)))
}

/// How far a log reaches and where it starts, said by its peer on trim, on seal and while idle.
///
/// The newest outlives every segment, so that nothing is numbered twice and a trim is provable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The log.
    pub log: LogId,
    /// The run the log has reached; what is trimmed is counted along its chain of runs.
    pub run: RunId,
    /// The run that it goes on from.
    pub parent: RunId,
    /// Its first number, where it goes on from that, as far as its peer knew.
    pub from: Seq,
    /// The first entry that is still kept.
    pub start: Seq,
    /// The number behind the last entry.
    pub until: Seq,
    /// The peer's time when it said so.
    pub time: Timestamp,
    /// [`link`] of the last batch; zero when there never was one.
    pub last: Digest,
    /// Whether nothing will follow in this run.
    pub is_sealed: bool,
}

/// Bytes of a head.
pub const HEAD_BYTES: usize = 136;
const HEAD_MAGIC: [u8; 4] = *b"CVYH";

impl Head {
    /// Whether it says where its run begins: who signed it may not have known.
    pub fn says_where(&self) -> bool {
        !self.parent.is_some() || self.from > Seq::FIRST
    }

    /// How much it says: of two of one run that counts which says more.
    pub fn reach(&self) -> (Seq, Seq, bool, bool) {
        (self.start, self.until, self.is_sealed, self.says_where())
    }

    /// The 136 bytes.
    pub fn encode(&self) -> [u8; HEAD_BYTES] {
        let mut out = [0; HEAD_BYTES];
        out[0..4].copy_from_slice(&HEAD_MAGIC);
        out[4..6].copy_from_slice(&VERSION.to_le_bytes());
        out[6..8].copy_from_slice(&u16::from(self.is_sealed).to_le_bytes());
        out[8..24].copy_from_slice(&self.log.topic.0);
        out[24..56].copy_from_slice(&self.log.peer.0);
        out[56..64].copy_from_slice(&self.run.0.to_le_bytes());
        out[64..72].copy_from_slice(&self.parent.0.to_le_bytes());
        out[72..80].copy_from_slice(&self.from.0.to_le_bytes());
        out[80..88].copy_from_slice(&self.start.0.to_le_bytes());
        out[88..96].copy_from_slice(&self.until.0.to_le_bytes());
        out[96..104].copy_from_slice(&self.time.0.to_le_bytes());
        out[104..136].copy_from_slice(&self.last.0);
        out
    }

    /// Reads 136 bytes and checks what can be checked without a key.
    pub fn decode(bytes: &[u8; HEAD_BYTES]) -> Result<Self, StatementError> {
        Self::read(&mut Reader::new(bytes)).unwrap_or(Err(StatementError::Magic))
    }

    fn read(r: &mut Reader<'_>) -> Result<Result<Self, StatementError>, crate::base::bytes_io::Truncated> {
        if r.array::<4>()? != HEAD_MAGIC || r.u16()? != VERSION {
            return Ok(Err(StatementError::Magic));
        }
        let flags = r.u16()?;
        let head = Self {
            log: LogId { topic: TopicId(r.array()?), peer: PeerId(r.array()?) },
            run: RunId(r.u64()?),
            parent: RunId(r.u64()?),
            from: Seq(r.u64()?),
            start: Seq(r.u64()?),
            until: Seq(r.u64()?),
            time: Timestamp(r.u64()?),
            last: Digest(r.array()?),
            is_sealed: flags == 1,
        };
        let sound = flags <= 1
            && head.run.is_some()
            && head.run != head.parent
            && Seq::FIRST <= head.start.min(head.from)
            && head.start.max(head.from) <= head.until;
        Ok(if sound { Ok(head) } else { Err(StatementError::Fields) })
    }
}

impl Signed for Head {
    const KIND: &'static [u8; 8] = b"CV-head.";

    fn statement_bytes(&self) -> Vec<u8> {
        self.encode().to_vec()
    }

    fn signer(&self) -> PeerId {
        self.log.peer
    }
}

/// A range that no one holds any more, declared by the log's peer. It reads as a gap and heals if bytes turn up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// The log.
    pub log: LogId,
    /// The run.
    pub run: RunId,
    /// The first entry that is lost.
    pub from: Seq,
    /// The number behind the last.
    pub until: Seq,
    /// The peer's time when it said so.
    pub time: Timestamp,
    /// Who says so: the log's peer (others: reserved).
    pub signer: PeerId,
}

/// Bytes of a lost statement.
pub const LOST_BYTES: usize = 120;
const LOST_MAGIC: [u8; 4] = *b"CVYL";

impl Lost {
    /// The 120 bytes.
    pub fn encode(&self) -> [u8; LOST_BYTES] {
        let mut out = [0; LOST_BYTES];
        out[0..4].copy_from_slice(&LOST_MAGIC);
        out[4..6].copy_from_slice(&VERSION.to_le_bytes());
        out[8..24].copy_from_slice(&self.log.topic.0);
        out[24..56].copy_from_slice(&self.log.peer.0);
        out[56..64].copy_from_slice(&self.run.0.to_le_bytes());
        out[64..72].copy_from_slice(&self.from.0.to_le_bytes());
        out[72..80].copy_from_slice(&self.until.0.to_le_bytes());
        out[80..88].copy_from_slice(&self.time.0.to_le_bytes());
        out[88..120].copy_from_slice(&self.signer.0);
        out
    }

    /// Reads 120 bytes and checks what can be checked without a key.
    pub fn decode(bytes: &[u8; LOST_BYTES]) -> Result<Self, StatementError> {
        Self::read(&mut Reader::new(bytes)).unwrap_or(Err(StatementError::Magic))
    }

    fn read(r: &mut Reader<'_>) -> Result<Result<Self, StatementError>, crate::base::bytes_io::Truncated> {
        if r.array::<4>()? != LOST_MAGIC || r.u16()? != VERSION {
            return Ok(Err(StatementError::Magic));
        }
        let flags = r.u16()?;
        let lost = Self {
            log: LogId { topic: TopicId(r.array()?), peer: PeerId(r.array()?) },
            run: RunId(r.u64()?),
            from: Seq(r.u64()?),
            until: Seq(r.u64()?),
            time: Timestamp(r.u64()?),
            signer: PeerId(r.array()?),
        };
        let sound = flags == 0 && lost.from >= Seq::FIRST && lost.from < lost.until && lost.run.is_some();
        Ok(if sound { Ok(lost) } else { Err(StatementError::Fields) })
    }
}

impl Signed for Lost {
    const KIND: &'static [u8; 8] = b"CV-lost.";

    fn statement_bytes(&self) -> Vec<u8> {
        self.encode().to_vec()
    }

    fn signer(&self) -> PeerId {
        self.signer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement() -> Statement {
        Statement {
            log: LogId { topic: TopicId([1; 16]), peer: PeerId([2; 32]) },
            run: RunId(3),
            parent: RunId::NONE,
            opens_run: true,
            first_seq: Seq(1),
            first_time: Timestamp::from_ms(1_800_000_000_000),
            entry_count: 2,
            raw_bytes: 20,
            previous: Digest::ZERO,
            root: Digest([4; 32]),
            signed: None,
        }
    }

    #[test]
    fn statements_read_back_as_they_were_written() {
        let s = statement();
        assert_eq!(Statement::decode(&s.encode()), Ok(s));
        let head = Head {
            log: s.log,
            run: s.run,
            parent: RunId(7),
            from: Seq(1),
            start: Seq(1),
            until: Seq(3),
            time: s.first_time,
            last: Digest([5; 32]),
            is_sealed: true,
        };
        assert_eq!(Head::decode(&head.encode()), Ok(head));
        let lost = Lost {
            log: s.log,
            run: s.run,
            from: Seq(1),
            until: Seq(3),
            time: s.first_time,
            signer: s.log.peer,
        };
        assert_eq!(Lost::decode(&lost.encode()), Ok(lost));
    }

    #[test]
    fn statements_that_contradict_themselves_are_refused() {
        let s = statement();
        let bad = [
            Statement { run: RunId::NONE, ..s },
            Statement { parent: s.run, ..s },
            Statement { opens_run: false, ..s },
            Statement { first_seq: Seq(0), ..s },
            Statement { first_seq: Seq(2), ..s },
            Statement { entry_count: 0, ..s },
            Statement { entry_count: u32::MAX, ..s },
            Statement { raw_bytes: u32::MAX, ..s },
            Statement { first_seq: Seq(u64::MAX - 1), previous: Digest([1; 32]), ..s },
            Statement { previous: Digest([1; 32]), ..s },
        ];
        for bad in bad {
            assert_eq!(Statement::decode(&bad.encode()), Err(StatementError::Fields), "{bad:?}");
        }
        let mut bytes = s.encode();
        bytes[4] = 9;
        assert_eq!(Statement::decode(&bytes), Err(StatementError::Magic));
    }

    #[test]
    fn one_signature_never_serves_two_kinds_of_statement() {
        let kinds = [Statement::KIND, Head::KIND, Lost::KIND];
        for (i, a) in kinds.iter().enumerate() {
            assert!(kinds[i + 1..].iter().all(|b| a != b));
        }
    }
}
