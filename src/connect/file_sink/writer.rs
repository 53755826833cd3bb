//! Writes one subtask's open file.

use std::io::ErrorKind;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use snapline_protocol::ids::TxnId;

use super::super::{ConnectError, SinkWriter};
use super::layout::Layout;
use super::{Encode, FileCommittable, disk};
use crate::error::BoxError;
use crate::files::Output;

/// So many bytes are gathered before the file is written to.
const GATHER: usize = 128 * 1024;

/// Writes one subtask's lines for a [`FileSink`](super::FileSink).
pub struct FileWriter<T, E> {
    layout: Layout,
    encode: E,
    /// Encoded and not written yet.
    gathered: Vec<u8>,
    /// The open transaction's file, once something was written to it.
    file: Option<(PathBuf, Box<dyn Output>)>,
    /// How many bytes were written to it.
    written: u64,
    /// How many bytes were written to those before.
    closed: u64,
    /// How many files were opened: they have no other name while their transaction has none.
    opened: u64,
    takes: PhantomData<fn(T)>,
}

impl<T, E> FileWriter<T, E> {
    pub(super) fn new(layout: Layout, encode: E) -> Self {
        Self {
            layout,
            encode,
            gathered: Vec::new(),
            file: None,
            written: 0,
            closed: 0,
            opened: 0,
            takes: PhantomData,
        }
    }

    /// Writes what was gathered to the open file, which is made if there is none.
    fn flush(&mut self) -> Result<(), ConnectError> {
        if self.file.is_none() {
            let path = self.layout.unnamed(self.opened);
            let file = self.create(&path)?;
            self.opened += 1;
            self.file = Some((path, file));
        }
        let (path, file) = self.file.as_mut().expect("it was made above if there was none");
        file.write(&self.gathered).map_err(ConnectError::io("write to", path))?;
        self.written += self.gathered.len() as u64;
        self.gathered.clear();
        Ok(())
    }

    fn create(&self, path: &Path) -> Result<Box<dyn Output>, ConnectError> {
        self.layout.files.create(path).map_err(ConnectError::io("make", path))
    }
}

impl<T, E> SinkWriter for FileWriter<T, E>
where
    T: Send + 'static,
    E: Encode<T> + Send + 'static,
{
    type Record = T;
    type Committable = FileCommittable;

    fn write(&mut self, records: &mut Vec<T>) -> Result<(), BoxError> {
        for record in records.iter() {
            self.encode.encode(record, &mut self.gathered);
            self.gathered.push(b'\n');
            if self.gathered.len() >= GATHER {
                self.flush()?;
            }
        }
        records.clear();
        Ok(())
    }

    fn close(&mut self, txn: TxnId) -> Result<FileCommittable, BoxError> {
        if !self.gathered.is_empty() {
            self.flush()?;
        }
        let committable = FileCommittable { file: self.layout.part(txn), bytes: self.written };
        self.closed += self.written;
        self.written = 0;
        let Some((path, file)) = self.file.take() else {
            return Ok(committable);
        };
        drop(file);
        match disk::rename(&*self.layout.files, &path, &self.layout.closed_file(txn, &committable))
        {
            Ok(()) => Ok(committable),
            // A later attempt removes the open files of this one: say so rather than that one is gone.
            Err(error) if error.io_kind() == Some(ErrorKind::NotFound) => {
                disk::check_fence(&self.layout, self.layout.context.attempt)?;
                Err(error.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn bytes_written(&self) -> Option<u64> {
        Some(self.closed + self.written + self.gathered.len() as u64)
    }
}
