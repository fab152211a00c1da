//! The configurations of server and clients.

use std::net::IpAddr;
use std::time::Duration;

use linksocks_sansio::access::AccessRule;
use linksocks_sansio::config::{
    BatchDelay, BatchingConfig, BatchingMode, ClientRole, CompressionConfig, ExtensionConfig, Limits,
    RelayConfig,
};
use linksocks_sansio::{ClientConfig, Credentials, ServerConfig, ServerUrl, Token};

use super::Shape;
use super::mode::{EntryPlan, secret};
use super::talks::{REFUSING, SILENT};
use crate::sim::app::plan::{Entry, credentials, server_address, socks_address};
use crate::sim::dice::Dice;
use crate::sim::host::Habits;

/// The name by which some clients know the server.
pub const SERVER_NAME: &str = "server.test";

/// The secret of the server.
const TOKEN: &str = "correct horse battery staple";

/// A server before it starts.
#[derive(Clone, Debug)]
pub struct ServerPlan {
    /// Its configuration.
    pub config: ServerConfig,
    /// The manners of its driver.
    pub habits: Habits,
    /// How long its name lookups take.
    pub lookup_delay: Duration,
}

/// A client before it starts.
#[derive(Clone, Debug)]
pub struct ClientPlan {
    /// Its configuration.
    pub config: ClientConfig,
    /// The manners of its driver.
    pub habits: Habits,
    /// How long its name lookups take.
    pub lookup_delay: Duration,
    /// Whether the server knows its token.
    pub is_known: bool,
    /// Addresses of [`SERVER_NAME`], the right one among them.
    pub server_addresses: Vec<IpAddr>,
}

impl ServerPlan {
    pub(super) fn draw(shape: Shape, dice: &mut Dice) -> Self {
        let mut config = ServerConfig::forward(token(true)).expect("the token is a token");
        config.relay = relay(shape, dice);
        if shape.old_server {
            config.relay.extensions = ExtensionConfig::none();
        }
        if dice.chance(30) {
            // Nobody lives there.
            let rule: AccessRule = "!203.0.113.0/24".parse().expect("the rule is a rule");
            config.relay.dial_rules = [rule].into_iter().collect();
        }
        Self { config, habits: Habits::draw(dice), lookup_delay: lookup_delay(dice) }
    }
}

impl ClientPlan {
    pub(super) fn draw(client: usize, shape: Shape, dice: &mut Dice) -> Self {
        let is_known = !dice.chance(4);
        let host = match dice.chance(30) {
            true => format!("{SERVER_NAME}:{}", server_address().port()),
            false => server_address().to_string(),
        };
        // Any other path than /socket logs in by a message instead of the URL.
        let path = if dice.chance(25) { "/socket/in-band" } else { "" };
        let url = ServerUrl::parse(&format!("ws://{host}{path}")).expect("the URL is a URL");
        let mut config = ClientConfig::new(url, token(is_known));
        config.links = dice.between(1, 3) as usize;
        config.listen = Some(socks_address(client));
        config.listen_early = dice.chance(30);
        if dice.chance(20) {
            let (name, password) = credentials();
            config.credentials = Some(Credentials::new(name, password).expect("they have a usual length"));
        }
        config.relay = relay(shape, dice);
        config.relay.fast_open = dice.chance(30);
        let mut server_addresses = vec![server_address().ip()];
        if dice.chance(50) {
            // Tried first or second, and answers with a refusal or not at all.
            server_addresses.insert(dice.below(2) as usize, *dice.pick(&[REFUSING, SILENT]));
        }
        let (habits, lookup_delay) = (Habits::draw(dice), lookup_delay(dice));
        Self { config, habits, lookup_delay, is_known, server_addresses }
    }

    /// The door that it is, for those for whom these hosts connect to targets.
    pub(super) fn entry(&self, client: usize, diallers: Vec<usize>) -> EntryPlan {
        EntryPlan {
            entry: Entry::Client(client),
            diallers,
            asks_for_login: self.config.credentials.is_some(),
            fast_open: self.config.relay.fast_open,
            is_known: self.is_known,
        }
    }

    /// Whether it connects to targets for others.
    #[must_use]
    pub const fn is_provider(&self) -> bool {
        matches!(self.config.role, ClientRole::Provider { .. })
    }

    /// Makes a connector of it, with the token of one, unless the server does not know it anyway.
    pub(super) fn become_connector(&mut self, token: Token) {
        if self.is_known {
            self.config.token = token;
        }
    }

    /// Goes on trying until the server knows the token.
    pub(super) fn wait_for_token(&mut self) {
        self.config.retry_auth = self.is_known;
        self.config.backoff.max = Duration::from_secs(15);
    }
}

pub(super) fn token(right: bool) -> Token {
    secret(if right { TOKEN } else { "wrong" })
}

fn lookup_delay(dice: &mut Dice) -> Duration {
    dice.duration(Duration::from_micros(10), Duration::from_millis(500))
}

fn relay(shape: Shape, dice: &mut Dice) -> RelayConfig {
    let mut relay = RelayConfig::default();
    relay.extensions = extensions(dice);
    if dice.chance(20) {
        relay.timeouts.transport_grace = dice.duration(Duration::ZERO, Duration::from_secs(10));
    }
    relay.batching = batching(dice);
    relay.compression = compression(dice);
    if shape.tight {
        relay.limits = tight_limits(dice);
        if shape.clogged {
            relay.limits.link_receive_budget = dice.size(8 << 10, 256 << 10);
        }
        relay.timeouts.stall = dice.duration(Duration::from_secs(1), Duration::from_secs(10));
    }
    relay
}

fn extensions(dice: &mut Dice) -> ExtensionConfig {
    let mut extensions = ExtensionConfig::default();
    extensions.finish = !dice.chance(20);
    extensions.session = !dice.chance(20);
    match dice.below(10) {
        0 | 1 => extensions.window = 0,
        2 | 3 => extensions.window = dice.size(4 << 10, 1 << 20) as u32,
        _ => {}
    }
    if dice.chance(30) {
        extensions.window_max = dice.size(1, 8 << 20) as u32;
    }
    extensions
}

fn batching(dice: &mut Dice) -> BatchingConfig {
    let mut batching = BatchingConfig::default();
    batching.mode = *dice.pick(&[
        BatchingMode::Adaptive,
        BatchingMode::Adaptive,
        BatchingMode::Literal,
        BatchingMode::Literal,
        BatchingMode::Off,
    ]);
    if dice.chance(50) {
        let min = dice.duration(Duration::from_micros(100), Duration::from_millis(100));
        batching.delay = BatchDelay::new(min, min + dice.duration(Duration::ZERO, Duration::from_secs(2)));
    }
    if dice.chance(50) {
        batching.buffer_size = dice.size(1, 2 << 20);
    }
    batching
}

fn compression(dice: &mut Dice) -> CompressionConfig {
    let mut compression = CompressionConfig::default();
    match dice.below(4) {
        0 => compression = CompressionConfig::off(),
        1 => {}
        _ => {
            compression.threshold = dice.size(1, 1 << 20);
            compression.always = dice.chance(70);
        }
    }
    compression
}

fn tight_limits(dice: &mut Dice) -> Limits {
    let mut limits = Limits::default();
    limits.message_max = dice.size(Limits::LEAST_MESSAGE_MAX, 64 << 10);
    limits.message_min = dice.size(64, limits.message_max);
    limits.read_min = dice.size(64, limits.message_max);
    limits.link_receive_budget = dice.size(16 << 10, 1 << 20);
    limits.link_receive_window = dice.size(4 << 10, 64 << 10);
    limits.socket_write_window = dice.size(256, 64 << 10);
    limits.accept_ahead = dice.size(1, 8);
    if dice.chance(30) {
        limits.channels_per_link = dice.size(1, 8);
    }
    if dice.chance(30) {
        limits.socks_connections = dice.size(1, 8);
    }
    if dice.chance(20) {
        limits.links = dice.size(1, 4);
    }
    limits.udp_queue = dice.size(1, 1000);
    limits.udp_queue_bytes = dice.size(1, 1 << 20);
    limits.udp_link_bytes = dice.size(1 << 10, 1 << 20);
    limits.udp_names = dice.size(1, 8);
    // The peer may let 100 ms pass before it acknowledges anything.
    limits.session_log = dice.size(64 << 10, 1 << 20);
    limits.acknowledge_at = dice.size(16 << 10, 1 << 20);
    limits.session_log_max = dice.size(limits.session_log, 4 << 20);
    limits.memory = dice.size(1, 16 << 20);
    if dice.chance(20) {
        limits.suspended_links = dice.below(3) as usize;
    }
    if dice.chance(20) {
        limits.suspended_bytes = dice.size(1, 1 << 20);
    }
    limits
}
