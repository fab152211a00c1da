//! What strangers may take of a server, and for how long: everything up to the WebSocket.
//!
//! | what a connection does | how long or how much | then |
//! |---|---|---|
//! | nothing, or a slow TLS handshake | [`HANDSHAKE`] | closed |
//! | a slow request head | [`HEAD`] | closed |
//! | a slow body, or it does not read the answer | [`CONNECTION`] | closed |
//! | a long head, many header fields | [`HEAD_BYTES`], [`HEADER_FIELDS`] | 431, closed |
//! | a long body | [`linksocks_sansio::http::admin::MAX_BODY`] | 413, after at most [`DISCARDED_BYTES`], closed |
//! | a second request | | not read: every answer closes |
//! | one of too many | [`CONNECTIONS`], [`CONNECTIONS_PER_ADDRESS`] | closed unread |
//!
//! From the upgrade on, the limits are those of the engine.

use std::time::Duration;

/// Connections that are not WebSockets yet.
pub(super) const CONNECTIONS: usize = 1024;
/// Those of them from one address ([`linksocks_sansio::access::whose`]), so that one client can't keep others
/// out. A trusted proxy may have all; its clients share the same way once it has named them.
pub(super) const CONNECTIONS_PER_ADDRESS: usize = 64;
/// The TLS handshake.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(10);
/// The head of the request, from the beginning of the connection or the end of the handshake.
pub(super) const HEAD: Duration = Duration::from_secs(10);
/// Head, body and answer together.
pub(super) const CONNECTION: Duration = Duration::from_secs(30);
/// The longest request head.
pub(super) const HEAD_BYTES: usize = 16 * 1024;
/// The most header fields.
pub(super) const HEADER_FIELDS: usize = 100;
/// How much is read of a body that is too long: a peer that writes before it reads would lose the answer if
/// the connection were closed on it.
pub(super) const DISCARDED_BYTES: usize = 1024 * 1024;
