//! What is made of a key's records one by one: counts, aggregates, reductions.

use std::marker::PhantomData;

use super::keyed::{Emit, KeyState, KeyedProcess};
use crate::connect::Collect;
use crate::state::{Key, StateValue};

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

impl<A, V, F> std::fmt::Debug for Aggregate<A, V, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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

/// Joins a key's values, two at a time.
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
