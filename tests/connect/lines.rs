//! Lines over TCP, on loopback.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use snapline::connect::{
    ConnectError, LinesReader, MemorySink, OpenContext, Progress, Source, SourceReader, Stdout,
    TcpLines, TwoPhaseSink,
};
use snapline::{Dataflow, JobConfig, Level};

use crate::{attempt, typed};

fn open(source: &TcpLines, index: usize) -> LinesReader {
    let context = OpenContext::new("job", "in", index, 2, attempt(1, 1));
    source.open(&context, None).expect("opens")
}

/// Reads until there are so many lines, or the end; the test fails if that takes too long.
fn read(reader: &mut LinesReader, lines: usize) -> Result<Vec<String>, snapline::BoxError> {
    let (mut out, begun) = (Vec::new(), Instant::now());
    while out.len() < lines {
        assert!(begun.elapsed() < Duration::from_secs(20), "{out:?} after 20 s");
        match reader.read(3, &mut out)? {
            Progress::End => break,
            Progress::Wait(pause) => std::thread::sleep(pause),
            Progress::More => {}
        }
    }
    Ok(out)
}

/// An address of loopback that nobody listens at.
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
    // A pause within a line is none.
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
    // An address that is somebody else's, and stays so.
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
        // It is closed when nobody reads any more, and the next takes the address over.
        drop(reader);
        let begun = Instant::now();
        while TcpStream::connect(&address).is_ok() {
            assert!(begun.elapsed() < Duration::from_secs(20), "it still listens");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn a_reader_that_takes_nothing_makes_the_other_side_wait() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let source = TcpLines::connect(listener.local_addr().expect("bound").to_string());
    let mut reader = open(&source, 0);
    let (mut peer, _) = listener.accept().expect("it connects");
    peer.set_write_timeout(Some(Duration::from_millis(300))).expect("can be said");
    let line = [b'x'; 9_999].into_iter().chain(*b"\n").collect::<Vec<u8>>();
    // What a thousand lines and the system's buffers hold is far below 1 GB.
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
