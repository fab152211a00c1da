//! The engine of a server: lets clients in by their tokens and connects to targets for them.

use std::time::Instant;

use uuid::Uuid;

use crate::config::ServerConfig;
use crate::error::{ChannelError, LinkError, OpenError};
use crate::event::Event;
use crate::http::admin;
use crate::ids::{InstanceId, LinkId, Ticket};
use crate::io::{Action, Command, Engine, Input, Output, UpgradeRequest, sealed};
use crate::link::{Extensions, LinkEnd};
use crate::relay::{
    Ending, EngineTimer, Login, Notice, Relay, Role, Timer, close_code, handle_input, poll_output,
};
use crate::secret::{Token, TokenDigest};
use crate::stats::Stats;
use crate::url::LINK_PATH;
use crate::wire::{Auth, AuthResponse, Message};

/// What the client is told when no token matches; as real servers have it.
const INVALID_TOKEN: &str = "invalid token";

/// What the client is told when its first message is another one than Auth.
const INVALID_AUTH: &str = "invalid auth message";

/// A LinkSocks server.
#[derive(Debug)]
pub struct ServerEngine {
    relay: Relay,
    /// Tokens with their digests, in the order of the configuration.
    tokens: Vec<(Token, TokenDigest)>,
}

impl ServerEngine {
    /// Starts a server. `seed` is its only randomness; `now` its first instant.
    #[must_use]
    pub fn new(config: ServerConfig, seed: [u8; 32], now: Instant) -> Self {
        let tokens = config.tokens.into_iter().filter_map(|token| match token {
            crate::token::NewToken::Forward(token) => {
                let token = token.token?;
                let digest = token.digest();
                Some((token, digest))
            }
            _ => None,
        });
        Self {
            tokens: tokens.collect(),
            relay: Relay::new(config.relay, seed, now, close_code::SERVICE_RESTART),
        }
    }

    fn on_offer(&mut self, ticket: Ticket, request: &UpgradeRequest) {
        let below = request.path.strip_prefix(LINK_PATH);
        let rejection = if !below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            Some((404, "404 page not found"))
        } else if self.relay.is_shutting_down() {
            Some((503, "the server is shutting down"))
        } else {
            None
        };
        let login = self.judge_query(&request.query);
        let welcome = matches!(login, Some(Ok(_)));
        let rejection =
            rejection.or_else(|| self.relay.check_link_limits(welcome).err().map(|reason| (503, reason)));
        if let Some((status, reason)) = rejection {
            self.relay.act(Action::RejectLink { ticket, status, reason });
            return;
        }
        let offered = request.extensions.as_deref().map(Extensions::parse).unwrap_or_default();
        let accepted = offered.and(Extensions::from_config(&self.relay.config));
        let link = self.relay.add_link(LinkEnd::Server { peer: request.peer }, accepted);
        if let Some(added) = self.relay.links.get_mut(link) {
            added.login = login;
        }
        self.relay.set_timer(Timer::LinkLogin(link), self.relay.config.timeouts.authentication);
        self.relay.act(Action::AcceptLink { ticket, link, extensions: accepted.header() });
    }

    /// Reads a login from the query of the URL. `None`: there is none, an Auth message must come.
    fn judge_query(&mut self, query: &str) -> Option<Login> {
        let (mut token, mut reverse, mut instance) = (None, None, None);
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match name.as_ref() {
                "token" if !value.is_empty() => token = Some(value.into_owned()),
                "reverse" => reverse = Some(matches!(value.as_ref(), "true" | "1")),
                "instance" => instance = Uuid::parse_str(&value).ok(),
                _ => {}
            }
        }
        let token = token?;
        // Without a name the link is a process of its own.
        let instance = instance.map_or_else(|| self.relay.rng.instance_id(), InstanceId);
        if token.len() != TokenDigest::HEX_LEN {
            return Some(Err("invalid token format"));
        }
        let digest = TokenDigest::from_hex(&token);
        let place = digest.and_then(|digest| self.find_token(|(_, known)| *known == digest));
        Some(verdict(place, reverse.unwrap_or(false), instance))
    }

    fn judge_auth(&self, auth: &Auth) -> Login {
        verdict(self.find_token(|(known, _)| *known == auth.token), auth.reverse, auth.instance)
    }

    /// Looks at all tokens, so that the time tells nothing about which one matched.
    fn find_token(&self, matches: impl Fn(&(Token, TokenDigest)) -> bool) -> Option<usize> {
        let places = self.tokens.iter().enumerate();
        places.fold(None, |found, (place, token)| if matches(token) { Some(place) } else { found })
    }

    fn on_opened(&mut self, id: LinkId) {
        let login = self.relay.link_opened(id).and_then(|link| link.login.take());
        if let Some(login) = login {
            self.finish_login(id, login);
        }
    }

    fn finish_login(&mut self, id: LinkId, login: Login) {
        let Some(link) = self.relay.links.get(id) else { return };
        let (LinkEnd::Server { peer }, extensions) = (link.end, link.extensions) else { return };
        match login {
            Ok(owner) => {
                self.relay.send_prelude(id, AuthResponse::Success { assigned: None }.encode());
                self.relay.set_owner(id, owner);
                self.relay.tell(Event::ClientAuthenticated { link: id, peer, extensions });
                self.relay.link_authenticated(id);
            }
            Err(text) => {
                self.relay.send_auth_failure(id, text);
                let error = LinkError::Rejected(text.to_owned());
                self.relay.end_link(id, error, Ending::Close(close_code::POLICY_VIOLATION));
            }
        }
    }
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
            Input::LinkOffered { ticket, request } => self.on_offer(ticket, &request),
            Input::HttpRequest { ticket, request } => {
                let response = admin::route(&request, &[]).err().unwrap_or_else(admin::not_found);
                self.relay.act(Action::HttpResponse { ticket, response });
            }
            Input::LinkOpened { link, .. } => self.on_opened(link),
            Input::LinkFailed { link, error } => {
                self.relay.end_link(link, LinkError::Upgrade(error.to_string()), Ending::Gone);
            }
            _ => {}
        }
    }

    fn on_login_message(&mut self, link: LinkId, message: Message) {
        let login =
            if let Message::Auth(auth) = &message { self.judge_auth(auth) } else { Err(INVALID_AUTH) };
        self.finish_login(link, login);
    }

    /// A server has none of its own.
    fn on_timer(&mut self, _: EngineTimer) {}

    fn on_notice(&mut self, notice: Notice) {
        match notice {
            Notice::ConnectRequested { link, connect } => {
                if self.relay.is_shutting_down() {
                    self.relay.refuse_connect(link, connect.channel, &ChannelError::Shutdown);
                } else {
                    self.relay.accept_connect(link, connect);
                }
            }
            Notice::LinkDown { link, end: LinkEnd::Server { peer }, authenticated, error } => {
                let event = if authenticated {
                    Event::ClientDisconnected { link, peer, error }
                } else {
                    Event::ClientRejected { link, peer, error }
                };
                self.relay.tell(event);
            }
            Notice::Wanted { origin, .. } => self.relay.refuse(origin, OpenError::Unsupported),
            Notice::LinkDown { end: LinkEnd::Client { .. }, .. }
            | Notice::LinkDialed { .. }
            | Notice::LinkReady { .. }
            | Notice::ShutdownBegun => {}
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

/// A forward token lets in clients that don't dial themselves.
fn verdict(place: Option<usize>, reverse: bool, instance: InstanceId) -> Login {
    match place {
        Some(place) if !reverse => Ok((place, instance)),
        _ => Err(INVALID_TOKEN),
    }
}
