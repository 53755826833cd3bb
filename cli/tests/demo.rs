//! `snapline demo`, `snapline inspect` and `snapline gc` as a user meets them.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::{command, file, scratch, snapline};
use serde_json::Value;

/// A directory of this name that is not there yet.
fn fresh(name: &str) -> String {
    let dir = scratch(name);
    let _ = fs::remove_dir_all(&dir);
    dir
}

/// A directory in which a demonstration has left its checkpoints and its output.
fn demonstrated(name: &str) -> String {
    let dir = fresh(name);
    let text = file(&format!("{name}.txt"), "to be or not to be\nthat is the question\n");
    let args = ["demo", "--input", &text, "--seconds", "0.5", "--kills", "0", "--dir", &dir];
    snapline(&args).is(0, &["exactly once", &dir]);
    dir
}

fn checkpoints(dir: &str) -> String {
    format!("{dir}/checkpoints")
}

/// The files in a directory of a store.
fn files(dir: &str, of: &str) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(Path::new(dir).join("checkpoints").join(of)).expect("the folder exists");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("listed").path()).collect();
    files.sort();
    files
}

#[test]
fn a_word_count_is_killed_and_nothing_is_lost() {
    let run = snapline(&["demo", "--seconds", "2", "--kills", "2", "--seed", "3"]);
    let run = run.is(0, &["kill 1 of 2", "kill 2 of 2", "kills  restarts", "exactly once"]);
    // How many checkpoints there were, which grows: their numbers would leap by the block of them
    // that each process reserves.
    let completed: Vec<u64> = run
        .err
        .lines()
        .filter_map(|line| line.strip_suffix(" completed")?.rsplit(", ").next()?.split_once(' '))
        .map(|(count, _)| count.parse().expect("a number below 1,000"))
        .collect();
    assert_eq!(completed.len(), 2, "{}", run.err);
    assert!(0 < completed[0] && completed[0] < completed[1], "{}", run.err);
    assert!(completed[1] < 500, "the number of checkpoints, not the id of one: {}", run.err);
    let row: Vec<&str> = run.out.lines().nth(1).expect("a row").split_whitespace().collect();
    assert_eq!((row[0], row[1], row[6], row[7]), ("2", "2", "0", "0"), "{}", run.out);
    assert_ne!(row[4], "0", "after a kill some lines are read again: {}", run.out);
    assert!(!run.out.contains("checkpoints, output and traces are in"), "{}", run.out);
    let conforms = "every step of 3 recorded runs was replayed, and the protocol allows it";
    assert_eq!(run.out.lines().nth(2), Some(conforms), "{}", run.out);
    assert_eq!(run.out.lines().count(), 3, "there is no other message: {}", run.out);
}

#[test]
fn a_sink_that_commits_too_early_is_found_out() {
    let dir = fresh("early");
    let run = snapline(&["demo", "--unsafe-sink", "--seconds", "2", "--kills", "2", "--dir", &dir]);
    let said = ["WRONG", "is repeated", "the control was detected, as expected", &dir];
    run.is(1, &said);
}

#[test]
fn what_cannot_be_demonstrated_is_said() {
    snapline(&["demo", "--input", "nowhere.txt"]).is(2, &["cannot read nowhere.txt"]);
    let empty = file("empty.txt", "\n -- \n");
    snapline(&["demo", "--input", &empty]).is(2, &["the input has no words"]);
    let used = Path::new(&empty).parent().expect("a directory").to_string_lossy().into_owned();
    snapline(&["demo", "--dir", &used]).is(2, &["is not empty", "name a new directory"]);
    snapline(&["demo", "--kills", "many"]).is(2, &["--kills"]);
    snapline(&["demo", "--kill", "1"]).is(2, &["The flags of demo are: ", "--kills"]);
    assert!(!snapline(&["--help"]).out.contains("demo-child"));
}

/// Kills the child when the test fails.
struct Guarded(Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < Duration::from_secs(30), "{what} did not happen within 30 s");
        thread::sleep(Duration::from_millis(10));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn ctrl_c_ends_it_and_its_process_and_a_store_in_use_is_left_alone() {
    let dir = fresh("stopped");
    let mut demo = Guarded(
        command(&["demo", "--seconds", "60", "--dir", &dir]).spawn().expect("the command starts"),
    );
    let id = demo.0.id().to_string();
    let children = format!("/proc/{id}/task/{id}/children");
    let manifests = Path::new(&dir).join("checkpoints/checkpoints");
    until("a checkpoint", || {
        fs::read_dir(&manifests).is_ok_and(|mut files| files.next().is_some())
    });
    let child =
        fs::read_to_string(children).expect("the kernel lists the children").trim().to_owned();
    assert!(!child.is_empty());

    let inspected = snapline(&["inspect", &checkpoints(&dir)]);
    inspected.is(0, &["job word-count", "alive"]);
    snapline(&["inspect", &checkpoints(&dir), "--verify"]).is(0, &["0 defects"]);
    snapline(&["gc", &checkpoints(&dir)]).is(2, &["is in use by process", "nothing was deleted"]);
    snapline(&["gc", &checkpoints(&dir), "--dry-run"])
        .is(0, &["the directory is in use", "would be deleted"]);

    let sent = Command::new("kill").args(["-INT", &id]).stdin(Stdio::null()).status();
    assert!(sent.expect("kill runs").success());
    let status = demo.0.wait().expect("the child can be waited for");
    assert_eq!(status.code(), Some(3));
    until("the end of its process", || !Path::new(&format!("/proc/{child}")).exists());
}

#[test]
fn a_directory_is_looked_into() {
    let dir = demonstrated("overview");
    let run = snapline(&["inspect", &checkpoints(&dir)]);
    run.is(0, &["job word-count", "owner: not alive", "input ended", "operator", "counts"]);
    let run = snapline(&["inspect", &checkpoints(&dir), "--json", "--verify"]).is(0, &[]);
    let json: Value = serde_json::from_str(&run.out).expect("the overview is JSON");
    assert_eq!((&json["format"], &json["version"]), (&"snapline-inspect".into(), &1.into()));
    assert_eq!((&json["job"], &json["defects"]), (&"word-count".into(), &Value::Array(Vec::new())));
    let pending = json["pending"].as_array().expect("a list");
    assert!(pending.iter().all(|one| one["operator"] == "counts"), "{pending:?}");
    assert!(!pending.is_empty(), "the last checkpoint holds its own transactions");
}

#[test]
fn state_is_shown_as_json_lines() {
    let dir = demonstrated("state");
    let run = snapline(&["inspect", &checkpoints(&dir), "--state", "count"]).is(0, &[]);
    let lines = run.out.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let mut keys: Vec<(String, u64)> = lines
        .filter_map(|line| Some((line["key"].as_str()?.to_owned(), line["value"].as_u64()?)))
        .collect();
    keys.sort();
    let words: Vec<&str> = keys.iter().map(|(word, _)| word.as_str()).collect();
    assert_eq!(words, ["be", "is", "not", "or", "question", "that", "the", "to"]);
    assert_eq!(keys[0].1, 2 * keys[1].1, "`be` occurs twice as often as `is`: {keys:?}");
    let wrong = |args: &[&str], said: &str| {
        let mut all = vec!["inspect".to_owned(), checkpoints(&dir)];
        all.extend(args.iter().map(|&arg| arg.to_owned()));
        snapline(&all.iter().map(String::as_str).collect::<Vec<_>>()).is(2, &[said]);
    };
    wrong(&["--state", "cuont"], "has no operator `cuont`; it has: lines, count, counts");
    wrong(&["--state", "count", "--checkpoint", "999999"], "no checkpoint 999999");
    wrong(&["--checkpoint", "1"], "--state");
    wrong(&["--state", "count", "--verify"], "cannot be used with");
}

#[test]
fn every_defect_is_listed() {
    let dir = demonstrated("defects");
    let blobs = files(&dir, "blobs");
    let mut bytes = fs::read(&blobs[0]).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&blobs[0], bytes).expect("writable");
    let name = |path: &Path| path.file_name().expect("a name").to_string_lossy().into_owned();
    let run = snapline(&["inspect", &checkpoints(&dir), "--verify"]);
    run.is(1, &["\n1 defect:\n", &name(&blobs[0]), "expected", "found"]);
    fs::remove_file(&blobs[1]).expect("removable");
    let run = snapline(&["inspect", &checkpoints(&dir), "--verify"]);
    run.is(
        1,
        &["\n2 defects:\n", &name(&blobs[0]), &name(&blobs[1]), "expected", "found    nothing"],
    );

    let manifest = &files(&dir, "checkpoints")[0];
    fs::write(manifest, "nonsense").expect("writable");
    snapline(&["inspect", &checkpoints(&dir)]).is(1, &["cannot be read", &name(manifest)]);
    snapline(&["inspect", &checkpoints(&dir), "--state", "count"]).is(1, &[&name(manifest)]);
    snapline(&["gc", &checkpoints(&dir)]).is(1, &["nothing was deleted: "]);
}

#[test]
fn another_directory_is_no_checkpoint_directory() {
    for command in ["inspect", "gc"] {
        snapline(&[command, "nowhere"]).is(2, &["nowhere does not exist"]);
        let other = fresh("other");
        fs::create_dir(&other).expect("the directory can be created");
        snapline(&[command, &other]).is(2, &["is empty", "no job has stored checkpoints there"]);
        fs::write(format!("{other}/letter.txt"), "Dear").expect("writable");
        snapline(&[command, &other]).is(2, &["is not a store", "letter.txt"]);
        assert_eq!(fs::read_dir(&other).expect("listed").count(), 1, "the directory is unchanged");
    }
}

#[test]
fn garbage_is_deleted_and_nothing_else() {
    let dir = demonstrated("garbage");
    let (manifests, blobs) = (files(&dir, "checkpoints"), files(&dir, "blobs"));
    snapline(&["gc", &checkpoints(&dir)]).is(0, &["0 checkpoints and 0 blobs, 0 bytes, deleted"]);
    // As one that was begun for checkpoint 1 and never came to be.
    let kept = blobs[0].file_name().expect("a name").to_string_lossy().into_owned();
    let (number, rest) = kept.split_once('-').expect("the name begins with a number");
    let orphan = blobs[0].with_file_name(format!("{}-{rest}", "0".repeat(number.len() - 1) + "1"));
    fs::copy(&blobs[0], &orphan).expect("copied");
    snapline(&["gc", &checkpoints(&dir), "--dry-run"])
        .is(0, &["0 checkpoints and 1 blob, ", "would be deleted"]);
    assert!(orphan.exists());
    snapline(&["gc", &checkpoints(&dir)]).is(0, &["0 checkpoints and 1 blob, ", "deleted"]);
    assert_eq!((files(&dir, "checkpoints"), files(&dir, "blobs")), (manifests, blobs));
    snapline(&["inspect", &checkpoints(&dir), "--verify"]).is(0, &["0 defects"]);
}

#[test]
fn recorded_runs_are_replayed() {
    let dir = demonstrated("recorded");
    let traces = format!("{dir}/trace");
    let run = snapline(&["trace", "replay", &traces]);
    let run = run.is(0, &["job word-count, term 1", "as the protocol has it: 1 runs"]);
    let file = run.out.split(": job").next().expect("the line begins with a name").to_owned();
    snapline(&["trace", &file]).is(0, &["as the protocol has it"]);

    let text = fs::read_to_string(&file).expect("readable");
    let copy = |name: &str, text: &str| {
        let path = scratch(name);
        fs::write(&path, text).expect("writable");
        path
    };
    let torn = copy("torn.ndjson", &text[..text.len() - 5]);
    snapline(&["trace", "replay", &torn]).is(0, &["its last line is truncated and ignored"]);
    // The name does not matter.
    let altered = copy("altered.txt", &text.replacen("\"Ack\"", "\"Decline\"", 1));
    snapline(&["trace", "replay", &altered])
        .is(1, &["this run deviates from the protocol", "the protocol: ", "before that"]);
    let dropped: Vec<&str> =
        text.lines().enumerate().filter(|(at, _)| *at != 5).map(|(_, line)| line).collect();
    let dropped = copy("dropped.ndjson", &(dropped.join("\n") + "\n"));
    snapline(&["trace", "replay", &dropped]).is(2, &["line 6: its clock is 6, but must be 5"]);
    let newer = copy("newer.ndjson", &text.replacen("\"version\":1", "\"version\":9", 1));
    snapline(&["trace", "replay", &newer]).is(2, &["this is version 9", "reads version 1"]);
    snapline(&["trace", "replay", &checkpoints(&dir)]).is(2, &["it holds no run trace"]);
    snapline(&["trace", "replay", "nowhere.ndjson"]).is(2, &["nowhere.ndjson", "cannot be read"]);
    snapline(&["trace", "replay"]).is(2, &["PATH"]);
}
