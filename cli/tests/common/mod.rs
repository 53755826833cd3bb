//! Runs the built command.
#![allow(dead_code)]

pub(crate) mod browser;

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// A source and a sink, under whatever keys come before.
pub(crate) const CHAIN: &str = r#"
[[operator]]
name = "in"
role = "source"

[[operator]]
name = "out"
role = "sink"

[[edge]]
from = "in"
to = "out"
wiring = "forward"
"#;

/// Far more states than a test has time for.
pub(crate) const LARGE: &str = r#"
records = 3
checkpoints = 3
faults = { crashes = 2, coordinator-crashes = 1, losses = 1 }

[[operator]]
name = "in"
role = "source"
parallelism = 2

[[operator]]
name = "sum"
role = "transform"
parallelism = 2

[[operator]]
name = "out"
role = "sink"
parallelism = 2

[[edge]]
from = "in"
to = "sum"
wiring = "all-to-all"

[[edge]]
from = "sum"
to = "out"
wiring = "forward"
"#;

/// The outcome of a command.
pub(crate) struct Run {
    pub(crate) status: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Run {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { status: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Asserts the exit status and what was said.
    #[track_caller]
    pub(crate) fn is(self, status: i32, parts: &[&str]) -> Self {
        let Self { out, err, .. } = &self;
        assert_eq!(self.status, Some(status), "stdout:\n{out}\nstderr:\n{err}");
        assert!(!err.contains("panicked"), "{err}");
        for part in parts {
            assert!(
                out.contains(part) || err.contains(part),
                "`{part}` is missing from the output\nstdout:\n{out}\nstderr:\n{err}"
            );
        }
        self
    }
}

/// The command with these arguments, its output caught.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_snapline"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs the command to its end.
#[track_caller]
pub(crate) fn snapline(args: &[&str]) -> Run {
    Run::of(&command(args).output().expect("the command was built"))
}

/// The path of a scratch file of this name.
pub(crate) fn scratch(name: &str) -> String {
    let path: PathBuf = [env!("CARGO_TARGET_TMPDIR"), name].iter().collect();
    path.to_string_lossy().into_owned()
}

/// Writes a scratch file and gives its path.
#[track_caller]
pub(crate) fn file(name: &str, text: &str) -> String {
    let path = scratch(name);
    std::fs::write(&path, text).expect("the scratch directory is writable");
    path
}
