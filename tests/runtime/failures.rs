//! Failures, the errors that report them, and their effect on the job.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use snapline::connect::{
    Collect, ConnectorError, FileSource, MemorySink, MemorySource, OpenContext, Source,
    TwoPhaseSink, classify_as,
};
use snapline::protocol::ids::Attempt;
use snapline::{
    BoxError, Dataflow, Ended, JobConfig, JobError, KeyState, Lookup, LookupSource, Outcome,
    Permanent, Restart, TaskFailure,
};

use crate::kit::{assert_ended, config, ms, patient, wait};
use crate::planned_failures::{Faults, How, Place, Planned, WildSink, WildSource, quiet};

/// A job that reaches every place where user code can fail, with operators named after their role.
fn run(
    faults: &Faults,
    sink: &MemorySink<(u64, u64)>,
    config: JobConfig,
) -> Result<Outcome, JobError> {
    quiet();
    let flow = Dataflow::new("fragile");
    let source = WildSource {
        records: MemorySource::new((0..2_000u64).map(|number| (number % 7, number)).collect()),
        chunk: 50,
        pause: ms(1),
        faults: faults.clone(),
    };
    let (rule, process) = (faults.clone(), faults.clone());
    flow.source("source", source)
        .try_map(move |record: (u64, u64)| {
            rule.strike(Place::Rule)?;
            Ok::<_, BoxError>(record)
        })
        .keyed()
        .process(move |value, count: &mut KeyState<'_, u64, u64>, out| {
            **count += 1;
            out.push((*count.key(), value));
            if let Err(error) = process.strike(Place::Process) {
                out.fail(error);
            }
        })
        .named("process")
        .sink("sink", WildSink { sink: sink.clone(), faults: faults.clone() });
    wait(flow.build(config).expect("builds").spawn().expect("starts"))
}

fn failure(outcome: Result<Outcome, JobError>) -> Box<TaskFailure> {
    match outcome {
        Err(JobError::Failed(failure)) => failure,
        other => panic!("{other:?}"),
    }
}

const PLACES: [(Place, &str); 9] = [
    (Place::OpenSource, "source"),
    (Place::Read, "source"),
    (Place::Rule, "source"),
    (Place::Process, "process"),
    (Place::OpenSink, "sink"),
    (Place::Write, "sink"),
    (Place::Close, "sink"),
    (Place::Prepare, "sink"),
    (Place::Commit, "sink"),
];

#[test]
fn whatever_fails_is_named() {
    for (place, operator) in PLACES {
        for how in [How::Error, How::Panic] {
            let faults = Faults::new(&[Planned { place, how, after: 1 }]);
            let failure = failure(run(&faults, &MemorySink::new(), config()));
            let text = failure.to_string();
            assert_eq!(failure.operator, operator, "{text}");
            assert!(failure.subtask < 2 && failure.attempt.number == 1, "{text}");
            assert!(text.contains(&format!("planned at {place:?}")), "{text}");
            assert_eq!(text.contains("panicked"), how == How::Panic, "{text}");
            assert!(text.starts_with(&format!("operator `{operator}`, subtask ")), "{text}");
        }
    }
}

#[test]
fn whatever_fails_once_is_survived() {
    for (place, _) in PLACES {
        let sink = MemorySink::new();
        let faults = Faults::new(&[Planned { place, how: How::Panic, after: 1 }]);
        let outcome = run(&faults, &sink, config().restart(patient()));
        let status = assert_ended(outcome, Ended::Finished).status;
        assert_eq!(status.restarts, 1, "{place:?}");
        assert!(status.last_failure.is_some_and(|text| text.contains("planned")), "{place:?}");
        let mut found: Vec<u64> = sink.committed().into_iter().map(|(_, value)| value).collect();
        found.sort_unstable();
        assert!(found.into_iter().eq(0..2_000), "{place:?}");
    }
}

#[test]
fn restarts_end_when_they_are_used_up() {
    let flow = Dataflow::new("hopeless");
    let tries = Arc::new(AtomicU32::new(0));
    let counting = Arc::clone(&tries);
    flow.source("in", MemorySource::new(vec![1u64]))
        .try_map(move |_| {
            counting.fetch_add(1, Ordering::Relaxed);
            Err::<u64, BoxError>("not today".into())
        })
        .named("refusing")
        .sink("out", MemorySink::new());
    let config = config().parallelism(1).restart(Restart::Fixed { attempts: 2, pause: ms(1) });
    let error = wait(flow.build(config).expect("builds").spawn().expect("starts"));
    let text = error.as_ref().expect_err("it never works").to_string();
    let failure = failure(error);
    assert_eq!((failure.operator.as_str(), failure.subtask), ("refusing", 0));
    assert_eq!((failure.attempt.number, tries.load(Ordering::Relaxed)), (3, 3));
    assert_eq!(failure.cause.to_string(), "not today");
    for word in ["`refusing`", "subtask 0", "attempt 1.3", "not today"] {
        assert!(text.contains(word), "{text}");
    }
}

/// The number of attempts, and the failure.
fn tried(error: impl Fn() -> BoxError + Clone + Send + 'static) -> (u32, Box<TaskFailure>) {
    let (flow, tries) = (Dataflow::new("hopeless"), Arc::new(AtomicU32::new(0)));
    let counting = Arc::clone(&tries);
    flow.source("in", MemorySource::new(vec![1u64]))
        .try_map(move |_| {
            counting.fetch_add(1, Ordering::Relaxed);
            Err::<u64, BoxError>(error())
        })
        .sink("out", MemorySink::new());
    let config = config().parallelism(1).restart(Restart::Fixed { attempts: 3, pause: ms(1) });
    let failure = failure(wait(flow.build(config).expect("builds").spawn().expect("starts")));
    (tries.load(Ordering::Relaxed), failure)
}

#[test]
fn what_is_permanent_is_not_tried_again() {
    let (tries, failure) = tried(|| Permanent::new("never").into());
    assert_eq!((tries, failure.is_permanent()), (1, true));
    assert_eq!(failure.cause.to_string(), "never");
    // Also as the cause of another error.
    #[derive(Debug)]
    struct Wrapped(Permanent);
    impl std::fmt::Display for Wrapped {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("wrapped")
        }
    }
    impl Error for Wrapped {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }
    assert_eq!(tried(|| Wrapped(Permanent::new("never")).into()).0, 1);
    let (tries, failure) = tried(|| "not today".into());
    assert_eq!((tries, failure.is_permanent()), (4, false));
}

/// A connector's own error: at the first attempt no retry mends it.
#[derive(Debug)]
struct NotThere;

impl std::fmt::Display for NotThere {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("it is not there")
    }
}

impl Error for NotThere {}

impl ConnectorError for NotThere {
    fn is_permanent(&self, first: bool) -> bool {
        first
    }
}

/// A source, a sink and a look-up that cannot be opened, and know their own errors or do not.
#[derive(Clone)]
struct Absent<const KNOWS: bool>;

type Held = MemorySink<u64>;
type Classified<'a> = Option<&'a dyn ConnectorError>;

impl<const KNOWS: bool> Source for Absent<KNOWS> {
    type Record = u64;
    type Position = <MemorySource<u64> as Source>::Position;
    type Reader = <MemorySource<u64> as Source>::Reader;

    fn open(&self, _: &OpenContext, _: Option<Self::Position>) -> Result<Self::Reader, BoxError> {
        Err(NotThere.into())
    }

    fn classify<'a>(error: &'a (dyn Error + 'static)) -> Classified<'a> {
        KNOWS.then(|| classify_as::<NotThere>(error))?
    }
}

impl<const KNOWS: bool> TwoPhaseSink for Absent<KNOWS> {
    type Record = u64;
    type Committable = <Held as TwoPhaseSink>::Committable;
    type Writer = <Held as TwoPhaseSink>::Writer;
    type Committer = <Held as TwoPhaseSink>::Committer;

    fn open(&self, _: &OpenContext) -> Result<(Self::Writer, Self::Committer), BoxError> {
        Err(NotThere.into())
    }

    fn classify<'a>(error: &'a (dyn Error + 'static)) -> Classified<'a> {
        KNOWS.then(|| classify_as::<NotThere>(error))?
    }
}

impl<const KNOWS: bool> LookupSource<u64> for Absent<KNOWS> {
    type Found = u64;
    type Client = fn(&u64) -> Result<u64, BoxError>;

    fn open(&self, _: &OpenContext) -> Result<Self::Client, BoxError> {
        Err(NotThere.into())
    }

    fn classify<'a>(error: &'a (dyn Error + 'static)) -> Classified<'a> {
        KNOWS.then(|| classify_as::<NotThere>(error))?
    }
}

#[test]
fn a_connector_says_which_of_its_own_errors_are_permanent() {
    fn of_source<const KNOWS: bool>(flow: &Dataflow) {
        flow.source("in", Absent::<KNOWS>).sink("out", MemorySink::new());
    }
    fn of_sink<const KNOWS: bool>(flow: &Dataflow) {
        flow.source("in", MemorySource::new(vec![1])).sink("out", Absent::<KNOWS>);
    }
    fn of_lookup<const KNOWS: bool>(flow: &Dataflow) {
        let found = flow.source("in", MemorySource::new(vec![1u64]));
        let found = found.lookup(Lookup::ordered(Absent::<KNOWS>).tries(1, ms(1)));
        found.sink("out", MemorySink::new());
    }
    let attempts = |build: fn(&Dataflow)| {
        let flow = Dataflow::new("absent");
        build(&flow);
        let config = config().parallelism(1).restart(Restart::Fixed { attempts: 2, pause: ms(1) });
        let failure = failure(wait(flow.build(config).expect("builds").spawn().expect("starts")));
        assert!(failure.to_string().contains("it is not there"), "{failure}");
        failure.attempt.number
    };
    let known = [of_source::<true>, of_sink::<true>, of_lookup::<true>];
    assert_eq!(known.map(attempts), [1, 1, 1]);
    let unknown = [of_source::<false>, of_sink::<false>, of_lookup::<false>];
    assert_eq!(unknown.map(attempts), [3, 3, 3]);
}

#[test]
fn a_wrong_path_is_reported_at_once() {
    let flow = Dataflow::new("nowhere");
    let place = tempfile::tempdir().expect("a scratch directory");
    let path = place.path().join("no-such-file");
    flow.source("in", FileSource::path(&path)).sink("out", MemorySink::new());
    let config = config().restart(Restart::Fixed { attempts: 1_000, pause: ms(1_000) });
    let failure = failure(wait(flow.build(config).expect("builds").spawn().expect("starts")));
    assert!(failure.to_string().contains("no-such-file: no such file"), "{failure}");
    assert_eq!((failure.attempt.number, failure.is_permanent()), (1, true));
    // In a later attempt the file may come back.
    let later = TaskFailure { attempt: Attempt { number: 2, ..failure.attempt }, ..*failure };
    assert!(!later.is_permanent());
}

#[test]
fn restarts_with_growing_pauses() {
    // One source. The failures are further apart than one of its batches, so that each is a failure
    // of its own.
    let planned = |count: u32| -> Vec<Planned> {
        let at = (0..count).map(|number| number * 100);
        at.map(|after| Planned { place: Place::Rule, how: How::Error, after }).collect()
    };
    let (faults, sink) = (Faults::new(&planned(4)), MemorySink::new());
    let config = || config().parallelism(1);
    let restart = Restart::Exponential {
        first: ms(1),
        longest: ms(4),
        factor: 2.0,
        reset_after: ms(60_000),
        attempts: Some(4),
    };
    let outcome = run(&faults, &sink, config().restart(restart));
    assert_eq!(assert_ended(outcome, Ended::Finished).status.restarts, 4);
    assert_eq!(sink.committed_count(), 2_000);
    failure(run(&Faults::new(&planned(5)), &MemorySink::new(), config().restart(restart)));
}

#[test]
fn a_lost_transaction_is_not_passed_over() {
    use snapline::connect::{CommitGrant, OpenContext, SinkCommitter, TwoPhaseSink};
    use snapline::protocol::committer::CommitOutcome;
    use snapline::protocol::ids::{Attempt, TxnId};

    /// An external system that forgets the transactions it was to keep.
    #[derive(Clone)]
    struct Forgetful(MemorySink<u64>);
    struct Committer<C>(C);
    impl TwoPhaseSink for Forgetful {
        type Record = u64;
        type Committable = TxnId;
        type Writer = <MemorySink<u64> as TwoPhaseSink>::Writer;
        type Committer = Committer<<MemorySink<u64> as TwoPhaseSink>::Committer>;
        fn open(&self, at: &OpenContext) -> Result<(Self::Writer, Self::Committer), BoxError> {
            let (writer, committer) = self.0.open(at)?;
            Ok((writer, Committer(committer)))
        }
    }
    impl<C: SinkCommitter<Committable = TxnId>> SinkCommitter for Committer<C> {
        type Committable = TxnId;
        fn fence(&mut self, attempt: Attempt) -> Result<Vec<(TxnId, TxnId)>, BoxError> {
            self.0.fence(attempt)
        }
        fn prepare(&mut self, txn: TxnId, it: &TxnId) -> Result<(), BoxError> {
            self.0.prepare(txn, it)
        }
        fn commit(&mut self, _: CommitGrant, _: &TxnId) -> Result<CommitOutcome, BoxError> {
            Ok(CommitOutcome::Lost)
        }
        fn roll_back(&mut self, txn: TxnId, it: &TxnId) -> Result<(), BoxError> {
            self.0.roll_back(txn, it)
        }
    }
    let sink = Forgetful(MemorySink::new());
    let handle = crate::kit::numbers(5_000, sink, config().restart(patient()));
    match wait(handle) {
        Err(error @ JobError::DataLoss { checkpoint: Some(_) }) => {
            assert!(error.to_string().contains("lost"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

/// SPEC 6.4: a sink fences first, and if that fails, no later call is made. (The replay of the
/// record, in `wait`, checks this: it refuses a commit call before the sink has fenced.)
#[test]
fn a_sink_that_could_not_fence_commits_nothing() {
    let planned = [
        Planned { place: Place::Rule, how: How::Error, after: 1_500 },
        // The first attempt's two sinks have fenced. In the second attempt, which restores
        // transactions to commit, each fails once.
        Planned { place: Place::Fence, how: How::Error, after: 2 },
        Planned { place: Place::Fence, how: How::Panic, after: 3 },
    ];
    let sink = MemorySink::new();
    let outcome = run(&Faults::new(&planned), &sink, config().restart(patient()));
    let outcome = assert_ended(outcome, Ended::Finished);
    assert!(outcome.status.restarts >= 2, "{:?}", outcome.status.last_failure);
    assert_eq!(sink.committed_count(), 2_000);
}
