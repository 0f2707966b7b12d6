//! What happened in a run, one line an event, and a hash over all of it: the same seed, the same hash.
use conveyor::base::{Digest, hex, merkle};
use std::collections::VecDeque;
use std::fmt;

/// Lines kept for the report of a failure.
const LAST_MAX: usize = 40;

/// The events of a run.
#[derive(Debug)]
pub struct Trace {
    hash: Digest,
    count: u64,
    last: VecDeque<String>,
    is_printed: bool,
}

impl Trace {
    /// An empty trace; with `is_printed` each event goes to standard output as it happens.
    pub fn new(is_printed: bool) -> Self {
        Self { hash: Digest::ZERO, count: 0, last: VecDeque::new(), is_printed }
    }

    /// Adds an event.
    pub fn note(&mut self, event: fmt::Arguments<'_>) {
        self.count += 1;
        let line = format!("{:5} {event}", self.count);
        self.hash = merkle::leaf(&[self.hash.0.as_slice(), line.as_bytes()].concat());
        if self.is_printed {
            println!("{line}  {}", hex::encode(&self.hash.0[..4]));
        }
        if self.last.len() == LAST_MAX {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    /// Adds something to the hash that is too much to be told.
    pub fn absorb(&mut self, bytes: &[u8]) {
        self.hash = merkle::leaf(&[self.hash.0.as_slice(), bytes].concat());
    }

    /// How many events there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The hash over all events so far, in hexadecimal.
    pub fn hash(&self) -> String {
        hex::encode(&self.hash.0)
    }

    /// The newest events, oldest first.
    pub fn last(&self) -> Vec<String> {
        self.last.iter().cloned().collect()
    }
}
