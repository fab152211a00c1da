//! Name lookups.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use linksocks_sansio::error::SocketError;
use linksocks_sansio::{Input, QueryId};

use super::Surroundings;
use crate::sim::clock::{Agenda, Time};

/// What the resolver of a host knows, and how it behaves.
#[derive(Clone, Debug, Default)]
pub struct Resolver {
    /// Names and their addresses.
    pub names: BTreeMap<String, Vec<IpAddr>>,
    /// Lookups fail until then.
    pub broken_until: Time,
    /// Lookups take this long.
    pub delay: Duration,
}

/// Lookups under way.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    pub(super) resolver: Resolver,
    pending: Agenda<(QueryId, String)>,
}

impl Lookups {
    pub(super) fn new(resolver: Resolver) -> Self {
        Self { resolver, pending: Agenda::default() }
    }

    pub(super) fn start(&mut self, query: QueryId, host: String, now: Time) {
        self.pending.enter(now + self.resolver.delay, (query, host));
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.pending.next()
    }

    pub(super) fn run(&mut self, around: &mut Surroundings<'_>) {
        while let Some((query, host)) = self.pending.pop_due(around.now) {
            let result = match self.resolver.names.get(&host) {
                _ if around.now < self.resolver.broken_until => Err(SocketError::LookupFailed),
                Some(addresses) => Ok(addresses.iter().copied().collect()),
                None => Err(SocketError::NameNotFound),
            };
            around.inbox.push_back(Input::Resolved { query, result });
        }
    }

    pub(super) fn forget(&mut self) {
        self.pending.clear();
    }
}
