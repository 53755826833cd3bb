//! What is shown while an exploration runs: one line that is rewritten on a terminal, a line every
//! ten seconds elsewhere.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::time::Duration;

use snapline_models::explore::{SearchPhase, SearchProgress};

use crate::table::{grouped, rate};
use crate::terminal::CLEAR;

/// Between two plain lines.
const EVERY: Duration = Duration::from_secs(10);

/// Shows the progress of one exploration.
pub struct Meter<'a> {
    name: &'a str,
    err: RefCell<&'a mut dyn Write>,
    rewrites: bool,
    /// When the next plain line is due.
    due: Cell<Duration>,
    shown: Cell<bool>,
}

impl<'a> Meter<'a> {
    /// A meter for the exploration of this name.
    pub fn new(name: &'a str, err: &'a mut dyn Write, rewrites: bool) -> Self {
        let (due, shown) = (Cell::new(EVERY), Cell::new(false));
        Self { name, err: RefCell::new(err), rewrites, due, shown }
    }

    /// Shows a report. That it cannot be shown is no reason to stop.
    pub fn show(&self, progress: SearchProgress) {
        let line = line(self.name, progress);
        if self.rewrites {
            self.shown.set(true);
            let _ = self.put(&format!("{CLEAR}{line}"));
        } else if progress.elapsed >= self.due.get() {
            self.due.set(progress.elapsed + EVERY);
            let _ = self.put(&format!("{line}\n"));
        }
    }

    /// Clears the line.
    pub fn end(&self) {
        if self.shown.take() {
            let _ = self.put(CLEAR);
        }
    }

    fn put(&self, text: &str) -> std::io::Result<()> {
        let mut err = self.err.borrow_mut();
        err.write_all(text.as_bytes())?;
        err.flush()
    }
}

fn line(name: &str, progress: SearchProgress) -> String {
    let SearchProgress { phase, unique, depth, elapsed, rss, .. } = progress;
    let seconds = elapsed.as_secs_f64();
    let memory = match rss {
        Some(bytes) => format!(", {} MiB", bytes >> 20),
        None => String::new(),
    };
    match phase {
        SearchPhase::Explore => format!(
            "{name}: {} states, depth {depth}, {}/s, {seconds:.0} s{memory}, exploring",
            grouped(unique),
            rate(unique, seconds)
        ),
        SearchPhase::Liveness => {
            format!(
                "{name}: {seconds:.0} s{memory}, searching for states without a path to the end"
            )
        }
        SearchPhase::Shorten => format!(
            "{name}: {} states, depth {depth}, {seconds:.0} s{memory}, a bad state was found: \
             searching for the shortest path",
            grouped(unique)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(rewrites: bool, seconds: &[u64]) -> String {
        let mut text = Vec::new();
        let meter = Meter::new("chain", &mut text, rewrites);
        for &second in seconds {
            meter.show(SearchProgress {
                phase: SearchPhase::Explore,
                unique: 3_000_000,
                generated: 9_000_000,
                depth: 40,
                elapsed: Duration::from_secs(second),
                rss: Some(200 << 20),
            });
        }
        meter.end();
        String::from_utf8(text).expect("the output is UTF-8")
    }

    #[test]
    fn plain_lines_come_every_ten_seconds() {
        let text = shown(false, &[1, 9, 10, 11, 19, 20]);
        assert_eq!(
            text,
            "chain: 3,000,000 states, depth 40, 300 k/s, 10 s, 200 MiB, exploring\n\
             chain: 3,000,000 states, depth 40, 150 k/s, 20 s, 200 MiB, exploring\n"
        );
    }

    #[test]
    fn a_terminal_has_one_line_which_is_cleared() {
        let text = shown(true, &[1, 2]);
        assert_eq!(text.matches('\n').count(), 0);
        assert_eq!(text.matches("\r\x1b[2K").count(), 3);
        assert!(text.ends_with("\r\x1b[2K"));
        assert_eq!(shown(true, &[]), "");
    }
}
