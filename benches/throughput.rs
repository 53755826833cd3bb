//! Throughput beside two yardsticks, in one run: `cargo bench --bench throughput`.
//!
//! W1: a keyed count; W2: source, map, filter, sink. Each contestant computes the same result,
//! which is verified. A round runs every contestant once. The output is medians over the rounds,
//! with the smallest and the largest, and ratios to timely.
//!
//! `--record` adds snapline with recording on, beside the same with recording off.
//!
//! `-- [--rounds N] [--w1 RECORDS] [--w2 RECORDS] [--long RECORDS] [--table TITLE] [--only NAME]
//! [--record]`

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program that prints, and dies of any failure"
)]

mod contestants;

use std::time::{Duration, Instant};

use cpu_time::ProcessTime;

use contestants::{hand, ours, with_timely};

type Run = Box<dyn Fn()>;

struct Contestant {
    name: &'static str,
    records: u64,
    run: Run,
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let value =
        |flag: &str| args.iter().position(|arg| arg == flag).and_then(|at| args.get(at + 1));
    let number = |flag, default| value(flag).map_or(default, |text| text.parse::<u64>().unwrap());
    let rounds = number("--rounds", 5) as usize;
    let (w1, w2) = (number("--w1", 20_000_000), number("--w2", 50_000_000));
    let long = number("--long", 10 * w1);
    let ms = Duration::from_millis;
    let all = |name, records, run: Run| Contestant { name, records, run };
    let tables = [
        ("W1 keyed count", keyed(w1, &all)),
        ("W1 keyed count, long", keyed(long, &all)),
        (
            "W2 source, map, filter, sink",
            vec![
                all("snapline", w2, Box::new(move || ours::chain(w2, None)) as Run),
                all(
                    "snapline, checkpoints every 1 s",
                    w2,
                    Box::new(move || ours::chain(w2, Some(ms(1000)))),
                ),
                all(
                    "snapline, checkpoints every 100 ms",
                    w2,
                    Box::new(move || ours::chain(w2, Some(ms(100)))),
                ),
                all("timely", w2, Box::new(move || with_timely::chain(w2))),
                all("by hand, fused loop", w2, Box::new(move || hand::chain(w2))),
            ],
        ),
    ];
    let mut tables = tables;
    if args.iter().any(|arg| arg == "--record") {
        let (w1_recorded, w2_recorded) = (
            move || ours::count_recorded(w1, Some(ms(100))),
            move || ours::chain_recorded(w2, Some(ms(100))),
        );
        let name = "snapline, the same, recorded";
        tables[0].1.insert(3, all(name, w1, Box::new(w1_recorded)));
        tables[2].1.insert(3, all(name, w2, Box::new(w2_recorded)));
    }
    let (only, table) = (value("--only"), value("--table"));
    for (title, contestants) in tables {
        if table.is_some_and(|table| !title.contains(table.as_str())) {
            continue;
        }
        println!("\n{title}");
        let chosen = |c: &&Contestant| only.is_none_or(|only| c.name.contains(only.as_str()));
        let contestants: Vec<&Contestant> = contestants.iter().filter(chosen).collect();
        let mut times = vec![Vec::new(); contestants.len()];
        for round in 0..=rounds {
            for (contestant, times) in contestants.iter().zip(&mut times) {
                let (wall, cpu) = (Instant::now(), ProcessTime::now());
                (contestant.run)();
                // The first round warms up.
                if round > 0 {
                    times.push((wall.elapsed(), cpu.elapsed()));
                }
            }
        }
        report(&contestants, &times);
    }
}

fn keyed(records: u64, all: &dyn Fn(&'static str, u64, Run) -> Contestant) -> Vec<Contestant> {
    let ms = Duration::from_millis;
    vec![
        all("snapline", records, Box::new(move || ours::count(records, None))),
        all(
            "snapline, checkpoints every 1 s",
            records,
            Box::new(move || ours::count(records, Some(ms(1000)))),
        ),
        all(
            "snapline, checkpoints every 100 ms",
            records,
            Box::new(move || ours::count(records, Some(ms(100)))),
        ),
        all("timely", records, Box::new(move || with_timely::count(records))),
        all("by hand, source to count", records, Box::new(move || hand::count(records))),
        all("by hand, all to all", records, Box::new(move || hand::count_all_to_all(records))),
    ]
}

fn report(contestants: &[&Contestant], times: &[Vec<(Duration, Duration)>]) {
    let sorted = |times: &[(Duration, Duration)], pick: fn(&(Duration, Duration)) -> Duration| {
        let mut picked: Vec<f64> = times.iter().map(|time| pick(time).as_secs_f64()).collect();
        picked.sort_by(f64::total_cmp);
        picked
    };
    let rate = |contestant: &Contestant, seconds: f64| contestant.records as f64 / seconds / 1e6;
    let place = contestants.iter().position(|contestant| contestant.name == "timely");
    let yardstick = place.map(|place| {
        let wall = sorted(&times[place], |time| time.0);
        rate(contestants[place], wall[wall.len() / 2])
    });
    println!(
        "{:<38} {:>9} {:>19} {:>10} {:>10}",
        "", "M rec/s", "min - max", "CPU ns/rec", "to timely"
    );
    for (contestant, times) in contestants.iter().zip(times) {
        let (wall, cpu) = (sorted(times, |time| time.0), sorted(times, |time| time.1));
        let median = rate(contestant, wall[wall.len() / 2]);
        println!(
            "{:<38} {:>9.1} {:>9.1} - {:>7.1} {:>10.1} {:>10}",
            contestant.name,
            median,
            rate(contestant, wall[wall.len() - 1]),
            rate(contestant, wall[0]),
            cpu[cpu.len() / 2] * 1e9 / contestant.records as f64,
            yardstick.map_or("-".into(), |yardstick| format!("{:.2}", median / yardstick)),
        );
    }
}
