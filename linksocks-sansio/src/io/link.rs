//! How the WebSocket of a link begins and ends.

use std::fmt;
use std::net::SocketAddr;

use crate::error::SocketError;
use crate::header::RequestHeader;
use crate::url::LINK_PATH;

/// Whether a server has links at this path, with an [`UpgradeRequest`] for each. Any other path is for an
/// [`HttpRequest`](super::HttpRequest).
///
/// ```
/// use linksocks_sansio::io::is_link_path;
/// assert!(is_link_path("/socket") && is_link_path("/socket/eu"));
/// assert!(!is_link_path("/sockets") && !is_link_path("/api/status"));
/// ```
#[must_use]
pub fn is_link_path(path: &str) -> bool {
    let below = path.strip_prefix(LINK_PATH);
    below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The most bytes of text that a close frame can carry: 125 less the code (RFC 6455 section 5.5).
pub const MAX_CLOSE_REASON: usize = 123;

/// A WebSocket close frame.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CloseFrame {
    /// Close code (RFC 6455 section 7.4).
    pub code: u16,
    /// UTF-8 text of at most [`MAX_CLOSE_REASON`] bytes.
    pub reason: String,
}

/// How a link ended, as far as the driver knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkClose {
    /// A close frame came from the peer.
    Peer(Option<CloseFrame>),
    /// The transport ended or failed without a close frame.
    Transport(SocketError),
    /// We closed it, as [`Action::CloseLink`](super::Action::CloseLink) asked.
    Local,
}

/// A rule of the WebSocket layer that the peer broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameViolation {
    /// A message over the size limit.
    TooLarge,
    /// A text message; LinkSocks messages are binary.
    Text,
    /// Anything else: bad opcode, mask, fragmentation, length.
    Framing,
}

/// The parts of an upgrade request that the server engine decides on. That it is a proper one (RFC 6455
/// section 4.2.1) the driver has checked, and answers the handshake itself.
///
/// `Debug` leaves the query out: it carries the token hash.
#[derive(Clone, PartialEq, Eq)]
pub struct UpgradeRequest {
    /// The path, still percent-encoded.
    pub path: String,
    /// The query without `?`, still percent-encoded; empty if there is none.
    pub query: String,
    /// The value of the header `LinkSocks-Extensions`.
    pub extensions: Option<String>,
    /// The client: the TCP peer, or whom a [trusted](crate::http::forwarded) reverse proxy names, with port 0
    /// if it names none. Wrong tokens are counted per address.
    pub peer: SocketAddr,
}

impl fmt::Debug for UpgradeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpgradeRequest")
            .field("path", &self.path)
            .field("extensions", &self.extensions)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

/// The parts of a 101 response that the client engine decides on.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct UpgradeResponse {
    /// The value of the header `LinkSocks-Extensions`.
    pub extensions: Option<String>,
}

/// The upgrade request that a client sends: GET with these headers, and those of RFC 6455 section 4.1 but
/// `Origin`, `Sec-WebSocket-Protocol` and `Sec-WebSocket-Extensions`. The driver checks the answer to them.
///
/// `Debug` leaves the query out: it carries the token hash.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct LinkRequest {
    /// Whether the connection is to be secured by TLS first (`wss`).
    pub secure: bool,
    /// Whom a certificate must be for: a name, or an IP address without brackets.
    pub server_name: String,
    /// The value of the `Host` header: host and, unless it is the default, port.
    pub authority: String,
    /// Path and query.
    pub path_and_query: String,
    /// The value of the header `LinkSocks-Extensions`, if one is to be sent.
    pub extensions: Option<String>,
    /// More headers.
    pub headers: Vec<RequestHeader>,
}

impl fmt::Debug for LinkRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkRequest")
            .field("secure", &self.secure)
            .field("server_name", &self.server_name)
            .field("authority", &self.authority)
            .field("extensions", &self.extensions)
            .field("headers", &self.headers)
            .finish_non_exhaustive()
    }
}
