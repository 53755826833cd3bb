//! Draws an episode's bounds and faults, up to the scenario's.

use super::random::WalkRng;
use crate::scenario::{Faults, QueuedMessages, Scenario};

/// Checkpoints kept in reserve until nothing else can happen. The interval timer of a real job runs
/// for ever, and the next barrier repairs a lost abort. A job that stands still only because the
/// model's checkpoints are used up proves nothing.
pub(super) const RESERVE: u8 = 4;

/// Every kind of fault's budget.
pub(super) const BUDGETS: [fn(&mut Faults) -> &mut u8; 15] = [
    |f| &mut f.crashes,
    |f| &mut f.coordinator_crashes,
    |f| &mut f.zombie_tasks,
    |f| &mut f.zombie_coordinators,
    |f| &mut f.losses,
    |f| &mut f.duplicates,
    |f| &mut f.delays,
    |f| &mut f.unknown_writes,
    |f| &mut f.refused_writes,
    |f| &mut f.failed_snapshots,
    |f| &mut f.unknown_commits,
    |f| &mut f.refused_commits,
    |f| &mut f.drops,
    |f| &mut f.timeouts,
    |f| &mut f.lost_manifests,
];

/// Every kind of message that may wait.
pub(super) const WAITING: [fn(&mut QueuedMessages) -> &mut bool; 5] = [
    |q| &mut q.triggers,
    |q| &mut q.aborts,
    |q| &mut q.completes,
    |q| &mut q.acks,
    |q| &mut q.reports,
];

/// An episode's scenario.
pub(super) fn bounds(most: &Scenario, random: &mut WalkRng) -> Scenario {
    let mut drawn = most.clone();
    drawn.records = random.up_to(usize::from(most.records)) as u8;
    drawn.checkpoints = (random.up_to(usize::from(most.checkpoints)) as u8).saturating_add(RESERVE);
    drawn.capacity = random.up_to(usize::from(most.capacity)) as u8;
    drawn.max_concurrent = random.up_to(most.max_concurrent);
    // Far below 2^32: the number of ids that one write reserves.
    drawn.id_block = random.up_to(most.id_block as usize) as u64;
    drawn.retained = most.retained.map(|retained| random.up_to(retained));
    drawn.shared = most.shared && !random.once_in(4);
    drawn.prompt_writes = most.prompt_writes || random.once_in(3);
    drawn.stop = most.stop.filter(|_| !random.once_in(8));
    for waits in WAITING {
        let waits = waits(&mut drawn.queued);
        *waits = *waits && random.once_in(2);
    }
    // The density of faults: from none to nearly all.
    let likely = random.one_of(&[0, 1, 2, 2, 3, 4, 6]);
    for budget in BUDGETS {
        let budget = budget(&mut drawn.faults);
        let on = random.below(8) < likely;
        *budget = if on { random.up_to(usize::from(*budget)) as u8 } else { 0 };
    }
    drawn
}
