//! Tests of power loss: any part of the unsynced data may be lost. Acknowledged writes must be
//! there (SPEC 2.4).

use snapline_protocol::recovery::{Decision, Health, Policy, decide};

use super::faults::{blob_id, checkpoint, id, snapshot, term};
use super::*;
use crate::fs::simulated::{Host, SimDisk, Trouble};
use crate::store::{health, recovery_facts};

const DIR: &str = "/data/store";

fn open(disk: &SimDisk, host: &Host) -> Result<LocalStore, StoreError> {
    LocalStore::open_on(Box::new(disk.files(host)), Path::new(DIR), Takeover::Refuse)
}

/// The store as the next process finds it.
fn reopen(disk: &SimDisk) -> LocalStore {
    open(disk, &Host::default()).expect("it is a store without a living owner")
}

fn manifests(disk: &SimDisk) -> Vec<CheckpointId> {
    let files = Box::new(disk.files(&Host::default()));
    let found = LocalStore::inspect_on(files, Path::new(DIR)).expect("it is a store");
    found.manifests().expect("they can be listed")
}

fn restorable(store: &LocalStore, mine: Term) -> Option<CheckpointId> {
    let (facts, wrong) = recovery_facts(store, mine, Policy::default()).expect("it can be read");
    match decide(&facts).unwrap_or_else(|error| panic!("{error}; {wrong:?}")) {
        Decision::Restore { permit, .. } => Some(permit.checkpoint()),
        Decision::Fresh => None,
    }
}

/// The work of a job: two checkpoints, and the deletion of the first. Notes the acknowledged
/// writes.
fn job(store: &LocalStore, answered: &mut Vec<&'static str>) -> Result<(), StoreError> {
    store.claim(term(1), Claimant(1), 8)?;
    answered.push("claim");
    checkpoint(store, 1)?;
    answered.push("first");
    let second = snapshot(store, 2)?;
    answered.push("blob");
    store.put_manifest(term(1), &second)?;
    answered.push("second");
    store.delete(term(1), &[id(1)], &[blob_id(1)])?;
    answered.push("deletion");
    store.reserve(term(1), id(50))?;
    answered.push("reservation");
    Ok(())
}

#[test]
fn what_was_answered_for_survives_the_loss_of_all_that_was_not_synced() {
    let mut finished = false;
    let mut moments = 0;
    while !finished {
        let (disk, host) = (SimDisk::new(), Host::default());
        let store = open(&disk, &host).expect("the process lives");
        host.dies_after(moments);
        let mut answered = Vec::new();
        finished = job(&store, &mut answered).is_ok();
        drop(store);

        let found = reopen(&disk.worst());
        let fence = found.fence().expect("it is whole");
        let has = |what| answered.contains(&what);
        assert!(!has("claim") || fence.term == term(1), "after {moments}: the fence fell");
        assert!(!has("reservation") || fence.until == id(50), "after {moments}");
        let manifests = found.manifests().expect("they can be listed");
        for &checkpoint in &manifests {
            let (_, health, wrong) = health(&found, checkpoint).expect("it can be read");
            assert_eq!(health, Health::Whole, "after {moments}: {wrong:?}");
        }
        // SPEC 7.6: a mark that came first would call it lost.
        assert!(crate::store::lost(&found).expect("it can be read").is_none(), "after {moments}");
        assert!(!has("second") || fence.completed == Some(id(2)), "after {moments}");
        let newest = manifests.last().map(|newest| newest.get());
        assert!(!has("first") || newest >= Some(1), "after {moments}");
        assert!(!has("second") || newest == Some(2), "after {moments}");
        assert!(!has("deletion") || manifests == [id(2)], "after {moments}");
        moments += 1;
    }
    assert!(moments > 30, "it died at {moments} moments");
}

/// A manifest that a dead process left visible, and not durable, is restored by the next process,
/// which commits its output. Then the power fails. Were the manifest gone, the committed output
/// would be written again.
#[test]
fn what_recovery_has_built_on_survives_the_power() {
    let mut finished = false;
    let mut unsynced = 0;
    for moments in 0.. {
        if finished {
            break;
        }
        let (disk, host) = (SimDisk::new(), Host::default());
        let store = open(&disk, &host).expect("the process lives");
        host.dies_after(moments);
        finished = job(&store, &mut Vec::new()).is_ok();
        drop(store);

        unsynced += u32::from(manifests(&disk).last() > manifests(&disk.worst()).last());

        // Another process begins, on the same machine: unsynced data is still visible.
        let store = reopen(&disk);
        store.claim(term(2), Claimant(2), 8).expect("it is free");
        let restored = restorable(&store, term(2));
        let found = reopen(&disk.worst());
        assert_eq!(restorable(&found, term(2)), restored, "after {moments}");
        assert_eq!(found.fence().expect("it is whole").completed, restored, "after {moments}");
    }
    assert!(unsynced > 0, "it died between naming a manifest and syncing the name");
}

/// Each change fails in turn, with and without effect, and a repeated sync does nothing. The final
/// answer is durable.
#[test]
fn what_is_asked_for_again_is_made_durable_anew() {
    let mut failed = 0;
    for late in [false, true] {
        for nth in 0.. {
            let (disk, host) = (SimDisk::new(), Host::default());
            let store = open(&disk, &host).expect("nothing fails yet");
            store.claim(term(1), Claimant(1), 8).expect("nothing fails yet");
            let manifest = snapshot(&store, 1).expect("nothing fails yet");
            let kind = io::ErrorKind::Other;
            host.fails_after(Some((nth, Trouble { kind, late })));
            while store.put_manifest(term(1), &manifest).is_err() {}
            let failures = host.changes().1;
            host.fails_after(None);
            drop(store);
            assert_eq!(manifests(&disk.worst()), [id(1)], "after {nth}, {late}");
            failed += failures;
            if failures == 0 {
                break;
            }
        }
    }
    assert!(failed > 10, "{failed} changes failed");
}

/// Each change of the making fails in turn; the store that is made then is durable, with all its
/// ancestors.
#[test]
fn a_store_that_is_made_after_a_failure_is_durable_from_its_name_on() {
    let mut failed = 0;
    for nth in 0.. {
        let (disk, host) = (SimDisk::new(), Host::default());
        let kind = io::ErrorKind::Other;
        host.fails_after(Some((nth, Trouble { kind, late: false })));
        let store = open(&disk, &host).or_else(|_| open(&disk, &host));
        let store = store.expect("nothing fails any more");
        let failures = host.changes().1;
        host.fails_after(None);
        store.claim(term(1), Claimant(1), 8).expect("it is free");
        drop(store);
        let fence = reopen(&disk.worst()).fence().expect("it is whole");
        assert_eq!(fence.term, term(1), "after {nth}");
        failed += failures;
        if failures == 0 {
            break;
        }
    }
    assert!(failed > 20, "{failed} changes failed");
}

#[test]
fn a_store_is_made_whole_or_made_again() {
    let mut finished = false;
    for moments in 0.. {
        if finished {
            break;
        }
        let (disk, host) = (SimDisk::new(), Host::default());
        host.dies_after(moments);
        let opened = open(&disk, &host);
        finished = opened.is_ok();
        drop(opened);
        let worst = disk.worst();
        let format = Path::new(DIR).join("FORMAT");
        let made = worst.files(&Host::default()).kind(&format).expect("it can be looked at");
        let found = reopen(&worst);
        assert_eq!(found.fence().expect("it is whole"), Fence::default());
        assert!(!finished || made != Kind::Nothing);
    }
}
