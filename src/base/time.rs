//! Time, always handed in: hybrid logical clock values for entries, and what a caller knows of its clocks.
//!
//! A [`Timestamp`] is 48 bits of Unix milliseconds and 16 bits of counter, after Kulkarni et al., "Logical
//! Physical Clocks and Consistent Snapshots in Globally Distributed Databases" (2014). Within a run it never falls.
use serde::{Deserialize, Serialize};
use std::fmt;

/// When an entry was appended, as its writer saw it: milliseconds in the upper 48 bits, a counter below.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The earliest time there is.
    pub const ZERO: Self = Self(0);
    /// The latest millisecond that fits, some 8 900 years from 1970.
    pub const MS_MAX: u64 = (1 << 48) - 1;

    /// The first timestamp of Unix millisecond `ms`, capped at [`Self::MS_MAX`].
    pub fn from_ms(ms: u64) -> Self {
        Self(ms.min(Self::MS_MAX) << 16)
    }

    /// Unix milliseconds, rounded down.
    pub fn ms(self) -> u64 {
        self.0 >> 16
    }

    /// The timestamp `count` steps on; the counter carries into the milliseconds.
    pub fn plus(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms+{}", self.ms(), self.0 & 0xffff)
    }
}

/// What a caller knows of time at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Now {
    /// Milliseconds of a clock that never jumps, since some start of its own.
    pub mono_ms: u64,
    /// Milliseconds since 1970 by the host's wall clock, which may be wrong and may jump.
    pub unix_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_carries_into_the_milliseconds() {
        let t = Timestamp::from_ms(1000);
        assert_eq!(t.plus(0xffff).ms(), 1000);
        assert_eq!(t.plus(0x1_0000).ms(), 1001);
        assert!(t.plus(1) > t);
    }
}
