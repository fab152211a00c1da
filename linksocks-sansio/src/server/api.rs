//! What the HTTP API does.

use super::ServerEngine;
use super::registry::Kind;
use crate::http::admin::{self, AdminRequest, ServerStatus, TokenStatus};
use crate::ids::TokenId;
use crate::io::{HttpRequest, HttpResponse};
use crate::token::NewToken;

impl ServerEngine {
    pub(super) fn answer_http(&mut self, request: &HttpRequest) -> HttpResponse {
        let request = match admin::route(request, &self.api_keys) {
            Ok(request) => request,
            Err(response) => return response,
        };
        match request {
            AdminRequest::Add(token) => {
                let manages = matches!(&token, NewToken::Reverse(reverse) if reverse.manage_connectors);
                admin::added(&self.add_token(token), manages)
            }
            AdminRequest::Remove { token } => {
                let existed = self.remove_token(&token);
                admin::removed(&token, existed)
            }
            AdminRequest::Status => admin::status(&self.status()),
            AdminRequest::Access => {
                admin::access(&self.relay.config.entry_rules, &self.relay.config.dial_rules)
            }
            AdminRequest::SetAccess { entry, dial } => {
                let config = &mut self.relay.config;
                config.entry_rules = entry.unwrap_or_else(|| std::mem::take(&mut config.entry_rules));
                config.dial_rules = dial.unwrap_or_else(|| std::mem::take(&mut config.dial_rules));
                admin::access_set()
            }
        }
    }

    fn status(&self) -> ServerStatus<'_> {
        let tokens = self.registry.iter().filter_map(|(id, entry)| {
            let token = &entry.token;
            Some(match &entry.kind {
                Kind::Forward => TokenStatus::Forward { token, clients: self.count_clients(id) },
                Kind::Reverse(reverse) => TokenStatus::Reverse {
                    token,
                    clients: self.count_clients(id),
                    port: reverse.port,
                    connectors: self
                        .registry
                        .connectors(id)
                        .filter_map(|(connector, _)| Some(&self.registry.get(connector)?.token))
                        .collect(),
                },
                Kind::Connector(_) => return None,
            })
        });
        ServerStatus { tokens: tokens.collect() }
    }

    fn count_clients(&self, token: TokenId) -> usize {
        let links = self.relay.links.iter().filter(|(id, _)| self.clients.contains_key(id));
        links.filter(|(_, link)| link.owner.is_some_and(|(owner, _)| owner == token)).count()
    }
}
