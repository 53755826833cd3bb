//! A key group: a directory of segments that grows as they fill up, by extendible hashing (SPEC 14.4).

use hashbrown::HashTable;

use super::cow::{Clock, Fork, Node};
use super::hash::{MAX_DEPTH, hash, segment_bits};
use super::{Key, StateValue};

/// What a segment's entries take, inline, when it is full. A write to a shared segment copies this much; each segment takes some 30
/// bytes in a checkpoint's table of contents.
const SEGMENT_BYTES: usize = 32 << 10;

/// The keys of a group that agree in the lowest `depth` of their [`segment_bits`], which are `prefix`.
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
    fn is_divisible(&self) -> bool {
        let mut bits = self.entries.iter().map(|(key, _)| segment_bits(hash(key)));
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
    /// One less than the length of the index, which is a power of two.
    mask: u32,
    /// For each value of the lowest segment bits, the place of its segment.
    index: Vec<u32>,
    segments: Vec<Node<Segment<K, V>>>,
}

impl<K: Key, V: StateValue> Fork for Group<K, V> {
    fn fork(&self, clock: &Clock) -> Self {
        let segments = self.segments.iter().map(|segment| segment.fork(clock)).collect();
        Self { mask: self.mask, index: self.index.clone(), segments }
    }
}

impl<K: Key, V: StateValue> Group<K, V> {
    pub(super) fn new(clock: &mut Clock) -> Self {
        let segment = Node::new(Segment::new(0, 0, HashTable::new()), clock);
        Self { mask: 0, index: vec![0], segments: vec![segment] }
    }

    /// A group of these segments; `None` if they do not divide it without gap or overlap.
    pub(super) fn of(segments: Vec<Segment<K, V>>, clock: &mut Clock) -> Option<Self> {
        let depth = segments.iter().map(|segment| segment.depth).max()?;
        if depth > MAX_DEPTH {
            return None;
        }
        let mut index = vec![u32::MAX; 1 << depth];
        for (place, segment) in segments.iter().enumerate() {
            if segment.prefix >> segment.depth != 0 {
                return None;
            }
            let slots = index.iter_mut().skip(segment.prefix as usize).step_by(1 << segment.depth);
            for slot in slots {
                if *slot != u32::MAX {
                    return None;
                }
                *slot = place as u32;
            }
        }
        if index.contains(&u32::MAX) {
            return None;
        }
        let segments = segments.into_iter().map(|segment| Node::new(segment, clock)).collect();
        Some(Self { mask: (1 << depth) - 1, index, segments })
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

    #[inline(always)]
    fn place(&self, hash: u64) -> usize {
        self.index[(segment_bits(hash) & self.mask) as usize] as usize
    }

    #[inline(always)]
    pub(super) fn segment(&self, hash: u64) -> &Node<Segment<K, V>> {
        &self.segments[self.place(hash)]
    }

    #[inline(always)]
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
            if !segment.is_divisible() {
                // Keys whose hashes are all but equal: a directory of any depth would not part them.
                segment.limit *= 2;
                return;
            }
            self.divide_one(place, clock);
        }
    }

    fn divide_one(&mut self, place: usize, clock: &mut Clock) {
        let segment = self.segments[place].write(clock);
        let (depth, prefix) = (segment.depth, segment.prefix);
        let bit = 1 << depth;
        // Fresh tables: what is removed one by one from a full table leaves marks in it that slow it down.
        let mut halves = [0, 1].map(|_| HashTable::with_capacity(Segment::<K, V>::FULL));
        for (key, value) in std::mem::take(&mut segment.entries) {
            let hash = hash(&key);
            let half = usize::from(segment_bits(hash) & bit != 0);
            halves[half].insert_unique(hash, (key, value), rehash);
        }
        let [low, high] = halves;
        *segment = Segment::new(depth + 1, prefix, low);
        let high = Segment::new(depth + 1, prefix | bit, high);
        self.segments.push(Node::new(high, clock));

        if bit > self.mask {
            self.index.extend_from_within(..);
            self.mask = 2 * self.mask + 1;
        }
        let added = self.segments.len() as u32 - 1;
        let high = self.index.iter_mut().skip((prefix | bit) as usize);
        high.step_by(2 * bit as usize).for_each(|slot| *slot = added);
    }
}

/// For hash tables that grow.
#[inline]
pub(super) fn rehash<K: Key, V>(entry: &(K, V)) -> u64 {
    hash(&entry.0)
}
