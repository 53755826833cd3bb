//! Random pipelines under random failures and interruptions, checked against a sequential
//! reference.

mod broadcast;
mod clock;
mod connected;
mod global;
mod noted;
mod planned_failures;
mod shape;
mod timed;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use snapline::connect::MemorySink;
use snapline::store::MemoryStore;
use snapline::trace::{MemoryTrace, RunTrace, replay};
use snapline::{
    Dataflow, Emit, Ended, JobConfig, JobError, JobHandle, Level, Mode, Outcome, Restart, Storage,
};

use planned_failures::{Faults, How, Place, Planned, quiet};
use shape::{Input, Leg, Record, Segment, Tree, build, compute, leg, stateless_leg};

/// Longer than any of these jobs runs, on any machine.
const FOR_EVER: Duration = Duration::from_secs(60);

/// An end that comes before the job's own.
#[derive(Clone, Copy, Debug)]
enum Stop {
    Cancel,
    Suspend,
    /// Not waited for: the next run finds the store as it is then.
    CancelTwice,
}

/// A pipeline, its configuration, and the planned events.
#[derive(Clone, Debug)]
struct Case {
    inputs: Vec<Input>,
    leg: Leg,
    parallelism: usize,
    workers: usize,
    key_groups: u16,
    interval: Option<u64>,
    max_concurrent: usize,
    retained: usize,
    upload_threads: usize,
    on_disk: bool,
    faults: Vec<Planned>,
    stops: Vec<(Stop, u64)>,
}

fn input() -> impl Strategy<Value = Input> {
    let record = (0u64..200, -50i64..50);
    let records = prop_oneof![
        1 => proptest::collection::vec(record.clone(), 0..10),
        4 => proptest::collection::vec(record, 100..1500),
    ];
    (records, proptest::option::weighted(0.4, 1usize..5), 5usize..100, 0u64..600).prop_map(
        |(records, parallelism, chunk, pause)| Input {
            records,
            parallelism,
            chunk,
            pause: Duration::from_micros(pause),
        },
    )
}

fn fault() -> impl Strategy<Value = Planned> {
    let often = prop_oneof![Just(Place::Rule), Just(Place::Process)];
    let seldom = prop_oneof![
        Just(Place::OpenSource),
        Just(Place::Read),
        Just(Place::OpenSink),
        Just(Place::Fence),
        Just(Place::Write),
        Just(Place::Close),
        Just(Place::Prepare),
        Just(Place::RollBack),
    ];
    let how = prop_oneof![Just(How::Panic), Just(How::Error)];
    let of_commit = prop_oneof![
        Just(How::Panic),
        Just(How::Error),
        Just(How::Retry),
        Just(How::UnknownDone),
        Just(How::UnknownUndone),
    ];
    prop_oneof![
        2 => (often, how.clone(), 0u32..4000),
        3 => (seldom, how, 0u32..30),
        2 => (Just(Place::Commit), of_commit, 0u32..12),
    ]
    .prop_map(|(place, how, after)| Planned { place, how, after })
}

fn stop() -> impl Strategy<Value = (Stop, u64)> {
    let stop = prop_oneof![Just(Stop::Cancel), Just(Stop::Suspend), Just(Stop::CancelTwice)];
    (stop, 0u64..40_000)
}

fn case(leg: impl Strategy<Value = Leg>) -> impl Strategy<Value = Case> {
    let shape = (proptest::collection::vec(input(), 1..4), leg);
    let machine = (1usize..5, 1usize..4, 4u16..40, 1usize..4);
    let interval = proptest::option::weighted(0.85, 1u64..20);
    let checkpoints = (interval, 1usize..3, 1usize..3, prop::bool::weighted(0.25));
    let fate = (proptest::collection::vec(fault(), 0..5), proptest::collection::vec(stop(), 0..4));
    (shape, machine, checkpoints, fate).prop_map(|(shape, machine, checkpoints, fate)| Case {
        inputs: shape.0,
        leg: shape.1,
        parallelism: machine.0,
        workers: machine.1,
        key_groups: machine.2,
        upload_threads: machine.3,
        interval: checkpoints.0,
        max_concurrent: checkpoints.1,
        retained: checkpoints.2,
        on_disk: checkpoints.3,
        faults: fate.0,
        stops: fate.1,
    })
}

/// Waits, with a timeout.
fn wait(handle: JobHandle) -> Result<Outcome, JobError> {
    let begin = Instant::now();
    while !handle.is_over() {
        assert!(begin.elapsed() < FOR_EVER, "the job hangs: {:#?}", handle.status());
        std::thread::sleep(Duration::from_micros(200));
    }
    handle.wait()
}

/// Puts a pipeline into a dataflow.
type Pipeline = Box<dyn Fn(&Dataflow, &World)>;

struct World {
    pipeline: Pipeline,
    case: Case,
    faults: Faults,
    sinks: Vec<MemorySink<Record>>,
    store: MemoryStore,
    recorded: MemoryTrace,
    directory: tempfile::TempDir,
    mode: Mode,
}

impl World {
    fn new(case: Case, sinks: usize, mode: Mode) -> Self {
        Self::of(case, sinks, mode, |flow, world| {
            let Case { inputs, leg, .. } = &world.case;
            build(flow, inputs, leg, &world.faults, &world.sinks);
        })
    }

    /// The same with a pipeline other than the case's.
    fn of(
        case: Case,
        sinks: usize,
        mode: Mode,
        pipeline: impl Fn(&Dataflow, &Self) + 'static,
    ) -> Self {
        quiet();
        Self {
            pipeline: Box::new(pipeline),
            faults: Faults::new(&case.faults),
            sinks: (0..sinks).map(|_| MemorySink::new()).collect(),
            store: MemoryStore::new(),
            recorded: MemoryTrace::new(),
            directory: tempfile::tempdir().expect("a temporary directory"),
            mode,
            case,
        }
    }

    fn spawn(&self) -> JobHandle {
        let flow = Dataflow::new("random");
        (self.pipeline)(&flow, self);
        let config = JobConfig::new()
            .parallelism(self.case.parallelism)
            .workers(self.case.workers)
            .key_groups(self.case.key_groups)
            .checkpoint_interval(self.case.interval.map(Duration::from_millis))
            .max_concurrent_checkpoints(self.case.max_concurrent)
            .retained_checkpoints(self.case.retained)
            .upload_threads(self.case.upload_threads)
            .mode(self.mode)
            .record(self.recorded.clone())
            .restart(Restart::Fixed { attempts: 20, pause: Duration::from_millis(1) })
            // A planned failure may strike twice at one record.
            .retry_anyway(true);
        let config = match self.case.on_disk {
            true => config.directory(self.directory.path()),
            false => config.storage(Storage::Memory(self.store.clone())),
        };
        let config = match self.mode {
            Mode::ExactlyOnce => config.require(Level::ExactlyOnce),
            Mode::AtLeastOnce => config.require(Level::AtLeastOnce),
        };
        flow.build(config).expect("a random pipeline is a pipeline").spawn().expect("starts")
    }

    /// Runs it to its end, through all interruptions, and once more.
    fn run(&self) {
        for &(stop, after) in &self.case.stops {
            let handle = self.spawn();
            std::thread::sleep(Duration::from_micros(after));
            match stop {
                Stop::Suspend => handle.suspend(),
                Stop::Cancel => handle.cancel(),
                Stop::CancelTwice => {
                    handle.suspend();
                    handle.cancel();
                }
            }
            let outcome = match wait(handle) {
                // It ended before a planned failure was recovered, or while it was stopping, and
                // reports that.
                Err(JobError::Interrupted { .. }) => continue,
                Err(JobError::Uncommitted { .. }) if matches!(stop, Stop::CancelTwice) => continue,
                outcome => outcome.expect("an interruption is no failure"),
            };
            let expected: &[Ended] = match stop {
                Stop::Suspend => &[Ended::Suspended, Ended::Finished],
                Stop::Cancel | Stop::CancelTwice => &[Ended::Cancelled, Ended::Finished],
            };
            assert!(expected.contains(&outcome.ended), "{stop:?}: {:?}", outcome.ended);
        }
        let outcome = wait(self.spawn()).expect("planned failures are survived");
        assert_eq!(outcome.ended, Ended::Finished);
        let committed: Vec<Vec<Record>> = self.sinks.iter().map(MemorySink::committed).collect();
        let prepared: usize = self.sinks.iter().map(|sink| sink.prepared_txns().len()).sum();
        assert_eq!(prepared, 0, "nothing stays prepared after the end");
        let outcome = wait(self.spawn()).expect("a job that is over is over");
        assert_eq!(outcome.ended, Ended::Finished);
        let again: Vec<Vec<Record>> = self.sinks.iter().map(MemorySink::committed).collect();
        assert_eq!(committed, again, "a job that is over does nothing twice");
        self.replay();
    }

    /// All recorded runs conform to the protocol (SPEC 11.9).
    fn replay(&self) {
        let files = self.recorded.files();
        let traces = files.iter().map(|(name, bytes)| RunTrace::read(name, bytes));
        let traces: Vec<RunTrace> = traces.collect::<Result<_, _>>().expect("they are whole");
        assert_eq!(traces.len(), self.case.stops.len() + 2, "each run is recorded");
        let replayed = replay(&traces).unwrap_or_else(|difference| panic!("{difference}"));
        assert!(replayed.tally.markers > 0, "{replayed}");
    }
}

fn reference(case: &Case) -> Vec<Vec<Record>> {
    let all: Vec<Record> = case.inputs.iter().flat_map(|input| input.records.clone()).collect();
    let mut expected = Vec::new();
    compute(&all, &case.leg, &mut expected);
    expected
}

fn counted(records: &[Record]) -> BTreeMap<Record, usize> {
    let mut counts = BTreeMap::new();
    for &record in records {
        *counts.entry(record).or_default() += 1;
    }
    counts
}

fn config(cases: u32) -> ProptestConfig {
    // The position of each thread when a failure strikes varies from run to run, so a long search
    // for a smaller case is futile.
    ProptestConfig {
        cases,
        failure_persistence: None,
        max_shrink_time: 30_000,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(96))]

    #[test]
    fn whatever_happens_the_output_is_the_reference_s(case in case(leg())) {
        let expected = reference(&case);
        let world = World::new(case, expected.len(), Mode::ExactlyOnce);
        world.run();
        for (number, expected) in expected.iter().enumerate() {
            let (found, expected) = (counted(&world.sinks[number].committed()), counted(expected));
            prop_assert_eq!(found, expected, "sink {}", number);
        }
    }
}

proptest! {
    #![proptest_config(config(24))]

    #[test]
    fn at_least_once_loses_nothing(case in case(stateless_leg())) {
        let expected = reference(&case);
        let world = World::new(case, expected.len(), Mode::AtLeastOnce);
        world.run();
        for (number, expected) in expected.iter().enumerate() {
            let found = counted(&world.sinks[number].committed());
            for (record, times) in counted(expected) {
                let found = found.get(&record).copied().unwrap_or(0);
                prop_assert!(found >= times, "sink {number}: {record:?} {found} times of {times}");
            }
        }
    }

    /// One producer's records of one key stay in order through an exchange, and so does a key's
    /// output through transactions.
    #[test]
    fn the_records_of_a_key_keep_their_order(
        mut case in case(Just(Leg { segment: plain(), then: Box::new(Tree::Sink) })),
        values in 1usize..1500,
        subtasks in 1usize..5,
    ) {
        quiet();
        let records: Vec<Record> = (0..values).map(|at| (at as u64 % 17, at as i64)).collect();
        case.inputs.truncate(1);
        case.inputs[0] = Input { records, parallelism: Some(1), ..case.inputs[0].clone() };
        case.leg.segment.parallelism = Some(1);
        let world = World::new(case, 1, Mode::ExactlyOnce);
        let sink = world.sinks[0].clone();
        // The same case as `World` runs, with an operator whose output shows the order of its
        // input.
        let run = |end: Option<(Stop, u64)>| {
            let flow = Dataflow::new("ordered");
            let input = &world.case.inputs[0];
            let source = planned_failures::WildSource {
                records: snapline::connect::MemorySource::new(input.records.clone()),
                chunk: input.chunk,
                pause: input.pause,
                faults: world.faults.clone(),
            };
            let append = |list: &mut snapline::state::List<i64>, value| list.push(value);
            flow.source("in", source)
                .parallelism(1)
                .keyed()
                .aggregate(Emit::EachChange, append)
                .map(|(key, list)| (key, list.last().copied().unwrap_or(-1)))
                .parallelism(subtasks)
                .sink("out", planned_failures::WildSink { sink: sink.clone(), faults: world.faults.clone() });
            let config = JobConfig::new()
                .parallelism(subtasks)
                .workers(world.case.workers)
                .checkpoint_interval(world.case.interval.map(Duration::from_millis))
                .max_concurrent_checkpoints(world.case.max_concurrent)
                .storage(Storage::Memory(world.store.clone()))
                .restart(Restart::Fixed { attempts: 20, pause: Duration::from_millis(1) })
                // A planned failure may strike twice at one record.
                .retry_anyway(true);
            let handle = flow.build(config).expect("builds").spawn().expect("starts");
            if let Some((stop, after)) = end {
                std::thread::sleep(Duration::from_micros(after));
                match stop {
                    Stop::Suspend => handle.suspend(),
                    Stop::Cancel | Stop::CancelTwice => handle.cancel(),
                }
            }
            match wait(handle) {
                Err(JobError::Interrupted { .. }) if end.is_some() => None,
                outcome => Some(outcome.expect("planned failures are survived").ended),
            }
        };
        for &stop in &world.case.stops {
            run(Some(stop));
        }
        prop_assert_eq!(run(None), Some(Ended::Finished));
        let mut by_key: BTreeMap<u64, Vec<i64>> = BTreeMap::new();
        for (key, value) in sink.committed() {
            by_key.entry(key).or_default().push(value);
        }
        for (key, found) in by_key {
            let expected: Vec<i64> =
                (0..values as i64).filter(|value| *value as u64 % 17 == key).collect();
            prop_assert_eq!(found, expected, "key {}", key);
        }
    }
}

fn plain() -> Segment {
    Segment { add: 0, keys: None, without: None, copies: 1, parallelism: None }
}
