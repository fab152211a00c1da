//! Requests to the HTTP front door that ask for no WebSocket.

use bytes::Bytes;

use super::host::Host;
use super::pair::Pair;
use crate::Input;
use crate::ids::Ticket;
use crate::io::{Engine, HttpRequest, HttpResponse};

/// What the engine answers to `GET path`.
fn get<E: Engine>(host: &mut Host<E>, path: &str) -> HttpResponse {
    let (ticket, path) = (Ticket(77), path.to_owned());
    let peer = "192.0.2.1:5".parse().unwrap();
    let request = HttpRequest { peer, method: "GET".to_owned(), path, api_key: None, body: Bytes::new() };
    host.input(Input::HttpRequest { ticket, request });
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
