//! A sink in a simulated file system, and the file names that it makes, for fuzz targets.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use snapline_protocol::ids::{Attempt, TxnId};

use super::FileSink;
use super::layout::{self, Hidden, Layout, Part, parse_unnamed};
use snapline_core::base::sync::Arc;
use snapline_core::connect::OpenContext;
use snapline_core::fs::Files;
use snapline_core::fs::simulated::{Host, SimDisk, SimFiles};

const DIR: &str = "/out";

/// The directory of a sink.
#[must_use]
pub struct SinkDirectory(SimDisk, SimFiles);

impl SinkDirectory {
    /// A directory with these files, by their paths in it.
    pub fn new(files: &[(String, Vec<u8>)]) -> Self {
        let disk = SimDisk::new();
        let there = disk.files(&Host::default());
        let put = || -> io::Result<()> {
            for (path, bytes) in files {
                let path = Path::new(DIR).join(path);
                let above: Vec<&Path> = path.ancestors().skip(1).collect();
                for above in above.into_iter().rev() {
                    // It exists, or a file is in its place.
                    let _ = there.make_directory(above);
                }
                // Of two with one name, the first counts.
                let Ok(mut file) = there.create(&path) else { continue };
                file.write(bytes)?;
                file.sync()?;
            }
            Ok(())
        };
        put().expect("a simulated disk fails only where it must");
        Self(disk, there)
    }

    /// A sink that writes to it.
    pub fn sink(&self) -> FileSink<String> {
        FileSink::new(DIR).on(self.1.clone())
    }

    /// All files that are there.
    #[must_use]
    pub fn content(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        self.0.content(Path::new(DIR))
    }
}

/// The owner of the file of this name, and its attempt; `None` if no sink made the name.
#[must_use]
pub fn sink_file(name: &str) -> Option<(usize, Attempt)> {
    let part = || Part::parse(name).map(|part| (part.index, part.attempt));
    let hidden = || Hidden::parse(name).map(|hidden| (hidden.index, hidden.txn.attempt));
    parse_unnamed(name).or_else(part).or_else(hidden)
}

/// The names of a transaction's file, committed and before, and of an open one; `None` if no such
/// names exist.
#[must_use]
pub fn sink_files(
    (operator, extension): (&str, &str),
    index: usize,
    txn: TxnId,
    roll: u32,
) -> Option<[String; 3]> {
    let parallelism = index.checked_add(1)?;
    let context = OpenContext::new("job", operator, index, parallelism, txn.attempt);
    let files: Arc<dyn Files> = Arc::new(SimDisk::new().files(&Host::default()));
    let layout = Layout::of(&files, Path::new(DIR), extension, &context).ok()?;
    let file = layout::rolled(&layout.part(txn), roll);
    let paths = [layout.prepared_file(txn, &file), layout.unnamed(u64::from(roll))];
    let [hidden, unnamed] = paths.map(|path| Some(path.file_name()?.to_str()?.to_owned()));
    Some([file, hidden?, unnamed?])
}
