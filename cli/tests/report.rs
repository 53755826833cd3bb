//! `--report DIR`: what CI systems and people find there.

mod common;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{CHAIN, LARGE, file, scratch, snapline};
use serde_json::Value;

fn directory(name: &str) -> PathBuf {
    let path = PathBuf::from(scratch(name));
    let _ = std::fs::remove_dir_all(&path);
    path
}

fn text(directory: &Path, name: &str) -> String {
    std::fs::read_to_string(directory.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn json(directory: &Path, name: &str) -> Value {
    serde_json::from_str(&text(directory, name)).expect("the file is JSON")
}

const BLIND: &str = "sink = { prepared = \"survives\", commit = \"blind\", fences = true }\n";

#[test]
fn a_violation_is_in_every_file_and_its_story_is_linked() {
    let path = file("reported.toml", &format!("{BLIND}{CHAIN}"));
    let directory = directory("report-violation");
    let at = directory.to_string_lossy().into_owned();
    let run = snapline(&["check", "--topology", &path, "--report", &at]);
    run.is(1, &["reported: violated: L5 no-duplicates", "the report is in "]);

    let results = json(&directory, "results.json");
    let steps = results["results"][0]["path"].as_array().expect("a path").len();

    let xml = text(&directory, "junit.xml");
    let document = roxmltree::Document::parse(&xml).expect("the file is well-formed XML");
    let suites = document.root_element();
    assert_eq!(suites.tag_name().name(), "testsuites");
    let suite = suites.first_element_child().expect("a suite");
    for counts in [suites, suite] {
        let count = |name| counts.attribute(name);
        assert_eq!([count("tests"), count("failures"), count("errors")], ["1", "1", "0"].map(Some));
        assert_eq!(count("name"), Some("snapline check"));
        let time = count("time").and_then(|time| time.parse::<f64>().ok());
        assert!(time.is_some_and(|time| time > 0.0), "{xml}");
    }
    let case = suite.first_element_child().expect("a case");
    assert_eq!((case.tag_name().name(), case.attribute("name")), ("testcase", Some("reported")));
    assert_eq!(case.attribute("classname"), Some("snapline check"));
    let failure = case.first_element_child().expect("a failure");
    assert_eq!(failure.attribute("type"), Some("violated"));
    assert_eq!(failure.tag_name().name(), "failure");
    let story = failure.text().expect("the story");
    assert_eq!(story.lines().count(), steps, "the story has one line for each step");
    assert!(story.starts_with("1 storage "), "{story}");
    assert!(failure.attribute("message").is_some_and(|says| says.contains("no-duplicates")));

    let sarif = json(&directory, "results.sarif");
    assert_eq!(sarif["version"], "2.1.0");
    let run = &sarif["runs"][0];
    assert_eq!(run["tool"]["driver"]["rules"].as_array().map(Vec::len), Some(16));
    let result = &run["results"][0];
    assert_eq!((&result["ruleId"], &result["level"]), (&"L5".into(), &"error".into()));
    let place = &result["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], path);
    let flow = &result["codeFlows"][0]["threadFlows"][0]["locations"];
    assert_eq!(flow.as_array().map(Vec::len), Some(steps));

    let index = text(&directory, "index.html");
    assert!(index.contains("0 of 1 as expected"), "{index}");
    assert!(
        index.contains("default-src 'none'") && !index.contains("<script"),
        "the page loads nothing and runs no script"
    );
    assert!(index.contains("href=\"stories/reported.html\""), "{index}");
    let story = text(&directory, "stories/reported.html");
    assert!(story.contains("no-duplicates") && story.contains("default-src 'none'"));
    let trace = directory.join("traces/reported.json").to_string_lossy().into_owned();
    snapline(&["trace", &trace]).is(0, &["as claimed, no-duplicates is broken"]);
}

#[test]
fn what_holds_is_green_and_has_no_story() {
    let path = file("reported-safe.toml", CHAIN);
    let directory = directory("report-safe");
    let at = directory.to_string_lossy().into_owned();
    snapline(&["check", "--topology", &path, "--report", &at]).is(0, &["holds"]);
    let xml = text(&directory, "junit.xml");
    let document = roxmltree::Document::parse(&xml).expect("well-formed");
    let bad = document
        .descendants()
        .filter(|node| ["failure", "error"].contains(&node.tag_name().name()));
    assert_eq!(bad.count(), 0, "{xml}");
    let sarif = json(&directory, "results.sarif");
    assert_eq!(sarif["runs"][0]["results"].as_array().map(Vec::len), Some(0));
    assert!(text(&directory, "index.html").contains("1 of 1 as expected"));
    assert_eq!(std::fs::read_dir(directory.join("stories")).expect("the folder exists").count(), 0);
}

#[test]
fn what_was_stopped_is_not_green() {
    let path = file("reported-large.toml", LARGE);
    let directory = directory("report-stopped");
    let at = directory.to_string_lossy().into_owned();
    snapline(&["check", "--topology", &path, "--timeout", "0.2", "--report", &at])
        .is(3, &["stopped"]);
    let xml = text(&directory, "junit.xml");
    let document = roxmltree::Document::parse(&xml).expect("well-formed");
    let errors: Vec<_> = document.descendants().filter(|it| it.has_tag_name("error")).collect();
    assert_eq!(errors.len(), 1, "{xml}");
    assert!(errors[0].attribute("message").is_some_and(|says| says.starts_with("stopped: ")));
    assert_eq!(document.root_element().attribute("errors"), Some("1"), "{xml}");
    assert!(text(&directory, "index.html").contains("0 of 1 as expected"));
    let sarif = json(&directory, "results.sarif");
    assert_eq!(sarif["runs"][0]["results"][0]["level"], "warning");
}

#[test]
fn names_are_text_in_every_file() {
    let hostile = "a<script>alert(1)</script>&'\"]]>";
    let chain = CHAIN.replace("\"in\"", &format!("{:?}", hostile));
    let path = file("x&'<b>y.toml", &format!("{BLIND}{chain}"));
    let directory = directory("report-hostile");
    let at = directory.to_string_lossy().into_owned();
    snapline(&["check", "--topology", &path, "--report", &at]).is(1, &["violated"]);
    let xml = text(&directory, "junit.xml");
    let document = roxmltree::Document::parse(&xml).expect("well-formed");
    let case = document.descendants().find(|node| node.has_tag_name("testcase")).expect("a case");
    assert_eq!(case.attribute("name"), Some("x&'<b>y"), "the name is complete");
    let story =
        document.descendants().find(|node| node.has_tag_name("failure")).expect("a failure");
    assert!(story.text().is_some_and(|text| text.contains(hostile)), "{xml}");
    for page in ["index.html", "stories/x___b_y.html"] {
        assert!(!text(&directory, page).contains("<script>alert"), "{page}");
    }
    json(&directory, "results.sarif");
}

#[test]
fn a_directory_that_cannot_be_written_is_told_before_the_check() {
    let path = file("reported-later.toml", LARGE);
    let taken = file("a-file-where-a-directory-should-be", "");
    for at in [taken.clone(), format!("{taken}/below")] {
        let start = Instant::now();
        snapline(&["check", "--topology", &path, "--report", &at])
            .is(2, &["cannot write the report", &taken]);
        snapline(&["mutants", "--report", &at]).is(2, &["cannot write the report", &taken]);
        assert!(start.elapsed() < Duration::from_secs(20), "the check fails before it explores");
    }
}

#[test]
fn mutants_are_reported_with_how_they_were_found() {
    let directory = directory("report-mutants");
    let at = directory.to_string_lossy().into_owned();
    snapline(&["mutants", "ack-before-durable", "--report", &at]).is(0, &["killed"]);
    let index = text(&directory, "index.html");
    assert!(
        index.contains("stories/ack-before-durable.html") && index.contains("killed"),
        "{index}"
    );
    let results = json(&directory, "results.json");
    assert_eq!(results["results"][0]["verdict"], "killed");
    roxmltree::Document::parse(&text(&directory, "junit.xml")).expect("well-formed");
    assert!(!directory.join("results.sarif").exists(), "a killed mutant is not a finding");
    assert!(text(&directory, "stories/ack-before-durable.html").contains("ack-before-durable"));
}
