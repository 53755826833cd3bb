//! The contestants.

pub(crate) mod hand;
pub(crate) mod ours;
pub(crate) mod with_timely;

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock};

pub(crate) const KEYS: u64 = 100_000;

/// The key of a record: the same work for every contestant.
#[inline(always)]
pub(crate) fn key(seq: u64) -> u64 {
    splitmix64(seq) % KEYS
}

#[inline(always)]
pub(crate) fn splitmix64(seq: u64) -> u64 {
    let z = seq.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The number of occurrences of each key; computed once for each number of records.
pub(crate) fn expected(records: u64) -> Vec<u64> {
    static KNOWN: OnceLock<Mutex<HashMap<u64, Vec<u64>>>> = OnceLock::new();
    let mut known = KNOWN.get_or_init(Mutex::default).lock().unwrap();
    let compute = || {
        let mut counts = vec![0; KEYS as usize];
        (0..records).for_each(|seq| counts[key(seq) as usize] += 1);
        counts
    };
    known.entry(records).or_insert_with(compute).clone()
}

pub(crate) fn verify(records: u64, counts: impl IntoIterator<Item = (u64, u64)>) {
    let mut found = vec![0; KEYS as usize];
    for (key, count) in counts {
        assert_eq!(found[key as usize], 0, "key {key} was counted in two places");
        found[key as usize] = count;
    }
    assert!(found == expected(records), "the counts differ");
}

/// The chain's two operators.
#[inline(always)]
pub(crate) fn mapped(seq: u64) -> u64 {
    seq.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (seq >> 7)
}

#[inline(always)]
pub(crate) fn kept(record: u64) -> bool {
    record & 3 != 0
}

/// Compares the number of records at the end of the chain, and their sum.
pub(crate) fn verify_chain(records: u64, found: (u64, u64)) {
    static KNOWN: OnceLock<Mutex<HashMap<u64, (u64, u64)>>> = OnceLock::new();
    let mut known = KNOWN.get_or_init(Mutex::default).lock().unwrap();
    let expected = *known.entry(records).or_insert_with(|| {
        let kept = (0..records).map(mapped).filter(|&record| kept(record));
        kept.fold((0, 0), |(count, sum), record| (count + 1, record.wrapping_add(sum)))
    });
    assert_eq!(found, expected);
}
