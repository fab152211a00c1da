//! Agent mode: what connectors ask for, providers connect to, and the server passes everything on.

use std::time::Duration;

use super::epoch;
use super::host::Host;
use super::login::{offer_link, url_login};
use super::net::{CONNECTOR, Net, REVERSE, agent_server, client, connector, provider, token};
use crate::config::{ClientConfig, ClientRole, ExtensionConfig, ServerConfig};
use crate::error::OpenError;
use crate::event::Event;
use crate::ids::ChannelId;
use crate::io::{Command, Engine, Input, LinkClose};
use crate::server::ServerEngine;
use crate::token::{ForwardToken, NewToken};
use crate::wire::{
    Compression, Connect, ConnectRequest, ConnectResponse, Data, Direct, DirectKind, Disconnect, Log,
    Message, Partners, decode,
};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

fn bytes(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|i| (i / 7) as u8 ^ seed).collect()
}

/// The same network with every combination of our own peers and others.
fn networks() -> Vec<(Net, &'static str)> {
    let foreign = |mut config: ClientConfig| {
        config.relay.extensions = ExtensionConfig::none();
        config
    };
    let mut nets = Vec::new();
    for (name, old_provider, old_connector) in [
        ("own", false, false),
        ("old provider", true, false),
        ("old connector", false, true),
        ("both old", true, true),
    ] {
        let mut net = Net::new(agent_server());
        net.join(if old_provider { foreign(provider()) } else { provider() });
        net.join(if old_connector { foreign(connector()) } else { connector() });
        nets.push((net, name));
    }
    nets
}

#[test]
fn bytes_pass_whole_in_both_directions_and_ends_are_heard() {
    for (mut net, name) in networks() {
        let (app, target) = net.open(1, 0);
        let (up, down) = (bytes(3 * MIB, 1), bytes(2 * MIB, 2));
        net.clients[1].send(app, &up);
        net.clients[0].send(target, &down);
        net.drive();
        assert!(net.got(0, target) == up, "{name}: {}", net.got(0, target).len());
        assert!(net.got(1, app) == down, "{name}: {}", net.got(1, app).len());
        net.clients[0].send_eof(target);
        net.drive();
        assert!(net.clients[1].peers[&app].eof, "{name}: the application sees the end at once");
        net.clients[1].send_eof(app);
        net.advance(Duration::from_secs(6));
        let (app, target) = (&net.clients[1].peers[&app], &net.clients[0].peers[&target]);
        assert!(app.released && !app.reset && target.released && !target.reset, "{name}");
        net.assert_idle();
    }
}

#[test]
fn an_application_that_ends_first_still_gets_its_answer() {
    for (mut net, name) in networks() {
        let (app, target) = net.open(1, 0);
        net.clients[1].send(app, b"request");
        net.clients[1].send_eof(app);
        net.drive();
        assert_eq!(net.got(0, target), b"request");
        net.clients[0].send(target, b"answer");
        net.clients[0].send_eof(target);
        net.drive();
        assert_eq!(net.got(1, app), b"answer", "{name}");
        net.advance(Duration::from_secs(6));
        net.assert_idle();
        let (app, target) = (&net.clients[1].peers[&app], &net.clients[0].peers[&target]);
        assert!(app.released && !app.reset && target.released && !target.reset, "{name}");
    }
}

#[test]
fn resets_travel_to_the_other_end() {
    for (mut net, name) in networks() {
        let (app, target) = net.open(1, 0);
        net.clients[1].fail(app, crate::error::SocketError::Reset);
        net.drive();
        assert!(net.clients[0].peers[&target].reset, "{name}");
        let (app, target) = net.open(1, 0);
        net.clients[0].fail(target, crate::error::SocketError::Reset);
        net.drive();
        assert!(net.clients[1].peers[&app].reset, "{name}");
        net.assert_idle();
    }
}

/// Its end has been passed on already, and still the target must not go on for nobody.
#[test]
fn an_application_that_breaks_after_its_end_releases_the_target() {
    for (mut net, name) in networks() {
        let (app, target) = net.open(1, 0);
        net.clients[1].send_eof(app);
        net.drive();
        net.clients[0].send(target, &bytes(3 * MIB, 1));
        net.clients[1].fail(app, crate::error::SocketError::Reset);
        net.advance(Duration::from_secs(6));
        let target = &net.clients[0].peers[&target];
        assert!(target.released, "{name}");
        net.assert_idle();
    }
}

#[test]
fn a_refused_target_is_refused_for_the_application() {
    for (mut net, name) in networks() {
        net.clients[0].dials = super::host::Answer::Refuse;
        let app = net.request(1);
        assert_eq!(net.got(1, app)[..4], *b"\x05\x00\x05\x04", "{name}");
        net.assert_idle();
    }
}

#[test]
fn nobody_is_refused_because_one_of_the_providers_is_shutting_down() {
    let mut net = Net::agent();
    let (_, kept) = net.open(1, 0);
    let spare = net.join(provider());
    net.clients[0].input(Input::Command(Command::Shutdown { drain: Duration::from_secs(60) }));
    net.drive();
    for _ in 0..3 {
        net.open(1, spare);
        let app = net.clients[1].connect_app();
        net.clients[1].send(app, b"\x05\x01\x00\x05\x03\x00\x01\0\0\0\0\0\0");
        net.drive();
        assert_eq!(net.got(1, app)[2..4], *b"\x05\x00");
    }
    for _ in 0..2 {
        net.reverse_open(spare);
    }
    assert!(!net.clients[0].peers[&kept].released, "what there was goes on");
    net.kill(spare);
    let app = net.request(1);
    net.advance(Duration::from_secs(6));
    assert_eq!(net.got(1, app)[2..4], *b"\x05\x04", "nobody is left");
}

#[test]
fn a_connector_waits_five_seconds_for_a_provider() {
    let mut net = Net::new(agent_server());
    net.join(connector());
    let app = net.request(0);
    net.advance(Duration::from_millis(4900));
    assert_eq!(net.got(0, app), b"\x05\x00");
    net.join(provider());
    assert_eq!(net.got(0, app)[2..4], *b"\x05\x00", "the provider serves what has waited");
    net.kill(1);
    net.advance(Duration::from_secs(31));
    let app = net.request(0);
    net.advance(Duration::from_millis(4900));
    assert_eq!(net.got(0, app), b"\x05\x00");
    net.advance(Duration::from_millis(200));
    assert_eq!(net.got(0, app)[2..4], *b"\x05\x04");
    assert_eq!(net.server.engine.stats().channels, 0);
}

#[test]
fn what_comes_before_the_provider_is_kept_in_order() {
    let mut net = Net::new(agent_server());
    let mut config = connector();
    config.relay.fast_open = true;
    net.join(config);
    let app = net.request(0);
    net.clients[0].send(app, b"early ");
    net.clients[0].send(app, b"bird");
    net.clients[0].send_eof(app);
    net.drive();
    net.join(provider());
    let target = net.clients[1].dialed[1].0;
    assert_eq!(net.got(1, target), b"early bird");
    assert!(net.clients[1].peers[&target].eof);
    net.clients[1].send(target, b"worm");
    net.clients[1].send_eof(target);
    net.drive();
    assert_eq!(net.got(0, app)[2 + 10..], *b"worm");
    net.assert_idle();
}

#[test]
fn an_end_before_the_provider_is_not_forgotten() {
    let mut config = connector();
    config.relay.fast_open = true;
    let mut net = Net::new(agent_server());
    net.join(config);
    let app = net.request(0);
    net.clients[0].send_eof(app);
    net.drive();
    net.join(provider());
    let target = net.clients[1].dialed[1].0;
    assert!(net.clients[1].peers[&target].eof);
    net.clients[1].send_eof(target);
    net.drive();
    net.assert_idle();
}

/// An old connector sends something and disconnects before the provider has answered.
#[test]
fn what_a_connector_sends_before_it_leaves_is_delivered() {
    for answer in [super::host::Answer::Accept, super::host::Answer::Refuse] {
        let mut net = Net::new(agent_server());
        net.join(provider());
        let mut config = connector();
        config.relay.extensions = ExtensionConfig::none();
        net.join(config);
        net.clients[0].dials = super::host::Answer::Silence;
        net.frozen.push(1);
        let id = ChannelId([7; 16]);
        let request = ConnectRequest::Tcp { address: "127.0.0.1".into(), port: 80 };
        say(&mut net, 1, &Message::Connect(Connect { channel: id, request, resume: false }));
        say(&mut net, 1, &data(id, b"last words"));
        say(&mut net, 1, &Message::Disconnect(Disconnect { channel: id, error: Some("EOF".into()) }));
        let target = net.clients[0].dialed[1].0;
        let input = match answer {
            super::host::Answer::Accept => Input::SocketOpened { socket: target },
            _ => Input::SocketFailed { socket: target, error: crate::error::SocketError::Refused },
        };
        net.clients[0].input(input);
        net.drive();
        if answer == super::host::Answer::Accept {
            assert_eq!(net.got(0, target), b"last words");
            assert!(net.clients[0].peers[&target].eof);
            net.clients[0].send_eof(target);
            net.drive();
        }
        assert_eq!(net.server.engine.stats().channels, 0);
        assert_eq!(net.clients[0].engine.stats().channels, 0);
    }
}

#[test]
fn an_end_that_dies_releases_the_other_at_once() {
    for own in [true, false] {
        let mut config = connector();
        if !own {
            config.relay.extensions = ExtensionConfig::none();
        }
        config.relay.timeouts.transport_grace = Duration::ZERO;
        let mut net = Net::new(agent_server());
        net.join(provider());
        net.join(config);
        let (_, target) = net.open(1, 0);
        net.kill(1);
        assert!(net.clients[0].peers[&target].reset, "own: {own}");
        assert_eq!(net.clients[0].engine.stats().channels, 0);
        assert_eq!(net.server.engine.stats().channels, 0);
    }
}

#[test]
fn a_link_that_comes_back_goes_on() {
    for cut in [0, 1] {
        let mut net = Net::agent();
        let (app, target) = net.open(1, 0);
        let (up, down) = (bytes(2 * MIB, 1), bytes(2 * MIB, 2));
        net.clients[1].send(app, &up[..MIB]);
        net.clients[0].send(target, &down[..MIB]);
        net.cut(cut);
        net.clients[1].send(app, &up[MIB..]);
        net.clients[0].send(target, &down[MIB..]);
        net.advance(Duration::from_secs(2));
        assert!(net.got(0, target) == up && net.got(1, app) == down, "client {cut}");
        net.clients[1].send_eof(app);
        net.clients[0].send_eof(target);
        net.drive();
        net.assert_idle();
    }
}

/// A connector whose application reads nothing: its window is full, and nobody else notices.
#[test]
fn a_connector_that_never_reads_stalls_nobody_else() {
    let mut net = Net::agent();
    net.join(connector());
    let (stuck, first) = net.open(1, 0);
    net.clients[1].peers.get_mut(&stuck).unwrap().stalled = true;
    net.clients[0].send(first, &bytes(8 * MIB, 1));
    net.drive();
    let (app, second) = net.open(2, 0);
    net.clients[0].send(second, &bytes(8 * MIB, 2));
    net.drive();
    assert_eq!(net.got(2, app).len(), 8 * MIB);
    let stats = net.server.engine.stats();
    assert!(stats.receive_queued <= MIB + 64 * KIB, "a window: {stats:?}");
    assert!(net.clients[0].engine.stats().send_queued <= 3 * MIB);
    while !net.clients[1].peers[&stuck].pending.is_empty() {
        net.clients[1].take_pending(stuck);
        net.drive();
    }
    assert!(net.got(1, stuck) == bytes(8 * MIB, 1));
}

/// The server has no word in how long the messages of a foreign provider are.
#[test]
fn a_message_longer_than_the_next_window_passes() {
    let mut config = provider();
    config.relay.extensions = ExtensionConfig::none();
    let mut net = Net::new(agent_server());
    net.join(config);
    let mut config = connector();
    config.relay.extensions.window = 16 * 1024;
    net.join(config);
    let (app, target) = net.open(1, 0);
    net.clients[0].send(target, &bytes(4 * MIB, 1));
    net.drive();
    assert!(net.got(1, app) == bytes(4 * MIB, 1));
}

/// Nothing is unpacked on the way, so that a payload costs the server what it weighs.
#[test]
fn compressed_payloads_go_on_as_they_came() {
    let mut server = Host::new(ServerEngine::new(agent_server(), [0; 32], epoch()), epoch());
    let login = url_login(REVERSE).replace("reverse=false", "reverse=true");
    let provider = offer_link(&mut server, &login, None).unwrap();
    let connector = offer_link(&mut server, &url_login(CONNECTOR), None).unwrap();
    let channel = ChannelId([7; 16]);
    let request = ConnectRequest::Tcp { address: "127.0.0.1".into(), port: 80 };
    server.receive(connector, &Message::Connect(Connect { channel, request, resume: false }));
    server.receive(provider, &Message::ConnectResponse(ConnectResponse { channel, result: Ok(()) }));
    // Not even gzip: that is for the other end to find out.
    let (compression, payload) = (Compression::Gzip, "anything".into());
    let data = Message::Data(Data { channel, compression, payload, datagram: None, sequence: None });
    for (from, to) in [(connector, provider), (provider, connector)] {
        server.receive(from, &data);
        assert_eq!(server.sent.pop_back(), Some((to, data.encode().unwrap())));
    }
}

#[test]
fn datagrams_pass_in_both_directions() {
    for (mut net, name) in networks() {
        let app = net.clients[1].connect_app();
        net.clients[1].send(app, b"\x05\x01\x00");
        net.clients[1].send(app, b"\x05\x03\x00\x01\0\0\0\0\0\0");
        net.drive();
        assert_eq!(net.got(1, app)[2..4], *b"\x05\x00", "{name}");
        let (socket, _) = net.clients[1].bound[0];
        net.clients[1].receive_datagram(socket, "127.0.0.1:5000", b"\0\0\0\x01\x7f\0\0\x01\0\x35query");
        net.drive();
        let (outside, to, payload) = net.clients[0].datagrams.pop_front().unwrap();
        assert_eq!((to, &payload[..]), ("127.0.0.1:53".parse().unwrap(), &b"query"[..]), "{name}");
        net.clients[0].receive_datagram(outside, "127.0.0.1:53", b"answer");
        net.drive();
        let (_, to, payload) = net.clients[1].datagrams.pop_front().unwrap();
        assert_eq!((to, &payload[10..]), ("127.0.0.1:5000".parse().unwrap(), &b"answer"[..]), "{name}");
        net.clients[1].send_eof(app);
        net.drive();
        net.assert_idle();
    }
}

#[test]
fn partners_are_counted_by_reverse_token() {
    let mut config = agent_server();
    config.tokens.push(NewToken::Reverse(crate::token::ReverseToken {
        token: Some(token("other-reverse")),
        ..Default::default()
    }));
    let mut net = Net::new(config);
    net.join(connector());
    let mut other = provider();
    other.token = token("other-reverse");
    net.join(other);
    net.frozen.push(0);
    net.join(provider());
    let told: Vec<_> = net.server.take_sent();
    assert!(matches!(&told[..], [Message::Partners(partners)] if partners.count == 1), "{told:?}");
}

// ---- whoever means harm

/// Lets the client of a number say something that no client of ours would.
fn say(net: &mut Net, number: usize, message: &Message) {
    let link = net.links(number).next().unwrap();
    net.server.receive(link, message);
    net.drive();
}

fn data(channel: ChannelId, payload: &'static [u8]) -> Message {
    let payload = payload.into();
    Message::Data(Data { channel, compression: Compression::None, payload, datagram: None, sequence: None })
}

fn channel_id(net: &Net, number: usize) -> ChannelId {
    let opened = net.clients[number].events.iter().rev().find_map(|event| match event {
        Event::ChannelOpened { channel, .. } => Some(channel.id),
        _ => None,
    });
    opened.expect("a channel is open")
}

#[test]
fn ids_of_others_are_worth_nothing() {
    let mut server = agent_server();
    let forward = ForwardToken { token: Some(token("forward")), ..ForwardToken::default() };
    server.tokens.push(NewToken::Forward(forward));
    let mut net = Net::new(server);
    net.join(provider());
    net.join(connector());
    net.join(client(CONNECTOR));
    net.join(client("forward"));
    net.join(provider());
    let app = net.request(1);
    let id = channel_id(&net, 1);
    let dialler = [0, 4].into_iter().find(|number| net.clients[*number].dialed.len() > 1).unwrap();
    let target = net.clients[dialler].dialed[1].0;
    for intruder in [2, 3, 4 - dialler] {
        say(&mut net, intruder, &data(id, b"forged"));
        say(&mut net, intruder, &Message::Disconnect(Disconnect { channel: id, error: None }));
        let request = ConnectRequest::Tcp { address: "127.0.0.1".into(), port: 80 };
        say(&mut net, intruder, &Message::Connect(Connect { channel: id, request, resume: false }));
        let request = ConnectRequest::Tcp { address: "127.0.0.1".into(), port: 80 };
        say(&mut net, intruder, &Message::Connect(Connect { channel: id, request, resume: true }));
    }
    net.clients[1].send(app, b"mine");
    net.clients[dialler].send(target, b"yours");
    net.drive();
    assert_eq!(net.got(dialler, target), b"mine");
    assert_eq!(net.got(1, app)[12..], *b"yours");
    assert!(!net.clients[1].peers[&app].reset);
}

/// A provider that takes nothing is asked for so much only, even if whoever asks gives up at once.
#[test]
fn what_is_asked_and_given_up_does_not_pile_up() {
    let mut net = Net::agent();
    let (dialler, asker) = (net.links(0).next().unwrap(), net.links(1).next().unwrap());
    net.server.links_stalled = true;
    for number in 0..100_000_u128 {
        let channel = ChannelId(number.to_be_bytes());
        let request = match number % 2 {
            0 => ConnectRequest::Tcp { address: "127.0.0.1".into(), port: 80 },
            _ => ConnectRequest::Udp,
        };
        net.server.receive(asker, &Message::Connect(Connect { channel, request, resume: false }));
        net.server.receive(asker, &Message::Disconnect(Disconnect { channel, error: None }));
    }
    net.server.links_stalled = false;
    for (link, bytes) in std::mem::take(&mut net.server.unwritten) {
        net.server.input(Input::LinkWritten { link, bytes });
    }
    let lengths =
        net.server.sent.iter().filter(|(link, _)| *link == dialler).map(|(_, message)| message.len());
    let asked: usize = lengths.sum();
    assert!((MIB..2 * MIB).contains(&asked), "{asked} bytes");
    net.drive();
    let other = net.join(connector());
    net.open(other, 0);
}

/// Connectors that come and go cost a provider that takes nothing one message, however many they are.
#[test]
fn who_takes_nothing_is_told_only_the_last_number_of_partners() {
    let mut config = agent_server();
    config.relay.limits.message_max = 4 * KIB;
    let mut server = Host::new(ServerEngine::new(config, [0; 32], epoch()), epoch());
    let login = url_login(REVERSE).replace("reverse=false", "reverse=true");
    let provider = offer_link(&mut server, &login, None).unwrap();
    server.links_stalled = true;
    for _ in 0..1000 {
        let connector = offer_link(&mut server, &url_login(CONNECTOR), None).unwrap();
        server.input(Input::LinkClosed { link: connector, cause: LinkClose::Peer(None) });
    }
    let _stays = offer_link(&mut server, &url_login(CONNECTOR), None).unwrap();
    server.sent.clear();
    for (link, bytes) in std::mem::take(&mut server.unwritten) {
        server.input(Input::LinkWritten { link, bytes });
    }
    let told: Vec<_> = server.sent.iter().filter(|(link, _)| *link == provider).collect();
    let [(_, message)] = &told[..] else { panic!("{} messages", told.len()) };
    let message = decode(message.clone()).unwrap().message;
    assert_eq!(message, Message::Partners(Partners { count: 1 }));
}

#[test]
fn a_provider_can_not_make_the_server_dial() {
    let mut net = Net::agent();
    let request = ConnectRequest::Tcp { address: "127.0.0.1".into(), port: 80 };
    net.frozen.push(0);
    say(&mut net, 0, &Message::Connect(Connect { channel: ChannelId([7; 16]), request, resume: false }));
    assert!(net.server.dialed.is_empty());
    let said = net.server.take_sent();
    assert!(
        matches!(&said[..], [Message::ConnectResponse(response)] if response.result.is_err()),
        "{said:?}"
    );
}

#[test]
fn tokens_are_for_their_kind_of_client() {
    for (text, role) in [
        (REVERSE, ClientRole::SocksSide),
        (CONNECTOR, ClientRole::Provider { connectors: Vec::new() }),
        ("unknown", ClientRole::SocksSide),
    ] {
        let mut net = Net::new(agent_server());
        net.join(ClientConfig { role, ..client(text) });
        assert!(net.clients[0].stopped.is_some(), "{text}");
    }
}

// ---- what real programs ask for

#[test]
fn a_real_server_learns_that_a_provider_is_there() {
    let mut net = Net::agent();
    let link = *net.clients[0].receive.keys().next().unwrap();
    net.frozen.push(0);
    let log = Log { level: "trace".into(), msg: "probe:1".into() };
    net.clients[0].receive(link, &Message::Log(log));
    let said = net.clients[0].take_sent();
    let version = env!("CARGO_PKG_VERSION");
    let pong = format!("pong:{{\"version\":\"v{version}\"}}");
    assert!(matches!(&said[..], [Message::Log(log)] if log.msg == pong && log.level == "trace"), "{said:?}");
}

/// Our channels are on the relay, whatever a peer of direct mode has tried.
#[test]
fn channels_that_leave_direct_mode_are_found_on_the_relay() {
    let mut net = Net::agent();
    net.open(1, 0);
    let id = channel_id(&net, 1);
    net.frozen.push(1);
    let link = net.links(1).next().unwrap();
    for (channel, known) in [(id, true), (ChannelId([9; 16]), false)] {
        let json = format!("{{\"channel_id\":\"{channel}\",\"reason\":\"degraded\"}}");
        let migrate = Direct { kind: DirectKind::ChannelMigrate, json: json.into() };
        net.server.receive(link, &Message::Direct(migrate));
        let answer = match known {
            true => format!("{{\"channel_id\":\"{channel}\",\"success\":true}}"),
            false => {
                format!("{{\"channel_id\":\"{channel}\",\"success\":false,\"error\":\"unknown channel\"}}")
            }
        };
        let said = net.server.take_sent();
        assert!(matches!(&said[..], [Message::Direct(direct)] if direct.json == answer), "{said:?}");
    }
}

// ---- tokens come and go

#[test]
fn a_removed_token_cuts_its_clients_and_those_that_depend_on_it() {
    let mut net = Net::agent();
    let (app, target) = net.open(1, 0);
    net.remove_token(REVERSE);
    net.drive();
    assert!(net.clients[1].peers[&app].reset && net.clients[0].peers[&target].reset);
    assert_eq!(net.server.engine.stats().links, 0);
    net.advance(Duration::from_secs(90));
    assert!(
        net.clients[0].stopped.is_some() && net.clients[1].stopped.is_some(),
        "they are not let in again"
    );
    let stats = net.server.engine.stats();
    assert_eq!((stats.channels, stats.suspended_links, stats.links), (0, 0, 0), "{stats:?}");
    assert!(net.server.listener.is_none(), "the SOCKS port is closed");
}

#[test]
fn a_server_opens_no_channels_itself() {
    let mut net = Net::new(ServerConfig::default());
    let ticket = net.server.open("127.0.0.1:80");
    assert_eq!(net.server.refused[&ticket], OpenError::Unsupported);
}
