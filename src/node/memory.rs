//! What the engine remembers across starts, beside what the logs say: producers' numbers, and how late it was.
//!
//! It goes into the checkpoint as bytes. It may be newer than the checkpoint's logs, so on opening what names entries
//! that are not there is dropped.
use crate::base::bytes_io::{Reader, Truncated, put_varint};
use crate::base::{RunId, Seq, TopicId};
use crate::topic::producers::Producers;
use std::collections::BTreeMap;

const VERSION: u8 = 1;

/// What is remembered.
#[derive(Debug, Default)]
pub struct Memory {
    /// The latest Unix time that this peer believed, in milliseconds.
    pub unix_ms: u64,
    /// Producers by topic.
    pub producers: BTreeMap<TopicId, Producers>,
}

impl Memory {
    /// The bytes of a memory with these parts.
    pub fn encode(unix_ms: u64, producers: &BTreeMap<TopicId, Producers>) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_varint(&mut out, unix_ms);
        put_varint(&mut out, producers.len() as u64);
        for (topic, producers) in producers {
            out.extend_from_slice(&topic.0);
            producers.encode(&mut out);
        }
        out
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
        let mut memory = Self { unix_ms: r.varint()?, ..Self::default() };
        for _ in 0..r.varint()? {
            memory.producers.insert(TopicId(r.array()?), Producers::decode(&mut r)?);
        }
        Ok(memory)
    }

    /// Drops what names entries that are not there.
    pub fn keep_held(&mut self, is_held: impl Fn(TopicId, RunId, Seq) -> bool) {
        for (topic, producers) in &mut self.producers {
            producers.keep_held(|run, seq| is_held(*topic, run, seq));
        }
    }
}
