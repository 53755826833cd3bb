//! A guarded little server of pages, shared by `snapline::JobHandle::dashboard` and `snapline
//! explore`. Not part of the public API: it is reachable so that the command of this repository
//! need not have a guard of its own, and may change in any version.
//!
//! It is meant for one person at one machine. A client needs the address that was printed, with its
//! random token. It must ask the host that was bound and no other name, so that no page elsewhere
//! can have a browser ask in its stead. It must ask for a page that exists, by the method that it
//! has. All else is refused before anything is computed. A connection carries one request; the
//! rules of the guarded listener below limit the connections and their times. One thread serves all
//! of it; when the [`Server`] is dropped the thread has ended.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use subtle::ConstantTimeEq;

use crate::listener::{Answers, Bound, Guest, Limits, Listener, Refusal, is_host};
use snapline_core::base::panic::guarded;
use snapline_core::base::sync::{Arc, Mutex, lock};

/// The longest body of a request, in bytes.
const MAX_BODY: usize = 256 * 1024;

/// How long a client may take to send one.
const BODY_TIME: Duration = Duration::from_secs(10);

const LIMITS: Limits =
    Limits { connections: 128, request_time: Duration::from_secs(15), keep_alive: false };

/// Between two calls of [`Site::tick`].
const TICK: Duration = Duration::from_millis(500);

/// The method of a request for a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    /// A read; nothing changes.
    Get,
    /// With a JSON body.
    Post,
}

/// The answer of a page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Whether it succeeded; otherwise the body says what was wrong with the request.
    pub good: bool,
    /// The body's media type.
    pub media: &'static str,
    /// The body.
    pub body: String,
}

impl Answer {
    /// A page of HTML.
    #[must_use]
    pub fn html(body: String) -> Self {
        Self { good: true, media: "text/html; charset=utf-8", body }
    }

    /// A JSON text.
    #[must_use]
    pub fn json(body: String) -> Self {
        Self { good: true, media: "application/json", body }
    }

    /// A refusal, in words.
    #[must_use]
    pub fn wrong(body: String) -> Self {
        Self { good: false, media: "text/plain; charset=utf-8", body }
    }
}

/// Some pages.
pub trait Site: Send + 'static {
    /// The method of a page; `None` if there is none of this name. The front page's name is empty.
    fn verb(&self, page: &str) -> Option<Verb>;

    /// The answer of the page. Called only for pages that exist; no other client is served
    /// meanwhile.
    fn answer(&mut self, page: &str, body: &[u8]) -> Answer;

    /// Called at intervals, with or without requests.
    fn tick(&mut self) {}
}

/// Where to serve, and under which names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listen {
    /// The address; port 0 takes a free one.
    pub address: SocketAddr,
    /// Further values of the `Host` header that are served, such as `status.example.org:8080`; the
    /// address itself, and `localhost` where it is loopback, always are.
    pub hosts: Vec<String>,
    /// Pages that are also served without the token, at `/` and their names.
    pub open: Vec<&'static str>,
}

impl Listen {
    /// On loopback: only this machine can connect.
    #[must_use]
    pub fn loopback(port: u16) -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            hosts: Vec::new(),
            open: Vec::new(),
        }
    }
}

/// A running server; it ends when this is dropped.
pub struct Server {
    address: SocketAddr,
    token: String,
    _listener: Listener,
}

impl std::fmt::Debug for Server {
    /// Without the token: debug output ends up in logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Server {
    /// Binds the address, and serves the site from a thread of its own with this name.
    ///
    /// # Errors
    /// If the address cannot be bound, a host is invalid, or the operating system provides no
    /// thread or no randomness.
    pub fn start(name: &str, listen: &Listen, site: impl Site) -> io::Result<Self> {
        if let Some(host) = listen.hosts.iter().find(|it| it.is_empty() || !is_host(it.as_bytes()))
        {
            let why = format!("`{}` is not a host with an optional port", host.escape_debug());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let bound = Bound::new(listen.address)?;
        let (address, token) = (bound.address, token()?);
        let (hosts, open) = (hosts(address, &listen.hosts), listen.open.clone());
        let guard = PageGuard { hosts, token: token.clone(), open };
        let desk = Arc::new(RequestHandler { guard, site: Mutex::new(site) });
        let ticks = tick(Arc::clone(&desk));
        let ended = |what| {
            tracing::error!(
                target: "snapline::serve", %what,
                "the page server has ended and serves no more pages"
            );
        };
        let listener = Listener::start(name, bound, LIMITS, desk, ticks, ended)?;
        Ok(Self { address, token, _listener: listener })
    }

    /// The address that was bound.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of the front page: anyone who knows it may see all of it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/{}/", self.address, self.token)
    }
}

/// All that a server of this site answers to these bytes, which come `piece` at a time, if its
/// token is `token` and its address 127.0.0.1:80; `None` if there is no end to it.
#[cfg(feature = "fuzzing")]
#[must_use]
pub fn answers_to(bytes: &[u8], piece: usize, token: &str, site: impl Site) -> Option<Vec<u8>> {
    let hosts = hosts(SocketAddr::from(([127, 0, 0, 1], 80)), &[]);
    let guard = PageGuard { hosts, token: token.to_owned(), open: vec!["open"] };
    let desk = Arc::new(RequestHandler { guard, site: Mutex::new(site) });
    crate::listener::said::answers_to(bytes, piece, LIMITS, desk)
}

/// 128 bits from the operating system, in a form that a path can hold.
fn token() -> io::Result<String> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| io::Error::other(format!("cannot get random numbers: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The values of the `Host` header that are served.
fn hosts(address: SocketAddr, further: &[String]) -> Vec<String> {
    let mut hosts = vec![address.to_string()];
    if address.ip().is_loopback() {
        hosts.push(format!("localhost:{}", address.port()));
    }
    if address.port() == 80 {
        // A browser omits this port.
        let without = |host: &String| host.trim_end_matches(":80").to_owned();
        hosts.extend(hosts.iter().map(without).collect::<Vec<_>>());
    }
    hosts.extend(further.iter().map(|host| host.to_ascii_lowercase()));
    hosts
}

/// Who may ask, and for what.
struct PageGuard {
    hosts: Vec<String>,
    token: String,
    /// Pages for clients without the token.
    open: Vec<&'static str>,
}

fn refuse<T>(status: StatusCode, why: &'static str) -> Result<T, Refusal> {
    Err(Refusal::new(status, why))
}

impl PageGuard {
    /// The page that a request is for, once its permission is checked.
    fn admit<'a>(&self, uri: &'a Uri, headers: &HeaderMap) -> Result<&'a str, Refusal> {
        if uri.authority().is_some() || uri.scheme().is_some() {
            return refuse(StatusCode::BAD_REQUEST, "this server is not a proxy; request a path");
        }
        let mut asked = headers.get_all(header::HOST).iter();
        let host = match (asked.next(), asked.next()) {
            (Some(host), None) => host.to_str().unwrap_or_default().to_ascii_lowercase(),
            _ => return refuse(StatusCode::BAD_REQUEST, "a request must have one Host header"),
        };
        // A page elsewhere whose name was made to point here cannot change the `Host` that its
        // browser sends.
        if !self.hosts.contains(&host) {
            return refuse(
                StatusCode::FORBIDDEN,
                "this host is not served; open the address that was printed",
            );
        }
        let path = uri.path().strip_prefix('/').unwrap_or_default();
        if let Some(page) = self.open.iter().find(|&&page| page == path) {
            return Ok(page);
        }
        let (token, page) = path.split_once('/').unwrap_or((path, "/"));
        // The time this takes does not show how much of the token was right.
        if !bool::from(token.as_bytes().ct_eq(self.token.as_bytes())) {
            return refuse(
                StatusCode::FORBIDDEN,
                "the token is missing or wrong; open the address that was printed, all of it",
            );
        }
        Ok(page)
    }

    /// Whether a request with a body comes from a page of this server, or from no page at all.
    fn may_post(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let origin = headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default());
        let ours = |origin: &str| {
            let host = origin.strip_prefix("http://").unwrap_or_default();
            self.hosts.iter().any(|known| known == host)
        };
        if !origin.is_none_or(ours) {
            return refuse(StatusCode::FORBIDDEN, "another site may not make this request");
        }
        let media = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
        match media.is_some_and(|media| media.starts_with(b"application/json")) {
            true => Ok(()),
            false => {
                refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body must be application/json")
            }
        }
    }
}

/// What all connections share.
struct RequestHandler<S> {
    guard: PageGuard,
    site: Mutex<S>,
}

impl<S: Site> Answers for RequestHandler<S> {
    async fn answer(
        &self,
        request: Request<Incoming>,
        guest: &Guest,
    ) -> Result<Response<Full<Bytes>>, Refusal> {
        let (head, body) = request.into_parts();
        let page = self.guard.admit(&head.uri, &head.headers)?;
        // A page is found by its exact name only: there are no files, no folders and nothing to
        // decode.
        let verb = lock(&self.site).verb(page);
        let missing = || Refusal::new(StatusCode::NOT_FOUND, "there is no such page");
        let body = match (verb.ok_or_else(missing)?, head.method) {
            (Verb::Get, Method::GET) => Vec::new(),
            (Verb::Post, Method::POST) => {
                self.guard.may_post(&head.headers)?;
                if head.headers.contains_key(header::CONTENT_ENCODING) {
                    let why = "the body must not be encoded";
                    let refusal = Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, why);
                    return Err(refusal.with(header::ACCEPT_ENCODING, "identity"));
                }
                guest.body(body, MAX_BODY, BODY_TIME).await?
            }
            (Verb::Get, _) => return Err(Refusal::method("GET")),
            (Verb::Post, _) => return Err(Refusal::method("POST")),
        };
        let answered = guarded(|| Ok(lock(&self.site).answer(page, &body)));
        let answer = answered.map_err(|error| {
            tracing::error!(target: "snapline::serve", %error, page, "cannot make a page");
            let why = "this page cannot be made; see the log";
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, why)
        })?;
        let mut response = Response::new(Full::new(Bytes::from(answer.body)));
        *response.status_mut() = if answer.good { StatusCode::OK } else { StatusCode::BAD_REQUEST };
        let media = HeaderValue::from_static(answer.media);
        response.headers_mut().insert(header::CONTENT_TYPE, media);
        Ok(response)
    }

    fn dress(&self, headers: &mut HeaderMap) {
        // Nothing is loaded from elsewhere, framed, cached, or sent to other sites: not even the
        // address, which holds the token.
        for (name, value) in [
            (
                header::CONTENT_SECURITY_POLICY,
                "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; img-src data:; \
                 base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            ),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::X_FRAME_OPTIONS, "DENY"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::CACHE_CONTROL, "no-store"),
            (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
            (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
}

async fn tick<S: Site>(desk: Arc<RequestHandler<S>>) {
    loop {
        let ticked = guarded(|| {
            lock(&desk.site).tick();
            Ok(())
        });
        if let Err(error) = ticked {
            tracing::error!(target: "snapline::serve", %error, "cannot update a page's data");
        }
        tokio::time::sleep(TICK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> PageGuard {
        let address = SocketAddr::from(([127, 0, 0, 1], 4711));
        let hosts = hosts(address, &["Status.example.org".into()]);
        PageGuard { hosts, token: "c0ffee".into(), open: vec!["metrics"] }
    }

    fn headers(hosts: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(header::HOST, HeaderValue::from_static(host));
        }
        headers
    }

    fn admit(host: &[&'static str], path: &str) -> Result<String, u16> {
        let uri: Uri = path.parse().expect("a URI");
        guard()
            .admit(&uri, &headers(host))
            .map(str::to_owned)
            .map_err(|refusal| refusal.status.as_u16())
    }

    #[test]
    fn the_address_that_was_printed_is_served_and_nothing_else() {
        let here = &["127.0.0.1:4711"][..];
        assert_eq!(admit(here, "/c0ffee/"), Ok(String::new()));
        assert_eq!(admit(here, "/c0ffee/status?x=/../y"), Ok("status".into()));
        for host in ["localhost:4711", "LOCALHOST:4711", "status.example.org"] {
            assert_eq!(admit(&[host], "/c0ffee/a/b"), Ok("a/b".into()), "{host}");
        }
        for host in
            ["127.0.0.1", "127.0.0.1:80", "evil.example", "evil.example:4711", "", "localhost"]
        {
            assert_eq!(admit(&[host], "/c0ffee/"), Err(403), "{host}");
        }
        assert_eq!(admit(&[], "/c0ffee/"), Err(400));
        assert_eq!(admit(&["127.0.0.1:4711", "127.0.0.1:4711"], "/c0ffee/"), Err(400));
        assert_eq!(admit(here, "http://127.0.0.1:4711/c0ffee/"), Err(400));
        for path in [
            "/",
            "//",
            "/c0ffe/",
            "/c0ffee0/",
            "/C0FFEE/",
            "/%630ffee/",
            "/x/../c0ffee/",
            "/x/c0ffee/",
            "/.",
            "/?c0ffee/",
            "/;c0ffee/",
        ] {
            assert_eq!(admit(here, path), Err(403), "{path}");
        }
        // An open page is open by its whole name only, on the hosts that are served.
        assert_eq!(admit(here, "/metrics?x"), Ok("metrics".into()));
        assert_eq!(admit(&["evil.example"], "/metrics"), Err(403));
        for path in ["/metrics/", "/metrics/x", "//metrics", "/Metrics", "/x/metrics"] {
            assert_eq!(admit(here, path), Err(403), "{path}");
        }
        // Without the slash there is no page of this name, and nothing is forwarded: the token must
        // not be in a header.
        assert_eq!(admit(here, "/c0ffee"), Ok("/".into()));
    }

    #[test]
    fn what_a_browser_leaves_out_is_understood() {
        let at = |address: &str| hosts(address.parse().expect("an address"), &[]);
        assert_eq!(at("127.0.0.1:80"), ["127.0.0.1:80", "localhost:80", "127.0.0.1", "localhost"]);
        assert_eq!(at("[::1]:8080"), ["[::1]:8080", "localhost:8080"]);
        assert_eq!(at("192.0.2.1:8080"), ["192.0.2.1:8080"], "only loopback is localhost");
    }

    #[test]
    fn another_site_cannot_post() {
        let (guard, mut headers) = (guard(), HeaderMap::new());
        let status = |headers: &HeaderMap| {
            guard.may_post(headers).map_err(|refusal| refusal.status.as_u16())
        };
        assert_eq!(status(&headers), Err(415));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        assert_eq!(status(&headers), Err(415));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        assert_eq!(status(&headers), Ok(()));
        for (origin, result) in [
            ("http://127.0.0.1:4711", Ok(())),
            ("http://localhost:4711", Ok(())),
            ("https://127.0.0.1:4711", Err(403)),
            ("http://evil.example", Err(403)),
            ("null", Err(403)),
            ("", Err(403)),
        ] {
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            assert_eq!(status(&headers), result, "{origin}");
        }
    }

    #[test]
    fn no_two_tokens_are_the_same() {
        let tokens: std::collections::BTreeSet<String> =
            (0..100).map(|_| token().expect("random numbers")).collect();
        assert_eq!(tokens.len(), 100);
        assert!(tokens.iter().all(|token| token.len() == 32));
    }

    #[test]
    fn the_token_is_in_no_debug_output() {
        struct Empty;
        impl Site for Empty {
            fn verb(&self, _: &str) -> Option<Verb> {
                None
            }
            fn answer(&mut self, _: &str, _: &[u8]) -> Answer {
                Answer::wrong(String::new())
            }
        }
        let server = Server::start("test", &Listen::loopback(0), Empty).expect("it starts");
        assert!(server.address().ip().is_loopback());
        assert!(!format!("{server:?}").contains(&server.token));
        assert!(server.url().contains(&server.token));
    }
}
