//! Idempotent sinks: acknowledged writes are flushed.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use snapline::BoxError;
use snapline::connect::{
    ConnectError, Delivery, Idempotent, MemoryTable, OpenContext, SinkCommitter, SinkWriter,
    TwoPhaseSink, Upsert, UpsertWriter,
};
use snapline::protocol::committer::CommitOutcome::Committed;
use snapline::protocol::ids::Attempt;
use snapline_core::connect::testing::granted;

use crate::{attempt, context, txn, typed};

#[test]
fn written_twice_is_written_once() {
    let table = MemoryTable::new();
    let sink = Idempotent::new(table.clone());
    assert_eq!(sink.delivery(), Delivery::Idempotent);
    for number in 1..=2 {
        let life = attempt(1, number);
        let (mut writer, mut committer) = sink.open(&context(0, life)).expect("opens");
        assert!(committer.fence(life).expect("fences").is_empty());
        let mut batch = vec![("a", 1), ("b", 2), ("a", 3)];
        writer.write(&mut batch).expect("writes");
        assert!(batch.is_empty());
        writer.close(txn(1, life, 0)).expect("closes");
        committer.prepare(txn(1, life, 0), &()).expect("prepares");
        assert_eq!(committer.commit(granted(txn(1, life, 0)), &()).expect("answers"), Committed);
        assert_eq!(table.entries(), BTreeMap::from([("a", 3), ("b", 2)]));
    }
    assert_eq!(table.writes(), 6);
    assert_eq!(table.get(&"b"), Some(2));
}

#[test]
fn an_earlier_attempt_does_not_overwrite_what_a_later_one_wrote() {
    let table = MemoryTable::new();
    let sink = Idempotent::new(table.clone());
    let (first, second) = (attempt(1, 1), attempt(1, 2));
    let (mut deposed, mut its_committer) = sink.open(&context(0, first)).expect("opens");
    its_committer.fence(first).expect("fences");
    let (mut writer, mut committer) = sink.open(&context(0, second)).expect("opens");
    committer.fence(second).expect("fences");
    writer.write(&mut vec![("a", 2)]).expect("writes");
    let error = typed(deposed.write(&mut vec![("a", 1)]));
    assert!(matches!(error, ConnectError::Fenced { .. }), "{error}");
    let error = typed(its_committer.prepare(txn(1, first, 0), &()));
    assert!(matches!(error, ConnectError::Broken { .. }), "{error}");
    assert_eq!(table.get(&"a"), Some(2));
}

/// A target that records the calls on it, fails when asked to, and flushes only when allowed.
#[derive(Clone)]
struct Scripted {
    done: Arc<Mutex<Vec<String>>>,
    fail: Arc<Mutex<Option<&'static str>>>,
    gate: Arc<Mutex<Option<Gate>>>,
}

/// Signals that a flush has begun, and waits for permission to go on.
type Gate = (Sender<()>, Receiver<()>);

impl Scripted {
    fn new() -> Self {
        Self { done: Arc::default(), fail: Arc::default(), gate: Arc::default() }
    }

    fn done(&self) -> Vec<String> {
        self.done.lock().expect("whole").clone()
    }

    fn step(&self, step: &'static str, what: String) -> Result<(), BoxError> {
        match *self.fail.lock().expect("whole") {
            Some(failing) if failing == step => Err(format!("{step} failed").into()),
            _ => {
                self.done.lock().expect("whole").push(what);
                Ok(())
            }
        }
    }
}

impl Upsert for Scripted {
    type Key = u32;
    type Value = u32;
    type Writer = Self;

    fn open(&self, _: &OpenContext) -> Result<Self, BoxError> {
        Ok(self.clone())
    }
}

impl UpsertWriter for Scripted {
    type Key = u32;
    type Value = u32;

    fn upsert(&mut self, entries: &mut Vec<(u32, u32)>) -> Result<(), BoxError> {
        let keys: Vec<u32> = entries.drain(..).map(|(key, _)| key).collect();
        self.step("upsert", format!("{keys:?}"))
    }

    fn flush(&mut self) -> Result<(), BoxError> {
        if let Some((entered, leave)) = &*self.gate.lock().expect("whole") {
            entered.send(()).expect("the test waits for it");
            leave.recv().expect("the test lets it go");
        }
        self.step("flush", "flush".into())
    }

    fn fence(&mut self, attempt: Attempt) -> Result<(), BoxError> {
        self.step("fence", format!("fence {attempt}"))
    }
}

#[test]
fn the_writer_does_not_wait_for_a_flush_and_order_is_kept() {
    let target = Scripted::new();
    let (enter, entered) = channel();
    let (leave, left) = channel();
    *target.gate.lock().expect("whole") = Some((enter, left));
    let life = attempt(1, 1);
    let (mut writer, mut committer) =
        Idempotent::new(target.clone()).open(&context(0, life)).expect("opens");
    committer.fence(life).expect("fences");
    writer.write(&mut vec![(1, 0)]).expect("writes");
    writer.close(txn(1, life, 0)).expect("closes");
    std::thread::scope(|scope| {
        let flushing = scope.spawn(|| committer.prepare(txn(1, life, 0), &()));
        entered.recv().expect("it flushes");
        writer.write(&mut vec![(2, 0)]).expect("does not wait");
        writer.write(&mut vec![(3, 0)]).expect("does not wait");
        writer.close(txn(2, life, 0)).expect("does not wait");
        leave.send(()).expect("it waits");
        flushing.join().expect("no panic").expect("prepares");
    });
    assert_eq!(target.done(), ["fence 1.1", "[1]", "flush"]);
    *target.gate.lock().expect("whole") = None;
    committer.prepare(txn(2, life, 0), &()).expect("prepares");
    assert_eq!(target.done()[3..], ["[2, 3]", "flush"]);
}

#[test]
fn a_writer_far_ahead_of_a_flush_waits_for_it() {
    let target = Scripted::new();
    let (enter, entered) = channel();
    let (leave, left) = channel();
    *target.gate.lock().expect("whole") = Some((enter, left));
    let life = attempt(1, 1);
    let (mut writer, mut committer) =
        Idempotent::new(target.clone()).open(&context(0, life)).expect("opens");
    std::thread::scope(|scope| {
        let flushing = scope.spawn(|| committer.prepare(txn(1, life, 0), &()));
        entered.recv().expect("it flushes");
        let writing = scope.spawn(|| writer.write(&mut (0..100_000).map(|i| (i, i)).collect()));
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(!writing.is_finished());
        leave.send(()).expect("it waits");
        flushing.join().expect("no panic").expect("prepares");
        writing.join().expect("no panic").expect("writes");
    });
    assert_eq!(target.done().len(), 2, "a flush, and what was written meanwhile");
}

#[test]
fn what_failed_once_is_never_acknowledged() {
    for failing in ["upsert", "flush"] {
        let target = Scripted::new();
        let life = attempt(1, 1);
        let (mut writer, mut committer) =
            Idempotent::new(target.clone()).open(&context(0, life)).expect("opens");
        committer.fence(life).expect("fences");
        *target.fail.lock().expect("whole") = Some(failing);
        let written = writer.write(&mut vec![(1, 0)]);
        assert_eq!(written.is_err(), failing == "upsert");
        if failing == "flush" {
            assert!(committer.prepare(txn(1, life, 0), &()).is_err());
        }
        *target.fail.lock().expect("whole") = None;
        let error = typed(committer.prepare(txn(1, life, 0), &()));
        assert!(error.to_string().contains(&format!("{failing} failed")), "{error}");
        let error = typed(writer.write(&mut vec![(2, 0)]));
        assert!(matches!(error, ConnectError::Broken { .. }), "{error}");
    }
}

#[test]
fn a_target_that_panicked_is_never_acknowledged() {
    let life = attempt(1, 1);
    let target = Scripted::new();
    let (mut writer, mut committer) =
        Idempotent::new(target.clone()).open(&context(0, life)).expect("opens");
    let done = Arc::clone(&target.done);
    std::thread::spawn(move || {
        let _held = done.lock().expect("whole");
        panic!("on purpose, to make the next use of it panic");
    })
    .join()
    .expect_err("it panicked");
    std::thread::spawn(move || writer.write(&mut vec![(1, 0)])).join().expect_err("it panics");
    let error = typed(committer.prepare(txn(1, life, 0), &()));
    assert!(error.to_string().contains("its code panicked"), "{error}");
}
