//! Records that come by HTTP: accepted ones, refused ones, and the log after a process has died.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bounds;
mod client;
mod hostile;
#[cfg(unix)]
mod kills;
mod later;
mod text;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use client::{Client, Reply, post};
use serde::{Deserialize, Serialize};
use snapline::connect::{
    HttpIngest, IngestConfig, IngestError, IngestPosition, MemorySink, OpenContext, Source,
    SourceReader,
};
use snapline::protocol::ids::{Attempt, Term};
use snapline::{Dataflow, Ended, JobConfig, Level};

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn lines(dir: &Path) -> HttpIngest<String> {
    HttpIngest::lines(dir, IngestConfig::new()).unwrap()
}

/// All records of the log, read by one subtask.
fn all(ingest: &HttpIngest<String>) -> Vec<String> {
    let context = OpenContext::new("job", "in", 0, 1, Attempt::first(Term::new(1)));
    let mut reader = ingest.source().open(&context, None).unwrap();
    let mut records = Vec::new();
    while reader.read(7, &mut records).unwrap() == snapline::connect::Progress::More {}
    records
}

fn logs(dir: &Path) -> Vec<PathBuf> {
    let mut logs: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "log"))
        .collect();
    logs.sort();
    logs
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Order {
    id: u64,
    item: String,
}

#[test]
fn what_is_accepted_is_numbered_and_read_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let ingest = lines(dir.path());
    let mut client = Client::new(ingest.address());
    assert_eq!(client.post("a\nb\r\n\nc\n"), Reply::ok(0, 3));
    assert_eq!(client.post("d"), Reply::ok(3, 1), "on the same connection");
    assert_eq!(all(&ingest), ["a", "b", "c", "d"]);
    assert_eq!(ingest.accepted(), 4);
    drop((client, ingest));
    // Another process.
    let ingest = lines(dir.path());
    assert_eq!(post(&ingest, "e"), Reply::ok(4, 1));
    assert_eq!(all(&ingest), ["a", "b", "c", "d", "e"]);
}

#[test]
fn subtasks_take_turns_and_go_on_where_they_stood() {
    let dir = tempfile::tempdir().unwrap();
    let config = IngestConfig::new().segment_bytes(64);
    let ingest = HttpIngest::lines(dir.path(), config).unwrap();
    for request in 0..20 {
        let body: Vec<String> = (0..5).map(|record| (request * 5 + record).to_string()).collect();
        assert_eq!(post(&ingest, &body.join("\n")), Reply::ok(request * 5, 5));
    }
    assert!(logs(dir.path()).len() > 5, "in several files");
    ingest.finish().unwrap();
    for subtasks in 1..4 {
        for limit in [1, 3, 50] {
            let mut found = Vec::new();
            for index in 0..subtasks {
                let attempt = Attempt::first(Term::new(1));
                let context = OpenContext::new("job", "in", index, subtasks, attempt);
                let (mut position, mut mine) = (None, Vec::new());
                loop {
                    let mut reader = ingest.source().open(&context, position).unwrap();
                    let progress = reader.read(limit, &mut mine).unwrap();
                    position = Some(reader.position());
                    if progress == snapline::connect::Progress::End {
                        break;
                    }
                }
                found.extend(mine.iter().map(|it| it.parse::<usize>().unwrap()));
                assert!(found.iter().rev().take(mine.len()).all(|it| it % subtasks == index));
            }
            found.sort_unstable();
            assert!(found.into_iter().eq(0..100), "{subtasks} subtasks, {limit} at a time");
        }
    }
}

#[test]
fn a_repeated_request_is_accepted_once_in_this_life_and_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let key = [("Idempotency-Key", "order-1")];
    {
        let ingest = lines(dir.path());
        let mut client = Client::new(ingest.address());
        assert_eq!(client.send("POST", "/", &key, "a\nb"), Reply::ok(0, 2));
        assert_eq!(client.post("c"), Reply::ok(2, 1));
        assert_eq!(client.send("POST", "/", &key, "a\nb"), Reply::ok(0, 2));
        let other = client.send("POST", "/", &key, "a\nB");
        assert_eq!(other.status, 422, "{other:?}");
    }
    for life in 0..3 {
        let ingest = lines(dir.path());
        let mut client = Client::new(ingest.address());
        assert_eq!(client.send("POST", "/", &key, "a\nb"), Reply::ok(0, 2), "life {life}");
        assert_eq!(all(&ingest), ["a", "b", "c"]);
    }
}

#[test]
fn only_so_many_keys_are_remembered_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let config = || IngestConfig::new().most_keys(2);
    let send = |ingest: &HttpIngest<String>, key: &str| {
        Client::new(ingest.address()).send("POST", "/", &[("Idempotency-Key", key)], "x")
    };
    let ingest = HttpIngest::lines(dir.path(), config()).unwrap();
    for (place, key) in ["one", "two", "three"].into_iter().enumerate() {
        assert_eq!(send(&ingest, key), Reply::ok(place as u64, 1));
    }
    drop(ingest);
    let ingest = HttpIngest::lines(dir.path(), config()).unwrap();
    assert_eq!(send(&ingest, "three"), Reply::ok(2, 1));
    assert_eq!(send(&ingest, "two"), Reply::ok(1, 1));
    assert_eq!(send(&ingest, "one"), Reply::ok(3, 1), "its key was forgotten");
}

#[test]
fn json_that_is_no_record_is_refused_before_it_is_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let ingest = HttpIngest::<Order>::json(dir.path(), IngestConfig::new()).unwrap();
    let mut client = Client::new(ingest.address());
    let send = |client: &mut Client, media, body: &str| {
        client.send("POST", "/", &[("Content-Type", media)], body)
    };
    let whole = "application/json; charset=utf-8";
    assert_eq!(send(&mut client, whole, "{\n\"id\": 1,\n\"item\": \"a\"}"), Reply::ok(0, 1));
    let two = "{\"id\":2,\"item\":\"b\"}\n{\"id\":3,\"item\":\"c\"}\n";
    assert_eq!(send(&mut client, "application/x-ndjson", two), Reply::ok(1, 2));
    let bad = send(&mut client, "application/x-ndjson", "{\"id\":4,\"item\":\"d\"}\n{\"id\":5}\n");
    assert_eq!(bad.status, 400);
    assert!(bad.body.contains("line 2: missing field `item`"), "{bad:?}");
    assert_eq!(send(&mut client, whole, "").status, 400);
    assert_eq!(send(&mut client, "application/xml", "<a/>").status, 415);
    assert_eq!(ingest.accepted(), 3, "all of a request or nothing");
}

#[test]
fn what_no_client_may_send_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let config = IngestConfig::new().path("/orders").bearer("s3cret").max_body_bytes(100);
    let ingest = HttpIngest::lines(dir.path(), config).unwrap();
    let address = ingest.address();
    let send = |method, path, headers: &[(&str, &str)], body: &str| {
        Client::new(address).send(method, path, headers, body)
    };
    let bearer = ("Authorization", "Bearer s3cret");
    assert_eq!(send("POST", "/orders", &[bearer], "a"), Reply::ok(0, 1));
    for wrong in ["Bearer s3cre", "Bearer s3crets", "Basic s3cret", ""] {
        let reply = send("POST", "/orders", &[("Authorization", wrong)], "a");
        assert_eq!(reply.status, 401, "{wrong}");
    }
    assert_eq!(send("POST", "/orders", &[], "a").status, 401);
    let page = ("Origin", "http://evil.example");
    assert_eq!(send("POST", "/orders", &[bearer, page], "a").status, 403);
    assert_eq!(send("POST", "/other", &[bearer], "a").status, 404);
    assert_eq!(send("PUT", "/orders", &[bearer], "a").status, 405);
    assert_eq!(send("POST", "/orders", &[bearer], "\n\n").status, 400);
    assert_eq!(send("POST", "/orders", &[bearer], &"x".repeat(101)).status, 413);
    let long = "k".repeat(256);
    let key = ("Idempotency-Key", long.as_str());
    assert_eq!(send("POST", "/orders", &[bearer, key], "a").status, 400);
    let mut raw = Client::new(address);
    let reply = raw.send_bytes("POST", "/orders", &[bearer], b"a\n\xff\xfe\n");
    assert_eq!(reply.status, 400);
    assert!(reply.body.contains("line 2"), "{reply:?}");
    assert_eq!(ingest.accepted(), 1);
}

#[test]
fn a_slow_client_keeps_no_other_out() {
    let dir = tempfile::tempdir().unwrap();
    let config = IngestConfig::new().body_timeout(ms(2_000));
    let ingest = HttpIngest::lines(dir.path(), config).unwrap();
    let mut slow = TcpStream::connect(ingest.address()).unwrap();
    slow.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc").unwrap();
    let begun = Instant::now();
    assert_eq!(post(&ingest, "quick"), Reply::ok(0, 1));
    assert!(begun.elapsed() < ms(1_900), "it was not waited for");
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(begun.elapsed() < ms(30_000), "{:?} is no 2 s", begun.elapsed());
    // And a client that disconnects in the middle.
    let mut gone = TcpStream::connect(ingest.address()).unwrap();
    gone.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc").unwrap();
    gone.shutdown(Shutdown::Both).unwrap();
    assert_eq!(all(&ingest), ["quick"]);
}

#[test]
fn a_full_log_says_so_until_a_checkpoint_frees_it() {
    let dir = tempfile::tempdir().unwrap();
    let config = IngestConfig::new().segment_bytes(1_000).most_bytes(5_000);
    let ingest = HttpIngest::lines(dir.path(), config).unwrap();
    let mut sent = 0;
    let refused = loop {
        let reply = post(&ingest, &"x".repeat(300));
        if reply.status != 200 {
            break reply;
        }
        sent += 1;
        assert!(sent < 100, "it has no end");
    };
    assert_eq!(refused.status, 503);
    assert!(refused.head.to_lowercase().contains("retry-after: 1"), "{refused:?}");
    let before = logs(dir.path()).len();

    let (flow, out) = (Dataflow::new("drains"), MemorySink::new());
    flow.source("in", ingest.source()).sink("out", out.clone());
    let config = JobConfig::new().parallelism(2).checkpoint_interval(ms(5));
    let handle = flow.build(config.require(Level::ExactlyOnce)).unwrap().spawn().unwrap();
    let begun = Instant::now();
    while logs(dir.path()).len() == before || post(&ingest, "more").status != 200 {
        assert!(begun.elapsed() < Duration::from_secs(30), "nothing is ever freed");
        std::thread::sleep(ms(2));
    }
    ingest.finish().unwrap();
    assert_eq!(handle.wait().unwrap().ended, Ended::Finished);
    assert_eq!(out.committed_count(), sent + 1);
    assert_eq!(post(&ingest, "too late").status, 410);
}

#[test]
fn one_process_at_a_time_writes_to_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let ingest = lines(dir.path());
    let error = HttpIngest::lines(dir.path(), IngestConfig::new()).unwrap_err();
    assert!(matches!(error, IngestError::InUse { .. }), "{error}");
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    let address = ingest.address();
    let other = tempfile::tempdir().unwrap();
    let error = HttpIngest::lines(other.path(), IngestConfig::new().address(address)).unwrap_err();
    assert!(matches!(error, IngestError::Bind { .. }), "{error}");
    drop(ingest);
    assert_eq!(post(&lines(dir.path()), "a"), Reply::ok(0, 1));
}

#[test]
fn a_torn_end_is_cut_off_wherever_it_is_torn() {
    let dir = tempfile::tempdir().unwrap();
    {
        let ingest = lines(dir.path());
        assert_eq!(post(&ingest, "a\nb"), Reply::ok(0, 2));
        assert_eq!(post(&ingest, "c\nd"), Reply::ok(2, 2));
    }
    let path = logs(dir.path()).pop().unwrap();
    let whole = fs::read(&path).unwrap();
    // The file with one request, and the bytes that the second adds.
    for length in 0..=whole.len() {
        let torn = tempfile::tempdir().unwrap();
        fs::write(torn.path().join(path.file_name().unwrap()), &whole[..length]).unwrap();
        let ingest = lines(torn.path());
        let found = all(&ingest);
        assert!(matches!(found.concat().as_str(), "" | "ab" | "abcd"), "{found:?}");
        let next = found.len() as u64;
        assert_eq!(post(&ingest, "e"), Reply::ok(next, 1), "cut at {length}");
        drop(ingest);
        let again = all(&lines(torn.path()));
        assert_eq!(again[..found.len()], found);
        assert_eq!(again[found.len()..], ["e"]);
    }
    // A flipped bit invalidates a record too. If a later request shows that the record was durable,
    // it is reported.
    let (mut told, mut cut) = (0, 0);
    // The header of a file, its mark and their checksum.
    let begin = 30;
    for place in 18..whole.len() {
        let turned = tempfile::tempdir().unwrap();
        let mut bytes = whole.clone();
        bytes[place] ^= 4;
        fs::write(turned.path().join(path.file_name().unwrap()), &bytes).unwrap();
        match HttpIngest::lines(turned.path(), IngestConfig::new()) {
            Ok(ingest) => {
                assert_eq!(all(&ingest), ["a", "b"], "bit of byte {place}");
                cut += 1;
            }
            Err(error) => {
                let why = match place < begin {
                    true => "it does not begin as a log does",
                    false => "record 0 was durable",
                };
                assert!(error.to_string().contains(why), "bit of byte {place}: {error}");
                told += 1;
            }
        }
    }
    assert!(told > 30 && cut > 30, "{told}, {cut}");
}

#[test]
fn what_is_missing_in_the_middle_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    for life in 0..3 {
        assert_eq!(post(&lines(dir.path()), "a"), Reply::ok(life, 1));
    }
    let logs = logs(dir.path());
    assert_eq!(logs.len(), 3);
    fs::remove_file(&logs[1]).unwrap();
    let error = HttpIngest::lines(dir.path(), IngestConfig::new()).unwrap_err();
    assert!(matches!(error, IngestError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("it ends before record 1"), "{error}");
}

#[test]
fn a_position_of_another_log_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let context =
        |index, of| OpenContext::new("job", "in", index, of, Attempt::first(Term::new(1)));
    let position = {
        let ingest = lines(dir.path());
        post(&ingest, "a\nb\nc");
        let mut reader = ingest.source().open(&context(0, 2), None).unwrap();
        reader.read(9, &mut Vec::new()).unwrap();
        reader.position()
    };
    let other = tempfile::tempdir().unwrap();
    let other = lines(other.path());
    let error = other.source().open(&context(0, 2), Some(position.clone())).unwrap_err();
    let typed = error.downcast_ref::<IngestError>().unwrap();
    assert!(matches!(typed, IngestError::OtherLog { .. }), "{error}");
    // As the first version wrote it, without the log's name: then only the number can show it.
    let mut old = serde_json::to_value(&position).unwrap();
    old.as_object_mut().unwrap().remove("log").unwrap();
    let old: IngestPosition = serde_json::from_value(old).unwrap();
    let error = other.source().open(&context(0, 2), Some(old.clone())).unwrap_err();
    assert!(error.to_string().contains("needs record 3"), "{error}");
    assert!(lines(dir.path()).source().open(&context(0, 2), Some(old)).is_ok());
    let error = lines(dir.path()).source().open(&context(1, 2), Some(position)).unwrap_err();
    assert!(error.to_string().contains("subtask 0 of 2, not of 1 of 2"), "{error}");
}

/// It holds more records than the position counts, so numbers alone show nothing.
#[test]
fn another_log_put_in_the_place_of_the_checkpoints_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (place, kept) = (dir.path().join("log"), dir.path().join("kept"));
    let context = OpenContext::new("job", "in", 0, 1, Attempt::first(Term::new(1)));
    let read = |ingest: &HttpIngest<String>, position: Option<IngestPosition>| {
        let mut reader = ingest.source().open(&context, position)?;
        let mut records = Vec::new();
        reader.read(9, &mut records)?;
        Ok::<_, snapline::BoxError>((records, reader.position()))
    };
    let ingest = lines(&place);
    post(&ingest, "a\nb");
    let (records, position) = read(&ingest, None).unwrap();
    assert_eq!(records, ["a", "b"]);
    post(&ingest, "c");
    drop(ingest);
    fs::rename(&place, &kept).unwrap();
    let ingest = lines(&place);
    post(&ingest, "d\ne\nf\ng");
    let error = read(&ingest, Some(position.clone())).unwrap_err();
    let typed = error.downcast_ref::<IngestError>().unwrap();
    let named = matches!(typed, IngestError::OtherLog { was, now, .. } if was != now);
    assert!(named && error.to_string().contains("identity"), "{error}");
    drop(ingest);
    // The log itself, wherever it is; also a copy of it that lost its name, once the name is
    // restored.
    let (records, _) = read(&lines(&kept), Some(position.clone())).unwrap();
    assert_eq!(records, ["c"]);
    let name = fs::read_to_string(kept.join("identity")).unwrap();
    fs::remove_file(kept.join("identity")).unwrap();
    assert!(read(&lines(&kept), Some(position.clone())).is_err());
    fs::write(kept.join("identity"), name).unwrap();
    assert_eq!(read(&lines(&kept), Some(position)).unwrap().0, ["c"]);
    fs::write(kept.join("identity"), "").unwrap();
    let error = HttpIngest::lines(&kept, IngestConfig::new()).unwrap_err();
    assert!(matches!(error, IngestError::Damaged { .. }), "{error}");
}
