//! State read back from a checkpoint.

use std::any::type_name;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;

use hashbrown::HashTable;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, SeqAccess, Visitor};

use super::codec;
use super::cow::Node;
use super::entry::Entry;
use super::group::{Group, Segment, rehash};
use super::hash::{HashSeed, MAX_DEPTH, group_of, prefix_of, within};
use super::root::{Kind, Root, RootEntry, SegmentRef};
use super::snapshot::SegmentLocations;
use super::{Key, StateError, StateValue, Table};
use crate::store::{Section, SnapshotRef, Store};

/// A snapshot, to restore states from.
pub struct Restored<'a> {
    store: &'a dyn Store,
    root: Root,
    claimed: BTreeSet<(String, String)>,
    locations: SegmentLocations,
}

impl<'a> Restored<'a> {
    /// Reads the table of contents of a snapshot.
    ///
    /// # Errors
    /// [`StateError`] if it cannot be read.
    pub fn read(store: &'a dyn Store, snapshot: &SnapshotRef) -> Result<Self, StateError> {
        let root = Root::decode(&store.read(&snapshot.root)?)?;
        let mut locations = SegmentLocations::default();
        snapshot.blobs.iter().for_each(|blob| locations.put_blob(*blob));
        Ok(Self { store, root, claimed: BTreeSet::new(), locations })
    }

    /// Its table of contents.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// A single value; `None` if the checkpoint has none of that name.
    ///
    /// # Errors
    /// [`StateError::Decode`] if it cannot be decoded as `T`, [`StateError::Kind`] if it is a
    /// table, [`StateError::Store`] if it cannot be read.
    pub fn single<T: DeserializeOwned>(
        &mut self,
        operator: &str,
        state: &str,
    ) -> Result<Option<T>, StateError> {
        let store = self.store;
        let Some(entry) = self.claim(operator, state, Kind::Single)? else { return Ok(None) };
        let [segment] = entry.segments.as_slice() else {
            return Err(malformed(entry, "a single value has one section".into()));
        };
        let bytes = store.read(&segment.section)?;
        let value = codec::read(&bytes);
        value.map(Some).map_err(|error| undecodable::<T>(entry, error.to_string()))
    }

    /// Operator and state of everything that was not requested: an operator that was renamed or
    /// removed. Resuming without it loses it, which is the user's decision.
    pub fn unclaimed(&self) -> Vec<(String, String)> {
        let names =
            self.root.entries.iter().map(|entry| (entry.operator.clone(), entry.state.clone()));
        names.filter(|name| !self.claimed.contains(name)).collect()
    }

    /// The places of the restored tables' segments: the base of the first snapshot after the
    /// restore.
    pub fn into_locations(self) -> SegmentLocations {
        self.locations
    }

    fn claim(
        &mut self,
        operator: &str,
        state: &str,
        wanted: Kind,
    ) -> Result<Option<&RootEntry>, StateError> {
        let Some(entry) = self.root.entry(operator, state) else { return Ok(None) };
        if entry.kind != wanted {
            return Err(StateError::Kind {
                operator: operator.to_owned(),
                state: state.to_owned(),
                found: entry.kind,
                wanted,
            });
        }
        self.claimed.insert((operator.to_owned(), state.to_owned()));
        Ok(Some(entry))
    }
}

impl<K: Key, V: StateValue> Table<K, V> {
    /// Fills the table with a snapshot's entries of its key groups; returns whether the snapshot
    /// has such a state. Earlier entries of those groups are dropped. Segments come back unchanged,
    /// so that the first snapshot after the restore shares those without writes with the checkpoint
    /// ([`Restored::into_locations`]).
    ///
    /// # Errors
    /// [`StateError`]; then the table must not be used.
    pub fn restore(
        &mut self,
        restored: &mut Restored<'_>,
        operator: &str,
        state: &str,
    ) -> Result<bool, StateError> {
        let store = restored.store;
        let Some(entry) = restored.claim(operator, state, Kind::Table)? else { return Ok(false) };
        if entry.key_groups != self.key_groups {
            return Err(StateError::KeyGroups {
                operator: operator.to_owned(),
                state: state.to_owned(),
                found: entry.key_groups,
                wanted: self.key_groups,
            });
        }
        let mut by_group: BTreeMap<u16, Vec<&SegmentRef>> = BTreeMap::new();
        for segment in &entry.segments {
            if self.groups().contains(&segment.group) {
                by_group.entry(segment.group).or_default().push(segment);
            }
        }
        let mut found: Vec<(u64, Section)> = Vec::new();
        for (number, refs) in by_group {
            let mut segments = Vec::with_capacity(refs.len());
            for part in &refs {
                segments.push(read_segment(store, entry, part, self.seed)?);
            }
            let keys = (self.key_groups, self.seed);
            let group = Group::of(keys, segments, &mut self.clock).ok_or_else(|| {
                malformed(
                    entry,
                    format!("the segments of key group {number} leave a gap or overlap"),
                )
            })?;
            let sections = refs.iter().map(|part| part.section);
            found.extend(group.segments().iter().map(Node::version).zip(sections));
            self.replace(number, group);
        }
        // From now on a version stands for the checkpoint's content under it.
        self.clock.raise();
        restored.locations.put(operator, state, found);
        Ok(true)
    }

    fn replace(&mut self, number: u16, group: Group<K, V>) {
        let size = |group: &Group<K, V>| -> usize {
            group.segments().iter().map(|segment| segment.get().entries.len()).sum()
        };
        let place = usize::from(number - self.first);
        self.ways.forget(place);
        self.ways.divided(place, group.depth(), group.segments().len() - 1);
        self.len += size(&group);
        let slot = &mut self.groups[place];
        self.len -= size(slot.get());
        *slot = Node::new(group, &mut self.clock);
    }
}

fn read_segment<K: Key, V: StateValue>(
    store: &dyn Store,
    entry: &RootEntry,
    part: &SegmentRef,
    hashes: HashSeed,
) -> Result<Segment<K, V>, StateError> {
    if part.depth > MAX_DEPTH {
        return Err(malformed(entry, format!("a segment of depth {}", part.depth)));
    }
    let bytes = store.read(&part.section)?;
    let mut misplaced = false;
    let seed = EntriesVisitor::<K, V> {
        key_groups: entry.key_groups,
        hashes,
        part,
        misplaced: &mut misplaced,
        of: PhantomData,
    };
    let entries = seed.deserialize(&mut codec::Deserializer::new(&bytes));
    let entries = entries.map_err(|error| match misplaced {
        true => StateError::Hash {
            operator: entry.operator.clone(),
            state: entry.state.clone(),
            group: part.group,
            key: type_name::<K>(),
        },
        false => undecodable::<(K, V)>(entry, error.to_string()),
    })?;
    if entries.len() != part.entries as usize {
        let what = format!("{} entries where {} should be", entries.len(), part.entries);
        return Err(malformed(entry, what));
    }
    Ok(Segment::new(part.depth, part.prefix, entries))
}

/// Reads an array of pairs straight into a hash table.
struct EntriesVisitor<'a, K, V> {
    key_groups: u16,
    hashes: HashSeed,
    part: &'a SegmentRef,
    misplaced: &'a mut bool,
    of: PhantomData<(K, V)>,
}

impl<'de, K: Key, V: StateValue> DeserializeSeed<'de> for EntriesVisitor<'_, K, V> {
    type Value = HashTable<Entry<K, V>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, K: Key, V: StateValue> Visitor<'de> for EntriesVisitor<'_, K, V> {
    type Value = HashTable<Entry<K, V>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of keys and values")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        let SegmentRef { group, depth, prefix, entries, .. } = *self.part;
        // The announced number, but at most that of a full segment unless hashes collide.
        let expected = (entries as usize).min(Segment::<K, V>::FULL);
        let mut table = HashTable::with_capacity(expected);
        while let Some((key, value)) = array.next_element::<(K, V)>()? {
            let hash = self.hashes.hash(&key);
            let placed = group_of(hash, self.key_groups) == group
                && prefix_of(hash, self.key_groups, depth) == prefix;
            if !placed {
                *self.misplaced = true;
                return Err(serde::de::Error::custom("misplaced"));
            }
            table.insert_unique(within(hash), Entry::new(key, value), rehash(self.hashes));
        }
        Ok(table)
    }
}

fn undecodable<T>(entry: &RootEntry, error: String) -> StateError {
    let (operator, state) = (entry.operator.clone(), entry.state.clone());
    StateError::Decode { operator, state, wanted: type_name::<T>(), error }
}

pub(super) fn malformed(entry: &RootEntry, what: String) -> StateError {
    let (operator, state) = (entry.operator.clone(), entry.state.clone());
    StateError::Malformed { operator, state, what }
}
