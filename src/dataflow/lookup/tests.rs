//! The operator by hand, where no thread can be had.

use std::io;

use super::*;
use crate::base::fault::Faults;
use crate::executor::call_pool::CallHost;
use crate::executor::io_pool::IoPool;
use snapline_core::connect::Collect;
use snapline_protocol::ids::{Attempt, Term};

/// The task's failure.
#[derive(Default)]
struct Collected(Vec<String>);

impl Collect<(u64, u64)> for Collected {
    fn push(&mut self, record: (u64, u64)) {
        panic!("no call has answered: {record:?}");
    }

    fn fail(&mut self, error: BoxError) {
        self.0.push(error.to_string());
    }
}

impl Flow<(u64, u64)> for Collected {
    fn mark(&mut self, _: Mark) {}
}

fn none_left(_: String, _: Box<dyn FnOnce() + Send>) -> io::Result<()> {
    Err(io::Error::other("no thread is left"))
}

type Tenfold = fn(&u64) -> Result<u64, BoxError>;

/// The operator after a restore: the checkpoint's records were to be looked up at once, and no
/// thread could be had for it.
fn restored() -> LookingUp<u64, Tenfold> {
    let tenfold: Tenfold = |number| Ok(number * 10);
    let mut looking = LookingUp::new(Lookup::ordered(tenfold));
    let place = OpenContext::new("job", "lookup", 0, 1, Attempt::first(Term::new(1)));
    let host = CallHost {
        io_pool: Arc::new(IoPool::start(1).expect("threads of the test's own")),
        wake: Arc::new(|| {}),
        over: Arc::default(),
        subtask: 0,
        begin: none_left,
    };
    let context = TaskContext {
        place,
        key_groups: 1,
        seed: crate::state::HashSeed::CONSTANT,
        retained: 1,
        host,
        clocks: std::cell::Cell::default(),
        faults: Faults::default(),
    };
    looking.open(&context, None).expect("there is nothing to restore");
    looking.enqueue(7);
    looking.fill();
    looking
}

/// SPEC 15.10: the input may be silent for ever, or have ended, and no answer comes.
#[test]
fn that_no_thread_can_be_had_for_a_restored_record_is_told_at_once() {
    let mut looking = restored();
    let now = Timestamp::from(looking.clock.date());
    assert!(looking.wake().is_some_and(|at| at <= now + Duration::from_secs(1)));
    let mut out = Collected::default();
    looking.due(now, &mut out);
    assert_eq!(out.0, ["no thread is left"]);

    let mut out = Collected::default();
    assert_eq!(restored().end(&mut out), Ending::Waiting);
    assert_eq!(out.0, ["no thread is left"]);
}
