//! Operators called on a stream that cannot have them: the compiler names what is missing, rather
//! than report an unknown method.
//!
//! ```compile_fail,E0277
//! use snapline::connect::MemorySource;
//! use snapline::{Dataflow, Tumbling};
//! let stream = Dataflow::new("no key").source("in", MemorySource::new(vec![1]));
//! stream.window(Tumbling::of(std::time::Duration::from_secs(1)));
//! ```
//!
//! ```compile_fail,E0277
//! use snapline::connect::MemorySource;
//! use snapline::{Dataflow, Tumbling};
//! let stream = Dataflow::new("no time").source("in", MemorySource::new(vec![1]));
//! stream.key_by(|number| *number).window(Tumbling::of(std::time::Duration::from_secs(1)));
//! ```
//!
//! ```compile_fail,E0277
//! use snapline::connect::MemorySource;
//! use snapline::{Dataflow, Emit};
//! let stream = Dataflow::new("no key").source("in", MemorySource::new(vec![1]));
//! stream.sum(Emit::AtEnd, |number| *number);
//! ```
//!
//! ```compile_fail,E0277
//! use snapline::connect::MemorySource;
//! use snapline::{Dataflow, Emit};
//! struct Shop(u32);
//! let stream = Dataflow::new("no key").source("in", MemorySource::new(vec![1]));
//! stream.key_by(|number| Shop(*number)).count(Emit::AtEnd);
//! ```

use std::time::Duration;

use super::keyed::Emit;
use super::stream::{KeyedStream, Pipe, Stream};
use crate::dataflow::time::timed::TimedStream;
use crate::operator::key::Keyer;

/// A bound that no type meets: a time and a key.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "the records of this stream have no time and no key",
    label = "windows group a key's records by their time",
    note = "assign times with `.assign_timestamps(...)`, then group with `.key_by(...)` or \
        `.keyed()`, then call this"
)]
pub trait HasTimeAndKey {}

/// A bound that no type meets: a time.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "the records of this stream have no time",
    label = "this uses the records' time",
    note = "assign times with `.assign_timestamps(...)` before grouping by key"
)]
pub trait HasTime {}

/// A bound that no type meets: a key.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "the records of this stream have no key",
    label = "this is computed for each key",
    note = "group them first, with `.key_by(...)` or `.keyed()`; for all records together `.key_by(|_| ())` makes one group"
)]
pub trait HasKey {}

impl<P: Pipe> Stream<P> {
    #[doc(hidden)]
    pub fn window<W>(self, _: W)
    where
        Self: HasTimeAndKey,
    {
    }

    #[doc(hidden)]
    pub fn count_window(self, _: u64)
    where
        Self: HasTimeAndKey,
    {
    }

    #[doc(hidden)]
    pub fn distinct(self, _: Duration)
    where
        Self: HasTimeAndKey,
    {
    }

    #[doc(hidden)]
    pub fn count(self, _: Emit)
    where
        Self: HasKey,
    {
    }

    #[doc(hidden)]
    pub fn sum<R, F: FnMut(&P::Out) -> R>(self, _: Emit, _: F)
    where
        Self: HasKey,
    {
    }

    #[doc(hidden)]
    pub fn average<R, F: FnMut(&P::Out) -> R>(self, _: Emit, _: F)
    where
        Self: HasKey,
    {
    }

    #[doc(hidden)]
    pub fn min<R, F: FnMut(&P::Out) -> R>(self, _: Emit, _: F)
    where
        Self: HasKey,
    {
    }

    #[doc(hidden)]
    pub fn max<R, F: FnMut(&P::Out) -> R>(self, _: Emit, _: F)
    where
        Self: HasKey,
    {
    }

    #[doc(hidden)]
    pub fn aggregate<A, F: FnMut(&mut A, P::Out)>(self, _: Emit, _: F)
    where
        Self: HasKey,
    {
    }

    #[doc(hidden)]
    pub fn reduce<F: FnMut(P::Out, P::Out) -> P::Out>(self, _: Emit, _: F)
    where
        Self: HasKey,
    {
    }
}

impl<P: Pipe, N: Keyer<P::Out>> KeyedStream<P, N> {
    #[doc(hidden)]
    pub fn window<W>(self, _: W)
    where
        Self: HasTime,
    {
    }

    #[doc(hidden)]
    pub fn count_window(self, _: u64)
    where
        Self: HasTime,
    {
    }

    #[doc(hidden)]
    pub fn distinct(self, _: Duration)
    where
        Self: HasTime,
    {
    }
}

impl<P: Pipe> TimedStream<P> {
    #[doc(hidden)]
    pub fn window<W>(self, _: W)
    where
        Self: HasKey,
    {
    }

    #[doc(hidden)]
    pub fn count_window(self, _: u64)
    where
        Self: HasKey,
    {
    }

    #[doc(hidden)]
    pub fn distinct(self, _: Duration)
    where
        Self: HasKey,
    {
    }
}
