//! `snapline mutants`, `snapline walk` and `snapline trace` as a user meets them.

mod common;

use common::{file, scratch, snapline};
use serde_json::Value;
use snapline_models::mutants::Mutant;

#[test]
fn every_mutant_is_listed_with_its_law_and_its_bug() {
    let run = snapline(&["mutants", "--list"]).is(0, &["mutant", "class of bug"]);
    for mutant in Mutant::ALL {
        let about = mutant.about();
        let line = run.out.lines().find(|line| line.split(' ').next() == Some(about.name));
        let line = line.unwrap_or_else(|| panic!("{} is not listed", about.name));
        assert!(line.contains(about.law.name()) && line.contains(about.bug), "{line}");
    }
}

#[test]
fn a_mutant_is_killed_by_its_law_and_its_trace_replays() {
    let (report, directory) = (scratch("mutants.json"), scratch("mutants"));
    let mutant = "commit-twice";
    let run = snapline(&["mutants", mutant, "--json", &report, "--trace", &directory]);
    let file = format!("the trace of commit-twice is in {directory}/commit-twice.json");
    let total = "total: 1 of 1 killed by the law written for them";
    run.is(0, &["killed by no-duplicates", total, &file]);
    let text = std::fs::read_to_string(report).expect("the file was written");
    let report: Value = serde_json::from_str(&text).expect("it is JSON");
    assert_eq!((&report["format"], &report["version"]), (&"snapline-mutants".into(), &1.into()));
    assert_eq!(report["results"][0]["verdict"], "killed");
    assert_eq!(report["results"][0]["by"], report["results"][0]["law"]);
    let told = snapline(&["trace", &format!("{directory}/{mutant}.json")]);
    told.is(0, &["wrong rule: commit-twice", "as claimed, no-duplicates is broken"]);
}

#[test]
fn an_unknown_mutant_lists_the_known_ones_and_exits_2() {
    snapline(&["mutants", "commit-twise"])
        .is(2, &["did you mean `commit-twice`?", "the mutants are: ack-before-durable, "]);
}

#[test]
fn a_walk_says_its_seeds_and_goes_the_same_way_again() {
    let args = ["walk", "--seed", "7", "--steps", "400", "--walks", "2"];
    let run = || snapline(&args).is(0, &["seed", "episodes", "holds", "total: 2 of 2 walks, "]);
    let (first, again) = (run(), run());
    // All but the time it took.
    let figures = |out: &str| {
        let rows = out.lines().map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words[..words.len().min(7)].join(" ")
        });
        rows.collect::<Vec<_>>()
    };
    assert_eq!(figures(&first.out), figures(&again.out));
    assert!(first.out.lines().any(|line| line.trim_start().starts_with("8 ")), "{}", first.out);
}

#[test]
fn a_trace_of_another_version_is_said_so() {
    let directory = scratch("versions");
    snapline(&["mutants", "commit-twice", "--trace", &directory]).is(0, &[]);
    let text = std::fs::read_to_string(format!("{directory}/commit-twice.json")).expect("written");
    let trace = |name: &str, text: &str| snapline(&["trace", &file(name, text)]);
    let newer = text.replacen("\"version\": 1", "\"version\": 2", 1);
    trace("newer.json", &newer).is(2, &["newer.json: ", "version 2", "reads version 1"]);
    trace("cut.json", &text[..text.len() / 2]).is(2, &["cut.json: ", "is not JSON"]);
    trace("other.json", "{\"format\": \"snapline-check\"}").is(2, &["no trace"]);
    let edited = text.replacen("\"emit\"", "\"exhaust\"", 1);
    trace("edited.json", &edited).is(2, &["step ", "cannot happen there"]);
    snapline(&["trace", "nowhere.json"]).is(2, &["cannot read nowhere.json"]);
}

#[test]
fn settings_are_read_as_a_job_reads_them_and_what_is_unwise_is_said() {
    let settings = |text: &str| file("job.toml", text);
    let good = settings("checkpoint_interval = '5s'\nparallelism = 4\n");
    snapline(&["settings", &good]).is(0, &["the settings are valid: 0 warnings"]);
    snapline(&["settings", &good, "--deny-warnings"]).is(0, &[]);

    let unwise = file(
        "unwise.toml",
        "checkpoint_interval = '1m'\ncheckpoint_timeout = '10s'\nallow_older = true\n",
    );
    let warned = [
        "warning: `allow_older`: ",
        "warning: `checkpoint_interval`: a checkpoint is given up after `checkpoint_timeout` = 10s",
        ": 2 warnings",
    ];
    snapline(&["settings", &unwise]).is(0, &warned);
    snapline(&["settings", &unwise, "--deny-warnings"]).is(1, &warned);
    // The later file counts.
    let later = file("later.toml", "checkpoint_timeout = '10m'\n");
    snapline(&["settings", &unwise, &later]).is(0, &[": 1 warning;"]);

    let typo = settings("\ncheckpoint_intervall = '5s'\n");
    snapline(&["settings", &typo]).is(2, &["job.toml:2:1: `checkpoint_intervall`", "is meant"]);
    let both = settings("max_concurrent_checkpoints = 0\n");
    snapline(&["settings", &both]).is(2, &["job.toml:1:1: `max_concurrent_checkpoints`"]);
    snapline(&["settings", "nowhere.toml"]).is(2, &["nowhere.toml: it cannot be read"]);
    snapline(&["settings"]).is(2, &["FILE"]);
    snapline(&["settings", "--list"]).is(0, &["| `checkpoint_interval` |", "| `restart` |"]);
}

/// A command that waits for input that never comes, and looks at no flag, ends when it is told to:
/// the first time.
#[cfg(unix)]
#[test]
fn every_command_ends_on_a_termination_signal() {
    use std::process::Stdio;
    use std::time::{Duration, Instant};
    for (number, signal) in ["-TERM", "-INT"].into_iter().enumerate() {
        let pipe = scratch(&format!("never-{number}"));
        let _ = std::fs::remove_file(&pipe);
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.expect("it is a program").success());
        let mut child = common::command(&["settings", &pipe])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        // It opens when the command has opened the other end: its handler is there, and it reads.
        let (sender, opened) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            sender.send(std::fs::OpenOptions::new().write(true).open(&pipe))
        });
        let end = opened.recv_timeout(Duration::from_secs(30)).expect("the command reads it");
        let end = end.expect("it opens");
        let sent =
            std::process::Command::new("kill").args([signal, &child.id().to_string()]).status();
        assert!(sent.expect("it is a program").success());
        let begin = Instant::now();
        let status = loop {
            match child.try_wait().expect("it is a child") {
                Some(status) => break status,
                None if begin.elapsed() > Duration::from_secs(30) => {
                    child.kill().expect("it is a child");
                    panic!("{signal} did not end it");
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        assert_eq!(status.code(), Some(3), "as what was stopped ends");
        drop(end);
    }
}
