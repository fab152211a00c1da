//! Memory that all links share: who gets it, who has to wait, and who is reset for it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::epoch;
use super::host::{Answer, Host};
use super::login::{offer_link_from, url_login};
use super::pair::server_config;
use crate::accounts::{Account, Exhausted, Resource};
use crate::config::ServerConfig;
use crate::event::Event;
use crate::ids::{ChannelId, LinkId, SocketId};
use crate::io::{Engine, Input, LinkClose};
use crate::secret::Token;
use crate::server::ServerEngine;
use crate::token::{ForwardToken, NewToken};
use crate::wire::{Compression, Connect, ConnectRequest, Data, Disconnect, Message};

const TOKENS: [&str; 3] = ["one", "two", "three"];
const PIECE: usize = 64 << 10;
/// What may be on its way from a link when it is to stop.
const WINDOW: usize = 256 << 10;
const SECOND: Duration = Duration::from_secs(1);

/// A server without windows, with three tokens, that may have `memory` bytes waiting, half of them received.
fn server(memory: usize, per_token: usize) -> Host<ServerEngine> {
    let mut config: ServerConfig = server_config();
    let limits = &mut config.relay.limits;
    (limits.memory, limits.memory_per_token, limits.memory_per_address) = (memory, per_token, memory);
    limits.link_receive_window = WINDOW;
    config.tokens = TOKENS
        .map(|token| {
            let token = Some(Token::new(token).unwrap());
            NewToken::Forward(ForwardToken { token, ..ForwardToken::default() })
        })
        .to_vec();
    let mut host = Host::new(ServerEngine::new(config, [3; 32], epoch()), epoch());
    host.dials = Answer::Accept;
    host
}

/// A client of another kind, with one channel to a target that takes nothing.
struct Client {
    link: LinkId,
    channel: ChannelId,
    target: SocketId,
}

impl Client {
    fn join(server: &mut Host<ServerEngine>, number: u8, token: &str) -> Self {
        let peer = SocketAddr::from(([192, 0, 2, number], 1000));
        let link = offer_link_from(server, Some(peer), &url_login(token), None).unwrap();
        let channel = ChannelId([number; 16]);
        let request = ConnectRequest::Tcp { address: "127.0.0.1".into(), port: 80 };
        server.receive(link, &Message::Connect(Connect { channel, request, resume: false }));
        let target = server.dialed.last().unwrap().0;
        server.peers.get_mut(&target).unwrap().stalled = true;
        Self { link, channel, target }
    }

    /// Sends pieces for as long as the server reads. Returns how many bytes that were.
    fn fill(&self, server: &mut Host<ServerEngine>) -> usize {
        let mut sent = 0;
        while server.receive.get(&self.link).is_some_and(|left| *left > 0) && sent < 256 << 20 {
            self.send(server);
            sent += PIECE;
        }
        sent
    }

    fn send(&self, server: &mut Host<ServerEngine>) {
        let (channel, payload) = (self.channel, vec![7; PIECE].into());
        let compression = Compression::None;
        server.receive(
            self.link,
            &Message::Data(Data { channel, compression, payload, datagram: None, sequence: None }),
        );
    }

    /// Ends the channel, and then the link.
    fn leave(&self, server: &mut Host<ServerEngine>) {
        server.receive(self.link, &Message::Disconnect(Disconnect { channel: self.channel, error: None }));
        server.input(Input::LinkClosed { link: self.link, cause: LinkClose::Peer(None) });
    }

    fn is_reset(&self, server: &Host<ServerEngine>) -> bool {
        server.peers[&self.target].reset
    }

    /// The target takes all that was written to it, again and again.
    fn drain(&self, server: &mut Host<ServerEngine>) {
        for _ in 0..10_000 {
            if server.peers[&self.target].pending.is_empty() {
                return;
            }
            server.take_pending(self.target);
        }
        panic!("there is no end to it");
    }
}

/// Clients that send for as long as the server reads from them, one after the other.
fn crowd(server: &mut Host<ServerEngine>, numbers: RangeInclusive<u8>, token: &str) -> Vec<Client> {
    let clients: Vec<_> = numbers.map(|number| Client::join(server, number, token)).collect();
    for client in &clients {
        client.fill(server);
    }
    clients
}

/// What was reached, each time it was told.
fn told(server: &mut Host<ServerEngine>) -> Vec<(Resource, Account)> {
    let told = server.events.iter().filter_map(|event| match event {
        Event::LimitReached(Exhausted { resource, account, .. }) => Some((*resource, *account)),
        _ => None,
    });
    let told = told.collect();
    server.events.clear();
    told
}

/// What a link may have waiting beyond all limits: its own bit, what is on its way, a step of the books.
fn each() -> usize {
    (64 << 10) + WINDOW + PIECE
}

#[test]
fn all_links_together_keep_to_the_memory_and_each_goes_on() {
    let mut server = server(32 << 20, 32 << 20);
    let clients = crowd(&mut server, 1..=30, TOKENS[0]);
    let queued = server.engine.stats().receive_queued;
    assert!(queued <= (16 << 20) + clients.len() * each(), "{queued}");
    assert_eq!(told(&mut server), [(Resource::Received, Account::Everybody)], "once");
    // Nobody has had more than the first ones left, but each can go on with a little at a time.
    let last = &clients[29];
    last.drain(&mut server);
    assert!(last.fill(&mut server) >= PIECE);
    for client in &clients {
        client.drain(&mut server);
    }
    assert_eq!(server.engine.stats().receive_queued, 0);
    assert!(clients.iter().all(|client| server.receive[&client.link] > 0), "all are read from again");
}

#[test]
fn memory_that_is_given_back_goes_to_those_who_wait() {
    let mut server = server(8 << 20, 8 << 20);
    let clients: Vec<_> = (1..=12).map(|number| Client::join(&mut server, number, TOKENS[0])).collect();
    let first = clients[0].fill(&mut server);
    assert!(first >= 4 << 20, "one alone may have all: {first}");
    for client in &clients[1..] {
        client.fill(&mut server);
    }
    let waiting: BTreeMap<_, _> =
        clients[1..].iter().map(|client| (client.link, server.receive[&client.link])).collect();
    assert!(waiting.values().all(|left| *left <= 0), "{waiting:?}");
    clients[0].drain(&mut server);
    let served = clients[1..].iter().filter(|client| server.receive[&client.link] > 0).count();
    assert!(served >= 4, "only {served} are read from again");
}

#[test]
fn one_token_leaves_memory_to_others() {
    let mut server = server(32 << 20, 8 << 20);
    let greedy = crowd(&mut server, 1..=8, TOKENS[0]);
    let taken = server.engine.stats().receive_queued;
    assert!(taken <= (4 << 20) + greedy.len() * each(), "{taken}");
    assert!(matches!(told(&mut server)[..], [(Resource::Received, Account::Token(_))]));
    let other = Client::join(&mut server, 100, TOKENS[1]);
    assert!(other.fill(&mut server) >= 4 << 20);
}

/// Those who could take what waits for them keep others from memory: after 10 s the largest of them are reset.
#[test]
fn stalled_channels_are_reset_for_those_who_wait_for_memory() {
    let mut server = server(16 << 20, 16 << 20);
    let hog = Client::join(&mut server, 1, TOKENS[0]);
    assert!(hog.fill(&mut server) >= 8 << 20);
    let other = Client::join(&mut server, 2, TOKENS[1]);
    other.fill(&mut server);
    assert!(server.receive[&other.link] <= 0, "it waits");
    for _ in 0..9 {
        server.now += SECOND;
        server.input(Input::Timeout);
        // The other one's target is slow, but takes something.
        let first = server.peers.get_mut(&other.target).unwrap().pending.pop_front().unwrap();
        server.input(Input::SocketWritten { socket: other.target, bytes: first.len() });
        other.fill(&mut server);
    }
    assert!(!hog.is_reset(&server));
    server.now += 2 * SECOND;
    server.input(Input::Timeout);
    assert!(hog.is_reset(&server) && !other.is_reset(&server));
    assert!(server.receive[&other.link] > 0);
}

/// Only those are reset whose memory it is that is short.
#[test]
fn nobody_is_reset_for_another_token() {
    let mut server = server(64 << 20, 8 << 20);
    let quiet = Client::join(&mut server, 1, TOKENS[1]);
    quiet.send(&mut server);
    quiet.send(&mut server);
    let greedy = crowd(&mut server, 2..=8, TOKENS[0]);
    for _ in 0..30 {
        server.now += SECOND;
        server.input(Input::Timeout);
    }
    assert!(greedy.iter().any(|client| client.is_reset(&server)));
    assert!(!quiet.is_reset(&server));
}

#[test]
fn links_that_go_give_everything_back() {
    let mut server = server(8 << 20, 8 << 20);
    for round in 1..=20 {
        let clients: Vec<_> = (1..=5).map(|number| Client::join(&mut server, number, TOKENS[2])).collect();
        for client in &clients {
            client.fill(&mut server);
            server.input(Input::LinkClosed { link: client.link, cause: LinkClose::Peer(None) });
            server.input(Input::SocketClosed { socket: client.target });
        }
        let stats = server.engine.stats();
        assert_eq!(
            (stats.receive_queued, stats.links, stats.channels),
            (0, 0, 0),
            "round {round}: {stats:?}"
        );
    }
    let client = Client::join(&mut server, 1, TOKENS[2]);
    assert!(client.fill(&mut server) >= 4 << 20, "all of it is there again");
}

/// What had ended when its link was lost is still delivered, but not without end: nobody may pile up more of
/// it by coming back again and again.
#[test]
fn what_lost_links_leave_is_limited_and_first_taken_from_whoever_left_most() {
    let mut server = server(512 << 20, 512 << 20);
    let modest = Client::join(&mut server, 100, TOKENS[1]);
    modest.send(&mut server);
    modest.leave(&mut server);
    for number in 1..=8 {
        let client = Client::join(&mut server, number, TOKENS[0]);
        for _ in 0..256 {
            client.send(&mut server);
        }
        client.leave(&mut server);
        let queued = server.engine.stats().receive_queued;
        assert!(queued <= 64 << 20, "{queued} after {number} links");
    }
    assert!(!modest.is_reset(&server));
    modest.drain(&mut server);
    assert_eq!(server.peers[&modest.target].got.len(), PIECE);
    assert!(server.peers[&modest.target].eof);
}

/// What comes before its Connect is kept within the memory of a token, however many processes it claims to be.
#[test]
fn early_data_is_paid_for() {
    const LINKS: u8 = 30;
    const EARLY: usize = 60 << 10;
    let mut server = server(64 << 20, 8 << 20);
    let channel = |link: u8, number: u8| ChannelId([link, number, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7]);
    let mut links = Vec::new();
    for number in 0..LINKS {
        let instance = format!("instance=00000000-0000-0000-0000-0000000000{number:02}");
        let login = url_login(TOKENS[0]).replace("instance=", &instance);
        let link = offer_link_from(&mut server, None, &login, None).unwrap();
        for of_it in 0..16 {
            let payload = vec![7; EARLY].into();
            let (channel, compression) = (channel(number, of_it), Compression::None);
            let data = Data { channel, compression, payload, datagram: None, sequence: None };
            server.receive(link, &Message::Data(data));
        }
        links.push(link);
    }
    assert!(matches!(told(&mut server)[..], [(Resource::Received, Account::Token(_))]));
    for (number, link) in (0..).zip(&links) {
        for of_it in 0..16 {
            let request = ConnectRequest::Tcp { address: "127.0.0.1".into(), port: 80 };
            let connect = Connect { channel: channel(number, of_it), request, resume: false };
            server.receive(*link, &Message::Connect(connect));
        }
    }
    let kept: usize = server.peers.values().map(|target| target.got.len()).sum();
    let most = (4 << 20) + usize::from(LINKS) * (64 << 10);
    assert!((3 << 20..=most).contains(&kept), "{kept}");
    for link in links {
        server.input(Input::LinkClosed { link, cause: LinkClose::Peer(None) });
    }
    let client = Client::join(&mut server, 100, TOKENS[0]);
    assert!(client.fill(&mut server) >= 4 << 20, "all of it is there again");
}

#[test]
fn channels_are_limited_for_a_token_and_altogether() {
    let mut config = server_config();
    (config.relay.limits.channels_per_token, config.relay.limits.channels) = (3, 4);
    config.tokens = vec![
        NewToken::Forward(ForwardToken {
            token: Some(Token::new("one").unwrap()),
            ..ForwardToken::default()
        }),
        NewToken::Forward(ForwardToken {
            token: Some(Token::new("two").unwrap()),
            ..ForwardToken::default()
        }),
    ];
    let mut server = Host::new(ServerEngine::new(config, [3; 32], epoch()), epoch());
    server.dials = Answer::Accept;
    let mut ask = |token: &str, number: u8| {
        let peer = SocketAddr::from(([192, 0, 2, number], 1000));
        let link = offer_link_from(&mut server, Some(peer), &url_login(token), None).unwrap();
        let before = server.dialed.len();
        let request = ConnectRequest::Tcp { address: "127.0.0.1".into(), port: 80 };
        let connect = Connect { channel: ChannelId([number; 16]), request, resume: false };
        server.receive(link, &Message::Connect(connect));
        (link, server.dialed.len() > before)
    };
    let granted: Vec<_> = (1..=4).map(|number| ask("one", number)).collect();
    assert_eq!(granted.iter().filter(|(_, granted)| *granted).count(), 3);
    assert!(ask("two", 5).1);
    assert!(!ask("two", 6).1, "there are four");
    server.input(Input::LinkClosed { link: granted[0].0, cause: LinkClose::Peer(None) });
    assert_eq!(server.engine.stats().channels, 3);
    let told = told(&mut server);
    assert!(
        matches!(
            told[..],
            [(Resource::Channels, Account::Token(_)), (Resource::Channels, Account::Everybody)]
        ),
        "{told:?}"
    );
}
