//! What an engine tells people: for logs and metrics, never for control.
//!
//! Ids are for log lines, too: [`Display`](std::fmt::Display) gives `link3.0`, `socket1.2`. No event holds
//! a token or payload, unless the peer puts one into its words ([`Event::PeerLog`],
//! [`Event::ConnectorRefused`]); targets are in [`Event::ChannelOpened`] and in texts of errors.

use std::net::SocketAddr;
use std::time::Duration;

use crate::accounts::Exhausted;
use crate::error::{ChannelError, LinkError, SessionError, SocketError};
use crate::ids::{LinkId, SocketId};
use crate::io::ChannelRef;
use crate::link::Extensions;
use crate::socks5::TargetAddr;
use crate::token::TokenError;

/// What a client of a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientKind {
    /// The server connects to targets for it.
    Forward,
    /// It connects to targets for others.
    Provider,
    /// Providers connect to targets for it.
    Connector,
}

/// Something worth a log line. Every event may be ignored.
///
/// ```
/// # use std::time::Instant;
/// use linksocks_sansio::error::SocketError;
/// # use linksocks_sansio::{Action, ClientConfig, ClientEngine, Engine, Input, Output, ServerUrl, Token};
/// use linksocks_sansio::Event;
///
/// fn log_line(event: &Event) -> Option<String> {
///     match event {
///         Event::LinkReady { ready, total, .. } => Some(format!("{ready} of {total} links are up")),
///         Event::LinkLost { error, retry_in: Some(delay), .. } => {
///             Some(format!("{error}; again in {} s", delay.as_secs()))
///         }
///         Event::LinkLost { error, .. } => Some(error.to_string()),
///         _ => None,
///     }
/// }
///
/// # let config = ClientConfig::new(ServerUrl::parse("ws://192.0.2.1:8765")?, Token::new("secret")?);
/// # let now = Instant::now();
/// # let mut config = config;
/// # config.backoff = linksocks_sansio::config::BackoffConfig::fixed(std::time::Duration::from_secs(5));
/// # let mut client = ClientEngine::new(config, [7; 32], now);
/// // Nothing listens at the server's address.
/// let mut log = Vec::new();
/// loop {
///     match client.poll_output() {
///         Output::Action(Action::Connect { socket, .. }) => {
///             let error = SocketError::Refused;
///             client.handle_input(now, Input::SocketFailed { socket, error });
///         }
///         Output::Event(event) => log.extend(log_line(&event)),
///         Output::Timeout(_) => break,
///         _ => {}
///     }
/// }
/// assert_eq!(log, ["dial 192.0.2.1:8765: connection refused; again in 5 s"]);
/// # Ok::<(), linksocks_sansio::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The SOCKS port is open.
    SocksListening {
        /// Where.
        local: SocketAddr,
    },
    /// A client starts an attempt to connect.
    LinkConnecting {
        /// The link.
        link: LinkId,
    },
    /// The server redirects an attempt; another link takes the place of this one.
    LinkRedirected {
        /// The link; its id is dead.
        link: LinkId,
        /// Where to, without parameters.
        url: String,
    },
    /// A client's link is authenticated and usable.
    LinkReady {
        /// The link.
        link: LinkId,
        /// What was negotiated.
        extensions: Extensions,
        /// How many links are ready now.
        ready: usize,
        /// How many links there shall be.
        total: usize,
    },
    /// A SOCKS port of a server can't be opened; the next provider that joins is the next occasion.
    SocksUnavailable {
        /// Where.
        address: SocketAddr,
        /// Why.
        error: SocketError,
    },
    /// A server has a new token.
    TokenAdded {
        /// What its clients are.
        kind: ClientKind,
        /// Its SOCKS port, if it has one.
        port: Option<u16>,
    },
    /// A token of the configuration of a server can't be used.
    TokenRefused {
        /// Why.
        error: TokenError,
    },
    /// A token is gone, and so are its clients.
    TokenRemoved {
        /// What they were.
        kind: ClientKind,
    },
    /// The server lets connectors in by a token of this provider.
    ConnectorAdded {
        /// The link.
        link: LinkId,
    },
    /// The server does not.
    ConnectorRefused {
        /// The link.
        link: LinkId,
        /// Why, in its words.
        reason: String,
    },
    /// A client has logged in to this server.
    ClientAuthenticated {
        /// The link.
        link: LinkId,
        /// Where it is, see [`UpgradeRequest::peer`](crate::io::UpgradeRequest::peer).
        peer: SocketAddr,
        /// What it may do.
        kind: ClientKind,
        /// What was negotiated.
        extensions: Extensions,
    },
    /// A client was turned away by this server.
    ClientRejected {
        /// The link.
        link: LinkId,
        /// Where it is, see [`UpgradeRequest::peer`](crate::io::UpgradeRequest::peer).
        peer: SocketAddr,
        /// Why.
        error: LinkError,
    },
    /// A logged-in client is gone.
    ClientDisconnected {
        /// The link.
        link: LinkId,
        /// Where it is, see [`UpgradeRequest::peer`](crate::io::UpgradeRequest::peer).
        peer: SocketAddr,
        /// Why.
        error: LinkError,
    },
    /// A client's link could not be made, or was lost.
    LinkLost {
        /// The link.
        link: LinkId,
        /// Why.
        error: LinkError,
        /// When the next attempt follows, if one does.
        retry_in: Option<Duration>,
    },
    /// A link is lost, but its channels wait for the client to come back.
    LinkSuspended {
        /// The link; its id is dead.
        link: LinkId,
        /// How many channels wait, UDP associations among them.
        channels: usize,
        /// For how long.
        grace: Duration,
    },
    /// The client is back, and the channels of the lost link go on where they were.
    LinkResumed {
        /// The new link.
        link: LinkId,
        /// How many channels.
        channels: usize,
        /// How many messages of this side have to be sent again.
        replayed: usize,
    },
    /// The channels of a lost link wait no longer; they are reset.
    SessionLost {
        /// How many channels waited.
        channels: usize,
        /// Why.
        error: SessionError,
    },
    /// The first pong of a link has come.
    LinkLatency {
        /// The link.
        link: LinkId,
        /// The round trip time.
        round_trip: Duration,
    },
    /// The peer writes another minor version. Told once per link.
    MinorVersion {
        /// The link.
        link: LinkId,
        /// The peer's version byte.
        version: u8,
    },
    /// The peer sent a line for our log.
    PeerLog {
        /// The link.
        link: LinkId,
        /// Its level as sent.
        level: String,
        /// The line.
        message: String,
    },
    /// A message was ignored.
    MessageIgnored {
        /// The link.
        link: LinkId,
        /// Why.
        reason: String,
    },
    /// The receive budget of a link is full; reading from it has stopped.
    ReceivePaused {
        /// The link.
        link: LinkId,
    },
    /// Reading from the link goes on.
    ReceiveResumed {
        /// The link.
        link: LinkId,
    },
    /// Somebody got nothing more, because a limit is reached. Told once, until use has become clearly less.
    LimitReached(Exhausted),
    /// A SOCKS request ended before it had a channel.
    SocksFailed {
        /// The socket.
        socket: SocketId,
        /// Why.
        reason: String,
    },
    /// A channel is established.
    ChannelOpened {
        /// The channel.
        channel: ChannelRef,
        /// Where it leads to.
        target: TargetAddr,
    },
    /// A UDP association is established.
    AssociationOpened {
        /// The channel.
        channel: ChannelRef,
        /// Where the application sends its datagrams to; `None` on the dial side and for an embedder.
        local: Option<SocketAddr>,
    },
    /// A UDP association has ended.
    AssociationClosed {
        /// The channel.
        channel: ChannelRef,
        /// Datagrams sent to the peer.
        sent: u64,
        /// Datagrams received from the peer and passed on.
        received: u64,
        /// Datagrams dropped, in both directions.
        dropped: u64,
        /// Why, unless the application ended it.
        error: Option<ChannelError>,
    },
    /// A channel has ended.
    ChannelClosed {
        /// The channel.
        channel: ChannelRef,
        /// Stream bytes sent to the peer.
        sent: u64,
        /// Stream bytes received from the peer and written to the local socket.
        received: u64,
        /// Why, unless both directions ended regularly.
        error: Option<ChannelError>,
    },
}
