//! What the HTTP API does.

use super::ServerEngine;
use super::registry::Kind;
use crate::attempts::Door;
use crate::http::admin::{self, AdminRequest, ServerStatus, TokenStatus};
use crate::io::{HttpRequest, HttpResponse};
use crate::token::NewToken;

impl ServerEngine {
    pub(super) fn answer_http(&mut self, request: &HttpRequest) -> HttpResponse {
        let request = match self.authorize(request) {
            Ok(request) => request,
            Err(response) => return response,
        };
        match request {
            AdminRequest::Add(token) => {
                let manages = matches!(&token, NewToken::Reverse(reverse) if reverse.manage_connectors);
                admin::added(&self.add_token(token), manages)
            }
            AdminRequest::Remove { token } => admin::removed(&token, &self.remove_token(token.clone())),
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

    /// Reads a request, unless too many wrong keys have come from where it comes from.
    fn authorize(&mut self, request: &HttpRequest) -> Result<AdminRequest, HttpResponse> {
        let (address, now) = (request.peer.ip(), self.relay.now);
        let is_valid = admin::is_authorized(request, &self.api_keys);
        if request.api_key.is_some() && !self.api_keys.is_empty() {
            if !self.attempts.allows(address, is_valid.then_some(Door::Api), now) {
                return Err(admin::too_many_failures());
            }
            if is_valid {
                self.attempts.on_success(address, Door::Api, now);
            } else {
                self.attempts.on_failure(address, now);
            }
        }
        admin::route(request, &self.api_keys)
    }

    fn status(&self) -> ServerStatus<'_> {
        let tokens = self.registry.iter().filter_map(|(id, entry)| {
            let token = &entry.token;
            Some(match &entry.kind {
                Kind::Forward => TokenStatus::Forward { token, clients: self.clients.count(id) },
                Kind::Reverse(reverse) => TokenStatus::Reverse {
                    token,
                    clients: self.clients.count(id),
                    port: reverse.port,
                    connectors: self
                        .registry
                        .connectors(id)
                        .filter_map(|connector| Some(&self.registry.get(connector)?.token))
                        .collect(),
                },
                Kind::Connector(_) => return None,
            })
        });
        ServerStatus { tokens: tokens.collect() }
    }
}
