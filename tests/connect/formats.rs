//! Records read from files: formats, compression, and malformed records.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use snapline::connect::{
    ConnectError, Csv, Decoded, FileSource, Format, JsonLines, Lines, Malformed, OnMalformed,
    OpenContext, Progress, Source, SourceReader,
};
use snapline::{BoxError, Either};

use crate::{attempt, through_a_checkpoint, typed};

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Order {
    id: u64,
    customer: String,
    cents: Option<i64>,
}

fn order(id: u64, customer: &str, cents: impl Into<Option<i64>>) -> Order {
    Order { id, customer: customer.into(), cents: cents.into() }
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).expect("writes");
        path
    }
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).expect("compresses");
    encoder.finish().expect("compresses")
}

fn zstandard(text: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("begins");
    // Without it damage may go undetected.
    encoder.include_checksum(true).expect("the checksum can be set");
    encoder.write_all(text).expect("compresses");
    encoder.finish().expect("compresses")
}

fn subtask(index: usize, parallelism: usize) -> OpenContext {
    OpenContext::new("job", "in", index, parallelism, attempt(1, 1))
}

/// All records that one subtask reads, and the number skipped.
fn read<S: Source>(source: &S) -> Result<(Vec<S::Record>, u64), BoxError> {
    let (mut reader, mut out) = (source.open(&subtask(0, 1), None)?, Vec::new());
    while reader.read(7, &mut out)? != Progress::End {}
    Ok((out, reader.malformed()))
}

fn all<S: Source>(source: &S) -> Vec<S::Record> {
    read(source).unwrap_or_else(|error| panic!("{error}")).0
}

fn orders(path: &Path) -> Decoded<Order, Csv> {
    FileSource::path(path).csv()
}

fn kept<T, F, P>(source: Decoded<T, F, P>) -> (Vec<T>, Vec<Malformed>)
where
    T: Clone + Send + 'static,
    F: Format<T>,
    P: OnMalformed<T>,
{
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for record in all(&source.keep_malformed()) {
        match record {
            Either::Left(record) => good.push(record),
            Either::Right(malformed) => bad.push(malformed),
        }
    }
    (good, bad)
}

const QUOTED: &str = "id,customer,cents\r\n1,\"Smith, John\",100\r\n\r\n2,\"said \"\"no\"\"\",\r\n3,\"two\nlines\r\n\",-5\r\n4,plain \"quoted\" word,7";

fn quoted() -> Vec<Order> {
    vec![
        order(1, "Smith, John", 100),
        order(2, "said \"no\"", None),
        order(3, "two\nlines\r\n", -5),
        order(4, "plain \"quoted\" word", 7),
    ]
}

#[test]
fn csv_fields_may_hold_delimiters_quotes_and_line_ends() {
    let place = Place::new();
    assert_eq!(all(&orders(&place.file("a.csv", QUOTED))), quoted());
    let with_mark = format!("\u{feff}{QUOTED}");
    assert_eq!(all(&orders(&place.file("b.csv", with_mark))), quoted());
}

#[test]
fn columns_are_found_by_name_or_are_said() {
    let place = Place::new();
    let other = place.file("other.csv", "cents;id;customer\n5;1;a\n");
    let source = FileSource::path(&other).decode::<Order, _>(Csv::new().delimiter(b';'));
    assert_eq!(all(&source), [order(1, "a", 5)]);
    let none = place.file("none.csv", "1,a,5\n2,b,6\n");
    let format = Csv::new().columns(["id", "customer", "cents"]);
    let source = FileSource::path(&none).decode::<Order, _>(format);
    assert_eq!(all(&source), [order(1, "a", 5), order(2, "b", 6)]);
    let pairs: Decoded<(u64, String, u8), _> =
        FileSource::path(&none).decode(Csv::new().columns(["", "", ""]));
    assert_eq!(all(&pairs), [(1, "a".to_owned(), 5), (2, "b".to_owned(), 6)]);
}

#[test]
fn every_file_has_its_header_and_may_have_nothing_else() {
    let place = Place::new();
    place.file("1.csv", "id,customer,cents\n1,a,\n");
    place.file("2.csv", "");
    place.file("3.csv", "id,customer,cents\n");
    place.file("4.csv", "customer,id,cents\nb,2,\n");
    place.file("5.csv", "\n\n");
    assert_eq!(all(&orders(place.0.path())), [order(1, "a", None), order(2, "b", None)]);
}

#[test]
fn compressed_files_are_read_as_what_they_say() {
    let place = Place::new();
    let half = QUOTED.len() / 2;
    let (one, two) = QUOTED.as_bytes().split_at(half);
    for (name, bytes) in [
        ("a.csv.gz", gzip(QUOTED.as_bytes())),
        ("a.csv.zst", zstandard(QUOTED.as_bytes())),
        ("two.csv.gz", [gzip(one), gzip(two)].concat()),
        ("two.csv.ZST", [zstandard(one), zstandard(two)].concat()),
    ] {
        assert_eq!(all(&orders(&place.file(name, bytes))), quoted(), "{name}");
    }
}

/// From each position, as a checkpoint holds it, the rest is read.
#[test]
fn a_position_is_a_byte_of_the_decompressed_file() {
    let place = Place::new();
    let text: String = (0..300).map(|n| format!("{n},\"customer\n{n}\",{n}\n")).collect();
    let text = format!("\u{feff}id,customer,cents\n{text}");
    for (name, bytes) in [
        ("a.csv", text.clone().into_bytes()),
        ("a.csv.gz", gzip(text.as_bytes())),
        ("a.csv.zst", zstandard(text.as_bytes())),
    ] {
        let source = orders(&place.file(name, bytes));
        let mut reader = source.open(&subtask(0, 1), None).expect("opens");
        let mut before = Vec::new();
        while before.len() < 300 {
            reader.read(11, &mut before).expect("reads");
            let position = through_a_checkpoint(&reader.position());
            let (mut again, mut after) =
                (source.open(&subtask(0, 1), Some(position)).expect("opens"), before.clone());
            while again.read(64, &mut after).expect("reads") != Progress::End {}
            let ids: Vec<u64> = after.iter().map(|order| order.id).collect();
            assert_eq!(ids, (0..300).collect::<Vec<_>>(), "{name}, after {}", before.len());
        }
    }
}

#[test]
fn a_malformed_record_fails_the_job_and_is_named() {
    let place = Place::new();
    let path = place.file("a.csv", "id,customer,cents\n1,a,1\n\n2,\"b\nb\",2\nthree,c,3\n4,d,4\n");
    let source = orders(&path);
    let mut reader = source.open(&subtask(0, 1), None).expect("opens");
    let mut out = Vec::new();
    let error = loop {
        match reader.read(1, &mut out) {
            Ok(progress) => assert_ne!(progress, Progress::End),
            Err(error) => break error,
        }
    };
    assert_eq!(out, [order(1, "a", 1), order(2, "b\nb", 2)]);
    let error = *error.downcast::<ConnectError>().expect("a connector's error");
    let named = matches!(&error, ConnectError::Malformed { path: named, line: Some(6), offset: 35, .. } if *named == path);
    assert!(named, "{error:?}");
    let text = error.to_string();
    assert!(text.contains("line 6: column `id`: invalid digit"), "{text}");
    assert!(text.contains(".skip_malformed()"), "{text}");
    // The malformed record does not move the position.
    assert_eq!(reader.position().next(), Some((path.as_path(), 35)));
}

#[test]
fn malformed_records_are_skipped_and_counted_across_restores() {
    let place = Place::new();
    let lines: String = (0..100)
        .map(|n| if n % 10 == 0 { format!("{n}\n") } else { format!("{n},c,\n") })
        .collect();
    let source =
        orders(&place.file("a.csv", format!("id,customer,cents\n{lines}"))).skip_malformed();
    let (good, skipped) = read(&source).expect("reads");
    assert_eq!((good.len(), skipped), (90, 10));
    let (mut out, mut position) = (Vec::new(), None);
    loop {
        let mut reader = source.open(&subtask(0, 1), position).expect("opens");
        let progress = reader.read(13, &mut out).expect("reads");
        position = Some(through_a_checkpoint(&reader.position()));
        if progress == Progress::End {
            assert_eq!((out.len(), reader.malformed()), (90, 10));
            assert_eq!(reader.position().skipped(), 10);
            break;
        }
    }
}

#[test]
fn malformed_records_are_kept_with_where_they_are() {
    let place = Place::new();
    let bytes = b"id,customer,cents\n1,a\n2,b,2,2\n3,\xff,3\n4,d,4\n,e,5\n";
    let path = place.file("a.csv", bytes);
    let (good, bad) = kept(orders(&path));
    assert_eq!(good, [order(4, "d", 4)]);
    let told: Vec<_> = bad.iter().map(|bad| (bad.line, bad.offset, bad.why.as_str())).collect();
    assert_eq!(
        told,
        [
            (Some(2), 18, "2 fields, where there are 3 columns"),
            (Some(3), 22, "4 fields, where there are 3 columns"),
            (Some(4), 30, "column `customer`: invalid utf-8 sequence of 1 bytes from index 0"),
            (Some(6), 42, "column `id`: cannot parse integer from empty string"),
        ]
    );
    assert_eq!(bad[0].raw, b"1,a\n");
    assert_eq!(bad[2].raw, b"3,\xff,3\n");
    assert_eq!(bad[2].text(), "3,\u{fffd},3");
    assert!(bad.iter().all(|bad| bad.file == path.to_str().expect("UTF-8")));
    let again: Malformed = through_a_checkpoint(&bad[2]);
    assert_eq!(again, bad[2]);
}

#[test]
fn a_quote_that_is_not_closed_costs_one_line() {
    let place = Place::new();
    let path = place.file("a.csv", "id,customer,cents\n1,a,1\n\n2,\"b,2\n3,c,3\n4,d,4\n");
    let (good, bad) = kept(orders(&path));
    assert_eq!(good, [order(1, "a", 1), order(3, "c", 3), order(4, "d", 4)]);
    assert_eq!(bad.len(), 1);
    assert_eq!((bad[0].line, bad[0].raw.as_slice()), (Some(4), &b"2,\"b,2\n"[..]));
    assert_eq!(bad[0].why, "a quote is opened and not closed");
    let error = typed(read(&orders(&path)));
    assert!(matches!(error, ConnectError::Malformed { line: Some(4), .. }), "{error}");
}

#[test]
fn a_record_that_is_too_long_is_not_taken_into_memory() {
    let place = Place::new();
    let long = format!("1,{},1\n", "x".repeat(20_000_000));
    let text = format!("id,customer,cents\n{long}2,b,2\n");
    for (name, bytes) in [("a.csv.gz", gzip(text.as_bytes())), ("a.csv", text.clone().into_bytes())]
    {
        let path = place.file(name, bytes);
        let source = orders(&path).max_record_bytes(1000);
        let (good, bad) = kept(source.clone());
        assert_eq!(good, [order(2, "b", 2)], "{name}");
        assert_eq!((bad[0].line, bad[0].raw.len()), (Some(2), 1000));
        assert_eq!(bad[0].why, "it has more than 1000 bytes");
        assert_eq!(read(&source.skip_malformed()).expect("reads").1, 1);
        let error = typed(read(&orders(&path)));
        assert!(error.to_string().contains("more than 1048576 bytes"), "{error}");
    }
    // Within quotes, over many lines: reading resumes at the next line.
    let quoted = format!("id,customer,cents\n1,\"{}\n2,b,2\n", "9,y,9\n".repeat(100));
    let source = orders(&place.file("b.csv", quoted)).max_record_bytes(200);
    let (good, bad) = kept(source);
    assert_eq!(good.len(), 100);
    assert_eq!(good.last(), Some(&order(2, "b", 2)));
    assert_eq!((bad.len(), bad[0].text().as_str()), (1, "1,\"9,y,9"));
    // A record of exactly that length is allowed.
    let path = place.file("c.csv", "id,customer,cents\n1,abcdefghijk,1\n");
    assert_eq!(all(&orders(&path).max_record_bytes(18)).len(), 1);
    let error = typed(read(&orders(&path).max_record_bytes(17)));
    assert!(error.to_string().contains("the header: it has more than 17 bytes"), "{error}");
}

#[test]
fn damaged_compressed_files_fail_whatever_is_said_of_records() {
    let place = Place::new();
    let lines: String = (0..50_000).map(|n| format!("{n},{},\n", n * 7919 % 10_007)).collect();
    let text = format!("id,customer,cents\n{lines}");
    let (gz, zst) = (gzip(text.as_bytes()), zstandard(text.as_bytes()));
    for (name, bytes) in [("a.csv.gz", gz), ("a.csv.zst", zst)] {
        let path = place.file(name, &bytes[..bytes.len() / 2]);
        let error = typed(read(&orders(&path).skip_malformed()));
        let text = error.to_string();
        assert!(matches!(error, ConnectError::Damaged { .. }), "{text}");
        assert!(text.contains("cut short after") && text.contains(name), "{text}");
        let mut changed = bytes.clone();
        let middle = changed.len() / 2;
        changed[middle..middle + 8].fill(0xa5);
        let path = place.file(name, changed);
        let error = typed(read(&orders(&path).skip_malformed()));
        assert!(matches!(error, ConnectError::Damaged { .. }), "{error}");
        let path = place.file(name, "id,customer,cents\n");
        assert!(matches!(typed(read(&orders(&path))), ConnectError::Damaged { .. }));
    }
}

#[test]
fn headers_that_cannot_be_are_refused() {
    let place = Place::new();
    for (header, why) in [
        (&b"id,id,cents\n1,2,3\n"[..], "two columns are named `id`"),
        (b"id,\xff,cents\n1,2,3\n", "the name of column 2 is not UTF-8"),
        (b"id,\"customer,cents\n1,2,3\n", "a quote is opened and not closed"),
    ] {
        let error = typed(read(&orders(&place.file("a.csv", header)).skip_malformed()));
        assert!(error.to_string().contains(why), "{error}");
    }
    // A missing column is missing in every record.
    let (good, bad) = kept(orders(&place.file("a.csv", "id,name,cents\n1,a,1\n2,b,2\n")));
    assert!(good.is_empty());
    assert!(bad.len() == 2 && bad[0].why.contains("missing field `customer`"), "{}", bad[0].why);
}

#[test]
fn json_lines_are_values() {
    let place = Place::new();
    let text = "{\"id\":1,\"customer\":\"a\",\"cents\":null}\r\n\n  \n{\"cents\":2,\"id\":2,\"customer\":\"\\u0062\\n\"}\n{\"id\":3}\n[3\n{\"id\":4,\"customer\":\"d\"}";
    let path = place.file("a.jsonl", text);
    let (good, bad) = kept(FileSource::path(&path).json_lines::<Order>());
    assert_eq!(good, [order(1, "a", None), order(2, "b\n", 2), order(4, "d", None)]);
    let told: Vec<_> = bad.iter().map(|bad| (bad.line, bad.why.as_str())).collect();
    let expected = [
        (Some(5), "missing field `customer`, at byte 8 of the line"),
        (Some(6), "invalid type: integer `3`, expected a string, at byte 2 of the line"),
    ];
    assert_eq!(told[0], expected[0]);
    assert_eq!(told[1].0, expected[1].0);
    let not_utf8 = place.file("b.jsonl", b"\"a\"\n\"\xff\"\n");
    let error = typed(read(&FileSource::path(not_utf8).json_lines::<String>()));
    assert!(error.to_string().contains("line 2: invalid unicode"), "{error}");
}

#[test]
fn lines_are_text_or_what_is_made_of_it() {
    let place = Place::new();
    let path = place.file("a.log.gz", gzip(b"1\r\n\n\xff\n2"));
    let (good, bad) = kept(FileSource::path(&path).decode::<String, _>(Lines::new()));
    assert_eq!(good, ["1", "", "2"]);
    assert_eq!((bad[0].line, bad[0].why.as_str()), (Some(3), "byte 1 of the line is not UTF-8"));
    let number = |line: &str| -> Result<u32, BoxError> { Ok(line.parse()?) };
    let (good, bad) = kept(FileSource::path(&path).decode(Lines::parsed(number)));
    assert_eq!(good, [1, 2]);
    assert_eq!(bad[0].why, "cannot parse integer from empty string");
}

#[test]
fn files_are_read_in_pieces_only_where_a_record_is_a_line() {
    let place = Place::new();
    let text: String = (0..200).map(|n| format!("{n}\n")).collect();
    let path = place.file("a.jsonl", &text);
    place.file("b.jsonl.gz", gzip(text.as_bytes()));
    let pieces = |path: &Path| FileSource::path(path).split_bytes(64);
    let share = |source: &Decoded<u32, JsonLines>, index| {
        let (mut reader, mut out) =
            (source.open(&subtask(index, 3), None).expect("opens"), Vec::new());
        while reader.read(5, &mut out).expect("reads") != Progress::End {}
        out
    };
    let source = pieces(&path).json_lines::<u32>();
    let shares: Vec<Vec<u32>> = (0..3).map(|index| share(&source, index)).collect();
    assert!(shares.iter().all(|share| share.len() > 40), "{shares:?}");
    let mut together = shares.concat();
    together.sort_unstable();
    assert_eq!(together, (0..200).collect::<Vec<_>>());
    let source = pieces(&place.0.path().join("b.jsonl.gz")).json_lines::<u32>();
    assert_eq!(share(&source, 0).len(), 200);
    // The error for a malformed record of a piece names its byte.
    let path = place.file("c.jsonl", format!("{text}x\n"));
    let error = typed(read(&pieces(&path).json_lines::<u32>()));
    let expected = format!("the record at byte {}", text.len());
    assert!(error.to_string().contains(&expected), "{error}");
}

#[test]
fn files_that_shrink_vanish_or_are_others_are_named() {
    let place = Place::new();
    let lines: String = (0..40_000).map(|n| format!("{n},customer,\n")).collect();
    let path = place.file("a.csv", format!("id,customer,cents\n{lines}"));
    let source = orders(&path);
    let mut reader = source.open(&subtask(0, 1), None).expect("opens");
    let mut out = Vec::new();
    reader.read(100, &mut out).expect("reads");
    let position = through_a_checkpoint(&reader.position());
    fs::File::options().write(true).open(&path).expect("opens").set_len(300_005).expect("cuts");
    let error = typed(loop {
        match reader.read(1000, &mut out) {
            Ok(Progress::End) => break Ok(()),
            Ok(_) => {}
            Err(error) => break Err(error),
        }
    });
    assert!(matches!(error, ConnectError::Shrunk { found: 300_005, .. }), "{error}");
    let reopened = source.open(&subtask(0, 1), Some(position.clone()));
    assert!(matches!(typed(reopened), ConnectError::Shrunk { .. }));
    fs::remove_file(&path).expect("removes");
    let reopened = source.open(&subtask(0, 1), Some(position.clone()));
    assert!(matches!(typed(reopened), ConnectError::Vanished { .. }));
    // A position after the end of the text of a compressed file.
    let gz = place.file("a.csv.gz", gzip(b"id,customer,cents\n1,a,1\n"));
    let text = serde_json::to_string(&position).expect("can be written");
    let size = fs::metadata(&gz).expect("there").len();
    let mut value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    value["pieces"][0]["split"]["file"] = gz.to_str().expect("UTF-8").into();
    value["pieces"][0]["split"]["size"] = size.into();
    value["pieces"][0]["split"]["mark"] = serde_json::Value::Null;
    let position = serde_json::from_value(value).expect("a position");
    let mut reader = source.open(&subtask(0, 1), Some(position)).expect("opens");
    let error = typed((0..9).try_for_each(|_| reader.read(9, &mut out).map(|_| ())));
    assert!(matches!(error, ConnectError::BadPosition { .. }), "{error}");
}
