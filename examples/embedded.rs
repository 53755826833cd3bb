//! A job inside a service: it runs on its own threads. The service watches it, takes a checkpoint
//! before a deployment, and suspends it. The next start resumes it.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use snapline::connect::{Generator, MemorySink};
use snapline::{Dataflow, Emit, Ended, Job, JobConfig, Restart};

/// The output of the service: visits by page.
type Visits = MemorySink<(u64, u64)>;

/// Each start describes the dataflow anew; the counts are in the directory.
fn job(directory: &Path, visits: &Visits) -> Result<Job, snapline::BuildError> {
    let flow = Dataflow::new("visits");
    flow.source("requests", Generator::new(None, |number| (number % 5, number)).rate(20_000))
        .keyed()
        .count(Emit::EachChange)
        .sink("visits", visits.clone());
    let config = JobConfig::new()
        .parallelism(2)
        .checkpoint_interval(Duration::from_millis(200))
        .restart(Restart::Fixed { attempts: 3, pause: Duration::from_millis(100) })
        .directory(directory);
    flow.build(config)
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let visits = Visits::new();

    let handle = job(directory.path(), &visits)?.spawn()?;
    println!("guarantee: {}", handle.guarantee());
    for _ in 0..3 {
        // The service works, and checks the job now and then.
        std::thread::sleep(Duration::from_millis(200));
        let status = handle.status();
        let read: u64 = status.tasks.iter().map(|task| task.records_in).sum();
        println!(
            "{:?}: {read} records through {} tasks, {} checkpoints, {} restarts",
            status.phase,
            status.tasks.len(),
            status.completed,
            status.restarts
        );
    }
    println!("checkpoint {} by hand", handle.checkpoint()?);
    handle.suspend();
    let outcome = handle.wait()?;
    println!("first life: {:?}, {} visits committed", outcome.ended, visits.committed_count());

    let before = visits.committed_count();
    let handle = job(directory.path(), &visits)?.spawn()?;
    let checkpoint = handle.checkpoint()?;
    let restored = handle.status().restored_from;
    handle.suspend();
    handle.wait()?;
    println!("second life: restored from {restored:?}, checkpoint {checkpoint}");

    // Each visit was counted once: a page's counts are 1, 2, 3, ... without gap or repetition.
    let mut all = visits.committed();
    all.sort_unstable();
    let counted = |page| all.iter().filter(move |(of, _)| *of == page).map(|(_, count)| *count);
    let exact =
        (0..5).all(|page| counted(page).zip(1..).all(|(count, expected)| count == expected));
    match outcome.ended == Ended::Suspended && restored.is_some() && all.len() >= before && exact {
        true => Ok(()),
        false => Err("visits were lost or counted twice".into()),
    }
}
