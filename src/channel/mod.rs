//! Bounded channels between subtasks: batches of records, with barriers and the end of input in
//! band.
//!
//! One producer, one consumer. A [`ring`] of messages goes one way and a ring of spent buffers
//! back, so that in the steady state no batch is allocated. Neither side ever waits. A full channel
//! returns the message and remembers to wake the producer's worker when there is room again; a
//! message that is put wakes the consumer's.
//!
//! # No wake-up is lost
//! A side that finds nothing to do sets its wake request and looks once more *after* that. The
//! other side looks at the request *after* it has changed the channel. A sequentially consistent
//! fence between the two on both sides makes one of them see the other. For the consumer the
//! request is the token of its worker's parker; for the producer it is `producer_waiting`.

mod batch_builder;
mod ring;

use snapline_protocol::message::Barrier;

use crate::base::sync::{Arc, AtomicBool, Ordering, Unparker, fence};
pub(crate) use batch_builder::BatchBuilder;
use ring::{Consumer, Producer, ring};

/// Event time in a channel, in order with its records (SPEC 16.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mark {
    /// No record of this time or an earlier one follows, except late ones; in milliseconds.
    Watermark(i64),
    /// The consumer stops waiting for this channel's watermark.
    Idle,
    /// Its watermark counts again.
    Active,
}

/// A message in a channel.
#[derive(Debug)]
pub(crate) enum Message<T> {
    /// Records, at least one.
    Batch(Vec<T>),
    /// Separates what belongs to a checkpoint from what does not.
    Barrier(Barrier),
    /// Event time; the protocol ignores it (SPEC 16.2).
    Mark(Mark),
    /// No record follows; barriers may (SPEC 5.7).
    End,
}

/// The producer's end.
pub(crate) struct Sender<T> {
    messages: Producer<Message<T>>,
    spent: Consumer<Vec<T>>,
    /// Spent buffers that have come back; the last is the one used last, and most likely still in a
    /// cache.
    spare: Vec<Vec<T>>,
    producer_waiting: Arc<AtomicBool>,
    /// Wakes the worker that hosts the consumer.
    consumer: Unparker,
}

/// The consumer's end.
pub(crate) struct Receiver<T> {
    messages: Consumer<Message<T>>,
    spent: Producer<Vec<T>>,
    producer_waiting: Arc<AtomicBool>,
    /// Wakes the worker that hosts the producer.
    producer: Unparker,
}

/// A channel for `capacity` messages, between two subtasks whose workers these wake.
pub(crate) fn channel<T: Send>(
    capacity: usize,
    producer: Unparker,
    consumer: Unparker,
) -> (Sender<T>, Receiver<T>) {
    let (put, taken) = ring(capacity);
    // Room for all buffers: those of a full channel, one being filled, one being emptied.
    let (give_back, spent) = ring(capacity + 2);
    let producer_waiting = Arc::new(AtomicBool::new(false));
    (
        Sender {
            messages: put,
            spent,
            spare: Vec::new(),
            producer_waiting: Arc::clone(&producer_waiting),
            consumer,
        },
        Receiver { messages: taken, spent: give_back, producer_waiting, producer },
    )
}

impl<T: Send> Sender<T> {
    /// Puts a message and wakes the consumer.
    ///
    /// # Errors
    /// Returns the message if the channel is full; the producer's worker is woken when there is
    /// room.
    pub(crate) fn send(&mut self, message: Message<T>) -> Result<(), Message<T>> {
        let message = match self.messages.push(message) {
            Ok(()) => {
                self.consumer.unpark();
                return Ok(());
            }
            Err(message) => message,
        };
        self.producer_waiting.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.messages.push(message).map(|()| {
            self.producer_waiting.store(false, Ordering::Relaxed);
            self.consumer.unpark();
        })
    }

    /// An empty buffer: a spent one if the consumer has returned one, else a new one with this
    /// capacity.
    pub(crate) fn buffer(&mut self, capacity: usize) -> Vec<T> {
        while let Some(buffer) = self.spent.pop() {
            self.spare.push(buffer);
        }
        self.spare.pop().unwrap_or_else(|| Vec::with_capacity(capacity))
    }
}

impl<T: Send> Receiver<T> {
    /// Takes the oldest message, and wakes the producer if it waits for room.
    pub(crate) fn receive(&mut self) -> Option<Message<T>> {
        let message = self.messages.pop()?;
        fence(Ordering::SeqCst);
        if self.producer_waiting.load(Ordering::Relaxed) {
            self.producer_waiting.store(false, Ordering::Relaxed);
            self.producer.unpark();
        }
        Some(message)
    }

    /// Returns a buffer to the producer, emptied.
    pub(crate) fn give_back(&mut self, mut buffer: Vec<T>) {
        buffer.clear();
        // A full ring of spent buffers has more than the producer can use: this one is dropped.
        let _ = self.spent.push(buffer);
    }
}

#[cfg(all(test, not(snapline_loom)))]
mod tests {
    use super::*;
    use crate::base::sync::{Parker, thread};

    #[test]
    fn buffers_travel_back() {
        let (here, there) = (Parker::new(), Parker::new());
        let (mut sender, mut receiver) =
            channel::<u8>(2, here.unparker().clone(), there.unparker().clone());
        let mut batch = sender.buffer(16);
        batch.push(7);
        let at = batch.as_ptr();
        assert!(sender.send(Message::Batch(batch)).is_ok());
        let Some(Message::Batch(batch)) = receiver.receive() else { panic!("a batch was put") };
        receiver.give_back(batch);
        let batch = sender.buffer(16);
        assert!(batch.is_empty() && batch.as_ptr() == at, "the same buffer, emptied");
    }

    #[test]
    fn both_sides_sleep_and_nothing_is_lost() {
        const COUNT: u32 = if cfg!(miri) { 200 } else { 20_000 };
        let (here, there) = (Parker::new(), Parker::new());
        let (mut sender, mut receiver) =
            channel::<u32>(2, here.unparker().clone(), there.unparker().clone());
        let producer = thread::spawn(move || {
            for number in 0..COUNT {
                let mut message = Message::Batch(vec![number]);
                while let Err(back) = sender.send(message) {
                    message = back;
                    here.park();
                }
            }
        });
        for expected in 0..COUNT {
            let batch = loop {
                match receiver.receive() {
                    Some(Message::Batch(batch)) => break batch,
                    Some(other) => panic!("{other:?}"),
                    None => there.park(),
                }
            };
            assert_eq!(batch, [expected]);
        }
        producer.join().expect("the producer does not panic");
    }
}
