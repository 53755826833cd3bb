//! Sinks into a log with transactional producers: two that may lose data, and a way out.
//!
//! - A producer whose broker aborts a prepared transaction after a time-out: a job that is down for
//!   longer loses what its last checkpoint had pre-committed. The protocol notices and fails the
//!   job loudly, but the data is gone.
//! - A producer that the broker knows by name and epoch, not by transaction: when the next attempt
//!   announces itself, the broker aborts what the last one had prepared, time-out or not.
//! - The way out: the checkpoint keeps the data, and commit writes it together with a marker that
//!   names the transaction, in one transaction of the broker. A marker that exists means that the
//!   transaction was committed.

use std::io::{self, Write};

use snapline_models::check::{Check, CheckOutcome};
use snapline_models::sink::SinkModel;
use snapline_protocol::topology::Plan;

/// A source and a topic with a sink of this kind, with one crash; the first kind may drop one
/// transaction.
pub(crate) fn checked(sink: SinkModel) -> CheckOutcome {
    let plan = Plan::new().source("in", 1).sink("topic", 1).forward("in", "topic");
    Check::new(plan).sink(sink).run()
}

fn main() -> io::Result<()> {
    let mut out = io::stdout();
    for (name, sink) in [
        ("a producer with a transaction time-out", SinkModel::producer_with_timeout()),
        ("a producer known by its epoch", SinkModel::producer_with_epoch()),
        ("data in the checkpoint, a marker in the transaction", SinkModel::marker_in_transaction()),
    ] {
        writeln!(out, "{name}: {}\n", checked(sink))?;
    }
    Ok(())
}
