//! UDP: datagrams arrive whole, late, in any order, or not at all.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use bytes::Bytes;
use linksocks_sansio::error::SocketError;

use super::{Fate, Happening, Network, Owner, Quality, Wake};

/// What a kernel keeps for an application (Linux: 208 KiB).
const MAILBOX: usize = 208 << 10;

/// The longest payload that the network carries.
const LONGEST: usize = 65_507;

/// All datagram sockets of a run.
#[derive(Debug, Default)]
pub(super) struct Mailboxes {
    boxes: BTreeMap<SocketAddr, Mailbox>,
    next_port: u16,
    /// Of a hundred datagrams so many are lost on the way.
    loss: u64,
}

#[derive(Debug)]
struct Mailbox {
    owner: Owner,
    queue: VecDeque<(SocketAddr, Bytes)>,
    bytes: usize,
}

impl Network {
    /// Opens a datagram socket. A port 0 is filled in.
    ///
    /// # Errors
    /// [`SocketError::AddressInUse`].
    pub fn bind(&mut self, mut address: SocketAddr, owner: Owner) -> Result<SocketAddr, SocketError> {
        /// The first port that a kernel chooses by itself.
        const EPHEMERAL: u16 = 32_768;
        let mailboxes = &mut self.mailboxes;
        if address.port() == 0 {
            mailboxes.next_port = mailboxes.next_port.checked_add(1).unwrap_or_default().max(EPHEMERAL);
            address.set_port(mailboxes.next_port);
        }
        if mailboxes.boxes.contains_key(&address) {
            return Err(SocketError::AddressInUse);
        }
        mailboxes.boxes.insert(address, Mailbox { owner, queue: VecDeque::new(), bytes: 0 });
        Ok(address)
    }

    /// Closes a datagram socket.
    pub fn unbind(&mut self, address: SocketAddr) {
        self.mailboxes.boxes.remove(&address);
    }

    /// Sets how many of a hundred datagrams are lost.
    pub fn set_loss(&mut self, percent: u64) {
        self.mailboxes.loss = percent;
    }

    /// Sends one datagram.
    ///
    /// # Errors
    /// [`SocketError::NetworkUnreachable`], [`SocketError::Other`] if it is too long.
    pub fn send_datagram(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        payload: Bytes,
    ) -> Result<(), SocketError> {
        if payload.len() > LONGEST {
            return Err(SocketError::Other);
        }
        match self.fates.get(&to.ip()) {
            Some(Fate::Unreachable) => return Err(SocketError::NetworkUnreachable),
            Some(Fate::Refused | Fate::Silent) => return Ok(()),
            None => {}
        }
        let latency = self.qualities.get(&to.ip()).cloned().unwrap_or_else(Quality::local).latency;
        let delay = self.dice.duration(latency.0, latency.1);
        if !self.dice.chance(self.mailboxes.loss) {
            self.agenda.enter(self.now + delay, Happening::DatagramArrives { from, to, payload });
        }
        Ok(())
    }

    /// Takes the next datagram that has come in.
    pub fn receive_datagram(&mut self, address: SocketAddr) -> Option<(SocketAddr, Bytes)> {
        let mailbox = self.mailboxes.boxes.get_mut(&address)?;
        let next = mailbox.queue.pop_front()?;
        mailbox.bytes -= next.1.len();
        Some(next)
    }

    pub(super) fn datagram_arrives(&mut self, from: SocketAddr, to: SocketAddr, payload: Bytes) {
        let Some(mailbox) = self.mailboxes.boxes.get_mut(&to) else { return };
        if mailbox.bytes + payload.len() <= MAILBOX {
            mailbox.bytes += payload.len();
            mailbox.queue.push_back((from, payload));
            self.woken.entry(mailbox.owner).or_default().insert(Wake::Datagrams(to));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use bytes::Bytes;
    use linksocks_sansio::error::SocketError;

    use crate::sim::dice::Dice;
    use crate::sim::net::{Fate, Network, Owner, Wake};

    fn settle(network: &mut Network) {
        while let Some(next) = network.next() {
            network.advance(next);
        }
    }

    #[test]
    fn datagrams_reach_whoever_is_bound_or_nobody() {
        let mut network = Network::new(Dice::new(1, 0));
        let any = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 0);
        let a = network.bind(any("10.0.0.1"), Owner::Host(0)).unwrap();
        let b = network.bind(any("10.0.0.2"), Owner::Host(1)).unwrap();
        assert_eq!(network.bind(a, Owner::Nobody), Err(SocketError::AddressInUse));
        network.send_datagram(a, b, Bytes::from_static(b"hello")).unwrap();
        settle(&mut network);
        assert!(network.take_wakes(Owner::Host(1)).contains(&Wake::Datagrams(b)));
        assert_eq!(network.receive_datagram(b), Some((a, Bytes::from_static(b"hello"))));
        assert_eq!(network.receive_datagram(b), None);

        network.set_loss(100);
        network.send_datagram(a, b, Bytes::from_static(b"lost")).unwrap();
        network.set_loss(0);
        network.set_fate(a.ip(), Some(Fate::Unreachable));
        let refused = network.send_datagram(b, a, Bytes::new());
        assert_eq!(refused, Err(SocketError::NetworkUnreachable));
        network.unbind(b);
        network.send_datagram(a, b, Bytes::from_static(b"nobody")).unwrap();
        settle(&mut network);
        assert_eq!(network.receive_datagram(b), None);
    }
}
