//! Dataflows and settings that are refused, and the guarantees of a job that is accepted.

use std::time::Duration;

use snapline::connect::{
    Collect, Discard, ForEach, Generator, Idempotent, MemorySink, MemorySource, MemoryTable,
    OpenContext, Progress, Source, SourceReader,
};
use snapline::protocol::topology::TopologyError;
use snapline::{
    AtEventTime, Between, BoxError, BuildError, Dataflow, Emit, Emitter, EveryEventTime,
    EveryProcessingTime, EveryRecords, Expiring, Guarantee, Input, Job, JobConfig, Level, Lookup,
    Mode, Purging, Restart, Session, Sliding, TimeContext, TimedClosure, Timestamp, Trigger,
    Tumbling, Watermarks, WindowAssigner,
};
use snapline_models::check::Check;

use crate::kit::{ms, wait};

type Pair = (u64, u64);

fn pairs() -> MemorySource<Pair> {
    MemorySource::new(vec![(1, 2), (3, 4)])
}

fn build(config: JobConfig, describe: impl FnOnce(&Dataflow)) -> Result<Job, BuildError> {
    let flow = Dataflow::new("described");
    describe(&flow);
    flow.build(config)
}

fn topology_error(config: JobConfig, describe: impl FnOnce(&Dataflow)) -> TopologyError {
    match build(config, describe) {
        Err(BuildError::Topology(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn windows_of_no_length_are_refused() {
    fn refused<W: WindowAssigner>(window: W, trigger: impl Trigger) -> String {
        let built = build(JobConfig::new(), |flow| {
            flow.source("in", pairs())
                .assign_timestamps(Watermarks::monotonous(), |_| Timestamp::from_millis(0))
                .keyed()
                .window(window)
                .trigger(trigger)
                .count()
                .sink("out", Discard::new());
        });
        match built {
            Err(error @ BuildError::Window { .. }) => error.to_string(),
            other => panic!("{other:?}"),
        }
    }
    let (none, some) = (ms(0), ms(1));
    let (at_end, micros) = (AtEventTime, Duration::from_micros(999));
    assert_eq!(
        refused(Tumbling::of(micros), at_end),
        "the length of a tumbling window is 999µs; it must be at least a millisecond"
    );
    for text in [
        refused(Tumbling::of(none).by_processing_time(), at_end),
        refused(Sliding::of(none, some), at_end),
        refused(Sliding::of(some, none), at_end),
        refused(Session::gap(none), at_end),
        refused(Tumbling::of(some), EveryEventTime::new(none)),
        refused(Tumbling::of(some), Purging(EveryEventTime::new(none))),
    ] {
        assert!(text.contains("0ns; it must be at least a millisecond"), "{text}");
    }
    let zero = refused(Tumbling::of(some), EveryRecords::new(0));
    assert!(zero.contains("every 0 records"), "{zero}");
    let joined = build(JobConfig::new(), |flow| {
        let timed = |name| {
            let pairs = flow.source(name, pairs());
            pairs.assign_timestamps(Watermarks::monotonous(), |_| Timestamp::from_millis(0)).keyed()
        };
        timed("left")
            .connect(timed("right"))
            .window_join(Tumbling::of(none), |_, _, left, right| left + right)
            .sink("out", Discard::new());
    });
    assert!(matches!(joined, Err(BuildError::Window { .. })), "{joined:?}");
}

#[test]
fn dataflows_that_are_none_are_refused() {
    let config = || JobConfig::new().parallelism(2);
    assert_eq!(topology_error(config(), |_| {}), TopologyError::NoSource);
    let twice = topology_error(config(), |flow| {
        let (left, right) = flow.source("in", pairs()).fork();
        left.sink("out", MemorySink::new());
        right.sink("out", MemorySink::new());
    });
    assert_eq!(twice, TopologyError::DuplicateOperator("out".into()));
    let none = topology_error(config(), |flow| {
        flow.source("in", pairs()).parallelism(0).sink("out", MemorySink::new());
    });
    assert_eq!(none, TopologyError::NoSubtasks("in".into()));
    let many = topology_error(config(), |flow| {
        flow.source("in", pairs()).parallelism(300).sink("out", MemorySink::new());
    });
    assert_eq!(many, TopologyError::TooManySubtasks(600));
}

#[test]
fn a_branch_that_goes_nowhere_is_refused() {
    let error = build(JobConfig::new().parallelism(2), |flow| {
        let (left, right) = flow.source("in", pairs()).fork();
        left.sink("out", MemorySink::new());
        drop(right);
    });
    let error = error.expect_err("half of the records would go nowhere");
    assert_eq!(error, BuildError::LooseBranch { operator: "in".into() });
    assert!(error.to_string().contains("`in`"), "{error}");
}

#[test]
fn operators_without_a_name_get_different_ones() {
    let job = build(JobConfig::new().parallelism(1), |flow| {
        let left = flow.source("in-1", pairs()).keyed().count(Emit::AtEnd);
        let right = flow.source("in-2", pairs()).keyed().count(Emit::AtEnd);
        left.union(right).sink("out", MemorySink::new());
    });
    let job = job.expect("no chosen name is taken");
    let names: Vec<&str> = job.topology().operators().iter().map(|op| op.name.as_str()).collect();
    assert_eq!(names, ["in-1", "in-2", "count", "count-2", "union", "out"]);
}

#[test]
fn settings_without_a_meaning_are_refused() {
    let wrong: [(&str, JobConfig); 9] = [
        ("parallelism", JobConfig::new().parallelism(0)),
        ("workers", JobConfig::new().workers(0)),
        ("key_groups", JobConfig::new().key_groups(0)),
        ("key_groups", JobConfig::new().key_groups(u16::MAX)),
        ("max_concurrent_checkpoints", JobConfig::new().max_concurrent_checkpoints(0)),
        ("retained_checkpoints", JobConfig::new().retained_checkpoints(0)),
        ("checkpoint_timeout", JobConfig::new().checkpoint_timeout(ms(0))),
        ("checkpoint_interval", JobConfig::new().checkpoint_interval(ms(0))),
        ("upload_threads", JobConfig::new().upload_threads(0)),
    ];
    for (name, config) in wrong {
        match build(config, |flow| flow.source("in", pairs()).sink("out", MemorySink::new())) {
            Err(ref error @ BuildError::Setting { setting, .. }) => {
                assert_eq!(setting, name);
                assert!(error.to_string().contains(&format!("`{name}`")), "{error}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn numbers_beyond_their_bounds_are_refused_with_the_figure() {
    let most = usize::MAX;
    let nan = Restart::Exponential {
        first: ms(1),
        longest: ms(1),
        factor: f64::NAN,
        reset_after: ms(1),
        attempts: None,
    };
    let wrong: [(&str, &str, JobConfig); 6] = [
        ("parallelism", "256", JobConfig::new().parallelism(most)),
        ("max_concurrent_checkpoints", "1000", JobConfig::new().max_concurrent_checkpoints(most)),
        ("retained_checkpoints", "100000", JobConfig::new().retained_checkpoints(most)),
        ("upload_threads", "1024", JobConfig::new().upload_threads(most)),
        ("id_block", "4294967296", JobConfig::new().id_block(u64::MAX)),
        ("restart_factor", "NaN", JobConfig::new().restart(nan)),
    ];
    for (name, figure, config) in wrong {
        match build(config, |flow| flow.source("in", pairs()).sink("out", MemorySink::new())) {
            Err(ref error @ BuildError::Setting { setting, .. }) => {
                assert_eq!(setting, name);
                assert!(error.to_string().contains(figure), "{error}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    let topology = topology_error(JobConfig::new(), |flow| {
        flow.source("in", pairs()).parallelism(most).sink("out", MemorySink::new());
    });
    assert_eq!(topology, TopologyError::TooManySubtasks(most));
    let doubles = || Lookup::ordered(|pair: &Pair| Ok::<u64, BoxError>(2 * pair.0));
    let lookups = [
        ("65536", doubles().in_flight(usize::MAX)),
        ("0 requests", doubles().in_flight(0)),
        ("at least one try", doubles().tries(0, ms(1))),
        ("no time", doubles().timeout(ms(0))),
    ];
    for (figure, lookup) in lookups {
        let refused = build(JobConfig::new(), |flow| {
            flow.source("in", pairs()).lookup(lookup).sink("out", Discard::new());
        });
        match refused {
            Err(ref error @ BuildError::Operator { .. }) => {
                assert!(error.to_string().contains(figure), "{error}");
            }
            other => panic!("{figure}: {other:?}"),
        }
    }
}

#[test]
fn windows_joins_and_triggers_that_are_absurd_are_refused_with_the_figure() {
    fn built<W: WindowAssigner>(
        window: W,
        trigger: impl Trigger,
        most: usize,
    ) -> Result<Job, BuildError> {
        build(JobConfig::new(), |flow| {
            flow.source("in", pairs())
                .assign_timestamps(Watermarks::monotonous(), |_| Timestamp::from_millis(0))
                .keyed()
                .window(window)
                .trigger(trigger)
                .highest(most, |value| *value)
                .sink("out", Discard::new());
        })
    }
    fn refused<W: WindowAssigner>(window: W, trigger: impl Trigger, most: usize) -> String {
        match built(window, trigger, most) {
            Err(error @ BuildError::Window { .. }) => error.to_string(),
            other => panic!("{other:?}"),
        }
    }
    let days = |days: u64| Duration::from_secs(days * 86_400);
    let (most, minute) = (Duration::MAX, Tumbling::of(days(1)));
    for (figure, text) in [
        ("2592000000 windows", refused(Sliding::of(days(30), ms(1)), AtEventTime, 1)),
        ("the limit is 10000", refused(Sliding::of(days(30), ms(1)), AtEventTime, 1)),
        ("10001 windows", refused(Sliding::of(ms(10_001), ms(1)), AtEventTime, 1)),
        ("windows", refused(Sliding::of(days(30), ms(1)).by_processing_time(), AtEventTime, 1)),
        ("10,000 years", refused(Sliding::of(most, most), AtEventTime, 1)),
        ("10,000 years", refused(Tumbling::of(most), AtEventTime, 1)),
        ("10,000 years", refused(Tumbling::of(days(1)).offset(most), AtEventTime, 1)),
        ("10,000 years", refused(Session::gap(most), AtEventTime, 1)),
        ("10,000 years", refused(minute, EveryEventTime::new(most), 1)),
        ("10,000 years", refused(minute, EveryProcessingTime::new(most), 1)),
        ("at most 1000000000000", refused(minute, EveryRecords::new(u64::MAX), 1)),
        ("at most 1000000000000", refused(minute, Purging(EveryRecords::new(u64::MAX)), 1)),
        ("100000", refused(minute, AtEventTime, usize::MAX)),
        ("cannot keep 0", refused(minute, AtEventTime, 0)),
    ] {
        assert!(text.contains(figure), "{figure}: {text}");
    }
    assert!(built(Sliding::of(ms(10_000), ms(1)), AtEventTime, 100_000).is_ok());
    let joined = |between: Between| {
        build(JobConfig::new(), |flow| {
            let timed = |name| {
                let pairs = flow.source(name, pairs());
                let timed = pairs.assign_timestamps(Watermarks::monotonous(), |_| Timestamp::MIN);
                timed.keyed()
            };
            timed("left")
                .interval_join(timed("right"), between, |_, left, right| left + right)
                .sink("out", Discard::new());
        })
    };
    for between in [Between::after(most, ms(0)), Between::before(ms(2), ms(1))] {
        let refused = joined(between);
        assert!(matches!(refused, Err(BuildError::Window { .. })), "{refused:?}");
    }
    for between in [Between::around(most, most), Between::after(most, most)] {
        let run = joined(between).expect("it is well formed").run();
        assert!(run.is_ok(), "{run:?}");
    }
}

/// Every duration, from zero to the longest: nothing panics, and the job ends.
#[test]
fn any_length_of_time_is_one_or_is_refused() {
    for time in [ms(0), ms(1), Duration::from_secs(1 << 62), Duration::MAX] {
        // Long enough for a busy machine; or zero.
        let roomy = |time: Duration| if time.is_zero() { time } else { time.max(ms(20_000)) };
        let configs = [
            JobConfig::new().min_pause(time),
            JobConfig::new().checkpoint_interval(time),
            JobConfig::new().checkpoint_interval(ms(1)).min_pause(time),
            JobConfig::new().checkpoint_interval(ms(1)).checkpoint_timeout(roomy(time)),
            JobConfig::new().restart(Restart::Fixed { attempts: u32::MAX, pause: time }),
            JobConfig::new().restart(Restart::Exponential {
                first: time,
                longest: time,
                factor: 1.000_000_1,
                reset_after: time,
                attempts: Some(u32::MAX),
            }),
        ];
        for config in configs {
            let described = format!("{config:?}");
            let flow = Dataflow::new("times");
            // It runs long enough for some checkpoints.
            flow.source("in", Generator::new(200, |n| (n % 3, n)).rate(10_000))
                .parallelism(1)
                .lookup(Lookup::ordered(look_up).timeout(time.max(ms(20_000))).tries(2, time))
                .assign_timestamps(
                    Watermarks::bounded(time).idle(time.max(ms(1_000))),
                    |(pair, _)| Timestamp::from_millis(pair.1 as i64),
                )
                .map(|(pair, _)| pair)
                .keyed()
                .process_with(Expiring::after(time, TimedClosure::new(timers(time))))
                .map(|value| (0_u64, value))
                .keyed()
                .distinct(time)
                .map(|value| (0_u64, value))
                .keyed()
                .window(Tumbling::of(ms(5)))
                .allowed_lateness(time)
                .count()
                .sink("out", Discard::new());
            match flow.build(config.parallelism(1)) {
                Ok(job) => {
                    let warned: Vec<_> = job.warnings().iter().map(ToString::to_string).collect();
                    let ended = wait(job.spawn().expect("it starts"));
                    assert!(ended.is_ok(), "{described}, {warned:?}: {ended:?}");
                }
                Err(BuildError::Setting { .. }) if time.is_zero() => {}
                Err(other) => panic!("{described}: {other}"),
            }
        }
    }
}

fn look_up(pair: &Pair) -> Result<u64, BoxError> {
    Ok(pair.1)
}

/// Sets timers of both clocks, this far in the future.
fn timers(
    time: Duration,
) -> impl FnMut(Input<u64>, &mut TimeContext<'_, u64, u64>, &mut Emitter<u64>) + Clone + Send {
    move |input, context, out| {
        if let Input::Record(value) = input {
            let (event, processing) =
                (context.timestamp() + time, context.processing_time() + time);
            context.set_timer(event);
            context.set_processing_timer(processing);
            **context += value;
            out.push(value);
        }
    }
}

#[test]
fn more_subtasks_than_key_groups_are_refused() {
    let config = JobConfig::new().parallelism(2).key_groups(8);
    let error = build(config, |flow| {
        let counted = flow.source("in", pairs()).keyed().count(Emit::AtEnd).named("counts");
        counted.parallelism(9).sink("out", MemorySink::new());
    });
    let error = error.expect_err("9 subtasks do not share 8 key groups");
    assert!(
        matches!(&error, BuildError::TooParallel { operator, parallelism: 9, key_groups: 8 } if operator == "counts"),
        "{error:?}"
    );
    assert!(error.to_string().contains("`counts`"), "{error}");
}

/// However many cores there are, a default parallelism is always valid, with keys or without.
#[test]
fn subtasks_that_are_not_said_are_no_more_than_key_groups() {
    let config = || JobConfig::new().key_groups(1);
    let plain = build(config(), |flow| {
        flow.source("in", pairs()).map(|pair: Pair| pair.0).sink("out", Discard::new());
    });
    let keyed = build(config(), |flow| {
        let counts = flow.source("in", pairs()).keyed().count(Emit::AtEnd).named("counts");
        counts.sink("out", MemorySink::new());
    });
    for (what, built) in [("without keys", plain), ("with keys", keyed)] {
        assert!(built.is_ok(), "{what}: {:?}", built.err());
    }
}

/// A source that forgets its position.
#[derive(Clone)]
struct Once;

struct OnceReader;

impl Source for Once {
    type Record = Pair;
    type Position = ();
    type Reader = OnceReader;

    fn open(&self, _: &OpenContext, _: Option<()>) -> Result<OnceReader, BoxError> {
        Ok(OnceReader)
    }

    fn is_replayable(&self) -> bool {
        false
    }
}

impl SourceReader for OnceReader {
    type Record = Pair;
    type Position = ();

    fn read<C: Collect<Pair>>(&mut self, _: usize, _: &mut C) -> Result<Progress, BoxError> {
        Ok(Progress::End)
    }

    fn position(&self) {}
}

fn guarantee(config: JobConfig, describe: impl FnOnce(&Dataflow)) -> Guarantee {
    build(config, describe).expect("builds").guarantee().clone()
}

#[test]
fn a_guarantee_is_that_of_the_weakest_part() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let config = || JobConfig::new().directory(directory.path());
    let two_phase = |flow: &Dataflow| flow.source("in", pairs()).sink("out", MemorySink::new());
    let exactly = guarantee(config(), two_phase);
    assert_eq!(
        exactly,
        Guarantee { level: Level::ExactlyOnce, reasons: Vec::new(), conditions: Vec::new() }
    );
    let in_memory = guarantee(JobConfig::new(), two_phase);
    assert_eq!((in_memory.level, in_memory.conditions.len()), (Level::ExactlyOnce, 1));

    let table = guarantee(config(), |flow| {
        flow.source("in", pairs()).sink("table", Idempotent::new(MemoryTable::default()));
    });
    assert_eq!(table.level, Level::Idempotent);
    assert!(table.reasons[0].contains("`table`"), "{table}");
    let each = guarantee(config(), |flow| {
        flow.source("in", pairs()).sink("shouting", ForEach::new(|_: &Pair| {}));
    });
    assert_eq!(each.level, Level::AtLeastOnce);
    assert!(each.reasons[0].contains("`shouting`"), "{each}");
    let mode = guarantee(config().mode(Mode::AtLeastOnce), two_phase);
    assert_eq!((mode.level, mode.reasons.len()), (Level::AtLeastOnce, 1));
    let once = guarantee(config(), |flow| {
        flow.source("gone", Once).sink("dropped", Discard::new());
    });
    assert_eq!((once.level, once.reasons.len()), (Level::AtMostOnce, 2));
    assert!(once.to_string().contains("`gone`") && once.to_string().contains("`dropped`"));
}

#[test]
fn a_guarantee_that_cannot_be_given_is_refused() {
    let asked = JobConfig::new().require(Level::ExactlyOnce);
    let error = build(asked, |flow| {
        flow.source("in", pairs()).sink("shouting", ForEach::new(|_: &Pair| {}));
    });
    let error = error.expect_err("each record may be seen twice");
    assert!(matches!(error, BuildError::Guarantee { asked: Level::ExactlyOnce, .. }), "{error:?}");
    for word in ["exactly once", "at least once", "`shouting`"] {
        assert!(error.to_string().contains(word), "{error}");
    }
    let enough = JobConfig::new().require(Level::AtLeastOnce);
    let job = build(enough, |flow| {
        flow.source("in", pairs()).sink("shouting", ForEach::new(|_: &Pair| {}));
    });
    assert_eq!(job.expect("that it can give").guarantee().level, Level::AtLeastOnce);
}

/// The topology that runs is the topology that is checked.
#[test]
fn a_job_s_topology_can_be_checked() {
    let job = build(JobConfig::new().parallelism(1), |flow| {
        flow.source("in", pairs()).keyed().count(Emit::AtEnd).sink("out", MemorySink::new());
    });
    let job = job.expect("builds");
    Check::new(job.topology()).records(1).crashes(1).run().assert_exactly_once();
}
