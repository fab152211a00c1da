//! Close, half-close and reset.

use std::time::Duration;

use super::pair::Pair;
use crate::error::SocketError;
use crate::wire::{Connect, ConnectRequest, Data, Disconnect, Message};
use crate::{Command, Input};

#[test]
fn with_finish_each_direction_ends_on_its_own() {
    let mut pair = Pair::new();
    let (app, target) = pair.open();
    pair.client.send(app, b"request");
    pair.client.send_eof(app);
    pair.drive();
    assert_eq!(pair.target(target), b"request");
    assert!(pair.server.peers[&target].eof && !pair.client.peers[&app].eof);
    pair.advance(Duration::from_secs(3600));
    pair.server.send(target, b"late answer");
    pair.server.send_eof(target);
    pair.drive();
    assert_eq!(pair.app(app), b"late answer");
    assert!(pair.client.peers[&app].eof && !pair.client.peers[&app].reset);
    pair.assert_idle();
}

#[test]
fn with_finish_the_target_may_end_first() {
    let mut pair = Pair::new();
    let (app, target) = pair.open();
    pair.server.send(target, b"banner");
    pair.server.send_eof(target);
    pair.drive();
    assert_eq!(pair.app(app), b"banner");
    pair.client.send(app, b"upload goes on");
    pair.client.send_eof(app);
    pair.drive();
    assert_eq!(pair.target(target), b"upload goes on");
    pair.assert_idle();
}

#[test]
fn with_finish_a_broken_socket_resets_the_other_end() {
    let mut pair = Pair::new();
    let (app, target) = pair.open();
    pair.server.send(target, b"part");
    pair.drive();
    pair.server.fail(target, SocketError::Reset);
    pair.drive();
    assert!(pair.client.peers[&app].reset);
    pair.assert_idle();
}

#[test]
fn with_finish_what_was_complete_is_delivered_although_the_socket_broke_later() {
    let mut pair = Pair::new();
    let (app, target) = pair.open();
    pair.client.peers.get_mut(&app).unwrap().stalled = true;
    pair.server.send(target, &[7; 150_000]);
    pair.server.send_eof(target);
    pair.server.fail(target, SocketError::BrokenPipe);
    pair.drive();
    pair.client.take_pending(app);
    pair.drive();
    pair.client.take_pending(app);
    assert_eq!(pair.app(app).len(), 150_000);
    assert!(pair.client.peers[&app].eof && !pair.client.peers[&app].reset);
    pair.assert_idle();
}

#[test]
fn with_finish_a_slow_reader_gets_everything_before_the_end() {
    let mut pair = Pair::new();
    let (app, target) = pair.open();
    pair.client.peers.get_mut(&app).unwrap().stalled = true;
    pair.server.send(target, &[7; 3_000_000]);
    pair.server.send_eof(target);
    pair.client.send_eof(app);
    pair.advance(Duration::from_secs(7200));
    assert!(!pair.client.peers[&app].released);
    for _ in 0..1000 {
        pair.client.take_pending(app);
        pair.drive();
    }
    assert_eq!(pair.app(app).len(), 3_000_000);
    assert!(!pair.client.peers[&app].reset);
    pair.assert_idle();
}

#[test]
fn without_finish_the_socks_side_holds_its_disconnect_back() {
    let mut pair = Pair::plain();
    let (app, target) = pair.open();
    pair.client.send(app, b"request");
    pair.client.send_eof(app);
    pair.advance(Duration::from_secs(4));
    assert!(!pair.server.peers[&target].eof, "an old peer would cut the answer");
    pair.server.send(target, b"answer");
    pair.advance(Duration::from_secs(4));
    assert_eq!(pair.app(app), b"answer");
    assert!(!pair.client.peers[&app].released, "Data prolongs the wait");
    pair.advance(Duration::from_secs(2));
    assert!(pair.server.peers[&target].eof && pair.client.peers[&app].eof);
    pair.assert_idle();
}

#[test]
fn without_finish_the_end_of_the_target_reaches_the_application_at_once() {
    let mut pair = Pair::plain();
    let (app, target) = pair.open();
    pair.client.send(app, b"request");
    pair.server.send(target, &[1; 262_144]);
    pair.server.send_eof(target);
    pair.drive();
    assert_eq!(pair.app(app).len(), 262_144);
    assert!(pair.client.peers[&app].eof && !pair.client.peers[&app].reset);
    assert!(pair.server.peers[&target].eof && !pair.server.peers[&target].reset);
    pair.assert_idle();
}

#[test]
fn without_finish_an_upload_that_the_target_no_longer_takes_ends_in_a_reset_there() {
    let mut pair = Pair::plain();
    let (app, target) = pair.open();
    pair.server.peers.get_mut(&target).unwrap().stalled = true;
    pair.client.send(app, &[1; 400_000]);
    pair.drive();
    pair.server.send(target, b"enough");
    pair.server.send_eof(target);
    pair.drive();
    assert_eq!(pair.app(app), b"enough");
    assert!(pair.client.peers[&app].eof && !pair.client.peers[&app].reset);
    assert!(pair.server.peers[&target].reset, "the target must not take the upload for complete");
    pair.assert_idle();
}

#[test]
fn without_finish_a_broken_target_travels_behind_its_data_as_an_error() {
    let mut pair = Pair::plain();
    let (app, target) = pair.open();
    pair.client.links_stalled = true;
    pair.server.send(target, b"part");
    pair.server.fail(target, SocketError::Reset);
    let sent = pair.server.take_sent();
    assert!(
        matches!(&sent[..], [Message::Data(_), Message::Disconnect(end)] if end.error.as_deref() == Some("connection reset by peer")),
        "{sent:?}"
    );
    let channel = match &sent[0] {
        Message::Data(data) => data.channel,
        _ => unreachable!(),
    };
    let link = *pair.to_server.keys().next().unwrap();
    pair.client.receive(link, &sent[0]);
    pair.client.receive(link, &Message::Disconnect(Disconnect { channel, error: Some("reset".into()) }));
    assert!(pair.client.peers[&app].reset);
}

#[test]
fn a_disconnect_is_never_answered_and_late_messages_are_ignored() {
    let mut pair = Pair::plain();
    let (app, _) = pair.open();
    pair.client.send(app, b"x");
    let channel = match &pair.client.take_sent()[..] {
        [Message::Data(data)] => data.channel,
        other => panic!("{other:?}"),
    };
    let link = *pair.to_server.keys().next().unwrap();
    let end = Message::Disconnect(Disconnect { channel, error: None });
    pair.client.receive(link, &end);
    pair.client.receive(link, &end);
    let late = Data {
        channel,
        compression: crate::wire::Compression::None,
        payload: "late"[..].into(),
        datagram: None,
        sequence: None,
    };
    pair.client.receive(link, &Message::Data(late));
    assert!(pair.client.take_sent().is_empty());
    assert!(pair.client.peers[&app].eof && pair.app(app).is_empty());
}

#[test]
fn data_and_end_before_the_dial_is_done_still_reach_the_target() {
    let mut pair = Pair::plain();
    pair.server.dials = super::host::Answer::Silence;
    let link = *pair.to_server.values().next().unwrap();
    let channel = crate::ChannelId([9; 16]);
    let request = ConnectRequest::Tcp { address: "127.0.0.1".into(), port: 80 };
    pair.server.receive(link, &Message::Connect(Connect { channel, request, resume: false }));
    let data = Data {
        channel,
        compression: crate::wire::Compression::None,
        payload: "datagram-like"[..].into(),
        datagram: None,
        sequence: None,
    };
    pair.server.receive(link, &Message::Data(data));
    pair.server.receive(link, &Message::Disconnect(Disconnect { channel, error: Some("EOF".into()) }));
    let target = pair.server.dialed[0].0;
    pair.server.input(Input::SocketOpened { socket: target });
    assert_eq!(pair.target(target), b"datagram-like");
    assert!(pair.server.peers[&target].eof && !pair.server.peers[&target].reset);
    assert!(pair.server.take_sent().is_empty(), "the channel is over on the wire");
    pair.assert_idle();
}

#[test]
fn a_shutdown_that_gives_no_time_takes_none() {
    let mut pair = Pair::new();
    let (app, _) = pair.open();
    pair.client.input(Input::Command(Command::Shutdown { drain: Duration::ZERO }));
    assert!(pair.client.peers[&app].reset, "before anything else happens");
}
