//! One WebSocket between two peers: offer → authentication → Hello → ready → close. And what waits
//! for the next one when it is lost.

mod control;
mod extensions;
mod flows;
mod log;
mod pace;
mod receive;
mod session;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use bytes::Bytes;

pub(crate) use control::Control;
pub use extensions::{EXTENSIONS_HEADER, Extensions};
pub(crate) use flows::{FlowKey, Flowing, Flows, Turn};
pub(crate) use pace::Pace;
pub(crate) use receive::{Crossing, ReceiveBudget, ReceiveCredit};
pub(crate) use session::{AckDue, Session, SessionId, SessionTicket};

use crate::accounts::{Loans, Payers};
use crate::config::{Limits, RelayConfig};
use crate::dial::DialKey;
use crate::ids::{AssociationKey, ChannelId, ChannelKey, TokenId};
use crate::io::CloseFrame;
use crate::relay::{Login, Owner};
use crate::wire::Ack;

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
    /// A client has asked to go on with the session of a lost link; the answer has not come.
    Resuming,
    /// Channels may be opened.
    Ready,
    /// There is no WebSocket: what a lost link has left waits for another one to take it over. The
    /// driver knows nothing of this link.
    Suspended,
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
    /// Messages of the time before channels, which go before everything else.
    pub(crate) prelude: VecDeque<Bytes>,
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
    /// By how much the windows granted to its channels have grown altogether.
    pub(crate) extra_windows: usize,
    /// How much the sockets of its channels may be read ahead altogether, beyond what each may.
    pub(crate) read_ahead: usize,
    /// Bytes of datagrams that wait for all UDP associations, with overhead.
    pub(crate) datagram_bytes: usize,
    pub(crate) keep_alive: KeepAlive,
    /// The server has told of providers: we are a connector, and somebody else dials.
    pub(crate) has_partners: bool,
    /// The peer connects to nothing more, because it is shutting down (server).
    pub(crate) is_leaving: bool,
    /// The close frame to send after the last message.
    pub(crate) close: Option<CloseFrame>,
    pub(crate) minor_reported: bool,
    /// The TCP connection in the making (client, opening).
    pub(crate) dial: Option<DialKey>,
    /// The verdict on a login by URL, until the WebSocket is up (server).
    pub(crate) login: Option<Login>,
    /// Whose channels these are (server, authenticated).
    pub(crate) owner: Option<Owner>,
    /// Whom it is charged to, and what is done for its peer.
    pub(crate) payers: Payers,
    /// Memory that its queues have taken.
    pub(crate) loans: Loans,
    /// It is charged as one that has not authenticated.
    pub(crate) is_stranger: bool,
    /// With the session extension, once there have been Hellos.
    pub(crate) session: Option<Session>,
}

impl Link {
    pub(crate) fn new(
        end: LinkEnd,
        extensions: Extensions,
        payers: Payers,
        config: &RelayConfig,
        now: Instant,
    ) -> Self {
        Self {
            end,
            phase: LinkPhase::Opening,
            extensions,
            peer_window: None,
            prelude: VecDeque::new(),
            control: Control::default(),
            flows: Flows::default(),
            pace: Pace::new(&config.limits),
            scheduled: false,
            receive_credit: ReceiveCredit::default(),
            budget: ReceiveBudget::new(config.limits.link_receive_budget),
            channels: BTreeMap::new(),
            associations: BTreeMap::new(),
            extra_windows: 0,
            read_ahead: 0,
            datagram_bytes: 0,
            keep_alive: KeepAlive::new(now),
            has_partners: false,
            is_leaving: false,
            close: None,
            minor_reported: false,
            dial: None,
            login: None,
            owner: None,
            loans: Loans::new(payers.clone()),
            payers,
            is_stranger: false,
            session: None,
        }
    }

    /// Of the client at the other end, once it is known.
    pub(crate) fn token(&self) -> TokenId {
        self.owner.map(|(token, _)| token).unwrap_or_default()
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.phase == LinkPhase::Ready
    }

    /// Whether nothing is heard of it any more, and its channels are gone.
    pub(crate) fn is_ending(&self) -> bool {
        matches!(self.phase, LinkPhase::Closing | LinkPhase::Closed)
    }

    /// Whether its channels wait for another link.
    pub(crate) fn is_suspended(&self) -> bool {
        self.phase == LinkPhase::Suspended
    }

    /// Whether messages may still be queued.
    pub(crate) fn takes_messages(&self) -> bool {
        !matches!(self.phase, LinkPhase::Opening | LinkPhase::Closed)
    }

    /// Whether messages may still be sent.
    pub(crate) fn is_sending(&self) -> bool {
        self.takes_messages() && !self.is_suspended()
    }

    /// Whether there may be something to send.
    pub(crate) fn has_backlog(&self) -> bool {
        !self.control.is_empty() || !self.flows.is_empty() || self.replays() > 0
    }

    /// How many messages of the session have to be sent again.
    pub(crate) fn replays(&self) -> usize {
        self.session.as_ref().map_or(0, |session| session.log.replays())
    }

    /// Whether nothing more may be sent before the peer has acknowledged some of it.
    pub(crate) fn is_log_full(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.log.is_full())
    }

    /// Takes the next message that does not count in a session, or did already.
    pub(crate) fn next_uncounted(&mut self) -> Option<Bytes> {
        if let Some(message) = self.prelude.pop_front() {
            return Some(message);
        }
        let session = self.session.as_mut().filter(|_| self.phase == LinkPhase::Ready)?;
        match session.take_ack() {
            Some(received) => Some(Ack { received }.encode()),
            None => session.log.next_replay(),
        }
    }

    /// Whether we don't read what the peer sends, so that its silence means nothing.
    pub(crate) fn is_deaf(&self) -> bool {
        // While the log is full, reading on is what empties it.
        let congested = self.control.is_congested() && !self.is_log_full();
        self.is_suspended() || self.budget.is_paused() || congested
    }

    /// Hands over what does not depend on the WebSocket. Channels have to be told.
    pub(crate) fn bequeath(&mut self, heir: &mut Self) {
        debug_assert!(heir.channels.is_empty() && heir.control.is_empty(), "the heir is new");
        heir.control = std::mem::take(&mut self.control);
        heir.flows = std::mem::take(&mut self.flows);
        heir.channels = std::mem::take(&mut self.channels);
        heir.associations = std::mem::take(&mut self.associations);
        std::mem::swap(&mut heir.budget, &mut self.budget);
        std::mem::swap(&mut heir.loans, &mut self.loans);
        heir.extra_windows = std::mem::take(&mut self.extra_windows);
        heir.read_ahead = std::mem::take(&mut self.read_ahead);
        heir.session = self.session.take();
    }

    /// The window for reading from the link: small until the peer is known.
    pub(crate) fn receive_window(&self, limits: &Limits) -> usize {
        match self.phase {
            LinkPhase::AwaitingHello | LinkPhase::Resuming | LinkPhase::Ready => limits.link_receive_window,
            LinkPhase::Opening
            | LinkPhase::Authenticating
            | LinkPhase::Suspended
            | LinkPhase::Closing
            | LinkPhase::Closed => Limits::MAX_UNAUTHENTICATED_MESSAGE,
        }
    }

    /// The longest message that a channel of this link should make, headers included.
    pub(crate) fn longest_message(&self) -> usize {
        // One channel alone may use long messages; several share better with shorter ones.
        const SHARED: RangeInclusive<usize> = 16 * 1024..=256 * 1024;
        let cap = self.pace.cap();
        if self.channels.len() > 1 { cap.min((cap / 2).clamp(*SHARED.start(), *SHARED.end())) } else { cap }
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
