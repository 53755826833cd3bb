//! The shapes that the configurations and mutants run on.

use snapline_protocol::topology::Plan;

/// A source and a sink.
#[must_use]
pub fn chain() -> Plan {
    Plan::new().source("in", 1).sink("out", 1).forward("in", "out")
}

/// A source, a transform, a sink.
#[must_use]
pub fn chain_of_three() -> Plan {
    Plan::new()
        .source("in", 1)
        .transform("map", 1)
        .sink("out", 1)
        .forward("in", "map")
        .forward("map", "out")
}

/// Two sources into one sink: the smallest alignment.
#[must_use]
pub fn pair() -> Plan {
    Plan::new().source("a", 1).source("b", 1).sink("out", 1).forward("a", "out").forward("b", "out")
}

/// Two sources, joined, then a sink.
#[must_use]
pub fn fan_in() -> Plan {
    Plan::new()
        .source("a", 1)
        .source("b", 1)
        .transform("join", 1)
        .sink("out", 1)
        .forward("a", "join")
        .forward("b", "join")
        .forward("join", "out")
}

/// A source whose records take two paths and meet again.
#[must_use]
pub fn diamond() -> Plan {
    Plan::new()
        .source("in", 1)
        .transform("left", 1)
        .transform("right", 1)
        .sink("out", 1)
        .forward("in", "left")
        .forward("in", "right")
        .forward("left", "out")
        .forward("right", "out")
}

/// Two source subtasks, two keyed subtasks, all to all, two sink subtasks.
#[must_use]
pub fn shuffle() -> Plan {
    Plan::new()
        .source("in", 2)
        .transform("sum", 2)
        .sink("out", 2)
        .all_to_all("in", "sum")
        .forward("sum", "out")
}

/// A source into two sinks.
#[must_use]
pub fn two_sinks() -> Plan {
    Plan::new()
        .source("in", 1)
        .sink("log", 1)
        .sink("alerts", 1)
        .forward("in", "log")
        .forward("in", "alerts")
}
