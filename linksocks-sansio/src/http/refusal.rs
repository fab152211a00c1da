//! What a proxy answers instead of the target.

use bytes::Bytes;
use thiserror::Error;

use crate::error::OpenError;

/// The answer to a request that is not carried out. The connection is closed behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum Refusal {
    /// The request is malformed, or of a form that could be understood in two ways.
    #[error("{0}")]
    BadRequest(&'static str),
    /// There are no credentials.
    #[error("Proxy authentication required")]
    LoginRequired,
    /// There are wrong credentials.
    #[error("Proxy authentication required")]
    WrongLogin,
    /// There are some, but too many from this address were wrong.
    #[error("Too many failed logins from this address; try again later")]
    TooManyFailures,
    /// The entry rules forbid the target.
    #[error("Destination blocked by access control")]
    Blocked,
    /// A transfer coding that we don't know.
    #[error("Unsupported transfer coding")]
    UnknownCoding,
    /// The target could not be reached, or gave no usable answer.
    #[error("Connection failed")]
    ConnectionFailed,
    /// There is no link to the other side.
    #[error("No backend available")]
    NoBackend,
}

impl From<&OpenError> for Refusal {
    fn from(error: &OpenError) -> Self {
        match error {
            OpenError::NoLink
            | OpenError::Shutdown
            | OpenError::Stopped(_)
            | OpenError::Limit(_)
            | OpenError::Congested => Self::NoBackend,
            OpenError::Blocked(_) => Self::Blocked,
            OpenError::Connect(_) | OpenError::Unsupported | OpenError::Bind(_) => Self::ConnectionFailed,
        }
    }
}

impl Refusal {
    fn status(self) -> &'static str {
        match self {
            Self::BadRequest(_) => "400 Bad Request",
            Self::LoginRequired | Self::WrongLogin => "407 Proxy Authentication Required",
            Self::TooManyFailures => "429 Too Many Requests",
            Self::Blocked => "403 Forbidden",
            Self::UnknownCoding => "501 Not Implemented",
            Self::ConnectionFailed => "502 Bad Gateway",
            Self::NoBackend => "503 Service Unavailable",
        }
    }

    /// The whole answer; that to a HEAD request has no body.
    pub(crate) fn encode(self, to_head: bool) -> Bytes {
        let challenge = if matches!(self, Self::LoginRequired | Self::WrongLogin) {
            "Proxy-Authenticate: Basic realm=\"LinkSocks\"\r\n"
        } else {
            ""
        };
        let text = self.to_string();
        let body = if to_head { "" } else { &text };
        format!(
            "HTTP/1.1 {}\r\n{challenge}Content-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            self.status(),
            text.len(),
        )
        .into()
    }
}
