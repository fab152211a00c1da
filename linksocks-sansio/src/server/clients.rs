//! The links that are logged in, and what each of them may do.

use std::collections::{BTreeMap, BTreeSet};

use super::providers::{Group, Provider};
use crate::event::ClientKind;
use crate::ids::{LinkId, TokenId};

/// What a client may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    /// We connect to targets for it.
    Forward,
    /// It connects to targets for others.
    Provider(Provider),
    /// Others connect to targets for it.
    Connector(Group),
}

impl Client {
    pub(super) fn kind(self) -> ClientKind {
        match self {
            Self::Forward => ClientKind::Forward,
            Self::Provider(_) => ClientKind::Provider,
            Self::Connector(_) => ClientKind::Connector,
        }
    }
}

/// All links that are logged in.
#[derive(Debug, Default)]
pub(super) struct Clients {
    links: BTreeMap<LinkId, (TokenId, Client)>,
    /// How many there are with each token.
    counts: BTreeMap<TokenId, usize>,
    /// The links of connectors, by those who serve them.
    connectors: BTreeMap<Group, BTreeSet<LinkId>>,
}

impl Clients {
    pub(super) fn insert(&mut self, link: LinkId, token: TokenId, client: Client) {
        self.links.insert(link, (token, client));
        *self.counts.entry(token).or_default() += 1;
        if let Client::Connector(group) = client {
            self.connectors.entry(group).or_default().insert(link);
        }
    }

    pub(super) fn remove(&mut self, link: LinkId) -> Option<Client> {
        let (token, client) = self.links.remove(&link)?;
        if let Some(count) = self.counts.get_mut(&token) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&token);
            }
        }
        if let Client::Connector(group) = client
            && let Some(links) = self.connectors.get_mut(&group)
        {
            links.remove(&link);
            if links.is_empty() {
                self.connectors.remove(&group);
            }
        }
        Some(client)
    }

    pub(super) fn get(&self, link: LinkId) -> Option<Client> {
        self.links.get(&link).map(|(_, client)| *client)
    }

    /// How many links there are with a token.
    pub(super) fn count(&self, token: TokenId) -> usize {
        self.counts.get(&token).copied().unwrap_or_default()
    }

    /// The links of the connectors that a provider serves.
    pub(super) fn connectors(&self, provider: Provider) -> impl Iterator<Item = (LinkId, Group)> {
        let groups = provider.groups().into_iter();
        let links = groups.filter_map(|group| Some((group, self.connectors.get(&group)?)));
        links.flat_map(|(group, links)| links.iter().map(move |link| (*link, group)))
    }

    pub(super) fn count_connectors(&self, provider: Provider) -> usize {
        let groups = provider.groups().into_iter();
        groups.filter_map(|group| self.connectors.get(&group)).map(BTreeSet::len).sum()
    }
}
