//! Requests of clients to the servers, which share one listener.

use std::cell::OnceCell;

use serde_json::Value;
use snapline::fuzzing::IngestLog;
use snapline_cli::explore;
use snapline_http::pages::{Answer, Site, Verb, answers_to};
use snapline_models::configs;

use crate::seed;

/// Words of requests.
pub const WORDS: &[&str] = &[
    "GET / HTTP/1.1\r\n",
    "POST / HTTP/1.1\r\n",
    "GET /token/ HTTP/1.1\r\n",
    "POST /token/step HTTP/1.1\r\n",
    "HTTP/1.0",
    "Host: 127.0.0.1\r\n",
    "Host: localhost\r\n",
    "Authorization: Bearer token\r\n",
    "Content-Length: 4\r\n",
    "Content-Length: 18446744073709551616\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Content-Encoding: gzip\r\n",
    "Content-Type: application/json\r\n",
    "Content-Type: application/x-ndjson; charset=utf-8\r\n",
    "Idempotency-Key: key\r\n",
    "Expect: 100-continue\r\n",
    "Connection: close\r\n",
    "Upgrade: h2c\r\n",
    "Origin: http://x\r\n",
    "\r\n\r\n",
    "0\r\n\r\n",
    "{\"steps\":[],\"then\":{\"wander\":{\"seed\":1,\"steps\":9}}}",
    "{\"steps\":[],\"then\":\"hunt\"}",
];

/// The content of pages that require the token.
const SECRET: &str = "a text for holders of the token only";

/// The number of bytes that come at a time, and the bytes. If the first byte says so, the body's
/// length is repaired.
fn request(bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
    let (&mode, bytes) = bytes.split_first()?;
    let piece = [4096, 1, 7, 512][usize::from(mode >> 1 & 3)];
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    match end.filter(|_| mode & 1 == 1) {
        Some(end) => {
            let (head, body) = (&bytes[..end], &bytes[end + 4..]);
            let length = format!("\r\nContent-Length: {}\r\n\r\n", body.len());
            Some((piece, [head, length.as_bytes(), body].concat()))
        }
        None => Some((piece, bytes.to_vec())),
    }
}

/// Every answer is HTTP, reports no internal error, and is complete.
fn answered(answer: Option<Vec<u8>>) -> String {
    let answer = answer.expect("the server ends every answer");
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{answer:?}");
    let text = String::from_utf8_lossy(&answer).into_owned();
    let faults = text.lines().filter(|line| line.starts_with("HTTP/1.1 500"));
    assert_eq!(faults.count(), 0, "{text}");
    text
}

struct Pages;

impl Site for Pages {
    fn verb(&self, page: &str) -> Option<Verb> {
        match page {
            "" | "open" => Some(Verb::Get),
            "step" => Some(Verb::Post),
            _ => None,
        }
    }

    fn answer(&mut self, page: &str, body: &[u8]) -> Answer {
        match page {
            "open" => Answer::html("for all".into()),
            "step" => Answer::json(format!("{SECRET}: {} bytes", body.len())),
            _ => Answer::html(SECRET.into()),
        }
    }
}

/// The server of the status page: a request without the token and a served host sees nothing.
pub fn pages(bytes: &[u8]) {
    let Some((piece, bytes)) = request(bytes) else { return };
    let text = answered(answers_to(&bytes, piece, "token", Pages));
    if text.contains(SECRET) {
        let said = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        let host = said.contains("127.0.0.1") || said.contains("localhost");
        assert!(said.contains(" /token/") && host, "{said:?}");
    }
}

/// Seeds of [`pages`].
#[must_use]
pub fn page_requests() -> Vec<Vec<u8>> {
    let json = "Host: localhost\r\nContent-Type: application/json\r\n";
    let requests = [
        "GET /token/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".to_owned(),
        "GET /open HTTP/1.1\r\nHost: 127.0.0.1:80\r\nAccept: */*\r\n\r\n".into(),
        "GET / HTTP/1.0\r\n\r\n".into(),
        format!("POST /token/step HTTP/1.1\r\n{json}Content-Length: 4\r\n\r\nbody"),
        format!("POST /token/step HTTP/1.1\r\n{json}Expect: 100-continue\r\n\r\nbody"),
        format!(
            "POST /token/step HTTP/1.1\r\n{json}Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"
        ),
    ];
    let modes = [0, 2, 4, 0, 1, 6];
    requests.iter().zip(modes).map(|(request, mode)| seed(mode, request.as_bytes())).collect()
}

/// The server of the explorer. A body alone is put into a request.
pub fn explore(bytes: &[u8]) {
    let site = explore::site(&smallest()).expect("the configuration exists");
    let bytes = match bytes.split_first() {
        Some((mode, body)) if body.first().is_some_and(|byte| *byte == b'{') => {
            let head = "POST /token/step HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\r\n";
            [&[mode | 1], head.as_bytes(), body].concat()
        }
        _ => bytes.to_vec(),
    };
    let Some((piece, bytes)) = request(&bytes) else { return };
    answered(answers_to(&bytes, piece, "token", site));
}

/// The name of the smallest configuration.
fn smallest() -> String {
    thread_local! {
        static NAME: OnceCell<String> = const { OnceCell::new() };
    }
    let first = || configs::all().into_iter().next().map(|config| config.scenario.name);
    NAME.with(|name| name.get_or_init(|| first().unwrap_or_default()).clone())
}

/// Seeds of [`explore()`].
#[must_use]
pub fn explore_requests() -> Vec<Vec<u8>> {
    let bodies = [
        "{\"steps\":[]}",
        "{\"steps\":[{\"store\":{\"write\":0}}],\"then\":\"look\"}",
        "{\"steps\":[],\"then\":\"hunt\"}",
        "{\"steps\":[],\"then\":{\"wander\":{\"seed\":1,\"steps\":9}}}",
    ];
    let mut seeds: Vec<_> = bodies.iter().map(|body| seed(0, body.as_bytes())).collect();
    seeds.push(seed(0, b"GET /token/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"));
    seeds
}

/// The server of the ingest log: exactly the records that it reports as accepted are in the log.
pub fn ingest(bytes: &[u8]) {
    let Some((piece, bytes)) = request(bytes) else { return };
    let log = IngestLog::new(&[]);
    let answer = log.answers_to(&bytes, piece).expect("an empty log opens");
    let text = answered(answer);
    let mut accepted = std::collections::BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("{\"first\":")) {
        // A line of one answer may end in the first of the next.
        let line = line.split_once('}').map_or(line, |(line, _)| line);
        let said: Value = serde_json::from_str(&format!("{line}}}")).expect("answers are JSON");
        accepted.insert(said["first"].as_u64(), said["records"].as_u64().unwrap_or(0));
    }
    let (records, _) = log.records().expect("the log was opened before");
    let said: u64 = accepted.values().sum();
    // The last answer may not have been read when the connection ended; the records of those read
    // are there.
    assert!(said <= records.len() as u64, "{accepted:?} of {records:?}");
    let admitted = String::from_utf8_lossy(&bytes).contains("token");
    assert!(records.is_empty() || admitted, "records without a token: {records:?}");
    for (_, record) in records {
        let read = serde_json::from_slice::<Value>(&record);
        assert!(read.is_ok(), "the log holds a record that is not JSON: {record:?}");
    }
}

/// Seeds of [`ingest`].
#[must_use]
pub fn ingest_requests() -> Vec<Vec<u8>> {
    let head = "POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer token\r\n";
    let json = format!("{head}Content-Type: application/json\r\nIdempotency-Key: k\r\n\r\n[1, 2]");
    let once = format!("{head}Idempotency-Key: k\r\nContent-Length: 4\r\n\r\n1\n2\n");
    let twice = format!("{once}{once}");
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n4\r\n1\n2\n\r\n0\r\n\r\n");
    let mut zipped = format!("{head}Content-Encoding: gzip\r\n\r\n").into_bytes();
    let mut encoder = flate2::write::GzEncoder::new(&mut zipped, flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, b"1\n2\n").expect("a vector accepts all bytes");
    encoder.finish().expect("a vector accepts all bytes");
    vec![
        seed(1, json.as_bytes()),
        seed(0, twice.as_bytes()),
        seed(0, chunked.as_bytes()),
        seed(1, &zipped),
        seed(0, b"POST / HTTP/1.1\r\nHost: x\r\n\r\n"),
    ]
}
