//! Fast open: success is told before it is certain.

use std::time::Duration;

use super::host::Answer;
use super::pair::{Pair, client_config, server_config};
use crate::config::ExtensionConfig;
use crate::error::SocketError;
use crate::event::Event;
use crate::ids::SocketId;
use crate::io::{Engine as _, Input};
use crate::wire::{Compression, ConnectResponse, Data, Disconnect, Endpoint, Endpoints, Message, Partners};

const SUCCESS: &[u8] = b"\x05\x00\x05\x00\x00\x01\0\0\0\0\0\0";
const SECOND: Duration = Duration::from_secs(1);

/// A client that opens fast, and a server whose targets don't answer until they are told to.
fn pair(extensions: ExtensionConfig) -> Pair {
    let (mut client, mut server) = (client_config(), server_config());
    client.relay.fast_open = true;
    server.relay.extensions = extensions;
    let mut pair = Pair::with(client, server);
    pair.server.dials = Answer::Silence;
    pair
}

fn own() -> Pair {
    pair(ExtensionConfig::default())
}

fn foreign() -> Pair {
    pair(ExtensionConfig::none())
}

/// An application that has been told of success while its target is still being dialled.
fn open(pair: &mut Pair) -> (SocketId, SocketId) {
    let app = pair.request("127.0.0.1:80");
    assert_eq!(pair.app(app), SUCCESS);
    pair.client.peers.get_mut(&app).unwrap().got.clear();
    (app, pair.server.dialed.last().unwrap().0)
}

fn connect(pair: &mut Pair, target: SocketId) {
    pair.server.input(Input::SocketOpened { socket: target });
    pair.drive();
}

fn refuse(pair: &mut Pair, target: SocketId) {
    pair.server.fail(target, SocketError::Refused);
    pair.drive();
}

fn is_reset(pair: &Pair, app: SocketId) -> bool {
    pair.client.peers[&app].reset
}

fn opened(pair: &Pair) -> usize {
    pair.client.events.iter().filter(|event| matches!(event, Event::ChannelOpened { .. })).count()
}

/// Why channels of the client have ended.
fn reasons(pair: &Pair) -> Vec<Option<String>> {
    let reason = |event: &Event| match event {
        Event::ChannelClosed { error, .. } | Event::AssociationClosed { error, .. } => {
            Some(error.as_ref().map(ToString::to_string))
        }
        _ => None,
    };
    pair.client.events.iter().filter_map(reason).collect()
}

#[test]
fn what_is_sent_before_the_target_is_connected_arrives_in_order() {
    for mut pair in [own(), foreign()] {
        let bytes: Vec<u8> = (0..300_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let (app, target) = open(&mut pair);
        pair.client.send(app, &bytes[..200_000]);
        pair.advance(9 * SECOND);
        assert_eq!(opened(&pair), 0, "not yet");
        connect(&mut pair, target);
        pair.client.send(app, &bytes[200_000..]);
        pair.server.send(target, b"answer");
        pair.drive();
        assert_eq!((pair.app(app), opened(&pair)), (&b"answer"[..], 1));
        pair.advance(30 * SECOND);
        assert!(pair.target(target) == bytes, "it is confirmed for good");
        pair.client.send_eof(app);
        pair.server.send_eof(target);
        pair.advance(6 * SECOND);
        assert!(pair.client.peers[&app].eof && !is_reset(&pair, app));
        assert_eq!(reasons(&pair), [None]);
        pair.assert_idle();
    }
}

#[test]
fn what_comes_with_the_request_follows_the_connect_at_once() {
    for mut pair in [own(), foreign()] {
        let app = pair.client.connect_app();
        pair.client.send(app, b"\x05\x01\x00");
        pair.client.send(app, b"\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50early");
        assert_eq!(pair.app(app), SUCCESS);
        let sent = pair.client.take_sent();
        let [Message::Connect(connect), Message::Data(data)] = &sent[..] else { panic!("{sent:?}") };
        assert_eq!((data.channel, &data.payload[..]), (connect.channel, &b"early"[..]));
    }
}

#[test]
fn only_some_is_sent_ahead_to_a_server_without_windows() {
    let mut pair = foreign();
    let (app, target) = open(&mut pair);
    let bytes = vec![7; 1_000_000];
    pair.client.send(app, &bytes);
    pair.drive();
    let waiting = pair.server.engine.stats().receive_queued;
    assert!((32 << 10..=64 << 10).contains(&waiting), "{waiting}");
    connect(&mut pair, target);
    assert!(pair.target(target) == bytes, "and the rest once it is connected");
}

#[test]
fn a_refused_target_resets_the_application_at_once() {
    for mut pair in [own(), foreign()] {
        for eof in [false, true] {
            let (app, target) = open(&mut pair);
            pair.client.send(app, b"request");
            if eof {
                pair.client.send_eof(app);
            }
            pair.advance(6 * SECOND);
            assert!(!pair.client.peers[&app].released, "the linger waits for the confirmation");
            refuse(&mut pair, target);
            assert!(is_reset(&pair, app) && pair.app(app).is_empty());
            let reason = reasons(&pair).pop().unwrap();
            assert_eq!(reason.as_deref(), Some("dial tcp 127.0.0.1:80: connection refused"));
        }
        assert_eq!(opened(&pair), 0);
        pair.assert_idle();
    }
}

#[test]
fn without_an_answer_the_application_is_reset_in_time() {
    for mut pair in [own(), foreign()] {
        let (app, _) = open(&mut pair);
        pair.client.send(app, b"request");
        pair.drive();
        let link = *pair.to_server.keys().next().unwrap();
        // The server dials, and its messages go nowhere.
        pair.client.now += 15 * SECOND - Duration::from_millis(1);
        pair.client.input(Input::LinkPong { link });
        assert!(!pair.client.peers[&app].released);
        pair.client.now += Duration::from_millis(1);
        pair.client.input(Input::Timeout);
        assert!(is_reset(&pair, app));
        assert_eq!(reasons(&pair), [Some("no connect response within 15 s".to_owned())]);
        let sent = pair.client.take_sent();
        assert!(matches!(&sent[..], [Message::Disconnect(_)]), "{sent:?}");
    }
}

#[test]
fn a_disconnect_instead_of_an_answer_is_a_failure() {
    for error in [None, Some("EOF".to_owned())] {
        let mut pair = foreign();
        let (app, _) = open(&mut pair);
        let link = *pair.to_server.keys().next().unwrap();
        let channel = channel(&mut pair);
        pair.client.receive(link, &Message::Disconnect(Disconnect { channel, error }));
        assert!(is_reset(&pair, app), "nobody has said that there is a stream");
    }
}

/// The id of a channel that the client has open: what it sends next is its Data.
fn channel(pair: &mut Pair) -> crate::ids::ChannelId {
    let app = *pair.client.peers.keys().last().unwrap();
    pair.client.send(app, b"?");
    match &pair.client.take_sent()[..] {
        [Message::Data(data)] => data.channel,
        other => panic!("{other:?}"),
    }
}

fn data(channel: crate::ids::ChannelId, payload: &'static [u8]) -> Message {
    let compression = Compression::None;
    Message::Data(Data { channel, compression, payload: payload.into(), datagram: None, sequence: None })
}

#[test]
fn data_confirms_as_well_as_an_answer() {
    let mut pair = foreign();
    let (app, _) = open(&mut pair);
    let link = *pair.to_server.keys().next().unwrap();
    let channel = channel(&mut pair);
    pair.client.receive(link, &data(channel, b"banner"));
    pair.client.now += 20 * SECOND;
    pair.client.input(Input::LinkPong { link });
    assert!(!is_reset(&pair, app));
    pair.client.receive(link, &Message::Disconnect(Disconnect { channel, error: None }));
    assert_eq!(pair.app(app), b"banner");
    assert!(pair.client.peers[&app].eof && !is_reset(&pair, app));
}

#[test]
fn an_application_that_leaves_early_leaves_nothing_behind() {
    for mut pair in [own(), foreign()] {
        let (app, target) = open(&mut pair);
        pair.client.send(app, b"request");
        pair.client.fail(app, SocketError::Reset);
        pair.drive();
        connect(&mut pair, target);
        pair.advance(SECOND);
        pair.assert_idle();
        assert!(!pair.server.peers.get(&target).is_some_and(|target| target.eof && !target.reset));
    }
}

#[test]
fn a_lost_link_resets_the_application() {
    let mut pair = pair(ExtensionConfig { session: false, ..ExtensionConfig::default() });
    let (app, _) = open(&mut pair);
    let link = *pair.to_server.keys().next().unwrap();
    let cause = crate::io::LinkClose::Transport(SocketError::Reset);
    pair.client.input(Input::LinkClosed { link, cause });
    assert!(is_reset(&pair, app));
}

#[test]
fn with_a_session_nothing_is_lost_with_the_link() {
    let mut pair = own();
    let (app, target) = open(&mut pair);
    pair.client.send(app, b"early");
    pair.cut();
    pair.server.input(Input::SocketOpened { socket: target });
    pair.advance(2 * SECOND);
    pair.server.send(target, b"hello");
    pair.drive();
    assert_eq!((pair.target(target), pair.app(app)), (&b"early"[..], &b"hello"[..]));
}

#[test]
fn no_success_is_told_without_a_link() {
    let mut config = client_config();
    config.relay.fast_open = true;
    config.listen_early = true;
    let mut pair = Pair::with(client_config(), server_config());
    pair.client =
        super::host::Host::new(crate::ClientEngine::new(config, [3; 32], pair.client.now), pair.client.now);
    let app = pair.client.connect_app();
    pair.client.send(app, b"\x05\x01\x00");
    pair.client.send(app, b"\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50");
    assert_eq!(pair.app(app), b"\x05\x00", "it waits");
    pair.client.now += 10 * SECOND;
    pair.client.input(Input::Timeout);
    assert_eq!(pair.app(app)[..4], *b"\x05\x00\x05\x03");
}

#[test]
fn a_connector_holds_its_data_back_for_two_round_trips_or_until_the_answer() {
    let round_trip = Duration::from_millis(100);
    let mut pair = foreign();
    let link = *pair.to_server.keys().next().unwrap();
    pair.client.receive(link, &Message::Partners(Partners { count: 1 }));
    pair.advance(30 * SECOND - round_trip);
    // The next ping takes a while.
    while pair.client.pings.is_empty() {
        pair.client.now += Duration::from_millis(10);
        pair.client.input(Input::Timeout);
    }
    pair.client.now += round_trip;
    pair.client.pings.clear();
    pair.client.input(Input::LinkPong { link });

    let ask = |pair: &mut Pair| {
        let app = pair.client.connect_app();
        pair.client.send(app, b"\x05\x01\x00");
        pair.client.send(app, b"\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50early");
        assert_eq!(pair.app(app), SUCCESS);
        let sent = pair.client.take_sent();
        let [Message::Connect(connect)] = &sent[..] else { panic!("{sent:?}") };
        connect.channel
    };
    let first = ask(&mut pair);
    pair.client.now += 2 * round_trip - Duration::from_millis(1);
    pair.client.input(Input::Timeout);
    assert_eq!(pair.client.take_sent(), []);
    pair.client.now += Duration::from_millis(1);
    pair.client.input(Input::Timeout);
    assert_eq!(pair.client.take_sent(), [data(first, b"early")]);

    let second = ask(&mut pair);
    let answer = ConnectResponse { channel: second, result: Ok(()) };
    pair.client.receive(link, &Message::ConnectResponse(answer));
    assert_eq!(pair.client.take_sent(), [data(second, b"early")]);
}

#[test]
fn http_connect_is_opened_fast_and_other_requests_are_not() {
    for mut pair in [own(), foreign()] {
        let app = pair.client.connect_app();
        pair.client.send(app, b"CONNECT 192.0.2.1:443 HTTP/1.1\r\n\r\nearly");
        pair.drive();
        assert_eq!(pair.app(app), b"HTTP/1.1 200 Connection Established\r\n\r\n");
        let target = pair.server.dialed.last().unwrap().0;
        connect(&mut pair, target);
        assert_eq!(pair.target(target), b"early");

        let app = pair.client.connect_app();
        pair.client.send(app, b"GET http://192.0.2.1/ HTTP/1.1\r\n\r\n");
        pair.drive();
        assert_eq!(pair.app(app), b"");
        let target = pair.server.dialed.last().unwrap().0;
        refuse(&mut pair, target);
        assert!(pair.app(app).starts_with(b"HTTP/1.1 502 "));
    }
}

#[test]
fn an_embedder_gets_only_connected_channels() {
    let mut pair = own();
    let ticket = pair.client.open("127.0.0.1:80");
    pair.drive();
    assert!(!pair.client.adopted.contains_key(&ticket));
    let target = pair.server.dialed.last().unwrap().0;
    refuse(&mut pair, target);
    assert!(pair.client.refused.contains_key(&ticket));
}

/// An application that has asked for an association while the messages of its client go nowhere.
fn associate(pair: &mut Pair) -> SocketId {
    let app = pair.client.connect_app();
    pair.client.send(app, b"\x05\x01\x00\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00");
    app
}

#[test]
fn an_association_is_granted_as_soon_as_its_socket_is_bound() {
    for mut pair in [own(), foreign()] {
        pair.client.binds = Answer::Silence;
        let control = associate(&mut pair);
        assert_eq!(pair.app(control), b"\x05\x00", "where to is not known yet");
        let (socket, local) = pair.client.bound[0];
        pair.client.input(Input::SocketBound { socket, local });
        assert_eq!(pair.app(control)[2..6], *b"\x05\x00\x00\x01");
        let query = b"\0\0\0\x01\x7f\0\0\x01\0\x35query";
        pair.client.receive_datagram(socket, "127.0.0.1:7000", query);
        pair.drive();
        let (at, to, payload) = pair.server.datagrams.pop_front().unwrap();
        assert_eq!((to.to_string().as_str(), &payload[..]), ("127.0.0.1:53", &b"query"[..]));
        pair.server.receive_datagram(at, "127.0.0.1:53", b"answer");
        pair.advance(20 * SECOND);
        assert!(pair.client.datagrams.pop_front().unwrap().2.ends_with(b"answer"));
        assert!(!pair.client.peers[&control].released, "it is confirmed");
        let opened = pair.client.events.iter().filter_map(|event| match event {
            Event::AssociationOpened { local, .. } => Some(*local),
            _ => None,
        });
        assert_eq!(opened.collect::<Vec<_>>(), [Some(local)]);
        pair.advance(300 * SECOND);
        assert_eq!(reasons(&pair), [Some("no datagram for 300 s".to_owned())]);
    }
}

#[test]
fn an_association_that_fails_loses_its_control_connection() {
    let mut pair = foreign();
    let link = *pair.to_server.keys().next().unwrap();
    let control = associate(&mut pair);
    let sent = pair.client.take_sent();
    let [Message::Connect(connect)] = &sent[..] else { panic!("{sent:?}") };
    let answer = ConnectResponse { channel: connect.channel, result: Err("no UDP here".to_owned()) };
    pair.client.receive(link, &Message::ConnectResponse(answer));
    assert!(pair.client.peers[&control].released && pair.client.peers[&pair.client.bound[0].0].released);
    assert_eq!(reasons(&pair), [Some("no UDP here".to_owned())]);

    let control = associate(&mut pair);
    pair.client.take_sent();
    pair.client.now += 15 * SECOND;
    pair.client.input(Input::Timeout);
    assert!(pair.client.peers[&control].released);
    assert_eq!(reasons(&pair)[1].as_deref(), Some("no connect response within 15 s"));
}

#[test]
fn a_datagram_confirms_an_association() {
    let mut pair = foreign();
    let link = *pair.to_server.keys().next().unwrap();
    let control = associate(&mut pair);
    let sent = pair.client.take_sent();
    let [Message::Connect(connect)] = &sent[..] else { panic!("{sent:?}") };
    let source = Endpoint { address: "127.0.0.1".into(), port: 53 };
    let datagram = Some(Endpoints::Two { source, target: Endpoint::default() });
    let (channel, compression, payload) = (connect.channel, Compression::None, "x"[..].into());
    let data = Data { channel, compression, payload, datagram, sequence: None };
    pair.client.receive(link, &Message::Data(data));
    pair.client.now += 20 * SECOND;
    pair.client.input(Input::LinkPong { link });
    assert!(!pair.client.peers[&control].released);
}
