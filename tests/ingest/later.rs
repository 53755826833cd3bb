//! The end, the keys and the retained files, as a later life, a later checkpoint and another reader
//! find them.

use std::fs;
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

use snapline::connect::{
    HttpIngest, IngestConfig, IngestError, IngestReader, OpenContext, Progress, Source,
    SourceReader,
};
use snapline::protocol::ids::{Attempt, Term};

use crate::client::{Client, Reply, post};
use crate::{Order, all, lines, logs};

fn context(index: usize, of: usize) -> OpenContext {
    OpenContext::new("job", "in", index, of, Attempt::first(Term::new(1)))
}

/// An ingest whose files hold few records each.
fn short(dir: &Path) -> HttpIngest<String> {
    HttpIngest::lines(dir, IngestConfig::new().segment_bytes(100)).unwrap()
}

/// Reads up to a record's number.
fn read_to(reader: &mut IngestReader<String>, number: usize) {
    while serde_json::to_value(reader.position()).unwrap()["next"] != number {
        assert_eq!(reader.read(1, &mut Vec::new()).unwrap(), Progress::More);
    }
}

#[test]
fn what_was_finished_stays_so() {
    for records in [0, 1, 5] {
        let dir = tempfile::tempdir().unwrap();
        {
            let ingest = short(dir.path());
            for record in 0..records {
                assert_eq!(post(&ingest, &"x".repeat(40)), Reply::ok(record, 1));
            }
            ingest.finish().unwrap();
            ingest.finish().unwrap();
            assert_eq!(post(&ingest, "y").status, 410);
        }
        for life in 0..3 {
            let ingest = short(dir.path());
            assert_eq!(post(&ingest, "y").status, 410, "{records} records, life {life}");
            let mut reader = ingest.source().open(&context(0, 1), None).unwrap();
            let mut found = Vec::new();
            while reader.read(9, &mut found).unwrap() == Progress::More {}
            assert_eq!(reader.read(9, &mut found).unwrap(), Progress::End);
            assert_eq!((found.len() as u64, ingest.accepted()), (records, records));
            ingest.finish().unwrap();
        }
    }
}

/// A key is remembered after the file with its records is gone, and its records are not accepted
/// again.
#[test]
fn keys_outlive_the_files_that_they_came_in() {
    let dir = tempfile::tempdir().unwrap();
    let send = |ingest: &HttpIngest<String>, number: u64| {
        let key = format!("key-{number}");
        let body = format!("{number}{}", "x".repeat(50));
        Client::new(ingest.address()).send("POST", "/", &[("Idempotency-Key", &key)], &body)
    };
    {
        let ingest = short(dir.path());
        for number in 0..9 {
            assert_eq!(send(&ingest, number), Reply::ok(number, 1));
        }
        let before = logs(dir.path()).len();
        let mut reader = ingest.source().open(&context(0, 1), None).unwrap();
        read_to(&mut reader, 9);
        let position = reader.position();
        reader.kept_from(&position);
        assert!(before > 3 && logs(dir.path()).len() == 1, "{before}");
    }
    for life in 0..3 {
        let ingest = short(dir.path());
        for number in 0..9 {
            assert_eq!(send(&ingest, number), Reply::ok(number, 1), "life {life}");
        }
        assert_eq!(ingest.accepted(), 9);
    }
}

/// Files are needed from the oldest checkpoint that any subtask may be restored from, however far
/// readers have come.
#[test]
fn a_file_stays_until_no_kept_checkpoint_of_any_subtask_needs_it() {
    let dir = tempfile::tempdir().unwrap();
    let ingest = short(dir.path());
    for number in 0..40 {
        assert_eq!(post(&ingest, &format!("{number:030}")), Reply::ok(number, 1));
    }
    let first =
        || -> usize { logs(dir.path())[0].file_stem().unwrap().to_str().unwrap().parse().unwrap() };
    let open = |ingest: &HttpIngest<String>, index, position| {
        ingest.source().open(&context(index, 2), position).unwrap()
    };
    let (mut one, mut two) = (open(&ingest, 0, None), open(&ingest, 1, None));
    read_to(&mut one, 10);
    let ten = one.position();
    read_to(&mut one, 38);
    read_to(&mut two, 20);
    let twenty = two.position();
    read_to(&mut two, 39);
    let (late, later) = (one.position(), two.position());
    two.kept_from(&later);
    assert_eq!(first(), 0, "the other reader has not reported");
    one.kept_from(&ten);
    let kept = first();
    assert!((1..=10).contains(&kept), "{kept}: needed from 10, though both have come to 38");
    two.kept_from(&twenty);
    one.kept_from(&late);
    let kept = first();
    assert!((11..=20).contains(&kept), "{kept}: needed from 20");
    drop((one, two, ingest));
    // A restored reader does not imply that its checkpoint is the oldest.
    let ingest = short(dir.path());
    let (mut one, mut two) = (open(&ingest, 0, Some(late.clone())), open(&ingest, 1, Some(later)));
    one.kept_from(&late);
    assert_eq!(first(), kept, "an older checkpoint may be kept");
    two.kept_from(&two.position());
    assert!((21..=38).contains(&first()), "{}: needed from 38", first());
    // Removed records are not skipped silently.
    let gone = ingest.source().open(&context(0, 2), Some(ten)).unwrap_err().to_string();
    assert!(gone.contains("the job needs record 10, and the log begins with"), "{gone}");
    // A new reader reads the records that are there.
    let mut found = Vec::new();
    let mut begins = ingest.source().open(&context(0, 1), None).unwrap();
    while begins.read(9, &mut found).unwrap() == Progress::More {}
    assert_eq!(found.len(), 40 - first());
}

/// Files that were exchanged or renamed are reported, and not read as other files.
#[test]
fn files_that_do_not_follow_each_other_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    let error = || HttpIngest::lines(dir.path(), IngestConfig::new()).unwrap_err().to_string();
    assert_eq!(post(&lines(dir.path()), "a\nb"), Reply::ok(0, 2));
    assert_eq!(post(&lines(dir.path()), "c\nd"), Reply::ok(2, 2));
    let [zero, two] = &logs(dir.path())[..] else { panic!("two files") };
    let (first, second) = (fs::read(zero).unwrap(), fs::read(two).unwrap());
    fs::write(two, &first).unwrap();
    assert!(error().contains("record 0 is where record 2 was written"), "{}", error());
    // As if the last were there twice.
    fs::write(two, &second).unwrap();
    // A file of one life with both: the frames of another file, which has another mark, would not
    // be read.
    let one_life = tempfile::tempdir().unwrap();
    {
        let ingest = lines(one_life.path());
        assert_eq!(post(&ingest, "a\nb"), Reply::ok(0, 2));
        assert_eq!(post(&ingest, "c\nd"), Reply::ok(2, 2));
    }
    let both = fs::read(logs(one_life.path()).pop().unwrap()).unwrap();
    fs::write(zero, &both).unwrap();
    assert_eq!(all(&lines(dir.path())), ["a", "b", "c", "d"], "after the end it is not read");
    for path in logs(dir.path()) {
        fs::remove_file(path).unwrap();
    }
    fs::write(zero, &both).unwrap();
    fs::write(dir.path().join("00000000000000000003.log"), &second).unwrap();
    assert!(error().contains("record 3 is in the file before it too"), "{}", error());
}

/// Concurrent requests are made durable together; the answer to each is about its own records.
#[test]
fn clients_at_once_get_the_numbers_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let ingest = lines(dir.path());
    let (clients, requests) = (8, 40);
    let told: Vec<(String, u64)> = std::thread::scope(|scope| {
        let send = |client: u64| {
            let ingest = &ingest;
            scope.spawn(move || {
                let mut to = Client::new(ingest.address());
                let mut told = Vec::new();
                for request in 0..requests {
                    let records: Vec<String> = (0..=(client + request) % 4)
                        .map(|record| format!("{client}/{request}/{record}"))
                        .collect();
                    let count = records.len() as u64;
                    let reply = to.post(&records.join("\n"));
                    let first = serde_json::from_str::<serde_json::Value>(&reply.body).unwrap();
                    let first = first["first"].as_u64().unwrap();
                    assert_eq!(reply, Reply::ok(first, count));
                    told.extend(records.into_iter().zip(first..));
                }
                told
            })
        };
        let threads: Vec<_> = (0..clients).map(send).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let found = all(&ingest);
    assert_eq!(found.len(), told.len());
    for (record, number) in told {
        assert_eq!(found[number as usize], record);
    }
}

/// One key, sent by many clients at once: one request is accepted, and all get its answer.
#[test]
fn a_key_that_comes_several_times_together_is_accepted_once() {
    let dir = tempfile::tempdir().unwrap();
    let ingest = lines(dir.path());
    for round in 0..20 {
        let go = AtomicBool::new(false);
        let key = format!("round-{round}");
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    let mut client = Client::new(ingest.address());
                    while !go.load(Ordering::Relaxed) {
                        std::thread::yield_now();
                    }
                    let headers = [("Idempotency-Key", key.as_str())];
                    assert_eq!(client.send("POST", "/", &headers, &key), Reply::ok(round, 1));
                });
            }
            go.store(true, Ordering::Relaxed);
        });
    }
    assert_eq!(ingest.accepted(), 20);
}

#[test]
fn records_that_are_read_as_another_type_fail_by_their_number() {
    let dir = tempfile::tempdir().unwrap();
    {
        let ingest = lines(dir.path());
        assert_eq!(post(&ingest, "{\"id\":1,\"item\":\"a\"}\nno JSON"), Reply::ok(0, 2));
    }
    let ingest = HttpIngest::<Order>::json(dir.path(), IngestConfig::new()).unwrap();
    let mut reader = ingest.source().open(&context(0, 1), None).unwrap();
    let mut found = Vec::new();
    let error = reader.read(9, &mut found).unwrap_err().to_string();
    assert!(error.contains("record 1 cannot be decoded as the source's type: "), "{error}");
    assert_eq!(found, [Order { id: 1, item: "a".into() }]);
}

/// A file with another header is refused, unless nothing was ever in it.
#[test]
fn a_file_of_another_version_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(post(&lines(dir.path()), "a"), Reply::ok(0, 1));
    let path = logs(dir.path()).pop().unwrap();
    let whole = fs::read(&path).unwrap();
    for place in [0, 16] {
        let mut bytes = whole.clone();
        bytes[place] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let error = HttpIngest::lines(dir.path(), IngestConfig::new()).unwrap_err().to_string();
        assert!(error.contains("is it of a later version?"), "{error}");
        fs::write(&path, &bytes[..18]).unwrap();
        assert_eq!(all(&lines(dir.path())), [""; 0]);
    }
}

/// However many begin at once, exactly one has the directory and keeps it.
#[test]
fn of_those_who_begin_together_one_has_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let mut refused = 0;
    for round in 0..150 {
        let together = Barrier::new(4);
        let begin = || {
            together.wait();
            HttpIngest::lines(dir.path(), IngestConfig::new())
        };
        let begun: Vec<Result<HttpIngest<String>, IngestError>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(begin)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let (has, others): (Vec<_>, Vec<_>) = begun.iter().partition(|one| one.is_ok());
        assert_eq!(has.len(), 1, "round {round}: {begun:?}");
        for other in others {
            assert!(matches!(other, Err(IngestError::InUse { .. })), "{other:?}");
            refused += 1;
        }
    }
    assert_eq!(refused, 3 * 150);
}
