//! A client that can send anything: bytes over TCP.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The longest time for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// An answer, as it came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// A connection with a time limit.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the server listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    stream.set_write_timeout(Some(PATIENCE)).expect("a time limit");
    stream
}

/// Sends these bytes and reads until the other side closes; `None` if it sends nothing.
pub(crate) fn send(address: SocketAddr, bytes: &[u8]) -> Option<Answer> {
    let mut stream = connect(address);
    // A server that has read enough may close before it has all of it.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() })
}

/// The address in two parts: socket address and token.
pub(crate) fn parts(url: &str) -> (SocketAddr, String) {
    let rest = url.strip_prefix("http://").expect("a URL");
    let (address, token) = rest.split_once('/').expect("a path");
    let token = token.strip_suffix('/').expect("a slash at the end").to_owned();
    (address.parse().expect("an address"), token)
}

/// Sends the request of a browser that was given the address.
pub(crate) fn get(url: &str, page: &str) -> Answer {
    let (address, token) = parts(url);
    let request = format!("GET /{token}/{page} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    send(address, request.as_bytes()).expect("an answer")
}
