//! What workloads share: payloads, topics, when to stop.
use super::Setup;
use crate::base::TopicName;
use anyhow::Result;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Bytes that do not compress, the same for one seed (xorshift64*, Marsaglia 2003 and Vigna 2016).
pub fn payload(bytes: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(bytes + 8);
    while out.len() < bytes {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        out.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    out.truncate(bytes);
    out.into()
}

/// The `index`th topic of a workload that has not been run on this peer before.
pub fn topic(workload: &str, index: usize) -> Result<TopicName> {
    Ok(TopicName::new(&format!("bench/{workload}/{}/{index}", std::process::id()))?)
}

/// When a workload ends: after a time, or a count of operations, whichever comes first. Clones share the count.
#[derive(Debug, Clone)]
pub struct Until {
    started: Instant,
    time: Duration,
    count_max: u64,
    count: Arc<AtomicU64>,
}

impl Until {
    /// Begins now.
    pub fn begin(setup: &Setup, time: Duration) -> Self {
        let count_max = setup.count.unwrap_or(u64::MAX);
        Self { started: Instant::now(), time, count_max, count: Arc::default() }
    }

    /// Whether one more operation is to be made; counts it.
    pub fn goes_on(&self) -> bool {
        self.started.elapsed() < self.time && self.count.fetch_add(1, Ordering::Relaxed) < self.count_max
    }

    /// How long it has run.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_have_the_length_asked_for_and_differ_by_seed() {
        for bytes in [0, 1, 7, 8, 1024] {
            assert_eq!(payload(bytes, 1).len(), bytes);
        }
        assert_ne!(payload(16, 1), payload(16, 2));
        assert_eq!(payload(16, 1), payload(16, 1));
    }
}
