//! Prints the lines of its input that hold a word.
//!
//! ```sh
//! cat SPEC.md | cargo run --example grep -- checkpoint
//! ```
//!
//! Standard input cannot be read again: a failure loses lines that were read and not printed. The
//! guarantee says so, and a stronger requirement is refused before the job runs.

use std::error::Error;

use snapline::connect::{Stdin, Stdout};
use snapline::{Dataflow, JobConfig, Level, Restart};

fn main() -> Result<(), Box<dyn Error>> {
    let word = std::env::args().nth(1).ok_or("usage: grep WORD < FILE")?;
    let flow = Dataflow::new("grep");
    flow.source("stdin", Stdin::lines().max_line_bytes(64 * 1024))
        .filter(move |line| line.contains(&word))
        .sink("stdout", Stdout::new());
    // A malformed line, or a reader that has gone, ends the job: no restart helps.
    let config = JobConfig::new().parallelism(1).restart(Restart::Never);
    let job = flow.build(config.require(Level::AtMostOnce))?;
    eprintln!("guarantee: {}", job.guarantee());
    // In words.
    job.run().map_err(|error| error.to_string())?;
    Ok(())
}
