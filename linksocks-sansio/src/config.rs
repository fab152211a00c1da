//! Every default, limit and timeout, each in one place and with its source.
//!
//! The structs are `#[non_exhaustive]`: start from `new` or `default` and set fields.

use std::net::SocketAddr;
use std::time::Duration;

use crate::access::AccessRules;
use crate::dial::{LinkProxy, UpstreamProxy};
use crate::error::ConfigError;
use crate::header::RequestHeader;
use crate::secret::{Credentials, Token};
use crate::url::ServerUrl;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// What a [`ClientEngine`](crate::ClientEngine) does.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientConfig {
    /// The server.
    pub server: ServerUrl,
    /// The secret that decides the role; see [`Token::anonymous`].
    pub token: Token,
    /// The name that the server's certificate must be for, instead of the host of the URL (`--sni`).
    /// Default none. Redirects to another host are not concerned.
    pub server_name: Option<String>,
    /// More headers for the upgrade request (`--header`). Redirects to another host don't get them.
    /// Default none.
    pub headers: Vec<RequestHeader>,
    /// How many links to keep (`--threads`). Each channel stays on one of them. Default 1.
    pub links: usize,
    /// Where to offer SOCKS5; `None` = only [`Command::Open`](crate::io::Command::Open).
    pub listen: Option<SocketAddr>,
    /// Listen before the first link is up (`--socks-no-wait`). Default false.
    pub listen_early: bool,
    /// What applications must present. Default none.
    pub credentials: Option<Credentials>,
    /// Connect again after a link is lost (`--no-reconnect` switches it off). Default true.
    pub reconnect: bool,
    /// Try again also when the server rejects the token, as after any other error
    /// (`--retry-auth`). Default false: that ends the client.
    pub retry_auth: bool,
    /// The proxy through which the server is connected to (`--upstream-proxy` of a client, or
    /// variables like `HTTP_PROXY`). Default none.
    pub proxy: LinkProxy,
    /// Delays between attempts.
    pub backoff: BackoffConfig,
    /// What both engines share.
    pub relay: RelayConfig,
}

impl ClientConfig {
    /// The defaults for a server and a token.
    #[must_use]
    pub fn new(server: ServerUrl, token: Token) -> Self {
        Self {
            server,
            token,
            server_name: None,
            headers: Vec::new(),
            links: 1,
            listen: None,
            listen_early: false,
            credentials: None,
            reconnect: true,
            retry_auth: false,
            proxy: LinkProxy::Direct,
            backoff: BackoffConfig::default(),
            relay: RelayConfig::default(),
        }
    }
}

/// What a [`ServerEngine`](crate::ServerEngine) does.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerConfig {
    /// Tokens whose clients may connect to targets through this server (forward mode).
    pub forward_tokens: Vec<Token>,
    /// What both engines share.
    pub relay: RelayConfig,
}

impl ServerConfig {
    /// A server in forward mode with one token.
    ///
    /// # Errors
    /// [`ConfigError::EmptyToken`]; [`ConfigError::ReservedToken`] for `anonymous`, which stands for
    /// a client without a token.
    pub fn forward(token: Token) -> Result<Self, ConfigError> {
        if token.expose().is_empty() {
            return Err(ConfigError::EmptyToken);
        }
        if token.is_anonymous() {
            return Err(ConfigError::ReservedToken);
        }
        Ok(Self { forward_tokens: vec![token], relay: RelayConfig::default() })
    }
}

/// Delays between attempts to connect: `first`, then times `factor` after each failure up to
/// `max`, each varied by `jitter`. Starts over after a successful login.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct BackoffConfig {
    /// The first delay. Default 1 s (as the real client).
    pub first: Duration,
    /// Growth per failure. Default 1.5 (as the real client).
    pub factor: f64,
    /// The longest delay. Default 60 s (the real client's 10 min is unkind after an outage).
    pub max: Duration,
    /// Each delay is varied by up to this share, so that many clients don't return in step.
    /// Default 0.2.
    pub jitter: f64,
}

impl BackoffConfig {
    /// Always the same delay (`--reconnect-delay`).
    #[must_use]
    pub const fn fixed(delay: Duration) -> Self {
        Self { first: delay, factor: 1.0, max: delay, jitter: 0.0 }
    }
}

impl Default for BackoffConfig {
    fn default() -> Self {
        Self { first: Duration::from_secs(1), factor: 1.5, max: Duration::from_secs(60), jitter: 0.2 }
    }
}

/// Settings that both engines share.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RelayConfig {
    /// Deadlines and intervals.
    pub timeouts: Timeouts,
    /// Budgets and counts.
    pub limits: Limits,
    /// What to negotiate with peers of our own kind.
    pub extensions: ExtensionConfig,
    /// How bytes of streams become messages.
    pub batching: BatchingConfig,
    /// Which messages are compressed.
    pub compression: CompressionConfig,
    /// Tell applications that their target is connected as soon as a link has been asked for it
    /// (`--fast-open`). Default false.
    ///
    /// Saves them a round trip. Whoever can't be connected to, or whose connection is not confirmed
    /// within [`Timeouts::response`], sees a reset. SOCKS (streams and UDP) and HTTP CONNECT only: the
    /// answer to a plain HTTP request is the target's own, and
    /// [`Command::Open`](crate::io::Command::Open) promises a connected target.
    pub fast_open: bool,
    /// The proxy through which targets are connected to (`--upstream-proxy` of a server), with their
    /// names unresolved. Default none. For TCP only: with it, UDP is refused.
    pub upstream: Option<UpstreamProxy>,
    /// What applications may ask for here, where their requests come in: streams and every single
    /// datagram. Default: everything.
    pub entry_rules: AccessRules,
    /// What this peer connects and sends datagrams to for the other one. Default: everything.
    pub dial_rules: AccessRules,
}

impl RelayConfig {
    /// Whether targets are connected to through an upstream proxy.
    #[must_use]
    pub fn has_upstream(&self) -> bool {
        self.upstream.is_some()
    }
}

/// Deadlines and intervals.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Timeouts {
    /// Resolving and connecting to a target, or to the server. Default 10 s (real:
    /// `ConnectTimeout`).
    pub dial: Duration,
    /// Until another address of a target is tried beside a silent one. Default 250 ms (RFC 8305
    /// section 5).
    pub dial_stagger: Duration,
    /// Waiting for a ConnectResponse, also with [`RelayConfig::fast_open`]. Default 15 s (published
    /// page: `ConnectTimeout` + 5 s).
    pub response: Duration,
    /// How long a SOCKS request waits for a link. Default 10 s (real).
    pub link_wait: Duration,
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

/// Budgets in bytes, and counts.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Received bytes of one link that may wait for sockets; each message is charged its length
    /// plus [`Limits::MESSAGE_OVERHEAD`]. While it is full, reading from the link pauses, and of what
    /// waits compressed each channel inflates one [`Limits::narrow_step`] at a time. Default 64 MiB.
    pub link_receive_budget: usize,
    /// How much may be on its way from a link to the engine. Default 2 MiB.
    pub link_receive_window: usize,
    /// How much may be in the driver on its way to a socket. Default 256 KiB.
    pub socket_write_window: usize,
    /// The largest message payload, at least [`Limits::LEAST_MESSAGE_MAX`]. Default 1 MiB (old
    /// peers allocate what they are sent).
    pub message_max: usize,
    /// The smallest message cap that a slow link is held to. Default 16 KiB.
    pub message_min: usize,
    /// The transmission time that the message cap of a link corresponds to. Default 20 ms.
    pub message_time: Duration,
    /// The first and smallest read of a socket. Default 16 KiB.
    pub read_min: usize,
    /// Channels of one link. Default 65 536.
    pub channels_per_link: usize,
    /// Connections to targets in the making for one client process. Default 1024.
    pub dials_per_client: usize,
    /// Unanswered name lookups for one client process, given up or not: fewer than a runtime has
    /// threads for them (tokio: 512), so that others get their turn. Default 256.
    pub lookups_per_client: usize,
    /// Links that have not authenticated yet. Default 256.
    pub unauthenticated_links: usize,
    /// Links altogether. Default 16 384.
    pub links: usize,
    /// Applications connected to the SOCKS listener, including those not yet served. Default 65 536.
    pub socks_connections: usize,
    /// Connections that a listener accepts ahead. Default 128.
    pub accept_ahead: usize,
    /// Datagrams of a UDP association that may wait in each direction; more push out the oldest.
    /// Default 1000 (published page).
    pub udp_queue: usize,
    /// Bytes of datagrams of a UDP association that may wait in each direction; more push out the
    /// oldest. Default 2 MiB.
    pub udp_queue_bytes: usize,
    /// Bytes of datagrams that may wait for all UDP associations of a link together; what comes on
    /// top is dropped. Default 32 MiB.
    pub udp_link_bytes: usize,
    /// Names that a UDP association remembers. Default 64.
    pub udp_names: usize,
    /// What a link with a session may keep of sent messages that are not acknowledged. When it is
    /// full, nothing more is sent; and the peer may take 100 ms to acknowledge. Default 4 MiB.
    pub session_log: usize,
    /// What that may grow to while the log, not the link, is what stops sending. Default 32 MiB.
    pub session_log_max: usize,
    /// By how much the logs of all links together may have grown. Default 256 MiB.
    pub session_log_growth: usize,
    /// Lost links of one token whose channels may wait for the client to come back; those of more are
    /// reset at once. Altogether as many as [`Limits::links`] may wait. Default 1024.
    pub suspended_links: usize,
    /// Bytes that may wait in those of one token when they are lost: to be sent, to be acknowledged,
    /// for sockets. Default 256 MiB.
    pub suspended_bytes: usize,
}

impl Limits {
    /// A smaller [`Limits::message_max`] is taken for this: what an application sends behind its
    /// SOCKS request must fit into one message.
    pub const LEAST_MESSAGE_MAX: usize = 4 * KIB;
    /// What a waiting message is charged beyond its length.
    pub const MESSAGE_OVERHEAD: usize = 64;
    /// The largest WebSocket message that is accepted: 32 MiB (real).
    pub const MAX_MESSAGE: usize = crate::wire::MAX_MESSAGE;
    /// The largest payload of a datagram: what IPv4 has room for.
    pub const MAX_DATAGRAM: usize = 65_507;
    /// The longest message accepted before authentication: an Auth message has at most 275 bytes.
    pub const MAX_UNAUTHENTICATED_MESSAGE: usize = 4 * KIB;
    /// How much of a gzip payload is inflated at a time.
    pub const INFLATE_STEP: usize = 64 * KIB;

    /// How much a channel inflates at a time while the receive budget is full and bytes of
    /// `channels` channels wait: the less the more there are, but 4 KiB at least.
    pub fn narrow_step(&self, channels: usize) -> usize {
        (self.link_receive_budget / 16 / channels.max(1)).clamp(4 * KIB, Self::INFLATE_STEP)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            link_receive_budget: 64 * MIB,
            link_receive_window: 2 * MIB,
            socket_write_window: 256 * KIB,
            message_max: MIB,
            message_min: 16 * KIB,
            message_time: Duration::from_millis(20),
            read_min: 16 * KIB,
            channels_per_link: 65_536,
            dials_per_client: 1024,
            lookups_per_client: 256,
            unauthenticated_links: 256,
            links: 16_384,
            socks_connections: 65_536,
            accept_ahead: 128,
            udp_queue: 1000,
            udp_queue_bytes: 2 * MIB,
            udp_link_bytes: 32 * MIB,
            udp_names: 64,
            session_log: 4 * MIB,
            session_log_max: 32 * MIB,
            session_log_growth: 256 * MIB,
            suspended_links: 1024,
            suspended_bytes: 256 * MIB,
        }
    }
}

/// What to offer to, or accept from, peers of our own kind (`docs/extensions.md`).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExtensionConfig {
    /// The window granted per channel, so that a stalled reader stalls only itself; 0 switches the
    /// extension off. Default 1 MiB.
    pub window: u32,
    /// Tell the other side about EOF in one direction. Default true.
    pub finish: bool,
    /// Let channels survive the loss of their link, for up to [`Timeouts::transport_grace`]. Default
    /// true.
    pub session: bool,
}

impl ExtensionConfig {
    /// Nothing: behave as towards an old peer.
    #[must_use]
    pub const fn none() -> Self {
        Self { window: 0, finish: false, session: false }
    }
}

impl Default for ExtensionConfig {
    fn default() -> Self {
        Self { window: 1024 * 1024, finish: true, session: true }
    }
}

/// How the bytes that are read from a socket become messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchingConfig {
    /// What may wait for more. Default [`BatchingMode::Adaptive`].
    pub mode: BatchingMode,
    /// For how long.
    pub delay: BatchDelay,
    /// The largest read, and the largest batch, in bytes; what the link can carry in
    /// [`Limits::message_time`] and [`Limits::message_max`] limit both as well. At least
    /// [`BatchingConfig::LEAST_BUFFER`]. Default 1 MiB (real).
    pub buffer_size: usize,
}

impl BatchingConfig {
    /// A smaller [`BatchingConfig::buffer_size`] is taken for this.
    pub const LEAST_BUFFER: usize = 256;
}

impl Default for BatchingConfig {
    fn default() -> Self {
        Self { mode: BatchingMode::default(), delay: BatchDelay::default(), buffer_size: MIB }
    }
}

/// Which bytes may wait for more to share a message with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BatchingMode {
    /// None: every read becomes a message.
    Off,
    /// Those of busy channels, but only while the link can't take them anyway: costs no time.
    #[default]
    Adaptive,
    /// Those of busy channels, until the batch is full or its time is over, whatever the link
    /// does, as in real programs: the fewest messages.
    Literal,
}

/// The delay of batches. A channel starts without; above 256 KiB/s it gets the shortest delay, and
/// with each batch a tenth of the range more; below 128 KiB/s it loses it; in between it halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchDelay {
    pub(crate) min: Duration,
    pub(crate) max: Duration,
}

impl BatchDelay {
    /// A range of delays; if `max` is below `min`, it is taken for `min`.
    #[must_use]
    pub fn new(min: Duration, max: Duration) -> Self {
        Self { min, max: max.max(min) }
    }
}

/// 20 to 500 ms (published page).
impl Default for BatchDelay {
    fn default() -> Self {
        Self { min: Duration::from_millis(20), max: Duration::from_millis(500) }
    }
}

/// Which payloads are sent as gzip. Without the feature `gzip`: none.
///
/// Only payloads of which a sample shrinks are compressed, and sent compressed only if they have
/// become smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompressionConfig {
    /// Payloads of at least so many bytes; 0 = none. Payloads never exceed
    /// [`Limits::message_max`]. Default 512 KiB (published page).
    pub threshold: usize,
    /// Compress also when the link is so fast that it costs time. Otherwise only what waits for a
    /// slow link is compressed, and if the link is too slow for messages of `threshold` bytes,
    /// smaller ones: as much as makes one message that the link carries in
    /// [`Limits::message_time`]. Default false.
    pub always: bool,
}

impl CompressionConfig {
    /// Nothing is compressed.
    #[must_use]
    pub const fn off() -> Self {
        Self { threshold: 0, always: false }
    }
}

impl Default for CompressionConfig {
    fn default() -> Self {
        Self { threshold: 512 * KIB, always: false }
    }
}
