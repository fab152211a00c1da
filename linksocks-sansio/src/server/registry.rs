//! The tokens of a server, and the SOCKS ports that belong to them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use crate::access::AccessRules;
use crate::ids::{InstanceId, TokenId};
use crate::rng::EngineRng;
use crate::secret::{Credentials, Token, TokenDigest};
use crate::token::{AddedToken, ConnectorToken, ForwardToken, NewToken, ReverseToken, TokenError};

/// How many bytes of randomness a token has that the server makes: 16 hex digits, as with real ones.
const MADE_BYTES: usize = 8;

/// All tokens.
#[derive(Debug)]
pub(super) struct Registry {
    tokens: BTreeMap<TokenId, Entry>,
    next: u64,
    limit: usize,
    pool: RangeInclusive<u16>,
    /// SOCKS ports of tokens.
    ports: BTreeSet<u16>,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) token: Token,
    digest: TokenDigest,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    Forward,
    Reverse(Reverse),
    Connector(Connector),
}

/// A reverse token.
#[derive(Debug)]
pub(super) struct Reverse {
    /// `None`: providers manage their connectors, and there is no SOCKS port.
    pub(super) port: Option<u16>,
    pub(super) credentials: Option<Credentials>,
    pub(super) rules: AccessRules,
}

/// A connector token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Connector {
    pub(super) reverse: TokenId,
    /// Whoever has added it by a message: only that provider serves it.
    pub(super) provider: Option<InstanceId>,
}

/// A token that was added or removed.
#[derive(Debug)]
pub(super) struct Added {
    pub(super) id: TokenId,
    pub(super) token: AddedToken,
    /// What clients may ask for.
    pub(super) rules: AccessRules,
}

impl Registry {
    pub(super) fn new(limit: usize, pool: RangeInclusive<u16>) -> Self {
        Self { tokens: BTreeMap::new(), next: 0, limit, pool, ports: BTreeSet::new() }
    }

    pub(super) fn get(&self, id: TokenId) -> Option<&Entry> {
        self.tokens.get(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (TokenId, &Entry)> {
        self.tokens.iter().map(|(id, entry)| (*id, entry))
    }

    pub(super) fn reverse(&self, id: TokenId) -> Option<&Reverse> {
        match &self.tokens.get(&id)?.kind {
            Kind::Reverse(reverse) => Some(reverse),
            Kind::Forward | Kind::Connector(_) => None,
        }
    }

    /// The connector tokens of a reverse token.
    pub(super) fn connectors(&self, reverse: TokenId) -> impl Iterator<Item = (TokenId, Connector)> {
        self.tokens.iter().filter_map(move |(id, entry)| match entry.kind {
            Kind::Connector(connector) if connector.reverse == reverse => Some((*id, connector)),
            Kind::Connector(_) | Kind::Forward | Kind::Reverse(_) => None,
        })
    }

    /// Finds a token by its text.
    pub(super) fn find(&self, token: &Token) -> Option<TokenId> {
        self.search(|entry| entry.token == *token)
    }

    /// Finds a token by its digest.
    pub(super) fn find_digest(&self, digest: &TokenDigest) -> Option<TokenId> {
        self.search(|entry| entry.digest == *digest)
    }

    /// Looks at all tokens, so that the time tells nothing about which one matched.
    fn search(&self, matches: impl Fn(&Entry) -> bool) -> Option<TokenId> {
        self.tokens.iter().fold(None, |found, (id, entry)| if matches(entry) { Some(*id) } else { found })
    }

    pub(super) fn add(&mut self, rng: &mut EngineRng, new: NewToken) -> Result<Added, TokenError> {
        match new {
            NewToken::Forward(ForwardToken { token, rules }) => {
                let token = self.choose(rng, token, TokenError::Reserved, TokenError::Exists)?;
                Ok(self.insert(token, Kind::Forward, None, rules))
            }
            NewToken::Reverse(new) => self.add_reverse(rng, new),
            NewToken::Connector(ConnectorToken { token, reverse, rules }) => {
                if reverse.expose().is_empty() {
                    return Err(TokenError::NoReverseToken);
                }
                let reverse = self.find(&reverse).filter(|id| self.reverse(*id).is_some());
                let reverse = reverse.ok_or(TokenError::UnknownReverseToken)?;
                self.add_connector(rng, token, Connector { reverse, provider: None }, rules)
            }
        }
    }

    fn add_reverse(&mut self, rng: &mut EngineRng, new: ReverseToken) -> Result<Added, TokenError> {
        let ReverseToken { token, port, credentials, listen_early: _, manage_connectors, rules } = new;
        let token = self.choose(rng, token, TokenError::Reserved, TokenError::Exists)?;
        let port = match (manage_connectors, port) {
            (true, _) => None,
            (false, port) => Some(self.allocate(rng, port.filter(|port| *port != 0))?),
        };
        self.ports.extend(port);
        let reverse = Reverse { port, credentials, rules };
        Ok(self.insert(token, Kind::Reverse(reverse), port, AccessRules::default()))
    }

    /// Adds a connector token. The same one again, for the same providers, is no error.
    pub(super) fn add_connector(
        &mut self,
        rng: &mut EngineRng,
        token: Option<Token>,
        connector: Connector,
        rules: AccessRules,
    ) -> Result<Added, TokenError> {
        if let Some(token) = &token
            && let Some(id) = self.find(token)
            && let Some(Entry { kind: Kind::Connector(known), .. }) = self.tokens.get(&id)
            && *known == connector
        {
            let token = AddedToken { token: token.clone(), port: None };
            return Ok(Added { id, token, rules });
        }
        let token = self.choose(rng, token, TokenError::ReservedConnector, TokenError::ConnectorExists)?;
        Ok(self.insert(token, Kind::Connector(connector), None, rules))
    }

    /// Checks a token, or makes one.
    fn choose(
        &self,
        rng: &mut EngineRng,
        token: Option<Token>,
        reserved: TokenError,
        exists: TokenError,
    ) -> Result<Token, TokenError> {
        if self.tokens.len() >= self.limit {
            return Err(TokenError::TooMany);
        }
        match token.filter(|token| !token.expose().is_empty()) {
            Some(token) if token.is_anonymous() => Err(reserved),
            Some(token) if self.find(&token).is_some() => Err(exists),
            Some(token) => Ok(token),
            None => Ok(Token::made(&rng.bytes()[..MADE_BYTES])),
        }
    }

    fn allocate(&self, rng: &mut EngineRng, port: Option<u16>) -> Result<u16, TokenError> {
        if let Some(port) = port {
            return if self.ports.contains(&port) { Err(TokenError::Port(port)) } else { Ok(port) };
        }
        // From somewhere in the pool on, so that a port is not used again soon.
        let (first, count) = (*self.pool.start(), self.pool.len());
        let start = rng.below(count);
        let ports = (0..count).map(|step| first + ((start + step) % count) as u16);
        ports.into_iter().find(|port| !self.ports.contains(port)).ok_or(TokenError::Port(0))
    }

    fn insert(&mut self, token: Token, kind: Kind, port: Option<u16>, rules: AccessRules) -> Added {
        let id = TokenId(self.next);
        self.next += 1;
        let added = AddedToken { token: token.clone(), port };
        self.tokens.insert(id, Entry { digest: token.digest(), token, kind });
        Added { id, token: added, rules }
    }

    /// Removes a token, and with a reverse token its connector tokens. Returns all of them.
    pub(super) fn remove(&mut self, id: TokenId) -> Vec<(TokenId, Entry)> {
        let connectors: Vec<_> = self.connectors(id).map(|(connector, _)| connector).collect();
        let ids = connectors.into_iter().chain([id]);
        let removed: Vec<_> = ids.filter_map(|id| Some((id, self.tokens.remove(&id)?))).collect();
        for (_, entry) in &removed {
            if let Kind::Reverse(Reverse { port: Some(port), .. }) = entry.kind {
                self.ports.remove(&port);
            }
        }
        removed
    }
}
