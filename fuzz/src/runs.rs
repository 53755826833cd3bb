//! The files of a run beside checkpoints: ingest logs, recorded runs, files of sinks.

use snapline::connect::{
    Attempt, MemorySink, MemorySource, OpenContext, SinkCommitter, SinkWriter, TwoPhaseSink, TxnId,
};
use snapline::fuzzing::{IngestLog, SinkDirectory, sink_file, sink_files, write_value};
use snapline::trace::{MemoryTrace, RunTrace, replay};
use snapline::{Dataflow, JobConfig};
use snapline_core::connect::testing::granted;
use snapline_protocol::ids::{CheckpointId, SubtaskId, Term};

use crate::{joined, pieces, plain, seed, shown};

/// Words of logs.
pub const LOG: &[&str] = &["snapline ingest 1\n", "snapline ingest 2\n", "\u{17}\u{0}\u{0}\u{0}"];

/// Words of recorded runs.
pub const TRACE: &[&str] = &[
    "{\"at\":1,\"what\":{\"ended\":{}}}\n",
    "\"attempt\":{\"term\":1,\"number\":1},",
    "\"task\":0,",
    "\"verdict\":\"applied\"",
    "\"effects\":[]",
    "\"event\":null",
    "281474976710656",
    "null",
    "\\u001b",
];

/// Words of sinks' files.
pub const NAMES: &[&str] = &[
    ".snapline/out/prepared/",
    ".snapline/out/open/",
    ".snapline/out/fence",
    ".snapline/out/owner",
    ".snapline/out/committed-00",
    "part-out-00-00000001-t1a1.txt",
    "part-out-00-00000002-t1a1r1.txt.s0",
    "00-t1a1-0.open",
    ".s0",
    "r65535",
    "../",
    "\u{1b}[2J",
    "{\"term\":4294967295,\"number\":4294967295}",
];

/// The lengths before the frames of a segment, and before the key of a frame.
const BEGIN: usize = 30;
const FIXED: usize = 23;

/// Repairs the checksums of a segment, as far as its frames go.
fn mend(bytes: &mut [u8]) {
    let has_mark = bytes.len() >= BEGIN && bytes.starts_with(b"snapline ingest 2\n");
    let (mut at, mark) = if has_mark { (BEGIN, bytes[18..26].to_vec()) } else { (18, Vec::new()) };
    if has_mark {
        let sum = crc32fast::hash(&bytes[..26]);
        bytes[26..BEGIN].copy_from_slice(&sum.to_le_bytes());
    }
    while let Some(head) = bytes.get_mut(at..at + mark.len() + 8) {
        head[..mark.len()].copy_from_slice(&mark);
        at += mark.len();
        let length = u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let Some(end) = at.checked_add(8).and_then(|at| at.checked_add(length as usize)) else {
            return;
        };
        let Some(frame) = bytes.get(at + 8..end) else { return };
        let sum = crc32fast::hash(frame);
        bytes[at + 4..at + 8].copy_from_slice(&sum.to_le_bytes());
        at = end;
    }
}

/// A log's segments: the byte before each is the number of its first record.
pub fn log(bytes: &[u8]) {
    let Some((mode, bytes)) = bytes.split_first() else { return };
    let segment = |piece: &[u8]| {
        let (first, rest) = piece.split_first()?;
        let mut bytes = rest.to_vec();
        if mode & 1 == 1 {
            mend(&mut bytes);
        }
        Some((if *first == 255 { u64::MAX } else { u64::from(*first) }, bytes))
    };
    let segments: Vec<_> = pieces(bytes).into_iter().take(8).filter_map(segment).collect();
    let log = IngestLog::new(&segments);
    let (records, goes_on) = match log.records() {
        Ok(records) => records,
        Err(error) => return plain(&error),
    };
    for pair in records.windows(2) {
        assert_eq!(pair[0].0 + 1, pair[1].0, "records have consecutive numbers");
    }
    assert_eq!(log.records().expect("the log was opened before"), (records.clone(), goes_on));
    let request = b"POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer token\r\nContent-Length: 8\r\n\r\n\"fuzzed\"";
    let answer = log.answers_to(request, 512).expect("the log was opened before");
    let answer =
        String::from_utf8(answer.expect("the request is answered")).expect("answers are UTF-8");
    let (after, _) = log.records().expect("the log was opened before");
    let expected = if goes_on { "HTTP/1.1 200 " } else { "HTTP/1.1 410 " };
    assert!(answer.starts_with(expected), "{answer}");
    assert!(after.starts_with(&records) || records.is_empty());
    assert_eq!(after.len(), records.len() + usize::from(goes_on));
}

/// A frame of a log, without a checksum: the number of its first record, the durable end, its key
/// and its records.
fn frame(mark: &[u8], what: u8, first: u64, key: &str, records: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![what];
    bytes.extend_from_slice(&first.to_le_bytes());
    bytes.extend_from_slice(&first.to_le_bytes());
    bytes.extend_from_slice(&(records.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&(key.len() as u16).to_le_bytes());
    assert_eq!(bytes.len(), FIXED);
    bytes.extend_from_slice(key.as_bytes());
    for record in records {
        bytes.extend_from_slice(&(record.len() as u32).to_le_bytes());
        bytes.extend_from_slice(record);
    }
    let sum = crc32fast::hash(&bytes);
    [mark, &(bytes.len() as u32).to_le_bytes(), &sum.to_le_bytes(), &bytes].concat()
}

/// Seeds of [`log`].
#[must_use]
pub fn logs() -> Vec<Vec<u8>> {
    let mark = b"\x11\x22\x33\x44\x55\x66\x77\x88";
    let frames = |mark: &[u8], first: u64| {
        let two = frame(mark, 0, first, "key", &[b"1", b"\"two\""]);
        [two, frame(mark, 0, first + 2, "", &[b"[3]"])].concat()
    };
    let new = |frames: &[u8]| {
        let begin = [&b"snapline ingest 2\n"[..], mark].concat();
        [&begin[..], &crc32fast::hash(&begin).to_le_bytes(), frames].concat()
    };
    let segment = |first: u8, bytes: &[u8]| [&[first], bytes].concat();
    let one = segment(0, &new(&frames(mark, 0)));
    let two = segment(3, &new(&frames(mark, 3)));
    let old = segment(0, &[&b"snapline ingest 1\n"[..], &frames(b"", 0)].concat());
    let ended = segment(0, &new(&[frames(mark, 0), frame(mark, 1, 3, "", &[])].concat()));
    let keys = [("key", (0, 2, 5))];
    let keys = write_value(&keys).expect("keys can be encoded");
    let mut known = frame(mark, 2, 0, "", &[]);
    known.extend_from_slice(&keys);
    known[8..12].copy_from_slice(&((FIXED + keys.len()) as u32).to_le_bytes());
    let known = segment(0, &new(&known));
    let torn = segment(0, &new(&frames(mark, 0)[..40]));
    [&[&one[..]][..], &[&one, &two], &[&old], &[&ended], &[&known], &[&torn], &[&old, &two]]
        .iter()
        .flat_map(|segments| [joined(0, segments), joined(1, segments)])
        .collect()
}

/// A recorded run: an accepted one is written unchanged, and replayed. Clocks are repaired where
/// the first byte says so.
pub fn trace(bytes: &[u8]) {
    let Some((mode, bytes)) = bytes.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if mode & 1 == 1 {
        let lines = bytes.split_inclusive(|&byte| byte == b'\n').enumerate();
        let clocked = lines.map(|(place, line)| {
            let rest = line.strip_prefix(b"{\"at\":");
            let rest = rest.map(|rest| rest.trim_ascii_start());
            let digits = |rest: &[u8]| rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            match rest {
                Some(rest) => {
                    let rest = &rest[digits(rest)..];
                    [format!("{{\"at\":{place}").as_bytes(), rest].concat()
                }
                None => line.to_vec(),
            }
        });
        bytes = clocked.collect::<Vec<_>>().concat();
    }
    let _ = RunTrace::is_one(&bytes);
    let run = match RunTrace::read("the trace", &bytes) {
        Ok(run) => run,
        Err(error) => return shown(&error),
    };
    if let Some(header) = run.header() {
        let mut again = serde_json::to_vec(header).expect("the line was read from JSON");
        again.push(b'\n');
        for line in run.lines() {
            serde_json::to_writer(&mut again, &line).expect("the line was read from JSON");
            again.push(b'\n');
        }
        let again = RunTrace::read("the trace", &again).expect("a written trace can be read");
        assert!(again.header() == Some(header) && again.lines().eq(run.lines()));
    }
    match replay(&[run]) {
        Ok(replayed) => shown(&replayed),
        Err(difference) => shown(&difference),
    }
}

/// Seeds of [`trace`].
#[must_use]
pub fn traces() -> Vec<Vec<u8>> {
    let (flow, trace) = (Dataflow::new("recorded"), MemoryTrace::new());
    flow.source("in", MemorySource::new(vec![1, 2, 3])).sink("out", MemorySink::new());
    let config = JobConfig::new().parallelism(1).workers(1).record(trace.clone());
    flow.build(config).map(|job| job.run()).expect("the job can be built").expect("the job runs");
    let mut seeds = Vec::new();
    for (_, bytes) in trace.files() {
        let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        let ends: Vec<usize> = ends.map(|(place, _)| place + 1).collect();
        for lines in [1, 4, 12, ends.len()] {
            let end = ends.get(lines - 1).copied().unwrap_or(bytes.len());
            seeds.push(seed((lines % 2) as u8, &bytes[..end]));
        }
    }
    seeds
}

fn context(attempt: u32) -> OpenContext {
    OpenContext::new("job", "out", 0, 1, Attempt { term: Term::new(attempt), number: 1 })
}

fn txn(checkpoint: u64, term: u32, subtask: u16) -> TxnId {
    TxnId {
        checkpoint: CheckpointId::new(checkpoint).unwrap_or(CheckpointId::FIRST),
        attempt: Attempt { term: Term::new(term), number: 1 },
        subtask: SubtaskId::new(subtask),
    }
}

/// The directories of a file sink: pieces that are a path and, after a `=`, its content; each is
/// also used as an operator's name.
pub fn names(bytes: &[u8]) {
    let Some((mode, bytes)) = bytes.split_first() else { return };
    let mut files = Vec::new();
    for piece in pieces(bytes).into_iter().take(16) {
        let (path, content) = match piece.iter().position(|&byte| byte == b'=') {
            Some(end) => (&piece[..end], &piece[end + 1..]),
            None => (piece, &b"line\n"[..]),
        };
        let Ok(path) = std::str::from_utf8(path) else { continue };
        let name = path.rsplit('/').next().unwrap_or_default();
        spelled(name, u64::from(*mode));
        let steps = path.split('/').all(|step| !matches!(step, "" | "." | ".."));
        if steps && !path.contains('\0') {
            files.push((path.to_owned(), content.to_vec()));
        }
    }
    let directory = SinkDirectory::new(&files);
    let before = directory.content();
    if let Err(error) = live(&directory, *mode) {
        shown(&error);
    }
    // Files whose names no sink gave stay as they are, except the sink's own.
    let own = ["fence", "fence.new", "owner", "owner.new", "LOCK", "committed-00"];
    let after = directory.content();
    for (path, content) in before {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let ours =
            own.contains(&name) || name == "committed-00.new" || name.starts_with(".snapline");
        if !ours && sink_file(name).is_none() {
            assert_eq!(
                after.get(&path),
                Some(&content),
                "the sink changed {}, which is not its file",
                path.display()
            );
        }
    }
}

/// A life of a sink in this directory: it takes up prepared transactions, writes, and commits.
fn live(directory: &SinkDirectory, mode: u8) -> Result<(), snapline::BoxError> {
    let context = context(9);
    let (mut writer, mut committer) = directory.sink().open(&context)?;
    committer.committed()?;
    for (txn, committable) in committer.fence(context.attempt)? {
        match mode & 1 {
            0 => {
                committer.commit(granted(txn), &committable)?;
            }
            _ => committer.roll_back(txn, &committable)?,
        }
    }
    writer.write(&mut vec!["line".to_owned()])?;
    let txn = txn(u64::from(mode) + 1, 9, 0);
    let committable = writer.close(txn)?;
    committer.prepare(txn, &committable)?;
    committer.commit(granted(txn), &committable)?;
    assert!(committer.committed()? >= Some(txn), "the committer knows the committed transaction");
    Ok(())
}

/// Names that a sink gives are read back, whatever its operator's name; other names are not.
fn spelled(operator: &str, number: u64) {
    let roll = (number as u32 & 3).saturating_sub(1).saturating_mul(0x5555_5555);
    let txn = txn(number.wrapping_mul(0x0101_0101), number as u32, number as u16);
    let index = (number as usize) & 0x7f;
    let Some(names) = sink_files((operator, "csv.gz"), index, txn, roll) else { return };
    for name in names {
        assert_eq!(sink_file(&name), Some((index, txn.attempt)), "{name}");
        assert!(name.len() <= 255 && !name.contains(|c: char| c.is_control() || c == '/'));
        // The same number, spelled differently.
        let place = name.rfind(&format!("-{index:02}-")).map_or(0, |dash| dash + 1);
        let other = format!("{}0{}", &name[..place], &name[place..]);
        assert_eq!(sink_file(&other), None, "{other} is read as a name of the sink, like {name}");
    }
}

/// Seeds of [`names`].
#[must_use]
pub fn directories() -> Vec<Vec<u8>> {
    let own = |path: &str| format!(".snapline/out/{path}");
    let prepared = own("prepared/part-out-00-00000001-t1a1.txt.s0=line\n");
    let rolled = own("prepared/part-out-00-00000001-t1a1r1.txt.s0=another\n");
    let closed = own("open/part-out-00-00000002-t1a1.txt.s0=line\n");
    let open = own("open/00-t1a1-0.open=li");
    let name = r#"{"checkpoint":1,"attempt":{"term":1,"number":1},"subtask":0}"#;
    let sum = crc32fast::hash(name.as_bytes());
    let marker = own(&format!("committed-00=\n{name} {sum:08x}\n"));
    let fence = own(r#"fence={"term":2,"number":1}"#);
    let owner = own(r#"owner={"format":1,"job":"job","operator":"out","place":"x"}"#);
    let part = "part-out-00-00000001-t1a1.txt=line\n";
    let foreign = "part-out-00-00000001-t1a1.txt~";
    [
        &[&prepared[..], &rolled][..],
        &[&prepared, part],
        &[&closed, &open],
        &[&marker, &prepared],
        &[&fence, &owner],
        &[part, foreign],
        &["a/b", "zähler", "..", "out"],
    ]
    .iter()
    .enumerate()
    .map(|(mode, files)| {
        let files: Vec<&[u8]> = files.iter().map(|file| file.as_bytes()).collect();
        joined(mode as u8, &files)
    })
    .collect()
}
