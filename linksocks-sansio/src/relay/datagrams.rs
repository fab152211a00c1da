//! The way of datagrams through a UDP association: rules, lookups, queues, and what is dropped.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use super::associations::wildcard;
use super::policy::AllRules;
use super::{QueryOwner, Relay, Socket, SocketOwner};
use crate::access::Verdict;
use crate::channel::{Addresses, Answer, Association, AssociationPhase, Local, Sealed, Side, lifetime};
use crate::config::Limits;
use crate::error::{ChannelError, SocketError};
use crate::ids::{AssociationKey, LinkId, SocketId};
use crate::io::Output;
use crate::link::FlowKey;
use crate::socks5::{Datagram, Host, TargetAddr};
use crate::wire::{Compression, DATA_HEADER_LEN, Data, Endpoint, Endpoints, Message};

/// The longest payload that may be a compressed datagram: gzip adds 18 bytes, and 5 for each block
/// that it can't shrink.
#[cfg(feature = "gzip")]
const MAX_COMPRESSED: usize = Limits::MAX_DATAGRAM + 1024;

/// What a datagram is charged beyond its payload at most: as a message that waits for the link, with
/// the longest name as its address.
const MAX_OVERHEAD: usize = Limits::MESSAGE_OVERHEAD + DATA_HEADER_LEN + 2 * (1 + 2) + 255;

impl Relay {
    // ---- local socket → link

    pub(crate) fn on_datagram_received(&mut self, id: SocketId, from: SocketAddr, payload: &Bytes) {
        let Some(Socket { owner: SocketOwner::Datagrams(key), .. }) = self.sockets.get(id) else { return };
        let key = *key;
        let Some(association) = self.associations.get_mut(key) else { return };
        if let Some(port) = association.port_mut(id) {
            port.on_received();
        }
        match association.local {
            Local::Application(_) => self.on_application_datagram(key, from, payload),
            Local::Targets { .. } => {
                let from = SocketAddr::new(from.ip().to_canonical(), from.port());
                self.send_datagram(key, from.into(), payload.clone());
            }
            Local::Joined { .. } => {}
        }
        self.grant_datagrams(key, id);
    }

    /// Lets the driver receive more from a socket.
    pub(super) fn grant_datagrams(&mut self, key: AssociationKey, id: SocketId) {
        let port = self.associations.get_mut(key).and_then(|association| association.port_mut(id));
        if let Some(count) = port.and_then(|port| port.top_up()) {
            self.push(Output::ReceiveDatagrams { socket: id, count });
        }
    }

    fn on_application_datagram(&mut self, key: AssociationKey, from: SocketAddr, datagram: &Bytes) {
        let Some(Association { local: Local::Application(application), .. }) = self.associations.get_mut(key)
        else {
            return;
        };
        let Some(Datagram { address, payload }) =
            Datagram::decode(datagram).ok().filter(|_| application.sender.matches(from))
        else {
            return self.drop_datagrams(key, 1);
        };
        application.sender.pin(from);
        self.judge_datagram(key, address, payload);
    }

    /// Sends a datagram on if the rules for where it came in allow that.
    pub(super) fn judge_datagram(&mut self, key: AssociationKey, address: TargetAddr, payload: Bytes) {
        let Some(association) = self.associations.get(key) else { return };
        match (self.datagram_rules(association).judge(&address), &address.host) {
            (Verdict::Allowed, _) => self.send_out(key, address, payload),
            (Verdict::NeedsLookup, Host::Name(name)) => {
                self.send_to_name(key, &name.to_ascii_lowercase(), address.port, &payload);
            }
            (Verdict::Denied | Verdict::NeedsLookup, _) => self.drop_datagrams(key, 1),
        }
    }

    /// Sends a datagram that came in by an association where it goes out.
    fn send_out(&mut self, key: AssociationKey, address: TargetAddr, payload: Bytes) {
        match self.outlet(key) {
            Some(outlet) => self.send_datagram(outlet, address, payload),
            None => self.drop_datagrams(key, 1),
        }
    }

    /// Queues a datagram for the link. `address`: on the SOCKS side its target, on the dial side its
    /// source.
    fn send_datagram(&mut self, key: AssociationKey, address: TargetAddr, payload: Bytes) {
        let Some(association) = self.associations.get(key) else { return };
        if payload.len() > Limits::MAX_DATAGRAM {
            return self.drop_datagrams(key, 1);
        }
        let this = Endpoint { address: address.wire_host().into_owned(), port: address.port };
        let unused = Endpoint::default();
        let datagram = Some(match association.local {
            Local::Application(_) | Local::Joined { side: Side::Socks, .. } => {
                Endpoints::Two { source: unused, target: this }
            }
            Local::Targets { .. } | Local::Joined { side: Side::Dial, .. } => {
                Endpoints::Two { source: this, target: unused }
            }
        });
        let (channel, compression, carried) = (association.id, Compression::None, payload.len());
        let data = Data { channel, compression, payload, datagram, sequence: None };
        match Message::Data(data).encode() {
            Ok(message) => self.queue_datagram(key, Sealed { message, carried }),
            Err(_) => self.drop_datagrams(key, 1),
        }
    }

    /// Queues a message for the link.
    pub(super) fn queue_datagram(&mut self, key: AssociationKey, sealed: Sealed) {
        let (count, bytes) = self.queue_limits();
        let fits = self.has_room_for(key, sealed.message.len());
        let Some(association) = self.associations.get_mut(key) else { return };
        if !fits || association.phase == AssociationPhase::Ending {
            return self.drop_datagrams(key, 1);
        }
        association.outbound.push(sealed);
        association.last_datagram = self.now;
        let mut dropped = 0;
        while association.outbound.len() > count || association.outbound.bytes() > bytes {
            association.outbound.drop_oldest();
            dropped += 1;
        }
        self.drop_datagrams(key, dropped);
        self.reweigh(key);
        self.schedule_association(key);
    }

    pub(super) fn schedule_association(&mut self, key: AssociationKey) {
        let Some(association) = self.associations.get_mut(key) else { return };
        let Some(link) = self.links.get_mut(association.link) else { return };
        link.flows.wake(FlowKey::Association(key), &mut association.outbound, link.pace.cap());
        let id = association.link;
        self.schedule_link(id);
    }

    /// A datagram has left for the link.
    pub(super) fn on_datagram_sent(&mut self, key: AssociationKey, payload: usize) {
        self.totals.datagrams_sent += 1;
        self.totals.bytes_sent += payload as u64;
        if let Some(association) = self.associations.get_mut(key) {
            association.sent += 1;
            self.reweigh(key);
        }
    }

    // ---- link → local socket

    /// The peer sends a datagram.
    pub(crate) fn on_association_data(&mut self, key: AssociationKey, data: Data, raw: &Bytes) {
        let Some(association) = self.associations.get_mut(key) else { return };
        let is_application = matches!(association.local, Local::Application(_));
        let Data { compression, payload, datagram: Some(endpoints), .. } = data else {
            return self.reset_association(key, ChannelError::Protocol("stream data on a UDP channel"));
        };
        if association.phase == AssociationPhase::Ending {
            return;
        }
        self.confirm_association(key);
        if self.forward_datagram(key, raw, payload.len(), &endpoints) {
            return;
        }
        // A single block can only be the one that matters in this direction.
        let endpoint = match endpoints {
            Endpoints::One(endpoint) => endpoint,
            Endpoints::Two { source, .. } if is_application => source,
            Endpoints::Two { target, .. } => target,
        };
        let address = TargetAddr::from_wire(&endpoint.address, endpoint.port);
        let (Ok(address), Some(payload)) = (address, inflate(compression, payload)) else {
            return self.drop_datagrams(key, 1);
        };
        match address.host {
            _ if is_application => self.deliver_to_application(key, address, payload),
            _ if self.is_leg(key) => self.judge_datagram(key, address, payload),
            Host::Ip(ip) => self.deliver_to_target(key, &[ip], address.port, &payload),
            Host::Name(name) => self.send_to_name(key, &name.to_ascii_lowercase(), address.port, &payload),
        }
    }

    fn deliver_to_application(&mut self, key: AssociationKey, address: TargetAddr, payload: Bytes) {
        let Some(Association { local: Local::Application(application), .. }) = self.associations.get(key)
        else {
            return;
        };
        let port = application.port.as_ref().map(|port| port.socket);
        let to = application.sender.address();
        match (port, to, Datagram { address, payload }.encode()) {
            (Some(port), Some(to), Ok(datagram)) => self.give_datagram(key, port, to, datagram),
            // Nobody has sent anything that this could be the answer to.
            _ => self.drop_datagrams(key, 1),
        }
    }

    /// Sends to the first address that the dial rules allow. IPv4 goes first, as in the Go program:
    /// datagrams can't be raced, and that is the family that more targets have.
    fn deliver_to_target(&mut self, key: AssociationKey, addresses: &[IpAddr], port: u16, payload: &Bytes) {
        let Some(association) = self.associations.get(key) else { return };
        let Some(to) = choose(addresses, port, self.datagram_rules(association)) else {
            return self.drop_datagrams(key, 1);
        };
        let Some(Association { local: Local::Targets { v4, v6 }, .. }) = self.associations.get(key) else {
            return;
        };
        let slot = if to.is_ipv4() { v4 } else { v6 };
        let socket = match slot {
            Some(port) => port.socket,
            None => {
                let port = self.bind_port(key, wildcard(to.is_ipv4()));
                let socket = port.socket;
                if let Some(Association { local: Local::Targets { v4, v6 }, .. }) =
                    self.associations.get_mut(key)
                {
                    *(if to.is_ipv4() { v4 } else { v6 }) = Some(port);
                }
                socket
            }
        };
        self.give_datagram(key, socket, to, payload.clone());
    }

    /// Gives a datagram to a local socket, or lets it wait.
    fn give_datagram(&mut self, key: AssociationKey, socket: SocketId, to: SocketAddr, payload: Bytes) {
        let (count, bytes) = self.queue_limits();
        let room = self.has_room_for(key, payload.len());
        let Some(association) = self.associations.get_mut(key) else { return };
        let length = payload.len() as u64;
        let Some(port) = association.port_mut(socket).filter(|_| room) else {
            return self.drop_datagrams(key, 1);
        };
        let dropped = port.accept(to, payload, count, bytes);
        association.last_datagram = self.now;
        association.received += 1;
        self.totals.datagrams_received += 1;
        self.totals.bytes_received += length;
        self.drop_datagrams(key, dropped);
        self.flush_port(key, socket);
    }

    /// Gives the driver what it may have.
    pub(super) fn flush_port(&mut self, key: AssociationKey, id: SocketId) {
        while let Some(association) = self.associations.get_mut(key)
            && let Some((to, payload)) = association.port_mut(id).and_then(|port| port.next())
        {
            self.push(Output::SendDatagram { socket: id, to, payload });
        }
        self.reweigh(key);
        self.settle_association(key);
    }

    pub(crate) fn on_datagrams_sent(&mut self, id: SocketId, count: usize, failed: usize) {
        let Some(Socket { owner: SocketOwner::Datagrams(key), .. }) = self.sockets.get(id) else { return };
        let key = *key;
        if let Some(port) = self.associations.get_mut(key).and_then(|association| association.port_mut(id)) {
            port.on_sent(count);
        }
        self.drop_datagrams(key, failed as u64);
        self.flush_port(key, id);
    }

    // ---- names

    /// Sends a datagram to a name: at once if its addresses are known, else when they are.
    fn send_to_name(&mut self, key: AssociationKey, name: &str, port: u16, payload: &Bytes) {
        if !self.has_room_for(key, payload.len()) {
            return self.drop_datagrams(key, 1);
        }
        let (now, names) = (self.now, self.config.limits.udp_names);
        let Some(association) = self.associations.get_mut(key) else { return };
        let link = association.link;
        match association.names.ask(name, port, payload, now, names) {
            Answer::Known(addresses) => {
                let addresses = Addresses::from_slice(addresses);
                self.on_name_known(key, &addresses, port, payload);
            }
            Answer::Waits(dropped) => self.drop_datagrams(key, dropped),
            Answer::Unknown => self.look_up_target(key, link, name, port, payload),
            Answer::Full => self.drop_datagrams(key, 1),
        }
        self.reweigh(key);
    }

    fn look_up_target(&mut self, key: AssociationKey, link: LinkId, name: &str, port: u16, payload: &Bytes) {
        let payers = self.payers_of(link);
        let asked = self.look_up(QueryOwner::Datagrams(key, name.to_owned()), payers, name.to_owned());
        let Ok(query) = asked else { return self.drop_datagrams(key, 1) };
        if let Some(association) = self.associations.get_mut(key) {
            association.names.seek(name.to_owned(), query, port, payload);
        }
    }

    pub(super) fn on_datagram_name(
        &mut self,
        key: AssociationKey,
        name: &str,
        result: Result<Addresses, SocketError>,
    ) {
        let Some(association) = self.associations.get_mut(key) else { return };
        let addresses = result.unwrap_or_default();
        let lifetime = lifetime(&addresses, self.config.timeouts.udp_name);
        let until = self.now.checked_add(lifetime).unwrap_or(self.now);
        let waiting = association.names.found(name, addresses.clone(), until);
        for (port, payload) in waiting {
            self.on_name_known(key, &addresses, port, &payload);
        }
        self.reweigh(key);
        self.settle_association(key);
    }

    /// On the SOCKS side only rules make lookups necessary: the address that they allow goes out in
    /// place of the name.
    fn on_name_known(&mut self, key: AssociationKey, addresses: &[IpAddr], port: u16, payload: &Bytes) {
        match self.associations.get(key).map(|association| &association.local) {
            Some(Local::Application(_) | Local::Joined { .. }) => {
                let Some(association) = self.associations.get(key) else { return };
                match choose(addresses, port, self.datagram_rules(association)) {
                    Some(address) => self.send_out(key, address.into(), payload.clone()),
                    None => self.drop_datagrams(key, 1),
                }
            }
            Some(Local::Targets { .. }) => self.deliver_to_target(key, addresses, port, payload),
            None => {}
        }
    }

    // ---- accounts

    pub(super) fn drop_datagrams(&mut self, key: AssociationKey, count: u64) {
        self.totals.datagrams_dropped += count;
        if let Some(association) = self.associations.get_mut(key) {
            association.dropped += count;
        }
    }

    /// How many datagrams may wait in a queue, and how many bytes: never too few for a single one.
    fn queue_limits(&self) -> (usize, usize) {
        let limits = &self.config.limits;
        (limits.udp_queue.max(1), limits.udp_queue_bytes.max(2 * Limits::MAX_DATAGRAM))
    }

    /// Whether the link's associations may hold another datagram of `length` bytes.
    fn has_room_for(&mut self, key: AssociationKey, length: usize) -> bool {
        let Some(association) = self.associations.get(key) else { return false };
        let Some(link) = self.links.get_mut(association.link) else { return false };
        let bytes = link.datagram_bytes + length + MAX_OVERHEAD;
        // What would wait for the next link would be too old to be of use there.
        !link.is_suspended()
            && bytes <= self.config.limits.udp_link_bytes
            && self.accounts.cover(&mut link.loans.datagrams, &link.loans.payers, bytes).is_ok()
    }

    /// Brings what an association is charged in line with what waits in it.
    pub(super) fn reweigh(&mut self, key: AssociationKey) {
        let Some(association) = self.associations.get_mut(key) else { return };
        let weight = association.weight();
        let before = std::mem::replace(&mut association.charged, weight);
        self.totals.datagrams_queued = self.totals.datagrams_queued - before + weight;
        if let Some(link) = self.links.get_mut(association.link) {
            link.datagram_bytes = link.datagram_bytes - before + weight;
            if link.datagram_bytes == 0 {
                self.accounts.repay(&mut link.loans.datagrams, &link.loans.payers);
            }
        }
    }
}

/// The first IPv4 address, or else the first address, that `rules` allow.
fn choose(addresses: &[IpAddr], port: u16, rules: AllRules<'_>) -> Option<SocketAddr> {
    let allowed = addresses.iter().map(|ip| SocketAddr::new(ip.to_canonical(), port));
    allowed.filter(|address| rules.allows(*address)).min_by_key(SocketAddr::is_ipv6)
}

/// The datagram itself. `None` if it is too long for one, or can't be inflated.
fn inflate(compression: Compression, payload: Bytes) -> Option<Bytes> {
    match compression {
        Compression::None => Some(payload).filter(|payload| payload.len() <= Limits::MAX_DATAGRAM),
        #[cfg(feature = "gzip")]
        Compression::Gzip if payload.len() <= MAX_COMPRESSED => {
            let mut inflate = crate::wire::gzip::Inflate::new(payload, Limits::MAX_DATAGRAM);
            let datagram = inflate.next_chunk(Limits::MAX_DATAGRAM).ok()?.unwrap_or_default();
            // The end has to be seen: a checksum stands there, and more may come.
            inflate.next_chunk(1).ok()?.is_none().then_some(datagram)
        }
        Compression::Gzip => None,
    }
}
