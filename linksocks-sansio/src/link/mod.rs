//! One WebSocket between two peers: offer → authentication → Hello → ready → close.

mod control;
mod extensions;
mod flows;
mod pace;
mod receive;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

pub(crate) use control::Control;
pub use extensions::{EXTENSIONS_HEADER, Extensions};
pub(crate) use flows::{FlowKey, Flowing, Flows, Turn};
pub(crate) use pace::Pace;
pub(crate) use receive::{Crossing, ReceiveBudget, ReceiveCredit};

use crate::config::{Limits, RelayConfig};
use crate::dial::DialKey;
use crate::ids::{AssociationKey, ChannelId, ChannelKey};
use crate::io::CloseFrame;
use crate::relay::{Login, Owner};

/// Which end of a link we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkEnd {
    /// We opened it, for this slot.
    Client { slot: usize },
    /// We accepted it from this address.
    Server { peer: SocketAddr },
}

/// Where a link stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkPhase {
    /// The TCP connection or the WebSocket is being made.
    Opening,
    /// The WebSocket is up; the client's Auth or the server's AuthResponse has not come.
    Authenticating,
    /// Authenticated with extensions; the peer's Hello has not come.
    AwaitingHello,
    /// Channels may be opened.
    Ready,
    /// The last messages go out, then the close frame.
    Closing,
    /// The driver has been told to close.
    Closed,
}

/// One WebSocket between two peers.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) end: LinkEnd,
    pub(crate) phase: LinkPhase,
    /// Offered (client, opening) or accepted.
    pub(crate) extensions: Extensions,
    /// The window that the peer grants to each channel.
    pub(crate) peer_window: Option<u32>,
    /// Messages that go before all Data.
    pub(crate) control: Control,
    pub(crate) flows: Flows,
    pub(crate) pace: Pace,
    /// Whether the relay's list of links to serve contains this one.
    pub(crate) scheduled: bool,
    pub(crate) receive_credit: ReceiveCredit,
    pub(crate) budget: ReceiveBudget,
    pub(crate) channels: BTreeMap<ChannelId, ChannelKey>,
    pub(crate) associations: BTreeMap<ChannelId, AssociationKey>,
    /// Bytes of datagrams that wait for all UDP associations, with overhead.
    pub(crate) datagram_bytes: usize,
    pub(crate) keep_alive: KeepAlive,
    /// The server has told of providers: we are a connector, and somebody else dials.
    pub(crate) has_partners: bool,
    /// The close frame to send after the last message.
    pub(crate) close: Option<CloseFrame>,
    pub(crate) minor_reported: bool,
    /// The TCP connection in the making (client, opening).
    pub(crate) dial: Option<DialKey>,
    /// The verdict on a login by URL, until the WebSocket is up (server).
    pub(crate) login: Option<Login>,
    /// Whose channels these are (server, authenticated).
    pub(crate) owner: Option<Owner>,
}

impl Link {
    pub(crate) fn new(end: LinkEnd, extensions: Extensions, config: &RelayConfig, now: Instant) -> Self {
        Self {
            end,
            phase: LinkPhase::Opening,
            extensions,
            peer_window: None,
            control: Control::default(),
            flows: Flows::default(),
            pace: Pace::new(&config.limits),
            scheduled: false,
            receive_credit: ReceiveCredit::default(),
            budget: ReceiveBudget::new(config.limits.link_receive_budget),
            channels: BTreeMap::new(),
            associations: BTreeMap::new(),
            datagram_bytes: 0,
            keep_alive: KeepAlive::new(now),
            has_partners: false,
            close: None,
            minor_reported: false,
            dial: None,
            login: None,
            owner: None,
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.phase == LinkPhase::Ready
    }

    /// Whether nothing is heard of it any more, and its channels are gone.
    pub(crate) fn is_ending(&self) -> bool {
        matches!(self.phase, LinkPhase::Closing | LinkPhase::Closed)
    }

    /// Whether messages may still be sent.
    pub(crate) fn is_sending(&self) -> bool {
        !matches!(self.phase, LinkPhase::Opening | LinkPhase::Closed)
    }

    /// Whether we don't read what the peer sends, so that its silence means nothing.
    pub(crate) fn is_deaf(&self) -> bool {
        self.budget.is_paused() || self.control.is_congested()
    }

    /// The window for reading from the link: small until the peer is known.
    pub(crate) fn receive_window(&self, limits: &Limits) -> usize {
        match self.phase {
            LinkPhase::AwaitingHello | LinkPhase::Ready => limits.link_receive_window,
            LinkPhase::Opening | LinkPhase::Authenticating | LinkPhase::Closing | LinkPhase::Closed => {
                Limits::MAX_UNAUTHENTICATED_MESSAGE
            }
        }
    }

    /// The longest message that a channel of this link should make, headers included.
    pub(crate) fn longest_message(&self) -> usize {
        // One channel alone may use long messages; several share better with shorter ones.
        const SHARED: RangeInclusive<usize> = 16 * 1024..=256 * 1024;
        let cap = self.pace.cap();
        let cap = if self.channels.len() > 1 {
            cap.min((cap / 2).clamp(*SHARED.start(), *SHARED.end()))
        } else {
            cap
        };
        match self.peer_window {
            Some(window) => cap.min(window as usize / 2),
            None => cap,
        }
    }
}

/// When the peer was last heard of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeepAlive {
    pub(crate) last_heard: Instant,
    /// When the ping was sent whose pong is still missing.
    pub(crate) ping_sent: Option<Instant>,
    /// From the last ping that was answered to its pong.
    pub(crate) round_trip: Option<Duration>,
}

impl KeepAlive {
    fn new(now: Instant) -> Self {
        Self { last_heard: now, ping_sent: None, round_trip: None }
    }
}
