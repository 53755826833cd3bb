//! Trace files and their stories: a written trace is read, and a mistake is named.

use proptest::prelude::*;
use serde_json::{Value, json};
use snapline_models::laws::Law;
use snapline_models::model::Model;
use snapline_models::scenario::{Faults, Scenario, Setup};
use snapline_models::story::{ending, render, story};
use snapline_models::topologies::{chain, shuffle};
use snapline_models::trace::{Claim, Trace, TraceError};
use snapline_models::world::rule::WrongRule;
use snapline_models::world::{Action, World};
use snapline_protocol::coordinator::Timer;

/// A sink that commits at the barrier, caught with one record.
fn caught() -> Trace {
    Trace {
        scenario: Scenario { records: 1, ..Scenario::new("caught", chain()) },
        mutant: Some(WrongRule::CommitAtBarrier),
        law: Some(Law::CommitAfterComplete),
        steps: vec![
            Action::Store { write: 0 },
            Action::Read,
            Action::Emit { task: 0 },
            Action::Consume { task: 1, input: 0 },
            Action::Fire { timer: Timer::Interval },
            Action::Deliver { message: 0 },
            Action::Consume { task: 1, input: 0 },
        ],
    }
}

/// The text of [`caught`], edited.
fn edited(edit: impl FnOnce(&mut Value)) -> Result<Trace, TraceError> {
    let mut value: Value = serde_json::from_str(&caught().write()).expect("a trace is JSON");
    edit(&mut value);
    Trace::read(&value.to_string())
}

fn says(result: Result<Trace, TraceError>) -> String {
    result.expect_err("the trace is invalid").to_string()
}

/// The first of the enabled actions again and again, with some chances: a path that is possible.
fn path(setup: &Setup, chances: &[u8]) -> Vec<Action> {
    let (mut world, mut path) = (World::new(setup), Vec::new());
    let mut marks = snapline_models::explore::MarkSet::new();
    for &chance in chances {
        let mut enabled = Vec::new();
        world.enabled(setup, &mut enabled);
        if enabled.is_empty() {
            break;
        }
        let action = enabled[usize::from(chance) % enabled.len()];
        world = world.apply(setup, &action, &mut marks);
        path.push(action);
    }
    path
}

#[test]
fn a_trace_shows_what_it_claims() {
    let replay = caught().replay().expect("every step is possible");
    assert_eq!(replay.claim, Claim::Shown(Law::CommitAfterComplete));
    assert!(replay.broken.contains(&Law::CommitAfterComplete) && !replay.stuck);
    assert!(replay.claim.to_string().starts_with("as claimed, commit-after-complete is broken"));
}

#[test]
fn a_claim_may_be_wrong_absent_or_beyond_what_one_state_shows() {
    let claims = |law| Trace { law, mutant: None, ..caught() }.replay().expect("possible").claim;
    assert_eq!(claims(None), Claim::None);
    assert_eq!(claims(Some(Law::NoLoss)), Claim::Refuted(Law::NoLoss));
    assert_eq!(claims(Some(Law::Progress)), Claim::NotVisible(Law::Progress));
    assert!(claims(Some(Law::Progress)).to_string().contains("one state"));
}

#[test]
fn the_file_says_what_it_is() {
    let text = caught().write();
    assert!(text.ends_with("}\n"));
    let value: Value = serde_json::from_str(&text).expect("a trace is JSON");
    assert_eq!(value["format"], "snapline-trace");
    assert_eq!(value["version"], 1);
    assert_eq!(value["mutant"], "commit-at-barrier");
    assert_eq!(value["law"], "commit-after-complete");
    assert_eq!(value["steps"][2]["action"], json!({"emit": {"task": 0}}));
    assert_eq!(value["steps"][2]["story"], "in reads record in/0; in passes it to out");
    assert_eq!(Trace::read(&text), Ok(caught()));
}

#[test]
fn stories_are_for_people_and_not_read() {
    let read = edited(|value| value["steps"][0]["story"] = json!("once upon a time"));
    assert_eq!(read, Ok(caught()));
}

const NOT_A_TRACE: &str =
    r#"this is not a trace: its format is "pcap"; the format of a trace is "snapline-trace""#;

#[test]
fn what_is_wrong_is_named() {
    assert!(says(Trace::read("{\n\"format\": oops")).starts_with("line 2, column 11 is not JSON"));
    assert!(says(Trace::read("[1]")).contains("its format is missing"));
    let other = says(edited(|value| value["format"] = json!("pcap")));
    assert_eq!(other, NOT_A_TRACE);
    let newer = says(edited(|value| value["version"] = json!(7)));
    assert!(newer.starts_with("this is version 7; this program reads version 1"), "{newer}");
    let mutant = says(edited(|value| value["mutant"] = json!("no-such")));
    assert!(mutant.starts_with("there is no mutant `no-such`"), "{mutant}");
    assert!(mutant.contains("commit-at-barrier, "), "{mutant}");
    let law = says(edited(|value| value["law"] = json!("gravity")));
    assert!(law.starts_with("there is no law `gravity`") && law.ends_with("progress"), "{law}");
    let field = says(edited(|value| value["colour"] = json!("red")));
    assert!(field.contains("unknown field `colour`"), "{field}");
    let scenario = says(edited(|value| value["scenario"]["records"] = json!("many")));
    assert!(scenario.starts_with("a field of the scenario is missing or wrong"), "{scenario}");
    let block = edited(|value| value["scenario"]["id_block"] = json!(1_u64 << 63)).expect("read");
    let block = block.replay().expect_err("the id block is too large").to_string();
    assert!(block.contains("the id block is 9223372036854775808; it must be at most"), "{block}");
    let step = says(edited(|value| value["steps"][3]["action"] = json!({"fly": {}})));
    assert!(step.starts_with("step 4 is not an action") && step.contains("fly"), "{step}");
}

#[test]
fn a_scenario_that_cannot_be_built_is_refused_at_replay() {
    let wrong =
        edited(|value| value["scenario"]["capacity"] = json!(0)).expect("the trace can be read");
    let error = wrong.replay().expect_err("a channel has room for a record");
    assert!(error.to_string().contains("the channel capacity must be at least 1"), "{error}");
}

#[test]
fn a_step_that_is_left_out_is_noticed_where_it_is_missing() {
    let drop = |value: &mut Value| {
        value["steps"].as_array_mut().expect("steps").remove(3);
    };
    // The record is not read, so it is the record that is read where the barrier was.
    let shorter = edited(drop).expect("the trace can be read");
    assert!(matches!(shorter.replay().expect("possible").claim, Claim::Refuted(_)));
    let drop = |value: &mut Value| {
        value["steps"].as_array_mut().expect("steps").remove(1);
    };
    let error =
        edited(drop).expect("the trace can be read").replay().expect_err("no attempt is deployed");
    let text = error.to_string();
    assert!(text.starts_with(r#"step 2 is not possible in its state: {"emit":{"task":0}}"#));
    assert!(text.contains(r#"the possible actions are "read""#), "{text}");
    let TraceError::NotEnabled { step, action, .. } = error else { panic!("{text}") };
    assert_eq!((step, action), (2, Action::Emit { task: 0 }));
}

#[test]
fn a_small_story() {
    let trace = caught();
    let setup = Setup::new(trace.scenario.clone(), trace.mutant).expect("the scenario is valid");
    let last = trace.replay().expect("possible").last;
    let text = render(&story(&setup, &trace.steps)) + &ending(&setup, &last, trace.law);
    assert_eq!(text, STORY);
}

const STORY: &str = "\
1   storage      the fence of term 1 is durable
2   coordinator  reads what storage holds, and decides; attempt 1.1 is deployed and starts from nothing
3   in           reads record in/0; in passes it to out
4   out          reads record in/0 from in
5   coordinator  finds the interval over: the next checkpoint is due; checkpoint 1 starts; sent: trigger 1 to
                 in
6   in           gets trigger 1; in takes its snapshot for checkpoint 1; in passes barrier 1 to out;
                 checkpoint 1 is acknowledged by in
7   out          reads barrier 1 from in; out takes its snapshot for checkpoint 1; out's transaction 1 of
                 attempt 1.1 is committed; readers of out see in/0
broken: L4 commit-after-complete: a transaction was committed that no completed checkpoint holds
out: visible in/0
storage: no completed checkpoint
coordinator: the job runs
";

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn any_path_is_written_read_and_replayed(
        chances in prop::collection::vec(any::<u8>(), 0..120),
    ) {
        let faults = Faults {
            crashes: 2, coordinator_crashes: 1, zombie_tasks: 1, zombie_coordinators: 1, losses: 2,
            duplicates: 1, delays: 1, unknown_writes: 1, failed_snapshots: 1, unknown_commits: 1,
            refused_commits: 1, timeouts: 1, ..Faults::default()
        };
        let scenario = Scenario { faults, checkpoints: 3, ..Scenario::new("any", shuffle()) };
        let model = Model::new(scenario.clone(), None).expect("the scenario is valid");
        let steps = path(&model.setup, &chances);
        let trace = Trace { scenario, mutant: None, law: None, steps };
        let text = trace.write();
        let again = Trace::read(&text).expect("a written trace can be read");
        prop_assert_eq!(&again, &trace);
        prop_assert!(again.replay().is_ok());
        let lines = story(&model.setup, &trace.steps);
        prop_assert_eq!(lines.len(), trace.steps.len(), "every step has its line");
        prop_assert!(lines.iter().all(|line| !line.text.is_empty() && line.actor != "unknown"));
        prop_assert_eq!(lines, story(&model.setup, &again.steps));
    }
}
