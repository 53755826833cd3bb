//! The receiver's address and headers, and how little of them is shown.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Uri;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::uri::Authority;
use percent_encoding::percent_decode_str;

use super::WebhookError;
use crate::listener::is_host;

/// The length of the kept beginning of a response body, for people.
const EXCERPT: usize = 300;

/// Headers that frame a request, that apply to one hop only, or that the sink sends itself.
const RESERVED: [&str; 11] = [
    "connection",
    "content-encoding",
    "content-length",
    "expect",
    "idempotency-key",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The receiver of the requests: its address and headers.
#[derive(Clone)]
pub(super) struct Receiver {
    /// The address in a form that may be shown.
    pub(super) shown: String,
    /// Host and port, to connect to.
    pub(super) place: (String, u16),
    pub(super) host: HeaderValue,
    pub(super) target: Uri,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// Texts that are never shown, even if the receiver sends them.
    secrets: Vec<String>,
}

impl Receiver {
    pub(super) fn new(url: &str) -> Result<Self, WebhookError> {
        let bad = |why: &str| WebhookError::BadUrl { url: shown(url), why: why.into() };
        if let Some(odd) = url.chars().find(|it| !it.is_ascii_graphic()) {
            return Err(bad(&format!(
                "{odd:?} is not a visible ASCII character; percent-encode it"
            )));
        }
        if url.contains('#') {
            return Err(bad("the part after `#` is not sent; write a `#` itself as `%23`"));
        }
        let uri: Uri = url.parse().map_err(|error| bad(&format!("{error}")))?;
        if uri.scheme_str() != Some("http") {
            return Err(bad("only `http` is supported"));
        }
        let authority = uri.authority().ok_or_else(|| bad("it names no host"))?.as_str();
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        if host.is_empty() || !is_host(host.as_bytes()) {
            return Err(bad("its host is not a name, or its port is not a number"));
        }
        let place: Authority = host.parse().map_err(|_| bad("its host is not a name"))?;
        let name = place.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = place.port_u16().unwrap_or(80);
        if port == 0 {
            return Err(bad("nothing can be sent to port 0"));
        }
        let target = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut receiver = Self {
            shown: shown(url),
            place: (name, port),
            host: HeaderValue::from_str(host).map_err(|_| bad("its host is not valid"))?,
            target: target.parse().map_err(|_| bad("its path is not valid"))?,
            headers: Vec::new(),
            secrets: Vec::new(),
        };
        if let Some(user) = user {
            let (user, password) = user.split_once(':').unwrap_or((user, ""));
            let [user, password] = [user, password]
                .map(|part| percent_decode_str(part).decode_utf8().map(String::from));
            let (Ok(user), Ok(password)) = (user, password) else {
                return Err(bad("its user and password are not UTF-8"));
            };
            let is_odd = |text: &str| text.chars().any(char::is_control);
            if user.contains(':') || is_odd(&user) || is_odd(&password) {
                return Err(bad("its user has a colon, or its password a control character"));
            }
            if user.trim().is_empty() && password.trim().is_empty() {
                return Err(bad("its user and password are empty"));
            }
            let basic = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
            receiver.header("authorization", &basic)?;
            receiver.keep(password);
        }
        // A receiver without such a path repeats the path, and a token may be in its query.
        let query = uri.query().unwrap_or_default();
        let values = query.split('&').filter_map(|part| Some(part.split_once('=')?.1));
        for secret in values.chain([query]) {
            receiver.keep(secret.to_owned());
            receiver.keep(percent_decode_str(secret).decode_utf8_lossy().into_owned());
        }
        Ok(receiver)
    }

    pub(super) fn header(&mut self, name: &str, value: &str) -> Result<(), WebhookError> {
        let bad = |why| Err(WebhookError::BadHeader { name: name.escape_debug().to_string(), why });
        let Ok(named) = name.parse::<HeaderName>() else {
            return bad("its name is not a valid header name");
        };
        let ascii = Some(value).filter(|value| value.is_ascii());
        let Some(mut sent) = ascii.and_then(|value| HeaderValue::from_str(value).ok()) else {
            return bad(
                "its value has an end of line or another character that is not visible ASCII",
            );
        };
        if RESERVED.contains(&named.as_str()) {
            return bad("it frames the request, or the sink sends it itself");
        }
        if self.headers.iter().any(|(other, _)| *other == named) {
            return bad("it was already given, here or by the address");
        }
        let word = value.trim();
        if named == header::HOST && (word.is_empty() || !is_host(word.as_bytes())) {
            return bad("its value is not a host name with an optional port");
        }
        if named == header::AUTHORIZATION {
            let schemes = ["", "basic", "bearer", "token", "digest"];
            if schemes.contains(&word.to_ascii_lowercase().as_str()) {
                return bad("it has no credentials in it");
            }
        }
        if is_secret(named.as_str()) {
            word.split_once(' ').into_iter().for_each(|(_, rest)| self.keep(rest.trim().into()));
            self.keep(word.into());
        }
        sent.set_sensitive(true);
        self.headers.push((named, sent));
        Ok(())
    }

    fn keep(&mut self, secret: String) {
        // A shorter text occurs anywhere.
        if secret.len() >= 4 {
            self.secrets.push(secret);
        }
    }

    /// The beginning of a response body, on one line; it ends before the first text that was sent
    /// as a secret.
    pub(super) fn excerpt(&self, body: &[u8]) -> String {
        let longest = self.secrets.iter().map(String::len).max().unwrap_or(0);
        let body = &body[..body.len().min(EXCERPT.saturating_add(longest))];
        let text = String::from_utf8_lossy(body);
        let secrets = self.secrets.iter().filter_map(|secret| text.find(secret.as_str()));
        let secret = secrets.min();
        let plain = text[..secret.unwrap_or(text.len())].trim().chars().take(EXCERPT);
        let plain: String = plain.map(|it| if it.is_control() { ' ' } else { it }).collect();
        plain + if secret.is_some() { " (not shown)" } else { "" }
    }
}

/// True if a header of this name holds a secret.
fn is_secret(name: &str) -> bool {
    let words = ["auth", "cookie", "credential", "key", "password", "secret", "signature", "token"];
    words.iter().any(|word| name.contains(word))
}

/// An address, perhaps an invalid one, without its user, its password, and everything from a `?` or
/// `#` on.
fn shown(url: &str) -> String {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), url),
    };
    // Whatever it is, even if a password contains a slash: the part before an `@` may be a secret.
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let is_address = url.parse::<Uri>().is_ok() && is_host(authority.as_bytes());
    let (hidden, rest) = match rest.rsplit_once('@') {
        Some((_, rest)) if !is_address => ("(not shown)@", rest),
        _ => ("", rest),
    };
    let (rest, more) = match rest.find(['?', '#']) {
        Some(at) => (&rest[..at], "?(not shown)"),
        None => (rest, ""),
    };
    format!("{scheme}{hidden}{rest}{more}").escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_an_address_has_no_secret() {
        for (url, expected) in [
            ("http://example.org/a/b", "http://example.org/a/b"),
            ("http://u:secret@example.org:8080/a", "http://(not shown)@example.org:8080/a"),
            ("http://secret@example.org/", "http://(not shown)@example.org/"),
            ("http://example.org/a?token=secret", "http://example.org/a?(not shown)"),
            ("http://example.org/a@b?x=secret@y", "http://example.org/a@b?(not shown)"),
            ("http://u:sec/ret@example.org/", "http://(not shown)@example.org/"),
            ("http://u:sec?ret@example.org/", "http://(not shown)@example.org/"),
            ("http://u:sec#ret@example.org/", "http://(not shown)@example.org/"),
            ("http://u:sec ret@example.org/", "http://(not shown)@example.org/"),
            ("http://u:sec@ret@example.org/", "http://(not shown)@example.org/"),
            ("u:secret@example.org", "(not shown)@example.org"),
            ("https://u:secret@", "https://(not shown)@"),
            ("http://example.org/\r\nX: y", "http://example.org/\\r\\nX: y"),
            ("\u{1b}[31m", "\\u{1b}[31m"),
        ] {
            assert_eq!(shown(url), expected, "{url:?}");
        }
    }

    #[test]
    fn an_answer_that_says_a_secret_is_shown_without_it() {
        let mut receiver = Receiver::new("http://user:pass-word@example.org/").expect("an address");
        receiver.header("X-Api-Key", "k3y-value").expect("a header");
        receiver.header("X-From", "here").expect("a header");
        receiver.header("Authorisation-Key", "").expect("a header");
        let basic = STANDARD.encode("user:pass-word");
        for secret in [basic.as_str(), "pass-word", "k3y-value"] {
            let said = format!(" on\n\u{1b}[2J here {secret} more");
            assert_eq!(receiver.excerpt(said.as_bytes()), "on  [2J here (not shown)");
            let edge = format!("{}{secret}{secret}", "x".repeat(EXCERPT - 5));
            assert!(!receiver.excerpt(edge.as_bytes()).contains(&secret[..4]));
        }
        let long = "y".repeat(EXCERPT + 9);
        assert_eq!(receiver.excerpt(long.as_bytes()), long[..EXCERPT]);
        assert_eq!(receiver.excerpt(b"\xff"), "\u{fffd}");
    }
}
