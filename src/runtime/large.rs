//! Large entries: brought to the disk before their step, while what comes behind them in their log waits.
//!
//! ```text
//! append of 16 MiB ─> waits until its log is at rest ─> prewritten in the bulk lane ─> engine ─> step
//! later appends there ──────────────── wait in order ────────────────────────────────> engine ─> step
//! ```
//!
//! Other logs know nothing of it.
use crate::base::{LogId, TopicName};
use crate::runtime::core::Request;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};

/// Bytes of a chunk from which on it is brought to the disk before its step.
pub(super) const LARGE_BYTES_MIN: usize = 2 << 20;

/// Appends and imports that wait, log by log.
#[derive(Default)]
pub(super) struct Large {
    logs: BTreeMap<LogId, Waiting>,
}

struct Waiting {
    /// In order; the first is large, or goes on at once.
    requests: VecDeque<Request>,
    /// The step with which the log comes to rest.
    rests_with: u64,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// The first waits for the log to rest.
    Resting,
    /// The first is being brought to the disk.
    Writing,
    /// The first is on the disk.
    Written,
}

/// What is to be done next about a log.
pub(super) enum Next {
    /// Bring this to the disk, for a log of this topic.
    Prewrite(TopicName, Bytes),
    /// Hand this to the engine; whether it was brought to the disk.
    Take(Box<Request>, bool),
}

impl Large {
    /// Whether what is appended to a log has to wait behind something.
    pub(super) fn holds(&self, log: &LogId) -> bool {
        self.logs.contains_key(log)
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.logs.is_empty()
    }

    /// Adds a request behind those of its log, which comes to rest with step `rests_with`.
    pub(super) fn add(&mut self, log: LogId, request: Request, rests_with: u64) {
        let new = || Waiting { requests: VecDeque::new(), rests_with, state: State::Resting };
        self.logs.entry(log).or_insert_with(new).requests.push_back(request);
    }

    /// The logs for which something waits.
    pub(super) fn logs(&self) -> Vec<LogId> {
        self.logs.keys().copied().collect()
    }

    /// What is to be done next about `log`, when steps up to `settled` are done.
    pub(super) fn next(&mut self, log: &LogId, settled: u64) -> Option<Next> {
        let waiting = self.logs.get_mut(log)?;
        let Some(first) = waiting.requests.front() else {
            self.logs.remove(log);
            return None;
        };
        match (large_body(first), waiting.state) {
            (Some((topic, body)), State::Resting) if settled >= waiting.rests_with => {
                waiting.state = State::Writing;
                Some(Next::Prewrite(topic, body))
            }
            (Some(_), State::Resting | State::Writing) => None,
            (body, _) => {
                waiting.state = State::Resting;
                let request = waiting.requests.pop_front()?;
                Some(Next::Take(Box::new(request), body.is_some()))
            }
        }
    }

    /// `log` took something: it comes to rest with this step.
    pub(super) fn took(&mut self, log: &LogId, rests_with: u64) {
        if let Some(waiting) = self.logs.get_mut(log) {
            waiting.rests_with = rests_with;
        }
    }

    /// The first of `log` is on the disk.
    pub(super) fn written(&mut self, log: &LogId) {
        if let Some(waiting) = self.logs.get_mut(log) {
            waiting.state = State::Written;
        }
    }

    /// The first of `log` cannot be brought to the disk.
    pub(super) fn refuse(&mut self, log: &LogId) -> Option<Request> {
        let waiting = self.logs.get_mut(log)?;
        waiting.state = State::Resting;
        waiting.requests.pop_front()
    }

    /// Steps that were gathered will not come: all logs rest.
    pub(super) fn rest(&mut self) {
        self.logs.values_mut().for_each(|waiting| waiting.rests_with = 0);
    }

    /// Everything that waits, which will not be taken.
    pub(super) fn drain(&mut self) -> Vec<Request> {
        std::mem::take(&mut self.logs).into_values().flat_map(|waiting| waiting.requests).collect()
    }
}

fn large_body(request: &Request) -> Option<(TopicName, Bytes)> {
    match request {
        Request::Append { topic, chunk, .. } if chunk.bytes().len() >= LARGE_BYTES_MIN => {
            Some((topic.clone(), chunk.bytes().clone()))
        }
        _ => None,
    }
}
