//! Dials through an upstream proxy, which the test plays.

use std::time::Duration;

use super::host::{Answer, Host};
use super::pair::{Pair, client_config, server_config};
use crate::access::AccessRule;
use crate::dial::LinkProxy;
use crate::error::{ChannelError, LinkError, SocketError, UpstreamError};
use crate::event::Event;
use crate::ids::SocketId;
use crate::io::{Action, Command, Engine, Input, LinkRequest, Output, ReadBuf};
use crate::wire::{Connect, ConnectRequest, Message};
use crate::{ChannelId, ClientEngine};

const SOCKS5_REQUEST: &[u8] = b"\x05\x01\x00\x03\x0cexample.test\x00\x50";
const SOCKS5_REPLY: &[u8] = b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00";
const CONNECT: &[u8] = b"CONNECT example.test:80 HTTP/1.1\r\nHost: example.test:80\r\n\r\n";

fn pair(proxy: &str) -> Pair {
    let mut config = server_config();
    config.relay.upstream = Some(proxy.parse().unwrap());
    Pair::with(client_config(), config)
}

/// Asks for a target; returns the server's connection to the proxy.
fn open(pair: &mut Pair) -> (crate::Ticket, SocketId) {
    let ticket = pair.client.open("example.test:80");
    pair.drive();
    (ticket, pair.server.dialed.last().expect("the proxy is connected to").0)
}

#[test]
fn a_target_is_reached_through_socks5_with_its_name_unresolved() {
    let mut pair = pair("socks5://user:word@proxy.test:9");
    let (ticket, proxy) = open(&mut pair);
    let names: Vec<_> = pair.server.queries.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!((names, pair.server.dialed[0].1.port()), (vec!["proxy.test"], 9));
    assert_eq!(pair.target(proxy), b"\x05\x02\x00\x02");
    pair.server.send(proxy, b"\x05\x02");
    pair.server.send(proxy, b"\x01\x00");
    let sent = [b"\x05\x02\x00\x02\x01\x04user\x04word", SOCKS5_REQUEST].concat();
    assert_eq!(pair.target(proxy), sent);
    // The target speaks first.
    pair.server.send(proxy, &[SOCKS5_REPLY, b"220 "].concat());
    pair.server.send(proxy, b"ready");
    pair.drive();
    let app = pair.client.adopted[&ticket];
    assert_eq!(pair.app(app), b"220 ready");
    pair.client.send(app, b"EHLO");
    pair.drive();
    assert_eq!(pair.target(proxy), [&sent[..], b"EHLO"].concat());
    pair.client.send_eof(app);
    pair.server.send_eof(proxy);
    pair.drive();
    pair.assert_idle();
}

#[test]
fn a_target_is_reached_through_connect_and_everything_behind_the_answer_arrives() {
    // Longer than what is read ahead, so that the answer is cut in it.
    let bytes: Vec<u8> = (0..100_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for filler in [0, 1, 900, 1000, 1024, 5000] {
        let mut pair = pair("http://127.0.0.1:3128");
        let (ticket, proxy) = open(&mut pair);
        assert_eq!(pair.server.queries.len(), 0);
        assert_eq!(pair.target(proxy), CONNECT);
        let head = format!("HTTP/1.1 200 OK\r\nX-Filler: {}\r\n\r\n", "x".repeat(filler));
        pair.server.send(proxy, &[head.as_bytes(), &bytes].concat());
        pair.server.send_eof(proxy);
        pair.drive();
        let app = pair.client.adopted[&ticket];
        assert!(pair.app(app) == bytes, "with {filler} bytes in the head");
        assert!(pair.client.peers[&app].eof);
    }
}

#[test]
fn failures_say_that_a_proxy_was_used() {
    for (proxy, answer, text) in [
        ("socks5://127.0.0.1", &b"\x05\x00\x05\x05"[..], "SOCKS5 reply: connection refused"),
        ("socks5://127.0.0.1", b"\x05\xff", "the SOCKS5 proxy wants a user name and a password"),
        (
            "http://127.0.0.1",
            b"HTTP/1.1 407 Log In\r\n\r\n",
            "the HTTP proxy wants a valid user name and password (407)",
        ),
        ("http://127.0.0.1", b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "the HTTP proxy answered 502 Bad Gateway"),
    ] {
        let mut pair = pair(proxy);
        let (ticket, socket) = open(&mut pair);
        pair.server.send(socket, answer);
        pair.drive();
        let error = pair.client.refused[&ticket].to_string();
        assert_eq!(error, format!("connect failed: dial tcp example.test:80 via proxy: {text}"));
        assert!(pair.server.peers[&socket].reset);
        pair.assert_idle();
    }
}

#[test]
fn a_proxy_that_is_not_there_or_goes_away_is_a_failure() {
    let error = |pair: &Pair, ticket| pair.client.refused[ticket].to_string();
    let mut gone = pair("http://127.0.0.1:3128");
    gone.server.dials = Answer::Refuse;
    let (ticket, _) = open(&mut gone);
    assert!(
        error(&gone, &ticket).ends_with("via proxy: connect to the proxy: connection refused"),
        "where it is, only its owner has to know"
    );

    let mut ends = pair("http://127.0.0.1:3128");
    let (ticket, socket) = open(&mut ends);
    ends.server.send(socket, b"HTTP/1.1 200");
    ends.server.send_eof(socket);
    ends.drive();
    assert!(
        error(&ends, &ticket).ends_with("the connection to the proxy was lost: unexpected end of stream")
    );

    let mut breaks = pair("socks5://127.0.0.1");
    let (ticket, socket) = open(&mut breaks);
    breaks.server.fail(socket, SocketError::Reset);
    breaks.drive();
    assert!(
        error(&breaks, &ticket).ends_with("the connection to the proxy was lost: connection reset by peer")
    );
    for pair in [gone, ends, breaks] {
        pair.assert_idle();
    }
}

#[test]
fn the_dial_timeout_covers_the_handshake() {
    let mut pair = pair("socks5://proxy.test");
    let (ticket, socket) = open(&mut pair);
    pair.advance(Duration::from_millis(9_000));
    pair.server.send(socket, b"\x05\x00");
    pair.advance(Duration::from_millis(1_001));
    let error = pair.client.refused[&ticket].to_string();
    assert!(error.ends_with("via proxy: the proxy did not answer in time"), "{error}");
    pair.assert_idle();
}

#[test]
fn all_addresses_of_the_proxy_are_tried() {
    let mut pair = pair("socks5://proxy.test");
    pair.server.dials = Answer::Silence;
    pair.server.resolves_to = Ok(["::1", "127.0.0.1"].map(|ip| ip.parse().unwrap()).to_vec());
    let (_, first) = open(&mut pair);
    pair.advance(Duration::from_millis(250));
    let second = pair.server.dialed[1].0;
    pair.server.input(Input::SocketOpened { socket: second });
    assert_eq!(pair.target(second), b"\x05\x01\x00");
    assert!(pair.server.peers[&first].reset, "the loser is dropped");
    pair.advance(Duration::from_secs(1));
    assert_eq!(pair.server.dialed.len(), 2);
}

#[test]
fn a_cancelled_dial_leaves_nothing_behind() {
    let mut pair = pair("socks5://proxy.test");
    let app = pair.request("127.0.0.1:80");
    let proxy = pair.server.dialed[0].0;
    pair.client.fail(app, SocketError::Reset);
    pair.drive();
    assert!(pair.server.peers[&proxy].reset);
    pair.assert_idle();
}

#[test]
fn udp_does_not_go_past_the_proxy() {
    let mut pair = pair("socks5://proxy.test");
    let link = *pair.to_server.values().next().unwrap();
    let connect = Connect { channel: ChannelId([9; 16]), request: ConnectRequest::Udp, resume: false };
    pair.server.receive(link, &Message::Connect(connect));
    let answers = pair.server.take_sent();
    let [Message::ConnectResponse(answer)] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(answer.result, Err("UDP through an upstream proxy is not supported".to_owned()));
}

// ---- the link of a client

/// A client whose link goes through `proxy`, and its connection to the proxy.
fn client(proxy: &str) -> (Host<ClientEngine>, SocketId) {
    let mut config = client_config();
    config.proxy = LinkProxy::Through(proxy.parse().unwrap());
    let now = super::epoch();
    let host = Host::new(ClientEngine::new(config, [1; 32], now), now);
    let socket = host.dialed[0].0;
    (host, socket)
}

#[test]
fn a_link_goes_through_a_proxy() {
    let (mut host, socket) = client("http://proxy.test");
    assert_eq!(host.queries[0].1, "proxy.test");
    assert_eq!(host.peers[&socket].got, b"CONNECT 127.0.0.1:8765 HTTP/1.1\r\nHost: 127.0.0.1:8765\r\n\r\n");
    host.send(socket, b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n");
    let (_, LinkRequest { authority, .. }) = host.opening.pop_front().expect("the link is opened");
    assert_eq!(authority, "127.0.0.1:8765");
    assert!(!host.peers.contains_key(&socket), "the socket is a link now");

    let (mut host, socket) = client("socks5://proxy.test");
    host.send(socket, b"\x05\x00");
    assert_eq!(host.peers[&socket].got, b"\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01\x22\x3d");
    host.send(socket, SOCKS5_REPLY);
    assert!(host.opening.pop_front().is_some());
}

#[test]
fn a_client_that_is_turned_away_by_the_proxy_tries_again() {
    let (mut host, socket) = client("socks5://user:word@proxy.test");
    host.send(socket, b"\x05\x02\x01\x01");
    let lost = host.events.iter().find_map(|event| match event {
        Event::LinkLost { error, retry_in: Some(_), .. } => Some(error.clone()),
        _ => None,
    });
    let text = "dial 127.0.0.1:8765 via proxy: the SOCKS5 proxy rejected the user name or password";
    assert!(
        matches!(&lost, Some(error @ LinkError::Upstream { error: UpstreamError::Socks5(_), .. })
        if error.to_string() == text),
        "{lost:?}"
    );
}

/// Whatever a driver has read is lost to the link, so it must not be allowed to read more.
#[test]
fn not_a_byte_behind_the_answer_may_be_read_from_the_socket_of_a_link() {
    for (proxy, answer) in [
        ("http://127.0.0.1", &b"HTTP/1.0 200 Connection established\r\nProxy-Agent: x\r\n\r\n"[..]),
        ("http://127.0.0.1", b"HTTP/1.1 200\n\n"),
        ("socks5://127.0.0.1", &[b"\x05\x00", SOCKS5_REPLY].concat()),
        ("socks5://127.0.0.1", b"\x05\x00\x05\x00\x00\x03\x07unusual\x00\x50"),
        ("socks5://user:word@127.0.0.1", &[b"\x05\x02\x01\x00", SOCKS5_REPLY].concat()),
    ] {
        let mut config = client_config();
        config.proxy = LinkProxy::Through(proxy.parse().unwrap());
        let now = super::epoch();
        let mut engine = ClientEngine::new(config, [1; 32], now);
        let (mut read, mut credit, mut opened) = (0, 0, false);
        let mut id = None;
        while !opened {
            match engine.poll_output() {
                Output::Action(Action::Connect { socket, read, .. }) => {
                    assert_eq!(read.bytes, 0);
                    id = Some(socket);
                    engine.handle_input(now, Input::SocketOpened { socket });
                }
                Output::Read { credit: more, .. } => credit += more.bytes,
                Output::Action(Action::OpenLink { .. }) => opened = true,
                Output::Timeout(_) => {
                    assert!(credit > 0, "{proxy}: stuck after {read} bytes");
                    assert!(read + credit <= answer.len(), "{proxy}: {credit} more after {read} bytes");
                    let buf = ReadBuf::copy_from(&answer[read..read + credit]);
                    (read, credit) = (read + credit, 0);
                    engine.handle_input(now, Input::SocketRead { socket: id.unwrap(), buf });
                }
                _ => {}
            }
        }
        assert_eq!(read, answer.len(), "{proxy}");
    }
}

#[test]
fn a_shutdown_during_the_handshake_ends_at_once() {
    let (mut host, _) = client("http://proxy.test");
    host.input(Input::Command(Command::Shutdown { drain: Duration::ZERO }));
    assert!(host.stopped.is_some());
}

/// A pair whose server uses a proxy, and these rules.
fn with_rules(proxy: &str, rules: &[&str]) -> Pair {
    let mut config = server_config();
    config.relay.upstream = Some(proxy.parse().unwrap());
    config.relay.dial_rules = rules.iter().map(|rule| rule.parse::<AccessRule>().unwrap()).collect();
    Pair::with(client_config(), config)
}

#[test]
fn rules_are_about_the_target_not_about_its_proxy() {
    // A proxy that no rule would allow, and one that all would.
    for proxy in ["socks5://127.0.0.1:1080", "socks5://192.0.2.9:1080"] {
        let mut pair = with_rules(proxy, &["!private", "93.184.216.0/24:443", "10.0.0.0/8:22"]);
        for target in ["10.0.0.5:22", "93.184.216.34:80", "[::ffff:10.0.0.5]:22"] {
            let ticket = pair.client.open(target);
            pair.drive();
            let error = pair.client.refused[&ticket].to_string();
            assert!(error.contains("blocked by access control"), "{target}: {error}");
        }
        assert!(pair.server.dialed.is_empty(), "the proxy is not asked");
        let blocked = |event: &&Event| {
            matches!(event, Event::ChannelClosed { error: Some(ChannelError::Blocked(_)), .. })
        };
        assert_eq!(pair.server.events.iter().filter(blocked).count(), 3, "the operator is told");
        pair.client.open("93.184.216.34:443");
        pair.drive();
        assert_eq!(pair.server.dialed.len(), 1);
    }
}

#[test]
fn a_name_that_has_to_be_judged_is_looked_up_and_the_proxy_gets_the_address() {
    let mut pair = with_rules("socks5://127.0.0.1:1080", &["!10.0.0.0/8"]);
    let address = |text: &str| text.parse::<std::net::IpAddr>().unwrap();
    pair.server.resolves_to = Ok(vec![address("10.0.0.5"), address("198.51.100.1")]);
    let (_, proxy) = open(&mut pair);
    assert_eq!(pair.server.queries[0].1, "example.test");
    assert_eq!(pair.target(proxy), b"\x05\x01\x00");
    pair.server.send(proxy, b"\x05\x00");
    pair.drive();
    let request = b"\x05\x01\x00\x01\xc6\x33\x64\x01\x00\x50";
    assert!(pair.target(proxy).ends_with(request), "{:?}", pair.target(proxy));

    let mut pair = with_rules("socks5://127.0.0.1:1080", &["!10.0.0.0/8"]);
    pair.server.resolves_to = Ok(vec![address("10.0.0.5")]);
    let ticket = pair.client.open("example.test:80");
    pair.drive();
    assert!(pair.client.refused[&ticket].to_string().contains("blocked by access control"));
    assert!(pair.server.dialed.is_empty());
}
