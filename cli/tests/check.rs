//! `snapline check` as a user meets it.

mod common;

use std::io::Read;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{CHAIN, LARGE, command, file, scratch, snapline};
use serde_json::Value;
use snapline_models::configs;

fn json(path: &str) -> Value {
    let text = std::fs::read_to_string(path).expect("the file was written");
    serde_json::from_str(&text).expect("the results are JSON")
}

#[test]
fn a_topology_that_is_safe_exits_0_and_says_so_in_both_forms() {
    let path = file("safe.toml", CHAIN);
    let report = scratch("safe.json");
    let run = snapline(&["check", "--topology", &path, "--json", &report]);
    let run = run.is(
        0,
        &["configuration", "states/s", "collisions", "safe ", "holds", "total: 1 of 1 hold"],
    );
    assert_eq!(run.err, "", "no progress is shown for a short run");
    let report = json(&report);
    assert_eq!((&report["format"], &report["version"]), (&"snapline-check".into(), &1.into()));
    let result = &report["results"][0];
    assert_eq!((&result["name"], &result["verdict"]), (&"safe".into(), &"holds".into()));
    assert_eq!(result["unique"], report["total"]["states"]);
    assert!(result["actions"]["crash"].as_u64() > Some(0));
    assert_eq!(result["scenario"]["plan"]["operator"][0]["name"], "in");
    assert!(result["path"].is_null() && result["detail"].is_null());
    let never = report["coverage"]["actions_never_taken"].as_array().expect("a list");
    assert!(never.contains(&"zombie-commit".into()));
}

#[test]
fn the_engines_come_to_the_same_count() {
    let path = file("engines.toml", CHAIN);
    let report = scratch("engines.json");
    let count = |engine| {
        let args =
            ["check", "--topology", &path, "--engine", engine, "--threads", "2", "--json", &report];
        snapline(&args).is(0, &[]);
        json(&report)["results"][0]["unique"].clone()
    };
    let counts = ["stateright", "hunt", "exact"].map(count);
    assert!(counts[0] == counts[1] && counts[1] == counts[2], "{counts:?}");
}

#[test]
fn a_violation_exits_1_with_its_story_and_a_trace_that_replays() {
    let sink = "sink = { prepared = \"survives\", commit = \"blind\", fences = true }\n";
    let path = file("blind.toml", &format!("{sink}{CHAIN}"));
    let (trace, report) = (scratch("blind-trace.json"), scratch("blind.json"));
    snapline(&["check", "--topology", &path, "--trace", &trace, "--json", &report]).is(
        1,
        &[
            "blind: violated: L5 no-duplicates",
            "bounds: 2 records per source",
            "in           reads record in/0",
            "! ",
            "readers see a record twice",
            "total: 0 of 1 hold",
            "the trace of blind is in ",
        ],
    );
    let told = snapline(&["trace", &trace]).is(0, &["as claimed, no-duplicates is broken"]);
    let steps = json(&report)["results"][0]["path"].as_array().expect("a path").len();
    assert!(told.out.starts_with(&format!("blind: {steps} steps\n")), "{}", told.out);
}

#[test]
fn a_sink_that_may_lose_data_exits_1_although_the_job_would_say_so() {
    let path = file("lossy.toml", &format!("sink = \"producer-with-timeout\"\n{CHAIN}"));
    let trace = scratch("lossy-trace.json");
    let said = ["lossy: loss: the external system may drop data that has to be committed"];
    snapline(&["check", "--topology", &path, "--trace", &trace]).is(1, &said);
    snapline(&["trace", &trace]).is(0, &["the trace claims no broken law"]);
}

#[test]
fn unknown_names_list_the_known_ones_and_exit_2() {
    let all = configs::all();
    let first = all[0].scenario.name.as_str();
    let wrong = format!("{first}x");
    let run = snapline(&["check", &wrong]);
    let hint = format!("there is no configuration `{wrong}`; did you mean `{first}`?");
    let run = run.is(2, &[&hint, "the configurations are: "]);
    assert!(all.iter().all(|config| run.err.contains(&config.scenario.name)));
    snapline(&["check", "--enginee", "hunt"])
        .is(2, &["unexpected argument '--enginee'", "The flags of check are: --ci, --deep, --all"]);
    snapline(&["check", "--engine", "fast"]).is(2, &["stateright, hunt, exact"]);
    snapline(&["chekc"]).is(2, &["check"]);
}

#[test]
fn wrong_usage_exits_2() {
    for args in [
        &["check", "--ci", "--deep"][..],
        &["check", "chain", "--all"],
        &["check", "--ci", "--topology", "x.toml"],
        &["check", "--timeout", "-1"],
        &["check", "--threads", "0"],
        &["trace"],
        &["walk"],
        &[],
    ] {
        snapline(args).is(2, &["--help"]);
    }
    snapline(&["check", "--topology", "nowhere.toml"]).is(2, &["cannot read nowhere.toml"]);
    for flag in ["--json", "--trace"] {
        let run = snapline(&["check", "--ci", flag, "nowhere/file.json"]);
        assert_eq!(run.is(2, &["cannot write nowhere/file.json: "]).out, "", "nothing is explored");
    }
    snapline(&["--help"]).is(0, &["mutants"]);
    snapline(&["check", "--help"]).is(0, &["Exit status"]);
}

#[test]
fn no_name_means_the_configurations_of_every_change() {
    let run = snapline(&["check", "--timeout", "0"]).is(3, &["total: 0 of "]);
    for config in configs::all() {
        let name = &config.scenario.name;
        let listed = run.out.lines().any(|line| line.split(' ').next() == Some(name));
        assert_eq!(listed, config.suite == configs::Suite::Ci, "{name}");
    }
    assert!(run.out.contains("not-run") && run.out.contains("not driven"), "{}", run.out);
}

#[test]
fn the_list_has_every_configuration() {
    let run = snapline(&["check", "--list"]).is(0, &["configuration", "suite", "shows"]);
    for config in configs::all() {
        assert!(run.out.contains(config.shows), "{}", config.scenario.name);
    }
    let deep = snapline(&["check", "--list", "--deep"]).is(0, &[]);
    assert!(!deep.out.contains(" ci "), "{}", deep.out);
}

#[test]
fn a_wrong_topology_exits_2_and_names_the_place() {
    let cycle = r#"
operator = [
  { name = "in", role = "source" },
  { name = "a", role = "transform" },
  { name = "b", role = "transform" },
  { name = "out", role = "sink" },
]
edge = [
  { from = "in", to = "a", wiring = "forward" },
  { from = "a", to = "b", wiring = "forward" },
  { from = "b", to = "a", wiring = "forward" },
  { from = "b", to = "out", wiring = "forward" },
]
"#;
    let dangling = CHAIN.replace("to = \"out\"", "to = \"sink\"");
    let wide = CHAIN.replace("\"source\"\n", "\"source\"\nparallelism = 10000\n");
    for (name, text, parts) in [
        ("cycle", cycle, &["line ", "the operators form a cycle: `"][..]),
        ("no-source", &CHAIN.replace("\"source\"", "\"transform\""), &["has no source"]),
        ("no-sink", &CHAIN.replace("\"sink\"", "\"transform\""), &["has no sink"]),
        ("wide", &wide, &["10001 subtasks; the limit is "]),
        (
            "dangling",
            &dangling,
            &["line 10, column 1: edge `in` -> `sink`: there is no operator `sink`"],
        ),
        ("typo", &format!("recrods = 2\n{CHAIN}"), &["line 1, column 1", "`recrods`", "`records`"]),
        ("syntax", "[[operator]\n", &["line 1, column "]),
        ("many", &format!("records = 200\n{CHAIN}"), &["record identities", "the limit is 64"]),
        (
            "id-block",
            &format!("id-block = 9223372036854775807\n{CHAIN}"),
            &["the id block is 9223372036854775807; it must be at most 4294967296"],
        ),
        (
            "retained",
            &format!("retained = 9223372036854775807\n{CHAIN}"),
            &["the number of retained checkpoints is 9223372036854775807; it must be at most"],
        ),
        (
            "concurrent",
            &format!("max-concurrent = 9223372036854775807\n{CHAIN}"),
            &["the number of concurrent checkpoints is 9223372036854775807; it must be at most"],
        ),
        (
            "parallelism",
            &CHAIN.replace("\"source\"\n", "\"source\"\nparallelism = 9223372036854775807\n"),
            &["subtasks; the limit is "],
        ),
    ] {
        let path = file(&format!("{name}.toml"), text);
        let run = snapline(&["check", "--topology", &path]).is(2, parts);
        assert!(run.err.contains(&path) && run.out.is_empty(), "{}", run.err);
    }
}

#[test]
fn limits_exit_3_and_say_how_far_it_came() {
    let path = file("limits.toml", LARGE);
    let report = scratch("limits.json");
    let run = snapline(&["check", "--topology", &path, "--timeout", "0.001", "--json", &report]);
    run.is(3, &["stopped: the time ran out", "states were reached", "total: 0 of 1 hold"]);
    assert_eq!(json(&report)["results"][0]["verdict"], "stopped");
    let run = snapline(&["check", "--topology", &path, "--max-memory", "1"]);
    run.is(3, &["stopped: more memory was needed than allowed", "states were reached"]);
}

#[cfg(unix)]
#[test]
fn ctrl_c_exits_3_and_says_how_far_it_came() {
    let path = file("ctrl-c.toml", LARGE);
    let mut child = command(&["check", "--topology", &path]).spawn().expect("the command starts");
    sleep(Duration::from_millis(500));
    let pressed = Instant::now();
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().expect("kill runs").success());
    let status = child.wait().expect("the command ends");
    assert!(pressed.elapsed() < Duration::from_secs(3), "the command stops within 3 s");
    let mut out = String::new();
    child
        .stdout
        .take()
        .expect("the output is piped")
        .read_to_string(&mut out)
        .expect("the output is UTF-8");
    assert_eq!(status.code(), Some(3), "{out}");
    assert!(
        out.contains("stopped: it was interrupted") && out.contains("states were reached"),
        "{out}"
    );
}

#[test]
fn nobody_reading_is_no_panic() {
    let path = file("closed.toml", CHAIN);
    for args in [
        &["check", "--topology", &path][..],
        &["check", "--list"],
        &["mutants", "--list"],
        &["--help"],
    ] {
        let mut child = command(args).spawn().expect("the command starts");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("the command ends");
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), err.as_str()), (Some(0), ""), "{args:?}");
    }
}
