//! A task's outputs: where a record goes, in batches, behind what went before.

use std::collections::VecDeque;

use snapline_protocol::message::Barrier;

use super::valve::Standing;
use crate::channel::{Filling, Mark, Message, Sender};
use crate::connect::Collect;
use crate::dataflow::{Either, Flow, Keyer};
use crate::error::BoxError;
#[cfg(feature = "sim")]
use crate::sim::Mutant;
use crate::state::{self, Keys};

/// Roughly how many bytes a batch holds: two fit a first-level cache, with room for what processes them.
const BATCH_BYTES: usize = 8 * 1024;

/// How many records a batch of `T` holds.
fn batch_records<T>() -> usize {
    (BATCH_BYTES / size_of::<T>().max(1)).clamp(64, 1024)
}

/// One output channel with the batch that is being filled, and what did not fit into the channel.
pub(crate) struct Outbox<T> {
    batch: Filling<T>,
    /// How many records make a batch.
    full: usize,
    channel: Sender<T>,
    /// Which of the topology's edges the channel is of.
    edge: usize,
    /// Behind the channel, before the batch. One input batch may make any number of output batches; the task takes no further input
    /// before they are gone.
    waiting: VecDeque<Message<T>>,
    /// Records sent so far.
    sent: u64,
    /// A planted fault.
    #[cfg(feature = "sim")]
    pub(crate) mutant: Option<Mutant>,
}

impl<T: Send> Outbox<T> {
    pub(crate) fn new(mut channel: Sender<T>, batch: Option<usize>, edge: usize) -> Self {
        let full = batch.unwrap_or_else(batch_records::<T>);
        Self {
            batch: Filling::new(channel.buffer(full), full),
            full,
            channel,
            edge,
            waiting: VecDeque::new(),
            sent: 0,
            #[cfg(feature = "sim")]
            mutant: None,
        }
    }

    /// Adds a record; says whether that made the batch full and sent it.
    #[inline]
    fn push(&mut self, record: T) -> bool {
        match self.batch.push(record) {
            Ok(()) => false,
            Err(last) => {
                self.ship_full(last);
                true
            }
        }
    }

    #[inline(never)]
    fn ship_full(&mut self, last: T) {
        self.send_batch(Some(last));
    }

    fn ship_batch(&mut self) {
        if self.batch.len() > 0 {
            self.send_batch(None);
        }
    }

    fn send_batch(&mut self, last: Option<T>) {
        let next = self.channel.buffer(self.full);
        let batch = self.batch.finish(last, next);
        self.sent += batch.len() as u64;
        self.put(Message::Batch(batch));
    }

    fn put(&mut self, message: Message<T>) {
        #[cfg(feature = "sim")]
        if let (Some(Mutant::BatchesSwapped), Message::Batch(_), Some(Message::Batch(_))) =
            (self.mutant, &message, self.waiting.back())
        {
            return self.waiting.insert(self.waiting.len() - 1, message);
        }
        if !self.waiting.is_empty() {
            self.waiting.push_back(message);
        } else if let Err(message) = self.channel.send(message) {
            self.waiting.push_back(message);
        }
    }
}

/// What is put into a channel between records.
#[derive(Clone, Copy, Debug)]
pub enum Sign {
    Barrier(Barrier),
    Mark(Mark),
    End,
}

/// An output channel, whatever its records are.
pub trait Port {
    /// Sends the partial batch.
    fn ship(&mut self);

    /// Moves what waits into the channel as far as there is room; says whether nothing waits any more.
    fn drain(&mut self) -> bool;

    /// Puts something behind all that was emitted so far.
    fn in_band(&mut self, sign: Sign);

    /// Which of the topology's edges it is of, and how many records were emitted on it.
    fn emitted(&self) -> (usize, u64);
}

impl<T: Send> Port for Outbox<T> {
    fn ship(&mut self) {
        self.ship_batch();
    }

    fn drain(&mut self) -> bool {
        while let Some(message) = self.waiting.pop_front() {
            if let Err(message) = self.channel.send(message) {
                self.waiting.push_front(message);
                return false;
            }
        }
        true
    }

    fn in_band(&mut self, sign: Sign) {
        let message = match sign {
            Sign::Barrier(barrier) => Message::Barrier(barrier),
            Sign::Mark(mark) => Message::Mark(mark),
            Sign::End => Message::End,
        };
        #[cfg(feature = "sim")]
        match (self.mutant, sign) {
            (Some(Mutant::PartialFanOut), Sign::Barrier(_)) => return self.put(message),
            (Some(Mutant::BarrierSkipsOutput), Sign::Barrier(_)) => return,
            _ => {}
        }
        self.ship_batch();
        self.put(message);
    }

    fn emitted(&self) -> (usize, u64) {
        (self.edge, self.sent + self.batch.len() as u64)
    }
}

/// Where a task's output goes: one rule for records, one for what everybody must see.
pub trait Route<T>: Send + 'static {
    /// Sends a record on its way.
    fn push(&mut self, record: T);

    /// Every channel of the route, one after the other.
    fn each(&mut self, act: &mut dyn FnMut(&mut dyn Port));

    /// Adds the records sent so far.
    fn count(&self, sent: &mut u64);
}

/// To the one consumer there is, or to several in turn: a record has no place of its own there.
pub(crate) struct Plain<T> {
    outboxes: Vec<Outbox<T>>,
    next: usize,
}

impl<T> Plain<T> {
    pub(crate) const fn new(outboxes: Vec<Outbox<T>>) -> Self {
        Self { outboxes, next: 0 }
    }
}

impl<T: Send + 'static> Route<T> for Plain<T> {
    #[inline]
    fn push(&mut self, record: T) {
        if self.outboxes[self.next].push(record) {
            self.next = if self.next + 1 < self.outboxes.len() { self.next + 1 } else { 0 };
        }
    }

    fn each(&mut self, act: &mut dyn FnMut(&mut dyn Port)) {
        self.outboxes.iter_mut().for_each(|outbox| act(outbox));
    }

    fn count(&self, sent: &mut u64) {
        *sent += self.outboxes.iter().map(|outbox| outbox.sent).sum::<u64>();
    }
}

/// By key group, to the subtask that owns it.
pub(crate) struct Exchange<T, K> {
    keyer: K,
    keys: Keys,
    /// The owner of each key group, as a place in `outboxes`.
    owner: Box<[u16]>,
    outboxes: Vec<Outbox<T>>,
}

impl<T: Send, K> Exchange<T, K> {
    pub(crate) fn new(keyer: K, keys: Keys, outboxes: Vec<Outbox<T>>) -> Self {
        // The topology's limit of 256 subtasks fits a u16.
        let owner = |group| state::subtask_of(group, outboxes.len(), keys.groups) as u16;
        Self { keyer, keys, owner: (0..keys.groups).map(owner).collect(), outboxes }
    }
}

impl<T: Send + 'static, K: Keyer<T>> Route<T> for Exchange<T, K> {
    #[inline]
    fn push(&mut self, record: T) {
        let Keys { groups, seed } = self.keys;
        let group = state::group_of(self.keyer.hash(seed, &record), groups);
        let owner = self.owner[usize::from(group)];
        self.outboxes[usize::from(owner)].push(record);
    }

    fn each(&mut self, act: &mut dyn FnMut(&mut dyn Port)) {
        self.outboxes.iter_mut().for_each(|outbox| act(outbox));
    }

    fn count(&self, sent: &mut u64) {
        *sent += self.outboxes.iter().map(|outbox| outbox.sent).sum::<u64>();
    }
}

/// To every subtask, a copy each.
pub(crate) struct Broadcast<T> {
    outboxes: Vec<Outbox<T>>,
}

impl<T> Broadcast<T> {
    pub(crate) const fn new(outboxes: Vec<Outbox<T>>) -> Self {
        Self { outboxes }
    }
}

impl<T: Clone + Send + 'static> Route<T> for Broadcast<T> {
    fn push(&mut self, record: T) {
        for outbox in &mut self.outboxes {
            outbox.push(record.clone());
        }
    }

    fn each(&mut self, act: &mut dyn FnMut(&mut dyn Port)) {
        self.outboxes.iter_mut().for_each(|outbox| act(outbox));
    }

    fn count(&self, sent: &mut u64) {
        *sent += self.outboxes.iter().map(|outbox| outbox.sent).sum::<u64>();
    }
}

/// To several routes, each its own copy: a batch at a time, so that the routes need not be known when this is compiled.
pub(crate) struct Fork<T> {
    batch: Vec<T>,
    full: usize,
    branches: Vec<Box<dyn Branch<T>>>,
}

impl<T> Fork<T> {
    pub(crate) fn new(branches: Vec<Box<dyn Branch<T>>>, batch: Option<usize>) -> Self {
        let full = batch.unwrap_or_else(batch_records::<T>);
        Self { batch: Vec::with_capacity(full), full, branches }
    }
}

/// One of the routes of a fork.
pub(crate) trait Branch<T>: Send {
    /// Sends records on their way.
    fn push_all(&mut self, records: &[T]);

    /// Every channel of the route.
    fn each(&mut self, act: &mut dyn FnMut(&mut dyn Port));

    /// Adds the records sent so far.
    fn count(&self, sent: &mut u64);
}

/// A route as a branch.
pub(crate) struct Cloning<X>(pub(crate) X);

impl<T: Clone, X: Route<T>> Branch<T> for Cloning<X> {
    fn push_all(&mut self, records: &[T]) {
        for record in records {
            self.0.push(record.clone());
        }
    }

    fn each(&mut self, act: &mut dyn FnMut(&mut dyn Port)) {
        self.0.each(act);
    }

    fn count(&self, sent: &mut u64) {
        self.0.count(sent);
    }
}

impl<T: Send + 'static> Fork<T> {
    #[inline(never)]
    fn spread(&mut self) {
        for branch in &mut self.branches {
            branch.push_all(&self.batch);
        }
        self.batch.clear();
    }
}

impl<T: Send + 'static> Route<T> for Fork<T> {
    #[inline]
    fn push(&mut self, record: T) {
        self.batch.push(record);
        if self.batch.len() >= self.full {
            self.spread();
        }
    }

    fn each(&mut self, act: &mut dyn FnMut(&mut dyn Port)) {
        self.spread();
        for branch in &mut self.branches {
            branch.each(act);
        }
    }

    fn count(&self, sent: &mut u64) {
        self.branches.iter().for_each(|branch| branch.count(sent));
    }
}

/// Which of two routes a record takes.
pub(crate) trait Sided: Send + 'static {
    /// What goes left.
    type Left: Send + 'static;
    /// What goes right.
    type Right: Send + 'static;

    /// Takes it to its side.
    fn side(self) -> Either<Self::Left, Self::Right>;
}

/// To one of two routes, by what the record is.
pub(crate) struct Split<L, R> {
    left: L,
    right: R,
}

impl<L, R> Split<L, R> {
    pub(crate) const fn new(left: L, right: R) -> Self {
        Self { left, right }
    }
}

impl<T: Sided, L: Route<T::Left>, R: Route<T::Right>> Route<T> for Split<L, R> {
    #[inline]
    fn push(&mut self, record: T) {
        match record.side() {
            Either::Left(record) => self.left.push(record),
            Either::Right(record) => self.right.push(record),
        }
    }

    fn each(&mut self, act: &mut dyn FnMut(&mut dyn Port)) {
        self.left.each(act);
        self.right.each(act);
    }

    fn count(&self, sent: &mut u64) {
        self.left.count(sent);
        self.right.count(sent);
    }
}

/// A route as operators see it, with a memory for the error of one of them, and for what was said of event time.
pub(crate) struct Output<X> {
    route: X,
    failed: Option<BoxError>,
    /// `None` as long as nothing was said.
    standing: Option<Standing>,
}

impl<X> Output<X> {
    pub(crate) const fn new(route: X) -> Self {
        Self { route, failed: None, standing: None }
    }

    /// How many records were sent, to all consumers together.
    pub(crate) fn sent<T: Send>(&self) -> u64
    where
        X: Route<T>,
    {
        let mut sent = 0;
        self.route.count(&mut sent);
        sent
    }

    /// The first error an operator reported.
    ///
    /// # Errors
    /// That error.
    pub(crate) fn check(&mut self) -> Result<(), BoxError> {
        self.failed.take().map_or(Ok(()), Err)
    }

    /// Sends partial batches, so that nobody waits for records that were emitted.
    pub(crate) fn flush<T: Send>(&mut self)
    where
        X: Route<T>,
    {
        self.route.each(&mut |port| port.ship());
    }

    /// Moves what waits for room; says whether nothing waits any more.
    pub(crate) fn drain<T: Send>(&mut self) -> bool
    where
        X: Route<T>,
    {
        let mut all = true;
        self.route.each(&mut |port| all &= port.drain());
        all
    }

    /// How many records were emitted so far on each channel, in the topology's order: by edge, then by consumer.
    pub(crate) fn by_channel<T: Send>(&mut self) -> Vec<u64>
    where
        X: Route<T>,
    {
        let mut counts = Vec::new();
        self.route.each(&mut |port| counts.push(port.emitted()));
        // Branches of a fork are in the order of their making, edges in that of their consumers'. The sort is stable.
        counts.sort_by_key(|&(edge, _)| edge);
        counts.into_iter().map(|(_, count)| count).collect()
    }

    /// Puts a barrier on every channel, behind everything emitted so far (SPEC 5.4).
    pub(crate) fn barrier<T: Send>(&mut self, barrier: Barrier)
    where
        X: Route<T>,
    {
        self.route.each(&mut |port| port.in_band(Sign::Barrier(barrier)));
    }

    /// Puts the end of input on every channel, behind everything emitted so far (SPEC 5.7).
    pub(crate) fn end<T: Send>(&mut self)
    where
        X: Route<T>,
    {
        self.route.each(&mut |port| port.in_band(Sign::End));
    }

    /// What was said of event time.
    pub(crate) const fn standing(&self) -> Option<Standing> {
        self.standing
    }

    /// Says again what had been said in the checkpoint that the task is restored from (SPEC 16.4).
    pub(crate) fn resume<T: Send>(&mut self, standing: Option<Standing>)
    where
        X: Route<T>,
    {
        self.standing = standing;
        for mark in standing.iter().flat_map(Standing::marks) {
            self.route.each(&mut |port| port.in_band(Sign::Mark(mark)));
        }
    }
}

impl<T: Send, X: Route<T>> Flow<T> for Output<X> {
    fn mark(&mut self, mark: Mark) {
        let mut standing = self.standing.unwrap_or_default();
        if standing.note(mark) {
            // Not before: who has said nothing says nothing again when it is restored.
            self.standing = Some(standing);
            self.route.each(&mut |port| port.in_band(Sign::Mark(mark)));
        }
    }
}

impl<T, X: Route<T>> Collect<T> for Output<X> {
    #[inline]
    fn push(&mut self, record: T) {
        self.route.push(record);
    }

    fn fail(&mut self, error: BoxError) {
        self.failed.get_or_insert(error);
    }
}
