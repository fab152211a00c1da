//! One UDP association: its local sockets and the datagrams that wait in it.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::names::Names;
use super::{Origin, Outbound, Side};
use crate::access::AccessRules;
use crate::config::Limits;
use crate::error::ChannelError;
use crate::ids::{AssociationKey, ChannelId, LinkId, SocketId, TokenId};
use crate::io::ChannelRef;
use crate::socks5::Reply;

/// The most datagrams that are in the driver on their way to a socket, and that it may receive from
/// one ahead.
const WINDOW: usize = 64;

/// One UDP association. Unlike a stream it has no order and promises nothing: whatever can't be
/// passed on in time is dropped and counted.
#[derive(Debug)]
pub(crate) struct Association {
    pub(crate) link: LinkId,
    pub(crate) id: ChannelId,
    /// Of the client that it belongs to.
    pub(crate) token: TokenId,
    pub(crate) phase: AssociationPhase,
    pub(crate) local: Local,
    /// Of whoever the association is for; besides those of the engine.
    pub(crate) rules: Arc<AccessRules>,
    /// Names that datagrams go to, as far as they are looked up here.
    pub(crate) names: Names,
    /// Messages that wait for the link.
    pub(crate) outbound: Outbound,
    /// Whether the peer may still refer to this association.
    pub(crate) on_wire: bool,
    /// When a datagram last came by, in either direction.
    pub(crate) last_datagram: Instant,
    /// What the link's budget for datagrams is charged for us.
    pub(crate) charged: usize,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) dropped: u64,
    /// Why it is over, to be told when what waits is gone.
    pub(crate) error: Option<ChannelError>,
}

/// Where an association stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AssociationPhase {
    /// SOCKS side: the application has no answer yet.
    Opening,
    Open,
    /// Over; what waits still goes out.
    Ending,
}

/// The local end of an association.
#[derive(Debug)]
pub(crate) enum Local {
    /// SOCKS side.
    Application(Application),
    /// Dial side: a port for each family, bound when the first datagram needs it.
    Targets { v4: Option<Port>, v6: Option<Port> },
    /// Datagrams go on to and come from the other leg.
    Joined {
        /// `None`: it has not been found yet, or is gone.
        partner: Option<AssociationKey>,
        /// Dial side: this is the connector's leg.
        side: Side,
        /// As with [`Channel::rerouted`](super::Channel::rerouted).
        rerouted: bool,
    },
}

/// The application behind an association.
#[derive(Debug)]
pub(crate) struct Application {
    pub(crate) origin: Origin,
    pub(crate) sender: Sender,
    /// `None` for an embedder who has no answer yet.
    pub(crate) port: Option<Port>,
    /// The address of the port, once it is bound.
    pub(crate) local: Option<SocketAddr>,
    /// The other side has agreed.
    pub(crate) confirmed: bool,
}

/// Whose datagrams an association carries.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sender {
    /// The embedder, through memory.
    Embedder,
    /// Whoever first sends from this address, and from this port if it is known.
    Expected(IpAddr, Option<u16>),
    /// This one.
    Known(SocketAddr),
}

impl Sender {
    /// The application whose control connection comes from `peer` and whose request says `announced`.
    /// Its port counts if the address is the application's own or unspecified: other addresses (of
    /// a host behind NAT, or the target, put there by mistake) say nothing about the port seen here.
    pub(crate) fn announced(peer: IpAddr, announced: SocketAddr) -> Self {
        let (peer, ip) = (peer.to_canonical(), announced.ip().to_canonical());
        let counts = announced.port() != 0 && (ip == peer || ip.is_unspecified());
        Self::Expected(peer, counts.then_some(announced.port()))
    }

    /// Whether a datagram from `from` is one of the application's.
    pub(crate) fn matches(self, from: SocketAddr) -> bool {
        match self {
            Self::Embedder => true,
            Self::Expected(ip, port) => {
                ip == from.ip().to_canonical() && port.is_none_or(|port| port == from.port())
            }
            Self::Known(known) => (known.ip(), known.port()) == (from.ip(), from.port()),
        }
    }

    /// Holds on to the sender of a valid datagram.
    pub(crate) fn pin(&mut self, from: SocketAddr) {
        if let Self::Expected(..) = self {
            *self = Self::Known(from);
        }
    }

    /// Where answers go to, as soon as that is known.
    pub(crate) fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Embedder => Some(Reply::NO_ADDRESS),
            Self::Expected(..) => None,
            Self::Known(address) => Some(address),
        }
    }
}

impl Association {
    pub(crate) fn as_ref(&self) -> ChannelRef {
        ChannelRef { link: self.link, id: self.id }
    }

    pub(crate) fn ports(&self) -> impl Iterator<Item = &Port> {
        let (first, second) = match &self.local {
            Local::Application(application) => (&application.port, &None),
            Local::Targets { v4, v6 } => (v4, v6),
            Local::Joined { .. } => (&None, &None),
        };
        first.iter().chain(second)
    }

    /// The other leg, if this is one and that is there.
    pub(crate) fn partner(&self) -> Option<AssociationKey> {
        match self.local {
            Local::Joined { partner, .. } => partner,
            Local::Application(_) | Local::Targets { .. } => None,
        }
    }

    /// The port with this socket.
    pub(crate) fn port_mut(&mut self, socket: SocketId) -> Option<&mut Port> {
        self.slots_mut().into_iter().flatten().flatten().find(|port| port.socket == socket)
    }

    /// Takes the port with this socket away.
    pub(crate) fn take_port(&mut self, socket: SocketId) -> Option<Port> {
        let mut slots = self.slots_mut().into_iter().flatten();
        slots.find_map(|slot| slot.take_if(|port| port.socket == socket))
    }

    fn slots_mut(&mut self) -> [Option<&mut Option<Port>>; 2] {
        match &mut self.local {
            Local::Application(application) => [Some(&mut application.port), None],
            Local::Targets { v4, v6 } => [Some(v4), Some(v6)],
            Local::Joined { .. } => [None, None],
        }
    }

    /// Bytes that wait, and names that are remembered, with overhead.
    pub(crate) fn weight(&self) -> usize {
        let ports: usize = self.ports().map(|port| port.queue.weight()).sum();
        ports + self.outbound.weight() + self.names.weight()
    }

    /// Whether nothing waits for a local socket.
    pub(crate) fn is_delivered(&self) -> bool {
        !self.names.is_waiting() && self.ports().all(|port| port.queue.is_empty())
    }
}

/// A local datagram socket.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) socket: SocketId,
    pub(crate) bound: bool,
    pub(crate) queue: DatagramQueue<SocketAddr>,
    /// Datagrams that the driver has not finished.
    sending: usize,
    /// Datagrams that the driver may still receive.
    receivable: usize,
}

impl Port {
    pub(crate) fn new(socket: SocketId) -> Self {
        Self { socket, bound: false, queue: DatagramQueue::default(), sending: 0, receivable: 0 }
    }

    /// Takes a datagram on. Returns how many had to go for it.
    pub(crate) fn accept(&mut self, to: SocketAddr, payload: Bytes, count: usize, bytes: usize) -> u64 {
        let waits = !self.bound || self.sending >= WINDOW;
        // A slice would pin the whole buffer that the WebSocket layer has read it into.
        let payload = if waits { Bytes::copy_from_slice(&payload) } else { payload };
        self.queue.push(to, payload, count, bytes)
    }

    /// Takes the next datagram to be given to the driver.
    pub(crate) fn next(&mut self) -> Option<(SocketAddr, Bytes)> {
        if !self.bound || self.sending >= WINDOW {
            return None;
        }
        let next = self.queue.pop()?;
        self.sending += 1;
        Some(next)
    }

    pub(crate) fn on_sent(&mut self, count: usize) {
        self.sending = self.sending.saturating_sub(count);
    }

    pub(crate) fn on_received(&mut self) {
        self.receivable = self.receivable.saturating_sub(1);
    }

    /// Lets the driver receive more once half of the window is used.
    pub(crate) fn top_up(&mut self) -> Option<usize> {
        if self.receivable > WINDOW / 2 {
            return None;
        }
        let count = WINDOW - self.receivable;
        self.receivable = WINDOW;
        Some(count)
    }
}

/// Datagrams that wait, each with where it goes to. The oldest make room for new ones: what has
/// waited longest is worth least to those who use UDP.
#[derive(Debug)]
pub(crate) struct DatagramQueue<A> {
    queue: VecDeque<(A, Bytes)>,
    bytes: usize,
}

impl<A> Default for DatagramQueue<A> {
    fn default() -> Self {
        Self { queue: VecDeque::new(), bytes: 0 }
    }
}

impl<A> DatagramQueue<A> {
    /// Adds a datagram. Returns how many had to go for it.
    pub(crate) fn push(&mut self, to: A, payload: Bytes, count: usize, bytes: usize) -> u64 {
        self.bytes += payload.len();
        self.queue.push_back((to, payload));
        let mut dropped = 0;
        while self.queue.len() > count || self.bytes > bytes {
            if self.pop().is_none() {
                break;
            }
            dropped += 1;
        }
        dropped
    }

    pub(crate) fn pop(&mut self) -> Option<(A, Bytes)> {
        let next = self.queue.pop_front()?;
        self.bytes -= next.1.len();
        Some(next)
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes with overhead.
    pub(crate) fn weight(&self) -> usize {
        self.bytes + self.queue.len() * Limits::MESSAGE_OVERHEAD
    }
}

#[cfg(test)]
mod tests {
    use super::{DatagramQueue, Sender};

    #[test]
    fn the_oldest_make_room() {
        let mut queue = DatagramQueue::default();
        assert_eq!(queue.push(1, b"12345"[..].into(), 2, 10), 0);
        assert_eq!(queue.push(2, b"12345"[..].into(), 2, 10), 0);
        assert_eq!(queue.push(3, b""[..].into(), 2, 10), 1, "too many");
        assert_eq!(queue.push(4, b"123456789"[..].into(), 2, 10), 1, "too many");
        assert_eq!(queue.push(5, b"12"[..].into(), 9, 10), 2, "too large together");
        assert_eq!((queue.pop().map(|(to, _)| to), queue.weight()), (Some(5), 0));
        assert_eq!(queue.push(6, b"12345678901"[..].into(), 9, 10), 1, "too large alone");
    }

    #[test]
    fn only_the_application_is_heard() {
        let at = |text: &str| text.parse::<std::net::SocketAddr>().unwrap();
        let peer = at("192.0.2.1:5").ip();
        let mut sender = Sender::announced(peer, at("0.0.0.0:0"));
        assert!(sender.matches(at("192.0.2.1:7")) && !sender.matches(at("192.0.2.2:7")));
        assert_eq!(sender.address(), None);
        sender.pin(at("192.0.2.1:7"));
        assert!(sender.matches(at("192.0.2.1:7")) && !sender.matches(at("192.0.2.1:8")));
        assert_eq!(sender.address(), Some(at("192.0.2.1:7")));
        for announced in ["192.0.2.1:8", "0.0.0.0:8", "[::]:8", "[::ffff:192.0.2.1]:8"] {
            let sender = Sender::announced(peer, at(announced));
            assert!(sender.matches(at("192.0.2.1:8")) && !sender.matches(at("192.0.2.1:7")), "{announced}");
        }
        assert!(Sender::announced(peer, at("10.0.0.1:8")).matches(at("192.0.2.1:7")), "behind NAT");
    }
}
