//! A client that connects to targets for others.

use super::ClientEngine;
use crate::config::ClientRole;
use crate::event::Event;
use crate::ids::LinkId;
use crate::link::LinkEnd;
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
        for token in connectors {
            let request = self.relay.rng.channel_id();
            let message = Connector { request, token: token.clone(), operation: ConnectorOperation::Add };
            if let Ok(message) = Message::Connector(message).encode() {
                self.relay.send_control(link, message);
            }
        }
    }

    pub(super) fn on_connector_answer(&mut self, link: LinkId, response: ConnectorResponse) {
        self.relay.tell(match response.result {
            Ok(_) => Event::ConnectorAdded { link },
            Err(reason) => Event::ConnectorRefused { link, reason },
        });
    }
}
