//! `snapline sim` as a user meets it.

mod common;

use common::{scratch, snapline};
use snapline::sim::pipelines::PIPELINES;
use snapline::sim::{Fault, Mutation};

#[test]
fn pipelines_faults_and_planted_faults_are_listed() {
    let run = snapline(&["sim", "--list"]).is(0, &[]);
    let pipelines = PIPELINES.iter().map(|it| it.name);
    let faults = Fault::ALL.iter().map(|it| it.name());
    for name in pipelines.chain(faults).chain(Mutation::ALL.iter().map(|it| it.name())) {
        let listed = run.out.lines().any(|line| line.split(' ').next() == Some(name));
        assert!(listed, "{name} is not listed");
    }
}

#[test]
fn seeds_that_hold_are_reported_with_what_happened_in_them() {
    let args = ["sim", "--pipeline", "chain", "--seeds", "0..20"];
    let run = snapline(&args).is(0, &["holds", "checkpoints complete", "coverage: "]);
    assert!(!run.out.contains("VIOLATED"), "{}", run.out);
    let replayed = run.out.lines().find(|line| line.starts_with("trace lines replayed"));
    let lines = replayed.and_then(|line| line.split_whitespace().nth(3));
    let lines: u64 = lines.and_then(|lines| lines.replace(',', "").parse().ok()).unwrap_or(0);
    assert!(lines > 1_000, "the recordings were not replayed: {replayed:?}");
}

#[test]
fn the_same_seed_tells_the_same_steps() {
    let steps =
        || snapline(&["sim", "--pipeline", "fork", "--seed", "5", "--steps"]).is(0, &[]).out;
    let (one, other) = (steps(), steps());
    assert!(one.lines().count() > 50 && one.ends_with("holds\n"), "{one}");
    assert_eq!(one, other);
}

#[test]
fn a_planted_fault_is_found_made_smaller_and_leaves_its_traces() {
    let directory = scratch("sim-traces");
    let _ = std::fs::remove_dir_all(&directory);
    let mutant = "end-before-results";
    let args = ["sim", "--pipeline", "totals", "--seeds", "0..20", "--mutant", mutant];
    let run = snapline(&[&args[..], &["--traces", &directory]].concat());
    let run = run.is(1, &["VIOLATED", "minimised: ", "(fifo, SPEC 2.2, 15.2)"]);
    let line = |begins: &str| {
        let line = run.out.lines().find_map(|line| line.strip_prefix(begins));
        line.unwrap_or_else(|| panic!("no line begins with `{begins}`\n{}", run.out)).to_owned()
    };
    let again = line("see every step: snapline ");
    let again: Vec<&str> = again.split(' ').collect();
    assert!(again.contains(&"--mutant"), "{again:?}");
    snapline(&again).is(1, &["violated: "]);
    // The same difference, found from the files alone; it is the last line in them.
    let files = line("replay the recordings of its processes: snapline trace replay ");
    assert!(files.starts_with(&directory), "{files}");
    let replayed = snapline(&["trace", "replay", &files]);
    replayed.is(1, &["this run deviates from the protocol", "(fifo, SPEC 2.2, 15.2)"]);
    let recorded = std::fs::read_dir(&files).expect("the recordings were written").flatten();
    let last = recorded.map(|file| file.path()).max().expect("there is a recording");
    let text = std::fs::read_to_string(&last).expect("readable");
    let (before, _) = text.trim_end().rsplit_once('\n').expect("the recording has lines");
    std::fs::write(&last, format!("{before}\n")).expect("writable");
    snapline(&["trace", "replay", &files]).is(0, &["as the protocol has it"]);
}

#[test]
fn traces_that_cannot_be_written_are_told() {
    let file = common::file("sim-no-directory", "");
    let args =
        ["sim", "--pipeline", "totals", "--seeds", "0..20", "--mutant", "end-before-results"];
    snapline(&[&args[..], &["--traces", &file]].concat()).is(2, &["cannot write to ", &file]);
}

#[test]
fn planted_faults_are_hunted_and_counted() {
    let hunt = |at_least: &str| {
        let args = ["--pipeline", "chain", "--seeds", "0..1", "--at-least", at_least];
        snapline(&[&["sim", "--mutants"][..], &args].concat())
    };
    hunt("1").is(0, &["found: ", "NOT FOUND"]);
    hunt("1000").is(1, &["found: "]);
}

#[test]
fn wrong_arguments_say_what_is_right() {
    let names = ["there is no pipeline `chian`; the pipelines are: keyed-count, chain, "];
    snapline(&["sim", "--pipeline", "chian"]).is(2, &names);
    snapline(&["sim", "--faults", "kill,pwer"]).is(2, &["there is no fault `pwer`", "power"]);
    snapline(&["sim", "--mutant", "nothing"]).is(2, &["there is no mutant `nothing`"]);
    snapline(&["sim", "--seeds", "7..7"]).is(2, &["expected two numbers"]);
    snapline(&["sim", "--seed", "1", "--seeds", "0..2"]).is(2, &["cannot be used with"]);
    snapline(&["sim", "--at-least", "3"]).is(2, &["--mutants"]);
    snapline(&["sim", "--mutants", "--traces", "x"]).is(2, &["cannot be used with"]);
}
