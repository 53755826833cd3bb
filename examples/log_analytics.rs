//! Counts each host's requests and errors per minute, by the times in the log. Lines that are out
//! of order are waited for; later ones are counted separately.
//!
//! ```sh
//! cargo run --example log_analytics
//! ```
//!
//! The log is made here: 3 hosts, 10 minutes, most lines seconds out of order, some minutes late.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::time::Duration;

use snapline::connect::{FileSink, FileSource, Source, TwoPhaseSink, read_committed};
use snapline::{BoxError, Dataflow, Ended, JobConfig, Level, Timestamp, Tumbling, Watermarks};

/// A line of the log: `SECOND HOST STATUS`.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Request {
    second: i64,
    host: String,
    status: u16,
}

fn parse(line: &str) -> Result<Request, BoxError> {
    let mut words = line.split(' ');
    let mut word = || words.next().ok_or_else(|| format!("`{line}` is not a line of the log"));
    Ok(Request { second: word()?.parse()?, host: word()?.into(), status: word()?.parse()? })
}

/// 6,000 lines: one in ten is out of order, one in a hundred minutes late.
pub(crate) fn log() -> String {
    let line = |number: i64| {
        let held_back = match number {
            _ if number % 100 == 99 => 180,
            _ if number % 10 == 5 => 8,
            _ => 0,
        };
        let second = (number / 10 - held_back).max(0);
        let status = if number % 13 == 0 { 500 } else { 200 };
        format!("{second} host-{} {status}\n", number % 3)
    };
    (0..6_000).map(line).collect()
}

pub(crate) fn pipeline(
    log: impl Source<Record = String>,
    per_minute: impl TwoPhaseSink<Record = String>,
    late: impl TwoPhaseSink<Record = String>,
) -> Dataflow {
    let flow = Dataflow::new("log-analytics");
    let (minutes, too_late) = flow
        .source("log", log)
        .parallelism(1)
        .try_map(|line| parse(&line))
        .assign_timestamps(
            // Out of order by ten seconds. In steps, so that the same lines are late in every run.
            Watermarks::bounded(Duration::from_secs(10)).in_steps_of(Duration::from_secs(1)),
            |request| Timestamp::from_millis(request.second * 1_000),
        )
        .key_by(|request| request.host.clone())
        .window(Tumbling::of(Duration::from_secs(60)))
        .keep_late()
        .aggregate(|(requests, errors): &mut (u64, u64), request: Request| {
            *requests += 1;
            *errors += u64::from(request.status >= 500);
        })
        .split();
    minutes
        .map(|minute| {
            let ((requests, errors), start) = (minute.result, minute.window.start.millis());
            format!(
                "minute {} {}: {requests} requests, {errors} errors",
                start / 60_000,
                minute.key
            )
        })
        .sink("per-minute", per_minute);
    too_late.map(|(host, request)| format!("{host} {}", request.second)).sink("too-late", late);
    flow
}

fn main() -> Result<(), Box<dyn Error>> {
    let place = tempfile::tempdir()?;
    std::fs::write(place.path().join("access.log"), log())?;
    let flow = pipeline(
        FileSource::path(place.path().join("access.log")),
        FileSink::new(place.path().join("per-minute")),
        FileSink::new(place.path().join("too-late")),
    );

    let config = JobConfig::new()
        .parallelism(2)
        .checkpoint_interval(Duration::from_millis(100))
        .require(Level::ExactlyOnce)
        .directory(place.path().join("checkpoints"));
    let outcome = flow.build(config)?.run()?;
    println!("outcome: {:?}", outcome.ended);

    let mut minutes = read_committed(place.path().join("per-minute"))?;
    minutes.sort();
    let late = read_committed(place.path().join("too-late"))?;
    for line in minutes.iter().take(6) {
        println!("{line}");
    }
    let requests = |line: &String| -> Option<usize> {
        line.split(": ").nth(1)?.split(' ').next()?.parse().ok()
    };
    let counted: usize = minutes.iter().filter_map(requests).sum();
    println!("{} windows, {counted} requests in them, {} too late", minutes.len(), late.len());
    match outcome.ended {
        Ended::Finished if counted + late.len() == 6_000 => Ok(()),
        ended => Err(format!("{ended:?}: {counted} and {}, not 6000 requests", late.len()).into()),
    }
}
