//! What shares a message, what waits, and what never does.

use std::time::Duration;

use bytes::Bytes;

use super::pair::{Pair, client_config, server_config};
use crate::config::{BatchDelay, BatchingMode, CompressionConfig, ExtensionConfig, RelayConfig};
use crate::ids::SocketId;
use crate::io::{Engine, Input};
use crate::wire::{self, Message};

const MILLISECOND: Duration = Duration::from_millis(1);

/// A client and a server; the client is set up by `change`.
fn pair(change: impl Fn(&mut RelayConfig)) -> Pair {
    let mut config = client_config();
    change(&mut config.relay);
    Pair::with(config, server_config())
}

fn pair_in(mode: BatchingMode) -> Pair {
    pair(|relay| relay.batching.mode = mode)
}

/// The client's link takes all that it has been given.
fn written(pair: &mut Pair) {
    for (link, bytes) in std::mem::take(&mut pair.client.unwritten) {
        pair.client.input(Input::LinkWritten { link, bytes });
    }
}

/// Stalls the client's link with a message of another channel in the network.
fn stall_link(pair: &mut Pair) {
    let (bulk, _) = pair.open();
    pair.client.links_stalled = true;
    // More than the link's credit, so that the rest waits for it.
    pair.client.send(bulk, &vec![0; 2 << 20]);
    pair.client.sent.clear();
}

/// The payloads of Data messages that the client has sent and nobody has taken.
fn payloads(pair: &mut Pair) -> Vec<Bytes> {
    let data = |message| match message {
        Message::Data(data) => Some(data.payload),
        _ => None,
    };
    pair.client.take_sent().into_iter().filter_map(data).collect()
}

/// Makes a channel so busy that it waits 20 ms.
fn make_busy(pair: &mut Pair, app: SocketId) {
    pair.advance(2 * MILLISECOND);
    pair.client.send(app, &[b'x'; 1000]);
    pair.drive();
}

#[test]
fn on_an_idle_link_nothing_waits_and_nothing_is_copied() {
    let mut pair = Pair::new();
    let (app, target) = pair.open();
    make_busy(&mut pair, app);
    for size in [1, 10, 1000, 100_000, 1_000_000].repeat(3) {
        let before = pair.target(target).len();
        pair.client.send(app, &vec![7; size]);
        pair.drive();
        assert_eq!(pair.target(target).len(), before + size, "no time has passed");
        pair.server.send(target, &vec![8; size]);
        pair.drive();
        pair.advance(3 * MILLISECOND);
    }
    assert_eq!(pair.client.engine.stats().copied_bytes, 0);
    assert_eq!(pair.server.engine.stats().copied_bytes, 0);
}

#[test]
fn reads_are_joined_while_the_link_is_busy() {
    let mut pair = Pair::plain();
    let (app, _) = pair.open();
    make_busy(&mut pair, app);
    stall_link(&mut pair);
    for byte in 0..100 {
        pair.client.send(app, &[byte; 10]);
    }
    let mut messages = Vec::new();
    while !pair.client.unwritten.is_empty() {
        written(&mut pair);
        messages.extend(payloads(&mut pair));
    }
    let small: Vec<_> = messages.iter().filter(|payload| payload.len() < 10_000).collect();
    let expected: Vec<u8> = (0..100).flat_map(|byte| [byte; 10]).collect();
    assert_eq!(small, [&expected[..]], "one message");
    let copied = pair.client.engine.stats().copied_bytes;
    assert!((1000..3000).contains(&copied), "{copied}");
}

#[test]
fn without_batching_every_read_is_a_message() {
    let mut pair = pair_in(BatchingMode::Off);
    let (app, _) = pair.open();
    make_busy(&mut pair, app);
    stall_link(&mut pair);
    for _ in 0..50 {
        pair.client.send(app, &[1; 10]);
    }
    let mut small = 0;
    while !pair.client.unwritten.is_empty() {
        written(&mut pair);
        small += payloads(&mut pair).iter().filter(|payload| payload.len() == 10).count();
    }
    assert_eq!(small, 50);
}

#[test]
fn literal_batches_wait_for_their_time() {
    let mut pair = pair_in(BatchingMode::Literal);
    let (app, target) = pair.open();
    make_busy(&mut pair, app);
    assert_eq!(pair.target(target).len(), 1000, "a channel starts without delay");
    pair.client.send(app, b"abc");
    pair.advance(15 * MILLISECOND);
    pair.client.send(app, b"def");
    pair.advance(4 * MILLISECOND);
    assert_eq!(pair.target(target).len(), 1000, "19 ms");
    pair.client.send(app, b"ghi");
    assert_eq!(payloads(&mut pair), Vec::<Bytes>::new());
    pair.client.now += MILLISECOND;
    pair.client.input(Input::Timeout);
    assert_eq!(payloads(&mut pair), [&b"abcdefghi"[..]], "20 ms after the first, in one message");
    // That was slow: from now on nothing waits.
    pair.client.send(app, b"!");
    assert_eq!(payloads(&mut pair), [&b"!"[..]]);
}

/// A source of 4 MB/s, read in pieces of 4000 bytes, for 4 seconds.
#[test]
fn literal_batches_of_a_busy_channel_grow_to_the_buffer() {
    for (buffer_size, most) in [(1 << 20, 70), (64 << 10, 300)] {
        let mut pair = pair(|relay| {
            relay.extensions = ExtensionConfig::none();
            relay.batching.mode = BatchingMode::Literal;
            relay.batching.buffer_size = buffer_size;
            relay.compression = CompressionConfig::off();
        });
        let (app, target) = pair.open();
        let mut messages = 0;
        let mut longest = 0;
        for _ in 0..4000 {
            pair.client.send(app, &[1; 4000]);
            for (_, message) in &pair.client.sent {
                messages += 1;
                longest = longest.max(message.len());
            }
            pair.advance(MILLISECOND);
        }
        assert!(messages <= most, "{messages}");
        // The first message cap of a link is 256 KiB.
        let limit = buffer_size.min((256 << 10) - 24);
        assert!((limit - 4000..=limit + 24).contains(&longest), "{longest}");
        pair.client.send_eof(app);
        pair.drive();
        assert_eq!(pair.target(target).len(), 16_000_000, "no time has passed since the end");
    }
}

#[test]
fn an_endless_delay_means_until_there_is_enough() {
    for mode in [BatchingMode::Adaptive, BatchingMode::Literal] {
        let mut pair = pair(|relay| {
            relay.batching.mode = mode;
            relay.batching.delay = BatchDelay::new(Duration::MAX, Duration::MAX);
            relay.compression = CompressionConfig::off();
        });
        let (app, target) = pair.open();
        make_busy(&mut pair, app);
        pair.client.send(app, b"abc");
        pair.advance(Duration::from_secs(10));
        let held = mode == BatchingMode::Literal;
        assert_eq!(pair.target(target).len(), if held { 1000 } else { 1003 });
        for _ in 0..100 {
            pair.client.send(app, &[b'y'; 10_000]);
        }
        pair.drive();
        assert!(pair.target(target).len() > 500_000, "what is held back does not stop the reading");
        pair.client.send_eof(app);
        pair.drive();
        assert_eq!(pair.target(target).len(), 1_001_003);
    }
}

#[test]
fn an_end_waits_for_nothing() {
    let mut pair = pair_in(BatchingMode::Literal);
    for way in 0..3 {
        let (app, target) = pair.open();
        make_busy(&mut pair, app);
        pair.client.send(app, b"the rest");
        pair.drive();
        assert_eq!(pair.target(target).len(), 1000, "it is held back");
        match way {
            0 => pair.client.send_eof(app),
            1 => pair.server.fail(target, crate::error::SocketError::Reset),
            _ => pair.client.fail(app, crate::error::SocketError::Reset),
        }
        pair.drive();
        match way {
            0 => {
                assert!(pair.target(target).ends_with(b"the rest"), "in order, before the end");
                assert!(pair.server.peers[&target].eof);
                pair.server.send_eof(target);
                pair.drive();
            }
            1 => assert!(pair.client.peers[&app].reset),
            _ => assert!(pair.server.peers[&target].reset),
        }
        pair.assert_idle();
    }
}

#[test]
fn what_was_sent_before_the_channel_was_open_goes_first() {
    let mut pair = pair_in(BatchingMode::Literal);
    pair.server.dials = super::host::Answer::Silence;
    let app = pair.request("127.0.0.1:80");
    pair.client.send(app, b"early ");
    pair.drive();
    let (socket, _) = *pair.server.dialed.last().unwrap();
    pair.server.input(Input::SocketOpened { socket });
    pair.drive();
    pair.client.send(app, b"late");
    pair.advance(Duration::from_secs(1));
    assert_eq!(pair.target(socket), b"early late");
}

/// The buffer is larger than half of the window that the peer grants.
#[test]
fn batches_stay_within_half_of_the_window() {
    let mut config = server_config();
    config.relay.extensions.window = 100_000;
    let mut client = client_config();
    client.relay.batching.mode = BatchingMode::Literal;
    let mut pair = Pair::with(client, config);
    let (app, target) = pair.open();
    make_busy(&mut pair, app);
    for _ in 0..100 {
        pair.client.send(app, &[1; 10_000]);
        for (_, message) in &pair.client.sent {
            assert!(message.len() <= 50_000, "{}", message.len());
        }
        pair.advance(MILLISECOND);
    }
    pair.advance(Duration::from_secs(1));
    assert_eq!(pair.target(target).len(), 1_001_000);
}

#[test]
fn messages_are_as_large_as_the_buffer_at_most() {
    for mode in [BatchingMode::Off, BatchingMode::Adaptive, BatchingMode::Literal] {
        let mut pair = pair(|relay| {
            relay.batching.mode = mode;
            relay.batching.buffer_size = 4096;
        });
        let (app, _) = pair.open();
        pair.client.send(app, &vec![1; 100_000]);
        let lengths: Vec<_> = pair
            .client
            .sent
            .drain(..)
            .map(|(_, message)| match wire::decode(message).unwrap().message {
                Message::Data(data) => data.payload.len(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(lengths.iter().all(|length| *length <= 4096), "{lengths:?}");
        assert!(lengths.contains(&4096), "{lengths:?}");
    }
}
