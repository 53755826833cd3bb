//! A bounded ring for one producer and one consumer.
//!
//! The two sides share the slots and two counters that only grow. The producer writes a slot, then
//! publishes it by storing `tail`; the consumer reads it, then returns it by storing `head`. Each
//! side keeps the other's counter as it last saw it. It looks again only when that copy says full,
//! or empty, so that in the steady state neither touches the other's cache line.

// The only place of the crate, beside copy-on-write state, where a compiler cannot see that two
// threads do not touch the same memory.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use crossbeam_utils::CachePadded;

use crate::base::sync::{Arc, AtomicUsize, Ordering, UnsafeCell};

struct Ring<T> {
    /// Their number is a power of two. Slot `i & mask` holds the `i`-th message while `head <= i <
    /// tail`, and is empty otherwise.
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
    /// The number of messages taken; written by the consumer only.
    head: CachePadded<AtomicUsize>,
    /// The number of messages put; written by the producer only. Invariant: `head <= tail <= head +
    /// slots`.
    tail: CachePadded<AtomicUsize>,
}

// SAFETY: the producer accesses a slot only while it is outside `head..tail`, the consumer only
// while it is inside. The counters' release stores and acquire loads hand it over; so sharing a
// ring moves values of `T` between threads and no more.
unsafe impl<T: Send> Sync for Ring<T> {}
// SAFETY: as above; a ring owns the values in it.
unsafe impl<T: Send> Send for Ring<T> {}

/// The producer's side.
pub(crate) struct Producer<T> {
    ring: Arc<Ring<T>>,
    tail: usize,
    /// `head` as last seen; at most the true one.
    head: usize,
}

/// The consumer's side.
pub(crate) struct Consumer<T> {
    ring: Arc<Ring<T>>,
    head: usize,
    /// `tail` as last seen; at most the true one.
    tail: usize,
}

/// A ring with room for `slots` messages, rounded up to a power of two.
pub(crate) fn ring<T: Send>(slots: usize) -> (Producer<T>, Consumer<T>) {
    let slots = slots.max(1).next_power_of_two();
    let empty = || UnsafeCell::new(MaybeUninit::uninit());
    let ring = Arc::new(Ring {
        slots: std::iter::repeat_with(empty).take(slots).collect(),
        head: CachePadded::new(AtomicUsize::new(0)),
        tail: CachePadded::new(AtomicUsize::new(0)),
    });
    (Producer { ring: Arc::clone(&ring), tail: 0, head: 0 }, Consumer { ring, head: 0, tail: 0 })
}

impl<T: Send> Producer<T> {
    /// Appends a message.
    ///
    /// # Errors
    /// Returns it if the ring is full.
    pub(crate) fn push(&mut self, message: T) -> Result<(), T> {
        if !self.has_room() {
            return Err(message);
        }
        let slot = &self.ring.slots[self.tail & (self.ring.slots.len() - 1)];
        // SAFETY: `tail - head < slots`, so the slot is outside `head..tail`: it is the producer's,
        // there is one producer, and it is here by `&mut`. The consumer's last access to the slot
        // happened before its store of the `head` that was acquired.
        slot.with_mut(|slot| unsafe { (*slot).write(message) });
        self.tail += 1;
        self.ring.tail.store(self.tail, Ordering::Release);
        Ok(())
    }

    /// Whether a message can be put.
    pub(crate) fn has_room(&mut self) -> bool {
        if self.tail - self.head < self.ring.slots.len() {
            return true;
        }
        self.head = self.ring.head.load(Ordering::Acquire);
        self.tail - self.head < self.ring.slots.len()
    }
}

impl<T: Send> Consumer<T> {
    /// Takes the oldest message, if there is one.
    pub(crate) fn pop(&mut self) -> Option<T> {
        if self.head == self.tail {
            self.tail = self.ring.tail.load(Ordering::Acquire);
            if self.head == self.tail {
                return None;
            }
        }
        let slot = &self.ring.slots[self.head & (self.ring.slots.len() - 1)];
        // SAFETY: `head < tail`, so the slot is inside `head..tail` and initialised. The write of
        // it happened before the store of the `tail` that was acquired. It is the consumer's, there
        // is one consumer, and it is here by `&mut`. `head` moves on, so that the value is read
        // once.
        let message = slot.with_mut(|slot| unsafe { (*slot).assume_init_read() });
        self.head += 1;
        self.ring.head.store(self.head, Ordering::Release);
        Some(message)
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        let (head, tail) = (self.head.load(Ordering::Acquire), self.tail.load(Ordering::Acquire));
        for place in head..tail {
            let slot = &self.slots[place & (self.slots.len() - 1)];
            // SAFETY: `head <= place < tail`, so the slot is initialised; both sides are gone, for
            // this is the last owner.
            slot.with_mut(|slot| unsafe { (*slot).assume_init_drop() });
        }
    }
}

#[cfg(all(test, not(snapline_loom)))]
mod tests {
    use super::*;
    use crate::base::sync::thread;

    #[test]
    fn what_is_put_is_taken_in_order_and_no_more_fits_than_was_asked_for() {
        let (mut producer, mut consumer) = ring(2);
        assert_eq!(consumer.pop(), None);
        assert_eq!(producer.push(1), Ok(()));
        assert_eq!(producer.push(2), Ok(()));
        assert_eq!(producer.push(3), Err(3));
        assert_eq!(consumer.pop(), Some(1));
        assert_eq!(producer.push(3), Ok(()));
        assert_eq!((consumer.pop(), consumer.pop(), consumer.pop()), (Some(2), Some(3), None));
    }

    #[test]
    fn what_is_left_is_dropped_once() {
        let value = Arc::new(());
        let (mut producer, mut consumer) = ring(4);
        for _ in 0..3 {
            assert!(producer.push(Arc::clone(&value)).is_ok());
        }
        drop(consumer.pop());
        assert_eq!(Arc::strong_count(&value), 3);
        drop((producer, consumer));
        assert_eq!(Arc::strong_count(&value), 1);
    }

    #[test]
    fn nothing_is_lost_or_doubled_between_threads() {
        const COUNT: u64 = if cfg!(miri) { 500 } else { 100_000 };
        let (mut producer, mut consumer) = ring(8);
        let sender = thread::spawn(move || {
            for mut message in 0..COUNT {
                while let Err(back) = producer.push(message) {
                    message = back;
                    thread::yield_now();
                }
            }
        });
        let mut next = 0;
        while next < COUNT {
            match consumer.pop() {
                Some(message) => {
                    assert_eq!(message, next);
                    next += 1;
                }
                None => thread::yield_now(),
            }
        }
        sender.join().expect("the sender does not panic");
        assert_eq!(consumer.pop(), None);
    }
}
