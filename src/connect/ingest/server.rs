//! The server: who may send what, and what they are told. One thread serves, another writes the log.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use subtle::ConstantTimeEq;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, oneshot};

use super::log::{Accepted, Batch, Log, Shelf};
use super::{IngestConfig, IngestError};
use crate::connect::text::{MARK, UTF_16, is_utf16};
use crate::engine::failure::guarded;
use crate::sync::{Arc, lock, thread};

/// How long a client has to say what it wants, and how long a connection may be idle.
const HEADER_TIME: Duration = Duration::from_secs(5);

/// The longest head of a request, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// How many headers a request may have.
const MAX_HEADERS: usize = 64;

/// How long to wait when no connection can be taken.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a key may be.
const LONGEST_KEY: usize = 255;

/// What is made durable together is at most about this long, and of so many requests.
const GROUP: (usize, usize) = (8 << 20, 1024);

/// Says what is wrong with a record.
type Check = Arc<dyn Fn(&[u8]) -> Result<(), String> + Send + Sync>;

pub(super) struct Setup {
    pub(super) config: IngestConfig,
    pub(super) check: Check,
}

/// What the writer is to do.
enum Order {
    Append(Batch, oneshot::Sender<Result<Accepted, Arc<IngestError>>>),
    End(oneshot::Sender<Result<(), IngestError>>),
}

pub(super) struct Server {
    address: SocketAddr,
    stop: Arc<Notify>,
    /// Ends the writer when it is gone, and the connections' own with it.
    orders: Option<crossbeam_channel::Sender<Order>>,
    threads: Vec<thread::JoinHandle<()>>,
    dir: std::path::PathBuf,
}

impl Server {
    pub(super) fn start(log: Log, setup: Setup) -> Result<Self, IngestError> {
        let bind = setup.config.address;
        let failed = |source| IngestError::Bind { address: bind, source };
        let socket = std::net::TcpListener::bind(bind).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(failed)?;
        let dir = log.shelf().dir.clone();
        let (orders, taken) = crossbeam_channel::unbounded();
        let desk = Arc::new(Desk { setup, shelf: Arc::clone(log.shelf()), orders: orders.clone() });
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let serve = move || {
            runtime.block_on(async {
                let Ok(listener) = TcpListener::from_std(socket) else { return };
                tokio::spawn(accept(listener, desk));
                stopped.notified().await;
            });
            // What is still connected is dropped with the runtime.
        };
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            thread::Builder::new().name(name.to_owned()).spawn(run)
        };
        let mut server = Self { address, stop, orders: Some(orders), threads: Vec::new(), dir };
        let failed = |source: io::Error| IngestError::Bind { address, source };
        let shelf = Arc::clone(log.shelf());
        let write = Box::new(move || {
            let written = guarded(|| {
                write(log, &taken);
                Ok(())
            });
            // Nothing is accepted any more: who reads must hear of it, or would wait for ever.
            lock(&shelf.extent).broken = written.err().map(|what| what.to_string());
        });
        server.threads.push(spawn("snapline-ingest-log", write).map_err(failed)?);
        server.threads.push(spawn("snapline-ingest", Box::new(serve)).map_err(failed)?);
        Ok(server)
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn finish(&self) -> Result<(), IngestError> {
        let (answer, answered) = oneshot::channel();
        let sent = self.orders.as_ref().is_some_and(|it| it.send(Order::End(answer)).is_ok());
        let gone = || IngestError::Ended { dir: self.dir.clone() };
        if !sent {
            return Err(gone());
        }
        answered.blocking_recv().map_err(|_| gone())?
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.notify_one();
        self.orders = None;
        // The server first: it holds the other end of the writer's orders.
        for thread in self.threads.drain(..).rev() {
            // One that panicked has nothing left to end.
            let _ = thread.join();
        }
    }
}

/// Writes what is asked for, as much as there is at a time.
fn write(mut log: Log, orders: &crossbeam_channel::Receiver<Order>) {
    let mut next = orders.recv().ok();
    while let Some(order) = next.take() {
        let (mut batches, mut answers, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut end = None;
        let mut order = Some(order);
        while let Some(one) = order.take() {
            match one {
                Order::Append(batch, answer) => {
                    bytes += batch.records.iter().map(Vec::len).sum::<usize>();
                    batches.push(batch);
                    answers.push(answer);
                }
                Order::End(answer) => {
                    end = Some(answer);
                    break;
                }
            }
            if bytes < GROUP.0 && batches.len() < GROUP.1 {
                order = orders.try_recv().ok();
            }
        }
        // Who does not want the answer any more has gone away.
        let appended = if batches.is_empty() { Ok(Vec::new()) } else { log.append(batches) };
        match appended {
            Ok(accepted) => answers.into_iter().zip(accepted).for_each(|(answer, accepted)| {
                let _ = answer.send(Ok(accepted));
            }),
            Err(error) => {
                tracing::warn!(%error, "records could not be accepted");
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

/// What all connections share.
struct Desk {
    setup: Setup,
    shelf: Arc<Shelf>,
    orders: crossbeam_channel::Sender<Order>,
}

/// Why a request is refused.
type Refusal = (StatusCode, String);

fn refuse<T>(status: StatusCode, why: impl Into<String>) -> Result<T, Refusal> {
    Err((status, why.into()))
}

/// How a body is divided.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A record a line.
    Lines,
    /// One record.
    Whole,
}

impl Desk {
    async fn serve(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (status, media, body) = match self.try_serve(request).await {
            Ok((first, records)) => {
                let body = format!("{{\"first\":{first},\"records\":{records}}}\n");
                (StatusCode::OK, "application/json", body)
            }
            Err((status, why)) => (status, "text/plain; charset=utf-8", format!("{why}\n")),
        };
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if status == StatusCode::REQUEST_TIMEOUT || status == StatusCode::PAYLOAD_TOO_LARGE {
            // The rest of the body is not waited for.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn try_serve(&self, request: Request<Incoming>) -> Result<(u64, u64), Refusal> {
        let (head, body) = request.into_parts();
        let config = &self.setup.config;
        self.admit(&head.headers)?;
        if head.uri.path() != config.path {
            return refuse(StatusCode::NOT_FOUND, format!("records are sent to {}", config.path));
        }
        if head.method != Method::POST {
            return refuse(StatusCode::METHOD_NOT_ALLOWED, "records are sent with POST");
        }
        let form = form(&head.headers)?;
        let key = key(&head.headers)?;
        let too_long = || {
            (
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("a body has at most {} bytes", config.most_body),
            )
        };
        if body.size_hint().lower() > config.most_body as u64 {
            return Err(too_long());
        }
        if self.shelf.bytes() > config.most_bytes {
            return refuse(
                StatusCode::SERVICE_UNAVAILABLE,
                "the log is as long as it may be; send it again later",
            );
        }
        let body = Limited::new(body, config.most_body).collect();
        let body = match tokio::time::timeout(config.body_time, body).await {
            Err(_) => return refuse(StatusCode::REQUEST_TIMEOUT, "the body took too long"),
            Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(too_long()),
            Ok(Err(_)) => return refuse(StatusCode::BAD_REQUEST, "the body ended before its end"),
            Ok(Ok(body)) => body.to_bytes(),
        };
        let records = self.records(form, &body)?;
        let (answer, answered) = oneshot::channel();
        let sent = self.orders.send(Order::Append(Batch { key, records }, answer));
        let ending = || (StatusCode::SERVICE_UNAVAILABLE, "the server is ending".to_owned());
        sent.map_err(|_| ending())?;
        match answered.await.map_err(|_| ending())? {
            Ok(Accepted::New { first, records } | Accepted::Again { first, records }) => {
                Ok((first, records))
            }
            Ok(Accepted::TooLong) => refuse(
                StatusCode::PAYLOAD_TOO_LARGE,
                "the records are more than the log takes at once",
            ),
            Ok(Accepted::OtherBody) => refuse(
                StatusCode::UNPROCESSABLE_ENTITY,
                "something else was accepted under this idempotency key",
            ),
            Err(error) if matches!(*error, IngestError::Ended { .. }) => {
                refuse(StatusCode::GONE, "nothing more is accepted")
            }
            Err(_) => refuse(
                StatusCode::SERVICE_UNAVAILABLE,
                "the log cannot be written; send it again later",
            ),
        }
    }

    fn admit(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        // A page of a browser says where it is from, whatever name it was reached under; none is to send records unasked.
        if headers.contains_key(header::ORIGIN) {
            return refuse(StatusCode::FORBIDDEN, "pages of browsers may not send records");
        }
        let Some(token) = &self.setup.config.token else { return Ok(()) };
        let said = headers.get(header::AUTHORIZATION).map_or(&b""[..], HeaderValue::as_bytes);
        let said = said.strip_prefix(b"Bearer ").unwrap_or_default();
        // How long this takes does not tell how much of the token was right.
        match bool::from(said.ct_eq(token.as_bytes())) {
            true => Ok(()),
            false => refuse(StatusCode::UNAUTHORIZED, "the bearer token is missing or wrong"),
        }
    }

    /// The records of a body, if all of them are.
    fn records(&self, form: Form, body: &[u8]) -> Result<Vec<Vec<u8>>, Refusal> {
        let mut records = Vec::new();
        if is_utf16(body) {
            return refuse(StatusCode::BAD_REQUEST, UTF_16);
        }
        // A mark of byte order is none of the first record.
        let body = body.strip_prefix(MARK).unwrap_or(body);
        let lines = match form {
            Form::Whole => vec![body],
            Form::Lines => body.split(|&byte| byte == b'\n').collect(),
        };
        for (number, line) in lines.into_iter().enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() && form == Form::Lines {
                continue;
            }
            if let Err(why) = (self.setup.check)(line) {
                let why = format!("line {}: {why}", number + 1);
                return refuse(StatusCode::BAD_REQUEST, why);
            }
            records.push(line.to_vec());
        }
        match records.is_empty() {
            true => refuse(StatusCode::BAD_REQUEST, "there is no record in the body"),
            false => Ok(records),
        }
    }
}

fn form(headers: &HeaderMap) -> Result<Form, Refusal> {
    let media = headers.get(header::CONTENT_TYPE).map_or(&b"text/plain"[..], HeaderValue::as_bytes);
    let media = media.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    match media.to_ascii_lowercase().as_slice() {
        b"application/json" => Ok(Form::Whole),
        b"text/plain" | b"application/x-ndjson" | b"application/jsonl" => Ok(Form::Lines),
        _ => refuse(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "a body is text/plain or application/x-ndjson, a record a line, or application/json, one record",
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
                "an idempotency key is one header of 1 to {LONGEST_KEY} visible ASCII characters"
            ),
        ),
    }
}

async fn accept(listener: TcpListener, desk: Arc<Desk>) {
    let places = Arc::new(Semaphore::new(desk.setup.config.most_connections.max(1)));
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let desk = Arc::clone(&desk);
                tokio::spawn(async move {
                    // A client that goes away, or takes too long, is its own business.
                    let _ = connection(stream, desk).await;
                    drop(place);
                });
            }
            // The process has no file left for it, or it went away while it waited.
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn connection(stream: TcpStream, desk: Arc<Desk>) -> hyper::Result<()> {
    // Answers are short, and a client waits for them.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let desk = &desk;
        async move { Ok::<_, Infallible>(desk.serve(request).await) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        // Also between two requests of one connection.
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service)
        .await
}
