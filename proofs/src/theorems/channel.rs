//! Channels between two parked threads: src/channel/mod.rs.

use crate::base::sync::{Arc, Parker, thread};
use crate::channel::{Message, Receiver, Sender, channel};
use crate::protocol::ids::CheckpointId;
use crate::protocol::message::{Barrier, CheckpointKind};

fn barrier(checkpoint: usize) -> Barrier {
    let checkpoint = CheckpointId::new(checkpoint as u64).expect("checkpoint ids are not zero");
    Barrier { checkpoint, base: None, kind: CheckpointKind::Periodic }
}

fn send<T: Send>(sender: &mut Sender<T>, here: &Parker, mut message: Message<T>) {
    while let Err(back) = sender.send(message) {
        message = back;
        here.park();
    }
}

fn receive<T: Send>(receiver: &mut Receiver<T>, there: &Parker) -> Message<T> {
    loop {
        match receiver.receive() {
            Some(message) => break message,
            None => there.park(),
        }
    }
}

/// With room for one message both sides sleep repeatedly, and both are woken. Barriers and the end
/// of input keep their places among the batches (SPEC 2.2).
pub(super) fn order(rounds: usize) {
    let (here, there) = (Parker::new(), Parker::new());
    let (mut sender, mut receiver) =
        channel::<usize>(1, here.unparker().clone(), there.unparker().clone());
    let producer = thread::spawn(move || {
        for round in 1..=rounds {
            send(&mut sender, &here, Message::Batch(vec![round]));
            send(&mut sender, &here, Message::Barrier(barrier(round)));
        }
        send(&mut sender, &here, Message::End);
    });
    for round in 1..=rounds {
        let batch = receive(&mut receiver, &there);
        assert!(matches!(batch, Message::Batch(batch) if batch == [round]), "not in order");
        let between = receive(&mut receiver, &there);
        assert!(
            matches!(between, Message::Barrier(other) if other == barrier(round)),
            "not in order"
        );
    }
    assert!(matches!(receive(&mut receiver, &there), Message::End), "not in order");
    producer.join().expect("the producer does not panic");
}

/// A returned buffer is empty, is used by one side at a time, and its content is dropped once,
/// whichever end goes first.
pub(super) fn buffers(count: usize) {
    let value = Arc::new(());
    let (here, there) = (Parker::new(), Parker::new());
    let (mut sender, mut receiver) = channel(2, here.unparker().clone(), there.unparker().clone());
    let producer = {
        let value = Arc::clone(&value);
        thread::spawn(move || {
            for _ in 0..count {
                let mut batch = sender.buffer(1);
                assert!(batch.is_empty(), "a buffer is empty");
                batch.push(Arc::clone(&value));
                // A full channel returns the batch, and the sender drops it with its content.
                let _ = sender.send(Message::Batch(batch));
            }
        })
    };
    for _ in 0..count {
        if let Some(Message::Batch(batch)) = receiver.receive() {
            assert_eq!(batch.len(), 1);
            receiver.give_back(batch);
        }
    }
    drop(receiver);
    producer.join().expect("the producer does not panic");
    assert_eq!(Arc::strong_count(&value), 1);
}
