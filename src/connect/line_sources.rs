//! Lines that come from where nothing can be read again: standard input, and connections.
//!
//! Whoever reads them may block, so that is a thread of its own, with a queue of so many lines before it: a job that takes none makes the
//! other side wait. The thread of a connection ends when its reader is dropped, within a tenth of a second. That of standard input cannot be
//! woken: it is the process's, and is there until that ends.

use std::io::{self, BufRead, BufReader, ErrorKind};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};

use super::{Collect, ConnectError, OpenContext, Progress, Source, SourceReader};
use crate::error::BoxError;
use crate::sync::{Arc, AtomicBool, AtomicUsize, OnceLock, Ordering, nap, thread};

/// Lines are not longer, unless it is allowed: 1 MiB.
const LONGEST: usize = 1 << 20;

/// So many lines wait to be read.
const QUEUE: usize = 1024;

/// How long a reader waits for lines before it looks again.
const PAUSE: Duration = Duration::from_millis(2);

/// How long a thread waits for bytes before it looks whether it is still wanted.
const PATIENCE: Duration = Duration::from_millis(100);

/// How long it is tried to take an address that is taken: by the attempt before, it may be.
const ADDRESS: Duration = Duration::from_secs(2);

/// Of the lines that are passed over, so many are told, and then each whose number is a power of ten.
const TOLD: u64 = 10;

/// What a thread has to say.
enum Said {
    Line(String),
    /// A line that is none: which, from 1, and why.
    Malformed(u64, String),
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
        static LINES: OnceLock<Receiver<Said>> = OnceLock::new();
        let longest = self.rules.longest;
        let said = (context.index == 0).then(|| {
            let lines = LINES.get_or_init(|| {
                begin("snapline-stdin", move |to| {
                    if let Err(error) = feed(&mut io::stdin().lock(), longest, to, &|| true) {
                        let failed = ConnectError::io("read", &PathBuf::from("stdin"))(error);
                        let _ = to.send(Said::Failed(failed));
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
/// connects, or listens, anew. Up to 1,024 lines wait for the job; then whoever sends them waits.
///
/// *A connection that ends* in order gives its last line, whether it has an end or not. To a source that has [connected](Self::connect) this is the end of
/// the input; to one that [listens](Self::listen) it is nothing, it goes on listening and ends when the job is stopped. *One that breaks* fails the task of a source
/// that has connected; of one that listens it is told to `tracing` as a warning, and what came of the last line is dropped.
#[derive(Clone, Debug)]
pub struct TcpLines {
    address: String,
    /// How many connections at a time; `None`: it connects.
    listens: Option<usize>,
    rules: Rules,
}

impl TcpLines {
    /// Connects to an address, as `host:port`, and reads what comes.
    pub fn connect(address: impl Into<String>) -> Self {
        Self { address: address.into(), listens: None, rules: Rules::default() }
    }

    /// Listens at an address, as `host:port`, and reads what comes from all that connect, 64 at a time. Lines of one connection are in order. There is
    /// neither encryption nor a question who it is: listen on loopback, or where others cannot connect.
    pub fn listen(address: impl Into<String>) -> Self {
        Self { address: address.into(), listens: Some(64), rules: Rules::default() }
    }

    /// How many connections there are at a time, where it listens. Further ones are closed at once, and it is told to `tracing`.
    ///
    /// # Panics
    /// If there are none.
    #[must_use]
    pub fn max_connections(mut self, connections: usize) -> Self {
        assert!(connections > 0, "nobody could connect");
        self.listens = self.listens.map(|_| connections);
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
                Some(connections) => listen(&address, connections, longest, to, &is_wanted),
                None => connect(&address, longest, to, &is_wanted),
            };
            if let Err((doing, error)) = went {
                let place = PathBuf::from(format!("tcp {address}"));
                let _ = to.send(Said::Failed(ConnectError::io(doing, &place)(error)));
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
    said: Option<Receiver<Said>>,
    skip: bool,
    read: u64,
    skipped: u64,
    _wanted: Option<Wanted>,
}

impl LinesReader {
    fn new(
        from: String,
        said: Option<Receiver<Said>>,
        skip: bool,
        position: Option<u64>,
        wanted: Option<Wanted>,
    ) -> Self {
        Self { from, said, skip, read: position.unwrap_or(0), skipped: 0, _wanted: wanted }
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
            match said.try_recv() {
                Ok(Said::Line(line)) => {
                    self.read += 1;
                    out.push(line);
                }
                Ok(Said::Malformed(line, why)) if self.skip => {
                    self.skipped += 1;
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
                Ok(Said::Malformed(line, why)) => {
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
}

/// Begins a thread that says something, and is forgotten: what it says comes out of the queue, which ends with it.
fn begin(name: &str, run: impl FnOnce(&Sender<Said>) + Send + 'static) -> Receiver<Said> {
    let (to, said) = bounded(QUEUE);
    let failed = to.clone();
    let thread = thread::Builder::new().name(name.into());
    if let Err(error) = thread.spawn(move || run(&to)) {
        let error = ConnectError::io("begin a thread for", &PathBuf::from(name))(error);
        // The queue is empty.
        let _ = failed.send(Said::Failed(error));
    }
    said
}

/// Says the lines that come, until there are no more or nobody wants them.
fn feed(
    from: &mut impl BufRead,
    longest: usize,
    to: &Sender<Said>,
    wanted: &dyn Fn() -> bool,
) -> io::Result<()> {
    let (mut line, mut number, mut bytes) = (Vec::new(), 0, 0_usize);
    loop {
        let (taken, ended, over) = match from.fill_buf() {
            Ok([]) => (0, true, true),
            Ok(more) => {
                let end = more.iter().position(|&byte| byte == b'\n');
                let piece = &more[..end.unwrap_or(more.len())];
                let room = (longest + 1).saturating_sub(line.len());
                line.extend_from_slice(&piece[..piece.len().min(room)]);
                bytes += piece.len();
                (piece.len() + usize::from(end.is_some()), end.is_some(), false)
            }
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) =>
            {
                if wanted() {
                    continue;
                }
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        from.consume(taken);
        if over && bytes == 0 {
            return Ok(());
        }
        if ended {
            number += 1;
            line.pop_if(|last| *last == b'\r');
            let text = String::from_utf8(std::mem::take(&mut line));
            let said = match text {
                _ if bytes > longest => {
                    Said::Malformed(number, format!("it has more than {longest} bytes"))
                }
                Ok(line) => Said::Line(line),
                Err(error) => {
                    let byte = error.utf8_error().valid_up_to() + 1;
                    Said::Malformed(number, format!("byte {byte} of the line is not UTF-8"))
                }
            };
            bytes = 0;
            // If there is no queue any more, nobody wants it.
            if to.send(said).is_err() || over || !wanted() {
                return Ok(());
            }
        }
    }
}

/// What could not be done, and what the system said.
type Refused = (&'static str, io::Error);

fn connect(
    address: &str,
    longest: usize,
    to: &Sender<Said>,
    wanted: &AtomicBool,
) -> Result<(), Refused> {
    let stream = TcpStream::connect(address).map_err(|error| ("connect to", error))?;
    converse(stream, longest, to, wanted).map_err(|error| ("read from", error))
}

/// Says the lines of a connection.
fn converse(
    stream: TcpStream,
    longest: usize,
    to: &Sender<Said>,
    wanted: &AtomicBool,
) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    feed(&mut BufReader::new(stream), longest, to, &|| wanted.load(Ordering::Relaxed))
}

fn listen(
    address: &str,
    connections: usize,
    longest: usize,
    to: &Sender<Said>,
    wanted: &Arc<AtomicBool>,
) -> Result<(), Refused> {
    let begun = Instant::now();
    let listener = loop {
        match TcpListener::bind(address) {
            Ok(listener) => break listener,
            Err(error) if error.kind() == ErrorKind::AddrInUse && begun.elapsed() < ADDRESS => {
                nap(PATIENCE / 2);
            }
            Err(error) => return Err(("listen at", error)),
        }
    };
    listener.set_nonblocking(true).map_err(|error| ("listen at", error))?;
    let alive = Arc::new(AtomicUsize::new(0));
    while wanted.load(Ordering::Relaxed) {
        let (stream, peer) = match listener.accept() {
            Ok(connection) => connection,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                nap(PATIENCE / 10);
                continue;
            }
            // Of a connection that broke before it was taken, or for want of something that may be there again.
            Err(error) => {
                tracing::warn!(address, %error, "a connection could not be taken");
                nap(PATIENCE);
                continue;
            }
        };
        if alive.load(Ordering::Relaxed) >= connections {
            tracing::warn!(address, %peer, connections, "a connection was closed: there are as many as may be");
            continue;
        }
        alive.fetch_add(1, Ordering::Relaxed);
        let (to, is_wanted, is_alive) = (to.clone(), Arc::clone(wanted), Arc::clone(&alive));
        let run = move || {
            if let Err(error) = converse(stream, longest, &to, &is_wanted) {
                tracing::warn!(%peer, %error, "a connection broke; what came of its last line is dropped");
            }
            is_alive.fetch_sub(1, Ordering::Relaxed);
        };
        let thread = thread::Builder::new().name("snapline-tcp".into());
        if let Err(error) = thread.spawn(run) {
            alive.fetch_sub(1, Ordering::Relaxed);
            tracing::warn!(address, %peer, %error, "a connection was closed: there is no thread to read it");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fed(bytes: &[u8], longest: usize) -> Vec<String> {
        let (to, said) = bounded(100);
        // One byte at a time is as good as all.
        let mut input = BufReader::with_capacity(1, bytes);
        feed(&mut input, longest, &to, &|| true).expect("nothing fails");
        drop(to);
        let text = |said| match said {
            Said::Line(line) => line,
            Said::Malformed(line, why) => format!("{line}: {why}"),
            Said::Failed(error) => panic!("{error}"),
        };
        said.iter().map(text).collect()
    }

    #[test]
    fn lines_lose_their_ends_and_the_last_needs_none() {
        assert_eq!(fed(b"a\r\n\nb\rc\nd", 9), ["a", "", "b\rc", "d"]);
        assert_eq!(fed(b"a\n", 9), ["a"]);
        assert!(fed(b"", 9).is_empty());
    }

    #[test]
    fn lines_that_are_too_long_or_not_text_are_said_to_be() {
        let said = fed(b"abc\nabcdefgh\n\xff\nab\nabcd", 3);
        let expected = [
            "abc",
            "2: it has more than 3 bytes",
            "3: byte 1 of the line is not UTF-8",
            "ab",
            "5: it has more than 3 bytes",
        ];
        assert_eq!(said, expected);
    }

    #[test]
    fn who_is_not_wanted_any_more_stops() {
        let (to, said) = bounded(1);
        drop(said);
        feed(&mut &b"a\nb\n"[..], 9, &to, &|| true).expect("nothing fails");
        let (to, said) = bounded(9);
        feed(&mut &b"a\nb\n"[..], 9, &to, &|| false).expect("nothing fails");
        assert_eq!(said.len(), 1);
    }
}
