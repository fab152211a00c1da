//! The driver of one engine: an inbox in, outputs out, pumps in between.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};

use linksocks_sansio::error::{LinkFailure, SocketError, StopReason};
use linksocks_sansio::io::LinkRequest;
use linksocks_sansio::socks5::TargetAddr;
use linksocks_sansio::{Action, Command, Input, LinkId, ListenerId, Output, SocketId, Ticket};

use super::datagrams::DatagramPump;
use super::front::{Front, Visit};
use super::habits::Habits;
use super::link::LinkPump;
use super::resolver::{Lookups, Resolver};
use super::socket::SocketPump;
use crate::sim::clock::Time;
use crate::sim::dice::Dice;
use crate::sim::net::{EndId, Network, Owner, Rope, Wake};

/// What a pump sees of the world.
pub(super) struct Surroundings<'a> {
    pub(super) now: Time,
    pub(super) net: &'a mut Network,
    pub(super) inbox: &'a mut VecDeque<Input>,
    pub(super) habits: &'a Habits,
    pub(super) dice: &'a mut Dice,
}

/// Where a host stands and what it offers beside its engine.
#[derive(Clone, Debug)]
pub struct Site {
    /// Whom the network wakes.
    pub owner: Owner,
    /// Where dials come from.
    pub address: IpAddr,
    /// Where links are accepted (servers).
    pub front: Option<SocketAddr>,
    /// Where an embedder in the same process asks for channels without SOCKS (clients): a
    /// connection to this address is a call of [`Command::Open`].
    pub embedder: Option<SocketAddr>,
    /// For which target each embedder, known by its address, asks.
    pub orders: BTreeMap<IpAddr, TargetAddr>,
    /// Names that this host can look up.
    pub resolver: Resolver,
    /// What this driver does differently from others.
    pub habits: Habits,
}

/// Everything of a host but its engine.
#[derive(Debug)]
pub(super) struct Driver {
    site: Site,
    dice: Dice,
    /// Inputs for the engine, in the order in which pumps found them.
    pub(super) inbox: VecDeque<Input>,
    sockets: BTreeMap<SocketId, SocketPump>,
    datagrams: BTreeMap<SocketId, DatagramPump>,
    links: BTreeMap<LinkId, LinkPump>,
    listeners: BTreeMap<ListenerId, ListenerPump>,
    /// Connections and requests that the engine has been told of and has not answered.
    offers: BTreeMap<Ticket, Offer>,
    tickets: u64,
    front: Option<Front>,
    lookups: Lookups,
    /// Which pump an end belongs to.
    pumps: BTreeMap<EndId, PumpId>,
    pub(super) stopped: Option<StopReason>,
}

#[derive(Debug)]
struct ListenerPump {
    address: SocketAddr,
    credit: usize,
}

#[derive(Debug)]
enum Offer {
    Connection(EndId),
    Upgrade(EndId, Rope),
    Page(EndId),
}

#[derive(Clone, Copy, Debug)]
enum PumpId {
    Socket(SocketId),
    Link(LinkId),
    Visitor,
}

impl Driver {
    pub(super) fn new(site: Site, dice: Dice, net: &mut Network) -> Self {
        for address in [site.front, site.embedder].into_iter().flatten() {
            net.listen(address, site.owner).expect("each host has addresses of its own");
        }
        Self {
            dice,
            inbox: VecDeque::new(),
            sockets: BTreeMap::new(),
            datagrams: BTreeMap::new(),
            links: BTreeMap::new(),
            listeners: BTreeMap::new(),
            offers: BTreeMap::new(),
            tickets: 0,
            front: site.front.map(Front::new),
            lookups: Lookups::new(site.resolver.clone()),
            pumps: BTreeMap::new(),
            stopped: None,
            site,
        }
    }

    pub(super) const fn site(&self) -> &Site {
        &self.site
    }

    pub(super) const fn resolver_mut(&mut self) -> &mut Resolver {
        &mut self.lookups.resolver
    }

    pub(super) fn drains_between_inputs(&mut self) -> bool {
        self.site.habits.drains_between(&mut self.dice)
    }

    /// When a pump must run even if nothing happens on the network.
    pub(super) fn deadline(&self) -> Option<Time> {
        let sockets = self.sockets.values().filter_map(SocketPump::deadline);
        let links = self.links.values().filter_map(LinkPump::deadline);
        let others = [self.lookups.deadline(), self.front.as_ref().and_then(Front::deadline)];
        sockets.chain(links).chain(others.into_iter().flatten()).min()
    }

    /// Runs every pump for which something has changed or whose time has come.
    pub(super) fn run(&mut self, wakes: BTreeSet<Wake>, net: &mut Network, now: Time) {
        for wake in wakes {
            match wake {
                Wake::Listener(address) => self.run_listener(address, net, now),
                Wake::Datagrams(address) => {
                    let pump = self.datagrams.iter().find(|(_, pump)| pump.address == address);
                    if let Some(socket) = pump.map(|(socket, _)| *socket) {
                        self.with_datagrams(socket, net, now, |_, _| ());
                    }
                }
                Wake::End(end) => match self.pumps.get(&end).copied() {
                    Some(PumpId::Socket(socket)) => self.run_socket(socket, net, now),
                    Some(PumpId::Link(link)) => self.run_link(link, net, now),
                    Some(PumpId::Visitor) => self.run_visitor(end, net, now),
                    None => {}
                },
            }
        }
        let due = |deadline: Option<Time>| deadline.is_some_and(|deadline| deadline <= now);
        let sockets = self.sockets.iter().filter(|(_, pump)| due(pump.deadline()));
        for socket in sockets.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.run_socket(socket, net, now);
        }
        let links = self.links.iter().filter(|(_, pump)| due(pump.deadline()));
        for link in links.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.run_link(link, net, now);
        }
        for end in self.front.as_ref().map(|front| front.overdue(now)).unwrap_or_default() {
            self.run_visitor(end, net, now);
        }
        let (lookups, mut around) = self.split_lookups(net, now);
        lookups.run(&mut around);
    }

    /// Carries out one output.
    pub(super) fn apply(&mut self, output: Output, net: &mut Network, now: Time) {
        match output {
            Output::Transmit { link, message } => {
                self.with_link(link, net, now, |pump, _| pump.transmit(message));
            }
            Output::Write { socket, data } => self.with_socket(socket, net, now, |pump, _| pump.write(data)),
            Output::Read { socket, credit } => {
                self.with_socket(socket, net, now, |pump, _| pump.grant(credit));
            }
            Output::Revoke { socket } => {
                self.with_socket(socket, net, now, |pump, around| pump.revoke(around));
            }
            Output::Receive { link, bytes } => self.with_link(link, net, now, |pump, _| pump.grant(bytes)),
            Output::ReceiveDatagrams { socket, count } => {
                self.with_datagrams(socket, net, now, |pump, _| pump.grant(count));
            }
            Output::SendDatagram { socket, to, payload } => {
                self.with_datagrams(socket, net, now, |pump, around| pump.send(to, payload, around));
            }
            Output::Accept { listener, count } => {
                let Some(pump) = self.listeners.get_mut(&listener) else { return };
                pump.credit += count;
                let address = pump.address;
                self.run_listener(address, net, now);
            }
            Output::Action(action) => self.act(action, net, now),
            Output::Event(_) | Output::Timeout(_) => {}
        }
    }

    fn act(&mut self, action: Action, net: &mut Network, now: Time) {
        match action {
            Action::Resolve { query, host } => self.lookups.start(query, host, now),
            Action::Connect { socket, address, read } => {
                let from = SocketAddr::new(self.site.address, 0);
                let end = net.connect(self.site.owner, from, address);
                self.add_socket(SocketPump::connecting(socket, end, read), socket, net, now);
            }
            Action::OpenLink { link, socket, request } => self.open_link(link, socket, request, net, now),
            Action::AcceptLink { ticket, link, extensions } => match self.offers.remove(&ticket) {
                Some(Offer::Upgrade(end, received)) => {
                    self.inbox.push_back(Input::LinkOpened { link, response: Default::default() });
                    self.add_link(LinkPump::accepted(link, end, received, extensions), link, net, now);
                }
                Some(Offer::Connection(_) | Offer::Page(_)) | None => {}
            },
            Action::RejectLink { ticket, status, reason: _ } => {
                if let Some(Offer::Upgrade(end, _)) = self.offers.remove(&ticket) {
                    LinkPump::refuse(end, status, net);
                }
            }
            Action::HttpResponse { ticket, response } => {
                if let Some(Offer::Page(end)) = self.offers.remove(&ticket) {
                    LinkPump::refuse(end, response.status, net);
                }
            }
            Action::Ping { link } => self.with_link(link, net, now, |pump, _| pump.ping()),
            Action::CloseLink { link, close, linger } => {
                self.with_link(link, net, now, |pump, around| pump.close(close, linger, around));
            }
            Action::AdoptSocket { ticket, socket, read } => {
                if let Some(Offer::Connection(end)) = self.offers.remove(&ticket) {
                    self.add_socket(SocketPump::open(socket, end, read), socket, net, now);
                }
            }
            Action::Bind { socket, address } => {
                let (home, owner) = (self.site.address, self.site.owner);
                self.inbox.push_back(match DatagramPump::bind(socket, address, home, owner, net) {
                    Ok(pump) => {
                        let local = pump.address;
                        self.datagrams.insert(socket, pump);
                        Input::SocketBound { socket, local }
                    }
                    Err(failure) => failure,
                });
            }
            Action::AnswerToken { .. } => unreachable!("no embedder adds tokens"),
            Action::AdoptDatagrams { .. } => unreachable!("no embedder asks for an association"),
            Action::Refuse { ticket, error: _ } => {
                if let Some(Offer::Connection(end)) = self.offers.remove(&ticket) {
                    net.abort(end);
                }
            }
            Action::Listen { listener, address } => self.listen(listener, address, net),
            Action::Unlisten { listener } => {
                if let Some(pump) = self.listeners.remove(&listener) {
                    net.unlisten(pump.address);
                }
            }
            Action::ShutdownWrite { socket } => {
                self.with_socket(socket, net, now, |pump, _| pump.shut_down_write());
            }
            Action::Close { socket, linger } => {
                self.with_socket(socket, net, now, |pump, around| pump.close(linger, around));
                self.close_datagrams(socket, net, now);
            }
            Action::Reset { socket } => {
                self.with_socket(socket, net, now, SocketPump::reset);
                self.close_datagrams(socket, net, now);
            }
            Action::Stop { reason } => {
                self.release_everything(net);
                self.stopped = Some(reason);
            }
        }
    }

    /// The process ends without a word. `silently`: even its kernel is gone, so that nobody
    /// learns of it.
    pub(super) fn crash(&mut self, silently: bool, net: &mut Network) {
        if silently {
            for (end, pump) in &self.pumps {
                // Links have a keep-alive of their own, which is what is to be tested.
                net.unplug(*end, matches!(pump, PumpId::Socket(_)));
            }
        }
        self.release_everything(net);
    }

    fn release_everything(&mut self, net: &mut Network) {
        for end in std::mem::take(&mut self.pumps).into_keys() {
            net.abort(end);
        }
        for offer in std::mem::take(&mut self.offers).into_values() {
            match offer {
                Offer::Connection(end) | Offer::Upgrade(end, _) | Offer::Page(end) => net.abort(end),
            }
        }
        let listeners = std::mem::take(&mut self.listeners).into_values().map(|pump| pump.address);
        for address in listeners.chain(self.site.front).chain(self.site.embedder) {
            net.unlisten(address);
        }
        for pump in std::mem::take(&mut self.datagrams).into_values() {
            net.unbind(pump.address);
        }
        self.sockets.clear();
        self.links.clear();
        self.lookups.forget();
        self.front = None;
        self.inbox.clear();
    }

    fn listen(&mut self, listener: ListenerId, address: SocketAddr, net: &mut Network) {
        self.inbox.push_back(match net.listen(address, self.site.owner) {
            Ok(()) => {
                self.listeners.insert(listener, ListenerPump { address, credit: 0 });
                Input::ListenerOpened { listener, local: address }
            }
            Err(error) => Input::ListenerFailed { listener, error },
        });
    }

    fn open_link(
        &mut self,
        link: LinkId,
        socket: SocketId,
        request: LinkRequest,
        net: &mut Network,
        now: Time,
    ) {
        match self.sockets.remove(&socket) {
            Some(pump) => {
                let LinkRequest { path_and_query, extensions, .. } = request;
                self.add_link(
                    LinkPump::requesting(link, pump.end, path_and_query, extensions),
                    link,
                    net,
                    now,
                );
            }
            // The socket broke while the engine was about to use it.
            None => {
                let error = LinkFailure::Io(SocketError::Reset);
                self.inbox.push_back(Input::LinkFailed { link, error });
            }
        }
    }

    fn run_listener(&mut self, address: SocketAddr, net: &mut Network, now: Time) {
        if self.front.as_ref().is_some_and(|front| front.address == address) {
            let (front, mut around) = self.split_front(net, now);
            for end in front.map(|front| front.accept(&mut around)).unwrap_or_default() {
                self.pumps.insert(end, PumpId::Visitor);
                self.run_visitor(end, net, now);
            }
        } else if self.site.embedder == Some(address) {
            while let Some(end) = net.accept(address) {
                let target = self.site.orders[&net.peer_address(end).ip()].clone();
                let ticket = self.offer(Offer::Connection(end));
                self.inbox.push_back(Input::Command(Command::Open { ticket, target }));
            }
        } else {
            self.accept_sockets(address, net);
        }
    }

    fn accept_sockets(&mut self, address: SocketAddr, net: &mut Network) {
        let listener = self.listeners.iter_mut().find(|(_, pump)| pump.address == address);
        let Some((&listener, _)) = listener else { return };
        while let Some(pump) = self.listeners.get_mut(&listener).filter(|pump| pump.credit > 0) {
            let Some(end) = net.accept(address) else { break };
            pump.credit -= 1;
            let ticket = self.offer(Offer::Connection(end));
            let peer = net.peer_address(end);
            self.inbox.push_back(Input::SocketAccepted { ticket, listener, local: address, peer });
        }
    }

    fn run_visitor(&mut self, end: EndId, net: &mut Network, now: Time) {
        let (Some(front), mut around) = self.split_front(net, now) else { return };
        let visit = front.run(end, &mut around);
        if !front.holds(end) {
            self.pumps.remove(&end);
        }
        match visit {
            Some(Visit::Link(request, received)) => {
                let ticket = self.offer(Offer::Upgrade(end, received));
                self.inbox.push_back(Input::LinkOffered { ticket, request });
            }
            Some(Visit::Page(request)) => {
                let ticket = self.offer(Offer::Page(end));
                self.inbox.push_back(Input::HttpRequest { ticket, request: request.into() });
            }
            None => {}
        }
    }

    fn offer(&mut self, offer: Offer) -> Ticket {
        let ticket = Ticket(self.tickets);
        self.tickets += 1;
        self.offers.insert(ticket, offer);
        ticket
    }

    fn add_socket(&mut self, pump: SocketPump, socket: SocketId, net: &mut Network, now: Time) {
        self.pumps.insert(pump.end, PumpId::Socket(socket));
        self.sockets.insert(socket, pump);
        self.run_socket(socket, net, now);
    }

    fn add_link(&mut self, pump: LinkPump, link: LinkId, net: &mut Network, now: Time) {
        self.pumps.insert(pump.end, PumpId::Link(link));
        self.links.insert(link, pump);
        self.run_link(link, net, now);
    }

    fn run_socket(&mut self, socket: SocketId, net: &mut Network, now: Time) {
        self.with_socket(socket, net, now, |_, _| ());
    }

    fn run_link(&mut self, link: LinkId, net: &mut Network, now: Time) {
        self.with_link(link, net, now, |_, _| ());
    }

    /// Tells a pump something and lets it run. A pump that is gone is past caring: its end is in
    /// the inbox, and the engine will learn of it.
    fn with_socket(
        &mut self,
        socket: SocketId,
        net: &mut Network,
        now: Time,
        tell: impl FnOnce(&mut SocketPump, &mut Surroundings<'_>),
    ) {
        let Some(pump) = self.sockets.get_mut(&socket) else { return };
        let Self { inbox, site, dice, .. } = self;
        let mut around = Surroundings { now, net, inbox, habits: &site.habits, dice };
        tell(pump, &mut around);
        pump.run(&mut around);
        if pump.is_over() {
            self.pumps.remove(&pump.end);
            self.sockets.remove(&socket);
        }
    }

    /// As [`Self::with_socket`].
    fn with_datagrams(
        &mut self,
        socket: SocketId,
        net: &mut Network,
        now: Time,
        tell: impl FnOnce(&mut DatagramPump, &mut Surroundings<'_>),
    ) {
        let Some(pump) = self.datagrams.get_mut(&socket) else { return };
        let Self { inbox, site, dice, .. } = self;
        let mut around = Surroundings { now, net, inbox, habits: &site.habits, dice };
        tell(pump, &mut around);
        pump.run(&mut around);
    }

    fn close_datagrams(&mut self, socket: SocketId, net: &mut Network, now: Time) {
        let Some(pump) = self.datagrams.remove(&socket) else { return };
        let Self { inbox, site, dice, .. } = self;
        pump.close(&mut Surroundings { now, net, inbox, habits: &site.habits, dice });
    }

    /// As [`Self::with_socket`].
    fn with_link(
        &mut self,
        link: LinkId,
        net: &mut Network,
        now: Time,
        tell: impl FnOnce(&mut LinkPump, &mut Surroundings<'_>),
    ) {
        let Some(pump) = self.links.get_mut(&link) else { return };
        let Self { inbox, site, dice, .. } = self;
        let mut around = Surroundings { now, net, inbox, habits: &site.habits, dice };
        tell(pump, &mut around);
        pump.run(&mut around);
        if pump.is_over() {
            self.pumps.remove(&pump.end);
            self.links.remove(&link);
        }
    }

    const fn split_front<'a>(
        &'a mut self,
        net: &'a mut Network,
        now: Time,
    ) -> (Option<&'a mut Front>, Surroundings<'a>) {
        let Self { inbox, site, dice, front, .. } = self;
        (front.as_mut(), Surroundings { now, net, inbox, habits: &site.habits, dice })
    }

    const fn split_lookups<'a>(
        &'a mut self,
        net: &'a mut Network,
        now: Time,
    ) -> (&'a mut Lookups, Surroundings<'a>) {
        let Self { inbox, site, dice, lookups, .. } = self;
        (lookups, Surroundings { now, net, inbox, habits: &site.habits, dice })
    }
}
