//! A server and several clients, their links joined without delay.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::epoch;
use super::host::Host;
use super::pair::{heard, offer};
use crate::client::ClientEngine;
use crate::config::{ClientConfig, ClientRole, ServerConfig};
use crate::error::SocketError;
use crate::ids::{LinkId, SocketId};
use crate::io::{Command, Engine, Input, LinkClose, UpgradeResponse};
use crate::secret::Token;
use crate::server::ServerEngine;
use crate::socks5::TargetAddr;
use crate::token::{ConnectorToken, NewToken, ReverseToken};
use crate::url::ServerUrl;

pub(super) const REVERSE: &str = "reverse-token";
pub(super) const CONNECTOR: &str = "connector-token";
pub(super) const SOCKS_PORT: u16 = 9870;

pub(super) fn token(text: &str) -> Token {
    Token::new(text).unwrap()
}

/// A server with a reverse token and a connector token for its providers.
pub(super) fn agent_server() -> ServerConfig {
    let reverse =
        ReverseToken { token: Some(token(REVERSE)), port: Some(SOCKS_PORT), ..ReverseToken::default() };
    let connector = ConnectorToken { token: Some(token(CONNECTOR)), ..ConnectorToken::new(token(REVERSE)) };
    ServerConfig {
        tokens: vec![NewToken::Reverse(reverse), NewToken::Connector(connector)],
        ..ServerConfig::default()
    }
}

pub(super) fn provider() -> ClientConfig {
    ClientConfig { role: ClientRole::Provider { connectors: Vec::new() }, ..client(REVERSE) }
}

pub(super) fn connector() -> ClientConfig {
    client(CONNECTOR)
}

pub(super) fn client(text: &str) -> ClientConfig {
    let mut config = ClientConfig::new(ServerUrl::parse("ws://127.0.0.1:8765").unwrap(), token(text));
    config.listen = Some("127.0.0.1:9871".parse().unwrap());
    config
}

/// Which client, and its name for a link.
pub(super) type End = (usize, LinkId);

pub(super) struct Net {
    pub(super) server: Host<ServerEngine>,
    pub(super) clients: Vec<Host<ClientEngine>>,
    to_server: BTreeMap<End, LinkId>,
    to_client: BTreeMap<LinkId, End>,
    /// Clients that take and send nothing, as if stopped.
    pub(super) frozen: Vec<usize>,
}

impl Net {
    pub(super) fn new(server: ServerConfig) -> Self {
        let server = Host::new(ServerEngine::new(server, [0; 32], epoch()), epoch());
        let (to_server, to_client) = (BTreeMap::new(), BTreeMap::new());
        Self { server, clients: Vec::new(), to_server, to_client, frozen: Vec::new() }
    }

    /// A server with one provider and one connector: clients 0 and 1.
    pub(super) fn agent() -> Self {
        let mut net = Self::new(agent_server());
        net.join(provider());
        net.join(connector());
        net
    }

    /// Adds a client. Returns its number.
    pub(super) fn join(&mut self, config: ClientConfig) -> usize {
        let number = self.clients.len();
        let seed = [u8::try_from(number + 1).unwrap(); 32];
        let now = self.server.now;
        self.clients.push(Host::new(ClientEngine::new(config, seed, now), now));
        self.drive();
        number
    }

    /// Removes a token of the server.
    pub(super) fn remove_token(&mut self, text: &str) {
        let ticket = self.server.ticket();
        self.server.input(Input::Command(Command::RemoveToken { ticket, token: token(text) }));
        self.drive();
    }

    /// Carries messages until nothing moves.
    pub(super) fn drive(&mut self) {
        for _ in 0..1_000_000 {
            let client = (0..self.clients.len()).any(|number| self.step_client(number));
            if !client && !self.step_server() {
                return;
            }
        }
        panic!("the engines don't come to rest");
    }

    fn step_client(&mut self, number: usize) -> bool {
        if self.frozen.contains(&number) {
            return false;
        }
        let client = &mut self.clients[number];
        if let Some((link, request)) = client.opening.pop_front() {
            let ticket = self.server.ticket();
            self.server.input(Input::LinkOffered { ticket, request: offer(&request) });
            let client = &mut self.clients[number];
            match self.server.accepted.pop_front() {
                Some((_, accepted, extensions)) => {
                    self.to_server.insert((number, link), accepted);
                    self.to_client.insert(accepted, (number, link));
                    self.server
                        .input(Input::LinkOpened { link: accepted, response: UpgradeResponse::default() });
                    client.input(Input::LinkOpened { link, response: UpgradeResponse { extensions } });
                }
                None => {
                    let error = crate::error::LinkFailure::Status(503);
                    client.input(Input::LinkFailed { link, error });
                }
            }
        } else if let Some((link, message)) = client.sent.pop_front() {
            if let Some(link) = self.to_server.get(&(number, link)) {
                self.server.receive_bytes(*link, message);
            }
        } else if let Some(link) = client.pings.pop_front() {
            client.input(Input::LinkPong { link });
        } else if let Some((link, close)) = client.closed_links.pop_front() {
            client.input(Input::LinkClosed { link, cause: LinkClose::Local });
            if let Some(link) = self.to_server.remove(&(number, link)) {
                self.to_client.remove(&link);
                self.server.input(Input::LinkClosed { link, cause: heard(close) });
            }
        } else {
            return false;
        }
        true
    }

    fn step_server(&mut self) -> bool {
        let frozen: Vec<_> = self.frozen.clone();
        let is_frozen = |end: Option<&End>| end.is_some_and(|(number, _)| frozen.contains(number));
        let to_client = &self.to_client;
        let live = |link: &LinkId| !is_frozen(to_client.get(link));
        if let Some(place) = self.server.sent.iter().position(|(link, _)| live(link)) {
            let (link, message) = self.server.sent.remove(place).unwrap();
            if let Some((number, link)) = self.to_client.get(&link) {
                self.clients[*number].receive_bytes(*link, message);
            }
        } else if let Some(place) = self.server.pings.iter().position(live) {
            let link = self.server.pings.remove(place).unwrap();
            self.server.input(Input::LinkPong { link });
        } else if let Some((link, close)) = self.server.closed_links.pop_front() {
            self.server.input(Input::LinkClosed { link, cause: LinkClose::Local });
            if let Some(end) = self.to_client.remove(&link) {
                self.to_server.remove(&end);
                self.clients[end.0].input(Input::LinkClosed { link: end.1, cause: heard(close) });
            }
        } else {
            return false;
        }
        true
    }

    /// The server loses all links of a client, who learns nothing of it.
    pub(super) fn kill(&mut self, number: usize) {
        self.frozen.push(number);
        let links: Vec<_> = self.links(number).collect();
        for link in links {
            self.lose(link);
        }
        self.drive();
    }

    /// Both ends of all links of a client break.
    pub(super) fn cut(&mut self, number: usize) {
        let links: Vec<_> = self.links(number).collect();
        for link in links {
            let end = self.lose(link);
            self.lose_at_client(end);
        }
        self.drive();
    }

    /// The client notices that its link is lost.
    pub(super) fn lose_at_client(&mut self, (number, link): End) {
        self.clients[number].sent.retain(|(from, _)| *from != link);
        let cause = LinkClose::Transport(SocketError::Reset);
        self.clients[number].input(Input::LinkClosed { link, cause });
    }

    /// The server loses a link, and the client has not noticed it yet.
    pub(super) fn lose(&mut self, link: LinkId) -> End {
        let end = self.to_client.remove(&link).unwrap();
        self.to_server.remove(&end);
        self.server.sent.retain(|(to, _)| *to != link);
        self.server.pings.retain(|to| *to != link);
        self.server.input(Input::LinkClosed { link, cause: LinkClose::Transport(SocketError::Reset) });
        end
    }

    /// A client's name for a link of the server.
    pub(super) fn at_client(&self, link: LinkId) -> End {
        self.to_client[&link]
    }

    /// The server's names for the links of a client.
    pub(super) fn links(&self, number: usize) -> impl Iterator<Item = LinkId> {
        self.to_client.iter().filter(move |(_, end)| end.0 == number).map(|(link, _)| *link)
    }

    /// Lets time pass, firing deadlines as they come.
    pub(super) fn advance(&mut self, duration: Duration) {
        let end = self.server.now + duration;
        loop {
            self.drive();
            let clients = self.clients.iter().enumerate().filter(|(number, _)| !self.frozen.contains(number));
            let deadlines = clients.filter_map(|(_, client)| client.deadline()).chain(self.server.deadline());
            let Some(next) = deadlines.min().filter(|next| *next <= end) else { break };
            self.set_time(next);
        }
        self.set_time(end);
        self.drive();
    }

    fn set_time(&mut self, now: Instant) {
        self.server.now = now;
        self.server.input(Input::Timeout);
        for (number, client) in self.clients.iter_mut().enumerate() {
            if !self.frozen.contains(&number) {
                client.now = now;
                client.input(Input::Timeout);
            }
        }
    }

    /// An application at the SOCKS port of a client asks for a target.
    pub(super) fn request(&mut self, number: usize) -> SocketId {
        let app = request(&mut self.clients[number]);
        self.drive();
        app
    }

    /// As [`Self::request`], connected by client `dialler`. Returns the sockets of application and target.
    pub(super) fn open(&mut self, number: usize, dialler: usize) -> (SocketId, SocketId) {
        let app = self.request(number);
        take_success(&mut self.clients[number], app);
        (app, self.clients[dialler].dialed.last().unwrap().0)
    }

    /// An application at the SOCKS port of the server asks for a target.
    pub(super) fn reverse_request(&mut self) -> SocketId {
        let app = request(&mut self.server);
        self.drive();
        app
    }

    /// As [`Self::reverse_request`], connected by client `dialler`.
    pub(super) fn reverse_open(&mut self, dialler: usize) -> (SocketId, SocketId) {
        let app = self.reverse_request();
        take_success(&mut self.server, app);
        (app, self.clients[dialler].dialed.last().unwrap().0)
    }

    /// What the other end of a client's socket has got.
    pub(super) fn got(&self, number: usize, socket: SocketId) -> &[u8] {
        &self.clients[number].peers[&socket].got
    }

    /// Nobody holds anything but links.
    pub(super) fn assert_idle(&self) {
        let clients = self.clients.iter().enumerate().filter(|(number, _)| !self.frozen.contains(number));
        let all = clients.map(|(_, client)| client.engine.stats()).chain([self.server.engine.stats()]);
        for stats in all {
            assert_eq!((stats.channels, stats.sockets), (0, 0), "{stats:?}");
            assert_eq!((stats.receive_queued, stats.send_queued), (0, 0), "{stats:?}");
            assert_eq!(stats.datagrams_queued, 0, "{stats:?}");
        }
    }
}

fn request<E: Engine>(host: &mut Host<E>) -> SocketId {
    let app = host.connect_app();
    host.send(app, b"\x05\x01\x00");
    let mut request = b"\x05\x01\x00".to_vec();
    let target: SocketAddr = "127.0.0.1:80".parse().unwrap();
    TargetAddr::from(target).encode(&mut request).unwrap();
    host.send(app, &request);
    app
}

fn take_success<E: Engine>(host: &mut Host<E>, app: SocketId) {
    let got = &mut host.peers.get_mut(&app).unwrap().got;
    assert_eq!(got.get(..4), Some(&b"\x05\x00\x05\x00"[..]), "connected");
    got.clear();
}
