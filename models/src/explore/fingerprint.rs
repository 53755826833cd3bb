//! The 64-bit name of a state.
//!
//! Every explorer that does not keep whole states keeps fingerprints, so their counts can be
//! compared. Two lanes of 64 bits are updated by steps that lose nothing (xor, addition, rotation,
//! odd multiplication) and are folded to 64 bits once, at the end. A hasher that folds 128 bits to
//! 64 after *every* word adds a chance of collision with every field of the state. This one has a
//! single such chance, which [`collision_bound`] counts.

use std::hash::{Hash, Hasher};

const MULTIPLIER_A: u64 = 0x9e37_79b9_7f4a_7c15;
const MULTIPLIER_B: u64 = 0xd6e8_feb8_6659_fd93;

/// Fingerprint of a state: the same in every run and in every build for one target.
#[inline]
#[must_use]
pub fn fingerprint<T: Hash + ?Sized>(state: &T) -> u64 {
    let mut hasher = StateHasher { a: 0x243f_6a88_85a3_08d3, b: 0x1319_8a2e_0370_7344 };
    state.hash(&mut hasher);
    hasher.finish()
}

/// Upper bound on the expected number of states missed because two of them share a fingerprint:
/// about `n^2 / 2^65` for each place where states are folded to 64 bits.
#[must_use]
pub fn collision_bound(unique: u64, folds: u32) -> f64 {
    let unique = unique as f64;
    f64::from(folds) * unique * unique / 2f64.powi(65)
}

struct StateHasher {
    a: u64,
    b: u64,
}

impl StateHasher {
    #[inline]
    fn word(&mut self, word: u64) {
        self.a = (self.a ^ word).wrapping_mul(MULTIPLIER_A).rotate_left(23);
        self.b = self.b.wrapping_add(word).rotate_left(29).wrapping_mul(MULTIPLIER_B);
    }
}

/// A bijection of 64 bits in which every bit depends on every other (MurmurHash3's finaliser).
#[inline]
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    x = (x ^ (x >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

impl Hasher for StateHasher {
    #[inline]
    fn finish(&self) -> u64 {
        mix(self.a.wrapping_add(mix(self.b)))
    }

    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            // The length sits in the top byte, which fewer than eight bytes never fill.
            last[7] = rest.len() as u8;
            self.word(u64::from_le_bytes(last));
        }
    }

    #[inline]
    fn write_u8(&mut self, value: u8) {
        self.word(u64::from(value));
    }

    #[inline]
    fn write_u16(&mut self, value: u16) {
        self.word(u64::from(value));
    }

    #[inline]
    fn write_u32(&mut self, value: u32) {
        self.word(u64::from(value));
    }

    #[inline]
    fn write_u64(&mut self, value: u64) {
        self.word(value);
    }

    #[inline]
    fn write_usize(&mut self, value: usize) {
        self.word(value as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::{collision_bound, fingerprint};
    use std::collections::HashSet;

    #[test]
    fn small_structured_states_get_different_fingerprints() {
        let mut seen = HashSet::new();
        for a in 0..64u8 {
            for b in 0..64u16 {
                for c in 0..32u8 {
                    assert!(seen.insert(fingerprint(&(a, b, Some(c), vec![c; 3]))));
                }
            }
        }
        assert_ne!(fingerprint(&[1u8, 0][..]), fingerprint(&[1u8][..]));
        assert_ne!(fingerprint(&"ab"), fingerprint(&"ab\0"));
    }

    #[test]
    fn the_top_bits_are_spread_too() {
        // The liveness check finds a fingerprint's place by its top bits.
        let mut buckets = [0u32; 64];
        (0..64_000u32).for_each(|n| buckets[(fingerprint(&n) >> 58) as usize] += 1);
        assert!(buckets.iter().all(|count| (800..1200).contains(count)), "{buckets:?}");
    }

    #[test]
    fn the_bound_is_the_one_of_the_literature() {
        assert!((collision_bound(14_000_000, 1) - 5.3e-6).abs() < 1e-7);
        assert_eq!(collision_bound(14_000_000, 0), 0.0);
    }
}
