//! Who is let in, and as what.

use std::net::IpAddr;

use uuid::Uuid;
use zeroize::Zeroizing;

use super::ServerEngine;
use super::clients::Client;
use super::registry::Kind;
use crate::accounts::{Account, Exhausted};
use crate::attempts::Door;
use crate::error::LinkError;
use crate::event::Event;
use crate::ids::{InstanceId, LinkId, Ticket, TokenId};
use crate::io::{Action, UpgradeRequest, is_link_path};
use crate::link::{Extensions, LinkEnd};
use crate::relay::{Ending, Login, Owner, Timer, close_code};
use crate::secret::TokenDigest;
use crate::token::TOO_MANY_FAILURES;
use crate::wire::{Auth, AuthResponse, Message};

/// What the client is told when no token matches; as real servers have it.
const INVALID_TOKEN: &str = "invalid token";

/// What the client is told when its first message is another one than Auth.
const INVALID_AUTH: &str = "invalid auth message";

/// What a client is told for whose token there are enough links.
const TOO_MANY_OF_TENANT: &str = "too many links with this token";

/// What strangers learn of a limit that is reached.
fn too_many(exhausted: Exhausted) -> (u16, &'static str) {
    let is_tenant = matches!(exhausted.account, Account::Token(_));
    (503, if is_tenant { TOO_MANY_OF_TENANT } else { "too many links" })
}

impl ServerEngine {
    pub(super) fn on_offer(&mut self, ticket: Ticket, request: &UpgradeRequest) {
        let rejection = if !is_link_path(&request.path) {
            Some((404, "404 page not found"))
        } else if self.relay.is_shutting_down() {
            Some((503, "the server is shutting down"))
        } else {
            None
        };
        let login = self.judge_query(&request.query);
        let token = login.as_ref().and_then(|login| login.as_ref().ok()).map(|(token, _)| *token);
        let (address, now) = (request.peer.ip(), self.relay.now);
        let admitted = rejection
            .or_else(|| {
                // A token that comes in a message is judged then.
                let allowed = self.attempts.allows(address, token.map(Door::Token), now)
                    || login.is_none() && self.attempts.knows(address);
                (!allowed).then_some((429, TOO_MANY_FAILURES))
            })
            .map_or_else(|| self.relay.admit_link(address, token).map_err(too_many), Err);
        let payers = match admitted {
            Ok(payers) => payers,
            Err((status, reason)) => return self.relay.act(Action::RejectLink { ticket, status, reason }),
        };
        if let Some(Err(_)) = login {
            // Now, not when the client is told: many links can be tried at once.
            self.attempts.on_failure(address, now);
        }
        let offered = request.extensions.as_deref().map(Extensions::parse).unwrap_or_default();
        let accepted = offered.and(Extensions::from_config(&self.relay.config));
        let link = self.relay.add_link(LinkEnd::Server { peer: request.peer }, accepted, payers);
        if token.is_none() {
            self.relay.add_stranger(link);
        }
        if let Some(added) = self.relay.links.get_mut(link) {
            added.login = login;
        }
        self.relay.set_timer(Timer::LinkLogin(link), self.relay.config.timeouts.authentication);
        self.relay.act(Action::AcceptLink { ticket, link, extensions: accepted.header() });
    }

    /// Reads a login from the query of the URL. `None`: there is none, an Auth message must come.
    fn judge_query(&mut self, query: &str) -> Option<Login> {
        let (mut token, mut reverse, mut instance) = (None, None, None);
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match name.as_ref() {
                "token" if !value.is_empty() => token = Some(Zeroizing::new(value.into_owned())),
                "reverse" => reverse = Some(matches!(value.as_ref(), "true" | "1")),
                "instance" => instance = Uuid::parse_str(&value).ok(),
                _ => {}
            }
        }
        let token = token?;
        // Without a name the link is a process of its own.
        let instance = instance.map_or_else(|| self.relay.rng.instance_id(), InstanceId);
        if token.len() != TokenDigest::HEX_LEN {
            return Some(Err("invalid token format"));
        }
        let token = TokenDigest::from_hex(&token).and_then(|digest| self.registry.find_digest(&digest));
        Some(self.judge(token, reverse, instance))
    }

    fn judge_auth(&self, auth: &Auth) -> Login {
        self.judge(self.registry.find(&auth.token), Some(auth.reverse), auth.instance)
    }

    fn judge(&self, token: Option<TokenId>, reverse: Option<bool>, instance: InstanceId) -> Login {
        let token = token.ok_or(INVALID_TOKEN)?;
        let fits = match self.registry.get(token).map(|entry| &entry.kind) {
            // A URL that says nothing is taken for a provider's.
            Some(Kind::Reverse(_)) => reverse != Some(false),
            Some(Kind::Forward | Kind::Connector(_)) => reverse != Some(true),
            None => false,
        };
        if fits { Ok((token, instance)) } else { Err(INVALID_TOKEN) }
    }

    pub(super) fn on_opened(&mut self, id: LinkId) {
        let login = self.relay.link_opened(id).and_then(|link| link.login.take());
        if let Some(login) = login {
            self.finish_login(id, login);
        }
    }

    pub(super) fn on_auth(&mut self, id: LinkId, message: &Message) {
        let login = if let Message::Auth(auth) = message { self.judge_auth(auth) } else { Err(INVALID_AUTH) };
        let door = login.as_ref().ok().map(|(token, _)| Door::Token(*token));
        let now = self.relay.now;
        let Some(address) = self.peer_of(id) else { return };
        if !self.attempts.allows(address, door, now) {
            return self.finish_login(id, Err(TOO_MANY_FAILURES));
        }
        if login.is_err() {
            self.attempts.on_failure(address, now);
        }
        self.finish_login(id, login);
    }

    pub(super) fn peer_of(&self, id: LinkId) -> Option<IpAddr> {
        match self.relay.links.get(id)?.end {
            LinkEnd::Server { peer } => Some(peer.ip()),
            LinkEnd::Client { .. } => None,
        }
    }

    fn finish_login(&mut self, id: LinkId, login: Login) {
        let Some(link) = self.relay.links.get(id) else { return };
        let (LinkEnd::Server { peer }, extensions) = (link.end, link.extensions) else { return };
        // The token may have been removed since the offer.
        let login = login.and_then(|owner| Ok((owner, self.client(owner).ok_or(INVALID_TOKEN)?)));
        match login {
            Ok((owner, client)) => {
                if self.relay.check_tenant(owner.0).is_err() {
                    // No AuthResponse: a client would take its token for wrong and give up.
                    let error = LinkError::Rejected(TOO_MANY_OF_TENANT.to_owned());
                    return self.relay.end_link(id, error, Ending::Close(close_code::TRY_AGAIN_LATER));
                }
                self.attempts.on_success(peer.ip(), Door::Token(owner.0), self.relay.now);
                self.clients.insert(id, owner.0, client);
                self.relay.send_prelude(id, AuthResponse::Success { assigned: None }.encode());
                self.relay.set_owner(id, owner);
                let kind = client.kind();
                self.relay.tell(Event::ClientAuthenticated { link: id, peer, kind, extensions });
                self.relay.link_authenticated(id);
            }
            Err(text) => {
                self.relay.send_auth_failure(id, text);
                let error = LinkError::Rejected(text.to_owned());
                self.relay.end_link(id, error, Ending::Close(close_code::POLICY_VIOLATION));
            }
        }
    }

    /// What the owner of a link may do.
    pub(super) fn client(&self, owner: Owner) -> Option<Client> {
        Some(match self.registry.get(owner.0)?.kind {
            Kind::Forward => Client::Forward,
            Kind::Reverse(_) => Client::Provider(owner.into()),
            Kind::Connector(group) => Client::Connector(group),
        })
    }
}
