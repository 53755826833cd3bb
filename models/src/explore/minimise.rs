//! Leaves out the actions of a path that the violation does not need.

use super::{MarkSet, TransitionSystem};

/// Replays `path` from the initial state. `None`: some action is not enabled in its state.
#[must_use]
pub fn replay<S: TransitionSystem>(system: &S, path: &[S::Action]) -> Option<S::State> {
    let (mut marks, mut enabled) = (MarkSet::new(), Vec::new());
    let mut state = system.initial();
    for action in path {
        enabled.clear();
        system.actions(&state, &mut enabled);
        if !enabled.contains(action) {
            return None;
        }
        state = system.apply(&state, action, &mut marks);
    }
    Some(state)
}

/// Drops actions from `path` while a bad state is still reached, until no single action can be left
/// out. `bad` decides which states count: those that violate the same law, or the traps.
///
/// The result is at most as long as `path` and ends in the first bad state on its way. A path that
/// does not lead to a bad state is returned unchanged. Use it on paths of random walks; a shortest
/// path has nothing to drop. The cost is at worst the square of the length in replays.
#[must_use]
pub fn minimise<S: TransitionSystem>(
    system: &S,
    path: &[S::Action],
    bad: impl Fn(&S::State) -> bool,
) -> Vec<S::Action> {
    let Some(length) = prefix(system, path, &bad) else { return path.to_vec() };
    let mut best = path[..length].to_vec();
    // Large pieces first: long walks are mostly noise, and a piece costs one replay.
    let mut piece = (best.len() / 2).max(1);
    loop {
        let before = best.len();
        // From the end, where a dropped action disturbs the fewest others.
        let mut end = best.len();
        while end > 0 {
            let from = end.saturating_sub(piece);
            let mut shorter = best.clone();
            shorter.drain(from..end);
            end = from;
            if let Some(length) = prefix(system, &shorter, &bad) {
                shorter.truncate(length);
                end = end.min(length);
                best = shorter;
            }
        }
        if piece > 1 {
            piece /= 2;
        } else if best.len() == before {
            return best;
        }
    }
}

/// The number of actions of `path` up to its first bad state; `None` if it reaches none or has an
/// action that is not enabled before it does.
fn prefix<S: TransitionSystem>(
    system: &S,
    path: &[S::Action],
    bad: &impl Fn(&S::State) -> bool,
) -> Option<usize> {
    let (mut marks, mut enabled) = (MarkSet::new(), Vec::new());
    let mut state = system.initial();
    for (done, action) in path.iter().enumerate() {
        if bad(&state) {
            return Some(done);
        }
        enabled.clear();
        system.actions(&state, &mut enabled);
        if !enabled.contains(action) {
            return None;
        }
        state = system.apply(&state, action, &mut marks);
    }
    bad(&state).then_some(path.len())
}
