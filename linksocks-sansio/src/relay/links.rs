//! The life of a link as far as both roles share it: Hello, keep-alive, the end.

use std::net::IpAddr;
use std::time::Instant;

use super::{GRACE, Notice, Owner, Relay, Timer};
use crate::accounts::{Account, Exhausted, Loans, Payers, Resource};
use crate::config::Limits;
use crate::error::{ChannelError, LinkError, SocketError};
use crate::event::Event;
use crate::ids::{LinkId, TokenId};
use crate::io::{Action, CloseFrame, FrameViolation, LinkClose, MAX_CLOSE_REASON, Output};
use crate::link::{Extensions, Link, LinkEnd, LinkPhase};
use crate::wire::{self, Hello, Message, SessionHello};

/// WebSocket close codes (RFC 6455 section 7.4.1, IANA registry) that we send.
pub(crate) mod close_code {
    pub(crate) const NORMAL: u16 = 1000;
    pub(crate) const PROTOCOL_ERROR: u16 = 1002;
    pub(crate) const UNSUPPORTED_DATA: u16 = 1003;
    pub(crate) const POLICY_VIOLATION: u16 = 1008;
    pub(crate) const MESSAGE_TOO_BIG: u16 = 1009;
    pub(crate) const SERVICE_RESTART: u16 = 1012;
    pub(crate) const TRY_AGAIN_LATER: u16 = 1013;
}

/// The smallest window that makes sense; a Hello that grants less is malformed.
const MIN_WINDOW: u32 = 4096;

/// Why an attempt to open a link was given up.
pub(crate) const NOT_OPEN: &str = "the WebSocket did not open in time";

/// After a liveness deadline that fired late, a living peer has this long to answer a ping.
const PING_GRACE: std::time::Duration = std::time::Duration::from_secs(5);

/// How a link ends.
#[derive(Clone, Debug)]
pub(crate) enum Ending {
    /// The driver has released it.
    Gone,
    /// The driver drops its transport.
    Drop,
    /// What is queued is sent, then a close frame.
    Close(u16),
}

impl Relay {
    /// The upgrade is done: the peer has to authenticate, or we. `None` if the link is being
    /// closed already.
    pub(crate) fn link_opened(&mut self, id: LinkId) -> Option<&mut Link> {
        let timeout = self.config.timeouts.authentication;
        let link = self.links.get_mut(id).filter(|link| link.phase == LinkPhase::Opening)?;
        link.phase = LinkPhase::Authenticating;
        link.keep_alive.last_heard = self.now;
        self.set_timer(Timer::LinkLogin(id), timeout);
        self.grant_receive(id);
        self.links.get_mut(id)
    }

    /// Authentication is done. With extensions the Hellos follow: the server's first.
    pub(crate) fn link_authenticated(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(id) else { return };
        if link.extensions.is_empty() {
            self.link_ready(id);
        } else {
            link.phase = LinkPhase::AwaitingHello;
            if matches!(link.end, LinkEnd::Server { .. }) {
                let session = self.offer_session(id);
                self.send_hello(id, session);
            }
        }
        self.grant_receive(id);
    }

    /// Notes that the channels of this link belong to `owner`.
    pub(crate) fn set_owner(&mut self, id: LinkId, owner: Owner) {
        self.owners.entry(owner).or_default().links += 1;
        self.end_strangeness(id);
        let Some(link) = self.links.get_mut(id) else { return };
        link.owner = Some(owner);
        let tenant = Account::Token(owner.0);
        link.payers.extend([tenant, Account::Client(owner.0, owner.1)]);
        // Strangers wait for nothing.
        link.loans = Loans::new(link.payers.clone());
        self.accounts.charge(Resource::Links, &[tenant], 1);
    }

    fn end_strangeness(&mut self, id: LinkId) {
        if let Some(link) = self.links.get_mut(id)
            && std::mem::take(&mut link.is_stranger)
        {
            self.accounts.give_back(Resource::Strangers, &link.payers, 1);
        }
    }

    pub(super) fn send_hello(&mut self, id: LinkId, session: Option<SessionHello>) {
        let extensions = self.links.get(id).map_or_else(Extensions::default, |link| link.extensions);
        let window = extensions.window.then_some(self.config.extensions.window);
        self.send_prelude(id, Hello { window, finish: extensions.finish, session }.encode());
    }

    /// The first message on a link with extensions, or the second on one that goes on with a session.
    pub(crate) fn on_hello(&mut self, id: LinkId, message: &Message) {
        let Some(link) = self.links.get_mut(id) else { return };
        let Message::Hello(hello) = message else {
            self.protocol_error(id, "the first message is no Hello".to_owned());
            return;
        };
        let window_fits = match hello.window {
            Some(window) => !link.extensions.window || window >= MIN_WINDOW,
            None => !link.extensions.window,
        };
        let extensions = link.extensions;
        let lacks_finish = extensions.finish && !hello.finish;
        let session = hello.session.as_ref().filter(|_| extensions.session);
        if !window_fits || lacks_finish || extensions.session && session.is_none() {
            self.protocol_error(id, "the Hello lacks what was agreed on".to_owned());
            return;
        }
        link.peer_window = hello.window.filter(|_| extensions.window);
        match (link.end, link.phase, session) {
            (LinkEnd::Server { .. }, _, None) => self.link_ready(id),
            (LinkEnd::Server { .. }, _, Some(asked)) => self.on_session_request(id, asked),
            (LinkEnd::Client { .. }, _, None) => {
                self.send_hello(id, None);
                self.link_ready(id);
            }
            (LinkEnd::Client { slot }, LinkPhase::Resuming, Some(answer)) => {
                self.on_session_answer(id, slot, answer);
            }
            (LinkEnd::Client { slot }, _, Some(offered)) => self.on_session_offer(id, slot, offered),
        }
    }

    pub(super) fn link_ready(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(id) else { return };
        link.phase = LinkPhase::Ready;
        link.keep_alive.last_heard = self.now;
        self.settle_session(id);
        self.timers.cancel(Timer::LinkLogin(id));
        self.ping(id);
        let interval = self.config.timeouts.ping_interval.min(self.config.timeouts.link_idle);
        self.set_timer(Timer::LinkKeepAlive(id), interval);
        self.notices.push_back(Notice::LinkReady { link: id });
    }

    /// Lets the driver read on, unless too much waits.
    pub(crate) fn grant_receive(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(id) else { return };
        let window = link.receive_window(&self.config.limits);
        if link.is_deaf() || link.is_suspended() || link.is_ending() {
            return;
        }
        if let Some(bytes) = link.receive_credit.top_up(window) {
            self.push(Output::Receive { link: id, bytes });
        }
    }

    pub(crate) fn on_violation(&mut self, id: LinkId, violation: FrameViolation) {
        let (text, code) = match violation {
            FrameViolation::Text => ("text message", close_code::UNSUPPORTED_DATA),
            FrameViolation::TooLarge => ("message too large", close_code::MESSAGE_TOO_BIG),
            FrameViolation::Framing => ("invalid WebSocket frame", close_code::PROTOCOL_ERROR),
        };
        self.end_link(id, LinkError::Protocol(text.to_owned()), Ending::Close(code));
    }

    pub(crate) fn protocol_error(&mut self, id: LinkId, text: String) {
        self.end_link(id, LinkError::Protocol(text), Ending::Close(close_code::PROTOCOL_ERROR));
    }

    pub(crate) fn on_link_closed(&mut self, id: LinkId, cause: LinkClose) {
        let error = match cause {
            LinkClose::Peer(None) => LinkError::Closed(String::new()),
            LinkClose::Peer(Some(CloseFrame { code, reason })) if reason.is_empty() => {
                LinkError::Closed(format!(" with code {code}"))
            }
            LinkClose::Peer(Some(CloseFrame { code, reason })) => {
                LinkError::Closed(format!(" with code {code}: {reason}"))
            }
            LinkClose::Transport(error) => LinkError::Lost(error),
            LinkClose::Local => LinkError::Lost(SocketError::Other),
        };
        self.end_link(id, error, Ending::Gone);
    }

    /// Ends a link and everything on it, unless that may wait for another link.
    pub(crate) fn end_link(&mut self, id: LinkId, error: LinkError, ending: Ending) {
        let may_wait = self.may_suspend(id, &error);
        let Some(link) = self.links.get(id).filter(|link| !link.is_suspended()) else { return };
        if link.is_ending() {
            if matches!(ending, Ending::Gone) {
                self.forget_link(id);
            }
            return;
        }
        if matches!(link.end, LinkEnd::Server { .. }) {
            self.reroute_all(id);
        }
        let Some(link) = self.links.get_mut(id) else { return };
        let opening = link.phase == LinkPhase::Opening;
        let authenticated =
            matches!(link.phase, LinkPhase::AwaitingHello | LinkPhase::Resuming | LinkPhase::Ready);
        let (end, dial) = (link.end, link.dial.take());
        link.phase = LinkPhase::Closing;
        if may_wait {
            self.suspend(id);
        } else {
            self.abort_all(id, &ChannelError::LinkLost);
        }
        self.timers.cancel(Timer::LinkLogin(id));
        self.timers.cancel(Timer::LinkKeepAlive(id));
        self.timers.cancel(Timer::Stall(Some(id)));
        self.end_strangeness(id);
        if let Some(owner) = self.links.get_mut(id).and_then(|link| link.owner.take()) {
            self.forget_owner(owner);
        }
        match (ending, dial) {
            (Ending::Gone, _) => self.forget_link(id),
            (_, Some(dial)) => {
                self.cancel_dial(dial);
                self.forget_link(id);
            }
            (Ending::Close(code), None) if !opening => {
                if let Some(link) = self.links.get_mut(id) {
                    link.close = Some(CloseFrame { code, reason: close_reason(&error) });
                }
                self.set_timer(Timer::LinkClose(id), self.config.timeouts.link_close);
                self.schedule_link(id);
            }
            (Ending::Close(_) | Ending::Drop, None) => self.close_link(id, None),
        }
        self.notices.push_back(Notice::LinkDown { link: id, end, authenticated, error });
    }

    /// Ends all channels of a link that is ending, and its session.
    pub(super) fn abort_all(&mut self, id: LinkId, error: &ChannelError) {
        let Some(link) = self.links.get_mut(id) else { return };
        let channels: Vec<_> = link.channels.values().copied().collect();
        let associations: Vec<_> = link.associations.values().copied().collect();
        self.detach_waiting(id);
        for channel in channels {
            self.abort_channel(channel, error.clone());
        }
        for association in associations {
            self.abort_association(association, error.clone());
        }
        self.forget_session(id);
        self.limit_detached();
    }

    pub(super) fn forget_owner(&mut self, owner: Owner) {
        if let Some(owned) = self.owners.get_mut(&owner) {
            owned.links -= 1;
            if owned.links == 0 {
                owned.early.forget(owner, &mut self.accounts);
                self.owners.remove(&owner);
                self.timers.cancel(Timer::Early(owner));
            }
        }
    }

    fn forget_link(&mut self, id: LinkId) {
        self.timers.cancel(Timer::LinkClose(id));
        self.end_strangeness(id);
        if let Some(link) = self.links.remove(id) {
            self.accounts.give_back(Resource::Links, &link.payers, 1);
            self.accounts.forget(id);
            self.repay(link.loans);
        }
    }

    /// Forgets a link that was never open and that the driver has released. Nobody is told.
    pub(crate) fn abandon_link(&mut self, id: LinkId) {
        if let Some(dial) = self.links.get_mut(id).and_then(|link| link.dial.take()) {
            self.cancel_dial(dial);
        }
        self.timers.cancel(Timer::LinkLogin(id));
        self.forget_link(id);
    }

    /// Hands the end of a link to the driver.
    pub(super) fn close_link(&mut self, id: LinkId, close: Option<CloseFrame>) {
        if let Some(link) = self.links.get_mut(id) {
            link.phase = LinkPhase::Closed;
            link.control.clear();
            link.prelude.clear();
            self.timers.cancel(Timer::LinkClose(id));
            let linger = self.config.timeouts.link_close;
            self.act(Action::CloseLink { link: id, close, linger });
        }
    }

    pub(super) fn on_close_timeout(&mut self, id: LinkId) {
        self.close_link(id, None);
    }

    pub(super) fn on_login_timeout(&mut self, id: LinkId) {
        let Some(link) = self.links.get(id) else { return };
        let (error, ending) = match (link.phase, link.end) {
            (LinkPhase::Opening, _) => (NOT_OPEN, Ending::Drop),
            (_, LinkEnd::Client { .. }) => {
                ("the server did not authenticate in time", Ending::Close(close_code::POLICY_VIOLATION))
            }
            (_, LinkEnd::Server { .. }) => {
                ("the client did not authenticate in time", Ending::Close(close_code::POLICY_VIOLATION))
            }
        };
        // No AuthResponse: a client would take its token for wrong and give up.
        self.end_link(id, LinkError::Timeout(error), ending);
    }

    pub(crate) fn send_auth_failure(&mut self, id: LinkId, error: &str) {
        self.send_prelude(id, wire::AuthResponse::Failure { error: error.to_owned() }.encode());
    }

    pub(super) fn ping(&mut self, id: LinkId) {
        if let Some(link) = self.links.get_mut(id) {
            link.keep_alive.ping_sent.get_or_insert(self.now);
            self.act(Action::Ping { link: id });
        }
    }

    pub(crate) fn on_pong(&mut self, id: LinkId) {
        let now = self.now;
        let Some(link) = self.links.get_mut(id) else { return };
        link.keep_alive.last_heard = now;
        let Some(sent) = link.keep_alive.ping_sent.take() else { return };
        let round_trip = now.saturating_duration_since(sent);
        if link.keep_alive.round_trip.replace(round_trip).is_none() {
            self.tell(Event::LinkLatency { link: id, round_trip });
        }
    }

    pub(super) fn on_keep_alive(&mut self, id: LinkId, deadline: Instant) {
        let (interval, idle) = (self.config.timeouts.ping_interval, self.config.timeouts.link_idle);
        let late = self.is_late(deadline);
        let now = self.now;
        let Some(link) = self.links.get_mut(id) else { return };
        if link.pace.stuck_for(now) >= idle && !late {
            self.end_link(id, LinkError::Timeout("the peer takes nothing"), Ending::Drop);
            return;
        }
        if link.is_deaf() {
            // We don't read, so we can't hear.
            link.keep_alive.last_heard = now;
            self.set_timer(Timer::LinkKeepAlive(id), interval.max(GRACE));
            return;
        }
        let silent = now.saturating_duration_since(link.keep_alive.last_heard);
        if silent < idle {
            self.ping(id);
            self.set_timer(Timer::LinkKeepAlive(id), interval.min(idle - silent));
        } else if late {
            self.ping(id);
            self.set_timer(Timer::LinkKeepAlive(id), PING_GRACE);
        } else {
            self.end_link(id, LinkError::Timeout("the peer has gone silent"), Ending::Drop);
        }
    }

    /// See [`Link::is_deaf`].
    pub(super) fn is_deaf(&self, id: LinkId) -> bool {
        self.links.get(id).is_some_and(Link::is_deaf)
    }

    /// Says to whom one more link from `address` is to be charged, if there may be one. `token`: it has shown
    /// a valid one, so that strangers can't keep it out.
    pub(crate) fn admit_link(
        &mut self,
        address: IpAddr,
        token: Option<TokenId>,
    ) -> Result<Payers, Exhausted> {
        let payers = Payers::from_iter([Account::Everybody, Account::of_address(address)]);
        match token {
            Some(token) => self.check_tenant(token)?,
            None => self.accounts.check(Resource::Strangers, &payers, 1)?,
        }
        self.accounts.check(Resource::Links, &payers, 1)?;
        Ok(payers)
    }

    /// Whether there may be one more link with a token.
    pub(crate) fn check_tenant(&mut self, token: TokenId) -> Result<(), Exhausted> {
        self.accounts.check(Resource::Links, &[Account::Token(token)], 1)
    }

    /// Whom is charged what is done for the peer of a link.
    pub(super) fn payers_of(&self, link: LinkId) -> Payers {
        self.links.get(link).map(|link| link.payers.clone()).unwrap_or_default()
    }

    pub(crate) fn add_link(&mut self, end: LinkEnd, extensions: Extensions, payers: Payers) -> LinkId {
        self.accounts.charge(Resource::Links, &payers, 1);
        self.links.insert(Link::new(end, extensions, payers, &self.config, self.now))
    }

    /// Until it has authenticated, a link is one of few.
    pub(crate) fn add_stranger(&mut self, id: LinkId) {
        if let Some(link) = self.links.get_mut(id) {
            link.is_stranger = true;
            self.accounts.charge(Resource::Strangers, &link.payers, 1);
        }
    }
}

/// An error as the reason of a close frame.
fn close_reason(error: &LinkError) -> String {
    wire::cut_text(&error.to_string(), MAX_CLOSE_REASON).to_owned()
}

const _: () = assert!(Limits::MAX_UNAUTHENTICATED_MESSAGE > 275 + Limits::MESSAGE_OVERHEAD);
