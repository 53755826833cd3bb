//! A command's outputs, and the signal that stops it.

use std::borrow::Cow;
use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Output, error output and Ctrl-C of a command.
pub struct Terminal<'a> {
    out: ClosablePipe<'a>,
    err: ClosablePipe<'a>,
    rewrites: bool,
    colour: bool,
    stop: Arc<AtomicBool>,
    /// Whether the command looks at that.
    heeds: Arc<AtomicBool>,
}

impl<'a> Terminal<'a> {
    /// Writes results to `out`, progress and complaints to `err`. `rewrites`: progress is one line
    /// of `err`, written over and over, for a terminal. `stop`: raised on Ctrl-C.
    pub fn new(
        out: &'a mut dyn Write,
        err: &'a mut dyn Write,
        rewrites: bool,
        stop: Arc<AtomicBool>,
    ) -> Self {
        let open = |to| ClosablePipe { to, closed: false, guarded: false };
        Self {
            out: open(out),
            err: open(err),
            rewrites,
            colour: false,
            stop,
            heeds: Arc::default(),
        }
    }

    /// Says whether results may be coloured: they go to a terminal, and its user did not ask for
    /// none.
    #[must_use]
    pub const fn coloured(mut self, colour: bool) -> Self {
        self.colour = colour;
        self
    }

    /// Says which of the two outputs a terminal shows. What it would obey is written there as an
    /// escape: names of jobs, operators and files come from others, and could otherwise clear the
    /// screen, hide a line, or type an answer.
    #[must_use]
    pub const fn guarded(mut self, out: bool, err: bool) -> Self {
        (self.out.guarded, self.err.guarded) = (out, err);
        self
    }

    /// Whether results may be coloured.
    #[must_use]
    pub const fn colour(&self) -> bool {
        self.colour
    }

    /// Where results go.
    pub fn out(&mut self) -> &mut dyn Write {
        &mut self.out
    }

    /// Whether the reader of results has closed the pipe.
    #[must_use]
    pub const fn out_is_closed(&self) -> bool {
        self.out.closed
    }

    /// Where progress goes.
    pub fn err(&mut self) -> &mut dyn Write {
        &mut self.err
    }

    /// Where a line goes that is written over and over: each write may begin with what clears the
    /// line.
    pub fn line(&mut self) -> impl Write + use<'_, 'a> {
        ErrLine(&mut self.err)
    }

    /// Whether progress is one line, written over and over.
    #[must_use]
    pub const fn rewrites(&self) -> bool {
        self.rewrites
    }

    /// Whether the command looks at [`Self::stop`], and ends by itself. One that does not may be
    /// ended at any time, as may one that does not look any more ([`Self::heed_no_more`]).
    #[must_use]
    pub fn heeds(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.heeds)
    }

    /// The flag that Ctrl-C and a termination signal raise.
    #[must_use]
    pub fn stop(&self) -> Arc<AtomicBool> {
        self.heeds.store(true, Ordering::Relaxed);
        Arc::clone(&self.stop)
    }

    /// Whether Ctrl-C was pressed.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.heeds.store(true, Ordering::Relaxed);
        self.stop.load(Ordering::Relaxed)
    }

    /// Says that the command does not look at that for a while: the next Ctrl-C ends it at once.
    /// Whether it was pressed since the command looked last.
    #[must_use]
    pub fn heed_no_more(&self) -> bool {
        // In this order: one that is pressed in between is seen here, or ends the command.
        self.heeds.store(false, Ordering::SeqCst);
        self.stop.load(Ordering::SeqCst)
    }

    /// Writes a complaint, or a line over the one before if it begins with what clears the line.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn complain(&mut self, text: &str) -> io::Result<()> {
        self.line().write_all(text.as_bytes())?;
        self.err.flush()
    }
}

/// Goes back to the start of a terminal's line and clears it.
pub(crate) const CLEAR: &str = "\r\x1b[2K";

/// The text as a terminal may show it: what it would obey, or what would change the order of
/// letters, is an escape. Line feeds, tabs and our own colours stay.
fn shown(text: &str) -> Cow<'_, str> {
    let is_obeyed = |c: char| {
        (c.is_control() && c != '\n' && c != '\t')
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(place) = rest.find(is_obeyed) {
        let (before, from) = rest.split_at(place);
        shown.push_str(before);
        let length = colour(from).unwrap_or_else(|| {
            let obeyed = from.chars().next();
            obeyed.map_or(0, |c| {
                shown.extend(c.escape_default());
                c.len_utf8()
            })
        });
        if colour(from).is_some() {
            shown.push_str(&from[..length]);
        }
        rest = &from[length..];
    }
    shown.push_str(rest);
    Cow::Owned(shown)
}

/// How long a colour at the beginning of a text is. Others than our own could hide what follows.
fn colour(text: &str) -> Option<usize> {
    let own = ["\x1b[0m", "\x1b[1m", "\x1b[31m", "\x1b[35m", "\x1b[36m"];
    let bold = ["\x1b[1;31m", "\x1b[1;35m", "\x1b[1;36m"];
    own.iter().chain(&bold).find(|code| text.starts_with(**code)).map(|code| code.len())
}

/// See [`Terminal::line`].
struct ErrLine<'b, 'a>(&'b mut ClosablePipe<'a>);

impl Write for ErrLine<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (clear, rest) = match bytes.strip_prefix(CLEAR.as_bytes()) {
            Some(rest) => (CLEAR, rest),
            None => ("", bytes),
        };
        self.0.unless_closed(|to| to.write_all(clear.as_bytes()))?;
        self.0.write_all(rest)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Passes text on until the reader closes the pipe; `snapline check | head` still ends with the
/// verdict's status.
struct ClosablePipe<'a> {
    to: &'a mut dyn Write,
    closed: bool,
    /// Whether a terminal shows it.
    guarded: bool,
}

impl ClosablePipe<'_> {
    fn unless_closed(
        &mut self,
        act: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.closed {
            return Ok(());
        }
        match act(self.to) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            result => result,
        }
    }
}

impl Write for ClosablePipe<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.guarded {
            // What formats text writes whole pieces of it.
            let text = String::from_utf8_lossy(bytes);
            self.unless_closed(|to| to.write_all(shown(&text).as_bytes()))?;
        } else {
            self.unless_closed(|to| to.write_all(bytes))?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.unless_closed(|to| to.flush())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
            Err(ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(ErrorKind::BrokenPipe.into())
        }
    }

    #[test]
    fn a_closed_pipe_is_no_error() {
        let mut closed = Closed;
        let mut pipe = ClosablePipe { to: &mut closed, closed: false, guarded: false };
        for _ in 0..2 {
            assert!(writeln!(pipe, "to a closed pipe").is_ok());
        }
        assert!(pipe.closed && pipe.flush().is_ok());
    }

    #[test]
    fn a_terminal_obeys_nothing_that_others_wrote() {
        let name = "a\x1b[8m\x1b[2Jb\x1b]0;title\x07c\rd\u{9b}31me\u{202e}f\x7f\x08";
        let safe =
            "a\\u{1b}[8m\\u{1b}[2Jb\\u{1b}]0;title\\u{7}c\\rd\\u{9b}31me\\u{202e}f\\u{7f}\\u{8}";
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut terminal =
            Terminal::new(&mut out, &mut err, true, Arc::default()).guarded(true, true);
        writeln!(terminal.out(), "job\t{name}, \x1b[1;31mred\x1b[0m").expect("a vector");
        write!(terminal.err(), "{CLEAR}{name}").expect("a vector");
        terminal.complain(&format!("{CLEAR}{name}")).expect("a vector");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        assert_eq!(text(out), format!("job\t{safe}, \x1b[1;31mred\x1b[0m\n"));
        // Only whole writes may begin with it, and only there where a line is written over.
        let cleared = "\\r\\u{1b}[2K";
        assert_eq!(text(err), format!("{cleared}{safe}{CLEAR}{safe}"));
    }

    #[test]
    fn what_is_heeded_is_not_heeded_for_ever() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let stop = Arc::new(AtomicBool::new(false));
        let terminal = Terminal::new(&mut out, &mut err, false, Arc::clone(&stop));
        let heeds = terminal.heeds();
        assert!(!heeds.load(Ordering::Relaxed));
        for stopped in [false, true] {
            stop.store(stopped, Ordering::Relaxed);
            assert_eq!(terminal.is_stopped(), stopped);
            assert!(heeds.load(Ordering::Relaxed));
            assert_eq!(terminal.heed_no_more(), stopped);
            assert!(!heeds.load(Ordering::Relaxed));
        }
    }

    #[test]
    fn files_and_pipes_get_what_was_written() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut terminal = Terminal::new(&mut out, &mut err, false, Arc::default());
        write!(terminal.out(), "\x1b[2J\u{9b}").expect("a vector");
        assert_eq!(out, "\x1b[2J\u{9b}".as_bytes());
    }
}
