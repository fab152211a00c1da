//! Access rules where requests come in, and where they are dialled.

use std::time::Duration;

use super::pair::{Pair, client_config, server_config};
use crate::access::{AccessRule, AccessRules};
use crate::error::SocketError;
use crate::ids::SocketId;

pub(super) fn rules(texts: &[&str]) -> AccessRules {
    texts.iter().map(|text| text.parse::<AccessRule>().unwrap()).collect()
}

/// A pair whose client has these rules.
pub(super) fn with_entry_rules(texts: &[&str]) -> Pair {
    let mut client = client_config();
    client.relay.entry_rules = rules(texts);
    Pair::with(client, server_config())
}

/// A pair whose server has these rules.
pub(super) fn with_dial_rules(texts: &[&str]) -> Pair {
    let mut server = server_config();
    server.relay.dial_rules = rules(texts);
    Pair::with(client_config(), server)
}

fn request_name(pair: &mut Pair, name: &str, port: u8) -> SocketId {
    let app = pair.client.connect_app();
    let length = u8::try_from(name.len()).unwrap();
    let request = [b"\x05\x01\x00\x05\x01\x00\x03", &[length][..], name.as_bytes(), &[0, port]].concat();
    pair.client.send(app, &request);
    pair.drive();
    app
}

/// The reply code that an application has got.
fn reply(pair: &Pair, app: SocketId) -> Option<u8> {
    pair.app(app).get(3).copied()
}

#[test]
fn what_the_entry_rules_forbid_is_socks_02_and_never_leaves() {
    let mut pair = with_entry_rules(&["127.0.0.1:80"]);
    let (denied, allowed) = (pair.request("127.0.0.2:80"), pair.request("127.0.0.1:80"));
    assert_eq!(pair.app(denied), b"\x05\x00\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00");
    assert!(pair.client.peers[&denied].released);
    assert_eq!(reply(&pair, allowed), Some(0));
    assert_eq!(pair.server.dialed.len(), 1);
    let ticket = pair.client.open("127.0.0.1:81");
    let error = pair.client.refused[&ticket].to_string();
    assert_eq!(error, "destination 127.0.0.1:81 blocked by access control", "embedders are no exception");
}

#[test]
fn a_name_is_looked_up_at_the_entry_only_if_its_addresses_decide() {
    let mut pair = with_entry_rules(&[":80"]);
    let (allowed, denied) = (request_name(&mut pair, "a.test", 80), request_name(&mut pair, "a.test", 81));
    assert_eq!((reply(&pair, allowed), reply(&pair, denied)), (Some(0), Some(2)));
    assert!(pair.client.queries.is_empty());
    assert_eq!(pair.server.queries.len(), 1);
}

#[test]
fn the_address_that_was_checked_is_the_one_that_is_asked_for() {
    let mut pair = with_entry_rules(&["127.0.0.0/8", "!127.0.0.1"]);
    pair.client.resolves_to =
        Ok(["10.0.0.1", "127.0.0.1", "127.0.0.7"].map(|ip| ip.parse().unwrap()).to_vec());
    let app = request_name(&mut pair, "a.test", 80);
    assert_eq!(reply(&pair, app), Some(0));
    assert!(pair.server.queries.is_empty(), "the server is not asked to look up");
    assert_eq!(pair.server.dialed[0].1, "127.0.0.7:80".parse().unwrap());
}

#[test]
fn an_unknown_name_is_denied_and_so_is_a_silent_resolver() {
    let mut pair = with_entry_rules(&["127.0.0.0/8"]);
    pair.client.resolves_to = Err(SocketError::NameNotFound);
    let unknown = request_name(&mut pair, "a.test", 80);
    assert_eq!(reply(&pair, unknown), Some(2));
    pair.client.resolver_stalled = true;
    let unanswered = request_name(&mut pair, "a.test", 80);
    assert_eq!(reply(&pair, unanswered), None);
    pair.advance(Duration::from_secs(10));
    assert_eq!(reply(&pair, unanswered), Some(2));
    pair.assert_idle();
}

#[test]
fn an_application_that_leaves_during_its_lookup_is_forgotten() {
    let mut pair = with_entry_rules(&["127.0.0.0/8"]);
    pair.client.resolver_stalled = true;
    let app = request_name(&mut pair, "a.test", 80);
    pair.client.fail(app, SocketError::Reset);
    let query = pair.client.queries[0].0;
    let address = std::net::IpAddr::from([127, 0, 0, 1]);
    pair.client.input(crate::Input::Resolved { query, result: Ok([address].into_iter().collect()) });
    pair.drive();
    assert!(pair.server.dialed.is_empty());
    pair.assert_idle();
}

#[test]
fn a_shutdown_answers_those_who_wait_for_a_lookup() {
    let mut pair = with_entry_rules(&["127.0.0.0/8"]);
    pair.client.resolver_stalled = true;
    let ticket = pair.client.open("a.test:80");
    let drain = Duration::from_secs(5);
    pair.client.input(crate::Input::Command(crate::Command::Shutdown { drain }));
    assert_eq!(pair.client.refused[&ticket].to_string(), "shutting down");
}

#[test]
fn what_the_dial_rules_forbid_is_not_dialled() {
    let mut pair = with_dial_rules(&["!private", "!:25"]);
    let app = pair.request("127.0.0.1:80");
    assert_eq!(reply(&pair, app), Some(4));
    let ticket = pair.client.open("192.168.0.1:80");
    pair.drive();
    let error = pair.client.refused[&ticket].to_string();
    assert_eq!(error, "connect failed: destination 192.168.0.1:80 blocked by access control");
    let mapped = pair.client.open("[::ffff:10.0.0.1]:80");
    let port = pair.client.open("8.8.8.8:25");
    pair.drive();
    assert!(pair.client.refused.contains_key(&mapped) && pair.client.refused.contains_key(&port));
    assert!(pair.server.dialed.is_empty());
    pair.client.open("8.8.8.8:80");
    pair.drive();
    assert_eq!(pair.server.dialed.len(), 1);
}

#[test]
fn of_a_name_only_the_allowed_addresses_are_dialled() {
    let mut pair = with_dial_rules(&["!private"]);
    pair.server.dials = super::host::Answer::Silence;
    pair.server.resolves_to =
        Ok(["127.0.0.1", "8.8.8.8", "::1", "10.0.0.1"].map(|ip| ip.parse().unwrap()).to_vec());
    let ticket = pair.client.open("a.test:80");
    pair.advance(Duration::from_secs(9));
    let dialed: Vec<_> = pair.server.dialed.iter().map(|(_, address)| address.to_string()).collect();
    assert_eq!(dialed, ["8.8.8.8:80"]);
    pair.advance(Duration::from_secs(2));
    assert!(pair.client.refused.contains_key(&ticket));

    pair.server.resolves_to = Ok(["127.0.0.1", "::1"].map(|ip| ip.parse().unwrap()).to_vec());
    let ticket = pair.client.open("a.test:80");
    pair.drive();
    let error = pair.client.refused[&ticket].to_string();
    assert_eq!(error, "connect failed: destination a.test:80 blocked by access control");
    assert_eq!(pair.server.dialed.len(), 1);
}

#[test]
fn the_way_to_the_server_is_no_target() {
    let mut client = client_config();
    client.relay.dial_rules = rules(&["!private"]);
    client.relay.entry_rules = rules(&["!private"]);
    let pair = Pair::with(client, server_config());
    assert_eq!(pair.to_server.len(), 1, "the link is up");
}
