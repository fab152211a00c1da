//! Reverse mode: the SOCKS port is at the server, and providers connect to targets.

use std::time::Duration;

use super::net::{Net, SOCKS_PORT, agent_server, provider, token};
use crate::access::AccessRule;
use crate::config::{ClientConfig, ExtensionConfig, ServerConfig};
use crate::error::SocketError;
use crate::event::Event;
use crate::io::{Command, Engine, Input};
use crate::secret::Credentials;
use crate::token::{NewToken, ReverseToken};

/// Providers of other programs, whose lost links are lost for good.
fn foreign() -> ClientConfig {
    let mut config = provider();
    config.relay.extensions = ExtensionConfig::none();
    config
}

fn three() -> Net {
    let mut net = Net::new(agent_server());
    for _ in 0..3 {
        net.join(foreign());
    }
    net
}

#[test]
fn the_port_opens_with_the_first_provider_and_stays() {
    let mut net = Net::new(agent_server());
    assert!(net.server.listener.is_none());
    net.join(provider());
    let local = std::net::SocketAddr::from(([127, 0, 0, 1], SOCKS_PORT));
    assert!(net.server.events.contains(&Event::SocksListening { local }));
    let (app, target) = net.reverse_open(0);
    net.server.send(app, b"question");
    net.clients[0].send(target, b"answer");
    net.drive();
    assert_eq!(net.got(0, target), b"question");
    assert_eq!(net.server.peers[&app].got, b"answer");
    net.kill(0);
    assert!(net.server.listener.is_some());
}

#[test]
fn early_ports_are_open_before() {
    let mut config = ServerConfig::default();
    config.tokens.push(NewToken::Reverse(ReverseToken { listen_early: true, ..ReverseToken::default() }));
    assert!(Net::new(config).server.listener.is_some());
}

#[test]
fn a_request_waits_ten_seconds_for_a_provider() {
    let mut net = Net::new(agent_server());
    net.join(foreign());
    net.kill(0);
    let app = net.reverse_request();
    net.advance(Duration::from_millis(9900));
    assert_eq!(net.server.peers[&app].got, b"\x05\x00");
    net.advance(Duration::from_millis(200));
    assert_eq!(net.server.peers[&app].got[2..4], *b"\x05\x03");
    let app = net.reverse_request();
    net.join(foreign());
    assert_eq!(net.server.peers[&app].got[2..4], *b"\x05\x00");
}

#[test]
fn providers_take_turns() {
    let mut net = three();
    for _ in 0..6 {
        net.reverse_request();
    }
    let dialled: Vec<_> = net.clients.iter().map(|client| client.dialed.len()).collect();
    assert_eq!(dialled, [2 + 1, 2 + 1, 2 + 1], "and one dial for the link");
}

#[test]
fn requests_at_a_provider_that_dies_go_to_another() {
    let mut net = three();
    net.clients[0].dials = super::host::Answer::Silence;
    let apps: Vec<_> = (0..3).map(|_| net.reverse_request()).collect();
    let answered = |net: &Net| apps.iter().filter(|app| net.server.peers[app].got.len() > 2).count();
    assert_eq!(answered(&net), 2);
    net.kill(0);
    assert_eq!(answered(&net), 3);
    assert!(apps.iter().all(|app| net.server.peers[app].got[2..4] == *b"\x05\x00"));
}

#[test]
fn a_provider_that_hangs_is_passed_over_within_five_seconds() {
    for quiet in [0, 10] {
        hang_after(Duration::from_secs(quiet));
    }
}

/// One of three providers freezes when nothing has been heard of it for so long.
fn hang_after(quiet: Duration) {
    let mut net = three();
    net.advance(quiet);
    net.frozen.push(1);
    let apps: Vec<_> = (0..9).map(|_| net.reverse_request()).collect();
    let answered = |net: &Net| apps.iter().filter(|app| net.server.peers[app].got.len() > 2).count();
    assert_eq!(answered(&net), 6);
    net.advance(Duration::from_secs(5));
    assert_eq!(answered(&net), 9, "others were asked");
    let later: Vec<_> = (0..9).map(|_| net.reverse_request()).collect();
    assert!(later.iter().all(|app| net.server.peers[app].got.len() > 2), "nobody asks it any more");
    // It was only away.
    net.frozen.clear();
    net.advance(Duration::from_secs(1));
    let dialled = net.clients[1].dialed.len();
    for _ in 0..3 {
        net.reverse_request();
    }
    assert_eq!(net.clients[1].dialed.len(), dialled + 1);
}

#[test]
fn rules_and_credentials_of_the_token_hold_at_the_port() {
    let rules = ["!127.0.0.0/8".parse::<AccessRule>().unwrap()].into_iter().collect();
    let reverse = ReverseToken { token: Some(token("reverse-token")), rules, ..ReverseToken::default() };
    let mut net =
        Net::new(ServerConfig { tokens: vec![NewToken::Reverse(reverse)], ..ServerConfig::default() });
    net.join(provider());
    let app = net.reverse_request();
    assert_eq!(net.server.peers[&app].got[2..4], *b"\x05\x02");
    assert_eq!(net.clients[0].dialed.len(), 1, "the link only");
}

#[test]
fn a_port_stays_for_a_token_that_takes_the_place_of_another() {
    let mut net = Net::new(agent_server());
    net.join(foreign());
    net.remove_token("reverse-token");
    net.advance(Duration::from_secs(20));
    let listener = net.server.listener.expect("it stays for a while");
    let again =
        ReverseToken { token: Some(token("again")), port: Some(SOCKS_PORT), ..ReverseToken::default() };
    let ticket = net.server.ticket();
    net.server.input(Input::Command(Command::AddToken { ticket, token: NewToken::Reverse(again) }));
    let mut config = foreign();
    config.token = token("again");
    let number = net.join(config);
    assert_eq!(net.server.listener, Some(listener));
    net.advance(Duration::from_secs(20));
    net.reverse_open(number);
}

#[test]
fn a_stopping_server_lets_nobody_wait() {
    let mut net = Net::new(agent_server());
    net.join(foreign());
    net.kill(0);
    let app = net.reverse_request();
    net.server.input(Input::Command(Command::Shutdown { drain: Duration::ZERO }));
    net.advance(Duration::from_secs(10));
    assert_eq!(net.server.peers[&app].got[2..4], *b"\x05\x03");
    assert!(net.server.stopped.is_some());
    assert_eq!(net.server.engine.stats().channels, 0);
}

/// Whoever has logged in with the credentials of a token that is gone has not logged in.
#[test]
fn applications_of_the_old_token_do_not_reach_the_new_one() {
    let reverse = |text: &str| ReverseToken {
        token: Some(token(text)),
        port: Some(SOCKS_PORT),
        ..ReverseToken::default()
    };
    let config =
        ServerConfig { tokens: vec![NewToken::Reverse(reverse("reverse-token"))], ..ServerConfig::default() };
    let mut net = Net::new(config);
    net.join(foreign());
    let (greeted, proxied) = (net.server.connect_app(), net.server.connect_app());
    net.server.send(greeted, b"\x05\x01\x00");
    net.server.send(proxied, b"GET http://127.0.0.1/ HTTP/1.1\r\n");
    net.remove_token("reverse-token");
    let credentials = Credentials::new("user", "secret").unwrap();
    let again = ReverseToken { credentials: Some(credentials), ..reverse("again") };
    let ticket = net.server.ticket();
    net.server.input(Input::Command(Command::AddToken { ticket, token: NewToken::Reverse(again) }));
    net.join(ClientConfig { token: token("again"), ..foreign() });
    assert!(net.server.peers[&greeted].reset && net.server.peers[&proxied].reset);
    assert_eq!(net.server.engine.stats().sockets, 0);
    let app = net.server.connect_app();
    net.server.send(app, b"\x05\x01\x00");
    assert_eq!(net.server.peers[&app].got, b"\x05\xff", "credentials are needed");
}

#[test]
fn a_port_that_could_not_be_opened_is_tried_again() {
    let mut net = Net::new(agent_server());
    net.join(provider());
    let listener = net.server.listener.take().unwrap();
    net.server.input(Input::ListenerFailed { listener, error: SocketError::AddressInUse });
    assert!(net.server.events.iter().any(|event| matches!(event, Event::SocksUnavailable { .. })));
    net.advance(Duration::from_secs(29));
    assert!(net.server.listener.is_none());
    net.advance(Duration::from_secs(1));
    assert!(net.server.listener.is_some_and(|again| again != listener));
    net.reverse_open(0);
}
