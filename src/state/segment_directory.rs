//! Short ways to segments.
//!
//! # Invariant
//! 1. There are a power of two of ways, and `mask` is one less than that.
//! 2. The way of a prefix is at its lowest bits. There are at least as many ways as prefixes of the table's groups, which are
//!    contiguous, so that each has a place of its own, without a subtraction.
#![allow(unsafe_code, reason = "a look-up whose place an invariant shows to exist")]

use std::ops::Range;

use super::cow::SegmentPtr;
use super::hash::portion;

/// How many ways there may be at most, for each segment that there is.
const SPARSE: usize = 8;

/// From a hash straight to its segment, for those that are being written to: one directory of equal depth for all groups, which is as
/// good as each group's own where hashes are spread evenly, and saves the steps from group to index to segment.
pub(super) struct SegmentDirectory<T> {
    /// For each group in turn, one for each prefix of the depth; by the lowest bits of their number in the job.
    ways: Vec<SegmentPtr<T>>,
    mask: usize,
    depth: u8,
    /// How many ways all key groups of the job would have.
    all: u64,
    groups: Range<u16>,
    /// How many segments there have been.
    segments: usize,
}

impl<T> SegmentDirectory<T> {
    pub(super) fn new(groups: Range<u16>, key_groups: u16) -> Self {
        let mut new =
            Self { ways: Vec::new(), mask: 0, depth: 0, all: 0, segments: groups.len(), groups };
        new.lay_out(0, key_groups.into());
        new
    }

    /// None, but room for those of this depth.
    fn lay_out(&mut self, depth: u8, all: u64) {
        let places = (self.groups.len() << depth).next_power_of_two();
        (self.ways, self.mask) = (vec![SegmentPtr::NONE; places], places - 1);
        (self.depth, self.all) = (depth, all);
    }

    /// The way of a hash whose group is the table's. For another hash it is some other's, or none: good enough to look for a key there,
    /// which then is not found, and not to put one in.
    #[inline(always)]
    pub(super) fn get(&self, hash: u64) -> SegmentPtr<T> {
        let place = self.number(hash) & self.mask;
        debug_assert_eq!(self.ways.len(), self.mask + 1);
        // SAFETY: no more than `mask`, hence below the length, by the first invariant.
        unsafe { *self.ways.get_unchecked(place) }
    }

    /// Which of the job's it is.
    #[inline(always)]
    fn number(&self, hash: u64) -> usize {
        portion(hash, self.all) as usize
    }

    /// The places of a group's ways.
    fn places(&self, place: usize) -> impl Iterator<Item = usize> + use<T> {
        let (depth, mask) = (self.depth, self.mask);
        let first = (usize::from(self.groups.start) + place) << depth;
        (first..first + (1 << depth)).map(move |number| number & mask)
    }

    /// Notes the way to a segment of this depth, if there is one for it alone. The hash's group is the table's.
    pub(super) fn put(&mut self, hash: u64, depth: u8, way: SegmentPtr<T>) {
        if depth <= self.depth {
            let place = self.number(hash) & self.mask;
            self.ways[place] = way;
        }
    }

    /// There are no ways any more to the group at this place.
    pub(super) fn forget(&mut self, place: usize) {
        for way in self.places(place) {
            self.ways[way] = SegmentPtr::NONE;
        }
    }

    /// The group at this place is this deep now, by so many segments more.
    pub(super) fn divided(&mut self, place: usize, depth: u8, more: usize) {
        self.segments += more;
        // One group that is deeper than the others is no reason to make ways for all of them.
        if depth > self.depth && self.groups.len() << depth <= SPARSE * self.segments {
            self.lay_out(depth, self.all >> self.depth << depth);
        } else {
            self.forget(place);
        }
    }
}
