//! How a task processes a record: a chain of operators, compiled as one loop.

use std::error::Error;
use std::marker::PhantomData;
use std::vec::Drain;

use crate::base::error::BoxError;
use crate::base::fault::Faults;
pub(crate) use crate::channel::Mark;
use crate::executor::call_pool::CallHost;
use crate::state::{HashSeed, NamedImage, Restored, StateError};
use snapline_core::connect::ConnectorError;
use snapline_core::connect::{Collect, OpenContext};

use crate::operator::time::Timestamp;

/// The next operator: takes records, and event time in order with them.
pub trait Flow<T>: Collect<T> {
    /// Passes on event time.
    fn mark(&mut self, mark: Mark);
}

/// A chain of operators, fused: records pushed into it come out of the collector, and the compiler
/// sees through every call in between. Users rarely need to name this type, as with iterator
/// chains.
pub trait OperatorChain: Clone + Send + 'static {
    /// The input records.
    type In: Send + 'static;
    /// The output records.
    type Out: Send + 'static;

    /// Finds its connectors' own errors among others.
    fn classify<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a dyn ConnectorError> {
        let _ = error;
        None
    }

    /// Processes one record.
    fn push<C: Flow<Self::Out>>(&mut self, record: Self::In, out: &mut C);

    /// Processes records, one after the other.
    #[inline]
    fn push_all<C: Flow<Self::Out>>(&mut self, records: Drain<'_, Self::In>, out: &mut C) {
        for record in records {
            self.push(record, out);
        }
    }

    /// Takes in event time, and passes it on after its effects. If there are more effects than fit
    /// one call it returns `Ending::More`: then [`OperatorChain::fire`] is called until there are
    /// no more, and nothing else before that.
    fn mark<C: Flow<Self::Out>>(&mut self, mark: Mark, out: &mut C) -> Ending {
        out.mark(mark);
        Ending::Done
    }

    /// Continues with the effects of a mark.
    fn fire<C: Flow<Self::Out>>(&mut self, out: &mut C) -> Ending {
        let _ = out;
        Ending::Done
    }

    /// Takes in the answers of its call threads, and emits the results; returns whether there were
    /// any. For the first operator of a task only.
    fn answer<C: Flow<Self::Out>>(&mut self, out: &mut C) -> bool {
        let _ = out;
        false
    }

    /// Whether it takes no record before an answer arrives.
    fn is_full(&self) -> bool {
        false
    }

    /// Partial batches are about to be sent: pending event time is emitted.
    fn flush<C: Flow<Self::Out>>(&mut self, out: &mut C) {
        let _ = out;
    }

    /// When it wants to be called without input, in processing time.
    fn wake(&self) -> Option<Timestamp> {
        None
    }

    /// The requested time has come. Does part of what is due.
    fn due<C: Flow<Self::Out>>(&mut self, now: Timestamp, out: &mut C) {
        let _ = (now, out);
    }

    /// The watermark of the restored checkpoint (SPEC 16.4).
    fn resume(&mut self, watermark: Timestamp) {
        let _ = watermark;
    }

    /// The number of records that were late and dropped.
    fn late(&self) -> u64 {
        0
    }

    /// Emits part of the last results, at the end of the input; called until it returns
    /// `Ending::Done`. Begins with all of them each time it is begun anew.
    fn end<C: Flow<Self::Out>>(&mut self, out: &mut C) -> Ending;

    /// Prepares a clone for one subtask, and restores its state from a checkpoint.
    ///
    /// # Errors
    /// If state cannot be restored.
    fn open(
        &mut self,
        context: &TaskContext,
        restored: Option<&mut Restored<'_>>,
    ) -> Result<(), StateError>;

    /// Captures the state, cheaply, as it is now (SPEC 5.4).
    ///
    /// # Errors
    /// If a value cannot be encoded.
    fn freeze(&mut self, images: &mut Vec<NamedImage>) -> Result<(), StateError>;
}

/// Whether last results are left to emit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// Call again.
    More,
    /// Call again when an answer arrives, or something is due by the clock.
    Waiting,
    /// All is emitted.
    Done,
}

/// What a task's chain is opened with.
#[derive(Clone, Debug)]
pub struct TaskContext {
    /// The subtask and its operator.
    pub place: OpenContext,
    /// The number of key groups of the job.
    pub key_groups: u16,
    /// The seed of key hashes in this job.
    pub seed: HashSeed,
    /// The number of complete checkpoints that are kept.
    pub(crate) retained: usize,
    /// Starts call threads for it.
    pub(crate) host: CallHost,
    /// The number of operators of the chain with timers so far, which tells them apart.
    pub(crate) clocks: std::cell::Cell<u32>,
    /// A planted fault.
    pub(crate) faults: Faults,
}

/// The chain of no operators.
#[derive(Debug)]
pub struct Identity<T>(PhantomData<fn() -> T>);

impl<T> Identity<T> {
    pub(crate) const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T> Clone for Identity<T> {
    fn clone(&self) -> Self {
        Self::new()
    }
}

impl<T: Send + 'static> OperatorChain for Identity<T> {
    type In = T;
    type Out = T;

    #[inline]
    fn push<C: Flow<T>>(&mut self, record: T, out: &mut C) {
        out.push(record);
    }

    fn end<C: Flow<T>>(&mut self, _out: &mut C) -> Ending {
        Ending::Done
    }

    fn open(&mut self, _: &TaskContext, _: Option<&mut Restored<'_>>) -> Result<(), StateError> {
        Ok(())
    }

    fn freeze(&mut self, _images: &mut Vec<NamedImage>) -> Result<(), StateError> {
        Ok(())
    }
}

/// One operator after another.
#[derive(Clone, Debug)]
pub struct Then<A, B> {
    first: A,
    second: B,
    /// Whether the first has emitted its last results.
    first_ended: bool,
}

impl<A, B> Then<A, B> {
    pub(crate) const fn new(first: A, second: B) -> Self {
        Self { first, second, first_ended: false }
    }
}

/// Passes what one operator emits to the next.
struct ChainOutput<'a, B, C> {
    next: &'a mut B,
    out: &'a mut C,
}

impl<B: OperatorChain, C: Flow<B::Out>> Collect<B::In> for ChainOutput<'_, B, C> {
    #[inline]
    fn push(&mut self, record: B::In) {
        self.next.push(record, self.out);
    }

    fn fail(&mut self, error: BoxError) {
        self.out.fail(error);
    }
}

impl<B: OperatorChain, C: Flow<B::Out>> Flow<B::In> for ChainOutput<'_, B, C> {
    fn mark(&mut self, mark: Mark) {
        // Only the first operator of a task has more to do than fits one call.
        let _ = self.next.mark(mark, self.out);
    }
}

impl<A: OperatorChain, B: OperatorChain<In = A::Out>> OperatorChain for Then<A, B> {
    type In = A::In;
    type Out = B::Out;

    fn classify<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a dyn ConnectorError> {
        A::classify(error).or_else(|| B::classify(error))
    }

    #[inline]
    fn push<C: Flow<Self::Out>>(&mut self, record: Self::In, out: &mut C) {
        self.first.push(record, &mut ChainOutput { next: &mut self.second, out });
    }

    #[inline]
    fn push_all<C: Flow<Self::Out>>(&mut self, records: Drain<'_, Self::In>, out: &mut C) {
        self.first.push_all(records, &mut ChainOutput { next: &mut self.second, out });
    }

    fn mark<C: Flow<Self::Out>>(&mut self, mark: Mark, out: &mut C) -> Ending {
        self.first.mark(mark, &mut ChainOutput { next: &mut self.second, out })
    }

    fn fire<C: Flow<Self::Out>>(&mut self, out: &mut C) -> Ending {
        self.first.fire(&mut ChainOutput { next: &mut self.second, out })
    }

    fn answer<C: Flow<Self::Out>>(&mut self, out: &mut C) -> bool {
        self.first.answer(&mut ChainOutput { next: &mut self.second, out })
    }

    fn is_full(&self) -> bool {
        self.first.is_full()
    }

    fn flush<C: Flow<Self::Out>>(&mut self, out: &mut C) {
        self.first.flush(&mut ChainOutput { next: &mut self.second, out });
        self.second.flush(out);
    }

    fn wake(&self) -> Option<Timestamp> {
        let both = [self.first.wake(), self.second.wake()];
        both.into_iter().flatten().min()
    }

    fn due<C: Flow<Self::Out>>(&mut self, now: Timestamp, out: &mut C) {
        self.first.due(now, &mut ChainOutput { next: &mut self.second, out });
        self.second.due(now, out);
    }

    fn resume(&mut self, watermark: Timestamp) {
        self.first.resume(watermark);
    }

    fn late(&self) -> u64 {
        self.first.late() + self.second.late()
    }

    fn end<C: Flow<Self::Out>>(&mut self, out: &mut C) -> Ending {
        if !self.first_ended {
            let ending = self.first.end(&mut ChainOutput { next: &mut self.second, out });
            self.first_ended = ending == Ending::Done;
            return if ending == Ending::Waiting { ending } else { Ending::More };
        }
        let ending = self.second.end(out);
        if ending == Ending::Done {
            self.first_ended = false;
        }
        ending
    }

    fn open(
        &mut self,
        context: &TaskContext,
        mut restored: Option<&mut Restored<'_>>,
    ) -> Result<(), StateError> {
        self.first.open(context, restored.as_deref_mut())?;
        self.second.open(context, restored)
    }

    fn freeze(&mut self, images: &mut Vec<NamedImage>) -> Result<(), StateError> {
        self.first.freeze(images)?;
        self.second.freeze(images)
    }
}

/// An operator without state or end: a rule for one record.
macro_rules! stateless {
    ($(#[$doc:meta])* $name:ident<$in:ident, $out:ident, $f:ident> where [$($bound:tt)*],
     |$self:ident, $record:ident, $collector:ident| $body:expr) => {
        $(#[$doc])*
        pub struct $name<$in, $out, $f>($f, PhantomData<fn($in) -> $out>);

        impl<$in, $out, $f> $name<$in, $out, $f> {
            pub(crate) const fn new(rule: $f) -> Self {
                Self(rule, PhantomData)
            }
        }

        impl<$in, $out, $f: Clone> Clone for $name<$in, $out, $f> {
            fn clone(&self) -> Self {
                Self::new(self.0.clone())
            }
        }

        impl<$in, $out, $f> std::fmt::Debug for $name<$in, $out, $f> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(stringify!($name))
            }
        }

        impl<$in: Send + 'static, $out: Send + 'static, $f> OperatorChain for $name<$in, $out, $f>
        where
            $f: Clone + Send + 'static,
            $($bound)*
        {
            type In = $in;
            type Out = $out;

            #[inline]
            fn push<Coll: Flow<$out>>(&mut $self, $record: $in, $collector: &mut Coll) {
                $body
            }

            fn end<Coll: Flow<$out>>(&mut self, _out: &mut Coll) -> Ending {
                Ending::Done
            }

            fn open(&mut self, _: &TaskContext, _: Option<&mut Restored<'_>>) -> Result<(), StateError> {
                Ok(())
            }

            fn freeze(&mut self, _images: &mut Vec<NamedImage>) -> Result<(), StateError> {
                Ok(())
            }
        }
    };
}

stateless! {
    /// One record to one record.
    Map<I, O, F> where [F: FnMut(I) -> O],
    |self, record, out| out.push((self.0)(record))
}

stateless! {
    /// Drops records.
    Filter<I, O, F> where [F: FnMut(&I) -> bool, I: Into<O>],
    |self, record, out| if (self.0)(&record) { out.push(record.into()) }
}

stateless! {
    /// Looks at records.
    Inspect<I, O, F> where [F: FnMut(&I), I: Into<O>],
    |self, record, out| { (self.0)(&record); out.push(record.into()) }
}

stateless! {
    /// One record to one record, or to an error that fails the task.
    TryMap<I, O, F> where [F: FnMut(I) -> Result<O, BoxError>],
    |self, record, out| match (self.0)(record) {
        Ok(record) => out.push(record),
        Err(error) => out.fail(error),
    }
}

/// One record to any number of records.
pub struct FlatMap<I, O, F>(F, PhantomData<fn(I) -> O>);

impl<I, O, F> FlatMap<I, O, F> {
    pub(crate) const fn new(rule: F) -> Self {
        Self(rule, PhantomData)
    }
}

impl<I, O, F: Clone> Clone for FlatMap<I, O, F> {
    fn clone(&self) -> Self {
        Self::new(self.0.clone())
    }
}

impl<I, O, F> std::fmt::Debug for FlatMap<I, O, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FlatMap")
    }
}

impl<I, O, F> OperatorChain for FlatMap<I, O, F>
where
    I: Send + 'static,
    O: IntoIterator + 'static,
    O::Item: Send + 'static,
    F: FnMut(I) -> O + Clone + Send + 'static,
{
    type In = I;
    type Out = O::Item;

    #[inline]
    fn push<C: Flow<O::Item>>(&mut self, record: I, out: &mut C) {
        for record in (self.0)(record) {
            out.push(record);
        }
    }

    fn end<C: Flow<O::Item>>(&mut self, _out: &mut C) -> Ending {
        Ending::Done
    }

    fn open(&mut self, _: &TaskContext, _: Option<&mut Restored<'_>>) -> Result<(), StateError> {
        Ok(())
    }

    fn freeze(&mut self, _images: &mut Vec<NamedImage>) -> Result<(), StateError> {
        Ok(())
    }
}
