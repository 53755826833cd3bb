//! What the model and production must both show.

use snapline::sim::stage::{Observation, Stage};
use snapline_models::scenario::Setup;
use snapline_models::world::World;
use snapline_protocol::coordinator::Phase;

/// Production shows what the model shows.
///
/// # Errors
/// What is different, in words.
pub(super) fn compare(
    setup: &Setup,
    model: &World,
    (stage, sound): (&Stage<'_>, bool),
    seen: &Observation,
) -> Result<(), String> {
    let newest = model.store.manifests.last().map(|manifest| manifest.checkpoint.get());
    let production = seen.checkpoints.last().map(|kept| kept.checkpoint.get());
    if newest != production {
        return Err(format!(
            "the newest checkpoint in storage is {production:?} in production and {newest:?} in \
             the model"
        ));
    }
    let mut visible: Vec<&String> = seen.visible.iter().flat_map(|(_, _, r)| r).collect();
    visible.sort();
    let shown = model.external.iter().map(|external| external.visible.once);
    let names = shown.flat_map(|set| (0..64_u8).filter(move |flow| set >> flow & 1 == 1));
    let mut names: Vec<String> = names.map(|flow| setup.record_name(flow)).collect();
    names.sort();
    if !visible.iter().copied().eq(&names) {
        return Err(format!(
            "visible records are {visible:?} in production and {names:?} in the model"
        ));
    }
    // The tasks of a job that is over end in production at once.
    let runs = model.coordinator().is_some_and(|c| c.phase() == Phase::Running);
    let lives = !model.tasks.is_empty() && model.tasks.iter().all(|task| task.alive);
    if runs && lives && stage.attempt() != model.host.attempt() {
        return Err(format!(
            "attempt {:?} runs in production, {:?} in the model",
            stage.attempt(),
            model.host.attempt()
        ));
    }
    // A wrong rule may make the driver lie to the coordinator.
    if let (true, Some(coordinator)) = (sound, model.coordinator()) {
        let production = stage.under_way();
        for (checkpoint, acked) in coordinator.under_way() {
            if production.get(&checkpoint) != Some(&acked) {
                return Err(format!(
                    "checkpoint {checkpoint} is acknowledged by {:?} in production, {acked:?} in \
                     the model",
                    production.get(&checkpoint)
                ));
            }
        }
    }
    Ok(())
}
