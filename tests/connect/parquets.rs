//! Parquet files, read back with the crate that writes them.

use std::fs::{self, File};
use std::path::Path;

use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::SerializedRowGroupWriter;
use parquet::record::{RecordWriter, RowAccessor};
use parquet::schema::types::TypePtr;
use parquet_derive::ParquetRecordWriter;
use snapline::connect::{ConnectError, FileSink, Parquet, SinkCommitter, SinkWriter, TwoPhaseSink};
use snapline_core::connect::testing::granted;

use crate::{attempt, context, txn};

#[derive(ParquetRecordWriter)]
struct Row {
    id: i64,
    name: String,
    share: Option<f64>,
}

fn rows(from: i64, to: i64) -> Vec<Row> {
    let share = |id: i64| (id % 3 > 0).then_some(id as f64 / 2.0);
    (from..to).map(|id| Row { id, name: format!("name {id}"), share: share(id) }).collect()
}

/// The rows of each file, by name, and the sizes of its row groups.
fn files(dir: &Path) -> Vec<(Vec<i64>, Vec<i64>)> {
    let mut paths: Vec<_> = fs::read_dir(dir)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "parquet"));
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        let file = SerializedFileReader::new(File::open(path).expect("there")).expect("Parquet");
        let groups = file.metadata().row_groups().iter().map(|group| group.num_rows()).collect();
        let rows = file.get_row_iter(None).expect("rows").map(|row| {
            let row = row.expect("a row");
            let id = row.get_long(0).expect("a number");
            assert_eq!(row.get_string(1).expect("a text"), &format!("name {id}"));
            assert_eq!(row.get_double(2).ok(), (id % 3 > 0).then_some(id as f64 / 2.0));
            id
        });
        (rows.collect(), groups)
    };
    paths.iter().map(read).collect()
}

#[test]
fn a_transactions_files_are_whole_and_their_row_groups_bounded() {
    let dir = tempfile::tempdir().expect("a directory");
    let sink = FileSink::parquet(dir.path()).format(Parquet::new().rows_per_group(10));
    let life = attempt(1, 1);
    let (mut writer, mut committer) = sink.open(&context(0, life)).expect("opens");
    committer.fence(life).expect("fences");
    let mut next = 0;
    // Batches smaller than a group, larger than one, of several groups, and a transaction without
    // records.
    for (checkpoint, batches) in [vec![4, 4, 4], vec![35], vec![], vec![10]].iter().enumerate() {
        for records in batches {
            let mut batch = rows(next, next + records);
            writer.write(&mut batch).expect("writes");
            assert!(batch.is_empty());
            next += records;
        }
        let name = txn(checkpoint as u64 + 1, life, 0);
        let one = writer.close(name).expect("closes");
        committer.prepare(name, &one).expect("prepares");
        committer.commit(granted(name), &one).expect("commits");
        assert_eq!(one.files().count(), usize::from(!batches.is_empty()));
    }
    let expected = [
        ((0..12).collect(), vec![10, 2]),
        ((12..47).collect(), vec![10, 10, 10, 5]),
        ((47..57).collect(), vec![10]),
    ];
    assert_eq!(files(dir.path()), expected);
}

#[derive(ParquetRecordWriter)]
struct Other {
    id: i64,
    title: String,
}

/// Rows of two types, each with columns of its own.
enum Any {
    Row(Row),
    Other(Other),
}

impl RecordWriter<Any> for &[Any] {
    fn write_to_row_group<W: std::io::Write + Send>(
        &self,
        group: &mut SerializedRowGroupWriter<'_, W>,
    ) -> Result<(), ParquetError> {
        let (mut rows, mut others) = (Vec::new(), Vec::new());
        for any in *self {
            match any {
                Any::Row(Row { id, name, share }) => {
                    rows.push(Row { id: *id, name: name.clone(), share: *share });
                }
                Any::Other(Other { id, title }) => {
                    others.push(Other { id: *id, title: title.clone() });
                }
            }
        }
        match rows.is_empty() {
            true => others.as_slice().write_to_row_group(group),
            false => rows.as_slice().write_to_row_group(group),
        }
    }

    fn schema(&self) -> Result<TypePtr, ParquetError> {
        match self.first() {
            Some(Any::Other(_)) => (&[] as &[Other]).schema(),
            _ => (&[] as &[Row]).schema(),
        }
    }
}

#[test]
fn row_groups_of_one_file_have_one_set_of_columns() {
    let dir = tempfile::tempdir().expect("a directory");
    let sink = FileSink::parquet(dir.path()).format(Parquet::new().rows_per_group(2));
    let life = attempt(1, 1);
    let (mut writer, _) = sink.open(&context(0, life)).expect("opens");
    writer.write(&mut rows(0, 3).into_iter().map(Any::Row).collect()).expect("writes");
    let other = |id| Any::Other(Other { id, title: "title".into() });
    let mut rest = vec![Any::Row(rows(3, 4).remove(0)), other(4), other(5)];
    let error = crate::typed(writer.write(&mut rest));
    let named = matches!(&error, ConnectError::Unwritable { record: 5, field: Some(field), .. } if field == "title");
    assert!(named, "{error}");
}

#[test]
fn files_are_ended_when_their_row_groups_are_long_enough() {
    let dir = tempfile::tempdir().expect("a directory");
    let format = Parquet::new().rows_per_group(10);
    let sink = FileSink::parquet(dir.path()).format(format).roll_bytes(1);
    let life = attempt(1, 1);
    let (mut writer, mut committer) = sink.open(&context(0, life)).expect("opens");
    committer.fence(life).expect("fences");
    for from in (0..35).step_by(5) {
        writer.write(&mut rows(from, from + 5)).expect("writes");
    }
    let name = txn(1, life, 0);
    let one = writer.close(name).expect("closes");
    committer.prepare(name, &one).expect("prepares");
    committer.commit(granted(name), &one).expect("commits");
    let groups: Vec<_> = files(dir.path()).into_iter().map(|(_, groups)| groups).collect();
    // Records held for a row group are not written yet: a file ends after the batch that fills a
    // group.
    assert_eq!(groups, [[10], [10], [10], [5]]);
}
