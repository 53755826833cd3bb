//! Encodes users' values as bytes and decodes them (SPEC 14.5, 14.8, 14.9), for checkpoints and for
//! data that is staged for one.
//!
//! The format is serde's MessagePack, structs as maps, with one addition. MessagePack has one nil,
//! and serde has many values that would be one: `None`, `()`, `Some(None)`. A `Some` around such a
//! value is written as an extension (`SOME_NIL`), so that each is read as the original value.
//! Everything else is, byte for byte, as `rmp_serde` writes it with the names of fields.
//!
//! Values that could not be read again are refused when they are written:
//!
//! - values that nest too deep for the reader or for a thread's stack,
//! - lengths that differ from the announced ones,
//! - by reading back, types whose `Serialize` and `Deserialize` disagree ([`Checks`]).

mod check;
mod de;
mod ser;

use std::fmt::{self, Display};

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use check::read_back;
pub use check::{Check, Checks, Refused};
pub(super) use check::{is_number, read_back_key};
pub(super) use de::Deserializer;
use ser::Marks;
pub(super) use ser::{Serializer, number};

/// Type of the extension that is a `Some` around a nil. It has one byte of data: the number of
/// `Some` around the nil. MessagePack keeps negative types for itself, so that no user's extension
/// is of this one.
const SOME_NIL: u8 = -83_i8 as u8;

/// The first byte of an extension of one byte.
const FIXEXT1: u8 = 0xd4;

/// The most `Some` around a nil.
const MAX_SOME: u8 = 254;

/// The most arrays and maps within each other in what is written.
const WRITTEN_DEPTH: u16 = 1000;

/// The same in what is read: more, since an entry is in two arrays of its segment, and since older
/// builds wrote that much.
const READ_DEPTH: u16 = 1024;

/// The stack that writing a value, or reading it back, may take. A thread has 2 MiB.
const WRITTEN_STACK: usize = 512 << 10;

/// The stack that reading a value may take: more, so that a value that could be read back when it
/// was written can be read.
const READ_STACK: usize = 1 << 20;

/// Appends a value.
///
/// # Errors
/// The error of the value's `Serialize`; or the reason why it could not be read again.
pub fn write<T: Serialize + ?Sized>(value: &T, bytes: &mut Vec<u8>) -> Result<(), Error> {
    value.serialize(&mut Serializer::new(bytes, &mut Marks::default()))
}

/// Writes values one after the other that are read back later, and notes which of them must be
/// (SPEC 14.9).
#[derive(Debug, Default)]
pub struct Writer {
    marks: Marks,
}

impl Writer {
    /// Appends a value. Returns whether its shape is new, or it nests so deep that it may be too
    /// much for its reader.
    ///
    /// # Errors
    /// As [`write`].
    pub fn write<T: Serialize>(&mut self, value: &T, bytes: &mut Vec<u8>) -> Result<bool, Error> {
        let mut serializer = Serializer::new(bytes, &mut self.marks);
        value.serialize(&mut serializer)?;
        let (novel, depth) = serializer.shape();
        Ok(novel || depth > check::DEEP)
    }
}

/// Reads a value, and ignores what follows it.
///
/// # Errors
/// The error of the value's `Deserialize`; or that the bytes are malformed.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    T::deserialize(&mut Deserializer::new(bytes))
}

/// Why a value cannot be written or read.
pub struct Error(Box<What>);

#[derive(Debug)]
enum What {
    /// The error of the value's own code.
    Said(String),
    /// More arrays and maps within each other than this.
    Deep(u16),
    /// More stack than this.
    Stack(usize),
    /// More `Some` around a nil than fit.
    Options,
    /// A sequence or map whose length differs from the announced one.
    Length { announced: usize, given: usize },
    /// More bytes or elements than MessagePack has lengths for.
    Long(usize),
    /// An extension of the type that is reserved here.
    Reserved,
    /// The bytes end within the value.
    Cut,
    /// A first byte without a meaning, or a malformed `Some` extension.
    Malformed(u8),
    /// A sequence or map of which its reader left some.
    Left { length: u32, left: u32 },
}

impl Error {
    #[cold]
    fn new(what: What) -> Self {
        Self(Box::new(what))
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            What::Said(what) => f.write_str(what),
            What::Deep(limit) => {
                write!(f, "it nests more than {limit} lists, maps and structs within each other")
            }
            What::Stack(limit) => {
                write!(f, "it nests so deep that it takes more than {} KiB of stack", limit >> 10)
            }
            What::Options => write!(f, "it is a `None` in more than {MAX_SOME} nested `Some`"),
            What::Length { announced, given } => write!(
                f,
                "its `Serialize` announces {announced} elements or fields and gives {given}"
            ),
            What::Long(length) => {
                write!(
                    f,
                    "a part of it has a length of {length}, and MessagePack has 32 bits for one"
                )
            }
            What::Reserved => {
                write!(
                    f,
                    "it has a MessagePack extension of type {}, which snapline reserves",
                    SOME_NIL as i8
                )
            }
            What::Cut => f.write_str("its bytes end before it is complete"),
            What::Malformed(byte) => write!(f, "a byte {byte:#04x} where it is not valid"),
            What::Left { length, left } => {
                write!(
                    f,
                    "{length} elements or fields, of which its `Deserialize` did not read {left}"
                )
            }
        }
    }
}

snapline_protocol::error_in_words!(Error);

impl serde::ser::Error for Error {
    #[cold]
    fn custom<T: Display>(what: T) -> Self {
        Self::new(What::Said(what.to_string()))
    }
}

impl serde::de::Error for Error {
    #[cold]
    fn custom<T: Display>(what: T) -> Self {
        Self::new(What::Said(what.to_string()))
    }
}

/// Limits the depth of a value to that of the reader and of the stack.
struct DepthGuard {
    /// The stack's place at the beginning.
    base: usize,
    stack: usize,
    depth: u16,
    limit: u16,
    /// The deepest it has been.
    deepest: u16,
}

impl DepthGuard {
    #[inline(always)]
    fn new(limit: u16, stack: usize) -> Self {
        Self { base: Self::here(), stack, depth: 0, limit, deepest: 0 }
    }

    /// The approximate end of the stack now.
    #[inline(always)]
    fn here() -> usize {
        let local = 0u8;
        std::ptr::from_ref(&local).addr()
    }

    /// Called wherever a value's code calls into this module and may be called again by it.
    #[inline(always)]
    fn check(&self) -> Result<(), Error> {
        if self.base.abs_diff(Self::here()) > self.stack {
            return Err(Error::new(What::Stack(self.stack)));
        }
        Ok(())
    }

    #[inline(always)]
    fn enter(&mut self) -> Result<(), Error> {
        self.depth += 1;
        if self.depth > self.limit {
            return Err(Error::new(What::Deep(self.limit)));
        }
        self.deepest = self.deepest.max(self.depth);
        self.check()
    }

    #[inline(always)]
    const fn leave(&mut self) {
        self.depth -= 1;
    }
}

#[cfg(all(test, not(snapline_loom)))]
mod tests;
