//! A log and its server in a simulated file system, for fuzz targets.

use std::io;
use std::path::Path;

use super::log::{Cursor, Log, Reached};
use super::server::{RequestHandler, ServerSetup, limits, write};
use super::{IngestConfig, IngestError, checked};
use crate::listener::said::answers_to;
use snapline_core::base::sync::{Arc, lock, thread};
use snapline_core::fs::Files;
use snapline_core::fs::simulated::{Host, SimDisk};

const DIR: &str = "/log";

/// Records with their numbers, in order, and whether more can follow.
pub type Records = (Vec<(u64, Vec<u8>)>, bool);

/// The directory of a log.
#[must_use]
pub struct IngestLog(Arc<dyn Files>);

impl IngestLog {
    /// A log with these segments, each by the number of its first record.
    pub fn new(segments: &[(u64, Vec<u8>)]) -> Self {
        let files: Arc<dyn Files> = Arc::new(SimDisk::new().files(&Host::default()));
        let put = || -> io::Result<()> {
            files.make_directory(Path::new(DIR))?;
            for (first, bytes) in segments {
                // Of two with one number, the first counts.
                let Ok(mut file) = files.create(&Path::new(DIR).join(format!("{first:020}.log")))
                else {
                    continue;
                };
                file.write(bytes)?;
                file.sync()?;
            }
            files.sync_directory(Path::new(DIR))
        };
        put().expect("a simulated disk fails only where it must");
        Self(files)
    }

    fn open(&self) -> Result<Log, IngestError> {
        // Short segments and few keys, so that both limits are reached.
        Log::open(Arc::clone(&self.0), Path::new(DIR), 256, 4)
    }

    /// Opens it, and reads all that is in it.
    ///
    /// # Errors
    /// If it is damaged.
    pub fn records(&self) -> Result<Records, IngestError> {
        let log = self.open()?;
        let first = lock(&log.shelf().extent).segments.front().map_or(0, |segment| segment.first);
        let (mut cursor, mut records) = (Cursor::new(log.shelf(), first), Vec::new());
        loop {
            let reached = cursor.read(|number, record| {
                records.push((number, record.to_vec()));
                // A few at a time.
                Ok(number % 4 != 3)
            })?;
            if reached != Reached::More {
                return Ok((records, reached == Reached::All));
            }
        }
    }

    /// The server's whole response to these bytes, which arrive in pieces of this size; `None` if
    /// there is no end to it. It takes JSON with the token `token`, and bodies of at most 4 KiB.
    ///
    /// # Errors
    /// If it is damaged.
    pub fn answers_to(&self, bytes: &[u8], piece: usize) -> Result<Option<Vec<u8>>, IngestError> {
        let config = IngestConfig::new().bearer("token").max_body_bytes(4 << 10);
        let check = |bytes: &[u8]| checked::<serde_json::Value>(bytes).map(drop);
        let setup = ServerSetup { config, check: Arc::new(check) };
        let (orders, taken) = crossbeam_channel::unbounded();
        let (log, limits) = (self.open()?, limits(&setup.config));
        let desk = Arc::new(RequestHandler::new(setup, &log, orders));
        let writer = thread::spawn(move || write(log, &taken));
        let answer = answers_to(bytes, piece, limits, desk);
        // The handler is gone, so the writer ends.
        writer.join().expect("the writer does not panic");
        Ok(answer)
    }
}
