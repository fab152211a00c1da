//! The links of a client: connecting, logging in, coming back.

use super::ClientEngine;
use super::route::Route;
use crate::accounts::{Account, Payers};
use crate::dial::DialOwner;
use crate::error::{LinkError, LinkFailure, StopReason};
use crate::event::Event;
use crate::ids::{LinkId, SocketId, TokenId};
use crate::io::{Action, LinkRequest, UpgradeResponse};
use crate::link::{Extensions, LinkEnd, LinkPhase};
use crate::relay::{Ending, EngineTimer, NOT_OPEN, Timer};
use crate::wire::{Auth, AuthResponse};

impl ClientEngine {
    /// Starts an attempt for a slot.
    pub(super) fn connect(&mut self, slot: usize) {
        let server = &self.config.server;
        let url = server.login(&self.token, self.is_provider(), self.instance);
        let carries_token = !server.authenticates_by_url();
        let deadline = self.relay.now.checked_add(self.relay.config.timeouts.link_open);
        self.connect_by(slot, Route::new(url, carries_token, deadline));
    }

    /// Opens a link where `route` leads to.
    fn connect_by(&mut self, slot: usize, route: Route) {
        let mut offered = Extensions::from_config(&self.relay.config);
        // Without another link there is nothing to wait for.
        offered.session &= self.config.reconnect;
        let link =
            self.relay.add_link(LinkEnd::Client { slot }, offered, Payers::from_iter([Account::Everybody]));
        self.relay.tell(Event::LinkConnecting { link });
        self.relay.set_timer(Timer::LinkLogin(link), route.rest(self.relay.now));
        let (address, proxy) = (route.url().address(), self.config.proxy.choose(&route.server()).cloned());
        let dial = self.relay.start_dial(DialOwner::Link(link), None, Payers::new(), address, proxy);
        if let Some(link) = self.relay.links.get_mut(link) {
            link.dial = Some(dial);
        }
        self.slots[slot].link = Some(link);
        self.slots[slot].route = Some(route);
    }

    pub(super) fn on_dialed(&mut self, id: LinkId, socket: SocketId) {
        let Some(link) = self.relay.links.get(id) else { return };
        let LinkEnd::Client { slot } = link.end else { return };
        let Some(route) = &self.slots[slot].route else { return };
        let (url, config) = (route.url(), &self.config);
        let server_name = config.server_name.clone().filter(|_| route.is_at_home());
        let request = LinkRequest {
            secure: url.is_secure(),
            server_name: server_name.unwrap_or_else(|| url.host()),
            authority: url.authority(),
            path_and_query: url.path_and_query(),
            extensions: link.extensions.header(),
            headers: if route.is_at_home() { config.headers.clone() } else { Vec::new() },
        };
        self.relay.act(Action::OpenLink { link: id, socket, request });
    }

    pub(super) fn on_opened(&mut self, id: LinkId, response: &UpgradeResponse) {
        let Some(link) = self.relay.link_opened(id) else { return };
        if let LinkEnd::Client { slot } = link.end {
            self.slots[slot].route = None;
        }
        let answer = response.extensions.as_deref().map(Extensions::parse).unwrap_or_default();
        link.extensions = link.extensions.and(answer);
        if !self.config.server.authenticates_by_url() {
            let (token, reverse) = (self.token.clone(), self.is_provider());
            let auth = Auth { token, reverse, instance: self.instance };
            self.relay.send_prelude(id, auth.encode());
        }
    }

    pub(super) fn on_open_failed(&mut self, id: LinkId, error: LinkFailure) {
        let error = match error {
            LinkFailure::Redirect { location } => match self.redirect(id, &location) {
                Ok(()) => return,
                Err(error) => error,
            },
            LinkFailure::Status(status) if is_refusal(status) => LinkError::Refused(status),
            LinkFailure::Tls(error) if error.is_final() => LinkError::Tls(error),
            LinkFailure::Unsupported(what) => LinkError::Unsupported(what),
            LinkFailure::Status(_) | LinkFailure::Tls(_) | LinkFailure::Io(_) | LinkFailure::Handshake(_) => {
                LinkError::Upgrade(error.to_string())
            }
        };
        // Where a login has succeeded, another one will: somebody between us and the server, such
        // as a hotel's network, or the server for a while, tells us nonsense.
        let error =
            if self.proven && error.is_final() { LinkError::Upgrade(error.to_string()) } else { error };
        self.relay.end_link(id, error, Ending::Gone);
    }

    /// Opens another link where the server sends us, in place of `id`.
    fn redirect(&mut self, id: LinkId, location: &str) -> Result<(), LinkError> {
        let Some(link) = self.relay.links.get(id) else { return Ok(()) };
        let LinkEnd::Client { slot } = link.end else { return Ok(()) };
        if link.phase != LinkPhase::Opening || self.relay.is_shutting_down() {
            return Err(LinkError::Shutdown);
        }
        let Some(mut route) = self.slots[slot].route.take() else { return Ok(()) };
        if route.rest(self.relay.now).is_zero() {
            return Err(LinkError::Timeout(NOT_OPEN));
        }
        route.follow(location).map_err(LinkError::Redirect)?;
        self.relay.abandon_link(id);
        self.relay.tell(Event::LinkRedirected { link: id, url: route.url().to_string() });
        self.connect_by(slot, route);
        Ok(())
    }

    /// The server has judged our login.
    pub(super) fn on_verdict(&mut self, id: LinkId, response: AuthResponse) {
        match response {
            AuthResponse::Success { assigned } => {
                if let Some(token) = assigned {
                    self.token = token;
                }
                self.relay.set_owner(id, (TokenId::default(), self.instance));
                self.relay.link_authenticated(id);
            }
            AuthResponse::Failure { error } => {
                let text = if error.is_empty() { "invalid token".to_owned() } else { error };
                self.relay.end_link(id, LinkError::Rejected(text), Ending::Drop);
            }
        }
    }

    pub(super) fn on_ready(&mut self, id: LinkId) {
        let Some(link) = self.relay.links.get(id) else { return };
        let (LinkEnd::Client { slot }, extensions) = (link.end, link.extensions) else { return };
        self.slots[slot].backoff.reset();
        self.proven = true;
        let ready = (0..self.slots.len()).filter(|slot| self.is_ready(*slot)).count();
        let total = self.slots.len();
        self.relay.tell(Event::LinkReady { link: id, extensions, ready, total });
        if !self.relay.is_shutting_down() {
            self.start_listening();
            self.registration.reset();
            self.register_connectors(id);
        }
        self.serve_waiting();
    }

    pub(super) fn on_down(&mut self, id: LinkId, slot: usize, authenticated: bool, error: LinkError) {
        self.slots[slot].link = None;
        self.slots[slot].route = None;
        let rejected = matches!(error, LinkError::Rejected(_));
        let is_final = error.is_final() && !(rejected && self.config.retry_auth);
        let retry = self.config.reconnect && !is_final && !self.relay.is_shutting_down();
        let retry_in = retry.then(|| {
            if authenticated {
                self.slots[slot].backoff.reset();
            }
            self.slots[slot].backoff.next_delay(&mut self.relay.rng)
        });
        self.relay.tell(Event::LinkLost { link: id, error: error.clone(), retry_in });
        match retry_in {
            Some(delay) => self.relay.set_timer(Timer::Engine(EngineTimer::Slot(slot)), delay),
            None if self.relay.is_shutting_down() => {}
            None if is_final || self.slots.iter().all(|slot| slot.link.is_none()) => {
                self.stop(StopReason::Link(error));
            }
            None => {}
        }
    }
}

/// Whether an HTTP status says that asking again can't help: a page, a redirect or a client error,
/// but for those that ask to come again (408 Request Timeout, 425 Too Early, 429 Too Many Requests).
fn is_refusal(status: u16) -> bool {
    (200..500).contains(&status) && !matches!(status, 408 | 425 | 429)
}
