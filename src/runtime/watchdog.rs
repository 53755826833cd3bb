//! The coordinator's thread, and the one that watches it: whatever happens to the first, the job
//! comes to an end (SPEC 15.13).

use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use crate::base::panic::guarded;
use crate::base::sync::thread;
use crate::base::watch::{Watch, every, stood_still};
use crate::runtime::handle::{JobError, Outcome};
use crate::runtime::status::StatusBoard;

/// The state of a coordinator's thread.
enum CoordinatorReport {
    /// It runs.
    Started,
    /// It has ended.
    Ended(Box<Result<Outcome, JobError>>),
}

/// Runs a coordinator on a watched thread of its own, and returns when it reports that it has
/// started. The thread to join ends with the coordinator, or when the coordinator hangs.
///
/// # Errors
/// Why it has not started.
pub(crate) fn start(
    board: StatusBoard,
    limit: Duration,
    run: impl FnOnce(&dyn Fn()) -> Result<Outcome, JobError> + Send + 'static,
) -> Result<thread::JoinHandle<Result<Outcome, JobError>>, JobError> {
    let ((say, said), (started, has_started)) = (bounded(2), bounded(1));
    let (watch, telling) = (Watch::default(), say.clone());
    let watched = watch.clone();
    let coordinate = move || {
        let started = || _ = telling.send(CoordinatorReport::Started);
        let ended = watched.over(|| guarded(|| Ok(run(&started))));
        let ended = ended.unwrap_or_else(|what| Err(JobError::Panicked(what.to_string())));
        // The watching thread has given up, or waits for this.
        let _ = say.send(CoordinatorReport::Ended(Box::new(ended)));
    };
    let watching = move || {
        let mut starting = Some(started);
        loop {
            let looked = Instant::now();
            let ended = match said.recv_timeout(every(limit)) {
                Ok(CoordinatorReport::Started) => {
                    tell(starting.take(), Ok(()));
                    continue;
                }
                Ok(CoordinatorReport::Ended(ended)) => *ended,
                Err(RecvTimeoutError::Disconnected) => {
                    Err(JobError::Panicked("ended without a report".to_owned()))
                }
                Err(RecvTimeoutError::Timeout) if stood_still(looked, every(limit)) => {
                    watch.thaw();
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => {
                    let Some(hung) = watch.hung(limit) else { continue };
                    let waiting_for = format!("the coordinator, {}", hung.doing);
                    Err(JobError::Hung { waiting_for, time: hung.time })
                }
            };
            if let Err(error @ (JobError::Hung { .. } | JobError::Panicked(_))) = &ended {
                // A reader of the status must not see a running job.
                board.over(Some(error.to_string()));
            }
            return match (starting.take(), ended) {
                (Some(starting), Err(error)) => {
                    tell(Some(starting), Err(error));
                    Err(JobError::Panicked("did not start".to_owned()))
                }
                (_, ended) => ended,
            };
        }
    };
    let named = |name: &str| thread::Builder::new().name(name.to_owned());
    let watchdog = named("snapline-watchdog").spawn(watching).map_err(JobError::Thread)?;
    named("snapline-coordinator").spawn(coordinate).map_err(JobError::Thread)?;
    match has_started.recv() {
        Ok(Ok(())) => Ok(watchdog),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(JobError::Panicked("ended without a report".to_owned())),
    }
}

/// Reports the outcome of the start to the waiting thread.
fn tell(to: Option<Sender<Result<(), JobError>>>, what: Result<(), JobError>) {
    if let Some(to) = to {
        // It waits; a thread that no longer waits need not know.
        let _ = to.send(what);
    }
}

#[cfg(all(test, not(snapline_loom)))]
mod tests {
    use super::*;
    use crate::base::watch;
    use crate::runtime::status::JobPhase;

    /// The outcome of a coordinator that does this, and what its watchdog reports.
    fn ended(
        run: impl FnOnce(&dyn Fn()) -> Result<Outcome, JobError> + Send + 'static,
    ) -> (JobError, StatusBoard) {
        let board = StatusBoard::default();
        let error = match start(board.clone(), Duration::from_millis(50), run) {
            Ok(watchdog) => watchdog.join().expect("it watches to the end").expect_err("it fails"),
            Err(error) => error,
        };
        (error, board)
    }

    #[test]
    fn a_coordinator_that_panics_ends_the_job_and_is_quoted() {
        for starts in [false, true] {
            let (error, board) = ended(move |started| {
                if starts {
                    started();
                }
                panic!("planned");
            });
            assert!(matches!(&error, JobError::Panicked(what) if what == "panicked: planned"));
            let status = board.read();
            assert_eq!((status.phase, status.failure), (JobPhase::Ended, Some(error.to_string())));
        }
    }

    #[test]
    fn a_coordinator_that_hangs_ends_the_job_and_is_left() {
        for starts in [false, true] {
            let (error, board) = ended(move |started| {
                if starts {
                    started();
                }
                watch::begin("coordinating the job", None);
                loop {
                    thread::park();
                }
            });
            match &error {
                JobError::Hung { waiting_for, .. } => {
                    assert_eq!(waiting_for, "the coordinator, coordinating the job");
                }
                other => panic!("{other}"),
            }
            let status = board.read();
            assert_eq!((status.phase, status.failure), (JobPhase::Ended, Some(error.to_string())));
        }
    }
}
