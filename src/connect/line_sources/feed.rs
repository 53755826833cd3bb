//! The threads that read lines, and may block.

use std::io::{self, BufRead, BufReader, ErrorKind};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::{Said, Waiting};
use crate::connect::ConnectError;
use crate::connect::text::{MARK, UTF_16, is_utf16};
use crate::engine::failure::guarded;
use crate::sync::{Arc, AtomicBool, AtomicUsize, Ordering, nap, thread};

/// So many lines wait to be read.
const QUEUE: usize = 1024;

/// Of a connection, lines of so many bytes wait to be read, and one more.
const MOST_WAITING: usize = 1 << 20;

/// How long a thread waits for bytes before it looks whether it is still wanted.
const PATIENCE: Duration = Duration::from_millis(100);

/// How long it is tried to take an address that is taken: by the attempt before, it may be.
const ADDRESS: Duration = Duration::from_secs(2);

/// Begins a thread that says something, and is forgotten: what it says comes out of the queue, which ends with it.
pub(super) fn begin(
    name: &str,
    run: impl FnOnce(&Sender<Said>) + Send + 'static,
) -> Receiver<Said> {
    let (to, said) = bounded(QUEUE);
    let failed = to.clone();
    let place = PathBuf::from(name);
    let thread = thread::Builder::new().name(name.into());
    let run = move || {
        // An end of the queue is the end of the input, which a panic is not.
        if let Err(what) = guarded(|| {
            run(&to);
            Ok(())
        }) {
            let error = ConnectError::io("read in the thread", &place)(io::Error::other(what));
            let _ = to.send(Said::Failed(error));
        }
    };
    if let Err(error) = thread.spawn(run) {
        let error = ConnectError::io("begin a thread for", &PathBuf::from(name))(error);
        // The queue is empty.
        let _ = failed.send(Said::Failed(error));
    }
    said
}

/// Says the lines that come, until there are no more or nobody wants them.
pub(super) fn feed(
    from: &mut impl BufRead,
    longest: usize,
    to: &Sender<Said>,
    wanted: &dyn Fn() -> bool,
) -> io::Result<()> {
    let (mut line, mut number, mut bytes) = (Vec::new(), 0, 0_usize);
    let waiting = Arc::new(AtomicUsize::new(0));
    loop {
        let (taken, ended, over) = match from.fill_buf() {
            Ok([]) => (0, true, true),
            Ok(more) => {
                let end = more.iter().position(|&byte| byte == b'\n');
                let piece = &more[..end.unwrap_or(more.len())];
                // The first line may have a mark of byte order too.
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
                _ if !is_text => Said::Malformed(number, UTF_16.into(), all),
                _ if bytes > longest => {
                    Said::Malformed(number, format!("it has more than {longest} bytes"), all)
                }
                Ok(line) => {
                    while waiting.load(Ordering::Relaxed) > MOST_WAITING && wanted() {
                        nap(PATIENCE / 100);
                    }
                    let bytes = line.capacity();
                    waiting.fetch_add(bytes, Ordering::Relaxed);
                    Said::Line(line, all, Waiting { of: Arc::clone(&waiting), bytes })
                }
                Err(error) => {
                    let byte = error.utf8_error().valid_up_to() + 1;
                    Said::Malformed(number, format!("byte {byte} of the line is not UTF-8"), all)
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

pub(super) fn connect(
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

pub(super) fn listen(
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
            let read = guarded(|| Ok(converse(stream, longest, &to, &is_wanted)?));
            if let Err(error) = read {
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
            Said::Line(line, ..) => line,
            Said::Malformed(line, why, _) => format!("{line}: {why}"),
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
    fn every_byte_is_of_a_line() {
        let input = b"a\r\n\nabcdefgh\n\xff\nend";
        let (to, said) = bounded(100);
        feed(&mut BufReader::with_capacity(2, &input[..]), 3, &to, &|| true)
            .expect("nothing fails");
        drop(to);
        let bytes = said.iter().map(|said| match said {
            Said::Line(_, bytes, _) | Said::Malformed(_, _, bytes) => bytes,
            Said::Failed(error) => panic!("{error}"),
        });
        assert_eq!(bytes.collect::<Vec<_>>(), [3, 1, 9, 2, 3]);
    }

    #[test]
    fn long_lines_wait_until_there_is_room() {
        let input = format!("{}\n", "x".repeat(1 << 20)).repeat(8);
        let (to, said) = bounded(100);
        let feeding = thread::spawn(move || feed(&mut input.as_bytes(), 1 << 20, &to, &|| true));
        for _ in 0..8 {
            let line = said.recv().expect("a line");
            // Two are more than may wait, and this is one of them.
            assert!(said.len() < 2, "{}", said.len());
            drop(line);
        }
        feeding.join().expect("ends").expect("nothing fails");
        assert!(said.recv().is_err());
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
