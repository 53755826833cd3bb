//! Each target on inputs from a seed, a fixed number of times, and on inputs that broke it once.
//!
//! `SNAPLINE_FUZZ_RUNS` multiplies the number of runs, `SNAPLINE_FUZZ_SEED` takes other inputs. A
//! failing input is minimised, and reported in hexadecimal and as a file: put that into
//! `fuzz/regressions/<target>`.

#![allow(unsafe_code, reason = "an allocator that counts is one that allocates")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use snapline_fuzz::mutate::{Random, mutate};
use snapline_fuzz::{MEMORY, TARGETS, Target, find};

/// Runs of a target for each share of it.
const RUNS: u64 = 1000;

/// The seed of all inputs, unless another is given.
const SEED: u64 = 1;

/// The longest run, on the slowest machine.
const LONGEST: Duration = Duration::from_secs(10);

/// Counts the memory that each thread holds.
struct Counting;

thread_local! {
    /// The memory that this thread holds, and its peak.
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

fn count(bytes: isize) {
    // A thread that ends frees memory after its counter is gone.
    let _ = HELD.try_with(|held| {
        let (now, most) = held.get();
        held.set((now + bytes, most.max(now + bytes)));
    });
}

// SAFETY: all of it is the system's allocator, whose contract is this one's; counting allocates
// nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The failure of a run on these bytes.
fn wrong(target: &Target, bytes: &[u8]) -> Option<String> {
    let before = HELD.with(|held| {
        let (now, _) = held.get();
        held.set((now, now));
        now
    });
    let begun = Instant::now();
    let run = catch_unwind(AssertUnwindSafe(|| (target.run)(bytes)));
    let took = begun.elapsed();
    let most = HELD.with(Cell::get).1 - before;
    match run {
        Err(what) => {
            let text = what.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| what.downcast_ref::<&str>().copied());
            Some(format!("it panicked: {}", text.unwrap_or("with something else than a text")))
        }
        Ok(()) if most > MEMORY as isize => Some(format!("it took {most} bytes of memory")),
        Ok(()) if took > LONGEST => Some(format!("it took {took:?}")),
        Ok(()) => None,
    }
}

/// The input without the parts that it does not need to fail.
fn smaller(target: &Target, mut bytes: Vec<u8>) -> Vec<u8> {
    let mut piece = bytes.len() / 2;
    let mut left = 500;
    while piece > 0 && left > 0 {
        let mut at = 0;
        while at < bytes.len() && left > 0 {
            left -= 1;
            let end = (at + piece).min(bytes.len());
            let without = [&bytes[..at], &bytes[end..]].concat();
            match wrong(target, &without) {
                Some(_) => bytes = without,
                None => at = end,
            }
        }
        piece /= 2;
    }
    bytes
}

fn try_on(target: &Target, bytes: Vec<u8>, which: &str) {
    let Some(what) = wrong(target, &bytes) else { return };
    let bytes = smaller(target, bytes);
    let what = wrong(target, &bytes).unwrap_or(what);
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.input", target.name));
    let saved =
        fs::write(&file, &bytes).map_or_else(|error| error.to_string(), |()| "there".into());
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    panic!("{}, {which}: {what}\n{} ({saved}): {hex}", target.name, file.display());
}

fn number(variable: &str, otherwise: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")),
        Err(_) => otherwise,
    }
}

fn check(name: &str) {
    let target = find(name).expect("it is in the table");
    let seeds = (target.seeds)();
    assert!(!seeds.is_empty(), "there is something to begin with");
    for (number, seed) in seeds.iter().enumerate() {
        try_on(target, seed.clone(), &format!("seed {number}"));
    }
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions").join(name);
    for entry in fs::read_dir(found).into_iter().flatten() {
        let path = entry.expect("it can be listed").path();
        let bytes = fs::read(&path).expect("it can be read");
        try_on(target, bytes, &path.display().to_string());
    }
    let of_all = number("SNAPLINE_FUZZ_SEED", SEED);
    // Each target has random numbers of its own.
    let own = name.bytes().fold(of_all, |seed, byte| seed.wrapping_mul(257) ^ u64::from(byte));
    let mut random = Random::new(own);
    for run in 0..number("SNAPLINE_FUZZ_RUNS", 1) * RUNS * u64::from(target.share) {
        let bytes = mutate(&mut random, &seeds, target.words);
        try_on(target, bytes, &format!("run {run} of SNAPLINE_FUZZ_SEED={of_all}"));
    }
}

/// A test of each target.
macro_rules! targets {
    ($($name:ident $text:literal),+ $(,)?) => {
        const TESTED: &[&str] = &[$($text),+];
        $(#[test]
        fn $name() {
            check($text);
        })+
    };
}

targets!(
    fence "fence",
    manifest "manifest",
    blob "blob",
    contents "contents",
    state "state",
    ingest_log "ingest-log",
    run_trace "run-trace",
    sink_names "sink-names",
    model_trace "model-trace",
    topology "topology",
    settings "settings",
    csv "csv",
    json_lines "json-lines",
    http_pages "http-pages",
    http_explore "http-explore",
    http_ingest "http-ingest",
);

#[test]
fn every_target_is_tested_and_is_one_of_libfuzzers() {
    let all: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(TESTED, all);
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("libfuzzer/Cargo.toml");
    let manifest = fs::read_to_string(manifest).expect("it can be read");
    let named = manifest.split("[[bin]]\nname = \"").skip(1);
    let named: Vec<&str> = named.filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(named, all, "the binaries of fuzz/libfuzzer/Cargo.toml");
}

#[test]
fn the_inputs_are_decided_by_the_seed() {
    let seeds = [b"one 1".to_vec(), vec![0; 40]];
    let inputs = |seed| {
        let mut random = Random::new(seed);
        (0..50).map(|_| mutate(&mut random, &seeds, &["word"])).collect::<Vec<_>>()
    };
    assert_eq!(inputs(1), inputs(1));
    assert_ne!(inputs(1), inputs(2));
}
