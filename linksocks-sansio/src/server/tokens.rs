//! Adding and removing tokens: by the embedder, and by providers that manage their connectors.

use super::ServerEngine;
use super::clients::Client;
use super::providers::{Group, Provider};
use super::registry::{Added, Kind};
use crate::access::AccessRules;
use crate::error::{LinkError, OpenError};
use crate::event::{ClientKind, Event};
use crate::ids::{LinkId, TokenId};
use crate::relay::{EngineTimer, Timer, close_code};
use crate::secret::Token;
use crate::token::{AddedToken, NewToken, TOO_MANY_FAILURES, TokenError};
use crate::wire::{self, ConnectorOperation, ConnectorResponse, Message};

/// What a peer is told that may not manage connectors; as real servers have it.
const UNAUTHORIZED: &str = "Unauthorized connector management attempt";

impl ServerEngine {
    pub(super) fn add_token(&mut self, new: NewToken) -> Result<AddedToken, TokenError> {
        let (kind, early) = match &new {
            NewToken::Forward(_) => (ClientKind::Forward, false),
            NewToken::Reverse(new) => (ClientKind::Provider, new.listen_early),
            NewToken::Connector(_) => (ClientKind::Connector, false),
        };
        let added = self.registry.add(&mut self.relay.rng, new)?;
        let id = added.id;
        let token = self.welcome(added, kind);
        if early {
            self.open_port(id);
        }
        Ok(token)
    }

    fn welcome(&mut self, added: Added, kind: ClientKind) -> AddedToken {
        let Added { id, token, is_new, rules } = added;
        self.relay.set_policy(id, rules);
        if is_new {
            self.relay.tell(Event::TokenAdded { kind, port: token.port });
        }
        token
    }

    /// Removes a token and cuts its clients.
    pub(super) fn remove_token(&mut self, token: Token) -> Result<AddedToken, TokenError> {
        let id = self.registry.find(&token).ok_or(TokenError::Unknown)?;
        let port = self.registry.reverse(id).and_then(|reverse| reverse.port);
        self.remove_token_id(id);
        Ok(AddedToken { token, port })
    }

    fn remove_token_id(&mut self, id: TokenId) {
        for (id, entry) in self.registry.remove(id) {
            self.release_port(id);
            self.relay.forget_policy(id);
            self.relay.cut_owner(id, &LinkError::TokenRemoved, close_code::POLICY_VIOLATION);
            let kind = match entry.kind {
                Kind::Forward => ClientKind::Forward,
                Kind::Reverse(_) => ClientKind::Provider,
                Kind::Connector(_) => ClientKind::Connector,
            };
            self.relay.tell(Event::TokenRemoved { kind });
        }
        let registry = &self.registry;
        let is_gone = |group: &Group| registry.get(group.reverse).is_none();
        for (origin, _) in self.waiting.take(&mut self.relay, is_gone) {
            self.relay.refuse(origin, OpenError::NoLink);
        }
    }

    // ---- autonomy

    /// A provider adds or removes a connector token.
    pub(super) fn on_connector(&mut self, link: LinkId, request: wire::Connector) {
        let result = match self.clients.get(link) {
            Some(Client::Provider(provider)) if self.manages_connectors(provider) => {
                match request.operation {
                    ConnectorOperation::Add => self.add_connector(link, provider, request.token),
                    ConnectorOperation::Remove => {
                        self.remove_connector(provider, &request.token);
                        Ok(None)
                    }
                }
            }
            Some(Client::Provider(_) | Client::Forward | Client::Connector(_)) | None => {
                Err(UNAUTHORIZED.to_owned())
            }
        };
        let response = ConnectorResponse { request: request.request, result };
        if let Ok(message) = Message::ConnectorResponse(response).encode() {
            self.relay.send_answer(link, message);
        }
    }

    fn manages_connectors(&self, provider: Provider) -> bool {
        self.registry.reverse(provider.reverse).is_some_and(|reverse| reverse.port.is_none())
    }

    fn add_connector(
        &mut self,
        link: LinkId,
        provider: Provider,
        token: Token,
    ) -> Result<Option<Token>, String> {
        let (address, now) = (self.peer_of(link), self.relay.now);
        // Asking again for one's own is no guess.
        if !self.is_connector_of(provider, &token)
            && address.is_some_and(|address| !self.attempts.allows(address, None, now))
        {
            return Err(TOO_MANY_FAILURES.to_owned());
        }
        let rules = AccessRules::default();
        match self.registry.add_connector(&mut self.relay.rng, Some(token), provider.alone(), rules) {
            Ok(added) => Ok(Some(self.welcome(added, ClientKind::Connector).token)),
            Err(error) => {
                // Whoever tries many tokens learns which there are.
                if let (TokenError::ConnectorExists, Some(address)) = (&error, address) {
                    self.attempts.on_failure(address, now);
                }
                Err(error.to_string())
            }
        }
    }

    /// Tokens of others are as good as none for a provider.
    fn remove_connector(&mut self, provider: Provider, token: &Token) {
        if let Some(id) = self.registry.find(token)
            && self.is_connector_of(provider, token)
        {
            self.remove_token_id(id);
        }
    }

    fn is_connector_of(&self, provider: Provider, token: &Token) -> bool {
        let id = self.registry.find(token);
        id.is_some_and(|id| self.registry.connectors_of(provider).any(|known| known == id))
    }

    /// A link of a provider is gone. If it was the last one, its connectors stay for a while.
    pub(super) fn begin_release(&mut self, provider: Provider) {
        if self.manages_connectors(provider) && !self.providers.has(provider) {
            let grace = self.relay.config.timeouts.provider_grace;
            self.relay.set_timer(Timer::Engine(EngineTimer::Released(provider.owner())), grace);
        }
    }

    /// A provider has not come back: so its connectors go.
    pub(super) fn on_released(&mut self, provider: Provider) {
        for id in self.registry.connectors_of(provider).collect::<Vec<_>>() {
            self.remove_token_id(id);
        }
    }
}
