//! Parquet files.

use parquet::basic::Compression;
use parquet::file::properties::{WriterProperties, WriterPropertiesPtr};
use parquet::file::writer::SerializedFileWriter;
use parquet::record::RecordWriter;
use parquet::schema::types::TypePtr;

use super::{EncodeFile, FileEncoder, FileSink};
use snapline_core::base::error::BoxError;
use snapline_core::base::sync::Arc;
use snapline_core::connect::ConnectError;

/// Records in a row group, by default.
const ROWS: usize = 64 * 1024;

/// Parquet files. Derive `ParquetRecordWriter`, of the crate `parquet_derive` 60, for the record
/// type: a struct of numbers, texts, bytes, dates, and options of these. `parquet` 60 must be among
/// the dependencies of the crate that derives it.
///
/// A Parquet file is complete only with its footer. The footer is written when the file ends: at
/// the barrier of a checkpoint, or when the file is [long](FileSink::roll_bytes) or
/// [old](FileSink::roll_every) enough. So each transaction's files are whole. Records are held in
/// memory until there are enough for a row group. The rest is written at the barrier, on the thread
/// of the sink's worker, like everything else. For [`FileSink::roll_bytes`], the length of a file
/// is that of the row groups written.
#[derive(Clone, Debug)]
pub struct Parquet {
    rows: usize,
    properties: WriterPropertiesPtr,
}

impl Default for Parquet {
    fn default() -> Self {
        Self::new()
    }
}

impl Parquet {
    /// Row groups of 65,536 records, compressed by Snappy.
    #[must_use]
    pub fn new() -> Self {
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        Self { rows: ROWS, properties: Arc::new(properties) }
    }

    /// The maximum number of records in a row group; 65,536 by default.
    ///
    /// # Panics
    /// If it is zero.
    #[must_use]
    pub fn rows_per_group(mut self, rows: usize) -> Self {
        assert!(rows > 0, "`rows_per_group` must be greater than zero");
        self.rows = rows;
        self
    }

    /// Sets how files are written: compression (a codec that this crate was built with), encodings,
    /// statistics, metadata.
    #[must_use]
    pub fn properties(mut self, properties: WriterProperties) -> Self {
        self.properties = Arc::new(properties);
        self
    }
}

impl<T> FileSink<T, Parquet>
where
    T: Send + 'static,
    for<'a> &'a [T]: RecordWriter<T>,
{
    /// A sink that writes [`Parquet`] files, with the feature `parquet`.
    ///
    /// ```
    /// use parquet_derive::ParquetRecordWriter;
    /// use snapline::connect::{FileSink, Parquet};
    /// #[derive(ParquetRecordWriter)]
    /// struct Total { customer: String, cents: i64, share: Option<f64> }
    /// let totals = FileSink::<Total, _>::parquet("totals");
    /// let others = FileSink::<Total, _>::parquet("others").format(Parquet::new().rows_per_group(10_000));
    /// ```
    pub fn parquet(dir: impl Into<std::path::PathBuf>) -> Self {
        Self::of(dir.into(), Parquet::new(), "parquet")
    }
}

impl<T> EncodeFile<T> for Parquet
where
    T: Send + 'static,
    for<'a> &'a [T]: RecordWriter<T>,
{
    type Encoder = ParquetEncoder<T>;

    fn encoder(&self) -> ParquetEncoder<T> {
        let Self { rows, properties } = self.clone();
        ParquetEncoder { rows, properties, held: Vec::new(), file: None, records: 0 }
    }
}

/// Encodes [`Parquet`] files.
pub struct ParquetEncoder<T> {
    rows: usize,
    properties: WriterPropertiesPtr,
    /// Records that are not in a row group yet.
    held: Vec<T>,
    /// The open file, with its columns.
    file: Option<(SerializedFileWriter<Vec<u8>>, TypePtr)>,
    /// The number of records written.
    records: u64,
}

impl<T> ParquetEncoder<T>
where
    for<'a> &'a [T]: RecordWriter<T>,
{
    /// Writes the first `rows` held records, in row groups.
    fn write(&mut self, rows: usize, out: &mut Vec<u8>) -> Result<(), BoxError> {
        for group in self.held[..rows].chunks(self.rows) {
            let schema = group.schema()?;
            let (file, columns) = match &mut self.file {
                Some(file) => file,
                None => {
                    let properties = Arc::clone(&self.properties);
                    let columns = Arc::clone(&schema);
                    let file = SerializedFileWriter::new(Vec::new(), schema.clone(), properties)?;
                    self.file.insert((file, columns))
                }
            };
            if schema != *columns {
                let (record, field) = (self.records + 1, other(&schema, columns));
                let why = "the columns of its row group are not those of the file; write records of one type to a sink".into();
                return Err(
                    ConnectError::Unwritable { format: "Parquet", record, field, why }.into()
                );
            }
            let mut writer = file.next_row_group()?;
            group.write_to_row_group(&mut writer)?;
            writer.close()?;
            self.records += group.len() as u64;
            // Written bytes are taken out; the writer keeps its own count.
            file.flush()?;
            out.append(file.inner_mut());
        }
        self.held.drain(..rows);
        Ok(())
    }
}

/// The first column that differs, or is in only one of the two.
fn other(one: &TypePtr, two: &TypePtr) -> Option<String> {
    let names = |columns: &TypePtr| -> Vec<TypePtr> { columns.get_fields().to_vec() };
    let (one, two) = (names(one), names(two));
    let place = one.iter().zip(&two).position(|(one, two)| one != two);
    let place = place.unwrap_or(one.len().min(two.len()));
    one.get(place).or(two.get(place)).map(|column| column.name().to_owned())
}

impl<T> FileEncoder<T> for ParquetEncoder<T>
where
    T: Send + 'static,
    for<'a> &'a [T]: RecordWriter<T>,
{
    fn encode(&mut self, records: &mut Vec<T>, out: &mut Vec<u8>) -> Result<(), BoxError> {
        self.held.append(records);
        let whole = self.held.len() - self.held.len() % self.rows;
        self.write(whole, out)
    }

    fn end(&mut self, out: &mut Vec<u8>) -> Result<(), BoxError> {
        self.write(self.held.len(), out)?;
        if let Some((file, _)) = self.file.take() {
            out.append(&mut file.into_inner()?);
        }
        Ok(())
    }
}
