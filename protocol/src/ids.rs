//! Names. Each is unique for ever within a job: none is used for a second thing (SPEC 3.3).

use core::fmt;
use core::num::NonZeroU64;

/// A checkpoint: 1, 2, 3, ... The coordinator allocates the number from durable storage. It is
/// never reused, not even after an abort or a coordinator's death (SPEC 4.2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct CheckpointId(NonZeroU64);

impl CheckpointId {
    /// The first id of a job.
    pub const FIRST: Self = Self(NonZeroU64::MIN);

    /// The id with this number; `None` for zero, which is not a checkpoint.
    #[must_use]
    pub const fn new(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number of the id.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// The id that is `count` places later.
    ///
    /// # Panics
    /// When 2^64 checkpoints have been taken: at a thousand a second that is half a billion years.
    #[must_use]
    pub const fn plus(self, count: u64) -> Self {
        match self.0.checked_add(count) {
            Some(number) => Self(number),
            None => panic!("checkpoint ids are exhausted"),
        }
    }
}

impl fmt::Display for CheckpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for CheckpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}", self.0)
    }
}

/// One life of a coordinator. A coordinator raises its term durably in the store's fence before it
/// does anything else (SPEC 4.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct Term(u32);

impl Term {
    /// The term with this number. A store that was never claimed holds term 0.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number of the term.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The term after this one.
    ///
    /// # Panics
    /// After 2^32 coordinators.
    #[must_use]
    pub const fn next(self) -> Self {
        match self.0.checked_add(1) {
            Some(number) => Self(number),
            None => panic!("coordinator terms are exhausted"),
        }
    }
}

impl fmt::Debug for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t{}", self.0)
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One life of a job's tasks. Attempts are ordered by term first. So attempts of a later
/// coordinator are always later, without a durable counter of their own (SPEC 3.2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Attempt {
    /// The term of the coordinator that started the attempt.
    pub term: Term,
    /// The number of the attempt in its term, from 1.
    pub number: u32,
}

impl Attempt {
    /// The first attempt of a term.
    #[must_use]
    pub const fn first(term: Term) -> Self {
        Self { term, number: 1 }
    }

    /// The attempt after this one in the same term.
    ///
    /// # Panics
    /// After 2^32 attempts in one term.
    #[must_use]
    pub const fn next(self) -> Self {
        match self.number.checked_add(1) {
            Some(number) => Self { term: self.term, number },
            None => panic!("attempts of a term are exhausted"),
        }
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a{}.{}", self.term.get(), self.number)
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term.get(), self.number)
    }
}

/// A subtask: one parallel instance of an operator. The number is a dense index into
/// [`crate::topology::Topology::subtasks`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct SubtaskId(u16);

impl SubtaskId {
    /// The subtask with this index.
    #[must_use]
    pub const fn new(index: u16) -> Self {
        Self(index)
    }

    /// The index.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Debug for SubtaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// A sink transaction, named by the subtask and attempt that wrote it and the barrier that closed
/// it. Commit identity is the *producer's* (SPEC 6.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TxnId {
    /// The checkpoint whose barrier closed the transaction. First, so that transactions sort in
    /// commit order.
    pub checkpoint: CheckpointId,
    /// The attempt that wrote the transaction.
    pub attempt: Attempt,
    /// The sink subtask that wrote the transaction.
    pub subtask: SubtaskId,
}

/// A blob of a snapshot, named by its creation. No two writes share a name, so equal names mean
/// equal bytes (SPEC 8.2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct BlobId {
    /// The checkpoint that the blob was first written for. First, so that deletion goes oldest
    /// first.
    pub checkpoint: CheckpointId,
    /// The attempt that wrote the blob.
    pub attempt: Attempt,
    /// The subtask that wrote the blob.
    pub subtask: SubtaskId,
}

/// A set of small indices (subtasks, input channels), below [`IndexSet::CAPACITY`]. Order of
/// insertion is not representable.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct IndexSet([u64; 4]);

impl IndexSet {
    /// One more than the largest index a set can hold.
    pub const CAPACITY: usize = 256;

    /// The empty set.
    pub const EMPTY: Self = Self([0; 4]);

    /// The set `{0, .., count - 1}`.
    ///
    /// # Panics
    /// If `count` is above [`Self::CAPACITY`]; the topology's limits keep it below.
    #[must_use]
    pub fn first(count: usize) -> Self {
        (0..count).collect()
    }

    /// Adds an index; true if it was new.
    ///
    /// # Panics
    /// If the index is not below [`Self::CAPACITY`].
    pub fn insert(&mut self, index: usize) -> bool {
        let (word, bit) = (index / 64, 1_u64 << (index % 64));
        let new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        new
    }

    /// Removes an index; true if it was in the set.
    pub fn remove(&mut self, index: usize) -> bool {
        let was = self.contains(index);
        if was {
            self.0[index / 64] &= !(1_u64 << (index % 64));
        }
        was
    }

    /// True if the index is in the set.
    #[must_use]
    pub fn contains(&self, index: usize) -> bool {
        self.0.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    /// True if the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }

    /// The number of indices in the set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// True if every index of `other` is in this set.
    #[must_use]
    pub fn contains_all(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(mine, theirs)| theirs & !mine == 0)
    }

    /// The indices, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(place, &word)| {
            core::iter::successors((word != 0).then_some(word), |word| {
                let rest = word & (word - 1);
                (rest != 0).then_some(rest)
            })
            .map(move |word| place * 64 + word.trailing_zeros() as usize)
        })
    }
}

impl FromIterator<usize> for IndexSet {
    fn from_iter<I: IntoIterator<Item = usize>>(indices: I) -> Self {
        let mut set = Self::EMPTY;
        for index in indices {
            set.insert(index);
        }
        set
    }
}

impl fmt::Debug for IndexSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
