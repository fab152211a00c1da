//! A client and a server, their links joined without delay.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::epoch;
use super::host::Host;
use crate::client::ClientEngine;
use crate::config::{ClientConfig, ExtensionConfig, ServerConfig};
use crate::error::{LinkFailure, SocketError};
use crate::ids::{LinkId, SocketId};
use crate::io::{CloseFrame, Engine, Input, LinkClose, LinkRequest, UpgradeRequest, UpgradeResponse};
use crate::secret::Token;
use crate::server::ServerEngine;
use crate::url::ServerUrl;

pub(super) const TOKEN: &str = "fwdtoken1";

pub(super) fn client_config() -> ClientConfig {
    let url = ServerUrl::parse("ws://127.0.0.1:8765").unwrap();
    let mut config = ClientConfig::new(url, Token::new(TOKEN).unwrap());
    config.listen = Some("127.0.0.1:9870".parse().unwrap());
    config
}

pub(super) fn server_config() -> ServerConfig {
    ServerConfig::forward(Token::new(TOKEN).unwrap()).unwrap()
}

/// What an upgrade request looks like to the server.
pub(super) fn offer(request: &LinkRequest) -> UpgradeRequest {
    let (path, query) = request.path_and_query.split_once('?').unwrap_or((&request.path_and_query, ""));
    UpgradeRequest {
        path: path.to_owned(),
        query: query.to_owned(),
        extensions: request.extensions.clone(),
        peer: SocketAddr::from(([127, 0, 0, 1], 40_000)),
    }
}

/// What the other end of a link learns.
pub(super) fn heard(close: Option<CloseFrame>) -> LinkClose {
    match close {
        Some(close) => LinkClose::Peer(Some(close)),
        None => LinkClose::Transport(SocketError::UnexpectedEof),
    }
}

pub(super) struct Pair {
    pub(super) client: Host<ClientEngine>,
    pub(super) server: Host<ServerEngine>,
    /// Links by their id at the client, and back.
    pub(super) to_server: BTreeMap<LinkId, LinkId>,
    to_client: BTreeMap<LinkId, LinkId>,
    /// New links can't be made.
    pub(super) barred: bool,
}

impl Pair {
    /// Both of our own kind, connected.
    pub(super) fn new() -> Self {
        Self::with(client_config(), server_config())
    }

    /// As with a peer that knows no extensions, connected.
    pub(super) fn plain() -> Self {
        let mut config = server_config();
        config.relay.extensions = ExtensionConfig::none();
        Self::with(client_config(), config)
    }

    /// Both of our own kind, connected; but links don't outlive their WebSockets.
    pub(super) fn without_sessions() -> Self {
        let mut config = client_config();
        config.relay.timeouts.transport_grace = Duration::ZERO;
        Self::with(config, server_config())
    }

    pub(super) fn with(client: ClientConfig, server: ServerConfig) -> Self {
        let now = epoch();
        let mut pair = Self {
            client: Host::new(ClientEngine::new(client, [1; 32], now), now),
            server: Host::new(ServerEngine::new(server, [2; 32], now), now),
            to_server: BTreeMap::new(),
            to_client: BTreeMap::new(),
            barred: false,
        };
        pair.drive();
        pair
    }

    /// Carries messages until nothing moves.
    pub(super) fn drive(&mut self) {
        for _ in 0..100_000 {
            if !self.step() {
                return;
            }
        }
        panic!("the engines don't come to rest");
    }

    /// Carries one message.
    pub(super) fn step(&mut self) -> bool {
        if let Some((link, request)) = self.client.opening.pop_front() {
            if self.barred {
                let error = LinkFailure::Io(SocketError::NetworkUnreachable);
                self.client.input(Input::LinkFailed { link, error });
                return true;
            }
            let ticket = self.server.ticket();
            self.server.input(Input::LinkOffered { ticket, request: offer(&request) });
            if let Some((_, accepted, extensions)) = self.server.accepted.pop_front() {
                self.to_server.insert(link, accepted);
                self.to_client.insert(accepted, link);
                self.server.input(Input::LinkOpened { link: accepted, response: UpgradeResponse::default() });
                self.client.input(Input::LinkOpened { link, response: UpgradeResponse { extensions } });
            }
        } else if let Some((link, message)) = self.client.sent.pop_front() {
            if let Some(link) = self.to_server.get(&link) {
                self.server.receive_bytes(*link, message);
            }
        } else if let Some((link, message)) = self.server.sent.pop_front() {
            if let Some(link) = self.to_client.get(&link) {
                self.client.receive_bytes(*link, message);
            }
        } else if let Some(link) = self.client.pings.pop_front() {
            self.client.input(Input::LinkPong { link });
        } else if let Some(link) = self.server.pings.pop_front() {
            self.server.input(Input::LinkPong { link });
        } else if let Some((link, close)) = self.client.closed_links.pop_front() {
            self.client.input(Input::LinkClosed { link, cause: LinkClose::Local });
            if let Some(link) = self.to_server.remove(&link) {
                self.to_client.remove(&link);
                self.server.input(Input::LinkClosed { link, cause: heard(close) });
            }
        } else if let Some((link, close)) = self.server.closed_links.pop_front() {
            self.server.input(Input::LinkClosed { link, cause: LinkClose::Local });
            if let Some(link) = self.to_client.remove(&link) {
                self.to_server.remove(&link);
                self.client.input(Input::LinkClosed { link, cause: heard(close) });
            }
        } else {
            return false;
        }
        true
    }

    /// Carries so many messages; lets time pass whenever nothing moves.
    pub(super) fn steps(&mut self, count: usize) {
        for _ in 0..count {
            while !self.step() {
                let deadlines = [self.client.deadline(), self.server.deadline()];
                self.set_time(deadlines.into_iter().flatten().min().expect("something will happen"));
            }
        }
    }

    /// All links are cut: what is under way is lost.
    pub(super) fn cut(&mut self) {
        let links: Vec<_> = self.to_server.iter().map(|(client, server)| (*client, *server)).collect();
        for (client, server) in links {
            self.cut_client(client);
            self.cut_server(server);
        }
    }

    /// The client's end of a link is lost; what comes from there may still arrive.
    pub(super) fn cut_client(&mut self, link: LinkId) {
        self.server.sent.retain(|(from, _)| self.to_client.get(from) != Some(&link));
        self.to_client.retain(|_, client| *client != link);
        self.client.closed_links.retain(|(closed, _)| *closed != link);
        self.client.input(Input::LinkClosed { link, cause: LinkClose::Transport(SocketError::Reset) });
    }

    /// The server's end of a link is lost, and what was on its way there.
    pub(super) fn cut_server(&mut self, link: LinkId) {
        self.client.sent.retain(|(from, _)| self.to_server.get(from) != Some(&link));
        self.to_server.retain(|_, server| *server != link);
        self.server.closed_links.retain(|(closed, _)| *closed != link);
        self.server.input(Input::LinkClosed { link, cause: LinkClose::Transport(SocketError::Reset) });
    }

    /// Lets time pass, firing deadlines as they come.
    pub(super) fn advance(&mut self, duration: Duration) {
        let end = self.client.now + duration;
        loop {
            self.drive();
            let deadlines = [self.client.deadline(), self.server.deadline()];
            let Some(next) = deadlines.into_iter().flatten().min().filter(|next| *next <= end) else { break };
            self.set_time(next);
        }
        self.set_time(end);
        self.drive();
    }

    fn set_time(&mut self, now: std::time::Instant) {
        (self.client.now, self.server.now) = (now, now);
        self.client.input(Input::Timeout);
        self.server.input(Input::Timeout);
    }

    /// An application asks for `target`, an IPv4 address and port.
    pub(super) fn request(&mut self, target: &str) -> SocketId {
        let app = self.client.connect_app();
        self.client.send(app, b"\x05\x01\x00");
        let target: SocketAddr = target.parse().unwrap();
        let mut request = b"\x05\x01\x00".to_vec();
        crate::socks5::TargetAddr::from(target).encode(&mut request).unwrap();
        self.client.send(app, &request);
        self.drive();
        app
    }

    /// As [`Self::request`]; returns the sockets of application and target.
    pub(super) fn open(&mut self) -> (SocketId, SocketId) {
        let app = self.request("127.0.0.1:80");
        assert_eq!(self.app(app)[..4], *b"\x05\x00\x05\x00", "connected");
        self.client.peers.get_mut(&app).unwrap().got.clear();
        (app, self.server.dialed.last().unwrap().0)
    }

    /// What an application has got.
    pub(super) fn app(&self, app: SocketId) -> &[u8] {
        &self.client.peers[&app].got
    }

    /// What a target has got.
    pub(super) fn target(&self, target: SocketId) -> &[u8] {
        &self.server.peers[&target].got
    }

    /// Both engines hold nothing any more but their links.
    pub(super) fn assert_idle(&self) {
        for stats in [self.client.engine.stats(), self.server.engine.stats()] {
            assert_eq!((stats.channels, stats.sockets), (0, 0), "{stats:?}");
            assert_eq!((stats.receive_queued, stats.send_queued), (0, 0), "{stats:?}");
        }
    }
}
