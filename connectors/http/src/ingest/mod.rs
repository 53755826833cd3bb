//! Records that arrive over HTTP: accepted into a log on the disk, and read from there.

#[cfg(feature = "fuzzing")]
pub(crate) mod door;
mod error;
mod log;
mod server;

use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use self::error::IngestError;
use self::log::{Cursor, Log, Reached, Shelf};
use self::server::{Server, ServerSetup};
use snapline_core::base::error::BoxError;
use snapline_core::base::sync::{Arc, lock};
use snapline_core::connect::{Collect, OpenContext, Progress, Source, SourceReader};
use snapline_core::connect::{ConnectorError, classify_as, json};
use snapline_core::fs::Disk;

/// The greatest length of a body: as a frame of the log it must be readable.
const LONGEST_BODY: usize = 256 << 20;

/// How long a reader waits until it looks again.
const PAUSE: Duration = Duration::from_millis(5);

/// The address of an [`HttpIngest`], and its limits.
#[derive(Clone)]
pub struct IngestConfig {
    address: SocketAddr,
    path: String,
    token: Option<String>,
    max_body_bytes: usize,
    most_bytes: u64,
    segment_bytes: u64,
    most_keys: usize,
    most_connections: usize,
    most_in_memory: usize,
    body_timeout: Duration,
}

impl fmt::Debug for IngestConfig {
    /// Without the token: debug output ends up in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = self.token.as_ref().map(|_| "(not shown)");
        f.debug_struct("IngestConfig")
            .field("address", &self.address)
            .field("path", &self.path)
            .field("token", &token)
            .finish_non_exhaustive()
    }
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            path: "/".into(),
            token: None,
            max_body_bytes: 1 << 20,
            most_bytes: 1 << 30,
            segment_bytes: 64 << 20,
            most_keys: 100_000,
            most_connections: 256,
            most_in_memory: 64 << 20,
            body_timeout: Duration::from_secs(10),
        }
    }
}

impl IngestConfig {
    /// Listens on loopback, on a free port.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The address to listen on; port 0 takes a free one. Every client that reaches it may send
    /// records, unless [`Self::bearer`] is set. Nothing is encrypted, and neither is the token. To
    /// take records from other machines, listen on loopback behind a reverse proxy that speaks TLS.
    #[must_use]
    pub fn address(self, address: SocketAddr) -> Self {
        Self { address, ..self }
    }

    /// The path to which records are sent; `/` by default. It is compared with a request's path
    /// byte for byte: characters that are not ASCII are percent-encoded.
    #[must_use]
    pub fn path(self, path: impl Into<String>) -> Self {
        Self { path: path.into(), ..self }
    }

    /// Takes records only from clients that send `Authorization: Bearer` and this token. It must
    /// not be empty or contain a space.
    #[must_use]
    pub fn bearer(self, token: impl Into<String>) -> Self {
        Self { token: Some(token.into()), ..self }
    }

    /// The longest body of a request, in bytes, also after gzip is decoded; 1 MiB by default, at
    /// most 256 MiB. A longer one gets 413.
    #[must_use]
    pub fn max_body_bytes(self, bytes: usize) -> Self {
        Self { max_body_bytes: bytes, ..self }
    }

    /// The length of the log, in bytes, above which requests get 503; 1 GiB by default.
    #[must_use]
    pub fn most_bytes(self, bytes: u64) -> Self {
        Self { most_bytes: bytes, ..self }
    }

    /// The length of a file of the log, in bytes; 64 MiB by default. Files are removed whole.
    #[must_use]
    pub fn segment_bytes(self, bytes: u64) -> Self {
        Self { segment_bytes: bytes, ..self }
    }

    /// The number of idempotency keys that are remembered, the newest; 100,000 by default.
    #[must_use]
    pub fn most_keys(self, keys: usize) -> Self {
        Self { most_keys: keys, ..self }
    }

    /// The number of connections served at once; 256 by default. If all places are taken, a
    /// newcomer replaces an idle connection, of the peer with the most. If none is idle, it waits
    /// for up to a second and gets 503. As many may wait as there are places. If more do, the peer
    /// with the most waiting loses the last of them, which gets 503 at once. A free place goes to
    /// the peer with the fewest.
    #[must_use]
    pub fn most_connections(self, connections: usize) -> Self {
        Self { most_connections: connections, ..self }
    }

    /// The number of bytes of bodies in memory at once, from before they are read until they are in
    /// the log. The default is 64 MiB; the minimum is two of the longest. Requests beyond wait for
    /// as long as a body may take, and then get 503.
    #[must_use]
    pub fn most_in_memory(self, bytes: usize) -> Self {
        Self { most_in_memory: bytes, ..self }
    }

    /// How long a client may take to send a body; 10 s by default. A slower one gets 408.
    #[must_use]
    pub fn body_timeout(self, time: Duration) -> Self {
        Self { body_timeout: time, ..self }
    }

    /// Refuses settings that no request could meet, or that every one could.
    fn check(&self) -> Result<(), IngestError> {
        let refuse = |why: String| Err(IngestError::Config { why });
        let is_secret = |token: &String| {
            !token.is_empty() && !token.contains(|it: char| it.is_whitespace() || it.is_control())
        };
        if !self.token.as_ref().is_none_or(is_secret) {
            return refuse(
                "the bearer token is empty, or has a space or an end of line in it; give one that a client can send".into(),
            );
        }
        let path = &self.path;
        let target = path.parse::<hyper::Uri>();
        let is_path = path.bytes().all(|byte| byte.is_ascii_graphic())
            && target.is_ok_and(|it| it.path() == path && it.authority().is_none())
            && !path.starts_with("//")
            && path
                .split('%')
                .skip(1)
                .all(|it| it.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2);
        if !is_path || !path.starts_with('/') {
            return refuse(format!(
                "`{}` is not a valid path: a path begins with one `/` and has neither `?` nor `#`; \
                 percent-encode what is not ASCII",
                path.escape_debug()
            ));
        }
        if self.max_body_bytes == 0 || self.max_body_bytes > LONGEST_BODY {
            return refuse(format!(
                "`max_body_bytes` is {}; set it to 1 to {LONGEST_BODY}",
                self.max_body_bytes
            ));
        }
        if self.body_timeout.is_zero() {
            return refuse("`body_timeout` is zero; set it to a greater value".into());
        }
        Ok(())
    }
}

/// Accepts records over HTTP into a log on the disk. A record is accepted, and the client gets 200,
/// when it is durable in the log. From there [`Self::source`] reads it, again after a failure:
/// exactly once. It accepts until it is dropped, also when no job runs.
///
/// ```no_run
/// use snapline::Dataflow;
/// use snapline::connect::{FileSink, HttpIngest, IngestConfig};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let address = "127.0.0.1:8080".parse()?;
/// let ingest = HttpIngest::lines("ingest", IngestConfig::new().address(address))?;
/// let flow = Dataflow::new("upper");
/// flow.source("lines", ingest.source())
///     .map(|line: String| line.to_uppercase())
///     .sink("out", FileSink::new("results"));
/// # Ok(())
/// # }
/// ```
///
/// | request | response |
/// |---|---|
/// | `POST`, each line of a `text/plain` or `application/x-ndjson` body a record; or one of `application/json` | 200, with the number of the first record and how many there were, when they are durable: all of them or none |
/// | the same under an `Idempotency-Key` that was used before | 200, with the numbers of the first time, and nothing is accepted twice |
/// | another body under a key that was used before | 422 |
/// | a body that is not UTF-8, not JSON, or no record of the type | 400, with the line |
/// | a body that is too long, or too slow | 413, 408 |
/// | a body under `Content-Encoding: gzip` | as if it had arrived decoded; other encodings get 415, with `Accept-Encoding` |
/// | another `charset` than `utf-8` or `us-ascii` | 415 |
/// | HTTP/1.1 without one `Host` | 400 |
/// | the log has reached its limit, the disk fails, or more is sent at once than may be in memory | 503, with `Retry-After` |
/// | it was finished ([`Self::finish`]) | 410 |
/// | without the token; from a page of a browser (with `Origin`); another path, method, type | 401; 403; 404, 405, 415 |
///
/// A client without a response does not know the outcome, and sends the same again; with a key it
/// is accepted once. The newest keys are remembered ([`IngestConfig::most_keys`]), across restarts
/// too. A restored job must find the log of its checkpoint. Each log has a name of its own, in its
/// file `identity`; another log in the directory, or an emptied one, fails the job. The directory
/// has one owner; a second process is refused. The rest of an unacknowledged frame after a crash is
/// cut off. Files of the log are removed when no checkpoint that the job keeps needs them.
///
/// It also starts on a full disk: requests get 503, and the job reads the accepted records, after
/// which there is room again. Only a defect can end the server or the thread that writes the log by
/// itself. The source then reads the accepted records and fails.
pub struct HttpIngest<T> {
    shelf: Arc<Shelf>,
    server: Server,
    decode: Decode<T>,
}

/// Makes a record from its bytes, or returns what is wrong with them.
type Decode<T> = fn(&[u8]) -> Result<T, String>;

impl<T> fmt::Debug for HttpIngest<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpIngest").field("dir", &self.shelf.dir).finish_non_exhaustive()
    }
}

impl HttpIngest<String> {
    /// Accepts lines of text into the log in `dir`, which is made if missing.
    ///
    /// # Errors
    /// If the directory is in use or damaged, the address cannot be bound, or a setting is invalid:
    /// an empty token, a malformed path.
    pub fn lines(dir: impl Into<PathBuf>, config: IngestConfig) -> Result<Self, IngestError> {
        let decode: Decode<String> = |bytes| {
            std::str::from_utf8(bytes).map(str::to_owned).map_err(|error| error.to_string())
        };
        Self::start(dir.into(), config, decode, decode)
    }
}

impl<T: DeserializeOwned + Send + 'static> HttpIngest<T> {
    /// Accepts records of a serde type, as JSON, into the log in `dir`, which is made if missing.
    /// Other data is refused before it is in the log. So is an integer of more than 64 bits where a
    /// record takes any value (`serde_json::Value`).
    ///
    /// # Errors
    /// If the directory is in use or damaged, the address cannot be bound, or a setting is invalid:
    /// an empty token, a malformed path.
    pub fn json(dir: impl Into<PathBuf>, config: IngestConfig) -> Result<Self, IngestError> {
        // Records in the log were accepted, perhaps by an earlier version, and are read.
        let decode: Decode<T> =
            |bytes| serde_json::from_slice(bytes).map_err(|error| error.to_string());
        Self::start(dir.into(), config, decode, checked)
    }
}

/// Decodes a record, if its JSON is acceptable.
fn checked<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    json::read(bytes).map_err(|error| error.to_string())
}

impl<T: Send + 'static> HttpIngest<T> {
    fn start(
        dir: PathBuf,
        config: IngestConfig,
        decode: Decode<T>,
        check: Decode<T>,
    ) -> Result<Self, IngestError> {
        config.check()?;
        let log = Log::open(Arc::new(Disk), &dir, config.segment_bytes, config.most_keys)?;
        let shelf = Arc::clone(log.shelf());
        let check = move |bytes: &[u8]| check(bytes).map(drop);
        let server = Server::start(log, ServerSetup { config, check: Arc::new(check) })?;
        Ok(Self { shelf, server, decode })
    }

    /// The address it listens on.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The number of records accepted, in this life and earlier ones.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        lock(&self.shelf.extent).next
    }

    /// Accepts nothing more, in this life or a later one; the source ends after the last record.
    ///
    /// # Errors
    /// If that cannot be made durable.
    pub fn finish(&self) -> Result<(), IngestError> {
        self.server.finish()
    }

    /// A source of the accepted records. Its subtasks take records in turn. One job reads a log, in
    /// one source.
    #[must_use]
    pub fn source(&self) -> IngestSource<T> {
        IngestSource { shelf: Arc::clone(&self.shelf), decode: self.decode }
    }
}

/// Reads the records that an [`HttpIngest`] accepts.
pub struct IngestSource<T> {
    shelf: Arc<Shelf>,
    decode: Decode<T>,
}

impl<T> Clone for IngestSource<T> {
    fn clone(&self) -> Self {
        Self { shelf: Arc::clone(&self.shelf), decode: self.decode }
    }
}

impl<T> fmt::Debug for IngestSource<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IngestSource").field("dir", &self.shelf.dir).finish_non_exhaustive()
    }
}

/// The position of an [`IngestReader`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IngestPosition {
    /// The number of the next record to look at.
    next: u64,
    /// The subtask's index, and the parallelism.
    of: (usize, usize),
    /// The log's name; the first version did not record it.
    #[serde(default)]
    log: Option<String>,
}

impl<T: Send + 'static> Source for IngestSource<T> {
    type Record = T;
    type Position = IngestPosition;
    type Reader = IngestReader<T>;

    fn classify<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a dyn ConnectorError> {
        classify_as::<IngestError>(error)
    }

    fn open(
        &self,
        context: &OpenContext,
        position: Option<IngestPosition>,
    ) -> Result<IngestReader<T>, BoxError> {
        let of = (context.index, context.parallelism);
        let (first, end) = {
            let extent = lock(&self.shelf.extent);
            (extent.segments.front().map_or(extent.next, |segment| segment.first), extent.next)
        };
        let next = match position {
            Some(position) if position.of != of => {
                return Err(IngestError::OtherSubtask { of: position.of, wanted: of }.into());
            }
            Some(IngestPosition { log: Some(was), .. }) if was != self.shelf.identity => {
                let (dir, now) = (self.shelf.dir.clone(), self.shelf.identity.clone());
                return Err(IngestError::OtherLog { dir, was, now }.into());
            }
            Some(position) => position.next,
            None => first,
        };
        if !(first..=end).contains(&next) {
            let dir = self.shelf.dir.clone();
            return Err(IngestError::Gone { dir, wanted: next, first }.into());
        }
        let reader = (context.job.clone(), context.operator.clone(), context.index);
        // The restored position does not cover older checkpoints that are kept: it lets no record
        // be removed.
        lock(&self.shelf.extent).needed.entry(reader.clone()).or_insert(first);
        let cursor = Cursor::new(&self.shelf, next);
        Ok(IngestReader { cursor, of, reader, decode: self.decode, bytes: 0 })
    }
}

/// Reads one subtask's share of an [`IngestSource`].
pub struct IngestReader<T> {
    cursor: Cursor,
    of: (usize, usize),
    reader: (String, String, usize),
    decode: Decode<T>,
    /// The number of bytes in its records.
    bytes: u64,
}

impl<T> fmt::Debug for IngestReader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IngestReader").field("next", &self.cursor.next).finish_non_exhaustive()
    }
}

impl<T: Send + 'static> SourceReader for IngestReader<T> {
    type Record = T;
    type Position = IngestPosition;

    fn read<C: Collect<T>>(&mut self, limit: usize, out: &mut C) -> Result<Progress, BoxError> {
        let ((index, parallelism), decode) = (self.of, self.decode);
        let dir = self.cursor.shelf().dir.clone();
        let (mut left, counted) = (limit, &mut self.bytes);
        let reached = self.cursor.read(|record, bytes| {
            if record % parallelism as u64 == index as u64 {
                *counted += bytes.len() as u64;
                let decoded = decode(bytes);
                out.push(decoded.map_err(|why| IngestError::Decode {
                    dir: dir.clone(),
                    record,
                    why,
                })?);
            }
            left = left.saturating_sub(1);
            Ok(left > 0)
        })?;
        Ok(match reached {
            Reached::More => Progress::More,
            Reached::All => Progress::Wait(PAUSE),
            Reached::Ended => Progress::End,
        })
    }

    fn bytes_read(&self) -> Option<u64> {
        Some(self.bytes)
    }

    fn position(&self) -> IngestPosition {
        let log = Some(self.cursor.shelf().identity.clone());
        IngestPosition { next: self.cursor.next, of: self.of, log }
    }

    fn kept_from(&mut self, position: &IngestPosition) {
        let shelf = self.cursor.shelf();
        lock(&shelf.extent).needed.insert(self.reader.clone(), position.next);
        shelf.forget();
    }
}
