//! A guarded listener for HTTP. Every server of this crate uses it: the dashboard, the explorer
//! (`serve`) and `connect::HttpIngest`.
//!
//! ```text
//!   accept    at once: a place, or another's, or a wait of up to a second for one, or 503
//!   head      5 s, 16 KiB, 64 headers; also between two requests of a connection
//!   request   one Host, nothing odd in the head; then the server's own rules, its token first;
//!             only then is a body read
//!   answer    15 s to be read by the client
//! ```
//! *Who has a place.* The number of connections at a time is limited. When all places are taken, a
//! newcomer gets that of an idle connection. Idle is one that waits between requests, has not sent
//! its request, does not read its answer, or does not continue its body. Of those, the peer with
//! the most connections loses the one that is idle for longest; so one peer cannot keep others out.
//! If all connections are busy, the newcomer gets the place of a peer that has more than its own,
//! or waits for a second. A request whose records are being written into the log, or whose page is
//! being made, is never interrupted.
//!
//! *Who waits.* Each newcomer waits by itself: none keeps the next from being accepted. As many
//! wait as there are places. If there is one more, the peer with the most waiting connections loses
//! its last one: it gets 503 at once. A free place goes to the peer with the fewest, and there to
//! the one that came first.
//!
//! Longer than 500 lines: one rule for who is served and for how long, and its tests, which are
//! best read beside it.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::future::Future;
use std::future::poll_fn;
use std::io;
use std::io::Write;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::uri::Authority;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use snapline_core::base::panic::guarded;
use snapline_core::base::sync::{Arc, Mutex, lock, thread};

/// How long a client has to send its request, and how long a connection may be idle.
const HEADER_TIME: Duration = Duration::from_secs(5);

/// How long a client may take to read an answer.
const ANSWER_TIME: Duration = Duration::from_secs(15);

/// The longest head of a request, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// The most headers of a request.
const MAX_HEADERS: usize = 64;

/// How long a newcomer waits for a place.
const PLACE_TIME: Duration = Duration::from_secs(1);

/// Within this time a connection is not taken for idle: its client may be about to send.
const GRACE: Duration = Duration::from_millis(500);

/// A body of which nothing has come for this long is stalled.
const STALLED: Duration = Duration::from_secs(1);

/// The intervals at which places, and the remaining time of a connection, are checked.
const LOOK: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// The pause when no connection can be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The answer to a newcomer without a place.
const NO_PLACE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// The limits of a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Connections at a time, at least one.
    pub(crate) connections: usize,
    /// How long an answer may be in the making, once the request's head is there.
    pub(crate) request_time: Duration,
    /// Whether a connection may carry more than one request.
    pub(crate) keep_alive: bool,
}

/// The answers of a server.
pub(crate) trait Answers: Send + Sync + 'static {
    /// The answer to a request whose head is in order. It must check permission before it reads a
    /// body, with [`Guest::body`].
    fn answer(
        &self,
        request: Request<Incoming>,
        guest: &Guest,
    ) -> impl Future<Output = Result<Response<Full<Bytes>>, Refusal>> + Send;

    /// Adds the headers that all its answers have.
    fn dress(&self, headers: &mut HeaderMap);
}

/// Why a request is refused.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    why: Cow<'static, str>,
    also: Option<(HeaderName, HeaderValue)>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, why: impl Into<Cow<'static, str>>) -> Self {
        Self { status, why: why.into(), also: None }
    }

    /// A method that the path does not have.
    pub(crate) fn method(allowed: &'static str) -> Self {
        let why = format!("the method is not allowed; use {allowed}");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, why).with(header::ALLOW, allowed)
    }

    /// The same, with a header that says how to correct it.
    pub(crate) fn with(self, name: HeaderName, value: &'static str) -> Self {
        Self { also: Some((name, HeaderValue::from_static(value))), ..self }
    }

    fn response(self) -> Response<Full<Bytes>> {
        let Self { status, why, also } = self;
        let mut response = Response::new(Full::new(Bytes::from(format!("{why}\n"))));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        match status {
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        if matches!(status.as_u16(), 401 | 403 | 408 | 413 | 417) {
            // A client without permission does not ask again on this connection, and the rest of a
            // body is not waited for.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        headers.extend(also);
        response
    }
}

/// What a connection is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ConnectionStage {
    /// No request has arrived yet, or its answer was sent and the client may be reading it.
    Outside,
    /// Its body is being read.
    Body,
    /// Its answer is being made.
    Inside,
}

/// A connection's place.
#[derive(Debug)]
struct ConnectionSlot {
    peer: IpAddr,
    stage: ConnectionStage,
    /// Since when it is in this stage; of a body, since when nothing has come.
    since: Instant,
    /// Notifies it that it has lost the place.
    lost: Arc<Notify>,
}

/// A connection that waits for a place.
#[derive(Debug)]
struct WaitingConnection {
    peer: IpAddr,
    /// Notifies it that it is its turn.
    called: Arc<Notify>,
}

/// The connections of a server, by their numbers, which are given in order of arrival.
#[derive(Debug, Default)]
struct Connections {
    last: u64,
    placed: HashMap<u64, ConnectionSlot>,
    waiting: BTreeMap<u64, WaitingConnection>,
}

impl Connections {
    /// The next to get a place.
    fn next(&self) -> Option<u64> {
        if self.waiting.len() < 2 {
            return self.waiting.keys().next().copied();
        }
        let of = shares(self.placed.values().map(|place| place.peer));
        let rank = |waiting: &WaitingConnection| of.get(&waiting.peer).copied().unwrap_or(0);
        let ranks = self.waiting.iter().map(|(number, waiting)| (rank(waiting), *number));
        ranks.min().map(|(_, number)| number)
    }

    /// Lets the next one check whether it gets a place.
    fn call(&self) {
        if let Some(next) = self.next() {
            self.waiting[&next].called.notify_one();
        }
    }

    /// Takes a place away, if there is one.
    fn dismiss(&mut self, number: u64) {
        self.placed.remove(&number).inspect(|place| place.lost.notify_one());
    }
}

/// The places of a server.
#[derive(Debug)]
struct Places {
    limits: Limits,
    connections: Mutex<Connections>,
}

impl Places {
    fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, connections: Mutex::default() })
    }

    fn arrive(self: &Arc<Self>, peer: IpAddr) -> Newcomer {
        let mut connections = lock(&self.connections);
        connections.last += 1;
        let (number, called) = (connections.last, Arc::new(Notify::new()));
        connections.waiting.insert(number, WaitingConnection { peer, called: Arc::clone(&called) });
        Newcomer { number, peer, places: Arc::clone(self), called }
    }
}

/// A connection that was accepted and has no place yet. Dropping it ends the wait.
#[derive(Debug)]
struct Newcomer {
    number: u64,
    peer: IpAddr,
    places: Arc<Places>,
    called: Arc<Notify>,
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        let mut connections = lock(&self.places.connections);
        connections.waiting.remove(&self.number);
        // It may have been called: then it is another's turn.
        connections.call();
    }
}

impl Newcomer {
    /// Takes a place if it is its turn, another's if necessary.
    fn place(&self) -> Option<Guest> {
        let mut connections = lock(&self.places.connections);
        if connections.next() != Some(self.number) {
            return None;
        }
        if connections.placed.len() >= self.places.limits.connections.max(1) {
            let loses = loser(&connections.placed, Some(self.peer), Instant::now())?;
            connections.dismiss(loses);
        }
        connections.waiting.remove(&self.number);
        let (lost, since) = (Arc::new(Notify::new()), Instant::now());
        let place = ConnectionSlot {
            peer: self.peer,
            stage: ConnectionStage::Outside,
            since,
            lost: Arc::clone(&lost),
        };
        connections.placed.insert(self.number, place);
        Some(Guest { number: self.number, places: Arc::clone(&self.places), lost })
    }

    /// Whether it may wait, instead of another if necessary.
    fn may_wait(&self) -> bool {
        let waiting = &mut lock(&self.places.connections).waiting;
        if waiting.len() > self.places.limits.connections.max(1) {
            let of = shares(waiting.values().map(|waiting| waiting.peer));
            let ranks = waiting.iter().map(|(number, waiting)| (of[&waiting.peer], *number));
            let loses = ranks.max().map(|(_, number)| number).filter(|&loses| loses != self.number);
            let Some(loses) = loses else { return false };
            waiting.remove(&loses).inspect(|waiting| waiting.called.notify_one());
        }
        true
    }

    /// Whether another waits in its stead.
    fn is_dismissed(&self) -> bool {
        !lock(&self.places.connections).waiting.contains_key(&self.number)
    }

    /// A place, if one becomes free in time.
    async fn wait(&self) -> Option<Guest> {
        let begun = Instant::now();
        loop {
            let guest = self.place();
            if guest.is_some() || self.is_dismissed() || begun.elapsed() >= PLACE_TIME {
                return guest;
            }
            // One may become free meanwhile, or be found idle.
            let _ = timeout(LOOK.0, self.called.notified()).await;
        }
    }
}

/// The number of these connections of each peer.
fn shares(peers: impl Iterator<Item = IpAddr>) -> HashMap<IpAddr, usize> {
    let mut of: HashMap<IpAddr, usize> = HashMap::new();
    peers.for_each(|peer| *of.entry(peer).or_default() += 1);
    of
}

/// The connection that loses its place to a newcomer; without a newcomer, one whose body is
/// stalled.
fn loser(
    placed: &HashMap<u64, ConnectionSlot>,
    newcomer: Option<IpAddr>,
    now: Instant,
) -> Option<u64> {
    let of = shares(placed.values().map(|place| place.peer));
    let share = newcomer.map(|peer| of.get(&peer).copied().unwrap_or(0) + 1);
    let rank = |place: &ConnectionSlot| {
        let (many, still) = (of[&place.peer], now.saturating_duration_since(place.since));
        let unfair = share.is_some_and(|share| many > share);
        let (idle, may) = match place.stage {
            ConnectionStage::Inside => return None,
            ConnectionStage::Body => (still >= STALLED, still >= STALLED || unfair),
            ConnectionStage::Outside => (true, newcomer.is_some() && (still >= GRACE || unfair)),
        };
        may.then_some((idle, many, still))
    };
    let ranks = placed.iter().filter_map(|(number, place)| Some((rank(place)?, *number)));
    ranks.max().map(|(_, number)| number)
}

/// A connection that has a place, and leaves it when this is dropped.
#[derive(Debug)]
pub(crate) struct Guest {
    number: u64,
    places: Arc<Places>,
    lost: Arc<Notify>,
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut connections = lock(&self.places.connections);
        connections.placed.remove(&self.number);
        connections.call();
    }
}

impl Guest {
    fn enters(&self, stage: ConnectionStage) {
        if let Some(place) = lock(&self.places.connections).placed.get_mut(&self.number) {
            (place.stage, place.since) = (stage, Instant::now());
        }
    }

    /// How long the connection may stay as it is; `None` if its time is over.
    fn time_left(&self) -> Option<Duration> {
        let connections = lock(&self.places.connections);
        let place = connections.placed.get(&self.number)?;
        let limit = match place.stage {
            ConnectionStage::Outside => ANSWER_TIME,
            // They have limits of their own.
            ConnectionStage::Body | ConnectionStage::Inside => return Some(LOOK.1),
        };
        limit.checked_sub(place.since.elapsed()).filter(|left| !left.is_zero())
    }

    /// Completes when the connection has lost its place, or takes too long.
    async fn over(&self) {
        while let Some(left) = self.time_left() {
            if timeout(left.min(LOOK.1), self.lost.notified()).await.is_ok() {
                return;
            }
        }
    }

    /// Drops a connection whose body is stalled, and holds what others wait for.
    #[cfg(feature = "connect")]
    pub(crate) fn make_room(&self) {
        let mut connections = lock(&self.places.connections);
        if let Some(loses) = loser(&connections.placed, None, Instant::now()) {
            connections.dismiss(loses);
        }
    }

    /// Reads a body of at most this length, within this time. A body that declares a greater length
    /// is refused before any of it is read.
    pub(crate) async fn body(
        &self,
        body: Incoming,
        most: usize,
        time: Duration,
    ) -> Result<Vec<u8>, Refusal> {
        self.enters(ConnectionStage::Body);
        let read = timeout(time, self.collect(body, most)).await;
        self.enters(ConnectionStage::Inside);
        let slow = || Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body took too long");
        read.map_err(|_| slow())?
    }

    async fn collect(&self, mut body: Incoming, most: usize) -> Result<Vec<u8>, Refusal> {
        let short =
            |_| Refusal::new(StatusCode::BAD_REQUEST, "the body ended before it was complete");
        fits(&body, most)?;
        // A body of unknown length was counted as the longest allowed; its buffer must not grow
        // beyond that.
        let said = body.size_hint().exact().and_then(|said| usize::try_from(said).ok());
        let (room, mut whole) = (said.unwrap_or(most), Vec::new());
        while let Some(frame) = body.frame().await.transpose().map_err(short)? {
            self.enters(ConnectionStage::Body);
            let Ok(piece) = frame.into_data() else { continue };
            if piece.len() > most - whole.len() {
                return Err(too_long(most));
            }
            if whole.is_empty() {
                // Only once the first byte is there.
                whole.reserve_exact(room.max(piece.len()));
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole)
    }
}

pub(crate) fn too_long(most: usize) -> Refusal {
    let why = format!("the body is too long; at most {most} bytes are allowed");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, why)
}

/// The declared length of a body, zero if there is none; or an error that it is too long.
pub(crate) fn fits(body: &Incoming, most: usize) -> Result<usize, Refusal> {
    let said = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if said > most { Err(too_long(most)) } else { Ok(said) }
}

/// Whether a request is valid HTTP: it names one host, as a name, and expects no extension that is
/// unknown here.
fn in_order(request: &Request<Incoming>) -> Result<(), Refusal> {
    let bad = |why| Err(Refusal::new(StatusCode::BAD_REQUEST, why));
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return bad("the request has more than one Host header; send one"),
        (None, _) if request.version() >= Version::HTTP_11 => {
            return bad("an HTTP/1.1 request must have a Host header");
        }
        (Some(host), _) if !is_host(host.as_bytes()) => {
            return bad("the Host header is not a host name with an optional port");
        }
        _ => {}
    }
    let expected = request.headers().get_all(header::EXPECT).iter();
    for what in expected {
        if !what.as_bytes().eq_ignore_ascii_case(b"100-continue") {
            let why = "the Expect header is not supported; only 100-continue is";
            return Err(Refusal::new(StatusCode::EXPECTATION_FAILED, why));
        }
    }
    Ok(())
}

/// Whether this may be the value of a `Host` header.
pub(crate) fn is_host(host: &[u8]) -> bool {
    let named = |host: &str| {
        let Ok(authority) = host.parse::<Authority>() else { return false };
        let name = authority.host();
        let port = host.strip_prefix(name).is_some_and(|rest| match rest.strip_prefix(':') {
            Some(port) => port.parse::<u16>().is_ok() && !port.starts_with('+'),
            None => rest.is_empty(),
        });
        port && !name.is_empty()
    };
    host.is_empty() || std::str::from_utf8(host).is_ok_and(named)
}

/// An address that is bound, but not yet listened at.
pub(crate) struct Bound {
    socket: std::net::TcpListener,
    pub(crate) address: SocketAddr,
}

impl Bound {
    pub(crate) fn new(address: SocketAddr) -> io::Result<Self> {
        let socket = std::net::TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address })
    }
}

/// A running server, on a thread of its own, which has ended when this is dropped.
pub(crate) struct Listener {
    stop: Arc<Notify>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Listener {
    /// Serves connections on a thread of this name, which runs `beside` as well. `ended` is called
    /// with the cause if that ends before this is dropped.
    pub(crate) fn start<A: Answers>(
        name: &str,
        bound: Bound,
        limits: Limits,
        answers: Arc<A>,
        beside: impl Future<Output = ()> + Send + 'static,
        ended: impl FnOnce(String) + Send + 'static,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let inside = runtime.enter();
        let listener = TcpListener::from_std(bound.socket)?;
        drop(inside);
        let serving = async move {
            tokio::spawn(beside);
            accept(listener, limits, answers).await;
        };
        Self::over(name, runtime, serving, ended)
    }

    fn over(
        name: &str,
        runtime: tokio::runtime::Runtime,
        serving: impl Future<Output = ()> + Send + 'static,
        ended: impl FnOnce(String) + Send + 'static,
    ) -> io::Result<Self> {
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let run = move || {
            // Open connections are dropped with the runtime.
            let served = guarded(move || {
                runtime.block_on(async {
                    let (mut serving, mut stopped) = (pin!(serving), pin!(stopped.notified()));
                    poll_fn(|context| match stopped.as_mut().poll(context) {
                        Poll::Ready(()) => Poll::Ready(Ok(())),
                        Poll::Pending => {
                            serving.as_mut().poll(context).map(|()| Err("ended".into()))
                        }
                    })
                    .await
                })
            });
            if let Err(what) = served {
                ended(what.to_string());
            }
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(run)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic of the serving thread was reported before.
            let _ = thread.join();
        }
    }
}

async fn accept<A: Answers>(listener: TcpListener, limits: Limits, answers: Arc<A>) {
    let places = Places::new(limits);
    let mut fails = false;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                fails = false;
                admit(stream, places.arrive(origin(peer.ip())), Arc::clone(&answers));
            }
            // It went away while it waited.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            // The process has no file descriptor left for it.
            Err(error) => {
                if !std::mem::replace(&mut fails, true) {
                    tracing::warn!(target: "snapline::serve", %error, "cannot accept connections");
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves a newcomer, or lets it wait, or sends it away; nothing blocks here.
fn admit<A: Answers>(stream: TcpStream, newcomer: Newcomer, answers: Arc<A>) {
    // Answers are short, and a client waits for them.
    let _ = stream.set_nodelay(true);
    if let Some(guest) = newcomer.place() {
        tokio::spawn(serve(stream, guest, answers));
    } else if newcomer.may_wait() {
        tokio::spawn(async move {
            let guest = newcomer.wait().await;
            drop(newcomer);
            match guest {
                Some(guest) => serve(stream, guest, answers).await,
                None => refuse(stream),
            }
        });
    } else {
        refuse(stream);
    }
}

/// Answers that there is no place. Nothing is waited for: a client that does not read it finds out
/// by itself.
fn refuse(stream: TcpStream) {
    let _ = stream.into_std().and_then(|mut stream| stream.write(NO_PLACE));
}

/// What counts as one peer: an address, or the network of a subscriber where addresses are
/// plentiful.
fn origin(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from(network))
        }
        address => address,
    }
}

async fn serve<A, S>(stream: S, guest: Guest, answers: Arc<A>)
where
    A: Answers,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let limits = guest.places.limits;
    let service = service_fn(|request| {
        let (answers, guest) = (&*answers, &guest);
        async move { Ok::<_, Infallible>(respond(answers, guest, request).await) }
    });
    let stream = TokioIo::new(Paced { stream, full: false, asked: false });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Also between two requests of one connection.
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .keep_alive(limits.keep_alive)
        .serve_connection(stream, service);
    let (mut connection, mut over) = (pin!(connection), pin!(guest.over()));
    // A client that goes away, or takes too long, needs no handling.
    poll_fn(|context| match over.as_mut().poll(context) {
        Poll::Ready(()) => Poll::Ready(()),
        Poll::Pending => connection.as_mut().poll(context).map(drop),
    })
    .await;
}

async fn respond<A: Answers>(
    answers: &A,
    guest: &Guest,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    guest.enters(ConnectionStage::Inside);
    let time = guest.places.limits.request_time;
    let answer = match in_order(&request) {
        Ok(()) => timeout(time, answers.answer(request, guest)).await.unwrap_or_else(|_| {
            let why = "the request takes too long, and it is unknown whether it was done; retry \
                       later";
            Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why))
        }),
        Err(refusal) => Err(refusal),
    };
    let mut response = answer.unwrap_or_else(Refusal::response);
    answers.dress(response.headers_mut());
    guest.enters(ConnectionStage::Outside);
    response
}

/// A stream that is not read while a write to it is pending: a client that sends request after
/// request and reads no answer cannot fill memory with answers.
struct Paced<S> {
    stream: S,
    /// Whether the last write was pending.
    full: bool,
    /// Whether a read was tried meanwhile.
    asked: bool,
}

impl<S> Paced<S> {
    fn written(&mut self, context: &Context<'_>, written: &Poll<io::Result<usize>>) {
        self.full = written.is_pending();
        if !self.full && std::mem::take(&mut self.asked) {
            context.waker().wake_by_ref();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.full {
            self.asked = true;
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, &written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.written(context, &written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(feature = "fuzzing")]
pub(crate) mod said;

#[cfg(test)]
mod tests {
    use super::*;
    use snapline_core::base::sync::{AtomicUsize, Ordering};

    fn at(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    /// Places by their numbers from 0: the peer, its stage, and the milliseconds in it.
    fn loses(places: &[(u8, ConnectionStage, u64)], newcomer: Option<u8>) -> Option<u64> {
        let now = Instant::now() + Duration::from_secs(3600);
        let taken = places.iter().enumerate().map(|(number, &(peer, stage, still))| {
            let since = now - Duration::from_millis(still);
            (number as u64, ConnectionSlot { peer: at(peer), stage, since, lost: Arc::default() })
        });
        loser(&taken.collect(), newcomer.map(at), now)
    }

    #[test]
    fn a_newcomer_gets_the_place_of_who_has_most_and_does_least() {
        use ConnectionStage::{Body, Inside, Outside};
        let idle = [(1, Outside, 600), (2, Outside, 9_000), (1, Outside, 700), (1, Inside, 9_999)];
        assert_eq!(loses(&idle, Some(3)), Some(2), "the first peer has most");
        assert_eq!(loses(&idle, Some(1)), Some(2), "also if it is that peer's own");
        // A connection within its time is left alone, unless its peer has more than its share.
        let young = [(1, Outside, 100), (1, Outside, 200)];
        assert_eq!(loses(&young, Some(1)), None);
        assert_eq!(loses(&young, Some(2)), Some(1));
        assert_eq!(loses(&[(1, Outside, 100), (2, Outside, 200)], Some(3)), None);
        // An arriving body is not idle, and is cut before a page that is being made.
        let bodies = [(1, Body, 900), (1, Body, 10), (1, Inside, 5_000), (2, Body, 500)];
        assert_eq!(loses(&bodies, Some(1)), None);
        assert_eq!(loses(&bodies, Some(3)), Some(0), "it has more than its share");
        assert_eq!(loses(&[(1, Body, 1_000), (1, Body, 10)], Some(1)), Some(0));
        assert_eq!(loses(&[(1, Inside, 99_000), (1, Inside, 99_000)], Some(2)), None);
        assert_eq!(loses(&[(1, Body, 900), (1, Body, 1), (2, Outside, 1)], Some(3)), Some(0));
        // For want of memory only stalled bodies are dropped.
        assert_eq!(loses(&[(1, Outside, 9_000), (1, Body, 900)], None), None);
        assert_eq!(loses(&[(1, Outside, 9_000), (1, Body, 1_900)], None), Some(1));
    }

    const LIMITS: Limits =
        Limits { connections: 2, request_time: Duration::from_secs(60), keep_alive: false };

    #[test]
    fn a_place_that_is_left_goes_to_the_peer_with_the_fewest() {
        let places = Places::new(LIMITS);
        let inside = |peer| {
            let guest = places.arrive(at(peer)).place().expect("there is a place");
            guest.enters(ConnectionStage::Inside);
            guest
        };
        let (one, two) = (inside(1), inside(1));
        let (third, other, fourth) =
            (places.arrive(at(1)), places.arrive(at(2)), places.arrive(at(1)));
        for newcomer in [&third, &other, &fourth] {
            assert!(newcomer.place().is_none(), "{newcomer:?}: all have something to do");
        }
        drop(one);
        assert!(third.place().is_none(), "it came first, and its peer has a place");
        assert!(fourth.place().is_none());
        let guest = other.place().expect("its peer has none");
        guest.enters(ConnectionStage::Inside);
        drop((two, other));
        assert!(fourth.place().is_none(), "it came later");
        drop(third);
        assert!(fourth.place().is_some(), "no other waits before it");
        drop(guest);
    }

    #[test]
    fn so_many_wait_and_the_peer_of_which_most_do_makes_room() {
        let places = Places::new(Limits { connections: 4, ..LIMITS });
        let taken: Vec<Guest> = (1..=4)
            .map(|peer| {
                let guest = places.arrive(at(peer)).place().expect("there is a place");
                guest.enters(ConnectionStage::Inside);
                guest
            })
            .collect();
        let mut crowd: Vec<Newcomer> = Vec::new();
        for (peer, may, waiting) in [
            (5, true, &[5][..]),
            (5, true, &[5, 5]),
            (5, true, &[5, 5, 5]),
            (5, true, &[5, 5, 5, 5]),
            (5, false, &[5, 5, 5, 5]),
            (6, true, &[5, 5, 5, 6]),
            (7, true, &[5, 5, 6, 7]),
            (7, false, &[5, 5, 6, 7]),
            (8, true, &[5, 6, 7, 8]),
            (9, false, &[5, 6, 7, 8]),
        ] {
            let newcomer = places.arrive(at(peer));
            assert_eq!(newcomer.may_wait(), may, "{peer}");
            crowd.extend(Some(newcomer).filter(|_| may));
            let wait = crowd.iter().filter(|newcomer| !newcomer.is_dismissed());
            let waiting: Vec<IpAddr> = waiting.iter().map(|&peer| at(peer)).collect();
            assert_eq!(wait.map(|newcomer| newcomer.peer).collect::<Vec<_>>(), waiting);
        }
        drop(crowd);
        assert!(places.arrive(at(9)).may_wait(), "who is gone does not wait");
        drop(taken);
    }

    /// Pages that are ready at once, that wait for a signal, and that report how much room a body
    /// took.
    #[derive(Default)]
    struct Pages {
        slow: Notify,
        begun: AtomicUsize,
    }

    impl Answers for Pages {
        async fn answer(
            &self,
            request: Request<Incoming>,
            guest: &Guest,
        ) -> Result<Response<Full<Bytes>>, Refusal> {
            let text = match request.uri().path() {
                "/slow" => {
                    self.begun.fetch_add(1, Ordering::Relaxed);
                    self.slow.notified().await;
                    String::new()
                }
                "/body" => {
                    let body = guest.body(request.into_body(), 1_000, LIMITS.request_time).await?;
                    format!("{} in {}", body.len(), body.capacity())
                }
                _ => String::new(),
            };
            Ok(Response::new(Full::new(Bytes::from(text))))
        }

        fn dress(&self, _headers: &mut HeaderMap) {}
    }

    fn serving(pages: &Arc<Pages>) -> (Listener, SocketAddr) {
        let bound = Bound::new(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let (address, beside) = (bound.address, std::future::ready(()));
        let ended = |what: String| panic!("it ended: {what}");
        let listener = Listener::start("test", bound, LIMITS, Arc::clone(pages), beside, ended);
        (listener.expect("it starts"), address)
    }

    /// A connection from 127.0.0.`from`, on which this is asked.
    fn ask(from: u8, address: SocketAddr, request: &str) -> std::net::TcpStream {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let connected = runtime.expect("a runtime").block_on(async {
            let socket = tokio::net::TcpSocket::new_v4()?;
            socket.bind(SocketAddr::from(([127, 0, 0, from], 0)))?;
            socket.connect(address).await?.into_std()
        });
        let mut stream = connected.expect("it is listened");
        stream.set_nonblocking(false).expect("a socket");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
        stream.write_all(request.as_bytes()).expect("it is connected");
        stream
    }

    fn answer(stream: &mut std::net::TcpStream) -> String {
        let mut answer = Vec::new();
        let _ = io::Read::read_to_end(stream, &mut answer);
        String::from_utf8(answer).expect("text")
    }

    /// One peer has all places, and many connections that wait for one: another is accepted all the
    /// same, and is the next.
    #[cfg(target_os = "linux")]
    #[test]
    fn who_waits_for_a_place_keeps_nobody_from_being_accepted() {
        let pages = Arc::new(Pages::default());
        let (listener, address) = serving(&pages);
        let get = |path| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        let slow: Vec<_> = (0..2).map(|_| ask(1, address, &get("/slow"))).collect();
        while pages.begun.load(Ordering::Relaxed) < 2 {
            thread::yield_now();
        }
        let begun = std::time::Instant::now();
        let mut crowd: Vec<_> = (0..20).map(|_| ask(1, address, "")).collect();
        // The first may wait.
        assert!(answer(&mut crowd[19]).starts_with("HTTP/1.1 503"));
        let mut other = ask(2, address, &get("/"));
        thread::sleep(Duration::from_millis(100));
        pages.slow.notify_one();
        let answered = answer(&mut other);
        let waited = begun.elapsed();
        assert!(answered.starts_with("HTTP/1.1 200"), "{answered:?} after {waited:?}");
        assert!(waited < Duration::from_secs(5), "{waited:?}");
        drop((slow, crowd, listener));
    }

    #[test]
    fn a_body_whose_length_is_not_said_takes_no_more_than_it_may() {
        let pages = Arc::new(Pages::default());
        let (listener, address) = serving(&pages);
        let head = "POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        let chunks = format!("3a\r\n{}\r\n", "x".repeat(58)).repeat(17);
        let answered = answer(&mut ask(1, address, &format!("{head}{chunks}0\r\n\r\n")));
        assert!(answered.ends_with("986 in 1000"), "{answered}");
        let head = "POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 58\r\n\r\n";
        let answered = answer(&mut ask(1, address, &format!("{head}{}", "x".repeat(58))));
        assert!(answered.ends_with("58 in 58"), "{answered}");
        drop(listener);
    }

    #[test]
    fn a_server_that_ends_by_itself_says_so() {
        let runtime = || {
            let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
            built.expect("a runtime")
        };
        let (say, said) = crossbeam_channel::unbounded();
        let ended = |say: crossbeam_channel::Sender<String>| {
            move |what| say.send(what).expect("it is waited for")
        };
        let panics = async { panic!("on accepting") };
        let one = Listener::over("test", runtime(), panics, ended(say.clone()));
        let soon = || said.recv_timeout(Duration::from_secs(20));
        assert_eq!(soon().expect("it is reported"), "panicked: on accepting");
        let two = Listener::over("test", runtime(), std::future::ready(()), ended(say.clone()));
        assert_eq!(soon().expect("it is reported"), "ended");
        let whole = Listener::over("test", runtime(), std::future::pending(), ended(say));
        drop((one, two, whole));
        assert!(soon().is_err(), "one that is stopped has nothing to say");
    }

    #[test]
    fn a_network_of_ipv6_is_one_peer() {
        let of = |text: &str| origin(text.parse().expect("an address"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), at(1));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }

    #[test]
    fn a_host_is_a_name_and_perhaps_a_port() {
        for host in ["", "x", "x.example:8080", "127.0.0.1:1", "[::1]:80", "[::1]"] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for host in ["a b", "u@x", "u:p@x", "x/y", "http://x", "x:y", "\u{e4}", "x,y z", ":80"] {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
        assert!(!is_host(b"\xff"));
    }
}
