//! Where a command writes, and how it is told to stop.

use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Output, error output and Ctrl-C of a command.
pub struct Terminal<'a> {
    out: Pipe<'a>,
    err: Pipe<'a>,
    rewrites: bool,
    colour: bool,
    stop: Arc<AtomicBool>,
    /// Whether the command looks at that.
    heeds: Arc<AtomicBool>,
}

impl<'a> Terminal<'a> {
    /// Writes results to `out`, progress and complaints to `err`. `rewrites`: progress is one line of `err`, written over and over,
    /// for a terminal. `stop`: raised on Ctrl-C.
    pub fn new(
        out: &'a mut dyn Write,
        err: &'a mut dyn Write,
        rewrites: bool,
        stop: Arc<AtomicBool>,
    ) -> Self {
        let open = |to| Pipe { to, closed: false };
        Self {
            out: open(out),
            err: open(err),
            rewrites,
            colour: false,
            stop,
            heeds: Arc::default(),
        }
    }

    /// Says whether results may be coloured: they go to a terminal, and its user did not ask for none.
    #[must_use]
    pub const fn coloured(mut self, colour: bool) -> Self {
        self.colour = colour;
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

    /// Whether nobody reads results any more.
    #[must_use]
    pub const fn out_is_closed(&self) -> bool {
        self.out.closed
    }

    /// Where progress goes.
    pub fn err(&mut self) -> &mut dyn Write {
        &mut self.err
    }

    /// Whether progress is one line, written over and over.
    #[must_use]
    pub const fn rewrites(&self) -> bool {
        self.rewrites
    }

    /// Whether the command looks at [`Self::stop`], and ends by itself. One that does not may be ended at any time.
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

    /// Writes a complaint.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn complain(&mut self, text: &str) -> io::Result<()> {
        self.err.write_all(text.as_bytes())?;
        self.err.flush()
    }
}

/// Passes on until nobody reads any more; `snapline check | head` still ends with the verdict's status.
struct Pipe<'a> {
    to: &'a mut dyn Write,
    closed: bool,
}

impl Pipe<'_> {
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

impl Write for Pipe<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.unless_closed(|to| to.write_all(bytes))?;
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
        let mut pipe = Pipe { to: &mut closed, closed: false };
        for _ in 0..2 {
            assert!(writeln!(pipe, "to nobody").is_ok());
        }
        assert!(pipe.closed && pipe.flush().is_ok());
    }
}
