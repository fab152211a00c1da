//! The pump of one datagram socket.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use bytes::Bytes;
use linksocks_sansio::{Input, SocketId};

use super::Surroundings;
use crate::sim::net::{Network, Owner};

/// A bound datagram socket.
#[derive(Debug)]
pub(super) struct DatagramPump {
    id: SocketId,
    pub(super) address: SocketAddr,
    credit: usize,
}

impl DatagramPump {
    /// Binds a socket of the host at `home`, which has one address of each family.
    pub(super) fn bind(
        id: SocketId,
        address: SocketAddr,
        home: IpAddr,
        owner: Owner,
        net: &mut Network,
    ) -> Result<Self, Input> {
        let ip = match address.ip() {
            ip if !ip.is_unspecified() => ip,
            IpAddr::V4(_) => home,
            IpAddr::V6(_) => second_address(home),
        };
        match net.bind(SocketAddr::new(ip, address.port()), owner) {
            Ok(address) => Ok(Self { id, address, credit: 0 }),
            Err(error) => Err(Input::SocketFailed { socket: id, error }),
        }
    }

    pub(super) fn grant(&mut self, count: usize) {
        self.credit += count;
    }

    pub(super) fn send(&self, to: SocketAddr, payload: Bytes, around: &mut Surroundings<'_>) {
        let failed = around.net.send_datagram(self.address, to, payload).is_err().into();
        around.inbox.push_back(Input::DatagramsSent { socket: self.id, count: 1, failed });
    }

    /// Receives what may be received.
    pub(super) fn run(&mut self, around: &mut Surroundings<'_>) {
        while self.credit > 0
            && let Some((from, payload)) = around.net.receive_datagram(self.address)
        {
            self.credit -= 1;
            around.inbox.push_back(Input::DatagramReceived { socket: self.id, from, payload });
        }
    }

    pub(super) fn close(self, around: &mut Surroundings<'_>) {
        around.net.unbind(self.address);
        around.inbox.push_back(Input::SocketClosed { socket: self.id });
    }
}

/// The address of the other family that a host has.
pub(crate) fn second_address(home: IpAddr) -> IpAddr {
    match home {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets().map(u16::from);
            Ipv6Addr::new(0xfd01, 0, 0, 0, a, b, c, d).into()
        }
        IpAddr::V6(_) => home,
    }
}
