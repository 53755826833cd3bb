//! Prints the tables of `models/README.md`: `cargo run --release -p snapline-models --example
//! tables [RESULTS.json]`, where the file is what `snapline check --all --json` wrote and gives the
//! figures of that run.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, Write};

use snapline_models::configs::{self, Suite};
use snapline_models::explore::Bounds;
use snapline_models::mutants::{Mutant, kill};
use snapline_models::run::Judgement;
use snapline_models::scenario::Scenario;

/// The bounds of a scenario in a few words; zeroes are left out.
fn bounds(scenario: &Scenario) -> Result<String, Box<dyn Error>> {
    let mut words = vec![
        format!("{} records", scenario.records),
        format!("{}+ checkpoints", scenario.checkpoints + 1),
    ];
    if let serde_json::Value::Object(faults) = serde_json::to_value(scenario.faults)? {
        let struck = faults.iter().filter(|(_, times)| **times != 0);
        words.extend(struck.map(|(fault, times)| format!("{times} {}", fault.replace('_', " "))));
    }
    if scenario.max_concurrent > 1 {
        words.push(format!("{} under way", scenario.max_concurrent));
    }
    if !scenario.prompt_writes {
        words.push("all writes in the background".into());
    }
    if scenario.queued == snapline_models::scenario::QueuedMessages::ALL {
        words.push("all messages wait".into());
    }
    Ok(words.join(", "))
}

fn main() -> Result<(), Box<dyn Error>> {
    let out = &mut io::stdout().lock();
    let mut figures: BTreeMap<String, (u64, f64)> = BTreeMap::new();
    if let Some(path) = std::env::args().nth(1) {
        let file: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
        for result in file["results"].as_array().into_iter().flatten() {
            let name = result["name"].as_str().unwrap_or_default().to_owned();
            let depth = result["depth"].as_u64().unwrap_or_default();
            figures.insert(name, (depth, result["seconds"].as_f64().unwrap_or_default()));
        }
    }
    writeln!(
        out,
        "| configuration | bounds | unique states | depth | seconds | shows | cannot show |"
    )?;
    writeln!(out, "|---|---|---|---|---|---|---|")?;
    for config in configs::all() {
        let name = &config.scenario.name;
        let states = config.states.map_or_else(|| "not pinned".into(), |states| states.to_string());
        let (depth, seconds) =
            figures.get(name).map_or(("".into(), "".into()), |(depth, seconds)| {
                (depth.to_string(), format!("{seconds:.1}"))
            });
        let suite = if config.suite == Suite::Deep { " (deep)" } else { "" };
        let bounds = bounds(&config.scenario)?;
        writeln!(
            out,
            "| {name}{suite} | {bounds} | {states} | {depth} | {seconds} | {} | {} |",
            config.shows, config.cannot
        )?;
    }
    writeln!(out, "\n| mutant | wrong rule | stands for | killed by | steps | states |")?;
    writeln!(out, "|---|---|---|---|---|---|")?;
    for mutant in Mutant::all() {
        let report = kill(mutant.rule, &Bounds::default());
        let (law, steps) = match &report.judgement {
            Judgement::Violated { law, path } => {
                (format!("L{} {}", law.number(), law.name()), path.len())
            }
            other => (format!("{other:?}"), 0),
        };
        writeln!(
            out,
            "| {} | {} | {} | {law} | {steps} | {} |",
            mutant.name(),
            mutant.rule.sentence(),
            mutant.bug,
            report.outcome.unique
        )?;
    }
    Ok(())
}
