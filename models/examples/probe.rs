//! probe
use snapline_models::explore::*;
use snapline_models::laws::Law;
use snapline_models::model::Model;
use snapline_models::scenario::*;
use snapline_protocol::topology::Plan;
use std::sync::Arc;
fn run(s: Scenario) {
    let name = s.name.clone();
    let m = Model::new(s, None).unwrap();
    let b = Bounds { threads: 2, max_states: Some(5_000_000), ..Bounds::default() };
    let o = hunt(&m, &b, &|_p| {});
    let v = match &o.verdict {
        Verdict::Holds => "holds".into(),
        Verdict::Stopped(r) => format!("stopped {r:?}"),
        Verdict::Violated { violation, path, .. } => {
            for a in path {
                println!("   {a:?}");
            }
            match violation {
                Violation::Law(l) => format!("VIOLATED {}", Law::ALL[*l].name()),
                t => format!("{t:?}"),
            }
        }
    };
    println!(
        "{name:28} {v:20} unique {:>9} gen {:>9} depth {:>3} {:.2}s goals {} traps {:?} {:.0}k/s B/st {:?}",
        o.unique,
        o.generated,
        o.depth,
        o.seconds,
        o.goal_states,
        o.traps,
        o.unique as f64 / o.seconds / 1e3,
        o.bytes_per_state
    );
    let _ = Arc::new(0);
}
fn main() {
    let chain = || Plan::new().source("in", 1).sink("out", 1).forward("in", "out");
    let chain3 = || {
        Plan::new()
            .source("in", 1)
            .transform("map", 1)
            .sink("out", 1)
            .forward("in", "map")
            .forward("map", "out")
    };
    let fan = || {
        Plan::new()
            .source("a", 1)
            .source("b", 1)
            .transform("join", 1)
            .sink("out", 1)
            .forward("a", "join")
            .forward("b", "join")
            .forward("join", "out")
    };
    let shuffle = || {
        Plan::new()
            .source("in", 2)
            .transform("sum", 2)
            .sink("out", 2)
            .all_to_all("in", "sum")
            .forward("sum", "out")
    };
    let c = |n: &str, p, f: Faults, k| {
        let mut s = Scenario::new(n, p);
        s.faults = f;
        s.checkpoints = k;
        s
    };
    let crash = |n| Faults { crashes: n, ..Faults::default() };
    run(c("chain nofault", chain(), Faults::default(), 1));
    run(c("chain nofault 2", chain(), Faults::default(), 2));
    run(c("chain crash1", chain(), crash(1), 2));
    run(c("chain crash2", chain(), crash(2), 2));
    run(c("chain coord", chain(), Faults { coordinator_crashes: 2, ..Faults::default() }, 2));
    run(c(
        "chain zombies",
        chain(),
        Faults {
            coordinator_crashes: 0,
            zombie_tasks: 1,
            zombie_coordinators: 1,
            ..Faults::default()
        },
        2,
    ));
    run(c(
        "chain net",
        chain(),
        Faults { losses: 1, duplicates: 1, delays: 1, ..Faults::default() },
        2,
    ));
    run(c(
        "chain store",
        chain(),
        Faults {
            unknown_writes: 1,
            refused_writes: 1,
            failed_snapshots: 1,
            unknown_commits: 1,
            refused_commits: 1,
            timeouts: 1,
            ..Faults::default()
        },
        2,
    ));
    run(c("chain3 nofault", chain3(), Faults::default(), 1));
    run(c("chain3 crash", chain3(), crash(1), 1));
    run(c("fan nofault", fan(), Faults::default(), 1));
    run(c("fan crash", fan(), crash(1), 1));
    run(c("shuffle nofault", shuffle(), Faults::default(), 1));
}
