//! UDP associations in forward mode.

use std::time::Duration;

use bytes::Bytes;

use super::access::{with_dial_rules, with_entry_rules};
use super::host::Answer;
use super::pair::{Pair, client_config, server_config};
use crate::error::SocketError;
use crate::event::Event;
use crate::ids::{ChannelId, LinkId, SocketId};
use crate::io::{Command, Engine, Input};
use crate::wire::{Compression, Connect, ConnectRequest, Data, Disconnect, Endpoint, Endpoints, Message};

/// Where the application of [`Host::connect_app`](super::host::Host::connect_app) sends from.
pub(super) const APP: &str = "127.0.0.1:7000";
pub(super) const TARGET: &str = "127.0.0.1:53";

/// An application's request for an association.
fn ask(pair: &mut Pair) -> SocketId {
    let app = pair.client.connect_app();
    pair.client.send(app, b"\x05\x01\x00\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00");
    pair.drive();
    app
}

/// As [`ask`], granted. Returns the control socket and the datagram socket.
pub(super) fn associate(pair: &mut Pair) -> (SocketId, SocketId) {
    let control = ask(pair);
    assert_eq!(pair.app(control)[..6], *b"\x05\x00\x05\x00\x00\x01", "granted");
    (control, pair.client.bound.last().unwrap().0)
}

/// A datagram with its SOCKS header.
pub(super) fn wrapped(address: &str, payload: &[u8]) -> Vec<u8> {
    let address = address.parse().unwrap();
    let datagram = crate::socks5::Datagram { address, payload: Bytes::copy_from_slice(payload) };
    datagram.encode().unwrap().to_vec()
}

/// The application sends a datagram.
pub(super) fn send(pair: &mut Pair, port: SocketId, to: &str, payload: &[u8]) {
    pair.client.receive_datagram(port, APP, &wrapped(to, payload));
    pair.drive();
}

/// What the server has sent: where to, and what.
pub(super) fn sent(pair: &mut Pair) -> Vec<(String, Vec<u8>)> {
    pair.server.datagrams.drain(..).map(|(_, to, payload)| (to.to_string(), payload.to_vec())).collect()
}

/// What the application has got.
pub(super) fn got(pair: &mut Pair) -> Vec<(String, Vec<u8>)> {
    pair.client.datagrams.drain(..).map(|(_, to, payload)| (to.to_string(), payload.to_vec())).collect()
}

fn closed(events: &[Event]) -> Option<(u64, u64, u64, Option<String>)> {
    events.iter().find_map(|event| match event {
        Event::AssociationClosed { sent, received, dropped, error, .. } => {
            Some((*sent, *received, *dropped, error.as_ref().map(ToString::to_string)))
        }
        _ => None,
    })
}

#[test]
fn datagrams_of_all_sizes_pass_both_ways_and_the_control_connection_ends_it() {
    for mut pair in [Pair::new(), Pair::plain()] {
        let (control, port) = associate(&mut pair);
        assert_eq!(pair.app(control)[6..], *b"\x7f\x00\x00\x01\x9c\x40", "where the socket is bound");
        for size in [0, 1, 1500, 65_507 - 10] {
            let payload = vec![7; size];
            send(&mut pair, port, TARGET, &payload);
            assert_eq!(sent(&mut pair), [(TARGET.to_owned(), payload.clone())]);
            let target = pair.server.bound[0].0;
            pair.server.receive_datagram(target, "127.0.0.1:99", &payload);
            pair.drive();
            assert_eq!(got(&mut pair), [(APP.to_owned(), wrapped("127.0.0.1:99", &payload))]);
        }
        assert_eq!(pair.server.bound.len(), 1, "one socket for all");
        pair.client.send(control, b"anything is ignored");
        pair.client.send_eof(control);
        pair.drive();
        assert!(pair.client.peers[&control].released && pair.client.peers[&port].released);
        pair.assert_idle();
        assert_eq!(closed(&pair.client.events), Some((4, 4, 0, None)));
        assert_eq!(closed(&pair.server.events), Some((4, 4, 0, None)));
    }
}

#[test]
fn both_families_are_used_as_needed() {
    let mut pair = Pair::new();
    let (_, port) = associate(&mut pair);
    for (to, reached) in
        [("[::1]:53", "[::1]:53"), ("8.8.8.8:53", "8.8.8.8:53"), ("[::ffff:8.8.4.4]:53", "8.8.4.4:53")]
    {
        send(&mut pair, port, to, b"query");
        assert_eq!(sent(&mut pair), [(reached.to_owned(), b"query".to_vec())]);
    }
    let bound: Vec<_> = pair.server.bound.iter().map(|(_, address)| address.ip().to_string()).collect();
    assert_eq!(bound, ["::", "0.0.0.0"]);
    let v6 = pair.server.bound[0].0;
    pair.server.receive_datagram(v6, "[::ffff:1.2.3.4]:5", b"answer");
    pair.drive();
    assert_eq!(got(&mut pair), [(APP.to_owned(), wrapped("1.2.3.4:5", b"answer"))], "plain IPv4");
}

#[test]
fn the_socket_is_where_the_control_connection_is() {
    let mut pair = Pair::new();
    let listener = pair.client.listener.unwrap();
    let ticket = pair.client.ticket();
    let (local, peer) = ("[::ffff:192.0.2.1]:1080".parse().unwrap(), "[::ffff:192.0.2.9]:5".parse().unwrap());
    pair.client.input(Input::SocketAccepted { ticket, listener, local, peer });
    let app = pair.client.adopted[&ticket];
    pair.client.send(app, b"\x05\x01\x00\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00");
    pair.drive();
    let (port, bound) = pair.client.bound[0];
    assert_eq!(bound.ip().to_string(), "192.0.2.1");
    pair.client.receive_datagram(port, "192.0.2.9:1", &wrapped(TARGET, b"yes"));
    pair.client.receive_datagram(port, "192.0.2.10:1", &wrapped(TARGET, b"another host"));
    pair.client.receive_datagram(port, "192.0.2.9:2", &wrapped(TARGET, b"another port"));
    pair.drive();
    assert_eq!(sent(&mut pair), [(TARGET.to_owned(), b"yes".to_vec())]);
    assert_eq!(pair.client.engine.stats().datagrams_dropped, 2);
}

#[test]
fn a_malformed_datagram_pins_nobody_and_harms_nothing() {
    let mut pair = Pair::new();
    let (_, port) = associate(&mut pair);
    let fragment = [&[0, 0, 1], &wrapped(TARGET, b"x")[3..]].concat();
    for bad in [&b""[..], b"\0\0\0\x01ab", b"\0\0\0\x07abcdefgh", b"\0\0\0\x03\0\0\x35x", &fragment] {
        pair.client.receive_datagram(port, "127.0.0.1:1", bad);
    }
    send(&mut pair, port, TARGET, b"good");
    assert_eq!(sent(&mut pair).len(), 1);
    assert_eq!(pair.client.engine.stats().datagrams_dropped, 5);
}

#[test]
fn a_name_is_looked_up_once_and_holds_nobody_up() {
    let mut pair = Pair::new();
    let (_, port) = associate(&mut pair);
    pair.server.resolver_stalled = true;
    send(&mut pair, port, "Slow.test:53", b"1");
    send(&mut pair, port, "slow.test:54", b"2");
    send(&mut pair, port, TARGET, b"not held up");
    assert_eq!(sent(&mut pair), [(TARGET.to_owned(), b"not held up".to_vec())]);
    assert_eq!(pair.server.queries.len(), 1);
    let query = pair.server.queries[0].0;
    let addresses = ["::1", "127.0.0.7"].map(|ip| ip.parse().unwrap());
    pair.server.input(Input::Resolved { query, result: Ok(addresses.into_iter().collect()) });
    pair.drive();
    send(&mut pair, port, "slow.test:55", b"3");
    let expected = [("127.0.0.7:53", b"1"), ("127.0.0.7:54", b"2"), ("127.0.0.7:55", b"3")];
    assert_eq!(sent(&mut pair), expected.map(|(to, payload)| (to.to_owned(), payload.to_vec())));
    assert_eq!(pair.server.queries.len(), 1, "remembered");
    pair.advance(Duration::from_secs(30));
    send(&mut pair, port, "slow.test:55", b"4");
    assert_eq!(pair.server.queries.len(), 2, "but not for ever");
}

#[test]
fn lookups_that_fail_or_are_too_many_lose_only_their_datagrams() {
    let mut server = server_config();
    server.relay.limits.lookups_per_client = 2;
    let mut pair = Pair::with(client_config(), server);
    let (control, port) = associate(&mut pair);
    pair.server.resolver_stalled = true;
    for name in ["a.test:1", "b.test:1", "c.test:1"] {
        send(&mut pair, port, name, b"x");
    }
    assert_eq!(pair.server.queries.len(), 2);
    assert_eq!(pair.server.engine.stats().datagrams_dropped, 1);
    let query = pair.server.queries[0].0;
    pair.server.input(Input::Resolved { query, result: Err(SocketError::NameNotFound) });
    pair.advance(Duration::from_secs(10));
    assert_eq!(pair.server.engine.stats().datagrams_dropped, 3);
    pair.server.resolver_stalled = false;
    send(&mut pair, port, "c.test:1", b"x");
    assert_eq!(sent(&mut pair).len(), 1);
    pair.client.send_eof(control);
    pair.drive();
    pair.assert_idle();
}

#[test]
fn lookups_count_until_they_are_answered_whoever_still_waits() {
    let mut server = server_config();
    server.relay.limits.lookups_per_client = 2;
    let mut pair = Pair::with(client_config(), server);
    pair.server.resolver_stalled = true;
    for round in 0..5 {
        let (control, port) = associate(&mut pair);
        send(&mut pair, port, &format!("host{round}.test:1"), b"x");
        pair.client.send_eof(control);
        pair.advance(Duration::from_secs(11));
        if pair.server.queries.len() == 2 {
            break;
        }
    }
    let (_, port) = associate(&mut pair);
    send(&mut pair, port, "another.test:1", b"x");
    assert_eq!(pair.server.queries.len(), 2, "too much under way");
    for (query, _) in std::mem::take(&mut pair.server.queries) {
        pair.server.input(Input::Resolved { query, result: Err(SocketError::NameNotFound) });
    }
    send(&mut pair, port, "another.test:1", b"x");
    assert_eq!(pair.server.queries.len(), 1);
}

#[test]
fn what_waits_for_lookups_stays_within_the_budget() {
    let mut server = server_config();
    server.relay.limits.udp_link_bytes = 100_000;
    let mut pair = Pair::with(client_config(), server);
    let (_, port) = associate(&mut pair);
    pair.server.resolver_stalled = true;
    for number in 0..30 {
        send(&mut pair, port, &format!("host{}.test:1", number % 3), &[0; 9_000]);
    }
    let stats = pair.server.engine.stats();
    assert!((90_000..=101_000).contains(&stats.datagrams_queued), "{stats:?}");
    assert_eq!(stats.datagrams_dropped, 20);
}

#[test]
fn what_is_sent_last_is_still_delivered() {
    let mut pair = Pair::new();
    pair.server.binds = Answer::Silence;
    let (control, port) = associate(&mut pair);
    send(&mut pair, port, TARGET, b"last");
    pair.client.send_eof(control);
    pair.drive();
    assert!(sent(&mut pair).is_empty());
    let (socket, local) = pair.server.bound[0];
    pair.server.input(Input::SocketBound { socket, local });
    assert_eq!(sent(&mut pair), [(TARGET.to_owned(), b"last".to_vec())]);
    assert!(pair.server.peers[&socket].released);
    pair.assert_idle();

    pair.server.resolver_stalled = true;
    pair.server.binds = Answer::Accept;
    let (control, port) = associate(&mut pair);
    send(&mut pair, port, "never.test:53", b"lost");
    pair.client.send_eof(control);
    pair.advance(Duration::from_secs(10));
    pair.assert_idle();
}

#[test]
fn the_rules_are_held_against_every_datagram() {
    let mut pair = with_entry_rules(&["127.0.0.0/8", "!:54"]);
    let (_, port) = associate(&mut pair);
    for to in ["127.0.0.1:54", "10.0.0.1:53", "[::1]:53", "bad.test:54"] {
        send(&mut pair, port, to, b"forbidden");
    }
    assert!(pair.client.queries.is_empty() && sent(&mut pair).is_empty());
    pair.client.resolves_to = Ok(["10.0.0.1", "127.0.0.9"].map(|ip| ip.parse().unwrap()).to_vec());
    send(&mut pair, port, "good.test:53", b"allowed");
    assert_eq!(sent(&mut pair), [("127.0.0.9:53".to_owned(), b"allowed".to_vec())]);
    assert!(pair.server.queries.is_empty(), "the address that was checked is sent");
    assert_eq!(pair.client.engine.stats().datagrams_dropped, 4);

    let mut pair = with_dial_rules(&["!private"]);
    let (_, port) = associate(&mut pair);
    send(&mut pair, port, TARGET, b"forbidden");
    send(&mut pair, port, "[::ffff:10.0.0.1]:53", b"forbidden");
    pair.server.resolves_to = Ok(vec![[127, 0, 0, 1].into()]);
    send(&mut pair, port, "bad.test:53", b"forbidden");
    assert!(sent(&mut pair).is_empty() && pair.server.bound.is_empty());
    pair.server.resolves_to = Ok(["127.0.0.1", "8.8.8.8"].map(|ip| ip.parse().unwrap()).to_vec());
    send(&mut pair, port, "good.test:53", b"allowed");
    assert_eq!(sent(&mut pair), [("8.8.8.8:53".to_owned(), b"allowed".to_vec())]);
}

#[test]
fn an_idle_association_ends_at_both_ends() {
    let mut server = server_config();
    server.relay.timeouts.udp_idle = Duration::from_secs(400);
    let mut pair = Pair::with(client_config(), server);
    let (control, port) = associate(&mut pair);
    pair.advance(Duration::from_secs(299));
    send(&mut pair, port, TARGET, b"alive");
    pair.advance(Duration::from_secs(299));
    let target = pair.server.bound[0].0;
    pair.server.receive_datagram(target, "127.0.0.1:99", b"alive");
    pair.drive();
    pair.advance(Duration::from_secs(299));
    assert!(!pair.client.peers[&control].released);
    pair.advance(Duration::from_secs(2));
    assert!(pair.client.peers[&control].released);
    pair.assert_idle();
    let reason = closed(&pair.server.events).and_then(|(.., error)| error);
    assert_eq!(reason.as_deref(), Some("no datagram for 300 s"));
}

#[test]
fn a_failed_associate_is_answered() {
    let mut pair = Pair::new();
    pair.client.binds = Answer::Refuse;
    let app = ask(&mut pair);
    assert_eq!(pair.app(app)[..4], *b"\x05\x00\x05\x01", "no socket");
    pair.assert_idle();

    let mut server = server_config();
    server.relay.limits.channels_per_link = 0;
    let mut pair = Pair::with(client_config(), server);
    let app = ask(&mut pair);
    assert_eq!(pair.app(app)[..4], *b"\x05\x00\x05\x04", "refused by the other side");
    pair.assert_idle();

    let mut pair = Pair::new();
    pair.client.binds = Answer::Silence;
    let app = ask(&mut pair);
    pair.client.send_eof(app);
    pair.drive();
    assert!(pair.client.peers[&app].released, "gone before there was an answer");
    pair.assert_idle();
}

#[test]
fn a_silent_peer_fails_the_associate_in_time() {
    let mut pair = Pair::new();
    let app = pair.client.connect_app();
    pair.client.send(app, b"\x05\x01\x00\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00");
    pair.client.sent.clear();
    pair.advance(Duration::from_secs(15));
    assert_eq!(pair.app(app)[..4], *b"\x05\x00\x05\x04");
    pair.assert_idle();
}

#[test]
fn a_lost_link_ends_the_association() {
    let mut pair = Pair::without_sessions();
    let (control, port) = associate(&mut pair);
    send(&mut pair, port, TARGET, b"x");
    let (&link, &accepted) = pair.to_server.first_key_value().unwrap();
    for (host, link) in [(true, link), (false, accepted)] {
        let input = Input::LinkClosed { link, cause: crate::io::LinkClose::Transport(SocketError::Reset) };
        if host { pair.client.input(input) } else { pair.server.input(input) }
    }
    assert!(pair.client.peers[&control].released && pair.client.peers[&port].released);
    assert!(pair.server.peers[&pair.server.bound[0].0].released);
    pair.assert_idle();
    assert_eq!(pair.client.engine.stats().datagrams_queued, 0);
}

#[test]
fn more_datagrams_than_may_wait_push_out_the_oldest() {
    let mut client = client_config();
    client.relay.limits.udp_queue = 10;
    let mut pair = Pair::with(client, server_config());
    let (control, port) = associate(&mut pair);
    pair.client.links_stalled = true;
    // Fill the credit of the link first.
    while pair.client.engine.stats().datagrams_queued == 0 {
        pair.client.receive_datagram(port, APP, &wrapped(TARGET, &[0; 60_000]));
    }
    for number in 0..20 {
        pair.client.receive_datagram(port, APP, &wrapped(TARGET, &[number]));
    }
    assert_eq!(pair.client.engine.stats().datagrams_dropped, 11);
    pair.client.links_stalled = false;
    for (link, bytes) in std::mem::take(&mut pair.client.unwritten) {
        pair.client.input(Input::LinkWritten { link, bytes });
    }
    pair.drive();
    let small: Vec<u8> =
        sent(&mut pair).into_iter().filter(|(_, p)| p.len() == 1).map(|(_, p)| p[0]).collect();
    assert_eq!(small, (10..20).collect::<Vec<_>>());
    pair.client.send_eof(control);
    pair.drive();
    assert_eq!(closed(&pair.client.events).map(|(.., dropped, _)| dropped), Some(11), "told at the end");
    pair.assert_idle();
}

#[test]
fn a_kernel_that_takes_nothing_stalls_no_link_and_costs_no_more_than_the_budget() {
    let mut server = server_config();
    server.relay.limits.udp_link_bytes = 1 << 20;
    let mut pair = Pair::with(client_config(), server);
    let (control, port) = associate(&mut pair);
    pair.server.datagrams_stalled = true;
    for _ in 0..200 {
        send(&mut pair, port, TARGET, &[0; 60_000]);
        assert!(pair.server.engine.stats().datagrams_queued <= 1 << 20);
    }
    let taken = sent(&mut pair).len();
    assert_eq!(taken, 64, "what the driver holds is bounded");
    let dropped = pair.server.engine.stats().datagrams_dropped;
    assert!((100..136).contains(&dropped), "{dropped}");
    let socket = pair.server.bound[0].0;
    pair.server.datagrams_stalled = false;
    pair.server.input(Input::DatagramsSent { socket, count: taken, failed: 1 });
    assert_eq!(pair.server.engine.stats().datagrams_dropped, dropped + 1, "refused by the kernel");
    assert_eq!(pair.server.engine.stats().datagrams_queued, 0);
    let (_, target) = pair.open();
    pair.server.send(target, b"streams go on");
    pair.client.send_eof(control);
    pair.drive();
    assert_eq!(pair.server.engine.stats().associations, 0);
}

#[test]
fn a_broken_port_is_replaced() {
    let mut pair = Pair::new();
    let (_, port) = associate(&mut pair);
    send(&mut pair, port, TARGET, b"1");
    let first = pair.server.bound[0].0;
    pair.server.fail(first, SocketError::Other);
    send(&mut pair, port, TARGET, b"2");
    assert_eq!(sent(&mut pair).len(), 2);
    assert_eq!(pair.server.bound.len(), 2);
}

#[test]
fn an_embedder_talks_through_memory() {
    let mut pair = Pair::new();
    let ticket = pair.client.ticket();
    pair.client.input(Input::Command(Command::Associate { ticket }));
    pair.drive();
    assert!(pair.client.bound.is_empty());
    let socket = pair.client.adopted[&ticket];
    send(&mut pair, socket, "name.test:53", b"query");
    assert_eq!(sent(&mut pair), [("127.0.0.1:53".to_owned(), b"query".to_vec())]);
    let target = pair.server.bound[0].0;
    pair.server.receive_datagram(target, TARGET, b"answer");
    pair.drive();
    assert_eq!(got(&mut pair), [("0.0.0.0:0".to_owned(), wrapped(TARGET, b"answer"))]);
    pair.client.input(Input::SocketEof { socket });
    pair.drive();
    pair.assert_idle();
}

/// An association that a test has opened at the server by hand.
fn by_hand(pair: &mut Pair) -> (LinkId, ChannelId) {
    let link = *pair.to_server.first_key_value().unwrap().1;
    let channel = ChannelId([9; 16]);
    let connect = Connect { channel, request: ConnectRequest::Udp, resume: false };
    pair.server.receive(link, &Message::Connect(connect));
    (link, channel)
}

fn data(
    channel: ChannelId,
    compression: Compression,
    payload: &[u8],
    datagram: Option<Endpoints>,
) -> Message {
    let payload = Bytes::copy_from_slice(payload);
    Message::Data(Data { channel, compression, payload, datagram, sequence: None })
}

fn to(address: &str) -> Endpoint {
    Endpoint { address: address.to_owned(), port: 53 }
}

#[test]
fn one_address_block_is_as_good_as_two_and_bad_ones_are_harmless() {
    let mut pair = Pair::plain();
    let (link, channel) = by_hand(&mut pair);
    let unused = Endpoint::default;
    let two = |target| Some(Endpoints::Two { source: unused(), target });
    for (datagram, passes) in [
        (two(to("127.0.0.1")), true),
        (Some(Endpoints::One(to("127.0.0.1"))), true),
        (two(unused()), false),
        (Some(Endpoints::One(unused())), false),
        (two(Endpoint { port: 0, ..to("127.0.0.1") }), false),
        (two(to("not a name")), false),
        (two(to("[::1]")), false),
        (Some(Endpoints::Two { source: to("127.0.0.1"), target: unused() }), false),
    ] {
        pair.server.receive(link, &data(channel, Compression::None, b"x", datagram.clone()));
        assert_eq!(!sent(&mut pair).is_empty(), passes, "{datagram:?}");
    }
    pair.server.receive(link, &data(channel, Compression::None, &[0; 65_508], two(to("127.0.0.1"))));
    assert!(sent(&mut pair).is_empty(), "longer than any datagram");
    assert_eq!(pair.server.engine.stats().associations, 1);
}

#[test]
fn datagrams_that_overtake_their_connect_are_kept() {
    let mut pair = Pair::plain();
    let link = *pair.to_server.first_key_value().unwrap().1;
    let datagram = Some(Endpoints::One(to("127.0.0.1")));
    pair.server.receive(link, &data(ChannelId([9; 16]), Compression::None, b"early", datagram));
    by_hand(&mut pair);
    assert_eq!(sent(&mut pair), [(TARGET.to_owned(), b"early".to_vec())]);
}

#[cfg(feature = "gzip")]
#[test]
fn compressed_datagrams_are_inflated_within_bounds() {
    use std::io::Write;
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let mut pair = Pair::plain();
    let (link, channel) = by_hand(&mut pair);
    let cut = gzip(&[5; 999])[..20].to_vec();
    for (payload, expected) in [
        (gzip(b"text"), Some(b"text".to_vec())),
        (gzip(b""), Some(Vec::new())),
        (gzip(&[5; 65_507]), Some(vec![5; 65_507])),
        (gzip(&[5; 65_508]), None),
        (gzip(&vec![0; 64 << 20]), None),
        (b"no gzip".to_vec(), None),
        (cut, None),
    ] {
        let datagram = Some(Endpoints::One(to("127.0.0.1")));
        pair.server.receive(link, &data(channel, Compression::Gzip, &payload, datagram));
        assert!(sent(&mut pair).pop().map(|(_, payload)| payload) == expected, "{} bytes", payload.len());
    }
    assert_eq!(pair.server.engine.stats().associations, 1);
}

#[test]
fn streams_and_datagrams_are_not_to_be_mixed() {
    let mut pair = Pair::plain();
    let (link, channel) = by_hand(&mut pair);
    pair.server.receive(link, &data(channel, Compression::None, b"stream", None));
    assert_eq!(pair.server.engine.stats().associations, 0);
    assert!(matches!(
        &pair.server.take_sent()[..],
        [.., Message::Disconnect(Disconnect { error: Some(error), .. })] if error.contains("UDP channel")
    ));
    let (app, _) = pair.open();
    let id = pair.client.events.iter().find_map(|event| match event {
        Event::ChannelOpened { channel, .. } => Some(channel.id),
        _ => None,
    });
    let datagram = Some(Endpoints::One(to("127.0.0.1")));
    pair.server.receive(link, &data(id.unwrap(), Compression::None, b"x", datagram));
    pair.drive();
    assert!(pair.client.peers[&app].reset);
}

#[test]
fn a_channel_id_names_one_thing_only() {
    let mut pair = Pair::plain();
    let (link, channel) = by_hand(&mut pair);
    let address = "127.0.0.1".to_owned();
    for request in [ConnectRequest::Udp, ConnectRequest::Tcp { address, port: 80 }] {
        pair.server.take_sent();
        pair.server.receive(link, &Message::Connect(Connect { channel, request, resume: false }));
        assert!(matches!(
            &pair.server.take_sent()[..],
            [Message::ConnectResponse(response)] if response.result == Err("duplicate channel".to_owned())
        ));
    }
    assert!(pair.server.dialed.is_empty());
    pair.server.receive(link, &Message::Disconnect(Disconnect { channel, error: None }));
    assert_eq!(pair.server.engine.stats().associations, 0);
    assert!(pair.server.take_sent().is_empty(), "a Disconnect is not answered");
}

#[test]
fn answers_without_a_question_go_nowhere() {
    let mut pair = Pair::new();
    associate(&mut pair);
    let link = *pair.to_server.first_key_value().unwrap().0;
    let id = pair.client.events.iter().find_map(|event| match event {
        Event::AssociationOpened { channel, .. } => Some(channel.id),
        _ => None,
    });
    let datagram = Some(Endpoints::Two { source: to("127.0.0.1"), target: Endpoint::default() });
    pair.client.receive(link, &data(id.unwrap(), Compression::None, b"x", datagram));
    assert!(got(&mut pair).is_empty());
    assert_eq!(pair.client.engine.stats().datagrams_dropped, 1);
}

#[test]
fn a_shutdown_ends_associations_when_its_time_is_up() {
    let mut pair = Pair::new();
    let (control, port) = associate(&mut pair);
    pair.client.input(Input::Command(Command::Shutdown { drain: Duration::from_secs(3) }));
    pair.advance(Duration::from_secs(2));
    send(&mut pair, port, TARGET, b"still there");
    assert_eq!(sent(&mut pair).len(), 1);
    pair.advance(Duration::from_secs(2));
    assert!(pair.client.peers[&control].released && pair.client.stopped.is_some());
    assert_eq!(pair.server.engine.stats().associations, 0);
}
