//! Writing a run trace: one line for each machine's event, and one write for each line. So a
//! process that is killed tears at most its last line.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use snapline_protocol::ids::{Attempt, SubtaskId};

use super::format::{Header, Line, What};
use crate::base::sync::{Arc, Mutex, lock};
use crate::fs;

/// Where a job's runs are recorded ([`crate::JobConfig::record`]).
#[derive(Clone, Debug)]
pub enum Recording {
    /// A file for each run, in this directory; made if it is missing.
    Directory(PathBuf),
    /// The process's memory.
    Memory(MemoryTrace),
}

impl From<PathBuf> for Recording {
    fn from(path: PathBuf) -> Self {
        Self::Directory(path)
    }
}

impl From<&Path> for Recording {
    fn from(path: &Path) -> Self {
        Self::Directory(path.to_owned())
    }
}

impl From<&str> for Recording {
    fn from(path: &str) -> Self {
        Self::Directory(path.into())
    }
}

impl From<MemoryTrace> for Recording {
    fn from(memory: MemoryTrace) -> Self {
        Self::Memory(memory)
    }
}

/// Traces in memory, by the names that their files would have. Clones share them.
#[derive(Clone, Default)]
pub struct MemoryTrace(Arc<Mutex<TraceBuffer>>);

#[derive(Default)]
struct TraceBuffer {
    files: BTreeMap<String, Vec<u8>>,
    /// What sinks did since the last call that took it, if it is kept.
    sinks: Option<Vec<Line>>,
}

impl MemoryTrace {
    /// No trace yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The traces as they are now: name and content of each, in the order of their names, which is
    /// that of their terms.
    #[must_use]
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        lock(&self.0).files.iter().map(|(name, bytes)| (name.clone(), bytes.clone())).collect()
    }
}

impl fmt::Debug for MemoryTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryTrace({} files)", lock(&self.0).files.len())
    }
}

/// Where lines go.
enum TraceTarget {
    File(File),
    Memory(MemoryTrace, String),
}

impl TraceTarget {
    fn open(recording: &Recording, name: String) -> io::Result<Self> {
        match recording {
            Recording::Directory(directory) => {
                fs::make_private_directories(directory)?;
                let path = directory.join(name);
                // Its name is its own; an existing file is not ours to write to.
                Ok(Self::File(fs::create_private(&path)?))
            }
            Recording::Memory(memory) => Ok(Self::Memory(memory.clone(), name)),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.write_all(bytes),
            Self::Memory(memory, name) => {
                let files = &mut lock(&memory.0).files;
                files.entry(name.clone()).or_default().extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    /// For a simulator that checks at once what sinks do.
    fn show(&self, line: Line) {
        let of_sink = matches!(
            line.what,
            What::Fenced {} | What::Prepared { .. } | What::CommitReturned { .. }
        );
        if let (Self::Memory(memory, _), true) = (self, of_sink)
            && let Some(sinks) = &mut lock(&memory.0).sinks
        {
            sinks.push(line);
        }
    }
}

struct TraceWriter {
    /// The last line's clock.
    at: u64,
    place: TraceTarget,
    buffer: Vec<u8>,
    /// Why nothing is written any more.
    failed: Option<String>,
}

impl TraceWriter {
    fn write(&mut self, line: &impl Serialize) {
        if self.failed.is_some() {
            return;
        }
        self.buffer.clear();
        let written = serde_json::to_writer(&mut self.buffer, line).map_err(io::Error::from);
        self.buffer.push(b'\n');
        let written = written.and_then(|()| self.place.write(&self.buffer));
        if let Err(error) = written {
            // A trace with a hole cannot be replayed after it: this ends the trace, but not the
            // job.
            self.failed = Some(complain(&error));
        }
    }
}

fn complain(error: &io::Error) -> String {
    tracing::error!(target: "snapline::trace", %error, "the run is no longer recorded");
    error.to_string()
}

/// Records what machines do, or nothing. Clones write to the same place.
///
/// Off, a call is a branch. On, it is a lock and one write; it is called for events of machines and
/// for what follows from them, never for records.
#[derive(Clone, Default)]
pub(crate) struct Recorder(Option<Arc<Mutex<TraceWriter>>>);

impl Recorder {
    /// Begins a trace with its first line. If that fails it is logged, and the job runs without.
    pub(crate) fn begin(recording: Option<&Recording>, header: impl FnOnce() -> Header) -> Self {
        let Some(recording) = recording else { return Self(None) };
        let header = header();
        let name = format!("{:010}-{:016x}.ndjson", header.term.get(), header.claimant.0);
        let (place, failed) = match TraceTarget::open(recording, name) {
            Ok(place) => (place, None),
            Err(error) => {
                let failed = Some(complain(&error));
                (TraceTarget::Memory(MemoryTrace::default(), String::new()), failed)
            }
        };
        let mut out = TraceWriter { at: 0, place, buffer: Vec::new(), failed };
        out.write(&header);
        Self(Some(Arc::new(Mutex::new(out))))
    }

    /// Why nothing is written any more, although it should be.
    pub(crate) fn failure(&self) -> Option<String> {
        self.0.as_ref().and_then(|out| lock(out).failed.clone())
    }

    fn note(&self, attempt: Option<Attempt>, task: Option<SubtaskId>, what: impl FnOnce() -> What) {
        let Some(out) = &self.0 else { return };
        let what = what();
        let mut out = lock(out);
        out.at += 1;
        let line = Line { at: out.at, attempt, task, what };
        out.write(&line);
        out.place.show(line);
    }

    /// Records an event of a task.
    pub(crate) fn task(&self, attempt: Attempt, task: SubtaskId, what: impl FnOnce() -> What) {
        self.note(Some(attempt), Some(task), what);
    }

    /// Records an event of the coordinator, in this attempt; or of an attempt as a whole.
    pub(crate) fn coordinator(&self, attempt: Attempt, what: impl FnOnce() -> What) {
        self.note(Some(attempt), None, what);
    }

    /// Records what the store did for the coordinator.
    pub(crate) fn store(&self, what: impl FnOnce() -> What) {
        self.note(None, None, what);
    }
}

/// The simulator's access to a trace.
#[cfg(feature = "sim")]
impl MemoryTrace {
    /// From now on what sinks do with external systems is kept, for [`Self::of_sinks`].
    pub(crate) fn watch_sinks(&self) {
        lock(&self.0).sinks.get_or_insert_default();
    }

    /// Lines about what a sink did with its external system, since the last call; in the order in
    /// which it happened, over all runs.
    pub(crate) fn of_sinks(&self) -> Vec<Line> {
        lock(&self.0).sinks.as_mut().map(std::mem::take).unwrap_or_default()
    }
}
