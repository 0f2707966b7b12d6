//! The seeded generator behind every choice of the memory disk: SplitMix64, so that old seeds keep their
//! meaning.
//!
//! Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.

#[derive(Clone, Debug)]
pub(in crate::disk) struct SplitMix64(u64);

impl SplitMix64 {
    pub(in crate::disk) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(in crate::disk) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `[0, bound)`; 0 for a bound of 0.
    pub(in crate::disk) fn below(&mut self, bound: u64) -> u64 {
        // The high half of the product: even enough for faults, and no division.
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    pub(in crate::disk) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    pub(in crate::disk) fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_sequence_comes_out() {
        let mut random = SplitMix64::new(1234567);
        assert_eq!(random.next(), 6457827717110365317);
        assert_eq!(random.next(), 3203168211198807973);
    }

    #[test]
    fn below_reaches_everything_and_nothing_more() {
        let mut random = SplitMix64::new(1);
        let mut seen = [0; 5];
        (0..500).for_each(|_| seen[random.below(5) as usize] += 1);
        assert!(seen.iter().all(|count| *count > 50), "{seen:?}");
        assert_eq!(random.below(0), 0);
    }
}
