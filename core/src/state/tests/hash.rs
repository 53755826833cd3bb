//! The hash and the key groups.

use std::hash::Hash;

use proptest::prelude::*;

use crate::state::hash::{MAX_DEPTH, portion, prefix_of, within};
use crate::state::{HashSeed, MAX_KEY_GROUPS, Table, group_of, groups_of, hash, subtask_of};

/// SPEC 14.1: these values are in checkpoints.
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

/// A use of a hash.
type Use = fn(u64) -> usize;

/// The key group, the segment, the bucket and the tag of a hash table, each with the number of its
/// values.
const USES: [(usize, Use); 5] = [
    (128, |hash| group_of(hash, 128).into()),
    (1000, |hash| group_of(hash, 1000).into()),
    (64, |hash| prefix_of(hash, 128, 6) as usize),
    (256, |hash| (within(hash) & 255) as usize),
    (128, |hash| (within(hash) >> 57) as usize),
];

/// Two keys that differ in one bit or two hardly ever come to the same place: a group, one of eight
/// segments, one of 128 buckets.
#[test]
fn a_key_that_is_nearly_another_is_kept_elsewhere() {
    let place = |key: u64| (portion(hash(&key), 128 << 3), within(hash(&key)) & 127);
    for difference in (0..64).flat_map(|a| (a..64).map(move |b| 1u64 << a | 1 << b)) {
        let met = (0..2000).map(|i| i * 3).filter(|key| place(*key) == place(key ^ difference));
        let met = met.count();
        assert!(met < 20, "{difference:#x}: {met} of 2000");
    }
}

/// All uses at once, with the bits that a large state takes: keys that meet in some uses meet in
/// the others by chance only.
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
    // Eight times the standard deviation of a fair throw: of a hundred keys in a bin on average,
    // 180.
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

/// A seed's hashes are in checkpoints too.
#[test]
fn hashes_of_a_seed_are_the_same_for_ever() {
    let seed = HashSeed::new(Some(7));
    let hashes =
        [seed.hash(&0u64), seed.hash(&1u64), seed.hash("snapline"), seed.hash(&(7u8, 7u16))];
    assert_eq!(hashes, PINNED_OF_A_SEED);
    assert_eq!(HashSeed::new(None).hash("snapline"), hash("snapline"));
    assert_eq!(format!("{seed:?}"), "HashSeed", "a secret is not shown");
}

const PINNED_OF_A_SEED: [u64; 4] =
    [0x8f2cea5df0b95fc9, 0x0be32eb5847cb1ac, 0xb9bb131dc97f62b4, 0x3045ff8b0d30b8b5];

/// The constant of SPEC 14.1 multiplies by this.
const FOLD: u64 = 0xbe54_66cf_34e9_0c6d;

/// Keys that collide where the constant is used: for any first word, the second undoes it.
fn colliding(count: u64) -> impl Iterator<Item = (u64, u64)> {
    let folded = |word: u64| {
        let product = u128::from(word) * u128::from(FOLD);
        (product as u64) ^ ((product >> 64) as u64)
    };
    (0..count).map(move |first| (first, folded(0x243f_6a88_85a3_08d3 ^ first)))
}

/// Texts of different lengths whose first words differ by as much as their multiplied lengths. They
/// collide wherever a known number is multiplied by the length, for any start of the hash. Eight of
/// each; of a key of several texts, eight to the power of their number.
fn of_all_lengths() -> Vec<Vec<u8>> {
    let word = |length: u64| 0x1234_5678_9abc_def0 ^ length.wrapping_mul(0xa409_3822_299f_31d1);
    let text = |length: u64| {
        let mut bytes = word(length).to_le_bytes().to_vec();
        bytes.push(b'x');
        bytes.resize(length as usize, 0);
        bytes
    };
    (9..=16).map(text).collect()
}

#[test]
fn keys_made_to_collide_do_not_in_a_job_with_a_seed() {
    const COUNT: u64 = 40_000;
    let spread = |seed: HashSeed| {
        let mut table: Table<(u64, u64), ()> = Table::seeded(0..128, 128, seed);
        let mut hashes = std::collections::BTreeSet::new();
        // A run with all keys in one chain takes the square of their number: just enough keys to
        // show it.
        for key in colliding(if seed == HashSeed::CONSTANT { 4_000 } else { COUNT }) {
            let hash = seed.hash(&key);
            hashes.insert(hash);
            table.insert(hash, key, ());
        }
        (hashes.len() as u64, table.largest())
    };
    assert_eq!(spread(HashSeed::CONSTANT), (1, 4_000), "all are in one chain of one segment");
    for drawn in [0, 1, 7, u64::MAX, 0x9e37_79b9_7f4a_7c15] {
        let (hashes, largest) = spread(HashSeed::new(Some(drawn)));
        assert_eq!(hashes, COUNT, "seed {drawn}: no two have the same hash");
        assert!(largest < 1_000, "seed {drawn}: {largest} of them are in one segment");
    }
}

#[test]
fn no_two_lengths_cancel_out_in_a_job_with_a_seed() {
    let texts = of_all_lengths();
    let distinct = |seed: HashSeed| {
        let hashes = texts.iter().map(|text| {
            struct Bytes<'a>(&'a [u8]);
            impl Hash for Bytes<'_> {
                fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
                    state.write(self.0);
                }
            }
            seed.hash(&Bytes(text))
        });
        hashes.collect::<std::collections::BTreeSet<_>>().len()
    };
    assert_eq!(distinct(HashSeed::CONSTANT), 1);
    for drawn in 0..100 {
        assert_eq!(distinct(HashSeed::new(Some(drawn))), texts.len(), "seed {drawn}");
    }
}

/// Chosen differences, and words that undo each other for one seed, have no effect for another.
#[test]
fn collisions_of_one_seed_are_none_of_another() {
    let pairs: Vec<(u64, u64)> = colliding(500).collect();
    for drawn in 0..50 {
        let seed = HashSeed::new(Some(drawn));
        let hashes: std::collections::BTreeSet<u64> =
            pairs.iter().map(|pair| seed.hash(pair)).collect();
        assert_eq!(hashes.len(), pairs.len(), "seed {drawn}");
        let groups: std::collections::BTreeSet<u16> =
            hashes.iter().map(|hash| group_of(*hash, 128)).collect();
        assert!(groups.len() > 100, "seed {drawn}: {} of 128 groups", groups.len());
    }
}
