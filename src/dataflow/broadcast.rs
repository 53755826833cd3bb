//! Keyed records processed with values that are broadcast to all subtasks (SPEC 16.13).

use std::marker::PhantomData;

use super::keyed::KeyState;
use crate::base::either::Either;
use crate::base::fault::Mutation;
use crate::operator::chain::{Ending, Flow, OperatorChain, TaskContext};
use crate::operator::key::Keyer;
use crate::state::{self, HashSeed, NamedImage, Restored, StateError, StateValue, Table};
use snapline_core::connect::Collect;

/// A function of a key's records that knows what is broadcast: rules, prices, settings. Each
/// subtask keeps a copy of the broadcast values, which is in every checkpoint. The order between a
/// record and a broadcast value is open, but no broadcast value is lost.
///
/// ```
/// use snapline::connect::{Collect, MemorySink, MemorySource};
/// use snapline::{BroadcastProcess, Dataflow, JobConfig, KeyState};
///
/// /// Counts a card's payments, and reports at the end which were above the limit.
/// #[derive(Clone)]
/// struct Limit;
///
/// impl BroadcastProcess<u32, u32, u64> for Limit {
///     type State = u64;
///     type Shared = u64;
///     type Out = u32;
///
///     fn record<C: Collect<u32>>(
///         &mut self,
///         _card: u32,
///         _limit: &u64,
///         payments: &mut KeyState<'_, u32, u64>,
///         _out: &mut C,
///     ) {
///         **payments += 1;
///     }
///
///     fn told<C: Collect<u32>>(&mut self, rule: u64, limit: &mut u64, _out: &mut C) {
///         *limit = rule;
///     }
///
///     fn end<C: Collect<u32>>(&mut self, card: &u32, payments: &u64, limit: &u64, out: &mut C) {
///         if payments > limit {
///             out.push(*card);
///         }
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (flow, blocked) = (Dataflow::new("cards"), MemorySink::new());
/// let limits = flow.source("limits", MemorySource::new(vec![2]));
/// flow.source("payments", MemorySource::new(vec![7, 8, 7, 7]))
///     .key_by(|card| *card)
///     .with_broadcast(limits, Limit)
///     .sink("blocked", blocked.clone());
/// flow.build(JobConfig::new().parallelism(2))?.run()?;
/// assert_eq!(blocked.committed(), [7]);
/// # Ok(())
/// # }
/// ```
pub trait BroadcastProcess<K, V, B>: Clone + Send + 'static {
    /// The state kept for a key; begins as its default.
    type State: StateValue + Default;
    /// The state kept of the broadcast values; begins as its default. It must follow from these
    /// values alone, or the subtasks' copies differ.
    type Shared: StateValue + Default;
    /// The emitted records.
    type Out: Send + 'static;

    /// Processes one record of a key.
    fn record<C: Collect<Self::Out>>(
        &mut self,
        value: V,
        shared: &Self::Shared,
        state: &mut KeyState<'_, K, Self::State>,
        out: &mut C,
    );

    /// Takes in a broadcast value; called in every subtask.
    fn told<C: Collect<Self::Out>>(&mut self, told: B, shared: &mut Self::Shared, out: &mut C);

    /// Called at the end of a bounded input, once for each key that has state.
    fn end<C: Collect<Self::Out>>(
        &mut self,
        key: &K,
        state: &Self::State,
        shared: &Self::Shared,
        out: &mut C,
    ) {
        let _ = (key, state, shared, out);
    }
}

/// Keys records that share a stream with broadcast values, which have no key.
///
/// Invariant: only records reach it. Broadcast values take the route to every subtask and are taken
/// in before anything is keyed.
#[derive(Clone, Debug)]
pub(super) struct OrAll<N>(pub(super) N);

impl<T, B, N: Keyer<T>> Keyer<Either<T, B>> for OrAll<N> {
    type Key = N::Key;
    type Value = N::Value;

    #[inline]
    fn hash(&self, seed: HashSeed, record: &Either<T, B>) -> u64 {
        match record {
            Either::Left(record) => self.0.hash(seed, record),
            // Invariant: see above.
            Either::Right(_) => unreachable!("broadcast values take the route to every subtask"),
        }
    }

    #[inline]
    fn split(&self, record: Either<T, B>) -> (N::Key, N::Value) {
        match record {
            Either::Left(record) => self.0.split(record),
            // Invariant: see above.
            Either::Right(_) => unreachable!("broadcast values take the route to every subtask"),
        }
    }
}

/// A keyed operator that takes in broadcast values.
pub struct Broadcasting<T, B, N: Keyer<T>, P: BroadcastProcess<N::Key, N::Value, B>> {
    keyer: N,
    process: P,
    shared: P::Shared,
    /// For no key at all in the description that subtasks are cloned from.
    table: Table<N::Key, P::State>,
    operator: String,
    /// The next key group whose keys have not been notified of the end of the input.
    ending: u16,
    records: PhantomData<fn(T, B)>,
}

impl<T, B, N, P> std::fmt::Debug for Broadcasting<T, B, N, P>
where
    N: Keyer<T>,
    P: BroadcastProcess<N::Key, N::Value, B>,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Broadcasting({})", self.operator)
    }
}

impl<T, B, N, P> Broadcasting<T, B, N, P>
where
    N: Keyer<T>,
    P: BroadcastProcess<N::Key, N::Value, B>,
{
    pub(super) fn new(keyer: N, process: P) -> Self {
        let (table, operator) = (Table::new(0..0, 1), String::new());
        let shared = P::Shared::default();
        Self { keyer, process, shared, table, operator, ending: 0, records: PhantomData }
    }
}

impl<T, B, N, P> Clone for Broadcasting<T, B, N, P>
where
    N: Keyer<T>,
    P: BroadcastProcess<N::Key, N::Value, B>,
{
    fn clone(&self) -> Self {
        Self::new(self.keyer.clone(), self.process.clone())
    }
}

/// Names of the operator's states in a snapshot.
const KEYED: &str = "keyed";
const SHARED: &str = "broadcast";

impl<T, B, N, P> OperatorChain for Broadcasting<T, B, N, P>
where
    T: Send + 'static,
    B: Send + 'static,
    N: Keyer<T>,
    P: BroadcastProcess<N::Key, N::Value, B>,
{
    type In = Either<T, B>;
    type Out = P::Out;

    #[inline]
    fn push<C: Flow<P::Out>>(&mut self, record: Either<T, B>, out: &mut C) {
        let record = match record {
            Either::Left(record) => record,
            Either::Right(told) => return self.process.told(told, &mut self.shared, out),
        };
        let hash = self.keyer.hash(self.table.seed(), &record);
        let (key, value) = self.keyer.split(record);
        let (key, state) = self.table.entry_pair(hash, key, P::State::default);
        let mut state = KeyState::new(key, state);
        self.process.record(value, &self.shared, &mut state, out);
        if state.is_cleared() {
            let key = key.clone();
            self.table.remove(hash, &key);
        }
    }

    fn end<C: Flow<P::Out>>(&mut self, out: &mut C) -> Ending {
        let table = &self.table;
        self.ending = self.ending.max(table.groups().start);
        if self.ending >= table.groups().end {
            self.ending = 0;
            return Ending::Done;
        }
        for (key, state) in table.iter_group(self.ending) {
            self.process.end(key, state, &self.shared, out);
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
            self.shared = restored.single(&self.operator, SHARED)?.unwrap_or_default();
            if place.index > 0 && context.faults.is_active(Mutation::ToldOneOnly) {
                self.shared = P::Shared::default();
            }
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
        images.push(NamedImage::single(self.operator.clone(), SHARED, &self.shared)?);
        Ok(())
    }
}
