//! Checkpoints restored into jobs of the same operators that are wired in another way (SPEC 15.6):
//! state belongs to the operator's name.

use std::collections::BTreeSet;

use snapline::connect::{Collect, MemorySink, OpenContext, Progress, Source, SourceReader};
use snapline::state::List;
use snapline::store::MemoryStore;
use snapline::{
    BoxError, Dataflow, Emit, Ended, FromInputs, Identity, JobError, JobHandle, Pipe, Stream,
    Timestamp, Tumbling, Watermarks,
};

use crate::kit::{assert_ended, in_memory, ms, until, wait};

/// A key, and a number unique to the record.
type Record = (u64, u64);
type Branch = Stream<FromInputs<Identity<Record>>>;

/// Records of each source: `a` has the numbers from 0, `b` the numbers after those.
const COUNT: u64 = 4_000;

/// All records of both sources, in two branches each.
struct Inputs {
    a: (Branch, Branch),
    b: (Branch, Branch),
}

/// The first run of a job gets a quarter of the input and then waits for more until it is
/// suspended.
#[derive(Clone, Copy, PartialEq)]
enum Life {
    First,
    Second,
}

/// This many records from a number on, divided among the subtasks.
#[derive(Clone)]
struct Numbers {
    from: u64,
    life: Life,
}

impl Source for Numbers {
    type Record = Record;
    type Position = u64;
    type Reader = NumbersReader;

    fn open(
        &self,
        context: &OpenContext,
        position: Option<u64>,
    ) -> Result<NumbersReader, BoxError> {
        let next = position.unwrap_or(context.index as u64);
        Ok(NumbersReader { next, step: context.parallelism as u64, numbers: self.clone() })
    }
}

struct NumbersReader {
    next: u64,
    step: u64,
    numbers: Numbers,
}

impl SourceReader for NumbersReader {
    type Record = Record;
    type Position = u64;

    fn read<C: Collect<Record>>(
        &mut self,
        limit: usize,
        out: &mut C,
    ) -> Result<Progress, BoxError> {
        let Numbers { from, life } = self.numbers;
        let end = if life == Life::First { COUNT / 4 } else { COUNT };
        for _ in 0..limit.min(20) {
            if self.next >= end {
                break;
            }
            out.push((self.next % 7, from + self.next));
            self.next += self.step;
        }
        Ok(match life {
            _ if self.next < end => Progress::More,
            Life::First => Progress::Wait(ms(1)),
            Life::Second => Progress::End,
        })
    }

    fn position(&self) -> u64 {
        self.next
    }
}

fn inputs(flow: &Dataflow, life: Life) -> Inputs {
    let source = |name, from| flow.source(name, Numbers { from, life }).fork();
    Inputs { a: source("a", 0), b: source("b", COUNT) }
}

/// The branches without state, all into one sink.
fn rest(two: Branch, three: Branch, four: Branch, sink: &MemorySink<u64>) {
    two.named("two")
        .union(three.named("three"))
        .named("two-and-three")
        .union(four.named("four"))
        .named("rest")
        .map(|(_, number)| number)
        .sink("others", sink.clone());
}

type Lists = MemorySink<(u64, List<u64>)>;

/// Lists of the numbers of each key.
fn lists<P: Pipe<Out = Record>>(one: Stream<P>, sink: &Lists) {
    one.named("one")
        .keyed()
        .aggregate(Emit::AtEnd, |list: &mut List<u64>, number| list.push(number))
        .named("lists")
        .sink("out", sink.clone());
}

/// Runs a job until an operator has received records, and suspends it.
fn suspend(handle: JobHandle, operator: &str) {
    let got = || {
        let tasks = handle.status().tasks;
        tasks.iter().any(|task| task.operator == operator && task.records_in > 0)
    };
    until("records have come", got);
    handle.suspend();
    assert_ended(wait(handle), Ended::Suspended);
}

fn spawn(flow: Dataflow, store: &MemoryStore) -> JobHandle {
    flow.build(in_memory(store).key_groups(16)).expect("builds").spawn().expect("starts")
}

/// Each number of both sources is there twice, once for each branch.
fn assert_twice(mut found: Vec<u64>) {
    found.sort_unstable();
    assert!(found.iter().copied().eq((0..4 * COUNT).map(|twice| twice / 2)), "{}", found.len());
}

/// SPEC 15.6
#[test]
fn state_is_found_by_operators_whose_inputs_come_from_elsewhere() {
    let (store, sink, others) = (MemoryStore::new(), Lists::new(), MemorySink::new());
    let flow = Dataflow::new("wired");
    let Inputs { a, b } = inputs(&flow, Life::First);
    lists(a.0, &sink);
    rest(b.0, a.1, b.1, &others);
    suspend(spawn(flow, &store), "lists");

    // `b` where `a` was and vice versa, and operators without state in between.
    let flow = Dataflow::new("wired");
    let Inputs { a, b } = inputs(&flow, Life::Second);
    lists(b.0.filter(|_| true).map(|(key, number)| (key, number)), &sink);
    rest(a.0, a.1, b.1, &others);
    let outcome = assert_ended(wait(spawn(flow, &store)), Ended::Finished);
    assert!(outcome.status.restored_from.is_some());

    let listed: Vec<u64> =
        sink.committed().iter().flat_map(|(_, list)| list.iter().copied()).collect();
    let of_a = listed.iter().filter(|number| **number < COUNT).count();
    assert!(of_a > 0 && of_a < listed.len(), "{of_a} of {} are from before", listed.len());
    let keyed = sink
        .committed()
        .iter()
        .all(|(key, list)| list.iter().all(|number| number % COUNT % 7 == *key));
    assert!(keyed && sink.committed().len() == 7);
    assert_twice([listed, others.committed()].concat());
}

/// SPEC 15.6: a key cannot be restored as another type.
#[test]
fn state_whose_keys_are_of_another_type_is_refused() {
    let (store, sink, others) = (MemoryStore::new(), Lists::new(), MemorySink::new());
    let flow = Dataflow::new("wired");
    let Inputs { a, b } = inputs(&flow, Life::First);
    lists(a.0, &sink);
    rest(b.0, a.1, b.1, &others);
    suspend(spawn(flow, &store), "lists");

    let flow = Dataflow::new("wired");
    let Inputs { a, b } = inputs(&flow, Life::Second);
    a.0.named("one")
        .map(|(key, number)| (key.to_string(), number))
        .named("one")
        .keyed()
        .aggregate(Emit::AtEnd, |list: &mut List<u64>, number| list.push(number))
        .map(|(key, list)| (key.parse().unwrap_or(0), list))
        .named("lists")
        .sink("out", sink.clone());
    rest(b.0, a.1, b.1, &others);
    match wait(spawn(flow, &store)) {
        Err(ref error @ JobError::Failed(ref failure)) => {
            assert_eq!(failure.operator, "lists");
            let text = error.to_string();
            assert!(text.contains("String"), "{text}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(sink.committed_count(), 0);
}

/// A key, the start of a window, and the numbers in it.
type Windows = MemorySink<(u64, i64, List<u64>)>;

/// Lists of the numbers of each key and window, and those that come too late. The numbers of `a`
/// are further apart in time.
fn windows<P: Pipe<Out = Record>>(one: Stream<P>, sink: &Windows, late: &MemorySink<u64>) {
    let at = |&(_, number): &Record| {
        let time = if number < COUNT { 10 * number } else { number - COUNT };
        Timestamp::from_millis(time as i64)
    };
    let (fired, too_late) = one
        .assign_timestamps(Watermarks::monotonous(), at)
        .named("one")
        .keyed()
        .window(Tumbling::of(ms(500)))
        .keep_late()
        .aggregate(|list: &mut List<u64>, number| list.push(number))
        .named("windows")
        .split();
    fired
        .map(|it| (it.key, it.window.start.millis(), it.result))
        .named("fired")
        .sink("out", sink.clone());
    too_late.map(|(_, number)| number).named("too-late").sink("late", late.clone());
}

/// SPEC 15.6, 16.4: an operator's event time never goes back, whatever input it comes from.
#[test]
fn a_window_that_has_fired_does_not_fire_again_for_another_input() {
    let (store, sink, late) = (MemoryStore::new(), Windows::new(), MemorySink::new());
    let others = MemorySink::new();
    let flow = Dataflow::new("wired");
    let Inputs { a, b } = inputs(&flow, Life::First);
    windows(a.0, &sink, &late);
    rest(b.0, a.1, b.1, &others);
    let handle = spawn(flow, &store);
    until("a window has fired", || sink.committed_count() > 0);
    suspend(handle, "windows");
    assert_eq!(late.committed_count(), 0, "in order, nothing is late");

    let flow = Dataflow::new("wired");
    let Inputs { a, b } = inputs(&flow, Life::Second);
    windows(b.0, &sink, &late);
    rest(a.0, a.1, b.1, &others);
    assert_ended(wait(spawn(flow, &store)), Ended::Finished);

    assert!(late.committed_count() > 0, "`b` is late");
    let fired = sink.committed();
    let places: BTreeSet<(u64, i64)> = fired.iter().map(|it| (it.0, it.1)).collect();
    assert_eq!(places.len(), fired.len(), "each window has fired once");
    let listed = fired.iter().flat_map(|it| it.2.iter().copied()).collect();
    assert_twice([listed, late.committed(), others.committed()].concat());
}
