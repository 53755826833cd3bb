//! `snapline mutants`, `snapline walk` and `snapline trace` as a user meets them.

mod common;

use clap::CommandFactory;
use common::{file, scratch, snapline};
use serde_json::Value;
use snapline_cli::args::Cli;
use snapline_models::mutants::Mutant;

#[test]
fn every_mutant_is_listed_with_its_law_and_its_bug() {
    let run = snapline(&["mutants", "--list"]).is(0, &["mutant", "class of bug"]);
    for mutant in Mutant::all() {
        let line = run.out.lines().find(|line| line.split(' ').next() == Some(mutant.name()));
        let line = line.unwrap_or_else(|| panic!("{} is not listed", mutant.name()));
        assert!(line.contains(mutant.law.name()) && line.contains(mutant.bug), "{line}");
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
    let report: Value = serde_json::from_str(&text).expect("the report is JSON");
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
    trace("other.json", "{\"format\": \"snapline-check\"}").is(2, &["this is not a trace"]);
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
    snapline(&["settings", &typo]).is(2, &["job.toml:2:1: `checkpoint_intervall`", "did you mean"]);
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
        assert!(made.expect("mkfifo runs").success());
        let mut child = common::command(&["settings", &pipe])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the command starts");
        // It opens when the command has opened the other end: its handler is there, and it reads.
        let (sender, opened) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            sender.send(std::fs::OpenOptions::new().write(true).open(&pipe))
        });
        let end = opened.recv_timeout(Duration::from_secs(30)).expect("the command reads the pipe");
        let end = end.expect("the pipe opens");
        let sent =
            std::process::Command::new("kill").args([signal, &child.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
        let begin = Instant::now();
        let status = loop {
            match child.try_wait().expect("the child can be waited for") {
                Some(status) => break status,
                None if begin.elapsed() > Duration::from_secs(30) => {
                    child.kill().expect("the child can be killed");
                    panic!("{signal} did not end the command");
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        assert_eq!(status.code(), Some(3), "a stopped command exits with 3");
        drop(end);
    }
}

/// Each command that users see, with its subcommands: the words that call it, and its flags.
fn commands(command: &clap::Command, words: &[String]) -> Vec<(Vec<String>, Vec<String>)> {
    let flags = command.get_arguments().filter(|arg| !arg.is_hide_set());
    let flags = flags.filter_map(|arg| arg.get_long()).map(str::to_owned).collect();
    let mut all = vec![(words.to_vec(), flags)];
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        let words: Vec<String> = [words, &[below.get_name().to_owned()]].concat();
        all.extend(commands(below, &words));
    }
    all
}

fn visible_commands() -> Vec<(Vec<String>, Vec<String>)> {
    let all = commands(&Cli::command(), &["snapline".into()]);
    assert!(all.len() > 15, "the commands and those of `trace`: {all:?}");
    all
}

#[test]
fn each_shell_has_a_script_that_knows_every_command_and_flag() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = snapline(&["completions", shell]).is(0, &[]).out;
        for (words, flags) in visible_commands() {
            let name = words.last().expect("a command has a name");
            assert!(script.contains(name.as_str()), "{shell} does not know {words:?}");
            for flag in flags {
                assert!(script.contains(&flag), "{shell} does not know {words:?} --{flag}");
            }
        }
    }
    snapline(&["completions", "tcsh"]).is(2, &["invalid value 'tcsh'", "bash"]);
}

#[cfg(unix)]
#[test]
fn bash_completes_commands_flags_and_values() {
    let script = file("snapline.bash", &snapline(&["completions", "bash"]).is(0, &[]).out);
    let completed = |words: &[&str]| {
        let (last, before) = (words[words.len() - 1], words[words.len() - 2]);
        let line = format!(
            "source '{script}'; COMP_WORDS=({}); COMP_CWORD={}; _snapline snapline '{last}' \
             '{before}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            words.join(" "),
            words.len() - 1
        );
        let output = std::process::Command::new("bash").args(["-c", &line]).output();
        let output = output.expect("bash can be started");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("the output is UTF-8");
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(completed(&["snapline", "exp"]), ["explore"]);
    assert_eq!(completed(&["snapline", "check", "--top"]), ["--topology"]);
    assert_eq!(completed(&["snapline", "check", "--engine", "h"]), ["hunt"]);
    assert_eq!(completed(&["snapline", "trace", "rend"]), ["render"]);
}

#[test]
fn every_command_has_a_manual_page_with_its_flags() {
    let directory = scratch("man/pages");
    let _ = std::fs::remove_dir_all(&directory);
    snapline(&["man", &directory]).is(0, &["the manual pages are in ", "snapline.1"]);
    let mut expected = Vec::new();
    for (words, flags) in visible_commands() {
        let name = format!("{}.1", words.join("-"));
        let path = format!("{directory}/{name}");
        let page = std::fs::read_to_string(&path).unwrap_or_else(|why| panic!("{path}: {why}"));
        assert!(page.contains(&format!(".TH {}", words.join("-"))), "{page}");
        for flag in flags {
            let flag = format!("\\-\\-{}", flag.replace('-', "\\-"));
            assert!(page.contains(&flag), "{name} has no {flag}:\n{page}");
        }
        expected.push(name);
    }
    let pages = std::fs::read_dir(&directory).expect("the command created the directory");
    let mut pages: Vec<String> = pages
        .map(|page| page.expect("the entry is readable").file_name().to_string_lossy().into_owned())
        .collect();
    pages.sort();
    expected.sort();
    assert_eq!(pages, expected, "a page for each visible command, and no other");
    let check = std::fs::read_to_string(format!("{directory}/snapline-check.1"));
    let check = check.expect("the page was written");
    assert!(check.contains("max\\-concurrent"), "the page lists the keys of a topology file");
}

#[test]
fn manual_pages_that_cannot_be_written_name_the_directory() {
    let taken = file("a-file-where-manual-pages-should-be", "");
    snapline(&["man", &taken]).is(2, &["cannot write manual pages to ", &taken]);
}
