//! Unusual files: empty, padded with zeros, linked, without a length, of another kind, or of one
//! endless line.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use snapline::BoxError;
use snapline::connect::{
    ConnectError, Csv, Decoded, DirectorySource, FileSource, Lines, OpenContext, Progress, Source,
    SourceReader,
};

use crate::{attempt, typed};

/// All records of one of several subtasks, until there are none for now.
fn share<S: Source>(source: &S, index: usize, of: usize) -> Result<Vec<S::Record>, BoxError> {
    let context = OpenContext::new("job", "in", index, of, attempt(1, 1));
    let (mut reader, mut out) = (source.open(&context, None)?, Vec::new());
    while reader.read(7, &mut out)? == Progress::More {}
    Ok(out)
}

fn all<S: Source>(source: &S) -> Result<Vec<S::Record>, BoxError> {
    share(source, 0, 1)
}

fn decoded(path: &Path) -> Decoded<String, Lines> {
    FileSource::path(path).decode(Lines::new())
}

/// A directory's lines, by each kind of source: the existing lines, the same decoded, and the
/// arriving ones.
fn each(dir: &Path, follow: bool) -> [Result<Vec<String>, BoxError>; 3] {
    let mut there = FileSource::path(dir);
    let mut coming = DirectorySource::path(dir).every(Duration::ZERO);
    if follow {
        (there, coming) = (there.follow_links(), coming.follow_links());
    }
    [
        all(&there),
        all(&there.clone().decode::<String, _>(Lines::new())),
        all(&coming.decode::<String, _>(Lines::new())),
    ]
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).expect("compresses");
    encoder.finish().expect("compresses")
}

#[test]
fn a_file_without_bytes_has_no_records_whatever_its_name_says() {
    let dir = tempfile::tempdir().expect("a directory");
    for name in ["a.gz", "b.zst", "c.csv", "d"] {
        fs::write(dir.path().join(name), "").expect("writes");
    }
    for read in each(dir.path(), false) {
        assert_eq!(read.expect("reads"), [""; 0]);
    }
    let rows = FileSource::path(dir.path()).csv::<(String,)>();
    assert!(all(&rows).expect("reads").is_empty());
    for name in ["a.gz", "b.zst"] {
        assert!(all(&decoded(&dir.path().join(name))).expect("reads").is_empty());
    }
}

#[test]
fn what_stands_after_compressed_data_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let zst = zstd::encode_all(&b"text\n"[..], 1).expect("compresses");
    for (name, bytes) in [("a.gz", gzip(b"text\n")), ("a.zst", zst)] {
        let path = dir.path().join(name);
        fs::write(&path, [bytes.clone(), vec![0; 10_000]].concat()).expect("writes");
        assert_eq!(all(&decoded(&path)).expect("reads"), ["text"], "{name}");
        fs::write(&path, [bytes.clone(), b"more".to_vec()].concat()).expect("writes");
        let error = typed(all(&decoded(&path)));
        assert!(matches!(error, ConnectError::Trailing { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("5 decompressed bytes") && !text.contains("copy"), "{text}");
    }
}

#[test]
fn a_zstd_window_is_as_long_as_is_allowed() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("begins");
    encoder.window_log(28).expect("can be");
    encoder.write_all(b"text\n").expect("writes");
    fs::write(dir.path().join("a.zst"), encoder.finish().expect("ends")).expect("writes");
    let there = FileSource::path(dir.path()).decode::<String, _>(Lines::new());
    let coming =
        DirectorySource::path(dir.path()).every(Duration::ZERO).decode::<String, _>(Lines::new());
    for source in [there, coming] {
        let error = typed(all(&source));
        let limit = matches!(error, ConnectError::Window { limit, .. } if limit == 128 << 20);
        assert!(limit && error.to_string().contains("max_zstd_window"), "{error}");
        let error = typed(all(&source.clone().max_zstd_window(64 << 20)));
        assert!(matches!(error, ConnectError::Window { limit: 67_108_864, .. }), "{error}");
        assert_eq!(all(&source.max_zstd_window(200 << 20)).expect("reads"), ["text"]);
    }
}

#[cfg(unix)]
#[test]
fn links_are_followed_where_that_is_said_alone() {
    use std::os::unix::fs::symlink;
    let (dir, secret) = (tempfile::tempdir().expect("one"), tempfile::tempdir().expect("two"));
    fs::write(secret.path().join("secret"), "secret\n").expect("writes");
    fs::write(dir.path().join("b"), "well\n").expect("writes");
    symlink(secret.path().join("secret"), dir.path().join("a")).expect("links");
    symlink("nowhere", dir.path().join("c")).expect("links");
    symlink("d", dir.path().join("d")).expect("links");
    symlink(secret.path(), dir.path().join("e")).expect("links");
    for read in each(dir.path(), false) {
        assert_eq!(read.expect("reads"), ["well"]);
    }
    let pattern = |pattern: &str| FileSource::path(dir.path().join(pattern));
    for (wild, plain, followed) in [
        ("*", &["well"][..], &["secret", "well"][..]),
        ("*/*", &[], &["secret"]),
        ("**/*", &["well"], &["secret", "well", "secret"]),
    ] {
        let read = all(&pattern(wild));
        match plain.is_empty() {
            true => assert!(matches!(typed(read), ConnectError::OnlyLinks { .. })),
            false => assert_eq!(read.expect("reads"), plain, "{wild}"),
        }
        fs::remove_file(dir.path().join("d")).expect("removes");
        let mut read = all(&pattern(wild).follow_links()).expect("reads");
        symlink("d", dir.path().join("d")).expect("links");
        let mut followed = followed.to_vec();
        read.sort();
        followed.sort_unstable();
        assert_eq!(read, followed, "{wild}");
    }
    fs::remove_file(dir.path().join("d")).expect("removes");
    fs::remove_file(dir.path().join("e")).expect("removes");
    for read in each(dir.path(), true) {
        assert_eq!(read.expect("reads"), ["secret", "well"]);
    }
    // The path's own target may be a link.
    assert_eq!(all(&pattern("a")).expect("reads"), ["secret"]);
    assert_eq!(all(&decoded(&dir.path().join("a"))).expect("reads"), ["secret"]);
    symlink(secret.path(), dir.path().join("e")).expect("links");
    for read in each(&dir.path().join("e"), false) {
        assert_eq!(read.expect("reads"), ["secret"]);
    }
    assert_eq!(all(&pattern("e/*")).expect("reads"), ["secret"]);
    let error = typed(all(&pattern("c")));
    assert!(matches!(error, ConnectError::NoInput { .. }), "{error}");
    // A file that is replaced by a link after it was found.
    let source = FileSource::path(dir.path());
    let context = OpenContext::new("job", "in", 0, 1, attempt(1, 1));
    let mut reader = source.open(&context, None).expect("opens");
    fs::remove_file(dir.path().join("b")).expect("removes");
    symlink(secret.path().join("secret"), dir.path().join("b")).expect("links");
    let error = typed(reader.read(9, &mut Vec::new()));
    assert!(matches!(error, ConnectError::Link { .. }), "{error}");
    assert!(error.to_string().contains("follow_links"), "{error}");
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_neither_waited_for_nor_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let pipe = dir.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo is there").success());
    let socket = dir.path().join("socket");
    let _listening = std::os::unix::net::UnixListener::bind(&socket).expect("binds");
    fs::write(dir.path().join("well"), "well\n").expect("writes");
    for read in each(dir.path(), false) {
        assert_eq!(read.expect("reads"), ["well"]);
    }
    for path in [pipe.as_path(), &socket, Path::new("/dev/null"), Path::new("/dev/zero")] {
        let error = typed(all(&FileSource::path(path)));
        assert!(matches!(error, ConnectError::NotAFile { .. }), "{error}");
        let error = typed(all(&decoded(path)));
        assert!(matches!(error, ConnectError::NotAFile { .. }), "{error}");
    }
    // A file that is replaced by a pipe.
    let path = dir.path().join("well");
    let context = OpenContext::new("job", "in", 0, 1, attempt(1, 1));
    let mut reader = FileSource::path(&path).open(&context, None).expect("opens");
    fs::remove_file(&path).expect("removes");
    fs::rename(&pipe, &path).expect("renames");
    let error = typed(reader.read(9, &mut Vec::new()));
    assert!(matches!(error, ConnectError::NotAFile { .. }), "{error}");
    // A query of a pipe would wait for ever.
    let lookup = snapline::connect::SqliteSource::new(&path, "SELECT 1 AS id", "id", |row| {
        row.get::<_, i64>(0)
    });
    let Err(error) = lookup.open(&context, None) else { panic!("it is to be refused") };
    assert!(error.to_string().contains("is not an SQLite database"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn files_whose_length_is_not_known_are_refused() {
    for path in ["/proc/cpuinfo", "/proc/self/status", "/proc/self/stat*"] {
        for error in [typed(all(&FileSource::path(path))), typed(all(&decoded(Path::new(path))))] {
            assert!(matches!(error, ConnectError::NoLength { said: 0, .. }), "{error}");
        }
    }
    let page = "/sys/kernel/mm/transparent_hugepage/enabled";
    if Path::new(page).exists() {
        let error = typed(all(&FileSource::path(page)));
        assert!(matches!(error, ConnectError::NoLength { .. }), "{error}");
    }
    // Files found in a directory are refused too.
    let coming = |dir: &str| {
        let coming = DirectorySource::path(dir).every(Duration::ZERO);
        typed(all(&coming.decode::<String, _>(Lines::new())))
    };
    for (dir, said) in
        [("/proc/sys/kernel/random", 0), ("/sys/kernel/mm/transparent_hugepage", 4096)]
    {
        if Path::new(dir).exists() {
            let error = coming(dir);
            let named = matches!(error, ConnectError::NoLength { said: it, .. } if it == said);
            assert!(named, "{error}");
        }
    }
    // Holes count as content.
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("holes");
    File::create(&path).expect("makes").set_len(100).expect("grows");
    assert_eq!(all(&FileSource::path(&path)).expect("reads"), ["\0".repeat(100)]);
}

#[test]
fn a_line_without_end_is_not_taken_into_memory() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("endless");
    File::create(&path).expect("makes").set_len(2 << 30).expect("grows");
    let begun = Instant::now();
    for index in 0..4 {
        let error = typed(share(&FileSource::path(&path), index, 4));
        let named = matches!(error, ConnectError::LongLine { limit: 1_048_576, .. });
        assert!(named && error.to_string().contains("max_line_bytes"), "{error}");
    }
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    // The peak memory of this process, with all its other tests.
    if let Ok(status) = fs::read_to_string("/proc/self/status") {
        let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let most = most.and_then(|kib| kib.trim().split(' ').next()?.parse::<u64>().ok());
        assert!(most.is_none_or(|kib| kib < 1 << 20), "{most:?} KiB");
    }
    let path = dir.path().join("lines");
    fs::write(&path, "abc\nabcd\r\nab\nabcd").expect("writes");
    let long = |limit| FileSource::path(&path).max_line_bytes(limit);
    assert_eq!(all(&long(5)).expect("reads"), ["abc", "abcd", "ab", "abcd"]);
    // A line end is not part of the line; nor is a byte order mark.
    assert_eq!(all(&long(4)).expect("reads"), ["abc", "abcd", "ab", "abcd"]);
    let error = typed(all(&long(3)));
    assert!(matches!(error, ConnectError::LongLine { offset: 4, limit: 3, .. }), "{error}");
    for (text, fits) in [
        ("\u{feff}abcd\r\n", true),
        ("\u{feff}abcde\r\n", false),
        ("abcd\r\nx", true),
        ("abcd\r\rx", false),
        ("abcde", false),
        ("abcde\n", false),
        ("\u{feff}abcdefghijk", false),
    ] {
        let path = dir.path().join("one");
        fs::write(&path, text).expect("writes");
        let read = all(&FileSource::path(&path).max_line_bytes(4));
        assert_eq!(read.is_ok(), fits, "{text:?}");
        assert!(fits || matches!(typed(read), ConnectError::LongLine { .. }), "{text:?}");
    }
    // Also when it is read in pieces.
    for bytes in 1..20 {
        let source = long(4).split_bytes(bytes);
        let mut lines = share(&source, 0, 2).expect("reads");
        lines.extend(share(&source, 1, 2).expect("reads"));
        lines.sort();
        assert_eq!(lines, ["ab", "abc", "abcd", "abcd"], "pieces of {bytes}");
    }
}

#[test]
fn a_mark_of_byte_order_is_passed_over_in_every_text() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("text");
    fs::write(&path, "\u{feff}1\n\u{feff}2\n").expect("writes");
    let expected = ["1", "\u{feff}2"];
    assert_eq!(all(&FileSource::path(&path)).expect("reads"), expected);
    for bytes in 1..12 {
        for index in 0..2 {
            let source = FileSource::path(&path).split_bytes(bytes);
            let plain: Vec<String> =
                (0..2).flat_map(|index| share(&source, index, 2).expect("reads")).collect();
            let source = source.decode::<String, _>(Lines::new());
            let decoded: Vec<String> =
                (0..2).flat_map(|index| share(&source, index, 2).expect("reads")).collect();
            for mut lines in [plain, decoded] {
                lines.sort();
                assert_eq!(lines, expected, "pieces of {bytes}, {index}");
            }
        }
    }
    fs::write(&path, "\u{feff}").expect("writes");
    assert_eq!(all(&FileSource::path(&path)).expect("reads"), [""; 0]);
    assert_eq!(all(&decoded(&path)).expect("reads"), [""; 0]);
    for text in [&b"\xFF\xFEa\0\n\0"[..], b"\xFE\xFF\0a\0\n"] {
        fs::write(&path, text).expect("writes");
        let utf16 = |error: ConnectError| {
            assert!(matches!(error, ConnectError::Utf16 { .. }), "{error}");
            assert!(error.to_string().contains("iconv"), "{error}");
        };
        utf16(typed(all(&FileSource::path(&path))));
        utf16(typed(all(&FileSource::path(&path).lossy())));
        utf16(typed(all(&decoded(&path).skip_malformed())));
        utf16(typed(all(&FileSource::path(&path).decode::<(String,), _>(Csv::new()))));
        utf16(typed(all(&FileSource::path(&path).json_lines::<String>())));
    }
}

/// The named file may be a link, even if its path is written differently now.
#[test]
fn a_named_link_is_followed_by_a_restored_job_whose_path_is_written_otherwise() {
    let dir = tempfile::tempdir().expect("a directory");
    let (real, link) = (dir.path().join("real"), dir.path().join("words"));
    fs::write(&real, "1\n2\n").expect("writes");
    std::os::unix::fs::symlink(&real, &link).expect("links");
    let context = OpenContext::new("job", "in", 0, 1, attempt(1, 1));
    fn rest<S: Source>(source: &S, position: S::Position, context: &OpenContext) -> usize {
        let mut reader = source.open(context, Some(position)).expect("opens");
        let mut out = Vec::new();
        while reader.read(9, &mut out).expect("reads") != Progress::End {}
        out.len()
    }
    let (source, other) = (FileSource::path(&link), FileSource::path(dir.path().join("./words")));
    let position = source.open(&context, None).expect("opens").position();
    assert_eq!(rest(&other, position, &context), 2);
    let position = decoded(&link).open(&context, None).expect("opens").position();
    assert_eq!(rest(&decoded(&dir.path().join("./words")), position, &context), 2);
}
