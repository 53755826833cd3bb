//! The process that is killed: it runs the word count, and says on stdout how far it is.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use snapline::connect::{FileSink, Generator};
use snapline::{Dataflow, Emit, Job, JobConfig, JobStatus};

use super::early::EarlySink;
use super::{checkpoints, output, text, traces};
use crate::args::DemoChildArgs;
use crate::{CommandError, Exit, Terminal};

/// Between two reports.
const EVERY: Duration = Duration::from_millis(20);

/// Between two checkpoints.
const INTERVAL: Duration = Duration::from_millis(150);

/// The source's name.
const LINES: &str = "lines";

/// What the process says of itself, a line of JSON each time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct ChildStatus {
    /// Lines read in this life.
    pub(super) read: u64,
    /// Checkpoints completed in this life.
    pub(super) completed: u64,
    /// Whether a checkpoint is under way.
    pub(super) under_way: bool,
}

impl ChildStatus {
    fn of(status: &JobStatus) -> Self {
        let sources = status.tasks.iter().filter(|task| task.subtask.starts_with(LINES));
        Self {
            read: sources.map(|task| task.records_in).sum(),
            completed: status.completed,
            under_way: !status.under_way.is_empty(),
        }
    }
}

/// Runs the word count to its end, or to that of this process.
///
/// # Errors
/// [`CommandError`] if it cannot begin or does not go well.
pub fn run(args: &DemoChildArgs, terminal: &mut Terminal<'_>) -> Result<Exit, CommandError> {
    let job = job(args)?;
    let running = job.spawn().map_err(|error| CommandError::Damaged(error.to_string()))?;
    loop {
        let over = running.is_over();
        let report = ChildStatus::of(&running.status());
        // A parent that is gone has no use for the job; nor has it for one that it is about to
        // kill.
        let said = serde_json::to_string(&report).map_err(std::io::Error::other)?;
        writeln!(terminal.out(), "{said}")?;
        terminal.out().flush()?;
        if terminal.out_is_closed() {
            running.cancel();
            break;
        }
        if over {
            break;
        }
        thread::sleep(EVERY);
    }
    match running.wait() {
        Ok(_) => Ok(Exit::Good),
        Err(error) => Err(CommandError::Damaged(error.to_string())),
    }
}

fn job(args: &DemoChildArgs) -> Result<Job, CommandError> {
    let lines = text::lines(&args.input)?;
    let count = lines.len() as u64;
    let line = move |number: u64| Arc::clone(&lines[(number % count) as usize]);
    let flow = Dataflow::new("word-count");
    let counts = flow
        .source(LINES, Generator::new(count * args.passes, line).rate(args.rate))
        .flat_map(|line: Arc<str>| text::words(&line).collect::<Vec<_>>())
        .key_by(String::clone)
        .count(Emit::EachChange);
    let output = output(&args.dir);
    if args.unsafe_sink {
        counts.sink("counts", EarlySink { dir: output });
    } else {
        let encode = |(word, count): &(String, u64), line: &mut Vec<u8>| {
            line.extend_from_slice(format!("{word} {count}").as_bytes());
        };
        counts.sink("counts", FileSink::new(output).encode(encode));
    }
    let config = JobConfig::new()
        .parallelism(2)
        .checkpoint_interval(INTERVAL)
        .directory(checkpoints(&args.dir))
        .record(traces(&args.dir));
    flow.build(config).map_err(|error| CommandError::Usage(error.to_string()))
}
