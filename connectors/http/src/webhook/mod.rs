//! A sink that sends each record to an HTTP server.
//!
//! ```text
//!   write    the record's request is made
//!   close    the requests are the committable: they are in the checkpoint, and nowhere else
//!   commit   they are sent, one after the other; after a crash the whole transaction is sent
//!            again, under the same keys
//! ```
//!
//! Longer than 500 lines: what is written and what is sent are two ends of one contract.

mod address;
mod error;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant, SystemTime};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{self, HeaderValue};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use snapline_protocol::committer::CommitOutcome;
use snapline_protocol::ids::{Attempt, TxnId};
use tokio::net::TcpStream;

use self::address::Receiver;
pub use self::error::{RefusedRequest, WebhookError};
use snapline_core::base::error::{BoxError, Whole};
use snapline_core::base::sync::Arc;
use snapline_core::base::watch;
use snapline_core::connect::json::{self, NotJson};
use snapline_core::connect::{
    CommitGrant, ConnectorError, Delivery, OpenContext, SinkCommitter, SinkWriter, TwoPhaseSink,
    classify_as,
};

/// The longest response body that is read to its end. After a longer one the next request has a new
/// connection.
const LONGEST: usize = 1 << 20;

/// The longest pause: a receiver that asks for a longer one is retried after this.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// The handling of refused requests.
type RefusedRule = Arc<dyn Fn(&RefusedRequest) -> Result<(), BoxError> + Send + Sync>;

/// Sends each record as JSON, by `POST`, when its checkpoint is complete. It has an
/// `Idempotency-Key` of its own, the same for every retry. Records of one subtask are sent one
/// after the other, in order.
///
/// On the wire it is at least once: after a crash between a response and its record, the request is
/// sent again. A receiver that handles each key once makes the effect exactly once; declare it with
/// [`Self::receiver_deduplicates`].
///
/// | response | effect |
/// |---|---|
/// | answers with 2xx, whatever its body | the next request is sent |
/// | answers with 5xx, 408, 425 or 429; not in time; not at all | the same is sent again, with growing pauses, until there is a final response; not before the time of a `Retry-After`, of at most ten minutes |
/// | answers with anything else | the task fails, and meets it again; [`Self::refused`] |
///
/// A record with NaN or an infinity, for which JSON has no number, fails the task with
/// [`WebhookError::Encode`], which names the field.
///
/// An unsent request never becomes too old to be sent. But a receiver that forgets keys repeats
/// what it has forgotten. It should remember keys for longer than a job may stand still after a
/// checkpoint and be restarted.
///
/// Requests that are not sent yet are in checkpoints, and nowhere else: nothing is prepared at the
/// receiver, and no attempt is fenced off there. A replaced process that still lives may send the
/// same requests as its successor. There is no TLS. To reach a receiver elsewhere, send to a TLS
/// tunnel on this machine, such as `stunnel` as a client. Give the receiver's name as a `Host`
/// header if it asks for it.
///
/// ```
/// use snapline::connect::WebhookSink;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let alarms = WebhookSink::<(u64, String)>::new("http://127.0.0.1:9000/alarms")?
///     .header("Authorization", "Bearer s3cret")?
///     .receiver_deduplicates();
/// # let _ = alarms;
/// # Ok(())
/// # }
/// ```
pub struct WebhookSink<T> {
    receiver: Arc<Receiver>,
    delivery: Delivery,
    timeout: Duration,
    most_bytes: usize,
    refused: Option<RefusedRule>,
    takes: PhantomData<fn(T)>,
}

impl<T> Clone for WebhookSink<T> {
    fn clone(&self) -> Self {
        Self { receiver: Arc::clone(&self.receiver), refused: self.refused.clone(), ..*self }
    }
}

impl<T> fmt::Debug for WebhookSink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the headers, which may hold secrets.
        f.debug_struct("WebhookSink").field("url", &self.receiver.shown).finish_non_exhaustive()
    }
}

/// A name with only characters that a key may have, where no two names become one.
fn plain(name: &str) -> String {
    let mut plain = String::new();
    for byte in name.bytes() {
        match byte {
            b'-' | b'_' | b'.' => plain.push(byte.into()),
            byte if byte.is_ascii_alphanumeric() => plain.push(byte.into()),
            byte => plain.push_str(&format!("%{byte:02X}")),
        }
    }
    plain
}

impl<T> WebhookSink<T> {
    /// A sink that sends to this address: `http://[user:password@]host[:port]/path`. A user and
    /// password are sent as `Authorization: Basic`. They, and the query after a `?`, appear in no
    /// log, error or status; other secrets belong in a [header](Self::header).
    ///
    /// # Errors
    /// If the address has another form, or would be sent as another: with a space, a fragment, or a
    /// character that is not ASCII.
    pub fn new(url: &str) -> Result<Self, WebhookError> {
        let receiver = Receiver::new(url)?;
        Ok(Self {
            receiver: Arc::new(receiver),
            delivery: Delivery::AtLeastOnce,
            timeout: Duration::from_secs(10),
            most_bytes: 64 << 20,
            refused: None,
            takes: PhantomData,
        })
    }

    /// Sends this header with every request. Its value appears in no log, error or status. `Host`
    /// replaces the address's own, and `Content-Type` replaces `application/json`.
    ///
    /// # Errors
    /// - The header cannot be sent.
    /// - It frames a request, such as `Content-Length`, `Transfer-Encoding` or `Connection`, or the
    ///   sink sends it itself.
    /// - It was given before.
    /// - It is an `Authorization` without credentials.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, WebhookError> {
        let mut receiver = Receiver::clone(&self.receiver);
        receiver.header(name, value)?;
        self.receiver = Arc::new(receiver);
        Ok(self)
    }

    /// Declares that the receiver handles requests under one `Idempotency-Key` once, however often
    /// they come. The job is then exactly once in effect, and otherwise at least once.
    #[must_use]
    pub fn receiver_deduplicates(self) -> Self {
        Self { delivery: Delivery::Idempotent, ..self }
    }

    /// How long to wait for a response; 10 s by default.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The number of bytes of requests that a subtask may have between two checkpoints; 64 MiB by
    /// default. One more fails the task.
    #[must_use]
    pub fn most_bytes(self, bytes: usize) -> Self {
        Self { most_bytes: bytes, ..self }
    }

    /// Handles a request that the receiver refuses for good, before the next is sent: it may write
    /// it to a file. It may be called again for the same one. An error fails the task.
    #[must_use]
    pub fn refused(
        self,
        rule: impl Fn(&RefusedRequest) -> Result<(), BoxError> + Send + Sync + 'static,
    ) -> Self {
        Self { refused: Some(Arc::new(rule)), ..self }
    }
}

impl<T: Serialize + Send + 'static> TwoPhaseSink for WebhookSink<T> {
    type Record = T;
    type Committable = WebhookCommittable;
    type Writer = WebhookWriter<T>;
    type Committer = WebhookCommitter;

    fn classify<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a dyn ConnectorError> {
        classify_as::<WebhookError>(error)
    }

    fn open(
        &self,
        context: &OpenContext,
    ) -> Result<(WebhookWriter<T>, WebhookCommitter), BoxError> {
        let OpenContext { job, operator, index, .. } = context;
        let writer = WebhookWriter {
            operator: operator.clone(),
            key: format!("{}/{}/{index}", plain(job), plain(operator)),
            most_bytes: self.most_bytes,
            bodies: Vec::new(),
            records: 0,
            bytes: 0,
            written: 0,
            takes: PhantomData,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let committer = WebhookCommitter {
            receiver: Arc::clone(&self.receiver),
            timeout: self.timeout,
            refused: self.refused.clone(),
            runtime: runtime.map_err(WebhookError::Io)?,
            connection: None,
            trouble: None,
            sent: BTreeMap::new(),
            not_before: None,
        };
        Ok((writer, committer))
    }

    fn delivery(&self) -> Delivery {
        self.delivery
    }
}

/// A closed transaction of a [`WebhookSink`]: its requests.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WebhookCommittable {
    /// The prefix of its requests' keys.
    key: String,
    bodies: Vec<String>,
}

impl WebhookCommittable {
    /// The bodies of its requests, in order.
    #[must_use]
    pub fn bodies(&self) -> &[String] {
        &self.bodies
    }
}

/// Makes one subtask's requests for a [`WebhookSink`].
pub struct WebhookWriter<T> {
    operator: String,
    key: String,
    most_bytes: usize,
    bodies: Vec<String>,
    /// The number of records written, in all transactions.
    records: u64,
    /// Bytes of this transaction.
    bytes: usize,
    /// Bytes of all transactions.
    written: u64,
    takes: PhantomData<fn(T)>,
}

impl<T: Serialize + Send + 'static> SinkWriter for WebhookWriter<T> {
    type Record = T;
    type Committable = WebhookCommittable;

    fn write(&mut self, records: &mut Vec<T>) -> Result<(), BoxError> {
        for record in records.drain(..) {
            self.records += 1;
            let mut body = Vec::new();
            json::write(&record, &mut body).map_err(|NotJson { field, why }| {
                let field = field.map_or(String::new(), |field| format!("field `{field}`: "));
                WebhookError::Encode { why: format!("record {}: {field}{why}", self.records) }
            })?;
            let body = String::from_utf8(body).expect("JSON is UTF-8");
            self.bytes += body.len();
            self.written += body.len() as u64;
            if self.bytes > self.most_bytes {
                let (operator, limit) = (self.operator.clone(), self.most_bytes);
                return Err(WebhookError::TooMuch { operator, limit }.into());
            }
            self.bodies.push(body);
        }
        Ok(())
    }

    fn close(&mut self, txn: TxnId) -> Result<WebhookCommittable, BoxError> {
        self.bytes = 0;
        // A transaction's name is used only once (SPEC 3.3), and so is the key.
        let TxnId { checkpoint, attempt: Attempt { term, number }, .. } = txn;
        let key = format!("{}/{}-{}-{}", self.key, term.get(), number, checkpoint.get());
        Ok(WebhookCommittable { key, bodies: std::mem::take(&mut self.bodies) })
    }

    fn bytes_written(&self) -> Option<u64> {
        Some(self.written)
    }
}

/// Sends one subtask's requests for a [`WebhookSink`].
pub struct WebhookCommitter {
    receiver: Arc<Receiver>,
    timeout: Duration,
    refused: Option<RefusedRule>,
    runtime: tokio::runtime::Runtime,
    connection: Option<SendRequest<Full<Bytes>>>,
    /// Why the last request is to be sent again.
    trouble: Option<String>,
    /// The number of requests of each transaction with a final response.
    sent: BTreeMap<TxnId, usize>,
    /// The time before which the receiver wants no request.
    not_before: Option<Instant>,
}

impl fmt::Debug for WebhookCommitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookCommitter")
            .field("url", &self.receiver.shown)
            .finish_non_exhaustive()
    }
}

impl SinkCommitter for WebhookCommitter {
    type Committable = WebhookCommittable;

    fn fence(&mut self, _: Attempt) -> Result<Vec<(TxnId, WebhookCommittable)>, BoxError> {
        // Requests outside of a checkpoint do not exist.
        Ok(Vec::new())
    }

    fn trouble(&self) -> Option<String> {
        self.trouble.clone()
    }

    fn prepare(&mut self, _: TxnId, _: &WebhookCommittable) -> Result<(), BoxError> {
        Ok(())
    }

    fn commit(
        &mut self,
        grant: CommitGrant,
        committable: &WebhookCommittable,
    ) -> Result<CommitOutcome, BoxError> {
        let txn = grant.txn();
        let done = self.sent.get(&txn).copied().unwrap_or(0);
        if self.not_before.is_some_and(|time| Instant::now() < time) {
            return Ok(CommitOutcome::Retry);
        }
        for (number, body) in committable.bodies.iter().enumerate().skip(done) {
            let key = format!("{}/{number}", committable.key);
            match self.send(&key, body) {
                Ok(ReceiverResponse { status, .. }) if status.is_success() => {}
                Ok(ReceiverResponse { status, said, pause }) if may_pass(status) => {
                    self.not_before = pause.map(|pause| Instant::now() + pause);
                    tracing::warn!(
                        url = %self.receiver.shown, key, %status, said, ?pause,
                        "a request was not accepted yet"
                    );
                    self.trouble =
                        Some(format!("{} answered {status}: {said}", self.receiver.shown));
                    return Ok(CommitOutcome::Retry);
                }
                Ok(ReceiverResponse { status, said, .. }) => {
                    self.give_up(key, body, status.as_u16(), said)?;
                }
                Err(error) => {
                    self.connection = None;
                    let error = Whole(&*error);
                    tracing::warn!(
                        url = %self.receiver.shown, key, %error,
                        "it is unknown whether a request was accepted"
                    );
                    self.trouble = Some(format!("{}: {error}", self.receiver.shown));
                    return Ok(CommitOutcome::Unknown);
                }
            }
            self.sent.insert(txn, number + 1);
            // A long send is progress.
            watch::beat();
        }
        // Commits go in order (SPEC 6.6): earlier ones are not asked for any more, but this one may
        // be.
        let before = self.sent.contains_key(&txn) && done == committable.bodies.len();
        self.sent.retain(|other, _| *other >= txn);
        self.sent.insert(txn, committable.bodies.len());
        Ok(if before { CommitOutcome::AlreadyCommitted } else { CommitOutcome::Committed })
    }

    fn roll_back(&mut self, _: TxnId, _: &WebhookCommittable) -> Result<(), BoxError> {
        Ok(())
    }
}

/// True if the same request may be accepted later.
fn may_pass(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429)
}

/// A receiver's response.
struct ReceiverResponse {
    status: StatusCode,
    /// The beginning of its body.
    said: String,
    /// The pause that it asks for.
    pause: Option<Duration>,
}

/// The pause that a receiver asks for: in seconds, or until a date, which is compared with its own.
fn pause(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|it| it.to_str().ok()).map(str::trim);
    let date = |text: &str| httpdate::parse_http_date(text).ok();
    let asked = text(header::RETRY_AFTER)?;
    let pause = match asked.bytes().all(|byte| byte.is_ascii_digit()) && !asked.is_empty() {
        // A number too large to parse is longer than any.
        true => Duration::from_secs(asked.parse().unwrap_or(u64::MAX)),
        false => {
            let now = text(header::DATE).and_then(date).unwrap_or(now);
            date(asked)?.duration_since(now).unwrap_or_default()
        }
    };
    Some(pause.min(LONGEST_PAUSE)).filter(|pause| !pause.is_zero())
}

impl WebhookCommitter {
    fn give_up(&self, key: String, body: &str, status: u16, said: String) -> Result<(), BoxError> {
        let Some(rule) = &self.refused else {
            let url = self.receiver.shown.clone();
            return Err(WebhookError::Refused { url, key, status, said }.into());
        };
        rule(&RefusedRequest { key, body: body.into(), status, said })
    }

    /// Sends a request; `Err` if its outcome is unknown.
    fn send(&mut self, key: &str, body: &str) -> Result<ReceiverResponse, BoxError> {
        let Self { receiver, timeout, runtime, connection, .. } = self;
        let late = |_| BoxError::from(format!("no answer came within {timeout:?}"));
        runtime.block_on(async {
            let exchange = exchange(receiver, connection.take(), key, body);
            let (sender, response) =
                tokio::time::timeout(*timeout, exchange).await.map_err(late)??;
            let status = response.status();
            let pause = pause(response.headers(), SystemTime::now());
            // The response is known. Its body is for people; the connection can be reused if the
            // body has come whole.
            let body = Limited::new(response.into_body(), LONGEST).collect();
            let said = match tokio::time::timeout(*timeout, body).await {
                Ok(Ok(body)) => {
                    *connection = Some(sender);
                    let body = body.to_bytes();
                    receiver.excerpt(&body)
                }
                Ok(Err(error)) => format!("(its body could not be read: {error})"),
                Err(_) => "(its body did not end)".to_owned(),
            };
            Ok(ReceiverResponse { status, said, pause })
        })
    }
}

async fn exchange(
    receiver: &Receiver,
    mut open: Option<SendRequest<Full<Bytes>>>,
    key: &str,
    body: &str,
) -> Result<(SendRequest<Full<Bytes>>, Response<Incoming>), BoxError> {
    // A connection closed meanwhile is found before anything is sent on it.
    if let Some(sender) = &mut open
        && sender.ready().await.is_err()
    {
        open = None;
    }
    let mut sender = match open {
        Some(sender) => sender,
        None => connect(receiver).await?,
    };
    let mut request = Request::new(Full::new(Bytes::from(body.to_owned())));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = receiver.target.clone();
    let headers = request.headers_mut();
    headers.insert(header::HOST, receiver.host.clone());
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in &receiver.headers {
        headers.insert(name, value.clone());
    }
    headers.insert("idempotency-key", HeaderValue::from_str(key)?);
    let response = sender.send_request(request).await?;
    Ok((sender, response))
}

async fn connect(receiver: &Receiver) -> Result<SendRequest<Full<Bytes>>, BoxError> {
    let (host, port) = &receiver.place;
    let stream = TcpStream::connect((host.as_str(), *port)).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // It ends with the sender, or when the other side goes away.
    tokio::spawn(connection);
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_in_seconds_or_until_a_date_and_bounded() {
        let now = httpdate::parse_http_date("Tue, 01 Dec 2026 12:00:00 GMT").expect("a date");
        let asked = |text: &str, date: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, text.parse().expect("a value"));
            date.map(|date| headers.insert(header::DATE, date.parse().expect("a value")));
            pause(&headers, now).map(|pause| pause.as_secs())
        };
        for (text, seconds) in [
            ("30", Some(30)),
            (" 30 ", Some(30)),
            ("0", None),
            ("601", Some(600)),
            ("99999999999999999999999999", Some(600)),
            ("Tue, 01 Dec 2026 12:00:30 GMT", Some(30)),
            ("Tuesday, 01-Dec-26 12:00:30 GMT", Some(30)),
            ("Tue, 01 Dec 2026 11:59:00 GMT", None),
            ("Sat, 01 Dec 2096 12:00:00 GMT", Some(600)),
            ("", None),
            ("-5", None),
            ("1.5", None),
            ("soon", None),
        ] {
            assert_eq!(asked(text, None), seconds, "{text:?}");
        }
        // Clocks differ: the receiver's date is compared with its own clock.
        let later = Some("Tue, 01 Dec 2026 12:00:20 GMT");
        assert_eq!(asked("Tue, 01 Dec 2026 12:00:30 GMT", later), Some(10));
        assert_eq!(pause(&HeaderMap::new(), now), None);
    }
}
