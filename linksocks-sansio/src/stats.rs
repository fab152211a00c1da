//! Counters and memory in use.

/// A snapshot of an engine. Everything but the totals is back at zero when nothing is connected.
///
/// Stream bytes are counted uncompressed; only those that a server passes on between its clients, as they
/// travel.
///
/// ```
/// # use std::time::Instant;
/// # use linksocks_sansio::{ClientConfig, ClientEngine, Engine, ServerUrl, Stats, Token};
/// # let config = ClientConfig::new(ServerUrl::parse("ws://192.0.2.1")?, Token::new("secret")?);
/// let engine = ClientEngine::new(config, [7; 32], Instant::now());
/// let stats = engine.stats();
/// // One link, which is not up yet, on a socket that is being connected.
/// assert_eq!(stats, Stats { links: 1, sockets: 1, ..Stats::default() });
/// # Ok::<(), linksocks_sansio::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stats {
    /// Links, in any state.
    pub links: usize,
    /// Links that are authenticated and usable.
    pub ready_links: usize,
    /// Channels, in any state, UDP associations among them.
    pub channels: usize,
    /// UDP associations, in any state.
    pub associations: usize,
    /// Sockets, including those whose descriptor is not released yet.
    pub sockets: usize,
    /// Received bytes that wait for sockets, as charged to the budgets.
    pub receive_queued: usize,
    /// Bytes read from sockets that wait for links.
    pub send_queued: usize,
    /// Bytes of datagrams that wait, in both directions.
    pub datagrams_queued: usize,
    /// Lost links whose channels wait for the client to come back; they count as links.
    pub suspended_links: usize,
    /// Bytes of sent messages that are kept until the peer has acknowledged them.
    pub session_logs: usize,
    /// Total of channels ever opened.
    pub channels_opened: u64,
    /// Total of channels that ended with an error.
    pub channels_failed: u64,
    /// Total of lost links that were taken up by new ones, with their channels.
    pub links_resumed: u64,
    /// Total of payload bytes sent to peers.
    pub bytes_sent: u64,
    /// Total of payload bytes received from peers.
    pub bytes_received: u64,
    /// Total of datagrams sent to peers.
    pub datagrams_sent: u64,
    /// Total of datagrams received from peers and passed on.
    pub datagrams_received: u64,
    /// Total of datagrams dropped: malformed, forbidden, from a stranger, too many, or refused by the
    /// kernel.
    pub datagrams_dropped: u64,
    /// Total of bytes copied between buffers on the way from a socket to a link.
    pub copied_bytes: u64,
    /// Total of requests that got nothing, because a limit was reached; see
    /// [`Event::LimitReached`](crate::Event::LimitReached).
    pub refusals: u64,
    /// Total of messages ignored.
    pub messages_ignored: u64,
}
