//! The small configurations, under all laws, as plain tests: quick enough to run against every
//! generated mutant of `protocol/`.
//!
//! Pinned state counts are left out here on purpose: a mutant that changes a count but breaks no
//! law is a survivor to be explained.

use snapline_models::configs::{self, Configuration};
use snapline_models::explore::Bounds;
use snapline_models::run::{Engine, Judgement, explore};

/// No configuration of this test has more states; a mutant that makes one larger has changed what
/// it can do.
const MOST: u64 = 250_000;

fn small() -> Vec<Configuration> {
    let mut small: Vec<Configuration> = configs::all()
        .into_iter()
        .filter(|config| config.states.is_some_and(|n| n <= MOST))
        .collect();
    small.sort_by_key(|config| config.states);
    small
}

#[test]
fn every_small_configuration_keeps_every_law_and_reaches_its_guards() {
    let small = small();
    assert!(small.len() >= 20, "only {} configurations are small", small.len());
    for config in small {
        let bounds = Bounds { max_states: Some(4 * MOST), ..Bounds::default() };
        let scenario = config.scenario.clone();
        let report =
            explore(scenario, None, Engine::Hunt, &bounds, &config.situations, None, &|_| {})
                .expect("the configurations are valid");
        assert_eq!(report.judgement, Judgement::Holds, "{}", config.scenario.name);
    }
}
