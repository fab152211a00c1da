//! Carrying out dials: lookups, attempts, deadlines.

use std::net::SocketAddr;

use smallvec::SmallVec;

use super::{Addresses, Notice, Owner, Query, QueryOwner, Relay, Socket, SocketOwner, Timer};
use crate::access::Verdict;
use crate::accounts::{Exhausted, Payers, Resource};
use crate::dial::{Dial, DialKey, DialOwner, UpstreamError, UpstreamProxy};
use crate::error::{ChannelError, LinkError, SocketError};
use crate::ids::{QueryId, SocketId};
use crate::io::{Action, ReadBuf, ReadCredit};
use crate::socks5::{Host, TargetAddr};

/// How many addresses of a name are tried at the same time. A name may have any number of them, and whoever owns
/// it chooses them.
const MAX_ATTEMPTS: usize = 8;

/// How a dial ends without a connection.
#[derive(Clone, Debug)]
pub(super) enum DialFailure {
    Error(SocketError),
    Timeout,
    /// There are addresses, but none that the dial rules allow.
    Blocked,
    /// Its name can't be looked up now.
    Limit(Exhausted),
    Upstream(UpstreamError),
}

impl DialFailure {
    /// The cause, if a proxy was to be used: then that is where it failed.
    fn via(self, proxy: &UpstreamProxy) -> UpstreamError {
        match self {
            Self::Error(error) => UpstreamError::Unreachable { address: proxy.address().to_string(), error },
            Self::Blocked => UpstreamError::Unreachable {
                address: proxy.address().to_string(),
                error: SocketError::PermissionDenied,
            },
            Self::Timeout => UpstreamError::Timeout,
            Self::Limit(_) => UpstreamError::Unreachable {
                address: proxy.address().to_string(),
                error: SocketError::LookupFailed,
            },
            Self::Upstream(error) => error,
        }
    }

    fn on_channel(self, dial: &Dial) -> ChannelError {
        let target = dial.target.to_string();
        match (self, &dial.via) {
            (Self::Blocked, _) => ChannelError::Blocked(target),
            (Self::Limit(exhausted), _) => ChannelError::Limit(exhausted),
            (failure, Some(proxy)) => ChannelError::Upstream { target, error: failure.via(proxy) },
            (Self::Error(error), None) => ChannelError::Dial { target, error },
            (Self::Upstream(error), None) => ChannelError::Upstream { target, error },
            (Self::Timeout, None) => ChannelError::DialTimeout { target },
        }
    }

    fn on_link(self, dial: &Dial) -> LinkError {
        let address = dial.target.to_string();
        match (self, &dial.via) {
            (failure, Some(proxy)) => LinkError::Upstream { address, error: failure.via(proxy) },
            (Self::Error(error), None) => LinkError::Dial { address, error },
            (Self::Upstream(error), None) => LinkError::Upstream { address, error },
            (Self::Timeout, None) => LinkError::Dial { address, error: SocketError::TimedOut },
            (Self::Blocked, None) => LinkError::Dial { address, error: SocketError::PermissionDenied },
            (Self::Limit(_), None) => LinkError::Dial { address, error: SocketError::LookupFailed },
        }
    }
}

impl Relay {
    /// Connects to `target`, or to the proxy that shall connect to it. `client`: whose rules decide.
    /// `payers`: those who have paid for one [`Resource::Dials`].
    pub(crate) fn start_dial(
        &mut self,
        owner: DialOwner,
        client: Option<Owner>,
        payers: Payers,
        target: TargetAddr,
        via: Option<UpstreamProxy>,
    ) -> DialKey {
        let mut dial = Dial::new(owner, client, payers, target, via);
        // Here the dial rules decide, or else on the very addresses that are about to be used or named
        // to a proxy: nothing is connected to for a peer that has not passed them.
        let verdict = match owner {
            DialOwner::Channel(_) => self.dial_rules(client).judge(&dial.target),
            DialOwner::Link(_) => Verdict::Allowed,
        };
        dial.unjudged = verdict == Verdict::NeedsLookup;
        let key = self.dials.insert(dial);
        self.set_timer(Timer::Dial(key), self.config.timeouts.dial);
        match verdict {
            Verdict::Denied => self.fail_dial(key, DialFailure::Blocked),
            Verdict::Allowed | Verdict::NeedsLookup => self.seek_addresses(key),
        }
        key
    }

    fn seek_addresses(&mut self, key: DialKey) {
        let Some(dial) = self.dials.get(key) else { return };
        match dial.sought().clone() {
            Host::Ip(address) => self.on_dial_addresses(key, SmallVec::from_iter([address])),
            Host::Name(host) => {
                let payers = dial.payers.clone();
                match self.add_query(QueryOwner::Dial(key), payers, host) {
                    Ok(query) => {
                        if let Some(dial) = self.dials.get_mut(key) {
                            dial.query = Some(query);
                        }
                    }
                    Err(exhausted) => self.fail_dial(key, DialFailure::Limit(exhausted)),
                }
            }
        }
    }

    pub(crate) fn on_resolved(&mut self, query: QueryId, result: Result<Addresses, SocketError>) {
        self.timers.cancel(Timer::Lookup(query));
        let Some(Query { owner, payers }) = self.queries.remove(query) else { return };
        self.accounts.give_back(Resource::Lookups, &payers, 1);
        let key = match owner {
            QueryOwner::Dial(key) => key,
            QueryOwner::Entry(entry) => return self.on_entry_resolved(entry, result),
            QueryOwner::Datagrams(key, name) => return self.on_datagram_name(key, &name, result),
            QueryOwner::Nobody => return,
        };
        let Some(dial) = self.dials.get_mut(key) else { return };
        dial.query = None;
        match result {
            Ok(addresses) => self.on_dial_addresses(key, addresses),
            Err(error) => self.fail_dial(key, DialFailure::Error(error)),
        }
    }

    fn add_query(&mut self, owner: QueryOwner, payers: Payers, host: String) -> Result<QueryId, Exhausted> {
        self.accounts.take(Resource::Lookups, &payers, 1)?;
        let query = self.queries.insert(Query { owner, payers });
        self.act(Action::Resolve { query, host });
        Ok(query)
    }

    /// Looks up a name for others than a dial; they have their answer within [`Timeouts::dial`].
    ///
    /// # Errors
    /// One of `payers` has too many lookups under way.
    ///
    /// [`Timeouts::dial`]: crate::config::Timeouts::dial
    pub(super) fn look_up(
        &mut self,
        owner: QueryOwner,
        payers: Payers,
        host: String,
    ) -> Result<QueryId, Exhausted> {
        let query = self.add_query(owner, payers, host)?;
        self.set_timer(Timer::Lookup(query), self.config.timeouts.dial);
        Ok(query)
    }

    /// Whoever waits for a lookup waits no longer. It goes on and counts: it is still work for the
    /// driver.
    pub(super) fn disown_query(&mut self, query: QueryId) -> QueryOwner {
        self.timers.cancel(Timer::Lookup(query));
        let query = self.queries.get_mut(query);
        query.map_or(QueryOwner::Nobody, |query| std::mem::replace(&mut query.owner, QueryOwner::Nobody))
    }

    pub(super) fn on_lookup_timeout(&mut self, query: QueryId) {
        let timeout = Err(SocketError::TimedOut);
        match self.disown_query(query) {
            QueryOwner::Entry(entry) => self.on_entry_resolved(entry, timeout),
            QueryOwner::Datagrams(key, name) => self.on_datagram_name(key, &name, timeout),
            QueryOwner::Dial(_) | QueryOwner::Nobody => {}
        }
    }

    fn on_dial_addresses(&mut self, key: DialKey, mut addresses: Addresses) {
        let Some(Dial { unjudged, client, target, .. }) = self.dials.get(key) else { return };
        let (judges, found) = (*unjudged, addresses.len());
        if judges {
            let rules = self.dial_rules(*client);
            addresses.retain(|ip| rules.allows(SocketAddr::new(*ip, target.port)));
        }
        let Some(dial) = self.dials.get_mut(key) else { return };
        dial.unjudged = false;
        if judges {
            match addresses.first() {
                None if found > 0 || dial.via.is_some() => return self.fail_dial(key, DialFailure::Blocked),
                Some(address) if dial.via.is_some() => {
                    dial.target.host = Host::Ip(*address);
                    return self.seek_addresses(key);
                }
                Some(_) | None => {}
            }
        }
        dial.set_addresses(addresses);
        self.try_next_address(key);
    }

    /// Tries one more address; fails the dial if there is none and nothing is under way.
    pub(super) fn try_next_address(&mut self, key: DialKey) {
        let Some(dial) = self.dials.get_mut(key) else { return };
        let Some(address) = dial.next_address() else {
            if dial.attempts.is_empty() && dial.query.is_none() {
                let error = dial.last_error;
                self.fail_dial(key, DialFailure::Error(error));
            }
            return;
        };
        let (owner, direct) = (dial.owner, dial.via.is_none());
        let mut socket = Socket::new(SocketOwner::Dial(key), self.config.limits.read_min);
        let read = match owner {
            DialOwner::Channel(channel) if direct => self.first_read(channel, &mut socket),
            DialOwner::Channel(_) | DialOwner::Link(_) => ReadCredit::default(),
        };
        let socket = self.sockets.insert(socket);
        self.act(Action::Connect { socket, address, read });
        if let Some(dial) = self.dials.get_mut(key) {
            dial.attempts.push(socket);
            if dial.has_untried() && dial.attempts.len() < MAX_ATTEMPTS {
                self.set_timer(Timer::DialStagger(key), self.config.timeouts.dial_stagger);
            }
        }
    }

    /// One attempt is connected: the others are dropped, the owner goes on.
    pub(super) fn on_attempt_opened(&mut self, key: DialKey, socket: SocketId) {
        if !self.begin_proxy_handshake(key, socket) {
            self.finish_dial(key, socket, &[]);
        }
    }

    /// The connection leads to the target. `early` was read behind the answer of a proxy.
    pub(super) fn finish_dial(&mut self, key: DialKey, socket: SocketId, early: &[u8]) {
        let Some(mut dial) = self.take_dial(key) else { return };
        dial.attempts.retain(|attempt| *attempt != socket);
        self.drop_attempts(&dial);
        match dial.owner {
            DialOwner::Channel(channel) => {
                self.on_target_connected(channel, socket);
                if !early.is_empty() {
                    self.on_local_data(channel, ReadBuf::copy_from(early));
                }
                if dial.via.is_some() {
                    self.grant_read(channel);
                }
            }
            DialOwner::Link(link) => {
                debug_assert!(early.is_empty(), "no more is read than the proxy's answer");
                if let Some(opening) = self.links.get_mut(link) {
                    opening.dial = None;
                }
                self.sockets.remove(socket);
                self.notices.push_back(Notice::LinkDialed { link, socket });
            }
        }
    }

    pub(super) fn on_attempt_failed(&mut self, key: DialKey, socket: SocketId, error: SocketError) {
        if self.on_proxy_lost(key, error) {
            return;
        }
        if let Some(dial) = self.dials.get_mut(key) {
            dial.attempts.retain(|attempt| *attempt != socket);
            dial.last_error = error;
            self.try_next_address(key);
        }
    }

    pub(super) fn on_dial_timeout(&mut self, key: DialKey) {
        self.fail_dial(key, DialFailure::Timeout);
    }

    pub(super) fn fail_dial(&mut self, key: DialKey, failure: DialFailure) {
        let Some(dial) = self.take_dial(key) else { return };
        self.drop_attempts(&dial);
        match dial.owner {
            DialOwner::Channel(channel) => self.reset_channel(channel, failure.on_channel(&dial)),
            DialOwner::Link(link) => {
                if let Some(opening) = self.links.get_mut(link) {
                    opening.dial = None;
                }
                self.end_link(link, failure.on_link(&dial), super::Ending::Gone);
            }
        }
    }

    /// Forgets a dial; its owner has gone.
    pub(super) fn cancel_dial(&mut self, key: DialKey) {
        if let Some(dial) = self.take_dial(key) {
            self.drop_attempts(&dial);
        }
    }

    fn take_dial(&mut self, key: DialKey) -> Option<Dial> {
        let dial = self.dials.remove(key)?;
        self.timers.cancel(Timer::Dial(key));
        self.timers.cancel(Timer::DialStagger(key));
        self.accounts.give_back(Resource::Dials, &dial.payers, 1);
        // An unanswered query stays and counts: it is still work for the driver.
        Some(dial)
    }

    fn drop_attempts(&mut self, dial: &Dial) {
        for socket in &dial.attempts {
            self.reset_socket(*socket);
        }
    }
}
