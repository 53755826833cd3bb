//! Files of killed jobs of earlier revisions: the present revision must always be able to open and
//! resume them.
//!
//! `kept/` has a folder for each revision that wrote some, with one archive for each job. It holds
//! checkpoints, a transaction that was complete and not yet committed, output, an ingest log, and
//! recorded runs. The jobs are those of the crash suite and two more, with features that the suite
//! lacks: an ingest log, a lookup table, requests that wait to be sent, a custom sink, Parquet, and
//! values of many shapes.
//!
//! To keep the present revision's files after a format has changed (never over an older folder):
//! `SNAPLINE_KEEP=tests/crash/kept/REVISION cargo test --all-features --test crash kept`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;
use parquet_derive::ParquetRecordWriter;
use rusqlite::{Connection, Transaction};
use serde::{Deserialize, Serialize};
use snapline::connect::{
    Collect, FileSink, HttpIngest, IngestConfig, SqliteLookup, SqliteSink, WebhookSink,
};
use snapline::store::{LocalStore, Takeover};
use snapline::{Dataflow, Emitter, Ended, JobConfig, KeyState, Lookup, Storage};

use crate::child::Numbers;
use crate::kill_points::{Mortal, MortalStore, place};
use crate::plan::{JobPlan, Life, Shape};
use crate::{custom_sink, live, verify};

/// Environment variable: the folder in which to keep the present revision's files.
const KEEP: &str = "SNAPLINE_KEEP";

/// The beginning of a child's text for a job of this module.
pub(crate) const KEPT: &str = "kept ";

/// The plan of a kept job of the crash suite.
fn plan(shape: Shape) -> JobPlan {
    JobPlan { shape, interval: 10, retained: 2, concurrent: 1 }
}

/// The child's text for a job, by the name of its folder. The job's directory is the current one,
/// because positions hold the paths of files.
fn text(name: &str) -> String {
    match Shape::ALL.iter().find(|shape| format!("{shape:?}") == name) {
        Some(shape) => plan(*shape).to_text(Path::new(".")),
        None => format!("{KEPT}{name} ."),
    }
}

/// The entries of a directory, by name.
fn listed(dir: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let paths = entries.map(|entry| entry.expect("it can be listed").path());
    let named = paths.map(|path| {
        let name = path.file_name().expect("it has one").to_string_lossy().into_owned();
        (name, path)
    });
    let mut all: Vec<_> = named.collect();
    all.sort();
    all
}

/// Lets a job be killed when its fourth transaction of a complete checkpoint is about to be
/// committed, and keeps its files.
fn keep(name: &str, into: &Path) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let came = live(&text(name), Life::Point(place("commit-before"), 4), dir.path());
    let came = came.unwrap_or_else(|wrong| panic!("{name}: {wrong}"));
    assert!(came.killed, "{name} was not killed");
    let into = into.join(format!("{name}.tar.gz"));
    let file = fs::File::create_new(&into);
    let file = file.unwrap_or_else(|error| panic!("{}: {error}", into.display()));
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::best()));
    archive.append_dir_all(".", dir.path()).expect("it is written");
    archive.into_inner().expect("it is written").finish().expect("it is written");
}

/// Resumes the job from these files and returns its errors.
fn go_on(name: &str, kept: &Path) -> Vec<String> {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let mut archive = tar::Archive::new(GzDecoder::new(fs::File::open(kept).expect("it opens")));
    // With their modification times: a changed file is another one.
    archive.unpack(dir.path()).expect("it is an archive");
    let before = LocalStore::inspect(dir.path().join("checkpoints")).expect("it can be read");
    let newest = snapline::store::Store::manifests(&before).expect("they can be listed").pop();
    match live(&text(name), Life::Natural, dir.path()) {
        Ok(came) if came.checkpoints > 0 && newest.is_some() => {}
        Ok(_) => return vec!["there was nothing to go on from".to_owned()],
        Err(wrong) => return vec![wrong],
    }
    let mut wrong = Vec::new();
    match Shape::ALL.iter().find(|shape| format!("{shape:?}") == name) {
        Some(shape) => {
            let job = plan(*shape);
            wrong.extend(verify::output(&job, dir.path()).wrong);
            wrong.extend(verify::store(&job, dir.path()));
            wrong.extend(verify::leftovers(&job, dir.path()));
        }
        None if name == "Shop" => wrong.extend(shop_is_right(dir.path())),
        None => wrong.extend(values_are_right(dir.path())),
    }
    // Of the old runs and the new one.
    let (lines, _, different) = verify::traces(dir.path());
    wrong.extend(different);
    if lines == 0 {
        wrong.push("nothing was recorded".to_owned());
    }
    wrong
}

#[test]
fn what_is_kept_of_earlier_revisions_opens_and_goes_on() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if let Ok(into) = std::env::var(KEEP) {
        let shapes = Shape::ALL.iter().map(|shape| format!("{shape:?}"));
        fs::create_dir_all(root.join(&into)).expect("it can be made");
        for name in shapes.chain(["Shop".to_owned(), "Values".to_owned()]) {
            keep(&name, &root.join(&into));
        }
        return;
    }
    let (mut wrong, mut jobs) = (Vec::new(), 0);
    for (revision, kept) in listed(&root.join("tests/crash/kept")) {
        for (name, kept) in listed(&kept) {
            jobs += 1;
            let name = name.strip_suffix(".tar.gz").expect("an archive");
            wrong.extend(
                go_on(name, &kept).into_iter().map(|it| format!("{revision}/{name}: {it}")),
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(jobs >= 12, "only {jobs} jobs are kept");
}

/// The child: one of the two jobs of this module, to its end unless it is killed.
pub(crate) fn run(text: &str) {
    let (name, dir) = text.split_once(' ').expect("two words");
    let dir = Path::new(dir);
    let store = LocalStore::open(crate::checkpoints(dir), Takeover::Refuse).expect("it is free");
    let config = JobConfig::new()
        .parallelism(2)
        .key_groups(16)
        .checkpoint_interval(Duration::from_millis(10))
        .retained_checkpoints(2)
        .record(crate::traces(dir))
        .storage(Storage::Custom(Arc::new(MortalStore(Arc::new(store)))));
    let flow = Dataflow::new("kept");
    if name == "Shop" {
        let ingest = shop(&flow, dir);
        let job = flow.build(config).expect("it is well formed").spawn().expect("it starts");
        order(&ingest);
        let outcome = job.wait().expect("it does not fail");
        assert_eq!((outcome.ended, outcome.status.restarts), (Ended::Finished, 0));
    } else {
        values(&flow, dir);
        let job = flow.build(config).expect("it is well formed").spawn().expect("it starts");
        let outcome = job.wait().expect("it does not fail");
        assert_eq!((outcome.ended, outcome.status.restarts), (Ended::Finished, 0));
    }
}

// Orders by HTTP, looked up in a table, summed by customer into another, and each sent to a
// receiver.

const ORDERS: u64 = 120;
const CUSTOMERS: [&str; 4] = ["Ada", "Grace", "Edsger", "Barbara"];

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Order {
    number: u64,
    customer: i64,
    cents: i64,
}

fn order_of(number: u64) -> Order {
    Order { number, customer: number as i64 % 5, cents: 100 + number as i64 }
}

fn name_of(customer: i64) -> String {
    CUSTOMERS.get(customer as usize).map_or_else(|| "?".to_owned(), ToString::to_string)
}

fn shop(flow: &Dataflow, dir: &Path) -> HttpIngest<Order> {
    let database = dir.join("shop.db");
    if !database.exists() {
        let made = Connection::open(&database).expect("it opens");
        made.execute_batch("CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT)")
            .expect("it is made");
        for (id, name) in CUSTOMERS.iter().enumerate() {
            made.execute("INSERT INTO customers VALUES (?1, ?2)", (id as i64, name))
                .expect("it is inserted");
        }
    }
    let ingest = HttpIngest::json(dir.join("ingest"), IngestConfig::new().segment_bytes(4_096))
        .expect("its log opens");
    let names = SqliteLookup::new(
        &database,
        "SELECT name FROM customers WHERE id = ?1",
        |order: &Order| order.customer,
        |row| row.get::<_, String>(0),
    );
    let totals = SqliteSink::new(&database, |tx: &Transaction<'_>, total: &(String, i64, i64)| {
        let sql = "INSERT INTO totals VALUES (?1, ?2, ?3) ON CONFLICT (name) DO UPDATE
            SET orders = orders + excluded.orders, cents = cents + excluded.cents";
        tx.prepare_cached(sql)?.execute((&total.0, total.1, total.2)).map(drop)
    })
    .setup(
        "CREATE TABLE IF NOT EXISTS totals (name TEXT PRIMARY KEY, orders INTEGER, cents INTEGER)",
    );
    let url = format!("http://{}/orders", receiver(dir.join("received")));
    let sent = WebhookSink::new(&url).expect("it is an address").receiver_deduplicates();
    let (looked_up, more) =
        flow.source("orders", ingest.source()).lookup(Lookup::ordered(names).in_flight(8)).fork();
    looked_up
        .map(|(order, name)| (name.unwrap_or_else(|| "?".to_owned()), 1, order.cents))
        .sink("totals", Mortal(totals));
    more.map(|(order, _)| order).sink("sent", sent);
    ingest
}

/// Sends all orders, each under a key of its own: the log does not accept an order that it has
/// already.
fn order(ingest: &HttpIngest<Order>) {
    for number in 0..ORDERS {
        while post(ingest.address(), number).is_err() {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    ingest.finish().expect("it ends");
}

fn post(address: SocketAddr, number: u64) -> Result<(), String> {
    let body = serde_json::to_string(&order_of(number)).expect("it is JSON");
    let mut stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
    write!(
        stream,
        "POST / HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Idempotency-Key: order-{number}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .map_err(|error| error.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|error| error.to_string())?;
    match answer.starts_with("HTTP/1.1 200 ") {
        true => Ok(()),
        false => Err(answer),
    }
}

/// A receiver that writes down each request once, by its key.
fn receiver(file: PathBuf) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it has one");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.expect("a client connects"));
            let (mut key, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).expect("a header");
                let Some((name, value)) = line.trim().split_once(':') else {
                    match line.trim().is_empty() {
                        true => break,
                        false => continue,
                    }
                };
                match name.to_ascii_lowercase().as_str() {
                    "idempotency-key" => key = value.trim().to_owned(),
                    "content-length" => length = value.trim().parse().expect("a number"),
                    _ => {}
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).expect("a body");
            let known = fs::read_to_string(&file).unwrap_or_default();
            if !known.lines().any(|line| line.starts_with(&format!("{key} "))) {
                let line = format!("{known}{key} {}\n", String::from_utf8_lossy(&body));
                fs::write(&file, line).expect("writable");
            }
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            let _ = stream.get_mut().write_all(answer);
        }
    });
    address
}

fn shop_is_right(dir: &Path) -> Vec<String> {
    let mut expected: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for order in (0..ORDERS).map(order_of) {
        let total = expected.entry(name_of(order.customer)).or_default();
        *total = (total.0 + 1, total.1 + order.cents);
    }
    let database = Connection::open(dir.join("shop.db")).expect("it opens");
    let mut query = database.prepare("SELECT name, orders, cents FROM totals").expect("a table");
    let rows = query.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))));
    let found: Result<BTreeMap<String, (i64, i64)>, _> = rows.expect("rows").collect();
    let found = found.expect("rows");
    let mut wrong = Vec::new();
    if found != expected {
        wrong.push(format!("{found:?} where {expected:?} is right"));
    }
    let received = fs::read_to_string(dir.join("received")).unwrap_or_default();
    let mut numbers: Vec<u64> = received
        .lines()
        .filter_map(|line| serde_json::from_str::<Order>(line.split_once(' ')?.1).ok())
        .map(|order| order.number)
        .collect();
    numbers.sort_unstable();
    if numbers != (0..ORDERS).collect::<Vec<_>>() {
        wrong.push(format!("{} orders were received: {numbers:?}", numbers.len()));
    }
    wrong
}

// Values of many shapes by keys of many parts; into Parquet, lines, and a custom sink.

const VALUES: u64 = 2_000;

type Key = (u64, String, Option<bool>);

fn key(n: u64) -> Key {
    (n % 7, format!("key {}", n % 3), [None, Some(true), Some(false)][(n % 3) as usize])
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape4 {
    Unit,
    New(i64),
    Pair(u8, String),
    Named { at: i32, more: Option<Box<Shape4>> },
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Rich {
    count: u64,
    small: (i8, u8, i16, u16, i32, u32, i64),
    ratio: (f32, f64),
    last: Option<i64>,
    text: String,
    letter: Option<char>,
    wide: (i128, u128),
    kinds: Vec<Shape4>,
    map: BTreeMap<u32, Option<bool>>,
    named: BTreeMap<String, Vec<u8>>,
    set: BTreeSet<(u8, bool)>,
    unit: (),
    array: [u16; 3],
    result: Option<Result<u8, String>>,
    pause: Duration,
}

impl Rich {
    fn take(&mut self, n: u64) {
        let signed = (n as i64).wrapping_mul(0x1234_5678_9abc_def1);
        self.count += 1;
        let low = signed as i32;
        self.small = (low as i8, low as u8, low as i16, low as u16, low, low as u32, signed);
        self.ratio = (n as f32 / 3.0, -(n as f64) / 7.0);
        self.last = n.is_multiple_of(2).then_some(signed);
        self.text.push_str(["a", "\u{e9}", "\u{1f600}", "\0"][(n % 4) as usize]);
        self.letter = char::from_u32(n as u32 + 60);
        self.wide = (i128::from(signed) << 60, u128::from(n) << 100);
        self.kinds.push(match n % 4 {
            0 => Shape4::Unit,
            1 => Shape4::New(signed),
            2 => Shape4::Pair(n as u8, n.to_string()),
            _ => Shape4::Named { at: low, more: Some(Box::new(Shape4::New(1))) },
        });
        self.kinds.truncate(9);
        self.map.insert(n as u32 % 11, [None, Some(true)][(n % 2) as usize]);
        self.named.insert((n % 5).to_string(), vec![n as u8; (n % 4) as usize]);
        self.set.insert((n as u8 % 13, n.is_multiple_of(3)));
        self.array = [n as u16, 1, u16::MAX];
        self.result = Some(if n.is_multiple_of(5) { Err(n.to_string()) } else { Ok(n as u8) });
        self.pause = Duration::new(n, n as u32);
    }
}

#[derive(Clone, ParquetRecordWriter)]
struct Row {
    number: i64,
    name: String,
    half: Option<f64>,
}

fn row(n: u64) -> Row {
    let half = n.is_multiple_of(2).then_some(n as f64 / 2.0);
    Row { number: n as i64, name: format!("row {n}"), half }
}

fn values(flow: &Dataflow, dir: &Path) {
    let (rich, more) =
        flow.source("in", Numbers { from: 0, count: VALUES, gulp: 10 }).parallelism(1).fork();
    let (rows, numbers) = more.parallelism(1).fork();
    let take = |n: u64, state: &mut KeyState<'_, Key, Rich>, out: &mut Emitter<String>| {
        state.take(n);
        out.push(format!("{n} {:?} {:?}", state.key(), **state));
    };
    let lines = FileSink::<String>::new(crate::output(dir, "rich")).extension("gz");
    rich.parallelism(1).key_by(|n| key(*n)).process(take).sink("rich", Mortal(lines));
    rows.map(row).sink("rows", FileSink::parquet(crate::output(dir, "rows")));
    fs::create_dir_all(crate::output(dir, "ledger")).expect("it can be made");
    let ledger =
        custom_sink::Ledger { directory: crate::output(dir, "ledger"), appending: Arc::default() };
    numbers.sink("ledger", ledger);
}

fn values_are_right(dir: &Path) -> Vec<String> {
    let mut wrong = Vec::new();
    let (mut states, mut expected) = (BTreeMap::<Key, Rich>::new(), BTreeSet::new());
    for n in 0..VALUES {
        let state = states.entry(key(n)).or_default();
        state.take(n);
        expected.insert(format!("{n} {:?} {state:?}", key(n)));
    }
    let lines = snapline::connect::read_committed(crate::output(dir, "rich")).expect("readable");
    if lines.len() != expected.len() || lines.into_iter().collect::<BTreeSet<_>>() != expected {
        wrong.push("the lines of rich state are not those that are right".to_owned());
    }
    let text = fs::read_to_string(crate::output(dir, "ledger").join("ledger")).expect("a ledger");
    let written = text.lines().filter(|line| !line.starts_with('#'));
    let mut numbers: Vec<u64> = written.map(|line| line.parse().expect("a number")).collect();
    numbers.sort_unstable();
    if numbers != (0..VALUES).collect::<Vec<_>>() {
        wrong.push(format!("the ledger has {} numbers", numbers.len()));
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(crate::output(dir, "rows")).expect("it can be listed") {
        let path = entry.expect("it can be listed").path();
        if path.extension().is_some_and(|end| end == "parquet") {
            let file = fs::File::open(path).expect("it opens");
            let reader = SerializedFileReader::new(file).expect("it is Parquet");
            for row in reader.get_row_iter(None).expect("it has rows") {
                found.push(row.expect("a row").get_long(0).expect("a number"));
            }
        }
    }
    found.sort_unstable();
    if found != (0..VALUES as i64).collect::<Vec<_>>() {
        wrong.push(format!("{} rows of Parquet", found.len()));
    }
    wrong
}
