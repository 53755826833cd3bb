//! The report directory for a failed check: its outcome for machines and for human readers, with
//! the story of each counterexample.
//!
//! | file | what it is |
//! |---|---|
//! | `results.json` | the same as `--json FILE` |
//! | `junit.xml` | a test case for each configuration or mutant, for CI systems |
//! | `results.sarif` | SARIF 2.1.0, of `check` only: each violation with its steps as a code flow, for code scanning |
//! | `index.html` | all results on one page, which loads nothing, with links to the stories |
//! | `stories/NAME.html` | a counterexample to step through |
//! | `traces/NAME.json` | the same counterexample for `snapline trace` |

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};
use quick_xml::escape::escape;
use serde_json::{Value, json};
use snapline_models::laws::Law;
use snapline_models::scenario::Setup;
use snapline_models::story::{StoryLine, story};
use snapline_models::trace::Trace;

use crate::rendering::story_page;
use crate::table::counted;
use crate::{CommandError, Exit, Terminal};

/// A directory that can be written, and will be.
pub(crate) struct Directory(PathBuf);

/// The outcome of one configuration or mutant.
pub(crate) struct ReportedCase<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    /// A word: `holds`, `violated`, `killed`, `lives`, ...
    pub(crate) verdict: &'a str,
    /// Details; empty if all is well.
    pub(crate) detail: Option<String>,
    /// Whether it is as it should be.
    pub(crate) exit: Exit,
    /// The number of explored states.
    pub(crate) states: Option<u64>,
    /// The duration of the exploration, in seconds.
    pub(crate) seconds: Option<f64>,
    /// The path to the bad state, if one was found.
    pub(crate) trace: Option<Trace>,
    /// The user's file that describes it, if there is one.
    pub(crate) file: Option<&'a Path>,
}

/// The outcome of a command.
pub(crate) struct CommandReport<'a> {
    /// The command, as it was called.
    pub(crate) command: &'a str,
    /// The cases, in order.
    pub(crate) cases: Vec<ReportedCase<'a>>,
    /// The text of `--json FILE`.
    pub(crate) results: String,
    /// How long it took in all.
    pub(crate) seconds: f64,
    /// Whether the cases are about a user's own topology, which code scanning shows.
    pub(crate) scanned: bool,
}

impl Directory {
    /// Creates the directory and checks that it can be written, before an hour of exploring.
    ///
    /// # Errors
    /// If it cannot be made or written.
    pub(crate) fn open(path: &Path) -> Result<Self, CommandError> {
        let cannot = |path: &Path, error: std::io::Error| {
            CommandError::Usage(format!("cannot write the report {}: {error}", path.display()))
        };
        for part in [path.to_owned(), path.join("stories"), path.join("traces")] {
            std::fs::create_dir_all(&part).map_err(|error| cannot(&part, error))?;
        }
        let index = path.join("index.html");
        let line = "<!doctype html><title>snapline</title>The check is still running, or was interrupted.\n";
        std::fs::write(&index, line).map_err(|error| cannot(&index, error))?;
        Ok(Self(path.to_owned()))
    }

    /// Reports the directory.
    ///
    /// # Errors
    /// If that cannot be said.
    pub(crate) fn tell(&self, terminal: &mut Terminal<'_>) -> Result<(), CommandError> {
        let index = self.0.join("index.html");
        Ok(writeln!(terminal.err(), "the report is in {}", index.display())?)
    }

    fn write(&self, name: &str, text: &str) -> Result<(), CommandError> {
        crate::write(&self.0.join(name), text)
    }

    /// Writes all of it. Nothing of an earlier report is deleted.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub(crate) fn report(&self, report: &CommandReport<'_>) -> Result<(), CommandError> {
        for case in &report.cases {
            let Some(trace) = &case.trace else { continue };
            let name = file_name(case.name);
            let file = format!("traces/{name}.json");
            self.write(&file, &trace.write())?;
            let story = story_page(trace, &self.0.join(&file))?;
            self.write(&format!("stories/{name}.html"), &story)?;
        }
        self.write("results.json", &report.results)?;
        self.write("junit.xml", &junit(report)?)?;
        if report.scanned {
            self.write("results.sarif", &format!("{:#}\n", sarif(report)))?;
        }
        self.write("index.html", &index(report))
    }
}

/// A name that is one of a file, and that no link needs to encode.
fn file_name(name: &str) -> String {
    let plain = |letter: char| match letter {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' => letter,
        _ => '_',
    };
    name.chars().map(plain).collect()
}

/// Escapes text for HTML and removes control characters.
fn text(raw: &str) -> String {
    let allowed = |letter: &char| match letter {
        '\t' | '\n' => true,
        '\u{fffe}' | '\u{ffff}' => false,
        letter => !letter.is_control(),
    };
    let clean: String = raw.chars().filter(allowed).collect();
    escape(&clean).into_owned()
}

/// The steps of a counterexample in words.
fn told(trace: &Trace) -> Vec<StoryLine> {
    Setup::new(trace.scenario.clone(), trace.mutant)
        .map_or(Vec::new(), |setup| story(&setup, &trace.steps))
}

fn junit(report: &CommandReport<'_>) -> Result<String, CommandError> {
    let mut suite = TestSuite::new(report.command);
    suite.set_time(Duration::from_secs_f64(report.seconds));
    for case in &report.cases {
        let mut status = match case.exit {
            Exit::Good => TestCaseStatus::success(),
            // A case that was stopped is never green.
            Exit::Stopped => TestCaseStatus::non_success(NonSuccessKind::Error),
            Exit::Bad | Exit::Usage => TestCaseStatus::non_success(NonSuccessKind::Failure),
        };
        if case.exit != Exit::Good {
            let lines = case.trace.as_ref().map_or(Vec::new(), told);
            let lines: Vec<String> =
                lines.iter().map(|line| format!("{} {}", line.step, line.sentence())).collect();
            let detail = case.detail.as_deref().unwrap_or("");
            status
                .set_type(case.verdict)
                .set_message(format!("{}: {detail}", case.verdict))
                .set_description(lines.join("\n"));
        }
        let mut test = TestCase::new(case.name, status);
        test.set_classname(report.command);
        test.set_time(Duration::from_secs_f64(case.seconds.unwrap_or_default()));
        suite.add_test_case(test);
    }
    let mut junit = quick_junit::Report::new(report.command);
    junit.set_time(Duration::from_secs_f64(report.seconds));
    junit.add_test_suite(suite);
    junit
        .to_string()
        .map_err(|error| CommandError::Usage(format!("cannot write junit.xml: {error}")))
}

/// What a result of SARIF is about.
fn rule(case: &ReportedCase<'_>) -> (String, String) {
    match case.trace.as_ref().and_then(|trace| trace.law) {
        Some(law) => (format!("L{}", law.number()), law.broken().to_owned()),
        None => (case.verdict.to_owned(), case.detail.clone().unwrap_or_default()),
    }
}

fn sarif(report: &CommandReport<'_>) -> Value {
    let laws = Law::ALL.iter().map(|law| {
        json!({
            "id": format!("L{}", law.number()),
            "name": law.name(),
            "shortDescription": { "text": law.broken() },
        })
    });
    let bad = report.cases.iter().filter(|case| case.exit != Exit::Good);
    let results = bad.map(|case| {
        let (rule, says) = rule(case);
        let logical = json!({ "name": case.name, "kind": "module" });
        let place = |message: Option<String>| {
            let mut place = json!({ "logicalLocations": [logical] });
            if let Some(file) = case.file {
                let uri = file.to_string_lossy().replace('\\', "/");
                place["physicalLocation"] =
                    json!({ "artifactLocation": { "uri": uri }, "region": { "startLine": 1 } });
            }
            if let Some(text) = message {
                place["message"] = json!({ "text": text });
            }
            place
        };
        let mut result = json!({
            "ruleId": rule,
            "level": if case.exit == Exit::Stopped { "warning" } else { "error" },
            "message": { "text": format!("{}: {}: {says}", case.name, case.verdict) },
            "locations": [place(None)],
        });
        if let Some(trace) = &case.trace {
            let steps = told(trace).into_iter().map(|line| {
                let importance = if line.fault { "essential" } else { "important" };
                json!({ "location": place(Some(line.sentence())), "importance": importance })
            });
            let flow = json!({ "locations": steps.collect::<Vec<_>>() });
            result["codeFlows"] = json!([{ "threadFlows": [flow] }]);
        }
        result
    });
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "snapline",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": laws.collect::<Vec<_>>(),
            } },
            "results": results.collect::<Vec<_>>(),
        }],
    })
}

const HEAD: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root { color-scheme: light dark; --paper: #fbfaf7; --card: #fff; --ink: #22262b; --soft: #626b75; --line: #e2dfd8; --good: #2f7d4f; --bad: #b3362b; --stopped: #9a6a00; --link: #2f62a8; }
@media (prefers-color-scheme: dark) { :root { --paper: #16181b; --card: #1e2125; --ink: #e4e6e8; --soft: #9aa3ad; --line: #33383e; --good: #6cc28f; --bad: #f08a7e; --stopped: #dcae4b; --link: #86b3ee; } }
body { margin: 0 auto; max-width: 1080px; padding: 20px; background: var(--paper); color: var(--ink); font: 14px/1.5 system-ui, sans-serif; }
h1 { font-size: 20px; margin: 0 0 4px; } p { margin: 0 0 14px; color: var(--soft); } a { color: var(--link); }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 6px 12px; border-bottom: 1px solid var(--line); vertical-align: top; } th { color: var(--soft); font-weight: 500; font-size: 12px; }
tr:last-child td { border-bottom: 0; } .n { text-align: right; white-space: nowrap; } .name { white-space: nowrap; }
.good { color: var(--good); } .bad { color: var(--bad); font-weight: 600; } .stopped { color: var(--stopped); font-weight: 600; }
</style>
"#;

fn index(report: &CommandReport<'_>) -> String {
    let good = report.cases.iter().filter(|case| case.exit == Exit::Good).count();
    let all = report.cases.len();
    let title = format!("{}: {good} of {all} as expected", text(report.command));
    let mut page = format!("{HEAD}<title>{title}</title>\n</head>\n<body>\n<h1>{title}</h1>\n");
    let also = if report.scanned { ", <a href=\"results.sarif\">results.sarif</a>" } else { "" };
    // Writing to a String does not fail.
    let _ = writeln!(
        page,
        "<p>{:.1} s. For machines: <a href=\"results.json\">results.json</a>, <a href=\"junit.xml\">junit.xml</a>{also}.</p>\n\
         <div class=\"scroll\"><table>\n<tr><th>name</th><th>verdict</th><th></th><th class=\"n\">states</th><th class=\"n\">seconds</th></tr>",
        report.seconds
    );
    // What is wrong comes first.
    let mut cases: Vec<&ReportedCase<'_>> = report.cases.iter().collect();
    cases.sort_by_key(|case| std::cmp::Reverse(case.exit));
    for case in cases {
        let style = match case.exit {
            Exit::Good => "good",
            Exit::Stopped => "stopped",
            Exit::Bad | Exit::Usage => "bad",
        };
        let states = case.states.map_or("-".into(), crate::table::grouped);
        let seconds = case.seconds.map_or("-".into(), |seconds| format!("{seconds:.2}"));
        let _ = writeln!(
            page,
            "<tr><td class=\"name\">{}</td><td class=\"{style}\">{}</td><td>{}</td><td class=\"n\">{states}</td><td class=\"n\">{seconds}</td></tr>",
            text(case.name),
            text(case.verdict),
            about(case),
        );
    }
    page.push_str("</table></div>\n</body>\n</html>\n");
    page
}

/// What is wrong, and where it is shown.
fn about(case: &ReportedCase<'_>) -> String {
    let mut words = text(case.detail.as_deref().unwrap_or(""));
    let Some(trace) = &case.trace else { return words };
    let name = file_name(case.name);
    if let Some(law) = trace.law {
        let _ = write!(words, ": {}", text(law.broken()));
    }
    let _ = write!(
        words,
        "<br><a href=\"stories/{name}.html\">The story, in {}</a>; <a href=\"traces/{name}.json\">the trace</a>",
        counted(trace.steps.len() as u64, "step")
    );
    words
}
