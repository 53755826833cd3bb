//! A thread's mailbox: any number of senders, one reader, in the order of arrival. Leaving a
//! message never waits.

use std::collections::VecDeque;
use std::time::Instant;

use crate::base::sync::{Arc, AtomicBool, Mutex, Ordering, Parker, Unparker, lock};

struct Queue<M> {
    messages: VecDeque<M>,
    /// Whether messages are still accepted.
    open: bool,
}

struct MailboxShared<M> {
    queue: Mutex<Queue<M>>,
    /// Whether there are messages; written under the lock. A polling reader looks here first. A
    /// reader that a message has woken sees the flag: it is stored before the token is left.
    any: AtomicBool,
}

/// The reader's end, and the parker of its thread.
pub struct Mailbox<M> {
    shared: Arc<MailboxShared<M>>,
    parker: Parker,
}

/// A sender's end.
pub struct MailboxSender<M> {
    shared: Arc<MailboxShared<M>>,
    reader: Unparker,
}

impl<M> Clone for MailboxSender<M> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), reader: self.reader.clone() }
    }
}

impl<M> MailboxSender<M> {
    /// Leaves a message and wakes the reader.
    ///
    /// # Errors
    /// Returns the message if the mailbox is closed or gone.
    pub fn send(&self, message: M) -> Result<(), M> {
        let mut queue = lock(&self.shared.queue);
        if !queue.open {
            return Err(message);
        }
        queue.messages.push_back(message);
        self.shared.any.store(true, Ordering::Relaxed);
        drop(queue);
        self.reader.unpark();
        Ok(())
    }

    /// Accepts no more messages. Those that are there can still be read; then [`Mailbox::wait`]
    /// returns that none follows.
    pub fn close(&self) {
        lock(&self.shared.queue).open = false;
        self.reader.unpark();
    }
}

impl<M> MailboxSender<M> {
    /// A sender that wakes no reader: a fault, for a simulation to find.
    pub fn silenced(self) -> Self {
        Self { reader: Parker::new().unparker().clone(), ..self }
    }
}

impl<M> Default for Mailbox<M> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M> Mailbox<M> {
    /// An empty mailbox.
    pub fn new() -> Self {
        let queue = Mutex::new(Queue { messages: VecDeque::new(), open: true });
        let shared = Arc::new(MailboxShared { queue, any: AtomicBool::new(false) });
        Self { shared, parker: Parker::new() }
    }

    /// A sender's end.
    pub fn post(&self) -> MailboxSender<M> {
        MailboxSender { shared: Arc::clone(&self.shared), reader: self.parker.unparker().clone() }
    }

    /// What wakes the reader.
    pub const fn unparker(&self) -> &Unparker {
        self.parker.unparker()
    }

    /// Takes the oldest message, if there is one. Costs a load if there is none.
    pub fn take(&self) -> Option<M> {
        if !self.shared.any.load(Ordering::Relaxed) {
            return None;
        }
        self.next(&mut lock(&self.shared.queue))
    }

    /// Takes the oldest message, and waits for it if there is none; `None` if there is none and
    /// none follows.
    pub fn wait(&self) -> Option<M> {
        loop {
            let mut queue = lock(&self.shared.queue);
            let message = self.next(&mut queue);
            if message.is_some() || !queue.open {
                return message;
            }
            drop(queue);
            self.parker.park();
        }
    }

    fn next(&self, queue: &mut Queue<M>) -> Option<M> {
        let message = queue.messages.pop_front();
        self.shared.any.store(!queue.messages.is_empty(), Ordering::Relaxed);
        message
    }

    /// Sleeps until a thread wakes the reader, as a sender of a message does, or until then.
    /// Returns at once if the reader was woken since it last slept.
    pub fn sleep(&self, until: Option<Instant>) {
        match until {
            Some(until) => self.parker.park_deadline(until),
            None => self.parker.park(),
        }
    }
}

impl<M> Drop for Mailbox<M> {
    fn drop(&mut self) {
        let mut queue = lock(&self.shared.queue);
        queue.open = false;
        let unread = std::mem::take(&mut queue.messages);
        // Without the lock: what goes with a message may be anything, a sender to this mailbox too.
        drop(queue);
        drop(unread);
    }
}

#[cfg(all(test, not(snapline_loom)))]
mod tests {
    use super::*;
    use crate::base::sync::thread;

    #[test]
    fn messages_keep_their_order_and_a_closed_box_is_read_to_its_end() {
        let mailbox = Mailbox::new();
        let post = mailbox.post();
        assert_eq!(mailbox.take(), None);
        assert_eq!((post.send(1), post.send(2), post.send(3)), (Ok(()), Ok(()), Ok(())));
        post.close();
        assert_eq!(post.send(4), Err(4));
        assert_eq!((mailbox.take(), mailbox.wait(), mailbox.take()), (Some(1), Some(2), Some(3)));
        assert_eq!((mailbox.take(), mailbox.wait()), (None, None));
    }

    #[test]
    fn what_nobody_reads_is_dropped_though_it_sends_to_the_very_box() {
        struct Parting(MailboxSender<Option<Parting>>);
        impl Drop for Parting {
            fn drop(&mut self) {
                assert!(self.0.send(None).is_err(), "it has no reader any more");
            }
        }
        let mailbox = Mailbox::new();
        let post = mailbox.post();
        assert!(post.send(Some(Parting(post.clone()))).is_ok());
        drop(mailbox);
        assert_eq!(Arc::strong_count(&post.shared), 1, "the message is gone");
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        const COUNT: u32 = if cfg!(miri) { 200 } else { 20_000 };
        let mailbox = Mailbox::new();
        let senders = [0, 1].map(|sender| {
            let post = mailbox.post();
            thread::spawn(move || {
                for number in 0..COUNT {
                    assert!(post.send((sender, number)).is_ok());
                }
            })
        });
        let mut next = [0; 2];
        while next != [COUNT; 2] {
            let (sender, number) = mailbox.wait().expect("it is not closed");
            assert_eq!(number, next[sender]);
            next[sender] += 1;
        }
        for sender in senders {
            sender.join().expect("a sender does not panic");
        }
    }
}

/// The simulator's access to a mailbox.
#[cfg(feature = "sim")]
impl<M> Mailbox<M> {
    /// Whether there is a message to take.
    pub fn has_any(&self) -> bool {
        self.shared.any.load(Ordering::Relaxed)
    }

    /// The parker of its reader.
    pub const fn parker(&self) -> &Parker {
        &self.parker
    }
}
