//! `snapline gc`: deletes files that no checkpoint needs any more.

use std::collections::BTreeSet;

use snapline::protocol::ids::{Attempt, CheckpointId};
use snapline::protocol::retention::{Plan, Roots, plan};
use snapline::store::{LocalStore, Store, StoreError, Takeover, inventory, lost};

use crate::args::GcArgs;
use crate::overview::{self, StoreOwner, failure};
use crate::table::counted;
use crate::{CommandError, Exit, Terminal};

/// Carries out `snapline gc`.
///
/// # Errors
/// [`CommandError`] if the directory is no checkpoint directory, is in use, or holds a newest
/// checkpoint that cannot be read.
pub fn run(args: &GcArgs, terminal: &mut Terminal<'_>) -> Result<Exit, CommandError> {
    // First without a lock: what is no checkpoint directory is not made one.
    let looking = overview::open(&args.dir)?;
    if args.dry_run {
        let owner = StoreOwner::of(looking.dir());
        if matches!(owner, StoreOwner::Alive(_)) {
            terminal.complain(&format!(
                "the directory is in use ({owner}): the list includes \
                files of checkpoints in progress, which are not garbage\n"
            ))?;
        }
        let plan = decide(&looking, args.retain)?;
        tell("would be deleted", &looking, &plan, terminal)?;
        return Ok(Exit::Good);
    }
    // While it is open no other process can start here, unless by force. Force raises the fence,
    // and then nothing is deleted.
    let store = LocalStore::open(&args.dir, Takeover::Refuse).map_err(|error| match error {
        StoreError::InUse { owner, .. } => CommandError::Usage(format!(
            "{} is in use by {owner}, so nothing was deleted. A running job deletes its own \
             garbage; --dry-run lists files without deleting them",
            args.dir.display()
        )),
        error => failure(&error),
    })?;
    let term = store.fence().map_err(|error| failure(&error))?.term;
    let plan = decide(&store, args.retain)?;
    tell("deleted", &store, &plan, terminal)?;
    store.delete(term, &plan.manifests, &plan.blobs).map_err(|error| failure(&error))?;
    Ok(Exit::Good)
}

/// What may be deleted.
fn decide(store: &LocalStore, retain: usize) -> Result<Plan, CommandError> {
    let fence = store.fence().map_err(|error| failure(&error))?;
    // The roots are read before what is there (SPEC 8.5): what completes in between is kept.
    let unresolved = unresolved(store)?;
    let roots = Roots {
        // An owner up to this term has ended, or its lock prevents the deletion.
        attempt: Attempt { term: fence.term, number: u32::MAX },
        next: fence.until,
        retained: retain,
        unresolved,
        under_way: Vec::new(),
    };
    let inventory = inventory(store).map_err(|error| failure(&error))?;
    Ok(plan(&roots, &inventory))
}

/// The newest checkpoint, and those whose transactions it does not know to be committed.
fn unresolved(store: &LocalStore) -> Result<Vec<CheckpointId>, CommandError> {
    // SPEC 7.6: it may be put back, and then needs its blobs.
    if let Some((checkpoint, error)) = lost(store).map_err(|error| failure(&error))? {
        return Err(CommandError::Damaged(format!(
            "nothing was deleted: checkpoint {checkpoint} was complete, but its manifest is \
             missing: {error}"
        )));
    }
    let Some(newest) = store.manifests().map_err(|error| failure(&error))?.pop() else {
        return Ok(Vec::new());
    };
    let undecided = |why: String| {
        CommandError::Damaged(format!(
            "nothing was deleted: the uncommitted transactions of the newest checkpoint, \
             {newest}, cannot be read: {why}"
        ))
    };
    let manifest = store.manifest(newest).map_err(|error| undecided(error.to_string()))?;
    let pending =
        overview::pending(store, &manifest).map_err(|failure| undecided(failure.to_string()))?;
    let of = pending.iter().filter_map(|pending| CheckpointId::new(pending.checkpoint));
    let unresolved: BTreeSet<CheckpointId> = of.chain([newest]).collect();
    Ok(unresolved.into_iter().collect())
}

fn tell(
    what: &str,
    store: &LocalStore,
    plan: &Plan,
    terminal: &mut Terminal<'_>,
) -> Result<(), CommandError> {
    let there = store.blobs().map_err(|error| failure(&error))?;
    let length = |id| there.iter().find(|blob| blob.id == id).map_or(0, |blob| blob.length);
    for &checkpoint in &plan.manifests {
        writeln!(
            terminal.out(),
            "checkpoint {checkpoint}  {}",
            store.manifest_path(checkpoint).display()
        )?;
    }
    let mut bytes = 0;
    for &id in &plan.blobs {
        let length = length(id);
        bytes += length;
        writeln!(
            terminal.out(),
            "blob, {}  {}",
            counted(length, "byte"),
            store.blob_path(id).display()
        )?;
    }
    writeln!(
        terminal.out(),
        "{} and {}, {}, {what}",
        counted(plan.manifests.len() as u64, "checkpoint"),
        counted(plan.blobs.len() as u64, "blob"),
        counted(bytes, "byte")
    )?;
    Ok(())
}
