//! The hash and the key groups.

use std::hash::Hash;

use proptest::prelude::*;

use crate::state::hash::{MAX_DEPTH, prefix_of};
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
    0xc04f543482c582ce,
    0x46e4786e9b269e89,
    0x27293e7792d4735c,
    0x27293e7792d4735c,
    0x37e2fd211075fbfc,
    0xddc1e73b7c382d05,
    0xda4d8b9c764cbb6d,
    0x0ddeba35b8cb0c6f,
    0x82fee1c7819a4e51,
    0xf13d23f2503fddf4,
    0x51a193a8413f61da,
    0x46e4786e9b269e89,
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

/// How often each bit of the hash changes when a bit of the key does, over many keys: about every second time.
#[test]
fn every_bit_of_a_key_moves_every_bit_of_its_hash() {
    let keys: Vec<u64> = (0..2000).map(|i| i * 3).collect();
    for bit in 0..64 {
        let mut changed = [0u32; 64];
        for key in &keys {
            let difference = hash(key) ^ hash(&(key ^ (1 << bit)));
            for (place, count) in changed.iter_mut().enumerate() {
                *count += u32::from(difference >> place & 1 == 1);
            }
        }
        let worst = changed.iter().map(|count| count.abs_diff(1000)).max();
        assert!(worst < Some(160), "bit {bit}: {changed:?}");
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
    // Six times the standard deviation of a fair throw.
    let slack = 6.0 * even.sqrt();
    for (bin, count) in counts.iter().enumerate() {
        assert!((f64::from(*count) - even).abs() < slack, "bin {bin} has {count}, even is {even}");
    }
}

#[test]
fn usual_keys_are_spread_evenly() {
    let patterns: [fn(u64) -> u64; 4] =
        [|i| i, |i| i << 32, |i| i * 1_000_003, |i| i.reverse_bits()];
    for pattern in patterns {
        let keys = || (0..100_000).map(pattern);
        spread_of(keys(), 128, |hash| group_of(hash, 128).into());
        spread_of(keys(), 1000, |hash| group_of(hash, 1000).into());
        spread_of(keys(), 64, |hash| prefix_of(hash, 128, 6) as usize);
        spread_of(keys(), 128, |hash| (hash >> 57) as usize);
        spread_of(keys(), 256, |hash| (hash & 255) as usize);
    }
    let strings = || (0..100_000).map(|i| format!("user-{i}"));
    spread_of(strings(), 128, |hash| group_of(hash, 128).into());
    spread_of(strings(), 128, |hash| (hash >> 57) as usize);
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
