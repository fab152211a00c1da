//! How far sockets are read ahead of a link that takes nothing.

use std::time::Duration;

use super::pair::{Pair, client_config, server_config};
use crate::config::ServerConfig;
use crate::ids::SocketId;
use crate::io::{Engine, Input};

const CHANNELS: usize = 50;
/// What every socket may be read ahead.
const FREE: usize = 16 << 10;
const LIMIT: usize = 1 << 20;

fn limited() -> ServerConfig {
    let mut config = server_config();
    config.relay.limits.link_read_ahead = LIMIT;
    config
}

/// Channels whose targets have just sent much, so that they are read in large pieces.
fn busy(config: ServerConfig) -> (Pair, Vec<SocketId>) {
    let mut pair = Pair::with(client_config(), config);
    let targets: Vec<_> = (0..CHANNELS).map(|_| pair.open().1).collect();
    for target in &targets {
        pair.server.send(*target, &vec![1; 2 << 20]);
        pair.drive();
    }
    (pair, targets)
}

/// What is read although the link takes nothing.
fn read_for_a_stalled_link(pair: &mut Pair, targets: &[SocketId]) -> usize {
    pair.server.links_stalled = true;
    for target in targets {
        pair.server.send(*target, &vec![2; 2 << 20]);
    }
    pair.server.engine.stats().send_queued
}

#[test]
fn a_link_that_takes_nothing_stops_all_its_sockets() {
    let (mut pair, targets) = busy(limited());
    let read = read_for_a_stalled_link(&mut pair, &targets);
    assert!(read <= LIMIT + CHANNELS * FREE, "{read}");
    assert!(read >= LIMIT / 2, "the limit is used: {read}");
}

#[test]
fn all_links_pay_for_what_their_sockets_are_read_ahead() {
    let mut config = server_config();
    config.relay.limits.memory = 8 * LIMIT;
    let (mut pair, targets) = busy(config);
    let read = read_for_a_stalled_link(&mut pair, &targets);
    assert!(read <= LIMIT + (64 << 10) + CHANNELS * FREE, "an eighth of the memory and a bit: {read}");
}

/// What channels may be read ahead that are idle now is for those that are busy.
#[test]
fn permission_is_taken_back_from_idle_channels() {
    let (mut pair, targets) = busy(limited());
    // Those before it have used up what there is.
    let last = targets[CHANNELS - 1];
    let read = read_for_a_stalled_link(&mut pair, &[last]);
    assert!(read <= 2 * FREE, "{read}");
    pair.server.links_stalled = false;
    for (link, bytes) in std::mem::take(&mut pair.server.unwritten) {
        pair.server.input(Input::LinkWritten { link, bytes });
    }
    pair.drive();
    pair.advance(Duration::from_secs(2));
    for _ in 0..4 {
        pair.server.send(last, &vec![3; 1 << 20]);
        pair.drive();
    }
    let read = read_for_a_stalled_link(&mut pair, &[last]);
    assert!(read >= 256 << 10, "one that is busy alone is read in large pieces: {read}");
}

#[test]
fn what_ended_leaves_its_share_to_others() {
    let (mut pair, targets) = busy(limited());
    for target in &targets[1..] {
        pair.server.send_eof(*target);
        pair.drive();
    }
    let apps: Vec<_> = pair.client.peers.keys().copied().collect();
    for app in apps {
        if pair.client.peers[&app].eof {
            pair.client.send_eof(app);
            pair.drive();
        }
    }
    assert_eq!(pair.server.engine.stats().channels, 1);
    for _ in 0..4 {
        pair.server.send(targets[0], &vec![3; 1 << 20]);
        pair.drive();
    }
    let read = read_for_a_stalled_link(&mut pair, &targets[..1]);
    assert!(read >= 256 << 10, "{read}");
}
