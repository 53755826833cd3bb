//! The examples run and succeed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// The path of an example, beside the folder of this executable. `cargo test` alone builds all
/// examples; `cargo test --test examples` builds none. So this builds them if one is missing or
/// older than its sources.
fn example(name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    let me = std::env::current_exe().expect("this test runs");
    let profile = me.ancestors().nth(2).expect("target/<profile>/deps/<test>");
    let path = profile.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    if changed(&path) <= newest_source() {
        BUILT.get_or_init(|| build(profile));
    }
    assert!(path.exists(), "there is no example `{name}` with the features that this test has");
    path
}

/// The modification time of a file; long ago if it does not exist.
fn changed(path: &Path) -> SystemTime {
    let data = std::fs::metadata(path).and_then(|data| data.modified());
    data.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// The newest modification time of the sources of the examples: the library's and their own.
fn newest_source() -> SystemTime {
    fn newest(path: &Path) -> SystemTime {
        match std::fs::read_dir(path) {
            Ok(entries) => {
                let entries = entries.flatten().map(|entry| newest(&entry.path()));
                entries.max().unwrap_or(SystemTime::UNIX_EPOCH)
            }
            Err(_) => changed(path),
        }
    }
    static NEWEST: OnceLock<SystemTime> = OnceLock::new();
    *NEWEST.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let parts = ["src", "protocol/src", "examples", "Cargo.toml", "protocol/Cargo.toml"];
        let parts = parts.map(|part| newest(&root.join(part)));
        parts.into_iter().max().expect("examples are listed")
    })
}

/// Builds all examples as the test was built. Unchanged ones are not built again.
fn build(profile: &Path) {
    eprintln!("examples are missing, or older than their sources: building them");
    let target = profile.parent().expect("target/<profile>");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--examples", "--target-dir"]).arg(target);
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    // The features that this test has: all of them, if the workspace is tested.
    let features = [
        ("dashboard", cfg!(feature = "dashboard")),
        ("formats", cfg!(feature = "formats")),
        ("http", cfg!(feature = "http")),
        ("parquet", cfg!(feature = "parquet")),
        ("signals", cfg!(feature = "signals")),
        ("sqlite", cfg!(feature = "sqlite")),
        ("testkit", cfg!(feature = "testkit")),
    ];
    if cfg!(feature = "sim") {
        cargo.arg("--workspace");
    } else {
        cargo.args(["-p", "snapline", "--no-default-features"]);
        for (feature, _) in features.iter().filter(|(_, is_on)| *is_on) {
            cargo.args(["--features", feature]);
        }
    }
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().expect("cargo runs").success(), "the examples are built");
}

fn run(name: &str) -> String {
    let output = Command::new(example(name)).output().expect("the example starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {}\n{text}\n{errors}", output.status);
    text
}

#[test]
fn word_count_counts_words() {
    let text = run("word_count");
    assert!(text.contains("guarantee: exactly once"), "{text}");
    assert!(text.contains("outcome: Finished"), "{text}");
    for line in ["3 is", "2 the", "2 once", "1 straight"] {
        assert!(text.contains(line), "no `{line}` in:\n{text}");
    }
}

#[test]
fn word_count_reads_files() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/SPEC.md");
    let output =
        Command::new(example("word_count")).arg(file).output().expect("the example starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains(" the"), "{text}");
    let missing = Command::new(example("word_count")).arg("no/such/file").output();
    assert!(
        !missing.expect("the example starts").status.success(),
        "the exit code shows a failure"
    );
}

#[test]
fn a_sink_of_one_s_own_is_exactly_once() {
    let text = run("custom_sink");
    assert!(text.contains("outcome: Finished after 2 restarts"), "{text}");
    assert!(text.contains("10000 entries for 10000 records"), "{text}");
}

#[test]
fn a_service_with_a_job_inside() {
    let text = run("embedded");
    assert!(text.contains("first life: Suspended"), "{text}");
    assert!(text.contains("restored from Some"), "{text}");
}

#[test]
fn requests_are_counted_by_the_minute_and_those_too_late_by_themselves() {
    let text = run("log_analytics");
    assert!(text.contains("outcome: Finished"), "{text}");
    for line in [
        "minute 0 host-0: 204 requests, 16 errors",
        "minute 1 host-0: 198 requests, 15 errors",
        "30 windows, 5947 requests in them, 53 too late",
    ] {
        assert!(text.contains(line), "no `{line}` in:\n{text}");
    }
}

#[test]
fn hot_readings_are_alarms() {
    let text = run("sensor_alarms");
    for line in [
        "sensor 0: at 300 s for 85 s, up to 86 degrees",
        "sensor 0: at 1900 s for 175 s, up to 86 degrees",
        "40 alarms",
    ] {
        assert!(text.contains(line), "no `{line}` in:\n{text}");
    }
}

#[test]
fn orders_are_paid_or_given_up() {
    let text = run("order_payments");
    assert!(text.contains("771 paid within 1759 s, 229 given up"), "{text}");
}

#[test]
fn taxi_rides_as_in_flink_s_training() {
    let text = run("taxi");
    for line in [
        "ride-cleansing: Finished, ",
        "rides-and-fares: Finished, 2000 results",
        "hourly-tips: Finished, 12 results",
        "long-rides: Finished, 40 results",
    ] {
        assert!(text.contains(line), "no `{line}` in:\n{text}");
    }
}

#[cfg(all(feature = "http", feature = "sqlite"))]
#[test]
fn orders_by_http_are_counted_once_in_a_database() {
    let text = run("order_service");
    for line in [
        "the first life ended after 1 restart",
        "the second life: Finished, 100 orders accepted",
        "Ada: 20 orders, 2950 cents",
        "(unknown customer): 20 orders, 3030 cents",
        "each order was counted once",
    ] {
        assert!(text.contains(line), "no `{line}` in:\n{text}");
    }
}

/// The lines of a file that are neither blank nor comment.
fn lines_of(file: &str) -> String {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join(file)).unwrap_or_else(|_| panic!("no {file}"));
    let lines = text.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with("//")).count().to_string()
}

/// README and guide state the number of lines of every example.
#[test]
fn lines_are_counted_right() {
    let cells = |row: &'static str| -> Vec<&str> { row.split('|').map(str::trim).collect() };
    let of_taxi = include_str!("../src/guide/flink.md").lines();
    let of_taxi: Vec<_> = of_taxi.filter(|row| row.contains("| `examples/")).map(cells).collect();
    assert_eq!(of_taxi.len(), 4);
    for row in of_taxi {
        assert_eq!(row[3], lines_of(row[2].trim_matches('`')), "{row:?}");
        let (ours, java): (u32, u32) =
            (row[3].parse().expect("a number"), row[4].parse().expect("a number"));
        assert!(ours < java, "{row:?}");
    }
    let readme = include_str!("../README.md");
    let (_, section) =
        readme.split_once("\n## Examples\n").expect("README has the section Examples");
    let section = section.split("\n## ").next().expect("a split has a first part");
    let mut told = Vec::new();
    for row in section.lines().filter(|row| row.starts_with("| `")).map(cells).skip(1) {
        let name = row[1].split('`').nth(1).expect("a name in quotes");
        let file = match name {
            "taxi" => "examples/taxi/main.rs".to_owned(),
            _ => format!("examples/{name}.rs"),
        };
        assert_eq!(row[3], lines_of(&file), "{row:?}");
        told.push(name.to_owned());
    }
    let entries = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples"));
    let mut there: Vec<String> = entries
        .expect("the folder examples exists")
        .map(|entry| {
            entry
                .expect("the entry is readable")
                .path()
                .file_stem()
                .expect("a name")
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    there.sort();
    told.sort();
    assert_eq!(told, there);
}

#[cfg(all(feature = "formats", feature = "parquet"))]
#[test]
fn csv_becomes_parquet_and_broken_lines_dead_letters() {
    let text = run("csv_to_parquet");
    assert!(text.contains("outcome: Finished after 2 restarts"), "{text}");
    for line in [
        "Bread & Co: 1976 sales, 994642 cents",
        "Flowers, fresh: 1976 sales, 1002068 cents",
        "the \"Corner\": 1976 sales, 985238 cents",
        "5928 sales, 588 with a coupon, and 72 dead letters, the first of them",
        r#"{"file":"orders-0.csv","line":1009,"why":"column `cents`: invalid digit found in string","text":"1007,\"the \"\"Corner\"\"\",a lot,"}"#,
    ] {
        assert!(text.contains(line), "no `{line}` in:\n{text}");
    }
}

/// Runs `grep` on these lines. Returns its output, its errors, and whether it succeeded.
#[cfg(unix)]
fn grep(input: &[u8], reads: bool) -> (String, String, bool) {
    use std::io::{Read, Write};
    use std::process::Stdio;
    let mut command = Command::new(example("grep"));
    command.arg("needle").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the example starts");
    let mut out = child.stdout.take().expect("piped");
    let mut text = String::new();
    if !reads {
        drop(out);
        let mut stdin = child.stdin.take().expect("piped");
        // It may have ended before all is written.
        let _ = stdin.write_all(input);
        drop(stdin);
    } else {
        child.stdin.take().expect("piped").write_all(input).expect("the example reads its input");
        out.read_to_string(&mut text).expect("the example writes UTF-8");
    }
    let output = child.wait_with_output().expect("the example ends");
    (text, String::from_utf8_lossy(&output.stderr).into_owned(), output.status.success())
}

#[cfg(unix)]
#[test]
fn lines_go_in_and_out_of_a_process() {
    let (text, errors, well) = grep(b"hay\na needle\nhay\r\nneedles\r\nthe last needle", true);
    assert!(well, "{errors}");
    assert_eq!(text, "a needle\nneedles\nthe last needle\n");
    assert!(errors.contains("guarantee: at most once"), "{errors}");
    // Input that cannot be read is reported as an error.
    let long = [b"a needle\n".to_vec(), vec![b'x'; 100_000]].concat();
    let (_, errors, well) = grep(&long, true);
    assert!(!well && errors.contains("stdin, line 2: it has more than 65536 bytes"), "{errors}");
    // Its output is not read.
    let (_, errors, well) = grep(&b"a needle\n".repeat(10_000), false);
    assert!(!well && errors.contains("stdout: cannot write to"), "{errors}");
    assert!(!errors.contains("panicked"), "{errors}");
}

#[cfg(feature = "dashboard")]
#[test]
fn a_job_with_a_status_page() {
    let output = Command::new(example("dashboard")).arg("1").output().expect("the example starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("open http://127.0.0.1:"), "{text}");
    assert!(text.contains("Suspended after "), "{text}");
}

#[test]
fn payments_are_judged_by_the_rule_of_their_time() {
    let text = run("fraud_rules");
    assert!(text.contains("outcome: Finished after 1 restart"), "{text}");
    for line in ["card 7 at 109 s: more than 9 payments in a minute", "90 alerts"] {
        assert!(text.contains(line), "no `{line}` in:\n{text}");
    }
}

#[test]
fn a_model_that_learns_while_data_flow_is_the_same_after_a_kill() {
    let text = run("online_model");
    assert!(text.contains("outcome: Finished after 1 restart"), "{text}");
    // The values depend on the machine's exponential function, so the last digits vary.
    for line in ["region 0: 92.9", "region 3: 97.7"] {
        assert!(text.contains(line), "no `{line}` in:\n{text}");
    }
}

#[test]
fn checkpoints_are_spans_of_open_telemetry() {
    let text = run("telemetry");
    assert!(text.contains("Suspended after 1 restart"), "{text}");
    // The lines of a span alone.
    let spans: Vec<&str> = text.split("Span #").skip(1).collect();
    let named = |name: &str| {
        let line = format!("Name         : {name}\n");
        spans.iter().filter(|span| span.contains(&line)).copied().collect::<Vec<&str>>()
    };
    let completed: Vec<&str> = named("checkpoint")
        .into_iter()
        .filter(|span| span.contains("completed: Bool(true)"))
        .collect();
    assert!(completed.len() >= 2, "{text}");
    for span in completed {
        assert!(span.contains("ParentSpanId : None (root span)"), "{span}");
        assert!(span.contains("Status       : Ok"), "{span}");
        for event in ["Name      : triggered", "Name      : acknowledged", "Name      : complete"] {
            assert!(span.contains(event), "no `{event}` in:\n{span}");
        }
    }
    assert_eq!((named("attempt").len(), named("recovery").len()), (2, 2), "{text}");
}
