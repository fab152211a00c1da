//! Requests to the HTTP front door that ask for no WebSocket.

use bytes::Bytes;

use super::host::Host;
use super::net::{CONNECTOR, Net, REVERSE, agent_server, token};
use super::pair::Pair;
use crate::Input;
use crate::access::AccessRule;
use crate::config::ServerConfig;
use crate::ids::Ticket;
use crate::io::{Command, Engine, HttpRequest, HttpResponse};
use crate::token::{ConnectorToken, NewToken};

/// What the engine answers to `GET path`.
fn get<E: Engine>(host: &mut Host<E>, path: &str) -> HttpResponse {
    let (ticket, path) = (Ticket(77), path.to_owned());
    let peer = "192.0.2.1:5".parse().unwrap();
    let request = HttpRequest { peer, method: "GET".to_owned(), path, api_key: None, body: Bytes::new() };
    host.input(Input::HttpRequest { ticket, request: request.into() });
    host.responses.remove(&ticket).expect("every request is answered at once")
}

#[test]
fn a_server_without_keys_has_a_front_page_and_nothing_else() {
    let mut pair = Pair::new();
    let page = get(&mut pair.server, "/");
    let line = concat!("LinkSocks v", env!("CARGO_PKG_VERSION"), " is running but API is not enabled.\n");
    assert_eq!((page.status, &page.body[..]), (200, line.as_bytes()));
    for path in ["/api/status", "/api/token", "/x", ""] {
        assert_eq!(get(&mut pair.server, path).status, 404, "{path}");
    }
}

#[test]
fn a_client_has_no_page_at_all() {
    assert_eq!(get(&mut Pair::new().client, "/").status, 404);
}

#[test]
fn keys_can_not_be_guessed() {
    let keyed = || ServerConfig { api_keys: vec![token("key")], ..agent_server() };
    let mut net = Net::new(keyed());
    let mut status = |peer: &str, key: &str| {
        let (method, path) = ("GET".to_owned(), "/api/status".to_owned());
        let peer = peer.parse().unwrap();
        let request = HttpRequest { peer, method, path, api_key: Some(token(key)), body: Bytes::new() };
        let ticket = net.server.ticket();
        net.server.input(Input::HttpRequest { ticket, request: request.into() });
        net.server.responses.remove(&ticket).unwrap().status
    };
    assert_eq!(status("192.0.2.2:7", "key"), 200);
    let tried = (0..100).filter(|_| status("192.0.2.1:7", "guess") == 401).count();
    assert_eq!(tried, 30);
    assert_eq!(status("192.0.2.1:7", "key"), 429, "even the right one");
    for _ in 0..100 {
        status("192.0.2.2:9", "guess");
    }
    assert_eq!(status("192.0.2.2:7", "key"), 200, "who has known it may go on");
}

/// A connector token that is added again has the rules of the last time.
#[test]
fn rules_of_a_connector_token_can_be_changed() {
    let mut net = Net::agent();
    for (rules, status) in [("127.0.0.0/8", 0), ("10.0.0.0/8", 4), ("127.0.0.1", 0)] {
        let rules = [rules.parse::<AccessRule>().unwrap()].into_iter().collect();
        let again =
            ConnectorToken { token: Some(token(CONNECTOR)), rules, ..ConnectorToken::new(token(REVERSE)) };
        let (ticket, told) = (net.server.ticket(), net.server.events.len());
        net.server.input(Input::Command(Command::AddToken { ticket, token: NewToken::Connector(again) }));
        assert!(net.server.tokens[&ticket].is_ok());
        assert_eq!(net.server.events.len(), told, "it is not new");
        let app = net.request(1);
        assert_eq!(net.got(1, app)[3], status);
    }
}
