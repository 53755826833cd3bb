//! The bounds of a server: long bodies of unknown length, connections, a log that was long before,
//! a full disk.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Instant;

use snapline::connect::{HttpIngest, IngestConfig};

use crate::client::{Client, Reply, post};
use crate::{all, lines, logs, ms};

/// The answer to these bytes, up to the end of the connection.
fn raw(ingest: &HttpIngest<String>, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(ingest.address()).unwrap();
    // The server may answer and close before all was sent.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_body_in_chunks_is_no_longer_than_another() {
    let dir = tempfile::tempdir().unwrap();
    let config = IngestConfig::new().max_body_bytes(100);
    let ingest = HttpIngest::lines(dir.path(), config).unwrap();
    let chunks = |chunks: &[usize]| {
        let mut request = String::from(
            "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n",
        );
        for &length in chunks {
            request.push_str(&format!("{length:x}\r\n{}\r\n", "x".repeat(length)));
        }
        raw(&ingest, (request + "0\r\n\r\n").as_bytes())
    };
    let answer = chunks(&[60, 40]);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for too_long in [&[60, 41][..], &[101], &[1; 101]] {
        let answer = chunks(too_long);
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    }
    assert_eq!(all(&ingest), ["x".repeat(100)]);
}

#[test]
fn so_many_connections_are_served_at_once_and_a_newcomer_gets_the_place_of_an_idle_one() {
    let dir = tempfile::tempdir().unwrap();
    let config = IngestConfig::new().most_connections(2);
    let ingest = HttpIngest::lines(dir.path(), config).unwrap();
    for round in 0..3 {
        let mut idle: Vec<TcpStream> =
            (0..2).map(|_| TcpStream::connect(ingest.address()).unwrap()).collect();
        for stream in &mut idle {
            let request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na";
            stream.write_all(request).unwrap();
            stream.set_read_timeout(Some(ms(20_000))).unwrap();
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"HTTP/1.1 200", "round {round}");
        }
        assert_eq!(post(&ingest, "b").status, 200, "round {round}: it does not wait for them");
        // One of them has lost its place to it, or both were idle for too long.
        let ended = idle.iter_mut().filter_map(|stream| stream.read_to_end(&mut Vec::new()).ok());
        assert!(ended.count() >= 1);
    }
    assert_eq!(all(&ingest).len(), 9);
}

#[test]
fn the_length_of_the_log_is_known_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let config = || IngestConfig::new().most_bytes(5_000);
    let body = "x".repeat(3_000);
    {
        let ingest = HttpIngest::lines(dir.path(), config()).unwrap();
        assert_eq!(post(&ingest, &body).status, 200);
    }
    let ingest = HttpIngest::lines(dir.path(), config()).unwrap();
    assert_eq!(post(&ingest, &body).status, 200);
    assert_eq!(post(&ingest, "one more").status, 503);
    drop(ingest);
    let ingest = HttpIngest::lines(dir.path(), config()).unwrap();
    assert_eq!(post(&ingest, "one more").status, 503);
    assert_eq!(ingest.accepted(), 2);
}

#[test]
fn a_key_is_one_and_not_empty_and_a_head_has_an_end() {
    let dir = tempfile::tempdir().unwrap();
    let ingest = lines(dir.path());
    let key = |keys: &[&str]| {
        let headers: Vec<_> = keys.iter().map(|key| ("Idempotency-Key", *key)).collect();
        Client::new(ingest.address()).send("POST", "/", &headers, "a").status
    };
    for wrong in [&[""][..], &["one", "two"], &["one", "one"], &["\u{e9}"]] {
        assert_eq!(key(wrong), 400, "{wrong:?}");
    }
    assert_eq!(key(&[&"k".repeat(255)]), 200);
    let head = |headers: usize, length: usize| {
        let headers: Vec<(String, String)> =
            (0..headers).map(|number| (format!("X-{number}"), "y".repeat(length))).collect();
        let headers: Vec<_> =
            headers.iter().map(|(name, it)| (name.as_str(), it.as_str())).collect();
        Client::new(ingest.address()).send("POST", "/", &headers, "a").status
    };
    assert_eq!(head(60, 10), 200);
    assert_eq!((head(70, 10), head(10, 4_000)), (431, 431));
    assert_eq!(ingest.accepted(), 2);
}

#[test]
fn who_does_not_say_what_it_wants_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let ingest = lines(dir.path());
    let begun = Instant::now();
    let mut slow = TcpStream::connect(ingest.address()).unwrap();
    slow.set_read_timeout(Some(ms(30_000))).unwrap();
    slow.write_all(b"POST / HTTP/1.1\r\nHost: x\r\n").unwrap();
    let mut answer = Vec::new();
    slow.read_to_end(&mut answer).unwrap();
    assert!(begun.elapsed() > ms(2_000), "it was closed too soon");
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
}

/// Environment variable of the process below: its directory.
const LIMITED: &str = "SNAPLINE_INGEST_LIMITED";

#[test]
#[ignore = "run by the other test, as a process whose files may not grow"]
fn accepts_where_files_may_not_grow() {
    let Ok(dir) = std::env::var(LIMITED) else { return };
    let ingest = lines(Path::new(&dir));
    assert_eq!(post(&ingest, "a"), Reply::ok(0, 1));
    let key = [("Idempotency-Key", "large")];
    let large = vec!["x".repeat(1_000); 300].join("\n");
    for _ in 0..2 {
        // Some of it is written, which does not make it accepted.
        let refused = Client::new(ingest.address()).send("POST", "/", &key, &large);
        assert_eq!(refused.status, 503, "{refused:?}");
        assert!(refused.head.to_lowercase().contains("retry-after: 1"), "{refused:?}");
        assert_eq!(ingest.accepted(), 1);
    }
    assert_eq!(post(&ingest, "b\nc"), Reply::ok(1, 2), "what there is room for goes on");
    assert_eq!(all(&ingest), ["a", "b", "c"]);
}

/// A request that was not written in full is refused with `Retry-After`, and is accepted later,
/// once.
#[cfg(unix)]
#[test]
fn what_the_disk_has_no_room_for_is_not_accepted() {
    let dir = tempfile::tempdir().unwrap();
    // 200 KiB; larger writes fail with an error, and the process is not killed.
    let limited = "trap '' XFSZ; ulimit -f 400; exec \"$0\" \"$@\"";
    let child = std::process::Command::new("sh")
        .args(["-c", limited])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "bounds::accepts_where_files_may_not_grow", "--ignored"])
        .env(LIMITED, dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
    assert!(logs(dir.path()).len() > 1, "nothing is written after a torn frame");
    let ingest = lines(dir.path());
    assert_eq!(all(&ingest), ["a", "b", "c"]);
    let large = vec!["x".repeat(1_000); 300].join("\n");
    let key = [("Idempotency-Key", "large")];
    for _ in 0..2 {
        let reply = Client::new(ingest.address()).send("POST", "/", &key, &large);
        assert_eq!(reply, Reply::ok(3, 300));
    }
    assert_eq!(ingest.accepted(), 303);
}
