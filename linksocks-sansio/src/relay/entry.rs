//! Where wishes of applications come in, and what the entry rules say to them.
//!
//! A [`Wish`] can be made nowhere else, so none gets past the rules.

use std::net::SocketAddr;

use super::{Notice, Query, QueryOwner, Relay};
use crate::access::Verdict;
use crate::accounts::{Account, Payers};
use crate::channel::Origin;
use crate::error::{OpenError, SocketError};
use crate::socks5::{Host, TargetAddr};

/// What an application wants.
#[derive(Clone, Debug)]
pub(crate) enum Want {
    /// A stream to a target.
    Stream(TargetAddr),
    /// A UDP association, for datagrams that come from this address (RFC 1928 section 4: as far as
    /// the application knows it).
    Datagrams(SocketAddr),
}

/// What an application wants and the entry rules allow.
#[derive(Debug)]
pub(crate) struct Wish(Want);

impl Wish {
    pub(crate) fn into_inner(self) -> Want {
        self.0
    }
}

/// A stream that waits for the addresses of its target.
#[derive(Debug)]
pub(super) struct Entry {
    origin: Origin,
    target: TargetAddr,
}

impl Relay {
    /// An application wants something: leaves a [`Notice::Wanted`] if it may have it.
    ///
    /// A name whose addresses decide is looked up, and the address that was checked takes its place:
    /// the dial side could get another answer.
    pub(crate) fn want(&mut self, origin: Origin, want: Want) {
        let target = match &want {
            Want::Stream(target) => target.clone(),
            // Each datagram is checked.
            Want::Datagrams(_) => return self.admit(origin, want),
        };
        let Some(rules) = self.entry_rules(origin) else { return self.refuse_closed(origin) };
        match (rules.judge(&target), &target.host) {
            (Verdict::Allowed, _) => self.admit(origin, want),
            (Verdict::NeedsLookup, Host::Name(name)) => {
                let name = name.clone();
                let payers = self.payers(origin);
                let asked = self.look_up(QueryOwner::Entry(Entry { origin, target }), payers, name);
                if let Err(exhausted) = asked {
                    self.refuse(origin, OpenError::Limit(exhausted));
                }
            }
            (Verdict::Denied | Verdict::NeedsLookup, _) => self.deny(origin, &target),
        }
    }

    /// Whom a lookup for `origin` is charged to.
    fn payers(&self, origin: Origin) -> Payers {
        let link = match origin {
            Origin::Leg(leg) => self.link_of(leg).and_then(|link| self.links.get(link)),
            Origin::Socks(_) | Origin::Http(_) | Origin::Embed(_) => None,
        };
        match (link, self.listener_of(origin)) {
            (Some(link), _) => link.payers.clone(),
            (None, Some(listener)) => Payers::from_iter([Account::Everybody, Account::Port(listener)]),
            (None, None) => Payers::from_iter([Account::Everybody]),
        }
    }

    /// The port that a wish came in by is closed.
    fn refuse_closed(&mut self, origin: Origin) {
        let error = if self.is_shutting_down() { self.stop_error() } else { OpenError::NoLink };
        self.refuse(origin, error);
    }

    pub(super) fn admit(&mut self, origin: Origin, want: Want) {
        self.notices.push_back(Notice::Wanted { origin, wish: Wish(want) });
    }

    fn deny(&mut self, origin: Origin, target: &TargetAddr) {
        self.refuse(origin, OpenError::Blocked(target.to_string()));
    }

    pub(super) fn on_entry_resolved(
        &mut self,
        entry: Entry,
        addresses: Result<super::Addresses, SocketError>,
    ) {
        let Entry { origin, target } = entry;
        if !self.still_wants(origin) {
            return;
        }
        let addresses = addresses.unwrap_or_default().into_iter();
        let mut addresses = addresses.map(|ip| SocketAddr::new(ip, target.port));
        let Some(rules) = self.entry_rules(origin) else { return self.refuse_closed(origin) };
        match addresses.find(|address| rules.allows(*address)) {
            Some(address) => self.admit(origin, Want::Stream(address.into())),
            None => self.deny(origin, &target),
        }
    }

    /// Answers all whose targets are being looked up.
    pub(super) fn refuse_entries(&mut self, error: &OpenError) {
        for query in self.queries.ids() {
            if let Some(Query { owner: QueryOwner::Entry(Entry { origin, .. }), .. }) =
                self.queries.get(query)
            {
                let origin = *origin;
                self.disown_query(query);
                self.refuse(origin, error.clone());
            }
        }
    }
}
