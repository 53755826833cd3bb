//! The examples run, and end well.

use std::path::PathBuf;
use std::process::Command;

/// Where examples are, beside the folder of this executable; they are built if they are not there, as with `cargo test --test examples`.
fn example(name: &str) -> PathBuf {
    let me = std::env::current_exe().expect("this test runs");
    let profile = me.ancestors().nth(2).expect("target/<profile>/deps/<test>");
    let path = profile.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    if !path.exists() {
        let target = profile.parent().expect("target/<profile>");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "-p", "snapline", "--example", name, "--target-dir"]);
        cargo.arg(target).current_dir(env!("CARGO_MANIFEST_DIR"));
        if cfg!(feature = "dashboard") {
            cargo.args(["--features", "dashboard"]);
        }
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().expect("cargo runs").success(), "{name} is built");
    }
    path
}

fn run(name: &str) -> String {
    let output = Command::new(example(name)).output().expect("it can be started");
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
    let output = Command::new(example("word_count")).arg(file).output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains(" the"), "{text}");
    let missing = Command::new(example("word_count")).arg("no/such/file").output();
    assert!(!missing.expect("it starts").status.success(), "a failure is told by the exit code");
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
    // What follows depends on the machine's exponential function, so not to the last digit.
    for line in ["region 0: 92.9", "region 3: 97.7"] {
        assert!(text.contains(line), "no `{line}` in:\n{text}");
    }
}

#[test]
fn checkpoints_are_spans_of_open_telemetry() {
    let text = run("telemetry");
    assert!(text.contains("Suspended after 1 restart"), "{text}");
    // A span's lines, and no other's.
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

#[cfg(feature = "dashboard")]
#[test]
fn a_job_with_a_status_page() {
    let output = Command::new(example("dashboard")).arg("1").output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("open http://127.0.0.1:"), "{text}");
    assert!(text.contains("Suspended after "), "{text}");
}
