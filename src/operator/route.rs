//! Which output a record takes: the routes of a task's edges.

use crate::base::either::Either;
use crate::operator::key::Keyer;
use crate::operator::output::{OutputChannel, Port, batch_records};
use crate::operator::time::Timed;
use crate::state::{self, Keys};

/// Where a task's output goes: a rule for records, and all channels for barriers and marks.
pub trait Route<T>: Send + 'static {
    /// Sends a record.
    fn push(&mut self, record: T);

    /// Every channel of the route, one after the other.
    fn each(&mut self, act: &mut dyn FnMut(&mut dyn Port));

    /// Appends the counts of records sent so far.
    fn count(&self, sent: &mut u64);
}

/// To the only consumer, or to several in turn: records may go to any of them.
pub(crate) struct RoundRobin<T> {
    outboxes: Vec<OutputChannel<T>>,
    next: usize,
}

impl<T> RoundRobin<T> {
    pub(crate) const fn new(outboxes: Vec<OutputChannel<T>>) -> Self {
        Self { outboxes, next: 0 }
    }
}

impl<T: Send + 'static> Route<T> for RoundRobin<T> {
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
    /// The owner of each key group, as an index into `outboxes`.
    owner: Box<[u16]>,
    outboxes: Vec<OutputChannel<T>>,
}

impl<T: Send, K> Exchange<T, K> {
    pub(crate) fn new(keyer: K, keys: Keys, outboxes: Vec<OutputChannel<T>>) -> Self {
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
    outboxes: Vec<OutputChannel<T>>,
}

impl<T> Broadcast<T> {
    pub(crate) const fn new(outboxes: Vec<OutputChannel<T>>) -> Self {
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

/// To several routes, each its own copy: a batch at a time, so that the routes may be unknown at
/// compile time.
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
    /// Sends records.
    fn push_all(&mut self, records: &[T]);

    /// Every channel of the route.
    fn each(&mut self, act: &mut dyn FnMut(&mut dyn Port));

    /// Appends the counts of records sent so far.
    fn count(&self, sent: &mut u64);
}

/// A route as a branch.
pub(crate) struct CloneRoute<X>(pub(crate) X);

impl<T: Clone, X: Route<T>> Branch<T> for CloneRoute<X> {
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

/// Splits records between two routes.
pub(crate) trait SplitRecord: Send + 'static {
    /// Records of the left route.
    type Left: Send + 'static;
    /// Records of the right route.
    type Right: Send + 'static;

    /// Takes it to its side.
    fn side(self) -> Either<Self::Left, Self::Right>;
}

impl<L: Send + 'static, R: Send + 'static> SplitRecord for Either<L, R> {
    type Left = L;
    type Right = R;

    #[inline]
    fn side(self) -> Self {
        self
    }
}

impl<L: Send + 'static, R: Send + 'static> SplitRecord for Timed<Either<L, R>> {
    type Left = Timed<L>;
    type Right = Timed<R>;

    #[inline]
    fn side(self) -> Either<Timed<L>, Timed<R>> {
        let at = self.at;
        match self.value {
            Either::Left(value) => Either::Left(Timed { at, value }),
            Either::Right(value) => Either::Right(Timed { at, value }),
        }
    }
}

/// To one of two routes, by the record's side.
pub(crate) struct Split<L, R> {
    left: L,
    right: R,
}

impl<L, R> Split<L, R> {
    pub(crate) const fn new(left: L, right: R) -> Self {
        Self { left, right }
    }
}

impl<T: SplitRecord, L: Route<T::Left>, R: Route<T::Right>> Route<T> for Split<L, R> {
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
