//! Real runs, replayed.

use snapline::trace::replay;

use crate::jobs::{eventful, read};

#[test]
fn a_job_that_fails_and_stops_and_goes_on_is_as_the_protocol_has_it() {
    let traces = read(&eventful());
    assert_eq!(traces.len(), 3, "one of each term");
    let replayed = replay(&traces).unwrap_or_else(|difference| panic!("{difference}"));
    println!("{replayed}\n{:?}", replayed.tally);
}
