//! One multiplexed TCP stream: its two directions and where it stands. And its sibling, the UDP
//! association.

mod batch;
mod batcher;
mod inbound;
mod names;
mod outbound;
mod shrink;
mod udp;
mod window;

use std::time::Instant;

use bytes::BytesMut;

pub(crate) use batch::BatchRules;
pub(crate) use batcher::Batcher;
pub(crate) use inbound::{Inbound, InboundEnd};
pub(crate) use names::{Addresses, Answer, Names, lifetime};
pub(crate) use outbound::{Next, Outbound, OutboundEnd, ReadPacer, Sealed};
pub(crate) use shrink::Shrink;
pub(crate) use udp::{Application, Association, AssociationPhase, DatagramQueue, Local, Port, Sender};
pub(crate) use window::{Consumed, GrantedWindow};

use crate::dial::DialKey;
use crate::error::ChannelError;
use crate::ids::{AssociationKey, ChannelId, ChannelKey, LinkId, SocketId, Ticket, TokenId};
use crate::io::ChannelRef;
use crate::link::Extensions;
use crate::socks5::TargetAddr;

/// Who wants a channel: the SOCKS side's local end before the channel is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    /// A SOCKS or CONNECT request on this socket, which becomes the end of the channel.
    Socks(SocketId),
    /// One of the HTTP requests on this socket.
    Http(SocketId),
    /// [`Command::Open`](crate::io::Command::Open) or
    /// [`Command::Associate`](crate::io::Command::Associate).
    Embed(Ticket),
    /// A connector's Connect, which is to go on to a provider.
    Leg(Leg),
}

/// What a connector has opened on its link: the first leg of a way that a provider's link goes on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Leg {
    Stream(ChannelKey),
    Datagrams(AssociationKey),
}

/// Where a channel stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// SOCKS side: Connect is sent, the answer has not come.
    Connecting(Origin),
    /// Dial side: the connection to the target is being made.
    Dialing(DialKey),
    /// Bytes flow.
    Open(SocketId),
    /// A connector's channel for which a provider is sought, or asked.
    Routing,
    /// Messages go on to and come from the other leg, [`Channel::partner`].
    Joined,
    /// The socket is gone; what was read from it still goes out.
    SendingRest,
}

/// Which end of the tunnel we are for a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Socks,
    Dial,
}

/// One multiplexed TCP stream.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) link: LinkId,
    pub(crate) id: ChannelId,
    /// Of the client that it belongs to.
    pub(crate) token: TokenId,
    pub(crate) side: Side,
    pub(crate) target: TargetAddr,
    pub(crate) phase: Phase,
    /// The other leg, if this is one.
    pub(crate) partner: Option<ChannelKey>,
    /// Its second leg had to be given up: the next one has another id.
    pub(crate) rerouted: bool,
    /// The application takes it for open, and the other side has not said so yet (fast open).
    pub(crate) unconfirmed: bool,
    /// What the link has negotiated.
    pub(crate) extensions: Extensions,
    pub(crate) inbound: Inbound,
    pub(crate) outbound: Outbound,
    /// What we let the peer send, in bytes of whole messages; without the window extension unused.
    pub(crate) granted: GrantedWindow,
    /// How much its socket may be read ahead beyond what every channel's may.
    pub(crate) read_ahead: usize,
    /// Whether the peer may still refer to this channel. When it is over on the wire, what was
    /// received is still written out.
    pub(crate) on_wire: bool,
    /// The socket has delivered EOF.
    pub(crate) local_eof: bool,
    /// Our direction: the end has been sent.
    pub(crate) end_sent: bool,
    /// The write half of the socket has been shut down.
    pub(crate) write_shut: bool,
    /// What the link's receive budget (or that of lost links) is charged for us.
    pub(crate) charged: usize,
    /// Since when the socket has accepted nothing although bytes wait.
    pub(crate) waiting_since: Instant,
    /// When Data last came from the peer.
    pub(crate) last_data: Instant,
    /// When a byte last came by, in either direction.
    pub(crate) last_used: Instant,
    /// Stream bytes sent to and received from the peer.
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// Why the socket is gone, to be told when the rest is sent.
    pub(crate) error: Option<ChannelError>,
}

impl Channel {
    pub(crate) fn as_ref(&self) -> ChannelRef {
        ChannelRef { link: self.link, id: self.id }
    }

    /// Whether what the socket has to say still goes anywhere.
    pub(crate) fn wants_input(&self) -> bool {
        let open = matches!(self.phase, Phase::Open(_));
        open && self.on_wire && !self.local_eof && self.inbound.end != Some(InboundEnd::Close)
    }

    /// Whether the socket is to be read: what nobody wants any more is thrown away, because an
    /// application that is stuck in writing does not get to read what we still have for it.
    pub(crate) fn is_reading(&self) -> bool {
        matches!(self.phase, Phase::Open(_)) && !self.local_eof
    }

    pub(crate) fn socket(&self) -> Option<SocketId> {
        match self.phase {
            Phase::Open(socket) | Phase::Connecting(Origin::Socks(socket)) => Some(socket),
            Phase::Connecting(Origin::Http(_) | Origin::Embed(_) | Origin::Leg(_))
            | Phase::Dialing(_)
            | Phase::Routing
            | Phase::Joined
            | Phase::SendingRest => None,
        }
    }
}

/// Bytes and EOF that an application sent before its channel was open.
#[derive(Debug, Default)]
pub(crate) struct EarlyInput {
    pub(crate) bytes: BytesMut,
    pub(crate) eof: bool,
}
