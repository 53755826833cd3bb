//! The hash of keys, and the assignment of keys to subtasks (SPEC 14.1-14.3).
//!
//! # The purpose of each bit
//! One hash of 64 bits serves four purposes, and no two of them may use the same bits. Otherwise
//! keys that agree in the bits of their segment would crowd into few of its buckets.
//!
//! | bits | for |
//! |---|---|
//! | 63 down to 32, as many as are needed | the key group and the segment within it |
//! | 34 down to 23, as many as are needed | the bucket within a segment |
//! | 22 down to 16 | the tag beside the bucket |
//!
//! The hash is a fraction of one. Multiplied by the number of key groups, its whole part is the
//! group. The rest, again a fraction, chooses the segment by its first bits: with 128 groups and a
//! gigabyte of state some 23 bits for both. A hash table takes its bucket from the lowest bits of
//! its input, and its tag from the top seven. Its input is the hash, [rotated](within) until these
//! are there.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Range;

/// The most key groups a job can have.
pub const MAX_KEY_GROUPS: u16 = 1 << 15;

/// The most bits after those of the group in which the hashes of a segment's keys can agree.
pub(super) const MAX_DEPTH: u8 = 17;

/// The seed of the hash of keys: the job's secret (SPEC 14.1).
///
/// With knowledge of it, colliding keys can be made; without, they cannot, for any choice of keys.
/// So the start of the hash, the multiplier and the factor of lengths all depend on the secret.
/// With a known factor, for one, strings of different lengths could be chosen whose first words
/// differ by as much as their lengths do. These collide for every start.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HashSeed {
    start: u64,
    fold: u64,
    length: u64,
}

impl HashSeed {
    /// The seed of a job whose first checkpoint has none; it is public. Odd numbers without
    /// pattern, the fractional parts of pi in hexadecimal.
    pub const CONSTANT: Self = Self {
        start: 0x243f_6a88_85a3_08d3,
        fold: 0xbe54_66cf_34e9_0c6d,
        length: 0xa409_3822_299f_31d1,
    };

    /// The seed that a job's first start drew ([`crate::store::Manifest::hash_seed`]): SPEC 14.1
    /// defines how one number becomes three.
    #[must_use]
    pub const fn new(drawn: Option<u64>) -> Self {
        let Some(drawn) = drawn else { return Self::CONSTANT };
        Self {
            start: part(drawn, 1),
            // Odd, and not small: no bit of a word is multiplied away.
            fold: part(drawn, 2) | 1 | 1 << 63,
            length: part(drawn, 3) | 1,
        }
    }

    /// The hash of a key (SPEC 14.1): the same in every build and on every machine, for keys whose
    /// `Hash` feeds a hasher the same input.
    ///
    /// It decides the place of a key's state, in memory and in checkpoints, and the subtask that
    /// gets its records.
    #[inline]
    pub fn hash<K: Hash + ?Sized>(self, key: &K) -> u64 {
        let mut hasher = StableHasher { state: self.start, seed: self };
        key.hash(&mut hasher);
        hasher.finish()
    }
}

/// Divides keys among a job's subtasks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Keys {
    /// The number of key groups.
    pub groups: u16,
    /// The seed of the hashes of keys.
    pub seed: HashSeed,
}

/// A secret is not shown.
impl fmt::Debug for HashSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashSeed")
    }
}

/// The n-th number of the sequence of `SplitMix64` that begins with this one (SPEC 14.1).
const fn part(drawn: u64, n: u64) -> u64 {
    let mut mixed = drawn.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The hash of a key with the [constant](HashSeed::CONSTANT).
#[inline]
pub fn hash<K: Hash + ?Sized>(key: &K) -> u64 {
    HashSeed::CONSTANT.hash(key)
}

/// SPEC 14.1
struct StableHasher {
    state: u64,
    seed: HashSeed,
}

/// Both halves of the 128-bit product, combined by exclusive or: every bit of the result depends on
/// bits of all of `word`. For the uses of a hash here once is enough, see the tests.
#[inline(always)]
fn fold(word: u64, by: u64) -> u64 {
    let product = u128::from(word) * u128::from(by);
    (product as u64) ^ ((product >> 64) as u64)
}

impl Hasher for StableHasher {
    #[inline]
    fn finish(&self) -> u64 {
        self.state
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        // The length first: the last word is filled up with zeros.
        self.state ^= (bytes.len() as u64).wrapping_mul(self.seed.length);
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
        self.state = fold(self.state ^ word, self.seed.fold);
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

/// A hash, taken as a fraction of one, times a whole number; the whole part.
#[inline(always)]
pub(super) fn portion(hash: u64, whole: u64) -> u64 {
    // At most `whole`, hence it fits.
    ((u128::from(hash) * u128::from(whole)) >> 64) as u64
}

/// The key group of a hash, below `key_groups` (SPEC 14.2).
#[inline(always)]
pub fn group_of(hash: u64, key_groups: u16) -> u16 {
    // Below `key_groups`, since the hash is less than one.
    portion(hash, key_groups.into()) as u16
}

/// The first `depth` of the bits that choose the segment within a group (SPEC 14.4).
#[inline(always)]
pub(super) fn prefix_of(hash: u64, key_groups: u16, depth: u8) -> u32 {
    let rest = hash.wrapping_mul(key_groups.into());
    // Without bits of it, at depth 0, the result is 0; otherwise there are at most 17.
    rest.checked_shr(64 - u32::from(depth)).unwrap_or(0) as u32
}

/// The input of a segment's hash table for a hash: see the top of this file.
#[inline(always)]
pub(super) fn within(hash: u64) -> u64 {
    hash.rotate_left(41)
}

/// The key groups of a subtask: a contiguous range (SPEC 14.3). Ranges of different subtasks are
/// disjoint and cover all groups; with more subtasks than groups some are empty.
///
/// # Panics
/// If there is no subtask `index`.
pub fn groups_of(index: usize, parallelism: usize, key_groups: u16) -> Range<u16> {
    assert!(index < parallelism, "subtask {index} must be below the parallelism {parallelism}");
    let start = |index: usize| (index * usize::from(key_groups)).div_ceil(parallelism) as u16;
    start(index)..start(index + 1)
}

/// The subtask whose range ([`groups_of`]) a key group is in (SPEC 14.3).
#[inline]
pub fn subtask_of(group: u16, parallelism: usize, key_groups: u16) -> usize {
    usize::from(group) * parallelism / usize::from(key_groups)
}
