//! The hash and the key groups.

use std::hash::Hash;

use proptest::prelude::*;

use crate::state::hash::{MAX_DEPTH, portion, prefix_of, within};
use crate::state::{MAX_KEY_GROUPS, group_of, groups_of, hash, subtask_of};

/// SPEC 14.1: what these say is in checkpoints.
#[test]
fn hashes_are_the_same_for_ever() {
    #[derive(Hash)]
    struct Pair(u32, &'static str);
    let hashes = [
        hash(&0u64),
        hash(&1u64),
        hash(&u64::MAX),
        hash(&-1i32),
        hash(""),
        hash("snapline"),
        hash("a checkpoint is complete when its manifest is durable"),
        hash(&(7u8, 7u16)),
        hash(&Pair(1, "one")),
        hash(&[1u8, 2, 3][..]),
        hash(&1u128),
        hash(&true),
    ];
    assert_eq!(hashes, PINNED);
}

const PINNED: [u64; 12] = [
    0x860ab2418dede11b,
    0xc4564b0edac4dda1,
    0x07d081610d818a23,
    0x07d081610d818a23,
    0x6919a16d09eaceec,
    0x3bc1acfaffc0cf60,
    0x0ffb0c151b905886,
    0x660a436501718f5e,
    0x054950ce663300c1,
    0x533aa342e994f10c,
    0x1471da2b383e2d19,
    0xc4564b0edac4dda1,
];

#[test]
fn integers_hash_by_their_number_and_strings_as_they_are_borrowed() {
    assert_eq!(hash(&5u8), hash(&5u64));
    assert_eq!(hash(&5usize), hash(&5u64));
    assert_eq!(hash(&-5i8), hash(&-5i64));
    assert_eq!(hash("key"), hash(&"key".to_owned()));
    assert_ne!(hash("key"), hash("key\0"));
    assert_ne!(hash(&("ab", "c")), hash(&("a", "bc")));
}

/// What a hash is used for.
type Use = fn(u64) -> usize;

/// The key group, the segment, the bucket and the tag of a hash table, each with how many there are of it.
const USES: [(usize, Use); 5] = [
    (128, |hash| group_of(hash, 128).into()),
    (1000, |hash| group_of(hash, 1000).into()),
    (64, |hash| prefix_of(hash, 128, 6) as usize),
    (256, |hash| (within(hash) & 255) as usize),
    (128, |hash| (within(hash) >> 57) as usize),
];

/// Two keys that differ in one bit or two hardly ever come to the same place: a group, one of eight segments, one of 128 buckets.
#[test]
fn a_key_that_is_nearly_another_is_kept_elsewhere() {
    let place = |key: u64| (portion(hash(&key), 128 << 3), within(hash(&key)) & 127);
    for difference in (0..64).flat_map(|a| (a..64).map(move |b| 1u64 << a | 1 << b)) {
        let met = (0..2000).map(|i| i * 3).filter(|key| place(*key) == place(key ^ difference));
        let met = met.count();
        assert!(met < 20, "{difference:#x}: {met} of 2000");
    }
}

/// All uses at once, as many bits as a large state takes: who meets in some meets in the others by chance only.
#[test]
fn what_a_hash_is_used_for_is_independent() {
    let families: [fn(u64) -> u64; 5] =
        [|i| i, |i| i << 32, |i| i << 51, |i| i * 4096, |i| (i as f64).to_bits()];
    for (family, key) in families.into_iter().enumerate() {
        let of = |i| {
            let hash = hash(&key(i));
            // 7 + 3 bits, 7 bits and 5: one of 4 million.
            (portion(hash, 128 << 3), within(hash) >> 57, within(hash) & 31)
        };
        let mut all: Vec<_> = (0..8192).map(of).collect();
        all.sort_unstable();
        let met = all.windows(2).filter(|pair| pair[0] == pair[1]).count();
        // Eight pairs by chance; a hundredth of the keys does no harm.
        assert!(met < 82, "family {family}: {met} pairs");
    }
}

fn spread_of<K: Hash>(keys: impl Iterator<Item = K>, bins: usize, bin: impl Fn(u64) -> usize) {
    let mut counts = vec![0u32; bins];
    let mut all = 0;
    for key in keys {
        counts[bin(hash(&key))] += 1;
        all += 1;
    }
    let even = f64::from(all) / bins as f64;
    // Eight times the standard deviation of a fair throw: of a hundred keys in a bin on average, 180.
    let slack = 8.0 * even.sqrt();
    for (bin, count) in counts.iter().enumerate() {
        assert!((f64::from(*count) - even).abs() < slack, "bin {bin} has {count}, even is {even}");
    }
}

#[test]
fn usual_keys_are_spread_evenly() {
    let mut strides: Vec<u64> = vec![7, 24, 255, 257, 3600, 4095, 86_400, 1_000_003];
    strides.extend((0..=47).map(|power| 1 << power));
    strides.extend((1..=13).map(|power| 10u64.pow(power)));
    strides.extend((1..=12).map(|power| 6 * 10u64.pow(power)));
    for stride in strides {
        for (bins, of) in USES {
            spread_of((0..100_000).map(|i| i * stride), bins, of);
        }
    }
    let others: [fn(u64) -> u64; 2] = [u64::reverse_bits, |i| (i as f64).to_bits()];
    for other in others {
        for (bins, of) in USES {
            spread_of((0..100_000).map(other), bins, of);
        }
    }
    let strings = || (0..100_000).map(|i| format!("user-{i}"));
    for (bins, of) in USES {
        spread_of(strings(), bins, of);
    }
}

proptest! {
    /// SPEC 14.3
    #[test]
    fn ranges_are_disjoint_and_cover_all_groups(
        parallelism in 1usize..300, key_groups in 1u16..=MAX_KEY_GROUPS,
    ) {
        let mut next = 0;
        for index in 0..parallelism {
            let range = groups_of(index, parallelism, key_groups);
            prop_assert_eq!(range.start, next);
            prop_assert!(range.start <= range.end);
            next = range.end;
            if let Some(last) = range.clone().next_back() {
                prop_assert_eq!(subtask_of(range.start, parallelism, key_groups), index);
                prop_assert_eq!(subtask_of(last, parallelism, key_groups), index);
            }
        }
        prop_assert_eq!(next, key_groups);
    }

    /// SPEC 14.2, 14.4
    #[test]
    fn groups_and_prefixes_are_within_bounds(
        hash: u64, key_groups in 1u16..=MAX_KEY_GROUPS, depth in 0..MAX_DEPTH,
    ) {
        prop_assert!(group_of(hash, key_groups) < key_groups);
        let prefix = prefix_of(hash, key_groups, depth);
        prop_assert!(prefix < 1 << depth);
        prop_assert_eq!(prefix_of(hash, key_groups, depth + 1) >> 1, prefix);
    }
}
