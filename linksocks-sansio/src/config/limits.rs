//! Budgets in bytes, and counts.

use std::time::Duration;

use super::{KIB, MIB};
use crate::accounts::{Account, Resource};

/// Budgets in bytes, and counts. The defaults suit a busy server; what a small machine may spend is less.
///
/// ```
/// # use std::time::Instant;
/// # use linksocks_sansio::io::UpgradeRequest;
/// # use linksocks_sansio::{Action, Engine, Input, Output, ServerConfig, ServerEngine, Ticket, Token};
/// let mut config = ServerConfig::forward(Token::new("secret")?)?;
/// config.relay.limits.link_receive_budget = 4 << 20;
/// config.relay.limits.memory = 64 << 20;
/// config.relay.limits.links = 1;
///
/// # let now = Instant::now();
/// let mut server = ServerEngine::new(config, [7; 32], now);
/// for ticket in [Ticket(1), Ticket(2)] {
///     let (path, query) = ("/socket".to_owned(), String::new());
///     let request = UpgradeRequest { path, query, extensions: None, peer: "192.0.2.2:40000".parse()? };
///     server.handle_input(now, Input::LinkOffered { ticket, request });
/// }
/// let mut answers = Vec::new();
/// loop {
///     match server.poll_output() {
///         Output::Action(Action::AcceptLink { .. }) => answers.push(101),
///         Output::Action(Action::RejectLink { status, .. }) => answers.push(status),
///         Output::Timeout(_) => break,
///         _ => {}
///     }
/// }
/// assert_eq!(answers, [101, 503]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes that may wait in all links and channels together: half of them received ones that wait for
    /// sockets, a quarter sent ones that are kept until the peer has them, an eighth datagrams, an eighth
    /// what sockets may be read ahead of links. Beyond it each link has 64 KiB of each kind, and each socket
    /// 16 KiB, so that all go on. Not counted is what is on its way from a peer that has logged in: of each
    /// link [`Limits::link_receive_window`] and one message of up to [`Limits::MAX_MESSAGE`]; nor are answers
    /// that a peer does not take, 4 MiB of a link, or 16 MiB while it acknowledges nothing. What else a process
    /// needs, [`Limits::for_memory`] says. Default 1 GiB.
    pub memory: usize,
    /// What of it the clients with one token may take. Default 768 MiB.
    pub memory_per_token: usize,
    /// What of it the clients at one address (of IPv6: one /64) may take. Default 768 MiB.
    pub memory_per_address: usize,
    /// Received bytes of one link that may wait for sockets; each message is charged its length
    /// plus [`Limits::MESSAGE_OVERHEAD`]. While it is full, reading from the link pauses, and of what
    /// waits compressed each channel inflates one [`Limits::narrow_step`] at a time. Default 64 MiB.
    pub link_receive_budget: usize,
    /// How much may be on its way from a link to the engine. Default 2 MiB.
    pub link_receive_window: usize,
    /// How much the sockets of all channels of a link together may be read ahead of it, beyond 16 KiB for
    /// each. Default 64 MiB.
    pub link_read_ahead: usize,
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
    /// Channels of one token, UDP associations among them. Default 65 536.
    pub channels_per_token: usize,
    /// Channels altogether. Default 131 072.
    pub channels: usize,
    /// Connections to targets in the making for one client process. Default 1024.
    pub dials_per_client: usize,
    /// Those for all clients with one token. Default 4096.
    pub dials_per_token: usize,
    /// Those altogether. Default 8192.
    pub dials: usize,
    /// Unanswered name lookups for one client process, or SOCKS port, given up or not. Default 128.
    pub lookups_per_client: usize,
    /// Those for all clients with one token. Default 256.
    pub lookups_per_token: usize,
    /// Those altogether: fewer than a runtime has threads for them (tokio: 512), so that lookups of its own
    /// get their turn. Default 448.
    pub lookups: usize,
    /// Links that have not authenticated yet. Default 256.
    pub unauthenticated_links: usize,
    /// Those from one address (of IPv6: one /64). Default 64.
    pub unauthenticated_links_per_address: usize,
    /// Links altogether. Default 16 384.
    pub links: usize,
    /// Links with one token, so that its clients leave some for others. Default 8192.
    pub links_per_token: usize,
    /// Links from one address (of IPv6: one /64). Default 8192: many clients may be behind one address.
    pub links_per_address: usize,
    /// Tokens of a server. Default 65 536.
    pub tokens: usize,
    /// Connector tokens that all providers with one reverse token may have added; they come on top of
    /// [`Limits::tokens`]. Default 1024.
    pub managed_connectors: usize,
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
    /// What a link with a session may keep, in any case, of sent messages that are not acknowledged. When it
    /// is full, nothing more is sent; and the peer may take 100 ms to acknowledge. Default 256 KiB.
    pub session_log: usize,
    /// Received bytes that are acknowledged at once, without waiting for more. Default 1 MiB.
    pub acknowledge_at: usize,
    /// What that may grow to, if there is memory, while the log is what stops sending. Default 32 MiB.
    pub session_log_max: usize,
    /// Lost links of one token whose channels may wait for the client to come back; those of more are
    /// reset at once. Altogether as many as [`Limits::links`] may wait. Default 1024.
    pub suspended_links: usize,
    /// Bytes that may wait in those of one token when they are lost: to be sent, to be acknowledged,
    /// for sockets. Default 256 MiB.
    pub suspended_bytes: usize,
}

/// A message below this length is copied when it has to wait: as a slice it would pin the whole
/// buffer that the WebSocket layer has read it into.
pub(crate) const COPY_BELOW: usize = 32 * KIB;

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

    /// Limits for a process that may use `bytes` of memory: half of it for what waits, a quarter for
    /// channels, at 16 KiB each, and a quarter for links, at 64 KiB each. Nothing becomes larger than by default.
    ///
    /// ```
    /// use linksocks_sansio::config::Limits;
    ///
    /// let small = Limits::for_memory(64 << 20);
    /// assert_eq!((small.memory, small.channels, small.links), (32 << 20, 1024, 256));
    /// assert!(small.link_receive_budget <= small.memory / 4);
    /// let large = Limits::for_memory(64 << 30);
    /// assert_eq!((large.memory, large.channels), (1 << 30, 131_072));
    /// ```
    #[must_use]
    pub fn for_memory(bytes: usize) -> Self {
        let most = Self::default();
        let memory = (bytes / 2).min(most.memory);
        let channels = (bytes / 4 / (16 * KIB)).clamp(16, most.channels);
        let links = (bytes / 4 / (64 * KIB)).clamp(4, most.links);
        // A part of what may wait, but so much that things go on.
        let part =
            |divisor: usize, least: usize, most: usize| (memory / divisor).clamp(least.min(most), most);
        Self {
            memory,
            memory_per_token: memory / 4 * 3,
            memory_per_address: memory / 4 * 3,
            link_receive_budget: part(4, 512 * KIB, most.link_receive_budget),
            link_receive_window: part(16, 256 * KIB, most.link_receive_window),
            link_read_ahead: part(16, 256 * KIB, most.link_read_ahead),
            socket_write_window: part(128, 64 * KIB, most.socket_write_window),
            message_max: part(64, 64 * KIB, most.message_max),
            channels,
            channels_per_token: channels.min(most.channels_per_token),
            channels_per_link: channels.min(most.channels_per_link),
            socks_connections: channels.min(most.socks_connections),
            dials: channels.min(most.dials),
            dials_per_token: channels.min(most.dials_per_token),
            dials_per_client: channels.min(most.dials_per_client),
            links,
            links_per_token: (links / 2).min(most.links_per_token),
            links_per_address: (links / 2).min(most.links_per_address),
            unauthenticated_links: (links / 2).min(most.unauthenticated_links),
            unauthenticated_links_per_address: (links / 4).min(most.unauthenticated_links_per_address),
            udp_queue_bytes: part(64, 128 * KIB, most.udp_queue_bytes),
            udp_link_bytes: part(16, 256 * KIB, most.udp_link_bytes),
            session_log: part(128, 64 * KIB, most.session_log),
            acknowledge_at: part(128, 32 * KIB, most.acknowledge_at),
            session_log_max: part(16, 64 * KIB, most.session_log_max),
            suspended_links: links.min(most.suspended_links),
            suspended_bytes: part(4, 256 * KIB, most.suspended_bytes),
            ..most
        }
    }

    /// How much a channel inflates at a time while the receive budget is full and bytes of
    /// `channels` channels wait: the less the more there are, but 4 KiB at least.
    pub fn narrow_step(&self, channels: usize) -> usize {
        (self.link_receive_budget / 16 / channels.max(1)).clamp(4 * KIB, Self::INFLATE_STEP)
    }

    /// What `account` may take of `resource`. `None`: as much as the others leave.
    pub(crate) fn of(&self, resource: Resource, account: Account) -> Option<usize> {
        Some(match (resource, account) {
            (Resource::Links, Account::Everybody) => self.links,
            (Resource::Links, Account::Token(_)) => self.links_per_token,
            (Resource::Links, Account::Address(_)) => self.links_per_address,
            (Resource::Strangers, Account::Everybody) => self.unauthenticated_links,
            (Resource::Strangers, Account::Address(_)) => self.unauthenticated_links_per_address,
            (Resource::Channels, Account::Everybody) => self.channels,
            (Resource::Channels, Account::Token(_)) => self.channels_per_token,
            (Resource::Channels, Account::Link(_)) => self.channels_per_link,
            (Resource::Dials, Account::Everybody) => self.dials,
            (Resource::Dials, Account::Token(_)) => self.dials_per_token,
            (Resource::Dials, Account::Client(..)) => self.dials_per_client,
            (Resource::Lookups, Account::Everybody) => self.lookups,
            (Resource::Lookups, Account::Token(_)) => self.lookups_per_token,
            (Resource::Lookups, Account::Client(..) | Account::Port(_)) => self.lookups_per_client,
            (
                Resource::Received | Resource::Kept | Resource::ReadAhead | Resource::Datagrams,
                Account::Everybody | Account::Token(_) | Account::Address(_),
            ) => resource.share(self.memory_of(account)),
            (
                Resource::Links
                | Resource::Strangers
                | Resource::Channels
                | Resource::Dials
                | Resource::Lookups,
                _,
            )
            | (_, Account::Client(..) | Account::Port(_) | Account::Link(_)) => return None,
        })
    }

    fn memory_of(&self, account: Account) -> usize {
        match account {
            Account::Everybody | Account::Link(_) => self.memory,
            Account::Token(_) | Account::Client(..) => self.memory_per_token.min(self.memory),
            Account::Address(_) | Account::Port(_) => self.memory_per_address.min(self.memory),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 1024 * MIB,
            memory_per_token: 768 * MIB,
            memory_per_address: 768 * MIB,
            link_receive_budget: 64 * MIB,
            link_receive_window: 2 * MIB,
            link_read_ahead: 64 * MIB,
            socket_write_window: 256 * KIB,
            message_max: MIB,
            message_min: 16 * KIB,
            message_time: Duration::from_millis(20),
            read_min: 16 * KIB,
            channels_per_link: 65_536,
            channels_per_token: 65_536,
            channels: 131_072,
            dials_per_client: 1024,
            dials_per_token: 4096,
            dials: 8192,
            lookups_per_client: 128,
            lookups_per_token: 256,
            lookups: 448,
            unauthenticated_links: 256,
            unauthenticated_links_per_address: 64,
            links: 16_384,
            links_per_token: 8192,
            links_per_address: 8192,
            tokens: 65_536,
            managed_connectors: 1024,
            socks_connections: 65_536,
            accept_ahead: 128,
            udp_queue: 1000,
            udp_queue_bytes: 2 * MIB,
            udp_link_bytes: 32 * MIB,
            udp_names: 64,
            session_log: 256 * KIB,
            acknowledge_at: MIB,
            session_log_max: 32 * MIB,
            suspended_links: 1024,
            suspended_bytes: 256 * MIB,
        }
    }
}
