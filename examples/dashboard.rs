//! A job with a status page: open the address that it prints. One of its operators is slow from
//! time to time; the page shows which task is late and why.
//!
//! ```sh
//! cargo run --release --features dashboard --example dashboard -- 120   # for two minutes
//! ```
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::time::Duration;

use snapline::connect::{Generator, MemorySink};
use snapline::{Dashboard, Dataflow, Emit, JobConfig, Restart};

fn main() -> Result<(), Box<dyn Error>> {
    let seconds = match std::env::args().nth(1) {
        Some(text) => text.parse()?,
        None => 30,
    };
    let flow = Dataflow::new("visits");
    flow.source("requests", Generator::new(None, |number| (number % 1_000, number)).rate(50_000))
        .keyed()
        .count(Emit::EachChange)
        .named("count-by-page")
        .inspect(|(_, count)| {
            // A service that it calls is slow for a moment.
            if count % 500 == 0 {
                std::thread::sleep(Duration::from_millis(5));
            }
        })
        .sink("visits", MemorySink::new());
    let directory = tempfile::tempdir()?;
    let config = JobConfig::new()
        .parallelism(2)
        .checkpoint_interval(Duration::from_secs(1))
        .restart(Restart::Fixed { attempts: 3, pause: Duration::from_secs(1) })
        .directory(directory.path());

    let handle = flow.build(config)?.spawn()?;
    let dashboard = handle.dashboard(Dashboard::new())?;
    println!("open {} within {seconds} s", dashboard.url());
    std::thread::sleep(Duration::from_secs(seconds));

    handle.suspend();
    let outcome = handle.wait()?;
    println!("{:?} after {} checkpoints", outcome.ended, outcome.status.completed);
    Ok(())
}
