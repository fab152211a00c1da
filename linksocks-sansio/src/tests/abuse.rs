//! Peers that don't take what they ask for, send too early, or on the wrong link.

use std::time::Duration;

use super::host::{Answer, Host};
use super::login::{lone_server, offer_link, url_login};
use super::pair::{Pair, TOKEN};
use crate::ServerEngine;
use crate::ids::{ChannelId, LinkId};
use crate::io::Engine;
use crate::wire::{Compression, Connect, ConnectRequest, Data, Disconnect, Message};

const ID: ChannelId = ChannelId([7; 16]);

/// A link of a client of another kind, logged in; all of them are of the same process.
fn peer(server: &mut Host<ServerEngine>) -> LinkId {
    let instance = "instance=00000000-0000-0000-0000-000000000001";
    let link = offer_link(server, &url_login(TOKEN).replace("instance=", instance), None).unwrap();
    server.take_sent();
    link
}

fn connect(channel: ChannelId, address: &str, port: u16) -> Message {
    let request = ConnectRequest::Tcp { address: address.into(), port };
    Message::Connect(Connect { channel, request, resume: false })
}

fn data(channel: ChannelId, payload: &'static [u8]) -> Message {
    let payload = payload.into();
    Message::Data(Data { channel, compression: Compression::None, payload, datagram: None, sequence: None })
}

fn is_refusal(messages: &[Message], text: &str) -> bool {
    matches!(messages, [Message::ConnectResponse(response)]
        if response.result.as_ref().is_err_and(|error| error.contains(text)))
}

#[test]
fn a_peer_that_takes_no_answers_is_not_heard_until_it_does_and_not_for_ever() {
    let mut server = lone_server();
    let link = peer(&mut server);
    server.links_stalled = true;
    let message = connect(ID, "h", 0);
    let mut sent = 0;
    while server.receive[&link] > 0 {
        server.receive(link, &message);
        sent += 1;
        assert!(sent < 200_000, "it is still heard");
    }
    server.links_stalled = false;
    for (link, bytes) in std::mem::take(&mut server.unwritten) {
        server.input(crate::Input::LinkWritten { link, bytes });
    }
    assert!(server.receive[&link] > 0, "it is heard again");

    server.links_stalled = true;
    server.receive(link, &message);
    for _ in 0..60 {
        server.now += Duration::from_secs(2);
        server.receive(link, &Message::Unknown(0x40));
    }
    assert_eq!(server.closed_links.len(), 1, "who takes nothing is cut off, however much it says");
}

#[test]
fn data_before_its_connect_is_delivered_in_order() {
    let mut server = lone_server();
    let link = peer(&mut server);
    server.receive(link, &data(ID, b"one "));
    server.receive(link, &data(ID, b"two "));
    server.receive(link, &connect(ID, "127.0.0.1", 80));
    server.receive(link, &data(ID, b"three"));
    let (socket, _) = server.dialed[0];
    assert_eq!(server.peers[&socket].got, b"one two three");
}

#[test]
fn a_stream_never_starts_with_a_hole() {
    let mut server = lone_server();
    let link = peer(&mut server);
    server.receive(link, &data(ID, b"lost"));
    server.now += Duration::from_secs(11);
    server.input(crate::Input::Timeout);
    server.receive(link, &connect(ID, "127.0.0.1", 80));
    assert!(is_refusal(&server.take_sent(), "was lost"));

    let big: &[u8] = Box::leak(vec![1; 40 << 10].into_boxed_slice());
    server.receive(link, &data(ID, big));
    server.receive(link, &data(ID, big));
    server.receive(link, &connect(ID, "127.0.0.1", 80));
    assert!(is_refusal(&server.take_sent(), "was lost"));

    let other = peer(&mut server);
    server.receive(other, &data(ID, b"elsewhere"));
    server.receive(link, &connect(ID, "127.0.0.1", 80));
    assert!(is_refusal(&server.take_sent(), "another link"));
    assert!(server.dialed.is_empty());
}

#[test]
fn a_disconnect_on_another_link_resets_the_channel() {
    let mut server = lone_server();
    let (link, other) = (peer(&mut server), peer(&mut server));
    server.receive(link, &connect(ID, "127.0.0.1", 80));
    let (socket, _) = server.dialed[0];
    server.receive(other, &Message::Disconnect(Disconnect { channel: ID, error: None }));
    assert!(server.peers[&socket].reset);
    assert_eq!(server.engine.stats().channels, 0);
}

#[test]
fn an_id_that_is_in_use_gets_no_second_channel_and_the_first_goes_on() {
    let mut server = lone_server();
    let link = peer(&mut server);
    server.receive(link, &connect(ID, "127.0.0.1", 80));
    let (socket, _) = server.dialed[0];
    server.take_sent();
    for link in [link, peer(&mut server)] {
        server.receive(link, &connect(ID, "127.0.0.1", 81));
        assert!(is_refusal(&server.take_sent(), "duplicate channel"));
    }
    server.receive(link, &data(ID, b"all of it"));
    assert_eq!(server.peers[&socket].got, b"all of it");
    assert_eq!(server.dialed.len(), 1);
}

#[test]
fn dials_of_one_client_are_limited() {
    let mut server = lone_server();
    server.dials = Answer::Silence;
    let link = peer(&mut server);
    for number in 0..1024_u128 {
        server.receive(link, &connect(ChannelId(number.to_be_bytes()), "127.0.0.1", 80));
    }
    assert!(server.take_sent().is_empty());
    server.receive(link, &connect(ID, "127.0.0.1", 80));
    assert!(is_refusal(&server.take_sent(), "too many"));
}

/// An application may write all of its upload before it reads: the answer to what came before must
/// not wait for what nobody takes any more.
#[test]
fn what_nobody_wants_any_more_is_still_read() {
    let mut pair = Pair::plain();
    let (app, target) = pair.open();
    pair.client.peers.get_mut(&app).unwrap().stalled = true;
    pair.server.send(target, &vec![1; 1 << 20]);
    pair.server.send_eof(target);
    pair.drive();
    pair.client.send(app, &vec![2; 4 << 20]);
    pair.drive();
    assert_eq!(pair.client.peers[&app].unread(), 0);
}
