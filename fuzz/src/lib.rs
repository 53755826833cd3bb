//! Fuzz targets: all parts of snapline that read foreign bytes, and the properties that hold for
//! any bytes.
//!
//! | room | targets |
//! |---|---|
//! | [`store`] | files of a checkpoint store: `fence`, `manifest`, `blob`, `contents`, `state` |
//! | [`runs`] | the files of a run: `ingest-log`, `run-trace`, `sink-names` |
//! | [`models`] | the input of the command: `model-trace`, `topology`, `settings` |
//! | [`records`] | the input of a source: `csv`, `json-lines` |
//! | [`http`] | the requests of a client: `http-pages`, `http-explore`, `http-ingest` |
//! | [`mutate`] | makes inputs from inputs, the same ones for one seed |
//!
//! One table, [`TARGETS`], and two drivers: `tests/targets.rs` runs each target a fixed number of
//! times on inputs from a seed; `fuzz/libfuzzer` lets libFuzzer look for inputs that reach more
//! code. A target takes bytes, gives them to the code that ships, and asserts three things.
//! Accepted input is written and read again as the same. Refused input gives an error that a
//! terminal can show. Nothing panics. The drivers ensure that no run takes more memory than
//! [`MEMORY`], or very long.
//!
//! The first byte of an input selects the meaning of the rest. Where bytes have a checksum, it
//! selects whether the checksum is repaired first. Half of the inputs keep the checksum as it is;
//! the others reach the code after it.

pub mod http;
pub mod models;
pub mod mutate;
pub mod records;
pub mod runs;
pub mod store;

use std::fmt::Display;
use std::sync::Arc;

use snapline_cli::Terminal;

/// The memory limit of one run.
pub const MEMORY: usize = 64 << 20;

/// A target: code that reads bytes.
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Reads the bytes.
    ///
    /// # Panics
    /// If a property does not hold.
    pub run: fn(&[u8]),
    /// Small, mostly valid inputs, made by the code that writes them.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Words with a meaning in them.
    pub words: &'static [&'static str],
    /// Its share of a fixed number of runs: expensive targets get a small one.
    pub share: u32,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "fence", run: store::fence, seeds: store::fences, words: store::TEXT, share: 8 },
    Target {
        name: "manifest",
        run: store::manifest,
        seeds: store::manifests,
        words: store::TEXT,
        share: 8,
    },
    Target { name: "blob", run: store::blob, seeds: store::blobs, words: store::BLOB, share: 8 },
    Target {
        name: "contents",
        run: store::contents,
        seeds: store::tables_of_contents,
        words: store::STATE,
        share: 8,
    },
    Target {
        name: "state",
        run: store::state,
        seeds: store::states,
        words: store::STATE,
        share: 8,
    },
    Target { name: "ingest-log", run: runs::log, seeds: runs::logs, words: runs::LOG, share: 4 },
    Target {
        name: "run-trace",
        run: runs::trace,
        seeds: runs::traces,
        words: runs::TRACE,
        share: 4,
    },
    Target {
        name: "sink-names",
        run: runs::names,
        seeds: runs::directories,
        words: runs::NAMES,
        share: 4,
    },
    Target {
        name: "model-trace",
        run: models::trace,
        seeds: models::traces,
        words: models::TRACE,
        share: 2,
    },
    Target {
        name: "topology",
        run: models::topology,
        seeds: models::topologies,
        words: models::TOPOLOGY,
        share: 2,
    },
    Target {
        name: "settings",
        run: models::settings,
        seeds: models::some_settings,
        words: models::SETTINGS,
        share: 4,
    },
    Target {
        name: "csv",
        run: records::csv,
        seeds: records::csv_files,
        words: records::CSV,
        share: 2,
    },
    Target {
        name: "json-lines",
        run: records::json_lines,
        seeds: records::json_files,
        words: records::JSON,
        share: 2,
    },
    Target {
        name: "http-pages",
        run: http::pages,
        seeds: http::page_requests,
        words: http::WORDS,
        share: 4,
    },
    Target {
        name: "http-explore",
        run: http::explore,
        seeds: http::explore_requests,
        words: http::WORDS,
        share: 2,
    },
    Target {
        name: "http-ingest",
        run: http::ingest,
        seeds: http::ingest_requests,
        words: http::WORDS,
        share: 2,
    },
];

/// The target of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Runs the target of this name.
///
/// # Panics
/// If there is none, and as the target does.
pub fn run(name: &str, bytes: &[u8]) {
    let target = find(name).unwrap_or_else(|| panic!("there is no target `{name}`"));
    (target.run)(bytes);
}

/// Checks an error without foreign names: it reads as one line.
fn plain(error: &dyn Display) {
    let text = error.to_string();
    assert!(!text.is_empty() && !text.contains(char::is_control), "{text:?}");
}

/// The colours of the command.
const COLOURS: [&str; 8] = [
    "\x1b[0m",
    "\x1b[1m",
    "\x1b[31m",
    "\x1b[35m",
    "\x1b[36m",
    "\x1b[1;31m",
    "\x1b[1;35m",
    "\x1b[1;36m",
];

/// Checks an error that may quote its input, as the command shows it on a terminal.
fn shown(error: &dyn Display) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut terminal = Terminal::new(&mut out, &mut err, true, Arc::default()).guarded(true, true);
    write!(terminal.out(), "{error}").expect("a vector accepts all bytes");
    let text = String::from_utf8(out).expect("errors are written as UTF-8");
    // The command's own colours stay, even in foreign text: they hide nothing.
    let text = COLOURS.iter().fold(text, |text, colour| text.replace(colour, ""));
    let obeyed = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    assert!(!text.is_empty() && !text.contains(obeyed), "{text:?}");
}

/// Pieces of an input, each after its length in two bytes, the lower first; the last piece is the
/// rest.
fn pieces(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes(*length));
        let (piece, rest) = rest.split_at(length.min(rest.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

/// An input of these pieces, after the byte that selects their meaning.
fn joined(mode: u8, pieces: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![mode];
    for piece in pieces {
        let length = u16::try_from(piece.len()).expect("a seed is small");
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(piece);
    }
    bytes
}

/// A seed: bytes after the byte that selects their meaning.
fn seed(mode: u8, bytes: &[u8]) -> Vec<u8> {
    [&[mode], bytes].concat()
}
