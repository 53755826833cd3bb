//! The hash of keys, and who is responsible for which (SPEC 14.1-14.3).
//!
//! # Which bits are for what
//! One hash of 64 bits serves four purposes, and no two of them may look at the same bits: keys that agree in what chose their segment
//! would otherwise crowd into few buckets of it.
//!
//! | bits | for |
//! |---|---|
//! | 0-15 | the bucket within a segment (`hashbrown` takes the low ones) |
//! | 16-47 | the key group and the segment within it |
//! | 48-56 | nothing |
//! | 57-63 | the tag beside the bucket (`hashbrown` takes the top seven) |
//!
//! Bits 16-47 are a fraction of one. Times the number of key groups, the whole part is the group and the rest, again a fraction, chooses
//! the segment, by its first bits.

use std::hash::{Hash, Hasher};
use std::ops::Range;

/// The most key groups a job can have.
pub const MAX_KEY_GROUPS: u16 = 1 << 15;

/// In how many bits the hashes of a segment's keys can agree, at most. Of the 32 that choose group and segment, the group takes up to 15.
pub(super) const MAX_DEPTH: u8 = 17;

// Odd numbers without pattern: the fractional parts of pi, in hexadecimal.
const SEED: u64 = 0x243f_6a88_85a3_08d3;
const FOLD: u64 = 0x1319_8a2e_0370_7345;
const LENGTH: u64 = 0xa409_3822_299f_31d1;
const FINISH: u64 = 0x082e_fa98_ec4e_6c89;

/// The hash of a key (SPEC 14.1): the same in every build and on every machine, for keys whose `Hash` says the same to a hasher.
///
/// It decides where a key's state is, in memory and in checkpoints, and which subtask gets its records. It is not keyed: who can choose
/// keys freely can make them collide.
#[inline]
pub fn hash<K: Hash + ?Sized>(key: &K) -> u64 {
    let mut hasher = StableHasher { state: SEED };
    key.hash(&mut hasher);
    hasher.finish()
}

/// SPEC 14.1
struct StableHasher {
    state: u64,
}

/// Both halves of the product of 128 bits, one on the other: every bit of the result depends on bits of all of `word`.
#[inline(always)]
fn fold(word: u64) -> u64 {
    let product = u128::from(word) * u128::from(FOLD);
    (product as u64) ^ ((product >> 64) as u64)
}

impl Hasher for StableHasher {
    #[inline]
    fn finish(&self) -> u64 {
        let mixed = self.state.wrapping_mul(FINISH);
        mixed ^ (mixed >> 32)
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        // The length first: the last word is filled up with zeros.
        self.state ^= (bytes.len() as u64).wrapping_mul(LENGTH);
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.write_u64(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut last = 0;
            for (place, byte) in rest.iter().enumerate() {
                last |= u64::from(*byte) << (8 * place);
            }
            self.write_u64(last);
        }
    }

    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.state = fold(self.state ^ word);
    }

    #[inline]
    fn write_u8(&mut self, word: u8) {
        self.write_u64(u64::from(word));
    }

    #[inline]
    fn write_u16(&mut self, word: u16) {
        self.write_u64(u64::from(word));
    }

    #[inline]
    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    #[inline]
    fn write_u128(&mut self, word: u128) {
        self.write_u64(word as u64);
        self.write_u64((word >> 64) as u64);
    }

    #[inline]
    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    #[inline]
    fn write_i8(&mut self, word: i8) {
        self.write_u64(i64::from(word) as u64);
    }

    #[inline]
    fn write_i16(&mut self, word: i16) {
        self.write_u64(i64::from(word) as u64);
    }

    #[inline]
    fn write_i32(&mut self, word: i32) {
        self.write_u64(i64::from(word) as u64);
    }

    #[inline]
    fn write_isize(&mut self, word: isize) {
        self.write_u64(word as i64 as u64);
    }
}

/// The place of a hash among all keys of all groups: the key group, then 32 bits for the segment within it (SPEC 14.2, 14.4).
#[inline(always)]
pub(super) fn spread(hash: u64, key_groups: u16) -> u64 {
    u64::from((hash >> 16) as u32) * u64::from(key_groups)
}

/// The key group of a hash, below `key_groups` (SPEC 14.2).
#[inline(always)]
pub fn group_of(hash: u64, key_groups: u16) -> u16 {
    // Below `key_groups`, since what it was multiplied with is below 2^32.
    (spread(hash, key_groups) >> 32) as u16
}

/// The first `depth` of the bits that choose the segment within a group (SPEC 14.4).
#[inline(always)]
pub(super) fn prefix_of(hash: u64, key_groups: u16, depth: u8) -> u32 {
    let bits = spread(hash, key_groups) as u32;
    (u64::from(bits) >> (32 - u32::from(depth))) as u32
}

/// The key groups of a subtask: a contiguous range (SPEC 14.3). Ranges of different subtasks are disjoint and cover all groups; with
/// more subtasks than groups some are empty.
///
/// # Panics
/// If there is no subtask `index`.
pub fn groups_of(index: usize, parallelism: usize, key_groups: u16) -> Range<u16> {
    assert!(index < parallelism, "subtask {index} of {parallelism}");
    let start = |index: usize| (index * usize::from(key_groups)).div_ceil(parallelism) as u16;
    start(index)..start(index + 1)
}

/// The subtask whose range ([`groups_of`]) a key group is in (SPEC 14.3).
#[inline]
pub fn subtask_of(group: u16, parallelism: usize, key_groups: u16) -> usize {
    usize::from(group) * parallelism / usize::from(key_groups)
}
