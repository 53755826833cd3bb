//! Jobs in processes that are killed with SIGKILL: at named points of the protocol, at random
//! moments, during commits, during recovery, and repeatedly. Whatever happened, the final output
//! has every record once.
//!
//! The processes are this test's own binary, run again with [`CHILD`] in its environment. The
//! runtime knows nothing of the points: the store, the sources and the sinks are wrapped
//! ([`kill_points`]).
//!
//! Each shape of a job has a reference, or a judge downstream of operators that depend on the
//! clock. `tests/operators.md` lists the operators of each shape, and their places in the random
//! pipelines and in the simulation. With the name of a shape in [`ONLY`] that shape runs alone:
//! `SNAPLINE_CRASH_SHAPE=Joined cargo test --all-features --test crash killed`.
#![cfg(unix)]
#![allow(clippy::print_stdout, reason = "the suite says what came of it")]

mod broadcast;
mod child;
mod clocked;
#[allow(dead_code, reason = "its main is not run here")]
#[path = "../../examples/custom_sink.rs"]
mod custom_sink;
mod fired;
mod joined;
#[cfg(all(feature = "formats", feature = "http", feature = "parquet", feature = "sqlite"))]
mod kept;
mod kill_points;
#[path = "../pipelines/noted.rs"]
mod noted;
mod plan;
mod ranked;
mod verify;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kill_points::POINTS;
use plan::{Life, Plan, Plans, Shape};
use verify::Verdict;

/// Environment variable of a child: the job to run.
const CHILD: &str = "SNAPLINE_CRASH_CHILD";
/// Environment variable of a child: the point at which to kill itself, and how often it gets there
/// first.
const KILL_AT: &str = "SNAPLINE_CRASH_AT";

/// Environment variable of the suite: the one shape to run, by its name in [`Shape`].
const ONLY: &str = "SNAPLINE_CRASH_SHAPE";
/// The number of further plans for a point that no process has reached.
const TRIES: usize = 5;

/// Far longer than any life of these small jobs.
const PATIENCE: Duration = Duration::from_secs(60);

const SIGKILL: i32 = 9;

/// Totals over all lives of all jobs.
#[derive(Default)]
struct Tally {
    jobs: usize,
    restarts: usize,
    checkpoints: u64,
    at_points: BTreeMap<(Shape, usize), usize>,
    at_random: usize,
    /// Lives killed before they had completed a checkpoint of their own: mostly during recovery.
    without_checkpoint: usize,
    duplicates: usize,
    lost: usize,
    /// Records that were late because their source had been idle.
    late: usize,
    /// Replayed lines of recorded runs, and torn last lines.
    replayed: u64,
    torn: usize,
}

impl Tally {
    fn kills(&self) -> usize {
        self.at_points.values().sum::<usize>() + self.at_random
    }
}

/// The child, when this binary runs as one. Otherwise it does nothing.
#[test]
#[ignore = "run by the other test, as the processes that are killed"]
fn child() {
    if let Ok(job) = std::env::var(CHILD) {
        #[cfg(all(feature = "formats", feature = "http", feature = "parquet", feature = "sqlite"))]
        if let Some(kept) = job.strip_prefix(kept::KEPT) {
            kill_points::arm(std::env::var(KILL_AT).ok().as_deref());
            return kept::run(kept);
        }
        child::run(&job, std::env::var(KILL_AT).ok().as_deref());
    }
}

#[test]
fn killed_anywhere_nothing_is_lost_and_nothing_is_there_twice() {
    let began = Instant::now();
    let only = std::env::var(ONLY).ok();
    let is_asked = |shape: &Shape| only.as_ref().is_none_or(|only| format!("{shape:?}") == *only);
    let shapes: Vec<Shape> = Shape::ALL.iter().copied().filter(is_asked).collect();
    assert!(!shapes.is_empty(), "{ONLY} names no shape");
    let mut plans = Plans::new();
    let all = plans.all(&shapes);
    let tally = Mutex::new(Tally::default());
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(plan) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    run(plan, &tally);
                }
            });
        }
    });
    // The timing of a process is not determined: a job may reach a point less often than planned.
    // So it is planned again.
    let is_missed =
        |at: &(Shape, usize)| !tally.lock().expect("none panicked").at_points.contains_key(at);
    let places = shapes.iter().flat_map(|shape| shape.points().map(|point| (*shape, point)));
    let mut missed: Vec<(Shape, usize)> = places.filter(is_missed).collect();
    for _ in 0..TRIES {
        for &(shape, point) in &missed {
            run(&plans.at(shape, point), &tally);
        }
        missed.retain(is_missed);
    }
    let tally = tally.into_inner().expect("no thread panicked");
    let summary = format!(
        "crash suite: {} jobs, {} kills ({} at {} named points, {} at random moments, {} of them before a first checkpoint), \
         {} restarts, {} checkpoints, {} duplicates, {} lost, {} recorded lines replayed ({} last lines torn), {:.1} s",
        tally.jobs,
        tally.kills(),
        tally.at_points.values().sum::<usize>(),
        POINTS.len(),
        tally.at_random,
        tally.without_checkpoint,
        tally.restarts,
        tally.checkpoints,
        tally.duplicates,
        tally.lost,
        tally.replayed,
        tally.torn,
        began.elapsed().as_secs_f64()
    );
    // Past the harness, which hides the output of a test that passes.
    writeln!(std::io::stderr(), "{summary}").expect("it can be written");
    let missed: Vec<_> = missed.iter().map(|&(shape, point)| (shape, POINTS[point])).collect();
    assert!(missed.is_empty(), "no process was killed at {missed:?}");
    assert_eq!((tally.duplicates, tally.lost), (0, 0));
    if only.is_some() {
        return;
    }
    assert!(tally.kills() >= 1_000, "only {} processes were killed", tally.kills());
    assert!(tally.late > 0, "no source was ever idle for so long that time went on without it");
    assert!(tally.replayed > 50_000, "only {} lines were recorded", tally.replayed);
}

/// Runs a job's lives to its end and checks the files that it left.
fn run(plan: &Plan, tally: &Mutex<Tally>) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let job = plan.job.to_text(dir.path());
    let mut finished = false;
    // The planned lives, and then one that is not killed. It also shows that a finished job does
    // nothing more.
    for (number, life) in plan.lives.iter().chain([&Life::Natural]).enumerate() {
        let came = live(&job, *life, dir.path()).unwrap_or_else(|wrong| {
            let kept = dir.path().display();
            panic!("life {number} of {plan:?} in {kept} (removed): {wrong}")
        });
        let mut tally = tally.lock().expect("no thread panicked");
        tally.restarts += usize::from(number > 0);
        tally.checkpoints += came.checkpoints;
        match (came.killed, life) {
            (false, _) => finished = true,
            (true, Life::Point(point, _)) => {
                *tally.at_points.entry((plan.job.shape, *point)).or_default() += 1;
            }
            (true, _) => tally.at_random += 1,
        }
        tally.without_checkpoint += usize::from(came.killed && came.checkpoints == 0);
    }
    assert!(finished, "{plan:?}: the last life was killed by another process");
    let Verdict { duplicates, lost, late, wrong } = verify::output(&plan.job, dir.path());
    let mut wrong = Vec::from_iter(wrong);
    wrong.extend(verify::store(&plan.job, dir.path()));
    wrong.extend(verify::leftovers(&plan.job, dir.path()));
    let (replayed, torn, different) = verify::traces(dir.path());
    wrong.extend(different);
    if !wrong.is_empty() {
        let kept = dir.keep();
        panic!("{plan:?}, in {}: {}", kept.display(), wrong.join("; "));
    }
    let mut tally = tally.lock().expect("no thread panicked");
    tally.jobs += 1;
    tally.replayed += replayed;
    tally.torn += torn;
    tally.duplicates += duplicates;
    tally.lost += lost;
    tally.late += late;
}

/// The end of a life.
struct Came {
    killed: bool,
    checkpoints: u64,
}

/// Runs a job in this directory until its life ends.
fn live(job: &str, life: Life, dir: &Path) -> Result<Came, String> {
    let mut command = Command::new(std::env::current_exe().map_err(|error| error.to_string())?);
    command.args(["--exact", "child", "--ignored", "--nocapture", "--test-threads", "1"]);
    command
        .current_dir(dir)
        .env(CHILD, job)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Life::Point(point, count) = life {
        command.env(KILL_AT, format!("{}:{count}", POINTS[point]));
    }
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let status = end(&mut child, life);
    // A child writes little: it fits into the pipe.
    let (mut said, mut complained) = (String::new(), String::new());
    let read = child.stdout.take().map(|mut out| out.read_to_string(&mut said));
    read.transpose().map_err(|error| error.to_string())?;
    let read = child.stderr.take().map(|mut err| err.read_to_string(&mut complained));
    read.transpose().map_err(|error| error.to_string())?;
    let status = status?;
    let killed = status.signal() == Some(SIGKILL);
    if !killed && !status.success() {
        return Err(format!("it ended with {status}, saying {complained} {said}"));
    }
    let checkpoints = said.lines().filter(|line| line.contains(child::COMPLETE)).count() as u64;
    Ok(Came { killed, checkpoints })
}

/// Waits for the child's end. Kills it where that is planned, or after a timeout.
fn end(child: &mut Child, life: Life) -> Result<ExitStatus, String> {
    let began = Instant::now();
    let limit = match life {
        Life::Random(after) => after,
        Life::Point(..) | Life::Natural => PATIENCE,
    };
    loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            return Ok(status);
        }
        if began.elapsed() >= limit {
            child.kill().map_err(|error| error.to_string())?;
            let status = child.wait().map_err(|error| error.to_string())?;
            return match life {
                Life::Random(_) => Ok(status),
                Life::Point(..) | Life::Natural => Err(format!("it did not end in {PATIENCE:?}")),
            };
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// The checkpoint directory of a job.
fn checkpoints(dir: &Path) -> std::path::PathBuf {
    dir.join("checkpoints")
}

/// The directory of its recorded runs.
fn traces(dir: &Path) -> std::path::PathBuf {
    dir.join("trace")
}

/// The output directory of a job's sink.
fn output(dir: &Path, sink: &str) -> std::path::PathBuf {
    dir.join(sink)
}
