//! Turns CSV files of shops' orders into Parquet. Malformed lines go into dead-letter files, with
//! their places and errors. The job fails twice and resumes; then the Parquet files are read back.
//!
//! ```sh
//! cargo run --example csv_to_parquet --features formats,parquet
//! ```
//!
//! The orders are made here: 4 files, one of them compressed, 6,000 lines.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;
use parquet_derive::ParquetRecordWriter;
use snapline::connect::{FileSink, FileSource, Malformed, Parquet, read_committed};
use snapline::{Dataflow, Ended, JobConfig, Level, Restart};

/// A line of the input. An order without a coupon has an empty field.
#[derive(serde::Serialize, serde::Deserialize)]
struct Order {
    id: u64,
    shop: String,
    cents: i64,
    coupon: Option<String>,
}

/// A row of the output.
#[derive(ParquetRecordWriter)]
struct Sale {
    id: i64,
    shop: String,
    euros: f64,
    coupon: Option<String>,
}

/// A dead letter: a line of JSON.
#[derive(serde::Serialize)]
struct Dead {
    file: String,
    line: Option<u64>,
    why: String,
    text: String,
}

/// 1,500 orders. One line in a hundred has no price, one in five hundred too many fields.
fn orders(file: u64) -> String {
    let line = |number: u64| {
        let id = file * 1_500 + number;
        let shop =
            ["Bread & Co", "\"Flowers, fresh\"", "\"the \"\"Corner\"\"\""][(id % 3) as usize];
        match number {
            _ if number % 500 == 250 => format!("{id},{shop},100,,surplus\n"),
            _ if number % 100 == 7 => format!("{id},{shop},a lot,\n"),
            _ if number.is_multiple_of(10) => format!("{id},{shop},{},SUMMER\n", id * 37 % 1_009),
            _ => format!("{id},{shop},{},\n", id * 37 % 1_009),
        }
    };
    format!("id,shop,cents,coupon\n{}", (0..1_500).map(line).collect::<String>())
}

fn make_input(directory: &Path) -> Result<(), Box<dyn Error>> {
    fs::create_dir(directory)?;
    for file in 0..3 {
        fs::write(directory.join(format!("orders-{file}.csv")), orders(file))?;
    }
    let file = File::create(directory.join("orders-3.csv.gz"))?;
    let mut compressed = flate2::write::GzEncoder::new(file, flate2::Compression::default());
    compressed.write_all(orders(3).as_bytes())?;
    compressed.finish()?;
    Ok(())
}

/// The number of sales, and of cents, of each shop.
type Shops = BTreeMap<String, (u64, u64)>;

/// The sales in all Parquet files of the directory, and the number of coupons.
fn add_up(directory: &Path) -> Result<(Shops, u64), Box<dyn Error>> {
    let (mut shops, mut coupons) = (Shops::new(), 0);
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_none_or(|end| end != "parquet") {
            continue;
        }
        for row in SerializedFileReader::new(File::open(path)?)?.get_row_iter(None)? {
            let row = row?;
            let (sales, cents) = shops.entry(row.get_string(1)?.clone()).or_default();
            *sales += 1;
            *cents += (row.get_double(2)? * 100.0).round() as u64;
            coupons += u64::from(row.get_string(3).is_ok());
        }
    }
    Ok((shops, coupons))
}

fn main() -> Result<(), Box<dyn Error>> {
    let place = tempfile::tempdir()?;
    make_input(&place.path().join("orders"))?;

    let flow = Dataflow::new("csv-to-parquet");
    let source = FileSource::path(place.path().join("orders")).csv::<Order>().keep_malformed();
    let (orders, broken) = flow.source("orders", source).split();
    let failures = Arc::new(AtomicU64::new(0));
    orders
        .try_map(move |order: Order| {
            // The first two times that it reaches an order in the middle.
            if order.id == 2_901 && failures.fetch_add(1, Ordering::Relaxed) < 2 {
                return Err("a failure, on purpose".into());
            }
            Ok(Sale {
                id: order.id as i64,
                shop: order.shop,
                euros: order.cents as f64 / 100.0,
                coupon: order.coupon,
            })
        })
        .sink(
            "sales",
            FileSink::parquet(place.path().join("sales"))
                .format(Parquet::new().rows_per_group(500)),
        );
    broken
        .map(|bad: Malformed| Dead {
            text: bad.text(),
            file: Path::new(&bad.file).file_name().unwrap_or_default().to_string_lossy().into(),
            line: bad.line,
            why: bad.why,
        })
        .sink("dead-letters", FileSink::json_lines(place.path().join("dead")));

    let config = JobConfig::new()
        .parallelism(2)
        .checkpoint_interval(Duration::from_millis(20))
        .restart(Restart::Fixed { attempts: 2, pause: Duration::from_millis(10) })
        .require(Level::ExactlyOnce)
        .directory(place.path().join("checkpoints"));
    let outcome = flow.build(config)?.run()?;
    println!("outcome: {:?} after {} restarts", outcome.ended, outcome.status.restarts);

    let (shops, coupons) = add_up(&place.path().join("sales"))?;
    let mut rows = 0;
    for (shop, (sales, cents)) in &shops {
        println!("{shop}: {sales} sales, {cents} cents");
        rows += sales;
    }
    let mut dead = read_committed(place.path().join("dead"))?;
    dead.sort();
    println!(
        "{rows} sales, {coupons} with a coupon, and {} dead letters, the first of them",
        dead.len()
    );
    println!("{}", dead.first().ok_or("no dead letters")?);
    match outcome.ended {
        Ended::Finished if rows + dead.len() as u64 == 6_000 => Ok(()),
        ended => Err(format!("{ended:?}: {rows} rows and {} dead, not 6000", dead.len()).into()),
    }
}
