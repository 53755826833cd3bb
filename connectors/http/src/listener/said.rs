//! The answers of a server to bytes in memory, for fuzz targets: the same connection, without the
//! socket.

use super::*;
use snapline_core::base::sync::PoisonError;

/// Longer than any time limit that a test with all its bytes can reach.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection at its end of input is polled this often before it ends, so that what was read is
/// processed first.
const LOOKS: usize = 8;

/// A connection on which these bytes come, `piece` at a time, and then its end.
struct ScriptedConnection {
    bytes: Vec<u8>,
    at: usize,
    piece: usize,
    looks: usize,
    places: Arc<Places>,
    answer: Arc<Mutex<Vec<u8>>>,
}

impl AsyncRead for ScriptedConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let works = |place: &ConnectionSlot| place.stage == ConnectionStage::Inside;
        if self.at == self.bytes.len() && self.looks > 0 {
            if lock(&self.places.connections).placed.values().any(works) {
                // A client that has sent everything waits for its answer. The thread that makes it
                // wakes the connection.
                self.looks = LOOKS;
            } else {
                self.looks -= 1;
                context.waker().wake_by_ref();
            }
            return Poll::Pending;
        }
        let end = self.bytes.len().min(self.at + self.piece.min(buffer.remaining()));
        buffer.put_slice(&self.bytes[self.at..end]);
        self.at = end;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ScriptedConnection {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        lock(&self.answer).extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// All answers to these bytes, which come `piece` at a time; `None` if there is no end to them.
pub(crate) fn answers_to<A: Answers>(
    bytes: &[u8],
    piece: usize,
    limits: Limits,
    answers: Arc<A>,
) -> Option<Vec<u8>> {
    let places = Places::new(limits);
    let guest = places.arrive([127, 0, 0, 1].into()).place().expect("all places are free");
    let answer = Arc::new(Mutex::new(Vec::new()));
    let said = ScriptedConnection {
        bytes: bytes.to_vec(),
        at: 0,
        piece: piece.max(1),
        looks: LOOKS,
        places,
        answer: Arc::clone(&answer),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("the system gives a runtime");
    let ended = runtime.block_on(async { timeout(PATIENCE, serve(said, guest, answers)).await });
    drop(runtime);
    let answer = Arc::into_inner(answer)?.into_inner().unwrap_or_else(PoisonError::into_inner);
    ended.is_ok().then_some(answer)
}
