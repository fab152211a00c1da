//! Applications that use the SOCKS port as an HTTP proxy.

use std::time::Duration;

use super::host::Answer;
use super::pair::{Pair, client_config, server_config};
use crate::config::ExtensionConfig;
use crate::error::SocketError;
use crate::ids::SocketId;
use crate::io::{Command, Engine, Input};
use crate::secret::Credentials;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn pairs() -> [Pair; 2] {
    [Pair::new(), Pair::plain()]
}

/// An application that has sent `request`.
fn ask(pair: &mut Pair, request: &str) -> SocketId {
    let app = pair.client.connect_app();
    pair.client.send(app, request.as_bytes());
    pair.drive();
    app
}

fn get(target: &str) -> String {
    format!("GET http://{target}/ HTTP/1.1\r\n\r\n")
}

fn got(target: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n").into_bytes()
}

fn last_target(pair: &Pair) -> SocketId {
    pair.server.dialed.last().expect("a target is dialled").0
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn connect_makes_a_tunnel() {
    for mut pair in pairs() {
        let app = pair.client.connect_app();
        pair.client.send(app, b"CONNECT 192.0.2.1:443 HTTP/1.1\r\nHost: x\r\n\r\nearly");
        pair.drive();
        assert_eq!(pair.app(app), b"HTTP/1.1 200 Connection Established\r\n\r\n");
        let target = last_target(&pair);
        assert_eq!(pair.server.dialed[0].1.to_string(), "192.0.2.1:443");
        assert_eq!(pair.target(target), b"early");
        let bytes: Vec<u8> = (0..1_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        pair.client.send(app, &bytes);
        pair.server.send(target, &bytes);
        pair.drive();
        pair.server.send_eof(target);
        pair.client.send_eof(app);
        pair.drive();
        assert!(pair.app(app).ends_with(&bytes) && pair.target(target).ends_with(&bytes));
        assert!(pair.client.peers[&app].eof && pair.server.peers[&target].eof);
        pair.assert_idle();
    }
}

#[test]
fn everything_sent_behind_connect_arrives_even_if_it_is_much() {
    let mut config = client_config();
    config.relay.limits.message_max = 1;
    let mut pair = Pair::with(config, server_config());
    pair.server.dials = Answer::Silence;
    let bytes: Vec<u8> = (0..200_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let app = ask(&mut pair, "CONNECT 192.0.2.1:443 HTTP/1.1\r\n\r\n");
    pair.client.send(app, &bytes);
    pair.client.send_eof(app);
    let target = last_target(&pair);
    pair.server.input(Input::SocketOpened { socket: target });
    pair.drive();
    assert!(pair.target(target) == bytes && pair.server.peers[&target].eof);
}

#[test]
fn several_requests_use_one_connection_and_several_targets() {
    for mut pair in pairs() {
        let app = ask(&mut pair, &get("192.0.2.1"));
        for (number, target) in ["192.0.2.1", "192.0.2.2:81", "example.test"].into_iter().enumerate() {
            if number > 0 {
                pair.client.send(app, get(target).as_bytes());
                pair.drive();
            }
            let socket = last_target(&pair);
            assert_eq!(pair.target(socket), got(target));
            pair.server.send(socket, OK);
            pair.server.send_eof(socket);
            pair.drive();
            assert_eq!(pair.app(app), OK.repeat(number + 1));
            assert!(pair.server.peers[&socket].released, "the connection to the target is over");
            assert_eq!(pair.client.engine.stats().channels, 0);
        }
        assert_eq!(pair.server.dialed.len(), 3);
        assert!(!pair.client.peers[&app].eof);
        pair.client.send_eof(app);
        pair.drive();
        assert!(pair.client.peers[&app].released);
        pair.assert_idle();
    }
}

#[test]
fn requests_sent_ahead_are_served_in_order() {
    let mut pair = Pair::new();
    let app = ask(&mut pair, &[get("192.0.2.1"), get("192.0.2.2"), get("192.0.2.3")].concat());
    pair.client.send_eof(app);
    for number in 1..=3 {
        pair.drive();
        assert_eq!(pair.server.dialed.len(), number, "one at a time");
        let socket = last_target(&pair);
        pair.server.send(socket, OK);
    }
    pair.drive();
    assert_eq!(pair.app(app), OK.repeat(3));
    assert!(pair.client.peers[&app].released);
}

#[test]
fn a_target_that_stays_open_is_let_go() {
    for (mut pair, patience) in pairs().into_iter().zip([0, 5]) {
        let app = ask(&mut pair, &get("192.0.2.1"));
        let target = last_target(&pair);
        pair.server.send(target, OK);
        pair.server.send(target, b"and more");
        pair.drive();
        pair.advance(Duration::from_secs(patience));
        assert!(pair.server.peers[&target].eof, "the target sees the end");
        pair.server.send_eof(target);
        pair.drive();
        assert_eq!(pair.app(app), OK);
        assert_eq!(pair.client.engine.stats().channels, 0);
    }
}

#[test]
fn large_bodies_pass_with_back_pressure() {
    let bytes: Vec<u8> = (0..3_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", bytes.len());
    for mut pair in pairs() {
        let request = format!("PUT http://192.0.2.1/ HTTP/1.1\r\nContent-Length: {}\r\n\r\n", bytes.len());
        let app = ask(&mut pair, &request);
        let target = last_target(&pair);
        pair.client.links_stalled = true;
        pair.client.send(app, &bytes);
        let queued = pair.client.engine.stats().send_queued;
        assert!((1..=128 << 10).contains(&queued), "{queued} bytes of the upload wait for the link");
        pair.client.links_stalled = false;
        for (link, bytes) in std::mem::take(&mut pair.client.unwritten) {
            pair.client.input(Input::LinkWritten { link, bytes });
        }
        pair.drive();
        assert!(pair.target(target).ends_with(&bytes));

        pair.client.peers.get_mut(&app).unwrap().stalled = true;
        pair.server.send(target, &[head.as_bytes(), &bytes].concat());
        pair.drive();
        while !pair.client.peers[&app].pending.is_empty() {
            pair.client.take_pending(app);
            pair.drive();
        }
        assert!(pair.app(app) == [head.as_bytes(), &bytes].concat());
        pair.client.send(app, get("192.0.2.2").as_bytes());
        pair.drive();
        assert_eq!(pair.server.dialed.len(), 2, "and the next request");
    }
}

#[test]
fn failures_have_the_right_status() {
    let status = |pair: &Pair, app| text(pair.app(app)).lines().next().unwrap_or_default().to_owned();
    for request in [get("192.0.2.1"), "CONNECT 192.0.2.1:1 HTTP/1.1\r\n\r\n".to_owned()] {
        let mut refused = Pair::new();
        refused.server.dials = Answer::Refuse;
        let app = ask(&mut refused, &request);
        assert_eq!(status(&refused, app), "HTTP/1.1 502 Bad Gateway", "{request}");
        assert!(text(refused.app(app)).ends_with("\r\n\r\nConnection failed"));
        assert!(refused.client.peers[&app].released);
        refused.assert_idle();

        let mut silent = Pair::new();
        silent.server.dials = Answer::Silence;
        let app = ask(&mut silent, &request);
        silent.advance(Duration::from_secs(11));
        assert_eq!(status(&silent, app), "HTTP/1.1 502 Bad Gateway", "{request}");
        silent.assert_idle();

        let mut config = client_config();
        config.listen_early = true;
        let now = super::epoch();
        let mut client = super::host::Host::new(crate::ClientEngine::new(config, [1; 32], now), now);
        let app = client.connect_app();
        client.send(app, request.as_bytes());
        client.now += Duration::from_millis(10_001);
        client.input(Input::Timeout);
        let answer = text(&client.peers[&app].got);
        assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{request}: {answer}");
        assert!(answer.ends_with("\r\n\r\nNo backend available") && client.peers[&app].released);
    }
    let mut pair = Pair::new();
    let app = ask(&mut pair, "GET / HTTP/1.1\r\n\r\n");
    assert_eq!(status(&pair, app), "HTTP/1.1 400 Bad Request");
    assert!(text(pair.app(app)).ends_with("\r\n\r\nAbsolute-form request URL required"));
    pair.assert_idle();
}

#[test]
fn a_login_is_asked_for_with_407() {
    let mut config = client_config();
    config.credentials = Some(Credentials::new("user", "pass").unwrap());
    let mut pair = Pair::with(config, server_config());
    for request in [get("192.0.2.1"), "CONNECT 192.0.2.1:1 HTTP/1.1\r\n\r\n".to_owned()] {
        let app = ask(&mut pair, &request);
        let answer = text(pair.app(app));
        assert!(answer.starts_with("HTTP/1.1 407 Proxy Authentication Required\r\n"), "{answer}");
        assert!(answer.contains("\r\nProxy-Authenticate: Basic realm=\"LinkSocks\"\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nProxy authentication required"), "{answer}");
        assert!(pair.client.peers[&app].released && pair.server.dialed.is_empty());
        let login = "\r\nProxy-Authorization: Basic dXNlcjpwYXNz\r\n\r\n";
        ask(&mut pair, &request.replace("\r\n\r\n", login));
        assert_eq!(pair.server.dialed.len(), 1);
        pair.server.dialed.clear();
    }
}

#[test]
fn only_capital_letters_begin_a_request() {
    for (first, served) in
        [("CONNECT x:1 HTTP/1.1\r\n\r\n", true), ("get http://x/ HTTP/1.1\r\n\r\n", false), ("\x04", false)]
    {
        let mut pair = Pair::new();
        let app = ask(&mut pair, first);
        assert_eq!(!pair.app(app).is_empty(), served, "{first}");
        assert_eq!(pair.client.peers[&app].released, !served, "{first}");
    }
}

#[test]
fn an_application_that_goes_away_leaves_nothing_behind() {
    for mut pair in pairs() {
        // While its target is connected to.
        pair.server.dials = Answer::Silence;
        let app = ask(&mut pair, &get("192.0.2.1"));
        pair.client.fail(app, SocketError::Reset);
        pair.drive();
        assert!(pair.server.peers[&last_target(&pair)].reset);
        pair.assert_idle();
        // While its response is under way.
        pair.server.dials = Answer::Accept;
        let app = ask(&mut pair, &get("192.0.2.1"));
        let target = last_target(&pair);
        pair.server.send(target, b"HTTP/1.1 200 OK\r\n\r\npart");
        pair.drive();
        pair.client.fail(app, SocketError::Reset);
        pair.drive();
        assert!(pair.server.peers[&target].reset);
        pair.assert_idle();
    }
}

#[test]
fn a_response_that_is_cut_off_is_a_reset() {
    for mut pair in pairs() {
        let app = ask(&mut pair, &get("192.0.2.1"));
        let target = last_target(&pair);
        pair.server.send(target, b"HTTP/1.1 200 OK\r\n\r\npart");
        pair.drive();
        pair.server.fail(target, SocketError::Reset);
        pair.drive();
        assert!(pair.client.peers[&app].reset);
        pair.assert_idle();
    }
}

#[test]
fn a_lost_link_is_502_or_a_reset() {
    let mut pair = Pair::without_sessions();
    let waiting = ask(&mut pair, &get("192.0.2.1"));
    let reading = ask(&mut pair, &get("192.0.2.1"));
    pair.server.send(last_target(&pair), b"HTTP/1.1 200 OK\r\n\r\npart");
    pair.drive();
    let link = *pair.to_server.keys().next().unwrap();
    let cause = crate::io::LinkClose::Transport(SocketError::Reset);
    pair.client.input(Input::LinkClosed { link, cause });
    assert!(text(pair.app(waiting)).starts_with("HTTP/1.1 502 "));
    assert!(pair.client.peers[&waiting].released && pair.client.peers[&reading].reset);
    assert_eq!(pair.client.engine.stats().sockets, 0);
}

#[test]
fn an_upgraded_connection_carries_anything_both_ways() {
    for mut pair in pairs() {
        let app =
            ask(&mut pair, "GET http://192.0.2.1/ HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
        let target = last_target(&pair);
        let switch = b"HTTP/1.1 101 Switching\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n";
        pair.server.send(target, switch);
        pair.drive();
        let bytes: Vec<u8> = (0..300_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        pair.client.send(app, &bytes);
        pair.server.send(target, &bytes);
        pair.drive();
        assert!(pair.target(target).ends_with(&bytes) && pair.app(app).ends_with(&bytes));
        pair.server.send_eof(target);
        pair.drive();
        assert!(pair.client.peers[&app].released || pair.client.peers[&app].eof);
        pair.client.send_eof(app);
        pair.drive();
        assert!(pair.client.peers[&app].released);
        pair.assert_idle();
    }
}

#[test]
fn the_directions_of_an_upgraded_connection_end_on_their_own() {
    let mut pair = Pair::new();
    let app = ask(&mut pair, "GET http://192.0.2.1/ HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n");
    let target = last_target(&pair);
    pair.server.send(target, b"HTTP/1.1 101 Switching\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n\r\n");
    pair.drive();
    let bytes: Vec<u8> = (0..3_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    pair.client.send(app, &bytes);
    pair.server.send_eof(target);
    pair.drive();
    assert!(pair.client.peers[&app].eof && !pair.client.peers[&app].released);
    pair.client.send_eof(app);
    pair.drive();
    assert!(pair.target(target).ends_with(&bytes) && pair.server.peers[&target].eof);
    pair.assert_idle();
}

#[test]
fn a_target_that_does_not_close_behind_its_answer_is_dropped() {
    for mut pair in pairs() {
        let app = ask(&mut pair, &get("192.0.2.1"));
        let target = last_target(&pair);
        pair.server.send(target, OK);
        pair.advance(Duration::from_secs(8));
        assert!(pair.server.peers[&target].released || pair.server.peers[&target].reset);
        assert_eq!((pair.client.engine.stats().channels, pair.server.engine.stats().channels), (0, 0));
        assert!(!pair.client.peers[&app].released, "the next request may come");

        let app = ask(&mut pair, &get("192.0.2.1"));
        let target = last_target(&pair);
        pair.server.send(target, &[OK, b"and then some"].concat());
        pair.drive();
        pair.server.send(target, &[0; 100_000]);
        pair.drive();
        assert!(pair.server.peers[&target].reset, "what nobody wants is not carried");
        assert!(pair.app(app).ends_with(b"ok"));
        assert_eq!(pair.client.engine.stats().channels, 0);
    }
}

#[test]
fn an_idle_connection_is_closed_after_a_while() {
    let mut pair = Pair::new();
    let app = ask(&mut pair, &get("192.0.2.1"));
    pair.advance(Duration::from_secs(100));
    assert!(!pair.client.peers[&app].released, "a target may take its time");
    pair.server.send(last_target(&pair), OK);
    pair.advance(Duration::from_secs(59));
    assert!(!pair.client.peers[&app].released);
    pair.advance(Duration::from_secs(2));
    assert!(pair.client.peers[&app].released);

    let slow = ask(&mut pair, "GET http://192.0");
    pair.advance(Duration::from_secs(31));
    assert!(pair.client.peers[&slow].released, "a request must come in time");
}

#[test]
fn a_slow_reader_of_responses_stalls_only_itself() {
    let mut config = client_config();
    config.relay.extensions = ExtensionConfig::none();
    config.relay.limits.link_receive_budget = 1 << 20;
    let mut pair = Pair::with(config, server_config());
    let app = ask(&mut pair, &get("192.0.2.1"));
    pair.client.peers.get_mut(&app).unwrap().stalled = true;
    let target = last_target(&pair);
    pair.server.send(target, b"HTTP/1.1 200 OK\r\n\r\n");
    pair.server.send(target, &vec![7; 4 << 20]);
    pair.advance(Duration::from_secs(25));
    assert!(pair.client.peers[&app].reset, "it held up its link");
}

#[test]
fn a_shutdown_cuts_nothing_off_without_saying_so() {
    let mut pair = Pair::new();
    let idle = ask(&mut pair, &get("192.0.2.1"));
    pair.server.send(last_target(&pair), OK);
    pair.drive();
    let reading = ask(&mut pair, &get("192.0.2.1"));
    pair.server.send(last_target(&pair), b"HTTP/1.1 200 OK\r\n\r\npart");
    pair.drive();
    pair.client.input(Input::Command(Command::Shutdown { drain: Duration::ZERO }));
    pair.advance(Duration::from_secs(1));
    assert!(pair.client.peers[&reading].reset);
    let idle = &pair.client.peers[&idle];
    assert!(idle.released && !idle.reset);
    assert!(pair.client.stopped.is_some());
}
