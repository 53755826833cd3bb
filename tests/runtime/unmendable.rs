//! A permanent failure costs no restarts. A job stopped while it fails ends with the cause. Waits
//! are named.
//!
//! Longer than 500 lines: one subject, whose tests share their jobs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use snapline::connect::{
    Collect, CommitGrant, FileSink, Generator, MemorySink, MemorySource, OpenContext,
    SinkCommitter, TwoPhaseSink,
};
use snapline::protocol::committer::CommitOutcome;
use snapline::protocol::ids::{Attempt, TxnId};
use snapline::store::MemoryStore;
use snapline::{
    BoxError, BuildError, CheckpointFailed, Dataflow, Ended, JobConfig, JobError, JobHandle,
    KeyState, Outcome, Restart, Resume,
};

use crate::kit::{FOR_EVER, assert_ended, config, in_memory, ms, numbers, until, wait};
use crate::planned_failures::quiet;

/// Longer than a test waits.
const HOURS: Restart = Restart::Fixed { attempts: 10, pause: Duration::from_secs(36_000) };

fn soon(attempts: u32) -> Restart {
    Restart::Fixed { attempts, pause: ms(1) }
}

/// A job that panics at this number, in a map of the source's task or after an exchange. Also
/// returns how often it got there.
fn panicking(exchange: bool, config: JobConfig) -> (JobHandle, Arc<AtomicU32>) {
    quiet();
    let (flow, times) = (Dataflow::new("poisoned"), Arc::new(AtomicU32::new(0)));
    let counting = Arc::clone(&times);
    let poison = move |number: u64| {
        if number == 3_000 {
            counting.fetch_add(1, Ordering::Relaxed);
            panic!("planned: {number} is poison");
        }
        number
    };
    let numbers = flow.source("in", Generator::new(5_000, |number| number));
    let sink = MemorySink::new();
    match exchange {
        false => numbers.map(poison).sink("out", sink),
        true => numbers
            .map(|number| (number % 5, number))
            .keyed()
            .process(move |number, _: &mut KeyState<'_, u64, u64>, out| out.push(poison(number)))
            .sink("out", sink),
    }
    let config = config.checkpoint_interval(None).parallelism(1);
    (flow.build(config).expect("builds").spawn().expect("starts"), times)
}

#[test]
fn the_same_panic_at_the_same_record_needs_no_third_try() {
    for exchange in [false, true] {
        let (handle, times) = panicking(exchange, config().restart(soon(10)));
        match wait(handle) {
            Err(error @ JobError::Repeated(_)) => {
                let text = error.to_string();
                assert!(text.contains("panicked twice with the same message"), "{text}");
                assert!(text.contains("3000 is poison"), "{text}");
                let range = text.split("one of records ").nth(1).expect("it says where");
                let bounds: Vec<u64> =
                    range.split([' ', ')']).filter_map(|word| word.parse().ok()).collect();
                let &[first, last, ..] = &bounds[..] else { panic!("no range: {text}") };
                assert!(exchange || (first..=last).contains(&3001), "{text}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(times.load(Ordering::Relaxed), 2);
        let (handle, times) = panicking(exchange, config().restart(soon(4)).retry_anyway(true));
        assert!(matches!(wait(handle), Err(JobError::Failed(_))));
        assert_eq!(times.load(Ordering::Relaxed), 5, "it is the strategy's to say");
    }
}

#[test]
fn a_sink_that_is_fenced_off_for_good_costs_no_restarts() {
    let place = tempfile::tempdir().expect("a scratch directory");
    let run = |checkpoints: &str| {
        let flow = Dataflow::new("lines");
        flow.source("in", MemorySource::new(vec![1u64, 2, 3]))
            .sink("out", FileSink::new(place.path().join("output")));
        let config = config().parallelism(1).directory(place.path().join(checkpoints));
        wait(flow.build(config.restart(HOURS)).expect("builds").spawn().expect("starts"))
    };
    // Three runs, so that the fence is far ahead of the first fence of another lineage.
    for _ in 0..3 {
        assert_ended(run("kept"), Ended::Finished);
    }
    match run("deleted") {
        Err(JobError::Failed(failure)) => {
            assert!(failure.to_string().contains("fenced off"), "{failure}");
            assert!(failure.to_string().contains("give it a new output place"), "{failure}");
        }
        other => panic!("{other:?}"),
    }
}

#[cfg(unix)]
#[test]
fn what_may_not_be_opened_costs_no_restarts() {
    let place = tempfile::tempdir().expect("a scratch directory");
    let file = place.path().join("file");
    std::fs::write(&file, "in the way").expect("writable");
    let flow = Dataflow::new("lines");
    flow.source("in", MemorySource::new(vec![1u64])).sink("out", FileSink::new(file.join("out")));
    let config = config().parallelism(1).restart(HOURS);
    let failed = wait(flow.build(config).expect("builds").spawn().expect("starts"));
    assert!(matches!(failed, Err(JobError::Failed(_))), "{failed:?}");
}

/// An error that may pass: each restart is tried, unless the job is stopped.
fn failing(config: JobConfig) -> JobHandle {
    let flow = Dataflow::new("failing");
    flow.source("in", Generator::new(None, |number| number).rate(1_000))
        .try_map(|_| Err::<u64, BoxError>("the service is down".into()))
        .sink("out", MemorySink::new());
    let config = config.parallelism(1).checkpoint_interval(None);
    flow.build(config).expect("builds").spawn().expect("starts")
}

#[test]
fn the_status_says_when_it_is_tried_again() {
    let handle = failing(config().restart(HOURS));
    until("it waits", || handle.status().next_try.is_some());
    let next = handle.status().next_try.expect("it waits");
    assert_eq!((next.number, next.of, next.pause.as_secs()), (1, Some(10), 36_000));
    assert!(next.to_string().starts_with("restart 1 of 10 in 36000.0 s: operator `in`"), "{next}");
    assert!(next.cause.contains("the service is down"), "{next}");
    handle.cancel();
    match wait(handle) {
        Err(error @ JobError::Interrupted { .. }) => {
            assert!(error.to_string().contains("the service is down"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_stop_during_the_pause_ends_the_job_at_once() {
    for stop in [JobHandle::suspend, JobHandle::drain] {
        let handle = failing(config().restart(HOURS));
        until("it waits", || handle.status().next_try.is_some());
        stop(&handle);
        match wait(handle) {
            Err(error @ JobError::Interrupted { .. }) => {
                assert!(error.to_string().contains("the service is down"), "{error}");
            }
            // No record had reached the map before the stop's checkpoint.
            Ok(outcome) => {
                let status = outcome.status;
                assert!(status.last_failure.is_some_and(|text| text.contains("is down")));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_pause_without_end_can_be_cancelled() {
    let handle = failing(config().restart(Restart::Fixed { attempts: 10, pause: Duration::MAX }));
    until("it waits", || handle.status().next_try.is_some() || handle.is_over());
    handle.cancel();
    match wait(handle) {
        Err(JobError::Interrupted { failure, .. }) => {
            assert!(failure.contains("the service is down"), "{failure}");
        }
        other => panic!("{other:?}"),
    }
}

/// The next complete checkpoint clears the failure.
#[test]
fn a_job_that_is_mended_is_cancelled_without_an_error() {
    let (flow, once) = (Dataflow::new("mended"), AtomicBool::new(true));
    let once = Arc::new(once);
    flow.source("in", Generator::new(None, |number| number).rate(20_000))
        .try_map(move |number| match number == 100 && once.swap(false, Ordering::Relaxed) {
            true => Err::<u64, BoxError>("once".into()),
            false => Ok(number),
        })
        .sink("out", MemorySink::new());
    let config = config().parallelism(1).restart(soon(10));
    let handle = flow.build(config).expect("builds").spawn().expect("starts");
    until("a checkpoint is complete after the failure", || {
        let status = handle.status();
        let attempt = status.attempt.filter(|_| status.restarts > 0);
        status.history.iter().any(|it| it.completed && Some(it.attempt) == attempt)
    });
    handle.cancel();
    assert_ended(wait(handle), Ended::Cancelled);
}

/// A sink that can be opened once.
#[derive(Clone)]
struct Shut(MemorySink<u64>, Arc<AtomicBool>);

impl TwoPhaseSink for Shut {
    type Record = u64;
    type Committable = TxnId;
    type Writer = <MemorySink<u64> as TwoPhaseSink>::Writer;
    type Committer = <MemorySink<u64> as TwoPhaseSink>::Committer;

    fn open(&self, at: &OpenContext) -> Result<(Self::Writer, Self::Committer), BoxError> {
        match self.1.swap(true, Ordering::Relaxed) {
            true => Err("the door is shut".into()),
            false => self.0.open(at),
        }
    }
}

/// One try at once, and if that fails too the job ends: it does not wait for the next pause.
#[test]
fn a_job_that_is_stopped_and_fails_again_is_not_restarted() {
    let flow = Dataflow::new("shut");
    flow.source("in", Generator::new(None, |number| number).rate(1_000))
        .try_map(|_| Err::<u64, BoxError>("the service is down".into()))
        .sink("out", Shut(MemorySink::new(), Arc::default()));
    let config = config().parallelism(1).checkpoint_interval(None).restart(HOURS);
    let handle = flow.build(config).expect("builds").spawn().expect("starts");
    until("it waits", || handle.status().next_try.is_some());
    handle.suspend();
    match wait(handle) {
        Err(error @ JobError::Interrupted { .. }) => {
            assert!(error.to_string().contains("the door is shut"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

/// A job that has recovered by then stops as usual.
#[test]
fn a_stop_during_the_pause_is_granted_if_the_job_can_be_restored() {
    let (sink, store, fails) =
        (MemorySink::new(), MemoryStore::new(), Arc::new(AtomicBool::new(true)));
    let run = |config: JobConfig| {
        let (flow, once) = (Dataflow::new("mended"), Arc::clone(&fails));
        flow.source("in", Generator::new(2_000, |number| number).rate(20_000))
            .try_map(move |number| match number == 100 && once.swap(false, Ordering::Relaxed) {
                true => Err::<u64, BoxError>("once".into()),
                false => Ok(number),
            })
            .sink("out", sink.clone());
        flow.build(config.parallelism(1)).expect("builds").spawn().expect("starts")
    };
    let handle = run(in_memory(&store).restart(HOURS));
    until("it waits", || handle.status().next_try.is_some());
    handle.suspend();
    let outcome = wait(handle).expect("it is mended");
    assert!(matches!(outcome.ended, Ended::Suspended | Ended::Finished), "{:?}", outcome.ended);
    assert!(outcome.status.next_try.is_none());
    let outcome = wait(run(in_memory(&store))).expect("it goes on");
    assert_eq!(outcome.ended, Ended::Finished);
    let mut found = sink.committed();
    found.sort_unstable();
    assert!(found.into_iter().eq(0..2_000));
}

/// A sink whose receiver is down while the flag is set.
#[derive(Clone)]
struct Down(MemorySink<u64>, Arc<AtomicBool>);

struct DownCommitter<C>(C, Arc<AtomicBool>);

impl TwoPhaseSink for Down {
    type Record = u64;
    type Committable = TxnId;
    type Writer = <MemorySink<u64> as TwoPhaseSink>::Writer;
    type Committer = DownCommitter<<MemorySink<u64> as TwoPhaseSink>::Committer>;

    fn open(&self, at: &OpenContext) -> Result<(Self::Writer, Self::Committer), BoxError> {
        let (writer, committer) = self.0.open(at)?;
        Ok((writer, DownCommitter(committer, Arc::clone(&self.1))))
    }
}

impl<C: SinkCommitter<Committable = TxnId>> SinkCommitter for DownCommitter<C> {
    type Committable = TxnId;

    fn fence(&mut self, attempt: Attempt) -> Result<Vec<(TxnId, TxnId)>, BoxError> {
        self.0.fence(attempt)
    }

    fn prepare(&mut self, txn: TxnId, it: &TxnId) -> Result<(), BoxError> {
        self.0.prepare(txn, it)
    }

    fn commit(&mut self, grant: CommitGrant, it: &TxnId) -> Result<CommitOutcome, BoxError> {
        match self.1.load(Ordering::Relaxed) {
            true => Ok(CommitOutcome::Retry),
            false => self.0.commit(grant, it),
        }
    }

    fn trouble(&self) -> Option<String> {
        Some("the receiver is down".to_owned())
    }

    fn roll_back(&mut self, txn: TxnId, it: &TxnId) -> Result<(), BoxError> {
        self.0.roll_back(txn, it)
    }
}

fn uncommitted(outcome: Result<Outcome, JobError>) {
    match outcome {
        Err(error @ JobError::Uncommitted { .. }) => {
            let text = error.to_string();
            assert!(text.contains("by out (the receiver is down)"), "{text}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_stop_waits_for_its_sinks_only_so_long_and_names_them() {
    let (store, down) = (MemoryStore::new(), Arc::new(AtomicBool::new(true)));
    let sink = Down(MemorySink::new(), Arc::clone(&down));
    let handle = numbers(None, sink.clone(), in_memory(&store).parallelism(1).stop_timeout(ms(50)));
    until("something is to be committed", || {
        handle.status().tasks.iter().any(|task| task.commit_failure.is_some())
    });
    handle.suspend();
    uncommitted(wait(handle));
    // A cancellation meanwhile reports the same.
    let patient = in_memory(&store).parallelism(1).stop_timeout(None).resume(Resume::Never);
    let handle = numbers(None, sink.clone(), patient);
    until("it commits", || handle.status().tasks.iter().any(|task| task.commit_failure.is_some()));
    handle.suspend();
    handle.cancel();
    uncommitted(wait(handle));
    // The next run commits the remaining transactions.
    down.store(false, Ordering::Relaxed);
    let again = in_memory(&store).parallelism(1).resume(Resume::Never);
    let outcome = assert_ended(wait(numbers(None, sink.clone(), again)), Ended::Suspended);
    assert!(outcome.over_before.is_some(), "it had been suspended");
    let found = sink.0.committed();
    assert!(found.iter().copied().eq(0..found.len() as u64) && !found.is_empty());
}

/// State that serde refuses unless it is empty.
#[derive(Clone, Default, serde::Deserialize)]
struct Refusing(BTreeMap<u64, u64>);

impl serde::Serialize for Refusing {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_empty() {
            return self.0.serialize(serializer);
        }
        Err(serde::ser::Error::custom("this state does not want to be written"))
    }
}

#[test]
fn why_checkpoints_fail_is_said_wherever_failures_are_reported() {
    let flow = Dataflow::new("refusing");
    flow.source("in", Generator::new(None, |number| (number % 7, number)).rate(5_000))
        .keyed()
        .process(|value, state: &mut KeyState<'_, u64, Refusing>, out| {
            state.0.insert(value, value);
            out.push(value);
        })
        .named("state")
        .sink("out", MemorySink::new());
    let config = config().parallelism(1).tolerable_failures(3).restart(HOURS);
    let handle = flow.build(config).expect("builds").spawn().expect("starts");
    until("one is given up", || handle.status().failed > 0);
    let words = "this state does not want to be written";
    if let Err(error) = handle.checkpoint() {
        assert!(
            error == CheckpointFailed::JobEnded || error.to_string().contains(words),
            "{error}"
        );
    }
    let status = handle.status();
    let given_up = status.history.iter().find(|stats| stats.cause.is_some()).expect("one");
    assert!(given_up.cause.as_deref().is_some_and(|cause| cause.contains(words)), "{given_up:?}");
    assert!(status.last_failure.as_deref().is_some_and(|text| text.contains(words)), "{status:?}");
    // The failure is known to be permanent.
    match wait(handle) {
        Err(error @ (JobError::Checkpoints { .. } | JobError::Failed(_))) => {
            let text = error.to_string();
            assert!(text.contains(words) && text.contains("operator `state`"), "{text}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_finished_job_started_again_says_that_it_is_over() {
    let (store, sink) = (MemoryStore::new(), MemorySink::new());
    let run = || {
        let flow = Dataflow::new("once");
        flow.source("in", MemorySource::new(vec![1u64, 2, 3])).sink("out", sink.clone());
        let config = in_memory(&store).parallelism(1);
        assert_ended(
            wait(flow.build(config).expect("builds").spawn().expect("starts")),
            Ended::Finished,
        )
    };
    let first = run();
    assert_eq!(first.over_before, None);
    let again = run();
    assert_eq!(again.over_before, first.status.newest_checkpoint);
    assert!(again.over_before.is_some());
}

#[test]
fn a_stream_that_goes_nowhere_is_named() {
    let nowhere = |describe: fn(&Dataflow)| {
        let flow = Dataflow::new("nowhere");
        describe(&flow);
        match flow.build(JobConfig::new().parallelism(1)) {
            Err(error @ BuildError::GoesNowhere { .. }) => error.to_string(),
            other => panic!("{other:?}"),
        }
    };
    fn numbers() -> MemorySource<(u64, u64)> {
        MemorySource::new(vec![(1, 1)])
    }
    let alone = nowhere(|flow| drop(flow.source("lonely", numbers())));
    assert_eq!(alone, "the stream of `lonely` has no sink; end it with `sink`, or remove it");
    let beside = nowhere(|flow| {
        flow.source("in", numbers()).sink("out", MemorySink::new());
        drop(flow.source("lonely", numbers()).map(|it| it).named("renamed"));
    });
    assert!(beside.contains("`lonely`"), "{beside}");
    let keyed = nowhere(|flow| {
        flow.source("in", numbers()).sink("out", MemorySink::new());
        drop(flow.source("counted", numbers()).keyed().count(snapline::Emit::AtEnd));
    });
    assert!(keyed.contains("`counted`"), "{keyed}");
}

const PLACE: &str = "SNAPLINE_TEST_UNMENDABLE";

/// Only acts in the child: runs a job that fails once, then permanently.
#[test]
fn child() {
    let Some(place) = std::env::var_os(PLACE).map(PathBuf::from) else { return };
    let tries = Arc::new(AtomicU32::new(0));
    let flow = Dataflow::new("loud");
    flow.source("in", Generator::new(10, |number| number))
        .try_map(move |_| {
            let tries = tries.fetch_add(1, Ordering::Relaxed);
            Err::<u64, BoxError>(match tries {
                0 => "the service is down\n\u{1b}[2J".into(),
                _ => snapline::Permanent::new("for good").into(),
            })
        })
        .sink("out", MemorySink::new());
    let config = JobConfig::new().parallelism(1).restart(soon(10)).quiet(place.ends_with("quiet"));
    let failed = flow.build(config).expect("builds").run().expect_err("it fails");
    std::fs::write(place, format!("{failed:?}")).expect("writable");
}

/// The standard error of a process without a subscriber, and the output of a `main` that returns
/// the error.
fn said(place: &Path) -> (String, String) {
    let me = std::env::current_exe().expect("this test runs");
    let mut child = Command::new(me)
        .args(["unmendable::child", "--exact", "--nocapture", "--test-threads=1"])
        .env(PLACE, place)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("this executable can be started");
    let begin = Instant::now();
    while child.try_wait().expect("a child").is_none() {
        assert!(begin.elapsed() < FOR_EVER, "the child did not end");
        std::thread::sleep(ms(5));
    }
    let output = child.wait_with_output().expect("it has ended");
    let error = std::fs::read_to_string(place).expect("written");
    (String::from_utf8_lossy(&output.stderr).into_owned(), error)
}

#[test]
fn a_process_without_a_subscriber_says_its_restarts_on_standard_error() {
    let place = tempfile::tempdir().expect("a scratch directory");
    let (stderr, error) = said(&place.path().join("loud"));
    let line = stderr.lines().find(|line| line.starts_with("snapline: ")).unwrap_or_default();
    assert!(
        line.starts_with(
            "snapline: job `loud`: restart 1 of 10 in 0.0 s: operator `in`, subtask 0"
        ),
        "{stderr}"
    );
    // On one line, without control characters for the terminal.
    assert!(line.ends_with("the service is down\\n\\u{1b}[2J"), "{line}");
    assert!(!stderr.contains('\u{1b}'), "{stderr}");
    assert_eq!(
        error,
        "the job failed and is not restarted: operator `in`, subtask 0, attempt 1.2, processing records: for good"
    );
    let (stderr, _) = said(&place.path().join("quiet"));
    assert!(!stderr.contains("snapline: "), "{stderr}");
}
