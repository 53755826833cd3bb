//! Records survive writing and reading: values stay under their columns' names, and a format
//! refuses a shape that it lacks.
//!
//! Longer than 500 lines: each test has the shapes of records that it is about beside it.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use snapline::BoxError;
use snapline::connect::{
    ConnectError, Csv, EncodeFile, FileSink, FileSource, Format, JsonLines, OpenContext, Progress,
    SinkCommitter, SinkWriter, Source, SourceReader, TwoPhaseSink, WebhookError, WebhookSink,
};
use snapline_core::connect::testing::granted;

use crate::{attempt, context, txn, typed};

/// The text of each committed file, from transactions of batches.
fn files<T, F>(format: F, transactions: Vec<Vec<Vec<T>>>) -> Result<Vec<String>, BoxError>
where
    T: Send + 'static,
    F: EncodeFile<T>,
{
    let dir = tempfile::tempdir().expect("a directory");
    let sink = FileSink::<T>::new(dir.path()).format(format);
    let life = attempt(1, 1);
    let (mut writer, mut committer) = sink.open(&context(0, life)).expect("opens");
    committer.fence(life).expect("fences");
    let mut texts = Vec::new();
    for (number, batches) in transactions.into_iter().enumerate() {
        for mut batch in batches {
            writer.write(&mut batch)?;
        }
        let name = txn(number as u64 + 1, life, 0);
        let one = writer.close(name).expect("closes");
        committer.prepare(name, &one).expect("prepares");
        committer.commit(granted(name), &one).expect("commits");
        for (file, _) in one.files() {
            texts.push(fs::read_to_string(dir.path().join(file)).expect("there"));
        }
    }
    Ok(texts)
}

/// The text of one file.
fn written<T, F>(format: F, batches: Vec<Vec<T>>) -> Result<String, BoxError>
where
    T: Send + 'static,
    F: EncodeFile<T>,
{
    Ok(files(format, vec![batches])?.remove(0))
}

/// A sink's refusal: the record, the field and the reason.
fn refused<T, F>(format: F, batches: Vec<Vec<T>>) -> (u64, Option<String>, String)
where
    T: Send + 'static,
    F: EncodeFile<T>,
{
    match typed(written(format, batches)) {
        ConnectError::Unwritable { record, field, why, .. } => (record, field, why),
        other => panic!("{other:?}"),
    }
}

fn read<T, F>(format: F, text: impl AsRef<[u8]>) -> Result<Vec<T>, BoxError>
where
    T: Send + 'static,
    F: Format<T>,
{
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("file");
    fs::write(&path, text).expect("writes");
    let source = FileSource::path(&path).decode::<T, F>(format);
    let context = OpenContext::new("job", "in", 0, 1, attempt(1, 1));
    let (mut reader, mut out) = (source.open(&context, None)?, Vec::new());
    while reader.read(3, &mut out)? != Progress::End {}
    Ok(out)
}

/// Records come back as they were, in one batch and in several.
fn same<T>(format: &Csv, records: &[T])
where
    T: Serialize + DeserializeOwned + Clone + PartialEq + Debug + Send + 'static,
{
    for size in [1, 2, records.len()] {
        let batches = records.chunks(size).map(<[T]>::to_vec).collect();
        let text = written(format.clone(), batches).unwrap_or_else(|error| panic!("{error}"));
        let back: Vec<T> =
            read(format.clone(), &text).unwrap_or_else(|error| panic!("{error} of {text:?}"));
        assert_eq!(back, records, "{text:?}");
    }
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Sides {
    id: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    left: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    right: Option<u64>,
}

fn sides(id: u64, left: impl Into<Option<u64>>, right: impl Into<Option<u64>>) -> Sides {
    Sides { id, left: left.into(), right: right.into() }
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Flat {
    id: u64,
    #[serde(flatten)]
    sides: Inner,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Inner {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    left: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    right: Option<u64>,
}

fn flat(id: u64, left: impl Into<Option<u64>>, right: impl Into<Option<u64>>) -> Flat {
    Flat { id, sides: Inner { left: left.into(), right: right.into() } }
}

#[test]
fn a_field_that_is_skipped_leaves_its_column_empty() {
    let records = [sides(1, None, 10), sides(2, 20, None), sides(3, 30, 31), sides(4, None, None)];
    same(&Csv::new(), &records);
    same(&Csv::new().columns(["id", "left", "right"]), &records);
    same(&Csv::new().header(["right", "id", "left"]), &records);
    let text = written(Csv::new(), vec![vec![records[0].clone()], records[1..].to_vec()]);
    assert_eq!(text.expect("writes"), "id,left,right\n1,,10\n2,20,\n3,30,31\n4,,\n");
    // A map does not report what it skips: it has a column if the first record had it, or if the
    // column is named.
    let flats = [flat(1, 1, 10), flat(2, 20, None), flat(3, None, 31), flat(4, None, None)];
    same(&Csv::new(), &flats);
    same(&Csv::new().header(["id", "left", "right"]), &[flat(1, None, None), flat(2, 1, None)]);
    let (record, field, why) =
        refused(Csv::new(), vec![vec![flat(1, 1, None)], vec![flat(2, 1, None), flat(3, 1, 2)]]);
    assert_eq!((record, field.as_deref()), (3, Some("right")));
    assert!(why.contains("no such column") && why.contains("header"), "{why}");
}

#[test]
fn all_files_of_a_writer_have_the_same_columns() {
    let texts = files(
        Csv::new(),
        vec![vec![vec![flat(1, 1, 10)]], vec![vec![flat(2, None, 20)], vec![flat(3, 3, None)]]],
    );
    assert_eq!(texts.expect("writes"), ["id,left,right\n1,1,10\n", "id,left,right\n2,,20\n3,3,\n"]);
    let error =
        typed(files(Csv::new(), vec![vec![vec![flat(1, None, 10)]], vec![vec![flat(2, 5, None)]]]));
    let text = error.to_string();
    assert!(text.starts_with("record 2 cannot be written as CSV: field `left`: "), "{text}");
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Other {
    Ab { a: u64, b: u64 },
    Ba { b: u64, a: u64 },
    Ac { a: u64, c: u64 },
    A { a: u64 },
    Pair(u64, u64),
}

#[test]
fn records_are_compared_with_the_columns_by_name() {
    let first = Other::Ab { a: 1, b: 2 };
    let text = written(Csv::new(), vec![vec![first.clone()], vec![Other::Ba { b: 20, a: 10 }]]);
    assert_eq!(text.expect("writes"), "a,b\n1,2\n10,20\n");
    for (other, field) in [
        (Other::Ac { a: 1, c: 3 }, Some("c")),
        (Other::A { a: 1 }, Some("b")),
        (Other::Pair(1, 2), None),
    ] {
        for batches in [
            vec![vec![first.clone()], vec![other.clone()]],
            vec![vec![first.clone(), other.clone()]],
        ] {
            let (record, named, why) = refused(Csv::new(), batches);
            assert_eq!((record, named.as_deref()), (2, field), "{other:?}: {why}");
        }
    }
    let (_, _, why) = refused(Csv::new(), vec![vec![Other::Pair(1, 2), first]]);
    assert!(why.contains("names"), "{why}");
}

#[test]
fn maps_are_rows_and_keys_are_columns() {
    let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let records =
        [map(&[("a", "1"), ("b", "2")]), map(&[("b", "3")]), map(&[]), map(&[("a", "x,y")])];
    let text = written(Csv::new(), vec![records.to_vec()]).expect("writes");
    assert_eq!(text, "a,b\n1,2\n,3\n,\n\"x,y\",\n");
    let (record, field, _) =
        refused(Csv::new(), vec![vec![records[1].clone()], vec![records[0].clone()]]);
    assert_eq!((record, field.as_deref()), (2, Some("a")));
    let (record, _, why) = refused(Csv::new(), vec![vec![records[2].clone()]]);
    assert!(record == 1 && why.contains("no fields"), "{why}");
    // Two fields of the same name.
    #[derive(Serialize)]
    struct Twice {
        a: u64,
        #[serde(flatten)]
        more: BTreeMap<&'static str, u64>,
    }
    let twice = Twice { a: 1, more: BTreeMap::from([("a", 2)]) };
    let (_, field, _) = refused(Csv::new(), vec![vec![twice]]);
    assert_eq!(field.as_deref(), Some("a"));
}

#[test]
fn rows_without_names_have_one_length() {
    let rows = |lengths: &[usize]| -> Vec<Vec<u8>> {
        lengths.iter().map(|&length| vec![7; length]).collect()
    };
    assert_eq!(written(Csv::new(), vec![rows(&[2]), rows(&[2])]).expect("writes"), "7,7\n7,7\n");
    for batches in [vec![rows(&[2, 3])], vec![rows(&[2]), rows(&[1])], vec![rows(&[1]), rows(&[0])]]
    {
        let (record, field, why) = refused(Csv::new(), batches);
        assert!(record == 2 && field.is_none() && why.contains("columns"), "{why}");
    }
    let named = Csv::new().header(["x", "y"]);
    assert_eq!(written(named.clone(), vec![vec![(1, "a")]]).expect("writes"), "x,y\n1,a\n");
    assert!(refused(named, vec![vec![(1, 2, 3)]]).2.contains("3 fields, where there are 2"));
}

#[test]
fn what_a_row_has_no_place_for_is_named() {
    #[derive(Serialize)]
    struct Nested {
        id: u64,
        at: (u64, u64),
    }
    let (record, field, why) = refused(Csv::new(), vec![vec![Nested { id: 1, at: (2, 3) }]]);
    assert_eq!((record, field.as_deref()), (1, Some("at")));
    assert!(why.contains("flatten"), "{why}");
    #[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
    enum Kind {
        Sale(Sides),
        Refund(Sides),
    }
    let (_, _, why) = refused(Csv::new(), vec![vec![Kind::Sale(sides(1, 2, 3))]]);
    assert!(why.contains("`Sale`") && why.contains("tag"), "{why}");
    // With the name in a field it has a place.
    #[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
    #[serde(tag = "kind")]
    enum Tagged {
        Sale(Sides),
        Refund(Sides),
    }
    let records = [
        Tagged::Sale(sides(1, None, 3)),
        Tagged::Refund(sides(1, 2, None)),
        Tagged::Sale(sides(4, 5, 6)),
    ];
    same(&Csv::new(), &records);
    let _ = Kind::Refund(sides(1, 1, 1));
}

#[test]
fn csv_keeps_every_number_and_every_text() {
    let numbers = [0.1, -0.0, 1e300, 5e-324, f64::INFINITY, f64::NEG_INFINITY, 1.0, 1e16];
    same(&Csv::new().columns(["a", "b"]), &numbers.map(|number| (number, 1)));
    let text = written(Csv::new(), vec![vec![(f64::NAN, f32::NAN)]]).expect("writes");
    assert_eq!(text, "NaN,NaN\n");
    let back: Vec<(f64, f32)> = read(Csv::new().columns(["a", "b"]), text).expect("reads");
    assert!(back[0].0.is_nan() && back[0].1.is_nan());
    same(&Csv::new(), &[(u128::MAX, i128::MIN), (0, 0)].map(|(a, b)| Wide { a, b }));
    let texts = [
        "",
        "a,b",
        "\"",
        "\"\"",
        "\r",
        "\n",
        "\r\n",
        " x ",
        "#",
        "\u{feff}x",
        "\\",
        "\\\"",
        "\\,",
        "'",
        "ü",
    ];
    for format in [
        Csv::new(),
        Csv::new().delimiter(b';').quote(b'\'').comment(b'#'),
        Csv::new().escape(b'\\'),
        Csv::new().escape(b'\\').double_quote(false),
        Csv::new().delimiter(b'\t').escape(b'\'').comment(b';'),
    ] {
        same(&format, &texts.map(|text| Texts { one: text.into(), two: text.into() }));
        same(&format, &texts.map(|text| One { only: text.into() }));
        let format = format.columns(["only"]);
        same(&format, &texts.map(|text| One { only: text.into() }));
        // Also at the beginning of the file, where a byte order mark would be skipped.
        texts.iter().for_each(|&text| same(&format, &[One { only: text.into() }]));
    }
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Wide {
    a: u128,
    b: i128,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Texts {
    one: String,
    two: String,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct One {
    only: String,
}

#[test]
fn without_quotes_what_needs_them_is_refused() {
    let format = Csv::new().no_quotes();
    same(&format, &["", "a", "\"a", "a\"b\""].map(|text| One { only: text.into() }));
    let (_, field, why) = refused(format, vec![vec![One { only: "a,b".into() }]]);
    assert!(field.as_deref() == Some("only") && why.contains("no_quotes"), "{why}");
    let format = Csv::new().double_quote(false);
    let (_, field, why) = refused(format, vec![vec![One { only: "a\"b".into() }]]);
    assert!(field.as_deref() == Some("only") && why.contains("escape"), "{why}");
}

#[test]
fn what_stands_for_two_things_is_refused() {
    for make in [
        (|| Csv::new().delimiter(b'"')) as fn() -> Csv,
        || Csv::new().quote(b','),
        || Csv::new().escape(b'"'),
        || Csv::new().comment(b'\n'),
        || Csv::new().escape(b'#').comment(b'#'),
    ] {
        assert!(std::panic::catch_unwind(make).is_err());
    }
}

fn ones(values: &[&str]) -> Vec<One> {
    values.iter().map(|value| One { only: (*value).into() }).collect()
}

#[test]
fn where_there_is_one_column_an_empty_line_is_an_empty_value() {
    for (text, values) in [
        ("only\na\n\nb\n", &["a", "", "b"][..]),
        ("only\r\na\r\n\r\nb\r\n", &["a", "", "b"]),
        ("only\ra\r\rb", &["a", "", "b"]),
        ("\n\r\n\nonly\n\n\n", &["", ""]),
        ("only\n\"\"\na", &["", "a"]),
        ("only\na\n\r", &["a", ""]),
        ("only\n", &[]),
        ("only", &[]),
        ("", &[]),
    ] {
        assert_eq!(read::<One, _>(Csv::new(), text).expect("reads"), ones(values), "{text:?}");
    }
    let text = written(Csv::new(), vec![ones(&["", "a", ""])]).expect("writes");
    assert_eq!(text, "only\n\"\"\na\n\"\"\n");
    let numbers: Vec<Option<u8>> = read(Csv::new().columns(["n"]), "1\n\n3\n").expect("reads");
    assert_eq!(numbers, [Some(1), None, Some(3)]);
}

/// From each position the rest is read, whatever the line ends; also where an earlier version left
/// it between the two bytes of one.
#[test]
fn positions_are_between_lines() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("a.csv");
    let text = "only\r\na\r\n\r\n\"b\r\n\"\r\n\r\nc\r\n";
    fs::write(&path, text).expect("writes");
    let source = FileSource::path(&path).csv::<One>();
    let context = OpenContext::new("job", "in", 0, 1, attempt(1, 1));
    let all = ones(&["a", "", "b\r\n", "", "c"]);
    let mut reader = source.open(&context, None).expect("opens");
    let mut before = Vec::new();
    loop {
        let position = reader.position();
        let (mut again, mut after) =
            (source.open(&context, Some(position)).expect("opens"), before.clone());
        while again.read(1, &mut after).expect("reads") != Progress::End {}
        assert_eq!(after, all, "after {}", before.len());
        if reader.read(1, &mut before).expect("reads") == Progress::End {
            break;
        }
    }
    for (at, rest) in [(5, 5), (8, 4), (10, 3), (17, 2)] {
        assert_eq!(text.as_bytes()[at], b'\n');
        let mut position =
            serde_json::to_value(source.open(&context, None).expect("opens").position())
                .expect("JSON");
        position["offset"] = at.into();
        let position = serde_json::from_value(position).expect("a position");
        let (mut reader, mut out) =
            (source.open(&context, Some(position)).expect("opens"), Vec::new());
        while reader.read(1, &mut out).expect("reads") != Progress::End {}
        assert_eq!(out, all[all.len() - rest..], "from byte {at}");
    }
}

#[test]
fn comments_and_empty_lines_are_passed_over_however_many_they_are() {
    let many = "\n".repeat(3 << 20);
    let commented = "# a comment, \"with a quote\n".repeat(100_000);
    let text = format!("{many}{commented}id,left,right\n{many}1,2,3\n{commented}{many}4,5,6\n#");
    let read: Vec<Sides> = read(Csv::new().comment(b'#'), text).expect("reads");
    assert_eq!(read, [sides(1, 2, 3), sides(4, 5, 6)]);
}

#[test]
fn comments_end_where_lines_do() {
    for end in ["\n", "\r\n", "\r"] {
        let format = || Csv::new().comment(b'#');
        let lines = ["# a", "only", "#", "a", "# \"b", "#", "c", "# d"];
        let text = lines.join(end);
        for text in [text.clone() + end, text] {
            let read: Vec<One> = read(format(), &text).expect("reads");
            assert_eq!(read, ones(&["a", "c"]), "{text:?}");
        }
        // Longer than one read, which may end between the two bytes.
        let comments: String = (0..70_000).map(|n| format!("#{n}{end}")).collect();
        let text = format!("id,left,right{end}{comments}1,2,3{end}{comments}");
        let read: Vec<Sides> = read(format(), &text).expect("reads");
        assert_eq!(read, [sides(1, 2, 3)]);
    }
}

#[test]
fn a_header_of_many_names_is_read_in_no_time() {
    let names: Vec<String> = (0..100_000).map(|n| format!("c{n}")).collect();
    let text = format!("{}\n", names.join(","));
    let begun = std::time::Instant::now();
    assert!(read::<BTreeMap<String, String>, _>(Csv::new(), &text).expect("reads").is_empty());
    let took = begun.elapsed();
    assert!(took.as_secs() < 5, "{took:?}");
    let error =
        typed(read::<BTreeMap<String, String>, _>(Csv::new(), format!("{},c7\n", names.join(","))));
    assert!(error.to_string().contains("two columns are named `c7`"), "{error}");
}

#[test]
fn values_of_any_type_keep_what_stands_in_the_file() {
    let fields = [
        "00501",
        "501",
        "-7",
        "-0",
        "+5",
        "1.50",
        "1.5",
        "1e3",
        "0x1F",
        "18446744073709551615",
        "18446744073709551616",
        "123456789012345678901234567890",
        "NaN",
        "inf",
        "true",
        "True",
        "",
        "0.1",
        "1.0",
        "9007199254740993",
        "0.1000000000000000055511151231257827",
        "1e400",
        " 1",
    ];
    let text: String = fields.iter().map(|field| format!("{field},x\n")).collect();
    let rows: Vec<BTreeMap<String, Value>> =
        read(Csv::new(), format!("v,w\n{text}")).expect("reads");
    for (row, field) in rows.iter().zip(fields) {
        let value = match &row["v"] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        assert_eq!(value, field);
    }
    assert_eq!(rows[0]["v"], Value::from("00501"));
    assert_eq!(rows[1]["v"], Value::from(501));
    // A whole record of any type has all its fields.
    let whole: Vec<Value> = read(Csv::new(), "a,b\n007,x\n").expect("reads");
    assert_eq!(whole, [serde_json::json!({ "a": "007", "b": "x" })]);
    let lists: Vec<Vec<Value>> = read(Csv::new(), "a,b\n007,x\n").expect("reads");
    assert_eq!(lists, [[Value::from("007"), Value::from("x")]]);
    // A unit has a field too, and the fields after it keep their places.
    #[derive(PartialEq, Debug, Deserialize)]
    struct Gap {
        a: u8,
        gap: (),
        b: u8,
    }
    assert_eq!(
        read::<Gap, _>(Csv::new(), "a,gap,b\n1,,2\n").expect("reads"),
        [Gap { a: 1, gap: (), b: 2 }]
    );
}

#[test]
fn numbers_of_flattened_and_tagged_records_are_read_however_they_are_written() {
    #[derive(Clone, PartialEq, Debug, Deserialize)]
    struct Price {
        cents: f64,
        note: Option<String>,
    }
    #[derive(PartialEq, Debug, Deserialize)]
    struct Order {
        id: u64,
        #[serde(flatten)]
        price: Price,
    }
    let order = |id, cents, note: Option<&str>| Order {
        id,
        price: Price { cents, note: note.map(Into::into) },
    };
    let text = "id,cents,note\n1,1.50,a\n2,1e5,\n3,+5,b\n4,.5,n\n5,2,c\n";
    let orders: Vec<Order> = read(Csv::new(), text).expect("reads");
    assert_eq!(
        orders,
        [
            order(1, 1.5, Some("a")),
            order(2, 1e5, Some("")),
            order(3, 5.0, Some("b")),
            order(4, 0.5, Some("n")),
            order(5, 2.0, Some("c")),
        ]
    );
    // An empty field and a number together; each alone would be easier.
    #[derive(PartialEq, Debug, Deserialize)]
    #[serde(tag = "kind")]
    enum Tagged {
        Sale { count: u64, left: Option<u64> },
    }
    let sales: Vec<Tagged> = read(Csv::new(), "kind,count,left\nSale,007,\n").expect("reads");
    assert_eq!(sales, [Tagged::Sale { count: 7, left: None }]);
    #[derive(PartialEq, Debug, Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        Number(u64),
        Yes(bool),
    }
    let rows: Vec<(Untagged, Untagged)> = read(Csv::new(), "a,b\n007,true\n").expect("reads");
    assert_eq!(rows, [(Untagged::Number(7), Untagged::Yes(true))]);
    // A malformed number is refused; a field that takes text keeps it.
    let error = typed(read::<Order, _>(Csv::new(), "id,cents,note\n1,1.5x,a\n"));
    assert!(matches!(error, ConnectError::Malformed { .. }), "{error}");
    let kept: Vec<BTreeMap<String, Value>> = read(Csv::new(), "a\n00501\n").expect("reads");
    assert_eq!(kept[0]["a"], Value::from("00501"));
}

#[test]
fn json_refuses_numbers_that_it_has_not() {
    #[derive(Clone, Serialize)]
    struct Order {
        id: u64,
        rows: Vec<Row>,
        none: Option<u8>,
    }
    #[derive(Clone, Serialize)]
    struct Row {
        price: f64,
        share: Option<f32>,
    }
    let good = Order { id: 1, rows: vec![Row { price: 0.5, share: None }], none: None };
    let text = written(JsonLines::new(), vec![vec![good.clone()]]).expect("writes");
    assert_eq!(text, "{\"id\":1,\"rows\":[{\"price\":0.5,\"share\":null}],\"none\":null}\n");
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut bad = good.clone();
        bad.rows.push(Row { price: number, share: None });
        let (record, field, why) = refused(JsonLines::new(), vec![vec![good.clone()], vec![bad]]);
        assert_eq!((record, field.as_deref()), (2, Some("rows[1].price")));
        assert!(why.contains(&number.to_string()), "{why}");
        let mut bad = good.clone();
        bad.rows[0].share = Some(number as f32);
        let (_, field, _) = refused(JsonLines::new(), vec![vec![bad]]);
        assert_eq!(field.as_deref(), Some("rows[0].share"));
        let (_, field, _) = refused(JsonLines::new(), vec![vec![number]]);
        assert_eq!(field, None);
        let map = BTreeMap::from([(7, BTreeMap::from([("x y", Some(number))]))]);
        let (_, field, _) = refused(JsonLines::new(), vec![vec![map]]);
        assert_eq!(field.as_deref(), Some("7.x y"));
        #[derive(Serialize)]
        enum Shape {
            New(f64),
            Pair(u8, f64),
            Named { side: f64 },
        }
        for (shape, way) in [
            (Shape::New(number), "New"),
            (Shape::Pair(1, number), "Pair[1]"),
            (Shape::Named { side: number }, "Named.side"),
        ] {
            let (_, field, _) = refused(JsonLines::new(), vec![vec![shape]]);
            assert_eq!(field.as_deref(), Some(way));
        }
    }
    // Requests are JSON too.
    let sink = WebhookSink::<(u64, f64)>::new("http://127.0.0.1:9/").expect("an address");
    let (mut writer, _) = sink.open(&context(0, attempt(1, 1))).expect("opens");
    let error = writer.write(&mut vec![(1, 0.5), (2, f64::NAN)]).expect_err("refused");
    let error = error.downcast::<WebhookError>().expect("a connector's error").to_string();
    assert!(error.contains("record 2: field `[1]`: it is NaN"), "{error}");
    // Keys that JSON cannot represent.
    let (record, _, why) = refused(JsonLines::new(), vec![vec![BTreeMap::from([((1, 2), 3)])]]);
    assert!(record == 1 && why.contains("key must be a string"), "{why}");
    // The text `null`, and integers of any size, are nothing special.
    let text = written(JsonLines::new(), vec![vec![("null", u128::MAX)]]).expect("writes");
    let back: Vec<(String, u128)> = read(JsonLines::new(), text).expect("reads");
    assert_eq!(back, [("null".to_owned(), u128::MAX)]);
}

#[test]
fn floats_come_back_bit_by_bit() {
    let mut floats = vec![1.2850000000000001, 6.934698245112694e276, -0.0, 5e-324, f64::MAX];
    floats.extend((0..10_000).map(|n| f64::from(n) * 1.1 + 0.37 / f64::from(n + 1)));
    let text = written(JsonLines::new(), vec![floats.clone()]).expect("writes");
    let back: Vec<f64> = read(JsonLines::new(), text).expect("reads");
    let bits = |floats: &[f64]| floats.iter().map(|float| float.to_bits()).collect::<Vec<_>>();
    assert!(bits(&back) == bits(&floats));
    let text = written(Csv::new().columns(["float"]), vec![floats.clone()]).expect("writes");
    let back: Vec<f64> = read(Csv::new().columns(["float"]), text).expect("reads");
    assert!(bits(&back) == bits(&floats));
}

#[test]
fn json_of_any_type_keeps_integers_or_refuses_them() {
    let (most, more) = (u64::MAX.to_string(), "18446744073709551616");
    let least = i64::MIN.to_string();
    let text = format!("[{most},{least},1e300,0.5]\n");
    let back: Vec<Value> = read(JsonLines::new(), text).expect("reads");
    assert_eq!(back[0][0], Value::from(u64::MAX));
    assert_eq!(back[0][1], Value::from(i64::MIN));
    for bad in [
        more.to_owned(),
        format!("{{\"a\":[1,-{more}]}}"),
        "-9223372036854775809".into(),
        format!("{{\"a\":\"\\\"1\",\"b\":{more}}}"),
    ] {
        let error = typed(read::<Value, _>(JsonLines::new(), format!("1\n{bad}\n")));
        let text = error.to_string();
        assert!(matches!(error, ConnectError::Malformed { line: Some(2), .. }), "{text}");
        assert!(text.contains("64 bits"), "{text}");
    }
    // Within a text, in a field that is not read, and where the type is known, it is accepted.
    #[derive(PartialEq, Debug, Deserialize)]
    struct Known {
        wide: u128,
        float: f64,
        text: Value,
    }
    let line =
        format!("{{\"wide\":{more},\"float\":{more},\"text\":\"{more}\",\"other\":[{more}]}}\n");
    let known: Vec<Known> = read(JsonLines::new(), line).expect("reads");
    assert_eq!(known[0].wide, u128::from(u64::MAX) + 1);
    assert_eq!(known[0].text, Value::from(more));
}
