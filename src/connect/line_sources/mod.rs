//! Lines that come from where nothing can be read again: standard input, and connections.
//!
//! Whoever reads them may block, so that is a thread of its own, with a queue of so many lines and bytes before it: a job that takes none makes
//! the other side wait. The thread of a connection ends when its reader is dropped, within a tenth of a second. That of standard input cannot be
//! woken: it is the process's, and is there until that ends.

mod feed;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crossbeam_channel::TryRecvError;

use self::feed::{Hearer, Listening, begin, connect, feed, listen};
use super::{Collect, ConnectError, OpenContext, Progress, Source, SourceReader};
use crate::base::error::BoxError;
use crate::base::sync::{Arc, AtomicBool, OnceLock, Ordering};

/// Lines are not longer, unless it is allowed: 1 MiB.
const LONGEST: usize = 1 << 20;

/// A connection without a line for longer is closed, unless it is said otherwise.
const IDLE: Duration = Duration::from_secs(600);

/// How long a reader waits for lines before it looks again.
const PAUSE: Duration = Duration::from_millis(2);

/// Of the lines that are passed over, so many are told, and then each whose number is a power of ten.
const TOLD: u64 = 10;

/// What a thread has to say.
enum Said {
    /// A line, and how many bytes it was, with its end.
    Line(String, u64),
    /// A line that is none: which, from 1, why, and how many bytes.
    Malformed(u64, String, u64),
    /// There is nothing more, for this reason.
    Failed(ConnectError),
}

/// What is done with lines.
#[derive(Clone, Copy, Debug)]
struct Rules {
    longest: usize,
    skip: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self { longest: LONGEST, skip: false }
    }
}

/// The lines of standard input, without their ends. The first subtask reads them, others nothing. The input ends when standard input does; its
/// last line needs no end.
///
/// What was read and not processed when a task fails is gone: with this source a job is at most once. The next attempt goes on with the
/// lines that come then, also behind a malformed line that has failed the last; say [`Restart::Never`](crate::Restart::Never) where that is not to
/// be. Two such sources in a process share the lines.
///
/// ```no_run
/// use snapline::connect::{Stdin, Stdout};
/// use snapline::{Dataflow, JobConfig};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let flow = Dataflow::new("shout");
/// flow.source("lines", Stdin::lines()).map(|line| line.to_uppercase()).sink("out", Stdout::new());
/// flow.build(JobConfig::new().parallelism(1))?.run()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Default, Debug)]
pub struct Stdin {
    rules: Rules,
}

impl Stdin {
    /// The lines of standard input.
    #[must_use]
    pub fn lines() -> Self {
        Self::default()
    }

    /// How long a line may be, in bytes; 1 MiB unless it is said. A longer one is malformed, and is not kept in memory. Of several sources in a
    /// process the first to open says it.
    #[must_use]
    pub const fn max_line_bytes(mut self, bytes: usize) -> Self {
        self.rules.longest = bytes;
        self
    }

    /// Passes lines over that are too long or not UTF-8, and counts them ([`crate::TaskStatus::records_malformed`]). Unless it is said, such a
    /// line fails the task.
    #[must_use]
    pub const fn skip_malformed(mut self) -> Self {
        self.rules.skip = true;
        self
    }
}

impl Source for Stdin {
    type Record = String;
    /// How many lines were read.
    type Position = u64;
    type Reader = LinesReader;

    fn open(&self, context: &OpenContext, position: Option<u64>) -> Result<LinesReader, BoxError> {
        /// The process's lines, for whoever reads them.
        static LINES: OnceLock<Hearer> = OnceLock::new();
        let longest = self.rules.longest;
        let said = (context.index == 0).then(|| {
            let lines = LINES.get_or_init(|| {
                begin("snapline-stdin", move |to| {
                    if let Err(error) = feed(&mut io::stdin().lock(), longest, to, &|| true) {
                        let failed = ConnectError::io("read", &PathBuf::from("stdin"))(error);
                        to.fail(failed);
                    }
                })
            });
            lines.clone()
        });
        Ok(LinesReader::new("stdin".into(), said, self.rules.skip, position, None))
    }

    fn is_replayable(&self) -> bool {
        false
    }
}

/// Lines, without their ends, that come over TCP. The first subtask reads them, others nothing.
///
/// What was read and not processed when a task fails is gone, and so is what was in the connection: with this source a job is at most once. The next attempt
/// connects, or listens, anew. Up to 1,024 lines, of 16 MiB together, wait for the job; then whoever sends them waits.
///
/// *A connection that ends* in order gives its last line, whether it has an end or not. To a source that has [connected](Self::connect) this is the end of
/// the input; to one that [listens](Self::listen) it is nothing, it goes on listening and ends when the job is stopped. *One that breaks* fails the task of a source
/// that has connected; of one that listens it is told to `tracing` as a warning, and what came of the last line is dropped.
#[derive(Clone, Debug)]
pub struct TcpLines {
    address: String,
    /// `None`: it connects.
    listens: Option<Listening>,
    rules: Rules,
}

impl TcpLines {
    /// Connects to an address, as `host:port`, and reads what comes. Nothing is encrypted: to read from another machine, connect to a tunnel on this
    /// one, such as `ssh -L` or `stunnel` as a client.
    pub fn connect(address: impl Into<String>) -> Self {
        Self { address: address.into(), listens: None, rules: Rules::default() }
    }

    /// Listens at an address, as `host:port`, and reads what comes from all that connect, 64 at a time. Lines of one connection are in order. There is
    /// neither encryption nor a question who it is: listen on loopback, where a tunnel such as `stunnel` connects on behalf of others, or where
    /// others cannot connect.
    pub fn listen(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            listens: Some(Listening { connections: 64, idle: Some(IDLE) }),
            rules: Rules::default(),
        }
    }

    /// How many connections there are at a time, where it listens; 64 unless it is said. When there are as many, a further one takes the place of one
    /// that has sent no line for ten seconds (or for one, if its address has more connections than that of the newcomer); of those, of the one
    /// whose address has most. If there is none it is closed at once. Both are told to `tracing`.
    ///
    /// # Panics
    /// If there are none.
    #[must_use]
    pub fn max_connections(mut self, connections: usize) -> Self {
        assert!(connections > 0, "nobody could connect");
        self.listens = self.listens.map(|it| Listening { connections, ..it });
        self
    }

    /// How long a connection may be without a whole line, where it listens; ten minutes unless it is said, `None` for ever. Then it is closed, and it
    /// is told to `tracing`. While the job takes no lines, none is missed.
    #[must_use]
    pub fn idle_limit(mut self, limit: impl Into<Option<Duration>>) -> Self {
        let idle = limit.into();
        self.listens = self.listens.map(|it| Listening { idle, ..it });
        self
    }

    /// How long a line may be, in bytes; 1 MiB unless it is said. A longer one is malformed, and is not kept in memory.
    #[must_use]
    pub const fn max_line_bytes(mut self, bytes: usize) -> Self {
        self.rules.longest = bytes;
        self
    }

    /// Passes lines over that are too long or not UTF-8, and counts them ([`crate::TaskStatus::records_malformed`]). Unless it is said, such a
    /// line fails the task, whoever has sent it.
    #[must_use]
    pub const fn skip_malformed(mut self) -> Self {
        self.rules.skip = true;
        self
    }
}

impl Source for TcpLines {
    type Record = String;
    /// How many lines were read.
    type Position = u64;
    type Reader = LinesReader;

    fn open(&self, context: &OpenContext, position: Option<u64>) -> Result<LinesReader, BoxError> {
        let from = format!("tcp {}", self.address);
        if context.index > 0 {
            return Ok(LinesReader::new(from, None, self.rules.skip, position, None));
        }
        let wanted = Wanted(Arc::new(AtomicBool::new(true)));
        let (is_wanted, address, longest) =
            (Arc::clone(&wanted.0), self.address.clone(), self.rules.longest);
        let listens = self.listens;
        let said = begin("snapline-tcp", move |to| {
            let went = match listens {
                Some(listening) => listen(&address, listening, longest, to, &is_wanted),
                None => connect(&address, longest, to, &is_wanted),
            };
            if let Err((doing, error)) = went {
                let place = PathBuf::from(format!("tcp {address}"));
                to.fail(ConnectError::io(doing, &place)(error));
            }
        });
        Ok(LinesReader::new(from, Some(said), self.rules.skip, position, Some(wanted)))
    }

    fn is_replayable(&self) -> bool {
        false
    }
}

/// Tells a thread, when it is dropped, that it is not wanted any more.
#[derive(Debug)]
struct Wanted(Arc<AtomicBool>);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Reads lines for [`Stdin`] and [`TcpLines`].
#[derive(Debug)]
pub struct LinesReader {
    from: String,
    /// `None`: nothing is read here.
    said: Option<Hearer>,
    skip: bool,
    read: u64,
    skipped: u64,
    bytes: u64,
    _wanted: Option<Wanted>,
}

impl LinesReader {
    fn new(
        from: String,
        said: Option<Hearer>,
        skip: bool,
        position: Option<u64>,
        wanted: Option<Wanted>,
    ) -> Self {
        let read = position.unwrap_or(0);
        Self { from, said, skip, read, skipped: 0, bytes: 0, _wanted: wanted }
    }
}

impl SourceReader for LinesReader {
    type Record = String;
    type Position = u64;

    fn read<C: Collect<String>>(
        &mut self,
        limit: usize,
        out: &mut C,
    ) -> Result<Progress, BoxError> {
        let Some(said) = &self.said else { return Ok(Progress::End) };
        for taken in 0..limit {
            match said.hear() {
                Ok(Said::Line(line, bytes)) => {
                    self.read += 1;
                    self.bytes += bytes;
                    out.push(line);
                }
                Ok(Said::Malformed(line, why, bytes)) if self.skip => {
                    self.skipped += 1;
                    self.bytes += bytes;
                    let skipped = self.skipped;
                    if skipped <= TOLD || skipped == 10_u64.pow(skipped.ilog10()) {
                        tracing::warn!(
                            from = self.from,
                            line,
                            why,
                            skipped,
                            "a malformed line was passed over"
                        );
                    }
                }
                Ok(Said::Malformed(line, why, _)) => {
                    let (path, line) = (PathBuf::from(&self.from), Some(line));
                    return Err(ConnectError::Malformed { path, line, offset: 0, why }.into());
                }
                Ok(Said::Failed(error)) => return Err(error.into()),
                Err(TryRecvError::Empty) if taken > 0 => return Ok(Progress::More),
                Err(TryRecvError::Empty) => return Ok(Progress::Wait(PAUSE)),
                Err(TryRecvError::Disconnected) => return Ok(Progress::End),
            }
        }
        Ok(Progress::More)
    }

    fn position(&self) -> u64 {
        self.read
    }

    fn malformed(&self) -> u64 {
        self.skipped
    }

    fn bytes_read(&self) -> Option<u64> {
        Some(self.bytes)
    }
}
