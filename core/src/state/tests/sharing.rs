//! The sharing between checkpoints, and its bounds.

use super::{Memory, named, snapshot};
use crate::state::{Restored, Table, hash};

type Counts = Table<u64, u64>;

const KEYS: u64 = 200_000;

fn filled() -> Counts {
    let mut table = Counts::new(0..16, 16);
    for key in 0..KEYS {
        table.insert(hash(&key), key, key);
    }
    table
}

/// SPEC 8.3, 14.7
#[test]
fn a_segment_that_was_not_written_to_is_not_written_again() {
    let store = Memory::default();
    let mut table = filled();
    let full = store.write(vec![named("counts", table.freeze())], None);
    assert_eq!((full.reused, full.blobs.len()), (0, 1));

    *table.entry(hash(&1), 1, || 0) += 1;
    let next = store.write(vec![named("counts", table.freeze())], Some(&full.locations));
    assert!(next.written < full.written / 50, "{} of {}", next.written, full.written);
    assert_eq!(next.blobs.len(), 2);

    // With another base, the parts that the base lacks are written.
    let other = store.write(vec![named("counts", table.freeze())], Some(&full.locations));
    assert_eq!((other.written, other.reused), (next.written, next.reused));
    let none = store.write(vec![named("counts", table.freeze())], None);
    assert_eq!(none.reused, 0);
}

/// SPEC 14.4, 14.7
#[test]
fn what_was_restored_is_shared_with_where_it_came_from() {
    let store = Memory::default();
    let full = store.write(vec![named("counts", filled().freeze())], None);
    let reference = snapshot(&full);
    let mut restored = Restored::read(&store, &reference).expect("it is there");
    let mut table = Counts::new(0..16, 16);
    assert!(table.restore(&mut restored, "count", "counts").expect("it is readable"));
    let base = restored.into_locations();
    *table.entry(hash(&1), 1, || 0) += 1;
    let next = store.write(vec![named("counts", table.freeze())], Some(&base));
    assert!(next.written < full.written / 50, "{} of {}", next.written, full.written);
    assert!(next.reused > full.written / 2);
}

/// SPEC 14.7: after any number of checkpoints, with any writes between them.
#[test]
fn neither_space_nor_blobs_grow_with_the_age_of_the_job() {
    for (writes, stride) in [(1, 1), (50, 7), (2000, 1), (2000, 97), (20_000, 3)] {
        let store = Memory::default();
        let mut table = filled();
        let mut last = store.write(vec![named("counts", table.freeze())], None);
        let full = last.written;
        let mut key = 0;
        for round in 0..60u64 {
            for _ in 0..writes {
                key = (key + stride) % KEYS;
                *table.entry(hash(&key), key, || 0) = round;
            }
            let next = store.write(vec![named("counts", table.freeze())], Some(&last.locations));
            let space: u64 = next.blobs.iter().map(|blob| blob.length).sum();
            assert!(next.blobs.len() <= 16, "{} blobs", next.blobs.len());
            assert!(space <= 4 * full + full, "{space} bytes for {full} of state");
            // Only the named blobs of the snapshot are kept, and they are enough.
            store.keep_only(&next);
            last = next;
        }
        let reference = snapshot(&last);
        let mut restored = Restored::read(&store, &reference).expect("it is there");
        let mut again = Counts::new(0..16, 16);
        assert!(again.restore(&mut restored, "count", "counts").expect("it is readable"));
        assert_eq!(again.len(), table.len());
        assert!(again.iter().all(|(key, value)| table.get(hash(key), key) == Some(value)));
    }
}
