//! SIGTERM to a separate process: this executable again, whose environment makes it play the child.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use snapline::connect::{FileSink, Generator};
use snapline::{Dataflow, Ended, JobConfig};

use crate::kit::{FOR_EVER, config, ms, until};

const DIRECTORY: &str = "SNAPLINE_TEST_DIRECTORY";

fn run(directory: &Path, config: JobConfig) -> Ended {
    let flow = Dataflow::new("numbers");
    flow.source("in", Generator::new(20_000, |number| number).rate(10_000))
        .sink("out", FileSink::new(directory.join("results")));
    let job = flow.build(config.directory(directory.join("checkpoints"))).expect("builds");
    job.run().expect("no failure").ended
}

/// Only acts in the child.
#[test]
fn child() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    let ended = run(&directory, config());
    std::fs::write(directory.join("ended"), format!("{ended:?}")).expect("writable");
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    let sent = Command::new("kill").args([name, &pid]).status().expect("there is a `kill`");
    assert!(sent.success(), "the child is not there any more");
}

#[test]
fn a_signal_suspends_a_job_and_the_next_run_goes_on() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let me = std::env::current_exe().expect("this test runs");
    let mut child = Command::new(me)
        .args(["signals::child", "--exact", "--test-threads=1"])
        .env(DIRECTORY, directory.path())
        .stdout(Stdio::null())
        .spawn()
        .expect("this executable can be started");
    let results = directory.path().join("results");
    until("the child has committed something", || {
        snapline::connect::read_committed(&results).is_ok_and(|lines| !lines.is_empty())
    });
    signal(&child, "-TERM");
    let begin = Instant::now();
    while child.try_wait().expect("a child").is_none() {
        assert!(begin.elapsed() < FOR_EVER, "the child did not end");
        std::thread::sleep(ms(5));
    }
    let ended = std::fs::read_to_string(directory.path().join("ended")).expect("written");
    assert_eq!(ended, "Suspended");
    let lines = || snapline::connect::read_committed(&results).expect("readable");
    assert!(lines().len() < 20_000);
    assert_eq!(run(directory.path(), config()), Ended::Finished);
    let mut found: Vec<u64> = lines().iter().map(|line| line.parse().expect("a number")).collect();
    found.sort_unstable();
    assert!(found.into_iter().eq(0..20_000));
}
