//! One life of the job's process, seen by its parent.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::child::ChildStatus;
use super::{DemoPlan, PATIENCE};
use crate::CommandError;
use crate::args::DemoArgs;

/// How often the parent looks at the clock and at Ctrl-C.
const TICK: Duration = Duration::from_millis(5);

/// A process. Dropped, it is killed: it never outlives the demonstration.
pub(super) struct ChildProcess {
    child: Child,
    reports: Receiver<ChildStatus>,
    last: ChildStatus,
    began: Instant,
}

/// How a life ended.
pub(super) enum LifeEnd {
    /// With the job.
    Finished,
    /// By SIGKILL.
    Killed,
    /// By Ctrl-C.
    Stopped,
    /// On its own, too early; with what it said.
    Failed(String),
}

impl ChildProcess {
    pub(super) fn begin(
        args: &DemoArgs,
        work: &DemoPlan,
        dir: &Path,
    ) -> Result<Self, CommandError> {
        let failed =
            |error| CommandError::Usage(format!("cannot start this command again: {error}"));
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command.arg("demo-child").arg("--dir").arg(dir).arg("--input").args(&work.inputs);
        command.args(["--passes", &work.passes.to_string(), "--rate", &work.rate.to_string()]);
        if args.unsafe_sink {
            command.arg("--unsafe-sink");
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let (sender, reports) = channel();
        if let Some(out) = child.stdout.take() {
            // It ends with the process: nothing else holds the other end of the pipe.
            thread::spawn(move || {
                for line in BufReader::new(out).lines().map_while(Result::ok) {
                    // The last line of a process that was killed may be cut short.
                    if let Ok(report) = serde_json::from_str(&line)
                        && sender.send(report).is_err()
                    {
                        break;
                    }
                }
            });
        }
        Ok(Self { child, reports, last: ChildStatus::default(), began: Instant::now() })
    }

    /// The last that was heard of it.
    pub(super) const fn report(&self) -> &ChildStatus {
        &self.last
    }

    /// Waits for its end. It is killed `due` after its beginning, but not before it has read
    /// something and completed a checkpoint; and if `midway`, while a checkpoint is under way.
    /// `look` is shown each report, and says whether to stop.
    pub(super) fn watch(
        &mut self,
        due: Option<Duration>,
        midway: bool,
        mut look: impl FnMut(&ChildStatus) -> bool,
    ) -> Result<LifeEnd, CommandError> {
        // Reports in a row with a checkpoint under way: by the second the barriers have arrived.
        let mut under_way = 0;
        loop {
            match self.reports.recv_timeout(TICK) {
                Ok(report) => {
                    under_way = if report.under_way { under_way + 1 } else { 0 };
                    self.last = report;
                }
                Err(RecvTimeoutError::Timeout) => {}
                // It has closed its end: it has ended, or is about to.
                Err(RecvTimeoutError::Disconnected) => return self.ended(),
            }
            if look(&self.last) {
                self.kill()?;
                return Ok(LifeEnd::Stopped);
            }
            let Some(due) = due else { continue };
            let lived = self.began.elapsed();
            let progress = self.last.read > 0 && self.last.completed > 0;
            if lived >= due && progress && (!midway || (2..5).contains(&under_way)) {
                return self
                    .kill()
                    .map(|killed| if killed { LifeEnd::Killed } else { LifeEnd::Finished });
            }
            if lived > due + PATIENCE {
                self.kill()?;
                return Ok(LifeEnd::Failed(format!(
                    "no checkpoint completed within {PATIENCE:?}; the machine may be overloaded"
                )));
            }
        }
    }

    /// Kills it; says whether it was alive.
    fn kill(&mut self) -> Result<bool, CommandError> {
        let failed = |error| CommandError::Usage(format!("cannot kill the process: {error}"));
        let alive = self.child.try_wait().map_err(failed)?.is_none();
        self.child.kill().map_err(failed)?;
        let status = self.child.wait().map_err(failed)?;
        // What it said before it died is still in the pipe; its last report is closest to what it
        // had read.
        while let Ok(report) = self.reports.recv() {
            self.last = report;
        }
        Ok(alive && !status.success())
    }

    fn ended(&mut self) -> Result<LifeEnd, CommandError> {
        let mut said = String::new();
        if let Some(err) = &mut self.child.stderr {
            // Whatever can be read of it.
            let _ = err.read_to_string(&mut said);
        }
        let status = self.child.wait();
        let status = status.map_err(|error| {
            CommandError::Usage(format!("cannot wait for the process: {error}"))
        })?;
        Ok(match status.success() {
            true => LifeEnd::Finished,
            false => LifeEnd::Failed(format!("{status}: {}", said.trim_end())),
        })
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        // One that has ended needs neither.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
