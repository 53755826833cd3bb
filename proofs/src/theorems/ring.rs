//! The ring by itself: src/channel/ring.rs.

use crate::base::sync::{Arc, thread};
use crate::rig::{panic_here, that_panics};
use crate::ring::{Producer, ring};

/// Pushed values are popped, in order, once; and no slot is used by both sides at a time (which
/// loom tracks).
pub(super) fn order(count: usize) {
    let (mut producer, mut consumer) = ring(2);
    let sender = thread::spawn(move || {
        for mut number in 0..count {
            while let Err(back) = producer.push(number) {
                number = back;
                thread::yield_now();
            }
        }
    });
    for expected in 0..count {
        let number = loop {
            match consumer.pop() {
                Some(number) => break number,
                None => thread::yield_now(),
            }
        };
        assert_eq!(number, expected);
    }
    sender.join().expect("the sender does not panic");
    assert_eq!(consumer.pop(), None);
}

/// With one slot it is always full or empty: a returned value was not pushed, and the ring accepts
/// only as many as fit.
pub(super) fn edges(count: usize) {
    let (mut producer, mut consumer) = ring(1);
    let sender = thread::spawn(move || {
        let accepted = (0..count).filter(|&number| match producer.push(number) {
            Ok(()) => true,
            Err(back) => {
                assert_eq!(back, number);
                false
            }
        });
        accepted.collect::<Vec<_>>()
    });
    let mut taken: Vec<usize> = (1..count).filter_map(|_| consumer.pop()).collect();
    let accepted = sender.join().expect("the sender does not panic");
    assert!(accepted.len() - taken.len() <= 1, "more than fit: {accepted:?}, {taken:?}");
    taken.extend(consumer.pop());
    assert_eq!(taken, accepted);
    assert_eq!(accepted.first(), Some(&0), "an empty ring takes one");
}

fn fill(producer: &mut Producer<Arc<()>>, value: &Arc<()>, count: usize) {
    for _ in 0..count {
        // A value that does not fit is dropped here.
        let _ = producer.push(Arc::clone(value));
    }
}

/// The last end drops the remaining values, once.
pub(super) fn dropped(count: usize) {
    let value = Arc::new(());
    let (mut producer, mut consumer) = ring(2);
    let sender = {
        let value = Arc::clone(&value);
        thread::spawn(move || fill(&mut producer, &value, count))
    };
    drop(consumer.pop());
    drop(consumer);
    sender.join().expect("the sender does not panic");
    assert_eq!(Arc::strong_count(&value), 1);
}

/// The same if both ends go by a panic.
pub(super) fn panics(count: usize) {
    let value = Arc::new(());
    let (producer, mut consumer) = ring(2);
    let sender = {
        let value = Arc::clone(&value);
        thread::spawn(move || {
            that_panics(move || {
                // By value: dropped as the panic passes.
                let mut producer = producer;
                fill(&mut producer, &value, count);
                panic_here();
            });
        })
    };
    that_panics(move || {
        let held = consumer.pop();
        let _consumer = consumer;
        let _held = held;
        panic_here();
    });
    sender.join().expect("the panic was caught");
    assert_eq!(Arc::strong_count(&value), 1);
}
