//! Looks up each record in an external system, several records at a time (SPEC 15.10).
//!
//! ```text
//! emitted from the front  <-  | Asked | Asked | Found | Mark | New | New |  <-  push, mark
//! while it is answered           threads answer in any order
//! ```
//! The queue is the operator's state. A snapshot holds the records that have come in and not gone
//! out, and a restored operator looks them up again.
//!
//! Longer than 500 lines: half is documentation and settings for users.

use std::collections::{BTreeSet, VecDeque};
use std::error::Error;
use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::base::clock;
use crate::base::clock::Clock;
use crate::base::error::BoxError;
use crate::base::fault::{Faults, Mutation};
use crate::base::sync::{Arc, AtomicBool, Ordering};
use crate::executor::call_pool::CallPool;
use crate::operator::chain::{Ending, Flow, Mark, OperatorChain, TaskContext};
use crate::operator::time::{Timed, Timestamp};
use crate::state::{NamedImage, Restored, StateError, StateValue};
use snapline_core::connect::ConnectorError;
use snapline_core::connect::OpenContext;
use snapline_core::connect::lookup::{LookupClient, LookupError, LookupSource};

/// The replacement for the answer to a request that was given up, or the error that fails the task.
type Otherwise<T, A> = Arc<dyn Fn(&T, LookupError) -> Result<A, BoxError> + Send + Sync>;

/// The most requests that a subtask may have in flight, each on a thread.
const MOST_IN_FLIGHT: usize = 65_536;

/// Configures how records are looked up: the source, the requests in flight, and what replaces a
/// missing answer. For [`Stream::lookup`](super::Stream::lookup).
///
/// A request is one call, on a thread of the subtask; there are as many threads as requests may be
/// in flight. A call cannot be interrupted: an abandoned one keeps its thread until it returns, and
/// its answer is ignored.
pub struct Lookup<T, S: LookupSource<T>> {
    source: S,
    ordered: bool,
    in_flight: usize,
    timeout: Option<Duration>,
    tries: u32,
    pause: Duration,
    otherwise: Option<Otherwise<T, S::Found>>,
}

impl<T, S: LookupSource<T>> Clone for Lookup<T, S> {
    fn clone(&self) -> Self {
        Self { source: self.source.clone(), otherwise: self.otherwise.clone(), ..*self }
    }
}

impl<T, S: LookupSource<T>> fmt::Debug for Lookup<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookup")
            .field("ordered", &self.ordered)
            .field("in_flight", &self.in_flight)
            .field("timeout", &self.timeout)
            .field("tries", &self.tries)
            .finish_non_exhaustive()
    }
}

impl<T, S: LookupSource<T>> Lookup<T, S> {
    /// Emits records in the order in which they came: one that is answered early waits for those
    /// before it.
    pub fn ordered(source: S) -> Self {
        Self {
            source,
            ordered: true,
            in_flight: 16,
            timeout: None,
            tries: 1,
            pause: Duration::ZERO,
            otherwise: None,
        }
    }

    /// Emits records as they are answered. No record overtakes a watermark, nor a watermark a
    /// record.
    pub fn unordered(source: S) -> Self {
        Self { ordered: false, ..Self::ordered(source) }
    }

    /// The most requests that each subtask has in flight, from 1 to 65,536, each on a thread of its
    /// own; 16 by default. While this many are in flight, no input is taken. Other numbers are
    /// refused when the dataflow is built.
    #[must_use]
    pub fn in_flight(self, requests: usize) -> Self {
        Self { in_flight: requests, ..self }
    }

    /// The time to wait for an answer, from when the request is sent; for ever by default.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    /// The most attempts at a request whose call fails or times out, with a pause in between; one
    /// by default. Zero is refused when the dataflow is built.
    #[must_use]
    pub fn tries(self, tries: u32, pause: Duration) -> Self {
        Self { tries, pause, ..self }
    }

    /// Checks its numbers.
    pub(super) fn check(&self) -> Result<(), String> {
        if !(1..=MOST_IN_FLIGHT).contains(&self.in_flight) {
            return Err(format!(
                "{} requests cannot be in flight; set `Lookup::in_flight` from 1 to \
                 {MOST_IN_FLIGHT}",
                self.in_flight
            ));
        }
        if self.tries == 0 {
            return Err(
                "a record needs at least one try; set `Lookup::tries` to 1 or more".to_owned()
            );
        }
        if self.timeout.is_some_and(|timeout| timeout.is_zero()) {
            return Err(
                "a timeout of zero leaves no time for an answer; set `Lookup::timeout` to \
                more"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// Replaces the answer when a request is given up. An error fails the task, which is also the
    /// default.
    #[must_use]
    pub fn otherwise(
        self,
        rule: impl Fn(&T, LookupError) -> Result<S::Found, BoxError> + Send + Sync + 'static,
    ) -> Self {
        Self { otherwise: Some(Arc::new(rule)), ..self }
    }
}

impl<T: 'static, S: LookupSource<T>> Lookup<T, S> {
    /// The same for records with their times.
    pub(super) fn timed(self) -> Lookup<Timed<T>, OfTimed<T, S>> {
        let Self { source, ordered, in_flight, timeout, tries, pause, otherwise } = self;
        let otherwise = otherwise.map(|rule| -> Otherwise<Timed<T>, S::Found> {
            Arc::new(move |record: &Timed<T>, error| rule(&record.value, error))
        });
        let source = OfTimed(source, PhantomData);
        Lookup { source, ordered, in_flight, timeout, tries, pause, otherwise }
    }
}

/// Looks up records without their times.
pub struct OfTimed<T, S>(S, PhantomData<fn(T)>);

impl<T, S: Clone> Clone for OfTimed<T, S> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), PhantomData)
    }
}

impl<T, S> fmt::Debug for OfTimed<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OfTimed")
    }
}

impl<T: 'static, S: LookupSource<T>> LookupSource<Timed<T>> for OfTimed<T, S> {
    type Found = S::Found;
    type Client = OfTimed<T, S::Client>;

    fn classify<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a dyn ConnectorError> {
        S::classify(error)
    }

    fn open(&self, context: &OpenContext) -> Result<Self::Client, BoxError> {
        Ok(OfTimed(self.0.open(context)?, PhantomData))
    }
}

impl<T, C: LookupClient<T>> LookupClient<Timed<T>> for OfTimed<T, C> {
    type Found = C::Found;

    fn look_up(&mut self, record: &Timed<T>) -> Result<C::Found, BoxError> {
        self.0.look_up(&record.value)
    }
}

/// Name of the operator's state in a snapshot.
const WAITING: &str = "waiting";

/// An entry of the queue, in a snapshot.
#[derive(Serialize, Deserialize)]
enum Saved<T> {
    Record(T),
    Watermark(i64),
    Idle,
    Active,
}

/// The progress of a record.
enum LookupStage<A> {
    /// It waits until there is room for a request.
    New,
    /// Its request is in flight.
    Asked(Arc<AtomicBool>),
    /// It waits for a retry.
    Pausing,
    Found(A),
}

enum QueueItem<T, A> {
    Mark(Mark),
    Record {
        record: T,
        tries: u32,
        /// When the answer, or the retry, is due.
        due: Option<Instant>,
        stage: LookupStage<A>,
    },
}

struct QueueEntry<T, A> {
    number: u64,
    what: QueueItem<T, A>,
}

/// The operator.
pub struct LookingUp<T, S: LookupSource<T>> {
    lookup: Lookup<T, S>,
    helpers: Option<CallPool<T, S::Found, S::Client>>,
    clock: Clock,
    operator: String,
    /// In the order in which they came.
    queue: VecDeque<QueueEntry<T, S::Found>>,
    /// The records that are ready for a request, in order.
    to_ask: VecDeque<u64>,
    /// The due times, each with its record's number.
    due: BTreeSet<(Instant, u64)>,
    next: u64,
    /// Requests in flight.
    asked: usize,
    /// Records in the queue.
    records: usize,
    /// The operating system gave no thread.
    failed: Option<std::io::Error>,
    faults: Faults,
}

impl<T, S: LookupSource<T>> LookingUp<T, S> {
    pub(super) fn new(lookup: Lookup<T, S>) -> Self {
        Self {
            lookup,
            helpers: None,
            clock: Clock::default(),
            operator: String::new(),
            queue: VecDeque::new(),
            to_ask: VecDeque::new(),
            due: BTreeSet::new(),
            next: 0,
            asked: 0,
            records: 0,
            failed: None,
            faults: Faults::default(),
        }
    }

    /// Whether answered records overtake those before them.
    fn overtakes(&self) -> bool {
        !self.lookup.ordered || self.faults.is_active(Mutation::AnswersOvertake)
    }

    /// The number of records before the first mark, which none of them passes.
    fn before_mark(&self) -> usize {
        let is_mark = |entry: &QueueEntry<T, S::Found>| matches!(entry.what, QueueItem::Mark(_));
        self.queue.iter().position(is_mark).unwrap_or(self.queue.len())
    }
}

impl<T, S: LookupSource<T>> Clone for LookingUp<T, S> {
    fn clone(&self) -> Self {
        Self::new(self.lookup.clone())
    }
}

impl<T, S: LookupSource<T>> fmt::Debug for LookingUp<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LookingUp({})", self.operator)
    }
}

impl<T: StateValue, S: LookupSource<T>> LookingUp<T, S> {
    fn enqueue(&mut self, record: T) {
        let number = self.next;
        self.next += 1;
        self.records += 1;
        let what = QueueItem::Record { record, tries: 0, due: None, stage: LookupStage::New };
        self.queue.push_back(QueueEntry { number, what });
        self.to_ask.push_back(number);
    }

    /// Sends as many requests as may be in flight.
    fn fill(&mut self) {
        let Some(helpers) = &mut self.helpers else { return };
        while self.asked < self.lookup.in_flight
            && let Some(number) = self.to_ask.pop_front()
        {
            let Some(entry) = find(&mut self.queue, number) else { continue };
            let QueueItem::Record { record, tries, due, stage } = &mut entry.what else { continue };
            *tries += 1;
            match helpers.ask((number, *tries), record.clone()) {
                Ok(unwanted) => *stage = LookupStage::Asked(unwanted),
                Err(error) => {
                    self.failed = Some(error);
                    return;
                }
            }
            self.asked += 1;
            *due = self.lookup.timeout.map(|timeout| clock::after(self.clock.now(), timeout));
            self.due.extend(due.map(|due| (due, number)));
        }
    }

    /// Handles a failed request.
    fn fails<C: Flow<(T, S::Found)>>(
        &mut self,
        number: u64,
        error: impl FnOnce(u32) -> LookupError,
        out: &mut C,
    ) {
        let Some(entry) = find(&mut self.queue, number) else { return };
        let QueueItem::Record { record, tries, due, stage } = &mut entry.what else { return };
        if *tries < self.lookup.tries {
            *stage = LookupStage::Pausing;
            let at = clock::after(self.clock.now(), self.lookup.pause);
            *due = Some(at);
            self.due.insert((at, number));
            return;
        }
        let error = error(*tries);
        let instead = match &self.lookup.otherwise {
            Some(rule) => rule(record, error),
            None => Err(error.into()),
        };
        match instead {
            Ok(found) => *stage = LookupStage::Found(found),
            Err(error) => out.fail(error),
        }
    }

    /// Handles what is due by the clock.
    fn catch_up<C: Flow<(T, S::Found)>>(&mut self, out: &mut C) {
        let now = self.clock.now();
        while let Some(&(at, number)) = self.due.first()
            && at <= now
        {
            self.due.pop_first();
            let Some(entry) = find(&mut self.queue, number) else { continue };
            let QueueItem::Record { due, stage, .. } = &mut entry.what else { continue };
            *due = None;
            match stage {
                LookupStage::Asked(unwanted) => {
                    unwanted.store(true, Ordering::Release);
                    self.asked -= 1;
                    let after = self.lookup.timeout.unwrap_or_default();
                    self.fails(number, |tries| LookupError::TimedOut { after, tries }, out);
                }
                LookupStage::Pausing => {
                    *stage = LookupStage::New;
                    self.to_ask.push_back(number);
                }
                LookupStage::New | LookupStage::Found(_) => {}
            }
        }
        self.fill();
        self.emit(out);
        self.tell(out);
    }

    /// Fails if there was no thread for requests.
    fn tell<C: Flow<(T, S::Found)>>(&mut self, out: &mut C) {
        if let Some(error) = self.failed.take() {
            out.fail(error.into());
        }
    }

    /// Emits as much as it can.
    fn emit<C: Flow<(T, S::Found)>>(&mut self, out: &mut C) {
        loop {
            if self.overtakes() {
                self.emit_any(out);
            }
            match self.queue.front().map(|entry| &entry.what) {
                Some(QueueItem::Mark(mark)) => {
                    out.mark(*mark);
                    self.queue.pop_front();
                }
                Some(QueueItem::Record { stage: LookupStage::Found(_), .. }) => {
                    let entry = self.queue.pop_front();
                    if let Some(QueueItem::Record {
                        record,
                        stage: LookupStage::Found(found),
                        ..
                    }) = entry.map(|entry| entry.what)
                    {
                        self.records -= 1;
                        out.push((record, found));
                    }
                }
                _ => return,
            }
        }
    }

    /// Emits the answered records before the first mark.
    fn emit_any<C: Flow<(T, S::Found)>>(&mut self, out: &mut C) {
        let end = self.before_mark();
        let known = |entry: &QueueEntry<T, S::Found>| {
            matches!(entry.what, QueueItem::Record { stage: LookupStage::Found(_), .. })
        };
        if !self.queue.range(..end).any(known) {
            return;
        }
        let behind = self.queue.split_off(end);
        for entry in std::mem::take(&mut self.queue) {
            match entry.what {
                QueueItem::Record { record, stage: LookupStage::Found(found), .. } => {
                    self.records -= 1;
                    out.push((record, found));
                }
                _ => self.queue.push_back(entry),
            }
        }
        self.queue.extend(behind);
    }
}

/// The entry with this number; numbers ascend.
fn find<T, A>(
    queue: &mut VecDeque<QueueEntry<T, A>>,
    number: u64,
) -> Option<&mut QueueEntry<T, A>> {
    let place = queue.binary_search_by_key(&number, |entry| entry.number).ok()?;
    queue.get_mut(place)
}

impl<T: StateValue, S: LookupSource<T>> OperatorChain for LookingUp<T, S> {
    type In = T;
    type Out = (T, S::Found);

    fn classify<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a dyn ConnectorError> {
        S::classify(error)
    }

    fn push<C: Flow<Self::Out>>(&mut self, record: T, out: &mut C) {
        self.enqueue(record);
        self.fill();
        self.tell(out);
    }

    fn mark<C: Flow<Self::Out>>(&mut self, mark: Mark, out: &mut C) -> Ending {
        if self.queue.is_empty() || self.faults.is_active(Mutation::MarkOvertakes) {
            out.mark(mark);
        } else {
            self.queue.push_back(QueueEntry { number: self.next, what: QueueItem::Mark(mark) });
            self.next += 1;
        }
        Ending::Done
    }

    fn answer<C: Flow<Self::Out>>(&mut self, out: &mut C) -> bool {
        let Some(helpers) = &self.helpers else { return false };
        let answers = helpers.answers();
        if answers.is_empty() {
            return false;
        }
        for ((number, of), answer) in answers {
            let Some(entry) = find(&mut self.queue, number) else { continue };
            let QueueItem::Record { tries, due, stage, .. } = &mut entry.what else { continue };
            // An answer to a request that was given up.
            if *tries != of || !matches!(stage, LookupStage::Asked(_)) {
                continue;
            }
            self.asked -= 1;
            if let Some(due) = due.take() {
                self.due.remove(&(due, number));
            }
            match answer {
                Ok(found) => *stage = LookupStage::Found(found),
                Err(cause) => {
                    self.fails(number, |tries| LookupError::Failed { tries, cause }, out);
                }
            }
        }
        self.fill();
        self.emit(out);
        self.tell(out);
        true
    }

    fn is_full(&self) -> bool {
        self.records >= self.lookup.in_flight
    }

    fn wake(&self) -> Option<Timestamp> {
        if self.failed.is_some() {
            // Nothing else reports the failure of a restored operator: the input may be silent.
            return Some(Timestamp::from(self.clock.date()));
        }
        let (at, _) = self.due.first()?;
        let left = at.saturating_duration_since(self.clock.now());
        // Whole milliseconds, and not too early.
        let left = left + Duration::from_micros(999);
        Some(Timestamp::from(self.clock.date()) + left)
    }

    fn due<C: Flow<Self::Out>>(&mut self, _: Timestamp, out: &mut C) {
        self.catch_up(out);
    }

    fn end<C: Flow<Self::Out>>(&mut self, out: &mut C) -> Ending {
        self.tell(out);
        if self.queue.is_empty() { Ending::Done } else { Ending::Waiting }
    }

    fn open(
        &mut self,
        context: &TaskContext,
        restored: Option<&mut Restored<'_>>,
    ) -> Result<(), StateError> {
        self.faults = context.faults;
        let place = context.place.clone();
        self.operator.clone_from(&place.operator);
        self.clock = place.clock.clone();
        let source = self.lookup.source.clone();
        self.helpers = Some(CallPool::new(
            context.host.clone(),
            self.lookup.in_flight,
            Arc::new(move || source.open(&place)),
            |client: &mut S::Client, record: &T| client.look_up(record),
        ));
        let waiting: Option<Vec<Saved<T>>> = match restored {
            Some(restored) => restored.single(&self.operator, WAITING)?,
            None => None,
        };
        for saved in waiting.into_iter().flatten() {
            let mark = match saved {
                Saved::Record(record) => {
                    self.enqueue(record);
                    continue;
                }
                Saved::Watermark(time) => Mark::Watermark(time),
                Saved::Idle => Mark::Idle,
                Saved::Active => Mark::Active,
            };
            self.queue.push_back(QueueEntry { number: self.next, what: QueueItem::Mark(mark) });
            self.next += 1;
        }
        self.fill();
        Ok(())
    }

    fn freeze(&mut self, images: &mut Vec<NamedImage>) -> Result<(), StateError> {
        let saved = |entry: &QueueEntry<T, S::Found>| match &entry.what {
            QueueItem::Record { record, .. } => Saved::Record(record.clone()),
            QueueItem::Mark(Mark::Watermark(time)) => Saved::Watermark(*time),
            QueueItem::Mark(Mark::Idle) => Saved::Idle,
            QueueItem::Mark(Mark::Active) => Saved::Active,
        };
        let queue = self.queue.iter();
        let forgets = |stage: &LookupStage<S::Found>| match stage {
            LookupStage::Asked(_) => self.faults.is_active(Mutation::InFlightForgotten),
            LookupStage::Found(_) => self.faults.is_active(Mutation::AnsweredForgotten),
            _ => false,
        };
        let queue = queue.filter(
            |entry| !matches!(&entry.what, QueueItem::Record { stage, .. } if forgets(stage)),
        );
        let waiting: Vec<Saved<T>> = queue.map(saved).collect();
        images.push(NamedImage::single(&self.operator, WAITING, &waiting)?);
        Ok(())
    }
}

#[cfg(all(test, not(snapline_loom)))]
mod tests;
