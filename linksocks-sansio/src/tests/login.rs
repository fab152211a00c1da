//! Authentication, extensions and what happens when they fail.

use std::net::SocketAddr;
use std::time::Duration;

use super::epoch;
use super::host::Host;
use super::pair::{Pair, TOKEN, client_config, offer, server_config};
use crate::client::ClientEngine;
use crate::config::BackoffConfig;
use crate::error::{LinkError, LinkFailure, StopReason};
use crate::event::Event;
use crate::ids::{InstanceId, LinkId};
use crate::io::{Engine, Input, LinkClose, LinkRequest, UpgradeRequest, UpgradeResponse};
use crate::link::Extensions;
use crate::secret::Token;
use crate::server::ServerEngine;
use crate::url::ServerUrl;
use crate::wire::{Auth, AuthResponse, Hello, Message};

const ALL: Extensions = Extensions { window: true, finish: true, session: true };

fn lone_client(config: crate::ClientConfig) -> Host<ClientEngine> {
    Host::new(ClientEngine::new(config, [1; 32], epoch()), epoch())
}

pub(super) fn lone_server() -> Host<ServerEngine> {
    Host::new(ServerEngine::new(server_config(), [2; 32], epoch()), epoch())
}

/// Offers a link to a server and opens it, if it is accepted.
pub(super) fn offer_link(
    server: &mut Host<ServerEngine>,
    path_and_query: &str,
    extensions: Option<&str>,
) -> Option<LinkId> {
    offer_link_from(server, None, path_and_query, extensions)
}

/// As [`offer_link`], from another address than all others.
pub(super) fn offer_link_from(
    server: &mut Host<ServerEngine>,
    peer: Option<SocketAddr>,
    path_and_query: &str,
    extensions: Option<&str>,
) -> Option<LinkId> {
    let request = LinkRequest {
        secure: false,
        server_name: "h".into(),
        authority: "h".into(),
        path_and_query: path_and_query.into(),
        extensions: extensions.map(str::to_owned),
        headers: Vec::new(),
    };
    let ticket = server.ticket();
    let mut request: UpgradeRequest = offer(&request);
    request.peer = peer.unwrap_or(request.peer);
    server.input(Input::LinkOffered { ticket, request });
    let (_, link, _) = server.accepted.pop_front()?;
    server.input(Input::LinkOpened { link, response: UpgradeResponse::default() });
    Some(link)
}

pub(super) fn url_login(token: &str) -> String {
    format!("/socket?instance=&reverse=false&token={}", Token::new(token).unwrap().digest().to_hex())
}

fn auth(token: &str, reverse: bool) -> Message {
    Message::Auth(Auth {
        token: Token::new(token).unwrap(),
        reverse,
        instance: InstanceId(uuid::Uuid::nil()),
    })
}

fn rejection(messages: &[Message]) -> &str {
    match messages {
        [Message::AuthResponse(AuthResponse::Failure { error })] => error,
        other => panic!("a rejection expected, got {other:?}"),
    }
}

#[test]
fn our_own_peers_agree_on_extensions() {
    let pair = Pair::new();
    assert!(pair.client.events.iter().any(|event| matches!(event, Event::LinkReady { extensions: ALL, .. })));
    assert!(
        pair.server
            .events
            .iter()
            .any(|event| matches!(event, Event::ClientAuthenticated { extensions: ALL, .. }))
    );
}

#[test]
fn authentication_works_in_band_on_another_path() {
    let mut config = client_config();
    config.server = ServerUrl::parse("ws://127.0.0.1:8765/socket/").unwrap();
    let mut pair = Pair::with(config, server_config());
    pair.open();
}

#[test]
fn an_old_peer_never_sees_a_byte_of_an_extension() {
    let mut server = lone_server();
    let link = offer_link(&mut server, &url_login(TOKEN), None).unwrap();
    assert_eq!(server.take_sent(), [Message::AuthResponse(AuthResponse::Success { assigned: None })]);
    // Older programs send an Auth after authenticating by URL, too.
    server.receive(link, &auth(TOKEN, false));
    assert!(server.take_sent().is_empty() && server.closed_links.is_empty());
}

/// What every program reads: the oldest version, no tail behind Connect and Data.
#[test]
fn what_is_sent_to_an_old_peer_is_of_the_oldest_form() {
    let mut pair = Pair::plain();
    pair.client.open("192.0.2.1:80");
    let (_, connect) = pair.client.sent.back().unwrap();
    assert_eq!(connect[..3], [1, 3, 1]);
    assert_eq!(connect[19..], *b"\x09192.0.2.1\x00\x50");
    pair.drive();
    let target = pair.server.dialed.last().unwrap().0;
    pair.server.send(target, b"hello");
    let (_, data) = pair.server.sent.back().unwrap();
    assert_eq!(data[..3], [1, 4, 1]);
    assert_eq!(data[19..], *b"\x00\x00\x00\x00\x05hello");
}

#[test]
fn tokens_are_checked_by_url() {
    let upper =
        url_login(TOKEN).to_uppercase().replace("/SOCKET?INSTANCE=&REVERSE=FALSE&TOKEN", "/socket?token");
    for (query, text) in [
        (url_login("wrong"), "invalid token"),
        (upper, "invalid token"),
        ("/socket?token=short".to_owned(), "invalid token format"),
        (url_login(TOKEN).replace("false", "true"), "invalid token"),
        (url_login("anonymous"), "invalid token"),
    ] {
        let mut server = lone_server();
        offer_link(&mut server, &query, Some("window, finish")).unwrap();
        assert_eq!(rejection(&server.take_sent()), text, "{query}");
        let (_, close) = server.closed_links.pop_front().unwrap();
        assert_eq!(close.unwrap().code, 1008);
    }
}

#[test]
fn tokens_are_checked_in_band() {
    for (message, text) in [
        (auth("wrong", false), "invalid token"),
        (auth(TOKEN, true), "invalid token"),
        (Message::Unknown(0x7F), "invalid auth message"),
    ] {
        let mut server = lone_server();
        let link = offer_link(&mut server, "/socket/", None).unwrap();
        match message {
            Message::Unknown(kind) => server.receive_bytes(link, vec![1, kind, 0].into()),
            message => server.receive(link, &message),
        }
        assert_eq!(rejection(&server.take_sent()), text);
        assert_eq!(server.closed_links[0].1.as_ref().unwrap().code, 1008);
    }
}

#[test]
fn a_client_that_says_nothing_is_cut_off() {
    let mut server = lone_server();
    offer_link(&mut server, "/socket", None).unwrap();
    server.now += Duration::from_secs(10);
    server.input(Input::Timeout);
    assert!(server.take_sent().is_empty(), "a rejection would make it give up for good");
    assert_eq!(server.closed_links[0].1.as_ref().unwrap().code, 1008);
}

#[test]
fn a_link_that_opens_while_it_is_closed_stays_closed() {
    let mut server = lone_server();
    let ticket = server.ticket();
    let request = UpgradeRequest {
        path: "/socket".into(),
        query: url_login(TOKEN).split_once('?').unwrap().1.to_owned(),
        extensions: None,
        peer: "127.0.0.1:9".parse().unwrap(),
    };
    server.input(Input::LinkOffered { ticket, request });
    server.input(Input::Command(crate::Command::Shutdown { drain: Duration::ZERO }));
    let (_, link, _) = server.accepted[0];
    server.input(Input::LinkOpened { link, response: UpgradeResponse::default() });
    assert!(server.take_sent().is_empty());
    assert!(!server.events.iter().any(|event| matches!(event, Event::ClientAuthenticated { .. })));
}

#[test]
fn a_client_that_gives_up_answers_all_who_wait() {
    let mut client = lone_client(client_config());
    let ticket = client.open("127.0.0.1:80");
    let (link, _) = client.open_link(None);
    client.receive(link, &Message::AuthResponse(AuthResponse::Failure { error: "no".into() }));
    client.release_links();
    assert!(client.stopped.is_some() && client.refused.contains_key(&ticket));
}

#[test]
fn unauthenticated_links_are_limited() {
    let mut server = lone_server();
    let mut offer = |host: u8| {
        let peer = SocketAddr::from(([192, 0, 2, host], 1000));
        offer_link_from(&mut server, Some(peer), "/socket", None)
    };
    for host in 1..=4 {
        assert_eq!((0..65).filter_map(|_| offer(host)).count(), 64, "others shall find some");
    }
    assert_eq!(offer(5), None);
    assert!(server.rejected.iter().all(|(_, status)| *status == 503));
    let told = server.events.iter().filter(|event| matches!(event, Event::LimitReached(_))).count();
    assert_eq!(told, 4, "one for each of three addresses, one for all together");
    assert_eq!(server.engine.stats().refusals, 5);
    assert!(offer_link(&mut server, "/elsewhere", None).is_none());
    assert_eq!(server.rejected[5].1, 404);
    assert!(offer_link(&mut server, &url_login(TOKEN), None).is_some(), "who is known is let in");
}

#[test]
fn with_extensions_the_first_message_must_be_a_proper_hello() {
    for hello in [
        Message::Hello(Hello { window: Some(1 << 20), finish: false, session: None }),
        Message::Hello(Hello { window: None, finish: true, session: None }),
        Message::Hello(Hello { window: Some(100), finish: true, session: None }),
        auth(TOKEN, false),
    ] {
        let mut server = lone_server();
        let link = offer_link(&mut server, &url_login(TOKEN), Some("finish, window")).unwrap();
        assert!(matches!(&server.take_sent()[..], [Message::AuthResponse(_), Message::Hello(_)]));
        server.receive(link, &hello);
        assert_eq!(server.closed_links[0].1.as_ref().unwrap().code, 1002, "{hello:?}");
    }
}

#[test]
fn a_rejected_client_stops_and_says_why() {
    let mut client = lone_client(client_config());
    let (link, _) = client.open_link(None);
    client.receive(link, &Message::AuthResponse(AuthResponse::Failure { error: String::new() }));
    client.release_links();
    let reason = LinkError::Rejected("invalid token".into());
    assert_eq!(client.stopped, Some(StopReason::Link(reason.clone())));
    assert!(client.events.contains(&Event::LinkLost { link, error: reason, retry_in: None }));
}

#[test]
fn a_rejected_client_tries_again_if_it_shall() {
    let mut config = client_config();
    config.retry_auth = true;
    config.backoff = BackoffConfig::fixed(Duration::from_secs(5));
    let mut client = lone_client(config);
    for _ in 0..3 {
        let (link, _) = client.open_link(None);
        client.receive(link, &Message::AuthResponse(AuthResponse::Failure { error: String::new() }));
        client.release_links();
        let (error, retry_in) = (LinkError::Rejected("invalid token".into()), Some(Duration::from_secs(5)));
        assert_eq!(client.events.last(), Some(&Event::LinkLost { link, error, retry_in }));
        client.now += Duration::from_secs(5);
        client.input(Input::Timeout);
    }
    let (link, _) = client.open_link(None);
    client.receive_bytes(link, vec![0x11, 2, 1].into());
    client.release_links();
    assert_eq!(client.stopped, Some(StopReason::Link(LinkError::Version(0x11))), "that is no rejection");
}

#[test]
fn another_major_version_is_final() {
    let mut client = lone_client(client_config());
    let (link, _) = client.open_link(None);
    client.receive_bytes(link, vec![0x11, 2, 1].into());
    client.release_links();
    assert_eq!(client.stopped, Some(StopReason::Link(LinkError::Version(0x11))));
}

#[test]
fn another_minor_version_is_told_once() {
    let mut client = lone_client(client_config());
    let (link, _) = client.open_link(None);
    client.receive_bytes(link, vec![2, 2, 1].into());
    client.receive_bytes(link, vec![2, 0x7F].into());
    let told = |event: &&Event| **event == Event::MinorVersion { link, version: 2 };
    assert_eq!(client.events.iter().filter(told).count(), 1);
}

#[test]
fn an_assigned_token_is_used_for_the_next_login() {
    let mut client = lone_client(client_config());
    let (link, _) = client.open_link(None);
    let assigned = Some(Token::new("realtok1").unwrap());
    client.receive(link, &Message::AuthResponse(AuthResponse::Success { assigned }));
    client.input(Input::LinkClosed { link, cause: LinkClose::Peer(None) });
    client.now += Duration::from_secs(2);
    client.input(Input::Timeout);
    let (_, request) = client.open_link(None);
    assert!(request.path_and_query.ends_with(&Token::new("realtok1").unwrap().digest().to_hex()));
}

#[test]
fn http_refusals_are_final_only_before_the_first_login() {
    let mut client = lone_client(client_config());
    let (link, _) = client.opening.pop_front().unwrap();
    client.input(Input::LinkFailed { link, error: LinkFailure::Status(502) });
    assert_eq!(client.stopped, None, "a bad gateway may recover");
    client.now += Duration::from_secs(2);
    client.input(Input::Timeout);
    let (link, _) = client.opening.pop_front().unwrap();
    client.input(Input::LinkFailed { link, error: LinkFailure::Status(404) });
    assert_eq!(client.stopped, Some(StopReason::Link(LinkError::Refused(404))));
}

#[test]
fn a_server_that_never_answers_is_left() {
    let mut client = lone_client(client_config());
    let (link, _) = client.open_link(None);
    client.now += Duration::from_secs(10);
    client.input(Input::Timeout);
    assert_eq!(client.closed_links[0].0, link);
    client.input(Input::LinkClosed { link, cause: LinkClose::Local });
    assert_eq!(client.engine.stats().links, 0);
}

#[test]
fn one_token_does_not_get_all_links() {
    let mut config = server_config();
    config.relay.limits.links_per_token = 2;
    let mut server = Host::new(ServerEngine::new(config, [2; 32], epoch()), epoch());
    let in_band = offer_link(&mut server, "/socket", None).unwrap();
    let first = offer_link(&mut server, &url_login(TOKEN), None).unwrap();
    offer_link(&mut server, &url_login(TOKEN), None).unwrap();
    assert!(offer_link(&mut server, &url_login(TOKEN), None).is_none());
    assert_eq!(server.rejected.pop().unwrap().1, 503);
    server.take_sent();
    server.receive(in_band, &auth(TOKEN, false));
    assert_eq!(server.take_sent(), [], "that would look like a wrong token");
    assert_eq!(server.closed_links.pop_front().unwrap().1.unwrap().code, 1013);
    server.input(Input::LinkClosed { link: first, cause: LinkClose::Peer(None) });
    assert!(offer_link(&mut server, &url_login(TOKEN), None).is_some());
}

#[test]
fn guesses_that_come_at_once_are_counted_at_once() {
    let mut server = lone_server();
    let mut offer = |text: &str| {
        let request = LinkRequest {
            secure: false,
            server_name: "h".into(),
            authority: "h".into(),
            path_and_query: url_login(text),
            extensions: None,
            headers: Vec::new(),
        };
        let ticket = server.ticket();
        server.input(Input::LinkOffered { ticket, request: offer(&request) });
        server.accepted.pop_front().is_some()
    };
    let tried = (0..100).filter(|number| offer(&format!("guess {number}"))).count();
    assert_eq!(tried, 30);
    assert!(!offer(TOKEN), "even the right one");
}

/// Behind one address there may be many clients.
#[test]
fn a_stranger_does_not_lock_out_who_logs_in_by_a_message() {
    let mut server = lone_server();
    let link = offer_link(&mut server, "/socket/", None).unwrap();
    server.receive(link, &auth(TOKEN, false));
    for _ in 0..30 {
        let stranger = offer_link(&mut server, &url_login("wrong"), None).unwrap();
        server.input(Input::LinkClosed { link: stranger, cause: LinkClose::Local });
    }
    assert!(offer_link(&mut server, &url_login("wrong"), None).is_none(), "enough is enough");
    for (text, enters) in [(TOKEN, true), ("wrong", false)] {
        let link = offer_link(&mut server, "/socket/", None).unwrap();
        server.sent.clear();
        server.receive(link, &auth(text, false));
        let answer = server.take_sent();
        let entered = matches!(&answer[..], [Message::AuthResponse(AuthResponse::Success { .. }), ..]);
        assert_eq!(entered, enters, "{answer:?}");
    }
}
