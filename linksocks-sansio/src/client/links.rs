//! The links of a client: connecting, logging in, coming back.

use super::ClientEngine;
use crate::dial::DialOwner;
use crate::error::{LinkError, LinkFailure, StopReason};
use crate::event::Event;
use crate::ids::{LinkId, SocketId};
use crate::io::{Action, UpgradeResponse};
use crate::link::{Extensions, LinkEnd};
use crate::relay::{Ending, EngineTimer, Timer};
use crate::wire::{Auth, AuthResponse};

impl ClientEngine {
    /// Starts an attempt for a slot.
    pub(super) fn connect(&mut self, slot: usize) {
        let offered = Extensions::from_config(&self.relay.config.extensions);
        let link = self.relay.add_link(LinkEnd::Client { slot }, offered);
        self.slots[slot].link = Some(link);
        self.relay.tell(Event::LinkConnecting { link });
        self.relay.set_timer(Timer::LinkLogin(link), self.relay.config.timeouts.link_open);
        let dial = self.relay.start_dial(DialOwner::Link(link), None, self.config.server.address().clone());
        if let Some(link) = self.relay.links.get_mut(link) {
            link.dial = Some(dial);
        }
    }

    pub(super) fn on_dialed(&mut self, id: LinkId, socket: SocketId) {
        let Some(link) = self.relay.links.get(id) else { return };
        let offer = link.extensions.header();
        let request = self.config.server.request(&self.token, false, self.instance, offer);
        self.relay.act(Action::OpenLink { link: id, socket, request });
    }

    pub(super) fn on_opened(&mut self, id: LinkId, response: &UpgradeResponse) {
        let Some(link) = self.relay.link_opened(id) else { return };
        let answer = response.extensions.as_deref().map(Extensions::parse).unwrap_or_default();
        link.extensions = link.extensions.and(answer);
        if !self.config.server.authenticates_by_url() {
            let auth = Auth { token: self.token.clone(), reverse: false, instance: self.instance };
            self.relay.send_control(id, auth.encode());
        }
    }

    pub(super) fn on_open_failed(&mut self, id: LinkId, error: LinkFailure) {
        let error = match error {
            LinkFailure::Status(status) if is_refusal(status) && !self.proven => LinkError::Refused(status),
            LinkFailure::Unsupported(what) => LinkError::Unsupported(what),
            LinkFailure::Status(_) | LinkFailure::Io(_) | LinkFailure::Handshake(_) => {
                LinkError::Upgrade(error.to_string())
            }
        };
        self.relay.end_link(id, error, Ending::Gone);
    }

    /// The server has judged our login.
    pub(super) fn on_verdict(&mut self, id: LinkId, response: AuthResponse) {
        match response {
            AuthResponse::Success { assigned } => {
                if let Some(token) = assigned {
                    self.token = token;
                }
                self.relay.set_owner(id, (0, self.instance));
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
        }
        self.serve_waiting();
    }

    pub(super) fn on_down(&mut self, id: LinkId, slot: usize, authenticated: bool, error: LinkError) {
        self.slots[slot].link = None;
        let is_final = error.is_final();
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
