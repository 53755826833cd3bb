//! A key group: a directory of segments that grows as they fill up, by extendible hashing (SPEC
//! 14.4).

use std::ops::Range;

use hashbrown::HashTable;

use super::cow::{Fork, Node, VersionCounter};
use super::entry::Entry;
use super::hash::{HashSeed, MAX_DEPTH, prefix_of, within};
use super::{Key, StateValue};

/// The inline size of a full segment's entries. A write to a shared segment copies this much; each
/// segment takes some 30 bytes in a checkpoint's table of contents.
const SEGMENT_BYTES: usize = 16 << 10;

/// The keys of a group whose [`prefix_of`] at this depth is `prefix`.
#[repr(C)]
pub(super) struct Segment<K, V> {
    pub(super) entries: HashTable<Entry<K, V>>,
    /// It is divided before it holds more.
    limit: usize,
    pub(super) depth: u8,
    pub(super) prefix: u32,
}

impl<K: Key, V: StateValue> Segment<K, V> {
    /// At most this many entries are few: an eighth of a full segment. Two siblings that both have
    /// few become one.
    const FEW: usize = Self::FULL / 8;

    /// The entries of a full segment: seven eighths of a power of two, the number that a hash table
    /// holds before it grows.
    pub(super) const FULL: usize = {
        let entry = if size_of::<(K, V)>() == 0 { 1 } else { size_of::<(K, V)>() };
        let mut buckets = 4096;
        while buckets > 128 && buckets * entry > SEGMENT_BYTES {
            buckets /= 2;
        }
        buckets / 8 * 7
    };

    pub(super) fn new(depth: u8, prefix: u32, entries: HashTable<Entry<K, V>>) -> Self {
        let mut limit = Self::FULL;
        while limit < entries.len() {
            limit *= 2;
        }
        Self { entries, limit, depth, prefix }
    }

    #[inline(always)]
    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= self.limit
    }

    /// Whether its room is to be checked, now that an entry was removed. That is so at two numbers
    /// of entries only, so that most removals cost nothing.
    #[inline]
    pub(super) fn has_thinned_out(&self) -> bool {
        let left = self.entries.len();
        (left == Self::FEW || left == 0) && (self.depth > 0 || self.has_room_to_spare())
    }

    /// Whether most of its room is empty. A little spare room is kept: it would soon be needed
    /// again.
    fn has_room_to_spare(&self) -> bool {
        // Its capacity is what it holds before it is rehashed, which is less where entries were
        // removed.
        self.entries.num_buckets() / 4 > self.entries.len().max(Self::FEW / 2)
    }

    /// Gives back spare room, and keeps some.
    fn shrink(&mut self, seed: HashSeed) {
        if self.has_room_to_spare() {
            self.entries.shrink_to(Self::FEW.max(2 * self.entries.len()), rehash(seed));
        }
    }

    /// Whether a division, however deep, would separate any of its entries.
    fn is_divisible(&self, key_groups: u16, seed: HashSeed) -> bool {
        let deepest =
            |entry: &Entry<K, V>| prefix_of(seed.hash(entry.key()), key_groups, MAX_DEPTH);
        let mut bits = self.entries.iter().map(deepest);
        let first = bits.next();
        self.depth < MAX_DEPTH && bits.any(|other| Some(other) != first)
    }
}

impl<K: Key, V: StateValue> Fork for Segment<K, V> {
    fn fork(&self, _: &VersionCounter) -> Self {
        let Self { entries, limit, depth, prefix } = self;
        Self { entries: entries.clone(), limit: *limit, depth: *depth, prefix: *prefix }
    }
}

/// All keys of one key group.
pub(super) struct Group<K, V> {
    key_groups: u16,
    seed: HashSeed,
    /// The depth of the deepest segment.
    depth: u8,
    /// The number of segments of that depth.
    deepest: usize,
    /// For each prefix of that depth, the place of its segment.
    index: Vec<u32>,
    segments: Vec<Node<Segment<K, V>>>,
}

impl<K: Key, V: StateValue> Fork for Group<K, V> {
    fn fork(&self, clock: &VersionCounter) -> Self {
        let Self { key_groups, seed, depth, deepest, index, segments } = self;
        let segments = segments.iter().map(|segment| segment.fork(clock)).collect();
        let (index, key_groups, seed) = (index.clone(), *key_groups, *seed);
        Self { key_groups, seed, depth: *depth, deepest: *deepest, index, segments }
    }
}

/// The places in an index of this depth that belong to a segment.
fn slots(index_depth: u8, depth: u8, prefix: u32) -> Range<usize> {
    let spare = index_depth - depth;
    (prefix as usize) << spare..(prefix as usize + 1) << spare
}

impl<K: Key, V: StateValue> Group<K, V> {
    pub(super) fn new(key_groups: u16, seed: HashSeed, clock: &mut VersionCounter) -> Self {
        let segment = Node::new(Segment::new(0, 0, HashTable::new()), clock);
        Self { key_groups, seed, depth: 0, deepest: 1, index: vec![0], segments: vec![segment] }
    }

    /// A group of these segments; `None` if they leave a gap or overlap.
    pub(super) fn of(
        (key_groups, seed): (u16, HashSeed),
        segments: Vec<Segment<K, V>>,
        clock: &mut VersionCounter,
    ) -> Option<Self> {
        let depth = segments.iter().map(|segment| segment.depth).max()?;
        if depth > MAX_DEPTH {
            return None;
        }
        let mut index = vec![u32::MAX; 1 << depth];
        for (place, segment) in segments.iter().enumerate() {
            let free = index.get_mut(slots(depth, segment.depth, segment.prefix))?;
            if free.iter().any(|slot| *slot != u32::MAX) {
                return None;
            }
            free.fill(place as u32);
        }
        if index.contains(&u32::MAX) {
            return None;
        }
        let deepest = segments.iter().filter(|segment| segment.depth == depth).count();
        let segments = segments.into_iter().map(|segment| Node::new(segment, clock)).collect();
        Some(Self { key_groups, seed, depth, deepest, index, segments })
    }

    /// In an order that depends on the history.
    pub(super) fn segments(&self) -> &[Node<Segment<K, V>>] {
        &self.segments
    }

    pub(super) fn segments_mut(&mut self) -> &mut [Node<Segment<K, V>>] {
        &mut self.segments
    }

    pub(super) fn into_segments(self) -> Vec<Node<Segment<K, V>>> {
        self.segments
    }

    /// The depth of the deepest segment.
    pub(super) fn depth(&self) -> u8 {
        self.depth
    }

    fn place(&self, hash: u64) -> usize {
        self.index[prefix_of(hash, self.key_groups, self.depth) as usize] as usize
    }

    pub(super) fn segment(&self, hash: u64) -> &Node<Segment<K, V>> {
        &self.segments[self.place(hash)]
    }

    pub(super) fn segment_mut(&mut self, hash: u64) -> &mut Node<Segment<K, V>> {
        let place = self.place(hash);
        &mut self.segments[place]
    }

    /// Makes room for an entry in the segment of this hash.
    #[cold]
    #[inline(never)]
    pub(super) fn divide(&mut self, hash: u64, clock: &mut VersionCounter) {
        loop {
            let place = self.place(hash);
            let segment = self.segments[place].write(clock);
            if !segment.is_full() {
                return;
            }
            if !segment.is_divisible(self.key_groups, self.seed) {
                // Keys with almost equal hashes: a directory of any depth would not separate them.
                segment.limit *= 2;
                return;
            }
            self.divide_one(place, clock);
        }
    }

    fn divide_one(&mut self, place: usize, clock: &mut VersionCounter) {
        let (key_groups, seed) = (self.key_groups, self.seed);
        let segment = self.segments[place].write(clock);
        let depth = segment.depth + 1;
        let low = 2 * segment.prefix;
        // Fresh tables: one-by-one removals from a full table leave marks in it that slow it down.
        let mut halves = [0, 1].map(|_| HashTable::with_capacity(Segment::<K, V>::FULL));
        for entry in std::mem::take(&mut segment.entries) {
            let hash = seed.hash(entry.key());
            let half = usize::from(prefix_of(hash, key_groups, depth) != low);
            halves[half].insert_unique(within(hash), entry, rehash(seed));
        }
        let [of_low, of_high] = halves;
        *segment = Segment::new(depth, low, of_low);
        self.segments.push(Node::new(Segment::new(depth, low + 1, of_high), clock));

        if depth > self.depth {
            self.index = self.index.iter().flat_map(|place| [*place; 2]).collect();
            (self.depth, self.deepest) = (depth, 0);
        }
        if depth == self.depth {
            self.deepest += 2;
        }
        // A group has at most 2^17 segments, each with an entry at least: a `u32` counts them.
        let added = self.segments.len() as u32 - 1;
        self.index[slots(self.depth, depth, low + 1)].fill(added);
    }
}

impl<K: Key, V: StateValue> Group<K, V> {
    /// Whether [`Self::condense`] would let segments leave their places.
    pub(super) fn is_joinable(&self, hash: u64) -> bool {
        self.sibling(self.place(hash)).is_some()
    }

    /// Gives back spare room of the segment of this hash. It is joined with its sibling if both
    /// have few entries, and the result with its own.
    pub(super) fn condense(&mut self, hash: u64, clock: &mut VersionCounter) {
        let mut place = self.place(hash);
        while let Some(sibling) = self.sibling(place) {
            place = self.join(place, sibling, clock);
        }
        self.segments[place].write(clock).shrink(self.seed);
    }

    /// The same for all segments with spare room.
    pub(super) fn condense_all(&mut self, clock: &mut VersionCounter) {
        let mut place = 0;
        while place < self.segments.len() {
            match self.sibling(place) {
                // The segment that is now at the sibling's place has not been checked.
                Some(sibling) => place = self.join(place, sibling, clock).min(sibling),
                None => place += 1,
            }
        }
        for segment in &mut self.segments {
            if segment.get().has_room_to_spare() {
                segment.write(clock).shrink(self.seed);
            }
        }
    }

    /// The place of the sibling, the other half of a division, if both together have few entries.
    /// If they had many, they would soon be divided again.
    fn sibling(&self, place: usize) -> Option<usize> {
        let Segment { depth, prefix, entries, .. } = self.segments[place].get();
        if *depth == 0 {
            return None;
        }
        let first = slots(self.depth, *depth, prefix ^ 1).start;
        let place = self.index[first] as usize;
        let other = self.segments[place].get();
        let few = 2 * Segment::<K, V>::FEW;
        (other.depth == *depth && entries.len() + other.entries.len() <= few).then_some(place)
    }

    /// Joins two siblings into one segment, and returns its place.
    fn join(&mut self, place: usize, sibling: usize, clock: &mut VersionCounter) -> usize {
        let other = self.segments.swap_remove(sibling).take(clock);
        if let Some(moved) = self.segments.get(sibling) {
            let Segment { depth, prefix, .. } = moved.get();
            self.index[slots(self.depth, *depth, *prefix)].fill(sibling as u32);
        }
        // The last one has moved to the sibling's place.
        let place = if place == self.segments.len() { sibling } else { place };
        let segment = self.segments[place].write(clock);
        let (depth, prefix) = (segment.depth - 1, segment.prefix >> 1);
        let both = segment.entries.len() + other.entries.len();
        // A fresh table, as where a segment is divided.
        let mut entries = HashTable::with_capacity(Segment::<K, V>::FEW.max(2 * both));
        for entry in std::mem::take(&mut segment.entries).into_iter().chain(other.entries) {
            entries.insert_unique(within(self.seed.hash(entry.key())), entry, rehash(self.seed));
        }
        *segment = Segment::new(depth, prefix, entries);
        self.index[slots(self.depth, depth, prefix)].fill(place as u32);
        if depth + 1 == self.depth {
            self.deepest -= 2;
        }
        if self.deepest == 0 {
            self.depth = depth;
            self.index = self.index.iter().step_by(2).copied().collect();
            let deepest = |segment: &&Node<Segment<K, V>>| segment.get().depth == depth;
            self.deepest = self.segments.iter().filter(deepest).count();
        }
        place
    }
}

/// For hash tables that grow.
#[inline]
pub(super) fn rehash<K: Key, V>(seed: HashSeed) -> impl Fn(&Entry<K, V>) -> u64 {
    move |entry| within(seed.hash(entry.key()))
}
