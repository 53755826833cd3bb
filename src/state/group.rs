//! A key group: a directory of segments that grows as they fill up, by extendible hashing (SPEC 14.4).

use std::ops::Range;

use hashbrown::HashTable;

use super::cow::{Clock, Fork, Node};
use super::hash::{MAX_DEPTH, hash, prefix_of, within};
use super::{Key, StateValue};

/// What a segment's entries take, inline, when it is full. A write to a shared segment copies this much; each segment takes some 30
/// bytes in a checkpoint's table of contents.
const SEGMENT_BYTES: usize = 16 << 10;

/// The keys of a group whose [`prefix_of`] at this depth is `prefix`.
#[repr(C)]
pub(super) struct Segment<K, V> {
    pub(super) entries: HashTable<(K, V)>,
    /// It is divided before it holds more.
    limit: usize,
    pub(super) depth: u8,
    pub(super) prefix: u32,
}

impl<K: Key, V: StateValue> Segment<K, V> {
    /// How many entries make a segment full: seven eighths of a power of two, which is what a hash table holds before it grows.
    pub(super) const FULL: usize = {
        let entry = if size_of::<(K, V)>() == 0 { 1 } else { size_of::<(K, V)>() };
        let mut buckets = 4096;
        while buckets > 128 && buckets * entry > SEGMENT_BYTES {
            buckets /= 2;
        }
        buckets / 8 * 7
    };

    pub(super) fn new(depth: u8, prefix: u32, entries: HashTable<(K, V)>) -> Self {
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

    /// Whether a division, however deep, would part any of its entries.
    fn is_divisible(&self, key_groups: u16) -> bool {
        let deepest = |(key, _): &(K, V)| prefix_of(hash(key), key_groups, MAX_DEPTH);
        let mut bits = self.entries.iter().map(deepest);
        let first = bits.next();
        self.depth < MAX_DEPTH && bits.any(|other| Some(other) != first)
    }
}

impl<K: Key, V: StateValue> Fork for Segment<K, V> {
    fn fork(&self, _: &Clock) -> Self {
        let Self { entries, limit, depth, prefix } = self;
        Self { entries: entries.clone(), limit: *limit, depth: *depth, prefix: *prefix }
    }
}

/// All keys of one key group.
pub(super) struct Group<K, V> {
    key_groups: u16,
    /// The depth of the deepest segment.
    depth: u8,
    /// For each prefix of that depth, the place of its segment.
    index: Vec<u32>,
    segments: Vec<Node<Segment<K, V>>>,
}

impl<K: Key, V: StateValue> Fork for Group<K, V> {
    fn fork(&self, clock: &Clock) -> Self {
        let Self { key_groups, depth, index, segments } = self;
        let segments = segments.iter().map(|segment| segment.fork(clock)).collect();
        Self { key_groups: *key_groups, depth: *depth, index: index.clone(), segments }
    }
}

/// The places in an index of this depth that belong to a segment.
fn slots(index_depth: u8, depth: u8, prefix: u32) -> Range<usize> {
    let spare = index_depth - depth;
    (prefix as usize) << spare..(prefix as usize + 1) << spare
}

impl<K: Key, V: StateValue> Group<K, V> {
    pub(super) fn new(key_groups: u16, clock: &mut Clock) -> Self {
        let segment = Node::new(Segment::new(0, 0, HashTable::new()), clock);
        Self { key_groups, depth: 0, index: vec![0], segments: vec![segment] }
    }

    /// A group of these segments; `None` if they do not divide it without gap or overlap.
    pub(super) fn of(
        key_groups: u16,
        segments: Vec<Segment<K, V>>,
        clock: &mut Clock,
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
        let segments = segments.into_iter().map(|segment| Node::new(segment, clock)).collect();
        Some(Self { key_groups, depth, index, segments })
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
    pub(super) fn divide(&mut self, hash: u64, clock: &mut Clock) {
        loop {
            let place = self.place(hash);
            let segment = self.segments[place].write(clock);
            if !segment.is_full() {
                return;
            }
            if !segment.is_divisible(self.key_groups) {
                // Keys whose hashes are all but equal: a directory of any depth would not part them.
                segment.limit *= 2;
                return;
            }
            self.divide_one(place, clock);
        }
    }

    fn divide_one(&mut self, place: usize, clock: &mut Clock) {
        let key_groups = self.key_groups;
        let segment = self.segments[place].write(clock);
        let depth = segment.depth + 1;
        let low = 2 * segment.prefix;
        // Fresh tables: what is removed one by one from a full table leaves marks in it that slow it down.
        let mut halves = [0, 1].map(|_| HashTable::with_capacity(Segment::<K, V>::FULL));
        for (key, value) in std::mem::take(&mut segment.entries) {
            let hash = hash(&key);
            let half = usize::from(prefix_of(hash, key_groups, depth) != low);
            halves[half].insert_unique(within(hash), (key, value), rehash);
        }
        let [of_low, of_high] = halves;
        *segment = Segment::new(depth, low, of_low);
        self.segments.push(Node::new(Segment::new(depth, low + 1, of_high), clock));

        if depth > self.depth {
            self.index = self.index.iter().flat_map(|place| [*place; 2]).collect();
            self.depth = depth;
        }
        // A segment of 2^17 a group, each with an entry at least: a `u32` counts them.
        let added = self.segments.len() as u32 - 1;
        self.index[slots(self.depth, depth, low + 1)].fill(added);
    }
}

/// For hash tables that grow.
#[inline]
pub(super) fn rehash<K: Key, V>(entry: &(K, V)) -> u64 {
    within(hash(&entry.0))
}
