//! The errors of the webhook sink, and refused requests.

use std::fmt;

use snapline_core::connect::ConnectorError;

/// Why a [`WebhookSink`](super::WebhookSink) failed. The message says what failed, on what, and
/// what can be done.
#[non_exhaustive]
pub enum WebhookError {
    /// Requests cannot be sent to the address.
    BadUrl {
        /// The address, without user, password and query.
        url: String,
        /// The reason.
        why: String,
    },
    /// A header that cannot be sent.
    BadHeader {
        /// Its name.
        name: String,
        /// The reason. Its value is not shown.
        why: &'static str,
    },
    /// The receiver refuses a request for good.
    Refused {
        /// The receiver's address, without user, password and query.
        url: String,
        /// The request's idempotency key.
        key: String,
        /// The response's status.
        status: u16,
        /// The beginning of the response's body.
        said: String,
    },
    /// A record cannot be written as JSON.
    Encode {
        /// serde's error.
        why: String,
    },
    /// More was written between two checkpoints than a checkpoint may hold.
    TooMuch {
        /// The sink's operator.
        operator: String,
        /// The bound, in bytes.
        limit: usize,
    },
    /// The operating system provides no socket to send through.
    Io(std::io::Error),
}

impl fmt::Display for WebhookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadUrl { url, why } => {
                write!(
                    f,
                    "cannot send to `{url}`: {why}; give `http://[user:password@]host[:port]/path`"
                )
            }
            Self::BadHeader { name, why } => write!(f, "header `{name}` cannot be sent: {why}"),
            Self::Refused { url, key, status, said } => write!(
                f,
                "{url} refused request `{key}` with {status}: {said}; its checkpoint is complete, \
                 so the request is neither lost nor skipped: correct the receiver and start again, \
                 or choose what to do with such requests (`refused`)"
            ),
            Self::Encode { why } => write!(f, "a record cannot be written as JSON: {why}"),
            Self::TooMuch { operator, limit } => write!(
                f,
                "sink `{operator}`: more than {limit} bytes were written between two checkpoints; take checkpoints more often, or \
                 raise the limit (`most_bytes`)"
            ),
            Self::Io(error) => write!(f, "cannot connect: {error}"),
        }
    }
}

snapline_protocol::error_in_words!(WebhookError);

impl ConnectorError for WebhookError {
    fn is_permanent(&self, _: bool) -> bool {
        matches!(
            self,
            Self::Refused { .. }
                | Self::Encode { .. }
                | Self::BadUrl { .. }
                | Self::BadHeader { .. }
        )
    }
}

/// A request that the receiver refused for good.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RefusedRequest {
    /// Its idempotency key.
    pub key: String,
    /// Its body.
    pub body: String,
    /// The response's status.
    pub status: u16,
    /// The beginning of the response's body.
    pub said: String,
}
