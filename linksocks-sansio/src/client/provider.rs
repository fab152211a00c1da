//! A client that connects to targets for others.

use super::ClientEngine;
use crate::config::ClientRole;
use crate::event::Event;
use crate::ids::LinkId;
use crate::link::LinkEnd;
use crate::relay::{EngineTimer, Timer};
use crate::token::{TOO_MANY_FAILURES, TokenError};
use crate::wire::{Connector, ConnectorOperation, ConnectorResponse, Message};

impl ClientEngine {
    pub(super) fn is_provider(&self) -> bool {
        matches!(self.config.role, ClientRole::Provider { .. })
    }

    /// Tells the server which connectors to let in. Real servers take each link for another provider, so
    /// that only one of ours may.
    pub(super) fn register_connectors(&mut self, link: LinkId) {
        let first = self.relay.links.get(link).is_some_and(|link| link.end == LinkEnd::Client { slot: 0 });
        let ClientRole::Provider { connectors } = &self.config.role else { return };
        if !first {
            return;
        }
        self.relay.timers.cancel(Timer::Engine(EngineTimer::Registration));
        for token in connectors {
            let request = self.relay.rng.channel_id();
            let message = Connector { request, token: token.clone(), operation: ConnectorOperation::Add };
            if let Ok(message) = Message::Connector(message).encode() {
                self.relay.send_control(link, message);
            }
        }
    }

    pub(super) fn on_connector_answer(&mut self, link: LinkId, response: ConnectorResponse) {
        let event = match response.result {
            Ok(_) => Event::ConnectorAdded { link },
            Err(reason) => {
                // As long as the server waits for the process that we have taken the place of, its
                // tokens are not ours; and others who share our address may have guessed too often.
                let passes = reason == TokenError::ConnectorExists.to_string() || reason == TOO_MANY_FAILURES;
                let timer = Timer::Engine(EngineTimer::Registration);
                if passes && !self.relay.timers.is_set(timer) {
                    let delay = self.registration.next_delay(&mut self.relay.rng);
                    self.relay.set_timer(timer, delay);
                }
                Event::ConnectorRefused { link, reason }
            }
        };
        self.relay.tell(event);
    }

    /// Asks for connector tokens again. Those that the server has let us have are no matter.
    pub(super) fn register_again(&mut self) {
        if let Some(link) = self.slots.first().and_then(|slot| slot.link).filter(|_| self.is_ready(0)) {
            self.register_connectors(link);
        }
    }
}
