//! Chance with a seed, so that a decision can be made again. Must never be used where somebody could gain by guessing.

/// A sequence of numbers (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    /// The sequence of a seed.
    #[must_use]
    pub(crate) const fn of_seed(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of `count` things, from 0. `count` must not be 0.
    pub(crate) fn pick(&mut self, count: usize) -> usize {
        // The high half of a product: for counts far below 2^64, no number is likelier in any way that matters.
        ((u128::from(self.next()) * count as u128) >> 64) as usize
    }
}
