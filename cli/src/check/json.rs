//! The file of `snapline check --json FILE`: one object.
//!
//! | field | what it is |
//! |---|---|
//! | `format`, `version` | `"snapline-check"` and 1; the version changes when a field is renamed, removed or means something else |
//! | `engine` | the explorer: `"stateright"`, `"hunt"`, `"exact"` |
//! | `results` | what was asked for, in order; fields below |
//! | `total` | `configurations`, `states`, `seconds` |
//! | `coverage` | `actions_never_taken`, `arms_never_driven`: names, over all results |
//!
//! Each of `results` has `name` and `verdict`: `"holds"`, `"violated"`, `"loss"` (the external
//! system drops data that was to be committed), `"vacuous"`, `"count-changed"`, `"stopped"` or
//! `"not-run"`. Unless it was not run there are further
//!
//! | field | what it is |
//! |---|---|
//! | `detail` | the broken law, the missed guards, the pinned count or the reason of the stop, in words; else null |
//! | `scenario` | topology, bounds and faults, as in a trace |
//! | `unique`, `generated`, `goal_states`, `traps`, `depth` | counts of states; `traps` is null where it was not computed |
//! | `seconds`, `collision_bound` | wall-clock time; the expected number of states missed by equal fingerprints, at most |
//! | `peak_rss` | the process's greatest resident memory in bytes, or null |
//! | `actions` | steps taken by kind of action |
//! | `path` | the actions that lead to the bad state, or null |

use serde_json::{Map, Value, json};
use snapline_models::world::KINDS;

use super::{Explored, Outcomes};
use crate::coverage::Coverage;

/// The whole file.
pub(super) fn results(engine: &str, results: &[Outcomes], seconds: f64) -> Value {
    let mut coverage = Coverage::default();
    let explored = results.iter().filter_map(|result| result.explored.as_ref());
    explored.clone().for_each(|explored| coverage.add(&explored.report.outcome));
    let states: u64 = explored.map(|explored| explored.report.outcome.unique).sum();
    json!({
        "format": "snapline-check",
        "version": 1,
        "engine": engine,
        "results": results.iter().map(result).collect::<Vec<_>>(),
        "total": { "configurations": results.len(), "states": states, "seconds": seconds },
        "coverage": coverage.json(),
    })
}

fn result(of: &Outcomes) -> Value {
    let (verdict, detail) = of.verdict();
    let Some(Explored { report, .. }) = &of.explored else {
        return json!({ "name": of.name, "verdict": verdict });
    };
    let outcome = &report.outcome;
    let taken = KINDS.iter().zip(&outcome.action_counts);
    let actions: Map<String, Value> =
        taken.map(|(kind, count)| ((*kind).into(), (*count).into())).collect();
    json!({
        "name": of.name,
        "verdict": verdict,
        "detail": detail,
        "scenario": report.scenario,
        "unique": outcome.unique,
        "generated": outcome.generated,
        "goal_states": outcome.goal_states,
        "traps": outcome.traps,
        "depth": outcome.depth,
        "seconds": outcome.seconds,
        "collision_bound": outcome.collision_bound,
        "peak_rss": outcome.peak_rss,
        "actions": actions,
        "path": of.path().map(|(_, _, path)| path),
    })
}
