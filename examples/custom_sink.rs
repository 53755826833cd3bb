//! A custom sink: a ledger, one file that transactions are appended to, each once.
//!
//! A sink delivers exactly once if it can *prepare* a transaction so that it survives a crash, and
//! *commit* it by name so that repeating it changes nothing. Here
//!
//! - the writer collects records in memory: it lives on the worker's thread and never waits;
//! - `prepare` writes them to a file of the transaction's name and syncs it;
//! - `commit` appends them after a line that names the transaction, if the ledger lacks that line;
//! - `roll_back` removes the file;
//! - `fence` closes the directories of earlier attempts, which may still run if their process was
//!   taken for dead, and lists their files.
//!
//! The example fails on purpose in the middle, twice, and then looks whether the ledger is right.
//! `tests/testkit` hands it to the kit that crashes it at every step.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use snapline::connect::{
    CommitGrant, Generator, OpenContext, SinkCommitter, SinkWriter, TwoPhaseSink,
};
use snapline::protocol::committer::CommitOutcome;
use snapline::protocol::ids::{Attempt, CheckpointId, SubtaskId, Term, TxnId};
use snapline::{BoxError, Dataflow, Ended, JobConfig, Restart};

/// Describes the sink; every subtask opens a writer and a committer from a clone of it.
#[derive(Clone)]
pub(crate) struct Ledger {
    pub(crate) directory: PathBuf,
    /// Subtasks append one at a time.
    pub(crate) appending: Arc<Mutex<()>>,
}

impl TwoPhaseSink for Ledger {
    type Record = u64;
    /// Kept in checkpoints: all that prepare, commit and roll back need. Best small; here the text.
    type Committable = String;
    type Writer = Writer;
    type Committer = Committer;

    fn open(&self, context: &OpenContext) -> Result<(Writer, Committer), BoxError> {
        fs::create_dir_all(self.directory.join("prepared"))?;
        let committer =
            Committer { ledger: self.clone(), index: context.index, attempt: context.attempt };
        Ok((Writer { open: String::new() }, committer))
    }
}

/// Collects the records of the open transaction.
pub(crate) struct Writer {
    open: String,
}

impl SinkWriter for Writer {
    type Record = u64;
    type Committable = String;

    fn write(&mut self, records: &mut Vec<u64>) -> Result<(), BoxError> {
        for record in records.drain(..) {
            self.open.push_str(&format!("{record}\n"));
        }
        Ok(())
    }

    /// At every barrier, also without records: ends the transaction, and begins the next.
    fn close(&mut self, _: TxnId) -> Result<String, BoxError> {
        Ok(std::mem::take(&mut self.open))
    }
}

/// Does all slow work, on another thread, one call after the other.
pub(crate) struct Committer {
    ledger: Ledger,
    index: usize,
    attempt: Attempt,
}

/// A transaction's name, unique over all attempts.
fn name(txn: TxnId) -> String {
    let TxnId { checkpoint, attempt: Attempt { term, number }, subtask } = txn;
    format!("{}-{}-{number}-{}", checkpoint.get(), term.get(), subtask.index())
}

/// The transaction of a name; `None` for a file that is not prepared.
fn parse(name: &str) -> Option<TxnId> {
    let mut parts = name.split('-').map(str::parse::<u32>);
    let mut next = || parts.next()?.ok();
    let checkpoint = CheckpointId::new(next()?.into())?;
    let attempt = Attempt { term: Term::new(next()?), number: next()? };
    let subtask = SubtaskId::new(u16::try_from(next()?).ok()?);
    Some(TxnId { checkpoint, attempt, subtask })
}

impl Committer {
    /// Where an attempt of this subtask prepares; closed once a later one has fenced it off.
    fn directory(&self, attempt: Attempt, closed: bool) -> PathBuf {
        let Attempt { term, number } = attempt;
        let end = if closed { ".closed" } else { "" };
        let name = format!("{}-{}-{number}{end}", self.index, term.get());
        self.ledger.directory.join("prepared").join(name)
    }
}

impl SinkCommitter for Committer {
    type Committable = String;

    fn fence(&mut self, attempt: Attempt) -> Result<Vec<(TxnId, String)>, BoxError> {
        let mut found = Vec::new();
        fs::create_dir_all(self.directory(attempt, false))?;
        for entry in fs::read_dir(self.ledger.directory.join("prepared"))? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let mine = name.starts_with(&format!("{}-", self.index));
            if !mine || path == self.directory(attempt, false) {
                continue;
            }
            let closed = path.with_extension("closed");
            // From here on no file is added: an older attempt looks for the old name.
            fs::rename(&path, &closed)?;
            for file in fs::read_dir(&closed)? {
                let file = file?;
                if let Some(txn) = file.file_name().to_str().and_then(parse) {
                    found.push((txn, fs::read_to_string(file.path())?));
                }
            }
        }
        Ok(found)
    }

    /// After its return, every crash leaves the transaction prepared: name and text are synced.
    fn prepare(&mut self, txn: TxnId, text: &String) -> Result<(), BoxError> {
        let directory = self.directory(self.attempt, false);
        let unfinished = directory.join("unfinished");
        let mut file = File::create(&unfinished)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(unfinished, directory.join(name(txn)))?;
        Ok(File::open(directory)?.sync_all()?)
    }

    /// Idempotent: the ledger lists its transactions.
    fn commit(&mut self, grant: CommitGrant, text: &String) -> Result<CommitOutcome, BoxError> {
        let txn = grant.txn();
        let appending = Arc::clone(&self.ledger.appending);
        let _alone = appending.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.ledger.directory.join("ledger");
        let heading = format!("# {}", name(txn));
        if path.exists() && fs::read_to_string(&path)?.lines().any(|line| line == heading) {
            return Ok(CommitOutcome::AlreadyCommitted);
        }
        // One write, so that a crash of the process leaves all of it or nothing. A crash of the
        // machine may leave a part: a real ledger has checksums, and cuts off a last bad one.
        let mut ledger = OpenOptions::new().create(true).append(true).open(&path)?;
        ledger.write_all(format!("{heading}\n{text}").as_bytes())?;
        ledger.sync_all()?;
        self.roll_back(txn, text)?;
        Ok(CommitOutcome::Committed)
    }

    /// A missing file is rolled back already.
    fn roll_back(&mut self, txn: TxnId, _: &String) -> Result<(), BoxError> {
        for closed in [false, true] {
            match fs::remove_file(self.directory(txn.attempt, closed).join(name(txn))) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error.into());
                }
                _ => {}
            }
        }
        Ok(())
    }
}

pub(crate) fn entries(directory: &Path) -> Result<Vec<u64>, Box<dyn Error>> {
    let text = fs::read_to_string(directory.join("ledger"))?;
    let records = text.lines().filter(|line| !line.starts_with('#')).map(str::parse);
    Ok(records.collect::<Result<_, _>>()?)
}

fn main() -> Result<(), Box<dyn Error>> {
    const RECORDS: u64 = 10_000;
    let directory = tempfile::tempdir()?;
    let ledger = Ledger { directory: directory.path().join("out"), appending: Arc::default() };

    let flow = Dataflow::new("ledger");
    let seen = Arc::new(AtomicU64::new(0));
    flow.source("numbers", Generator::new(RECORDS, |number| number).rate(20_000))
        .try_map(move |number| match seen.fetch_add(1, Ordering::Relaxed) {
            3_000 | 6_000 => Err("a failure, on purpose".into()),
            _ => Ok(number),
        })
        .sink("ledger", ledger.clone());
    let config = JobConfig::new()
        .parallelism(2)
        .checkpoint_interval(Duration::from_millis(50))
        .restart(Restart::Fixed { attempts: 2, pause: Duration::from_millis(10) })
        .directory(directory.path().join("checkpoints"));
    let job = flow.build(config)?;
    println!("guarantee: {}", job.guarantee());
    let outcome = job.run()?;
    println!("outcome: {:?} after {} restarts", outcome.ended, outcome.status.restarts);

    let mut found = entries(&ledger.directory)?;
    found.sort_unstable();
    println!("{} entries for {RECORDS} records", found.len());
    match outcome.ended == Ended::Finished && found.into_iter().eq(0..RECORDS) {
        true => Ok(()),
        false => Err("the ledger is wrong".into()),
    }
}
