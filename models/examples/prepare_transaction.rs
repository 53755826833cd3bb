//! A sink into a database with `PREPARE TRANSACTION` and `COMMIT PREPARED`: exactly once, though
//! the outcome of a commit may stay unknown.
//!
//! The connection breaks during `COMMIT PREPARED`: the transaction may or may not be committed. The
//! sink asks again by the transaction's name until the database answers. "There is no such prepared
//! transaction" then means that it was committed before.

use std::io::{self, Write};

use snapline_models::check::{Check, CheckOutcome};
use snapline_models::sink::SinkModel;
use snapline_protocol::topology::Plan;

/// A source and a table, with a crash, two commits of unknown outcome and one that is refused.
pub(crate) fn checked() -> CheckOutcome {
    let plan = Plan::new().source("orders", 1).sink("table", 1).forward("orders", "table");
    Check::new(plan)
        .sink(SinkModel::prepare_transaction())
        .crashes(1)
        .unknown_commits(2)
        .refused_commits(1)
        .run()
}

fn main() -> io::Result<()> {
    let checked = checked();
    writeln!(io::stdout(), "{checked}")?;
    checked.assert_exactly_once();
    Ok(())
}
