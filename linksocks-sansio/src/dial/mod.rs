//! Making one TCP connection: which addresses to try, in which order, and when.
//!
//! Decisions only, after RFC 8305: addresses of both families take turns, the next one is tried
//! when the one before has failed or has been silent for a while, the first that answers wins.

mod proxy_rules;
mod upstream;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use smallvec::SmallVec;

use crate::accounts::Payers;
use crate::error::SocketError;
use crate::ids::{ChannelKey, LinkId, QueryId, SocketId};
use crate::relay::Owner;
use crate::socks5::{Host, TargetAddr};

pub use proxy_rules::{LinkProxy, ProxyBypass, ProxyRules};
pub(crate) use upstream::ProxyHandshake;
pub use upstream::{UpstreamError, UpstreamProxy};

/// A dial's place in the engine. Never leaves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct DialKey {
    index: u32,
    generation: u32,
}

impl crate::arena::ArenaId for DialKey {
    fn from_parts(index: u32, generation: u32) -> Self {
        Self { index, generation }
    }
    fn parts(self) -> (u32, u32) {
        (self.index, self.generation)
    }
}

/// For whom a connection is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DialOwner {
    Channel(ChannelKey),
    Link(LinkId),
}

/// One connection in the making.
#[derive(Debug)]
pub(crate) struct Dial {
    pub(crate) owner: DialOwner,
    /// For which client.
    pub(crate) client: Option<Owner>,
    /// What it and its lookups are charged to.
    pub(crate) payers: Payers,
    pub(crate) target: TargetAddr,
    /// The proxy to connect to instead of the target.
    pub(crate) via: Option<UpstreamProxy>,
    /// The dial rules can't judge the target by its name: its addresses decide, even if a proxy is to
    /// connect to them.
    pub(crate) unjudged: bool,
    /// What is being said to that proxy, once it is connected.
    pub(crate) handshake: Option<ProxyHandshake>,
    /// The lookup that has not been answered yet.
    pub(crate) query: Option<QueryId>,
    untried: VecDeque<IpAddr>,
    /// Connections under way.
    pub(crate) attempts: SmallVec<[SocketId; 2]>,
    pub(crate) last_error: SocketError,
}

impl Dial {
    pub(crate) fn new(
        owner: DialOwner,
        client: Option<Owner>,
        payers: Payers,
        target: TargetAddr,
        via: Option<UpstreamProxy>,
    ) -> Self {
        Self {
            owner,
            client,
            payers,
            target,
            via,
            unjudged: false,
            handshake: None,
            query: None,
            untried: VecDeque::new(),
            attempts: SmallVec::new(),
            last_error: SocketError::NameNotFound,
        }
    }

    /// Where the connection goes first: the target or its proxy.
    pub(crate) fn address(&self) -> &TargetAddr {
        self.via.as_ref().map_or(&self.target, UpstreamProxy::address)
    }

    /// Whose addresses have to be known first.
    pub(crate) fn sought(&self) -> &Host {
        if self.unjudged { &self.target.host } else { &self.address().host }
    }

    /// Takes what the name resolved to; both families take turns, the resolver's first one leads.
    pub(crate) fn set_addresses(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        let (mut first, mut second) = (VecDeque::new(), VecDeque::new());
        for address in addresses {
            let leads = first.front().is_none_or(|leader: &IpAddr| leader.is_ipv6() == address.is_ipv6());
            if leads { first.push_back(address) } else { second.push_back(address) }
        }
        while !first.is_empty() || !second.is_empty() {
            self.untried.extend(first.pop_front());
            self.untried.extend(second.pop_front());
        }
    }

    /// The next address to try.
    pub(crate) fn next_address(&mut self) -> Option<SocketAddr> {
        let port = self.address().port;
        self.untried.pop_front().map(|ip| SocketAddr::new(ip, port))
    }

    pub(crate) fn has_untried(&self) -> bool {
        !self.untried.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::{Dial, DialOwner};
    use crate::accounts::Payers;
    use crate::arena::ArenaId;
    use crate::ids::LinkId;
    use crate::socks5::{Host, TargetAddr};

    #[test]
    fn families_take_turns() {
        let target = TargetAddr { host: Host::Name("h".into()), port: 1 };
        let mut dial =
            Dial::new(DialOwner::Link(LinkId::from_parts(0, 0)), None, Payers::new(), target, None);
        dial.set_addresses(["::1", "::2", "::3", "1.1.1.1", "2.2.2.2"].map(|text| text.parse().unwrap()));
        let order: Vec<_> = std::iter::from_fn(|| dial.next_address()).map(|a| a.ip().to_string()).collect();
        assert_eq!(order, ["::1", "1.1.1.1", "::2", "2.2.2.2", "::3"]);
    }
}
