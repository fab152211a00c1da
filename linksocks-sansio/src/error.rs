//! Typed errors: what happened, to whom, and what to do about it.
//!
//! | error | of | goes to |
//! |---|---|---|
//! | [`ConfigError`] | texts and settings of a user | the user, before there is an engine |
//! | [`SocketError`], [`TlsFailure`], [`LinkFailure`] | IO | the engine, from the driver |
//! | [`LinkError`] (with [`RedirectError`], [`UpstreamError`]) | a link | [`Event`](crate::Event)s; if it is final, [`StopReason`] |
//! | [`ChannelError`] | a channel | [`Event`](crate::Event)s; as text to the other side |
//! | [`SessionError`] | channels of a lost link | [`Event::SessionLost`](crate::Event::SessionLost) |
//! | [`OpenError`] | a wish for a channel | the embedder, by [`Action::Refuse`](crate::io::Action::Refuse) |
//! | [`StopReason`] | an engine | the embedder, by [`Action::Stop`](crate::io::Action::Stop) |
//! | [`TokenError`] | adding and removing tokens | [`Action::AnswerToken`](crate::io::Action::AnswerToken) |
//!
//! [`Engine::handle_input`](crate::io::Engine::handle_input) returns none: what a peer does wrong ends its
//! link or channel. The codecs of [`wire`](crate::wire), [`socks5`](crate::socks5),
//! [`access`](crate::access) and [`http`](crate::http) have errors of their own.
//!
//! The texts are fit for logs: they repeat no token, password or payload. Some quote the peer, as it chose
//! to put it: [`LinkError::Rejected`], [`LinkError::Closed`], [`ChannelError::Refused`],
//! [`ChannelError::Remote`].
//!
//! ```
//! use linksocks_sansio::error::{LinkError, SocketError};
//!
//! let lost = LinkError::Lost(SocketError::Reset);
//! assert_eq!(lost.to_string(), "connection lost: connection reset by peer");
//! assert!(!lost.is_final()); // the client tries again
//! assert!(LinkError::Rejected("invalid token".into()).is_final()); // the operator must act
//! ```

use std::time::Duration;

use thiserror::Error;

use crate::accounts::Exhausted;

pub use crate::dial::UpstreamError;
use crate::socks5::TargetError;
use crate::token::TokenError;

mod upgrade;

pub use upgrade::{RedirectError, TlsFailure};

/// Why a socket operation failed, without any type of an operating system or runtime. The driver translates;
/// [`SocketError::Other`] is for what has no name here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum SocketError {
    /// Nothing listens at the address.
    #[error("connection refused")]
    Refused,
    /// The other end sent RST.
    #[error("connection reset by peer")]
    Reset,
    /// We wrote to a connection that the other end has closed.
    #[error("broken pipe")]
    BrokenPipe,
    /// The operating system gave up waiting.
    #[error("i/o timeout")]
    TimedOut,
    /// No route to the host.
    #[error("no route to host")]
    HostUnreachable,
    /// No route to the network.
    #[error("network is unreachable")]
    NetworkUnreachable,
    /// The name does not exist or has no address.
    #[error("no such host")]
    NameNotFound,
    /// The resolver failed.
    #[error("name lookup failed")]
    LookupFailed,
    /// Somebody else listens at the address.
    #[error("address already in use")]
    AddressInUse,
    /// The address is not one of this machine.
    #[error("cannot assign requested address")]
    AddressNotAvailable,
    /// The operating system forbids it.
    #[error("permission denied")]
    PermissionDenied,
    /// Out of descriptors or memory.
    #[error("too many open files")]
    Exhausted,
    /// The stream ended where it must not.
    #[error("unexpected end of stream")]
    UnexpectedEof,
    /// Anything else.
    #[error("i/o error")]
    Other,
}

/// Why a WebSocket could not be set up.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LinkFailure {
    /// The server answered the upgrade request with another status than 101.
    #[error("the server answered the upgrade with HTTP status {0}")]
    Status(u16),
    /// The server answered the upgrade request with 301, 302, 303, 307 or 308.
    #[error("the server answered the upgrade with a redirect")]
    Redirect {
        /// The value of the header `Location`: a URL, perhaps a relative one; not checked.
        location: String,
    },
    /// The connection could not be secured.
    #[error(transparent)]
    Tls(#[from] TlsFailure),
    /// The connection broke during the handshake.
    #[error("the connection failed during the handshake: {0}")]
    Io(#[from] SocketError),
    /// The answer is no valid WebSocket handshake.
    #[error("invalid WebSocket handshake: {0}")]
    Handshake(String),
    /// The driver was built without what the link needs.
    #[error("{0} is not supported by this build")]
    Unsupported(&'static str),
}

/// Why a link is not, or no longer, usable. The text goes to logs and to [`StopReason`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Error)]
pub enum LinkError {
    /// The server's address could not be resolved or reached.
    #[error("dial {address}: {error}")]
    Dial {
        /// `host:port` of the server.
        address: String,
        /// The last error of all addresses tried.
        error: SocketError,
    },
    /// The server could not be reached through the proxy.
    #[error("dial {address} via proxy: {error}")]
    Upstream {
        /// `host:port` of the server.
        address: String,
        /// What is wrong.
        error: UpstreamError,
    },
    /// The upgrade to a WebSocket failed.
    #[error("{0}")]
    Upgrade(String),
    /// The server refused the upgrade for good: an HTTP status that a retry can't change.
    #[error("the server refused the connection with HTTP status {0}; check the URL")]
    Refused(u16),
    /// The connection can't be secured, and a retry can't change that.
    #[error(transparent)]
    Tls(TlsFailure),
    /// The server redirects us to where we don't go.
    #[error("bad redirect: {0}")]
    Redirect(RedirectError),
    /// The driver was built without what the link needs.
    #[error("{0} is not supported by this build")]
    Unsupported(&'static str),
    /// The server rejected the token.
    #[error("authentication failed: {0}")]
    Rejected(String),
    /// The peer speaks another major version of the protocol.
    #[error("the peer speaks protocol version 0x{0:02x}, this side speaks 0x01; update the older side")]
    Version(u8),
    /// A deadline passed.
    #[error("{0}")]
    Timeout(&'static str),
    /// The peer broke the protocol.
    #[error("protocol error: {0}")]
    Protocol(String),
    /// The peer closed the WebSocket.
    #[error("closed by the peer{0}")]
    Closed(String),
    /// The connection broke.
    #[error("connection lost: {0}")]
    Lost(SocketError),
    /// The token has been removed.
    #[error("the token was removed")]
    TokenRemoved,
    /// The client has come back on another link, which goes on with the session.
    #[error("replaced by a new connection of the client")]
    Replaced,
    /// We are shutting down.
    #[error("shutting down")]
    Shutdown,
}

impl LinkError {
    /// Whether trying again can't help: the operator must act. It ends a client, but for a rejected token with
    /// [`ClientConfig::retry_auth`](crate::ClientConfig::retry_auth). After a first login, a client takes no
    /// failed upgrade for final.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Refused(_)
                | Self::Tls(_)
                | Self::Redirect(_)
                | Self::Unsupported(_)
                | Self::Rejected(_)
                | Self::Version(_)
        )
    }
}

/// Why a channel ended otherwise than by a regular close. The text travels in Disconnect and
/// ConnectResponse messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Error)]
pub enum ChannelError {
    /// The target could not be reached; the text is the one that Go's dialler would give.
    #[error("dial tcp {target}: {error}")]
    Dial {
        /// What was asked for.
        target: String,
        /// Why not.
        error: SocketError,
    },
    /// The target could not be reached in time.
    #[error("dial tcp {target}: i/o timeout")]
    DialTimeout {
        /// What was asked for.
        target: String,
    },
    /// The target could not be reached through the upstream proxy.
    #[error("dial tcp {target} via proxy: {error}")]
    Upstream {
        /// What was asked for.
        target: String,
        /// What is wrong.
        error: UpstreamError,
    },
    /// The request names no usable target.
    #[error("invalid target: {0}")]
    InvalidTarget(#[from] TargetError),
    /// The request asks for something that this peer does not do.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    /// No provider is there to connect to targets; the text is that of real servers.
    #[error("no available reverse clients")]
    NoProvider,
    /// Whoever the channel was for has closed its end.
    #[error("nobody listens any more")]
    NobodyListens,
    /// This peer does not dial for the other one.
    #[error("this peer accepts no connect requests")]
    NotADialSide,
    /// The channel id is in use.
    #[error("duplicate channel")]
    Duplicate,
    /// A limit is reached.
    #[error(transparent)]
    Limit(#[from] Exhausted),
    /// Whoever would have to be asked does not even take what it was asked before.
    #[error("the provider takes no more requests")]
    Congested,
    /// The other side did not answer the Connect in time.
    #[error("no connect response within {} s", .0.as_secs())]
    ResponseTimeout(Duration),
    /// The provider has been silent, or is gone, and another one is asked.
    #[error("no answer; another provider is asked")]
    Unanswered,
    /// The other side answered the Connect with a failure.
    #[error("{0}")]
    Refused(String),
    /// The local socket failed.
    #[error("{0}")]
    Socket(SocketError),
    /// The other side disconnected with a reason.
    #[error("{0}")]
    Remote(String),
    /// The link is gone.
    #[error("link lost")]
    LinkLost,
    /// The link is gone, and its session is over.
    #[error("link lost: {0}")]
    SessionLost(SessionError),
    /// A stalled reader while the receive budget was full.
    #[error("receive queue overflow")]
    Overflow,
    /// The other side broke a rule of the channel.
    #[error("protocol error: {0}")]
    Protocol(&'static str),
    /// The target was closed before everything was written to it.
    #[error("closed by the target before all data was delivered")]
    Truncated,
    /// A rule forbids the target.
    #[error("destination {0} blocked by access control")]
    Blocked(String),
    /// There was nothing in either direction for so long.
    #[error("no data for {} s", .0.as_secs())]
    Inactive(Duration),
    /// There was no datagram for so long.
    #[error("no datagram for {} s", .0.as_secs())]
    Idle(Duration),
    /// We are shutting down.
    #[error("shutting down")]
    Shutdown,
}

impl ChannelError {
    /// What the other side is told: where our proxy is, and what others use, is not for it.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the others are told as they are")]
    pub(crate) fn for_peer(&self) -> String {
        match self {
            Self::Upstream { target, error: UpstreamError::Unreachable { error, .. } } => {
                format!("dial tcp {target} via proxy: connect to the proxy: {error}")
            }
            Self::Limit(Exhausted { resource, .. }) => format!("too many {resource}"),
            _ => self.to_string(),
        }
    }
}

/// Why the channels of a lost link don't go on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Error)]
pub enum SessionError {
    /// The client was not back in time.
    #[error("not restored within {} s", .0.as_secs_f64())]
    Expired(Duration),
    /// The server does not know the session: it was restarted, or has given it up.
    #[error("the server does not know the session any more")]
    Unknown,
    /// The client will not take the session up again.
    #[error("given up by the client")]
    Abandoned,
    /// The token of the client has been removed.
    #[error("the token was removed")]
    Revoked,
    /// The peer can't have received what it says.
    #[error("the message counts of both sides disagree")]
    Diverged,
    /// We are shutting down.
    #[error("shutting down")]
    Shutdown,
}

/// Why [`Command::Open`](crate::io::Command::Open), [`Command::Associate`](crate::io::Command::Associate)
/// or an accepted connection was refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Error)]
pub enum OpenError {
    /// No link came up in time.
    #[error("no link to the server")]
    NoLink,
    /// The other side could not connect to the target.
    #[error("connect failed: {0}")]
    Connect(#[from] ChannelError),
    /// A rule of this side forbids the target.
    #[error("destination {0} blocked by access control")]
    Blocked(String),
    /// There is no socket for the datagrams of the application.
    #[error("can't bind a socket for datagrams: {0}")]
    Bind(SocketError),
    /// A limit is reached.
    #[error(transparent)]
    Limit(#[from] Exhausted),
    /// The other side does not even take what it was asked before.
    #[error("the other side takes no more requests")]
    Congested,
    /// This engine opens no channels.
    #[error("this peer opens no channels")]
    Unsupported,
    /// We are shutting down.
    #[error("shutting down")]
    Shutdown,
    /// The engine has stopped.
    #[error("stopped: {0}")]
    Stopped(StopReason),
}

/// Why an engine stopped.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Error)]
pub enum StopReason {
    /// [`Command::Shutdown`](crate::io::Command::Shutdown) is done.
    #[error("shut down")]
    Shutdown,
    /// No link can be had any more.
    #[error("{0}")]
    Link(LinkError),
    /// The task that drives the engine was ended from outside, or panicked.
    #[error("ended before it was done")]
    Aborted,
    /// The SOCKS listener could not be opened.
    #[error("failed to listen on {address}: {error}")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// Why not.
        error: SocketError,
    },
}

/// Why a configuration is unusable.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// The server URL can't be used.
    #[error("malformed ws or wss URL: {0}")]
    Url(String),
    /// The URL of an upstream proxy can't be used.
    #[error("malformed proxy URL: {0}")]
    Proxy(String),
    /// A header can't be sent.
    #[error("unusable header '{name}': {reason}")]
    Header {
        /// The name, or what stands in its place.
        name: String,
        /// Why not.
        reason: &'static str,
    },
    /// A token is longer than the wire can carry.
    #[error("a token has at most 255 bytes, this one has {0}")]
    TokenTooLong(usize),
    /// A token must not be empty here.
    #[error("the token is empty")]
    EmptyToken,
    /// The token text is reserved.
    #[error("'anonymous' is reserved and cannot be used as a token")]
    ReservedToken,
    /// A token can't be used.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Only one of user name and password is given.
    #[error("SOCKS authentication needs both a user name and a password")]
    HalfCredentials,
    /// A user name or password is longer than RFC 1929 allows.
    #[error("a SOCKS user name or password has at most 255 bytes")]
    CredentialsTooLong,
}
