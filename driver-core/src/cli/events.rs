//! What engines tell, as log lines with the texts of the Go program, which scripts watch for.

use std::fmt;

use futures_core::Stream;
use futures_util::StreamExt as _;
use linksocks_sansio::error::LinkError;
use linksocks_sansio::event::ClientKind;
use linksocks_sansio::{Event, Exhausted};
use tracing::{debug, error, info, trace, warn};

use super::log::GoDuration;

/// Whose events they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Provider,
    Server,
}

impl Side {
    /// The name of what a client does with its links.
    fn mode(self) -> &'static str {
        if self == Self::Provider { "reverse" } else { "forward" }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client | Self::Provider => "client",
            Self::Server => "server",
        })
    }
}

/// Writes lines until the engine stops.
pub(super) async fn log_all(side: Side, mut events: impl Stream<Item = Event> + Unpin) {
    while let Some(event) = events.next().await {
        log(side, &event);
    }
}

/// As the Go program calls them.
fn kind_name(kind: ClientKind) -> &'static str {
    match kind {
        ClientKind::Forward => "Forward",
        ClientKind::Provider => "Reverse",
        ClientKind::Connector => "Connector",
    }
}

/// Writes the line for an event, if there is one.
pub(super) fn log(side: Side, event: &Event) {
    match event {
        Event::SocksListening { local } => info!(addr = %local, "Local proxy server started (SOCKS5 + HTTP)"),
        Event::LinkConnecting { link } => debug!(%link, "Connecting to the server"),
        Event::LinkRedirected { link, url } => info!(%link, url, "Redirected by the server"),
        Event::LinkReady { link, extensions, ready, total } => {
            debug!(%link, %extensions, "Link ready");
            match total {
                1 => info!("Authentication successful for {} proxy", side.mode()),
                // One line when all are up, as in the Go program.
                _ if ready == total => {
                    info!("Authentication successful for {} proxy ({ready}/{total})", side.mode());
                }
                _ => debug!("Authenticated ({ready}/{total})"),
            }
        }
        Event::LinkLatency { link, round_trip } => match side {
            Side::Client | Side::Provider => info!("Server ready, latency: {}ms", round_trip.as_millis()),
            Side::Server => debug!(client_id = %link, latency = %GoDuration(*round_trip), "First pong"),
        },
        Event::LinkLost { error: LinkError::Rejected(_), retry_in: None, .. } => {
            error!("Authentication failed");
        }
        Event::LinkLost { error, retry_in: Some(delay), .. } => {
            warn!(%error, "Connection error, waiting {} before retrying", GoDuration(*delay));
        }
        Event::LinkSuspended { link, channels: 0, .. } => debug!(%link, "Session suspended"),
        Event::LinkSuspended { link, channels, grace } => {
            info!(%link, channels, "Channels wait up to {} for a new link", GoDuration(*grace));
        }
        Event::LinkResumed { link, channels: 0, replayed } => debug!(%link, replayed, "Session resumed"),
        Event::LinkResumed { link, channels, replayed } => {
            info!(%link, channels, replayed, "Channels go on");
        }
        Event::SessionLost { channels: 0, error } => debug!(%error, "Session ended"),
        Event::SessionLost { channels, error } => {
            warn!(%error, channels, "Channels of a lost link are reset");
        }
        Event::LinkLost { link, error, retry_in: None } => debug!(%link, %error, "Link closed"),

        Event::SocksUnavailable { address, error } => error!("failed to listen on {address}: {error}"),
        Event::TokenAdded { kind: ClientKind::Forward, .. } => info!("New forward proxy token added"),
        Event::TokenAdded { kind: ClientKind::Provider, port: Some(port) } => {
            info!(port, "New reverse proxy token added");
        }
        Event::TokenAdded { kind: ClientKind::Provider, port: None } => {
            info!("New autonomy reverse token added");
        }
        Event::TokenAdded { kind: ClientKind::Connector, .. } => info!("New connector token added"),
        Event::TokenRefused { error } => error!(%error, "Token not added"),
        Event::TokenRemoved { kind } => info!("{} token removed", kind_name(*kind)),
        Event::ConnectorAdded { link } => info!(%link, "Connector token added successfully"),
        Event::ConnectorRefused { link, reason } => error!(%link, reason, "Connector token not added"),
        Event::ClientAuthenticated { link, peer, kind, extensions } => {
            info!(client_id = %link, client_ip = %peer.ip(), "{} client authenticated", kind_name(*kind));
            debug!(client_id = %link, %extensions, "Link ready");
        }
        Event::ClientRejected { link, peer, error } => {
            warn!(%error, client_id = %link, client_ip = %peer.ip(), "Client rejected");
        }
        Event::ClientDisconnected { link, peer, error } => {
            info!(client_id = %link, client_ip = %peer.ip(), "Client disconnected");
            debug!(%error, client_id = %link, "Link closed");
        }

        Event::MinorVersion { link, version } => {
            debug!(%link, "Peer uses another minor protocol version: 0x{version:02x}");
        }
        // As a field, so that no server can imitate the lines that scripts watch; and what is an
        // error there is none of this program.
        Event::PeerLog { link, level, message } => match level.as_str() {
            "trace" => trace!(%link, message, "Message from the server"),
            "info" => info!(%link, message, "Message from the server"),
            "warn" | "error" => warn!(%link, message, "Message from the server"),
            _ => debug!(%link, message, "Message from the server"),
        },
        Event::MessageIgnored { link, reason } => debug!(%link, reason, "Message ignored"),
        Event::LimitReached(Exhausted { resource, account, limit }) => {
            warn!(%resource, %account, limit, "Limit reached");
        }
        Event::ReceivePaused { link } => debug!(%link, "Receive budget full, reading paused"),
        Event::ReceiveResumed { link } => debug!(%link, "Reading resumed"),
        Event::SocksFailed { socket, reason } => {
            debug!(error = reason, %socket, "Error handling SOCKS request");
        }
        Event::ChannelOpened { channel, target } => {
            debug!(channel_id = %channel.id, link = %channel.link, %target, "Channel opened");
        }
        Event::AssociationOpened { channel, local: Some(local) } => {
            debug!(channel_id = %channel.id, link = %channel.link, %local, "UDP association opened");
        }
        Event::AssociationOpened { channel, local: None } => {
            debug!(channel_id = %channel.id, link = %channel.link, "UDP association opened");
        }
        Event::AssociationClosed { channel, sent, received, dropped, error: None } => {
            debug!(channel_id = %channel.id, sent, received, dropped, "UDP association closed");
        }
        Event::AssociationClosed { channel, sent, received, dropped, error: Some(error) } => {
            debug!(%error, channel_id = %channel.id, sent, received, dropped, "UDP association failed");
        }
        Event::ChannelClosed { channel, sent, received, error: None } => {
            debug!(channel_id = %channel.id, sent, received, "Channel closed");
        }
        Event::ChannelClosed { channel, sent, received, error: Some(error) } => {
            debug!(%error, channel_id = %channel.id, sent, received, "Channel failed");
        }
    }
}
