//! The hash of keys, and who is responsible for which (SPEC 14.1-14.3).
//!
//! # Which bits are for what
//! One hash of 64 bits serves four purposes, and no two of them may look at the same bits: keys that agree in what chose their segment
//! would otherwise crowd into few buckets of it.
//!
//! | bits | for |
//! |---|---|
//! | 63 down to 32, as many as are needed | the key group and the segment within it |
//! | 34 down to 23, as many as are needed | the bucket within a segment |
//! | 22 down to 16 | the tag beside the bucket |
//!
//! The hash is a fraction of one. Times the number of key groups, the whole part is the group and the rest, again a fraction, chooses the
//! segment, by its first bits: with 128 groups and a gigabyte of state some 23 bits for both. A hash table takes its bucket from the lowest
//! bits of what it is given, and its tag from the top seven: it is given the hash [turned](within) until these are there.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Range;

/// The most key groups a job can have.
pub const MAX_KEY_GROUPS: u16 = 1 << 15;

/// In how many bits behind those of the group the hashes of a segment's keys can agree, at most.
pub(super) const MAX_DEPTH: u8 = 17;

/// What the hash of keys begins with: the job's secret (SPEC 14.1).
///
/// Who knows it can make keys that collide; who does not, cannot, whatever keys it chooses. So the start of the hash, the multiplier and the
/// factor of lengths are all of the secret: with a known factor, for one, strings of different lengths could be chosen whose first words
/// differ by as much as their lengths do, and these collide whatever the start is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HashSeed {
    start: u64,
    fold: u64,
    length: u64,
}

impl HashSeed {
    /// Of a job whose first checkpoint has none: known to everybody. Odd numbers without pattern, the fractional parts of pi in hexadecimal.
    pub const CONSTANT: Self = Self {
        start: 0x243f_6a88_85a3_08d3,
        fold: 0xbe54_66cf_34e9_0c6d,
        length: 0xa409_3822_299f_31d1,
    };

    /// What a job's first start drew ([`crate::store::Manifest::hash_seed`]): SPEC 14.1 says how one number becomes three.
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

    /// The hash of a key (SPEC 14.1): the same in every build and on every machine, for keys whose `Hash` says the same to a hasher.
    ///
    /// It decides where a key's state is, in memory and in checkpoints, and which subtask gets its records.
    #[inline]
    pub fn hash<K: Hash + ?Sized>(self, key: &K) -> u64 {
        let mut hasher = StableHasher { state: self.start, seed: self };
        key.hash(&mut hasher);
        hasher.finish()
    }
}

/// By what keys are divided among a job's subtasks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Keys {
    /// The number of key groups.
    pub groups: u16,
    /// What the hashes of keys begin with.
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

/// Both halves of the product of 128 bits, one on the other: every bit of the result depends on bits of all of `word`. For what is asked
/// of a hash here once is enough, see the tests.
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

/// A hash, taken as a fraction of one, times a whole number, without what is behind the point.
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
    // No bits of it, at depth 0, are 0; else at most 17.
    rest.checked_shr(64 - u32::from(depth)).unwrap_or(0) as u32
}

/// What a segment's hash table is given for a hash: see the top of this file.
#[inline(always)]
pub(super) fn within(hash: u64) -> u64 {
    hash.rotate_left(41)
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
