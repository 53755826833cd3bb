//! Byte order marks, and values that a record cannot keep.

use serde_json::Value;
use snapline::connect::{HttpIngest, IngestConfig, OpenContext, Progress, Source, SourceReader};
use snapline::protocol::ids::{Attempt, Term};

use super::client::Client;
use super::{all, lines};

#[test]
fn a_mark_of_byte_order_is_none_of_a_record() {
    let dir = tempfile::tempdir().unwrap();
    let ingest = lines(dir.path());
    let mut client = Client::new(ingest.address());
    assert_eq!(client.post("\u{feff}a\nb\u{feff}\n").status, 200);
    assert_eq!(all(&ingest), ["a", "b\u{feff}"]);
    assert_eq!(client.post("\u{feff}").status, 400, "there is no record");
    drop((client, ingest));
    let dir = tempfile::tempdir().unwrap();
    let ingest = HttpIngest::<Value>::json(dir.path(), IngestConfig::new()).unwrap();
    let mut client = Client::new(ingest.address());
    let json = [("Content-Type", "application/json")];
    assert_eq!(client.send("POST", "/", &json, "\u{feff}{\"a\":1}").status, 200);
    assert_eq!(client.post("\u{feff}1\n2\n").status, 200);
    let context = OpenContext::new("job", "in", 0, 1, Attempt::first(Term::new(1)));
    let mut reader = ingest.source().open(&context, None).unwrap();
    let mut records = Vec::new();
    while reader.read(7, &mut records).unwrap() == Progress::More {}
    assert_eq!(records, [serde_json::json!({ "a": 1 }), 1.into(), 2.into()]);
    // An integer that would become a float.
    let reply = client.post("18446744073709551615\n18446744073709551616\n");
    assert_eq!(reply.status, 400);
    assert!(reply.body.contains("line 2") && reply.body.contains("64 bits"), "{reply:?}");
}
