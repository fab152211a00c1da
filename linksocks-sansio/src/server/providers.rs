//! Which provider connects to a target: by turns, but not one that has gone silent.

use std::collections::BTreeMap;

use crate::ids::{InstanceId, LinkId, TokenId};
use crate::relay::Owner;

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
    /// It is ending, or takes nothing more.
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
        let count = turns.links.len();
        let find = |wanted: Health| {
            let mut places = (0..count).map(|step| (turns.next + step) % count);
            places.find(|place| {
                let (link, provider) = turns.links[*place];
                group.contains(provider) && health(link) == wanted
            })
        };
        let place = find(Health::Lively).or_else(|| find(Health::Silent))?;
        turns.next = place + 1;
        Some(turns.links[place].0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Group, Health, Provider, Providers};
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
        assert!(providers.choose(all, |_| Health::Gone).is_none());
        let one = Group { provider: Some(instance(1)), ..all };
        assert_eq!(providers.choose(one, |_| Health::Lively), Some(link(1)));
        assert_eq!(providers.choose(Group { reverse: TokenId(2), provider: None }, |_| Health::Lively), None);
        providers.remove(link(1), provider(1));
        assert_eq!(providers.choose(one, |_| Health::Lively), None);
        assert!(!providers.has(provider(1)) && providers.has(provider(2)));
    }
}
