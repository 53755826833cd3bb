//! A source from each of its positions.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use snapline_protocol::ids::{Attempt, Term};

use super::laws::{Law, Report, Violation};
use crate::base::error::BoxError;
use crate::base::panic::panicked;
use snapline_core::connect::{OpenContext, Progress, Source, SourceReader};

/// The numbers of records that the reads request, one after the other.
const LIMITS: [usize; 5] = [1, 3, 2, 17, 5];

/// How many times in a row a source may report that nothing is there now.
const WAITS: usize = 1000;

/// A check of a source, see [`source`].
#[derive(Debug)]
#[must_use = "nothing is checked before `check` is called"]
pub struct SourceCheck<S> {
    source: S,
    parallelism: Vec<usize>,
    at_most: usize,
}

/// A check of a source. One, two and three subtasks read it in small steps. Reopened after each of
/// them, it has to give the same records as the first time. The subtasks together have to give the
/// same records, whatever their number.
pub fn source<S>(source: S) -> SourceCheck<S>
where
    S: Source,
    S::Record: Clone + PartialEq + Debug,
{
    SourceCheck { source, parallelism: vec![1, 2, 3], at_most: 200 }
}

impl<S> SourceCheck<S>
where
    S: Source,
    S::Record: Clone + PartialEq + Debug,
{
    /// The numbers of subtasks that read it, one after the other.
    pub fn parallelism(mut self, parallelism: impl Into<Vec<usize>>) -> Self {
        self.parallelism = parallelism.into();
        self
    }

    /// The most records that are read of each subtask; 200 by default. Reading from each position
    /// again takes time by the square of that. If a subtask has more, the reads of several subtasks
    /// are not compared.
    pub const fn at_most(mut self, records: usize) -> Self {
        self.at_most = records;
        self
    }

    /// Reads it again and again.
    ///
    /// # Errors
    /// The first broken law, with the steps that lead there.
    pub fn check(self) -> Result<Report, Box<Violation>> {
        let mut report = Report::default();
        let mut of_one: Option<Vec<S::Record>> = None;
        for &parallelism in &self.parallelism {
            let mut all = Vec::new();
            let mut whole = true;
            for index in 0..parallelism {
                let place = SubtaskPlace { index, parallelism };
                let (records, ended) = self.subtask(place, &mut report)?;
                all.extend(records);
                whole &= ended;
            }
            if !whole {
                continue;
            }
            match &of_one {
                None => of_one = Some(all),
                Some(others) => compare(others, all, parallelism)?,
            }
        }
        Ok(report)
    }

    /// Reads one subtask's records, then those after each position again.
    fn subtask(
        &self,
        place: SubtaskPlace,
        report: &mut Report,
    ) -> Result<(Vec<S::Record>, bool), Box<Violation>> {
        let mut first = self.guarded(place, None, report)?;
        let positions = std::mem::take(&mut first.positions);
        for (at, position) in positions {
            report.crashes += 1;
            let mut again = self.guarded(place, Some((at, position)), report)?;
            let expected = &first.records[at..];
            let shorter = expected.len().min(again.records.len());
            let differs = (0..shorter).find(|&at| expected[at] != again.records[at]);
            let seen = match differs {
                Some(differs) => {
                    let (number, before) = (at + differs, &expected[differs]);
                    let now = &again.records[differs];
                    format!("record {number} was {before:?} at first, but is {now:?} now")
                }
                None if expected.len() != again.records.len() => {
                    let (before, now) = (expected.len(), again.records.len());
                    format!("{before} records followed at first, but {now} now")
                }
                None => continue,
            };
            again.steps.push(format!("compare with what followed at first, from record {at}"));
            return Err(violation(Law::Replayable, seen, again.steps));
        }
        Ok((first.records, first.ended))
    }

    fn guarded(
        &self,
        place: SubtaskPlace,
        from: Option<(usize, Vec<u8>)>,
        report: &mut Report,
    ) -> Result<ReadBatch<S::Record>, Box<Violation>> {
        let mut reading = ReadBatch::new();
        report.runs += 1;
        let read = catch_unwind(AssertUnwindSafe(|| self.read(place, from, &mut reading)));
        let read =
            read.unwrap_or_else(|panic| Err((Law::CallsReturn, panicked(&*panic).to_string())));
        report.calls += reading.steps.len() as u64;
        report.records += reading.records.len() as u64;
        match read {
            Ok(()) => Ok(reading),
            Err((law, seen)) => Err(violation(law, seen, reading.steps)),
        }
    }

    fn read(
        &self,
        place: SubtaskPlace,
        from: Option<(usize, Vec<u8>)>,
        reading: &mut ReadBatch<S::Record>,
    ) -> Result<(), (Law, String)> {
        let SubtaskPlace { index, parallelism } = place;
        let attempt = Attempt::first(Term::new(1));
        let context = OpenContext::new("testkit", "source", index, parallelism, attempt);
        let at = from.as_ref().map_or(0, |(at, _)| *at);
        let position = from.map(|(_, bytes)| super::read::<S::Position>(&bytes));
        let position = position.transpose().map_err(|error| (Law::StateIsData, error))?;
        reading.steps.push(match &position {
            None => format!("open subtask {index} of {parallelism} at the beginning"),
            Some(_) => format!("open subtask {index} of {parallelism} after record {at}"),
        });
        let failed = |error: BoxError| (Law::CallsReturn, error.to_string());
        let mut reader = self.source.open(&context, position).map_err(failed)?;
        let mut waits = 0;
        for limit in LIMITS.iter().copied().cycle() {
            let position =
                super::written(&reader.position()).map_err(|error| (Law::StateIsData, error))?;
            reading.positions.push((reading.records.len(), position));
            let before = reading.records.len();
            // Reopened after some of them, it is to end where it ended at first.
            if at + before >= self.at_most {
                reading.records.truncate(self.at_most - at);
                reading.positions.retain(|(behind, _)| at + behind <= self.at_most);
                return Ok(());
            }
            reading.steps.push(format!("read {limit} records"));
            let progress = reader.read(limit, &mut reading.records).map_err(failed)?;
            let got = reading.records.len() - before;
            if got > 2 * limit + 64 {
                return Err((Law::LimitIsKept, format!("{got} records came")));
            }
            match progress {
                Progress::More => waits = 0,
                Progress::Wait(_) if got > 0 => waits = 0,
                Progress::Wait(pause) => {
                    waits += 1;
                    if waits > WAITS {
                        let seen = format!(
                            "{WAITS} times in a row the source said that no record is \
                                available now"
                        );
                        return Err((Law::CallsReturn, seen));
                    }
                    crate::base::sync::thread::sleep(pause.min(Duration::from_millis(10)));
                }
                Progress::End => break,
            }
        }
        reading.ended = true;
        let position =
            super::written(&reader.position()).map_err(|error| (Law::StateIsData, error))?;
        reading.positions.push((reading.records.len(), position));
        let before = reading.records.len();
        reading.steps.push("read after the end".to_owned());
        let progress = reader.read(1, &mut reading.records).map_err(failed)?;
        let more = reading.records.len() - before;
        match progress {
            Progress::End if more == 0 => Ok(()),
            _ => Err((Law::EndIsEnd, format!("it said {progress:?} and gave {more} records"))),
        }
    }
}

/// Which subtask.
#[derive(Clone, Copy)]
struct SubtaskPlace {
    index: usize,
    parallelism: usize,
}

/// The result of one read through.
struct ReadBatch<T> {
    records: Vec<T>,
    /// For each position: the number of records before it, and its bytes in a checkpoint.
    positions: Vec<(usize, Vec<u8>)>,
    /// Whether it reported its end.
    ended: bool,
    steps: Vec<String>,
}

impl<T> ReadBatch<T> {
    const fn new() -> Self {
        Self { records: Vec::new(), positions: Vec::new(), ended: false, steps: Vec::new() }
    }
}

fn violation(law: Law, seen: String, steps: Vec<String>) -> Box<Violation> {
    Box::new(Violation { law, seen, steps })
}

/// Compares the records of several subtasks with those of a read by others, in any order.
fn compare<T: PartialEq + Debug>(
    others: &[T],
    mut all: Vec<T>,
    parallelism: usize,
) -> Result<(), Box<Violation>> {
    let steps = vec![format!("read it with {parallelism} subtasks")];
    for record in others {
        let Some(at) = all.iter().position(|other| other == record) else {
            let seen = format!("no subtask read {record:?}");
            return Err(violation(Law::SameForAll, seen, steps));
        };
        all.swap_remove(at);
    }
    match all.first() {
        None => Ok(()),
        Some(record) => {
            let seen = format!("{record:?} was read, or read more often than before");
            Err(violation(Law::SameForAll, seen, steps))
        }
    }
}
