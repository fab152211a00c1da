//! Requests and streams in forward mode.

use std::time::Duration;

use super::host::Answer;
use super::pair::{Pair, client_config, server_config};
use crate::error::SocketError;
use crate::io::{Engine, Input};
use crate::wire::{ConnectResponse, Data, Message};

#[test]
fn bytes_flow_both_ways_and_the_end_follows() {
    for mut pair in [Pair::new(), Pair::plain()] {
        let (app, target) = pair.open();
        pair.client.send(app, b"GET /");
        pair.drive();
        assert_eq!(pair.target(target), b"GET /");
        pair.server.send(target, b"hello");
        pair.server.send_eof(target);
        pair.drive();
        assert_eq!(pair.app(app), b"hello");
        assert!(pair.client.peers[&app].eof, "the application sees the end at once");
        pair.client.send_eof(app);
        pair.drive();
        assert!(pair.server.peers[&target].eof);
        pair.assert_idle();
        assert_eq!(pair.client.engine.stats().copied_bytes, 0);
    }
}

#[test]
fn a_megabyte_arrives_whole_in_both_directions() {
    for mut pair in [Pair::new(), Pair::plain()] {
        let (app, target) = pair.open();
        let bytes: Vec<u8> = (0..3_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        pair.client.send(app, &bytes);
        pair.server.send(target, &bytes);
        pair.drive();
        assert!(pair.target(target) == bytes && pair.app(app) == bytes);
    }
}

#[test]
fn a_refused_connection_is_socks_04() {
    let mut pair = Pair::new();
    pair.server.dials = Answer::Refuse;
    let app = pair.request("127.0.0.1:1");
    assert_eq!(pair.app(app), b"\x05\x00\x05\x04\x00\x01\x00\x00\x00\x00\x00\x00");
    assert!(pair.client.peers[&app].released);
    pair.assert_idle();
}

#[test]
fn a_name_is_resolved_by_the_dial_side_and_all_its_addresses_are_tried() {
    let mut pair = Pair::new();
    pair.server.dials = Answer::Silence;
    pair.server.resolves_to = Ok(["::1", "127.0.0.1", "127.0.0.2"].map(|ip| ip.parse().unwrap()).to_vec());
    let ticket = pair.client.open("example.test:80");
    pair.drive();
    assert_eq!(pair.server.queries[0].1, "example.test");
    assert_eq!(pair.server.dialed.len(), 1, "one at a time");
    pair.advance(Duration::from_millis(250));
    assert_eq!(pair.server.dialed.len(), 2, "the next one after a while");
    let (first, second) = (pair.server.dialed[0], pair.server.dialed[1]);
    assert!(first.1.is_ipv6() && second.1.is_ipv4(), "families take turns");
    pair.server.fail(first.0, SocketError::NetworkUnreachable);
    assert_eq!(pair.server.dialed.len(), 3, "a failure brings the next one at once");
    pair.server.input(Input::SocketOpened { socket: second.0 });
    pair.drive();
    assert!(pair.client.adopted.contains_key(&ticket));
    assert!(pair.server.peers[&pair.server.dialed[2].0].reset, "the loser is dropped");
}

#[test]
fn a_name_without_address_is_a_failure() {
    let mut pair = Pair::new();
    pair.server.resolves_to = Err(SocketError::NameNotFound);
    let ticket = pair.client.open("example.test:80");
    pair.drive();
    let error = pair.client.refused[&ticket].to_string();
    assert_eq!(error, "connect failed: dial tcp example.test:80: no such host");
    pair.assert_idle();
}

#[test]
fn a_silent_target_fails_after_the_dial_timeout() {
    let mut pair = Pair::new();
    pair.server.dials = Answer::Silence;
    let app = pair.request("127.0.0.1:80");
    pair.advance(Duration::from_millis(9_999));
    assert_eq!(pair.app(app), b"\x05\x00");
    pair.advance(Duration::from_millis(2));
    assert_eq!(pair.app(app)[..4], *b"\x05\x00\x05\x04");
    pair.assert_idle();
}

/// A client whose server is played by the test.
fn lone_client() -> (super::host::Host<crate::ClientEngine>, crate::LinkId) {
    let now = super::epoch();
    let mut client = super::host::Host::new(crate::ClientEngine::new(client_config(), [1; 32], now), now);
    let (link, _) = client.open_link(None);
    client.receive(link, &Message::AuthResponse(crate::wire::AuthResponse::Success { assigned: None }));
    assert!(client.take_sent().is_empty(), "nothing is sent unasked");
    (client, link)
}

fn connect_id(messages: &[Message]) -> crate::ChannelId {
    match messages {
        [Message::Connect(connect)] => connect.channel,
        other => panic!("one Connect expected, got {other:?}"),
    }
}

fn data(channel: crate::ChannelId, payload: &'static [u8]) -> Message {
    Message::Data(Data {
        channel,
        compression: crate::wire::Compression::None,
        payload: payload.into(),
        datagram: None,
        sequence: None,
    })
}

/// A dial counts as one, so it must not take as many sockets as somebody's name has addresses.
#[test]
fn of_a_name_with_many_silent_addresses_only_some_are_tried_at_once() {
    let mut pair = Pair::with(client_config(), server_config());
    pair.server.resolves_to = Ok((1..=100).map(|last| [192, 0, 2, last].into()).collect());
    pair.server.dials = Answer::Silence;
    pair.client.open("many.test:80");
    pair.advance(Duration::from_secs(9));
    assert_eq!(pair.server.dialed.len(), 8);
    for number in 0..5 {
        let (socket, _) = pair.server.dialed[number];
        pair.server.fail(socket, SocketError::Refused);
    }
    assert_eq!(pair.server.dialed.len(), 13, "the next one takes the place of each that has failed");
}

#[test]
fn no_answer_within_15_s_is_socks_04_and_a_disconnect() {
    let (mut client, link) = lone_client();
    let app = client.connect_app();
    client.send(app, b"\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50");
    let channel = connect_id(&client.take_sent());
    client.now += Duration::from_millis(15_000);
    client.input(Input::Timeout);
    assert!(matches!(&client.take_sent()[..], [Message::Disconnect(end)] if end.channel == channel));
    assert_eq!(client.peers[&app].got[2..4], *b"\x05\x04");
    client.receive(link, &Message::ConnectResponse(ConnectResponse { channel, result: Ok(()) }));
    assert!(client.take_sent().is_empty(), "a late answer is ignored");
}

#[test]
fn a_deadline_missed_while_we_were_away_gives_the_answer_another_second() {
    let (mut client, link) = lone_client();
    let ticket = client.open("127.0.0.1:80");
    let channel = connect_id(&client.take_sent());
    client.now += Duration::from_secs(40);
    client.input(Input::Timeout);
    assert!(client.refused.is_empty());
    client.receive(link, &Message::ConnectResponse(ConnectResponse { channel, result: Ok(()) }));
    assert!(client.adopted.contains_key(&ticket));
}

#[test]
fn data_before_the_response_implies_success_and_stays_in_order() {
    let (mut client, link) = lone_client();
    let app = client.connect_app();
    client.send(app, b"\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50early");
    let channel = connect_id(&client.take_sent());
    client.receive(link, &data(channel, b"SSH-"));
    client.receive(link, &data(channel, b"2.0"));
    client.receive(link, &Message::ConnectResponse(ConnectResponse { channel, result: Ok(()) }));
    assert_eq!(client.peers[&app].got, b"\x05\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00SSH-2.0");
    assert!(matches!(&client.take_sent()[..], [Message::Data(sent)] if &sent.payload[..] == b"early"));
}

#[test]
fn a_disconnect_instead_of_a_response_is_socks_04() {
    let (mut client, link) = lone_client();
    let app = client.connect_app();
    client.send(app, b"\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50");
    let channel = connect_id(&client.take_sent());
    client.receive(link, &Message::Disconnect(crate::wire::Disconnect { channel, error: None }));
    assert_eq!(client.peers[&app].got[2..4], *b"\x05\x04");
    assert!(client.take_sent().is_empty(), "no Disconnect answers a Disconnect");
}

#[test]
fn requests_wait_for_a_link_and_fail_with_03_after_10_s() {
    let mut config = client_config();
    config.listen_early = true;
    let now = super::epoch();
    let mut client = super::host::Host::new(crate::ClientEngine::new(config, [1; 32], now), now);
    let request = b"\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50";
    let hopeless = client.connect_app();
    client.send(hopeless, request);
    client.now += Duration::from_secs(5);
    let patient = client.connect_app();
    client.send(patient, request);
    client.now += Duration::from_millis(5_001);
    client.input(Input::Timeout);
    assert_eq!(client.peers[&hopeless].got[2..4], *b"\x05\x03");
    let (link, _) = client.open_link(None);
    client.receive(link, &Message::AuthResponse(crate::wire::AuthResponse::Success { assigned: None }));
    assert!(matches!(&client.take_sent()[..], [Message::Connect(_)]), "the one that still waits is served");
}

#[test]
fn an_application_that_leaves_before_the_answer_ends_the_channel() {
    let (mut client, _) = lone_client();
    let app = client.connect_app();
    client.send(app, b"\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50");
    let channel = connect_id(&client.take_sent());
    client.fail(app, SocketError::Reset);
    assert!(matches!(&client.take_sent()[..], [Message::Disconnect(end)] if end.channel == channel));
    assert_eq!(client.engine.stats().channels, 0);
}

#[test]
fn a_server_opens_no_channels_and_dials_only_what_is_valid() {
    let mut pair = Pair::with(client_config(), server_config());
    let ticket = pair.server.open("127.0.0.1:80");
    assert!(pair.server.refused.contains_key(&ticket));
    let link = *pair.to_server.values().next().unwrap();
    for (address, port) in [("", 80), ("127.0.0.1", 0)] {
        let channel = crate::ChannelId([9; 16]);
        let request = crate::wire::ConnectRequest::Tcp { address: address.into(), port };
        let connect = crate::wire::Connect { channel, request, resume: false };
        pair.server.receive(link, &Message::Connect(connect));
        let answers = pair.server.take_sent();
        assert!(
            matches!(&answers[..], [Message::ConnectResponse(answer)] if answer.result.is_err()),
            "{answers:?}"
        );
    }
    assert!(pair.server.dialed.is_empty());
}
