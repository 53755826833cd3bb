//! The default scenarios of walks.

use snapline_protocol::aligner::Mode;
use snapline_protocol::topology::Plan;

use crate::scenario::{Faults, QueuedMessages, Scenario, StopKind};
use crate::sink::SinkModel;

/// Eight subtasks: two sources, two keyed transforms, two transforms, two sinks, each layer
/// connected to all of the next.
#[must_use]
pub fn eight() -> Scenario {
    let plan = Plan::new()
        .source("in", 2)
        .transform("sum", 2)
        .transform("map", 2)
        .sink("out", 2)
        .all_to_all("in", "sum")
        .all_to_all("sum", "map")
        .all_to_all("map", "out");
    Scenario {
        records: 8,
        checkpoints: 6,
        capacity: 3,
        retained: Some(2),
        shared: true,
        id_block: 3,
        max_concurrent: 2,
        prompt_writes: false,
        queued: QueuedMessages::ALL,
        faults: Faults {
            crashes: 3,
            coordinator_crashes: 2,
            zombie_tasks: 2,
            zombie_coordinators: 1,
            losses: 3,
            duplicates: 3,
            delays: 3,
            unknown_writes: 2,
            refused_writes: 2,
            failed_snapshots: 2,
            unknown_commits: 2,
            refused_commits: 2,
            drops: 0,
            timeouts: 2,
            lost_manifests: 0,
        },
        ..Scenario::new("walk", plan)
    }
}

/// [`eight`], then the same stopped with drain, suspended, at least once, with an external system
/// that drops transactions, and with lost manifests.
#[must_use]
pub fn variants() -> Vec<Scenario> {
    let named = |name: &str| Scenario { name: name.into(), ..eight() };
    let drops = Faults { drops: 1, ..eight().faults };
    let lost = Faults { lost_manifests: 1, ..eight().faults };
    vec![
        eight(),
        Scenario { stop: Some(StopKind::Drain), ..named("walk-drain") },
        Scenario { stop: Some(StopKind::Suspend), ..named("walk-suspend") },
        Scenario { mode: Mode::AtLeastOnce, ..named("walk-at-least-once") },
        Scenario { sink: SinkModel::producer_with_timeout(), faults: drops, ..named("walk-drops") },
        Scenario { faults: lost, ..named("walk-lost-manifest") },
    ]
}
