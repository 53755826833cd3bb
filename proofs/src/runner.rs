//! Runs the theorems, the twins and the weakened orderings, each in a process of its own, two at a
//! time; and counts.
//!
//! A search that was stopped proves nothing: loom's own limits of time and number are removed. A
//! search that takes too long is ended from outside and fails.
#![allow(clippy::print_stdout, reason = "the runner reports on the terminal")]

use std::collections::BTreeMap;
use std::env;
use std::io::Read;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::rig::Theorem;
use crate::sync::{WEAKENED, sites};
use crate::twins::{LOOM_ALONE, SPARE, TWINS, Twin};
use crate::{broken, theorems};

/// The twin that runs in this process.
pub(crate) static TWIN: OnceLock<String> = OnceLock::new();

/// The time limit of one search, and that of a deep one.
const LIMITS: [Duration; 2] = [Duration::from_secs(240), Duration::from_secs(4 * 3600)];

/// The number of concurrent searches.
const AT_ONCE: usize = 2;

/// Environment variable for deeper bounds.
const DEEP: &str = "SNAPLINE_PROOFS_DEEP";

fn deep() -> usize {
    usize::from(env::var_os(DEEP).is_some())
}

/// Runs all theorems, or those whose names contain one of the arguments; then the twins and
/// weakened orderings that they must catch.
pub fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let Some((first, rest)) = arguments.split_first()
        && first == "--one"
    {
        return one(rest);
    }
    let filters: Vec<&String> = arguments.iter().filter(|part| !part.starts_with('-')).collect();
    let chosen = |name: &str| filters.is_empty() || filters.iter().any(|part| name.contains(*part));
    if all(&chosen) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The result of a search without a finding.
const ENDED: &str = if cfg!(feature = "loom") {
    "holds; the search is complete"
} else {
    "held in every execution"
};

/// The work of one process.
#[derive(Clone)]
struct Order {
    theorem: &'static str,
    twin: Option<&'static str>,
    weakened: Option<(String, String)>,
}

/// Its result.
struct Found {
    order: Order,
    ended_well: bool,
    stopped: bool,
    out: String,
    errors: String,
    took: Duration,
}

/// The child's part: one search.
fn one(arguments: &[String]) -> ExitCode {
    let mut name = "";
    let (mut preemptions, mut size) = (None, None);
    let mut all = theorems::ALL;
    for pair in arguments.chunks_exact(2) {
        match pair[0].as_str() {
            "theorem" => name = &pair[1],
            "twin" => {
                TWIN.set(pair[1].clone()).expect("one twin is named");
                all = broken::theorems::ALL;
            }
            "weaken" => {
                let (site, to) = pair[1].split_once('=').expect("weaken takes SITE=ORDERING");
                WEAKENED.set((site.to_owned(), to.to_owned())).expect("one site is named");
            }
            // Set by hand, to find suitable bounds.
            "preemptions" => preemptions = Some(pair[1].parse().ok()),
            "size" => size = pair[1].parse().ok(),
            other => panic!("{other}"),
        }
    }
    let theorem = all.iter().find(|theorem| theorem.name == name).expect("the theorem exists");
    let executions = search(
        theorem.run,
        preemptions.unwrap_or(theorem.preemptions[deep()]),
        size.unwrap_or(of(theorem)),
    );
    println!("executions {executions}");
    for site in sites() {
        println!("site {} {} {}", site.place, site.operation, site.ordering);
    }
    ExitCode::SUCCESS
}

#[cfg(feature = "loom")]
fn of(theorem: &Theorem) -> usize {
    theorem.sizes[deep()]
}

#[cfg(not(feature = "loom"))]
fn of(theorem: &Theorem) -> usize {
    theorem.sizes[2]
}

#[cfg(feature = "loom")]
fn search(run: fn(usize), preemptions: Option<usize>, size: usize) -> usize {
    let mut builder = loom::model::Builder::new();
    // Each of these can be set from the environment, and would end the search early, or pretend
    // that it had been made.
    builder.max_permutations = None;
    builder.max_duration = None;
    builder.checkpoint_file = None;
    builder.expect_explicit_explore = false;
    builder.max_threads = 5;
    // One longer execution is a failure of its own.
    builder.max_branches = 10_000;
    builder.preemption_bound = preemptions;
    let executions = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&executions);
    builder.check(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        run(size);
    });
    executions.load(Ordering::Relaxed)
}

/// The number of random schedules for each theorem, with shuttle.
#[cfg(not(feature = "loom"))]
const SCHEDULES: [usize; 2] = [10_000, 1_000_000];

#[cfg(not(feature = "loom"))]
fn search(run: fn(usize), _: Option<usize>, size: usize) -> usize {
    let schedules = SCHEDULES[deep()];
    // Half of them with few preemptions at well-chosen places, half with many.
    shuttle::check_pct(move || run(size), schedules / 2, 3);
    shuttle::check_random(move || run(size), schedules / 2);
    schedules
}

fn run(order: Order) -> Found {
    let begun = Instant::now();
    let this = env::current_exe().expect("a running program has a file");
    let mut command = Command::new(this);
    // The report shows the first words of a panic.
    command.env("RUST_BACKTRACE", "0");
    command.args(["--one", "theorem", order.theorem]);
    if let Some(twin) = order.twin {
        command.args(["twin", twin]);
    }
    if let Some((site, to)) = &order.weakened {
        command.args(["weaken", &format!("{site}={to}")]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("this program can be run again");
    let read = |from: Option<Box<dyn Read + Send>>| {
        thread::spawn(move || {
            let mut text = Vec::new();
            if let Some(mut from) = from {
                // Output that cannot be read is missing in the report.
                let _ = from.read_to_end(&mut text);
            }
            String::from_utf8_lossy(&text).into_owned()
        })
    };
    let out = read(child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>));
    let errors = read(child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>));
    let mut stopped = false;
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            break status;
        }
        if begun.elapsed() > LIMITS[deep()] {
            stopped = true;
            // It may have ended just now.
            let _ = child.kill();
        }
        thread::sleep(Duration::from_millis(2));
    };
    let text = |reader: thread::JoinHandle<String>| reader.join().expect("a reader does not panic");
    let (out, errors) = (text(out), text(errors));
    Found { order, ended_well: status.success(), stopped, out, errors, took: begun.elapsed() }
}

/// Runs all, some at a time; the results are in the order of `orders`.
fn run_all(orders: Vec<Order>, tell: &(dyn Fn(&Found) + Sync)) -> Vec<Found> {
    let results: Vec<Mutex<Option<Found>>> = orders.iter().map(|_| Mutex::default()).collect();
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(order) = orders.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let place = orders.iter().position(|other| std::ptr::eq(other, order));
                    let result = run(order.clone());
                    tell(&result);
                    let slot = &results[place.expect("the order is in the list")];
                    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
                }
            });
        }
    });
    let result = |slot: Mutex<Option<Found>>| {
        slot.into_inner().unwrap_or_else(PoisonError::into_inner).expect("every order was run")
    };
    results.into_iter().map(result).collect()
}

impl Found {
    fn executions(&self) -> Option<usize> {
        let line = self.out.lines().find_map(|line| line.strip_prefix("executions "));
        line.and_then(|number| number.parse().ok())
    }

    /// The message of the first panic.
    fn said(&self) -> String {
        let mut lines =
            self.errors.lines().skip_while(|line| !line.contains("panicked at")).skip(1);
        let said = lines
            .by_ref()
            .take(3)
            .take_while(|line| !line.starts_with("note: ") && !line.is_empty());
        said.map(str::trim).collect::<Vec<_>>().join(" ")
    }

    /// The search found something, and did not just break.
    fn caught(&self) -> bool {
        !self.ended_well && !self.stopped && !self.errors.contains("maximum number of branches")
    }
}

fn all(chosen: &dyn Fn(&str) -> bool) -> bool {
    let begun = Instant::now();
    let mut good = true;
    println!(
        "\n{:<20} {:>11} {:>5} {:>10} {:>8}",
        "theorem", "preemptions", "size", "executions", "seconds"
    );
    let proofs = theorems::ALL.iter().filter(|theorem| chosen(theorem.name));
    let orders = proofs.map(|theorem| Order { theorem: theorem.name, twin: None, weakened: None });
    let results = run_all(orders.collect(), &|result| {
        let theorem = theorems::ALL.iter().find(|theorem| theorem.name == result.order.theorem);
        let theorem = theorem.expect("the result is of a known theorem");
        let (preemptions, size) = bounds(theorem);
        let executions = result.executions().map_or("-".to_owned(), |number| number.to_string());
        let end = match (result.ended_well, result.stopped) {
            (true, _) => ENDED.to_owned(),
            (_, true) => "STOPPED: the time ran out".to_owned(),
            _ => format!("FAILED: {}", result.said()),
        };
        let took = result.took.as_secs_f64();
        println!(
            "{:<20} {preemptions:>11} {size:>5} {executions:>10} {took:>8.1}  {end}",
            theorem.name
        );
    });
    for result in &results {
        good &= result.ended_well && result.executions().is_some_and(|number| number > 1);
        if !result.ended_well {
            println!("\n{}:\n{}", result.order.theorem, result.errors);
        }
    }
    if !good {
        return false;
    }
    good &= twins(chosen);
    good &= weakened(&results);
    println!(
        "\n{:.0} seconds in all, {}",
        begun.elapsed().as_secs_f64(),
        if good { "all results are as expected" } else { "FAILED" }
    );
    good
}

#[cfg(feature = "loom")]
fn bounds(theorem: &Theorem) -> (String, usize) {
    let preemptions = theorem.preemptions[deep()];
    (preemptions.map_or("all".to_owned(), |bound| format!("<= {bound}")), of(theorem))
}

#[cfg(not(feature = "loom"))]
fn bounds(theorem: &Theorem) -> (String, usize) {
    ("random".to_owned(), of(theorem))
}

/// Each twin is caught, by its theorem, and for the right reason.
fn twins(chosen: &dyn Fn(&str) -> bool) -> bool {
    println!("\n{:<36} {:<20} {:>8}", "broken twin", "theorem", "seconds");
    for theorem in theorems::ALL {
        let is_seen = TWINS.iter().any(|twin| twin.caught_by.contains(&theorem.name));
        assert!(is_seen, "no twin shows that `{}` can fail", theorem.name);
    }
    let of = |twin: &'static Twin| {
        let names = twin.caught_by.iter().filter(|name| chosen(name));
        names.map(|theorem| Order { theorem, twin: Some(twin.name), weakened: None })
    };
    let orders = TWINS.iter().flat_map(of);
    let right = |result: &Found| {
        let twin =
            result.order.twin.and_then(crate::twins::find).expect("the result is of a known twin");
        !cfg!(feature = "loom") || twin.says.iter().any(|said| result.errors.contains(said))
    };
    let results = run_all(orders.collect(), &|result| {
        let end = match (result.caught(), right(result)) {
            (true, true) => format!("caught: {}", result.said()),
            (true, false) => format!("FAILED FOR ANOTHER REASON: {}", result.said()),
            _ if result.stopped => "NOT CAUGHT: the time ran out".to_owned(),
            _ if LOOM_ALONE.contains(&result.order.twin.unwrap_or("")) => {
                "not caught, as expected: only loom can catch it".to_owned()
            }
            _ => "NOT CAUGHT".to_owned(),
        };
        let (twin, took) = (result.order.twin.unwrap_or(""), result.took.as_secs_f64());
        println!("{twin:<36} {:<20} {took:>8.1}  {end}", result.order.theorem);
    });
    results.iter().all(|result| {
        if !cfg!(feature = "loom")
            && result.order.twin.is_some_and(|twin| LOOM_ALONE.contains(&twin))
        {
            return !result.caught();
        }
        result.caught() && right(result)
    })
}

/// The orderings to which an operation can be weakened.
fn weaker(operation: &str, ordering: &str) -> &'static [&'static str] {
    match (operation, ordering) {
        ("fence", _) => &["none", "AcqRel"],
        (_, "AcqRel") => &["Acquire", "Release"],
        (_, "Acquire" | "Release") => &["Relaxed"],
        _ => &[],
    }
}

/// Each ordering in the runtime's files, weakened by itself, makes some theorem fail, or is listed
/// as needed by no theorem.
fn weakened(proofs: &[Found]) -> bool {
    if !cfg!(feature = "loom") {
        return true;
    }
    // By site: the theorems that reach it, the quickest first.
    let mut by_site: BTreeMap<(String, String), Vec<(usize, &'static str)>> = BTreeMap::new();
    for result in proofs {
        for site in result.out.lines().filter_map(|line| line.strip_prefix("site ")) {
            let [place, operation, ordering] = site.splitn(3, ' ').collect::<Vec<_>>()[..] else {
                continue;
            };
            for to in weaker(operation, ordering) {
                let key = (place.to_owned(), format!("{operation} {ordering} -> {to}"));
                let cost = result.executions().unwrap_or(usize::MAX);
                by_site.entry(key).or_default().push((cost, result.order.theorem));
            }
        }
    }
    println!("\n{:<36} {:<36} caught by", "ordering", "weakened");
    let good = Mutex::new(true);
    let sites: Vec<_> = by_site.into_iter().collect();
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(((place, change), theorems)) =
                    sites.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    if !one_weakened(place, change, theorems) {
                        *good.lock().unwrap_or_else(PoisonError::into_inner) = false;
                    }
                }
            });
        }
    });
    good.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn one_weakened(place: &str, change: &str, theorems: &[(usize, &'static str)]) -> bool {
    let mut theorems = theorems.to_vec();
    theorems.sort();
    let to = change.rsplit(' ').next().unwrap_or_default();
    let caught = theorems.iter().find_map(|(_, theorem)| {
        let weakened = Some((place.to_owned(), to.to_owned()));
        let result = run(Order { theorem, twin: None, weakened });
        result.caught().then(|| (*theorem, result.said()))
    });
    let spare =
        SPARE.iter().find(|spare| is_there(spare.file, spare.line, place) && spare.to == to);
    let (good, what) = match (caught, spare) {
        (Some((theorem, said)), None) => (true, format!("{theorem}: {said}")),
        (None, Some(spare)) => (true, format!("nothing: {}", spare.why)),
        (Some((theorem, said)), Some(_)) => {
            (false, format!("{theorem}, ALTHOUGH IT IS LISTED AS SPARE: {said}"))
        }
        (None, None) => (false, "NOT CAUGHT".to_owned()),
    };
    println!("{place:<36} {change:<36} {what}");
    good
}

/// Whether a place is in a line of a file that contains this.
fn is_there(file: &str, part: &str, place: &str) -> bool {
    let mut at = place.split(':');
    let (Some(name), Some(Ok(line))) = (at.next(), at.next().map(str::parse::<usize>)) else {
        return false;
    };
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../").to_owned() + name;
    let text = std::fs::read_to_string(path).unwrap_or_default();
    name == file && text.lines().nth(line - 1).is_some_and(|line| line.contains(part))
}
