//! The engine of a server: lets clients in by their tokens, connects to targets for them, or lets
//! other clients do that.

mod api;
mod clients;
mod login;
mod ports;
mod providers;
mod registry;
mod routing;
mod tokens;

use std::net::IpAddr;
use std::time::Instant;

use zeroize::Zeroize as _;

use self::clients::Clients;
use self::ports::Ports;
use self::providers::{Group, Providers};
use self::registry::Registry;
use crate::attempts::Attempts;
use crate::config::ServerConfig;
use crate::error::{LinkError, OpenError};
use crate::event::Event;
use crate::ids::LinkId;
use crate::io::{Action, Command, Engine, Input, Output, sealed};
use crate::link::LinkEnd;
use crate::relay::{Ending, EngineTimer, Notice, Relay, Role, close_code, handle_input, poll_output};
use crate::rng::EngineRng;
use crate::secret::Token;
use crate::stats::Stats;
use crate::token::TokenError;
use crate::waiting::Waiting;
use crate::wire::Message;

/// A LinkSocks server: lets clients in by their tokens, and connects to targets for them or lets providers
/// do it.
///
/// The HTTP front door is the driver's: it listens, and gives the engine each request as
/// [`Input::LinkOffered`] or [`Input::HttpRequest`]. SOCKS ports of reverse tokens are asked for with
/// [`Action::Listen`]. A server stops after [`Command::Shutdown`] only.
///
/// ```
/// # use std::time::Instant;
/// use linksocks_sansio::{Engine, Event, Output, ServerConfig, ServerEngine, Token};
///
/// let config = ServerConfig::forward(Token::new("secret")?)?;
/// let mut server = ServerEngine::new(config, [7; 32], Instant::now());
/// assert!(matches!(server.poll_output(), Output::Event(Event::TokenAdded { port: None, .. })));
/// assert!(matches!(server.poll_output(), Output::Timeout(None))); // waits for whoever comes
/// # Ok::<(), linksocks_sansio::ConfigError>(())
/// ```
#[derive(Debug)]
pub struct ServerEngine {
    relay: Relay,
    registry: Registry,
    attempts: Attempts,
    clients: Clients,
    providers: Providers,
    /// Wishes that wait for a provider.
    waiting: Waiting<Group>,
    ports: Ports,
    socks_host: IpAddr,
    /// What the HTTP API accepts; none: there is no API.
    api_keys: Vec<Token>,
}

impl ServerEngine {
    /// Starts a server. `seed` is its only randomness, and must not be known to others; `now` is its first
    /// instant. Tokens of `config` that can't be added are left out, with an [`Event::TokenRefused`]; see
    /// [`ServerConfig::check`].
    #[must_use]
    pub fn new(config: ServerConfig, seed: [u8; 32], now: Instant) -> Self {
        let mut relay = Relay::new(config.relay, seed, now, close_code::SERVICE_RESTART);
        let registry = Registry::new(&relay.config.limits, config.port_pool, &mut relay.rng);
        let mut server = Self {
            relay,
            registry,
            attempts: Attempts::default(),
            clients: Clients::default(),
            providers: Providers::default(),
            waiting: Waiting::default(),
            ports: Ports::default(),
            socks_host: config.socks_host,
            api_keys: config.api_keys,
        };
        for token in config.tokens {
            if let Err(error) = server.add_token(token) {
                server.relay.tell(Event::TokenRefused { error });
            }
        }
        server
    }
}

/// Adds the tokens of a configuration to nothing.
pub(crate) fn check_tokens(config: &ServerConfig) -> Result<(), TokenError> {
    let mut rng = EngineRng::new([0; 32]);
    let mut registry = Registry::new(&config.relay.limits, config.port_pool.clone(), &mut rng);
    config.tokens.iter().try_for_each(|token| registry.add(&mut rng, token.clone()).map(drop))
}

impl Role for ServerEngine {
    fn relay(&mut self) -> &mut Relay {
        &mut self.relay
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the relay matches what is left")]
    fn apply(&mut self, input: Input) {
        match input {
            Input::Command(Command::Open { ticket, .. } | Command::Associate { ticket }) => {
                self.relay.refuse_ticket(ticket, OpenError::Unsupported);
            }
            Input::Command(Command::AddToken { ticket, token }) => {
                let result = self.add_token(token);
                self.relay.act(Action::AnswerToken { ticket, result });
            }
            Input::Command(Command::RemoveToken { ticket, token }) => {
                let result = self.remove_token(token);
                self.relay.act(Action::AnswerToken { ticket, result });
            }
            Input::LinkOffered { ticket, mut request } => {
                self.on_offer(ticket, &request);
                // The digest in it opens the same door as the token.
                request.query.zeroize();
            }
            Input::HttpRequest { ticket, request } => {
                let response = self.answer_http(&request);
                self.relay.act(Action::HttpResponse { ticket, response });
            }
            Input::LinkOpened { link, .. } => self.on_opened(link),
            Input::LinkFailed { link, error } => {
                self.relay.end_link(link, LinkError::Upgrade(error.to_string()), Ending::Gone);
            }
            Input::ListenerOpened { listener, local } => self.on_listening(listener, local),
            Input::ListenerFailed { listener, error } => self.on_listen_failed(listener, error),
            _ => {}
        }
    }

    fn on_login_message(&mut self, link: LinkId, message: Message) {
        self.on_auth(link, &message);
    }

    fn on_timer(&mut self, timer: EngineTimer) {
        match timer {
            EngineTimer::Wanted(origin) => self.on_wait_timeout(origin),
            EngineTimer::Silence(link) => self.on_watch(link),
            EngineTimer::Listener(listener) => self.close_port(listener),
            EngineTimer::Port(token) => self.open_port(token),
            EngineTimer::Released(provider) => self.on_released(provider.into()),
            EngineTimer::Slot(_) | EngineTimer::Registration => {}
        }
    }

    fn on_notice(&mut self, notice: Notice) {
        match notice {
            Notice::ConnectRequested { link, connect } => self.on_connect(link, connect),
            Notice::ConnectorRequested { link, request } => self.on_connector(link, request),
            Notice::Wanted { origin, wish } => self.grant(origin, wish),
            Notice::LinkReady { link } => self.on_ready(link),
            Notice::LinkDown { link, end: LinkEnd::Server { peer }, authenticated, error } => {
                self.on_down(link);
                let event = if authenticated {
                    Event::ClientDisconnected { link, peer, error }
                } else {
                    Event::ClientRejected { link, peer, error }
                };
                self.relay.tell(event);
            }
            Notice::ShutdownBegun => {
                self.close_ports();
                self.refuse_waiting();
            }
            Notice::LinkDown { end: LinkEnd::Client { .. }, .. }
            | Notice::LinkDialed { .. }
            | Notice::ConnectorAnswered { .. } => {}
        }
    }
}

impl sealed::Sealed for ServerEngine {}

impl Engine for ServerEngine {
    fn handle_input(&mut self, now: Instant, input: Input) {
        handle_input(self, now, input);
    }

    fn poll_output(&mut self) -> Output {
        poll_output(self)
    }

    fn stats(&self) -> Stats {
        self.relay.stats()
    }
}
