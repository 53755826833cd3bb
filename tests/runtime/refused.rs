//! Dataflows and settings that are no job, and what a job that is one can promise.

use snapline::connect::{
    Collect, Discard, ForEach, Idempotent, MemorySink, MemorySource, MemoryTable, OpenContext,
    Progress, Source, SourceReader,
};
use snapline::protocol::topology::TopologyError;
use snapline::{
    AtEventTime, BoxError, BuildError, Dataflow, Emit, EveryEventTime, EveryRecords, Guarantee,
    Job, JobConfig, Level, Mode, Purging, Session, Sliding, Timestamp, Trigger, Tumbling,
    Watermarks, WindowAssigner,
};
use snapline_models::check::Check;

use crate::kit::ms;

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
    let (at_end, micros) = (AtEventTime, std::time::Duration::from_micros(999));
    assert_eq!(
        refused(Tumbling::of(micros), at_end),
        "the length of a tumbling window is 999µs, and must be at least a millisecond long"
    );
    for text in [
        refused(Tumbling::of(none).by_processing_time(), at_end),
        refused(Sliding::of(none, some), at_end),
        refused(Sliding::of(some, none), at_end),
        refused(Session::gap(none), at_end),
        refused(Tumbling::of(some), EveryEventTime::new(none)),
        refused(Tumbling::of(some), Purging(EveryEventTime::new(none))),
    ] {
        assert!(text.contains("0ns, and must be at least a millisecond"), "{text}");
    }
    let zero = refused(Tumbling::of(some), EveryRecords::new(0));
    assert!(zero.contains("every zero records"), "{zero}");
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
    let job = job.expect("nobody has chosen a name that is taken");
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

/// A source that forgets what it has read.
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
