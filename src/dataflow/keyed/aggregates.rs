//! Functions of a key's records one by one: counts, aggregates, reductions, sums.

use std::fmt;
use std::marker::PhantomData;

use crate::dataflow::keyed::{Emit, KeyState, KeyedProcess};
use crate::state::{Key, StateValue};
use snapline_core::connect::Collect;

/// Counts a key's records.
#[derive(Clone, Copy, Debug)]
pub struct Count(pub(crate) Emit);

impl<K: Key, V> KeyedProcess<K, V> for Count {
    type State = u64;
    type Out = (K, u64);

    #[inline]
    fn process<C: Collect<(K, u64)>>(
        &mut self,
        _value: V,
        state: &mut KeyState<'_, K, u64>,
        out: &mut C,
    ) {
        **state += 1;
        if self.0 == Emit::EachChange {
            out.push((state.key().clone(), **state));
        }
    }

    fn end<C: Collect<(K, u64)>>(&mut self, key: &K, state: &u64, out: &mut C) {
        if self.0 == Emit::AtEnd {
            out.push((key.clone(), *state));
        }
    }
}

/// Folds a key's records into an accumulator.
pub struct Aggregate<A, V, F> {
    emit: Emit,
    fold: F,
    types: PhantomData<fn(A, V)>,
}

impl<A, V, F> Aggregate<A, V, F> {
    pub(crate) const fn new(emit: Emit, fold: F) -> Self {
        Self { emit, fold, types: PhantomData }
    }
}

impl<A, V, F> fmt::Debug for Aggregate<A, V, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Aggregate({:?})", self.emit)
    }
}

impl<A, V, F: Clone> Clone for Aggregate<A, V, F> {
    fn clone(&self) -> Self {
        Self::new(self.emit, self.fold.clone())
    }
}

impl<K, V, A, F> KeyedProcess<K, V> for Aggregate<A, V, F>
where
    K: Key,
    V: 'static,
    A: StateValue + Default,
    F: FnMut(&mut A, V) + Clone + Send + 'static,
{
    type State = A;
    type Out = (K, A);

    #[inline]
    fn process<C: Collect<(K, A)>>(
        &mut self,
        value: V,
        state: &mut KeyState<'_, K, A>,
        out: &mut C,
    ) {
        (self.fold)(state, value);
        if self.emit == Emit::EachChange {
            out.push((state.key().clone(), A::clone(state)));
        }
    }

    fn end<C: Collect<(K, A)>>(&mut self, key: &K, state: &A, out: &mut C) {
        if self.emit == Emit::AtEnd {
            out.push((key.clone(), state.clone()));
        }
    }
}

/// Combines a key's values, two at a time.
#[derive(Clone, Debug)]
pub struct Reduce<F> {
    pub(crate) emit: Emit,
    pub(crate) join: F,
}

impl<K, V, F> KeyedProcess<K, V> for Reduce<F>
where
    K: Key,
    V: StateValue,
    F: FnMut(V, V) -> V + Clone + Send + 'static,
{
    type State = Option<V>;
    type Out = (K, V);

    #[inline]
    fn process<C: Collect<(K, V)>>(
        &mut self,
        value: V,
        state: &mut KeyState<'_, K, Option<V>>,
        out: &mut C,
    ) {
        let value = match state.take() {
            Some(before) => (self.join)(before, value),
            None => value,
        };
        if self.emit == Emit::EachChange {
            out.push((state.key().clone(), value.clone()));
        }
        **state = Some(value);
    }

    fn end<C: Collect<(K, V)>>(&mut self, key: &K, state: &Option<V>, out: &mut C) {
        if let (Emit::AtEnd, Some(value)) = (self.emit, state) {
            out.push((key.clone(), value.clone()));
        }
    }
}

/// A number that can be added up: the integers up to 64 bits, and the floating-point numbers.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a number that can be summed",
    note = "`sum` and `average` take a function that returns an integer of 8 to 64 bits, `f32` or \
        `f64`; for other types use `aggregate`"
)]
pub trait Number: StateValue + Copy + Default + fmt::Display {
    /// The sum of both; `None` if this type has no such number.
    fn plus(self, other: Self) -> Option<Self>;

    /// The number divided by a count of numbers.
    fn over(self, count: u64) -> f64;
}

macro_rules! integers {
    ($($of:ty),*) => {
        $(impl Number for $of {
            fn plus(self, other: Self) -> Option<Self> {
                self.checked_add(other)
            }

            fn over(self, count: u64) -> f64 {
                self as f64 / count as f64
            }
        })*
    };
}

macro_rules! floats {
    ($($of:ty),*) => {
        $(impl Number for $of {
            /// The sum of finite numbers has to be finite.
            fn plus(self, other: Self) -> Option<Self> {
                let sum = self + other;
                (sum.is_finite() || !self.is_finite() || !other.is_finite()).then_some(sum)
            }

            fn over(self, count: u64) -> f64 {
                f64::from(self) / count as f64
            }
        })*
    };
}

integers!(i8, i16, i32, i64, isize, u8, u16, u32, u64, usize);
floats!(f32, f64);

/// A sum exceeds its type: the task fails with this.
#[derive(Clone, PartialEq, Eq)]
pub struct SumError {
    sum: String,
    added: String,
    kind: &'static str,
}

impl SumError {
    fn of<A: Number>(sum: A, added: A) -> Self {
        let kind = std::any::type_name::<A>();
        Self { sum: sum.to_string(), added: added.to_string(), kind }
    }
}

impl fmt::Display for SumError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sum, added, kind } = self;
        write!(
            f,
            "the sum of a key's numbers overflows `{kind}`: {sum} plus {added}; sum them as a \
             larger type"
        )
    }
}

snapline_protocol::error_in_words!(SumError);

/// Adds up the numbers that a rule returns for a key's records.
#[derive(Clone, Debug)]
pub struct Sum<F> {
    pub(crate) emit: Emit,
    pub(crate) of: F,
}

impl<K, V, A, F> KeyedProcess<K, V> for Sum<F>
where
    K: Key,
    A: Number,
    F: FnMut(&V) -> A + Clone + Send + 'static,
{
    type State = A;
    type Out = (K, A);

    #[inline]
    fn process<C: Collect<(K, A)>>(&mut self, value: V, sum: &mut KeyState<'_, K, A>, out: &mut C) {
        let added = (self.of)(&value);
        match sum.plus(added) {
            Some(now) => **sum = now,
            None => return out.fail(SumError::of(**sum, added).into()),
        }
        if self.emit == Emit::EachChange {
            out.push((sum.key().clone(), **sum));
        }
    }

    fn end<C: Collect<(K, A)>>(&mut self, key: &K, sum: &A, out: &mut C) {
        if self.emit == Emit::AtEnd {
            out.push((key.clone(), *sum));
        }
    }
}

/// The average of the numbers that a rule returns for a key's records.
#[derive(Clone, Debug)]
pub struct Average<F> {
    pub(crate) emit: Emit,
    pub(crate) of: F,
}

impl<K, V, A, F> KeyedProcess<K, V> for Average<F>
where
    K: Key,
    A: Number,
    F: FnMut(&V) -> A + Clone + Send + 'static,
{
    /// The sum, and the count.
    type State = (A, u64);
    type Out = (K, f64);

    #[inline]
    fn process<C: Collect<(K, f64)>>(
        &mut self,
        value: V,
        state: &mut KeyState<'_, K, (A, u64)>,
        out: &mut C,
    ) {
        let (added, (sum, count)) = ((self.of)(&value), **state);
        let Some(now) = sum.plus(added) else {
            return out.fail(SumError::of(sum, added).into());
        };
        **state = (now, count + 1);
        if self.emit == Emit::EachChange {
            out.push((state.key().clone(), now.over(count + 1)));
        }
    }

    fn end<C: Collect<(K, f64)>>(&mut self, key: &K, (sum, count): &(A, u64), out: &mut C) {
        if self.emit == Emit::AtEnd {
            out.push((key.clone(), sum.over(*count)));
        }
    }
}

/// The least or the greatest value that a rule returns for a key's records.
#[derive(Clone, Debug)]
pub struct Extreme<F> {
    pub(crate) emit: Emit,
    pub(crate) of: F,
    /// Whether it is the greatest.
    pub(crate) greatest: bool,
}

impl<K, V, R, F> KeyedProcess<K, V> for Extreme<F>
where
    K: Key,
    R: StateValue + Ord,
    F: FnMut(&V) -> R + Clone + Send + 'static,
{
    type State = Option<R>;
    type Out = (K, R);

    #[inline]
    fn process<C: Collect<(K, R)>>(
        &mut self,
        value: V,
        state: &mut KeyState<'_, K, Option<R>>,
        out: &mut C,
    ) {
        let value = (self.of)(&value);
        let extreme = match state.take() {
            Some(before) if self.greatest => before.max(value),
            Some(before) => before.min(value),
            None => value,
        };
        if self.emit == Emit::EachChange {
            out.push((state.key().clone(), extreme.clone()));
        }
        **state = Some(extreme);
    }

    fn end<C: Collect<(K, R)>>(&mut self, key: &K, extreme: &Option<R>, out: &mut C) {
        if let (Emit::AtEnd, Some(extreme)) = (self.emit, extreme) {
            out.push((key.clone(), extreme.clone()));
        }
    }
}
