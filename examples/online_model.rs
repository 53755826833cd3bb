//! Learns while data flow: a logistic regression for each region, in keyed state. Each sample is
//! predicted before it is learned. The task is killed once; the models stay bitwise equal.
//!
//! ```sh
//! cargo run --example online_model
//! ```
//!
//! The samples are made here: two measurements and an answer by a region's line, with noise.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use snapline::connect::{Generator, MemorySink, Source, TwoPhaseSink};
use snapline::{BoxError, Dataflow, Emit, Ended, JobConfig, Level, Restart};

const SAMPLES: u64 = 40_000;
const REGIONS: u64 = 4;

/// The measurements, and the answer.
pub(crate) type Sample = ([f64; 2], bool);

/// A pseudo-random number from -1 to 1, the same in every run.
fn chance(number: u64) -> f64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (mixed ^ (mixed >> 31)) as f64 / u64::MAX as f64 * 2.0 - 1.0
}

pub(crate) fn sample(number: u64) -> (u64, Sample) {
    let region = number % REGIONS;
    let measured = [chance(3 * number), chance(3 * number + 1)];
    let line = measured[0] * (1.0 + region as f64) - measured[1] + 0.2;
    (region, (measured, line + 0.3 * chance(3 * number + 2) > 0.0))
}

/// A region's model, and its record so far.
#[derive(Clone, Copy, Default, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Model {
    weights: [f64; 2],
    bias: f64,
    seen: u64,
    right: u64,
}

impl Model {
    fn learn(&mut self, (measured, answer): Sample) {
        let sum = self.bias + self.weights[0] * measured[0] + self.weights[1] * measured[1];
        let probability = 1.0 / (1.0 + (-sum).exp());
        self.seen += 1;
        self.right += u64::from((probability > 0.5) == answer);
        let step = 0.5 * (f64::from(u8::from(answer)) - probability);
        self.weights[0] += step * measured[0];
        self.weights[1] += step * measured[1];
        self.bias += step;
    }

    fn accuracy(&self) -> f64 {
        100.0 * self.right as f64 / self.seen as f64
    }
}

/// `failing`: whether an attempt is killed when it reaches the middle of the data.
pub(crate) fn pipeline(
    numbers: impl Source<Record = u64>,
    failing: Arc<AtomicBool>,
    models: impl TwoPhaseSink<Record = (u64, Model)>,
) -> Dataflow {
    let flow = Dataflow::new("online-model");
    flow.source("samples", numbers)
        .parallelism(1) // so that a region's samples come in order
        .try_map(move |number| {
            // A restart loses progress since the last checkpoint, and learns it again.
            match number == SAMPLES / 2 && failing.swap(false, Ordering::Relaxed) {
                true => Err::<_, BoxError>("this attempt is killed".into()),
                false => Ok(sample(number)),
            }
        })
        .keyed()
        .aggregate(Emit::AtEnd, Model::learn)
        .sink("models", models);
    flow
}

fn main() -> Result<(), Box<dyn Error>> {
    let (models, failing) = (MemorySink::new(), Arc::new(AtomicBool::new(true)));
    let numbers = Generator::new(SAMPLES, |number| number).rate(40_000);
    let flow = pipeline(numbers, failing, models.clone());

    let config = JobConfig::new()
        .parallelism(2)
        .checkpoint_interval(Duration::from_millis(50))
        .restart(Restart::Fixed { attempts: 1, pause: Duration::from_millis(10) })
        .require(Level::ExactlyOnce);
    let outcome = flow.build(config)?.run()?;
    println!("outcome: {:?} after {} restart", outcome.ended, outcome.status.restarts);

    let mut found: Vec<(u64, Model)> = models.committed();
    found.sort_by_key(|(region, _)| *region);
    for (region, model) in &found {
        let ([first, second], bias) = (model.weights, model.bias);
        let accuracy = model.accuracy();
        println!("region {region}: {accuracy:.2} % right; {first:.3} {second:.3} {bias:.3}");
    }

    // The same, one sample after the other.
    let mut expected: Vec<_> = (0..REGIONS).map(|region| (region, Model::default())).collect();
    for (region, sample) in (0..SAMPLES).map(sample) {
        expected[region as usize].1.learn(sample);
    }
    match outcome.ended {
        Ended::Finished if found == expected && outcome.status.restarts == 1 => Ok(()),
        ended => Err(format!("{ended:?}: expected the models {expected:?}").into()),
    }
}
