//! Counts the words of a file, a directory, all files that match a pattern, or a built-in text.
//!
//! ```sh
//! cargo run --example word_count               # the text below
//! cargo run --example word_count -- README.md  # a file
//! cargo run --example word_count -- 'logs/**'  # many
//! ```
//!
//! Results and checkpoints go into a new temporary directory, or into the one that `WORD_COUNT_DIR`
//! names. With that set, stop it with Ctrl-C and run it again: it resumes.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use snapline::connect::{FileSink, FileSource, read_committed};
use snapline::{Dataflow, Emit, Ended, JobConfig, Restart};

const TEXT: &str = "the snapline is struck once\nand the line is straight\nonce is enough\n";

fn main() -> Result<(), Box<dyn Error>> {
    let temporary = tempfile::tempdir()?;
    let place = std::env::var_os("WORD_COUNT_DIR").map(PathBuf::from);
    let place = place.unwrap_or_else(|| temporary.path().to_owned());
    let source = match std::env::args_os().nth(1) {
        Some(path) => FileSource::path(PathBuf::from(path)),
        None => {
            std::fs::create_dir_all(&place)?;
            let own = place.join("text.txt");
            std::fs::write(&own, TEXT)?;
            FileSource::path(own)
        }
    };

    let flow = Dataflow::new("word-count");
    flow.source("lines", source)
        .flat_map(|line: String| line.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>())
        .key_by(|word| word.clone())
        .count(Emit::AtEnd)
        .map(|(word, count)| format!("{count:>6} {word}"))
        .sink("counts", FileSink::new(place.join("results")));

    let config = JobConfig::new()
        .parallelism(2)
        .checkpoint_interval(Duration::from_secs(1))
        // A missing file will still be missing in a minute.
        .restart(Restart::Fixed { attempts: 2, pause: Duration::from_millis(100) })
        .directory(place.join("checkpoints"));
    let job = flow.build(config)?;
    println!("guarantee: {}", job.guarantee());
    let outcome = job.run()?;
    println!("outcome: {:?}, {} checkpoints", outcome.ended, outcome.status.completed);

    let mut lines = read_committed(place.join("results"))?;
    lines.sort_by(|a, b| b.cmp(a));
    for line in lines.iter().take(10) {
        println!("{line}");
    }
    match outcome.ended {
        Ended::Finished if lines.is_empty() => Err("no words were counted".into()),
        _ => Ok(()),
    }
}
