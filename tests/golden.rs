//! Counterexamples the checker found in this protocol, kept: each shows what is no longer possible.

use snapline_models::configs;
use snapline_models::explore::{Marks, System};
use snapline_models::laws::Law;
use snapline_models::model::Model;
use snapline_models::world::{Action, World};
use snapline_protocol::coordinator::Timer;

/// Runs a path; every action must be enabled where it is taken, and no law broken on the way.
fn run(model: &Model, path: &[Action]) -> World {
    let mut world = model.initial();
    for (step, action) in path.iter().enumerate() {
        let mut enabled = Vec::new();
        model.actions(&world, &mut enabled);
        assert!(enabled.contains(action), "step {}: {action:?} is not among {enabled:?}", step + 1);
        world = model.apply(&world, action, &mut Marks::default());
        assert_eq!(model.violations(&world), 0, "step {}: {action:?}", step + 1);
    }
    world
}

/// Broke L12 (no-leak): checkpoint 1 counted as final because nothing else was under way, although checkpoint 2 had closed a transaction
/// at the sink before it was aborted. The job ended, and nobody would ever have committed or rolled that one back. Now SPEC 4.9.
#[test]
fn a_checkpoint_is_not_final_when_a_newer_one_was_triggered() {
    let config = configs::find("shared-blobs-concurrent").expect("it is a configuration");
    let model = Model::new(config.scenario, None).expect("it is valid");
    let (source, sink) = (0, 1);
    let read = Action::Consume { task: sink, input: 0 };
    let trigger = [Action::Fire { timer: Timer::Interval }, Action::Deliver { message: 0 }, read];
    let mut path = vec![Action::Store { write: 0 }, Action::Read];
    path.extend([Action::Emit { task: source }, read, Action::Emit { task: source }]);
    path.extend([Action::Exhaust { task: source }, read, read]);
    path.extend(trigger);
    path.extend([Action::Write { task: source, write: 0 }, Action::Write { task: sink, write: 0 }]);
    path.extend(trigger);
    path.push(Action::WriteFailed { task: source, write: 0, applied: false });
    path.extend([Action::Store { write: 1 }, Action::Commit { task: sink }]);
    let world = run(&model, &path);
    let coordinator = world.coordinator().expect("it lives");
    assert_eq!(coordinator.newest().map(|checkpoint| checkpoint.get()), Some(1));
    assert!(!coordinator.is_over(), "checkpoint 2's transaction waits for checkpoint 3");
    let waiting = &world.external[0].prepared;
    assert_eq!(waiting.len(), 1, "{waiting:?}");
    assert!(Law::NoLeak.holds(&model.setup, &world));
}
