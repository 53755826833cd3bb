//! The input of a source: CSV and JSON lines, compressed or not.

use std::cell::OnceCell;
use std::fmt::Debug;
use std::io::Write;
use std::path::PathBuf;

use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use snapline::Either;
use snapline::connect::{
    Attempt, Csv, Decoder, EncodeFile, FileEncoder, FileSource, Format, JsonLines, Malformed,
    OpenContext, Progress, Source, SourceReader,
};
use snapline_protocol::ids::Term;
use tempfile::TempDir;

use crate::{plain, seed, shown};

/// Words of CSV.
pub const CSV: &[&str] =
    &["\"", "\"\"", "\r\n", "\r", "\n", ",", ";", "#", "\\", "'", "\u{feff}", "a,b,c\n", "\u{0}"];

/// Words of JSON lines.
pub const JSON: &[&str] = &[
    "\n",
    "\r\n",
    "{\"a\":1}",
    "[[[[[[[[",
    "1e999",
    "-0.0",
    "18446744073709551616",
    "123456789012345678901234567890",
    "\\ud800",
    "\u{feff}",
    "null",
    "\u{1f}\u{8b}\u{8}",
];

/// The longest record.
const LONGEST: usize = 512;

/// The largest number of reads: a small file may decompress to a large one.
const PATIENCE: usize = 1 << 10;

thread_local! {
    static PLACE: OnceCell<TempDir> = const { OnceCell::new() };
}

/// A file of this thread, with these bytes.
fn file(name: &str, bytes: &[u8]) -> PathBuf {
    PLACE.with(|place| {
        let dir = place.get_or_init(|| tempfile::tempdir().expect("a directory can be made"));
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).expect("a file can be written");
        path
    })
}

/// The results of a source: records, malformed records, and the end, if it comes in time.
type Given<T> = (Vec<Either<T, Malformed>>, Option<Result<(), String>>);

fn read<S, T>(source: &S, subtask: usize, of: usize) -> Given<T>
where
    S: Source<Record = Either<T, Malformed>>,
{
    let context = OpenContext::new("job", "in", subtask, of, Attempt::first(Term::new(1)));
    let mut records = Vec::new();
    let mut reader = match source.open(&context, None) {
        Ok(reader) => reader,
        Err(error) => return (records, Some(Err(error.to_string()))),
    };
    for _ in 0..PATIENCE {
        match reader.read(64, &mut records) {
            Ok(Progress::End) => return (records, Some(Ok(()))),
            Ok(_) => {}
            Err(error) => return (records, Some(Err(error.to_string()))),
        }
    }
    (records, None)
}

/// Errors can be shown, and malformed records are bounded in size.
fn look<T>((records, ended): &Given<T>) {
    for record in records {
        if let Either::Right(malformed) = record {
            shown(&malformed.why);
            assert!(malformed.raw.len() <= LONGEST, "{} bytes", malformed.raw.len());
        }
    }
    if let Some(Err(why)) = ended {
        plain(&why.replace(char::is_control, ""));
    }
}

/// The valid records alone.
fn good<T>(records: Vec<Either<T, Malformed>>) -> Vec<T> {
    let good = |record| match record {
        Either::Left(record) => Some(record),
        Either::Right(_) => None,
    };
    records.into_iter().filter_map(good).collect()
}

/// The records of the bytes, which the decoder gets in pieces of this size.
fn decoded<T: Debug, F: Format<T>>(format: &F, mut bytes: &[u8], piece: usize) -> Vec<String> {
    let (mut decoder, mut found) = (format.decoder(), Vec::new());
    let mut header = decoder.has_header();
    while !bytes.is_empty() {
        let (mut seen, mut end) = (0, None);
        while end.is_none() && seen < bytes.len() {
            let upto = bytes.len().min(seen + piece);
            end = decoder.scan(&bytes[seen..upto]).map(|more| seen + more);
            seen = upto;
        }
        let raw = &bytes[..end.unwrap_or(bytes.len())];
        assert!(end.is_none_or(|end| end > 0), "a record has bytes");
        bytes = &bytes[raw.len()..];
        let ends = match end {
            Some(_) => Ok(true),
            None => decoder.finish(raw),
        };
        match ends {
            Ok(true) if decoder.is_nothing(raw) => {}
            Ok(true) if header => {
                header = false;
                if let Err(why) = decoder.header(raw) {
                    found.push(why);
                    break;
                }
            }
            Ok(true) => found.push(format!("{:?}", decoder.decode(raw))),
            Ok(false) => {}
            Err(why) => found.push(why),
        }
        if end.is_none() {
            decoder.reset();
        }
    }
    found
}

/// Written records are read again as the same.
fn again<T, F>(format: &F, records: Vec<T>)
where
    T: Clone + PartialEq + Debug + Send + 'static,
    F: Format<T> + EncodeFile<T>,
{
    let (mut encoder, mut bytes) = (format.encoder(), Vec::new());
    let mut left = records.clone();
    let written = encoder.encode(&mut left, &mut bytes).and_then(|()| encoder.end(&mut bytes));
    if let Err(error) = written {
        // Without quotes, a separator in a field cannot be written.
        return shown(&error);
    }
    let source = FileSource::path(file("again", &bytes)).decode(format.clone()).keep_malformed();
    let (found, ended) = read(&source, 0, 1);
    assert!(matches!(ended, Some(Ok(()))), "{ended:?}");
    assert!(found.iter().all(|it| matches!(it, Either::Left(_))), "{found:?} of {records:?}");
    assert_eq!(good(found), records);
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Row {
    a: Option<i64>,
    b: String,
    #[serde(default)]
    c: Option<bool>,
}

/// CSV, in the dialect that the first byte selects.
pub fn csv(bytes: &[u8]) {
    let Some((&mode, bytes)) = bytes.split_first() else { return };
    let mut format = Csv::new();
    if mode & 1 == 1 {
        format = format.columns(["a", "b", "c"]);
    }
    format = match mode >> 1 & 3 {
        0 => format,
        1 => format.delimiter(b';').comment(b'#'),
        2 => format.quote(b'\'').escape(b'\\').double_quote(mode & 8 == 0),
        _ => format.no_quotes().delimiter(b'\t'),
    };
    let source = FileSource::path(file("in.csv", bytes)).decode::<Row, _>(format.clone());
    let rows = read(&source.keep_malformed().max_record_bytes(LONGEST), 0, 1);
    look(&rows);
    again(&format, good(rows.0));
    let source = FileSource::path(file("in.csv", bytes)).decode::<Vec<String>, _>(format.clone());
    look(&read(&source.keep_malformed().max_record_bytes(LONGEST), 0, 1));
    let whole = decoded::<Vec<String>, _>(&format, bytes, usize::MAX >> 1);
    for piece in [1, 3] {
        assert_eq!(decoded::<Vec<String>, _>(&format, bytes, piece), whole, "{piece} at a time");
    }
}

/// Seeds of [`csv`].
#[must_use]
pub fn csv_files() -> Vec<Vec<u8>> {
    let rows = vec![
        Row { a: Some(1), b: "x, \"y\"\nz".into(), c: Some(true) },
        Row { a: None, b: String::new(), c: None },
    ];
    let (mut encoder, mut bytes) = (EncodeFile::<Row>::encoder(&Csv::new()), Vec::new());
    encoder.encode(&mut rows.clone(), &mut bytes).expect("the rows can be encoded");
    vec![
        seed(0, &bytes),
        seed(1, b"1,one,true\r\n,,\r\n"),
        seed(2, b"# a comment\na;b;c\n1;x;\n\n2;\"y;\";false"),
        seed(4, b"a,b,c\r1,'it\\'s',true\r2,'two ''quotes''',\r"),
        seed(7, b"1\tx\ty\n"),
        seed(0, b"\xef\xbb\xbfa\n\n1\n\"\"\n"),
    ]
}

/// JSON lines. By the first byte the file is compressed, and the bytes are those of the compressed
/// file or of its lines.
pub fn json_lines(bytes: &[u8]) {
    let Some((&mode, bytes)) = bytes.split_first() else { return };
    let (end, whole) = match mode % 5 {
        0 => ("jsonl", bytes.to_vec()),
        1 => ("jsonl.gz", bytes.to_vec()),
        2 => ("jsonl.zst", bytes.to_vec()),
        3 => ("jsonl.gz", gzip(bytes)),
        _ => ("jsonl.zst", zstd::encode_all(bytes, 1).expect("a vector accepts all bytes")),
    };
    let source = |name: &str, bytes: &[u8]| FileSource::path(file(name, bytes));
    let values = |source: FileSource| {
        let lines = source.decode::<Value, _>(JsonLines::new()).keep_malformed();
        lines.max_record_bytes(LONGEST).max_zstd_window(1 << 20)
    };
    let given = read(&values(source(&format!("in.{end}"), &whole)), 0, 1);
    look(&given);
    if mode % 5 > 2 {
        let plain = read(&values(source("in.jsonl", bytes)), 0, 1);
        // An error names its file.
        let unnamed = |error: String| error.replace(&format!("in.{end}"), "in.jsonl");
        let ended = given.1.clone().map(|ended| ended.map_err(unnamed));
        assert_eq!((&plain.1, plain.0.len()), (&ended, given.0.len()), "compressed or not");
    }
    if mode % 5 == 0 {
        // Several readers of pieces of the file find together what one reader finds.
        let (mut pieces, mut read_all) = (Vec::new(), true);
        for subtask in 0..3 {
            let lines = values(source("in.jsonl", bytes).split_bytes(16));
            let (records, ended) = read(&lines, subtask, 3);
            read_all &= matches!(ended, Some(Ok(())));
            pieces.extend(good(records));
        }
        assert_eq!(read_all, matches!(given.1, Some(Ok(()))), "in pieces or not");
        let mut one = good(given.0.clone());
        let text = |value: &Value| value.to_string();
        one.sort_by_key(text);
        pieces.sort_by_key(text);
        assert!(!read_all || pieces == one, "{pieces:?} in pieces, {one:?} by one reader");
    }
    if mode % 5 < 3 {
        // Numbers of JSON are equal to themselves.
        again(&JsonLines::new(), good(given.0));
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("a vector accepts all bytes");
    encoder.finish().expect("a vector accepts all bytes")
}

/// Seeds of [`json_lines`].
#[must_use]
pub fn json_files() -> Vec<Vec<u8>> {
    let lines: &[u8] = b"{\"a\":1,\"b\":\"x\"}\n[1,2.5,null]\r\n\"text\"\n\nno json\n{\"a\":-0.0}";
    let zst = zstd::encode_all(lines, 1).expect("a vector accepts all bytes");
    let gz = gzip(lines);
    vec![
        seed(0, lines),
        seed(1, &gz),
        seed(1, &[&gz[..], &gz, &[0; 9]].concat()),
        seed(2, &zst),
        seed(2, &[&zst[..], &zst].concat()),
        seed(3, lines),
        seed(4, lines),
    ]
}
