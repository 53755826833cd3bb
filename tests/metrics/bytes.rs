//! Bytes read from outside and written to outside.

use std::io::Write;
use std::net::TcpListener;
use std::thread;

use snapline::Dataflow;
use snapline::connect::{
    DirectorySource, FileSink, FileSource, HttpIngest, IngestConfig, MemorySink, MemorySource,
    Source, Stdin, Stdout, TcpLines, TwoPhaseSink, WebhookSink,
};
use snapline::metrics::Prometheus;

use crate::{config, parse, sum, value, wait};

#[test]
fn bytes_are_counted_where_there_are_bytes_and_the_store_has_a_size() {
    let directory = tempfile::tempdir().expect("a directory");
    let lines: String = (0..1_000).map(|number| format!("line {number}\n")).collect();
    let input = directory.path().join("input");
    std::fs::write(&input, &lines).expect("it can be written");
    let output = directory.path().join("output");
    let flow = Dataflow::new("copy");
    flow.source("in", FileSource::path(&input)).sink("out", FileSink::new(&output));
    let config = config(1).directory(directory.path().join("checkpoints"));
    let handle = flow.build(config).expect("it builds").spawn().expect("it starts");
    let mut metrics = Prometheus::new();
    metrics.watch(&handle);
    wait(handle);
    let figures = parse(&metrics.render());
    assert_eq!(value(&figures, "snapline_bytes_in_total", &[]), lines.len() as f64);
    assert_eq!(value(&figures, "snapline_bytes_out_total", &[]), lines.len() as f64);
    let blobs = std::fs::read_dir(directory.path().join("checkpoints/blobs")).expect("blobs");
    let size = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.and_then(|entry| entry.metadata()).expect("a blob").len()
    };
    let stored: u64 = blobs.map(size).sum();
    assert!(stored > 0);
    assert_eq!(value(&figures, "snapline_store_bytes", &[]), stored as f64);
}

/// Bytes that a job from one place to the other has read and written.
fn bytes<S, K>(source: S, sink: K) -> (f64, f64)
where
    S: Source,
    K: TwoPhaseSink<Record = S::Record>,
{
    let flow = Dataflow::new("bytes");
    flow.source("in", source).sink("out", sink);
    let handle = flow.build(config(1)).expect("it builds").spawn().expect("it starts");
    let mut metrics = Prometheus::new();
    metrics.watch(&handle);
    wait(handle);
    let figures = parse(&metrics.render());
    (
        sum(&figures, "snapline_bytes_in_total", "in"),
        sum(&figures, "snapline_bytes_out_total", "out"),
    )
}

/// In the environment of the process below: how many bytes it reads.
const STDIN: &str = "SNAPLINE_METRICS_STDIN";

#[test]
#[ignore = "run by the other test, as a process with lines at its standard input"]
fn counts_the_bytes_of_its_standard_input() {
    let Ok(expected) = std::env::var(STDIN) else { return };
    let source = Stdin::lines().max_line_bytes(9).skip_malformed();
    let expected: f64 = expected.parse().expect("a number");
    assert_eq!(bytes(source, MemorySink::new()).0, expected);
}

#[test]
fn bytes_are_counted_of_standard_input() {
    let input = b"one\r\n\ntwo\n\xff\nthis is too long\nthe last";
    let itself = std::env::current_exe().expect("it runs");
    let mut child = std::process::Command::new(itself)
        .args(["--exact", "bytes::counts_the_bytes_of_its_standard_input", "--ignored"])
        .env(STDIN, input.len().to_string())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    child.stdin.take().expect("piped").write_all(input).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
fn bytes_are_counted_of_files_that_come_and_of_lines() {
    let directory = tempfile::tempdir().expect("a directory");
    let lines: String = (0..9).map(|number| format!("\"line {number}\"\r\n")).collect();
    // A byte order mark, and a last line without a line end.
    let plain = format!("\u{feff}{lines}\"the last\"");
    std::fs::write(directory.path().join("a.jsonl"), &plain).expect("it can be written");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(lines.as_bytes()).expect("compresses");
    let gzip = gzip.finish().expect("compresses");
    std::fs::write(directory.path().join("b.jsonl.gz"), gzip).expect("it can be written");
    std::fs::write(directory.path().join("END"), "").expect("it can be written");
    let source = DirectorySource::path(directory.path()).until("END").json_lines::<String>();
    let out: usize = 18 * "line 0\n".len() + "the last\n".len();
    let all = (plain.len() + lines.len()) as f64;
    assert_eq!(bytes(source, Stdout::new()), (all, out as f64), "of what was compressed, too");

    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound").to_string();
    let sends = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("it connects");
        stream.write_all(b"one\r\n\xff\xff\n\nthree").expect("it reads");
    });
    let sink = FileSink::new(directory.path().join("out"));
    let counted = bytes(TcpLines::connect(address).skip_malformed(), sink);
    sends.join().expect("it sent");
    assert_eq!(counted, (5.0 + 3.0 + 1.0 + 5.0, "one\n\nthree\n".len() as f64));
}

#[test]
fn bytes_are_counted_of_requests() {
    let directory = tempfile::tempdir().expect("a directory");
    let open = |name: &str| {
        let config = IngestConfig::new();
        HttpIngest::<String>::json(directory.path().join(name), config).expect("it opens")
    };
    let (from, to) = (open("from"), open("to"));
    // The requests to the source equal those that the sink sends.
    let words = ["one", "\"two\"", "drei\u{fc}"];
    let sink = |ingest: &HttpIngest<String>| {
        WebhookSink::new(&format!("http://{}/", ingest.address())).expect("an address")
    };
    let records = words.map(str::to_owned).to_vec();
    let json: usize = words.iter().map(|word| format!("{word:?}").len()).sum();
    let (read, written) = bytes(MemorySource::new(records), sink(&from));
    assert_eq!((read, written), (0.0, json as f64), "a source without bytes has none");
    from.finish().expect("finishes");
    assert_eq!(bytes(from.source(), sink(&to)), (json as f64, json as f64));
    assert_eq!(to.accepted(), 3);
}
