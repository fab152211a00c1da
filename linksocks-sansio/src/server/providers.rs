//! Which provider connects to a target: by turns, but not one that has gone silent.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{InstanceId, LinkId, TokenId};
use crate::relay::Owner;

/// After so many silent links in a row one of them is taken: however many there are, a request must not cost
/// more than this.
const LOOKED_AT: usize = 64;

/// Those who may fulfil a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Group {
    /// Their token.
    pub(super) reverse: TokenId,
    /// Only this one, if there is one: it has let the connector in itself.
    pub(super) provider: Option<InstanceId>,
}

impl Group {
    pub(super) fn contains(&self, provider: Provider) -> bool {
        self.reverse == provider.reverse && self.provider.is_none_or(|only| only == provider.instance)
    }
}

/// Whose link it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Provider {
    pub(super) reverse: TokenId,
    pub(super) instance: InstanceId,
}

impl Provider {
    /// Itself alone.
    pub(super) fn alone(self) -> Group {
        Group { reverse: self.reverse, provider: Some(self.instance) }
    }

    /// The groups that it belongs to.
    pub(super) fn groups(self) -> [Group; 2] {
        [Group { reverse: self.reverse, provider: None }, self.alone()]
    }

    /// As the relay knows it.
    pub(super) fn owner(self) -> Owner {
        (self.reverse, self.instance)
    }
}

impl From<Owner> for Provider {
    fn from((reverse, instance): Owner) -> Self {
        Self { reverse, instance }
    }
}

/// What is known of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Lively,
    /// It has not answered for some time.
    Silent,
    /// It is ending, or takes nothing more, for good.
    Gone,
}

/// The links of all providers, and whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Providers {
    by_token: BTreeMap<TokenId, Turns>,
}

#[derive(Debug, Default)]
struct Turns {
    links: Vec<(LinkId, Provider)>,
    next: usize,
}

impl Providers {
    pub(super) fn add(&mut self, link: LinkId, provider: Provider) {
        self.by_token.entry(provider.reverse).or_default().links.push((link, provider));
    }

    pub(super) fn remove(&mut self, link: LinkId, provider: Provider) {
        if let Some(turns) = self.by_token.get_mut(&provider.reverse) {
            turns.links.retain(|(known, _)| *known != link);
            if turns.links.is_empty() {
                self.by_token.remove(&provider.reverse);
            }
        }
    }

    /// The links of a group, with whose they are.
    pub(super) fn members(&self, group: Group) -> impl Iterator<Item = (LinkId, Provider)> {
        let turns = self.by_token.get(&group.reverse);
        let links = turns.into_iter().flat_map(|turns| turns.links.iter().copied());
        links.filter(move |(_, provider)| group.contains(*provider))
    }

    /// The links of a group.
    pub(super) fn links(&self, group: Group) -> impl Iterator<Item = LinkId> {
        self.members(group).map(|(link, _)| link)
    }

    /// Whether a provider has a link.
    pub(super) fn has(&self, provider: Provider) -> bool {
        self.links(provider.alone()).next().is_some()
    }

    /// The next link of a group that can be used, if possible a lively one.
    pub(super) fn choose(&mut self, group: Group, health: impl Fn(LinkId) -> Health) -> Option<LinkId> {
        let turns = self.by_token.get_mut(&group.reverse)?;
        let (mut lively, mut silent, mut gone) = (None, Vec::new(), BTreeSet::new());
        for (place, link) in turns.in_turn(group) {
            match health(link) {
                Health::Lively => lively = Some(place),
                Health::Silent => silent.push(place),
                Health::Gone => _ = gone.insert(link),
            }
            if lively.is_some() || silent.len() == LOOKED_AT {
                break;
            }
        }
        let chosen = lively.or_else(|| silent.first().copied());
        // What was looked at in vain need not be looked at again at once.
        let last = if silent.len() == LOOKED_AT { silent.last().copied() } else { chosen };
        let link = chosen.map(|place| turns.links[place].0);
        turns.next = lively.or(last).map_or(0, |place| place + 1);
        if !gone.is_empty() {
            turns.links.retain(|(link, _)| !gone.contains(link));
        }
        link
    }

    /// Whether one of the next links of a group is lively.
    pub(super) fn has_lively(&self, group: Group, health: impl Fn(LinkId) -> Health) -> bool {
        let turns = self.by_token.get(&group.reverse);
        let links = turns.into_iter().flat_map(|turns| turns.in_turn(group));
        links.take(LOOKED_AT).any(|(_, link)| health(link) == Health::Lively)
    }
}

impl Turns {
    /// The places and links of a group, beginning with the next one.
    fn in_turn(&self, group: Group) -> impl Iterator<Item = (usize, LinkId)> {
        let count = self.links.len();
        let places = (0..count).map(move |step| (self.next + step) % count);
        let links = places.map(|place| (place, self.links[place]));
        links
            .filter(move |(_, (_, provider))| group.contains(*provider))
            .map(|(place, (link, _))| (place, link))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::{Group, Health, LOOKED_AT, Provider, Providers};
    use crate::arena::ArenaId;
    use crate::ids::{InstanceId, LinkId, TokenId};

    #[test]
    fn links_take_turns_and_silent_ones_are_the_last_resort() {
        let link = |index| LinkId::from_parts(index, 0);
        let instance = |number| InstanceId(uuid::Uuid::from_u128(number));
        let provider = |number| Provider { reverse: TokenId(1), instance: instance(number) };
        let mut providers = Providers::default();
        for index in 0..3 {
            providers.add(link(index), provider(index.into()));
        }
        let all = Group { reverse: TokenId(1), provider: None };
        let chosen: Vec<_> = (0..4).map(|_| providers.choose(all, |_| Health::Lively).unwrap()).collect();
        assert_eq!(chosen, [link(0), link(1), link(2), link(0)]);
        let health = |known| if known == link(1) { Health::Silent } else { Health::Lively };
        let chosen: Vec<_> = (0..3).map(|_| providers.choose(all, health).unwrap()).collect();
        assert_eq!(chosen, [link(2), link(0), link(2)]);
        assert!(providers.choose(all, |_| Health::Silent).is_some(), "better than none");
        let one = Group { provider: Some(instance(1)), ..all };
        assert_eq!(providers.choose(one, |_| Health::Lively), Some(link(1)));
        assert_eq!(providers.choose(Group { reverse: TokenId(2), provider: None }, |_| Health::Lively), None);
        providers.remove(link(1), provider(1));
        assert_eq!(providers.choose(one, |_| Health::Lively), None);
        assert!(!providers.has(provider(1)) && providers.has(provider(2)));
        assert!(providers.choose(all, |_| Health::Gone).is_none());
        assert!(!providers.has(provider(2)), "nobody asks it any more");
    }

    #[test]
    fn a_request_looks_at_few_of_many_silent_links_and_the_next_one_at_others() {
        let link = |index| LinkId::from_parts(index, 0);
        let provider = Provider { reverse: TokenId(1), instance: InstanceId(uuid::Uuid::nil()) };
        let mut providers = Providers::default();
        for index in 0..1000 {
            providers.add(link(index), provider);
        }
        let looked_at = Cell::new(0);
        let health = |known| {
            looked_at.set(looked_at.get() + 1);
            if known == link(999) { Health::Lively } else { Health::Silent }
        };
        let mut requests = 0;
        while providers.choose(provider.alone(), health) != Some(link(999)) {
            requests += 1;
            assert!(looked_at.take() <= LOOKED_AT && requests < 20);
        }
        assert!(!providers.has_lively(provider.alone(), health) && looked_at.take() <= 2 * LOOKED_AT);
    }
}
