//! Tables against a model, frozen, written and restored at random.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};

use proptest::collection::vec;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Memory, named, snapshot};
use crate::base::sync::thread;
use crate::state::{Image, Restored, SegmentLocations, Table, Written, group_of, hash};

/// Large, so that few of them fill a segment.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Large {
    count: u64,
    #[serde(skip)]
    padding: [u64; 31],
}

fn large(count: u64) -> Large {
    Large { count, padding: [0; 31] }
}

type Model = HashMap<u32, u64>;

const GROUPS: u16 = 4;

#[derive(Clone, Debug)]
enum Op {
    /// Increments the count of a run of keys.
    Count(u32, u32),
    Set(u32, u64),
    /// Makes `many` increments of the keys of a run, as a batch; drops a key whenever its count
    /// reaches a multiple of `forget`.
    Batch {
        from: u32,
        run: u32,
        many: u32,
        forget: u64,
    },
    Double(u32),
    Remove(u32),
    /// Removes a run of keys, one by one.
    Clear(u32, u32),
    Retain(u64),
    Extract(u64),
    TakeGroup(u16),
    Freeze,
    /// Writes the oldest unwritten image, on top of an older snapshot.
    Write(usize),
    /// Drops the oldest image.
    Drop,
    /// Resumes from a snapshot.
    Restore(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let key = || 0u32..3000;
    prop_oneof![
        6 => (key(), 1u32..500).prop_map(|(from, many)| Op::Count(from, many)),
        2 => (key(), any::<u64>()).prop_map(|(key, value)| Op::Set(key, value)),
        6 => (key(), 1u32..300, 1u32..500, 1u64..20)
            .prop_map(|(from, run, many, forget)| Op::Batch { from, run, many, forget }),
        2 => key().prop_map(Op::Double),
        4 => key().prop_map(Op::Remove),
        2 => (key(), 200u32..2000).prop_map(|(from, many)| Op::Clear(from, many)),
        1 => (2u64..5).prop_map(Op::Retain),
        1 => (2u64..5).prop_map(Op::Extract),
        1 => (0..GROUPS).prop_map(Op::TakeGroup),
        4 => Just(Op::Freeze),
        4 => any::<usize>().prop_map(Op::Write),
        1 => Just(Op::Drop),
        1 => any::<usize>().prop_map(Op::Restore),
    ]
}

fn new() -> Table<u32, Large> {
    Table::new(0..GROUPS, GROUPS)
}

fn content(table: &Table<u32, Large>) -> Model {
    let content: Model = table.iter().map(|(key, value)| (*key, value.count)).collect();
    assert_eq!(content.len(), table.len());
    content
}

fn restored(store: &Memory, written: &Written) -> (Table<u32, Large>, SegmentLocations) {
    let reference = snapshot(written);
    let mut restored = Restored::read(store, &reference).expect("it is there");
    let mut table = new();
    assert!(table.restore(&mut restored, "count", "counts").expect("it is readable"));
    assert_eq!(restored.unclaimed(), []);
    (table, restored.into_locations())
}

/// Increments each record's key in one call, and notes the resulting count.
fn count_up(
    table: &mut Table<u32, Large>,
    mut records: Vec<(u32, u32)>,
    forget: u64,
    seen: &mut Vec<(u32, u32, u64)>,
) {
    table.each_entry(
        &mut records.drain(..),
        |(key, _)| hash(key),
        |record| record,
        || large(0),
        |key, state, step| {
            state.count = state.count.wrapping_add(1);
            seen.push((*key, step, state.count));
            state.count % forget != 0
        },
    );
    assert!(records.is_empty());
}

#[derive(Default)]
struct Run {
    store: Memory,
    frozen: Vec<(Box<dyn Image>, Model)>,
    /// Of this life of the table.
    bases: Vec<SegmentLocations>,
    written: Vec<(Written, Model)>,
}

impl Run {
    fn write(&mut self, choice: usize) {
        let (image, model) = self.frozen.remove(0);
        // One more than there are bases: none.
        let base = self.bases.get(choice % (self.bases.len() + 1));
        let written = self.store.write(vec![named("counts", image)], base);
        self.bases.push(written.locations.clone());
        self.written.push((written, model));
    }

    fn step(&mut self, table: &mut Table<u32, Large>, model: &mut Model, op: Op) {
        match op {
            Op::Count(from, many) => {
                for key in from..from + many {
                    table.entry(hash(&key), key, || large(0)).count += 1;
                    *model.entry(key).or_default() += 1;
                }
            }
            Op::Set(key, value) => {
                let before = table.insert(hash(&key), key, large(value));
                assert_eq!(before.map(|large| large.count), model.insert(key, value));
            }
            Op::Batch { from, run, many, forget } => {
                // Some keys come twice within the reach of prefetching.
                let key = |step: u32| from + (step * step / 3) % run;
                let mut seen = Vec::new();
                count_up(
                    table,
                    (0..many).map(|step| (key(step), step)).collect(),
                    forget,
                    &mut seen,
                );
                let expected = (0..many).map(|step| {
                    let count = model.entry(key(step)).or_default();
                    *count = count.wrapping_add(1);
                    let count = *count;
                    if count.is_multiple_of(forget) {
                        model.remove(&key(step));
                    }
                    (key(step), step, count)
                });
                assert_eq!(seen, expected.collect::<Vec<_>>());
            }
            Op::Double(key) => {
                let found = table.get_mut(hash(&key), &key).map(|large| {
                    large.count = large.count.wrapping_mul(2);
                    large.count
                });
                let expected = model.get_mut(&key).map(|count| {
                    *count = count.wrapping_mul(2);
                    *count
                });
                assert_eq!(found, expected);
            }
            Op::Remove(key) => {
                let removed = table.remove(hash(&key), &key).map(|large| large.count);
                assert_eq!(removed, model.remove(&key));
                assert_eq!(table.get(hash(&key), &key), None);
            }
            Op::Clear(from, many) => {
                for key in from..from + many {
                    let removed = table.remove(hash(&key), &key).map(|large| large.count);
                    assert_eq!(removed, model.remove(&key));
                }
            }
            Op::Retain(by) => {
                table.retain(|key, _| u64::from(*key) % by != 0);
                model.retain(|key, _| u64::from(*key) % by != 0);
            }
            Op::Extract(by) => {
                let taken = table.extract(|_, value| value.count % by == 0);
                for (key, value) in &taken {
                    assert_eq!(model.remove(key), Some(value.count));
                }
                let order = |(key, _): &(u32, Large)| (group_of(hash(key), GROUPS), hash(key));
                assert!(taken.is_sorted_by_key(order));
            }
            Op::TakeGroup(group) => {
                for (key, value) in table.take_group(group) {
                    assert_eq!(group_of(hash(&key), GROUPS), group);
                    assert_eq!(model.remove(&key), Some(value.count));
                }
            }
            Op::Freeze => self.frozen.push((table.freeze(), model.clone())),
            Op::Write(choice) => {
                if !self.frozen.is_empty() {
                    self.write(choice);
                }
            }
            Op::Drop => drop((!self.frozen.is_empty()).then(|| self.frozen.remove(0))),
            Op::Restore(choice) => {
                if !self.written.is_empty() {
                    let (written, of_then) = &self.written[choice % self.written.len()];
                    let (again, locations) = restored(&self.store, written);
                    *table = again;
                    model.clone_from(of_then);
                    // Images of the table's earlier life share nothing with this one's bases.
                    self.frozen.clear();
                    self.bases = vec![locations];
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// SPEC 5.4, 8.3, 14.5
    #[test]
    fn every_image_is_what_the_table_was_when_it_was_frozen(ops in vec(op(), 1..80)) {
        let (mut table, mut model, mut run) = (new(), Model::new(), Run::default());
        for op in ops {
            run.step(&mut table, &mut model, op);
        }
        assert_eq!(content(&table), model);
        while !run.frozen.is_empty() {
            run.write(run.bases.len().saturating_sub(1));
        }
        for (written, model) in &run.written {
            assert_eq!(content(&restored(&run.store, written).0), *model);
        }
        let drained: Model = table.drain().map(|(key, value)| (key, value.count)).collect();
        assert_eq!(drained, model);
        assert!(table.is_empty() && table.iter().next().is_none());
    }
}

/// Twice the same key, one that is dropped and comes again, and new keys, within the reach of
/// prefetching; while segments are divided, shared and joined. Also for an interpreter that looks
/// for undefined behaviour.
#[test]
fn an_image_is_of_the_batches_before_it() {
    const KEYS: u32 = if cfg!(miri) { 300 } else { 3000 };
    let (mut table, mut model) = (new(), Model::new());
    let mut run = Run::default();
    for (round, forget) in [1_000, 3, 1, 1_000, 2].into_iter().enumerate() {
        let from = round as u32 * KEYS / 4;
        for many in [1, 31, 32, 33, 100, KEYS] {
            let batch = Op::Batch { from, run: many.div_ceil(2).max(7), many, forget };
            run.step(&mut table, &mut model, batch);
        }
        run.step(&mut table, &mut model, Op::Freeze);
        assert_eq!(content(&table), model);
    }
    while !run.frozen.is_empty() {
        run.write(0);
    }
    for (written, model) in &run.written {
        assert_eq!(content(&restored(&run.store, written).0), *model);
    }
}

/// SPEC 5.4
#[test]
fn an_image_is_written_while_its_table_goes_on() {
    // An interpreter that looks for undefined behaviour is slow.
    const KEYS: u32 = if cfg!(miri) { 200 } else { 2000 };
    const ROUNDS: u64 = if cfg!(miri) { 4 } else { 40 };
    let store = Memory::default();
    let mut table = new();
    let mut uploads = Vec::new();
    for round in 0..ROUNDS {
        for key in 0..KEYS {
            table.entry(hash(&key), key, || large(0)).count += 1;
        }
        let image = table.freeze();
        uploads.push(thread::spawn(move || {
            let store = Memory::default();
            let written = store.write(vec![named("counts", image)], None);
            let counts = content(&restored(&store, &written).0);
            assert!(
                counts.len() == KEYS as usize && counts.values().all(|count| *count == round + 1)
            );
        }));
        for key in KEYS * (round as u32 + 1)..KEYS * (round as u32 + 1) + KEYS / 4 {
            table.insert(hash(&key), key, large(0));
            assert!(table.remove(hash(&key), &key).is_some());
        }
    }
    for upload in uploads {
        upload.join().expect("every image is whole");
    }
    drop(store);
}

/// Thousands of keys with few distinct hashes, or one.
#[test]
fn keys_that_hash_alike_are_kept_apart() {
    #[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
    struct Poor(u32, u32);
    impl Hash for Poor {
        fn hash<H: Hasher>(&self, hasher: &mut H) {
            (self.0 % self.1).hash(hasher);
        }
    }
    for kinds in [1, 2, 3, 100] {
        let mut table: Table<Poor, Large> = Table::new(0..1, 1);
        for round in 0..2 {
            for key in (0..1000).map(|number| Poor(number, kinds)) {
                let count = &mut table.entry(hash(&key), key, || large(0)).count;
                assert_eq!(*count, round);
                *count += 1;
            }
            drop(table.freeze());
        }
        assert_eq!(table.len(), 1000);
        let image = table.freeze();
        let store = Memory::default();
        let written = store.write(vec![named("counts", image)], None);
        let reference = snapshot(&written);
        let mut restored = Restored::read(&store, &reference).expect("it is there");
        let mut again: Table<Poor, Large> = Table::new(0..1, 1);
        assert!(again.restore(&mut restored, "count", "counts").expect("it is readable"));
        for key in (0..1000).map(|number| Poor(number, kinds)) {
            assert_eq!(again.remove(hash(&key), &key), Some(large(2)));
        }
    }
}

#[test]
fn strings_are_looked_up_without_being_copied() {
    let mut table: Table<String, u32> = Table::new(3..9, 16);
    let ours = |key: &&str| (3..9).contains(&group_of(hash(*key), 16));
    let keys: Vec<&str> =
        ["a", "b", "c", "d", "e", "f", "g", "h"].into_iter().filter(ours).collect();
    assert!(!keys.is_empty());
    for key in &keys {
        *table.entry_ref(hash(*key), *key, || 0) += 1;
        *table.entry_ref(hash(*key), *key, || 0) += 1;
        assert_eq!(table.get(hash(*key), *key), Some(&2));
    }
    assert_eq!(table.len(), keys.len());
}

/// Also where its pointer is another group's, because there are more groups than pointers, and
/// whether that group's segment has room or not.
#[test]
fn a_key_of_another_subtask_is_refused() {
    for (groups, key_groups) in [(8..9, 16), (3..6, 16), (0..0, 8), (5..12, 12), (64..128, 128)] {
        let all = || (0u64..).map(|key| (key, group_of(hash(&key), key_groups)));
        let mut table: Table<u64, u64> = Table::new(groups.clone(), key_groups);
        for (key, group) in all().take(5_000) {
            if groups.contains(&group) {
                table.entry_pair(hash(&key), key, || 0);
            }
        }
        let len = table.len();
        for other in (0..key_groups).filter(|group| !groups.contains(group)) {
            let (key, _) = all().find(|(_, group)| *group == other).expect("there are many keys");
            let mut refused = |puts: &mut dyn FnMut(&mut Table<u64, u64>)| {
                let mut table = std::panic::AssertUnwindSafe((&mut table, puts));
                let caught = std::panic::catch_unwind(move || {
                    let (table, puts) = &mut *table;
                    puts(table);
                });
                let payload = caught.expect_err("it is refused");
                let text = payload.downcast_ref::<String>().expect("a text");
                assert!(text.contains("routed to the wrong subtask"), "{text}");
            };
            refused(&mut |table| _ = table.entry_pair(hash(&key), key, || 0));
            refused(&mut |table| _ = table.entry(hash(&key), key, || 0));
            refused(&mut |table| _ = table.entry_ref(hash(&key), &key, || 0));
            refused(&mut |table| _ = table.insert(hash(&key), key, 0));
            refused(&mut |table| _ = table.get(hash(&key), &key));
        }
        assert_eq!(table.len(), len);
    }
}

/// Also where they wrote to both halves of a group that was divided in between.
#[test]
fn what_was_not_written_to_stays_shared_in_memory() {
    let mut table = new();
    for key in 0..5000u32 {
        table.insert(hash(&key), key, large(1));
    }
    let versions = |image: &dyn Image| {
        let mut versions = Vec::new();
        let visited = image.segments(&mut |segment| {
            versions.extend(segment.version);
            Ok(())
        });
        visited.expect("nothing fails here");
        versions.sort_unstable();
        versions
    };
    let first = versions(&*table.freeze());
    table.get_mut(hash(&7u32), &7).expect("it is there").count = 2;
    // Neither looking at keys nor looking for absent ones is a write.
    for key in 5000..6000u32 {
        assert!(table.remove(hash(&key), &key).is_none());
        assert!(table.get_mut(hash(&key), &key).is_none());
    }
    table.retain(|_, _| true);
    let second = versions(&*table.freeze());
    let both = first.iter().filter(|version| second.contains(version)).count();
    assert!(first.len() > 20);
    assert_eq!((first.len(), both), (second.len(), first.len() - 1));
}
