//! Direct pointers to segments.
//!
//! # Invariant
//! 1. There are a power of two of pointers, and `mask` is one less than that.
//! 2. The pointer of a prefix is at its lowest bits. There are at least as many pointers as
//!    prefixes of the table's groups, which are contiguous, so that each has a place of its own,
//!    without a subtraction.
#![allow(unsafe_code, reason = "a look-up whose place an invariant shows to exist")]

use std::ops::Range;

use super::cow::SegmentPtr;
use super::hash::portion;

/// The most pointers per segment.
const SPARSE: usize = 8;

/// Leads from a hash straight to its segment, for segments that are being written to. One directory
/// of equal depth for all groups is as good as each group's own where hashes are spread evenly, and
/// saves the steps from group to index to segment.
pub(super) struct SegmentDirectory<T> {
    /// For each group in turn, one for each prefix of the depth; by the lowest bits of their number
    /// in the job.
    ways: Vec<SegmentPtr<T>>,
    mask: usize,
    depth: u8,
    /// The number of pointers that all key groups of the job would have.
    all: u64,
    groups: Range<u16>,
    /// The number of segments ever made.
    segments: usize,
}

impl<T> SegmentDirectory<T> {
    pub(super) fn new(groups: Range<u16>, key_groups: u16) -> Self {
        let mut new =
            Self { ways: Vec::new(), mask: 0, depth: 0, all: 0, segments: groups.len(), groups };
        new.lay_out(0, key_groups.into());
        new
    }

    /// Drops all pointers, and makes room for those of this depth.
    fn lay_out(&mut self, depth: u8, all: u64) {
        let places = (self.groups.len() << depth).next_power_of_two();
        (self.ways, self.mask) = (vec![SegmentPtr::NONE; places], places - 1);
        (self.depth, self.all) = (depth, all);
    }

    /// The pointer of a hash whose group is the table's. For another hash it is that of some other
    /// segment, or none. That is good enough to look for a key there, which then is not found, but
    /// not to insert one.
    #[inline(always)]
    pub(super) fn get(&self, hash: u64) -> SegmentPtr<T> {
        let place = self.number(hash) & self.mask;
        debug_assert_eq!(self.ways.len(), self.mask + 1);
        // SAFETY: at most `mask`, hence below the length, by the first invariant.
        unsafe { *self.ways.get_unchecked(place) }
    }

    /// The number of its pointer in the job.
    #[inline(always)]
    fn number(&self, hash: u64) -> usize {
        portion(hash, self.all) as usize
    }

    /// The places of a group's pointers.
    fn places(&self, place: usize) -> impl Iterator<Item = usize> + use<T> {
        let (depth, mask) = (self.depth, self.mask);
        let first = (usize::from(self.groups.start) + place) << depth;
        (first..first + (1 << depth)).map(move |number| number & mask)
    }

    /// Notes the pointer to a segment of this depth, if there is one for it alone. The hash's group
    /// is the table's.
    pub(super) fn put(&mut self, hash: u64, depth: u8, way: SegmentPtr<T>) {
        if depth <= self.depth {
            let place = self.number(hash) & self.mask;
            self.ways[place] = way;
        }
    }

    /// Drops the pointers to the group at this place.
    pub(super) fn forget(&mut self, place: usize) {
        for way in self.places(place) {
            self.ways[way] = SegmentPtr::NONE;
        }
    }

    /// The group at this place now has this depth, with this many segments more.
    pub(super) fn divided(&mut self, place: usize, depth: u8, more: usize) {
        self.segments += more;
        // One group that is deeper than the others does not justify pointers for all of them.
        if depth > self.depth && self.groups.len() << depth <= SPARSE * self.segments {
            self.lay_out(depth, self.all >> self.depth << depth);
        } else {
            self.forget(place);
        }
    }
}
