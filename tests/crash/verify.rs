//! Checks that a finished job left exactly the expected output and files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use snapline::connect::read_committed;
use snapline::protocol::recovery::Health;
use snapline::store::{LocalStore, Store, health};
use snapline::trace::{RunTrace, replay};

use crate::child::{KEYS, LENGTH, RECORDS};
use crate::plan::{JobPlan, Shape};
use crate::{clocked, fired, joined, ranked};

/// The errors of a job's output.
#[derive(Default)]
pub(crate) struct Verdict {
    pub(crate) duplicates: usize,
    pub(crate) lost: usize,
    /// Records of an idle source that came too late when it resumed.
    pub(crate) late: usize,
    pub(crate) wrong: Option<String>,
}

impl JobPlan {
    fn sinks(&self) -> &'static [&'static str] {
        match self.shape {
            Shape::Single | Shape::Database => &["out"],
            #[cfg(feature = "formats")]
            Shape::Files => &["out"],
            Shape::Wide | Shape::Timed | Shape::Told => &["left", "right"],
            Shape::Joined => &["near", "together", "met", "alone"],
            Shape::Ranked => &["long", "short", "ordered", "highest"],
            Shape::Fired => &["sliding", "late", "fired"],
            Shape::Clocked => &["clock", "idle"],
        }
    }
}

/// The expected lines of a sink, for jobs that compute them in their own module.
fn lines(shape: Shape, sink: &str) -> Option<Vec<String>> {
    Some(match shape {
        Shape::Joined => joined::expected(sink),
        Shape::Ranked => ranked::expected(sink),
        Shape::Fired => fired::expected(sink),
        Shape::Clocked => clocked::expected(sink),
        _ => return None,
    })
}

/// Compares the committed output with the expected one: every record once, and every count of every
/// key once; or every line as often as expected.
pub(crate) fn output(job: &JobPlan, dir: &Path) -> Verdict {
    let mut verdict = Verdict::default();
    for sink in job.sinks() {
        let place = crate::output(dir, sink);
        let lines = match job.shape {
            Shape::Database => texts(&place, "SELECT number FROM numbers"),
            _ => read_committed(place).expect("the output can be read"),
        };
        if let Some(expected) = self::lines(job.shape, sink) {
            verdict.compare_lines(lines, expected);
            continue;
        }
        let (mut records, mut counts) = (BTreeMap::new(), BTreeMap::new());
        for line in &lines {
            let mut numbers = line.split(' ').map(|word| word.parse::<u64>().expect("a number"));
            let record = numbers.next().expect("a line is not empty");
            *records.entry(record).or_insert(0) += 1;
            if let Some(count) = numbers.next() {
                *counts.entry((record % KEYS, count)).or_insert(0) += 1;
            }
        }
        let (expected_records, expected_counts) = expected(job.shape, sink);
        verdict.compare(&records, &expected_records);
        verdict.compare(&counts, &expected_counts);
    }
    if (verdict.duplicates, verdict.lost) != (0, 0) {
        let Verdict { duplicates, lost, ref wrong, .. } = verdict;
        let lines = wrong.as_deref().unwrap_or_default();
        verdict.wrong = Some(format!("{duplicates} duplicates, {lost} lost{lines}"));
    }
    verdict
}

/// The results of a query, one text for each row.
fn texts(database: &Path, query: &str) -> Vec<String> {
    let database = rusqlite::Connection::open(database).expect("it can be opened");
    let mut query = database.prepare(query).expect("the table is there");
    let rows = query.query_map([], |row| row.get::<_, i64>(0)).expect("it can be read");
    rows.map(|number| number.expect("a number").to_string()).collect()
}

impl Verdict {
    fn compare_lines(&mut self, found: Vec<String>, expected: Vec<String>) {
        let mut counts: BTreeMap<&str, isize> = BTreeMap::new();
        for line in &found {
            let (line, late) = match line.strip_suffix(clocked::LATE) {
                Some(line) => (line, 1),
                None => (line.as_str(), 0),
            };
            self.late += late;
            *counts.entry(line).or_default() += 1;
        }
        for line in &expected {
            *counts.entry(line).or_default() -= 1;
        }
        counts.retain(|_, times| *times != 0);
        for (line, &times) in &counts {
            let what = if times > 0 { &mut self.duplicates } else { &mut self.lost };
            *what += times.unsigned_abs();
            let wrong = self.wrong.get_or_insert_default();
            // A few are enough for the report.
            if wrong.len() < 500 {
                wrong.push_str(&format!(", {times:+} of `{line}`"));
            }
        }
    }

    fn compare<T: Ord>(&mut self, found: &BTreeMap<T, usize>, expected: &BTreeSet<T>) {
        let twice = found.iter().map(|(one, &often)| often - usize::from(expected.contains(one)));
        self.duplicates += twice.sum::<usize>();
        self.lost += expected.iter().filter(|one| !found.contains_key(one)).count();
    }
}

/// One number for a window's result: the number of the window, its key and its count of records.
pub(crate) fn window_id(window: u64, key: u64, count: u64) -> u64 {
    (window * KEYS + key) * 1_000 + count
}

fn expected(shape: Shape, sink: &str) -> (BTreeSet<u64>, BTreeSet<(u64, u64)>) {
    let records: BTreeSet<u64> = match shape {
        Shape::Single | Shape::Database | Shape::Told => {
            return ((0..RECORDS).collect(), BTreeSet::new());
        }
        #[cfg(feature = "formats")]
        Shape::Files => return ((0..RECORDS).collect(), BTreeSet::new()),
        Shape::Wide => (0..2 * RECORDS).collect(),
        Shape::Joined | Shape::Ranked | Shape::Fired | Shape::Clocked => unreachable!("by lines"),
        Shape::Timed if sink == "right" => return (BTreeSet::new(), BTreeSet::new()),
        Shape::Timed => {
            let mut windows: BTreeMap<(u64, u64), u64> = BTreeMap::new();
            for record in 0..2 * RECORDS {
                *windows.entry((record % RECORDS / LENGTH, record % KEYS)).or_default() += 1;
            }
            let ids = windows.into_iter().map(|((window, key), n)| window_id(window, key, n));
            return (ids.collect(), BTreeSet::new());
        }
    };
    let mut of_key = [0; KEYS as usize];
    let counted = |record: &u64| {
        let key = record % KEYS;
        of_key[key as usize] += 1;
        (key, of_key[key as usize])
    };
    let counts = records.iter().map(counted).collect();
    (records, counts)
}

/// The errors of a job's checkpoints: an incomplete one, more than are retained, a blob that none
/// of them needs.
pub(crate) fn store(job: &JobPlan, dir: &Path) -> Vec<String> {
    let store = LocalStore::inspect(crate::checkpoints(dir)).expect("it is there");
    let manifests = store.manifests().expect("they can be listed");
    let mut wrong = Vec::new();
    let mut needed = BTreeSet::new();
    for &checkpoint in &manifests {
        let (manifest, found, error) = health(&store, checkpoint).expect("it can be read");
        if found != Health::Whole {
            wrong.push(format!("checkpoint {checkpoint} is {found:?}: {error:?}"));
        }
        let snapshots = manifest.into_iter().flat_map(|manifest| manifest.snapshots);
        needed.extend(snapshots.flat_map(|snapshot| snapshot.blobs).map(|blob| blob.id));
    }
    if manifests.is_empty() || manifests.len() > job.retained {
        wrong.push(format!("{} checkpoints where {} are kept", manifests.len(), job.retained));
    }
    let blobs = store.blobs().expect("they can be listed");
    let orphans: Vec<_> = blobs.iter().filter(|blob| !needed.contains(&blob.id)).collect();
    if !orphans.is_empty() {
        wrong.push(format!("blobs that no checkpoint needs: {orphans:?}"));
    }
    wrong
}

/// Replays a job's recorded runs: the number of lines, of torn last lines, and the first deviation
/// from the protocol.
pub(crate) fn traces(dir: &Path) -> (u64, usize, Option<String>) {
    let traces = match RunTrace::read_all(&[crate::traces(dir)]) {
        Ok(traces) => traces,
        Err(error) => return (0, 0, Some(error.to_string())),
    };
    match replay(&traces) {
        Ok(replayed) => (replayed.tally.lines, replayed.torn.len(), None),
        Err(difference) => (0, 0, Some(difference.to_string())),
    }
}

/// Files that have become useless.
pub(crate) fn leftovers(job: &JobPlan, dir: &Path) -> Vec<String> {
    let mut places = vec![crate::checkpoints(dir).join("tmp")];
    if job.shape == Shape::Database {
        let staged = texts(&crate::output(dir, "out"), "SELECT records FROM snapline_staged");
        return if staged.is_empty() {
            Vec::new()
        } else {
            vec![format!("still staged: {staged:?}")]
        };
    }
    for sink in job.sinks() {
        let own = crate::output(dir, sink).join(".snapline").join(sink);
        places.extend([own.join("open"), own.join("prepared")]);
    }
    let files = |place: PathBuf| -> Vec<String> {
        let entries = std::fs::read_dir(&place).expect("it is there");
        entries.map(|entry| entry.expect("it can be listed").path().display().to_string()).collect()
    };
    let left: Vec<String> = places.into_iter().flat_map(files).collect();
    if left.is_empty() { left } else { vec![format!("left over: {}", left.join(", "))] }
}

/// The comparison can fail: lost, duplicate and unexpected records are all detected.
#[test]
fn wrong_output_is_seen() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let job = JobPlan { shape: Shape::Single, interval: 5, retained: 1, concurrent: 1 };
    let out = crate::output(dir.path(), "out");
    std::fs::create_dir(&out).expect("it can be made");
    let judge = |numbers: &mut dyn Iterator<Item = u64>| {
        let lines: String = numbers.map(|number| format!("{number}\n")).collect();
        std::fs::write(out.join("part-out-00-00000001-t1a1.txt"), lines).expect("writable");
        let Verdict { duplicates, lost, wrong, .. } = output(&job, dir.path());
        (duplicates, lost, wrong.is_some())
    };
    assert_eq!(judge(&mut (0..RECORDS)), (0, 0, false));
    assert_eq!(judge(&mut (1..RECORDS)), (0, 1, true));
    assert_eq!(judge(&mut (0..RECORDS).chain([7, 7])), (2, 0, true));
    assert_eq!(judge(&mut (0..RECORDS - 1).chain([RECORDS])), (1, 1, true));
}

/// The same for jobs that are compared by lines. Their references are not empty, so that there is
/// something to compare.
#[test]
fn a_wrong_line_is_seen() {
    for shape in [Shape::Joined, Shape::Ranked, Shape::Fired, Shape::Clocked] {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let job = JobPlan { shape, interval: 5, retained: 1, concurrent: 1 };
        let judge = |sink: &str, lines: &[String]| {
            let out = crate::output(dir.path(), sink);
            std::fs::create_dir_all(&out).expect("it can be made");
            let part = out.join(format!("part-{sink}-00-00000001-t1a1.txt"));
            std::fs::write(part, lines.join("\n") + "\n").expect("writable");
        };
        let judged = || {
            let Verdict { duplicates, lost, wrong, .. } = output(&job, dir.path());
            (duplicates, lost, wrong.is_some())
        };
        let right = |sink| lines(shape, sink).expect("it has lines");
        job.sinks().iter().for_each(|sink| judge(sink, &right(sink)));
        assert_eq!(judged(), (0, 0, false), "{shape:?}");
        for sink in job.sinks() {
            let right = right(sink);
            assert!(right.len() > 30, "{shape:?}, {sink}: {} lines", right.len());
            judge(sink, &right[1..]);
            assert_eq!(judged(), (0, 1, true), "{shape:?}, {sink}");
            judge(sink, &[&right[..], &right[7..8]].concat());
            assert_eq!(judged(), (1, 0, true), "{shape:?}, {sink}");
            judge(sink, &[&right[1..], &["1 wrong".to_owned()]].concat());
            assert_eq!(judged(), (1, 1, true), "{shape:?}, {sink}");
            judge(sink, &right);
        }
    }
}
