//! Restored values and their types, and refused ones.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Memory, named, snapshot};
use crate::state::{
    Checks, HashSeed, Key, Kind, List, Map, NamedImage, Restored, Root, StateError, StateValue,
    Table, VerifyState, Written, hash, to_json,
};
use crate::store::{SnapshotRef, Store, StoreError};

fn table<K: Key, V: StateValue>(entries: impl IntoIterator<Item = (K, V)>) -> Table<K, V> {
    let mut table = Table::new(0..8, 8);
    for (key, value) in entries {
        table.insert(hash(&key), key, value);
    }
    table
}

fn write<K: Key, V: StateValue>(entries: impl IntoIterator<Item = (K, V)>) -> (Memory, Written) {
    let store = Memory::default();
    let written = store.write(vec![named("counts", table(entries).freeze())], None);
    (store, written)
}

fn read<K: Key, V: StateValue>(
    store: &Memory,
    written: &Written,
) -> Result<Table<K, V>, StateError> {
    let mut table = Table::new(0..8, 8);
    let reference = snapshot(written);
    let mut restored = Restored::read(store, &reference)?;
    assert!(table.restore(&mut restored, "count", "counts")?);
    Ok(table)
}

fn read_single<T: DeserializeOwned>(
    store: &Memory,
    reference: &SnapshotRef,
    state: &str,
) -> Result<Option<T>, StateError> {
    Restored::read(store, reference)?.single("count", state)
}

/// SPEC 14.5
#[test]
fn a_field_that_was_added_with_a_default_is_restored() {
    #[derive(Clone, Serialize, Deserialize)]
    struct Old {
        count: u64,
    }
    #[derive(Clone, Serialize, Deserialize, PartialEq, Debug)]
    struct New {
        #[serde(default)]
        name: String,
        count: u64,
    }
    let (store, written) = write((0..100u64).map(|key| (key, Old { count: key })));
    let table = read::<u64, New>(&store, &written).expect("the default fills in");
    assert_eq!(table.get(hash(&5u64), &5), Some(&New { name: String::new(), count: 5 }));
}

#[test]
fn another_type_is_refused_by_name() {
    let (store, written) = write([(1u64, 2u64)]);
    let refusal = read::<u64, String>(&store, &written).err().expect("a number is no string");
    assert!(matches!(refusal, StateError::Decode { .. }), "{refusal:?}");
    let text = refusal.to_string();
    for part in ["`counts`", "`count`", "String", "#[serde(default)]"] {
        assert!(text.contains(part), "{part} in {text}");
    }

    let reference = snapshot(&written);
    let refusal = read_single::<u64>(&store, &reference, "counts").expect_err("it is a table");
    assert!(matches!(refusal, StateError::Kind { found: Kind::Table, .. }), "{refusal:?}");
    assert_eq!(read_single::<u64>(&store, &reference, "other").expect("none is none"), None);
}

#[test]
fn other_key_groups_are_refused() {
    let (store, written) = write([(1u64, 2u64)]);
    let reference = snapshot(&written);
    let mut restored = Restored::read(&store, &reference).expect("it is there");
    let mut table: Table<u64, u64> = Table::new(0..16, 16);
    let refusal = table.restore(&mut restored, "count", "counts").expect_err("8 are not 16");
    assert!(matches!(refusal, StateError::KeyGroups { found: 8, wanted: 16, .. }), "{refusal:?}");
}

thread_local! {
    static SALT: Cell<u64> = const { Cell::new(0) };
}

/// SPEC 14.1
#[test]
fn a_key_that_hashes_otherwise_than_it_did_is_refused() {
    #[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
    struct Fickle(u64);
    impl Hash for Fickle {
        fn hash<H: Hasher>(&self, hasher: &mut H) {
            (self.0, SALT.get()).hash(hasher);
        }
    }
    let (store, written) = write((0..100).map(|key| (Fickle(key), ())));
    assert_eq!(read::<Fickle, ()>(&store, &written).expect("nothing changed").len(), 100);
    SALT.set(1);
    let refusal = read::<Fickle, ()>(&store, &written).err().expect("it changed");
    assert!(matches!(refusal, StateError::Hash { .. }), "{refusal:?}");
    assert!(refusal.to_string().contains("Fickle"));
}

#[test]
fn what_nobody_asks_for_is_noticed() {
    let store = Memory::default();
    let images = vec![
        named("counts", table([(1u64, 1u64)]).freeze()),
        NamedImage::single("source", "position", &17u64).expect("a number can be encoded"),
        NamedImage::single("count", "flag", &true).expect("a flag can be encoded"),
    ];
    let written = store.write(images, None);
    let reference = snapshot(&written);
    let mut restored = Restored::read(&store, &reference).expect("it is there");
    assert_eq!(restored.unclaimed().len(), 3);
    assert_eq!(restored.single("source", "position").expect("it is a number"), Some(17u64));
    assert_eq!(restored.single("count", "flag").expect("it is a flag"), Some(true));
    assert_eq!(restored.unclaimed(), [("count".to_owned(), "counts".to_owned())]);
    let error = StateError::Unclaimed { names: restored.unclaimed() };
    assert!(error.to_string().contains("`counts` of operator `count`"));
}

#[test]
fn an_error_names_the_state_that_cannot_be_written() {
    struct Refuses;
    impl Serialize for Refuses {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("not today"))
        }
    }
    let error = NamedImage::single_as::<u8>("count", "odd", &Refuses).err().expect("it refuses");
    assert!(error.to_string().contains("`odd` of operator `count` cannot be written"));
}

/// SPEC 14.6
#[test]
fn a_table_of_contents_is_read_as_written_or_refused() {
    let (store, written) = write((0..50_000u64).map(|key| (key, key)));
    let bytes = store.read(&written.root).expect("it is there");
    let root = Root::decode(&bytes).expect("it was just written");
    assert_eq!(Root::decode(&root.encode()).expect("it was just written"), root);
    let entries: u32 = root.entries[0].segments.iter().map(|segment| segment.entries).sum();
    assert_eq!((entries, root.entries[0].key_groups), (50_000, 8));
    assert!(bytes.len() < 40 * root.entries[0].segments.len() + 100, "{} bytes", bytes.len());

    // Those of the first version are the same except for the possible values.
    let mut other = bytes.clone();
    assert_eq!(other[0], 2);
    other[0] = 1;
    assert_eq!(Root::decode(&other).expect("it is known"), root);
    for version in [0, 3] {
        other[0] = version;
        let refusal = Root::decode(&other).expect_err("it is of another version");
        assert!(matches!(refusal, StateError::Version { known: 2, .. }), "{refusal:?}");
    }
    for cut in [0, 1, 2, bytes.len() / 2, bytes.len() - 1] {
        let refusal = Root::decode(&bytes[..cut]).expect_err("the rest is missing");
        assert!(matches!(refusal, StateError::Malformed { .. }), "{refusal:?}");
    }
}

/// SPEC 14.6: any table of contents gives a table or an error.
#[test]
fn segments_that_do_not_fit_together_are_refused() {
    let (store, written) = write((0..50_000u64).map(|key| (key, key)));
    let bytes = store.read(&written.root).expect("it is there");
    let good = Root::decode(&bytes).expect("it was just written");
    let spoil: [fn(&mut Root); 5] = [
        |root| root.entries[0].segments.truncate(3),
        |root| {
            let twice = root.entries[0].segments[3];
            root.entries[0].segments.push(twice);
        },
        |root| root.entries[0].segments[3].depth = 200,
        |root| root.entries[0].segments[3].prefix = u32::MAX,
        |root| root.entries[0].segments[3].entries += 1,
    ];
    for spoil in spoil {
        let mut root = good.clone();
        spoil(&mut root);
        let id = snapline_protocol::ids::BlobId {
            checkpoint: written.root.blob.checkpoint.plus(1),
            ..written.root.blob
        };
        let mut writer = store.create_blob(id).expect("memory takes blobs");
        let section = writer.append(&root.encode()).expect("memory takes bytes");
        writer.finish().expect("memory takes blobs");
        let mut reference = snapshot(&written);
        reference.root = section;
        let mut restored = Restored::read(&store, &reference).expect("it can be decoded");
        let mut table: Table<u64, u64> = Table::new(0..8, 8);
        let refusal = table.restore(&mut restored, "count", "counts").expect_err("it is spoilt");
        let typed = matches!(refusal, StateError::Malformed { .. } | StateError::Hash { .. });
        assert!(typed, "{refusal:?}");
        crate::base::sync::lock(&store.0).remove(&id);
    }
}

#[test]
fn a_blob_that_is_missing_is_an_error_of_the_store() {
    let (store, written) = write([(1u64, 1u64)]);
    crate::base::sync::lock(&store.0).clear();
    let refusal = read::<u64, u64>(&store, &written).err().expect("it is gone");
    assert!(matches!(refusal, StateError::Store(StoreError::Missing { .. })), "{refusal:?}");
}

/// A table may take its groups out of several snapshots, each of which has other groups.
#[test]
fn a_table_takes_only_its_own_key_groups() {
    let (store, written) = write((0..1000u64).map(|key| (key, key)));
    let reference = snapshot(&written);
    let mut parts = 0;
    for groups in [0..3, 3..8] {
        let mut restored = Restored::read(&store, &reference).expect("it is there");
        let mut part: Table<u64, u64> = Table::new(groups, 8);
        assert!(part.restore(&mut restored, "count", "counts").expect("it is readable"));
        assert!(part.iter().all(|(key, value)| key == value));
        parts += part.len();
    }
    assert_eq!(parts, 1000);
}

/// SPEC 14.8
#[test]
fn a_some_of_nothing_is_restored_as_key_and_as_value() {
    type Twice = Option<Option<u32>>;
    let values: [Twice; 3] = [None, Some(None), Some(Some(3))];
    let pairs = values.iter().flat_map(|key| values.map(|value| ((*key, value), value)));
    let (store, written) = write(pairs.clone());
    let table = read::<(Twice, Twice), Twice>(&store, &written).expect("it is readable");
    assert_eq!(table.len(), 9);
    for (key, value) in pairs {
        assert_eq!(table.get(hash(&key), &key), Some(&value));
    }
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Lossy {
    #[serde(skip_serializing_if = "Option::is_none", with = "strict")]
    last: Option<u64>,
}

/// An option that must be there: a field that `skip_serializing_if` leaves out cannot be read.
mod strict {
    use serde::{Deserialize, Serialize};

    pub(super) fn serialize<S: serde::Serializer>(
        it: &Option<u64>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        it.serialize(to)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        from: D,
    ) -> Result<Option<u64>, D::Error> {
        Option::deserialize(from)
    }
}

/// SPEC 14.9
#[test]
fn one_value_in_very_many_that_cannot_be_read_is_refused_by_name() {
    let refused = |which, bad: u64| {
        let entries = (0..20_000u64).map(|key| (key, Lossy { last: (key != bad).then_some(key) }));
        let images = vec![named("counts", table(entries).freeze())];
        let (store, mut checks) = (Memory::default(), Checks::new(which));
        let id = snapline_protocol::ids::BlobId {
            checkpoint: snapline_protocol::ids::CheckpointId::FIRST,
            attempt: snapline_protocol::ids::Attempt::first(snapline_protocol::ids::Term::new(1)),
            subtask: snapline_protocol::ids::SubtaskId::new(0),
        };
        let writer = store.create_blob(id).expect("memory takes blobs");
        crate::state::write(images, None, &mut checks, writer).err()
    };
    for which in [VerifyState::Samples, VerifyState::All] {
        let error = refused(which, 12_345).expect("it cannot be read");
        assert!(matches!(error, StateError::Unreadable { .. }) && error.is_permanent());
        let text = error.to_string();
        for part in ["`counts` of operator `count`", "Lossy", "missing field `last`", "Fix:"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(refused(which, u64::MAX).is_none());
    }
    assert!(refused(VerifyState::Off, 12_345).is_none());
}

/// SPEC 14.9: a key must be found again, by its value and by its hash.
#[test]
fn a_key_that_is_read_as_another_or_hashes_otherwise_is_refused() {
    /// It is read as the key before it.
    #[derive(Clone, PartialEq, Eq, Hash, Serialize)]
    struct Earlier(u32);
    impl<'de> Deserialize<'de> for Earlier {
        fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            u32::deserialize(from).map(|number| Self(number.saturating_sub(1)))
        }
    }
    /// The part that is not written counts in its hash.
    #[derive(Clone, Eq, Serialize, Deserialize)]
    struct Noted(u32, #[serde(skip)] u32);
    impl PartialEq for Noted {
        fn eq(&self, other: &Self) -> bool {
            self.0 == other.0
        }
    }
    impl Hash for Noted {
        fn hash<H: Hasher>(&self, state: &mut H) {
            (self.0, self.1).hash(state);
        }
    }
    fn refused<K: Key>(key: K) -> String {
        let writer = Memory::default().create_blob(snapline_protocol::ids::BlobId {
            checkpoint: snapline_protocol::ids::CheckpointId::FIRST,
            attempt: snapline_protocol::ids::Attempt::first(snapline_protocol::ids::Term::new(1)),
            subtask: snapline_protocol::ids::SubtaskId::new(0),
        });
        let images = vec![named("counts", table([(key, 7u64)]).freeze())];
        let mut checks = Checks::new(VerifyState::Samples);
        let written =
            crate::state::write(images, None, &mut checks, writer.expect("memory takes blobs"));
        let error = written.expect_err("it would not be found again");
        assert!(matches!(error, StateError::Unreadable { .. }), "{error}");
        error.to_string()
    }
    assert!(refused(Earlier(5)).contains("read as another key"));
    assert!(refused(Noted(5, 1)).contains("read as a key with another hash"));
}

#[test]
fn what_json_does_not_have_is_shown_as_what_it_is() {
    let shown = |value: &dyn Fn() -> NamedImage| {
        let store = Memory::default();
        let written = store.write(vec![value()], None);
        let bytes = store.read(&written.root).expect("it is there");
        let root = Root::decode(&bytes).expect("it is one");
        let mut shown = Vec::new();
        let all = to_json(&store, &root.entries[0], &mut |value| {
            shown.push(value);
            Ok(())
        });
        all.expect("it can be shown");
        shown.remove(0)
    };
    macro_rules! shown {
        ($value:expr) => {
            shown(&|| NamedImage::single("count", "value", &$value).expect("it can be written"))
        };
    }
    assert_eq!(shown!(None::<Option<u8>>), json!(null));
    assert_eq!(shown!(Some(None::<u8>)), json!({"Some": null}));
    assert_eq!(shown!(vec![Some(Some(()))]), json!([{"Some": {"Some": null}}]));
    assert_eq!(shown!(BTreeMap::from([(Some(()), 1u8)])), json!({"{\"Some\":null}": 1}));
    assert_eq!(shown!(BTreeMap::from([((1u8, 'x'), 1u8)])), json!({"[1,\"x\"]": 1}));
    assert_eq!(shown!((0.1f32, -0.0f64)), json!([0.1, -0.0]));
    assert_eq!(shown!([f64::INFINITY, f64::NEG_INFINITY]), json!(["inf", "-inf"]));
    assert_eq!(shown!(u128::MAX), json!(vec![255; 16]));
    // Two keys that JSON would make one.
    #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Name {
        Number(u8),
        Text(String),
    }
    let both = BTreeMap::from([(Name::Number(1), 'a'), (Name::Text("1".into()), 'b')]);
    assert_eq!(shown!(both), json!([[1, "a"], ["1", "b"]]));
}

#[test]
fn state_is_shown_without_its_types() {
    #[derive(Clone, Serialize, Deserialize)]
    struct Seen {
        last: Option<f64>,
        names: List<String>,
        by_hour: Map<u8, i32>,
        size: Size,
    }
    #[derive(Clone, Serialize, Deserialize)]
    enum Size {
        Known(u8),
    }
    let value = Seen {
        last: None,
        names: vec!["a".to_owned()].into(),
        by_hour: BTreeMap::from([(23, -1)]).into(),
        size: Size::Known(3),
    };
    let store = Memory::default();
    let images = vec![
        named("seen", table([("k".to_owned(), value)]).freeze()),
        NamedImage::single("count", "position", &(7, f64::NAN)).expect("numbers can be encoded"),
    ];
    let written = store.write(images, None);
    let root = Root::decode(&store.read(&written.root).expect("it is there")).expect("it is one");
    let mut shown = Vec::new();
    for entry in &root.entries {
        let all = to_json(&store, entry, &mut |value| {
            shown.push(value);
            Ok(())
        });
        all.expect("it can be shown");
    }
    let seen = json!({"last": null, "names": ["a"], "by_hour": {"23": -1}, "size": {"Known": 3}});
    assert_eq!(shown, [json!(["k", seen]), json!([7, "NaN"])]);
}

/// SPEC 14.1: keys are placed by their job's seed, and are looked up only there.
#[test]
fn a_table_is_restored_with_the_seed_it_was_written_with_and_no_other() {
    let seeds = [HashSeed::CONSTANT, HashSeed::new(Some(1)), HashSeed::new(Some(2))];
    for wrote in seeds {
        let mut table: Table<u64, u64> = Table::seeded(0..8, 8, wrote);
        (0..3_000).for_each(|key| assert_eq!(table.insert(wrote.hash(&key), key, key), None));
        let store = Memory::default();
        let written = store.write(vec![named("counts", table.freeze())], None);
        let reference = snapshot(&written);
        for reads in seeds {
            let mut table: Table<u64, u64> = Table::seeded(0..8, 8, reads);
            let mut restored = Restored::read(&store, &reference).expect("it can be read");
            let read = table.restore(&mut restored, "count", "counts");
            if wrote != reads {
                assert!(matches!(read, Err(StateError::Hash { .. })), "{read:?}");
                continue;
            }
            assert!(read.expect("the same seed"));
            assert!((0..3_000).all(|key| table.get(reads.hash(&key), &key) == Some(&key)));
        }
    }
}
