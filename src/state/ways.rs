//! Short ways to segments.

use std::ops::Range;

use super::cow::Hot;
use super::hash::portion;

/// How many ways there may be at most, for each segment that there is.
const SPARSE: usize = 8;

/// From a hash straight to its segment, for those that are being written to: one directory of equal depth for all groups, which is as
/// good as each group's own where hashes are spread evenly, and saves the steps from group to index to segment.
pub(super) struct Ways<T> {
    /// For each group in turn, one for each prefix of the depth.
    ways: Vec<Hot<T>>,
    depth: u8,
    /// How many ways all key groups of the job would have.
    all: u64,
    /// How many ways the groups before the table's would have.
    before: u64,
    groups: Range<u16>,
    /// How many segments there have been.
    segments: usize,
}

impl<T> Ways<T> {
    pub(super) fn new(groups: Range<u16>, key_groups: u16) -> Self {
        let (segments, before) = (groups.len(), u64::from(groups.start));
        let (ways, all) = (vec![Hot::NONE; segments], key_groups.into());
        Self { ways, depth: 0, all, before, groups, segments }
    }

    /// The way of a hash; none if its group is not the table's.
    #[inline(always)]
    pub(super) fn get(&self, hash: u64) -> Hot<T> {
        self.ways.get(self.index(hash)).copied().unwrap_or(Hot::NONE)
    }

    #[inline(always)]
    fn index(&self, hash: u64) -> usize {
        // That of a group before the first wraps around, to a place that does not exist.
        portion(hash, self.all).wrapping_sub(self.before) as usize
    }

    /// Notes the way to a segment of this depth, if there is one for it alone.
    pub(super) fn put(&mut self, hash: u64, depth: u8, way: Hot<T>) {
        if depth <= self.depth {
            let index = self.index(hash);
            self.ways[index] = way;
        }
    }

    /// There are no ways any more to the group at this place.
    pub(super) fn forget(&mut self, place: usize) {
        let depth = self.depth;
        self.ways[place << depth..(place + 1) << depth].fill(Hot::NONE);
    }

    /// The group at this place is this deep now, by so many segments more.
    pub(super) fn divided(&mut self, place: usize, depth: u8, more: usize) {
        self.segments += more;
        // One group that is deeper than the others is no reason to make ways for all of them.
        if depth > self.depth && self.groups.len() << depth <= SPARSE * self.segments {
            self.all = self.all >> self.depth << depth;
            self.depth = depth;
            self.before = u64::from(self.groups.start) << depth;
            self.ways = vec![Hot::NONE; self.groups.len() << depth];
        } else {
            self.forget(place);
        }
    }
}
