//! What happens to what a provider was asked for when it, or the connector, goes away meanwhile.

use std::time::Duration;

use super::host::Answer;
use super::net::{Net, agent_server, connector, provider, token};
use crate::access::AccessRule;
use crate::config::{ClientConfig, ExtensionConfig, ServerConfig};
use crate::ids::ChannelId;
use crate::io::Engine;
use crate::token::{ConnectorToken, NewToken};
use crate::wire::{Compression, Connect, ConnectRequest, Data, Disconnect, Endpoint, Endpoints, Message};

const ID: ChannelId = ChannelId([7; 16]);

fn foreign(mut config: ClientConfig) -> ClientConfig {
    config.relay.extensions = ExtensionConfig::none();
    config
}

fn fast(mut config: ClientConfig) -> ClientConfig {
    config.relay.fast_open = true;
    config
}

/// Lets what the server has sent reach a client that does not get to answer.
fn deliver_to_frozen(net: &mut Net) {
    for (link, message) in std::mem::take(&mut net.server.sent) {
        let (number, link) = net.at_client(link);
        net.clients[number].receive_bytes(link, message);
    }
}

/// The session of a provider replays the answer of a target that nobody waits for any more.
#[test]
fn what_a_provider_said_before_it_was_lost_is_not_taken_for_the_new_target_s() {
    let mut net = Net::new(agent_server());
    net.join(provider());
    net.join(connector());
    net.frozen.push(0);
    let app = net.request(1);
    deliver_to_frozen(&mut net);
    let old = net.clients[0].dialed[1].0;
    net.clients[0].send(old, b"old greeting");
    net.frozen.clear();
    net.cut(0);
    net.advance(Duration::from_secs(2));
    assert_eq!(net.clients[0].dialed.len(), 1 + 1 + 1 + 1, "link, target, link, target");
    let new = net.clients[0].dialed[3].0;
    assert!(net.clients[0].peers[&old].released, "nobody talks to it any more");
    let question = vec![7; 100_000];
    net.clients[1].send(app, &question);
    net.clients[0].send(new, b"new greeting");
    net.drive();
    assert!(net.got(0, new) == question);
    assert_eq!(net.got(1, app)[12..], *b"new greeting");
    net.clients[1].send_eof(app);
    net.clients[0].send_eof(new);
    net.drive();
    net.assert_idle();
}

/// As above, for datagrams.
#[test]
fn an_association_is_asked_for_again() {
    let mut net = Net::agent();
    net.frozen.push(0);
    let app = net.clients[1].connect_app();
    net.clients[1].send(app, b"\x05\x01\x00\x05\x03\x00\x01\0\0\0\0\0\0");
    net.drive();
    deliver_to_frozen(&mut net);
    net.frozen.clear();
    net.cut(0);
    net.advance(Duration::from_secs(2));
    assert_eq!(net.got(1, app)[2..4], *b"\x05\x00");
    let (socket, _) = net.clients[1].bound[0];
    net.clients[1].receive_datagram(socket, "127.0.0.1:5000", b"\0\0\0\x01\x7f\0\0\x01\0\x35query");
    net.drive();
    assert_eq!(net.clients[0].datagrams.len(), 1);
    let (outside, to, _) = net.clients[0].datagrams.pop_front().unwrap();
    net.clients[0].receive_datagram(outside, &to.to_string(), b"answer");
    net.drive();
    assert_eq!(net.clients[1].datagrams.len(), 1);
    net.clients[1].send_eof(app);
    net.drive();
    net.assert_idle();
}

/// A connector that waits for a provider, is cut off, and comes back.
#[test]
fn a_wish_survives_the_return_of_its_connector() {
    let mut net = Net::new(agent_server());
    net.join(connector());
    let app = net.request(0);
    let link = net.links(0).next().unwrap();
    let end = net.lose(link);
    net.join(provider());
    assert_eq!(net.clients[1].dialed.len(), 2, "it is served meanwhile");
    net.lose_at_client(end);
    net.advance(Duration::from_secs(2));
    assert_eq!(net.got(0, app)[2..4], *b"\x05\x00");
}

/// The connector ends while its provider is being asked: that is not the provider's fault.
#[test]
fn an_association_of_a_connector_that_dies_ends() {
    let mut net = Net::new(agent_server());
    net.join(provider());
    net.join(foreign(connector()));
    net.frozen.push(0);
    let app = net.clients[1].connect_app();
    net.clients[1].send(app, b"\x05\x01\x00\x05\x03\x00\x01\0\0\0\0\0\0");
    net.drive();
    net.kill(1);
    assert_eq!(net.server.engine.stats().channels, 0);
    net.frozen.retain(|number| *number != 0);
    net.drive();
    net.assert_idle();
}

/// An application that has said everything waits for a target that takes its time.
#[test]
fn the_end_of_a_request_is_no_reason_to_give_up_before_the_target_is_there() {
    let mut config = agent_server();
    config.relay.timeouts.half_close_linger = Duration::from_secs(2);
    let mut net = Net::new(config);
    net.join(foreign(provider()));
    net.join(fast(connector()));
    net.clients[0].dials = Answer::Silence;
    let app = net.request(1);
    net.clients[1].send(app, b"question");
    net.clients[1].send_eof(app);
    net.advance(Duration::from_secs(8));
    let target = net.clients[0].dialed[1].0;
    net.clients[0].input(crate::io::Input::SocketOpened { socket: target });
    net.drive();
    assert_eq!(net.got(0, target), b"question");
    net.clients[0].send(target, b"answer");
    net.drive();
    assert_eq!(net.got(1, app)[12..], *b"answer");
}

// ---- datagrams

/// A connector that has opened an association by itself. `rules`: of its token.
fn with_association(rules: &[&str]) -> Net {
    let rules = rules.iter().map(|rule| rule.parse::<AccessRule>().unwrap()).collect();
    let mut config = agent_server();
    config.tokens.pop();
    let connector = ConnectorToken {
        token: Some(token(super::net::CONNECTOR)),
        rules,
        ..ConnectorToken::new(token(super::net::REVERSE))
    };
    config.tokens.push(NewToken::Connector(connector));
    joined(config)
}

fn joined(config: ServerConfig) -> Net {
    let mut net = Net::new(config);
    net.join(foreign(connector()));
    net.frozen.push(0);
    say(&mut net, &Message::Connect(Connect { channel: ID, request: ConnectRequest::Udp, resume: false }));
    net
}

fn say(net: &mut Net, message: &Message) {
    let link = net.links(0).next().unwrap();
    net.server.receive(link, message);
    net.drive();
}

fn datagram(datagram: Endpoints) -> Message {
    let (compression, payload) = (Compression::None, "query".into());
    Message::Data(Data { channel: ID, compression, payload, datagram: Some(datagram), sequence: None })
}

fn at(address: &str, port: u16) -> Endpoint {
    Endpoint { address: address.into(), port }
}

#[test]
fn datagrams_that_nobody_takes_yet_are_dropped() {
    for rules in [&[][..], &["127.0.0.0/8"][..]] {
        let mut net = with_association(rules);
        net.server.sent.clear();
        let target = at("127.0.0.1", 53);
        say(&mut net, &datagram(Endpoints::Two { source: Endpoint::default(), target }));
        assert!(net.server.take_sent().is_empty(), "{rules:?}");
        assert_eq!(net.server.engine.stats().datagrams_dropped, 1, "{rules:?}");
    }
}

/// Old programs send one address where others need two.
#[test]
fn datagrams_go_on_with_two_addresses() {
    let mut net = with_association(&[]);
    net.join(foreign(provider()));
    net.frozen.push(1);
    net.server.sent.clear();
    say(&mut net, &datagram(Endpoints::One(at("127.0.0.1", 53))));
    let sent = net.server.take_sent();
    let expected = Endpoints::Two { source: Endpoint::default(), target: at("127.0.0.1", 53) };
    assert_eq!(sent, [datagram(expected)]);
    assert_eq!(net.server.engine.stats().datagrams_received, 1);
    say(&mut net, &Message::Disconnect(Disconnect { channel: ID, error: None }));
    assert_eq!(net.server.engine.stats().channels, 0);
}
