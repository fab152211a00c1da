//! Channels survive the loss of their link.

use std::time::Duration;

use bytes::Bytes;
use quickcheck::{Gen, QuickCheck};

use super::host::{Answer, Host};
use super::pair::{Pair, client_config, server_config};
use super::udp;
use crate::error::{ChannelError, LinkError, SessionError, SocketError, StopReason};
use crate::event::Event;
use crate::ids::{LinkId, SocketId};
use crate::io::{CloseFrame, Command, Engine, Input, LinkClose};
use crate::server::ServerEngine;
use crate::wire::{self, Ack, Hello, Message, kind};

const SECOND: Duration = Duration::from_secs(1);

/// Bytes that tell where they are.
fn pattern(seed: usize, length: usize) -> Vec<u8> {
    (0..length).map(|place| (place * 31 + place / 251 + seed) as u8).collect()
}

/// Both ends let logs hold `log` bytes, and `most` at last.
fn with_logs(log: usize, most: usize) -> Pair {
    let (mut client, mut server) = (client_config(), server_config());
    for relay in [&mut client.relay, &mut server.relay] {
        (relay.limits.session_log, relay.limits.session_log_max) = (log, most);
        relay.limits.acknowledge_at = log / 4;
        relay.extensions.window = 1 << 20;
    }
    Pair::with(client, server)
}

fn link(pair: &Pair) -> LinkId {
    *pair.to_server.keys().next_back().unwrap()
}

fn lost(events: &[Event]) -> Option<SessionError> {
    events.iter().find_map(|event| match event {
        Event::SessionLost { error, .. } => Some(error.clone()),
        _ => None,
    })
}

fn closed(events: &[Event]) -> Option<ChannelError> {
    events.iter().find_map(|event| match event {
        Event::ChannelClosed { error, .. } => error.clone(),
        _ => None,
    })
}

fn is_reset(pair: &Pair, (app, target): (SocketId, SocketId)) -> (bool, bool) {
    (pair.client.peers[&app].reset, pair.server.peers[&target].reset)
}

/// Nothing is kept for anybody, at the latest when all grace times are over: a server also waits for a
/// client that has never answered its Hello.
fn assert_settled(pair: &mut Pair) {
    pair.advance(31 * SECOND);
    for stats in [pair.client.engine.stats(), pair.server.engine.stats()] {
        assert_eq!((stats.session_logs, stats.suspended_links), (0, 0), "{stats:?}");
    }
}

/// Changes the Hello that is about to come, if it says something of a session.
fn tamper(message: &mut Bytes, change: impl FnOnce(&mut wire::SessionHello)) {
    if message[1] == kind::HELLO
        && let Message::Hello(Hello { window, finish, session: Some(mut session) }) =
            wire::decode(message.clone()).unwrap().message
    {
        change(&mut session);
        *message = Hello { window, finish, session: Some(session) }.encode();
    }
}

/// Runs until the client asks for its session and the Hello is on its way.
fn until_asked(pair: &mut Pair) {
    let is_asking = |(_, message): &(LinkId, Bytes)| {
        let hello = message[1] == kind::HELLO;
        hello && message.last() == Some(&wire::SessionHello::RESUME)
    };
    while !pair.client.sent.iter().any(is_asking) {
        pair.steps(1);
    }
}

#[test]
fn a_stream_goes_on_in_both_directions() {
    let mut pair = Pair::new();
    let (app, target) = pair.open();
    let (up, down) = (pattern(1, 300_000), pattern(2, 400_000));
    pair.client.send(app, &up);
    pair.server.send(target, &down);
    assert!(!pair.client.sent.is_empty() && !pair.server.sent.is_empty(), "under way");
    pair.cut();
    assert_eq!(pair.client.engine.stats().suspended_links, 1);
    assert_eq!(pair.server.engine.stats().suspended_links, 1);
    assert!(pair.client.events.iter().any(|event| matches!(event, Event::LinkSuspended { channels: 1, .. })));
    pair.advance(2 * SECOND);
    assert!(pair.target(target) == up && pair.app(app) == down);
    for events in [&pair.client.events, &pair.server.events] {
        assert!(
            events.iter().any(
                |event| matches!(event, Event::LinkResumed { channels: 1, replayed, .. } if *replayed > 0)
            )
        );
    }
    pair.client.send_eof(app);
    pair.server.send_eof(target);
    pair.advance(SECOND);
    assert_eq!(is_reset(&pair, (app, target)), (false, false));
    assert_eq!(pair.client.engine.stats().links_resumed, 1);
    pair.assert_idle();
    assert_settled(&mut pair);
}

#[test]
fn a_link_may_be_cut_after_any_message_and_again_after_any_other() {
    for first in 0..12 {
        for second in 0..24 {
            let mut pair = with_logs(60_000, 60_000);
            let (app, target) = pair.open();
            let (up, down) = (pattern(3, 150_000), pattern(4, 120_000));
            pair.client.send(app, &up);
            pair.client.send_eof(app);
            pair.server.send(target, &down);
            pair.steps(first);
            pair.cut();
            pair.steps(second);
            pair.cut();
            pair.advance(3 * SECOND);
            assert!(pair.target(target) == up && pair.app(app) == down, "{first} {second}");
            pair.server.send_eof(target);
            pair.advance(SECOND);
            assert_eq!(is_reset(&pair, (app, target)), (false, false), "{first} {second}");
            assert!(pair.client.peers[&app].eof && pair.server.peers[&target].eof);
            pair.assert_idle();
            assert_settled(&mut pair);
        }
    }
}

#[test]
fn what_follows_a_lost_hello_is_not_lost() {
    let mut pair = Pair::new();
    // Without anything to go on with.
    pair.barred = true;
    pair.cut();
    pair.advance(31 * SECOND);
    pair.barred = false;
    while pair.client.engine.stats().ready_links == 0 {
        pair.steps(1);
    }
    assert_eq!(pair.server.engine.stats().ready_links, 0, "the client's Hello is under way");
    let app = pair.client.connect_app();
    pair.client.send(app, b"\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50");
    pair.cut();
    pair.advance(2 * SECOND);
    assert_eq!(pair.app(app)[2..4], *b"\x05\x00", "connected");
    assert_eq!(pair.server.dialed.len(), 1);
}

#[test]
fn full_logs_hold_everything_back_until_they_are_acknowledged() {
    let mut pair = with_logs(64_000, 64_000);
    let (app, target) = pair.open();
    pair.advance(SECOND);
    let (up, down) = (pattern(5, 500_000), pattern(6, 500_000));
    pair.client.send(app, &up);
    pair.server.send(target, &down);
    for stats in [pair.client.engine.stats(), pair.server.engine.stats()] {
        assert!((64_000..130_000).contains(&stats.session_logs), "{stats:?}");
    }
    let late = pair.client.connect_app();
    pair.client.send(late, b"\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50");
    assert!(
        pair.client.sent.iter().all(|(_, message)| message[1] != kind::CONNECT),
        "not even a Connect goes out"
    );
    pair.cut();
    pair.advance(2 * SECOND);
    assert!(pair.target(target) == up && pair.app(app) == down);
    assert_eq!(pair.app(late)[2..4], *b"\x05\x00");
    assert_settled(&mut pair);
}

#[test]
fn a_log_grows_only_while_it_is_what_holds_back() {
    let (mut client, mut server) = (client_config(), server_config());
    server.relay.extensions.window = 8_000_000;
    client.relay.limits.session_log = 1_000_000;
    client.relay.limits.session_log_max = 3_000_000;
    let mut pair = Pair::with(client, server);
    let (app, target) = pair.open();
    pair.client.links_stalled = true;
    pair.client.send(app, &pattern(7, 6_000_000));
    let kept = pair.client.engine.stats().session_logs;
    assert!(kept < 1_000_000, "the link holds back: {kept}");
    pair.client.links_stalled = false;
    for (link, bytes) in std::mem::take(&mut pair.client.unwritten) {
        pair.client.input(Input::LinkWritten { link, bytes });
    }
    let kept = pair.client.engine.stats().session_logs;
    assert!((3_000_000..4_100_000).contains(&kept), "{kept}");
    pair.advance(SECOND);
    assert_eq!(pair.target(target), pattern(7, 6_000_000));
    assert_settled(&mut pair);
}

#[test]
fn all_logs_together_grow_within_a_budget() {
    let mut config = client_config();
    config.links = 2;
    config.relay.limits.session_log = 100_000;
    config.relay.limits.memory = 4 * 300_000;
    let mut server = server_config();
    server.relay.extensions.window = 1 << 20;
    let mut pair = Pair::with(config, server);
    let (first, second) = (pair.open().0, pair.open().0);
    pair.advance(SECOND);
    for app in [first, second] {
        pair.client.send(app, &pattern(8, 3_000_000));
    }
    let kept = pair.client.engine.stats().session_logs;
    assert!((300_000..300_000 + 3 * 300_000).contains(&kept), "{kept}");
    pair.advance(SECOND);
    pair.client.send(second, &pattern(8, 3_000_000));
    let kept = pair.client.engine.stats().session_logs;
    assert!(kept >= 200_000, "what is not needed any more is given back: {kept}");
}

#[test]
fn a_client_that_is_back_takes_over_from_a_link_that_still_delivers() {
    for delivered in 0..6 {
        let mut pair = Pair::new();
        let (app, target) = pair.open();
        let old = link(&pair);
        let (up, down) = (pattern(9, 900_000), pattern(10, 200_000));
        pair.client.send(app, &up);
        pair.server.send(target, &down);
        let on_old = pair.to_server[&old];
        pair.cut_client(old);
        let mut flying = std::mem::take(&mut pair.client.sent);
        assert!(flying.len() > 3);
        for (_, message) in flying.drain(..delivered.min(flying.len())) {
            pair.server.receive_bytes(on_old, message);
        }
        until_asked(&mut pair);
        for (_, message) in flying.drain(..1.min(flying.len())) {
            pair.server.receive_bytes(on_old, message);
        }
        pair.steps(1);
        assert!(pair.server.closed_links.contains(&(on_old, None)), "the old link is gone");
        let before = pair.server.engine.stats().bytes_received;
        for (_, message) in flying {
            pair.server.receive_bytes(on_old, message);
        }
        assert_eq!(pair.server.engine.stats().bytes_received, before, "what it brings now is stale");
        pair.advance(2 * SECOND);
        assert!(pair.target(target) == up && pair.app(app) == down);
        assert_eq!(is_reset(&pair, (app, target)), (false, false));
        assert!(
            pair.server
                .events
                .iter()
                .any(|event| matches!(event, Event::ClientDisconnected { error: LinkError::Replaced, .. }))
        );
    }
}

#[test]
fn after_the_grace_time_both_ends_reset() {
    let mut pair = Pair::new();
    let ends = pair.open();
    pair.barred = true;
    pair.cut();
    pair.advance(29 * SECOND);
    assert_eq!(is_reset(&pair, ends), (false, false));
    pair.advance(2 * SECOND);
    assert_eq!(is_reset(&pair, ends), (true, true));
    let expired = SessionError::Expired(30 * SECOND);
    assert_eq!(lost(&pair.client.events), Some(expired.clone()));
    assert_eq!(closed(&pair.server.events), Some(ChannelError::SessionLost(expired)));
    pair.assert_idle();
    assert_settled(&mut pair);
    pair.barred = false;
    pair.advance(60 * SECOND);
    pair.open();
}

#[test]
fn a_client_that_has_given_up_says_so() {
    let mut config = client_config();
    config.relay.timeouts.transport_grace = 3 * SECOND;
    let mut pair = Pair::with(config, server_config());
    let ends = pair.open();
    pair.barred = true;
    pair.cut();
    pair.advance(4 * SECOND);
    assert_eq!(is_reset(&pair, ends), (true, false), "the server would wait for 30 s");
    pair.barred = false;
    pair.advance(5 * SECOND);
    assert_eq!(is_reset(&pair, ends), (true, true));
    assert_eq!(lost(&pair.server.events), Some(SessionError::Abandoned));
    pair.open();
}

#[test]
fn a_server_that_has_given_up_says_so() {
    let mut config = server_config();
    config.relay.timeouts.transport_grace = 3 * SECOND;
    let mut pair = Pair::with(client_config(), config);
    let ends = pair.open();
    pair.barred = true;
    pair.cut();
    pair.advance(4 * SECOND);
    assert_eq!(is_reset(&pair, ends), (false, true), "the client would wait for 30 s");
    pair.barred = false;
    pair.advance(5 * SECOND);
    assert_eq!(lost(&pair.client.events), Some(SessionError::Unknown));
    assert_eq!(is_reset(&pair, ends), (true, true));
    pair.open();
}

#[test]
fn a_restarted_server_knows_no_sessions() {
    let mut pair = Pair::new();
    let (app, _) = pair.open();
    let old = link(&pair);
    let now = pair.client.now;
    pair.server = Host::new(ServerEngine::new(server_config(), [9; 32], now), now);
    pair.to_server.clear();
    pair.cut_client(old);
    pair.advance(2 * SECOND);
    assert!(pair.client.peers[&app].reset);
    assert_eq!(closed(&pair.client.events), Some(ChannelError::SessionLost(SessionError::Unknown)));
    pair.open();
    pair.advance(SECOND);
    assert_settled(&mut pair);
}

#[test]
fn towards_other_programs_channels_are_reset_at_once() {
    let mut pair = Pair::plain();
    let ends = pair.open();
    pair.cut();
    assert_eq!(is_reset(&pair, ends), (true, true));
    assert_eq!(closed(&pair.client.events), Some(ChannelError::LinkLost));
}

#[test]
fn a_wrong_secret_opens_nothing() {
    let mut pair = Pair::new();
    let ends = pair.open();
    pair.cut();
    until_asked(&mut pair);
    for (_, message) in &mut pair.client.sent {
        tamper(message, |session| session.secret[3] ^= 1);
    }
    pair.advance(2 * SECOND);
    assert_eq!(is_reset(&pair, ends), (true, false), "whoever asked, it was not the owner");
    assert_eq!(lost(&pair.client.events), Some(SessionError::Unknown));
    pair.advance(30 * SECOND);
    assert_eq!(is_reset(&pair, ends), (true, true));
    assert_settled(&mut pair);
}

#[test]
fn another_process_gets_no_session_even_with_its_secret() {
    let mut pair = Pair::new();
    let ends = pair.open();
    let mut hello = None;
    pair.cut();
    until_asked(&mut pair);
    for (_, message) in &mut pair.client.sent {
        tamper(message, |session| hello = Some(session.clone()));
    }
    pair.cut();
    let waiting = pair.server.engine.stats().suspended_links;
    // Another client, which has spied out the session.
    let now = pair.client.now;
    let mut config = client_config();
    config.listen = None;
    let spy = crate::ClientEngine::new(config, [7; 32], now);
    let owner = std::mem::replace(&mut pair.client, Host::new(spy, now));
    pair.steps(3);
    for (_, message) in &mut pair.client.sent {
        tamper(message, |session| *session = hello.take().unwrap());
    }
    pair.drive();
    assert!(hello.is_none(), "it was used");
    assert_eq!(pair.server.engine.stats().links_resumed, 0);
    assert_eq!(pair.server.engine.stats().suspended_links, waiting);
    pair.client = owner;
    assert_eq!(is_reset(&pair, ends), (false, false));
}

#[test]
fn counts_that_cannot_be_true_end_the_session() {
    for received in [0, u64::MAX] {
        let mut pair = Pair::new();
        let ends = pair.open();
        pair.advance(SECOND);
        pair.cut();
        until_asked(&mut pair);
        for (_, message) in &mut pair.client.sent {
            tamper(message, |session| session.received = received);
        }
        pair.steps(1);
        assert_eq!(pair.server.closed_links.front().unwrap().1.as_ref().unwrap().code, 1002);
        assert_eq!(lost(&pair.server.events), Some(SessionError::Diverged));
        pair.advance(5 * SECOND);
        assert_eq!(is_reset(&pair, ends), (true, true));
        pair.open();
    }
}

#[test]
fn a_servers_count_that_cannot_be_true_ends_the_session() {
    let mut pair = Pair::new();
    let ends = pair.open();
    pair.cut();
    until_asked(&mut pair);
    pair.steps(1);
    for (_, message) in &mut pair.server.sent {
        tamper(message, |session| session.received += 1);
    }
    pair.drive();
    assert_eq!(lost(&pair.client.events), Some(SessionError::Diverged));
    assert!(pair.server.events.iter().any(
        |event| matches!(event, Event::ClientDisconnected { error: LinkError::Closed(text), .. } if text.contains("1002"))
    ));
    assert_eq!(is_reset(&pair, ends), (true, true));
}

#[test]
fn an_ack_for_what_was_not_sent_closes_with_1002() {
    let mut pair = Pair::new();
    let ends = pair.open();
    let server = pair.to_server[&link(&pair)];
    pair.server.receive(server, &Message::Ack(Ack { received: 1000 }));
    assert_eq!(pair.server.closed_links[0].1.as_ref().unwrap().code, 1002);
    pair.drive();
    assert_eq!(is_reset(&pair, ends), (true, true), "no loss, but an end");
}

#[test]
fn a_regular_close_ends_the_session() {
    let mut pair = Pair::new();
    let (app, _) = pair.open();
    let close = CloseFrame { code: 1001, reason: String::new() };
    let link = link(&pair);
    pair.client.input(Input::LinkClosed { link, cause: LinkClose::Peer(Some(close)) });
    assert!(pair.client.peers[&app].reset);
    assert_eq!(pair.client.engine.stats().suspended_links, 0);
}

#[test]
fn a_silent_link_is_suspended_and_the_channels_go_on() {
    let mut config = client_config();
    config.relay.timeouts.link_idle = 20 * SECOND;
    let mut pair = Pair::with(config, server_config());
    let (app, target) = pair.open();
    let old = link(&pair);
    pair.cut_server(pair.to_server[&old]);
    pair.server.send(target, b"down");
    while pair.client.closed_links.is_empty() {
        // Nothing answers.
        pair.client.now = pair.client.deadline().unwrap();
        pair.client.pings.clear();
        pair.client.input(Input::Timeout);
    }
    assert!(!pair.client.peers[&app].reset);
    pair.advance(2 * SECOND);
    assert_eq!(pair.app(app), b"down");
}

#[test]
fn each_direction_may_have_ended_before_the_cut() {
    for first in [true, false] {
        let mut pair = Pair::new();
        let (app, target) = pair.open();
        if first {
            pair.client.send(app, b"request");
            pair.client.send_eof(app);
        } else {
            pair.server.send(target, b"greeting");
            pair.server.send_eof(target);
        }
        pair.cut();
        pair.advance(2 * SECOND);
        if first {
            assert_eq!(pair.target(target), b"request");
            assert!(pair.server.peers[&target].eof && !pair.server.peers[&target].released);
            pair.server.send(target, b"response");
            pair.server.send_eof(target);
        } else {
            assert_eq!(pair.app(app), b"greeting");
            assert!(pair.client.peers[&app].eof && !pair.client.peers[&app].released);
            pair.client.send(app, b"thanks");
            pair.client.send_eof(app);
        }
        pair.cut();
        pair.advance(2 * SECOND);
        assert_eq!(pair.app(app), if first { &b"response"[..] } else { b"greeting" });
        assert_eq!(pair.target(target), if first { &b"request"[..] } else { b"thanks" });
        assert_eq!(is_reset(&pair, (app, target)), (false, false));
        pair.assert_idle();
        assert_settled(&mut pair);
    }
}

#[test]
fn a_request_under_way_is_answered_after_the_cut() {
    let mut pair = Pair::new();
    pair.server.dials = Answer::Silence;
    let app = pair.client.connect_app();
    pair.client.send(app, b"\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50");
    pair.cut();
    assert!(pair.server.dialed.is_empty(), "the Connect is lost");
    pair.advance(2 * SECOND);
    let (target, _) = pair.server.dialed[0];
    pair.advance(8 * SECOND);
    pair.barred = true;
    pair.cut();
    pair.server.input(Input::SocketOpened { socket: target });
    // Longer than a response may take.
    pair.advance(16 * SECOND);
    assert_eq!(pair.app(app), b"\x05\x00", "no answer yet");
    pair.barred = false;
    pair.advance(20 * SECOND);
    assert_eq!(pair.app(app)[2..4], *b"\x05\x00", "connected");
    pair.server.send(target, b"hello");
    pair.drive();
    assert!(pair.app(app).ends_with(b"hello"));
}

#[test]
fn a_wish_waits_for_a_link_or_takes_another_one() {
    let mut pair = Pair::new();
    pair.cut();
    let app = pair.request("127.0.0.1:80");
    assert_eq!(pair.app(app), b"\x05\x00");
    pair.advance(2 * SECOND);
    assert_eq!(pair.app(app)[2..4], *b"\x05\x00");

    let mut config = client_config();
    config.links = 2;
    let mut pair = Pair::with(config, server_config());
    pair.open();
    let (&cut, &end) = pair.to_server.first_key_value().unwrap();
    pair.cut_client(cut);
    pair.cut_server(end);
    pair.open();
    pair.open();
    assert_eq!(pair.client.engine.stats().suspended_links, 1);
}

#[test]
fn each_slot_gets_its_own_session_back() {
    let mut config = client_config();
    config.links = 3;
    let mut pair = Pair::with(config, server_config());
    let ends: Vec<_> = (0..6).map(|_| pair.open()).collect();
    for (number, (app, target)) in ends.iter().enumerate() {
        pair.client.send(*app, &pattern(number, 50_000));
        pair.server.send(*target, &pattern(number + 100, 50_000));
    }
    pair.cut();
    assert_eq!(pair.client.engine.stats().suspended_links, 3);
    pair.advance(3 * SECOND);
    for (number, (app, target)) in ends.iter().enumerate() {
        assert_eq!(pair.app(*app), pattern(number + 100, 50_000));
        assert_eq!(pair.target(*target), pattern(number, 50_000));
    }
    assert_eq!(pair.server.engine.stats().links_resumed, 3);
}

#[test]
fn what_breaks_meanwhile_is_told_afterwards() {
    let mut pair = Pair::new();
    let first = pair.open();
    let second = pair.open();
    pair.cut();
    pair.client.fail(first.0, SocketError::Reset);
    pair.server.fail(second.1, SocketError::Reset);
    assert!(!pair.server.peers[&first.1].reset && !pair.client.peers[&second.0].reset);
    pair.advance(2 * SECOND);
    assert!(pair.server.peers[&first.1].reset && pair.client.peers[&second.0].reset);
    pair.assert_idle();
}

#[test]
fn without_a_link_reading_stops_and_writing_goes_on() {
    let mut pair = Pair::new();
    let (app, target) = pair.open();
    pair.client.peers.get_mut(&app).unwrap().stalled = true;
    pair.server.send(target, &pattern(11, 200_000));
    pair.drive();
    pair.cut();
    pair.client.send(app, &pattern(12, 30_000_000));
    let stats = pair.client.engine.stats();
    assert!(stats.send_queued < 4_000_000, "{stats:?}");
    assert!(pair.client.peers[&app].unread() > 20_000_000);
    for _ in 0..100 {
        pair.client.take_pending(app);
    }
    assert_eq!(pair.app(app), pattern(11, 200_000));
    pair.advance(5 * SECOND);
    assert_eq!(pair.target(target), pattern(12, 30_000_000));
}

#[test]
fn a_paused_link_stays_paused() {
    let mut config = server_config();
    config.relay.limits.link_receive_budget = 100_000;
    config.relay.extensions.window = 1 << 20;
    let mut pair = Pair::with(client_config(), config);
    let (app, target) = pair.open();
    pair.server.peers.get_mut(&target).unwrap().stalled = true;
    pair.client.send(app, &pattern(13, 600_000));
    pair.drive();
    pair.cut();
    pair.advance(2 * SECOND);
    assert!(pair.server.engine.stats().receive_queued >= 100_000);
    let credit = *pair.server.receive.values().next_back().unwrap();
    for _ in 0..50 {
        pair.server.take_pending(target);
        pair.drive();
    }
    assert!(*pair.server.receive.values().next_back().unwrap() >= credit);
    assert_eq!(pair.target(target), pattern(13, 600_000));
}

#[test]
fn a_stalled_reader_is_reset_also_without_a_link() {
    let mut config = server_config();
    config.relay.limits.link_receive_budget = 100_000;
    let mut pair = Pair::with(client_config(), config);
    let (app, target) = pair.open();
    pair.server.peers.get_mut(&target).unwrap().stalled = true;
    pair.client.send(app, &pattern(14, 600_000));
    pair.drive();
    pair.barred = true;
    pair.cut();
    pair.advance(11 * SECOND);
    assert_eq!(is_reset(&pair, (app, target)), (false, true));
    pair.barred = false;
    pair.advance(15 * SECOND);
    assert_eq!(is_reset(&pair, (app, target)), (true, true));
    assert_eq!(closed(&pair.client.events), Some(ChannelError::Remote("receive queue overflow".to_owned())));
}

#[test]
fn associations_go_on() {
    let mut pair = Pair::new();
    let (control, port) = udp::associate(&mut pair);
    udp::send(&mut pair, port, udp::TARGET, b"1");
    let target = pair.server.bound[0].0;
    pair.client.receive_datagram(port, udp::APP, &udp::wrapped(udp::TARGET, b"2"));
    pair.server.receive_datagram(target, udp::TARGET, b"3");
    pair.cut();
    pair.client.receive_datagram(port, udp::APP, &udp::wrapped(udp::TARGET, b"4"));
    assert_eq!(pair.client.engine.stats().datagrams_dropped, 1, "nobody would want it later");
    pair.advance(2 * SECOND);
    let sent: Vec<_> = udp::sent(&mut pair).into_iter().map(|(_, payload)| payload).collect();
    assert_eq!(sent, [b"1", b"2"], "what was under way arrives");
    assert_eq!(udp::got(&mut pair).len(), 1);
    assert_eq!(pair.client.engine.stats().datagrams_queued, 0);
    pair.client.send_eof(control);
    pair.advance(SECOND);
    pair.assert_idle();
    assert_settled(&mut pair);
}

#[test]
fn an_association_that_ends_while_suspended_ends_at_both_ends() {
    let mut pair = Pair::new();
    let (control, port) = udp::associate(&mut pair);
    udp::send(&mut pair, port, udp::TARGET, b"1");
    pair.cut();
    pair.client.send_eof(control);
    assert_eq!(pair.server.engine.stats().associations, 1);
    pair.advance(2 * SECOND);
    pair.assert_idle();
}

#[test]
fn shutting_down_waits_for_nobody() {
    let mut pair = Pair::new();
    let ends = pair.open();
    pair.cut();
    pair.client.input(Input::Command(Command::Shutdown { drain: 60 * SECOND }));
    pair.server.input(Input::Command(Command::Shutdown { drain: 60 * SECOND }));
    assert_eq!(is_reset(&pair, ends), (true, true));
    assert_eq!(pair.client.stopped, Some(StopReason::Shutdown));
    assert_eq!(pair.server.stopped, Some(StopReason::Shutdown));

    let mut pair = Pair::new();
    let (app, _) = pair.open();
    pair.client.input(Input::Command(Command::Shutdown { drain: 60 * SECOND }));
    pair.cut();
    assert!(pair.client.peers[&app].reset, "lost while draining");
}

#[test]
fn a_client_that_does_not_come_back_offers_no_sessions() {
    let mut config = client_config();
    config.reconnect = false;
    let mut pair = Pair::with(config, server_config());
    let ends = pair.open();
    pair.cut();
    assert_eq!(is_reset(&pair, ends), (true, true));
    assert!(pair.client.stopped.is_some());
}

#[test]
fn suspended_links_have_limits() {
    for by_bytes in [true, false] {
        let mut config = server_config();
        if by_bytes {
            config.relay.limits.suspended_bytes = 100_000;
        } else {
            config.relay.limits.suspended_links = 0;
        }
        let mut pair = Pair::with(client_config(), config);
        let (app, target) = pair.open();
        pair.server.send(target, &pattern(15, 150_000));
        pair.cut();
        assert_eq!(is_reset(&pair, (app, target)), (false, true));
        assert_eq!(closed(&pair.server.events), Some(ChannelError::LinkLost));
        pair.advance(2 * SECOND);
        assert_eq!(is_reset(&pair, (app, target)), (true, true));
    }
}

#[test]
fn a_suspended_link_does_not_keep_its_client_out() {
    let mut config = server_config();
    config.relay.limits.links = 1;
    let mut pair = Pair::with(client_config(), config);
    let (app, target) = pair.open();
    pair.cut();
    pair.advance(2 * SECOND);
    pair.server.send(target, b"x");
    pair.drive();
    assert_eq!(pair.app(app), b"x");
}

#[test]
fn a_peer_that_never_acknowledges_can_only_make_so_much_wait() {
    let mut pair = with_logs(50_000, 50_000);
    let server = pair.to_server[&link(&pair)];
    let connect = |number: u32| {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        let request = wire::ConnectRequest::Unknown(9);
        let connect = wire::Connect { channel: crate::ChannelId(id), request, resume: false };
        Message::Connect(connect).encode().unwrap()
    };
    for number in 0..1_000_000 {
        pair.server.receive_bytes(server, connect(number));
        pair.server.sent.clear();
        if !pair.server.closed_links.is_empty() {
            return;
        }
        let stats = pair.server.engine.stats();
        assert!(stats.session_logs < 60_000, "{stats:?}");
    }
    panic!("it goes on for ever");
}

#[test]
fn acks_come_soon_and_after_a_quarter_of_the_log_at_once() {
    let mut pair = with_logs(2_000_000, 2_000_000);
    let (app, _) = pair.open();
    pair.advance(SECOND);
    let acks =
        |sent: Vec<Message>| sent.into_iter().filter(|message| matches!(message, Message::Ack(_))).count();
    pair.client.send(app, b"x");
    let server = pair.to_server[&link(&pair)];
    let (_, message) = pair.client.sent.pop_front().unwrap();
    pair.server.receive_bytes(server, message);
    assert_eq!(acks(pair.server.take_sent()), 0);
    pair.server.now += Duration::from_millis(100);
    pair.server.input(Input::Timeout);
    assert_eq!(acks(pair.server.take_sent()), 1);
    pair.client.send(app, &pattern(1, 1_010_000));
    let mut early = 0;
    while let Some((_, message)) = pair.client.sent.pop_front() {
        pair.server.receive_bytes(server, message);
        early += acks(pair.server.take_sent());
    }
    assert_eq!(early, 1);
}

/// What happens next to a pair.
fn act(
    pair: &mut Pair,
    action: u8,
    ends: (SocketId, SocketId),
    sent: &mut [Vec<u8>; 2],
    done: &mut [bool; 2],
) {
    let length = usize::from(action) * 700;
    let bytes = pattern(usize::from(action), length);
    match action % 8 {
        0 | 1 if !done[0] => {
            sent[0].extend(&bytes);
            pair.client.send(ends.0, &bytes);
        }
        2 | 3 if !done[1] => {
            sent[1].extend(&bytes);
            pair.server.send(ends.1, &bytes);
        }
        4 => pair.cut(),
        5 => {
            // Only the client notices; the old link may go on delivering.
            if let Some(link) = pair.to_server.keys().next_back().copied() {
                pair.cut_client(link);
            }
        }
        6 if action > 200 && !done[0] => {
            pair.client.send_eof(ends.0);
            done[0] = true;
        }
        7 if action > 200 && !done[1] => {
            pair.server.send_eof(ends.1);
            done[1] = true;
        }
        _ => pair.steps(usize::from(action / 8)),
    }
}

#[test]
fn whatever_is_cut_streams_are_whole() {
    fn check(actions: Vec<u8>, log: u16) -> bool {
        let log = 2000 + usize::from(log);
        let mut pair = with_logs(log, log * 3);
        let ends = pair.open();
        let (mut sent, mut done) = ([Vec::new(), Vec::new()], [false; 2]);
        for action in actions {
            act(&mut pair, action, ends, &mut sent, &mut done);
        }
        pair.advance(5 * SECOND);
        let whole = pair.target(ends.1) == sent[0] && pair.app(ends.0) == sent[1];
        if !done[0] {
            pair.client.send_eof(ends.0);
        }
        if !done[1] {
            pair.server.send_eof(ends.1);
        }
        pair.advance(SECOND);
        pair.assert_idle();
        assert_settled(&mut pair);
        whole && is_reset(&pair, ends) == (false, false)
    }
    let tests = if cfg!(debug_assertions) { 300 } else { 2000 };
    QuickCheck::new().tests(tests).rng(Gen::new(60)).quickcheck(check as fn(Vec<u8>, u16) -> bool);
}

#[test]
fn other_programs_can_resume_no_single_channel() {
    let mut pair = Pair::plain();
    let (_, target) = pair.open();
    let server = pair.to_server[&link(&pair)];
    let known = pair.server.events.iter().find_map(|event| match event {
        Event::ChannelOpened { channel, .. } => Some(channel.id),
        _ => None,
    });
    for channel in [known.unwrap(), crate::ChannelId([5; 16])] {
        let request = wire::ConnectRequest::Tcp { address: "127.0.0.1".to_owned(), port: 80 };
        pair.server.receive(server, &Message::Connect(wire::Connect { channel, request, resume: true }));
        let expired = wire::Disconnect { channel, error: Some("channel expired".to_owned()) };
        assert_eq!(pair.server.take_sent(), [Message::Disconnect(expired)]);
    }
    assert!(pair.server.peers[&target].reset, "something may have been lost");
    assert_eq!(pair.server.dialed.len(), 1, "nothing is dialled again");
}
