//! The records that a reader or a state has seen, and those seen twice.

use std::fmt;

/// A multiset of records that counts to two. It represents no order, which no law asks for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RecordTally {
    /// Seen at least once; bit = record.
    pub once: u64,
    /// Seen at least twice.
    pub twice: u64,
}

impl RecordTally {
    /// Adds one sight of a record.
    pub fn add(&mut self, record: u8) {
        self.merge(Self { once: 1 << record, twice: 0 });
    }

    /// Adds everything of `other`.
    pub fn merge(&mut self, other: Self) {
        self.twice |= other.twice | (self.once & other.once);
        self.once |= other.once;
    }

    /// The records added since `earlier`, which must be a former value of this tally. (A difference
    /// does not distinguish a second sight.)
    #[must_use]
    pub fn since(&self, earlier: Self) -> Self {
        Self { once: self.once & !earlier.once, twice: self.twice & !earlier.twice }
    }

    /// True if no record was seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.once == 0
    }
}

impl fmt::Debug for RecordTally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut set = f.debug_set();
        for record in (0..64_u8).filter(|record| self.once >> record & 1 == 1) {
            let times = if self.twice >> record & 1 == 1 { "x2" } else { "" };
            set.entry(&format_args!("r{record}{times}"));
        }
        set.finish()
    }
}
