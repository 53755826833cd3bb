//! A sink that writes files and makes them visible by an atomic rename: exactly once, with two
//! crashes.
//!
//! Pre-commit writes `<transaction>.tmp` and syncs it; commit renames it. A repeated rename finds
//! the file renamed and changes nothing. A writer of an ended attempt can still leave a temporary
//! file, so one such zombie is allowed, too.

use std::io::{self, Write};

use snapline_models::check::{Check, CheckOutcome};
use snapline_models::sink::SinkModel;
use snapline_protocol::topology::Plan;

/// A job from its log to its files, with two crashes; and with one crash and a zombie beside it.
pub(crate) fn checks() -> [CheckOutcome; 2] {
    let plan = Plan::new().source("log", 1).sink("files", 1).forward("log", "files");
    let check = Check::new(plan).sink(SinkModel::atomic_rename());
    [check.clone().crashes(2).run(), check.crashes(1).zombies(1).run()]
}

fn main() -> io::Result<()> {
    for checked in checks() {
        writeln!(io::stdout(), "{checked}\n")?;
        checked.assert_exactly_once();
    }
    Ok(())
}
