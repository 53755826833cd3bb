//! Random choices from a seed, the same on every machine.

/// splitmix64: one addition and a mixing of bits. Insecure, and good enough to choose steps.
#[derive(Clone, Debug)]
pub(super) struct WalkRng(u64);

impl WalkRng {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Another stream, for the part of this number.
    pub(super) fn fork(&self, part: u64) -> Self {
        let mut mixed = Self(self.0 ^ part.wrapping_mul(0xd1b5_4a32_d192_ed03));
        Self(mixed.next())
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `count`, which must not be 0.
    pub(super) fn below(&mut self, count: usize) -> usize {
        debug_assert!(count > 0);
        // The high bits, scaled; `count` is far below 2^32.
        (((self.next() >> 32) * count as u64) >> 32) as usize
    }

    /// True once in `count` times, on average; never if `count` is 0.
    pub(super) fn once_in(&mut self, count: usize) -> bool {
        count > 0 && self.below(count) == 0
    }

    /// One of the values; there must be at least one.
    pub(super) fn one_of<T: Copy>(&mut self, things: &[T]) -> T {
        things[self.below(things.len())]
    }

    /// From 1 to `most`; 0 if that is 0.
    pub(super) fn up_to(&mut self, most: usize) -> usize {
        if most == 0 { 0 } else { 1 + self.below(most) }
    }
}
