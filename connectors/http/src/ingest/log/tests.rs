//! The log on a disk that fails, in processes that die, and in power failures: at every change that
//! it makes in turn.
//!
//! Longer than 500 lines: one log, and all that can become of it.

use super::*;
use snapline_core::base::sync::thread;
use snapline_core::fs::simulated::{Host, Random, SimDisk, Trouble};

const DIR: &str = "/log";

fn open(disk: &SimDisk, host: &Host) -> Result<Log, IngestError> {
    // Short segments: some of the changes begin one.
    Log::open(Arc::new(disk.files(host)), Path::new(DIR), 150, 100)
}

/// Request `number`: some records that no other request has, under a key.
fn batch(number: u64) -> LogBatch {
    let records = (0..=number % 3).map(|record| format!("{number}.{record}").into_bytes());
    LogBatch { key: Some(format!("key {number}")), records: records.collect() }
}

/// All records, which are numbered without a gap.
fn all(log: &Log) -> Vec<Vec<u8>> {
    all_from(log, 0)
}

fn all_from(log: &Log, first: u64) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    let mut cursor = Cursor::new(log.shelf(), first);
    loop {
        let reached = cursor.read(|number, record| {
            assert_eq!(
                number,
                first + records.len() as u64,
                "no number is left out or given twice"
            );
            records.push(record.to_vec());
            // A few at a time.
            Ok(number % 4 != 3)
        });
        if reached.expect("what was accepted can be read") != Reached::More {
            return records;
        }
    }
}

/// Sends requests, some of them together; returns the acknowledged ones.
fn live(log: &mut Log, numbers: std::ops::Range<u64>) -> Vec<u64> {
    let mut acknowledged = Vec::new();
    let numbers: Vec<u64> = numbers.collect();
    for together in numbers.chunks(2) {
        if let Ok(answers) = log.append(together.iter().map(|&number| batch(number)).collect()) {
            assert!(answers.iter().all(|answer| !matches!(answer, Accepted::OtherBody)));
            acknowledged.extend(together);
        }
    }
    acknowledged
}

/// Each request is in the log whole, once, or not at all; all acknowledged ones are.
fn judge(records: &[Vec<u8>], acknowledged: &[u64], sent: u64, told: &str) {
    let mut rest = records;
    let mut seen = Vec::new();
    while let Some(first) = rest.first() {
        let text = String::from_utf8(first.clone()).expect("a text");
        let number: u64 = text.split('.').next().expect("a number").parse().expect("a number");
        let whole = batch(number).records;
        assert_eq!(rest[..whole.len().min(rest.len())], whole, "{told}: a request is whole");
        rest = &rest[whole.len()..];
        assert!(number < sent && !seen.contains(&number), "{told}: {number} is there twice");
        seen.push(number);
    }
    for number in acknowledged {
        assert!(seen.contains(number), "{told}: {number} was acknowledged and is lost");
    }
}

const SENT: u64 = 12;

/// The number of changes that a life without failures makes.
fn changes() -> u64 {
    let (disk, host) = (SimDisk::new(), Host::default());
    let mut log = open(&disk, &host).expect("opens");
    assert_eq!(live(&mut log, 0..SENT).len() as u64, SENT);
    host.changes().0
}

/// A log with files of these names and contents.
fn with(files: &[(&str, &[u8])]) -> Result<Log, IngestError> {
    let (disk, host) = (SimDisk::new(), Host::default());
    let on = disk.files(&host);
    on.make_directory(Path::new(DIR)).expect("makes");
    for (name, bytes) in files {
        let mut file = on.create(&Path::new(DIR).join(name)).expect("makes");
        file.write(bytes).expect("writes");
    }
    open(&disk, &host)
}

/// Found by the fuzz target `ingest-log`: the next record's number was out of range, and the writer
/// panicked.
#[test]
fn a_number_that_no_record_has_is_damage() {
    for first in [RECORDS_END, u64::MAX] {
        let error = with(&[(&segment_name(first), b"")]).err().expect("it is damaged");
        assert!(matches!(error, IngestError::Damaged { .. }), "{error}");
    }
    let segment = |count: usize| {
        let mut bytes = [&MAGIC[..], &[7; MARK]].concat();
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        let first = RECORDS_END - 2;
        let body = [0; 4].repeat(count);
        frame(&mut bytes, [7; MARK], FrameKind::Records, (first, first), count as u64, "", &body);
        with(&[(&segment_name(first), &bytes)])
    };
    assert_eq!(all_from(&segment(2).expect("they are the last"), RECORDS_END - 2).len(), 2);
    let error = segment(3).err().expect("one too many");
    assert!(matches!(error, IngestError::Damaged { .. }), "{error}");
}

#[test]
fn a_file_whose_number_is_spelled_otherwise_is_of_another() {
    for name in ["+0000000000000000000.log", "0.log", "000000000000000000000.log", "7.log"] {
        let log = with(&[(name, b"of another")]).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(all(&log), Vec::<Vec<u8>>::new(), "{name}");
    }
}

#[test]
fn a_death_and_the_loss_of_power_at_every_change() {
    let mut lost = 0;
    for dies in 0..=changes() {
        for seed in 0..12 {
            let told = format!("dies after {dies}, seed {seed}");
            let disk = SimDisk::new();
            let host = Host::default();
            host.dies_after(dies);
            let acknowledged = match open(&disk, &host) {
                Ok(mut log) => live(&mut log, 0..SENT),
                Err(_) => Vec::new(),
            };
            host.kill();
            if seed > 0 {
                disk.lose_power(&mut Random::new(seed));
            }
            // The next life may die too, and the power fail again, while it opens.
            let second = Host::default();
            second.dies_after(seed % 7);
            let between = open(&disk, &second).map(|log| all(&log));
            second.kill();
            disk.lose_power(&mut Random::new(seed + 1000));

            let host = Host::default();
            let mut log = open(&disk, &host).unwrap_or_else(|error| panic!("{told}: {error}"));
            let found = all(&log);
            judge(&found, &acknowledged, SENT, &told);
            if let Ok(between) = between {
                assert_eq!(found[..between.len()], between, "{told}: what was read is still there");
            }
            lost += SENT - acknowledged.len() as u64;
            // A client without a response sends everything again, and something new.
            assert_eq!(live(&mut log, 0..SENT + 3).len() as u64, SENT + 3, "{told}");
            let every: Vec<u64> = (0..SENT + 3).collect();
            judge(&all(&log), &every, SENT + 3, &told);
            drop(log);
            let again = open(&disk, &Host::default()).map(|log| all(&log));
            judge(&again.expect("opens"), &every, SENT + 3, &told);
        }
    }
    assert!(lost > 100, "only {lost} requests were cut off");
}

#[test]
fn a_change_that_fails_is_no_acceptance_and_no_end() {
    let mut refused = 0;
    for fails in 0..=changes() {
        for late in [false, true] {
            let told = format!("fails after {fails}, late: {late}");
            let (disk, host) = (SimDisk::new(), Host::default());
            let trouble = Trouble { kind: ErrorKind::StorageFull, late };
            host.fails_after(Some((fails, trouble)));
            let mut log = match open(&disk, &host) {
                Ok(log) => log,
                // The error was reported, and the log can be opened the next time.
                Err(_) => match open(&disk, &host) {
                    Ok(log) => log,
                    // A lock that the simulated disk took though it reported a failure: no owner is
                    // there to release it.
                    Err(IngestError::InUse { .. }) => continue,
                    Err(error) => panic!("{told}: {error}"),
                },
            };
            let acknowledged = live(&mut log, 0..SENT);
            refused += SENT - acknowledged.len() as u64;
            judge(&all(&log), &acknowledged, SENT, &told);
            // A failure that has not come by now does not come.
            host.fails_after(None);
            assert_eq!(live(&mut log, 0..SENT).len() as u64, SENT, "{told}: it continues");
            let every: Vec<u64> = (0..SENT).collect();
            let before = all(&log);
            judge(&before, &every, SENT, &told);
            host.kill();
            disk.lose_power(&mut Random::new(fails));
            let again = open(&disk, &Host::default()).map(|log| all(&log));
            assert_eq!(again.expect("opens"), before, "{told}");
        }
    }
    assert!(refused > 10, "only {refused} requests were refused");
}

/// A log that could not be opened at first is durable once it opens, with all directories that lead
/// to it.
#[test]
fn what_is_opened_after_a_failure_is_durable_from_its_name_on() {
    let mut failed = 0;
    for nth in 0.. {
        let (disk, host) = (SimDisk::new(), Host::default());
        host.fails_after(Some((nth, Trouble { kind: ErrorKind::Other, late: false })));
        let mut log = match open(&disk, &host) {
            Ok(log) => log,
            Err(_) => open(&disk, &host).expect("nothing fails any more"),
        };
        let failures = host.changes().1;
        host.fails_after(None);
        let acknowledged = live(&mut log, 0..2);
        drop(log);
        let worst = open(&disk.worst(), &Host::default()).expect("opens");
        judge(&all(&worst), &acknowledged, 2, &format!("after {nth}"));
        failed += failures;
        if failures == 0 {
            break;
        }
    }
    assert!(failed > 10, "{failed} changes failed");
}

#[test]
fn only_what_nobody_needs_is_removed() {
    let (disk, host) = (SimDisk::new(), Host::default());
    let mut log = open(&disk, &host).expect("opens");
    live(&mut log, 0..SENT);
    let shelf = Arc::clone(log.shelf());
    let firsts = || -> Vec<u64> {
        lock(&shelf.extent).segments.iter().map(|segment| segment.first).collect()
    };
    let before = firsts();
    assert!(before.len() > 3, "{before:?}");
    shelf.forget();
    assert_eq!(firsts(), before, "no reader has reported that it needs less");
    let reader = |index| ("job".to_owned(), "in".to_owned(), index);
    lock(&shelf.extent).needed.insert(reader(0), before[2]);
    lock(&shelf.extent).needed.insert(reader(1), before[2] - 1);
    shelf.forget();
    assert_eq!(firsts(), before[1..], "one of them needs what is before the third");
    lock(&shelf.extent).needed.insert(reader(1), u64::MAX);
    shelf.forget();
    assert_eq!(firsts(), before[2..]);
    lock(&shelf.extent).needed.insert(reader(0), u64::MAX);
    shelf.forget();
    assert_eq!(firsts().len(), 1, "the newest stays");
    let gone = Cursor::new(&shelf, before[1]).read(|_, _| Ok(true)).expect_err("is reported");
    assert!(matches!(gone, IngestError::Gone { .. }), "{gone}");
    drop(log);
    let log = open(&disk, &Host::default()).expect("opens");
    assert_eq!(lock(&log.shelf().extent).segments[0].first, before[before.len() - 1]);
}

/// A segment that cannot be removed is still there, and is removed the next time.
#[test]
fn what_cannot_be_removed_stays_in_the_log() {
    let (disk, host) = (SimDisk::new(), Host::default());
    let mut log = open(&disk, &host).expect("opens");
    live(&mut log, 0..SENT);
    let shelf = Arc::clone(log.shelf());
    let segments = || lock(&shelf.extent).segments.len();
    let (before, all_of_it) = (segments(), all(&log));
    lock(&shelf.extent).needed.insert(("job".to_owned(), "in".to_owned(), 0), u64::MAX);
    let trouble = Trouble { kind: ErrorKind::PermissionDenied, late: false };
    for fails in 0..2 {
        host.fails_after(Some((fails, trouble)));
        shelf.forget();
        assert_eq!(segments(), before, "it is not there, but it is on the disk");
    }
    host.fails_after(None);
    assert_eq!(all(&log), all_of_it);
    shelf.forget();
    assert_eq!(segments(), 1);
    let files = disk.files(&host).list(Path::new(DIR)).expect("can be listed");
    assert_eq!(files.iter().filter(|name| name.ends_with(".log")).count(), 1, "{files:?}");
}

/// Unsynced records of an earlier life are read only when they are durable: records that were read
/// are there again after a power failure.
#[test]
fn what_was_read_is_still_there_when_the_power_goes() {
    let (mut read_all, mut refused) = (0, 0);
    for dies in 0..=changes() {
        for seed in 0..24 {
            let (disk, host) = (SimDisk::new(), Host::default());
            host.dies_after(dies);
            if let Ok(mut log) = open(&disk, &host) {
                live(&mut log, 0..SENT);
            }
            host.kill();
            // One change of the next life fails, or none.
            let second = Host::default();
            if seed < 12 {
                let trouble = Trouble { kind: ErrorKind::Other, late: false };
                second.fails_after(Some((seed, trouble)));
            }
            let Ok(log) = open(&disk, &second) else {
                refused += 1;
                continue;
            };
            let read = all(&log);
            second.kill();
            disk.lose_power(&mut Random::new(seed));
            let log = open(&disk, &Host::default()).expect("opens");
            assert!(all(&log).starts_with(&read), "dies after {dies}, seed {seed}");
            read_all += read.len();
        }
    }
    assert!(read_all > 1_000 && refused > 100, "{read_all}, {refused}");
}

/// Keys are durable elsewhere before their records are removed.
#[test]
fn keys_of_removed_records_outlive_the_power() {
    for seed in 0..20 {
        let (disk, host) = (SimDisk::new(), Host::default());
        let mut log = open(&disk, &host).expect("opens");
        assert_eq!(live(&mut log, 0..SENT).len() as u64, SENT);
        drop(log);
        host.kill();
        let second = Host::default();
        let log = open(&disk, &second).expect("opens");
        lock(&log.shelf().extent).needed.insert(("job".into(), "in".into(), 0), u64::MAX);
        log.shelf().forget();
        assert_eq!(lock(&log.shelf().extent).segments.len(), 1);
        second.kill();
        disk.lose_power(&mut Random::new(seed));
        let mut log = open(&disk, &Host::default()).expect("opens");
        let answers = log.append((0..SENT).map(batch).collect()).expect("nothing fails");
        let again = |answer: &Accepted| matches!(answer, Accepted::Again { .. });
        assert!(answers.iter().all(again), "seed {seed}: {answers:?}");
    }
}

/// A segment's file, alone in a directory.
fn opened(bytes: &[u8]) -> (tempfile::TempDir, Result<Log, IngestError>) {
    let place = tempfile::tempdir().expect("a directory for the test");
    let path = place.path().join("00000000000000000000.log");
    std::fs::write(path, bytes).expect("it can be written");
    let log = Log::open(Arc::new(snapline_core::fs::Disk), place.path(), 1 << 20, 100);
    (place, log)
}

const OURS: [u8; MARK] = *b"our mark";

/// The beginning of a segment of version 2, and of one of version 1.
fn beginning(mark: Mark) -> Vec<u8> {
    let Some(mark) = mark else { return MAGIC_1.to_vec() };
    let mut bytes = [&MAGIC[..], &mark].concat();
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

/// A frame of these records, in a segment of either version.
fn framed(mark: Mark, (first, durable): (u64, u64), count: u64, records: &[&[u8]]) -> Vec<u8> {
    let (mut bytes, mut body) = (Vec::new(), Vec::new());
    for record in records {
        body.extend_from_slice(&(record.len() as u32).to_le_bytes());
        body.extend_from_slice(record);
    }
    frame(&mut bytes, mark.unwrap_or(OURS), FrameKind::Records, (first, durable), count, "", &body);
    if mark.is_some() { bytes } else { bytes.split_off(MARK) }
}

/// A client's data, whatever it is, is never taken for a frame, also where the request before it in
/// the file is torn.
#[test]
fn a_record_that_is_a_whole_frame_does_no_harm() {
    for mark in [None, Some(OURS)] {
        let whole = framed(mark, (0, 0), 1, &[b"a"]);
        let far = 0x7f7f_7f7f_7f7f_7f7f;
        let mut forged = vec![framed(None, (far, far), 0, &[])];
        assert_eq!(forged[0].len(), 31);
        forged.push(framed(None, (1, far), 0, &[]));
        // It is valid, except that this many records have no room before it.
        forged.push(framed(None, (1 << 40, 1 << 40), 0, &[]));
        if mark.is_some() {
            // In version 1, a possible frame cannot be distinguished from a real one.
            forged.push(framed(None, (2, 2), 1, &[b"b"]));
            forged.push(framed(Some([0; MARK]), (2, 2), 1, &[b"b"]));
        }
        for forged in forged {
            let mut torn = framed(mark, (1, 1), 2, &[&forged, b"the end of it is missing"]);
            torn.truncate(torn.len() - 9);
            let bytes = [beginning(mark), whole.clone(), torn].concat();
            let (place, log) = opened(&bytes);
            let mut log = log.unwrap_or_else(|error| panic!("{mark:?}, {forged:?}: {error}"));
            assert_eq!(all(&log), [b"a"]);
            let path = place.path().join("00000000000000000000.log");
            let left = std::fs::read(path).expect("it is there");
            assert_eq!(left, bytes[..left.len()]);
            assert_eq!(left.len(), beginning(mark).len() + whole.len(), "the torn end is cut off");
            // And accepts more.
            let more = LogBatch { key: None, records: vec![b"b".to_vec()] };
            log.append(vec![more]).expect("it is accepted");
            assert_eq!(all(&log), [b"a", b"b"]);
        }
    }
}

#[test]
fn damage_before_what_is_durable_is_still_told() {
    for mark in [None, Some(OURS)] {
        let frames = [
            beginning(mark),
            framed(mark, (0, 0), 1, &[b"a"]),
            framed(mark, (1, 1), 1, &[b"b"]),
            framed(mark, (2, 2), 1, &[b"c"]),
        ];
        let (_place, log) = opened(&frames.concat());
        assert_eq!(all(&log.expect("it is whole")), [b"a", b"b", b"c"]);
        let begin = frames[0].len() + frames[1].len();
        for at in begin..begin + frames[2].len() {
            let mut bytes = frames.concat();
            bytes[at] ^= 0x10;
            let (_place, log) = opened(&bytes);
            let Err(error) = log else { panic!("{mark:?}, byte {at}: damage goes unseen") };
            assert!(matches!(error, IngestError::Damaged { .. }), "{error}");
        }
    }
    // A segment's beginning, too: without its mark none of its frames could be found.
    let bytes = [beginning(Some(OURS)), framed(Some(OURS), (0, 0), 1, &[b"a"])].concat();
    for at in 0..BEGIN {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x10;
        let (_place, log) = opened(&bytes);
        assert!(matches!(log, Err(IngestError::Damaged { .. })), "byte {at}");
    }
}

#[test]
fn a_whole_frame_that_says_what_cannot_be_is_told() {
    for mark in [None, Some(OURS)] {
        let mut longer = framed(mark, (0, 0), 1, &[b"abc"]);
        let head = mark.map_or(0, |mark| mark.len());
        // The length of its record, and the matching checksum.
        let record = head + HEAD + FIXED;
        longer[record..record + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        let sum = crc32fast::hash(&longer[head + HEAD..]);
        longer[head + 4..head + HEAD].copy_from_slice(&sum.to_le_bytes());
        for (what, wrong) in [
            ("more records than there are", framed(mark, (0, 0), 3, &[b"a", b"b"])),
            ("fewer", framed(mark, (0, 0), 1, &[b"a", b"b"])),
            ("more than there can be", framed(mark, (0, 0), u64::from(u32::MAX), &[b"a"])),
            ("numbers without end", framed(mark, (u64::MAX, 0), 1, &[b"a"])),
            ("durable before it was", framed(mark, (0, 1), 1, &[b"a"])),
            ("a record longer than all", longer),
        ] {
            let (_place, log) = opened(&[beginning(mark), wrong].concat());
            let Err(error) = log else { panic!("{mark:?}: {what}") };
            assert!(matches!(error, IngestError::Damaged { .. }), "{what}: {error}");
        }
    }
}

/// A megabyte that begins a frame at every opportunity, each claiming all the room that there is.
#[test]
fn what_looks_like_very_many_frames_is_read_in_time() {
    let took = |mark: Mark, size: usize| {
        let mut bytes = [beginning(mark), framed(mark, (0, 0), 1, &[b"a"])].concat();
        let begin = bytes.len();
        while bytes.len() < begin + size {
            let left = (begin + size - bytes.len()).saturating_sub(FIXED + 40) as u32;
            bytes.extend(mark.into_iter().flatten());
            bytes.extend_from_slice(&left.to_le_bytes());
            bytes.extend_from_slice(&[0; 4 + FIXED]);
        }
        let begun = cpu_time::ThreadTime::now();
        let (_place, log) = opened(&bytes);
        let took = begun.elapsed();
        assert_eq!(all(&log.expect("all of that is torn")), [b"a"]);
        took
    };
    for mark in [None, Some(OURS)] {
        // Four times the size takes about four times as long, rather than sixteen times.
        let (short, long) = (took(mark, 1 << 18), took(mark, 1 << 20));
        let most = short * 8 + std::time::Duration::from_millis(50);
        assert!(long < most, "{mark:?}: {short:?}, {long:?}");
    }
}

#[test]
fn a_write_that_fails_leaves_nothing_torn() {
    let (disk, host) = (SimDisk::new(), Host::default());
    let mut log = open(&disk, &host).expect("opens");
    live(&mut log, 0..2);
    let shelf = Arc::clone(log.shelf());
    let first = lock(&shelf.extent).segments.back().expect("it has begun one").first;
    let length = || disk.files(&Host::default()).length(&shelf.path(first)).expect("it is there");
    let before = length();
    host.fails_after(Some((0, Trouble { kind: ErrorKind::StorageFull, late: false })));
    log.append(vec![batch(7)]).expect_err("the disk is full");
    assert_eq!(length(), before);
}

#[test]
fn what_no_frame_can_hold_is_refused_alone() {
    let (disk, host) = (SimDisk::new(), Host::default());
    let mut log = open(&disk, &host).expect("opens");
    let long = LogBatch { key: Some("k".repeat(1 << 16)), records: vec![b"a".to_vec()] };
    let answers = log.append(vec![batch(0), long, batch(1)]).expect("nothing fails");
    assert!(matches!(answers[..], [Accepted::New { .. }, Accepted::TooLong, Accepted::New { .. }]));
    assert_eq!(all(&log), [batch(0).records, batch(1).records].concat());
}

/// Appends and queries do not wait for a disk that is slow to remove a file.
#[test]
fn nothing_waits_for_what_is_removed() {
    let (disk, host) = (SimDisk::new(), Host::default());
    let mut log = open(&disk, &host).expect("opens");
    live(&mut log, 0..SENT);
    let shelf = Arc::clone(log.shelf());
    let segments = |shelf: &Shelf| lock(&shelf.extent).segments.len();
    let before = segments(&shelf);
    lock(&shelf.extent).needed.insert(("job".to_owned(), "in".to_owned(), 0), u64::MAX);
    let held = disk.hold();
    let (theirs, (say, said)) = (Arc::clone(&shelf), crossbeam_channel::bounded(1));
    let removing = thread::spawn(move || theirs.forget());
    let asking = Arc::clone(&shelf);
    let asks = thread::spawn(move || {
        while segments(&asking) == before {
            thread::yield_now();
        }
        asking.bytes();
        // The waiting thread may have given up.
        let _ = say.send(());
    });
    let answered = said.recv_timeout(std::time::Duration::from_secs(10));
    drop(held);
    removing.join().expect("no panic");
    asks.join().expect("no panic");
    answered.expect("the log answers while the disk waits");
    assert_eq!(lock(&shelf.extent).segments.len(), 1);
}

/// Accepted records can be read, and then removed, where there is no room for another file.
#[test]
fn a_full_disk_is_no_reason_not_to_read() {
    let (mut opened, mut refused) = (0, 0);
    for fails in 0.. {
        let (disk, host) = (SimDisk::new(), Host::default());
        live(&mut open(&disk, &host).expect("opens"), 0..SENT);
        host.kill();
        let second = Host::default();
        let trouble = Trouble { kind: ErrorKind::StorageFull, late: false };
        second.fails_after(Some((fails, trouble)));
        let log = open(&disk, &second);
        if second.changes().1 == 0 {
            break;
        }
        let Ok(mut log) = log else {
            refused += 1;
            continue;
        };
        opened += 1;
        let every: Vec<u64> = (0..SENT).collect();
        judge(&all(&log), &every, SENT, "before there is room");
        lock(&log.shelf().extent).needed.insert(("job".into(), "in".into(), 0), u64::MAX);
        log.shelf().forget();
        assert_eq!(lock(&log.shelf().extent).segments.len(), 1);
        // There is room: it accepts, and it still knows its keys.
        let answers = log.append((0..=SENT).map(batch).collect()).expect("there is room");
        let again = answers.iter().filter(|it| matches!(it, Accepted::Again { .. })).count();
        assert_eq!(again as u64, SENT, "{answers:?}");
    }
    // To change the directory of the log: make a name and remove it. To begin a file: make room for
    // it, make it, write and sync it, twice, name it, and make the name durable.
    assert!(opened == 2 + 8 && refused < 6, "{opened}, {refused}");
}

/// A start rewrites only the frames that were written together last, in their place, and leaves
/// nothing half begun.
#[cfg(unix)]
#[test]
fn a_start_copies_no_segment() {
    use std::os::unix::fs::MetadataExt;
    let place = tempfile::tempdir().expect("a directory for the test");
    let open = || Log::open(Arc::new(snapline_core::fs::Disk), place.path(), 1 << 20, 100);
    let segment = place.path().join("00000000000000000000.log");
    {
        let mut log = open().expect("opens");
        live(&mut log, 0..SENT);
    }
    let file = || std::fs::metadata(&segment).expect("it is there").ino();
    // Left by an earlier version, or a life that died, of a file that it was about to begin.
    let left = place.path().join("00000000000000000007.new");
    std::fs::write(&left, b"snapline ingest 2").expect("it can be written");
    let (before, bytes) = (file(), std::fs::read(&segment).expect("it is there"));
    let log = open().expect("opens");
    assert_eq!((file(), std::fs::read(&segment).expect("it is there")), (before, bytes));
    judge(&all(&log), &(0..SENT).collect::<Vec<_>>(), SENT, "again");
    assert!(!left.exists());
}

/// However many keys are known, each frame of them is short enough to be read.
#[test]
fn very_many_keys_are_in_several_frames() {
    let (disk, host) = (SimDisk::new(), Host::default());
    let open = |most| Log::open(Arc::new(disk.files(&host)), Path::new(DIR), 1, most);
    let many = KEYS as u64 * 2 + 1;
    let batches = || -> Vec<LogBatch> { (0..many).map(batch).collect() };
    {
        let mut log = open(usize::MAX).expect("opens");
        log.append(batches()).expect("nothing fails");
        log.append(vec![batch(many)]).expect("nothing fails");
    }
    let mut log = open(usize::MAX).expect("opens");
    let newest = log.shelf().path(lock(&log.shelf().extent).next);
    let mut frames = LogFrames::open(&disk.files(&host), &newest).expect("it was begun");
    let mut lengths = Vec::new();
    while let Some(frame) = frames.next(&newest).expect("whole") {
        assert_eq!(frame.what, FrameKind::Keys);
        lengths.push(frame.bytes.len());
    }
    assert_eq!(lengths.len(), 3, "{lengths:?}");
    let answers = log.append(batches()).expect("nothing fails");
    assert!(answers.iter().all(|answer| matches!(answer, Accepted::Again { .. })));
}

/// A reader reads the accepted records, and then learns that nothing more can come; or that it is
/// the end, if it is.
#[test]
fn who_waits_for_what_is_broken_hears_of_it() {
    for ended in [false, true] {
        let (disk, host) = (SimDisk::new(), Host::default());
        let mut log = open(&disk, &host).expect("opens");
        live(&mut log, 0..2);
        if ended {
            log.end().expect("nothing fails");
        }
        log.shelf().breaks("the server panicked: a test");
        log.shelf().breaks("another");
        let (mut cursor, mut records) = (Cursor::new(log.shelf(), 0), 0);
        let reached = cursor.read(|_, _| {
            records += 1;
            Ok(true)
        });
        assert_eq!(records, batch(0).records.len() + batch(1).records.len());
        match reached {
            Ok(reached) => assert!(ended && reached == Reached::Ended),
            Err(error) => {
                let told = error.to_string();
                assert!(!ended && told.contains("the server panicked: a test"), "{told}");
            }
        }
    }
}
