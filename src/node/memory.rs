//! What the engine remembers across starts, beside what the logs say: producers' numbers, and how late it was.
//!
//! It goes into the checkpoint as bytes. It may be newer than the checkpoint's logs, so on opening what names entries
//! that are not there is dropped.
use crate::base::bytes_io::{Reader, Truncated, put_varint};
use crate::base::{RunId, Seq, TopicId};
use crate::topic::producers::Producers;

const VERSION: u8 = 2;

/// What is remembered. A clone is cheap: it shares what both agree on.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// The latest Unix time that this peer believed, in milliseconds.
    pub unix_ms: u64,
    /// Producers, topic by topic.
    pub producers: Producers,
}

impl Memory {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_pieces(&mut |piece| out.extend_from_slice(piece));
        out
    }

    /// The same piece by piece, so that the whole is never in memory.
    pub fn encode_pieces(&self, each: &mut dyn FnMut(&[u8])) {
        let mut out = vec![VERSION];
        put_varint(&mut out, self.unix_ms);
        each(&out);
        self.producers.encode_pieces(each);
    }

    /// Reads what [`Self::encode`] wrote; nothing when it is empty or of another version, which costs no more than that
    /// retries across this restart are not recognised.
    pub fn decode(bytes: &[u8]) -> Self {
        Self::read(bytes).unwrap_or_default()
    }

    fn read(bytes: &[u8]) -> Result<Self, Truncated> {
        let mut r = Reader::new(bytes);
        if r.u8()? != VERSION {
            return Err(Truncated);
        }
        Ok(Self { unix_ms: r.varint()?, producers: Producers::decode(&mut r)? })
    }

    /// Drops what names entries that are not there.
    pub fn keep_held(&mut self, is_held: impl Fn(TopicId, RunId, Seq) -> bool) {
        self.producers.retain(|topic, chunk| is_held(topic, chunk.run, chunk.first_seq));
    }
}
