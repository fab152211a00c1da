//! HTTP requests that ask for no WebSocket.

use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;

use crate::secret::Token;

/// A request to the HTTP front door of a server for another path than those of
/// [`is_link_path`](super::is_link_path).
///
/// ```
/// # use std::time::Instant;
/// # use linksocks_sansio::{Action, Engine, Input, Output, ServerConfig, ServerEngine, Ticket};
/// use linksocks_sansio::io::HttpRequest;
///
/// # let now = Instant::now();
/// # let mut server = ServerEngine::new(ServerConfig::default(), [7; 32], now);
/// let (method, path) = ("GET".to_owned(), "/".to_owned());
/// let peer = "192.0.2.2:40000".parse()?;
/// let request = HttpRequest { peer, method, path, api_key: None, body: Default::default() };
/// server.handle_input(now, Input::HttpRequest { ticket: Ticket(1), request: request.into() });
/// let Output::Action(Action::HttpResponse { response, .. }) = server.poll_output() else { panic!() };
/// assert_eq!((response.status, response.content_type), (200, "text/plain; charset=utf-8"));
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
///
/// `Debug` shows neither key nor path nor body: in all of them may be tokens.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// Who asks.
    pub peer: SocketAddr,
    /// The method, in capitals as it was sent.
    pub method: String,
    /// The path without the query, still percent-encoded.
    pub path: String,
    /// The value of the header [`X-API-Key`](crate::http::admin::KEY_HEADER); `None` also if it can be
    /// no key, because it is too long or not UTF-8.
    pub api_key: Option<Token>,
    /// The whole body, at most [`MAX_BODY`](crate::http::admin::MAX_BODY) bytes. A driver may leave
    /// that of a request without a key away.
    pub body: Bytes,
}

impl fmt::Debug for HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpRequest")
            .field("method", &self.method)
            .field("body", &format_args!("{} bytes", self.body.len()))
            .finish_non_exhaustive()
    }
}

/// The answer to an [`HttpRequest`].
///
/// `Debug` leaves the body out: there may be tokens in it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct HttpResponse {
    /// The HTTP status code.
    pub status: u16,
    /// The value of the header `Content-Type`.
    pub content_type: &'static str,
    /// The whole body.
    pub body: Bytes,
}

impl fmt::Debug for HttpResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpResponse")
            .field("status", &self.status)
            .field("content_type", &self.content_type)
            .field("body", &format_args!("{} bytes", self.body.len()))
            .finish()
    }
}
