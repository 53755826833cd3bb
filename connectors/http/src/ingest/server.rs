//! The server: which requests are accepted, and their responses. One thread serves, another writes
//! the log.
//!
//! The memory for bodies is bounded in bytes, from before the first byte of a body is read until
//! its records are in the log. A body is divided into records only when they are written. Short
//! lines take more memory as records than as text, so few bodies are divided at a time.
//!
//! Longer than 500 lines: what a request may be, in one place, with its test.

use std::future;
use std::io::Read;
use std::net::SocketAddr;
use std::time::Duration;

use flate2::bufread::MultiGzDecoder;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use subtle::ConstantTimeEq;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::log::{Accepted, Log, LogBatch, Shelf};
use super::{IngestConfig, IngestError};
use crate::listener::{Answers, Bound, Guest, Limits, Listener, Refusal, fits, too_long};
use snapline_core::base::panic::guarded;
use snapline_core::base::sync::{Arc, thread};
use snapline_core::connect::text::{MARK, UTF_16, is_utf16};

/// The greatest length of a key.
const LONGEST_KEY: usize = 255;

/// The approximate greatest number of bytes, and the greatest number of requests, that are made
/// durable together.
const GROUP: (usize, usize) = (8 << 20, 1024);

/// The memory that a record takes beside its bytes.
const RECORD: usize = 64;

/// How long the log may take for the bodies in memory.
const LOG_TIME: Duration = Duration::from_secs(60);

/// How often stalled bodies are looked for, while memory is waited for.
const LOOK: Duration = Duration::from_secs(1);

/// A shorter body is checked at once, between two others.
const SHORT: usize = 64 << 10;

/// Memory is counted in pieces of this many bytes.
const PIECE: usize = 1 << 10;

/// Returns what is wrong with a record.
type RecordCheck = Arc<dyn Fn(&[u8]) -> Result<(), String> + Send + Sync>;

pub(super) struct ServerSetup {
    pub(super) config: IngestConfig,
    pub(super) check: RecordCheck,
}

/// A request's records, undivided.
pub(super) struct Came {
    key: Option<String>,
    form: Form,
    body: Vec<u8>,
    /// The number of records.
    records: usize,
    /// Its share of the memory for bodies.
    _room: OwnedSemaphorePermit,
}

/// An order to the writer.
pub(super) enum WriterCommand {
    Append(Came, oneshot::Sender<Result<Accepted, Arc<IngestError>>>),
    End(oneshot::Sender<Result<(), IngestError>>),
}

pub(super) struct Server {
    address: SocketAddr,
    /// When dropped, it ends the writer, once the connections' senders are dropped too.
    orders: Option<crossbeam_channel::Sender<WriterCommand>>,
    listener: Option<Listener>,
    writer: Option<thread::JoinHandle<()>>,
    dir: std::path::PathBuf,
}

impl Server {
    pub(super) fn start(log: Log, setup: ServerSetup) -> Result<Self, IngestError> {
        let bind = setup.config.address;
        let failed = |source| IngestError::Bind { address: bind, source };
        let bound = Bound::new(bind).map_err(failed)?;
        let address = bound.address;
        let dir = log.shelf().dir.clone();
        let (orders, taken) = crossbeam_channel::unbounded();
        let limits = limits(&setup.config);
        let desk = RequestHandler::new(setup, &log, orders.clone());
        let writer = thread::Builder::new().name("snapline-ingest-log".to_owned());
        let read = Arc::clone(log.shelf());
        let write = move || {
            let written = guarded(|| {
                write(log, &taken);
                Ok(())
            });
            if let Err(what) = written {
                read.breaks(&format!("the thread that writes the log {what}"));
            }
        };
        let writer = writer.spawn(write).map_err(failed)?;
        let mut server =
            Self { address, orders: Some(orders), listener: None, writer: Some(writer), dir };
        let (beside, read) = (future::ready(()), Arc::clone(&desk.shelf));
        let ended = move |what: String| read.breaks(&format!("the server {what}"));
        let desk = Arc::new(desk);
        let listener = Listener::start("snapline-ingest", bound, limits, desk, beside, ended);
        server.listener = Some(listener.map_err(failed)?);
        Ok(server)
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn finish(&self) -> Result<(), IngestError> {
        let (answer, answered) = oneshot::channel();
        let sent =
            self.orders.as_ref().is_some_and(|it| it.send(WriterCommand::End(answer)).is_ok());
        let gone = || IngestError::Ended { dir: self.dir.clone() };
        if !sent {
            return Err(gone());
        }
        answered.blocking_recv().map_err(|_| gone())?
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The listener first: it holds other senders of the writer's orders.
        self.listener = None;
        self.orders = None;
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has nothing left to end.
            let _ = writer.join();
        }
    }
}

pub(super) fn limits(config: &IngestConfig) -> Limits {
    Limits {
        connections: config.most_connections,
        // For room in memory, for the body, and for the log.
        request_time: config.body_timeout.saturating_mul(2).saturating_add(LOG_TIME),
        keep_alive: true,
    }
}

/// Writes the requested batches, all that are waiting at a time.
pub(super) fn write(mut log: Log, orders: &crossbeam_channel::Receiver<WriterCommand>) {
    let mut next = orders.recv().ok();
    while let Some(order) = next.take() {
        let (mut batches, mut answers, mut rooms) = (Vec::new(), Vec::new(), Vec::new());
        let (mut bytes, mut end) = (0, None);
        let mut order = Some(order);
        while let Some(one) = order.take() {
            match one {
                WriterCommand::Append(came, answer) => {
                    bytes += came.body.len() + came.records * RECORD;
                    batches.push(came.batch());
                    rooms.push(came._room);
                    answers.push(answer);
                }
                WriterCommand::End(answer) => {
                    end = Some(answer);
                    break;
                }
            }
            if bytes < GROUP.0 && batches.len() < GROUP.1 {
                order = orders.try_recv().ok();
            }
        }
        // The receiver of a response may have gone away.
        let appended = if batches.is_empty() { Ok(Vec::new()) } else { log.append(batches) };
        drop(rooms);
        match appended {
            Ok(accepted) => answers.into_iter().zip(accepted).for_each(|(answer, accepted)| {
                let _ = answer.send(Ok(accepted));
            }),
            Err(error) => {
                tracing::warn!(%error, "cannot accept records");
                let error = Arc::new(error);
                answers.into_iter().for_each(|answer| {
                    let _ = answer.send(Err(Arc::clone(&error)));
                });
            }
        }
        if let Some(answer) = end {
            let _ = answer.send(log.end());
        }
        next = orders.recv().ok();
    }
}

/// The memory for all bodies together.
struct Memory {
    pieces: Arc<Semaphore>,
    all: u32,
}

impl Memory {
    fn new(config: &IngestConfig) -> Self {
        // One body has room, with its decoded form.
        let all = pieces(config.most_in_memory.max(config.max_body_bytes.saturating_mul(2)));
        Self { pieces: Arc::new(Semaphore::new(all as usize)), all }
    }

    /// Waits until this many bytes are free; stalled requests that hold some are closed.
    async fn room(
        &self,
        bytes: usize,
        time: Duration,
        guest: &Guest,
    ) -> Result<OwnedSemaphorePermit, Refusal> {
        let free = Arc::clone(&self.pieces).acquire_many_owned(pieces(bytes).min(self.all));
        let waited = tokio::time::timeout(time, async {
            let mut free = std::pin::pin!(free);
            loop {
                match tokio::time::timeout(LOOK, free.as_mut()).await {
                    Ok(room) => return room,
                    Err(_) => guest.make_room(),
                }
            }
        });
        // The semaphore is never closed.
        let busy = || {
            let why = "too much is being sent at once; retry later";
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why)
        };
        waited.await.ok().and_then(Result::ok).ok_or_else(busy)
    }
}

fn pieces(bytes: usize) -> u32 {
    // The greatest number of permits that a semaphore has, and that can be requested.
    let most = Semaphore::MAX_PERMITS.min(u32::MAX as usize);
    u32::try_from(bytes.div_ceil(PIECE).min(most)).unwrap_or(u32::MAX)
}

/// State that all connections share.
pub(super) struct RequestHandler {
    setup: ServerSetup,
    shelf: Arc<Shelf>,
    orders: crossbeam_channel::Sender<WriterCommand>,
    memory: Memory,
}

fn refuse<T>(
    status: StatusCode,
    why: impl Into<std::borrow::Cow<'static, str>>,
) -> Result<T, Refusal> {
    Err(Refusal::new(status, why))
}

/// The division of a body.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// One record per line.
    Lines,
    /// One record.
    Whole,
}

impl Form {
    /// The records of a body, with the numbers of their lines. A byte order mark belongs to none of
    /// them.
    fn records(self, body: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
        let body = body.strip_prefix(MARK).unwrap_or(body);
        let lines = self == Self::Lines;
        let pieces = body.split(move |&byte| lines && byte == b'\n').zip(1..);
        let pieces = pieces.map(|(piece, line)| (line, piece.strip_suffix(b"\r").unwrap_or(piece)));
        pieces.filter(move |(_, piece)| !(lines && piece.is_empty()))
    }
}

impl Came {
    fn batch(&self) -> LogBatch {
        let records = self.form.records(&self.body).map(|(_, record)| record.to_vec());
        LogBatch { key: self.key.clone(), records: records.collect() }
    }
}

impl Answers for RequestHandler {
    async fn answer(
        &self,
        request: Request<Incoming>,
        guest: &Guest,
    ) -> Result<Response<Full<Bytes>>, Refusal> {
        let (first, records) = self.accept(request, guest).await?;
        let said = format!("{{\"first\":{first},\"records\":{records}}}\n");
        let mut response = Response::new(Full::new(Bytes::from(said)));
        let media = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, media);
        Ok(response)
    }

    fn dress(&self, headers: &mut HeaderMap) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}

impl RequestHandler {
    pub(super) fn new(
        setup: ServerSetup,
        log: &Log,
        orders: crossbeam_channel::Sender<WriterCommand>,
    ) -> Self {
        let (shelf, memory) = (Arc::clone(log.shelf()), Memory::new(&setup.config));
        Self { setup, shelf, orders, memory }
    }

    async fn accept(
        &self,
        request: Request<Incoming>,
        guest: &Guest,
    ) -> Result<(u64, u64), Refusal> {
        let (head, body) = request.into_parts();
        let config = &self.setup.config;
        self.admit(&head.headers)?;
        // Byte for byte: nothing in a path is decoded, and a trailing slash makes another path.
        if head.uri.path() != config.path {
            return refuse(
                StatusCode::NOT_FOUND,
                format!("no such path; send records to {}", config.path),
            );
        }
        if head.method != Method::POST {
            return Err(Refusal::method("POST"));
        }
        let (form, ascii) = form(&head.headers)?;
        let gzip = is_gzip(&head.headers)?;
        let key = key(&head.headers)?;
        let (said, most) = (fits(&body, config.max_body_bytes)?, config.max_body_bytes);
        if self.shelf.bytes() > config.most_bytes {
            return refuse(
                StatusCode::SERVICE_UNAVAILABLE,
                "the log has reached its size limit; retry later",
            );
        }
        // A body of unknown length counts with the greatest length.
        let known = body_is_known(&head.headers);
        let bytes = if known { said } else { most } + if gzip { most } else { 0 };
        let room = self.memory.room(bytes, config.body_timeout, guest).await?;
        let body = guest.body(body, most, config.body_timeout).await?;
        let check = Arc::clone(&self.setup.check);
        // With its room: a body stays in memory though its client goes away.
        let look = move || (look(form, ascii, gzip, body, most, &check), room);
        let (looked, room) = match said < SHORT && known && !gzip {
            true => look(),
            // Others must not wait for it.
            false => match tokio::task::spawn_blocking(look).await {
                Ok(looked) => looked,
                Err(_) => {
                    return refuse(StatusCode::SERVICE_UNAVAILABLE, "the server is shutting down");
                }
            },
        };
        let (body, records) = looked?;
        let (answer, answered) = oneshot::channel();
        let came = Came { key, form, body, records, _room: room };
        let sent = self.orders.send(WriterCommand::Append(came, answer));
        let ending =
            || Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the server is shutting down");
        sent.map_err(|_| ending())?;
        match answered.await.map_err(|_| ending())? {
            Ok(Accepted::New { first, records } | Accepted::Again { first, records }) => {
                Ok((first, records))
            }
            Ok(Accepted::OtherBody) => refuse(
                StatusCode::UNPROCESSABLE_ENTITY,
                "another body was already accepted under this idempotency key",
            ),
            Ok(Accepted::TooLong) => refuse(
                StatusCode::PAYLOAD_TOO_LARGE,
                "the records are longer than the log accepts in one request; send fewer",
            ),
            Err(error) if matches!(*error, IngestError::Ended { .. }) => {
                refuse(StatusCode::GONE, "the log is finished and accepts no more records")
            }
            Err(_) => {
                refuse(StatusCode::SERVICE_UNAVAILABLE, "the log cannot be written; retry later")
            }
        }
    }

    fn admit(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        // A browser page sends its origin, by whatever name it was reached; no page may send
        // records unasked.
        if headers.contains_key(header::ORIGIN) {
            return refuse(StatusCode::FORBIDDEN, "web pages may not send records");
        }
        let Some(token) = &self.setup.config.token else { return Ok(()) };
        let mut said = headers.get_all(header::AUTHORIZATION).iter();
        let token = match (said.next().map(HeaderValue::as_bytes), said.next()) {
            (Some(said), None) => said.split_at_checked(7).filter(|(scheme, said)| {
                // The time this takes does not reveal how much of the token was right.
                scheme.eq_ignore_ascii_case(b"bearer ") && bool::from(said.ct_eq(token.as_bytes()))
            }),
            _ => None,
        };
        match token {
            Some(_) => Ok(()),
            None => refuse(StatusCode::UNAUTHORIZED, "the bearer token is missing or wrong"),
        }
    }
}

/// Decodes a body if needed, and checks all its records; returns how many there are.
fn look(
    form: Form,
    ascii: bool,
    gzip: bool,
    body: Vec<u8>,
    most: usize,
    check: &RecordCheck,
) -> Result<(Vec<u8>, usize), Refusal> {
    let body = if gzip { decoded(&body, most)? } else { body };
    if is_utf16(&body) {
        return refuse(StatusCode::BAD_REQUEST, UTF_16);
    }
    if ascii && !body.is_ascii() {
        return refuse(
            StatusCode::BAD_REQUEST,
            "the body is declared as US-ASCII, and has other bytes",
        );
    }
    let mut records = 0;
    for (line, record) in form.records(&body) {
        // The check runs users' code: serde's decoding of a record.
        let checked = guarded(|| Ok(check(record))).unwrap_or_else(|error| Err(error.to_string()));
        if let Err(why) = checked {
            return refuse(StatusCode::BAD_REQUEST, format!("line {line}: {why}"));
        }
        records += 1;
    }
    match records {
        0 => refuse(StatusCode::BAD_REQUEST, "there is no record in the body"),
        _ => Ok((body, records)),
    }
}

fn decoded(body: &[u8], most: usize) -> Result<Vec<u8>, Refusal> {
    // As much as is counted for it: it grows no further.
    let mut decoded = Vec::with_capacity(most + 1);
    let mut decoder = MultiGzDecoder::new(body).take(most as u64 + 1);
    match decoder.read_to_end(&mut decoded) {
        Ok(bytes) if bytes > most => Err(too_long(most)),
        Ok(_) => Ok(decoded),
        Err(error) => refuse(StatusCode::BAD_REQUEST, format!("the body is not gzip: {error}")),
    }
}

/// True if the length of the body is known.
fn body_is_known(headers: &HeaderMap) -> bool {
    !headers.contains_key(header::TRANSFER_ENCODING)
}

/// True if a body is compressed with gzip.
fn is_gzip(headers: &HeaderMap) -> Result<bool, Refusal> {
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    let encoding = encodings.next().map(|it| it.as_bytes().to_ascii_lowercase());
    match (encoding.as_deref(), encodings.next()) {
        (None | Some(b"identity"), None) => Ok(false),
        (Some(b"gzip" | b"x-gzip"), None) => Ok(true),
        _ => {
            let why = "the content encoding is not supported; encode the body once with gzip, or \
                       not at all";
            let refusal = Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, why);
            Err(refusal.with(header::ACCEPT_ENCODING, "gzip, identity"))
        }
    }
}

/// The division of a body, and true if it claims to be US-ASCII.
fn form(headers: &HeaderMap) -> Result<(Form, bool), Refusal> {
    let unknown = "the content type is not supported; send text/plain or application/x-ndjson with \
                   one record per line, or application/json with one record";
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let media = types.next().map_or(&b"text/plain"[..], HeaderValue::as_bytes);
    if types.next().is_some() {
        return refuse(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the request has more than one Content-Type header; send one",
        );
    }
    let media = media.to_ascii_lowercase();
    let mut parts = media.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
    let form = match parts.next().unwrap_or_default() {
        b"application/json" => Form::Whole,
        b"text/plain" | b"application/x-ndjson" | b"application/jsonl" => Form::Lines,
        _ => return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, unknown),
    };
    let mut charsets = parts.filter_map(|part| part.strip_prefix(b"charset="));
    let charset = charsets.next().unwrap_or(b"utf-8");
    let charset =
        charset.strip_prefix(b"\"").and_then(|it| it.strip_suffix(b"\"")).unwrap_or(charset);
    match (charset, charsets.next()) {
        (b"utf-8" | b"utf8", None) => Ok((form, false)),
        (b"us-ascii" | b"ascii", None) => Ok((form, true)),
        _ => refuse(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the charset is not supported; send UTF-8 or US-ASCII",
        ),
    }
}

fn key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let mut keys = headers.get_all("idempotency-key").iter();
    let Some(key) = keys.next() else { return Ok(None) };
    match key.to_str() {
        Ok(key) if !key.is_empty() && key.len() <= LONGEST_KEY && keys.next().is_none() => {
            Ok(Some(key.to_owned()))
        }
        _ => refuse(
            StatusCode::BAD_REQUEST,
            format!(
                "an idempotency key must be one header of 1 to {LONGEST_KEY} visible ASCII \
                 characters"
            ),
        ),
    }
}

#[cfg(all(test, not(snapline_loom)))]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    #[test]
    fn what_is_decoded_takes_no_more_than_is_counted() {
        let gzip = |length: usize| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(&vec![b'x'; length]).expect("a vector");
            encoder.finish().expect("a vector")
        };
        for length in [0, 1, 60_000, 99_999, 100_000] {
            let decoded = decoded(&gzip(length), 100_000).expect("it is short enough");
            assert_eq!(decoded.len(), length);
            assert!(decoded.capacity() <= 100_001, "{length}: {}", decoded.capacity());
        }
        assert!(decoded(&gzip(100_001), 100_000).is_err());
    }
}
