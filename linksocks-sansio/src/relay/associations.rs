//! The life of UDP associations: how they open, and how they end.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use super::opening::tenants;
use super::{GRACE, Opening, Relay, Socket, SocketOwner, Timer};
use crate::access::AccessRules;
use crate::accounts::Resource;
use crate::channel::{
    Application, Association, AssociationPhase, Batcher, Local, Names, Origin, Outbound, OutboundEnd, Port,
    Sender, Side,
};
use crate::error::{ChannelError, OpenError, SocketError};
use crate::event::Event;
use crate::ids::{AssociationKey, ChannelId, LinkId, SocketId};
use crate::io::{Action, Output, ReadCredit};
use crate::link::Link;
use crate::socks5::Reply;
use crate::wire::{Connect, ConnectRequest, ConnectResponse, Disconnect, Message};

impl Relay {
    // ---- SOCKS side

    /// Asks the peer of `link` for a UDP association, and binds a socket for the application meanwhile.
    pub(crate) fn open_association(&mut self, link: LinkId, origin: Origin, announced: SocketAddr) {
        if let Err(error) = self.may_ask(link) {
            return self.refuse(origin, error);
        }
        let (sender, local) = match origin {
            Origin::Leg(leg) => return self.open_second_leg(link, leg),
            Origin::Embed(_) => (Sender::Embedder, None),
            Origin::Socks(socket) | Origin::Http(socket) => {
                let Some(Socket { owner: SocketOwner::Socks(session), .. }) = self.sockets.get(socket) else {
                    return;
                };
                (Sender::announced(session.ends.peer.ip(), announced), Some(session.ends.local))
            }
        };
        let id = self.rng.channel_id();
        let application = Application { origin, sender, port: None, local: None, confirmed: false };
        let rules = self.association_rules(link, Some(origin));
        let key = self.add_association(link, id, Local::Application(application), rules);
        self.bind_session(origin, Opening::Datagrams(key));
        if let Some(local) = local {
            // Where the application has reached us by TCP, it reaches us by UDP.
            let port = self.bind_port(key, with_any_port(local));
            self.set_application_port(key, port);
        }
        self.request_association(link, key, id);
    }

    /// Asks the peer for an association.
    pub(super) fn request_association(&mut self, link: LinkId, key: AssociationKey, id: ChannelId) {
        let connect = Connect { channel: id, request: ConnectRequest::Udp, resume: false };
        if let Ok(connect) = Message::Connect(connect).encode() {
            self.send_control(link, connect);
        }
        self.set_timer(Timer::AssociationResponse(key), self.config.timeouts.response);
    }

    pub(super) fn add_association(
        &mut self,
        link_id: LinkId,
        id: ChannelId,
        local: Local,
        rules: Arc<AccessRules>,
    ) -> AssociationKey {
        let phase = match local {
            Local::Application(_) | Local::Joined { .. } => AssociationPhase::Opening,
            Local::Targets { .. } => AssociationPhase::Open,
        };
        let batcher = Batcher::new(self.config.batching.delay, self.now);
        let token = self.links.get(link_id).map(Link::token).unwrap_or_default();
        self.accounts.charge(Resource::Channels, &tenants(token), 1);
        let key = self.associations.insert(Association {
            link: link_id,
            id,
            token,
            phase,
            local,
            rules,
            names: Names::default(),
            outbound: Outbound::new(id, None, batcher),
            on_wire: true,
            last_datagram: self.now,
            charged: 0,
            sent: 0,
            received: 0,
            dropped: 0,
            error: None,
        });
        if let Some(link) = self.links.get_mut(link_id) {
            link.associations.insert(id, key);
            if let Some(owned) = link.owner.and_then(|owner| self.owners.get_mut(&owner)) {
                owned.associations.insert(id, key);
            }
        }
        self.totals.channels_opened += 1;
        self.begin_sweeping();
        key
    }

    pub(super) fn bind_port(&mut self, key: AssociationKey, address: SocketAddr) -> Port {
        let socket = Socket::new(SocketOwner::Datagrams(key), self.config.limits.read_min);
        let socket = self.sockets.insert(socket);
        self.act(Action::Bind { socket, address });
        Port::new(socket)
    }

    fn set_application_port(&mut self, key: AssociationKey, port: Port) {
        if let Some(Association { local: Local::Application(application), .. }) =
            self.associations.get_mut(key)
        {
            application.port = Some(port);
        }
    }

    pub(crate) fn on_socket_bound(&mut self, id: SocketId, address: SocketAddr) {
        let Some(Socket { owner: SocketOwner::Datagrams(key), .. }) = self.sockets.get(id) else { return };
        let key = *key;
        let Some(association) = self.associations.get_mut(key) else { return };
        if let Some(port) = association.port_mut(id) {
            port.bound = true;
        }
        match &mut association.local {
            Local::Application(application) => {
                application.local = Some(address);
                self.answer_application(key);
            }
            Local::Targets { .. } => {
                self.grant_datagrams(key, id);
                self.flush_port(key, id);
            }
            Local::Joined { .. } => {}
        }
    }

    /// The other side has judged our request.
    pub(crate) fn on_association_response(&mut self, key: AssociationKey, result: Result<(), String>) {
        match (self.associations.get(key).map(|association| &association.local), result) {
            (Some(Local::Application(_)), Ok(())) => self.confirm_association(key),
            (Some(Local::Joined { side: Side::Socks, .. }), Ok(())) => self.confirm_association(key),
            (Some(Local::Application(_) | Local::Joined { side: Side::Socks, .. }), Err(text)) => {
                let link = self.associations.get(key).map(|association| association.link);
                let is_farewell = link.is_some_and(|link| self.is_farewell(link, &text));
                if !(is_farewell && self.ask_another_for_datagrams(key)) {
                    self.abort_association(key, ChannelError::Refused(text));
                }
            }
            (Some(Local::Targets { .. } | Local::Joined { side: Side::Dial, .. }) | None, _) => {}
        }
    }

    /// The other side has agreed, as it says or its datagrams imply.
    pub(super) fn confirm_association(&mut self, key: AssociationKey) {
        let (application, phase) = match self.associations.get_mut(key) {
            Some(Association { local: Local::Application(application), phase, .. }) => (application, phase),
            Some(Association { local: Local::Joined { side: Side::Socks, .. }, .. }) => {
                return self.confirm_second_leg(key);
            }
            _ => return,
        };
        if *phase == AssociationPhase::Ending || application.confirmed {
            return;
        }
        application.confirmed = true;
        if *phase == AssociationPhase::Open {
            // The application has its answer already.
            self.establish_association(key);
            return;
        }
        if let Origin::Embed(ticket) = application.origin {
            let socket = Socket::new(SocketOwner::Datagrams(key), self.config.limits.read_min);
            let socket = self.sockets.insert(socket);
            let mut port = Port::new(socket);
            port.bound = true;
            application.port = Some(port);
            self.act(Action::AdoptDatagrams { ticket, socket });
        }
        self.answer_application(key);
    }

    /// Tells the application that it may send, once the socket is bound and, unless it is told in
    /// advance, the other side has agreed.
    fn answer_application(&mut self, key: AssociationKey) {
        let fast = self.config.fast_open;
        let Some(Association { local: Local::Application(application), phase, .. }) =
            self.associations.get_mut(key)
        else {
            return;
        };
        let confirmed = application.confirmed;
        let Some(port) = application.port.as_ref().filter(|port| port.bound && (confirmed || fast)) else {
            return;
        };
        let (socket, origin, local) = (port.socket, application.origin, application.local);
        if *phase != AssociationPhase::Opening {
            return;
        }
        *phase = AssociationPhase::Open;
        if let (Origin::Socks(control), Some(local)) = (origin, local) {
            let session = self.take_session(control, SocketOwner::Control(key));
            self.write(control, Reply::Succeeded.encode(local));
            self.on_control_read(control, session.map_or(0, |session| session.early.bytes.len()));
        }
        if confirmed {
            self.establish_association(key);
        }
        self.grant_datagrams(key, socket);
        self.flush_port(key, socket);
    }

    /// Both sides know of an association: from now on it must be used.
    pub(super) fn establish_association(&mut self, key: AssociationKey) {
        self.timers.cancel(Timer::AssociationResponse(key));
        let Some(association) = self.associations.get_mut(key) else { return };
        association.last_datagram = self.now;
        let local = match &association.local {
            Local::Application(application) => application.local,
            Local::Targets { .. } | Local::Joined { .. } => None,
        };
        let channel = association.as_ref();
        self.set_timer(Timer::AssociationIdle(key), self.config.timeouts.udp_idle);
        self.tell(Event::AssociationOpened { channel, local });
    }

    pub(super) fn on_association_response_timeout(&mut self, key: AssociationKey) {
        if self.associations.get(key).is_some_and(|association| self.is_deaf(association.link)) {
            // The answer may lie in the part of the link that is not read.
            self.set_timer(Timer::AssociationResponse(key), GRACE);
            return;
        }
        self.reset_association(key, ChannelError::ResponseTimeout(self.config.timeouts.response));
    }

    /// The control connection says something. Nothing is expected, but reading on is how its end is
    /// noticed.
    pub(super) fn on_control_read(&mut self, id: SocketId, length: usize) {
        if length > 0 {
            let credit = ReadCredit { bytes: length, chunk: super::socks::HANDSHAKE_READ };
            self.push(Output::Read { socket: id, credit });
        }
    }

    /// The control connection has ended before there was an answer.
    pub(super) fn on_control_eof(&mut self, id: SocketId) {
        let Some(Socket { owner: SocketOwner::Socks(session), .. }) = self.sockets.get(id) else { return };
        if let Some(Opening::Datagrams(key)) = session.channel {
            self.end_association(key, None);
        }
        self.close_socket(id);
    }

    // ---- dial side

    /// Agrees to relay datagrams for the peer of `link`. Sockets are bound when they are needed.
    pub(super) fn accept_association(&mut self, link: LinkId, id: ChannelId) -> AssociationKey {
        let rules = self.association_rules(link, None);
        let key = self.add_association(link, id, Local::Targets { v4: None, v6: None }, rules);
        self.send_answer(link, ConnectResponse { channel: id, result: Ok(()) }.encode());
        self.establish_association(key);
        key
    }

    // ---- endings

    /// A datagram socket can't be had, or is broken; it is released.
    pub(super) fn on_port_failed(&mut self, key: AssociationKey, id: SocketId, error: SocketError) {
        let Some(association) = self.associations.get_mut(key) else { return };
        let Some(port) = association.take_port(id) else { return };
        let (waiting, phase) = (port.queue.len() as u64, association.phase);
        match &association.local {
            // The next datagram gets a new one.
            Local::Targets { .. } => {
                self.drop_datagrams(key, waiting);
                self.reweigh(key);
                self.settle_association(key);
            }
            Local::Application(application) if phase == AssociationPhase::Opening => {
                let origin = application.origin;
                self.disconnect_association(key, &ChannelError::Socket(error));
                self.remove_association(key, Some(ChannelError::Socket(error)));
                self.refuse(origin, OpenError::Bind(error));
            }
            Local::Application(_) | Local::Joined { .. } => {
                self.end_association(key, Some(ChannelError::Socket(error)));
            }
        }
    }

    pub(super) fn on_association_idle(&mut self, key: AssociationKey) {
        let Some(association) = self.associations.get(key) else { return };
        let idle = self.config.timeouts.udp_idle;
        let silent = self.now.saturating_duration_since(association.last_datagram);
        if association.phase == AssociationPhase::Ending {
            self.remove_association(key, None);
        } else if silent < idle {
            self.set_timer(Timer::AssociationIdle(key), idle - silent);
        } else {
            self.end_association(key, Some(ChannelError::Idle(idle)));
        }
    }

    /// Our end is over: releases it; what waits for the link still goes out, then the end.
    pub(super) fn end_association(&mut self, key: AssociationKey, error: Option<ChannelError>) {
        let Some(association) = self.associations.get_mut(key) else { return };
        if association.phase == AssociationPhase::Ending {
            return;
        }
        let text = error.as_ref().map(ToString::to_string);
        association.outbound.finish_with(OutboundEnd::Disconnect(text));
        association.error = error;
        self.release_association(key);
        self.schedule_association(key);
    }

    /// The message that ends an association has left.
    pub(super) fn on_association_end_sent(&mut self, key: AssociationKey) {
        self.remove_association(key, None);
    }

    /// The peer has ended an association.
    pub(crate) fn on_association_disconnect(&mut self, key: AssociationKey, text: Option<String>) {
        let text = text.filter(|text| !text.is_empty() && text != super::channels::EOF);
        let error = text.map(ChannelError::Remote);
        let Some(association) = self.associations.get_mut(key) else { return };
        match (&association.local, association.phase) {
            (Local::Application(_), AssociationPhase::Opening) => {
                let error = error.unwrap_or_else(|| ChannelError::Remote(super::channels::EOF.to_owned()));
                self.abort_association(key, error);
            }
            // What the application has sent last may still wait for a socket or an address.
            (Local::Targets { .. }, AssociationPhase::Open) if !association.is_delivered() => {
                association.phase = AssociationPhase::Ending;
                association.error = error;
                self.leave_wire_association(key);
                self.drop_outbound(key);
                self.set_timer(Timer::AssociationIdle(key), self.config.timeouts.dial);
            }
            _ => self.remove_association(key, error),
        }
    }

    /// Removes an association that is over once nothing waits in it.
    pub(super) fn settle_association(&mut self, key: AssociationKey) {
        if let Some(association) = self.associations.get(key)
            && association.phase == AssociationPhase::Ending
            && !association.on_wire
            && association.is_delivered()
        {
            self.remove_association(key, None);
        }
    }

    /// Ends an association with a reason, at both ends.
    pub(super) fn reset_association(&mut self, key: AssociationKey, error: ChannelError) {
        match self.associations.get(key) {
            Some(Association {
                local: Local::Joined { side: Side::Dial, .. },
                phase: AssociationPhase::Opening,
                link,
                id,
                ..
            }) => {
                let (link, id) = (*link, *id);
                self.refuse_connect(link, id, &error);
            }
            _ => self.disconnect_association(key, &error),
        }
        self.abort_association(key, error);
    }

    fn disconnect_association(&mut self, key: AssociationKey, error: &ChannelError) {
        if let Some(Association { on_wire: true, link, id, .. }) = self.associations.get(key) {
            let disconnect = Disconnect { channel: *id, error: Some(error.to_string()) };
            self.send_control(*link, disconnect.encode());
        }
    }

    /// Ends an association with a reason, at our end.
    pub(super) fn abort_association(&mut self, key: AssociationKey, error: ChannelError) {
        let opening = match self.associations.get(key) {
            Some(Association {
                phase: AssociationPhase::Opening,
                local: Local::Application(application),
                ..
            }) => Some(application.origin),
            _ => None,
        };
        self.remove_association(key, Some(error.clone()));
        if let Some(origin) = opening {
            self.refuse(origin, OpenError::Connect(error));
        }
    }

    /// Ends an association that was asked for, at both ends. Whoever wanted it is not told.
    pub(super) fn give_up_association(&mut self, key: AssociationKey, error: ChannelError) {
        self.disconnect_association(key, &error);
        self.remove_association(key, Some(error));
    }

    fn remove_association(&mut self, key: AssociationKey, error: Option<ChannelError>) {
        self.leave_wire_association(key);
        self.release_association(key);
        self.drop_outbound(key);
        let Some(association) = self.associations.remove(key) else { return };
        self.accounts.give_back(Resource::Channels, &tenants(association.token), 1);
        self.end_sweeping();
        let Association { sent, received, dropped, .. } = association;
        let (channel, error) = (association.as_ref(), error.or(association.error));
        self.totals.channels_failed += u64::from(error.is_some());
        self.tell(Event::AssociationClosed { channel, sent, received, dropped, error: error.clone() });
        if let Local::Joined { partner: Some(partner), .. } = association.local {
            self.part_associations(partner, error);
        }
    }

    fn drop_outbound(&mut self, key: AssociationKey) {
        let Some(association) = self.associations.get_mut(key) else { return };
        let waiting = association.outbound.len() as u64;
        association.outbound.clear();
        self.drop_datagrams(key, waiting);
        self.reweigh(key);
    }

    /// From now on the peer's messages for this association are late and ignored.
    pub(super) fn leave_wire_association(&mut self, key: AssociationKey) {
        if let Some(association) = self.associations.get_mut(key)
            && association.on_wire
        {
            association.on_wire = false;
            if let Some(link) = self.links.get_mut(association.link) {
                link.associations.remove(&association.id);
                if let Some(owned) = link.owner.and_then(|owner| self.owners.get_mut(&owner)) {
                    owned.associations.remove(&association.id);
                }
            }
        }
    }

    /// Lets go of sockets, lookups and deadlines. An application that has had its answer loses its
    /// control connection.
    fn release_association(&mut self, key: AssociationKey) {
        self.timers.cancel(Timer::AssociationResponse(key));
        self.timers.cancel(Timer::AssociationIdle(key));
        let Some(association) = self.associations.get_mut(key) else { return };
        let was_open = std::mem::replace(&mut association.phase, AssociationPhase::Ending);
        let (queries, mut waiting) = association.names.clear();
        let (first, second) = match &mut association.local {
            Local::Application(application) => (application.port.take(), None),
            Local::Targets { v4, v6 } => (v4.take(), v6.take()),
            Local::Joined { .. } => (None, None),
        };
        let control = match &association.local {
            Local::Application(Application { origin: Origin::Socks(control), .. })
                if was_open == AssociationPhase::Open =>
            {
                Some(*control)
            }
            Local::Application(_) | Local::Targets { .. } | Local::Joined { .. } => None,
        };
        for query in queries {
            self.disown_query(query);
        }
        for port in first.into_iter().chain(second) {
            waiting += port.queue.len() as u64;
            self.close_socket(port.socket);
        }
        self.drop_datagrams(key, waiting);
        if let Some(control) = control {
            self.close_socket(control);
        }
        self.reweigh(key);
    }

    pub(super) fn find_association(&self, link: LinkId, id: ChannelId) -> Option<AssociationKey> {
        // Some peers spread what they send over all their links. Datagrams have no order to lose.
        let sibling = || self.owners.get(&self.links.get(link)?.owner?)?.associations.get(&id).copied();
        self.links.get(link)?.associations.get(&id).copied().or_else(sibling)
    }
}

/// The address of a control connection as one to bind a datagram socket to.
fn with_any_port(mut local: SocketAddr) -> SocketAddr {
    if let SocketAddr::V6(v6) = local
        && let Some(mapped) = v6.ip().to_ipv4_mapped()
    {
        local = SocketAddr::new(mapped.into(), 0);
    }
    local.set_port(0);
    local
}

/// Where the sockets for targets of each family are bound.
pub(super) fn wildcard(is_v4: bool) -> SocketAddr {
    if is_v4 { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() }
}
