//! Passwords of SOCKS ports can't be guessed, neither by SOCKS nor by HTTP.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::epoch;
use super::host::Host;
use super::net::token;
use super::pair::client_config;
use crate::client::ClientEngine;
use crate::config::ServerConfig;
use crate::event::Event;
use crate::io::{Command, Engine, Input};
use crate::secret::Credentials;
use crate::server::ServerEngine;
use crate::token::{NewToken, ReverseToken};

const GUESSER: &str = "192.0.2.1";
const OTHER: &str = "192.0.2.2";

/// How many may fail in a row, and after how long one more.
const BURST: usize = 30;
const REFILL: Duration = Duration::from_secs(2);

fn credentials(password: &str) -> Option<Credentials> {
    Some(Credentials::new("user", password).unwrap())
}

fn client() -> Host<ClientEngine> {
    let mut config = client_config();
    (config.credentials, config.listen_early) = (credentials("pass"), true);
    Host::new(ClientEngine::new(config, [7; 32], epoch()), epoch())
}

fn reverse(text: &str, password: &str) -> NewToken {
    NewToken::Reverse(ReverseToken {
        token: Some(token(text)),
        port: Some(9870),
        credentials: credentials(password),
        listen_early: true,
        ..ReverseToken::default()
    })
}

fn server() -> Host<ServerEngine> {
    let config = ServerConfig { tokens: vec![reverse("reverse", "pass")], ..ServerConfig::default() };
    Host::new(ServerEngine::new(config, [7; 32], epoch()), epoch())
}

/// Sends `bytes` from `address`, and returns the answer.
fn send<E: Engine>(host: &mut Host<E>, address: &str, bytes: &[u8]) -> Vec<u8> {
    let app = host.connect_app_from(SocketAddr::new(address.parse().unwrap(), 40_000));
    host.send(app, bytes);
    host.peers[&app].got.clone()
}

/// Whether a SOCKS login from `address` is right, as its application is told.
fn login<E: Engine>(host: &mut Host<E>, address: &str, password: &str) -> bool {
    let length = u8::try_from(password.len()).unwrap();
    let login = [&b"\x05\x01\x02\x01\x04user"[..], &[length], password.as_bytes()].concat();
    let request = b"\x05\x01\x00\x01\xc0\x00\x02\x09\x00\x50";
    let answer = send(host, address, &[&login[..], request].concat());
    assert_eq!(answer[..3], *b"\x05\x02\x01");
    answer[3] == 0
}

/// The status of the answer to a request with a password, or without one.
fn status<E: Engine>(host: &mut Host<E>, address: &str, login: Option<&str>) -> String {
    let login = login.map(|login| format!("Proxy-Authorization: Basic {login}\r\n")).unwrap_or_default();
    let request = format!("GET / HTTP/1.1\r\n{login}\r\n");
    let answer = String::from_utf8(send(host, address, request.as_bytes())).unwrap();
    answer.split_whitespace().nth(1).unwrap().to_owned()
}

/// `user:pass` and `user:guess`.
const RIGHT: Option<&str> = Some("dXNlcjpwYXNz");
const WRONG: Option<&str> = Some("dXNlcjpndWVzcw==");

fn set_time<E: Engine>(host: &mut Host<E>, now: Instant) {
    host.now = now;
    host.input(Input::Timeout);
}

fn whoever_guesses_has_to_wait(mut host: Host<impl Engine>) {
    for _ in 0..BURST {
        assert!(!login(&mut host, GUESSER, "guess"));
    }
    assert!(!login(&mut host, GUESSER, "pass"), "even the right one");
    assert_eq!(status(&mut host, GUESSER, RIGHT), "429", "nor by HTTP");
    let told = host
        .events
        .iter()
        .filter(
            |event| matches!(event, Event::SocksFailed { reason, .. } if reason.contains("too many failed")),
        )
        .count();
    assert_eq!(told, 1);
    assert!(login(&mut host, OTHER, "pass"), "others are not concerned");

    set_time(&mut host, epoch() + REFILL);
    assert!(!login(&mut host, GUESSER, "guess"));
    assert!(!login(&mut host, GUESSER, "pass"), "one guess each two seconds");
    set_time(&mut host, epoch() + 2 * REFILL);
    assert!(login(&mut host, GUESSER, "pass"));
    for _ in 0..2 * BURST {
        assert!(!login(&mut host, GUESSER, "guess"));
    }
    assert!(login(&mut host, GUESSER, "pass"), "neighbours who know it are not locked out");
}

#[test]
fn whoever_guesses_the_password_of_a_client_has_to_wait() {
    whoever_guesses_has_to_wait(client());
}

#[test]
fn whoever_guesses_the_password_of_a_servers_port_has_to_wait() {
    whoever_guesses_has_to_wait(server());
}

#[test]
fn by_http_as_well() {
    let mut host = client();
    for _ in 0..2 * BURST {
        assert_eq!(status(&mut host, GUESSER, None), "407", "to ask for the login is no guess");
    }
    for _ in 0..BURST {
        assert_eq!(status(&mut host, GUESSER, WRONG), "407");
    }
    assert_eq!(status(&mut host, GUESSER, RIGHT), "429");
    assert!(!login(&mut host, GUESSER, "pass"), "nor by SOCKS");
    assert_eq!(status(&mut host, GUESSER, None), "407");
    // 400: the login is right, the request is not one to a proxy.
    assert_eq!(status(&mut host, OTHER, RIGHT), "400");
}

/// Whoever puts a list of passwords into one request would have as many guesses for the price of one.
#[test]
fn a_request_by_http_has_one_password() {
    let mut host = client();
    let line = |login: Option<&str>| format!("Proxy-Authorization: Basic {}\r\n", login.unwrap());
    let request = format!("GET http://192.0.2.9/ HTTP/1.1\r\n{}{}\r\n", line(WRONG), line(RIGHT));
    for _ in 0..BURST {
        let answer = send(&mut host, GUESSER, request.as_bytes());
        assert!(answer.starts_with(b"HTTP/1.1 407 "), "{}", String::from_utf8_lossy(&answer));
    }
    assert_eq!(status(&mut host, GUESSER, RIGHT), "429", "each was a wrong one");
}

#[test]
fn who_knew_the_password_of_a_port_can_not_guess_that_of_its_next_owner() {
    let mut host = server();
    assert!(login(&mut host, GUESSER, "pass"));
    let ticket = host.ticket();
    host.input(Input::Command(Command::RemoveToken { ticket, token: token("reverse") }));
    let ticket = host.ticket();
    host.input(Input::Command(Command::AddToken { ticket, token: reverse("next", "word") }));
    for _ in 0..BURST {
        assert!(!login(&mut host, GUESSER, "pass"));
    }
    assert!(!login(&mut host, GUESSER, "word"));
    assert!(login(&mut host, OTHER, "word"));
}
