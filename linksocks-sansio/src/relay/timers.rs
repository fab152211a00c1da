//! What the deadlines of the relay and of the engines are for.

use super::Owner;
use crate::channel::Origin;
use crate::dial::DialKey;
use crate::ids::{AssociationKey, ChannelKey, LinkId, ListenerId, QueryId, SocketId, TokenId};

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A link must be ready.
    LinkLogin(LinkId),
    /// A ping is due, or the peer is dead.
    LinkKeepAlive(LinkId),
    /// A closing link has had its time.
    LinkClose(LinkId),
    /// The peer must be told what has been received.
    Acknowledge(LinkId),
    /// A client must have come back.
    Grace(LinkId),
    /// A Connect must be answered.
    Response(ChannelKey),
    /// What a channel has sent before it was confirmed has been held back for long enough.
    HeldData(ChannelKey),
    /// A SOCKS side has seen EOF and the dial side has gone quiet.
    HalfClose(ChannelKey),
    /// Bytes have waited long enough for more to share a message with them.
    Batch(ChannelKey),
    /// Inflating what a channel has received goes on.
    Inflate(ChannelKey),
    /// The Connect of a UDP association must be answered.
    AssociationResponse(AssociationKey),
    /// A UDP association may have been idle for too long, or what waits in one that is over has had
    /// its time.
    AssociationIdle(AssociationKey),
    /// A lookup that no dial waits for must be done.
    Lookup(QueryId),
    /// A socket must have taken some of the last bytes of a channel.
    LastBytes(ChannelKey),
    /// A dial must be done.
    Dial(DialKey),
    /// Another address is tried beside a silent one.
    DialStagger(DialKey),
    /// A SOCKS or HTTP request must be complete; or, for the engine's end of an HTTP request, its target
    /// must have closed behind the answer.
    Handshake(SocketId),
    /// Early Data of an owner has been kept long enough.
    Early(Owner),
    /// Look for stalled channels: of a link, or of all lost links.
    Stall(Option<LinkId>),
    /// Look for channels that nobody uses.
    Sweep,
    /// Shutting down must make its next step.
    Shutdown,
    /// One of the engine's own.
    Engine(EngineTimer),
}

/// What a deadline of an engine is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum EngineTimer {
    /// A client's link slot may try again.
    Slot(usize),
    /// A wanted channel must have found a link.
    Wanted(Origin),
    /// Look whether a provider that owes answers is silent.
    Silence(LinkId),
    /// A SOCKS port without a token closes.
    Listener(ListenerId),
    /// A SOCKS port that could not be opened is to be tried again.
    Port(TokenId),
    /// A provider must have come back.
    Released(Owner),
    /// The connector tokens of a provider may be free now.
    Registration,
}

impl EngineTimer {
    /// As [`Timer::blames_others`].
    fn blames_others(self) -> bool {
        match self {
            Self::Wanted(_) | Self::Silence(_) | Self::Released(_) => true,
            Self::Slot(_) | Self::Listener(_) | Self::Port(_) | Self::Registration => false,
        }
    }
}

impl Timer {
    /// Whether firing means that somebody else was too slow. Such a timer that fires late is given
    /// another chance, see [`AWAY`](super::AWAY). (The keep-alive timer sees to that itself.)
    pub(super) fn blames_others(self) -> bool {
        match self {
            Self::LinkLogin(_)
            | Self::Grace(_)
            | Self::Response(_)
            | Self::HalfClose(_)
            | Self::AssociationResponse(_)
            | Self::AssociationIdle(_)
            | Self::Lookup(_)
            | Self::LastBytes(_)
            | Self::Dial(_)
            | Self::Handshake(_)
            | Self::Sweep
            | Self::Stall(_) => true,
            Self::LinkKeepAlive(_)
            | Self::Early(_)
            | Self::LinkClose(_)
            | Self::Acknowledge(_)
            | Self::HeldData(_)
            | Self::Batch(_)
            | Self::Inflate(_)
            | Self::DialStagger(_)
            | Self::Shutdown => false,
            Self::Engine(timer) => timer.blames_others(),
        }
    }
}
