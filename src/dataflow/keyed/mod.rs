//! Keyed streams: records of one key meet in one subtask, and have state there.

pub(crate) mod aggregates;

use std::marker::PhantomData;
use std::vec::Drain;

use crate::base::error::BoxError;
use crate::operator::chain::{Ending, Flow, OperatorChain, TaskContext};
use crate::operator::key::Keyer;
use crate::state::{self, HashSeed, Key, NamedImage, Restored, StateError, StateValue, Table};
use snapline_core::connect::Collect;

/// Keys by a function; the whole record is the value.
#[derive(Debug)]
pub struct ByFn<K, F>(F, PhantomData<fn() -> K>);

impl<K, F> ByFn<K, F> {
    pub(crate) const fn new(key: F) -> Self {
        Self(key, PhantomData)
    }
}

impl<K, F: Clone> Clone for ByFn<K, F> {
    fn clone(&self) -> Self {
        Self::new(self.0.clone())
    }
}

impl<T, K: Key, F: Fn(&T) -> K + Clone + Send + Sync + 'static> Keyer<T> for ByFn<K, F> {
    type Key = K;
    type Value = T;

    #[inline]
    fn hash(&self, seed: HashSeed, record: &T) -> u64 {
        seed.hash(&(self.0)(record))
    }

    #[inline]
    fn split(&self, record: T) -> (K, T) {
        ((self.0)(&record), record)
    }
}

/// Pairs of key and value.
#[derive(Clone, Copy, Debug)]
pub struct ByFirst;

impl<K: Key, V> Keyer<(K, V)> for ByFirst {
    type Key = K;
    type Value = V;

    #[inline]
    fn hash(&self, seed: HashSeed, record: &(K, V)) -> u64 {
        seed.hash(&record.0)
    }

    #[inline]
    fn split(&self, record: (K, V)) -> (K, V) {
        record
    }
}

/// When a keyed operator emits what it has computed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Emit {
    /// After every record: the result so far.
    EachChange,
    /// At the end of a bounded input: the result of each key, once.
    AtEnd,
}

/// A function of a key's records, with state for each key. The state is of any type that serde
/// knows. Lists and maps that grow large belong into [`crate::state::List`] and
/// [`crate::state::Map`], which a snapshot shares instead of copying.
///
/// ```
/// use snapline::connect::{Collect, MemorySink, MemorySource};
/// use snapline::{Dataflow, JobConfig, KeyState, KeyedProcess};
///
/// /// Emits the difference between a sensor's reading and the one before.
/// #[derive(Clone)]
/// struct Changes;
///
/// impl KeyedProcess<String, i64> for Changes {
///     type State = Option<i64>;
///     type Out = (String, i64);
///
///     fn process<C: Collect<(String, i64)>>(
///         &mut self,
///         reading: i64,
///         last: &mut KeyState<'_, String, Option<i64>>,
///         out: &mut C,
///     ) {
///         if let Some(before) = last.replace(reading) {
///             out.push((last.key().clone(), reading - before));
///         }
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (flow, changes) = (Dataflow::new("sensors"), MemorySink::new());
/// let readings = [("hall", 20), ("hall", 23), ("hall", 22)];
/// let readings = readings.map(|(sensor, reading)| (sensor.to_owned(), reading));
/// flow.source("readings", MemorySource::new(readings.to_vec()))
///     .parallelism(1)
///     .keyed()
///     .process_with(Changes)
///     .sink("changes", changes.clone());
/// flow.build(JobConfig::new())?.run()?;
/// assert_eq!(changes.committed(), [("hall".to_owned(), 3), ("hall".to_owned(), -1)]);
/// # Ok(())
/// # }
/// ```
pub trait KeyedProcess<K, V>: Clone + Send + 'static {
    /// The state kept for a key; begins as its default.
    type State: StateValue + Default;
    /// The emitted records.
    type Out: Send + 'static;

    /// Processes one record of a key.
    fn process<C: Collect<Self::Out>>(
        &mut self,
        value: V,
        state: &mut KeyState<'_, K, Self::State>,
        out: &mut C,
    );

    /// Called at the end of a bounded input, once for each key that has state.
    fn end<C: Collect<Self::Out>>(&mut self, key: &K, state: &Self::State, out: &mut C) {
        let _ = (key, state, out);
    }
}

/// A key and its state, for the time of one record.
#[derive(Debug)]
pub struct KeyState<'a, K, S> {
    key: &'a K,
    state: &'a mut S,
    cleared: bool,
}

impl<'a, K, S> KeyState<'a, K, S> {
    pub(super) const fn new(key: &'a K, state: &'a mut S) -> Self {
        Self { key, state, cleared: false }
    }

    pub(super) const fn is_cleared(&self) -> bool {
        self.cleared
    }

    /// The key.
    #[must_use]
    #[inline]
    pub const fn key(&self) -> &K {
        self.key
    }

    /// Drops the key: it has no state once this record is processed.
    pub fn clear(&mut self) {
        self.cleared = true;
    }
}

impl<K, S> std::ops::Deref for KeyState<'_, K, S> {
    type Target = S;

    #[inline]
    fn deref(&self) -> &S {
        self.state
    }
}

impl<K, S> std::ops::DerefMut for KeyState<'_, K, S> {
    #[inline]
    fn deref_mut(&mut self) -> &mut S {
        self.state
    }
}

/// A keyed operator: a table of state and the function that uses it.
pub struct Keyed<T, N: Keyer<T>, P: KeyedProcess<N::Key, N::Value>> {
    keyer: N,
    process: P,
    /// For no key at all in the description that subtasks are cloned from.
    table: Table<N::Key, P::State>,
    operator: String,
    /// The next key group whose keys have not been notified of the end of the input.
    ending: u16,
    records: PhantomData<fn(T)>,
}

impl<T, N: Keyer<T>, P: KeyedProcess<N::Key, N::Value>> std::fmt::Debug for Keyed<T, N, P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keyed({})", self.operator)
    }
}

impl<T, N: Keyer<T>, P: KeyedProcess<N::Key, N::Value>> Keyed<T, N, P> {
    pub(crate) fn new(keyer: N, process: P) -> Self {
        let (table, operator) = (Table::new(0..0, 1), String::new());
        Self { keyer, process, table, operator, ending: 0, records: PhantomData }
    }
}

impl<T, N: Keyer<T>, P: KeyedProcess<N::Key, N::Value>> Clone for Keyed<T, N, P> {
    fn clone(&self) -> Self {
        Self::new(self.keyer.clone(), self.process.clone())
    }
}

/// Name of a keyed operator's state in a snapshot.
const KEYED: &str = "keyed";

impl<T, N, P> OperatorChain for Keyed<T, N, P>
where
    T: Send + 'static,
    N: Keyer<T>,
    P: KeyedProcess<N::Key, N::Value>,
{
    type In = T;
    type Out = P::Out;

    #[inline]
    fn push<C: Flow<P::Out>>(&mut self, record: T, out: &mut C) {
        let hash = self.keyer.hash(self.table.seed(), &record);
        let (key, value) = self.keyer.split(record);
        let (key, state) = self.table.entry_pair(hash, key, P::State::default);
        let mut state = KeyState::new(key, state);
        self.process.process(value, &mut state, out);
        if state.is_cleared() {
            let key = key.clone();
            self.table.remove(hash, &key);
        }
    }

    #[inline]
    fn push_all<C: Flow<P::Out>>(&mut self, mut records: Drain<'_, T>, out: &mut C) {
        let Self { keyer, process, table, .. } = self;
        let seed = table.seed();
        table.each_entry(
            &mut records,
            |record| keyer.hash(seed, record),
            |record| keyer.split(record),
            P::State::default,
            |key, state, value| {
                let mut state = KeyState::new(key, state);
                process.process(value, &mut state, out);
                !state.is_cleared()
            },
        );
    }

    fn end<C: Flow<P::Out>>(&mut self, out: &mut C) -> Ending {
        let table = &self.table;
        if self.ending < table.groups().start {
            self.ending = table.groups().start;
        }
        if self.ending >= table.groups().end {
            self.ending = 0;
            return Ending::Done;
        }
        for (key, state) in table.iter_group(self.ending) {
            self.process.end(key, state, out);
        }
        self.ending += 1;
        Ending::More
    }

    fn open(
        &mut self,
        context: &TaskContext,
        restored: Option<&mut Restored<'_>>,
    ) -> Result<(), StateError> {
        let place = &context.place;
        let groups = state::groups_of(place.index, place.parallelism, context.key_groups);
        let mut table = Table::seeded(groups, context.key_groups, context.seed);
        self.operator.clone_from(&place.operator);
        if let Some(restored) = restored {
            table.restore(restored, &self.operator, KEYED)?;
        }
        self.table = table;
        Ok(())
    }

    fn freeze(&mut self, images: &mut Vec<NamedImage>) -> Result<(), StateError> {
        images.push(NamedImage {
            operator: self.operator.clone(),
            state: KEYED.into(),
            image: self.table.freeze(),
        });
        Ok(())
    }
}

/// The output that a closure emits into.
#[derive(Debug)]
pub struct Emitter<T> {
    records: Vec<T>,
    failed: Option<BoxError>,
}

impl<T> Emitter<T> {
    pub(super) const fn new() -> Self {
        Self { records: Vec::new(), failed: None }
    }

    /// Passes on a closure's output.
    #[inline]
    pub(super) fn pass<C: Collect<T>>(&mut self, out: &mut C) {
        for record in self.records.drain(..) {
            out.push(record);
        }
        if let Some(error) = self.failed.take() {
            out.fail(error);
        }
    }
}

impl<T> Collect<T> for Emitter<T> {
    #[inline]
    fn push(&mut self, record: T) {
        self.records.push(record);
    }

    fn fail(&mut self, error: BoxError) {
        self.failed.get_or_insert(error);
    }
}

/// A closure over a key's state.
pub struct Closure<S, O, F> {
    closure: F,
    emitter: Emitter<O>,
    types: PhantomData<fn(S)>,
}

impl<S, O, F> Closure<S, O, F> {
    pub(crate) const fn new(closure: F) -> Self {
        Self { closure, emitter: Emitter::new(), types: PhantomData }
    }
}

impl<S, O, F> std::fmt::Debug for Closure<S, O, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Closure")
    }
}

impl<S, O, F: Clone> Clone for Closure<S, O, F> {
    fn clone(&self) -> Self {
        Self::new(self.closure.clone())
    }
}

impl<K, V, S, O, F> KeyedProcess<K, V> for Closure<S, O, F>
where
    K: Key,
    S: StateValue + Default,
    O: Send + 'static,
    F: FnMut(V, &mut KeyState<'_, K, S>, &mut Emitter<O>) + Clone + Send + 'static,
{
    type State = S;
    type Out = O;

    #[inline]
    fn process<C: Collect<O>>(&mut self, value: V, state: &mut KeyState<'_, K, S>, out: &mut C) {
        (self.closure)(value, state, &mut self.emitter);
        self.emitter.pass(out);
    }
}
