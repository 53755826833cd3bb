//! The webhook sink against a server that fails, is slow, and disconnects after it has handled a
//! request.
//!
//! Longer than 500 lines: one receiver with all its moods, and what a sink makes of each.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use snapline::connect::{
    Generator, MemorySource, OpenContext, SinkCommitter, SinkWriter, TwoPhaseSink, WebhookError,
    WebhookSink,
};
use snapline::protocol::ids::{Attempt, CheckpointId, SubtaskId, Term, TxnId};
use snapline::testkit::{self, SinkUnderTest};
use snapline::{
    BoxError, BuildError, Dataflow, Ended, JobConfig, JobError, Level, Outcome, Restart,
};
use snapline_core::connect::testing::granted;

/// The receiver's reaction to its next request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mood {
    Takes,
    /// Answers with this status, and does nothing.
    Says(u16),
    /// Answers with this status and a `Retry-After` of this many seconds, and does nothing.
    Later(u16, u64),
    /// Handles it, and answers too late.
    TakesSlowly(u64),
    /// Handles it, and disconnects without an answer.
    TakesAndGoes,
    /// Disconnects.
    Goes,
    /// Handles it, and answers with more than any client reads.
    TakesAndTalks,
    /// Handles it, answers so, and never completes its answer.
    TakesAndStops,
}

#[derive(Default)]
struct Seen {
    /// Reactions to the requests to come, by their number.
    moods: Vec<(usize, Mood)>,
    requests: usize,
    keys: BTreeSet<String>,
    /// The handled requests, each key once.
    done: Vec<String>,
    /// The number of repeated keys.
    again: usize,
    headers: String,
}

/// A server that handles each key once.
#[derive(Clone)]
struct Receiver {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

impl Receiver {
    fn start(moods: &[(usize, Mood)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Seen { moods: moods.to_vec(), ..Seen::default() };
        let receiver = Self { address, seen: Arc::new(Mutex::new(seen)) };
        let it = receiver.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let it = it.clone();
                std::thread::spawn(move || it.serve(stream));
            }
        });
        receiver
    }

    fn serve(&self, stream: TcpStream) -> Option<()> {
        let mut stream = BufReader::new(stream);
        loop {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if stream.read_line(&mut head).ok()? == 0 {
                    return None;
                }
            }
            let header = |name: &str| {
                let lines = head.lines();
                lines
                    .filter_map(|line| line.split_once(": "))
                    .find(|(it, _)| it.eq_ignore_ascii_case(name))
            };
            let mut body = vec![0; header("content-length")?.1.parse().ok()?];
            stream.read_exact(&mut body).ok()?;
            let Some((_, key)) = header("idempotency-key") else {
                let refuses = b"HTTP/1.1 400 x\r\nContent-Length: 6\r\n\r\nno key";
                stream.get_mut().write_all(refuses).ok()?;
                continue;
            };
            let key = key.to_owned();
            let mood = {
                let mut seen = self.seen.lock().unwrap();
                let number = seen.requests;
                seen.requests += 1;
                seen.headers = head.clone();
                let mood = seen.moods.iter().find(|(at, _)| *at == number).map(|(_, mood)| *mood);
                let mood = mood.unwrap_or(Mood::Takes);
                if !matches!(mood, Mood::Says(_) | Mood::Later(..) | Mood::Goes) {
                    match seen.keys.insert(key) {
                        true => seen.done.push(String::from_utf8(body).unwrap()),
                        false => seen.again += 1,
                    }
                }
                mood
            };
            let status = match mood {
                Mood::TakesAndGoes | Mood::Goes => return None,
                Mood::TakesSlowly(millis) => {
                    std::thread::sleep(Duration::from_millis(millis));
                    200
                }
                Mood::Says(status) | Mood::Later(status, _) => status,
                Mood::Takes | Mood::TakesAndTalks => 200,
                Mood::TakesAndStops => {
                    let begun = b"HTTP/1.1 200 x\r\nContent-Length: 9\r\n\r\nwell";
                    stream.get_mut().write_all(begun).ok()?;
                    continue;
                }
            };
            let said = match (status, mood) {
                (_, Mood::TakesAndTalks) => &"bla ".repeat(1 << 19),
                (200, _) => "",
                _ => "not like this",
            };
            let later = match mood {
                Mood::Later(_, seconds) => format!("Retry-After: {seconds}\r\n"),
                _ => String::new(),
            };
            let answer = format!(
                "HTTP/1.1 {status} x\r\n{later}Content-Length: {}\r\n\r\n{said}",
                said.len()
            );
            stream.get_mut().write_all(answer.as_bytes()).ok()?;
        }
    }

    fn sink<T>(&self) -> WebhookSink<T> {
        let url = format!("http://{}/hook?x=1", self.address);
        WebhookSink::new(&url).unwrap().receiver_deduplicates()
    }

    fn done(&self) -> Vec<String> {
        self.seen.lock().unwrap().done.clone()
    }
}

fn config() -> JobConfig {
    JobConfig::new().parallelism(1).checkpoint_interval(Duration::from_millis(5))
}

/// A job that sends the numbers below into the sink; fails once at each of these.
fn run(
    numbers: u64,
    sink: WebhookSink<u64>,
    fails: &[u64],
    config: JobConfig,
) -> Result<Outcome, JobError> {
    let flow = Dataflow::new("hooked up");
    let fails = Arc::new(Mutex::new(fails.to_vec()));
    flow.source("in", Generator::new(numbers, |number| number).rate(2_000))
        .try_map(move |number| {
            let mut fails = fails.lock().unwrap();
            match fails.iter().position(|it| *it == number) {
                Some(place) => Err(format!("planned at {}", fails.remove(place)).into()),
                None => Ok::<_, BoxError>(number),
            }
        })
        .sink("hook", sink);
    flow.build(config).unwrap().run()
}

fn numbers(count: u64) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

#[test]
fn each_record_is_done_once_and_in_order_whatever_the_receiver_does() {
    let moods = [
        (3, Mood::Says(500)),
        (4, Mood::Says(503)),
        (10, Mood::TakesAndGoes),
        (20, Mood::Goes),
        (30, Mood::Says(429)),
        (40, Mood::TakesSlowly(400)),
        (60, Mood::TakesAndGoes),
        (61, Mood::TakesAndGoes),
        (100, Mood::Says(408)),
    ];
    let receiver = Receiver::start(&moods);
    let restart = Restart::Fixed { attempts: 5, pause: Duration::from_millis(1) };
    let config = config().restart(restart).require(Level::Idempotent);
    let sink = receiver.sink().timeout(Duration::from_millis(200));
    let outcome = run(200, sink, &[50, 150], config).unwrap();
    assert_eq!((outcome.ended, outcome.status.restarts), (Ended::Finished, 2));
    assert_eq!(receiver.done(), numbers(200));
    assert!(receiver.seen.lock().unwrap().again >= 3, "requests without an answer were sent again");
}

#[test]
fn who_refuses_for_good_stops_the_job_and_is_named() {
    let receiver = Receiver::start(&[(5, Mood::Says(422))]);
    // Whatever the strategy: no restart changes the receiver's answer.
    let failed = run(9, receiver.sink(), &[], config()).unwrap_err();
    let JobError::Failed(failure) = failed else { panic!("{failed}") };
    assert_eq!(failure.doing, "committing a transaction");
    let refused = failure.cause.downcast::<WebhookError>().unwrap();
    let told = refused.to_string();
    assert!(matches!(*refused, WebhookError::Refused { status: 422, .. }), "{told}");
    assert!(told.contains("hooked%20up/hook/0/") && told.contains("not like this"), "{told}");
}

#[test]
fn refused_requests_can_be_put_elsewhere() {
    let receiver = Receiver::start(&[(5, Mood::Says(404)), (7, Mood::Says(400))]);
    let refused = Arc::new(Mutex::new(Vec::new()));
    let puts = Arc::clone(&refused);
    let sink = receiver.sink().refused(move |request| {
        puts.lock().unwrap().push((request.body.clone(), request.status));
        Ok(())
    });
    assert_eq!(run(9, sink, &[], config()).unwrap().ended, Ended::Finished);
    assert_eq!(*refused.lock().unwrap(), [("5".into(), 404), ("7".into(), 400)]);
    assert_eq!(receiver.done(), ["0", "1", "2", "3", "4", "6", "8"]);
}

#[test]
fn what_is_sent_says_what_it_is() {
    let receiver = Receiver::start(&[]);
    let sink = receiver.sink().header("X-From", "here").unwrap();
    assert!(!format!("{sink:?}").contains("here"), "headers may hold secrets");
    run(1, sink, &[], config()).unwrap();
    let head = receiver.seen.lock().unwrap().headers.to_lowercase();
    assert!(head.starts_with("post /hook?x=1 http/1.1\r\n"), "{head}");
    for line in
        ["content-type: application/json", "x-from: here", &format!("host: {}", receiver.address)]
    {
        assert!(head.lines().any(|it| it == line), "no `{line}` in {head}");
    }
}

/// Through a tunnel on this machine the receiver is addressed by its own name.
#[test]
fn a_receiver_at_the_end_of_a_tunnel_gets_its_own_name() {
    let receiver = Receiver::start(&[]);
    let sink = receiver.sink().header("Host", "hooks.example.org").unwrap();
    run(1, sink, &[], config()).unwrap();
    let head = receiver.seen.lock().unwrap().headers.to_lowercase();
    let hosts: Vec<&str> = head.lines().filter(|line| line.starts_with("host:")).collect();
    assert_eq!(hosts, ["host: hooks.example.org"], "{head}");
}

#[test]
fn what_cannot_be_sent_to_is_refused_at_once() {
    for url in ["https://example.org/", "ftp://example.org/", "/path", "example", "http://", "h t"]
    {
        let error = WebhookSink::<u64>::new(url).unwrap_err();
        assert!(matches!(error, WebhookError::BadUrl { .. }), "{url}: {error}");
    }
    let sink = || WebhookSink::<u64>::new("http://127.0.0.1:1/").unwrap();
    assert!(matches!(sink().header("a b", "c"), Err(WebhookError::BadHeader { .. })));
    assert!(matches!(sink().header("a", "b\nc"), Err(WebhookError::BadHeader { .. })));
    let failed = run(9, sink().most_bytes(3), &[], config().restart(Restart::Never)).unwrap_err();
    assert!(failed.to_string().contains("more than 3 bytes were written"), "{failed}");
}

/// A user and a password are credentials, not part of the host's name; they are shown nowhere.
#[test]
fn credentials_of_the_address_are_sent_as_such_and_not_shown() {
    let receiver = Receiver::start(&[(1, Mood::Says(403))]);
    for (user, basic) in [
        ("user:s3cret", "dXNlcjpzM2NyZXQ="),
        ("user", "dXNlcjo="),
        (":s3cret", "OnMzY3JldA=="),
        ("a%40b:p%3A%2f%20w", "YUBiOnA6LyB3"),
        ("%c3%a4:%c3%b6", "w6Q6w7Y="),
    ] {
        let url = format!("http://{user}@{}/hook?token=s3cret", receiver.address);
        let sink: WebhookSink<u64> = WebhookSink::new(&url).unwrap();
        assert!(!format!("{sink:?}").contains("s3cret"), "{sink:?}");
        let context = OpenContext::new("job", "out", 0, 1, Attempt::first(Term::new(1)));
        let (mut writer, mut committer) = sink.open(&context).unwrap();
        assert!(!format!("{committer:?}").contains("s3cret"), "{committer:?}");
        writer.write(&mut vec![1]).unwrap();
        let name = txn(1, Attempt::first(Term::new(1)));
        let committable = writer.close(name).unwrap();
        assert!(!format!("{committable:?}").contains("s3cret"), "{committable:?}");
        if let Err(error) = committer.commit(granted(name), &committable) {
            for told in [error.to_string(), format!("{error:?}")] {
                assert!(!told.contains("s3cret") && told.contains("/hook"), "{told}");
            }
        }
        let head = receiver.seen.lock().unwrap().headers.clone();
        let lines: Vec<&str> = head.lines().collect();
        assert!(lines.contains(&"POST /hook?token=s3cret HTTP/1.1"), "{head}");
        assert!(lines.contains(&format!("host: {}", receiver.address).as_str()), "{head}");
        assert!(lines.contains(&format!("authorization: Basic {basic}").as_str()), "{head}");
    }
    // Two of them are refused.
    let url = format!("http://user:s3cret@{}/", receiver.address);
    let twice = WebhookSink::<u64>::new(&url).unwrap().header("Authorization", "Bearer other");
    assert!(matches!(twice, Err(WebhookError::BadHeader { .. })), "{twice:?}");
}

#[test]
fn what_would_be_sent_as_something_else_is_refused() {
    for url in [
        "http://u:s3cret@127.0.0.1/a b",
        "http://u:s3cret@127.0.0.1/a\r\nX: y",
        "http://u:s3cret@127.0.0.1/a#b",
        "http://u:s3cret@127.0.0.1/\u{e4}",
        "http://u:s3cret@127.0.0.1/?\u{e4}",
        "http://u:s3cret@\u{e4}/",
        "http://u:s3cret@127.0.0.1:0/",
        "http://u:s3cret@127.0.0.1:/",
        "http://u:s3cret@127.0.0.1:65536/",
        "http://u:s3cret@127.0.0.1:x/",
        "http://u:s3cret@/",
        "https://u:s3cret@127.0.0.1/",
        "http://u:s3c/ret@127.0.0.1/",
        "http://u:s3c%0aret@127.0.0.1/",
        "http://u:s3c%ffret@127.0.0.1/",
        "http://@127.0.0.1/",
        "http://:@127.0.0.1/",
        "u:s3cret@127.0.0.1",
    ] {
        let error = WebhookSink::<u64>::new(url).unwrap_err();
        assert!(matches!(error, WebhookError::BadUrl { .. }), "{url}: {error}");
        for told in [error.to_string(), format!("{error:?}")] {
            assert!(!told.contains("s3c") && !told.contains('\n'), "{url}: {told}");
        }
    }
    let header = |name: &str, value: &str| {
        let sink = WebhookSink::<u64>::new("http://127.0.0.1:1/").unwrap();
        sink.header(name, value).err().map(|error| error.to_string())
    };
    for (name, value) in [
        ("Content-Length", "1"),
        ("content-length", "1"),
        ("Transfer-Encoding", "chunked"),
        ("Connection", "close"),
        ("Keep-Alive", "x"),
        ("Proxy-Connection", "x"),
        ("TE", "trailers"),
        ("Trailer", "x"),
        ("Upgrade", "h2c"),
        ("Expect", "100-continue"),
        ("Content-Encoding", "gzip"),
        ("Idempotency-Key", "mine"),
        ("Host", ""),
        ("Host", "a b"),
        ("Host", "u@x"),
        ("Host", "x/y"),
        ("Authorization", ""),
        ("Authorization", " "),
        ("Authorization", "Bearer"),
        ("Authorization", "Bearer "),
        ("Authorization", "basic"),
        ("X", "a\rb"),
        ("X", "a\r\nContent-Length: 0"),
        ("X", "a\u{0}b"),
        ("X", "\u{e4}"),
        ("X\r\nY", "a"),
        ("X:", "a"),
        ("", "a"),
        ("\u{e4}", "a"),
    ] {
        let told = header(name, value).unwrap_or_else(|| panic!("{name:?}: {value:?}"));
        assert!(!told.contains('\n') && !told.contains('\r'), "{told:?}");
    }
    let told = header("X-Key", "s3cret\n").unwrap();
    assert!(!told.contains("s3cret"), "{told}");
    assert_eq!(header("Content-Type", "application/cloudevents+json"), None);
    let sink = WebhookSink::<u64>::new("http://127.0.0.1:1/").unwrap();
    assert!(sink.header("X", "a").unwrap().header("x", "b").is_err(), "two values for one header");
}

/// A receiver that asks for a pause gets it.
#[test]
fn a_receiver_that_asks_for_a_pause_is_left_alone() {
    for status in [429, 503] {
        let receiver = Receiver::start(&[(1, Mood::Later(status, 2))]);
        let begun = Instant::now();
        assert_eq!(run(3, receiver.sink(), &[], config()).unwrap().ended, Ended::Finished);
        assert!(begun.elapsed() >= Duration::from_secs(2), "it was retried before the pause ended");
        assert_eq!(receiver.done(), numbers(3));
        assert_eq!(
            receiver.seen.lock().unwrap().requests,
            4,
            "{status}: it was retried during the pause"
        );
    }
}

#[test]
fn a_receiver_that_does_not_say_that_it_deduplicates_bounds_the_guarantee() {
    let build = |sink: WebhookSink<u64>, level| {
        let flow = Dataflow::new("bounded");
        flow.source("in", MemorySource::new(vec![1])).sink("hook", sink);
        flow.build(config().require(level))
    };
    let sink = || WebhookSink::new("http://127.0.0.1:1/").unwrap();
    assert!(build(sink(), Level::AtLeastOnce).is_ok());
    assert!(matches!(build(sink(), Level::Idempotent), Err(BuildError::Guarantee { .. })));
    assert!(build(sink().receiver_deduplicates(), Level::Idempotent).is_ok());
    let most = build(sink().receiver_deduplicates(), Level::ExactlyOnce);
    assert!(matches!(most, Err(BuildError::Guarantee { .. })));
}

#[test]
fn an_answer_is_known_by_its_beginning() {
    let moods = [(2, Mood::TakesAndTalks), (4, Mood::TakesAndStops), (6, Mood::TakesAndTalks)];
    let receiver = Receiver::start(&moods);
    let sink = receiver.sink().timeout(Duration::from_secs(2));
    assert_eq!(run(9, sink, &[], config()).unwrap().ended, Ended::Finished);
    assert_eq!(receiver.done(), numbers(9));
    let seen = receiver.seen.lock().unwrap();
    assert_eq!((seen.requests, seen.again), (9, 0), "it was taken, and is not sent again");
}

#[test]
fn what_was_answered_is_not_sent_again_for_later_ones() {
    let moods = [(4, Mood::Says(503)), (5, Mood::Says(425)), (8, Mood::Says(408))];
    let receiver = Receiver::start(&moods);
    assert_eq!(run(9, receiver.sink(), &[], config()).unwrap().ended, Ended::Finished);
    assert_eq!(receiver.done(), numbers(9));
    let seen = receiver.seen.lock().unwrap();
    assert_eq!((seen.requests, seen.again), (9 + 3, 0));
}

#[test]
fn who_sends_elsewhere_has_not_taken_it() {
    for status in [202, 301, 302, 307, 400, 409, 428] {
        let receiver = Receiver::start(&[(1, Mood::Says(status))]);
        let elsewhere = Arc::new(Mutex::new(Vec::new()));
        let puts = Arc::clone(&elsewhere);
        let sink = receiver.sink().refused(move |request| {
            puts.lock().unwrap().push(request.status);
            Ok(())
        });
        assert_eq!(run(3, sink, &[], config()).unwrap().ended, Ended::Finished);
        let expected: &[u16] = if status == 202 { &[] } else { &[status] };
        assert_eq!(*elsewhere.lock().unwrap(), expected);
        assert_eq!(receiver.seen.lock().unwrap().requests, 3, "{status}: it is not followed");
    }
}

#[test]
fn a_rule_that_fails_fails_the_job() {
    let receiver = Receiver::start(&[(5, Mood::Says(404))]);
    let sink = receiver.sink().refused(|_| Err("nowhere to put it".into()));
    let failed = run(9, sink, &[], config().restart(Restart::Never)).unwrap_err();
    assert!(failed.to_string().contains("nowhere to put it"), "{failed}");
    assert_eq!(receiver.seen.lock().unwrap().requests, 6, "nothing is sent after it");
}

#[test]
fn nothing_is_sent_before_a_checkpoint_holds_it() {
    let receiver = Receiver::start(&[]);
    let config = config().checkpoint_interval(None).restart(Restart::Never);
    run(200, receiver.sink(), &[150], config).unwrap_err();
    assert_eq!(receiver.seen.lock().unwrap().requests, 0);
}

#[test]
fn the_bound_is_of_one_transaction() {
    let sink = WebhookSink::<u64>::new("http://127.0.0.1:1/").unwrap().most_bytes(3);
    let first = Attempt { term: Term::new(1), number: 1 };
    let context = OpenContext::new("job", "out", 0, 1, first);
    let (mut writer, _) = sink.open(&context).unwrap();
    for checkpoint in 1..5 {
        writer.write(&mut vec![10]).unwrap();
        let one = writer.close(txn(checkpoint, first)).unwrap();
        assert_eq!(one.bodies(), ["10"]);
    }
}

/// JSON has no number for it, and `null` would be another value.
#[test]
fn what_json_has_not_is_refused_with_its_record_and_field() {
    #[derive(serde::Serialize)]
    struct Price {
        cents: f64,
    }
    let first = Attempt { term: Term::new(1), number: 1 };
    let context = OpenContext::new("job", "out", 0, 1, first);
    for wrong in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let sink = WebhookSink::<Price>::new("http://127.0.0.1:1/").unwrap();
        let (mut writer, _) = sink.open(&context).unwrap();
        let mut prices = [1.0, wrong].map(|cents| Price { cents }).into();
        let error = writer.write(&mut prices).unwrap_err().to_string();
        assert!(error.contains("record 2: field `cents`: "), "{error}");
    }
}

fn txn(checkpoint: u64, attempt: Attempt) -> TxnId {
    let checkpoint = CheckpointId::new(checkpoint).unwrap();
    TxnId { checkpoint, attempt, subtask: SubtaskId::new(1) }
}

/// Each request has a key of its own, which is the same in every attempt and every retry.
#[test]
fn keys_are_distinct_and_stay_as_they_are() {
    let receiver = Receiver::start(&[]);
    let mut closed = Vec::new();
    for (job, operator) in [("a", "b/c"), ("a/b", "c"), ("a", "c")] {
        for index in 0..2 {
            for (term, number) in [(1, 1), (1, 2), (2, 1)] {
                let attempt = Attempt { term: Term::new(term), number };
                let context = OpenContext::new(job, operator, index, 2, attempt);
                let (mut writer, _) = receiver.sink().open(&context).unwrap();
                for checkpoint in 1..3 {
                    writer.write(&mut vec![closed.len() as u64, 1_000]).unwrap();
                    let name = txn(checkpoint, attempt);
                    closed.push((name, writer.close(name).unwrap()));
                }
            }
        }
    }
    for _ in 0..2 {
        for (name, committable) in &closed {
            // A key of another attempt, which knows the content of a checkpoint and nothing else.
            let committable = serde_json::from_str(&serde_json::to_string(committable).unwrap());
            let later = Attempt { term: Term::new(7), number: 7 };
            let context = OpenContext::new("later", "other", 1, 2, later);
            let sink: WebhookSink<u64> = receiver.sink();
            let (_, mut committer) = sink.open(&context).unwrap();
            committer.commit(granted(*name), &committable.unwrap()).unwrap();
        }
    }
    let seen = receiver.seen.lock().unwrap();
    assert_eq!((seen.keys.len(), seen.again), (2 * closed.len(), 2 * closed.len()));
}

struct Hooked(Receiver);

impl SinkUnderTest for Hooked {
    type Sink = WebhookSink<u64>;

    fn sink(&self) -> WebhookSink<u64> {
        self.0.sink()
    }

    fn record(&self, number: u64) -> u64 {
        number
    }

    fn visible(&self) -> Result<Vec<u64>, BoxError> {
        Ok(self.0.done().iter().map(|body| body.parse()).collect::<Result<_, _>>()?)
    }
}

#[test]
fn the_kit_finds_nothing() {
    let check = testkit::sink(|| Hooked(Receiver::start(&[])));
    let report = check.records(4).single_crashes().check();
    let report = report.unwrap_or_else(|violation| panic!("{violation}"));
    assert!(report.committed_again > 10, "{report}");
}
