//! A service over HTTP and SQLite: orders come by POST and are looked up in a table of customers.
//! Each is added to a table of totals once, although the service fails and dies in between.
//!
//! ```text
//! cargo run --features http,sqlite --example order_service
//! ```
//! A client sends a hundred orders with idempotency keys, each until it gets an answer. The job
//! fails once, at the thirtieth order, and restarts. With half of the orders accepted, the service
//! is dropped without a last checkpoint, as in a crash, and started on another port.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rusqlite::{Connection, Transaction};
use serde::{Deserialize, Serialize};
use snapline::connect::{Collect, HttpIngest, IngestConfig, SqliteLookup, SqliteSink};
use snapline::{
    BoxError, Dataflow, Emitter, JobConfig, JobHandle, JobPhase, JobStatus, KeyState, Level,
    Lookup, Restart,
};

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Order {
    customer: i64,
    cents: i64,
}

/// The service's report of a customer.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Total {
    name: String,
    orders: i64,
    cents: i64,
}

/// The running service: the ingest of orders, and the job that works on them.
struct Service {
    ingest: HttpIngest<Order>,
    job: JobHandle,
}

fn start(dir: &Path, fails: &Arc<AtomicBool>) -> Result<Service, BoxError> {
    let ingest = HttpIngest::json(dir.join("ingest"), IngestConfig::new())?;
    let database = dir.join("shop.db");
    let names = SqliteLookup::new(
        &database,
        "SELECT name FROM customers WHERE id = ?1",
        |order: &Order| order.customer,
        |row| row.get::<_, String>(0),
    )
    .cache(1_000, Duration::from_secs(60));
    let totals = SqliteSink::new(&database, |tx: &Transaction<'_>, total: &Total| {
        let sql = "INSERT INTO totals VALUES (?1, ?2, ?3) ON CONFLICT (name) DO UPDATE
            SET orders = excluded.orders, cents = excluded.cents";
        tx.prepare_cached(sql)?.execute((&total.name, total.orders, total.cents)).map(drop)
    })
    .setup(
        "CREATE TABLE IF NOT EXISTS totals (name TEXT PRIMARY KEY, orders INTEGER, cents INTEGER)",
    );
    let fails = Arc::clone(fails);

    let flow = Dataflow::new("order-service");
    flow.source("orders", ingest.source())
        .lookup(Lookup::ordered(names).in_flight(8).tries(3, Duration::from_millis(10)))
        .map(|(order, name)| (name.unwrap_or_else(|| "(unknown customer)".into()), order.cents))
        .keyed()
        .process(
            move |cents: i64,
                  sum: &mut KeyState<'_, String, (i64, i64)>,
                  out: &mut Emitter<Total>| {
                sum.0 += 1;
                sum.1 += cents;
                assert!(
                    cents != 129 || !fails.swap(false, Ordering::SeqCst),
                    "the thirtieth order"
                );
                out.push(Total { name: sum.key().clone(), orders: sum.0, cents: sum.1 });
            },
        )
        .sink("totals", totals);
    let config = JobConfig::new()
        .parallelism(2)
        .checkpoint_interval(Duration::from_millis(20))
        .directory(dir.join("checkpoints"))
        .restart(Restart::Fixed { attempts: 3, pause: Duration::from_millis(10) })
        .require(Level::ExactlyOnce);
    let job = flow.build(config)?.spawn()?;
    Ok(Service { ingest, job })
}

/// Sends an order; after an error its outcome is unknown.
fn send(address: SocketAddr, key: &str, order: &Order) -> Result<(), BoxError> {
    let mut stream = TcpStream::connect(address)?;
    let body = serde_json::to_string(order)?;
    write!(
        stream,
        "POST / HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nIdempotency-Key: {key}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    let (mut stream, mut status) = (BufReader::new(stream), String::new());
    stream.read_line(&mut status)?;
    stream.read_to_end(&mut Vec::new())?;
    match status.contains(" 200 ") {
        true => Ok(()),
        false => Err(format!("the order was not accepted: {status}").into()),
    }
}

#[allow(clippy::print_stdout, reason = "an example shows what comes of it")]
fn main() -> Result<(), BoxError> {
    let dir = tempfile::tempdir()?;
    let database = Connection::open(dir.path().join("shop.db"))?;
    database.execute_batch(
        "CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT);
         INSERT INTO customers VALUES (0, 'Ada'), (1, 'Grace'), (2, 'Edsger'), (3, 'Barbara');",
    )?;
    let fails = Arc::new(AtomicBool::new(true));
    let orders: Vec<Order> =
        (0..100).map(|number| Order { customer: number % 5, cents: 100 + number }).collect();

    let service = start(dir.path(), &fails)?;
    let address = Arc::new(Mutex::new(service.ingest.address()));
    let client = std::thread::spawn({
        let (address, orders) = (Arc::clone(&address), orders.clone());
        move || {
            for (number, order) in orders.iter().enumerate() {
                let now = || *address.lock().expect("no thread panics while it holds the lock");
                while send(now(), &format!("order-{number}"), order).is_err() {
                    std::thread::sleep(Duration::from_millis(5));
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    });
    // A job cancelled before it has recovered from a failure ends with an error.
    let restarted = |status: JobStatus| {
        let running = status.phase == JobPhase::Running && status.restarts == 1;
        running && status.newest_checkpoint > status.restored_from
    };
    while service.ingest.accepted() < 50 || !restarted(service.job.status()) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let restarts = service.job.status().restarts;
    service.job.cancel();
    service.job.wait()?;
    drop(service.ingest);
    println!("the first life ended after {restarts} restart");

    let service = start(dir.path(), &fails)?;
    *address.lock().expect("no thread panics while it holds the lock") = service.ingest.address();
    client.join().expect("the client sends all orders");
    service.ingest.finish()?;
    let outcome = service.job.wait()?;
    println!("the second life: {:?}, {} orders accepted", outcome.ended, service.ingest.accepted());

    let mut query = database.prepare("SELECT name, orders, cents FROM totals ORDER BY name")?;
    let rows = query.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?;
    let found: BTreeMap<String, (i64, i64)> = rows.collect::<Result<_, _>>()?;
    for (name, (orders, cents)) in &found {
        println!("{name}: {orders} orders, {cents} cents");
    }

    let mut expected: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for order in &orders {
        let names = ["Ada", "Grace", "Edsger", "Barbara", "(unknown customer)"];
        let total = expected.entry(names[order.customer as usize].into()).or_default();
        *total = (total.0 + 1, total.1 + order.cents);
    }
    match found == expected {
        true => println!("each order was counted once"),
        false => return Err("some orders are missing, or were counted twice".into()),
    }
    Ok(())
}
