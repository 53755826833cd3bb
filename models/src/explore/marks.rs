//! A small fixed set of numbers: the arms of the machines that a run has driven.

use std::fmt;

const WORDS: usize = 8;

/// A set of numbers below [`MarkSet::CAPACITY`], 64 bytes, cheap to copy and to unite.
///
/// A system numbers the arms of its machines and inserts a number whenever the arm is driven;
/// the check reports the arms that no run has reached.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct MarkSet {
    words: [u64; WORDS],
}

impl MarkSet {
    /// One more than the greatest number that can be inserted.
    pub const CAPACITY: usize = WORDS * 64;

    /// The empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self { words: [0; WORDS] }
    }

    /// Adds `mark`.
    ///
    /// # Panics
    /// If `mark` is not below [`MarkSet::CAPACITY`]: a mark that is silently dropped would be
    /// reported as an arm that nothing drives.
    #[inline]
    pub fn insert(&mut self, mark: usize) {
        assert!(mark < Self::CAPACITY, "mark {mark} is not below {}", Self::CAPACITY);
        self.words[mark / 64] |= 1 << (mark % 64);
    }

    /// True if `mark` is in the set; `false` for numbers beyond the capacity.
    #[must_use]
    pub fn contains(&self, mark: usize) -> bool {
        mark < Self::CAPACITY && self.words[mark / 64] >> (mark % 64) & 1 == 1
    }

    /// Adds every mark of `other`.
    pub fn union(&mut self, other: &Self) {
        for (word, more) in self.words.iter_mut().zip(other.words) {
            *word |= more;
        }
    }

    /// The number of marks in the set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// True if nothing is marked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words == [0; WORDS]
    }

    /// The marks in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        (0..Self::CAPACITY).filter(|&mark| self.contains(mark))
    }
}

impl fmt::Debug for MarkSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl FromIterator<usize> for MarkSet {
    fn from_iter<I: IntoIterator<Item = usize>>(marks: I) -> Self {
        let mut set = Self::new();
        marks.into_iter().for_each(|mark| set.insert(mark));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::MarkSet;

    #[test]
    fn a_set_of_numbers_below_512() {
        let mut set: MarkSet = [0, 63, 64, 511].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), vec![0, 63, 64, 511]);
        assert!(set.contains(511) && !set.contains(1) && !set.contains(512));
        set.union(&[1].into_iter().collect());
        assert_eq!((set.len(), set.is_empty()), (5, false));
        assert_eq!(format!("{set:?}"), "{0, 1, 63, 64, 511}");
    }

    #[test]
    #[should_panic(expected = "mark 512 is not below 512")]
    fn a_mark_too_great_is_not_dropped_silently() {
        MarkSet::new().insert(512);
    }
}
