//! Mailboxes: core/src/base/sync/mailbox.rs.

use crate::base::sync::{Arc, Mailbox, MailboxSender, thread};

/// Two senders; a reader that polls and sleeps, as a worker does. Everything arrives, and each
/// sender's messages in the order in which they were sent.
pub(super) fn order(count: usize) {
    let mailbox = Mailbox::new();
    // The second sender sends one message, which may come between any two of the first.
    let senders = [count + 1, 1].map(|count| (mailbox.post(), count));
    let mut sender = 0;
    let senders = senders.map(|(post, count)| {
        let me = sender;
        sender += 1;
        thread::spawn(move || {
            (0..count).for_each(|number| assert!(post.send((me, number)).is_ok()))
        })
    });
    let mut next = [0, 0];
    while next != [count + 1, 1] {
        match mailbox.take() {
            Some((sender, number)) => {
                assert_eq!(number, next[sender]);
                next[sender] += 1;
            }
            None => mailbox.sleep(None),
        }
    }
    assert!(mailbox.take().is_none());
    for sender in senders {
        sender.join().expect("a sender does not panic");
    }
}

/// A message that holds a sender of the very mailbox.
struct Parting {
    post: MailboxSender<Parting>,
    _value: Arc<()>,
}

impl Drop for Parting {
    fn drop(&mut self) {
        // In any case, no thread waits: not for the lock either.
        self.post.close();
    }
}

/// The reader goes while a sender sends: each message is returned, read, or dropped with the
/// mailbox, once.
pub(super) fn dropped(count: usize) {
    let value = Arc::new(());
    let mailbox = Mailbox::new();
    let post = mailbox.post();
    let sender = {
        let (post, value) = (post.clone(), Arc::clone(&value));
        thread::spawn(move || {
            for _ in 0..count {
                let _ = post.send(Parting { post: post.clone(), _value: Arc::clone(&value) });
            }
        })
    };
    drop(mailbox.take());
    drop(mailbox);
    sender.join().expect("the sender does not panic");
    // A sender's end still exists; no message does.
    assert_eq!(Arc::strong_count(&value), 1);
    drop(post);
}
