//! The threads that read lines, and may block.

use std::io::{self, BufRead, BufReader, ErrorKind};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};

use super::FeedEvent;
use crate::base::panic::guarded;
use crate::base::sync::{
    Arc, AtomicBool, Condvar, Mutex, Ordering, PoisonError, lock, nap, thread,
};
use crate::connect::ConnectError;
use snapline_core::connect::text::{MARK, UTF_16, is_utf16};

/// The number of lines that wait to be read, and the number of their bytes; a longer line waits
/// alone.
const QUEUE: (usize, usize) = (1024, 16 << 20);

/// A connection without a line for this long loses its place to a newcomer. The second time applies
/// if its address has more places than the newcomer's.
const IDLE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(1));

/// How long a thread waits for bytes before it checks if it is still wanted.
const PATIENCE: Duration = Duration::from_millis(100);

/// How long to retry an address in use: the attempt before may still hold it.
const ADDRESS: Duration = Duration::from_secs(2);

/// The number of bytes that wait to be read.
#[derive(Default, Debug)]
struct UnreadBytes {
    bytes: Mutex<usize>,
    freed: Condvar,
}

/// The queue's receiver.
#[derive(Clone, Debug)]
pub(super) struct Hearer {
    said: Receiver<FeedEvent>,
    waiting: Arc<UnreadBytes>,
}

impl Hearer {
    pub(super) fn hear(&self) -> Result<FeedEvent, TryRecvError> {
        let said = self.said.try_recv()?;
        if let FeedEvent::Line(line, _) = &said {
            *lock(&self.waiting.bytes) -= line.len();
            self.waiting.freed.notify_all();
        }
        Ok(said)
    }
}

/// The queue's sender.
#[derive(Clone)]
pub(super) struct Speaker {
    to: Sender<FeedEvent>,
    waiting: Arc<UnreadBytes>,
    /// The connection whose lines they are, where others want its place.
    who: Option<Arc<Talker>>,
}

impl Speaker {
    fn new() -> (Self, Hearer) {
        let (to, said) = bounded(QUEUE.0);
        let waiting = Arc::new(UnreadBytes::default());
        (Self { to, waiting: Arc::clone(&waiting), who: None }, Hearer { said, waiting })
    }

    /// Sends a message, when there is room; returns true if more is wanted.
    fn say(&self, said: FeedEvent, wanted: &dyn Fn() -> bool) -> bool {
        self.who.iter().for_each(|who| who.now(true));
        let went = self.wait(&said, wanted) && self.to.send(said).is_ok();
        self.who.iter().for_each(|who| who.now(false));
        went
    }

    /// Waits until there is room for the message, and takes the room.
    fn wait(&self, said: &FeedEvent, wanted: &dyn Fn() -> bool) -> bool {
        let FeedEvent::Line(line, _) = said else { return true };
        let mut bytes = lock(&self.waiting.bytes);
        while *bytes > 0 && *bytes + line.len() > QUEUE.1 {
            let waited = self.waiting.freed.wait_timeout(bytes, PATIENCE);
            bytes = waited.unwrap_or_else(PoisonError::into_inner).0;
            if !wanted() {
                return false;
            }
        }
        *bytes += line.len();
        true
    }

    pub(super) fn fail(&self, error: ConnectError) {
        // Without a queue the failure is of no interest.
        let _ = self.to.send(FeedEvent::Failed(error));
    }
}

/// Begins a detached thread that sends messages into a queue. The queue ends with the thread.
pub(super) fn begin(name: &str, run: impl FnOnce(&Speaker) + Send + 'static) -> Hearer {
    let (to, said) = Speaker::new();
    let failed = to.clone();
    let place = PathBuf::from(name);
    let thread = thread::Builder::new().name(name.into());
    let run = move || {
        // An end of the queue is the end of the input; a panic must not look like one.
        if let Err(what) = guarded(|| {
            run(&to);
            Ok(())
        }) {
            to.fail(ConnectError::io("read in the thread", &place)(io::Error::other(what)));
        }
    };
    if let Err(error) = thread.spawn(run) {
        // The queue is empty.
        failed.fail(ConnectError::io("start a thread for", &PathBuf::from(name))(error));
    }
    said
}

/// Sends the lines that come, until there are no more or the reader wants none.
pub(super) fn feed(
    from: &mut impl BufRead,
    longest: usize,
    to: &Speaker,
    wanted: &dyn Fn() -> bool,
) -> io::Result<()> {
    let (mut line, mut number, mut bytes) = (Vec::new(), 0, 0_usize);
    loop {
        let (taken, ended, over) = match from.fill_buf() {
            Ok([]) => (0, true, true),
            Ok(more) => {
                let end = more.iter().position(|&byte| byte == b'\n');
                let piece = &more[..end.unwrap_or(more.len())];
                // The first line may have a byte order mark too.
                let most = longest.saturating_add(1).saturating_add(MARK.len());
                let room = most.saturating_sub(line.len());
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
        // A line without an end keeps no place.
        if !ended && !wanted() {
            return Ok(());
        }
        if over && bytes == 0 {
            return Ok(());
        }
        if ended {
            number += 1;
            let all = bytes as u64 + u64::from(!over);
            if number == 1 && line.starts_with(MARK) {
                line.drain(..MARK.len());
                bytes -= MARK.len();
                if over && bytes == 0 {
                    return Ok(());
                }
            }
            let is_text = number > 1 || !is_utf16(&line);
            line.pop_if(|last| *last == b'\r');
            let text = String::from_utf8(std::mem::take(&mut line));
            let said = match text {
                _ if !is_text => FeedEvent::Malformed(number, UTF_16.into(), all),
                _ if bytes > longest => {
                    FeedEvent::Malformed(number, format!("it has more than {longest} bytes"), all)
                }
                Ok(line) => FeedEvent::Line(line, all),
                Err(error) => {
                    let byte = error.utf8_error().valid_up_to() + 1;
                    FeedEvent::Malformed(
                        number,
                        format!("byte {byte} of the line is not UTF-8"),
                        all,
                    )
                }
            };
            bytes = 0;
            // Without a queue there is no reader.
            if !to.say(said, wanted) || over || !wanted() {
                return Ok(());
            }
        }
    }
}

/// The operation that failed, and the system's error.
type ListenFailure = (&'static str, io::Error);

pub(super) fn connect(
    address: &str,
    longest: usize,
    to: &Speaker,
    wanted: &AtomicBool,
) -> Result<(), ListenFailure> {
    let stream = TcpStream::connect(address).map_err(|error| ("connect to", error))?;
    let wanted = || wanted.load(Ordering::Relaxed);
    converse(stream, longest, to, &wanted).map_err(|error| ("read from", error))
}

/// Sends the lines of a connection.
fn converse(
    stream: TcpStream,
    longest: usize,
    to: &Speaker,
    wanted: &dyn Fn() -> bool,
) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    feed(&mut BufReader::new(stream), longest, to, wanted)
}

/// The limits of a listener.
#[derive(Clone, Copy, Debug)]
pub(super) struct ListenerLimits {
    pub(super) connections: usize,
    /// How long a connection may be without a line.
    pub(super) idle: Option<Duration>,
}

/// A connection that has a place.
#[derive(Debug)]
struct Talker {
    peer: IpAddr,
    /// The time of its last line, and true while that is still being sent: then it waits for the
    /// job.
    last: Mutex<(Instant, bool)>,
    /// True if it has lost its place.
    lost: AtomicBool,
}

impl Talker {
    fn new(peer: IpAddr) -> Self {
        Self { peer, last: Mutex::new((Instant::now(), false)), lost: AtomicBool::new(false) }
    }

    fn now(&self, saying: bool) {
        *lock(&self.last) = (Instant::now(), saying);
    }

    fn idle(&self, now: Instant) -> Duration {
        match *lock(&self.last) {
            (_, true) => Duration::ZERO,
            (last, false) => now.saturating_duration_since(last),
        }
    }
}

/// The connection that loses its place to a newcomer.
fn loser(talkers: &[Arc<Talker>], newcomer: IpAddr, now: Instant) -> Option<&Arc<Talker>> {
    let places = |peer: IpAddr| talkers.iter().filter(|it| it.peer == peer).count();
    let share = places(newcomer) + 1;
    let ranked = talkers.iter().filter_map(|talker| {
        let (many, idle) = (places(talker.peer), talker.idle(now));
        let may = idle >= IDLE.0 || (many > share && idle >= IDLE.1);
        may.then_some((many, idle, talker))
    });
    ranked.max_by_key(|(many, idle, _)| (*many, *idle)).map(|(_, _, talker)| talker)
}

pub(super) fn listen(
    address: &str,
    listening: ListenerLimits,
    longest: usize,
    to: &Speaker,
    wanted: &Arc<AtomicBool>,
) -> Result<(), ListenFailure> {
    let ListenerLimits { connections, idle } = listening;
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
    // The entry of an ended thread has no other owner.
    let mut talkers: Vec<Arc<Talker>> = Vec::new();
    while wanted.load(Ordering::Relaxed) {
        let (stream, peer) = match listener.accept() {
            Ok(connection) => connection,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                nap(PATIENCE / 10);
                continue;
            }
            // A connection that broke before it was accepted, or a resource that may be available
            // again.
            Err(error) => {
                tracing::warn!(address, %error, "cannot accept a connection");
                nap(PATIENCE);
                continue;
            }
        };
        talkers
            .retain(|talker| Arc::strong_count(talker) > 1 && !talker.lost.load(Ordering::Relaxed));
        if talkers.len() >= connections {
            match loser(&talkers, peer.ip(), Instant::now()) {
                Some(talker) => {
                    tracing::warn!(
                        address, loses = %talker.peer, %peer, connections,
                        "an idle connection was closed to accept another"
                    );
                    talker.lost.store(true, Ordering::Relaxed);
                }
                None => {
                    tracing::warn!(
                        address, %peer, connections,
                        "a connection was closed: the limit of connections is reached"
                    );
                    continue;
                }
            }
        }
        let talker = Arc::new(Talker::new(peer.ip()));
        talkers.push(Arc::clone(&talker));
        let to = Speaker { who: Some(Arc::clone(&talker)), ..to.clone() };
        let is_wanted = Arc::clone(wanted);
        let run = move || {
            let late = || idle.is_some_and(|idle| talker.idle(Instant::now()) > idle);
            let lost = || talker.lost.load(Ordering::Relaxed) || late();
            let wanted = || is_wanted.load(Ordering::Relaxed) && !lost();
            match guarded(|| Ok(converse(stream, longest, &to, &wanted)?)) {
                Ok(()) if late() => {
                    tracing::warn!(%peer, "a connection was closed: no line came for too long");
                }
                Ok(()) => {}
                Err(error) => {
                    tracing::warn!(
                        %peer, %error,
                        "a connection broke; the received part of its last line is dropped"
                    );
                }
            }
        };
        let thread = thread::Builder::new().name("snapline-tcp".into());
        if let Err(error) = thread.spawn(run) {
            tracing::warn!(
                address, %peer, %error,
                "a connection was closed: there is no thread to read it"
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fed(bytes: &[u8], longest: usize) -> Vec<String> {
        let (to, said) = Speaker::new();
        // One byte at a time suffices.
        let mut input = BufReader::with_capacity(1, bytes);
        feed(&mut input, longest, &to, &|| true).expect("nothing fails");
        drop(to);
        let text = |said| match said {
            FeedEvent::Line(line, _) => line,
            FeedEvent::Malformed(line, why, _) => format!("{line}: {why}"),
            FeedEvent::Failed(error) => panic!("{error}"),
        };
        said.said.iter().map(text).collect()
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
    fn every_byte_is_of_a_line() {
        let input = b"a\r\n\nabcdefgh\n\xff\nend";
        let (to, said) = Speaker::new();
        feed(&mut BufReader::with_capacity(2, &input[..]), 3, &to, &|| true)
            .expect("nothing fails");
        drop(to);
        let bytes = said.said.iter().map(|said| match said {
            FeedEvent::Line(_, bytes) | FeedEvent::Malformed(_, _, bytes) => bytes,
            FeedEvent::Failed(error) => panic!("{error}"),
        });
        assert_eq!(bytes.collect::<Vec<_>>(), [3, 1, 9, 2, 3]);
    }

    #[test]
    fn who_is_not_wanted_any_more_stops() {
        let (to, said) = Speaker::new();
        drop(said);
        feed(&mut &b"a\nb\n"[..], 9, &to, &|| true).expect("nothing fails");
        let (to, said) = Speaker::new();
        feed(&mut &b"a\nb\n"[..], 9, &to, &|| false).expect("nothing fails");
        assert_eq!(said.said.len(), 1);
    }

    #[test]
    fn the_longest_line_that_can_be_said_is_no_overflow() {
        assert_eq!(fed(b"abc\n", usize::MAX), ["abc"]);
    }

    /// Long lines wait within this many bytes, however few they are; a line that is longer than all
    /// of that waits alone.
    #[test]
    fn what_waits_is_bounded_in_bytes() {
        let line = |length: usize| [vec![b'x'; length], vec![b'\n']].concat();
        let input = [line(QUEUE.1 * 2), line(QUEUE.1 / 2), line(QUEUE.1 / 2), line(1)].concat();
        let (to, said) = Speaker::new();
        let waits =
            thread::spawn(move || feed(&mut BufReader::new(&input[..]), usize::MAX, &to, &|| true));
        let mut lengths = Vec::new();
        while lengths.len() < 4 {
            assert!(*lock(&said.waiting.bytes) <= QUEUE.1 * 2, "two at a time");
            assert!(lengths.is_empty() || *lock(&said.waiting.bytes) <= QUEUE.1);
            match said.hear() {
                Ok(FeedEvent::Line(line, _)) => lengths.push(line.len()),
                _ => thread::yield_now(),
            }
        }
        assert_eq!(lengths, [QUEUE.1 * 2, QUEUE.1 / 2, QUEUE.1 / 2, 1]);
        waits.join().expect("no panic").expect("nothing fails");
        assert_eq!(*lock(&said.waiting.bytes), 0);
        // A sender that waits for room stops when it is not wanted any more.
        let (to, said) = Speaker::new();
        *lock(&said.waiting.bytes) = QUEUE.1;
        feed(&mut &b"a\nb\n"[..], 9, &to, &|| false).expect("nothing fails");
        assert_eq!(said.said.len(), 0);
    }

    #[test]
    fn a_newcomer_gets_the_place_of_who_has_most_and_says_least() {
        let now = Instant::now() + Duration::from_secs(3600);
        let talkers = |idle: &[(u8, u64, bool)]| -> Vec<Arc<Talker>> {
            let talker = |&(peer, seconds, saying): &(u8, u64, bool)| {
                let talker = Talker::new(IpAddr::from([192, 0, 2, peer]));
                *lock(&talker.last) = (now - Duration::from_secs(seconds), saying);
                Arc::new(talker)
            };
            idle.iter().map(talker).collect()
        };
        let loses = |idle: &[(u8, u64, bool)], newcomer: u8| {
            let talkers = talkers(idle);
            let loses = loser(&talkers, IpAddr::from([192, 0, 2, newcomer]), now)?;
            talkers.iter().position(|talker| Arc::ptr_eq(talker, loses))
        };
        assert_eq!(loses(&[(1, 0, false), (1, 5, false)], 1), None, "they talk");
        assert_eq!(
            loses(&[(1, 0, false), (1, 5, false)], 2),
            Some(1),
            "it has more than its share"
        );
        assert_eq!(loses(&[(1, 11, false), (2, 12, false), (1, 5, false)], 3), Some(0));
        assert_eq!(loses(&[(1, 11, false), (2, 12, false)], 3), Some(1));
        assert_eq!(loses(&[(1, 99, true), (1, 99, true)], 2), None, "the job keeps them waiting");
    }
}
