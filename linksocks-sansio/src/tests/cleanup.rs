//! Channels that nobody uses are ended.

use std::time::Duration;

use super::pair::{Pair, client_config, server_config};
use crate::event::Event;
use crate::io::Engine as _;

const MINUTE: Duration = Duration::from_secs(60);
const LIMIT: Duration = Duration::from_secs(12 * 3600);

/// Why channels and associations have ended.
fn reasons(events: &[Event]) -> Vec<Option<&str>> {
    let mut reasons = Vec::new();
    for event in events {
        if let Event::ChannelClosed { error, .. } | Event::AssociationClosed { error, .. } = event {
            reasons.push(error.as_ref().map(|error| match error {
                crate::error::ChannelError::Inactive(limit) if *limit == LIMIT => "inactive",
                crate::error::ChannelError::Remote(text) if text == "no data for 43200 s" => "remote",
                _ => "another",
            }));
        }
    }
    reasons
}

/// A pair of which only the client, or only the server, looks for unused channels.
fn with_one_sweeper(client_sweeps: bool) -> Pair {
    let (mut client, mut server) = (client_config(), server_config());
    let other = if client_sweeps { &mut server.relay } else { &mut client.relay };
    other.timeouts.channel_idle = Duration::ZERO;
    Pair::with(client, server)
}

#[test]
fn an_unused_channel_ends_after_twelve_hours_at_both_ends() {
    for client_sweeps in [true, false] {
        let mut pair = with_one_sweeper(client_sweeps);
        let (app, target) = pair.open();
        pair.advance(LIMIT - MINUTE);
        assert_eq!(pair.client.engine.stats().channels, 1);
        pair.advance(2 * MINUTE);
        assert!(pair.client.peers[&app].reset && pair.server.peers[&target].reset);
        let (client, server) = (reasons(&pair.client.events), reasons(&pair.server.events));
        match client_sweeps {
            true => assert_eq!((client, server), (vec![Some("inactive")], vec![Some("remote")])),
            false => assert_eq!((client, server), (vec![Some("remote")], vec![Some("inactive")])),
        }
        pair.assert_idle();
    }
}

#[test]
fn a_byte_in_either_direction_keeps_a_channel() {
    for upwards in [true, false] {
        let mut pair = Pair::new();
        let (app, target) = pair.open();
        pair.advance(LIMIT - MINUTE);
        match upwards {
            true => pair.client.send(app, b"x"),
            false => pair.server.send(target, b"x"),
        }
        pair.advance(LIMIT - MINUTE);
        assert_eq!((pair.client.engine.stats().channels, pair.server.engine.stats().channels), (1, 1));
        pair.advance(2 * MINUTE);
        assert!(pair.client.peers[&app].reset && pair.server.peers[&target].reset);
        pair.assert_idle();
    }
}

#[test]
fn a_reader_that_takes_something_now_and_then_keeps_its_channel() {
    let mut pair = Pair::plain();
    let (app, target) = pair.open();
    pair.client.peers.get_mut(&app).unwrap().stalled = true;
    pair.server.send(target, b"x");
    pair.advance(LIMIT - MINUTE);
    pair.client.take_pending(app);
    pair.advance(MINUTE * 2);
    // The server has heard of nothing since.
    assert_eq!(reasons(&pair.client.events), [Some("remote")]);
    let mut pair = with_one_sweeper(true);
    let (app, target) = pair.open();
    pair.client.peers.get_mut(&app).unwrap().stalled = true;
    pair.server.send(target, b"x");
    pair.advance(LIMIT - MINUTE);
    pair.client.take_pending(app);
    pair.advance(LIMIT - MINUTE);
    assert_eq!(pair.client.engine.stats().channels, 1);
}

#[test]
fn a_half_closed_channel_is_no_exception() {
    let mut pair = Pair::new();
    let (app, target) = pair.open();
    pair.client.send_eof(app);
    pair.advance(LIMIT + MINUTE);
    assert!(pair.client.peers[&app].reset && pair.server.peers[&target].reset);
    pair.assert_idle();
}

#[test]
fn associations_are_covered() {
    let (mut client, mut server) = (client_config(), server_config());
    for relay in [&mut client.relay, &mut server.relay] {
        relay.timeouts.udp_idle = LIMIT * 10;
    }
    client.relay.timeouts.channel_idle = Duration::ZERO;
    let mut pair = Pair::with(client, server);
    let control = pair.client.connect_app();
    pair.client.send(control, b"\x05\x01\x00\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00");
    pair.advance(LIMIT - MINUTE);
    let port = pair.client.bound[0].0;
    pair.client.receive_datagram(port, "127.0.0.1:7000", b"\0\0\0\x01\x7f\0\0\x01\0\x35x");
    pair.advance(LIMIT - MINUTE);
    assert_eq!(pair.client.engine.stats().associations, 1);
    pair.advance(2 * MINUTE);
    assert!(pair.client.peers[&control].released);
    assert_eq!(reasons(&pair.client.events), [Some("remote")]);
    assert_eq!(reasons(&pair.server.events), [Some("inactive")]);
    pair.assert_idle();
}

#[test]
fn zero_means_never_and_without_channels_nobody_looks() {
    let (mut client, mut server) = (client_config(), server_config());
    for relay in [&mut client.relay, &mut server.relay] {
        relay.timeouts.channel_idle = Duration::ZERO;
    }
    let mut pair = Pair::with(client, server);
    let (app, _) = pair.open();
    pair.advance(LIMIT * 10);
    pair.client.send(app, b"x");
    assert_eq!(pair.client.engine.stats().channels, 1);

    let mut config = client_config();
    // No other deadlines: a link that is never pinged, and whose messages need no Ack.
    config.relay.extensions.session = false;
    config.relay.timeouts.ping_interval = Duration::MAX;
    config.relay.timeouts.link_idle = Duration::MAX;
    let mut pair = Pair::with(config, server_config());
    assert_eq!(pair.client.deadline(), None);
    let (app, target) = pair.open();
    assert_eq!(pair.client.deadline(), Some(pair.client.now + MINUTE));
    pair.client.send_eof(app);
    pair.server.send_eof(target);
    pair.drive();
    assert_eq!(pair.client.deadline(), None);
}

#[test]
fn a_short_limit_is_held_to_more_closely() {
    let mut client = client_config();
    client.relay.timeouts.channel_idle = Duration::from_secs(5);
    let mut pair = Pair::with(client, server_config());
    let (app, _) = pair.open();
    pair.advance(Duration::from_secs(4));
    assert!(!pair.client.peers[&app].released);
    pair.advance(Duration::from_secs(6));
    assert!(pair.client.peers[&app].reset);
}
