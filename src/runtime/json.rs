//! How a status's times and names are serialised: the same way in every field.

use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};
use snapline_protocol::ids::{Attempt, CheckpointId};

/// A time in milliseconds.
pub(crate) fn ms<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(in_ms(*time))
}

/// A time in milliseconds, if there is one.
pub(crate) fn some_ms<S: Serializer>(time: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    time.map(in_ms).serialize(to)
}

/// A date in milliseconds since 1970.
pub(crate) fn date<S: Serializer>(at: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    to.serialize_u64(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// An attempt as `term.number`.
pub(crate) fn attempt<S: Serializer>(attempt: &Attempt, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(attempt)
}

/// An attempt as `term.number`, if there is one.
pub(crate) fn some_attempt<S: Serializer>(
    attempt: &Option<Attempt>,
    to: S,
) -> Result<S::Ok, S::Error> {
    attempt.map(|attempt| attempt.to_string()).serialize(to)
}

/// A checkpoint, and a time in milliseconds.
pub(crate) fn committed<S: Serializer>(
    committed: &Option<(CheckpointId, Duration)>,
    to: S,
) -> Result<S::Ok, S::Error> {
    committed.map(|(checkpoint, age)| (checkpoint, in_ms(age))).serialize(to)
}

fn in_ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
