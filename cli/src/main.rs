//! The snapline command.

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use snapline_cli::{Exit, Terminal};

// Exploring clones and drops small states all the time: half of it was spent in the system's
// allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let stop = Arc::new(AtomicBool::new(false));
    let (mut out, mut err) = (io::stdout(), io::stderr());
    let rewrites = err.is_terminal();
    let plain = std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty());
    let colour = out.is_terminal() && !plain;
    let guarded = out.is_terminal();
    let mut terminal = Terminal::new(&mut out, &mut err, rewrites, Arc::clone(&stop))
        .coloured(colour)
        .guarded(guarded, rewrites);
    let (raised, heeds) = (stop, terminal.heeds());
    // Without a handler a signal still ends the process, only less politely. A command that does
    // not look at the flag is ended at once: what it reads may have no end, and what it deletes may
    // be cut short anywhere (SPEC 8.5).
    let _ = ctrlc::set_handler(move || {
        if raised.swap(true, Ordering::SeqCst) || !heeds.load(Ordering::SeqCst) {
            std::process::exit(i32::from(Exit::Stopped.code()));
        }
    });
    ExitCode::from(snapline_cli::run(std::env::args_os(), &mut terminal).code())
}
