//! How packets fare, and which ways are closed: drawn for a while, between hosts.
use crate::random::Random;
use std::fmt;
use std::net::IpAddr;

/// From which host to which.
pub type Way = (IpAddr, IpAddr);

/// How packets fare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weather {
    /// Milliseconds that each takes at least.
    pub latency_ms: u64,
    /// Milliseconds beyond that, at most; within them packets overtake each other.
    pub jitter_ms: u64,
    /// Bytes a second of each way.
    pub bytes_per_s: u64,
    /// Of a thousand packets, those that are lost.
    pub lost: u64,
    /// Those that come twice.
    pub doubled: u64,
    /// Those that come much later than others.
    pub swapped: u64,
}

impl Weather {
    /// One room: 1 ms, 1 Gbit/s, nothing lost.
    pub const FAIR: Self =
        Self { latency_ms: 1, jitter_ms: 0, bytes_per_s: 125_000_000, lost: 0, doubled: 0, swapped: 0 };

    /// Any weather.
    pub fn draw(random: &mut Random) -> Self {
        if random.one_in(4) {
            return Self::FAIR;
        }
        let (latency_ms, jitter_ms) = (random.between(1, 120), random.below(60));
        let bytes_per_s = *random.pick(&[100_000, 1_000_000, 12_500_000, 125_000_000]);
        let mut rate = |one_in: u64, max: u64| if random.one_in(one_in) { random.below(max) } else { 0 };
        let (lost, doubled, swapped) = (rate(2, 80), rate(3, 50), rate(3, 100));
        Self { latency_ms, jitter_ms, bytes_per_s, lost, doubled, swapped }
    }
}

impl fmt::Display for Weather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { latency_ms, jitter_ms, bytes_per_s, lost, doubled, swapped } = self;
        write!(
            f,
            "packets take {latency_ms} to {} ms at {bytes_per_s} bytes a second; ",
            latency_ms + jitter_ms
        )?;
        write!(f, "of a thousand {lost} are lost, {doubled} come twice, {swapped} late")
    }
}
