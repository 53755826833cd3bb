//! Lines that come from where nothing can be read again: standard input and connections.
//!
//! Reading may block, so it has a thread of its own. A queue with a bound in lines and bytes stands
//! between the thread and the reader: a job that takes none makes the other side wait. The thread
//! of a connection ends within a tenth of a second after its reader is dropped. That of standard
//! input cannot be woken: it belongs to the process and ends with it.

mod feed;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crossbeam_channel::TryRecvError;

use self::feed::{Hearer, ListenerLimits, begin, connect, feed, listen};
use super::{Collect, ConnectError, OpenContext, Progress, Source, SourceReader};
use crate::base::error::BoxError;
use crate::base::sync::{Arc, AtomicBool, OnceLock, Ordering};

/// The longest line by default: 1 MiB.
const LONGEST: usize = 1 << 20;

/// How long a connection may be without a line before it is closed, by default.
const IDLE: Duration = Duration::from_secs(600);

/// How long a reader waits for lines before it looks again.
const PAUSE: Duration = Duration::from_millis(2);

/// Of the skipped lines, the first ten are logged, then each whose number is a power of ten.
const TOLD: u64 = 10;

/// A message of a reading thread.
enum FeedEvent {
    /// A line, and its length in bytes, with its end.
    Line(String, u64),
    /// A malformed line: its number, from 1, the reason, and its length in bytes.
    Malformed(u64, String, u64),
    /// Nothing more comes, for this reason.
    Failed(ConnectError),
}

/// The handling of lines.
#[derive(Clone, Copy, Debug)]
struct LineRules {
    longest: usize,
    skip: bool,
}

impl Default for LineRules {
    fn default() -> Self {
        Self { longest: LONGEST, skip: false }
    }
}

/// The lines of standard input, without their ends. The first subtask reads them, the others read
/// nothing. The input ends when standard input does; its last line needs no end.
///
/// When a task fails, lines that were read and not processed are lost: with this source a job is at
/// most once. The next attempt continues with the lines that come then, also after a malformed line
/// that failed the last attempt. Set [`Restart::Never`](crate::Restart::Never) to prevent that. Two
/// such sources in a process share the lines.
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
    rules: LineRules,
}

impl Stdin {
    /// The lines of standard input.
    #[must_use]
    pub fn lines() -> Self {
        Self::default()
    }

    /// The longest line, in bytes; 1 MiB by default. A longer one is malformed, and is not kept in
    /// memory. Of several sources in a process, the first to open sets it.
    #[must_use]
    pub const fn max_line_bytes(mut self, bytes: usize) -> Self {
        self.rules.longest = bytes;
        self
    }

    /// Skips lines that are too long or not UTF-8, and counts them
    /// ([`crate::TaskStatus::records_malformed`]). By default such a line fails the task.
    #[must_use]
    pub const fn skip_malformed(mut self) -> Self {
        self.rules.skip = true;
        self
    }
}

impl Source for Stdin {
    type Record = String;
    /// The number of lines read.
    type Position = u64;
    type Reader = LinesReader;

    fn open(&self, context: &OpenContext, position: Option<u64>) -> Result<LinesReader, BoxError> {
        /// The process's lines, for the source that reads them.
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

/// Lines, without their ends, that come over TCP. The first subtask reads them, the others read
/// nothing.
///
/// When a task fails, lines that were read and not processed are lost, and so are those in the
/// connection. With this source a job is at most once. The next attempt connects, or listens, anew.
/// Up to 1,024 lines, of 16 MiB together, wait for the job; then the senders wait.
///
/// *A connection that ends* in order gives its last line, with or without an end. For a source that
/// has [connected](Self::connect) this is the end of the input. A source that
/// [listens](Self::listen) goes on listening, and ends when the job is stopped. *A connection that
/// breaks* fails the task of a source that has connected. A source that listens logs a warning with
/// `tracing`, and drops the beginning of the last line.
#[derive(Clone, Debug)]
pub struct TcpLines {
    address: String,
    /// `None`: it connects.
    listens: Option<ListenerLimits>,
    rules: LineRules,
}

impl TcpLines {
    /// Connects to an address, as `host:port`, and reads what comes. Nothing is encrypted: to read
    /// from another machine, connect to a tunnel on this one, such as `ssh -L` or `stunnel` as a
    /// client.
    pub fn connect(address: impl Into<String>) -> Self {
        Self { address: address.into(), listens: None, rules: LineRules::default() }
    }

    /// Listens at an address, as `host:port`, and reads what comes from all that connect, 64 at a
    /// time. Lines of one connection are in order. There is neither encryption nor authentication.
    /// Listen on loopback, where a tunnel such as `stunnel` connects on behalf of others, or where
    /// others cannot connect.
    pub fn listen(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            listens: Some(ListenerLimits { connections: 64, idle: Some(IDLE) }),
            rules: LineRules::default(),
        }
    }

    /// The number of connections at a time, where it listens; 64 by default. If all places are
    /// taken, a newcomer may take the place of a connection without a line for ten seconds. One
    /// second is enough if that connection's address has more connections than the newcomer's. Of
    /// several, the one whose address has most loses its place. If there is none, the newcomer is
    /// closed at once. Both are logged with `tracing`.
    ///
    /// # Panics
    /// If it is zero.
    #[must_use]
    pub fn max_connections(mut self, connections: usize) -> Self {
        assert!(connections > 0, "no client could connect");
        self.listens = self.listens.map(|it| ListenerLimits { connections, ..it });
        self
    }

    /// How long a connection may be without a whole line, where it listens; ten minutes by default,
    /// `None` forever. Then it is closed, which is logged with `tracing`. Time in which the job
    /// takes no lines does not count.
    #[must_use]
    pub fn idle_limit(mut self, limit: impl Into<Option<Duration>>) -> Self {
        let idle = limit.into();
        self.listens = self.listens.map(|it| ListenerLimits { idle, ..it });
        self
    }

    /// The longest line, in bytes; 1 MiB by default. A longer one is malformed, and is not kept in
    /// memory.
    #[must_use]
    pub const fn max_line_bytes(mut self, bytes: usize) -> Self {
        self.rules.longest = bytes;
        self
    }

    /// Skips lines that are too long or not UTF-8, and counts them
    /// ([`crate::TaskStatus::records_malformed`]). By default such a line fails the task, from any
    /// sender.
    #[must_use]
    pub const fn skip_malformed(mut self) -> Self {
        self.rules.skip = true;
        self
    }
}

impl Source for TcpLines {
    type Record = String;
    /// The number of lines read.
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

/// When dropped, notifies a thread that it is not wanted any more.
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
                Ok(FeedEvent::Line(line, bytes)) => {
                    self.read += 1;
                    self.bytes += bytes;
                    out.push(line);
                }
                Ok(FeedEvent::Malformed(line, why, bytes)) if self.skip => {
                    self.skipped += 1;
                    self.bytes += bytes;
                    let skipped = self.skipped;
                    if skipped <= TOLD || skipped == 10_u64.pow(skipped.ilog10()) {
                        tracing::warn!(
                            from = self.from,
                            line,
                            why,
                            skipped,
                            "a malformed line was skipped"
                        );
                    }
                }
                Ok(FeedEvent::Malformed(line, why, _)) => {
                    let (path, line) = (PathBuf::from(&self.from), Some(line));
                    return Err(ConnectError::Malformed { path, line, offset: 0, why }.into());
                }
                Ok(FeedEvent::Failed(error)) => return Err(error.into()),
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
