//! Writes one subtask's open files.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use snapline_protocol::ids::TxnId;

use super::encode::FileEncoder;
use super::layout::{Layout, MOST_FILES};
use super::{FileCommittable, disk};
use crate::compress::{Compression, Compressor};
use snapline_core::base::error::BoxError;
use snapline_core::base::sync::{Arc, Mutex, lock};
use snapline_core::connect::{ConnectError, ConnectorError, SinkWriter};
use snapline_core::fs::Output;

/// Bytes gathered before they are written to the file.
const GATHER: usize = 128 * 1024;

/// Files of a transaction that are kept open until they are synced; one more syncs the oldest at
/// once.
const OPEN: usize = 8;

/// A file's handle until it is synced; then `None`. A file that was closed before cannot be synced
/// for certain: an error that occurred while it was open would not be reported.
pub(super) type Unsynced = Option<Box<dyn Output>>;

/// Closed files that are not prepared yet, by their names.
pub(super) type ClosedFiles = Arc<Mutex<BTreeMap<PathBuf, Unsynced>>>;

/// When a file is ended and the next begun, between two checkpoints. A checkpoint always ends it.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Rolling {
    pub(super) bytes: Option<u64>,
    pub(super) every: Option<Duration>,
}

/// The file that is being written.
struct OpenFile {
    path: PathBuf,
    file: Box<dyn Output>,
    compressor: Compressor,
    /// The number of bytes written to it.
    written: u64,
}

/// Writes one subtask's records for a [`FileSink`](super::FileSink).
pub struct FileWriter<T, E> {
    layout: Layout,
    encoder: E,
    compression: Compression,
    rolling: Rolling,
    /// Encoded bytes that are not written yet.
    gathered: Vec<u8>,
    /// True if the open file, or the next one, has records.
    begun: bool,
    /// The time of its first record, where that counts.
    since: Option<Instant>,
    /// The open file, once something was written.
    file: Option<OpenFile>,
    /// The open transaction's ended files, and their lengths.
    rolled: Vec<(PathBuf, u64, Unsynced)>,
    /// The files that the committer is to sync.
    closed: ClosedFiles,
    /// The number of bytes written to all ended files.
    ended: u64,
    /// The number of files opened, which names them while their transaction has no name.
    opened: u64,
    /// The newest transaction with records that this subtask closed, or committed in an earlier
    /// life.
    newest: Option<TxnId>,
    takes: PhantomData<fn(T)>,
}

impl<T, E: FileEncoder<T>> FileWriter<T, E> {
    pub(super) fn new(
        layout: Layout,
        encoder: E,
        compression: Compression,
        rolling: Rolling,
        newest: Option<TxnId>,
        closed: ClosedFiles,
    ) -> Self {
        Self {
            closed,
            layout,
            encoder,
            compression,
            rolling,
            gathered: Vec::new(),
            begun: false,
            since: None,
            file: None,
            rolled: Vec::new(),
            ended: 0,
            opened: 0,
            newest,
            takes: PhantomData,
        }
    }

    /// Writes the gathered bytes to the open file, which is made if there is none.
    fn flush(&mut self) -> Result<(), ConnectError> {
        let open = match self.file.take() {
            Some(open) => open,
            None => self.create()?,
        };
        let OpenFile { path, file, compressor, written } = self.file.insert(open);
        let taken = compressor.take(&mut self.gathered);
        taken.map_err(ConnectError::io("compress", path))?;
        file.write(&self.gathered).map_err(ConnectError::io("write to", path))?;
        *written += self.gathered.len() as u64;
        self.gathered.clear();
        Ok(())
    }

    fn create(&mut self) -> Result<OpenFile, ConnectError> {
        let path = self.layout.unnamed(self.opened);
        let file =
            self.layout.files.create_public(&path).map_err(ConnectError::io("make", &path))?;
        self.opened += 1;
        let compressor = self.compression.writer().map_err(ConnectError::io("compress", &path))?;
        Ok(OpenFile { path, file, compressor, written: 0 })
    }

    /// True if the file is long enough, or old enough.
    fn is_due(&self) -> bool {
        let Rolling { bytes, every } = self.rolling;
        if self.rolled.len() + 1 >= MOST_FILES as usize {
            return false;
        }
        let written = self.file.as_ref().map_or(0, |open| open.written);
        let long = bytes.is_some_and(|bytes| written + self.gathered.len() as u64 >= bytes);
        let old =
            |every| self.since.is_some_and(|since| self.layout.context.clock.since(since) >= every);
        long || every.is_some_and(old)
    }

    /// Ends the file, if there is one.
    fn end_file(&mut self) -> Result<(), BoxError> {
        if !self.begun {
            return Ok(());
        }
        self.encoder.end(&mut self.gathered)?;
        if !self.gathered.is_empty() || self.file.is_none() {
            self.flush()?;
        }
        (self.begun, self.since) = (false, None);
        let Some(OpenFile { path, mut file, compressor, mut written }) = self.file.take() else {
            return Ok(());
        };
        let rest = compressor.end().map_err(ConnectError::io("compress", &path))?;
        if !rest.is_empty() {
            file.write(&rest).map_err(ConnectError::io("write to", &path))?;
            written += rest.len() as u64;
        }
        self.ended += written;
        self.rolled.push((path, written, Some(file)));
        if let Some(oldest) = self.rolled.len().checked_sub(OPEN)
            && let Some((path, _, unsynced)) = self.rolled.get_mut(oldest)
            && let Some(mut file) = unsynced.take()
        {
            file.sync().map_err(ConnectError::io("sync", path))?;
        }
        Ok(())
    }
}

impl<T, E> SinkWriter for FileWriter<T, E>
where
    T: Send + 'static,
    E: FileEncoder<T>,
{
    type Record = T;
    type Committable = FileCommittable;

    fn write(&mut self, records: &mut Vec<T>) -> Result<(), BoxError> {
        if records.is_empty() {
            return Ok(());
        }
        if !self.begun {
            self.begun = true;
            self.since = self.rolling.every.map(|_| self.layout.context.clock.now());
        }
        self.encoder.encode(records, &mut self.gathered)?;
        if self.gathered.len() >= GATHER {
            self.flush()?;
        }
        if self.is_due() {
            self.end_file()?;
        }
        Ok(())
    }

    fn close(&mut self, txn: TxnId) -> Result<FileCommittable, BoxError> {
        self.end_file()?;
        let rolled = std::mem::take(&mut self.rolled);
        let lengths: Vec<u64> = rolled.iter().map(|(_, bytes, _)| *bytes).collect();
        let (place, behind) = (Some(self.layout.place.clone()), self.newest);
        let of = FileCommittable::of(self.layout.part(txn), &lengths);
        let committable = FileCommittable { place, behind, ..of };
        for (roll, (path, bytes, unsynced)) in rolled.into_iter().enumerate() {
            let closed = self.layout.closed_file(txn, &committable.name(roll));
            match disk::rename(&*self.layout.files, &path, &closed) {
                Ok(()) if bytes > 0 => _ = lock(&self.closed).insert(closed, unsynced),
                Ok(()) => {}
                // A later attempt removes the open files of this one: the error reports that,
                // rather than a missing file.
                Err(error) if error.io_kind() == Some(ErrorKind::NotFound) => {
                    disk::check_fence(&self.layout, self.layout.context.attempt)?;
                    return Err(error.into());
                }
                Err(error) => return Err(error.into()),
            }
        }
        if committable.bytes() > 0 {
            self.newest = self.newest.max(Some(txn));
        }
        Ok(committable)
    }

    fn bytes_written(&self) -> Option<u64> {
        let open = self.file.as_ref().map_or(0, |open| open.written);
        Some(self.ended + open + self.gathered.len() as u64)
    }
}
