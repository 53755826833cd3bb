//! The sources and sinks of the crate.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use super::custom_sink::{Ledger, entries};
use snapline::BoxError;
use snapline::connect::{
    FileSink, FileSource, ForEach, Generator, Idempotent, MemorySink, MemorySource, MemoryTable,
    SqliteSink, SqliteSource,
};
use snapline::testkit::{self, Law, SinkUnderTest};

struct Memory(MemorySink<u64>);

impl SinkUnderTest for Memory {
    type Sink = MemorySink<u64>;

    fn sink(&self) -> MemorySink<u64> {
        self.0.clone()
    }

    fn record(&self, number: u64) -> u64 {
        number
    }

    fn visible(&self) -> Result<Vec<u64>, BoxError> {
        Ok(self.0.committed())
    }

    fn prepared(&self) -> Result<Option<usize>, BoxError> {
        Ok(Some(self.0.prepared_txns().len()))
    }
}

#[test]
fn memory_sink() {
    let report = testkit::sink(|| Memory(MemorySink::new())).check();
    let report = report.unwrap_or_else(|violation| panic!("{violation}"));
    eprintln!("memory sink: {report}");
    assert!(report.runs > 1000 && report.committed_again > 1000 && report.rolled_back > 1000);
}

struct Files(tempfile::TempDir);

impl SinkUnderTest for Files {
    type Sink = FileSink<u64>;

    fn sink(&self) -> FileSink<u64> {
        FileSink::new(self.0.path())
    }

    fn record(&self, number: u64) -> u64 {
        number
    }

    fn visible(&self) -> Result<Vec<u64>, BoxError> {
        let lines = snapline::connect::read_committed(self.0.path())?;
        Ok(lines.iter().map(|line| line.parse()).collect::<Result<_, _>>()?)
    }
}

#[test]
fn file_sink() {
    // Every run makes a directory and syncs it many times.
    let check = testkit::sink(|| Files(tempfile::tempdir().unwrap()));
    let report = check.subtasks(1).records(4).single_crashes().check();
    eprintln!("file sink: {}", report.unwrap_or_else(|violation| panic!("{violation}")));
}

/// Every batch is a file of its own: two or more of them form a transaction.
struct Rolled(tempfile::TempDir);

impl SinkUnderTest for Rolled {
    type Sink = FileSink<u64>;

    fn sink(&self) -> FileSink<u64> {
        FileSink::new(self.0.path()).roll_bytes(1)
    }

    fn record(&self, number: u64) -> u64 {
        number
    }

    fn visible(&self) -> Result<Vec<u64>, BoxError> {
        let lines = snapline::connect::read_committed(self.0.path())?;
        Ok(lines.iter().map(|line| line.parse()).collect::<Result<_, _>>()?)
    }

    fn prepared(&self) -> Result<Option<usize>, BoxError> {
        Ok(Some(std::fs::read_dir(self.0.path().join(".snapline/sink/prepared"))?.count()))
    }
}

#[test]
fn file_sink_that_rolls() {
    let check = testkit::sink(|| Rolled(tempfile::tempdir().unwrap()));
    let report = check.subtasks(1).records(6).single_crashes().check();
    eprintln!("rolling: {}", report.unwrap_or_else(|violation| panic!("{violation}")));
}

/// A row of a Parquet file.
#[cfg(feature = "parquet")]
#[derive(parquet_derive::ParquetRecordWriter)]
struct Row {
    number: i64,
}

/// Two records form a row group, and an incomplete group ends with its transaction.
#[cfg(feature = "parquet")]
struct Columns(tempfile::TempDir);

#[cfg(feature = "parquet")]
impl SinkUnderTest for Columns {
    type Sink = FileSink<Row, snapline::connect::Parquet>;

    fn sink(&self) -> Self::Sink {
        let format = snapline::connect::Parquet::new().rows_per_group(2);
        FileSink::parquet(self.0.path()).format(format).roll_bytes(100)
    }

    fn record(&self, number: u64) -> Row {
        Row { number: number as i64 }
    }

    fn visible(&self) -> Result<Vec<u64>, BoxError> {
        use parquet::file::reader::{FileReader, SerializedFileReader};
        use parquet::record::RowAccessor;
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(self.0.path())? {
            let path = entry?.path();
            if path.extension().is_some_and(|end| end == "parquet") {
                for row in
                    SerializedFileReader::new(std::fs::File::open(path)?)?.get_row_iter(None)?
                {
                    numbers.push(row?.get_long(0)? as u64);
                }
            }
        }
        Ok(numbers)
    }
}

#[cfg(feature = "parquet")]
#[test]
fn parquet_sink() {
    let check = testkit::sink(|| Columns(tempfile::tempdir().unwrap()));
    let report = check.subtasks(1).records(5).single_crashes().check();
    eprintln!("parquet: {}", report.unwrap_or_else(|violation| panic!("{violation}")));
}

/// The sink's function for a record.
type Apply = fn(&rusqlite::Transaction<'_>, &u64) -> rusqlite::Result<()>;

struct Database(tempfile::TempDir);

impl Database {
    fn query<R>(&self, sql: &str, rows: fn(&rusqlite::Row<'_>) -> rusqlite::Result<R>) -> Vec<R> {
        let path = self.0.path().join("out.db");
        if !path.exists() {
            return Vec::new();
        }
        let database = rusqlite::Connection::open(path).unwrap();
        let mut query = database.prepare(sql).unwrap();
        let rows = query.query_map([], rows).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }
}

impl SinkUnderTest for Database {
    type Sink = SqliteSink<u64, Apply>;

    fn sink(&self) -> Self::Sink {
        let insert: Apply =
            |tx, number| tx.execute("INSERT INTO numbers VALUES (?1)", [*number as i64]).map(drop);
        SqliteSink::new(self.0.path().join("out.db"), insert)
            .setup("CREATE TABLE IF NOT EXISTS numbers (number INTEGER NOT NULL)")
    }

    fn record(&self, number: u64) -> u64 {
        number
    }

    fn visible(&self) -> Result<Vec<u64>, BoxError> {
        Ok(self.query("SELECT number FROM numbers", |row| row.get::<_, i64>(0).map(|it| it as u64)))
    }

    fn prepared(&self) -> Result<Option<usize>, BoxError> {
        let staged = "SELECT COUNT(DISTINCT txn) FROM snapline_staged";
        Ok(self.query(staged, |row| row.get::<_, u32>(0)).first().map(|&count| count as usize))
    }
}

#[test]
fn sqlite_sink() {
    // Every run makes a database and syncs it many times.
    let check = testkit::sink(|| Database(tempfile::tempdir().unwrap()));
    let report = check.records(4).single_crashes().check();
    let report = report.unwrap_or_else(|violation| panic!("{violation}"));
    eprintln!("SQLite sink: {report}");
    assert!(report.committed_again > 10 && report.rolled_back > 10, "{report}");
}

struct Example(tempfile::TempDir);

impl SinkUnderTest for Example {
    type Sink = Ledger;

    fn sink(&self) -> Ledger {
        Ledger { directory: self.0.path().join("out"), appending: Arc::default() }
    }

    fn record(&self, number: u64) -> u64 {
        number
    }

    fn visible(&self) -> Result<Vec<u64>, BoxError> {
        match self.0.path().join("out/ledger").exists() {
            true => Ok(entries(&self.0.path().join("out")).map_err(|error| error.to_string())?),
            false => Ok(Vec::new()),
        }
    }

    fn prepared(&self) -> Result<Option<usize>, BoxError> {
        let mut left = 0;
        for directory in std::fs::read_dir(self.0.path().join("out/prepared"))? {
            left += std::fs::read_dir(directory?.path())?.count();
        }
        Ok(Some(left))
    }
}

#[test]
fn the_sink_of_the_example() {
    let check = testkit::sink(|| Example(tempfile::tempdir().unwrap()));
    let report = check.records(4).single_crashes().check();
    eprintln!("the example: {}", report.unwrap_or_else(|violation| panic!("{violation}")));
}

struct Table(MemoryTable<u64, ()>);

impl SinkUnderTest for Table {
    type Sink = Idempotent<MemoryTable<u64, ()>>;

    fn sink(&self) -> Self::Sink {
        Idempotent::new(self.0.clone())
    }

    fn record(&self, number: u64) -> (u64, ()) {
        (number, ())
    }

    fn visible(&self) -> Result<Vec<u64>, BoxError> {
        Ok(self.0.entries().into_keys().collect())
    }
}

#[test]
fn upserts() {
    let report = testkit::sink(|| Table(MemoryTable::new())).check();
    eprintln!("upserts: {}", report.unwrap_or_else(|violation| panic!("{violation}")));
}

struct Calls<F> {
    call: F,
    seen: Arc<Mutex<Vec<u64>>>,
}

impl<F: FnMut(&u64) + Clone + Send + 'static> SinkUnderTest for Calls<F> {
    type Sink = ForEach<u64, F>;

    fn sink(&self) -> Self::Sink {
        ForEach::new(self.call.clone())
    }

    fn record(&self, number: u64) -> u64 {
        number
    }

    fn visible(&self) -> Result<Vec<u64>, BoxError> {
        Ok(self.seen.lock().unwrap().clone())
    }
}

#[test]
fn a_function_for_each() {
    let calls = || {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sees = Arc::clone(&seen);
        Calls { call: move |record: &u64| sees.lock().unwrap().push(*record), seen }
    };
    let report = testkit::sink(calls).check();
    eprintln!("for each: {}", report.unwrap_or_else(|violation| panic!("{violation}")));
}

#[test]
fn sources() {
    let report = testkit::source(Generator::new(60, |number| number * 7)).check();
    eprintln!("generator: {}", report.unwrap_or_else(|violation| panic!("{violation}")));
    let records: Vec<String> = (0..50).map(|number| format!("record {number}")).collect();
    let report = testkit::source(MemorySource::new(records)).check();
    eprintln!("memory source: {}", report.unwrap_or_else(|violation| panic!("{violation}")));

    let directory = tempfile::tempdir().unwrap();
    for file in 0..3 {
        let lines: String = (0..20).map(|line| format!("{file} {}\n", "x".repeat(line))).collect();
        std::fs::write(directory.path().join(format!("{file}.txt")), lines).unwrap();
    }
    for split in [16, 100, 1 << 20] {
        let report = testkit::source(FileSource::path(directory.path()).split_bytes(split)).check();
        eprintln!("file source: {}", report.unwrap_or_else(|violation| panic!("{violation}")));
    }
}

#[test]
fn rows_of_a_database() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("in.db");
    let rows = "CREATE TABLE words (word TEXT PRIMARY KEY, length);
        WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 60)
        INSERT INTO words SELECT hex(n * 7919 % 61), CASE n % 7 WHEN 3 THEN 'long' ELSE n END FROM n";
    rusqlite::Connection::open(&path).unwrap().execute_batch(rows).unwrap();
    let words = || {
        SqliteSource::new(&path, "SELECT word, length FROM words WHERE word > '3'", "word", |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, u32>(1)?))
        })
    };
    let report = testkit::source(words().keep_malformed()).check();
    let report = report.unwrap_or_else(|violation| panic!("{violation}"));
    eprintln!("rows: {report}");
    assert!(report.runs > 50 && report.records > 500, "{report}");
    let report = testkit::source(words().skip_malformed()).check();
    eprintln!("rows, skipping: {}", report.unwrap_or_else(|violation| panic!("{violation}")));
    // A twin whose rows change while they are read, or seem to.
    let reads = Arc::new(AtomicU32::new(0));
    let wrong = SqliteSource::new(&path, "SELECT word FROM words", "word", move |row| {
        Ok((row.get::<_, String>(0)?, reads.fetch_add(1, Ordering::Relaxed)))
    });
    let violation = testkit::source(wrong).check().expect_err("it is another row now");
    assert_eq!(violation.law, Law::Replayable, "{violation}");
}

#[cfg(feature = "formats")]
#[test]
fn records_of_files() {
    use snapline::connect::{Csv, DirectorySource};
    use std::io::Write;

    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let text = |file: u32| {
        let lines = (0..20).map(|line| match line % 7 {
            3 => format!("{file},only\n"),
            _ => format!("{file},\"{}\n\",{line}\n", "x".repeat(line)),
        });
        format!("file,text,line\n{}", lines.collect::<String>())
    };
    let gzip = |text: String| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    std::fs::write(at("0.csv"), text(0)).unwrap();
    std::fs::write(at("1.csv.gz"), gzip(text(1))).unwrap();
    std::fs::write(at("2.csv.zst"), zstd::stream::encode_all(text(2).as_bytes(), 1).unwrap())
        .unwrap();
    type Row = (u32, String, u32);
    let there = || FileSource::path(directory.path()).csv::<Row>();
    let report = testkit::source(there().keep_malformed()).check();
    eprintln!("CSV files: {}", report.unwrap_or_else(|violation| panic!("{violation}")));
    let report = testkit::source(there().skip_malformed()).check();
    eprintln!("CSV files, skipping: {}", report.unwrap_or_else(|violation| panic!("{violation}")));
    // The last lines of each file form one record that is too long.
    let short = there().max_record_bytes(25).keep_malformed();
    let report = testkit::source(short).check();
    eprintln!("CSV files, short: {}", report.unwrap_or_else(|violation| panic!("{violation}")));

    std::fs::write(at("END"), "").unwrap();
    let coming = || DirectorySource::path(directory.path()).until("END");
    for source in [coming(), coming().ascending()] {
        let report = testkit::source(source.decode::<Row, _>(Csv::new()).keep_malformed()).check();
        eprintln!("a directory: {}", report.unwrap_or_else(|violation| panic!("{violation}")));
    }

    let lines: String = (0..50).map(|line| format!("\"{}{line}\"\n", "y".repeat(line))).collect();
    std::fs::write(at("a.jsonl"), lines).unwrap();
    for bytes in [16, 100, 1 << 20] {
        let source = FileSource::path(at("a.jsonl")).split_bytes(bytes).json_lines::<String>();
        let report = testkit::source(source).check();
        eprintln!("JSON lines: {}", report.unwrap_or_else(|violation| panic!("{violation}")));
    }
}

#[test]
fn an_endless_source_is_read_for_a_while() {
    let source = testkit::source(Generator::new(None, |number| number)).at_most(40);
    let report = source.check().unwrap_or_else(|violation| panic!("{violation}"));
    assert!(report.records > 0);
}
