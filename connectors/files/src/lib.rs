//! Files as sources and as exactly-once sinks of snapline: lines, CSV, JSON lines, Parquet,
//! compressed or not. `snapline::connect` re-exports all of it.

mod compress;
#[cfg(feature = "formats")]
mod decode;
mod file_sink;
mod file_source;
mod fingerprint;
mod plain_file;

/// Items for fuzz targets only.
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::file_sink::door::{SinkDirectory, sink_file, sink_files};
}

#[cfg(feature = "formats")]
pub use decode::{
    Csv, CsvDecoder, Decoded, DecodedPosition, DecodedReader, Decoder, DirectorySource, Fail,
    Format, JsonDecoder, JsonLines, Keep, LineDecoder, Lines, Malformed, OnMalformed, ParseLine,
    Skip, Text,
};
pub use file_sink::{
    ByLine, Encode, EncodeFile, FileCommittable, FileCommitter, FileEncoder, FileSink, FileWriter,
    LineEncoder, Plain, read_committed,
};
#[cfg(feature = "formats")]
pub use file_sink::{CsvEncoder, JsonEncoder};
#[cfg(feature = "parquet")]
pub use file_sink::{Parquet, ParquetEncoder};
#[cfg(feature = "sim")]
#[doc(hidden)]
pub use file_sink::{committed_checkpoint, is_file_of};
pub use file_source::{FilePosition, FileReader, FileSource};
