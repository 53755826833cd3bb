//! The child process: runs a job, to its end unless it is killed.

use std::cell::Cell;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use snapline::connect::{
    Collect, FileSink, OpenContext, Progress, Source, SourceReader, SqliteSink, SqliteSource,
};
use snapline::store::{LocalStore, Takeover};
use snapline::{
    BoxError, Dataflow, Emitter, Ended, Input, JobConfig, KeyState, Level, Storage, TimeContext,
    Timestamp, Tumbling, Watermarks,
};

use crate::kill_points::{self, Mortal, MortalStore};
use crate::plan::{JobPlan, Shape};

/// The number of records of each source.
pub(crate) const RECORDS: u64 = 12_000;
/// The number of their keys.
pub(crate) const KEYS: u64 = 97;
/// The number of checkpoint ids reserved at a time.
const ID_BLOCK: u64 = 3;
/// The child's line after each completed manifest.
pub(crate) const COMPLETE: &str = "checkpoint complete";

/// This many records come at once, and then none for a moment, so that there are checkpoints in
/// between.
const GULP: u64 = 100;
const PAUSE: Duration = Duration::from_millis(1);

/// Runs the job that `text` describes. Panics on any error: the parent reads it.
pub(crate) fn run(text: &str, kill_at: Option<&str>) {
    kill_points::arm(kill_at);
    let (plan, dir) = JobPlan::from_text(text);
    let flow = Dataflow::new("crash");
    match plan.shape {
        Shape::Single => single(&flow, &dir),
        Shape::Wide => wide(&flow, &dir),
        Shape::Timed => timed(&flow, &dir),
        Shape::Database => database(&flow, &dir),
        Shape::Told => crate::broadcast::told(&flow, &dir),
        Shape::Joined => crate::joined::joined(&flow, &dir),
        Shape::Ranked => crate::ranked::ranked(&flow, &dir),
        Shape::Fired => crate::fired::fired(&flow, &dir),
        Shape::Clocked => crate::clocked::clocked(&flow, &dir),
        #[cfg(feature = "formats")]
        Shape::Files => files::files(&flow, &dir),
    }
    kill_points::point("store-open-before");
    let store = LocalStore::open(crate::checkpoints(&dir), Takeover::Refuse);
    let store = store.expect("the one before is dead");
    kill_points::point("store-open-after");
    let parallelism = if plan.shape == Shape::Single { 1 } else { 2 };
    let config = JobConfig::new()
        .parallelism(parallelism)
        .key_groups(16)
        .checkpoint_interval(Duration::from_millis(plan.interval))
        .retained_checkpoints(plan.retained)
        .max_concurrent_checkpoints(plan.concurrent)
        // So that these short jobs reserve ids repeatedly.
        .id_block(ID_BLOCK)
        .require(Level::ExactlyOnce)
        .record(crate::traces(&dir))
        .storage(Storage::Custom(Arc::new(MortalStore(Arc::new(store)))));
    let job = flow.build(config).expect("it is well formed");
    let outcome = job.spawn().expect("it starts").wait().expect("it does not fail");
    assert_eq!(outcome.ended, Ended::Finished);
    assert_eq!(outcome.status.restarts, 0, "{:?}", outcome.status.last_failure);
}

fn single(flow: &Dataflow, dir: &Path) {
    let sink = Mortal(FileSink::new(crate::output(dir, "out")));
    flow.source("in", Mortal(Numbers::from(0))).sink("out", sink);
}

fn database(flow: &Dataflow, dir: &Path) {
    let input = dir.join("in.db");
    // Earlier lives may have been killed anywhere in this.
    if !input.exists() {
        let hidden = dir.join("new.db");
        let _ = std::fs::remove_file(&hidden);
        let database = rusqlite::Connection::open(&hidden).expect("it opens");
        let fill = format!(
            "PRAGMA journal_mode = MEMORY; CREATE TABLE numbers (number INTEGER PRIMARY KEY);
             WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n + 1 < {RECORDS})
             INSERT INTO numbers SELECT n FROM n"
        );
        database.execute_batch(&fill).expect("it is filled");
        drop(database);
        std::fs::rename(hidden, &input).expect("it is renamed");
    }
    let rows = SqliteSource::new(input, "SELECT number FROM numbers", "number", |row| {
        row.get::<_, i64>("number").map(|number| number as u64)
    });
    let insert = |tx: &rusqlite::Transaction<'_>, record: &u64| {
        tx.prepare_cached("INSERT INTO numbers VALUES (?1)")?.execute([*record as i64]).map(drop)
    };
    let sink = SqliteSink::new(crate::output(dir, "out"), insert)
        .setup("CREATE TABLE IF NOT EXISTS numbers (number INTEGER NOT NULL)");
    flow.source("in", Mortal(Slowly(rows))).sink("out", Mortal(sink));
}

fn wide(flow: &Dataflow, dir: &Path) {
    let sink = |name: &str| {
        let lines = FileSink::new(crate::output(dir, name));
        let lines = lines.encode(|(record, count): &(u64, u64), line: &mut Vec<u8>| {
            write!(line, "{record} {count}").expect("a vector takes everything");
        });
        Mortal(lines)
    };
    let low = flow.source("low", Mortal(Numbers::from(0)));
    let high = flow.source("high", Mortal(Numbers::from(RECORDS)));
    let counted = low.union(high).key_by(|record| record % KEYS).process(
        |record, count: &mut KeyState<'_, u64, u64>, out: &mut Emitter<(u64, u64)>| {
            **count += 1;
            out.push((record, **count));
        },
    );
    let (left, right) = counted.fork();
    left.sink("left", sink("left"));
    right.sink("right", sink("right"));
}

/// The length of a window in event time: each record is a millisecond.
pub(crate) const LENGTH: u64 = 500;

fn timed(flow: &Dataflow, dir: &Path) {
    let sink = |name: &str| Mortal(FileSink::<String>::new(crate::output(dir, name)));
    let at = |record: &u64| Timestamp::from_millis((record % RECORDS) as i64);
    let low = flow.source("low", Mortal(Numbers::from(0)));
    let high = flow.source("high", Mortal(Numbers::from(RECORDS)));
    // Each producer's times ascend, and the least of their watermarks counts: nothing is ever late.
    let high = high.assign_timestamps(Watermarks::monotonous().every_record(), at);
    let (counts, late) = low
        .assign_timestamps(Watermarks::monotonous(), at)
        .union(high)
        .key_by(|record| record % KEYS)
        .process(|input, waiting: &mut TimeContext<'_, u64, Vec<u64>>, out: &mut Emitter<u64>| {
            let at = waiting.timestamp();
            match input {
                Input::Record(record) if at <= waiting.watermark() => {
                    panic!("{record} is late: the watermark is {}", waiting.watermark())
                }
                Input::Record(record) => {
                    waiting.push(record);
                    waiting.set_timer(at);
                }
                Input::EventTime | Input::ProcessingTime => {
                    waiting.retain(|record| {
                        let due = record % RECORDS == at.millis() as u64;
                        if due {
                            out.push(*record);
                        }
                        !due
                    });
                }
            }
        })
        .key_by(|record| record % KEYS)
        .window(Tumbling::of(Duration::from_millis(LENGTH)))
        .keep_late()
        .count()
        .split();
    counts
        .map(|it| {
            let number = it.window.start.millis() as u64 / LENGTH;
            format!("{}", crate::verify::window_id(number, it.key, it.result))
        })
        .sink("left", sink("left"));
    late.map(|(_, record)| record.to_string()).sink("right", sink("right"));
}

/// `count` numbers from `from` on, divided among the subtasks; `gulp` of them come at once.
#[derive(Clone)]
pub(crate) struct Numbers {
    pub(crate) from: u64,
    pub(crate) count: u64,
    pub(crate) gulp: u64,
}

/// A reader is asked for its position this often, twice at each barrier, before it gives the last
/// numbers. So each life has some checkpoints, however slow the machine is.
const ASKED: u64 = 8;

impl Numbers {
    /// [`RECORDS`] numbers.
    pub(crate) const fn from(from: u64) -> Self {
        Self { from, count: RECORDS, gulp: GULP }
    }
}

impl Source for Numbers {
    type Record = u64;
    type Position = u64;
    type Reader = NumbersReader;

    fn open(
        &self,
        context: &OpenContext,
        position: Option<u64>,
    ) -> Result<NumbersReader, BoxError> {
        let next = position.unwrap_or(self.from + context.index as u64);
        let (step, end) = (context.parallelism as u64, self.from + self.count);
        let (gulp, asked) = (self.gulp, Cell::new(0));
        Ok(NumbersReader { next, step, end, gulp, asked, due: Instant::now() })
    }
}

/// Reads [`Numbers`].
pub(crate) struct NumbersReader {
    next: u64,
    step: u64,
    end: u64,
    gulp: u64,
    asked: Cell<u64>,
    due: Instant,
}

impl SourceReader for NumbersReader {
    type Record = u64;
    type Position = u64;

    fn read<C: Collect<u64>>(&mut self, limit: usize, out: &mut C) -> Result<Progress, BoxError> {
        let now = Instant::now();
        if now < self.due && self.next < self.end {
            return Ok(Progress::Wait(self.due - now));
        }
        let last = self.next..self.next + self.gulp * self.step;
        if last.contains(&(self.end - 1)) && self.asked.get() < ASKED {
            return Ok(Progress::Wait(PAUSE));
        }
        self.due = now + PAUSE;
        for _ in 0..self.gulp.min(limit as u64) {
            if self.next >= self.end {
                break;
            }
            out.push(self.next);
            self.next += self.step;
        }
        Ok(if self.next < self.end { Progress::More } else { Progress::End })
    }

    fn position(&self) -> u64 {
        self.asked.set(self.asked.get() + 1);
        self.next
    }
}

/// Reads as [`Numbers`] are read: a gulp at a time, with pauses, so that there are checkpoints in
/// between.
#[derive(Clone)]
struct Slowly<S>(S);

struct SlowReader<R> {
    reader: R,
    due: Instant,
}

impl<S: Source> Source for Slowly<S> {
    type Record = S::Record;
    type Position = S::Position;
    type Reader = SlowReader<S::Reader>;

    fn open(
        &self,
        context: &OpenContext,
        position: Option<S::Position>,
    ) -> Result<Self::Reader, BoxError> {
        Ok(SlowReader { reader: self.0.open(context, position)?, due: Instant::now() })
    }
}

impl<R: SourceReader> SourceReader for SlowReader<R> {
    type Record = R::Record;
    type Position = R::Position;

    fn read<C: Collect<R::Record>>(
        &mut self,
        limit: usize,
        out: &mut C,
    ) -> Result<Progress, BoxError> {
        let now = Instant::now();
        if now < self.due {
            return Ok(Progress::Wait(self.due - now));
        }
        self.due = now + PAUSE;
        self.reader.read(limit.min(GULP as usize), out)
    }

    fn position(&self) -> R::Position {
        self.reader.position()
    }
}

/// Gives a file the modification time that all inputs have: a source distinguishes files of one
/// name by it.
pub(crate) fn date(path: &Path) {
    let file = std::fs::File::options().append(true).open(path).expect("it opens");
    let time = std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    file.set_modified(time).expect("its time can be set");
}

/// Records that are read from files and written into files.
#[cfg(feature = "formats")]
mod files {
    use std::fs;

    use snapline::connect::DirectorySource;

    use super::*;

    /// The number of files.
    const FILES: u64 = 6;

    pub(super) fn files(flow: &Dataflow, dir: &Path) {
        let directory = dir.join("in");
        fs::create_dir_all(&directory).expect("it can be made");
        // Earlier lives may have been killed anywhere in this.
        let put = |name: &str, bytes: Vec<u8>| {
            let hidden = directory.join(".new");
            if !directory.join(name).exists() {
                fs::write(&hidden, bytes).expect("writable");
                date(&hidden);
                fs::rename(&hidden, directory.join(name)).expect("renames");
            }
        };
        for file in 0..FILES {
            let line = |n: u64| format!("{n},\"two\nlines\"\n");
            let lines: String = (0..RECORDS / FILES).map(|n| line(n * FILES + file)).collect();
            let text = format!("number,text\n{lines}");
            match file % 3 {
                0 => put(&format!("{file}.csv"), text.into_bytes()),
                1 => put(&format!("{file}.csv.zst"), zstd(text.as_bytes())),
                _ => put(&format!("{file}.csv.gz"), gzip(text.as_bytes())),
            }
        }
        put("END", Vec::new());
        let source = DirectorySource::path(&directory).until("END").csv::<(u64, String)>();
        let lines = FileSink::json_lines(crate::output(dir, "out"));
        flow.source("in", Mortal(Slowly(source)))
            .map(|(number, _)| number)
            .sink("out", Mortal(lines.extension("jsonl.gz").roll_bytes(1_000)));
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).expect("compresses");
        encoder.finish().expect("compresses")
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        zstd::stream::encode_all(text, 1).expect("compresses")
    }
}
