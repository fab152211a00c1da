//! The engine of a client: keeps links to a server and offers SOCKS5 over them.

mod links;
mod provider;
mod route;

use std::time::Instant;

use self::route::Route;
use crate::access::AccessRules;
use crate::backoff::Backoff;
use crate::channel::Origin;
use crate::config::ClientConfig;
use crate::error::{ChannelError, OpenError, StopReason};
use crate::event::Event;
use crate::http::admin;
use crate::ids::{InstanceId, LinkId, ListenerId, Ticket};
use crate::io::{Action, Command, Engine, Input, Output, sealed};
use crate::link::LinkEnd;
use crate::relay::{EngineTimer, Notice, Relay, Role, Want, Wish, close_code, handle_input, poll_output};
use crate::secret::Token;
use crate::socks5::{Reply, TargetAddr};
use crate::stats::Stats;
use crate::token::TokenError;
use crate::waiting::Waiting;
use crate::wire::Message;

/// A LinkSocks client: keeps links to a server, and carries channels over them.
///
/// It starts to connect at once: drain [`Engine::poll_output`] after [`ClientEngine::new`], as the
/// [example of the crate](crate) does. Lost links are opened again; it stops ([`Action::Stop`]) after
/// [`Command::Shutdown`], a [final](crate::error::LinkError::is_final) error, a SOCKS port that can't be
/// opened, and, without [`ClientConfig::reconnect`], when no link is left.
#[derive(Debug)]
pub struct ClientEngine {
    relay: Relay,
    config: ClientConfig,
    instance: InstanceId,
    /// The token in force: the server may have assigned another one.
    token: Token,
    /// Delays until connector tokens that belong to others are asked for again.
    registration: Backoff,
    slots: Vec<Slot>,
    /// Whether a login has ever succeeded: then no refusal is taken for final.
    proven: bool,
    /// The slot whose turn it is to carry the next channel.
    next_slot: usize,
    listener: Option<ListenerId>,
    /// Wishes that wait for a link.
    waiting: Waiting<()>,
}

/// The place of one link.
#[derive(Debug)]
struct Slot {
    /// `None` while backing off.
    link: Option<LinkId>,
    /// Of the link, while it is being opened.
    route: Option<Route>,
    backoff: Backoff,
}

impl ClientEngine {
    /// Starts a client. `seed` is its only randomness, and must not be known to others; `now` is its first
    /// instant.
    #[must_use]
    pub fn new(config: ClientConfig, seed: [u8; 32], now: Instant) -> Self {
        let mut relay = Relay::new(config.relay.clone(), seed, now, close_code::NORMAL);
        let instance = relay.rng.instance_id();
        let slot = || Slot { link: None, route: None, backoff: Backoff::new(config.backoff.clone()) };
        let slots: Vec<_> = std::iter::repeat_with(slot).take(config.links.max(1)).collect();
        let mut client = Self {
            relay,
            instance,
            token: config.token.clone(),
            registration: Backoff::new(config.backoff.clone()),
            slots,
            proven: false,
            next_slot: 0,
            listener: None,
            waiting: Waiting::default(),
            config,
        };
        if client.config.listen_early {
            client.start_listening();
        }
        for slot in 0..client.slots.len() {
            client.connect(slot);
        }
        client
    }

    fn start_listening(&mut self) {
        if let (Some(address), None, false) = (self.config.listen, self.listener, self.is_provider()) {
            self.listener =
                Some(self.relay.listen(address, self.config.credentials.clone(), AccessRules::default()));
        }
    }

    /// Gives a wish to a link, or lets it wait for one.
    fn grant(&mut self, origin: Origin, wish: Wish) {
        if self.relay.is_shutting_down() {
            self.relay.refuse(origin, self.relay.stop_error());
        } else if let Some(link) = self.next_ready_link() {
            match wish.into_inner() {
                Want::Stream(target) => self.relay.open_channel(link, origin, target),
                Want::Datagrams(sender) => self.relay.open_association(link, origin, sender),
            }
        } else {
            let patience = self.relay.config.timeouts.link_wait;
            self.waiting.add(&mut self.relay, origin, wish, (), patience);
        }
    }

    fn next_ready_link(&mut self) -> Option<LinkId> {
        let count = self.slots.len();
        let slot =
            (0..count).map(|step| (self.next_slot + step) % count).find(|slot| self.is_ready(*slot))?;
        self.next_slot = (slot + 1) % count;
        self.slots[slot].link
    }

    fn is_ready(&self, slot: usize) -> bool {
        let link = self.slots[slot].link.and_then(|link| self.relay.links.get(link));
        link.is_some_and(|link| link.is_ready())
    }

    fn serve_waiting(&mut self) {
        for (origin, wish) in self.waiting.take(&mut self.relay, |()| true) {
            self.grant(origin, wish);
        }
    }

    fn on_wait_timeout(&mut self, origin: Origin) {
        if self.waiting.expire(&mut self.relay, origin) {
            self.relay.refuse(origin, OpenError::NoLink);
        }
    }

    fn on_open(&mut self, ticket: Ticket, target: TargetAddr) {
        match target.validate() {
            Ok(()) => self.relay.want(Origin::Embed(ticket), Want::Stream(target)),
            Err(error) => self.relay.refuse_ticket(ticket, ChannelError::InvalidTarget(error).into()),
        }
    }

    fn refuse_waiting(&mut self, error: &OpenError) {
        for (origin, _) in self.waiting.take(&mut self.relay, |()| true) {
            self.relay.refuse(origin, error.clone());
        }
    }

    fn stop_listening(&mut self) {
        if let Some(listener) = self.listener.take() {
            self.relay.unlisten(listener);
        }
    }

    /// Ends for good.
    fn stop(&mut self, reason: StopReason) {
        let drain = self.relay.config.timeouts.stall;
        self.relay.begin_shutdown(drain, reason);
    }
}

impl Role for ClientEngine {
    fn relay(&mut self) -> &mut Relay {
        &mut self.relay
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the relay matches what is left")]
    fn apply(&mut self, input: Input) {
        match input {
            Input::Command(Command::Open { ticket, target }) => self.on_open(ticket, target),
            Input::Command(Command::AddToken { ticket, .. } | Command::RemoveToken { ticket, .. }) => {
                self.relay.act(Action::AnswerToken { ticket, result: Err(TokenError::NotAServer) });
            }
            Input::Command(Command::Associate { ticket }) => {
                self.relay.want(Origin::Embed(ticket), Want::Datagrams(Reply::NO_ADDRESS));
            }
            Input::LinkOffered { ticket, .. } => {
                self.relay.act(Action::RejectLink { ticket, status: 404, reason: "not a server" });
            }
            Input::HttpRequest { ticket, .. } => {
                self.relay.act(Action::HttpResponse { ticket, response: admin::not_found() });
            }
            Input::LinkOpened { link, response } => self.on_opened(link, &response),
            Input::LinkFailed { link, error } => self.on_open_failed(link, error),
            Input::ListenerOpened { listener, local } if self.listener == Some(listener) => {
                self.relay.tell(Event::SocksListening { local });
                self.relay.grant_accepts(listener);
            }
            Input::ListenerFailed { listener, error } if self.listener == Some(listener) => {
                self.relay.forget_listener(listener);
                self.listener = None;
                if let Some(address) = self.config.listen {
                    self.stop(StopReason::Listen { address, error });
                }
            }
            _ => {}
        }
    }

    /// A message before the server's verdict.
    #[expect(clippy::wildcard_enum_match_arm, reason = "all that is not expected is wrong")]
    fn on_login_message(&mut self, link: LinkId, message: Message) {
        match message {
            Message::AuthResponse(response) => self.on_verdict(link, response),
            Message::Log(_) | Message::Partners(_) | Message::Direct(_) | Message::Unknown(_) => {}
            _ => self.relay.protocol_error(link, "a message before the authentication".to_owned()),
        }
    }

    fn on_timer(&mut self, timer: EngineTimer) {
        match timer {
            EngineTimer::Slot(slot) if !self.relay.is_shutting_down() => self.connect(slot),
            EngineTimer::Slot(_) => {}
            EngineTimer::Wanted(origin) => self.on_wait_timeout(origin),
            EngineTimer::Registration => self.register_again(),
            EngineTimer::Silence(_)
            | EngineTimer::Listener(_)
            | EngineTimer::Port(_)
            | EngineTimer::Released(_) => {}
        }
    }

    fn on_notice(&mut self, notice: Notice) {
        match notice {
            Notice::Wanted { origin, wish } => self.grant(origin, wish),
            Notice::LinkDialed { link, socket } => self.on_dialed(link, socket),
            Notice::LinkReady { link } => self.on_ready(link),
            Notice::LinkDown { link, end: LinkEnd::Client { slot }, authenticated, error } => {
                self.on_down(link, slot, authenticated, error);
            }
            Notice::LinkDown { end: LinkEnd::Server { .. }, .. } => {}
            Notice::ConnectorRequested { .. } => {}
            Notice::ConnectorAnswered { link, response } => self.on_connector_answer(link, response),
            Notice::ConnectRequested { link, connect } if self.relay.is_shutting_down() => {
                self.relay.refuse_connect(link, connect.channel, &ChannelError::Shutdown);
            }
            Notice::ConnectRequested { link, connect } if self.is_provider() => {
                self.relay.accept_connect(link, connect);
            }
            Notice::ConnectRequested { link, connect } => {
                self.relay.refuse_connect(link, connect.channel, &ChannelError::NotADialSide);
            }
            Notice::ShutdownBegun => {
                self.stop_listening();
                self.refuse_waiting(&self.relay.stop_error());
            }
        }
    }
}

impl sealed::Sealed for ClientEngine {}

impl Engine for ClientEngine {
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
