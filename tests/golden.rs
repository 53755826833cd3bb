//! Counterexamples that the checker found in this protocol: each shows a failure that is no longer
//! possible.

use snapline_models::configs;
use snapline_models::explore::{MarkSet, TransitionSystem};
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
        world = model.apply(&world, action, &mut MarkSet::default());
        assert_eq!(model.violations(&world), 0, "step {}: {action:?}", step + 1);
    }
    world
}

/// Broke L12 (no-leak): checkpoint 1 counted as final because no other was in flight, although
/// checkpoint 2 had closed a transaction at the sink before it was aborted. The job ended, and that
/// transaction would never have been committed or rolled back. Now SPEC 4.9.
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

/// Broke L3 (restorable): a sink reported that its transaction was gone while the manifest of the
/// next checkpoint was being written. The coordinator forgot that checkpoint, its blobs were
/// deleted as garbage, and then the manifest became durable. Now SPEC 6.5.
#[test]
fn a_manifest_in_flight_keeps_its_blobs_when_the_job_fails() {
    let config = configs::find("dropped-while-storing").expect("it is a configuration");
    let model = Model::new(config.scenario, None).expect("it is valid");
    let (source, sink) = (0, 1);
    let checkpoint = [
        Action::Fire { timer: Timer::Interval },
        Action::Deliver { message: 0 },
        Action::Consume { task: sink, input: 0 },
        Action::Write { task: source, write: 0 },
        Action::Write { task: sink, write: 0 },
    ];
    let mut path = vec![Action::Store { write: 0 }, Action::Read];
    path.extend(checkpoint);
    // The deletion requested when the attempt began is still in flight, as write 0.
    path.push(Action::Store { write: 1 });
    path.extend(checkpoint);
    path.extend([Action::Drop { sink: 0, transaction: 0 }, Action::Commit { task: sink }]);
    path.extend([Action::Store { write: 0 }, Action::Store { write: 0 }]);
    let world = run(&model, &path);
    assert!(world.data_loss(), "the loss is reported");
    assert_eq!(world.store.manifests.len(), 2, "both manifests are durable");
    assert!(Law::Restorable.holds(&model.setup, &world));
}

/// Broke L16 (progress) in the model, not in the protocol: when the newest coordinator died while a
/// replaced one lived on, no coordinator was elected. The replaced one only repeats its orders. So
/// it never writes, and never learns that it is fenced off.
#[test]
fn a_third_coordinator_takes_over_though_the_first_lives_on() {
    let config = configs::find("three-coordinators").expect("it is a configuration");
    let model = Model::new(config.scenario, None).expect("it is valid");
    let path = [
        Action::Store { write: 0 },
        Action::Read,
        Action::ElectBeside,
        Action::Store { write: 0 },
        Action::CrashCoordinator { applied: false },
        Action::Elect,
    ];
    let world = run(&model, &path);
    assert_eq!(world.coordinators.len(), 2, "the first lives on beside the third");
}
