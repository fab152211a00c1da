//! Every default, limit and timeout, each in one place and with its source.
//!
//! The structs are `#[non_exhaustive]`: start from `new` or `default` and set fields. "Real" behind a
//! default means that the Go program has it, "published page" that LinkSocks' public description says so.
//!
//! An engine reads its configuration once. Afterwards only tokens
//! ([`Command::AddToken`](crate::io::Command::AddToken)) and access rules
//! ([`http::admin`](crate::http::admin)) change.

mod limits;
mod timeouts;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::access::AccessRules;
use crate::dial::{LinkProxy, UpstreamProxy};
use crate::error::ConfigError;
use crate::header::RequestHeader;
use crate::secret::{Credentials, Token};
use crate::token::{ForwardToken, NewToken};
use crate::url::ServerUrl;

pub(crate) use self::limits::COPY_BELOW;
pub use self::limits::Limits;
pub use self::timeouts::Timeouts;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// What a [`ClientEngine`](crate::ClientEngine) does.
///
/// ```
/// use std::time::Duration;
/// use linksocks_sansio::config::{BackoffConfig, ClientRole};
/// use linksocks_sansio::{ClientConfig, Credentials, ServerUrl, Token};
///
/// // SOCKS5 and HTTP proxy on port 9870, for those who know the password.
/// let server = ServerUrl::parse("wss://server.example")?;
/// let mut config = ClientConfig::new(server, Token::new("secret")?);
/// config.listen = Some("127.0.0.1:9870".parse()?);
/// config.credentials = Some(Credentials::new("user", "password")?);
/// config.links = 4;
/// config.backoff = BackoffConfig::fixed(Duration::from_secs(5));
/// config.relay.fast_open = true;
///
/// // The other way round: a provider, which lends its network to others.
/// let mut provider = ClientConfig::new(config.server.clone(), Token::new("of providers")?);
/// provider.role = ClientRole::Provider { connectors: Vec::new() };
/// provider.relay.dial_rules = ["!private".parse()?].into_iter().collect(); // but not all of it
/// assert!(!provider.relay.dial_rules.allows("10.0.0.1:80".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientConfig {
    /// The server.
    pub server: ServerUrl,
    /// The secret that decides, with [`ClientConfig::role`], what it may do; see [`Token::anonymous`].
    pub token: Token,
    /// Which end of the tunnel it is. Default [`ClientRole::SocksSide`].
    pub role: ClientRole,
    /// The name that the server's certificate must be for, instead of the host of the URL (`--sni`).
    /// Default none. Redirects to another host are not concerned.
    pub server_name: Option<String>,
    /// More headers for the upgrade request (`--header`). Redirects to another host don't get them.
    /// Default none.
    pub headers: Vec<RequestHeader>,
    /// How many links to keep (`--threads`). Each channel stays on one of them. Default 1.
    pub links: usize,
    /// Where to offer SOCKS5, and HTTP on the same port; port 0 lets the system choose. `None` = only
    /// [`Command::Open`](crate::io::Command::Open). Default none; a provider does not listen.
    pub listen: Option<SocketAddr>,
    /// Listen before the first link is up (`--socks-no-wait`). Default false.
    pub listen_early: bool,
    /// What applications must present at [`ClientConfig::listen`]. Default none.
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
            role: ClientRole::default(),
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

/// Which end of the tunnel a client is.
#[derive(Clone, Debug, Default)]
pub enum ClientRole {
    /// It offers SOCKS: in forward mode, or as a connector.
    #[default]
    SocksSide,
    /// It connects to targets: a provider.
    Provider {
        /// Tokens that it lets connectors use (`--connector-token`), if the server allows that.
        connectors: Vec<Token>,
    },
}

/// What a [`ServerEngine`](crate::ServerEngine) does. Where it listens for clients is the driver's: the
/// engine sees only what asks for a link.
///
/// ```
/// use linksocks_sansio::token::{NewToken, ReverseToken};
/// use linksocks_sansio::{ConfigError, ServerConfig, Token};
///
/// // Forward mode: clients reach the web from here, but nothing in private networks.
/// let mut config = ServerConfig::forward(Token::new("secret")?)?;
/// config.relay.dial_rules =
///     ["!private", ":80", ":443"].iter().map(|rule| rule.parse()).collect::<Result<_, _>>()?;
///
/// // And reverse mode: what is asked for at this SOCKS port leaves from a provider.
/// let mut reverse = ReverseToken::default();
/// (reverse.token, reverse.port) = (Some(Token::new("of providers")?), Some(9870));
/// config.tokens.push(NewToken::Reverse(reverse.clone()));
/// assert_eq!(config.check(), Ok(()));
///
/// reverse.token = Some(Token::new("another")?); // on the same port
/// config.tokens.push(NewToken::Reverse(reverse));
/// let error = config.check().unwrap_err();
/// assert_eq!(error.to_string(), "cannot allocate port: 9870");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerConfig {
    /// The tokens that it starts with. Default none: nobody is let in until one is added.
    pub tokens: Vec<NewToken>,
    /// Secrets that the HTTP API ([`http::admin`](crate::http::admin)) accepts (`--api-key`). Default none:
    /// there is no API.
    pub api_keys: Vec<Token>,
    /// Where the SOCKS ports of reverse tokens are. Default 127.0.0.1.
    pub socks_host: IpAddr,
    /// The SOCKS ports of reverse tokens that name none. Default 1024 to 10240 (real).
    pub port_pool: RangeInclusive<u16>,
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
        let token = ForwardToken { token: Some(token), ..ForwardToken::default() };
        Ok(Self { tokens: vec![NewToken::Forward(token)], ..Self::default() })
    }

    /// Says whether the server would refuse one of the tokens when it starts. It would start without it,
    /// so a driver asks before.
    ///
    /// # Errors
    /// [`ConfigError::Token`].
    pub fn check(&self) -> Result<(), ConfigError> {
        crate::server::check_tokens(self).map_err(ConfigError::Token)
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            tokens: Vec::new(),
            api_keys: Vec::new(),
            socks_host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port_pool: 1024..=10240,
            relay: RelayConfig::default(),
        }
    }
}

/// Delays between attempts to connect: `first`, then times `factor` after each failure up to
/// `max`, each varied by `jitter`. Starts over after a successful login.
///
/// With the defaults the first ten are about 1, 1.5, 2.3, 3.4, 5, 7.6, 11, 17, 26 and 38 s.
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
///
/// ```
/// use linksocks_sansio::config::{BatchingMode, CompressionConfig, ExtensionConfig, RelayConfig};
///
/// // As towards an old peer, each read a message of its own, nothing compressed.
/// let mut config = RelayConfig::default();
/// config.extensions = ExtensionConfig::none();
/// config.batching.mode = BatchingMode::Off;
/// config.compression = CompressionConfig::off();
///
/// // Targets are reached through a proxy, and not over UDP then.
/// config.upstream = Some("socks5://proxy.example".parse()?);
/// assert!(config.has_upstream());
/// # Ok::<(), linksocks_sansio::ConfigError>(())
/// ```
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
    /// Whether targets are connected to through an upstream proxy, and UDP is refused.
    #[must_use]
    pub fn has_upstream(&self) -> bool {
        self.upstream.is_some()
    }
}

/// What to offer to, or accept from, peers of our own kind (`docs/extensions.md`).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExtensionConfig {
    /// The window granted per channel at first, in bytes, so that a stalled reader stalls only itself; 0
    /// switches the extension off. Default 256 KiB.
    pub window: u32,
    /// What a window may grow to while it is what holds the sender up, if there is memory: what all windows
    /// of a link have grown by is at most half of [`Limits::link_receive_budget`]. Default 4 MiB.
    pub window_max: u32,
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
        Self { window: 0, window_max: 0, finish: false, session: false }
    }
}

impl Default for ExtensionConfig {
    fn default() -> Self {
        Self { window: 256 * 1024, window_max: 4 * 1024 * 1024, finish: true, session: true }
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
