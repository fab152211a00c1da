//! Who uses how much of what there is only so much of.
//!
//! Whatever a peer can make us spend is charged to [`Account`]s: to everybody together, and to each of those
//! who share it (an address, a token, a client process, a SOCKS port), so that one of them leaves
//! something for the others. The limits are in [`Limits`].

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use smallvec::SmallVec;
use thiserror::Error;

use crate::access::whose;
use crate::config::Limits;
use crate::ids::{InstanceId, LinkId, ListenerId, TokenId};

/// Somebody whose use is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Account {
    /// All together.
    Everybody,
    /// Clients at this address; of IPv6 at this /64.
    Address(IpAddr),
    /// Clients with this token.
    Token(TokenId),
    /// A client process with a token.
    Client(TokenId, InstanceId),
    /// Applications that come in by this SOCKS port.
    Port(ListenerId),
    /// One link.
    Link(LinkId),
}

impl Account {
    /// The account of those who come from `address`.
    pub(crate) fn of_address(address: IpAddr) -> Self {
        Self::Address(whose(address))
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everybody => f.write_str("all together"),
            Self::Address(address @ IpAddr::V4(_)) => write!(f, "address {address}"),
            Self::Address(address @ IpAddr::V6(_)) => write!(f, "network {address}/64"),
            Self::Token(token) => token.fmt(f),
            Self::Client(_, instance) => write!(f, "client {instance}"),
            Self::Port(listener) => listener.fmt(f),
            Self::Link(link) => link.fmt(f),
        }
    }
}

/// Whom something is charged to.
pub(crate) type Payers = SmallVec<[Account; 4]>;

/// What there is only so much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Resource {
    /// Links.
    Links,
    /// Links that have not authenticated.
    Strangers,
    /// Channels and UDP associations.
    Channels,
    /// Connections to targets in the making.
    Dials,
    /// Unanswered name lookups.
    Lookups,
    /// Bytes received from links that wait for sockets.
    Received,
    /// Bytes of sent messages that are kept until the peer has them.
    Kept,
    /// Bytes that sockets may be read ahead of links.
    ReadAhead,
    /// Bytes of datagrams that wait.
    Datagrams,
}

impl Resource {
    /// Which part of `memory` bytes is for this kind of bytes.
    pub(crate) fn share(self, memory: usize) -> usize {
        match self {
            Self::Received => memory / 2,
            Self::Kept => memory / 4,
            Self::ReadAhead | Self::Datagrams => memory / 8,
            Self::Links | Self::Strangers | Self::Channels | Self::Dials | Self::Lookups => 0,
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Links => "links",
            Self::Strangers => "unauthenticated links",
            Self::Channels => "channels",
            Self::Dials => "connections in the making",
            Self::Lookups => "name lookups",
            Self::Received => "received bytes that wait",
            Self::Kept => "sent bytes that are kept",
            Self::ReadAhead => "bytes read ahead",
            Self::Datagrams => "bytes of datagrams",
        })
    }
}

/// A limit that was reached: somebody got nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[error("limit reached: {limit} {resource} for {account}")]
pub struct Exhausted {
    /// Of what.
    pub resource: Resource,
    /// Who has used it up.
    pub account: Account,
    /// The limit.
    pub limit: usize,
}

/// What an account has taken of a resource.
#[derive(Debug, Default)]
struct Use {
    amount: usize,
    /// Somebody was refused, and since then it has not become much less.
    exhausted: bool,
}

/// What all accounts have taken.
#[derive(Debug)]
pub(crate) struct Accounts {
    limits: Limits,
    used: BTreeMap<(Resource, Account), Use>,
    refusals: u64,
    /// Limits that were reached, once per burst.
    news: Vec<Exhausted>,
}

impl Accounts {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, used: BTreeMap::new(), refusals: 0, news: Vec::new() }
    }

    /// Takes `amount` for all of `payers`, or for none. Accounts for which there is no limit don't count.
    pub(crate) fn take(
        &mut self,
        resource: Resource,
        payers: &[Account],
        amount: usize,
    ) -> Result<(), Exhausted> {
        self.check(resource, payers, amount)?;
        self.charge(resource, payers, amount);
        Ok(())
    }

    /// As [`Self::take`], for what has been checked.
    pub(crate) fn charge(&mut self, resource: Resource, payers: &[Account], amount: usize) {
        for account in payers {
            if self.limits.of(resource, *account).is_some() {
                self.used.entry((resource, *account)).or_default().amount += amount;
            }
        }
    }

    /// Whether `amount` could be taken.
    pub(crate) fn check(
        &mut self,
        resource: Resource,
        payers: &[Account],
        amount: usize,
    ) -> Result<(), Exhausted> {
        for account in payers {
            let Some(limit) = self.limits.of(resource, *account) else { continue };
            if self.used(resource, *account).saturating_add(amount) > limit {
                self.refuse(Exhausted { resource, account: *account, limit });
                return Err(Exhausted { resource, account: *account, limit });
            }
        }
        Ok(())
    }

    /// Somebody gets nothing.
    pub(crate) fn refuse(&mut self, exhausted: Exhausted) {
        self.refusals += 1;
        let used = self.used.entry((exhausted.resource, exhausted.account)).or_default();
        if !std::mem::replace(&mut used.exhausted, true) {
            self.news.push(exhausted);
        }
    }

    /// Forgets that a link, which is gone, got nothing more.
    pub(crate) fn forget(&mut self, link: LinkId) {
        self.used.remove(&(Resource::Channels, Account::Link(link)));
    }

    /// Gives back what [`Self::take`] has taken.
    pub(crate) fn give_back(&mut self, resource: Resource, payers: &[Account], amount: usize) {
        for account in payers {
            let Some(limit) = self.limits.of(resource, *account) else { continue };
            let Some(used) = self.used.get_mut(&(resource, *account)) else { continue };
            debug_assert!(used.amount >= amount, "{account:?} gives back more {resource} than it has taken");
            used.amount = used.amount.saturating_sub(amount);
            // So that a limit that is just reached again and again makes no news each time.
            used.exhausted &= used.amount > limit / 4 * 3;
            if used.amount == 0 {
                self.used.remove(&(resource, *account));
            }
        }
    }

    /// Makes a loan cover what is in use.
    ///
    /// # Errors
    /// One of `payers` has nothing left; then the loan stays as it is.
    pub(crate) fn cover(
        &mut self,
        loan: &mut Loan,
        payers: &[Account],
        used: usize,
    ) -> Result<(), Exhausted> {
        let wanted = loan.wanted(used);
        if wanted > loan.granted {
            self.take(loan.resource, payers, wanted - loan.granted)?;
        } else if wanted < loan.granted {
            self.give_back(loan.resource, payers, loan.granted - wanted);
        }
        loan.granted = wanted;
        Ok(())
    }

    /// Takes a loan back.
    pub(crate) fn repay(&mut self, loan: &mut Loan, payers: &[Account]) {
        let granted = std::mem::take(&mut loan.granted);
        self.give_back(loan.resource, payers, granted);
    }

    /// What `account` has taken.
    pub(crate) fn used(&self, resource: Resource, account: Account) -> usize {
        self.used.get(&(resource, account)).map_or(0, |used| used.amount)
    }

    /// How often somebody got nothing.
    pub(crate) fn refusals(&self) -> u64 {
        self.refusals
    }

    /// Takes the news.
    pub(crate) fn take_news(&mut self) -> Vec<Exhausted> {
        std::mem::take(&mut self.news)
    }
}

/// Memory that somebody has on credit, in steps, so that accounts need not be touched for every message.
#[derive(Debug)]
pub(crate) struct Loan {
    resource: Resource,
    granted: usize,
}

/// What the queues of a link have on credit. It goes on to the next link with what waits in them.
#[derive(Debug)]
pub(crate) struct Loans {
    pub(crate) payers: Payers,
    pub(crate) received: Loan,
    pub(crate) kept: Loan,
    pub(crate) read_ahead: Loan,
    pub(crate) datagrams: Loan,
}

impl Loans {
    pub(crate) fn new(payers: Payers) -> Self {
        Self {
            payers,
            received: Loan::new(Resource::Received),
            kept: Loan::new(Resource::Kept),
            read_ahead: Loan::new(Resource::ReadAhead),
            datagrams: Loan::new(Resource::Datagrams),
        }
    }
}

impl Loan {
    /// This much needs no loan: whatever others do, everybody can go on.
    pub(crate) const FREE: usize = 64 * 1024;
    const STEP: usize = 256 * 1024;

    pub(crate) fn new(resource: Resource) -> Self {
        Self { resource, granted: 0 }
    }

    fn wanted(&self, used: usize) -> usize {
        let exact = used.saturating_sub(Self::FREE).next_multiple_of(Self::STEP);
        if used == 0 || exact > self.granted || exact + 4 * Self::STEP < self.granted {
            exact
        } else {
            self.granted
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Account, Accounts, Exhausted, Loan, Resource};
    use crate::arena::ArenaId;
    use crate::config::Limits;
    use crate::ids::{LinkId, TokenId};

    const TOKEN: Account = Account::Token(TokenId(1));
    const OTHER: Account = Account::Token(TokenId(2));

    fn accounts() -> Accounts {
        let mut limits = Limits::default();
        (limits.lookups, limits.lookups_per_token) = (10, 6);
        Accounts::new(limits)
    }

    #[test]
    fn all_who_pay_must_be_able_to() {
        let mut accounts = accounts();
        let exhausted = |account, limit| Err(Exhausted { resource: Resource::Lookups, account, limit });
        for _ in 0..6 {
            assert_eq!(accounts.take(Resource::Lookups, &[Account::Everybody, TOKEN], 1), Ok(()));
        }
        assert_eq!(accounts.take(Resource::Lookups, &[Account::Everybody, TOKEN], 1), exhausted(TOKEN, 6));
        assert_eq!(accounts.used(Resource::Lookups, Account::Everybody), 6, "nothing was taken");
        assert_eq!(accounts.take(Resource::Lookups, &[Account::Everybody, OTHER], 4), Ok(()));
        let full = accounts.take(Resource::Lookups, &[Account::Everybody, OTHER], 1);
        assert_eq!(full, exhausted(Account::Everybody, 10));
        accounts.give_back(Resource::Lookups, &[Account::Everybody, TOKEN], 6);
        accounts.give_back(Resource::Lookups, &[Account::Everybody, OTHER], 4);
        assert!(accounts.used.is_empty());
    }

    #[test]
    fn a_burst_makes_news_once() {
        let (mut accounts, payers) = (accounts(), [Account::Everybody, TOKEN]);
        accounts.take(Resource::Lookups, &payers, 6).unwrap();
        for _ in 0..100 {
            accounts.take(Resource::Lookups, &payers, 1).unwrap_err();
            accounts.give_back(Resource::Lookups, &payers, 1);
            accounts.take(Resource::Lookups, &payers, 1).unwrap();
        }
        assert_eq!(
            accounts.take_news(),
            [Exhausted { resource: Resource::Lookups, account: TOKEN, limit: 6 }]
        );
        assert_eq!(accounts.refusals(), 100);
        accounts.give_back(Resource::Lookups, &payers, 3);
        accounts.take(Resource::Lookups, &payers, 3).unwrap();
        accounts.take(Resource::Lookups, &payers, 1).unwrap_err();
        assert_eq!(accounts.take_news().len(), 1, "another burst");
    }

    #[test]
    fn a_link_that_is_gone_leaves_nothing() {
        let (mut accounts, link) = (accounts(), LinkId::from_parts(3, 4));
        accounts.refuse(Exhausted { resource: Resource::Channels, account: Account::Link(link), limit: 5 });
        assert_eq!(accounts.used.len(), 1, "so that it is told once");
        accounts.forget(link);
        assert!(accounts.used.is_empty());
    }

    #[test]
    fn a_loan_covers_what_is_used_and_is_paid_back() {
        let limits = Limits { memory: 8 << 20, ..Limits::default() };
        let (mut accounts, payers) = (Accounts::new(limits), [Account::Everybody]);
        let mut loan = Loan::new(Resource::Received);
        assert_eq!(accounts.cover(&mut loan, &payers, Loan::FREE), Ok(()));
        assert_eq!(loan.granted, 0);
        for used in [100_000, 1 << 20, 3 << 20, 100_000, 1] {
            assert_eq!(accounts.cover(&mut loan, &payers, used), Ok(()));
            assert!(loan.granted + Loan::FREE >= used);
            assert!(loan.granted <= used + 5 * Loan::STEP);
            assert_eq!(accounts.used(Resource::Received, Account::Everybody), loan.granted);
        }
        let more = accounts.cover(&mut loan, &payers, 5 << 20);
        assert!(more.is_err(), "half of the memory is for what is received");
        assert_eq!(accounts.cover(&mut loan, &payers, 0), Ok(()));
        assert_eq!(accounts.used(Resource::Received, Account::Everybody), 0);
    }
}
