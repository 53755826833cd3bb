//! The room that a table gives back when its keys are removed (SPEC 14.4).

use super::{Memory, named, snapshot};
use crate::state::{Restored, Table, hash};

type Counts = Table<u64, u64>;

/// An interpreter that looks for undefined behaviour is slow.
const KEYS: u64 = if cfg!(miri) { 8_000 } else { 200_000 };
const GROUPS: u16 = if cfg!(miri) { 1 } else { 16 };

fn filled() -> Counts {
    let mut table = Counts::new(0..GROUPS, GROUPS);
    for key in 0..KEYS {
        table.insert(hash(&key), key, key);
    }
    table
}

/// One of a hundred.
fn stays(key: u64) -> bool {
    key.is_multiple_of(100)
}

/// Bytes in memory, segments, and bytes of a snapshot that shares nothing.
fn size(table: &mut Counts) -> (usize, usize, u64) {
    let written = Memory::default().write(vec![named("counts", table.freeze())], None);
    (table.allocated(), table.segments(), written.written)
}

#[allow(clippy::print_stdout, reason = "a test says what it found")]
fn check(mut table: Counts, before: (usize, usize, u64), how: &str) {
    let after = size(&mut table);
    println!("{how}: {before:?} to {after:?} (bytes in memory, segments, bytes written)");
    assert!(after.0 < before.0 / 20, "memory, {how}: {before:?}, {after:?}");
    assert!(after.1 <= 2 * usize::from(GROUPS), "segments, {how}: {before:?}, {after:?}");
    assert!(after.2 < before.2 / 50, "a snapshot, {how}: {before:?}, {after:?}");
    // It is the same table, and grows again.
    assert_eq!(table.len() as u64, KEYS / 100);
    for key in 0..KEYS {
        assert_eq!(table.get(hash(&key), &key).copied(), stays(key).then_some(key));
        table.insert(hash(&key), key, key + 1);
    }
    let store = Memory::default();
    let written = store.write(vec![named("counts", table.freeze())], None);
    let reference = snapshot(&written);
    let mut restored = Restored::read(&store, &reference).expect("it is there");
    let mut again = Counts::new(0..GROUPS, GROUPS);
    assert!(again.restore(&mut restored, "count", "counts").expect("it is readable"));
    assert_eq!(again.len() as u64, KEYS);
    assert!((0..KEYS).all(|key| again.get(hash(&key), &key) == Some(&(key + 1))));
}

/// SPEC 14.4
#[test]
fn memory_and_snapshots_shrink_when_keys_are_removed() {
    let mut table = filled();
    let before = size(&mut table);
    (0..KEYS).filter(|key| !stays(*key)).for_each(|key| {
        assert_eq!(table.remove(hash(&key), &key), Some(key));
    });
    check(table, before, "one by one");

    let mut table = filled();
    table.retain(|key, _| stays(*key));
    check(table, before, "all at once");

    // While images of its earlier content still exist, unchanged.
    let mut table = filled();
    let mut images = Vec::new();
    for key in (0..KEYS).filter(|key| !stays(*key)) {
        if key % (KEYS / 20) == 1 {
            images.push((table.len(), table.freeze()));
        }
        table.remove(hash(&key), &key);
    }
    for (len, image) in images {
        let mut found = 0;
        let counted = image.segments(&mut |segment| {
            found += segment.entries as usize;
            Ok(())
        });
        counted.expect("nothing fails here");
        assert_eq!(found, len);
    }
    check(table, before, "under snapshots");
}

/// SPEC 14.4: repeated removals and insertions do not divide and join each time.
#[test]
fn a_table_that_breathes_is_left_as_it_is() {
    let mut table = filled();
    let segments = table.segments();
    for round in 0..20 {
        for key in (0..KEYS).filter(|key| key % 4 != round % 4) {
            table.remove(hash(&key), &key);
        }
        assert_eq!(table.segments(), segments, "a quarter is not few");
        for key in 0..KEYS {
            table.insert(hash(&key), key, key);
        }
    }
    assert_eq!(table.segments(), segments);
}
