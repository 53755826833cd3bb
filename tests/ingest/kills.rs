//! A process that accepts records and runs a job over them is killed repeatedly while a client
//! sends. Acknowledged records are in the output once; others are there at most once.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction};
use snapline::connect::{HttpIngest, IngestConfig, SqliteSink};
use snapline::{Dataflow, Ended, JobConfig, Level};

use crate::client::Client;

/// Environment variable of a child: its directory.
const CHILD: &str = "SNAPLINE_INGEST_CHILD";

const KILLS: u64 = 12;

/// The child, when this binary runs as one. Otherwise it does nothing.
#[test]
#[ignore = "run by the other test, as the process that is killed"]
fn child() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    let dir = Path::new(&dir);
    // Small files: some are removed while it runs.
    let config = IngestConfig::new().segment_bytes(4_000);
    let ingest = HttpIngest::lines(dir.join("ingest"), config).unwrap();
    let insert = |tx: &Transaction<'_>, line: &String| {
        tx.prepare_cached("INSERT INTO lines VALUES (?1)")?.execute([line]).map(drop)
    };
    let sink = SqliteSink::new(dir.join("out.db"), insert)
        .setup("CREATE TABLE IF NOT EXISTS lines (line TEXT NOT NULL)");
    let flow = Dataflow::new("killed");
    flow.source("in", ingest.source()).sink("out", sink);
    let config = JobConfig::new()
        .parallelism(2)
        .checkpoint_interval(Duration::from_millis(5))
        .directory(dir.join("checkpoints"))
        .require(Level::ExactlyOnce);
    let handle = flow.build(config).unwrap().spawn().unwrap();
    eprintln!("listening on {}", ingest.address());
    // The parent closes this at the end of its input.
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    ingest.finish().unwrap();
    assert_eq!(handle.wait().unwrap().ended, Ended::Finished);
}

fn start(dir: &Path) -> (Child, SocketAddr) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "kills::child", "--ignored", "--nocapture", "--test-threads", "1"]);
    command.env(CHILD, dir).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut all = String::new();
    let address = loop {
        let before = all.len();
        if said.read_line(&mut all).unwrap() == 0 {
            child.wait().unwrap();
            panic!("it does not listen: {all}");
        }
        if let Some(address) = all[before..].trim().strip_prefix("listening on ") {
            break address.parse().unwrap();
        }
    };
    std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::stderr()));
    (child, address)
}

#[test]
fn what_was_acknowledged_is_in_the_output_once_whatever_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut acknowledged, mut unknown) = (Vec::new(), Vec::new());
    let mut number = 0_u64;
    for life in 0..KILLS {
        let (mut child, address) = start(dir.path());
        let mut client = Client::new(address);
        let dies = Instant::now() + Duration::from_millis(20 + 37 * life % 150);
        let mut killed = false;
        loop {
            if !killed && Instant::now() >= dies {
                child.kill().unwrap();
                killed = true;
            }
            // A request without a key is not sent again. A request with a key is sent again, to the
            // next process.
            let body = format!("line-{number}\nagain-{number}");
            number += 1;
            match client.try_send("POST", "/", &[], body.as_bytes()) {
                Ok(reply) => {
                    assert_eq!(reply.status, 200, "{reply:?}");
                    acknowledged.push(body);
                }
                Err(_) => {
                    unknown.push(body);
                    break;
                }
            }
        }
        child.wait().unwrap();
        let (mut child, address) = start(dir.path());
        let mut client = Client::new(address);
        let body = format!("keyed-{life}");
        let headers = [("Idempotency-Key", body.as_str())];
        let _ = client.try_send("POST", "/", &headers, body.as_bytes());
        child.kill().unwrap();
        child.wait().unwrap();
        let (mut child, address) = start(dir.path());
        let mut client = Client::new(address);
        assert_eq!(client.send("POST", "/", &headers, &body).status, 200);
        acknowledged.push(body);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let (mut child, _) = start(dir.path());
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());

    let database = Connection::open(dir.path().join("out.db")).unwrap();
    let mut query = database.prepare("SELECT line FROM lines").unwrap();
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    for line in query.query_map([], |row| row.get::<_, String>(0)).unwrap() {
        *found.entry(line.unwrap()).or_default() += 1;
    }
    for line in acknowledged.iter().flat_map(|body| body.lines()) {
        assert_eq!(found.remove(line), Some(1), "{line}");
    }
    for body in &unknown {
        let times: Vec<Option<usize>> = body.lines().map(|line| found.remove(line)).collect();
        assert!(times == [None, None] || times == [Some(1), Some(1)], "{body}: {times:?}");
    }
    assert!(found.is_empty(), "the client never sent {found:?}");
    assert!(acknowledged.len() > 50, "only {} requests got an answer", acknowledged.len());
    eprintln!(
        "{} requests acknowledged, {} not, {} kills",
        acknowledged.len(),
        unknown.len(),
        3 * KILLS
    );
}
