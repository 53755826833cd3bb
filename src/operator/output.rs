//! A task's outputs: its records in batches, in order with marks and barriers.

use std::collections::VecDeque;

use snapline_protocol::message::Barrier;

use crate::base::error::BoxError;
use crate::base::fault::{Faults, Mutation};
use crate::channel::{BatchBuilder, Mark, Message, Sender};
use crate::operator::chain::Flow;
use crate::operator::route::Route;
use crate::operator::watermark_merger::WatermarkStatus;
use snapline_core::connect::Collect;

/// The approximate bytes of a batch: two fit a first-level cache, with room for their processing.
const BATCH_BYTES: usize = 8 * 1024;

/// The number of records in a batch of `T`.
pub(super) fn batch_records<T>() -> usize {
    (BATCH_BYTES / size_of::<T>().max(1)).clamp(64, 1024)
}

/// One output channel with the batch that is being filled, and what did not fit into the channel.
pub(crate) struct OutputChannel<T> {
    batch: BatchBuilder<T>,
    /// The number of records in a full batch.
    full: usize,
    channel: Sender<T>,
    /// The topology's edge that the channel belongs to.
    edge: usize,
    /// Messages after those in the channel and before the batch. One input batch may make any
    /// number of output batches; the task takes no further input before they are gone.
    waiting: VecDeque<Message<T>>,
    /// Records sent so far.
    pub(super) sent: u64,
    pub(crate) faults: Faults,
}

impl<T: Send> OutputChannel<T> {
    pub(crate) fn new(mut channel: Sender<T>, batch: Option<usize>, edge: usize) -> Self {
        let full = batch.unwrap_or_else(batch_records::<T>);
        Self {
            batch: BatchBuilder::new(channel.buffer(full), full),
            full,
            channel,
            edge,
            waiting: VecDeque::new(),
            sent: 0,
            faults: Faults::default(),
        }
    }

    /// Adds a record; returns whether that filled the batch and sent it.
    #[inline]
    pub(super) fn push(&mut self, record: T) -> bool {
        match self.batch.push(record) {
            Ok(()) => false,
            Err(last) => {
                self.flush_full(last);
                true
            }
        }
    }

    #[inline(never)]
    fn flush_full(&mut self, last: T) {
        self.send_batch(Some(last));
    }

    pub(super) fn flush_batch(&mut self) {
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
        if self.faults.is_active(Mutation::BatchesSwapped)
            && let (Message::Batch(_), Some(Message::Batch(_))) = (&message, self.waiting.back())
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

/// A control message between records.
#[derive(Clone, Copy, Debug)]
pub enum Control {
    Barrier(Barrier),
    Mark(Mark),
    End,
}

/// An output channel of any record type.
pub trait Port {
    /// Sends the partial batch.
    fn flush_all(&mut self);

    /// Moves waiting messages into the channel as far as there is room; returns whether none waits
    /// any more.
    fn drain(&mut self) -> bool;

    /// Puts a control message after everything emitted so far.
    fn in_band(&mut self, sign: Control);

    /// Its edge in the topology, and the number of records emitted on it.
    fn emitted(&self) -> (usize, u64);
}

impl<T: Send> Port for OutputChannel<T> {
    fn flush_all(&mut self) {
        self.flush_batch();
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

    fn in_band(&mut self, sign: Control) {
        let message = match sign {
            Control::Barrier(barrier) => Message::Barrier(barrier),
            Control::Mark(mark) => Message::Mark(mark),
            Control::End => Message::End,
        };
        if matches!(sign, Control::Barrier(_)) {
            if self.faults.is_active(Mutation::PartialFanOut) {
                return self.put(message);
            }
            if self.faults.is_active(Mutation::BarrierSkipsOutput) {
                return;
            }
        }
        self.flush_batch();
        self.put(message);
    }

    fn emitted(&self) -> (usize, u64) {
        (self.edge, self.sent + self.batch.len() as u64)
    }
}

/// A route as operators see it. It keeps the first operator's error, and the event time that was
/// emitted.
pub(crate) struct Output<X> {
    route: X,
    failed: Option<BoxError>,
    /// `None` before the first mark.
    standing: Option<WatermarkStatus>,
}

impl<X> Output<X> {
    pub(crate) const fn new(route: X) -> Self {
        Self { route, failed: None, standing: None }
    }

    /// The number of records sent, to all consumers together.
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

    /// Sends partial batches, so that no consumer waits for records that were emitted.
    pub(crate) fn flush<T: Send>(&mut self)
    where
        X: Route<T>,
    {
        self.route.each(&mut |port| port.flush_all());
    }

    /// Moves messages that wait for room; returns whether none waits any more.
    pub(crate) fn drain<T: Send>(&mut self) -> bool
    where
        X: Route<T>,
    {
        let mut all = true;
        self.route.each(&mut |port| all &= port.drain());
        all
    }

    /// The number of records emitted so far on each channel, in the topology's order: by edge, then
    /// by consumer.
    pub(crate) fn by_channel<T: Send>(&mut self) -> Vec<u64>
    where
        X: Route<T>,
    {
        let mut counts = Vec::new();
        self.route.each(&mut |port| counts.push(port.emitted()));
        // Branches of a fork are in the order of their creation, edges in that of their consumers'.
        // The sort is stable.
        counts.sort_by_key(|&(edge, _)| edge);
        counts.into_iter().map(|(_, count)| count).collect()
    }

    /// Puts a barrier on every channel, after everything emitted so far (SPEC 5.4).
    pub(crate) fn barrier<T: Send>(&mut self, barrier: Barrier)
    where
        X: Route<T>,
    {
        self.route.each(&mut |port| port.in_band(Control::Barrier(barrier)));
    }

    /// Puts the end of input on every channel, after everything emitted so far (SPEC 5.7).
    pub(crate) fn end<T: Send>(&mut self)
    where
        X: Route<T>,
    {
        self.route.each(&mut |port| port.in_band(Control::End));
    }

    /// The event time that was emitted.
    pub(crate) const fn standing(&self) -> Option<WatermarkStatus> {
        self.standing
    }

    /// Repeats the event time of the restored checkpoint (SPEC 16.4).
    pub(crate) fn resume<T: Send>(&mut self, standing: Option<WatermarkStatus>)
    where
        X: Route<T>,
    {
        self.standing = standing;
        for mark in standing.iter().flat_map(WatermarkStatus::marks) {
            self.route.each(&mut |port| port.in_band(Control::Mark(mark)));
        }
    }
}

impl<T: Send, X: Route<T>> Flow<T> for Output<X> {
    fn mark(&mut self, mark: Mark) {
        let mut standing = self.standing.unwrap_or_default();
        if standing.note(mark) {
            // Only if there was any: a task without event time has none after a restore either.
            self.standing = Some(standing);
            self.route.each(&mut |port| port.in_band(Control::Mark(mark)));
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
