//! Latencies as a histogram (Gil Tene's HdrHistogram): each value within a thousandth, from 1 us to minutes.
use hdrhistogram::Histogram;
use serde::Serialize;
use std::time::Duration;

/// Latencies of one worker, or of all of them.
#[derive(Debug, Clone)]
pub struct Latencies(Histogram<u64>);

impl Latencies {
    /// None yet.
    pub fn new() -> Self {
        // Three digits is within what the crate allows, so this does not fail.
        Self(Histogram::new(3).expect("three significant digits are allowed"))
    }

    /// Adds one.
    pub fn add(&mut self, latency: Duration) {
        // The histogram grows by itself up to the largest number, so recording does not fail.
        let _ = self.0.record(latency.as_micros() as u64);
    }

    /// Adds those of another worker.
    pub fn merge(&mut self, other: &Self) {
        self.0 += &other.0;
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency that the fraction `quantile` of all stayed within, in microseconds.
    pub fn us(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64
    }

    /// The usual ones.
    pub fn summary(&self) -> Summary {
        Summary {
            count: self.count(),
            p50_us: self.us(0.5),
            p90_us: self.us(0.9),
            p99_us: self.us(0.99),
            p999_us: self.us(0.999),
            max_us: self.0.max() as f64,
        }
    }
}

/// Latencies in microseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// How many were measured.
    pub count: u64,
    /// Half stayed within this.
    pub p50_us: f64,
    /// Nine of ten.
    pub p90_us: f64,
    /// 99 %.
    pub p99_us: f64,
    /// 99.9 %.
    pub p999_us: f64,
    /// All.
    pub max_us: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_workers_merge() {
        let (mut a, mut b) = (Latencies::new(), Latencies::new());
        (1..=50).for_each(|us| a.add(Duration::from_micros(us)));
        (51..=99).for_each(|us| b.add(Duration::from_micros(us)));
        b.add(Duration::from_secs(100));
        a.merge(&b);
        let summary = a.summary();
        assert_eq!((summary.count, summary.p50_us, summary.p99_us), (100, 50.0, 99.0));
        assert!((summary.max_us / 100e6 - 1.0).abs() < 0.001, "{summary:?}");
    }
}
