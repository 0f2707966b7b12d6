//! What the engine remembers across starts, beside what the logs say: producers' numbers, and how late it was.
//!
//! It goes into the checkpoint as bytes. It may be newer than the checkpoint's logs, so on opening what names entries
//! that are not there is dropped.
use crate::base::bytes_io::{Reader, Truncated, put_varint};
use crate::base::{RunId, Seq, TopicId};
use crate::topic::producers::Producers;

const VERSION: u8 = 3;
/// The same without the time up to which entries were dated ahead.
const VERSION_BEFORE: u8 = 2;

/// What is remembered. A clone is cheap: it shares what both agree on.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// The latest Unix time that this peer believed, in milliseconds.
    pub unix_ms: u64,
    /// Up to when entries were dated ahead when an administrator last said that the clock is right; 0: never.
    pub accepted_ms: u64,
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
        put_varint(&mut out, self.accepted_ms);
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
        let version = r.u8()?;
        if version != VERSION && version != VERSION_BEFORE {
            return Err(Truncated);
        }
        let unix_ms = r.varint()?;
        let accepted_ms = if version == VERSION { r.varint()? } else { 0 };
        Ok(Self { unix_ms, accepted_ms, producers: Producers::decode(&mut r)? })
    }

    /// Drops what names entries that are not there.
    pub fn keep_held(&mut self, is_held: impl Fn(TopicId, RunId, Seq) -> bool) {
        self.producers.retain(|topic, chunk| is_held(topic, chunk.run, chunk.first_seq));
    }
}
