//! The walls between the rooms, and a few habits, checked by reading the sources.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "tidy/words.rs"]
mod words;

/// Longer files say why, in a line that begins with this.
const LONG: &str = "//! Longer than 500 lines: ";

/// The runtime's crates.
const RUNTIME: [&str; 3] = ["src", "core/src", "connectors"];

/// Every folder with code.
const EVERYWHERE: [&str; 9] =
    ["protocol", "core", "connectors", "models", "cli", "proofs", "fuzz/src", "src", "tests"];

/// Files that name unsafe code in order to forbid it.
const FORBIDS: [&str; 2] = ["models/src/lib.rs", "protocol/src/lib.rs"];

/// An ignored test that another test runs, in a process of its own: it is finished.
const RUN_BY_ANOTHER: &str = "#[ignore = \"run by the other test";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below the folders, with its path from the root and its text.
fn sources(folders: &[&str]) -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut open: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).expect("the folder is readable");
            open.extend(entries.map(|entry| entry.expect("the entry is readable").path()));
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.push((from_root(&path), fs::read_to_string(&path).expect("sources are UTF-8")));
        }
    }
    files.sort();
    files
}

fn from_root(path: &Path) -> String {
    let short = path.strip_prefix(root()).expect("it is below the root");
    short.to_string_lossy().replace('\\', "/")
}

/// Lines of code that hold a word, as `file:line: text`; comments are not code.
fn lines_with(files: &[(String, String)], word: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (file, text) in files {
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or("");
            if code.contains(word) {
                found.push(format!("{file}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    found
}

fn assert_none(files: &[(String, String)], words: &[&str], why: &str) {
    for word in words {
        let found = lines_with(files, word);
        assert!(found.is_empty(), "`{word}`: {why}\n{}", found.join("\n"));
    }
}

#[test]
fn the_protocol_only_decides() {
    let protocol = sources(&["protocol/src"]);
    assert!(protocol.len() >= 10, "the protocol was not found");
    let words = [
        "std::",
        "HashMap",
        "HashSet",
        "Instant",
        "SystemTime",
        "thread",
        "async ",
        "println",
        "unsafe ",
        "random",
    ];
    assert_none(
        &protocol,
        &words,
        "protocol/ has no clock, file, thread, randomness or unordered map",
    );
    let front = fs::read_to_string(root().join("protocol/src/lib.rs")).expect("readable");
    assert!(front.contains("#![no_std]") && front.contains("#![forbid(unsafe_code)]"));
}

#[test]
fn arrows_between_the_rooms_go_one_way() {
    let models = sources(&["models/src"]);
    assert_none(
        &models,
        &["snapline::", "snapline_cli"],
        "models/ sees the protocol only, not the runtime",
    );
    let front = fs::read_to_string(root().join("models/src/lib.rs")).expect("readable");
    assert!(front.contains("#![forbid(unsafe_code)]"));
    let runtime = sources(&RUNTIME);
    assert_none(
        &runtime,
        &["snapline_models", "stateright"],
        "the runtime does not see the models",
    );
    let cli = sources(&["cli/src"]);
    assert!(!models.is_empty() && !runtime.is_empty() && !cli.is_empty());
}

#[test]
fn one_file_names_the_explorer_we_do_not_own() {
    let mut others = sources(&[&["models/src", "cli/src", "protocol/src"], &RUNTIME[..]].concat());
    others.retain(|(file, _)| file != "models/src/explore/stateright.rs");
    assert_none(
        &others,
        &["::stateright", "use stateright"],
        "only explore/stateright.rs may name it: it can be replaced",
    );
}

#[test]
fn permits_come_from_nowhere_else() {
    let attesting = |file: &str| {
        file.starts_with("models/src/world/")
            || file.starts_with("core/src/store")
            || file == "protocol/src/message.rs"
            // A replay relies on the trace, and has nothing to acknowledge.
            || file == "src/trace/replay/mod.rs"
    };
    let mut others = sources(&[&["models/src", "cli/src", "protocol/src"], &RUNTIME[..]].concat());
    others.retain(|(file, _)| !attesting(file));
    assert_none(&others, &["Persisted::attest"], "only who saw the sync succeed attests");
    let mut honest = sources(&[&["cli/src", "protocol/src"], &RUNTIME[..]].concat());
    honest.retain(|(file, _)| file != "protocol/src/message.rs");
    assert_none(&honest, &["::forge("], "only the models play a broken driver");
    // A grant for tests is given to tests alone.
    for (file, text) in sources(&[&["cli/src"], &RUNTIME[..]].concat()) {
        let (code, _) = text.split_once("\nmod tests {").unwrap_or((&text, ""));
        let may = file.starts_with("src/testkit/") || file.starts_with("core/src/connect/");
        assert!(may || !code.contains("testing::"), "{file} gives itself permission to commit");
    }
    for manifest in ["Cargo.toml", "cli/Cargo.toml"] {
        let text = fs::read_to_string(root().join(manifest)).expect("readable");
        assert!(!text.contains("forge"), "{manifest} must not enable `forge`");
    }
}

#[test]
fn one_file_names_threads_and_locks() {
    let mut others = sources(&RUNTIME);
    let before = others.len();
    others.retain(|(file, _)| file != "core/src/base/sync/mod.rs");
    assert_eq!(others.len() + 1, before, "core/src/base/sync/mod.rs was not found");
    // `std::{` too: a list of imports would hide its content.
    let words =
        ["std::sync", "core::sync", "alloc::sync", "std::thread", "cell::UnsafeCell", "std::{"];
    assert_none(
        &others,
        &words,
        "it comes from core/src/base/sync/, where a model checker for concurrent code can take its place",
    );
}

#[test]
fn unsafe_code_is_in_two_rooms() {
    let mut others = sources(&[&["protocol/src", "models/src"], &RUNTIME[..]].concat());
    let inside =
        |file: &str| file.starts_with("src/channel/") || file.starts_with("core/src/state/");
    assert!(others.iter().any(|(file, _)| inside(file)), "the two rooms were not found");
    others.retain(|(file, _)| !inside(file) && !FORBIDS.contains(&file.as_str()));
    for (_, text) in &mut others {
        // A word of browsers, about pages.
        *text = text.replace("'unsafe-inline'", "");
    }
    assert_none(
        &others,
        &["unsafe"],
        "only src/channel and core/src/state may hold it; no other file even lifts the lint",
    );
}

#[test]
fn long_files_say_why() {
    let mut wrong = Vec::new();
    for (file, text) in sources(&EVERYWHERE) {
        let lines = text.lines().count();
        if lines > 500 && !text.lines().any(|line| line.starts_with(LONG)) {
            wrong.push(format!("{file}: {lines} lines"));
        }
    }
    assert!(
        wrong.is_empty(),
        "split them, or say why in a line `{LONG}...`:\n{}",
        wrong.join("\n")
    );
}

/// An error reads the same in `Debug` as in `Display`, and names each cause once: `error_in_words!`
/// makes all of them.
#[test]
fn every_error_is_made_by_the_same_rule() {
    let mut files = sources(&EVERYWHERE);
    files.retain(|(path, _)| path != "protocol/src/words.rs" && !path.starts_with("tests/"));
    let words = ["std::error::Error for", "core::error::Error for"];
    assert_none(&files, &words, "an error is made by `error_in_words!`, which has no `source`");
    assert!(lines_with(&files, "error_in_words!").len() >= 20, "the rule looks at the errors");
}

#[test]
fn nothing_is_left_unfinished() {
    let mut all = sources(&EVERYWHERE);
    all.retain(|(file, _)| file != "tests/tidy.rs");
    assert_none(&all, &["todo!(", "unimplemented!(", "dbg!("], "finish it, or do not begin it");
    let mut ignored = lines_with(&all, "#[ignore");
    ignored.retain(|line| !line.contains(RUN_BY_ANOTHER));
    assert!(ignored.is_empty(), "finish them, or do not begin them:\n{}", ignored.join("\n"));
    for (file, text) in &all {
        for mark in ["TODO", "FIXME", "XXX"] {
            assert!(
                !text.contains(mark),
                "{file} holds {mark}: an open end belongs into the tracker"
            );
        }
    }
}

/// The texts in backticks in a cell of a table.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The names that follow a word in a file, each up to the first character that is not a letter.
fn names_behind<'a>(text: &'a str, word: &str) -> Vec<&'a str> {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    let name = |rest: &'a str| rest.split(|letter| !is_part(letter)).next().unwrap_or("");
    text.split(word).skip(1).map(name).filter(|name| !name.is_empty()).collect()
}

/// The rows of a table of rooms in ARCHITECTURE.md: each room, and those that it may use.
fn allowed_edges() -> Vec<(String, Vec<String>)> {
    let text =
        fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md is there");
    let (_, rest) = text.split_once("<!-- rooms -->").expect("the table of rooms begins");
    let (table, _) = rest.split_once("<!-- /rooms -->").expect("and ends");
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let cells = |row: &str| row.split('|').map(str::to_owned).collect::<Vec<_>>();
    rows.map(|row| {
        let cells = cells(row);
        let names = |cell: &str| quoted(cell).iter().map(|name| (*name).to_owned()).collect();
        let mut room: Vec<String> = names(&cells[1]);
        (room.remove(0), names(&cells[3]))
    })
    .collect()
}

/// The crate of a file of the runtime, and its room: `core/state` for `core/src/state/table.rs`,
/// `connectors/http` for all of that crate, `plan` for `src/plan/graph.rs`.
fn room_of(file: &str) -> (&str, String) {
    let first = |path: &str| path.split(['/', '.']).next().unwrap_or("").to_owned();
    match (file.strip_prefix("core/src/"), file.strip_prefix("connectors/")) {
        (Some(path), _) => ("core", format!("core/{}", first(path))),
        (_, Some(path)) => ("connectors", format!("connectors/{}", first(path))),
        _ => ("", first(file.trim_start_matches("src/"))),
    }
}

/// The lines of code of a file; an import that takes several is one.
fn statements(text: &str) -> Vec<String> {
    let (mut lines, mut import) = (Vec::new(), String::new());
    for line in text.lines() {
        let code = line.split("//").next().unwrap_or("").trim();
        let begins = ["use ", "pub use ", "pub(crate) use "].iter().any(|it| code.starts_with(it));
        if begins || !import.is_empty() {
            import.push_str(code);
            if code.ends_with(';') {
                lines.push(std::mem::take(&mut import));
            }
        } else {
            lines.push(code.to_owned());
        }
    }
    lines
}

/// The rooms that a file names, apart from its own. `src/` names the rooms of the core as if they
/// were its own. A name that is not a room is public in `lib.rs`.
fn rooms_named(rooms: &[String], file: &str, text: &str) -> Vec<String> {
    let (package, own) = room_of(file);
    let known = |name: String| rooms.contains(&name).then_some(name);
    let mut named = Vec::new();
    for code in statements(text) {
        let code = code.as_str();
        let found = |word: &str| -> Vec<String> {
            let braced = format!("{word}{{");
            let listed = code.split(braced.as_str()).skip(1).flat_map(names_in);
            let paths = names_behind(code, word).into_iter().chain(listed);
            paths.filter(|name| !name.is_empty()).map(str::to_owned).collect()
        };
        for name in found("crate::") {
            let core = || known(format!("core/{name}"));
            named.push(match package {
                "core" => core().unwrap_or_else(|| "core/lib".to_owned()),
                "connectors" => own.clone(),
                _ => known(name.clone()).or_else(core).unwrap_or_else(|| "lib".to_owned()),
            });
        }
        named.extend(found("snapline_core::").iter().map(|name| format!("core/{name}")));
        for connector in rooms.iter().filter_map(|room| room.strip_prefix("connectors/")) {
            if code.contains(&format!("snapline_{connector}::")) {
                named.push(format!("connectors/{connector}"));
            }
        }
    }
    named.retain(|name| *name != own);
    named.sort();
    named.dedup();
    named
}

/// ARCHITECTURE.md has a table of the rooms of the runtime, from the ground up. A room uses only
/// the rooms of its row. Its row names only rooms that it uses, and those stand in rows above it.
/// So there are no circles.
#[test]
fn rooms_use_only_what_the_table_allows() {
    let allowed = allowed_edges();
    let rooms: Vec<String> = allowed.iter().map(|(room, _)| room.clone()).collect();
    let mut used: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let files = sources(&RUNTIME);
    for (file, text) in &files {
        let (_, room) = room_of(file);
        let front = ["lib", "core/lib"].contains(&&*room);
        assert!(front || rooms.contains(&room), "{file} is in no room");
        for named in rooms_named(&rooms, file, text).into_iter().filter(|_| !front) {
            used.entry(room.clone()).or_default().entry(named).or_insert_with(|| file.clone());
        }
    }
    let mut wrong = Vec::new();
    for (floor, (room, uses)) in allowed.iter().enumerate() {
        let below = &rooms[..floor];
        let used = used.remove(room.as_str()).unwrap_or_default();
        for (named, file) in &used {
            if !uses.iter().any(|it| it == named) {
                wrong.push(format!("{file}: `{room}` uses `{named}`"));
            }
        }
        for named in uses {
            if !used.contains_key(named.as_str()) {
                wrong.push(format!("the table lets `{room}` use `{named}`, and it does not"));
            }
            if named != "lib" && !below.contains(named) {
                wrong.push(format!("`{named}` does not stand above `{room}` in the table"));
            }
        }
    }
    assert!(wrong.is_empty(), "see ARCHITECTURE.md:\n{}", wrong.join("\n"));
    assert!(allowed.len() > 20 && files.len() > 150, "the rooms were not found");
}

/// `tests/operators.md` lists the tests of each operator: each exists, and the list is complete.
#[test]
fn every_operator_is_in_the_three_suites() {
    let read = |path: &str| {
        fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    let table = read("tests/operators.md");
    let rows = table.lines().filter(|line| line.starts_with("| ")).skip(1);
    let mut written = Vec::new();
    for row in rows {
        let cells: Vec<&str> = row.split(" | ").collect();
        let [_, tokens, pipelines, simulation, crash] = cells[..] else { panic!("{row}") };
        let tokens = quoted(tokens);
        let places =
            [("tests/pipelines/", pipelines), ("src/sim/", simulation), ("tests/crash/", crash)];
        for (folder, cell) in places {
            let path = |file: &&str| match file.starts_with("tests/") {
                true => (*file).to_owned(),
                false => format!("{folder}{file}"),
            };
            let files: Vec<String> = quoted(cell).iter().map(path).collect();
            let texts: Vec<String> = files.iter().map(|file| read(file)).collect();
            assert!(!files.is_empty(), "{row}: it is not in {folder}");
            for token in &tokens {
                let is_there = texts.iter().any(|text| text.contains(token));
                assert!(is_there, "`{token}` is in none of {files:?}");
            }
            for (file, text) in files.iter().zip(&texts) {
                let is_there = tokens.iter().any(|token| text.contains(token));
                assert!(is_there, "{file} has none of {tokens:?}");
            }
        }
        written.extend(tokens);
    }
    let (timed, watermarks) =
        (read("src/dataflow/time/timed.rs"), read("src/dataflow/time/watermarks.rs"));
    let (_, keyed) = timed.split_once("impl<T, P, N> TimedKeyedStream").expect("it is there");
    let (_, strategies) = watermarks.split_once("impl Watermarks {").expect("it is there");
    let (window, trigger) =
        (read("src/dataflow/window/mod.rs"), read("src/dataflow/window/trigger.rs"));
    let mut operators = names_behind(keyed, "    pub fn ");
    operators.extend(names_behind(strategies, "    pub const fn "));
    operators.extend(names_behind(strategies, "    pub fn "));
    operators.extend(names_behind(&window, "WindowAssigner for "));
    operators.extend(names_behind(&trigger, "Trigger for "));
    assert!(operators.len() > 30, "operators were not found: {operators:?}");
    // The strategy inside `idle`; the product of `by_processing_time`; the default trigger of
    // windows; the product of `purging`.
    let otherwise = ["new", "ByProcessingTime", "AtEventTime", "AtProcessingTime", "Purging"];
    for operator in operators {
        let named = |token: &&str| names_in(token).contains(&operator);
        let is_there = written.iter().any(named) || otherwise.contains(&operator);
        assert!(is_there, "`{operator}` is not in tests/operators.md");
    }
}

fn names_in(token: &str) -> Vec<&str> {
    token.split(|letter: char| !(letter.is_alphanumeric() || letter == '_')).collect()
}
