//! The tokens of a server, and the SOCKS ports that belong to them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::providers::{Group, Provider};
use crate::access::AccessRules;
use crate::config::Limits;
use crate::ids::TokenId;
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
    managed_limit: usize,
    pool: RangeInclusive<u16>,
    /// SOCKS ports of tokens.
    ports: BTreeSet<u16>,
    /// Tokens by the keyed hashes of their digests. Nobody outside can choose these, so that how long
    /// a search takes tells nothing about the tokens.
    index: BTreeMap<[u8; 32], TokenId>,
    key: [u8; 16],
    /// Connector tokens, by those who serve them.
    connectors: BTreeMap<Group, BTreeSet<TokenId>>,
    /// How many of these providers have added.
    managed: usize,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) token: Token,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    Forward,
    Reverse(Reverse),
    /// Its clients are served by these.
    Connector(Group),
}

/// A reverse token.
#[derive(Debug)]
pub(super) struct Reverse {
    /// `None`: providers manage their connectors, and there is no SOCKS port.
    pub(super) port: Option<u16>,
    pub(super) credentials: Option<Credentials>,
    pub(super) rules: AccessRules,
}

/// A token that was added.
#[derive(Debug)]
pub(super) struct Added {
    pub(super) id: TokenId,
    pub(super) token: AddedToken,
    /// It was not there before.
    pub(super) is_new: bool,
    /// What clients may ask for.
    pub(super) rules: AccessRules,
}

impl Registry {
    pub(super) fn new(limits: &Limits, pool: RangeInclusive<u16>, rng: &mut EngineRng) -> Self {
        Self {
            tokens: BTreeMap::new(),
            next: 0,
            limit: limits.tokens,
            managed_limit: limits.managed_connectors,
            pool,
            ports: BTreeSet::new(),
            index: BTreeMap::new(),
            key: rng.bytes(),
            connectors: BTreeMap::new(),
            managed: 0,
        }
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

    /// The connector tokens of a reverse token, by those who serve them.
    fn groups(&self, reverse: TokenId) -> impl Iterator<Item = (Group, &BTreeSet<TokenId>)> {
        let groups = self.connectors.range(Group { reverse, provider: None }..);
        let groups = groups.take_while(move |(group, _)| group.reverse == reverse);
        groups.map(|(group, tokens)| (*group, tokens))
    }

    /// The connector tokens of a reverse token.
    pub(super) fn connectors(&self, reverse: TokenId) -> impl Iterator<Item = TokenId> {
        self.groups(reverse).flat_map(|(_, tokens)| tokens.iter().copied())
    }

    /// The connector tokens that a provider has added.
    pub(super) fn connectors_of(&self, provider: Provider) -> impl Iterator<Item = TokenId> {
        self.connectors.get(&provider.alone()).into_iter().flatten().copied()
    }

    /// How many connector tokens the providers of a reverse token have added.
    pub(super) fn count_managed(&self, reverse: TokenId) -> usize {
        let managed = self.groups(reverse).filter(|(group, _)| group.provider.is_some());
        managed.map(|(_, tokens)| tokens.len()).sum()
    }

    /// Finds a token by its text.
    pub(super) fn find(&self, token: &Token) -> Option<TokenId> {
        self.find_digest(&token.digest())
    }

    /// Finds a token by its digest.
    pub(super) fn find_digest(&self, digest: &TokenDigest) -> Option<TokenId> {
        self.index.get(&digest.keyed(&self.key)).copied()
    }

    pub(super) fn add(&mut self, rng: &mut EngineRng, new: NewToken) -> Result<Added, TokenError> {
        match new {
            NewToken::Forward(ForwardToken { token, rules }) => {
                let token = self.choose(rng, token, None, TokenError::Reserved, TokenError::Exists)?;
                Ok(self.insert(token, Kind::Forward, None, rules))
            }
            NewToken::Reverse(new) => self.add_reverse(rng, new),
            NewToken::Connector(ConnectorToken { token, reverse, rules }) => {
                if reverse.expose().is_empty() {
                    return Err(TokenError::NoReverseToken);
                }
                let reverse = self.find(&reverse).filter(|id| self.reverse(*id).is_some());
                let reverse = reverse.ok_or(TokenError::UnknownReverseToken)?;
                self.add_connector(rng, token, Group { reverse, provider: None }, rules)
            }
        }
    }

    fn add_reverse(&mut self, rng: &mut EngineRng, new: ReverseToken) -> Result<Added, TokenError> {
        let ReverseToken { token, port, credentials, listen_early: _, manage_connectors, rules } = new;
        let token = self.choose(rng, token, None, TokenError::Reserved, TokenError::Exists)?;
        let port = match (manage_connectors, port) {
            (true, _) => None,
            (false, port) => Some(self.allocate(rng, port.filter(|port| *port != 0))?),
        };
        self.ports.extend(port);
        let reverse = Reverse { port, credentials, rules };
        Ok(self.insert(token, Kind::Reverse(reverse), port, AccessRules::default()))
    }

    /// Adds a connector token. The same one again, for the same providers, is no error: it has other
    /// rules then.
    pub(super) fn add_connector(
        &mut self,
        rng: &mut EngineRng,
        token: Option<Token>,
        group: Group,
        rules: AccessRules,
    ) -> Result<Added, TokenError> {
        if let Some(token) = &token
            && let Some(id) = self.find(token)
            && let Some(Entry { kind: Kind::Connector(known), .. }) = self.tokens.get(&id)
            && *known == group
        {
            let token = AddedToken { token: token.clone(), port: None };
            return Ok(Added { id, token, is_new: false, rules });
        }
        let managed = group.provider.map(|_| group.reverse);
        let token =
            self.choose(rng, token, managed, TokenError::ReservedConnector, TokenError::ConnectorExists)?;
        Ok(self.insert(token, Kind::Connector(group), None, rules))
    }

    /// Checks a token, or makes one. `managed`: a provider with this token adds it.
    fn choose(
        &self,
        rng: &mut EngineRng,
        token: Option<Token>,
        managed: Option<TokenId>,
        reserved: TokenError,
        exists: TokenError,
    ) -> Result<Token, TokenError> {
        let is_full = match managed {
            Some(reverse) => self.count_managed(reverse) >= self.managed_limit,
            None => self.tokens.len() - self.managed >= self.limit,
        };
        if is_full {
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
        self.index.insert(token.digest().keyed(&self.key), id);
        if let Kind::Connector(group) = kind {
            self.connectors.entry(group).or_default().insert(id);
            self.managed += usize::from(group.provider.is_some());
        }
        let added = AddedToken { token: token.clone(), port };
        self.tokens.insert(id, Entry { token, kind });
        Added { id, token: added, is_new: true, rules }
    }

    /// Removes a token, and with a reverse token its connector tokens. Returns all of them.
    pub(super) fn remove(&mut self, id: TokenId) -> Vec<(TokenId, Entry)> {
        let ids: Vec<_> = self.connectors(id).chain([id]).collect();
        ids.into_iter().filter_map(|id| Some((id, self.remove_one(id)?))).collect()
    }

    fn remove_one(&mut self, id: TokenId) -> Option<Entry> {
        let entry = self.tokens.remove(&id)?;
        self.index.remove(&entry.token.digest().keyed(&self.key));
        match &entry.kind {
            Kind::Forward => {}
            Kind::Reverse(reverse) => {
                if let Some(port) = reverse.port {
                    self.ports.remove(&port);
                }
            }
            Kind::Connector(group) => {
                self.managed -= usize::from(group.provider.is_some());
                if let Some(tokens) = self.connectors.get_mut(group) {
                    tokens.remove(&id);
                    if tokens.is_empty() {
                        self.connectors.remove(group);
                    }
                }
            }
        }
        Some(entry)
    }
}
