//! Sends a job's checkpoints, attempts and recoveries to OpenTelemetry through `tracing`: here to
//! standard output. Use `opentelemetry-otlp` as exporter to send them to a collector.
//!
//! ```sh
//! cargo run --example telemetry
//! ```
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use snapline::connect::{Generator, MemorySink};
use snapline::{BoxError, Dataflow, JobConfig, Restart};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

fn main() -> Result<(), Box<dyn Error>> {
    let exporter = opentelemetry_stdout::SpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter).build();
    // Each subtask's part in a checkpoint is emitted at debug, in the checkpoint's span.
    let wanted = Targets::new()
        .with_target("snapline::checkpoint", LevelFilter::DEBUG)
        .with_target("snapline::job", LevelFilter::INFO);
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("snapline"));
    tracing_subscriber::registry().with(layer.with_filter(wanted)).init();

    let failing = Arc::new(AtomicBool::new(false));
    let fails = Arc::clone(&failing);
    let flow = Dataflow::new("numbers");
    flow.source("numbers", Generator::new(None, |number| number).rate(1_000))
        .try_map(move |number| match fails.swap(false, Ordering::Relaxed) {
            true => Err::<_, BoxError>("this attempt is killed".into()),
            false => Ok(number),
        })
        .sink("out", MemorySink::new());
    let config = JobConfig::new()
        .parallelism(1)
        .checkpoint_interval(None)
        .restart(Restart::Fixed { attempts: 1, pause: Duration::from_millis(50) });
    let handle = flow.build(config)?.spawn()?;
    handle.checkpoint()?;
    failing.store(true, Ordering::Relaxed);
    while handle.status().restarts == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    handle.suspend();
    let outcome = handle.wait()?;
    provider.shutdown()?;
    println!("{:?} after {} restart", outcome.ended, outcome.status.restarts);
    Ok(())
}
