//! Deadlines and intervals.

use std::time::Duration;

/// Deadlines and intervals. All of them are kept by the engine: a driver needs timers for
/// [`Output::Timeout`](crate::io::Output::Timeout) and the `linger` of [`Action`](crate::io::Action)s only.
///
/// ```
/// use std::time::Duration;
/// use linksocks_sansio::config::Timeouts;
///
/// let mut timeouts = Timeouts::default();
/// timeouts.set_connect_timeout(Duration::from_secs(3));
/// timeouts.udp_idle = Duration::from_secs(60);
/// assert_eq!(timeouts.response, Duration::from_secs(8)); // the dial side needs its 3 s before
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Timeouts {
    /// Resolving and connecting to a target, or to the server. Default 10 s (real:
    /// `ConnectTimeout`).
    pub dial: Duration,
    /// Until another address of a target is tried beside a silent one. Default 250 ms (RFC 8305
    /// section 5).
    pub dial_stagger: Duration,
    /// Waiting for a ConnectResponse, also with
    /// [`RelayConfig::fast_open`](super::RelayConfig::fast_open). Default 15 s (published page:
    /// `ConnectTimeout` + 5 s).
    pub response: Duration,
    /// How long a SOCKS request waits for a link, or for a provider. Default 10 s (real).
    pub link_wait: Duration,
    /// How long the request of a connector waits for a provider (`--connector-wait-provider`).
    /// Default 5 s (real).
    pub connector_wait: Duration,
    /// How long a provider that is asked for a channel may be silent before others are asked instead.
    /// Default 3 s.
    pub provider_silence: Duration,
    /// How long the connectors of an autonomous provider stay after its last link has gone. Default
    /// 60 s.
    pub provider_grace: Duration,
    /// How long a SOCKS port stays open after its token has been removed. Default 30 s (real).
    pub listener_linger: Duration,
    /// Until a SOCKS port of a token that could not be opened is tried again. Default 30 s.
    pub listener_retry: Duration,
    /// From the start of an attempt until its WebSocket is up. Default 45 s (real).
    pub link_open: Duration,
    /// From an open WebSocket until its authentication and Hello are done. Default 10 s.
    pub authentication: Duration,
    /// Between pings. Default 30 s (real).
    pub ping_interval: Duration,
    /// Without anything from the peer the link is dead after. Default 60 s (real).
    pub link_idle: Duration,
    /// For sending the rest and the close frame of a link. Default 2 s.
    pub link_close: Duration,
    /// From an accepted connection to a complete SOCKS request. Default 30 s.
    pub socks_handshake: Duration,
    /// How long an HTTP connection to the SOCKS port may be idle between two requests. Default 60 s.
    pub http_keep_alive: Duration,
    /// How long a SOCKS side that has seen EOF holds its Disconnect back, without Data from the
    /// dial side, on a link without `finish`. Default 5 s.
    pub half_close_linger: Duration,
    /// How long Data that comes before its Connect is kept. Default 10 s.
    pub early_data: Duration,
    /// How long a closed socket reads and discards before its descriptor is released. Default 2 s.
    pub close_linger: Duration,
    /// How long a socket may take nothing of the last bytes of a channel that is over otherwise.
    /// Default 5 min.
    pub last_bytes: Duration,
    /// A channel whose socket accepts nothing for so long is stalled. Default 10 s.
    pub stall: Duration,
    /// A channel or UDP association ends after this long without a byte or datagram in either
    /// direction (`--channel-timeout`), or up to a minute later; 0 = never. Default 12 h (published
    /// page).
    pub channel_idle: Duration,
    /// A UDP association ends after this long without a datagram (`--udp-idle`). Default 5 min, the
    /// least that RFC 4787 recommends for UDP mappings.
    pub udp_idle: Duration,
    /// How long a looked-up name is used for the datagrams of an association. Default 30 s.
    pub udp_name: Duration,
    /// How long the channels of a lost link wait for the client to come back (`--transport-grace`);
    /// zero resets them at once, as it is towards other programs. Default 30 s (real).
    pub transport_grace: Duration,
    /// How long messages may go unacknowledged between peers with sessions. Default 100 ms.
    pub acknowledge: Duration,
}

impl Timeouts {
    /// How much longer than a dial the answer to its Connect may take (published page).
    const RESPONSE_MARGIN: Duration = Duration::from_secs(5);

    /// Sets [`Timeouts::dial`] and [`Timeouts::response`] as `ConnectTimeout` of real programs does:
    /// the dial side has `timeout`, the side that waits for it 5 s more.
    pub const fn set_connect_timeout(&mut self, timeout: Duration) {
        self.dial = timeout;
        self.response = timeout.saturating_add(Self::RESPONSE_MARGIN);
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            dial: Duration::from_secs(10),
            dial_stagger: Duration::from_millis(250),
            response: Duration::from_secs(15),
            link_wait: Duration::from_secs(10),
            connector_wait: Duration::from_secs(5),
            provider_silence: Duration::from_secs(3),
            provider_grace: Duration::from_secs(60),
            listener_linger: Duration::from_secs(30),
            listener_retry: Duration::from_secs(30),
            link_open: Duration::from_secs(45),
            authentication: Duration::from_secs(10),
            ping_interval: Duration::from_secs(30),
            link_idle: Duration::from_secs(60),
            link_close: Duration::from_secs(2),
            socks_handshake: Duration::from_secs(30),
            http_keep_alive: Duration::from_secs(60),
            half_close_linger: Duration::from_secs(5),
            early_data: Duration::from_secs(10),
            close_linger: Duration::from_secs(2),
            last_bytes: Duration::from_secs(300),
            stall: Duration::from_secs(10),
            channel_idle: Duration::from_secs(12 * 3600),
            udp_idle: Duration::from_secs(300),
            udp_name: Duration::from_secs(30),
            transport_grace: Duration::from_secs(30),
            acknowledge: Duration::from_millis(100),
        }
    }
}
