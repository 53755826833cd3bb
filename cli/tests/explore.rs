//! `snapline explore`, as a browser and unauthorised clients meet it.

#[path = "../../tests/dashboard/client.rs"]
mod client;
mod common;

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use client::{get, parts, send};
use common::browser::Browser;
use common::{command, scratch, snapline};
use serde_json::{Value, json};

/// The command, serving.
struct Served {
    child: Child,
    url: String,
}

impl Served {
    fn start(args: &[&str]) -> Self {
        let mut child =
            command(&[&["explore"], args].concat()).spawn().expect("the command starts");
        let mut url = String::new();
        let out = child.stdout.take().expect("the output is piped");
        BufReader::new(out).read_line(&mut url).expect("the command prints its address");
        assert!(url.starts_with("http://127.0.0.1:"), "{url:?}");
        Self { child, url: url.trim_end().to_owned() }
    }

    fn post(&self, body: &str) -> client::Answer {
        let (address, token) = parts(&self.url);
        let request = format!(
            "POST /{token}/step HTTP/1.1\r\nHost: {address}\r\nOrigin: http://{address}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        send(address, request.as_bytes()).expect("an answer")
    }

    fn ask(&self, steps: &Value, then: &Value) -> Value {
        let answer = self.post(&json!({ "steps": steps, "then": then }).to_string());
        assert_eq!(answer.status, 200, "{}", answer.body);
        serde_json::from_str(&answer.body).expect("the answer is JSON")
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_page_and_its_steps_are_served() {
    let served = Served::start(&["--mutant", "no-alignment"]);
    let page = get(&served.url, "");
    assert_eq!(page.status, 200);
    assert!(
        page.head.contains("connect-src 'self'")
            && page.head.contains("referrer-policy: no-referrer")
    );
    assert!(page.body.contains("id=\"live\"") && page.body.contains("connect-src 'self'"));
    let start = served.ask(&json!([]), &json!("look"));
    assert!(start["choices"].as_array().is_some_and(|choices| !choices.is_empty()));
    let found = served.ask(&json!([]), &json!("hunt"));
    assert_eq!(found["document"]["stories"][0]["scene"]["broken"]["name"], "cut-clean");
    // What is saved is a trace.
    let file = common::file("explored.json", found["trace"].as_str().expect("a text"));
    snapline(&["trace", "replay", &file]).is(0, &["as claimed, cut-clean is broken"]);
}

#[track_caller]
fn refused(address: SocketAddr, line: &str, headers: &str, body: &str, status: u16) {
    let request = format!("{line} HTTP/1.1\r\n{headers}\r\n{body}");
    let answer = send(address, request.as_bytes()).unwrap_or_else(|| panic!("{line}: no answer"));
    assert_eq!(answer.status, status, "{line} {headers}: {answer:?}");
    assert!(!answer.body.contains("choices"), "{line} was answered");
}

#[test]
fn others_are_refused() {
    let served = Served::start(&["--mutant", "no-fence"]);
    let (address, token) = parts(&served.url);
    let good = "{\"steps\":[]}";
    let host = format!("Host: {address}\r\n");
    let length = format!("Content-Length: {}\r\n", good.len());
    let kind = "Content-Type: application/json\r\n";
    let step = format!("POST /{token}/step");
    assert_eq!(served.post(good).status, 200);
    refused(address, &step, &format!("Host: evil.example\r\n{kind}{length}"), good, 403);
    refused(address, &step, &format!("{kind}{length}"), good, 400);
    refused(address, "POST /step", &format!("{host}{kind}{length}"), good, 403);
    refused(address, &format!("POST /{token}0/step"), &format!("{host}{kind}{length}"), good, 403);
    refused(
        address,
        &format!("POST /{token}/../{token}/step"),
        &format!("{host}{kind}{length}"),
        good,
        404,
    );
    refused(address, &format!("POST /{token}/%73tep"), &format!("{host}{kind}{length}"), good, 404);
    refused(address, &step, &format!("{host}{length}"), good, 415);
    refused(address, &step, &format!("{host}Content-Type: text/plain\r\n{length}"), good, 415);
    refused(
        address,
        &step,
        &format!("{host}{kind}Origin: http://evil.example\r\n{length}"),
        good,
        403,
    );
    refused(address, &step, &format!("{host}{kind}Origin: null\r\n{length}"), good, 403);
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"] {
        refused(address, &format!("{method} /{token}/step"), &host, "", 405);
    }
    refused(address, &format!("POST /{token}/"), &format!("{host}{kind}{length}"), good, 405);

    // Too long, said or not.
    let long = "x".repeat(1 << 20);
    refused(address, &step, &format!("{host}{kind}Content-Length: {}\r\n", long.len()), &long, 413);
    let chunked = format!("{host}{kind}Transfer-Encoding: chunked\r\n");
    refused(address, &step, &chunked, &format!("100000\r\n{long}\r\n0\r\n\r\n"), 413);
    // Both are a way to smuggle.
    let both = format!("{chunked}{length}");
    let answer = send(address, format!("{step} HTTP/1.1\r\n{both}\r\n{good}").as_bytes());
    assert!(
        answer.is_none_or(|answer| answer.status != 200),
        "a request with two lengths is refused"
    );
    // Deep, or no JSON.
    for body in ["[".repeat(200_000), "{\"steps\":".repeat(10_000), "\0".into()] {
        assert_eq!(served.post(&body).status, 400);
    }
    assert_eq!(served.post(good).status, 200, "the server still answers");
}

#[test]
fn a_hundred_clients_at_once_are_answered() {
    let served = Served::start(&["--mutant", "no-fence"]);
    let start = Instant::now();
    thread::scope(|scope| {
        for seed in 0..100 {
            let served = &served;
            scope.spawn(move || {
                let told =
                    served.ask(&json!([]), &json!({ "wander": { "seed": seed, "steps": 5 } }));
                assert!(told["steps"].as_array().is_some_and(|steps| !steps.is_empty()));
            });
        }
    });
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}

#[test]
fn ctrl_c_ends_it_in_a_moment_with_success() {
    let mut served = Served::start(&["--mutant", "no-fence"]);
    let id = served.child.id().to_string();
    let sent = Command::new("kill").args(["-INT", &id]).status().expect("kill runs");
    assert!(sent.success());
    let start = Instant::now();
    let status = loop {
        if let Some(status) = served.child.try_wait().expect("the child can be waited for") {
            break status;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "the command does not end");
        thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(status.code(), Some(0));
    let mut said = String::new();
    served
        .child
        .stderr
        .take()
        .expect("the output is piped")
        .read_to_string(&mut said)
        .expect("text");
    assert!(said.contains("Ctrl-C ends the command") && !said.contains("panicked"), "{said}");
    let (address, _) = parts(&served.url);
    assert!(std::net::TcpStream::connect_timeout(&address, Duration::from_secs(2)).is_err());
}

#[test]
fn what_is_not_there_cannot_be_explored() {
    snapline(&["explore"]).is(2, &["--mutant"]);
    snapline(&["explore", "no-such"]).is(2, &["there is no configuration `no-such`"]);
    snapline(&["explore", "--mutant", "no-fense"]).is(2, &["did you mean `no-fence`?"]);
    let served = Served::start(&["--mutant", "no-fence"]);
    let port = parts(&served.url).0.port().to_string();
    snapline(&["explore", "--mutant", "no-fence", "--port", &port])
        .is(2, &["cannot serve on port"]);
}

/// Waits until an expression is true: what the page asks for takes a moment.
#[track_caller]
fn until(browser: &mut Browser, expression: &str) {
    let start = Instant::now();
    while browser.eval(expression) != true {
        assert!(start.elapsed() < Duration::from_secs(30), "never: {expression}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_browser_walks_finds_the_violation_and_goes_back() {
    let Some(mut browser) = Browser::start("explore") else { return };
    let served = Served::start(&["--mutant", "no-alignment"]);
    browser.open(&served.url);
    until(&mut browser, "document.querySelectorAll('#choices button').length > 0");
    assert_eq!(browser.eval("document.querySelectorAll('#laws span').length"), 16);
    assert_eq!(browser.eval("document.querySelectorAll('#laws .broken').length"), 0);

    // Three steps by key, one by hand.
    for step in 1..=3 {
        browser.press(&["1"]);
        until(
            &mut browser,
            &format!("document.getElementById('where').textContent === 'step {step} of {step}'"),
        );
    }
    browser.eval("document.querySelector('#choices button').click()");
    until(&mut browser, "document.getElementById('where').textContent === 'step 4 of 4'");
    browser.picture("explore-light.png");

    // On to the violation, and past it.
    browser.press(&["x"]);
    until(&mut browser, "document.querySelectorAll('#laws .broken').length > 0");
    assert!(browser.text("laws").contains("L2 cut clean"), "{}", browser.text("laws"));
    assert!(browser.text("live-note").contains("by a shortest path"));
    assert!(browser.text("breach").contains("cut clean"), "the page says so too");
    browser.picture("explore-violation.png");
    browser.dark(true);
    browser.open(&served.url);
    // The path is kept over a reload.
    until(&mut browser, "document.querySelectorAll('#laws .broken').length > 0");
    browser.picture("explore-dark.png");
    browser.dark(false);

    // Back to a step that is chosen in the picture, and one more.
    browser.press(&["Home", "j", "j", "b"]);
    until(&mut browser, "document.getElementById('where').textContent === 'step 2 of 2'");
    assert_eq!(browser.eval("document.querySelectorAll('#laws .broken').length"), 0);
    browser.press(&["Backspace"]);
    until(&mut browser, "document.getElementById('where').textContent === 'step 1 of 1'");
    browser.press(&["w"]);
    until(&mut browser, "places > 1");
    browser.press(&["r"]);
    until(&mut browser, "document.getElementById('where').textContent === 'step 0 of 0'");

    // An impossible path is reported, and nothing is lost.
    let wrong = "fetch('step', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: '{\"steps\":[\"conclude\"]}' }).then((answer) => answer.status)";
    assert_eq!(browser.eval(wrong), 400);

    browser.size(390, 800);
    browser.press(&["x"]);
    until(&mut browser, "document.querySelectorAll('#laws .broken').length > 0");
    browser.picture("explore-narrow.png");
    assert_eq!(browser.eval("document.documentElement.scrollWidth <= innerWidth"), true);

    // Everything came from here, and nothing was thrown but the refusal above.
    assert!(browser.requests.len() > 5);
    let elsewhere = |url: &&String| !url.starts_with(&served.url) && !url.starts_with("blob:");
    assert_eq!(browser.requests.iter().find(elsewhere), None);
    browser.errors.retain(|error| !error.contains("400"));
    assert_eq!(browser.errors, Vec::<String>::new());
    assert!(std::path::Path::new(&scratch("explore-violation.png")).exists());
}

#[test]
fn the_page_cannot_ask_anybody_else() {
    let Some(mut browser) = Browser::start("explore-policy") else { return };
    let served = Served::start(&["--mutant", "no-fence"]);
    let other = Served::start(&["--mutant", "no-fence"]);
    browser.open(&served.url);
    until(&mut browser, "document.querySelectorAll('#choices button').length > 0");
    // Not even with the other's address in hand: the policy forbids it before anything is sent.
    let ask = format!("fetch({:?}).then(() => 'answered', (error) => error.name)", other.url);
    assert_eq!(browser.eval(&ask), "TypeError");
    let picture = "new Promise((done) => { const it = new Image(); it.onload = () => done('loaded'); it.onerror = () => done('refused'); it.src = '/favicon.ico'; })";
    assert_eq!(browser.eval(picture), "refused");
}
