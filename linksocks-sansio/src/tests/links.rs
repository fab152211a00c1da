//! Keep-alive, loss of links, several links, shutdown.

use std::time::Duration;

use bytes::Bytes;

use super::host::Answer;
use super::pair::{Pair, client_config, server_config};
use crate::error::{LinkError, SocketError, StopReason};
use crate::event::Event;
use crate::io::{Command, Engine, FrameViolation, Input, LinkClose};
use crate::wire::{Compression, Data, Message};

#[test]
fn a_ping_goes_out_at_once_and_every_30_s() {
    let mut pair = Pair::new();
    assert!(pair.client.events.iter().any(|event| matches!(event, Event::LinkLatency { .. })));
    pair.client.pings.clear();
    pair.advance(Duration::from_secs(29));
    pair.client.now += Duration::from_secs(1);
    pair.client.input(Input::Timeout);
    assert_eq!(pair.client.pings.len(), 1);
}

#[test]
fn a_silent_peer_is_dead_after_60_s_and_the_client_comes_back() {
    let mut pair = Pair::without_sessions();
    let (app, _) = pair.open();
    let link = *pair.to_server.keys().next().unwrap();
    let start = pair.client.now;
    while pair.client.closed_links.is_empty() {
        pair.client.now = pair.client.deadline().unwrap();
        pair.client.pings.clear();
        pair.client.input(Input::Timeout);
    }
    assert_eq!(pair.client.now - start, Duration::from_secs(60));
    assert_eq!(pair.client.closed_links[0], (link, None));
    assert!(pair.client.peers[&app].reset);
    pair.advance(Duration::from_secs(2));
    pair.open();
}

#[test]
fn after_a_suspension_a_living_peer_gets_5_s_to_answer() {
    let mut pair = Pair::new();
    pair.client.pings.clear();
    pair.client.now += Duration::from_secs(3600);
    pair.client.input(Input::Timeout);
    assert!(pair.client.closed_links.is_empty());
    assert_eq!(pair.client.pings.len(), 1);
    let link = pair.client.pings[0];
    pair.client.input(Input::LinkPong { link });
    pair.client.now += Duration::from_secs(6);
    pair.client.input(Input::Timeout);
    assert!(pair.client.closed_links.is_empty());
}

#[test]
fn a_lost_link_resets_its_channels_at_both_ends_and_is_replaced() {
    let mut pair = Pair::without_sessions();
    let (app, target) = pair.open();
    let waiting = {
        pair.server.dials = Answer::Silence;
        pair.request("127.0.0.1:81")
    };
    let (link, other) = pair.to_server.iter().map(|(a, b)| (*a, *b)).next().unwrap();
    let cause = LinkClose::Transport(SocketError::Reset);
    pair.client.input(Input::LinkClosed { link, cause: cause.clone() });
    pair.server.input(Input::LinkClosed { link: other, cause });
    assert!(pair.client.peers[&app].reset && pair.server.peers[&target].reset);
    assert_eq!(pair.app(waiting)[2..4], *b"\x05\x04");
    pair.assert_idle();
    assert!(
        pair.client.events.iter().any(|event| matches!(event, Event::LinkLost { retry_in: Some(_), .. }))
    );
    pair.server.dials = Answer::Accept;
    pair.advance(Duration::from_secs(2));
    pair.open();
}

#[test]
fn what_had_already_ended_survives_the_loss_of_its_link() {
    let mut pair = Pair::plain();
    let (app, target) = pair.open();
    pair.client.peers.get_mut(&app).unwrap().stalled = true;
    pair.server.send(target, &[3; 500_000]);
    pair.server.send_eof(target);
    pair.drive();
    let link = *pair.to_server.keys().next().unwrap();
    pair.client.input(Input::LinkClosed { link, cause: LinkClose::Peer(None) });
    for _ in 0..20 {
        pair.client.take_pending(app);
    }
    assert_eq!(pair.app(app), [3; 500_000]);
    assert!(pair.client.peers[&app].eof && !pair.client.peers[&app].reset);
    assert_eq!(pair.client.engine.stats().receive_queued, 0);
}

#[test]
fn without_reconnect_a_lost_link_is_the_end() {
    let mut config = client_config();
    config.reconnect = false;
    let mut pair = Pair::with(config, server_config());
    let link = *pair.to_server.keys().next().unwrap();
    pair.client.input(Input::LinkClosed { link, cause: LinkClose::Transport(SocketError::UnexpectedEof) });
    let lost = LinkError::Lost(SocketError::UnexpectedEof);
    assert_eq!(pair.client.stopped, Some(StopReason::Link(lost)));
}

#[test]
fn channels_take_turns_on_several_links_and_stay_there() {
    let mut config = client_config();
    config.links = 4;
    let mut pair = Pair::with(config, server_config());
    assert_eq!(pair.to_server.len(), 4);
    let apps: Vec<_> = (0..8).map(|_| pair.open().0).collect();
    for app in apps {
        pair.client.send(app, b"x");
    }
    let mut links: Vec<_> = pair.client.sent.iter().map(|(link, _)| *link).collect();
    links.sort();
    links.dedup();
    assert_eq!((pair.client.sent.len(), links.len()), (8, 4));
}

#[test]
fn data_on_another_link_of_the_same_client_resets_its_channel() {
    let mut config = client_config();
    config.links = 2;
    let mut pair = Pair::with(config, server_config());
    let (app, target) = pair.open();
    pair.client.send(app, b"x");
    let (link, message) = pair.client.sent.pop_front().unwrap();
    let stray = *pair.to_server.iter().find(|(client, _)| **client != link).unwrap().1;
    pair.server.receive_bytes(stray, message);
    assert!(pair.server.peers[&target].reset, "delivered, it would be out of order");
    pair.drive();
    assert!(pair.client.peers[&app].reset);
}

#[test]
fn violations_close_the_link_with_their_code_and_no_other() {
    for (violation, code) in
        [(FrameViolation::Text, 1003), (FrameViolation::TooLarge, 1009), (FrameViolation::Framing, 1002)]
    {
        let mut config = client_config();
        config.links = 2;
        let mut pair = Pair::with(config, server_config());
        let links: Vec<_> = pair.to_server.values().copied().collect();
        pair.server.input(Input::LinkInvalid { link: links[0], violation });
        let (closed, frame) = pair.server.closed_links.pop_front().unwrap();
        assert_eq!((closed, frame.unwrap().code), (links[0], code));
        assert!(pair.server.closed_links.is_empty());
    }
}

#[test]
fn broken_messages_close_with_1002_and_strange_ones_are_skipped() {
    let mut pair = Pair::new();
    let link = *pair.to_server.values().next().unwrap();
    for harmless in
        [&b"\x01\x7f\x00"[..], b"\x01\x00\x00", b"\x01\x09\x00\x00\x00\x02{x", b"\x01\x09\x00\x00\x00\x02{}"]
    {
        pair.server.receive_bytes(link, Bytes::from_static(harmless));
    }
    assert!(pair.server.closed_links.is_empty());
    pair.server.receive_bytes(link, Bytes::from_static(b"\x01\x03\x01"));
    assert_eq!(pair.server.closed_links[0].1.as_ref().unwrap().code, 1002);
}

#[test]
fn unknown_channels_are_ignored() {
    let mut pair = Pair::new();
    let link = *pair.to_server.values().next().unwrap();
    let stray = Data {
        channel: crate::ChannelId([7; 16]),
        compression: Compression::None,
        payload: "x"[..].into(),
        datagram: None,
        sequence: None,
    };
    pair.server.receive(link, &Message::Data(stray));
    assert!(pair.server.take_sent().is_empty() && pair.server.closed_links.is_empty());
}

#[test]
fn a_graceful_end_lets_channels_finish() {
    let mut pair = Pair::new();
    let (app, target) = pair.open();
    pair.server.input(Input::Command(Command::Shutdown { drain: Duration::from_secs(5) }));
    let late = pair.request("127.0.0.1:80");
    assert_eq!(pair.app(late)[2..4], *b"\x05\x04", "nothing new");
    pair.server.send(target, b"last words");
    pair.server.send_eof(target);
    pair.client.send_eof(app);
    pair.drive();
    assert_eq!(pair.app(app), b"last words");
    pair.drive();
    assert_eq!(pair.server.stopped, Some(StopReason::Shutdown));
    let closed = "closed by the peer with code 1012: shutting down";
    assert!(pair.client.events.iter().any(
        |event| matches!(event, Event::LinkLost { error, retry_in: Some(_), .. } if error.to_string() == closed)
    ));
}

#[test]
fn a_graceful_end_has_a_deadline() {
    let mut pair = Pair::new();
    let (app, target) = pair.open();
    pair.client.input(Input::Command(Command::Shutdown { drain: Duration::from_secs(5) }));
    pair.advance(Duration::from_secs(4));
    assert_eq!(pair.client.stopped, None);
    pair.advance(Duration::from_secs(2));
    assert_eq!(pair.client.stopped, Some(StopReason::Shutdown));
    assert!(pair.client.peers[&app].reset && pair.server.peers[&target].reset);
}

#[test]
fn an_endless_time_to_close_ends_with_the_last_link() {
    let mut config = client_config();
    config.relay.timeouts.link_close = Duration::MAX;
    config.relay.timeouts.close_linger = Duration::MAX;
    let mut pair = Pair::with(config, server_config());
    pair.open();
    pair.client.input(Input::Command(Command::Shutdown { drain: Duration::ZERO }));
    pair.advance(Duration::from_secs(1));
    assert_eq!(pair.client.stopped, Some(StopReason::Shutdown));
}
