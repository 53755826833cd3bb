//! The contract of sources, checked for each of them.

use std::fmt::Debug;

use proptest::prelude::*;
use snapline::connect::{
    FileSource, Generator, MemorySource, OpenContext, Progress, Source, SourceReader,
};

use crate::{attempt, through_a_checkpoint};

fn subtask(index: usize, parallelism: usize) -> OpenContext {
    OpenContext::new("job", "in", index, parallelism, attempt(1, 1))
}

/// Everything from here to the end, `limit` records at a time.
fn rest<R: SourceReader>(reader: &mut R, limit: usize) -> Vec<R::Record> {
    let mut records = Vec::new();
    while reader.read(limit, &mut records).expect("reads") != Progress::End {}
    records
}

/// At parallelism 1 to 4, the subtasks together read `expected`, each record once, whatever the
/// limit. From a position after any number of records, sent through a checkpoint, the rest is the
/// same.
fn replay_contract<S: Source>(source: &S, expected: &[S::Record])
where
    S::Record: Clone + Ord + Debug,
{
    assert!(source.is_replayable());
    for parallelism in 1..=4 {
        let mut together = Vec::new();
        for index in 0..parallelism {
            let context = subtask(index, parallelism);
            let all = rest(&mut source.open(&context, None).expect("opens"), 3);
            let mut reader = source.open(&context, None).expect("opens");
            for read in 0..=all.len() {
                let position = through_a_checkpoint(&reader.position());
                let mut again = source.open(&context, Some(position.clone())).expect("opens");
                let mut left = rest(&mut again, 1 + read % 5);
                assert_eq!(left, all[read..], "subtask {index} of {parallelism} after {read}");
                // After a position read from a position.
                let mut again = source.open(&context, Some(position)).expect("opens");
                left.truncate(1);
                let mut one = Vec::new();
                again.read(1, &mut one).expect("reads");
                assert_eq!(one, left);
                let position = through_a_checkpoint(&again.position());
                let mut again = source.open(&context, Some(position)).expect("opens");
                assert_eq!(rest(&mut again, 100), all[(read + 1).min(all.len())..]);
                reader.read(1, &mut one).expect("reads");
            }
            together.extend(all);
        }
        if parallelism == 1 {
            assert_eq!(together, expected);
        }
        let mut expected = expected.to_vec();
        expected.sort();
        together.sort();
        assert_eq!(together, expected, "parallelism {parallelism}");
    }
}

#[test]
fn generated() {
    for count in [0, 1, 2, 3, 4, 17] {
        let expected: Vec<u64> = (0..count).map(|i| i * i).collect();
        replay_contract(&Generator::new(count, |i| i * i), &expected);
    }
}

#[test]
fn from_memory() {
    for count in [0, 1, 2, 3, 4, 17] {
        let records: Vec<String> = (0..count).map(|i: u32| format!("record {i}")).collect();
        replay_contract(&MemorySource::new(records.clone()), &records);
    }
}

#[test]
fn from_one_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("lines");
    for text in ["", "\n", "a", "a\n", "a\nb", "\n\n\n", "a\r\nb\r\n", "a\r\n\r\r\nb\r", "ä\nöö\n"]
    {
        std::fs::write(&file, text).expect("writes");
        let expected: Vec<String> = text.lines().map(Into::into).collect();
        for bytes in 1..=6 {
            replay_contract(&FileSource::path(&file).split_bytes(bytes), &expected);
        }
        replay_contract(&FileSource::path(&file), &expected);
    }
}

#[test]
fn subtasks_share_one_file_without_being_asked() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("lines");
    let expected: Vec<String> = (0..60_000).map(|i| format!("line {i}")).collect();
    std::fs::write(&file, expected.join("\n")).expect("writes");
    let source = FileSource::path(&file);
    let mut together = Vec::new();
    for index in 0..4 {
        let mine = rest(&mut source.open(&subtask(index, 4), None).expect("opens"), 1000);
        assert!(mine.len() > 10_000, "subtask {index} has {} lines", mine.len());
        together.extend(mine);
    }
    assert_eq!(together, expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Short lines of few letters, so that ends of lines and of pieces meet in every way.
    #[test]
    fn from_any_files(
        texts in prop::collection::vec("[a\u{e4}\r\n]{0,24}", 1..4),
        bytes in prop::option::of(1_u64..20),
    ) {
        let dir = tempfile::tempdir().expect("a directory");
        for (number, text) in texts.iter().enumerate() {
            std::fs::write(dir.path().join(format!("{number}.txt")), text).expect("writes");
        }
        let expected: Vec<String> =
            texts.iter().flat_map(|text| text.lines()).map(Into::into).collect();
        let source = FileSource::path(dir.path());
        let source = match bytes {
            Some(bytes) => source.split_bytes(bytes),
            None => source,
        };
        replay_contract(&source, &expected);
    }
}
