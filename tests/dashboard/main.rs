//! The status page of a running job: its content, its refusals, and its lack of effect on the job.
//!
//! Longer than 500 lines: one page, asked in every way.

#[path = "../../cli/tests/common/browser.rs"]
#[allow(dead_code, reason = "others need more of it")]
mod browser;
mod client;
mod gate;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use client::{connect, get, parts, send};
use gate::Gate;
use serde_json::Value;
use snapline::connect::{Generator, MemorySink};
use snapline::{
    BoxError, Dashboard, DashboardServer, Dataflow, Emit, Ended, JobConfig, JobError, JobHandle,
    Restart,
};

/// The path of a scratch file of this name.
fn scratch(name: &str) -> String {
    format!("{}/{name}", env!("CARGO_TARGET_TMPDIR"))
}

struct Rig {
    handle: JobHandle,
    gate: Arc<Gate>,
    failing: Arc<AtomicBool>,
    dashboard: DashboardServer,
}

/// The same, restarted at once.
fn rig() -> Rig {
    rig_restarted_after(Duration::from_millis(10))
}

/// numbers -> count (through a gate) -> out, without an end.
fn rig_restarted_after(pause: Duration) -> Rig {
    let (gate, failing) = (Arc::new(Gate::default()), Arc::new(AtomicBool::new(false)));
    let (held, fails) = (Arc::clone(&gate), Arc::clone(&failing));
    let flow = Dataflow::new("watched <job>");
    flow.source("numbers", Generator::new(None, |number| (number % 7, number)).rate(5_000))
        .keyed()
        .count(Emit::EachChange)
        .try_map(move |counted| {
            held.pass();
            match fails.swap(false, Ordering::Relaxed) {
                true => Err::<_, BoxError>("planned, <b>loudly</b>".into()),
                false => Ok(counted),
            }
        })
        .sink("out", MemorySink::new());
    let config = JobConfig::new()
        .parallelism(1)
        .workers(1)
        .checkpoint_interval(None)
        // Gives a warning: there is no older checkpoint to restore.
        .allow_older(true)
        .restart(Restart::Fixed { attempts: 3, pause });
    let handle = flow.build(config).expect("it builds").spawn().expect("it starts");
    let dashboard = handle.dashboard(Dashboard::new()).expect("a free port");
    Rig { handle, gate, failing, dashboard }
}

impl Rig {
    fn status(&self) -> Value {
        let answer = get(&self.dashboard.url(), "status");
        assert_eq!(answer.status, 200, "{answer:?}");
        serde_json::from_str(&answer.body).expect("it is JSON")
    }

    /// Asks until the condition holds, with a timeout.
    #[track_caller]
    fn until(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let status = self.status();
            if is(&status) {
                return status;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "never {what}: {status:#}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends the job, which must have gone on all the while.
    fn end(self) {
        self.handle.checkpoint().expect("the job still takes checkpoints");
        self.handle.suspend();
        assert_eq!(self.handle.wait().expect("the job did not fail").ended, Ended::Suspended);
    }
}

#[test]
fn the_page_shows_checkpoints_operators_and_their_figures() {
    let rig = rig();
    let page = get(&rig.dashboard.url(), "");
    assert_eq!(page.status, 200);
    for header in [
        "content-type: text/html; charset=utf-8",
        "content-security-policy: default-src 'none';",
        "connect-src 'self'",
        "frame-ancestors 'none'",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
        "cache-control: no-store",
        "connection: close",
    ] {
        assert!(page.head.contains(header), "no {header} in {}", page.head);
    }
    assert!(!page.body.contains("http://") || page.body.contains("www.w3.org"), "it loads nothing");
    let checkpoint = rig.handle.checkpoint().expect("it completes").get();
    rig.until("a commit", |status| {
        let out = &status["tasks"][2];
        out["committed"].as_u64() >= Some(checkpoint) && out["in_doubt"] == 0
    });
    let status = rig.until("a rate", |status| {
        status["operators"][1]["in_per_s"].as_f64().is_some_and(|rate| rate > 0.0)
    });
    assert_eq!(
        (&status["format"], &status["job"]),
        (&"snapline-status".into(), &"watched <job>".into())
    );
    assert_eq!(status["phase"], "running");
    let warnings: Vec<String> = rig.handle.warnings().iter().map(ToString::to_string).collect();
    assert!(warnings.len() == 1 && warnings[0].starts_with("`allow_older`"), "{warnings:?}");
    assert_eq!(status["warnings"], Value::from(warnings));
    assert_eq!(status["newest_checkpoint"], checkpoint);
    let operators: Vec<&str> = status["operators"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|operator| operator["operator"].as_str())
        .collect();
    assert_eq!(operators.len(), 3, "{operators:?}");
    // The inputs of each operator.
    let fed_by = |place: usize| status["operators"][place]["inputs"].clone();
    assert_eq!(fed_by(0), Value::Array(Vec::new()));
    assert_eq!((fed_by(1), fed_by(2)), ([operators[0]].into(), [operators[1]].into()));
    let past = &status["history"][0];
    assert_eq!((&past["checkpoint"], &past["completed"]), (&checkpoint.into(), &true.into()));
    assert_eq!(past["subtasks"].as_array().map(Vec::len), Some(3));
    for figure in ["duration", "start_delay", "alignment", "sync", "async"] {
        assert!(past[figure].as_f64().is_some_and(|ms| ms >= 0.0), "{figure}: {past}");
    }
    assert!(past["written"].as_u64() > Some(0));
    assert_eq!(status["why"]["late"], false);
    assert_eq!((&status["failure"], &status["next_try"]), (&Value::Null, &Value::Null));
    // Readers see output only once the sink has committed it; the first checkpoint is all there is
    // in the store.
    assert_eq!(status["output_delay"], status["tasks"][2]["committed_age"]);
    let delay = |status: &Value| status["output_delay"].as_f64().expect("a time");
    let old = rig.until("old", |status| delay(status) > 500.0);
    rig.handle.checkpoint().expect("it completes");
    let new = rig.until("committed", |status| delay(status) < delay(&old));
    assert!(new["since_checkpoint"].as_f64() < old["since_checkpoint"].as_f64(), "{new:#}");
    let written = new["history"][0]["written"].as_u64().expect("bytes");
    rig.until("cleaned", |status| status["store_bytes"].as_u64() >= Some(written));
    rig.end();
}

/// The number of seconds at the end of a text.
fn seconds_of(text: &str) -> f64 {
    let number = text.strip_suffix(" s").unwrap_or_else(|| panic!("{text} is in seconds"));
    number.rsplit(' ').next().expect("a word").parse().expect("a number")
}

#[test]
fn the_next_try_is_shown_and_a_failed_end_is_no_good_end() {
    let rig = rig_restarted_after(Duration::from_secs(100));
    rig.failing.store(true, Ordering::Relaxed);
    let status = rig.until("failed", |status| !status["next_try"].is_null());
    let next = &status["next_try"];
    assert_eq!((&next["number"], &next["of"]), (&1.into(), &3.into()), "{next}");
    assert_eq!(next["pause"], 100_000.0);
    assert!(next["in"].as_f64().is_some_and(|left| (1.0..=100_000.0).contains(&left)), "{next}");
    assert!(next["cause"].as_str().is_some_and(|cause| cause.contains("planned, <b>")), "{next}");
    assert_eq!((&status["phase"], &status["why"]["late"]), (&"restoring".into(), &true.into()));
    let why = status["why"]["text"].as_str().expect("a text");
    assert!(why.contains("waits for its next restart: ") && why.contains("planned, <b>"), "{why}");

    let mut browser = browser::Browser::start("dashboard-failing");
    if let Some(browser) = &mut browser {
        browser.open(&rig.dashboard.url());
        until(browser, "document.getElementById('next-try').innerText !== ''");
        let next = browser.text("next-try");
        assert!(next.starts_with("Restart 1 of 3 in "), "{next}");
        assert!((1.0..=100.0).contains(&seconds_of(&next)), "{next}");
        assert_eq!(browser.text("phase"), "restoring");
        assert!(browser.text("why-text").contains("planned, <b>loudly</b>"), "a cause is text");
        assert_eq!(tile(browser, "restarts"), "1");
        let above = "document.getElementById('restarts').getBoundingClientRect().bottom < \
                     document.getElementById('graph').getBoundingClientRect().top";
        assert_eq!(browser.eval(above), true, "restarts are near the top");
        browser.picture("dashboard-failing.png");
    }

    rig.handle.cancel();
    let status = rig.until("ended", |status| status["phase"] == "ended");
    assert!(status["next_try"].is_null() && status["output_delay"].is_null(), "{status:#}");
    let failure = status["failure"].as_str().expect("it has failed");
    assert!(failure.contains("stopped while it was failing"), "{failure}");
    assert_eq!((&status["last_failure"], &status["why"]["late"]), (&failure.into(), &true.into()));
    if let Some(browser) = &mut browser {
        until(browser, "document.getElementById('phase').innerText === 'failed'");
        assert_eq!(browser.eval("document.getElementById('phase').className"), "bad");
        assert_eq!(browser.eval("document.getElementById('why').className"), "late");
        assert!(browser.text("why-text").contains(failure), "{}", browser.text("why-text"));
        assert_eq!(browser.text("next-try"), "");
        assert_eq!(tile(browser, "output delay"), "–");
        assert_eq!(browser.errors, Vec::<String>::new());
    }
    let ended = rig.handle.wait();
    assert!(matches!(ended, Err(JobError::Interrupted { .. })), "{ended:?}");
}

/// A name longer than any box on the page.
fn long(end: &str) -> String {
    format!("an-operator-whose-name-is-much-longer-than-any-box-has-room-for-and-ends-in-{end}")
}

/// Fourteen operators with long names, one of which is slow.
fn many() -> JobHandle {
    let flow = Dataflow::new(&long("job"));
    let pairs = || Generator::new(None, |number| (number % 7, number));
    // Its second subtask has another worker than the slow operator, and could go on.
    let (left, right) = flow.source(&long("orders"), pairs()).parallelism(2).fork();
    let each = Emit::EachChange;
    left.keyed()
        .count(each)
        .named(&long("1"))
        .keyed()
        .count(each)
        .named(&long("2"))
        .keyed()
        .count(each)
        .named(&long("3"))
        .keyed()
        .count(each)
        .named(&long("4"))
        .keyed()
        .count(each)
        .named(&long("5"))
        .keyed()
        .count(each)
        .named(&long("6"))
        .keyed()
        .count(each)
        .named(&long("7"))
        .sink(&long("left"), MemorySink::new());
    right
        .named(&long("right"))
        .union(flow.source(&long("customers"), pairs().rate(10)))
        .map(|pair| {
            let start = Instant::now();
            while start.elapsed() < Duration::from_micros(50) {}
            pair
        })
        .named(&long("slow"))
        .sink(&long("out"), MemorySink::new());
    let interval = Duration::from_millis(200);
    let config = JobConfig::new().parallelism(1).workers(2).checkpoint_interval(interval);
    flow.build(config).expect("it builds").spawn().expect("it starts")
}

#[test]
fn a_browser_shows_many_operators_as_a_graph_and_nothing_overflows() {
    let Some(mut browser) = browser::Browser::start("dashboard-many") else { return };
    let handle = many();
    let dashboard = handle.dashboard(Dashboard::new()).expect("a free port");
    let busy = |status: &Value, end: &str, of: &str| {
        let operators = status["operators"].as_array().expect("a list");
        let found = operators.iter().find(|row| row["operator"] == long(end).as_str());
        found.expect("it is there")[of].as_f64()
    };
    let start = Instant::now();
    let status = loop {
        let status: Value =
            serde_json::from_str(&get(&dashboard.url(), "status").body).expect("JSON");
        let there = status["completed"].as_u64() > Some(2) && status["store_bytes"].is_u64();
        if there
            && busy(&status, "slow", "busy_share") > Some(0.8)
            && busy(&status, "orders", "backpressured_share") > Some(0.5)
        {
            break status;
        }
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "what is slow is never busy, or never holds up what feeds it: {status:#}"
        );
        thread::sleep(Duration::from_millis(50));
    };
    // All of them are shares.
    for row in
        status["operators"].as_array().into_iter().chain(status["tasks"].as_array()).flatten()
    {
        for of in ["busy_share", "backpressured_share"] {
            assert!(row[of].as_f64().is_some_and(|it| (0.0..=1.0).contains(&it)), "{of}: {row}");
        }
    }

    browser.size(1600, 1200);
    browser.open(&dashboard.url());
    until(&mut browser, "document.querySelectorAll('.node.wait').length > 0");
    let operators = status["operators"].as_array().expect("a list");
    let edges: usize =
        operators.iter().filter_map(|row| row["inputs"].as_array()).map(Vec::len).sum();
    let shown = |browser: &mut browser::Browser, of: &str| {
        let length = browser.eval(&format!("document.querySelectorAll('{of}').length"));
        usize::try_from(length.as_u64().expect("a number")).expect("a few")
    };
    assert_eq!(operators.len(), 14);
    assert_eq!(shown(&mut browser, ".node"), operators.len());
    assert_eq!(shown(&mut browser, "#graph > div > svg > path"), edges);
    assert!(shown(&mut browser, "#graph > div > svg > path.wait") > 0, "who is held up is seen");
    let node = |end: &str| {
        format!(
            "[...document.querySelectorAll('.node')].find((node) => node.title.startsWith('{}:'))",
            long(end)
        )
    };
    // Both ends of a long name are shown, and figures are those of the job.
    let slow = browser.eval(&format!("{}.innerText", node("slow")));
    let slow = slow.as_str().expect("a text");
    assert!(slow.starts_with("an-") && slow.contains("…") && slow.contains("slow\n"), "{slow}");
    let percent = slow.lines().last().and_then(|line| line.strip_suffix(" %")).expect(slow);
    assert!(percent.trim().parse::<u32>().is_ok_and(|busy| (60..=100).contains(&busy)), "{slow}");
    let out = browser.eval(&format!("{}.innerText", node("out")));
    assert!(out.as_str().is_some_and(|out| out.contains("writes ") && out.contains("/s")), "{out}");
    assert!(tile(&mut browser, "records written").ends_with("/s"));
    let delay = tile(&mut browser, "output delay");
    assert!(delay.ends_with(" ms") || seconds_of(&delay) < 60.0, "{delay}");
    assert!(tile(&mut browser, "busiest").ends_with(" %"));
    assert!(tile(&mut browser, "in the store").ends_with("B"));
    assert_ne!(tile(&mut browser, "newest checkpoint"), "none");
    assert!(tile(&mut browser, "state in the last").ends_with("B"));
    assert_eq!(tile(&mut browser, "checkpoints given up"), "0");

    // Boxes never overlap, each operator comes after its inputs, and the page fits its window.
    for (width, height) in
        [(1600, 1200), (1280, 800), (768, 1024), (412, 915), (390, 844), (375, 667)]
    {
        browser.size(width, height);
        until(&mut browser, "document.querySelectorAll('.node').length === 14");
        for open in [false, true] {
            if open {
                // Each click renders the tables anew.
                browser.eval("for (let shut; shut = document.querySelector('button[aria-expanded=false]');) shut.click()");
            }
            let fits = "document.documentElement.scrollWidth <= innerWidth && document.body.scrollWidth <= innerWidth";
            assert_eq!(browser.eval(fits), true, "at {width} pixels");
        }
        let apart = "(() => { const all = [...document.querySelectorAll('.node')].map((node) => node.getBoundingClientRect()); \
                     return all.every((a, i) => all.every((b, j) => i === j || a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top)); })()";
        assert_eq!(browser.eval(apart), true, "at {width} pixels");
        let ahead = format!(
            "(() => {{ const [a, b] = [{}, {}].map((node) => node.getBoundingClientRect()); return a.right < b.left || a.bottom < b.top; }})()",
            node("orders"),
            node("slow")
        );
        assert_eq!(browser.eval(&ahead), true, "at {width} pixels");
        browser.picture(&format!("dashboard-many-{width}.png"));
    }
    assert_eq!(browser.errors, Vec::<String>::new());
    handle.cancel();
    handle.wait().expect("it did not fail");
}

#[test]
fn who_blocks_a_checkpoint_is_named() {
    let rig = rig();
    rig.until("a record", |status| status["tasks"][1]["in"].as_u64() > Some(0));
    thread::scope(|scope| {
        let shut = rig.gate.shut();
        let asking = scope.spawn(|| rig.handle.checkpoint());
        let status = rig.until("late", |status| {
            let text = status["why"]["text"].as_str().unwrap_or_default();
            status["why"]["late"] == true
                && text.contains("Checkpoint")
                && text.contains("one step")
        });
        let count = status["tasks"][1]["subtask"].as_str().expect("a name");
        let text = status["why"]["text"].as_str().expect("a text");
        assert!(text.contains(&format!("{count} has been in one step")), "{status:#}");
        let subtasks = status["under_way"][0]["subtasks"].as_array().expect("a list");
        assert_eq!(subtasks.len(), 3);
        assert!(status["tasks"][1]["in_one_step"].as_f64() > Some(1000.0));
        assert!(status["under_way"][0]["running"].as_f64() > Some(0.0));
        drop(shut);
        asking.join().expect("no panic").expect("the checkpoint completes after the gate");
    });
    rig.until("calm", |status| status["why"]["late"] == false);
    rig.end();
}

#[test]
fn restarts_are_shown_with_their_causes() {
    let rig = rig();
    rig.failing.store(true, Ordering::Relaxed);
    let status =
        rig.until("restarted", |status| status["restarts"] == 1 && status["phase"] == "running");
    let restart = &status["restart_history"][0];
    assert!(
        restart["cause"].as_str().is_some_and(|text| text.contains("planned, <b>")),
        "{restart}"
    );
    assert_eq!((&restart["attempt"], &restart["pause"]), (&"1.1".into(), &10.0.into()));
    assert_eq!(status["attempt"], "1.2");
    rig.end();
}

#[cfg(feature = "prometheus")]
#[test]
fn figures_are_served_with_the_token_or_to_all_who_can_connect_if_so_configured() {
    let rig = rig();
    rig.handle.checkpoint().expect("it completes");
    let (address, _) = parts(&rig.dashboard.url());
    let completed = r#"snapline_checkpoints_completed_total{job="watched <job>"} 1"#;
    let answer = get(&rig.dashboard.url(), "metrics");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4"), "{}", answer.head);
    assert!(answer.body.contains(completed), "{}", answer.body);
    refused(address, &format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\n\r\n"), 403);

    let open = rig.handle.dashboard(Dashboard::new().open_metrics()).expect("a free port");
    let (address, _) = parts(&open.url());
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let answer = send(address, request.as_bytes()).expect("an answer");
    assert!(answer.status == 200 && answer.body.contains(completed), "{answer:?}");
    refused(address, &format!("GET /status HTTP/1.1\r\nHost: {address}\r\n\r\n"), 403);
    refused(address, "GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403);
    rig.end();
}

/// A refusal reveals nothing of the job.
#[track_caller]
fn refused(address: SocketAddr, request: &str, status: u16) {
    let answer = send(address, request.as_bytes());
    let short: String = request.chars().take(120).collect();
    let answer = answer.unwrap_or_else(|| panic!("no answer to {short:?}"));
    assert_eq!(answer.status, status, "{short:?}: {answer:?}");
    assert!(!answer.body.contains("watched"), "{short:?} reveals the job");
    assert!(!answer.head.contains("\r\nlocation:"), "{short:?} is led nowhere");
}

#[test]
fn others_are_refused() {
    let rig = rig();
    let (address, token) = parts(&rig.dashboard.url());
    let host = format!("Host: {address}\r\n");
    let ask = |line: &str, headers: &str| format!("{line} HTTP/1.1\r\n{headers}\r\n");
    refused(address, &ask(&format!("GET /{token}/nothing"), &host), 404);

    // Other hosts: a foreign page whose name was made to resolve here.
    for other in ["evil.example", "evil.example:80", "127.0.0.1", "localhost:1", "[::1]"] {
        refused(address, &ask(&format!("GET /{token}/status"), &format!("Host: {other}\r\n")), 403);
    }
    refused(address, &ask(&format!("GET /{token}/status"), ""), 400);
    refused(address, &ask(&format!("GET /{token}/status"), &format!("{host}{host}")), 400);
    refused(address, &ask(&format!("GET http://evil.example/{token}/status"), &host), 400);

    // The token.
    let (short, long) = (&token[1..], format!("{token}0"));
    let flipped = token.replacen(|digit: char| digit.is_ascii_hexdigit(), "x", 1);
    for wrong in ["", "0", short, &long, &flipped, &token.to_uppercase()] {
        if wrong != token {
            refused(address, &ask(&format!("GET /{wrong}/status"), &host), 403);
        }
    }
    refused(address, &ask("GET /status", &host), 403);
    refused(address, &ask(&format!("GET /status?token={token}"), &host), 403);

    // Tricks with paths.
    for path in [
        "status/",
        "/status",
        "./status",
        "../status",
        "%2e%2e/status",
        "..%2fstatus",
        "statu%73",
        "STATUS",
        "status%00",
        "..%5cstatus",
        "status;x",
    ] {
        refused(address, &ask(&format!("GET /{token}/{path}"), &host), 404);
    }
    for path in [
        format!("/x/../{token}/status"),
        format!("/./{token}/status"),
        format!("//{token}/status"),
        "/%2e%2e/etc/passwd".into(),
        "/../../etc/passwd".into(),
    ] {
        refused(address, &ask(&format!("GET {path}"), &host), 403);
    }

    // Methods.
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
        let request =
            ask(&format!("{method} /{token}/status"), &format!("{host}Content-Length: 0\r\n"));
        refused(address, &request, 405);
    }
    let head = send(address, ask(&format!("HEAD /{token}/status"), &host).as_bytes());
    let head = head.expect("an answer");
    assert!(head.status == 405 && head.head.contains("\r\nallow: get"), "{head:?}");
    let expects = format!("{host}Expect: a-miracle\r\n");
    refused(address, &ask(&format!("GET /{token}/status"), &expects), 417);

    // Too much of anything.
    let large = format!("{host}X: {}\r\n", "x".repeat(64 * 1024));
    refused(address, &ask(&format!("GET /{token}/status"), &large), 431);
    let many: String = (0..200).map(|number| format!("X-{number}: y\r\n")).collect();
    refused(address, &ask(&format!("GET /{token}/status"), &format!("{host}{many}")), 431);
    let path = "x".repeat(64 * 1024);
    let answer = send(address, ask(&format!("GET /{path}"), &host).as_bytes()).expect("an answer");
    assert!((400..500).contains(&answer.status), "{answer:?}");
    let body = format!("{host}Content-Length: 10000000\r\n");
    refused(address, &ask(&format!("POST /{token}/status"), &body), 405);

    // Input that is not HTTP at all.
    for bytes in
        [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"\0\0\0\0\r\n\r\n", b"GET\r\n\r\n"]
    {
        let answer = send(address, bytes);
        assert!(answer.is_none_or(|answer| answer.status == 400), "{bytes:?}");
    }
    assert_eq!(get(&rig.dashboard.url(), "status?any=query").status, 200);
    rig.end();
}

#[test]
fn only_this_machine_can_connect() {
    let rig = rig();
    assert!(rig.dashboard.address().ip().is_loopback());
    let port = rig.dashboard.address().port();
    // Other addresses of the same machine: that of the network, if there is one, and another of
    // loopback.
    let elsewhere = std::net::UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    let elsewhere = elsewhere.map(|address| address.ip()).into_iter();
    for ip in elsewhere.chain(["127.0.0.2".parse().expect("an address")]) {
        if ip != rig.dashboard.address().ip() {
            let answer = TcpStream::connect_timeout(&(ip, port).into(), Duration::from_secs(2));
            assert!(answer.is_err(), "{ip} answers");
        }
    }
    rig.end();
}

#[test]
fn a_hundred_clients_and_a_hundred_that_say_nothing_do_no_harm() {
    let rig = rig();
    let (address, _) = parts(&rig.dashboard.url());
    // Clients that open a connection and then stall.
    let mut slow: Vec<TcpStream> = (0..100).map(|_| connect(address)).collect();
    for (number, stream) in slow.iter_mut().enumerate() {
        let said: &[u8] = if number % 2 == 0 { b"" } else { b"GET / HTTP/1.1\r\nHost: " };
        stream.write_all(said).expect("it is open");
    }
    let (url, answered, start) = (rig.dashboard.url(), AtomicU32::new(0), Instant::now());
    thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| {
                for _ in 0..5 {
                    assert_eq!(get(&url, "status").status, 200);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(answered.load(Ordering::Relaxed), 500);
    assert!(start.elapsed() < Duration::from_secs(30), "it took {:?}", start.elapsed());
    // A silent client is disconnected in bounded time.
    for mut stream in slow {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(start.elapsed() < Duration::from_secs(40), "a slow client is still connected");
    }
    rig.end();
}

#[test]
fn who_drips_a_request_is_cut_off() {
    let rig = rig();
    let (address, token) = parts(&rig.dashboard.url());
    let (mut stream, start) = (connect(address), Instant::now());
    let request =
        format!("GET /{token}/status HTTP/1.1\r\nHost: {address}\r\nX: {}", "x".repeat(400));
    let mut cut = false;
    for byte in request.bytes() {
        thread::sleep(Duration::from_millis(100));
        if stream.write_all(&[byte]).is_err() {
            cut = true;
            break;
        }
    }
    assert!(cut && start.elapsed() < Duration::from_secs(30), "after {:?}", start.elapsed());
    rig.end();
}

#[test]
fn it_ends_when_it_is_dropped_and_the_job_goes_on() {
    let rig = rig();
    let (address, _) = parts(&rig.dashboard.url());
    // A client in the middle of a request.
    let mut open = connect(address);
    open.write_all(b"GET / HTTP/1.1\r\n").expect("it is open");
    let Rig { handle, dashboard, .. } = rig;
    let start = Instant::now();
    drop(dashboard);
    assert!(start.elapsed() < Duration::from_secs(5), "it takes {:?} to end", start.elapsed());
    assert!(
        TcpStream::connect_timeout(&address, Duration::from_secs(2)).is_err(),
        "it still listens"
    );
    let mut rest = Vec::new();
    let _ = open.read_to_end(&mut rest);
    handle.checkpoint().expect("the job goes on");
    // The page can be opened again, also when the job is over.
    let again =
        handle.dashboard(Dashboard::new().port(address.port())).expect("the port is free again");
    handle.cancel();
    handle.wait().expect("it ends");
    let status: Value = serde_json::from_str(&get(&again.url(), "status").body).expect("JSON");
    assert_eq!(status["phase"], "ended");
    assert_ne!(parts(&again.url()).0.port(), 0);
}

#[test]
fn a_port_that_is_taken_is_an_error_and_no_end() {
    let rig = rig();
    let taken = Dashboard::new().port(rig.dashboard.address().port());
    assert!(rig.handle.dashboard(taken).is_err());
    rig.end();
}

/// An empty or malformed host would let foreign pages in, or serve no page at all.
#[test]
fn a_name_that_is_none_is_refused() {
    let rig = rig();
    for host in ["", " ", "a b", "user@status.example.org", "http://x", "x\r\ny"] {
        let named = rig.handle.dashboard(Dashboard::new().host(host));
        let error = named.expect_err(host).to_string();
        assert!(error.contains("is not a host"), "{error}");
    }
    rig.end();
}

#[test]
fn a_proxy_s_name_is_served_if_it_was_named() {
    let rig = rig();
    let named = Dashboard::new().host("status.example.org");
    let second = rig.handle.dashboard(named).expect("a free port");
    let (address, token) = parts(&second.url());
    let ask = |host: &str| {
        let request = format!("GET /{token}/status HTTP/1.1\r\nHost: {host}\r\n\r\n");
        send(address, request.as_bytes()).map(|answer| answer.status)
    };
    assert_eq!((ask("Status.Example.org"), ask("example.org")), (Some(200), Some(403)));
    rig.end();
}

/// Waits until an expression is true in the page.
#[track_caller]
fn until(browser: &mut browser::Browser, expression: &str) {
    let start = Instant::now();
    while browser.eval(expression) != true {
        assert!(start.elapsed() < Duration::from_secs(60), "never: {expression}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// The value of the tile whose label begins with this.
#[track_caller]
fn tile(browser: &mut browser::Browser, label: &str) -> String {
    let found = format!(
        "[...document.querySelectorAll('.tile')].find((tile) => tile.lastChild.textContent.startsWith({label:?})).firstChild.textContent"
    );
    browser.eval(&found).as_str().expect("a text").to_owned()
}

#[test]
fn a_browser_shows_who_is_late() {
    let Some(mut browser) = browser::Browser::start("dashboard") else { return };
    let rig = rig();
    rig.handle.checkpoint().expect("it completes");
    let url = rig.dashboard.url();
    browser.open(&url);
    until(&mut browser, "document.querySelectorAll('#history tr').length === 2");
    assert_eq!(browser.text("job"), "watched <job>", "a name is text");
    assert_eq!(browser.text("phase"), "running");
    assert!(browser.text("warnings").contains("`allow_older`: there will be no older checkpoint"));
    // The details of a checkpoint open by its name, and stay open when the page is updated.
    browser.eval("document.querySelector('#history button').click()");
    until(&mut browser, "document.querySelectorAll('#history tr.of').length === 3");
    rig.handle.checkpoint().expect("it completes");
    until(&mut browser, "document.querySelectorAll('#history tr').length === 6");
    browser.picture("dashboard-light.png");

    thread::scope(|scope| {
        let shut = rig.gate.shut();
        let asking = scope.spawn(|| rig.handle.checkpoint());
        until(
            &mut browser,
            "document.getElementById('why').className === 'late' && document.querySelectorAll('#under-way tr').length === 4",
        );
        assert!(
            browser.text("why-text").contains("has been in one step"),
            "{}",
            browser.text("why-text")
        );
        browser.picture("dashboard-late.png");
        browser.dark(true);
        browser.picture("dashboard-dark.png");
        browser.size(390, 844);
        browser.picture("dashboard-narrow.png");
        assert_eq!(browser.eval("document.documentElement.scrollWidth <= innerWidth"), true);
        browser.dark(false);
        browser.size(1280, 800);
        drop(shut);
        asking.join().expect("no panic").expect("it completes");
    });
    rig.failing.store(true, Ordering::Relaxed);
    until(&mut browser, "document.querySelectorAll('#restarts tr').length === 2");
    assert!(browser.text("restarts").contains("planned, <b>loudly</b>"), "a cause is text");
    let elsewhere = browser
        .requests
        .iter()
        .find(|asked| !asked.starts_with(&url) && !asked.starts_with("data:"));
    assert_eq!(elsewhere, None, "no request leaves the page's own server");
    assert_eq!(browser.errors, Vec::<String>::new());

    // The server may end; the page reports it.
    let Rig { handle, dashboard, .. } = rig;
    drop(dashboard);
    until(&mut browser, "document.getElementById('why').className === 'gone'");
    handle.cancel();
    // It had failed, and perhaps no checkpoint has completed since.
    let ended = handle.wait();
    assert!(matches!(ended, Ok(_) | Err(JobError::Interrupted { .. })), "{ended:?}");
}
