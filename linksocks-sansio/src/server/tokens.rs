//! Adding and removing tokens: by the embedder, and by providers that manage their connectors.

use super::ServerEngine;
use super::login::Client;
use super::providers::{Group, Provider};
use super::registry::{Added, Connector, Kind};
use crate::error::{LinkError, OpenError};
use crate::event::{ClientKind, Event};
use crate::ids::{LinkId, TokenId};
use crate::relay::{EngineTimer, Timer, close_code};
use crate::secret::Token;
use crate::token::{AddedToken, NewToken, TokenError};
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
        let Added { id, token, rules } = added;
        if !rules.is_empty() {
            self.relay.set_policy(id, rules);
        }
        self.relay.tell(Event::TokenAdded { kind, port: token.port });
        token
    }

    /// Removes a token and cuts its clients. Whether there was one.
    pub(super) fn remove_token(&mut self, token: &Token) -> bool {
        let Some(id) = self.registry.find(token) else { return false };
        self.remove_token_id(id);
        true
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
        let result = match self.clients.get(&link) {
            Some(Client::Provider(provider)) if self.manages_connectors(*provider) => {
                self.manage_connector(*provider, request.operation, request.token)
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

    fn manage_connector(
        &mut self,
        provider: Provider,
        operation: ConnectorOperation,
        token: Token,
    ) -> Result<Option<Token>, String> {
        let own = Connector { reverse: provider.reverse, provider: Some(provider.instance) };
        match operation {
            ConnectorOperation::Add => {
                let limit = self.relay.config.limits.connectors_per_provider;
                let known = self.registry.find(&token).is_some();
                let count =
                    || self.registry.connectors(own.reverse).filter(|(_, other)| *other == own).count();
                if !known && count() >= limit {
                    return Err(TokenError::TooMany.to_string());
                }
                let token = Some(token);
                let added = self
                    .registry
                    .add_connector(&mut self.relay.rng, token, own, Default::default())
                    .map_err(|error| error.to_string())?;
                let token = if known { added.token } else { self.welcome(added, ClientKind::Connector) };
                Ok(Some(token.token))
            }
            ConnectorOperation::Remove => {
                // Tokens of others are as good as none for it.
                let found = self.registry.find(&token);
                let is_own =
                    |id: &TokenId| self.registry.connectors(own.reverse).any(|known| known == (*id, own));
                if let Some(id) = found.filter(is_own) {
                    self.remove_token_id(id);
                }
                Ok(None)
            }
        }
    }

    /// A link of a provider is gone. If it was the last one, its connectors stay for a while.
    pub(super) fn begin_release(&mut self, provider: Provider) {
        if self.manages_connectors(provider) && !self.providers.has(provider) {
            let grace = self.relay.config.timeouts.provider_grace;
            self.relay.set_timer(Timer::Engine(EngineTimer::Released(provider)), grace);
        }
    }

    /// A provider has not come back: so its connectors go.
    pub(super) fn on_released(&mut self, provider: Provider) {
        let own = Connector { reverse: provider.reverse, provider: Some(provider.instance) };
        let connectors: Vec<_> = self
            .registry
            .connectors(own.reverse)
            .filter(|(_, other)| *other == own)
            .map(|(id, _)| id)
            .collect();
        for id in connectors {
            self.remove_token_id(id);
        }
    }
}
