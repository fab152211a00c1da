//! Credit, budgets and stalled readers.

use std::time::Duration;

use super::host::Answer;
use super::pair::{Pair, client_config, server_config};
use crate::config::ExtensionConfig;
use crate::event::Event;
use crate::ids::SocketId;
use crate::io::Engine;
use crate::wire::Message;

/// Receive budgets of 1 MiB at the client, no windows.
fn tight() -> Pair {
    let mut config = client_config();
    config.relay.extensions = ExtensionConfig::none();
    config.relay.limits.link_receive_budget = 1 << 20;
    config.relay.limits.link_receive_window = 256 << 10;
    Pair::with(config, server_config())
}

fn stall(pair: &mut Pair, app: SocketId) {
    pair.client.peers.get_mut(&app).unwrap().stalled = true;
}

#[test]
fn with_windows_a_stalled_reader_stalls_only_itself() {
    let mut pair = Pair::new();
    let (app, target) = pair.open();
    let (other_app, other_target) = pair.open();
    stall(&mut pair, app);
    pair.server.send(target, &vec![1; 20 << 20]);
    pair.server.send(other_target, &vec![2; 5 << 20]);
    pair.advance(Duration::from_secs(60));
    assert_eq!(pair.app(other_app).len(), 5 << 20);
    let stats = pair.client.engine.stats();
    assert!(stats.receive_queued < (1 << 20) + (300 << 10), "a window and what the driver holds: {stats:?}");
    let stats = pair.server.engine.stats();
    assert!(stats.send_queued <= 2 << 20, "{stats:?}");
    while !pair.client.peers[&app].pending.is_empty() {
        pair.client.take_pending(app);
        pair.drive();
    }
    assert_eq!(pair.app(app).len(), 20 << 20);
}

#[test]
fn without_windows_a_full_budget_pauses_the_link_and_stalled_channels_are_reset() {
    let mut pair = tight();
    let (app, target) = pair.open();
    let (other_app, other_target) = pair.open();
    stall(&mut pair, app);
    let link = *pair.to_server.keys().next().unwrap();
    // The harness delivers what a driver could not have read yet, so stop at the credit.
    let mut sent = 0;
    while pair.client.receive[&link] > 0 {
        pair.server.send(target, &[1; 16 << 10]);
        pair.drive();
        sent += 16 << 10;
    }
    assert!(sent <= (1 << 20) + (1 << 19), "{sent}");
    assert!(pair.client.events.contains(&Event::ReceivePaused { link }));
    pair.advance(Duration::from_secs(9));
    assert!(!pair.client.peers[&app].reset, "10 s without progress make a stalled channel");
    pair.advance(Duration::from_secs(2));
    assert!(pair.client.peers[&app].reset && pair.server.peers[&target].reset);
    assert!(pair.client.events.contains(&Event::ReceiveResumed { link }));
    assert!(pair.client.receive[&link] > 0);
    pair.server.send(other_target, b"alive");
    pair.drive();
    assert_eq!(pair.app(other_app), b"alive");
    assert_eq!(pair.client.engine.stats().receive_queued, 0);
}

#[test]
fn a_reader_that_makes_progress_is_never_reset() {
    let mut pair = tight();
    let (app, target) = pair.open();
    stall(&mut pair, app);
    let link = *pair.to_server.keys().next().unwrap();
    for _ in 0..30 {
        while pair.client.receive[&link] > 0 {
            pair.server.send(target, &[1; 16 << 10]);
            pair.drive();
        }
        pair.advance(Duration::from_secs(8));
        let first = pair.client.peers.get_mut(&app).unwrap().pending.pop_front().unwrap();
        pair.client.input(crate::Input::SocketWritten { socket: app, bytes: first.len() });
    }
    assert!(!pair.client.peers[&app].reset);
}

#[test]
fn a_stalled_link_stops_reading_from_sockets() {
    let mut pair = Pair::plain();
    let (app, _) = pair.open();
    pair.client.links_stalled = true;
    pair.client.send(app, &vec![1; 50 << 20]);
    let stats = pair.client.engine.stats();
    assert!(stats.send_queued < (2 << 20) + 4096, "{stats:?}");
    assert!(pair.client.sent.iter().map(|(_, message)| message.len()).sum::<usize>() <= 3 << 20);
}

#[test]
fn channels_share_a_link_by_bytes_and_new_ones_go_first() {
    let mut pair = Pair::plain();
    let (app, _) = pair.open();
    let (other, _) = pair.open();
    pair.client.links_stalled = true;
    pair.client.send(app, &vec![1; 4 << 20]);
    pair.client.sent.clear();
    pair.client.send(other, b"urgent");
    let mut before = 0;
    loop {
        if let Some((_, message)) = pair.client.sent.pop_front() {
            if message.ends_with(b"urgent") {
                break;
            }
            before += message.len();
        } else {
            let (link, bytes) = pair.client.unwritten.pop().expect("it is sent while others still wait");
            pair.client.input(crate::Input::LinkWritten { link, bytes });
        }
    }
    assert!(before <= 1 << 20, "at most the rest of one turn goes first: {before}");
    assert!(pair.client.engine.stats().send_queued > 0);
}

/// The network takes one message of the client; returns the lengths of those that it gets instead.
fn take_one(pair: &mut Pair) -> Vec<usize> {
    let (link, bytes) = pair.client.unwritten.remove(0);
    pair.client.input(crate::Input::LinkWritten { link, bytes });
    pair.client.sent.drain(..).map(|(_, message)| message.len()).collect()
}

/// A pair whose client is busy with `streams` uploads over a stalled link, and one more channel.
fn busy_pair(streams: usize) -> (Pair, SocketId) {
    let mut pair = Pair::plain();
    let (other, _) = pair.open();
    let bulk: Vec<_> = (0..streams).map(|_| pair.open().0).collect();
    pair.client.links_stalled = true;
    for app in bulk {
        pair.client.send(app, &vec![1; 64 << 20]);
    }
    pair.client.sent.clear();
    (pair, other)
}

#[test]
fn a_channel_that_sends_little_goes_first_every_time() {
    let (mut pair, other) = busy_pair(8);
    // The bulk channels were new, too.
    for _ in 0..100 {
        take_one(&mut pair);
    }
    for _ in 0..50 {
        pair.client.send(other, b"ping");
        let mut lengths = take_one(&mut pair);
        while lengths.is_empty() {
            lengths = take_one(&mut pair);
        }
        assert_eq!(lengths[0], 24 + 4, "before all that waited longer");
    }
}

#[test]
fn channels_that_go_first_starve_nobody() {
    const BURST: usize = 500_000;
    let (mut pair, other) = busy_pair(1);
    let (mut little, mut bulk, mut waits) = (0, 0, 0);
    while bulk < 16 << 20 {
        if waits == 0 {
            pair.client.send(other, &[2; BURST]);
            waits = BURST;
        }
        let (link, bytes) = pair.client.unwritten.remove(0);
        pair.client.input(crate::Input::LinkWritten { link, bytes });
        for message in pair.client.take_sent() {
            let Message::Data(data) = message else { panic!("{message:?}") };
            match data.payload[0] {
                1 => bulk += data.payload.len(),
                _ => {
                    little += data.payload.len();
                    waits -= data.payload.len();
                }
            }
        }
    }
    assert!((bulk / 2..bulk + bulk / 2).contains(&little), "{little} beside {bulk}");
}

#[test]
fn too_many_channels_are_refused() {
    let mut config = server_config();
    config.relay.limits.channels_per_link = 2;
    let mut pair = Pair::with(client_config(), config);
    pair.server.dials = Answer::Accept;
    let tickets: Vec<_> = (0..3)
        .map(|_| {
            let ticket = pair.client.open("127.0.0.1:80");
            pair.drive();
            ticket
        })
        .collect();
    let refused = pair.client.refused.get(&tickets[2]).unwrap().to_string();
    assert_eq!(refused, "connect failed: too many channels");
    assert_eq!(pair.server.dialed.len(), 2);
}
