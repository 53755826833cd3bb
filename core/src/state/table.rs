//! The state that a subtask keeps per key.

use std::borrow::Borrow;
use std::ops::Range;
use std::vec::Drain;

use super::cow::{Node, SegmentPtr, VersionCounter};
use super::entry::{Entry, PrefetchedEntry};
use super::group::{Group, Segment, rehash};
use super::hash::{HashSeed, MAX_KEY_GROUPS, group_of, within};
use super::segment_directory::SegmentDirectory;
use super::snapshot::{Image, TableImage};
use super::{Key, StateValue};

/// The number of records to prefetch for. More than a processor works on by itself, and few enough
/// for their entries to stay in the nearest cache.
const AHEAD: usize = 32;

/// The state of one subtask's keys, in a contiguous range of key groups.
///
/// Every method that takes a hash expects the one of the key with the table's seed,
/// [`HashSeed::hash`]: the router of the records has it already.
///
/// # Panics
/// Methods panic on a hash whose key group is not the table's: the record was routed to the wrong
/// subtask.
pub struct Table<K, V> {
    pub(super) first: u16,
    pub(super) key_groups: u16,
    pub(super) seed: HashSeed,
    pub(super) groups: Vec<Node<Group<K, V>>>,
    pub(super) clock: VersionCounter,
    pub(super) len: usize,
    pub(super) ways: SegmentDirectory<Segment<K, V>>,
}

impl<K: Key, V: StateValue> Table<K, V> {
    /// An empty table for these key groups ([`super::groups_of`]) of all `key_groups` there are.
    ///
    /// # Panics
    /// If there are no key groups, more than [`MAX_KEY_GROUPS`], or the range goes beyond them.
    pub fn new(groups: Range<u16>, key_groups: u16) -> Self {
        Self::seeded(groups, key_groups, HashSeed::CONSTANT)
    }

    /// The same, in a job with this seed.
    ///
    /// # Panics
    /// As [`Table::new`].
    pub fn seeded(groups: Range<u16>, key_groups: u16, seed: HashSeed) -> Self {
        assert!(
            (1..=MAX_KEY_GROUPS).contains(&key_groups),
            "{key_groups} key groups, not 1 to {MAX_KEY_GROUPS}"
        );
        assert!(groups.end <= key_groups, "key groups {groups:?} are not among {key_groups}");
        let mut clock = VersionCounter::new();
        let (first, range) = (groups.start, groups.clone());
        let groups: Vec<_> = groups
            .map(|_| Node::new(Group::new(key_groups, seed, &mut clock), &mut clock))
            .collect();
        let ways = SegmentDirectory::new(range, key_groups);
        Self { first, key_groups, seed, groups, clock, len: 0, ways }
    }

    /// The seed of the hashes of its keys.
    pub fn seed(&self) -> HashSeed {
        self.seed
    }

    /// The number of its keys.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The key groups it is responsible for.
    pub fn groups(&self) -> Range<u16> {
        // At most the number of key groups, which a `u16` counts.
        self.first..self.first + self.groups.len() as u16
    }

    /// The number of key groups in the job.
    pub fn key_groups(&self) -> u16 {
        self.key_groups
    }

    /// The value of a key, inserted first if it is missing.
    #[inline]
    pub fn entry(&mut self, hash: u64, key: K, default: impl FnOnce() -> V) -> &mut V {
        let seed = self.seed;
        let (segment, len) = self.segment_with_room(hash);
        match segment.entries.find_entry(within(hash), |entry| *entry.key() == key) {
            Ok(found) => &mut found.into_mut().pair_mut().1,
            Err(absent) => {
                let entry = Entry::new(key, default());
                *len += 1;
                let entry = absent.into_table().insert_unique(within(hash), entry, rehash(seed));
                &mut entry.into_mut().pair_mut().1
            }
        }
    }

    /// As [`Table::entry`], with a borrowed key that is cloned only where it is inserted.
    #[inline]
    pub fn entry_ref<Q>(&mut self, hash: u64, key: &Q, default: impl FnOnce() -> V) -> &mut V
    where
        K: Borrow<Q>,
        Q: Eq + ToOwned<Owned = K> + ?Sized,
    {
        let seed = self.seed;
        let (segment, len) = self.segment_with_room(hash);
        match segment.entries.find_entry(within(hash), |entry| entry.key().borrow() == key) {
            Ok(found) => &mut found.into_mut().pair_mut().1,
            Err(absent) => {
                let entry = Entry::new(key.to_owned(), default());
                *len += 1;
                let entry = absent.into_table().insert_unique(within(hash), entry, rehash(seed));
                &mut entry.into_mut().pair_mut().1
            }
        }
    }

    /// Inserts a value and returns the earlier one.
    #[inline]
    pub fn insert(&mut self, hash: u64, key: K, value: V) -> Option<V> {
        let seed = self.seed;
        let (segment, len) = self.segment_with_room(hash);
        match segment.entries.find_entry(within(hash), |entry| *entry.key() == key) {
            Ok(found) => Some(std::mem::replace(&mut found.into_mut().pair_mut().1, value)),
            Err(absent) => {
                *len += 1;
                absent.into_table().insert_unique(
                    within(hash),
                    Entry::new(key, value),
                    rehash(seed),
                );
                None
            }
        }
    }

    /// The value of a key.
    #[inline]
    pub fn get<Q: Eq + ?Sized>(&self, hash: u64, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let Some(group) = self.groups.get(self.place(hash)) else {
            misrouted(hash, self.key_groups, self.first)
        };
        let found = group
            .get()
            .segment(hash)
            .get()
            .entries
            .find(within(hash), |entry| entry.key().borrow() == key);
        found.map(|entry| &entry.pair().1)
    }

    /// The value of a key, for writing: its segment will be written again with the next snapshot.
    #[inline]
    pub fn get_mut<Q: Eq + ?Sized>(&mut self, hash: u64, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let segment = self.segment_that_has(hash, key)?;
        let found = segment.entries.find_mut(within(hash), |entry| entry.key().borrow() == key);
        found.map(|entry| &mut entry.pair_mut().1)
    }

    /// Removes a key and returns its value.
    #[inline]
    pub fn remove<Q: Eq + ?Sized>(&mut self, hash: u64, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let segment = self.segment_that_has(hash, key)?;
        let found =
            segment.entries.find_entry(within(hash), |entry| entry.key().borrow() == key).ok()?;
        let (_, value) = found.remove().0.into_pair();
        let thin = segment.has_thinned_out();
        self.len -= 1;
        if thin {
            self.condense(hash);
        }
        Some(value)
    }

    /// A key's entry, inserted if it is missing: the key as it is stored, and its value for
    /// writing.
    #[inline]
    #[allow(unsafe_code, reason = "see the contract of `PrefetchedEntry`")]
    pub fn entry_pair(&mut self, hash: u64, key: K, default: impl FnOnce() -> V) -> (&K, &mut V) {
        let found = self.find(hash, &key);
        // SAFETY: it was found a moment ago, and `self` is borrowed for as long as the pair.
        match unsafe { found.get() } {
            Some((key, value)) => (key, value),
            None => self.new_entry(hash, key, default),
        }
    }

    /// Each record's entry, as [`Table::entry_pair`] gives it, one record after the other. `split`
    /// divides a record into its key and the rest; `act` gets the entry with the rest, and returns
    /// whether the entry stays. `of` returns the hash of the key.
    ///
    /// It prefetches: while one record is processed, the memory for the next ones is being loaded.
    #[inline]
    #[allow(unsafe_code, reason = "see the contract of `PrefetchedEntry`")]
    pub fn each_entry<T, U>(
        &mut self,
        records: &mut Drain<'_, T>,
        of: impl Fn(&T) -> u64,
        split: impl Fn(T) -> (K, U),
        default: impl Fn() -> V,
        mut act: impl FnMut(&K, &mut V, U) -> bool,
    ) {
        while records.len() > 0 {
            let mut ahead = [PrefetchedEntry::NONE; AHEAD];
            for (ahead, record) in ahead.iter_mut().zip(records.as_slice()) {
                *ahead = self.candidate(of(record));
            }
            for place in 0..AHEAD {
                let Some(record) = records.next() else { return };
                let (key, value) = split(record);
                // SAFETY: the pointers are dropped below as soon as anything is inserted or
                // removed, which no other code can do: `self` is borrowed. The pair is used until
                // `act` has returned.
                let found = unsafe { ahead[place].get() }.filter(|pair| pair.0 == key);
                let dropped = match found {
                    Some((key, state)) => (!act(key, state, value)).then(|| key.clone()),
                    None => {
                        let hash = self.seed.hash(&key);
                        let found = self.find(hash, &key);
                        // SAFETY: as above.
                        let (key, state) = match unsafe { found.get() } {
                            Some((key, state)) => (&*key, state),
                            None => {
                                ahead = [PrefetchedEntry::NONE; AHEAD];
                                self.new_entry(hash, key, &default)
                            }
                        };
                        (!act(key, state, value)).then(|| key.clone())
                    }
                };
                if let Some(key) = dropped {
                    ahead = [PrefetchedEntry::NONE; AHEAD];
                    self.remove(self.seed.hash(&key), &key);
                }
            }
        }
    }

    /// A key's entry, if it is in a segment that is being written to.
    #[inline(always)]
    #[allow(unsafe_code, reason = "see the contract of `SegmentPtr`")]
    fn find(&mut self, hash: u64, key: &K) -> PrefetchedEntry<K, V> {
        // SAFETY: as for `segment_with_room`.
        let segment = unsafe { self.ways.get(hash).get(&self.clock) };
        let found = segment
            .and_then(|segment| segment.entries.find(within(hash), |entry| entry.key() == key));
        found.map_or(PrefetchedEntry::NONE, PrefetchedEntry::at)
    }

    /// The place where a lookup of a key with this hash would first find an entry; most likely, but
    /// not for certain, it is that key's. The entry itself is not read.
    #[inline(always)]
    #[allow(unsafe_code, reason = "see the contract of `SegmentPtr`")]
    fn candidate(&mut self, hash: u64) -> PrefetchedEntry<K, V> {
        // SAFETY: as for `segment_with_room`.
        let segment = unsafe { self.ways.get(hash).get(&self.clock) };
        let found = segment.and_then(|segment| segment.entries.find(within(hash), |_| true));
        found.map_or(PrefetchedEntry::NONE, PrefetchedEntry::soon)
    }

    /// [`Table::entry_pair`] of a key that is missing, or in a segment that is not being written
    /// to.
    #[cold]
    #[inline(never)]
    fn new_entry(&mut self, hash: u64, key: K, default: impl FnOnce() -> V) -> (&K, &mut V) {
        let seed = self.seed;
        let (segment, len) = self.segment_with_room(hash);
        let entry = match segment.entries.find_entry(within(hash), |entry| *entry.key() == key) {
            Ok(found) => found.into_mut(),
            Err(absent) => {
                *len += 1;
                let entry = Entry::new(key, default());
                absent.into_table().insert_unique(within(hash), entry, rehash(seed)).into_mut()
            }
        };
        let (key, value) = entry.pair_mut();
        (key, value)
    }

    /// The entries of a key group, in an order that depends on the history of the table; none if
    /// the group is not the table's.
    pub fn iter_group(&self, group: u16) -> impl Iterator<Item = (&K, &V)> {
        let group = self.groups.get(usize::from(group.wrapping_sub(self.first))).map(Node::get);
        let segments = group.into_iter().flat_map(Group::segments).map(Node::get);
        segments.flat_map(|segment| &segment.entries).map(pair)
    }

    /// All entries, in an order that depends on the history of the table.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let groups = self.groups.iter().map(Node::get);
        let segments = groups.flat_map(Group::segments).map(Node::get);
        segments.flat_map(|segment| &segment.entries).map(pair)
    }

    /// Drops the entries for which `keep` returns false. It is called again in segments that
    /// change; unchanged segments are not written again with the next snapshot.
    pub fn retain(&mut self, keep: impl Fn(&K, &V) -> bool) {
        self.extract_into(|key, value| !keep(key, value), drop);
    }

    /// Removes the entries for which `take` returns true, by key group and hash: in an order that
    /// does not depend on the history. It is called again in segments that change, as in
    /// [`Table::retain`].
    pub fn extract(&mut self, take: impl Fn(&K, &V) -> bool) -> Vec<(K, V)> {
        let (mut all, seed) = (Vec::new(), self.seed);
        self.extract_into(take, |mut of_group| {
            of_group.sort_by_cached_key(|(key, _)| seed.hash(key));
            all.append(&mut of_group);
        });
        all
    }

    fn extract_into(&mut self, take: impl Fn(&K, &V) -> bool, mut to: impl FnMut(Vec<(K, V)>)) {
        let Self { groups, clock, len, ways, .. } = self;
        for (place, group) in groups.iter_mut().enumerate() {
            let has_any = |segment: &Segment<K, V>| {
                segment.entries.iter().map(pair).any(|(key, value)| take(key, value))
            };
            if !group.get().segments().iter().any(|segment| has_any(segment.get())) {
                continue;
            }
            let mut taken = Vec::new();
            let group = group.write(clock);
            for segment in group.segments_mut() {
                if has_any(segment.get()) {
                    let entries = &mut segment.write(clock).entries;
                    let which = |entry: &mut Entry<K, V>| {
                        let (key, value) = pair(entry);
                        take(key, value)
                    };
                    taken.extend(entries.extract_if(which).map(Entry::into_pair));
                }
            }
            *len -= taken.len();
            ways.forget(place);
            group.condense_all(clock);
            to(taken);
        }
    }

    /// Gives back spare room of the segment of this hash, after entries were removed.
    #[cold]
    #[inline(never)]
    fn condense(&mut self, hash: u64) {
        let place = self.place(hash);
        let Self { groups, clock, ways, .. } = self;
        let group = groups[place].write(clock);
        if group.is_joinable(hash) {
            // Segments leave their places (the contract of `SegmentPtr`).
            ways.forget(place);
        }
        group.condense(hash, clock);
    }

    /// The bytes that its hash tables have allocated.
    #[cfg(test)]
    pub(super) fn allocated(&self) -> usize {
        let groups = self.groups.iter().map(Node::get);
        let segments = groups.flat_map(Group::segments).map(Node::get);
        segments.map(|segment| segment.entries.allocation_size()).sum()
    }

    /// The number of entries of the largest segment.
    #[cfg(test)]
    pub(super) fn largest(&self) -> usize {
        let groups = self.groups.iter().map(Node::get);
        let segments = groups.flat_map(Group::segments).map(Node::get);
        segments.map(|segment| segment.entries.len()).max().unwrap_or(0)
    }

    /// The number of segments.
    #[cfg(test)]
    pub(super) fn segments(&self) -> usize {
        self.groups.iter().map(|group| group.get().segments().len()).sum()
    }

    /// Removes all entries of a key group, by hash: in an order that does not depend on the
    /// history, but for keys whose hashes are equal.
    ///
    /// # Panics
    /// If the group is not the table's.
    pub fn take_group(&mut self, group: u16) -> Vec<(K, V)> {
        let place = usize::from(group.wrapping_sub(self.first));
        let Self { groups, clock, len, ways, key_groups, seed, .. } = self;
        let group = &mut groups[place];
        ways.forget(place);
        let empty = Node::new(Group::new(*key_groups, *seed, clock), clock);
        let segments = std::mem::replace(group, empty).take(clock).into_segments();
        let mut taken = Vec::new();
        for segment in segments {
            taken.extend(segment.take(clock).entries.into_iter().map(Entry::into_pair));
        }
        *len -= taken.len();
        taken.sort_by_cached_key(|(key, _)| seed.hash(key));
        taken
    }

    /// Empties the table: [`Table::take_group`] for each, one at a time as the iterator advances.
    pub fn drain(&mut self) -> impl Iterator<Item = (K, V)> {
        self.groups().flat_map(|group| self.take_group(group))
    }

    /// An image of the current table. Takes time by the number of key groups, whatever their
    /// content (SPEC 5.4).
    pub fn freeze(&mut self) -> Box<dyn Image> {
        self.clock.raise();
        let groups = self.groups.iter().map(|group| group.fork(&self.clock)).collect();
        Box::new(TableImage { first: self.first, key_groups: self.key_groups, groups })
    }

    #[inline(always)]
    fn place(&self, hash: u64) -> usize {
        // A group below the first wraps around to a place that does not exist.
        usize::from(group_of(hash, self.key_groups).wrapping_sub(self.first))
    }

    /// The segment that this hash belongs to, for writing, with room for one more entry. It skips
    /// the group in the common case that the segment was written to since the table was last
    /// frozen.
    #[inline(always)]
    #[allow(unsafe_code, reason = "see the contract of `SegmentPtr`")]
    fn segment_with_room(&mut self, hash: u64) -> (&mut Segment<K, V>, &mut usize) {
        // The pointer of a hash that is not the table's may be another's.
        let way = match self.place(hash) < self.groups.len() {
            true => self.ways.get(hash),
            false => SegmentPtr::NONE,
        };
        // SAFETY: code that removes a node from a group drops the group's pointers; and `self` is
        // borrowed for as long as the segment.
        match unsafe { way.get(&self.clock) } {
            Some(segment) if !segment.is_full() => (segment, &mut self.len),
            _ => self.segment(hash, true),
        }
    }

    /// The segment that this hash belongs to, for writing; on request with room for one more entry.
    #[cold]
    #[inline(never)]
    fn segment(&mut self, hash: u64, room: bool) -> (&mut Segment<K, V>, &mut usize) {
        let place = self.place(hash);
        let Self { groups, clock, len, ways, key_groups, first, .. } = self;
        let Some(group) = groups.get_mut(place) else { misrouted(hash, *key_groups, *first) };
        let group = group.write(clock);
        if room && group.segment(hash).get().is_full() {
            let before = group.segments().len();
            group.divide(hash, clock);
            ways.divided(place, group.depth(), group.segments().len() - before);
        }
        let node = group.segment_mut(hash);
        let depth = node.write(clock).depth;
        ways.put(hash, depth, SegmentPtr::of(node));
        (node.write(clock), len)
    }

    /// The segment that a key is in, for writing; `None`, and nothing is copied, if the key is
    /// missing.
    fn segment_that_has<Q: Eq + ?Sized>(&mut self, hash: u64, key: &Q) -> Option<&mut Segment<K, V>>
    where
        K: Borrow<Q>,
    {
        self.get(hash, key)?;
        Some(self.segment(hash, false).0)
    }
}

fn pair<K, V>(entry: &Entry<K, V>) -> (&K, &V) {
    let (key, value) = entry.pair();
    (key, value)
}

#[cold]
#[inline(never)]
fn misrouted(hash: u64, key_groups: u16, first: u16) -> ! {
    let group = group_of(hash, key_groups);
    panic!(
        "key group {group} is not in the table that begins with {first}: the record was routed to the wrong subtask"
    );
}
