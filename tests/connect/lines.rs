//! Lines over TCP, on loopback, and of standard input.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use snapline::connect::{
    ConnectError, LinesReader, MemorySink, OpenContext, Progress, Source, SourceReader, Stdin,
    Stdout, TcpLines, TwoPhaseSink,
};
use snapline::{Dataflow, JobConfig, Level};

use crate::{attempt, typed};

fn open(source: &TcpLines, index: usize) -> LinesReader {
    let context = OpenContext::new("job", "in", index, 2, attempt(1, 1));
    source.open(&context, None).expect("opens")
}

/// Reads until there are this many lines, or the end; fails after a timeout.
fn read(reader: &mut LinesReader, lines: usize) -> Result<Vec<String>, snapline::BoxError> {
    let (mut out, begun) = (Vec::new(), Instant::now());
    while out.len() < lines {
        assert!(begun.elapsed() < Duration::from_secs(20), "{out:?} after 20 s");
        match reader.read((lines - out.len()).min(3), &mut out)? {
            Progress::End => break,
            Progress::Wait(pause) => std::thread::sleep(pause),
            Progress::More => {}
        }
    }
    Ok(out)
}

/// An address of loopback without a listener.
fn free() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    listener.local_addr().expect("bound").to_string()
}

fn reach(address: &str) -> TcpStream {
    let begun = Instant::now();
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => return stream,
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(20), "{error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_connection_that_ends_ends_the_input() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let source = TcpLines::connect(listener.local_addr().expect("bound").to_string());
    assert!(!source.is_replayable());
    assert!(read(&mut open(&source, 1), 1).expect("reads").is_empty(), "the second reads nothing");
    let mut reader = open(&source, 0);
    let (mut peer, _) = listener.accept().expect("it connects");
    peer.write_all(b"one\r\ntwo\nthr").expect("writes");
    assert_eq!(read(&mut reader, 2).expect("reads"), ["one", "two"]);
    // A pause within a line is not an end.
    std::thread::sleep(Duration::from_millis(250));
    peer.write_all(b"ee").expect("writes");
    drop(peer);
    assert_eq!(read(&mut reader, 9).expect("reads"), ["three"]);
    assert_eq!(reader.position(), 3);
}

#[test]
fn who_cannot_be_reached_or_sends_no_lines_is_named() {
    let address = free();
    let error = typed(read(&mut open(&TcpLines::connect(&address), 0), 1));
    let expected = format!("tcp {address}: cannot connect to");
    assert!(error.to_string().contains(&expected), "{error}");

    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound").to_string();
    let source = TcpLines::connect(&address).max_line_bytes(10);
    for skip in [false, true] {
        let source = if skip { source.clone().skip_malformed() } else { source.clone() };
        let mut reader = open(&source, 0);
        let (mut peer, _) = listener.accept().expect("it connects");
        peer.write_all(b"fine\n12345678901\n\xff\nfine too\n").expect("writes");
        drop(peer);
        if skip {
            assert_eq!(read(&mut reader, 9).expect("reads"), ["fine", "fine too"]);
            assert_eq!(reader.malformed(), 2);
        } else {
            let error = typed(read(&mut reader, 9));
            assert!(matches!(error, ConnectError::Malformed { line: Some(2), .. }), "{error}");
            let expected = format!("tcp {address}, line 2: it has more than 10 bytes");
            assert!(error.to_string().contains(&expected), "{error}");
        }
    }
    // A byte order mark is not part of the first line; text in UTF-16 is refused.
    for (bytes, line) in
        [(&b"\xEF\xBB\xBFa234567890\n"[..], Some("a234567890")), (b"\xFF\xFEa\0", None)]
    {
        let mut reader = open(&source, 0);
        let (mut peer, _) = listener.accept().expect("it connects");
        peer.write_all(bytes).expect("writes");
        drop(peer);
        match line {
            Some(line) => assert_eq!(read(&mut reader, 9).expect("reads"), [line]),
            None => {
                let error = typed(read(&mut reader, 9));
                assert!(error.to_string().contains("line 1: it is text in UTF-16"), "{error}");
            }
        }
    }
    // An address that another listener keeps.
    let error = typed(read(&mut open(&TcpLines::listen(&address), 0), 1));
    assert!(error.to_string().contains("cannot listen at"), "{error}");
}

#[test]
fn many_connect_and_the_listener_goes_with_its_reader() {
    let address = free();
    let source = TcpLines::listen(&address).max_connections(2);
    for round in 0..3 {
        let mut reader = open(&source, 0);
        let (mut one, mut two) = (reach(&address), reach(&address));
        one.write_all(b"a\nb\n").expect("writes");
        assert_eq!(read(&mut reader, 2).expect("reads"), ["a", "b"], "round {round}");
        two.write_all(b"c\nd").expect("writes");
        drop(two);
        assert_eq!(read(&mut reader, 2).expect("reads"), ["c", "d"]);
        // The listener is closed with its last reader, and the next takes the address over.
        drop(reader);
        let begun = Instant::now();
        while TcpStream::connect(&address).is_ok() {
            assert!(begun.elapsed() < Duration::from_secs(20), "it still listens");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A connection over the limit is closed at once; there is room again when one of the others has
/// gone.
#[test]
fn so_many_connections_are_read_at_a_time() {
    use std::io::Read;
    let address = free();
    let mut reader = open(&TcpLines::listen(&address).max_connections(2), 0);
    let (mut one, mut two) = (reach(&address), reach(&address));
    for (stream, line) in [(&mut one, "a"), (&mut two, "b")] {
        writeln!(stream, "{line}").expect("writes");
        assert_eq!(read(&mut reader, 1).expect("reads"), [line]);
    }
    let mut third = reach(&address);
    third.set_read_timeout(Some(Duration::from_secs(20))).expect("the timeout can be set");
    assert!(matches!(third.read(&mut [0]), Ok(0)), "it is closed");
    drop(one);
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < Duration::from_secs(20), "its place is not freed");
        let mut next = reach(&address);
        next.set_read_timeout(Some(Duration::from_millis(300))).expect("the timeout can be set");
        if next.read(&mut [0]).is_ok() {
            continue;
        }
        // It is still there, and silent.
        writeln!(next, "c").expect("writes");
        assert_eq!(read(&mut reader, 1).expect("goes on"), ["c"]);
        break;
    }
    writeln!(two, "d").expect("writes");
    assert_eq!(read(&mut reader, 1).expect("reads"), ["d"]);
}

/// A connection that sends no line is closed, also in the middle of one. A connection that sends
/// lines stays open.
#[test]
fn a_connection_without_lines_is_closed_when_its_time_is_over() {
    use std::io::Read;
    let address = free();
    let limit = Duration::from_secs(3);
    let mut reader = open(&TcpLines::listen(&address).idle_limit(limit), 0);
    let (mut silent, mut drips, mut talks) = (reach(&address), reach(&address), reach(&address));
    for stream in [&mut silent, &mut drips] {
        stream.set_read_timeout(Some(Duration::from_millis(1))).expect("the timeout can be set");
    }
    let is_over = |stream: &mut TcpStream| {
        use std::io::ErrorKind::{TimedOut, WouldBlock};
        !stream.read(&mut [0]).is_err_and(|error| matches!(error.kind(), TimedOut | WouldBlock))
    };
    let (begun, mut over) = (Instant::now(), [false; 2]);
    while over != [true; 2] {
        assert!(begun.elapsed() < Duration::from_secs(20), "they are still connected");
        let _ = drips.write_all(b"x");
        writeln!(talks, "line").expect("it is not closed");
        assert_eq!(read(&mut reader, 1).expect("reads"), ["line"]);
        over = [over[0] || is_over(&mut silent), over[1] || is_over(&mut drips)];
        assert!(over == [false; 2] || begun.elapsed() >= limit / 2, "it is too early");
    }
}

/// A busy address, as the attempt before may hold it for a moment, is waited for.
#[test]
fn an_address_is_waited_for_a_while() {
    let held = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = held.local_addr().expect("bound").to_string();
    let mut reader = open(&TcpLines::listen(&address), 0);
    std::thread::sleep(Duration::from_millis(300));
    drop(held);
    let mut peer = reach(&address);
    peer.write_all(b"a\n").expect("writes");
    assert_eq!(read(&mut reader, 1).expect("reads"), ["a"]);
}

#[test]
fn a_reader_that_takes_nothing_makes_the_other_side_wait() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let source = TcpLines::connect(listener.local_addr().expect("bound").to_string());
    let mut reader = open(&source, 0);
    let (mut peer, _) = listener.accept().expect("it connects");
    peer.set_write_timeout(Some(Duration::from_millis(300))).expect("the timeout can be set");
    let line = [b'x'; 9_999].into_iter().chain(*b"\n").collect::<Vec<u8>>();
    // A thousand lines and the system's buffers hold far less than 1 GB.
    let written = (0..100_000).take_while(|_| peer.write_all(&line).is_ok()).count();
    assert!(written < 100_000, "all was taken");
    drop(peer);
    let lines = read(&mut reader, 100_000).expect("reads");
    assert!(lines.len() >= written, "{} of {written}", lines.len());
}

#[test]
fn the_guarantee_says_that_lines_cannot_be_read_again() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound").to_string();
    let flow = |sink: &MemorySink<String>| {
        let flow = Dataflow::new("lines");
        flow.source("tcp", TcpLines::connect(&address)).sink("out", sink.clone());
        flow
    };
    let sink = MemorySink::new();
    let config = || JobConfig::new().parallelism(2);
    let refused = flow(&sink).build(config().require(Level::AtLeastOnce)).err();
    let refused = refused.expect("it is refused").to_string();
    assert!(refused.contains("at most once"), "{refused}");
    let job = flow(&sink).build(config()).expect("builds");
    let server = std::thread::spawn(move || {
        let (mut peer, _) = listener.accept().expect("it connects");
        let lines: String = (0..5_000).map(|n| format!("{n}\n")).collect();
        peer.write_all(lines.as_bytes()).expect("writes");
    });
    job.run().expect("runs");
    server.join().expect("no panic");
    let lines: Vec<String> = (0..5_000).map(|n| n.to_string()).collect();
    assert_eq!(sink.committed(), lines);
    assert_eq!(Stdout::<u32>::new().delivery(), snapline::connect::Delivery::AtLeastOnce);
}

/// Environment variable of the process below: the kind of its standard input.
const STDIN: &str = "SNAPLINE_LINES_STDIN";

#[test]
#[ignore = "run by the other test, as a process with something at its standard input"]
fn reads_its_standard_input() {
    let open = |source: Stdin, index: usize, position: Option<u64>| {
        let context = OpenContext::new("job", "in", index, 2, attempt(1, 1));
        source.open(&context, position).expect("opens")
    };
    let source = Stdin::lines().max_line_bytes(9);
    match std::env::var(STDIN).as_deref() {
        Ok("lines") => {
            assert!(!source.is_replayable());
            let mut second = open(source, 1, None);
            assert_eq!(second.read(9, &mut Vec::new()).expect("reads"), Progress::End);
            let mut first = open(source.skip_malformed(), 0, None);
            assert_eq!(read(&mut first, 2).expect("reads"), ["one", "two"]);
            assert_eq!((first.position(), first.bytes_read()), (2, Some(9)));
            // The next attempt continues with the remaining lines, even those that another reader
            // has buffered.
            let position = first.position();
            drop(first);
            let mut first = open(source.skip_malformed(), 0, Some(position));
            assert_eq!(read(&mut first, 9).expect("reads"), ["", "nine byte", "the last"]);
            assert_eq!((first.position(), first.malformed()), (5, 2));
            assert_eq!(first.bytes_read(), Some(1 + 10 + 2 + 11 + 8));
        }
        Ok("malformed") => {
            let mut first = open(source, 0, None);
            let error = typed(read(&mut first, 9));
            assert!(matches!(error, ConnectError::Malformed { line: Some(2), .. }), "{error}");
            assert!(error.to_string().contains("stdin, line 2: byte 1 of the line"), "{error}");
            // The next attempt continues after it.
            let mut first = open(source, 0, Some(first.position()));
            assert_eq!(read(&mut first, 9).expect("reads"), ["fine too"]);
        }
        Ok("directory") => {
            let error = typed(read(&mut open(source, 0, None), 9));
            assert!(error.to_string().contains("stdin: cannot read"), "{error}");
        }
        _ => {}
    }
}

fn with_stdin(what: &str, stdin: std::process::Stdio, lines: &[u8]) {
    let mut child = std::process::Command::new(std::env::current_exe().expect("it runs"))
        .args(["--exact", "lines::reads_its_standard_input", "--ignored"])
        .env(STDIN, what)
        .stdin(stdin)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(lines).expect("it reads");
    }
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
fn standard_input_is_read_once_by_the_first_subtask_of_each_attempt() {
    let lines = b"one\r\ntwo\n\nnine byte\n\xff\n0123456789\nthe last";
    with_stdin("lines", std::process::Stdio::piped(), lines);
    with_stdin("malformed", std::process::Stdio::piped(), b"fine\n\xff\nfine too\n");
}

#[cfg(unix)]
#[test]
fn what_cannot_be_read_from_is_no_end_of_standard_input() {
    let directory = std::fs::File::open("/").expect("there is one");
    with_stdin("directory", directory.into(), b"");
}
