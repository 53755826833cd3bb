//! Malicious clients, and requests that are nearly right.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use snapline::connect::{HttpIngest, IngestConfig, IngestError};

use crate::client::{Client, Reply, post};
use crate::{all, lines, ms};

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(25))).unwrap();
    stream
}

/// The answer to these bytes, up to the end of the connection.
fn raw(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = connect(address);
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// A request that ends its connection, with these lines in its head.
fn request(head: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("{head}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

const POST: &str = "POST / HTTP/1.1\r\nHost: x";

/// A new client is served.
fn newcomer(address: SocketAddr, token: &str) {
    let begun = Instant::now();
    let head = format!("{POST}\r\nAuthorization: Bearer {token}");
    let answer = raw(address, &request(&head, b"new"));
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?} after {:?}", begun.elapsed());
}

/// They send requests without a token, again and again, and never read the answers.
#[test]
fn who_never_reads_keeps_no_client_out() {
    let dir = tempfile::tempdir().unwrap();
    let config = IngestConfig::new().bearer("s3cret").most_connections(4);
    let ingest = HttpIngest::lines(dir.path(), config).unwrap();
    let requests = b"POST / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1_000);
    let never_read: Vec<TcpStream> = (0..4)
        .map(|_| {
            let mut stream = connect(ingest.address());
            stream.set_write_timeout(Some(ms(300))).unwrap();
            let _ = (0..100).try_for_each(|_| stream.write_all(&requests));
            stream
        })
        .collect();
    for _ in 0..5 {
        newcomer(ingest.address(), "s3cret");
    }
    drop(never_read);
}

/// As many as are served at once, each silent or in its first line: they lose their places before
/// their time is over.
#[test]
fn who_says_nothing_keeps_no_client_out() {
    for places in [8, 256] {
        let dir = tempfile::tempdir().unwrap();
        let config = IngestConfig::new().bearer("s3cret").most_connections(places);
        let ingest = HttpIngest::lines(dir.path(), config).unwrap();
        let begun = Instant::now();
        let silent: Vec<TcpStream> = (0..places)
            .map(|number| {
                let mut stream = connect(ingest.address());
                let said: &[u8] = if number % 2 == 0 { b"" } else { b"POST / HTTP/1.1\r\nHost: " };
                stream.write_all(said).unwrap();
                stream
            })
            .collect();
        newcomer(ingest.address(), "s3cret");
        let waited = begun.elapsed();
        assert!(places > 8 || waited < ms(4_500), "{waited:?}: until they were cut off for it");
        drop(silent);
    }
}

/// They announce a body and do not send it.
#[test]
fn who_never_sends_its_body_keeps_no_client_out() {
    let dir = tempfile::tempdir().unwrap();
    let time = Duration::from_secs(600);
    let config = IngestConfig::new().most_connections(4).body_timeout(time);
    let ingest = HttpIngest::lines(dir.path(), config).unwrap();
    let stalled: Vec<TcpStream> = (0..4)
        .map(|_| {
            let mut stream = connect(ingest.address());
            let head = format!("{POST}\r\nContent-Length: 1000000\r\n\r\nx");
            stream.write_all(head.as_bytes()).unwrap();
            stream
        })
        .collect();
    newcomer(ingest.address(), "");
    drop(stalled);
    assert_eq!(ingest.accepted(), 1);
}

/// The client is refused, and no body of it is read: not even `Expect: 100-continue` is answered
/// with permission.
#[test]
fn without_the_token_no_body_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let config = IngestConfig::new().bearer("s3cret");
    let ingest = HttpIngest::lines(dir.path(), config).unwrap();
    let head = "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n";
    let refused = raw(ingest.address(), format!("{head}\r\n").as_bytes());
    assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
    assert!(refused.to_lowercase().contains("connection: close"), "{refused}");
    let mut stream = connect(ingest.address());
    let head = format!("{head}Connection: close\r\nAuthorization: bearer s3cret\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut granted = [0; 25];
    stream.read_exact(&mut granted).unwrap();
    assert_eq!(&granted, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"a\nb\nc").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let twice = "Authorization: Bearer s3cret\r\nAuthorization: Bearer s3cret";
    let answer = raw(ingest.address(), &request(&format!("{POST}\r\n{twice}"), b"a"));
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
}

#[test]
fn a_token_that_lets_everyone_in_or_no_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for token in ["", " ", "\t", "\n", "s3cret\n", " s3cret", "two words", "a\u{0}b", "\u{a0}"] {
        let config = IngestConfig::new().bearer(token);
        let error = HttpIngest::lines(dir.path(), config).unwrap_err();
        assert!(error.to_string().contains("token"), "{token:?}: {error}");
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
    let config = IngestConfig::new().bearer("s3cret-token");
    assert!(!format!("{config:?}").contains("s3cret-token"), "{config:?}");
    let ingest = HttpIngest::lines(dir.path(), config).unwrap();
    for wrong in ["Bearer", "Bearer ", "bearer", "", "Basic Og==", "Bearer s3cret-toke\u{6e} x"] {
        let headers = [("Authorization", wrong)];
        let reply = Client::new(ingest.address()).send("POST", "/", &headers, "a");
        assert_eq!(reply.status, 401, "{wrong:?}");
        assert!(reply.head.to_lowercase().contains("www-authenticate: bearer"), "{reply:?}");
    }
}

#[test]
fn what_no_request_can_have_is_refused_when_it_is_begun() {
    let dir = tempfile::tempdir().unwrap();
    for path in ["", "orders", "/a b", "/a?b", "/a#b", "/\u{e4}", "/a\r\nb", "//x.example/", "/%zz"]
    {
        let refused = HttpIngest::lines(dir.path(), IngestConfig::new().path(path));
        assert!(matches!(refused, Err(IngestError::Config { .. })), "{path:?}: {refused:?}");
    }
    for body in [0, usize::MAX, 1 << 30] {
        let refused = HttpIngest::lines(dir.path(), IngestConfig::new().max_body_bytes(body));
        assert!(matches!(refused, Err(IngestError::Config { .. })), "{body}: {refused:?}");
    }
    // The longest and the shortest times can be waited for.
    for time in [Duration::MAX, Duration::from_secs(1 << 40)] {
        let ingest = HttpIngest::lines(dir.path(), IngestConfig::new().body_timeout(time)).unwrap();
        assert_eq!(post(&ingest, "a").status, 200);
    }
    let refused = HttpIngest::lines(dir.path(), IngestConfig::new().body_timeout(Duration::ZERO));
    assert!(matches!(refused, Err(IngestError::Config { .. })), "{refused:?}");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn gzip_is_decoded_within_the_limit_and_other_encodings_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let config = IngestConfig::new().max_body_bytes(100_000);
    let ingest = HttpIngest::lines(dir.path(), config).unwrap();
    let send = |encoding: &str, body: &[u8]| {
        let headers = [("Content-Encoding", encoding)];
        Client::new(ingest.address()).send_bytes("POST", "/", &headers, body)
    };
    assert_eq!(send("gzip", &gzip(b"a\nb\n")), Reply::ok(0, 2));
    assert_eq!(send("X-GZIP", &gzip(b"c")), Reply::ok(2, 1));
    let two = [gzip(b"d\n"), gzip(b"e\n")].concat();
    assert_eq!(send("gzip", &two), Reply::ok(3, 2), "of several members");
    assert_eq!(send("identity", b"f"), Reply::ok(5, 1));
    let exactly = b"x".repeat(100_000);
    assert_eq!(send("gzip", &gzip(&exactly)), Reply::ok(6, 1));
    for bomb in [100_001, 100_000_000] {
        assert_eq!(send("gzip", &gzip(&vec![b'x'; bomb])).status, 413, "{bomb}");
    }
    let whole = gzip(b"some text that is long enough to be cut");
    for length in 0..whole.len() {
        assert_eq!(send("gzip", &whole[..length]).status, 400, "cut at {length}");
    }
    assert_eq!(send("gzip", b"no gzip").status, 400);
    for other in ["br", "zstd", "deflate", "compress", "gzip, gzip", "br, gzip", "x", ""] {
        let reply = send(other, b"a");
        let head = reply.head.to_lowercase();
        assert!(
            reply.status == 415 && head.contains("accept-encoding: gzip"),
            "{other}: {reply:?}"
        );
    }
    assert_eq!(ingest.accepted(), 7);
}

#[test]
fn a_text_is_utf_8_or_says_that_it_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let ingest = lines(dir.path());
    let send = |media: &str, body: &[u8]| {
        let headers = [("Content-Type", media)];
        Client::new(ingest.address()).send_bytes("POST", "/", &headers, body).status
    };
    for media in [
        "text/plain",
        "text/plain; charset=utf-8",
        "TEXT/PLAIN;CHARSET=UTF-8",
        "text/plain; charset=\"utf-8\"",
        "text/plain; format=flowed; charset=utf8",
        "application/x-ndjson; charset=utf-8",
        "application/json;charset=utf-8",
        "text/plain;",
    ] {
        assert_eq!(send(media, "\u{e4}".as_bytes()), 200, "{media}");
    }
    assert_eq!(send("text/plain; charset=us-ascii", b"a"), 200);
    assert_eq!(send("text/plain; charset=us-ascii", "\u{e4}".as_bytes()), 400);
    for media in [
        "text/plain; charset=iso-8859-1",
        "text/plain; charset=utf-16",
        "text/plain; charset=",
        "text/plain; charset=utf-8; charset=latin1",
        "application/json; charset=utf-16le",
        "text/html",
        "multipart/form-data; boundary=x",
        "",
    ] {
        assert_eq!(send(media, b"a"), 415, "{media}");
    }
    let twice = "Content-Type: text/plain\r\nContent-Type: application/json";
    let answer = raw(ingest.address(), &request(&format!("{POST}\r\n{twice}"), b"a"));
    assert!(answer.starts_with("HTTP/1.1 415"), "{answer}");
}

#[test]
fn a_request_is_one_of_http() {
    let dir = tempfile::tempdir().unwrap();
    let ingest = HttpIngest::lines(dir.path(), IngestConfig::new().path("/in")).unwrap();
    let status = |request: &[u8]| -> u16 {
        let answer = raw(ingest.address(), request);
        answer.split(' ').nth(1).unwrap_or("0").parse().unwrap()
    };
    // The host.
    let post = |version: &str, hosts: &str| {
        let head = format!("POST /in HTTP/{version}{hosts}");
        status(&request(&head, b"a"))
    };
    assert_eq!(post("1.1", "\r\nHost: x"), 200);
    assert_eq!(post("1.1", "\r\nHost: x.example:8080"), 200);
    assert_eq!(post("1.1", "\r\nHost: [::1]:80"), 200);
    assert_eq!(post("1.1", "\r\nHost:"), 200, "an empty one is one");
    assert_eq!(post("1.0", ""), 200, "it was not in HTTP/1.0");
    assert_eq!(post("1.1", ""), 400);
    for version in ["1.0", "1.1"] {
        for hosts in ["\r\nHost: x\r\nHost: x", "\r\nHost: a b", "\r\nHost: u@x", "\r\nHost: x/y"] {
            assert_eq!(post(version, hosts), 400, "{version} {hosts:?}");
        }
    }
    // Methods.
    for method in ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW", "post"] {
        let answer =
            raw(ingest.address(), &request(&format!("{method} /in HTTP/1.1\r\nHost: x"), b""));
        let allows = answer.to_lowercase().contains("\r\nallow: post\r\n");
        assert!(answer.starts_with("HTTP/1.1 405") && allows, "{method}: {answer}");
    }
    // A path is compared byte for byte.
    for path in ["/in/", "/IN", "/%69n", "//in", "/./in", "/in;x", "/", "/in%00"] {
        assert_eq!(
            status(&request(&format!("POST {path} HTTP/1.1\r\nHost: x"), b"a")),
            404,
            "{path}"
        );
    }
    assert_eq!(status(&request("POST /in?query HTTP/1.1\r\nHost: x", b"a")), 200);
    // The expectations of a client.
    let expects = |what: &str| {
        let head = format!("POST /in HTTP/1.1\r\nHost: x\r\nExpect: {what}");
        status(&request(&head, b"a"))
    };
    assert_eq!(expects("a-miracle"), 417);
    // The length of a body.
    let head = "POST /in HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
    for lengths in [
        "Content-Length: 1\r\nContent-Length: 2",
        "Content-Length: +1",
        "Content-Length: -1",
        "Content-Length: 1, 2",
        "Content-Length: 99999999999999999999999",
        "Content-Length: x",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: chunked, gzip",
    ] {
        let answer = status(format!("{head}{lengths}\r\n\r\na").as_bytes());
        assert!((400..500).contains(&answer), "{lengths}: {answer}");
    }
    assert_eq!(
        status(b"POST /in HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"),
        400
    );
    let both =
        format!("{head}Content-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nc\r\n0\r\n\r\n");
    assert_eq!(status(both.as_bytes()), 200);
    for chunk in ["z\r\n", "fffffffffffffffffff\r\na", "1\r\nab\r\n"] {
        let answer = status(
            format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunk}\r\n0\r\n\r\n").as_bytes(),
        );
        assert!((400..500).contains(&answer), "{chunk:?}: {answer}");
    }
}

/// Environment variable of the process below: its directory.
const COUNTED: &str = "SNAPLINE_INGEST_COUNTED";

/// The peak memory of this process, in KiB.
#[cfg(target_os = "linux")]
fn most_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "run by the other test, as a process whose memory is looked at"]
fn takes_many_long_bodies_of_short_lines() {
    let Ok(dir) = std::env::var(COUNTED) else { return };
    // The time is not bounded here.
    let config = IngestConfig::new().body_timeout(Duration::from_secs(600));
    let ingest = HttpIngest::lines(Path::new(&dir), config).unwrap();
    let body = "a\n".repeat(1 << 19);
    let before = most_memory();
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| assert_eq!(post(&ingest, &body).status, 200));
        }
    });
    assert_eq!(ingest.accepted(), 32 << 19);
    let taken = (most_memory() - before) >> 10;
    // The clients share a body; each has a copy, which is 32 MiB in all.
    assert!(taken < 400, "{taken} MiB for 32 MiB of bodies");
}

/// However many clients send long bodies at once, few bodies are decoded at a time.
#[cfg(target_os = "linux")]
#[test]
fn long_bodies_of_short_lines_take_little_memory() {
    let dir = tempfile::tempdir().unwrap();
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "hostile::takes_many_long_bodies_of_short_lines", "--ignored"])
        .env(COUNTED, dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
}

/// Bodies beyond the memory bound wait; a client that holds its place without sending is
/// disconnected for them.
#[test]
fn bodies_in_memory_are_bounded_together() {
    let dir = tempfile::tempdir().unwrap();
    let config = IngestConfig::new().max_body_bytes(1 << 20).most_in_memory(1 << 20);
    let ingest =
        HttpIngest::lines(dir.path(), config.body_timeout(Duration::from_secs(600))).unwrap();
    let mut stalled = connect(ingest.address());
    let head = format!("{POST}\r\nContent-Length: 1000000\r\n\r\nx");
    stalled.write_all(head.as_bytes()).unwrap();
    let chunked = format!(
        "{POST}\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"
    );
    let answer = raw(ingest.address(), chunked.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(post(&ingest, &"x".repeat(600_000)).status, 200));
        }
    });
    assert_eq!(all(&ingest).len(), 9);
}
