//! The file that `export` writes and `import` reads: signed batches, and the certificates of those who signed them.
//!
//! ```text
//! "CVYEXP1\n" | cluster 16 | topic length u16 | topic | frames …
//! frame = length u32 | kind u8 | length bytes | CRC32C u32 over length, kind and bytes
//!         kind 1: a certificate (DER), before the first batch of its peer
//!         kind 2: a batch, as docs/format.md has it
//!         kind 3: the end: count of batches u64, count of entries u64
//!         kind 4: first number u64, and a batch of which the entries from that on were set aside
//! ```
//!
//! A file without its end is cut short, and says so. Numbers are little-endian.
use crate::base::limits::BATCH_BYTES_MAX;
use crate::base::{Batch, ClusterId, Seq, TopicName};
use bytes::Bytes;
use std::io::{self, Read, Write};

const MAGIC: &[u8; 8] = b"CVYEXP1\n";
/// Where the version stands in it, as a digit.
const VERSION_AT: usize = 6;
const KIND_CERTIFICATE: u8 = 1;
const KIND_BATCH: u8 = 2;
const KIND_END: u8 = 3;
const KIND_ASIDE: u8 = 4;
/// Bytes before a batch that was set aside.
const ASIDE_PREFIX_BYTES: usize = 8;
const CERTIFICATE_BYTES_MAX: usize = 64 << 10;

/// Why a file cannot be imported. What stood before the fault was good.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It does not begin like an export.
    #[error("it is no file that `conveyor export` wrote")]
    Magic,
    /// Another version of the program wrote it.
    #[error(
        "it is an export of version {found:?}, and version '1' is known here: import it with the program that wrote it"
    )]
    Version {
        /// The version that it says.
        found: char,
    },
    /// It ends before its end.
    #[error("it is cut short after batch {batch_count}")]
    Cut {
        /// Good batches before.
        batch_count: u64,
    },
    /// A checksum, a length or a batch is wrong.
    #[error("it is damaged after batch {batch_count}: {reason}")]
    Damaged {
        /// Good batches before.
        batch_count: u64,
        /// What is wrong.
        reason: String,
    },
}

/// What a file holds, in order.
#[derive(Debug)]
pub enum Frame {
    /// The certificate of a peer whose batches follow.
    Certificate(Vec<u8>),
    /// A batch; header and body are sound, the signature is not yet checked.
    Batch(Batch),
    /// One of which the entries from this number on were set aside, since their peer was removed.
    Aside(Batch, Seq),
}

/// Writes an export.
pub struct Writer<W: Write> {
    file: W,
    batch_count: u64,
    entry_count: u64,
}

impl<W: Write> Writer<W> {
    /// Begins a file for `topic` of `cluster`.
    pub fn begin(mut file: W, cluster: ClusterId, topic: &TopicName) -> io::Result<Self> {
        file.write_all(MAGIC)?;
        file.write_all(&cluster.0)?;
        // A topic's name has 200 bytes at most.
        file.write_all(&(topic.as_str().len() as u16).to_le_bytes())?;
        file.write_all(topic.as_str().as_bytes())?;
        Ok(Self { file, batch_count: 0, entry_count: 0 })
    }

    /// Adds a certificate.
    pub fn certificate(&mut self, der: &[u8]) -> io::Result<()> {
        self.frame(KIND_CERTIFICATE, der)
    }

    /// Adds a batch.
    pub fn batch(&mut self, batch: &Batch) -> io::Result<()> {
        self.batch_count += 1;
        self.entry_count += u64::from(batch.statement().entry_count);
        self.frame(KIND_BATCH, batch.bytes())
    }

    /// Adds a batch of which the entries from `from` on were set aside; how many those are.
    pub fn aside(&mut self, batch: &Batch, from: Seq) -> io::Result<u64> {
        let count = aside_count(batch, from);
        self.batch_count += 1;
        self.entry_count += count;
        self.frame(KIND_ASIDE, &[&from.0.to_le_bytes(), &batch.bytes()[..]].concat())?;
        Ok(count)
    }

    /// Writes the end, and hands the file back with the counts of batches and entries.
    pub fn end(mut self) -> io::Result<(W, u64, u64)> {
        let counts = [self.batch_count.to_le_bytes(), self.entry_count.to_le_bytes()].concat();
        self.frame(KIND_END, &counts)?;
        Ok((self.file, self.batch_count, self.entry_count))
    }

    fn frame(&mut self, kind: u8, bytes: &[u8]) -> io::Result<()> {
        let head = head(kind, bytes.len());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&head), bytes);
        self.file.write_all(&head)?;
        self.file.write_all(bytes)?;
        self.file.write_all(&crc.to_le_bytes())
    }
}

/// Entries of a batch from a number on.
pub fn aside_count(batch: &Batch, from: Seq) -> u64 {
    let s = batch.statement();
    s.until().since(from.max(s.first_seq).min(s.until()))
}

fn head(kind: u8, length: usize) -> [u8; 5] {
    let mut head = [0; 5];
    // Batches and certificates are far below 4 GiB.
    head[..4].copy_from_slice(&(length as u32).to_le_bytes());
    head[4] = kind;
    head
}

/// Reads an export.
pub struct Reader<R: Read> {
    file: R,
    /// The cluster it came from.
    pub cluster: ClusterId,
    /// The topic it came from.
    pub topic: TopicName,
    batch_count: u64,
    entry_count: u64,
    is_ended: bool,
}

impl<R: Read> Reader<R> {
    /// Reads what the file begins with.
    pub fn begin(mut file: R) -> Result<Self, FileError> {
        let mut magic = [0; 8];
        file.read_exact(&mut magic).map_err(|_| FileError::Magic)?;
        if &magic != MAGIC {
            let found = char::from(magic[VERSION_AT]);
            magic[VERSION_AT] = MAGIC[VERSION_AT];
            let is_other = &magic == MAGIC && found.is_ascii_digit();
            return Err(if is_other { FileError::Version { found } } else { FileError::Magic });
        }
        let (mut cluster, mut length) = ([0; 16], [0; 2]);
        let cut = |error: io::Error| cut(error, 0);
        file.read_exact(&mut cluster).map_err(cut)?;
        file.read_exact(&mut length).map_err(cut)?;
        let mut name = vec![0; usize::from(u16::from_le_bytes(length))];
        file.read_exact(&mut name).map_err(cut)?;
        let name = String::from_utf8(name).map_err(|_| FileError::Magic)?;
        let topic = TopicName::system(&name).map_err(|_| FileError::Magic)?;
        Ok(Self { file, cluster: ClusterId(cluster), topic, batch_count: 0, entry_count: 0, is_ended: false })
    }

    /// The next certificate or batch; none behind the last.
    pub fn take(&mut self) -> Result<Option<Frame>, FileError> {
        if self.is_ended {
            return Ok(None);
        }
        let (kind, bytes) = self.frame()?;
        match kind {
            KIND_CERTIFICATE => Ok(Some(Frame::Certificate(bytes))),
            KIND_BATCH => {
                let batch = self.batch(Bytes::from(bytes))?;
                self.entry_count += u64::from(batch.statement().entry_count);
                Ok(Some(Frame::Batch(batch)))
            }
            KIND_ASIDE => {
                let mut bytes = Bytes::from(bytes);
                if bytes.len() < ASIDE_PREFIX_BYTES {
                    return Err(self.damaged("a batch without its first number"));
                }
                let from = bytes.split_to(ASIDE_PREFIX_BYTES);
                let from = Seq(u64::from_le_bytes(from[..].try_into().expect("that many were split off")));
                let batch = self.batch(bytes)?;
                self.entry_count += aside_count(&batch, from);
                Ok(Some(Frame::Aside(batch, from)))
            }
            KIND_END => {
                let counts = [self.batch_count.to_le_bytes(), self.entry_count.to_le_bytes()].concat();
                if bytes != counts {
                    return Err(self.damaged("the counts at the end are others"));
                }
                self.is_ended = true;
                Ok(None)
            }
            kind => Err(self.damaged(format!("frames of kind {kind} are not known here"))),
        }
    }

    fn batch(&mut self, bytes: Bytes) -> Result<Batch, FileError> {
        let batch = Batch::parse(bytes).map_err(|error| self.damaged(error))?;
        batch.check_body().map_err(|error| self.damaged(error))?;
        self.batch_count += 1;
        Ok(batch)
    }

    fn frame(&mut self) -> Result<(u8, Vec<u8>), FileError> {
        let mut head = [0; 5];
        self.file.read_exact(&mut head).map_err(|error| cut(error, self.batch_count))?;
        let [a, b, c, d, kind] = head;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        let length_max = match kind {
            KIND_BATCH => BATCH_BYTES_MAX,
            KIND_ASIDE => ASIDE_PREFIX_BYTES + BATCH_BYTES_MAX,
            _ => CERTIFICATE_BYTES_MAX,
        };
        if length > length_max {
            return Err(self.damaged(format!("a frame of {length} bytes")));
        }
        let (mut bytes, mut crc) = (vec![0; length], [0; 4]);
        self.file.read_exact(&mut bytes).map_err(|error| cut(error, self.batch_count))?;
        self.file.read_exact(&mut crc).map_err(|error| cut(error, self.batch_count))?;
        if crc != crc32c::crc32c_append(crc32c::crc32c(&head), &bytes).to_le_bytes() {
            return Err(self.damaged("a checksum is wrong"));
        }
        Ok((kind, bytes))
    }

    fn damaged(&self, reason: impl ToString) -> FileError {
        FileError::Damaged { batch_count: self.batch_count, reason: reason.to_string() }
    }
}

fn cut(error: io::Error, batch_count: u64) -> FileError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => FileError::Cut { batch_count },
        _ => FileError::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::batch::state;
    use crate::base::chunk::ChunkBuilder;
    use crate::base::{
        Chunk, Codec, Digest, Entry, LogId, PeerId, RunId, Seq, Signature, Statement, Timestamp, TopicId,
    };

    fn batch() -> Batch {
        let mut builder = ChunkBuilder::new();
        builder.push(&Entry::from("payload")).unwrap();
        let chunks = [Chunk::parse(builder.finish(Codec::None)).unwrap()];
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

    fn file() -> Vec<u8> {
        let topic = TopicName::new("jobs").unwrap();
        let mut writer = Writer::begin(Vec::new(), ClusterId([7; 16]), &topic).unwrap();
        writer.certificate(b"certificate").unwrap();
        writer.batch(&batch()).unwrap();
        let (file, batches, entries) = writer.end().unwrap();
        assert_eq!((batches, entries), (1, 1));
        file
    }

    fn read(bytes: &[u8]) -> Result<usize, FileError> {
        let mut reader = Reader::begin(bytes)?;
        let mut count = 0;
        while reader.take()?.is_some() {
            count += 1;
        }
        Ok(count)
    }

    #[test]
    fn what_was_written_is_read() {
        let file = file();
        let mut reader = Reader::begin(&file[..]).unwrap();
        assert_eq!((reader.cluster, reader.topic.as_str()), (ClusterId([7; 16]), "jobs"));
        assert!(matches!(reader.take(), Ok(Some(Frame::Certificate(der))) if der == b"certificate"));
        assert!(matches!(reader.take(), Ok(Some(Frame::Batch(found))) if found == batch()));
        assert!(matches!(reader.take(), Ok(None)));
    }

    #[test]
    fn a_file_of_another_version_is_told_from_one_that_is_no_export() {
        let mut file = file();
        file[VERSION_AT] = b'2';
        assert!(matches!(read(&file), Err(FileError::Version { found: '2' })));
        file[VERSION_AT] = b'\n';
        assert!(matches!(read(&file), Err(FileError::Magic)));
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_told() {
        let good = file();
        assert_eq!(read(&good).unwrap(), 2);
        for cut in 0..good.len() {
            assert!(read(&good[..cut]).is_err(), "cut at {cut}");
        }
        // The cluster and the topic's name are checked against the batches when these are imported.
        for at in (0..8).chain(30..good.len()) {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(read(&bad).is_err(), "byte {at}");
        }
    }
}
