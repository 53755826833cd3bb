//! A worker's run loop and its end: src/executor/run_loop.rs.

use crate::base::sync::{
    Arc, AtomicBool, AtomicUsize, Mailbox, Ordering, Parker, Unparker, thread,
};
use crate::channel::{Message, Receiver, Sender, channel};
use crate::executor::run_loop::{HostedTask, Step, end, turn};

/// The input that a task has seen.
#[derive(Clone)]
struct Seen {
    news: Arc<AtomicUsize>,
    batches: Arc<AtomicUsize>,
    looker: Unparker,
}

/// A task: events from the mailbox, batches from a channel.
struct Guest {
    input: Receiver<Arc<()>>,
    seen: Seen,
    /// As a source does: it works once before it finds nothing to do.
    warm: bool,
}

impl HostedTask for Guest {
    type Event = Arc<()>;
    type Failure = ();

    fn on_event(&mut self, _: Arc<()>) -> Result<(), ()> {
        self.seen.news.fetch_add(1, Ordering::Relaxed);
        self.seen.looker.unpark();
        Ok(())
    }

    fn steps_in_a_row(&self) -> u32 {
        2
    }

    fn step(&mut self) -> Result<Step, ()> {
        if !self.warm {
            self.warm = true;
            return Ok(Step::Worked);
        }
        match self.input.receive() {
            Some(Message::Batch(batch)) => {
                self.seen.batches.fetch_add(batch.len(), Ordering::Relaxed);
                self.seen.looker.unpark();
                Ok(Step::Worked)
            }
            Some(_) => Ok(Step::Worked),
            None => Ok(Step::Idle),
        }
    }
}

/// Gives a worker with one task batches and an event; `all_of_it` says whether to wait until the
/// task has seen them.
fn host(count: usize, all_of_it: bool) {
    let value = Arc::new(());
    let (me, mailbox) = (Parker::new(), Mailbox::new());
    let (post, worker) = (mailbox.post(), mailbox.unparker().clone());
    let (mut sender, input) = channel(2, me.unparker().clone(), worker.clone());
    let over = Arc::new(AtomicBool::new(false));
    let counter = || Arc::new(AtomicUsize::new(0));
    let seen = Seen { news: counter(), batches: counter(), looker: me.unparker().clone() };
    let thread = {
        let (over, seen) = (Arc::clone(&over), seen.clone());
        thread::spawn(move || {
            let mut guests = [Guest { input, seen, warm: false }];
            assert_eq!(turn(&mailbox, &mut guests, &over), Ok(()));
        })
    };
    for _ in 0..count {
        let mut message = Message::Batch(vec![Arc::clone(&value)]);
        while let Err(back) = sender.send(message) {
            message = back;
            me.park();
        }
    }
    assert!(post.send((0, Arc::clone(&value))).is_ok());
    if all_of_it {
        let all = || {
            let loads = [&seen.batches, &seen.news].map(|count| count.load(Ordering::Relaxed));
            loads == [count, 1]
        };
        while !all() {
            me.park();
        }
    }
    end(&over, &[worker]);
    thread.join().expect("the worker does not panic");
    // The ends held here still exist: messages in flight must not be in them.
    assert!(post.send((0, Arc::clone(&value))).is_err());
    drop(sender);
    assert_eq!(Arc::strong_count(&value), 1);
}

/// A worker sees all its input, although it sleeps whenever it finds nothing to do.
pub(super) fn wakes(count: usize) {
    host(count, true);
}

/// A worker ends when it is asked to, whatever it does; messages in flight are dropped, once.
pub(super) fn ends(count: usize) {
    host(count, false);
}

/// A task whose output goes to another's input.
struct Source {
    output: Sender<Arc<()>>,
    waiting: Option<Message<Arc<()>>>,
    left: usize,
    value: Arc<()>,
}

impl HostedTask for Source {
    type Event = Arc<()>;
    type Failure = ();

    fn on_event(&mut self, _: Arc<()>) -> Result<(), ()> {
        Ok(())
    }

    fn steps_in_a_row(&self) -> u32 {
        1
    }

    fn step(&mut self) -> Result<Step, ()> {
        if self.waiting.is_none() && self.left > 0 {
            self.left -= 1;
            self.waiting = Some(Message::Batch(vec![Arc::clone(&self.value)]));
        }
        let Some(message) = self.waiting.take() else { return Ok(Step::Idle) };
        self.waiting = self.output.send(message).err();
        Ok(if self.waiting.is_none() { Step::Worked } else { Step::Idle })
    }
}

fn pair(count: usize, all_of_it: bool) {
    let value = Arc::new(());
    let me = Parker::new();
    let [first, second] = [Mailbox::new(), Mailbox::new()];
    let workers = [first.unparker().clone(), second.unparker().clone()];
    let (output, input) = channel(1, workers[0].clone(), workers[1].clone());
    let over = Arc::new(AtomicBool::new(false));
    let counter = || Arc::new(AtomicUsize::new(0));
    let seen = Seen { news: counter(), batches: counter(), looker: me.unparker().clone() };
    let batches = Arc::clone(&seen.batches);
    let threads = [
        {
            let (over, value) = (Arc::clone(&over), Arc::clone(&value));
            thread::spawn(move || {
                let mut tasks = [Source { output, waiting: None, left: count, value }];
                assert_eq!(turn(&first, &mut tasks, &over), Ok(()));
            })
        },
        {
            let over = Arc::clone(&over);
            thread::spawn(move || {
                let mut tasks = [Guest { input, seen, warm: true }];
                assert_eq!(turn(&second, &mut tasks, &over), Ok(()));
            })
        },
    ];
    while all_of_it && batches.load(Ordering::Relaxed) < count {
        me.park();
    }
    end(&over, &workers);
    for thread in threads {
        thread.join().expect("a worker does not panic");
    }
    assert_eq!(Arc::strong_count(&value), 1);
}

/// Two workers with a channel for one message between them: a full one and an empty one each put a
/// worker to sleep, and every message arrives.
pub(super) fn pair_wakes(count: usize) {
    pair(count, true);
}

/// The two end whatever is in flight between them; it is dropped, once.
pub(super) fn pair_ends(count: usize) {
    pair(count, false);
}
