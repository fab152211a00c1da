//! What engines tell, as log lines with the texts of the Go program, which scripts watch for.

use linksocks_sansio::Event;
use linksocks_sansio::error::LinkError;
use tracing::{debug, error, info, trace, warn};

use super::log::GoDuration;

/// Writes the line for an event, if there is one.
pub(super) fn log(event: &Event) {
    match event {
        Event::SocksListening { local } => info!(addr = %local, "Local proxy server started (SOCKS5 + HTTP)"),
        Event::LinkConnecting { link } => debug!(%link, "Connecting to the server"),
        Event::LinkReady { link, extensions, ready, total } => {
            debug!(%link, %extensions, "Link ready");
            match total {
                0 | 1 => info!("Authentication successful for forward proxy"),
                _ => info!("Authentication successful for forward proxy ({ready}/{total})"),
            }
        }
        Event::LinkLatency { round_trip, .. } => {
            info!("Server ready, latency: {}", GoDuration(*round_trip));
        }
        Event::LinkLost { error: LinkError::Rejected(_), .. } => error!("Authentication failed"),
        Event::LinkLost { error, retry_in: Some(delay), .. } => {
            warn!(%error, "Connection error, waiting {} before retrying", GoDuration(*delay));
        }
        Event::LinkLost { link, error, retry_in: None } => debug!(%link, %error, "Link closed"),

        Event::ClientAuthenticated { link, peer, extensions } => {
            info!(client_id = %link, client_ip = %peer.ip(), "Forward client authenticated");
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
            info!(%link, "Peer uses another minor protocol version: 0x{version:02x}");
        }
        Event::PeerLog { link, level, message } => match level.as_str() {
            "trace" => trace!(%link, "{message}"),
            "info" => info!(%link, "{message}"),
            "warn" => warn!(%link, "{message}"),
            "error" => error!(%link, "{message}"),
            _ => debug!(%link, "{message}"),
        },
        Event::MessageIgnored { link, reason } => debug!(%link, reason, "Message ignored"),
        Event::ReceivePaused { link } => debug!(%link, "Receive budget full, reading paused"),
        Event::ReceiveResumed { link } => debug!(%link, "Reading resumed"),
        Event::SocksFailed { socket, reason } => {
            debug!(error = reason, %socket, "Error handling SOCKS request")
        }
        Event::ChannelOpened { channel, target } => {
            debug!(channel_id = %channel.id, link = %channel.link, %target, "Channel opened");
        }
        Event::ChannelClosed { channel, sent, received, error: None } => {
            debug!(channel_id = %channel.id, sent, received, "Channel closed");
        }
        Event::ChannelClosed { channel, sent, received, error: Some(error) } => {
            debug!(%error, channel_id = %channel.id, sent, received, "Channel failed");
        }
    }
}
