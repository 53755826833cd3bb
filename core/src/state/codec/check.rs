//! Reads back written values.

use std::any::{TypeId, type_name};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Deserializer, Error, Marks};
use crate::state::{Key, StateError, VerifyState, hash};

/// The number of values of each state that are read back before samples are.
const FIRST: u64 = 16;

/// One in this many is read back, after those.
const SAMPLE: u64 = 64;

/// A value that nests deeper is always read back: it may be too much for the reader's stack.
pub(super) const DEEP: u16 = 32;

/// Selects the values of a task that are read back when they are written (SPEC 14.9). These are the
/// first of each state, those of a new shape, those that nest deep, and samples.
#[derive(Debug, Default)]
pub struct Checks {
    which: VerifyState,
    /// By operator and state.
    states: BTreeMap<(String, String), ObservedValues>,
}

impl Checks {
    /// The checks of a task that begins.
    #[must_use]
    pub fn new(which: VerifyState) -> Self {
        Self { which, ..Self::default() }
    }

    /// The checks of one state of an operator.
    pub fn of(&mut self, operator: &str, state: &str) -> Check<'_> {
        let seen = self.states.entry((operator.to_owned(), state.to_owned())).or_default();
        Check { which: self.which, seen }
    }
}

/// The values of one state so far.
#[derive(Debug, Default)]
struct ObservedValues {
    written: u64,
    marks: Marks,
}

/// The checks of one state.
pub struct Check<'a> {
    which: VerifyState,
    seen: &'a mut ObservedValues,
}

impl Check<'_> {
    /// A place to note values' shapes in, and a test for shapes and depths that are read back.
    #[inline]
    pub(crate) fn parts(&mut self) -> (&mut Marks, impl FnMut((bool, u16)) -> bool + use<'_>) {
        let Self { which, seen } = self;
        let ObservedValues { written, marks } = &mut **seen;
        (marks, |shape| which.is_due(written, shape))
    }

    /// Whether the next value is to be read back. `notable`: for its shape or depth.
    pub fn is_due(&mut self, notable: bool) -> bool {
        self.which.is_due(&mut self.seen.written, (notable, 0))
    }
}

impl VerifyState {
    #[inline]
    fn is_due(self, written: &mut u64, (novel, depth): (bool, u16)) -> bool {
        let number = *written;
        *written += 1;
        match self {
            VerifyState::Samples => {
                number < FIRST || number.is_multiple_of(SAMPLE) || novel || depth > DEEP
            }
            VerifyState::All => true,
            VerifyState::Off => false,
        }
    }
}

/// Why a value is not written.
#[derive(Debug)]
pub enum Refused {
    /// It cannot be written: the error of its `Serialize`, or the limits of SPEC 14.8.
    Write(String),
    /// It was written, but is not read back as the same value.
    ReadBack {
        /// Its type.
        wanted: &'static str,
        /// What is wrong.
        why: String,
    },
}

impl Refused {
    /// The error of a state.
    #[must_use]
    pub fn of(self, operator: &str, state: &str) -> StateError {
        let (operator, state) = (operator.to_owned(), state.to_owned());
        match self {
            Self::Write(error) => StateError::Encode { operator, state, error },
            Self::ReadBack { wanted, why } => {
                StateError::Unreadable { operator, state, wanted, error: why }
            }
        }
    }

    fn back<T>(why: String) -> Self {
        Self::ReadBack { wanted: type_name::<T>(), why }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Write(error.to_string())
    }
}

/// Reads a written value, and nothing after it.
fn again<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refused> {
    let mut reader = Deserializer::tight(bytes);
    let value = T::deserialize(&mut reader)
        .map_err(|error| Refused::back::<T>(format!("it cannot be read again: {error}")))?;
    match reader.rest().len() {
        0 => Ok(value),
        left => {
            let why = format!("its `Deserialize` reads {left} bytes too few of {}", bytes.len());
            Err(Refused::back::<T>(why))
        }
    }
}

/// Reads a written value and writes it again: both must be the same. Parts that a type does not
/// write at all are not checked.
pub fn read_back<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<(), Refused> {
    let value: T = again(bytes)?;
    let mut written = Vec::with_capacity(bytes.len());
    let result = super::write(&value, &mut written);
    result.map_err(|error| {
        Refused::back::<T>(format!("it is read as something that cannot be written: {error}"))
    })?;
    // Sets and maps have another order each time: only their elements can be compared.
    let same = |one: &[u8], other: &[u8]| {
        one == other || content(one).is_some_and(|it| content(other) == Some(it))
    };
    if same(&written, bytes) {
        return Ok(());
    }
    // A type that writes the time since something, or a number drawn each time, never writes the
    // same twice: that proves nothing.
    let mut twice = Vec::with_capacity(written.len());
    if super::write(&value, &mut twice).is_err() || !same(&twice, &written) {
        return Ok(());
    }
    Err(Refused::back::<T>(format!(
        "it is read as another value: {} bytes were written of it, beginning with {}, and of what is read {}, beginning with {}",
        bytes.len(),
        hex(bytes),
        written.len(),
        hex(&written)
    )))
}

/// The same for a key, which can be compared with itself. Its hash must be the same too, or it is
/// not found again.
pub(crate) fn read_back_key<K: Key>(key: &K, bytes: &[u8]) -> Result<(), Refused> {
    let read: K = again(bytes)?;
    if read != *key {
        return Err(Refused::back::<K>("it is read as another key".into()));
    }
    if hash(&read) != hash(key) {
        return Err(Refused::back::<K>("it is read as a key with another hash".into()));
    }
    Ok(())
}

/// Whether it is one of the types that are written and read directly.
#[inline]
pub(crate) fn is_number<T: 'static>() -> bool {
    let this = TypeId::of::<T>();
    this == TypeId::of::<u64>() || this == TypeId::of::<u32>()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(24).map(|byte| format!("{byte:02x}")).collect()
}

/// A hash of one value's bytes that does not depend on the order of elements and entries. Nor does
/// it depend on the order of the bytes of texts, which may hold such things in another form. `None`
/// if that is not MessagePack.
fn content(mut bytes: &[u8]) -> Option<u64> {
    let hash = part(&mut bytes)?;
    bytes.is_empty().then_some(hash)
}

// Invariant: it nests no deeper than what `again` has read.
fn part(bytes: &mut &[u8]) -> Option<u64> {
    let (first, rest) = bytes.split_first()?;
    let (length, rest) = match first {
        0x80..=0x9f => (usize::from(first & 0x0f), rest),
        0xa0..=0xbf => (usize::from(first & 0x1f), rest),
        0xc4 | 0xc7 | 0xd9 => (usize::from(*rest.first()?), &rest[1..]),
        0xc5 | 0xc8 | 0xda | 0xdc | 0xde => {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        0xc6 | 0xc9 | 0xdb | 0xdd | 0xdf => {
            let (length, rest) = rest.split_first_chunk()?;
            (u32::from_be_bytes(*length) as usize, rest)
        }
        0xcc | 0xd0 => (1, rest),
        0xcd | 0xd1 => (2, rest),
        0xca | 0xce | 0xd2 => (4, rest),
        0xcb | 0xcf | 0xd3 => (8, rest),
        0xd4..=0xd8 => (1 << (first - 0xd4), rest),
        _ => (0, rest),
    };
    let mut hasher = DefaultHasher::new();
    let mut sum = 0u64;
    let mut add = |hasher: DefaultHasher| sum = sum.wrapping_add(hasher.finish());
    *bytes = rest;
    match first {
        0x90..=0x9f | 0xdc | 0xdd => {
            hasher.write_u8(0x90);
            for _ in 0..length {
                let mut element = DefaultHasher::new();
                element.write_u64(part(bytes)?);
                add(element);
            }
        }
        0x80..=0x8f | 0xde | 0xdf => {
            hasher.write_u8(0x80);
            for _ in 0..length {
                let mut entry = DefaultHasher::new();
                entry.write_u64(part(bytes)?);
                entry.write_u64(part(bytes)?);
                add(entry);
            }
        }
        _ => {
            // An extension has its type before its data.
            let typed = usize::from(matches!(first, 0xc7..=0xc9 | 0xd4..=0xd8));
            let (data, rest) = rest.split_at_checked(length + typed)?;
            *bytes = rest;
            hasher.write_u8(*first);
            if matches!(first, 0xa0..=0xbf | 0xc4..=0xc6 | 0xd9..=0xdb) {
                for byte in data {
                    let mut one = DefaultHasher::new();
                    one.write_u8(*byte);
                    add(one);
                }
            } else {
                hasher.write(data);
            }
        }
    }
    hasher.write_usize(length);
    hasher.write_u64(sum);
    Some(hasher.finish())
}
