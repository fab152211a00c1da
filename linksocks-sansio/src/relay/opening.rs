//! How channels open, on both sides.

use super::early::Found;
use super::{GRACE, Opening, Relay, Socket, SocketOwner, SocksSession, Timer};
use crate::accounts::{Account, Exhausted, Resource};
use crate::channel::{Batcher, Channel, GrantedWindow, Inbound, Leg, Origin, Outbound, Phase, Side};
use crate::dial::DialOwner;
use crate::error::{ChannelError, OpenError, SocketError};
use crate::event::Event;
use crate::ids::{ChannelId, ChannelKey, LinkId, SocketId, TokenId};
use crate::io::{Action, ReadBuf};
use crate::link::Link;
use crate::socks5::{TargetAddr, TargetError};
use crate::wire::{Connect, ConnectRequest, ConnectResponse, Disconnect, Message};

/// The answer to a resume that can't be continued without a hole (as real programs write it).
const EXPIRED: &str = "channel expired";

/// What a Connect asks for, if it is all right.
pub(super) enum Acceptable {
    Stream(TargetAddr),
    Datagrams,
}

/// Whom the channels of clients with a token are charged to.
pub(super) fn tenants(token: TokenId) -> [Account; 2] {
    [Account::Everybody, Account::Token(token)]
}

impl Relay {
    // ---- SOCKS side

    /// Asks the peer of `link` to connect to `target`.
    pub(crate) fn open_channel(&mut self, link: LinkId, origin: Origin, target: TargetAddr) {
        let id = self.choose_id(link, origin);
        let host = target.wire_host().into_owned();
        let length = host.len();
        let request = ConnectRequest::Tcp { address: host, port: target.port };
        let connect = Message::Connect(Connect { channel: id, request, resume: false }).encode();
        let refusal = match (connect, self.may_ask(link)) {
            (Ok(connect), Ok(())) => {
                let key = self.add_channel(link, id, Side::Socks, target, Phase::Connecting(origin));
                self.send_control(link, connect);
                self.set_timer(Timer::Response(key), self.config.timeouts.response);
                self.bind_session(origin, Opening::Stream(key));
                if let (true, Origin::Socks(socket)) = (self.config.fast_open, origin) {
                    self.open_fast(key, socket);
                }
                return;
            }
            (Ok(_), Err(error)) => error,
            (Err(_), _) => OpenError::Connect(ChannelError::InvalidTarget(TargetError::HostTooLong(length))),
        };
        self.refuse(origin, refusal);
    }

    /// Whether the peer of a link may be asked for one more channel: not while it does not even take what
    /// it was asked before, since whoever asks may have given up meanwhile, any number of times.
    pub(super) fn may_ask(&mut self, link: LinkId) -> Result<(), OpenError> {
        self.check_room(link)?;
        let congested = self.links.get(link).is_none_or(|link| link.control.is_full());
        if congested { Err(OpenError::Congested) } else { Ok(()) }
    }

    /// Whether a link may have one more channel. Those that are over for the peer and still have bytes
    /// that wait count as well.
    pub(super) fn check_room(&mut self, id: LinkId) -> Result<(), Exhausted> {
        let Some(link) = self.links.get(id) else { return Ok(()) };
        let streams = link.channels.len().max(link.budget.members().len());
        let limit = self.config.limits.channels_per_link;
        if streams + link.associations.len() >= limit {
            let exhausted = Exhausted { resource: Resource::Channels, account: Account::Link(id), limit };
            self.accounts.refuse(exhausted);
            return Err(exhausted);
        }
        self.accounts.check(Resource::Channels, &tenants(link.token()), 1)
    }

    pub(super) fn add_channel(
        &mut self,
        link_id: LinkId,
        id: ChannelId,
        side: Side,
        target: TargetAddr,
        phase: Phase,
    ) -> ChannelKey {
        let link = self.links.get(link_id);
        let token = link.map(Link::token).unwrap_or_default();
        self.accounts.charge(Resource::Channels, &tenants(token), 1);
        let batcher = Batcher::new(self.config.batching.delay, self.now);
        let channel = Channel {
            link: link_id,
            id,
            token,
            side,
            target,
            phase,
            partner: None,
            rerouted: false,
            unconfirmed: false,
            extensions: link.map(|link| link.extensions).unwrap_or_default(),
            inbound: Inbound::default(),
            read_ahead: 0,
            outbound: Outbound::new(id, link.and_then(|link| link.peer_window), batcher),
            granted: GrantedWindow::new(self.config.extensions.window),
            on_wire: true,
            local_eof: false,
            end_sent: false,
            write_shut: false,
            charged: 0,
            waiting_since: self.now,
            last_data: self.now,
            last_used: self.now,
            sent: 0,
            received: 0,
            error: None,
        };
        let key = self.channels.insert(channel);
        if let Some(link) = self.links.get_mut(link_id) {
            link.channels.insert(id, key);
            if let Some(owned) = link.owner.and_then(|owner| self.owners.get_mut(&owner)) {
                owned.channels.insert(id, key);
            }
        }
        self.totals.channels_opened += 1;
        self.begin_sweeping();
        key
    }

    /// The target is connected, as the peer says or its Data implies.
    pub(super) fn confirm_channel(&mut self, key: ChannelKey) {
        let Some(channel) = self.channels.get(key) else { return };
        let origin = match channel.phase {
            Phase::Connecting(origin) => origin,
            Phase::Open(_) | Phase::SendingRest if channel.unconfirmed => return self.confirm_fast(key),
            Phase::Open(_) | Phase::Routing | Phase::Joined | Phase::SendingRest | Phase::Dialing(_) => {
                return;
            }
        };
        self.timers.cancel(Timer::Response(key));
        match origin {
            Origin::Socks(socket) => {
                let Some(session) = self.take_session(socket, SocketOwner::Channel(key)) else {
                    self.abandon_channel(key, SocketError::Reset);
                    return;
                };
                self.set_open(key, socket);
                self.begin_session(key, socket, &session);
            }
            Origin::Http(application) => {
                let mut socket = Socket::new(SocketOwner::Channel(key), self.config.limits.read_min);
                socket.application = Some(application);
                let read = self.first_read(key, &mut socket);
                let socket = self.sockets.insert(socket);
                self.connect_pipe(application, socket, read);
                self.set_open(key, socket);
            }
            Origin::Leg(Leg::Stream(first)) => self.confirm_leg(first, key),
            Origin::Leg(Leg::Datagrams(_)) => {}
            Origin::Embed(ticket) => {
                let mut socket = Socket::new(SocketOwner::Channel(key), self.config.limits.read_min);
                let read = self.first_read(key, &mut socket);
                let socket = self.sockets.insert(socket);
                self.act(Action::AdoptSocket { ticket, socket, read });
                self.set_open(key, socket);
            }
        }
    }

    /// Tells an application that its target is connected, and takes what it has sent already.
    pub(super) fn begin_session(&mut self, key: ChannelKey, socket: SocketId, session: &SocksSession) {
        self.write(socket, session.protocol.success());
        let largest = self.largest_payload(key).max(1);
        for bytes in session.early.bytes.chunks(largest) {
            self.on_local_data(key, ReadBuf::copy_from(bytes));
        }
        if session.early.eof {
            self.on_local_eof(key);
        }
        self.grant_read(key);
    }

    fn set_open(&mut self, key: ChannelKey, socket: SocketId) {
        if let Some(channel) = self.channels.get_mut(key) {
            channel.phase = Phase::Open(socket);
            self.announce_channel(key);
        }
    }

    pub(super) fn announce_channel(&mut self, key: ChannelKey) {
        if let Some(channel) = self.channels.get(key) {
            let event = Event::ChannelOpened { channel: channel.as_ref(), target: channel.target.clone() };
            self.tell(event);
        }
    }

    pub(crate) fn on_connect_response(&mut self, link: LinkId, response: ConnectResponse) {
        let Some(key) = self.find_channel(link, response.channel) else { return };
        let Some(channel) = self.channels.get(key) else { return };
        if channel.side == Side::Dial {
            return;
        }
        match (channel.phase, response.result) {
            (_, Ok(())) => self.confirm_channel(key),
            (_, Err(text)) if self.is_farewell(link, &text) && self.ask_another(key) => {}
            (_, Err(text)) => self.abort_channel(key, ChannelError::Refused(text)),
        }
    }

    pub(super) fn on_response_timeout(&mut self, key: ChannelKey) {
        if self.channels.get(key).is_some_and(|channel| self.is_deaf(channel.link)) {
            // The answer may lie in the part of the link that is not read.
            self.set_timer(Timer::Response(key), GRACE);
            return;
        }
        self.reset_channel(key, ChannelError::ResponseTimeout(self.config.timeouts.response));
    }

    /// The application that wanted a channel has gone.
    pub(super) fn abandon_channel(&mut self, key: ChannelKey, error: SocketError) {
        self.disconnect(key, &ChannelError::Socket(error));
        self.remove_channel(key, Some(ChannelError::Socket(error)));
    }

    // ---- dial side

    /// Connects to a target for the peer of `link`.
    pub(crate) fn accept_connect(&mut self, link: LinkId, connect: Connect) {
        if connect.resume {
            self.expire_channel(link, connect.channel);
            return;
        }
        let early = self.take_early_data(link, connect.channel);
        let early = early.map(Found::whole).transpose();
        match (self.check_connect(link, &connect), early) {
            (Ok(Acceptable::Stream(target)), Ok(early)) => {
                self.dial_channel(link, connect.channel, target);
                self.replay_early_data(link, early.unwrap_or_default());
            }
            // Never silently past the proxy.
            (Ok(Acceptable::Datagrams), _) if self.config.has_upstream() => {
                let error = ChannelError::Unsupported("UDP through an upstream proxy");
                self.refuse_connect(link, connect.channel, &error);
            }
            // A stream must not start with a hole, but of datagrams any may be missing.
            (Ok(Acceptable::Datagrams), early) => {
                self.accept_association(link, connect.channel);
                self.replay_early_data(link, early.ok().flatten().unwrap_or_default());
            }
            (Err(error), _) | (_, Err(error)) => self.refuse_connect(link, connect.channel, &error),
        }
    }

    /// The peer wants to go on with a channel of a lost link. That could leave a hole in its stream, and
    /// dialling again a break.
    pub(super) fn expire_channel(&mut self, link: LinkId, id: ChannelId) {
        let expired = Disconnect { channel: id, error: Some(EXPIRED.to_owned()) };
        self.send_answer(link, expired.encode());
        if let Some(key) = self.find_association(link, id) {
            self.abort_association(key, ChannelError::Remote(EXPIRED.to_owned()));
        }
        if let Some(key) = self.find_sibling(link, id) {
            self.abort_channel(key, ChannelError::Remote(EXPIRED.to_owned()));
        }
    }

    pub(super) fn check_connect(
        &mut self,
        link: LinkId,
        connect: &Connect,
    ) -> Result<Acceptable, ChannelError> {
        if self.find_sibling(link, connect.channel).is_some()
            || self.find_association(link, connect.channel).is_some()
        {
            return Err(ChannelError::Duplicate);
        }
        self.check_room(link)?;
        match &connect.request {
            ConnectRequest::Tcp { address, port } => {
                let target = TargetAddr::from_wire(address, *port)?;
                let payers = self.payers_of(link);
                self.accounts.check(Resource::Dials, &payers, 1)?;
                Ok(Acceptable::Stream(target))
            }
            ConnectRequest::Udp => Ok(Acceptable::Datagrams),
            ConnectRequest::Unknown(_) => Err(ChannelError::Unsupported("the protocol")),
        }
    }

    fn dial_channel(&mut self, link: LinkId, id: ChannelId, target: TargetAddr) {
        // The channel exists before its dial, which refers to it.
        let key = self.add_channel(link, id, Side::Dial, target.clone(), Phase::SendingRest);
        let client = self.links.get(link).and_then(|link| link.owner);
        let payers = self.payers_of(link);
        self.accounts.charge(Resource::Dials, &payers, 1);
        let upstream = self.config.upstream.clone();
        let dial = self.start_dial(DialOwner::Channel(key), client, payers, target, upstream);
        if let Some(channel) = self.channels.get_mut(key) {
            channel.phase = Phase::Dialing(dial);
        }
    }

    pub(crate) fn refuse_connect(&mut self, link: LinkId, channel: ChannelId, error: &ChannelError) {
        let response = ConnectResponse { channel, result: Err(error.for_peer()) };
        self.send_answer(link, response.encode());
    }

    pub(super) fn on_target_connected(&mut self, key: ChannelKey, socket: SocketId) {
        let Some(channel) = self.channels.get(key) else { return };
        let (link, response) = (channel.link, ConnectResponse { channel: channel.id, result: Ok(()) });
        if channel.on_wire {
            self.send_answer(link, response.encode());
        }
        if let Some(socket) = self.sockets.get_mut(socket) {
            socket.owner = SocketOwner::Channel(key);
        }
        self.set_open(key, socket);
        self.deliver(key);
    }
}
