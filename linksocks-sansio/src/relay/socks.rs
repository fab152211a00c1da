//! The SOCKS port: accepting applications, their handshake, and the answer.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;

use super::{Ends, Listener, Opening, Relay, Socket, SocketOwner, SocksSession, Timer, Want};
use crate::access::AccessRules;
use crate::channel::{EarlyInput, Origin};
use crate::error::{OpenError, SocketError};
use crate::event::Event;
use crate::http::Refusal;
use crate::ids::{ListenerId, SocketId, Ticket};
use crate::io::{Action, Output, ReadBuf};
use crate::secret::Credentials;
use crate::socks5::{Handshake, HandshakeError, Reply, Request, Status};

/// What may be read from an application before its channel is open: more than the longest
/// handshake (greeting, login and request: 257 + 513 + 262 bytes), and enough to notice that it has
/// gone away.
pub(super) const HANDSHAKE_READ: usize = 2048;

/// What an application speaks to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Socks5,
    /// HTTP, and the request is CONNECT.
    Http,
}

impl Protocol {
    /// What it is told when its target is connected. The bound address is always the unspecified
    /// one, as real programs have it.
    pub(super) fn success(self) -> Bytes {
        match self {
            Self::Socks5 => Reply::Succeeded.encode(Reply::NO_ADDRESS),
            Self::Http => Bytes::from_static(b"HTTP/1.1 200 Connection Established\r\n\r\n"),
        }
    }
}

impl SocksSession {
    /// An application that has asked for a tunnel by HTTP.
    pub(super) fn tunnel(early: EarlyInput, ends: Ends) -> Self {
        Self { protocol: Protocol::Http, handshake: None, early, channel: None, ends, wants_datagrams: false }
    }

    /// Whether the request is complete and the answer has not come.
    pub(super) fn is_waiting(&self) -> bool {
        self.handshake.is_none()
    }
}

impl Relay {
    /// Opens a SOCKS port.
    pub(crate) fn listen(
        &mut self,
        address: SocketAddr,
        credentials: Option<Credentials>,
        rules: AccessRules,
    ) -> ListenerId {
        let (credentials, rules) = (credentials.map(Arc::new), Arc::new(rules));
        let door = self.next_door();
        let listener = Listener { credentials, door, rules, accepts_left: 0, open: 0 };
        let listener = self.listeners.insert(listener);
        self.act(Action::Listen { listener, address });
        listener
    }

    /// A SOCKS port has another owner. Applications that the old one has let in have to ask again.
    pub(crate) fn hand_over_listener(
        &mut self,
        id: ListenerId,
        credentials: Option<Credentials>,
        rules: AccessRules,
    ) {
        let door = self.next_door();
        if let Some(listener) = self.listeners.get_mut(id) {
            (listener.credentials, listener.rules) = (credentials.map(Arc::new), Arc::new(rules));
            listener.door = door;
        }
        for socket in self.sockets.ids() {
            if self.sockets.get(socket).is_some_and(|socket| socket.listener == Some(id)) {
                self.turn_away(socket);
            }
        }
    }

    /// Resets the connection of an application that has no channel yet, or several, one after the other.
    fn turn_away(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        if !matches!(socket.owner, SocketOwner::Socks(_) | SocketOwner::Http(_)) {
            return;
        }
        let owner = std::mem::replace(&mut socket.owner, SocketOwner::Closing);
        self.timers.cancel(Timer::Handshake(id));
        self.act(Action::Reset { socket: id });
        if let SocketOwner::Socks(session) = owner {
            self.on_socks_failed(&session, SocketError::Reset);
        } else if let SocketOwner::Http(session) = owner {
            self.on_http_failed(&session, SocketError::Reset);
        }
    }

    pub(crate) fn unlisten(&mut self, listener: ListenerId) {
        if self.listeners.remove(listener).is_some() {
            self.act(Action::Unlisten { listener });
        }
    }

    /// A listener has failed.
    pub(crate) fn forget_listener(&mut self, listener: ListenerId) {
        self.listeners.remove(listener);
    }

    /// Lets the driver accept more, topped up at half.
    pub(crate) fn grant_accepts(&mut self, id: ListenerId) {
        let limits = &self.config.limits;
        let Some(listener) = self.listeners.get_mut(id) else { return };
        let room = limits.socks_connections.saturating_sub(listener.open);
        let ahead = limits.accept_ahead.min(room);
        if listener.accepts_left < ahead && listener.accepts_left <= limits.accept_ahead / 2 {
            let count = ahead - listener.accepts_left;
            listener.accepts_left = ahead;
            self.push(Output::Accept { listener: id, count });
        }
    }

    pub(crate) fn on_socket_accepted(
        &mut self,
        ticket: Ticket,
        id: ListenerId,
        local: SocketAddr,
        peer: SocketAddr,
    ) {
        let Some(listener) = self.listeners.get_mut(id) else {
            self.refuse_ticket(ticket, OpenError::Shutdown);
            return;
        };
        listener.accepts_left = listener.accepts_left.saturating_sub(1);
        listener.open += 1;
        let session = SocksSession {
            protocol: Protocol::Socks5,
            handshake: Some(Handshake::new(listener.credentials.clone())),
            early: EarlyInput::default(),
            channel: None,
            ends: Ends { local, peer },
            wants_datagrams: false,
        };
        let mut socket = Socket::new(SocketOwner::Socks(Box::new(session)), self.config.limits.read_min);
        socket.listener = Some(id);
        let read = socket.pacer.grant_exactly(HANDSHAKE_READ);
        let socket = self.sockets.insert(socket);
        self.act(Action::AdoptSocket { ticket, socket, read });
        self.set_timer(Timer::Handshake(socket), self.config.timeouts.socks_handshake);
        self.grant_accepts(id);
    }

    pub(super) fn on_connection_closed(&mut self, id: ListenerId) {
        if let Some(listener) = self.listeners.get_mut(id) {
            listener.open -= 1;
            self.grant_accepts(id);
        }
    }

    pub(super) fn on_socks_read(&mut self, id: SocketId, buf: ReadBuf) {
        if self.begin_http(id, &buf) {
            return;
        }
        let login = self.socks_login(id);
        let locked = login.is_some_and(|address| self.is_locked_out(id, address));
        let Some(socket) = self.sockets.get_mut(id) else { return };
        let SocketOwner::Socks(session) = &mut socket.owner else { return };
        let Some(handshake) = &mut session.handshake else {
            session.early.bytes.extend_from_slice(buf.payload());
            return;
        };
        handshake.set_locked(locked);
        let progress = handshake.handle_bytes(buf.payload());
        socket.pacer.on_released(progress.consumed);
        if let Status::Request(request) = &progress.status {
            session.handshake = None;
            session.wants_datagrams = matches!(request, Request::UdpAssociate(_));
            session.early.bytes.extend_from_slice(&buf.payload()[progress.consumed..]);
        }
        self.write(id, progress.reply);
        if let Some(address) = login {
            match &progress.status {
                Status::Request(_) => self.on_login(id, address, true),
                Status::Failed(HandshakeError::WrongCredentials) => self.on_login(id, address, false),
                Status::Failed(_) | Status::NeedMore => {}
            }
        }
        match progress.status {
            Status::NeedMore => {}
            Status::Request(request) => {
                self.timers.cancel(Timer::Handshake(id));
                let want = match request {
                    Request::Connect(target) => Want::Stream(target),
                    Request::UdpAssociate(sender) => Want::Datagrams(sender),
                };
                self.want(Origin::Socks(id), want);
            }
            Status::Failed(error) => self.fail_socks(id, error.to_string()),
        }
    }

    /// Where an application is that has to log in before it may ask for anything.
    fn socks_login(&self, id: SocketId) -> Option<IpAddr> {
        let SocketOwner::Socks(session) = &self.sockets.get(id)?.owner else { return None };
        session.handshake.as_ref()?.wants_login().then(|| session.ends.peer.ip())
    }

    /// Sends the answer to a request. The bound address is always the unspecified one, as real
    /// programs have it.
    pub(super) fn reply(&mut self, id: SocketId, reply: Reply) {
        self.write(id, reply.encode(Reply::NO_ADDRESS));
    }

    pub(super) fn fail_socks(&mut self, id: SocketId, reason: String) {
        self.close_socket(id);
        self.tell(Event::SocksFailed { socket: id, reason });
    }

    pub(super) fn refuse_socks(&mut self, id: SocketId, error: &OpenError) {
        let reply = match error {
            OpenError::NoLink | OpenError::Shutdown | OpenError::Stopped(_) => Reply::NetworkUnreachable,
            OpenError::Connect(_) => Reply::HostUnreachable,
            OpenError::Blocked(_) => Reply::NotAllowed,
            OpenError::Limit(_) | OpenError::Congested | OpenError::Unsupported | OpenError::Bind(_) => {
                Reply::GeneralFailure
            }
        };
        let Some(Socket { owner: SocketOwner::Socks(session), .. }) = self.sockets.get(id) else { return };
        match session.protocol {
            Protocol::Socks5 => self.reply(id, reply),
            Protocol::Http => self.write(id, Refusal::from(error).encode(false)),
        }
        self.fail_socks(id, error.to_string());
    }

    pub(super) fn on_socks_failed(&mut self, session: &SocksSession, error: SocketError) {
        match session.channel {
            Some(Opening::Stream(channel)) => self.abandon_channel(channel, error),
            Some(Opening::Datagrams(association)) => self.end_association(association, None),
            None => {}
        }
    }

    /// Closes the sockets of all applications that have no channel.
    pub(super) fn drop_sessions(&mut self) {
        for id in self.sockets.ids() {
            if self
                .sockets
                .get(id)
                .is_some_and(|socket| matches!(socket.owner, SocketOwner::Socks(_) | SocketOwner::Http(_)))
            {
                self.close_socket(id);
            }
        }
    }

    pub(super) fn on_handshake_timeout(&mut self, id: SocketId) {
        let serves = self.sockets.get(id).is_some_and(|socket| socket.application.is_some());
        if serves {
            self.on_socket_failed(id, SocketError::TimedOut);
        } else if self.is_idle_http(id) {
            self.close_socket(id);
        } else {
            self.fail_socks(id, "the SOCKS request did not come in time".to_owned());
        }
    }

    /// Notes which channel is being opened for an application.
    pub(super) fn bind_session(&mut self, origin: Origin, opening: Opening) {
        let id = match origin {
            Origin::Socks(id) | Origin::Http(id) => id,
            Origin::Leg(leg) => return self.bind_leg(leg, opening),
            Origin::Embed(_) => return,
        };
        match (self.sockets.get_mut(id).map(|socket| &mut socket.owner), opening) {
            (Some(SocketOwner::Socks(session)), opening) => session.channel = Some(opening),
            (Some(SocketOwner::Http(session)), Opening::Stream(channel)) => session.channel = Some(channel),
            _ => {}
        }
    }

    /// Turns an application's socket into the end of a channel. `None` if it has gone.
    pub(super) fn take_session(&mut self, id: SocketId, owner: SocketOwner) -> Option<SocksSession> {
        let socket = self.sockets.get_mut(id)?;
        if !matches!(socket.owner, SocketOwner::Socks(_)) {
            return None;
        }
        match std::mem::replace(&mut socket.owner, owner) {
            SocketOwner::Socks(session) => Some(*session),
            SocketOwner::Http(_)
            | SocketOwner::Channel(_)
            | SocketOwner::Control(_)
            | SocketOwner::Datagrams(_)
            | SocketOwner::Dial(_)
            | SocketOwner::Closing => None,
        }
    }

    /// Whether whoever wanted a channel still does.
    pub(crate) fn still_wants(&self, origin: Origin) -> bool {
        match origin {
            Origin::Embed(_) => true,
            Origin::Leg(leg) => self.is_routing(leg),
            Origin::Socks(id) => {
                self.sockets.get(id).is_some_and(|socket| matches!(socket.owner, SocketOwner::Socks(_)))
            }
            Origin::Http(id) => {
                self.sockets.get(id).is_some_and(|socket| matches!(socket.owner, SocketOwner::Http(_)))
            }
        }
    }
}
