//! Which rules apply to whom: those of the engine, and those of a token or SOCKS port.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{Owner, Relay};
use crate::access::{AccessRules, Verdict};
use crate::channel::{Association, Leg, Local, Origin};
use crate::ids::{LinkId, ListenerId, TokenId};
use crate::socks5::TargetAddr;

/// Rules all of which must allow a target.
#[derive(Clone, Copy, Debug)]
pub(super) struct AllRules<'a>(&'a AccessRules, &'a AccessRules);

impl AllRules<'_> {
    pub(super) fn allows(&self, address: SocketAddr) -> bool {
        self.0.allows(address) && self.1.allows(address)
    }

    /// Judges a target as far as that is possible without looking its name up.
    pub(super) fn judge(&self, target: &TargetAddr) -> Verdict {
        match (self.0.judge(target), self.1.judge(target)) {
            (Verdict::Denied, _) | (_, Verdict::Denied) => Verdict::Denied,
            (Verdict::Allowed, Verdict::Allowed) => Verdict::Allowed,
            (Verdict::NeedsLookup, _) | (_, Verdict::NeedsLookup) => Verdict::NeedsLookup,
        }
    }
}

impl Relay {
    /// Sets what the clients of a token may ask for.
    pub(crate) fn set_policy(&mut self, token: TokenId, rules: AccessRules) {
        if rules.is_empty() {
            self.forget_policy(token);
        } else {
            self.policies.insert(token, Arc::new(rules));
        }
    }

    pub(crate) fn forget_policy(&mut self, token: TokenId) {
        self.policies.remove(&token);
    }

    fn policy(&self, owner: Option<Owner>) -> &AccessRules {
        let policy = owner.and_then(|(token, _)| self.policies.get(&token));
        policy.map_or(AccessRules::NONE, |rules| rules)
    }

    /// The SOCKS port that an application has come in by.
    pub(crate) fn listener_of(&self, origin: Origin) -> Option<ListenerId> {
        match origin {
            Origin::Socks(socket) | Origin::Http(socket) => self.sockets.get(socket)?.listener,
            Origin::Embed(_) | Origin::Leg(_) => None,
        }
    }

    /// The link of a connector that asks for something.
    pub(crate) fn link_of(&self, leg: Leg) -> Option<LinkId> {
        match leg {
            Leg::Stream(key) => self.channels.get(key).map(|channel| channel.link),
            Leg::Datagrams(key) => self.associations.get(key).map(|association| association.link),
        }
    }

    /// What decides on a wish. `None`: whatever it came in by is closed.
    pub(super) fn entry_rules(&self, origin: Origin) -> Option<AllRules<'_>> {
        let own = &self.config.entry_rules;
        Some(match origin {
            Origin::Embed(_) => AllRules(own, AccessRules::NONE),
            Origin::Socks(_) | Origin::Http(_) => {
                AllRules(own, &self.listeners.get(self.listener_of(origin)?)?.rules)
            }
            // Its applications ask somewhere else.
            Origin::Leg(leg) => {
                let owner = self.links.get(self.link_of(leg)?)?.owner;
                AllRules(self.policy(owner), AccessRules::NONE)
            }
        })
    }

    /// What decides on each datagram of an association, where it comes in.
    pub(super) fn datagram_rules<'a>(&'a self, association: &'a Association) -> AllRules<'a> {
        match association.local {
            Local::Application(_) => AllRules(&self.config.entry_rules, &association.rules),
            Local::Joined { .. } => AllRules(&association.rules, AccessRules::NONE),
            Local::Targets { .. } => AllRules(&self.config.dial_rules, &association.rules),
        }
    }

    /// The rules of whoever a new association is for.
    pub(super) fn association_rules(&self, link: LinkId, origin: Option<Origin>) -> Arc<AccessRules> {
        let rules = match origin {
            Some(origin) => {
                let listener = self.listener_of(origin).and_then(|listener| self.listeners.get(listener));
                listener.map(|listener| &listener.rules)
            }
            None => {
                let owner = self.links.get(link).and_then(|link| link.owner);
                owner.and_then(|(token, _)| self.policies.get(&token))
            }
        };
        rules.map(Arc::clone).unwrap_or_default()
    }

    /// What decides on targets that are dialled for an owner.
    pub(super) fn dial_rules(&self, payer: Option<Owner>) -> AllRules<'_> {
        AllRules(&self.config.dial_rules, self.policy(payer))
    }
}
