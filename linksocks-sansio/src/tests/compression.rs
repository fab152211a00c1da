//! What is sent as gzip, what is not, and what comes in as gzip.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use flate2::write::GzEncoder;

use super::pair::{Pair, client_config, server_config};
use crate::config::{CompressionConfig, ExtensionConfig, Limits};
use crate::ids::{ChannelId, SocketId};
use crate::io::{Engine, Input};
use crate::wire::{self, Compression, Data, Message};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Log lines with random numbers: level 1 leaves less than half of them.
fn text(length: usize) -> Vec<u8> {
    let mut state = 7u64;
    let mut text = Vec::new();
    while text.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        writeln!(text, "{:010} GET /index/{:x} 200 OK, {} bytes", state >> 40, state >> 50, state >> 54)
            .unwrap();
    }
    text.truncate(length);
    text
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 7u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// Neither side has windows: what waits, waits for the link.
fn pair(compression: CompressionConfig) -> Pair {
    let mut config = client_config();
    config.relay.compression = compression;
    config.relay.extensions = ExtensionConfig::none();
    Pair::with(config, server_config())
}

fn always(threshold: usize) -> CompressionConfig {
    CompressionConfig { threshold, always: true }
}

/// What a client has put on its link.
#[derive(Debug, Default)]
struct Seen {
    plain: usize,
    /// Lengths of payloads: as sent, and inflated.
    gzip: Vec<(usize, usize)>,
}

impl Seen {
    fn message(&mut self, message: Bytes) {
        let Message::Data(data) = wire::decode(message).unwrap().message else { return };
        if data.compression == Compression::None {
            self.plain += data.payload.len();
            return;
        }
        let length = data.payload.len();
        let mut inflate = wire::gzip::Inflate::new(data.payload, 64 * MIB);
        let mut inflated = 0;
        while let Some(chunk) = inflate.next_chunk(MIB).unwrap() {
            inflated += chunk.len();
        }
        self.gzip.push((length, inflated));
    }

    fn wire_bytes(&self) -> usize {
        self.plain + self.gzip.iter().map(|(sent, _)| sent).sum::<usize>()
    }
}

/// Looks at what the client sends while everything is passed on.
fn pass(pair: &mut Pair, seen: &mut Seen) {
    loop {
        if let Some((_, message)) = pair.client.sent.front() {
            seen.message(message.clone());
        }
        if !pair.step() {
            return;
        }
    }
}

/// An application sends `data` over a link that carries `rate` bytes per second. Returns what went
/// over the link, after all of it has arrived.
fn upload(pair: &mut Pair, data: &[u8], rate: f64) -> Seen {
    let (app, target) = pair.open();
    let mut seen = Seen::default();
    pair.client.links_stalled = true;
    pair.client.send(app, data);
    loop {
        pass(pair, &mut seen);
        if pair.client.unwritten.is_empty() {
            break;
        }
        let (link, bytes) = pair.client.unwritten.remove(0);
        pair.advance(Duration::from_secs_f64(bytes as f64 / rate));
        pair.client.input(Input::LinkWritten { link, bytes });
    }
    pair.client.links_stalled = false;
    assert_eq!(pair.target(target), data, "every byte arrives");
    seen
}

#[test]
fn text_that_waits_for_a_slow_link_is_compressed() {
    // 200 Mbit/s: half a MiB of text shrinks to less than what the link carries in 20 ms.
    let seen = upload(&mut pair(CompressionConfig::default()), &text(32 * MIB), 25e6);
    assert!(seen.gzip.len() > 10, "{seen:?}");
    assert!(seen.gzip.iter().all(|(_, carried)| *carried >= 500 * KIB), "{seen:?}");
    assert!(seen.wire_bytes() < 20 * MIB, "{seen:?}");
}

#[test]
fn on_very_slow_links_smaller_payloads_keep_messages_short() {
    let seen = upload(&mut pair(CompressionConfig::default()), &text(8 * MIB), 2.5e6);
    assert!(seen.wire_bytes() < 5 * MIB, "{seen:?}");
    let long = seen.gzip.iter().filter(|(sent, _)| *sent > 55_000).count();
    // The cap starts at 256 KiB and needs some intervals to come down.
    assert!(long <= 5, "one message takes 20 ms: {seen:?}");
    assert!(seen.gzip.iter().all(|(_, carried)| *carried >= 16 * KIB), "{seen:?}");
}

#[test]
fn a_fast_link_gets_bytes_as_they_are() {
    let seen = upload(&mut pair(CompressionConfig::default()), &text(64 * MIB), 500e6);
    assert_eq!((seen.plain, seen.gzip.len()), (64 * MIB, 0));
    let mut pair = pair(CompressionConfig::default());
    let (app, _) = pair.open();
    let mut seen = Seen::default();
    for _ in 0..8 {
        pair.client.send(app, &text(MIB));
        pass(&mut pair, &mut seen);
    }
    assert_eq!((seen.plain, seen.gzip.len()), (8 * MIB, 0), "idle");
}

#[test]
fn noise_is_not_compressed() {
    for compression in [CompressionConfig::default(), always(64 * KIB)] {
        let data = noise(16 * MIB);
        let mut pair = pair(compression);
        let seen = upload(&mut pair, &data, 2.5e6);
        assert_eq!((seen.plain, seen.gzip.len()), (data.len(), 0));
        assert_eq!(pair.client.engine.stats().bytes_sent, data.len() as u64);
    }
}

#[test]
fn nothing_is_compressed_when_it_is_off() {
    for compression in [CompressionConfig::off(), always(0), always(2 * MIB)] {
        let seen = upload(&mut pair(compression), &text(8 * MIB), 2.5e6);
        assert_eq!((seen.plain, seen.gzip.len()), (8 * MIB, 0));
    }
}

#[test]
fn if_always_payloads_of_the_threshold_are_compressed_on_any_link() {
    let mut pair = pair(always(20_000));
    let (app, target) = pair.open();
    // Reads grow with what they find.
    pair.client.send(app, &text(400 * KIB));
    pair.drive();
    for size in [19_999, 20_000, 1, 100_000] {
        let mut seen = Seen::default();
        pair.client.send(app, &text(size));
        pass(&mut pair, &mut seen);
        let carried: Vec<_> = seen.gzip.iter().map(|(_, carried)| *carried).collect();
        if size < 20_000 {
            assert_eq!((seen.plain, carried), (size, vec![]));
        } else {
            assert_eq!((seen.plain, carried), (0, vec![size]));
        }
    }
    let (sent, received) = (pair.client.engine.stats().bytes_sent, pair.server.engine.stats().bytes_received);
    assert_eq!((sent, received), (pair.target(target).len() as u64, sent));
}

#[test]
fn a_stream_that_changes_is_tried_again() {
    let mut data = noise(4 * MIB);
    data.extend(text(8 * MIB));
    data.extend(noise(4 * MIB));
    let seen = upload(&mut pair(CompressionConfig::default()), &data, 5e6);
    assert!(seen.wire_bytes() < 14 * MIB, "{seen:?}");
    assert!(seen.plain > 7 * MIB, "{seen:?}");
}

/// The peer grants 200 000 bytes: compressed messages count as they are sent.
#[test]
fn windows_count_what_is_on_the_wire() {
    let mut server = server_config();
    server.relay.extensions.window = 200_000;
    let mut client = client_config();
    client.relay.compression = always(64 * KIB);
    let mut pair = Pair::with(client, server);
    let (app, target) = pair.open();
    pair.server.peers.get_mut(&target).unwrap().stalled = true;
    pair.client.send(app, &text(4 * MIB));
    let mut seen = Seen::default();
    pass(&mut pair, &mut seen);
    let stats = pair.server.engine.stats();
    assert!(seen.wire_bytes() > 150_000, "the window is used: {seen:?}");
    assert!(seen.wire_bytes() < 200_000 + (256 * KIB), "what is written gives credit back: {seen:?}");
    assert!(stats.receive_queued < 200_000 + (330 * KIB), "{stats:?}");
    while !pair.server.peers[&target].pending.is_empty() {
        pair.server.take_pending(target);
        pass(&mut pair, &mut seen);
    }
    assert_eq!(pair.target(target), text(4 * MIB));
    assert!(seen.gzip.len() > 10, "{seen:?}");
}

// ---- inbound

/// The id that the channel of a target has on the link.
fn channel_id(pair: &Pair) -> ChannelId {
    let opened = pair.server.events.iter().rev().find_map(|event| match event {
        crate::Event::ChannelOpened { channel, .. } => Some(channel.id),
        _ => None,
    });
    opened.expect("a channel is open")
}

fn inject(pair: &mut Pair, channel: ChannelId, payload: Vec<u8>) {
    let link = *pair.to_server.values().next().unwrap();
    let data = Data {
        channel,
        compression: Compression::Gzip,
        payload: payload.into(),
        datagram: None,
        sequence: None,
    };
    pair.server.receive(link, &Message::Data(data));
    pair.drive();
}

fn is_reset(pair: &Pair, app: SocketId, target: SocketId) -> bool {
    pair.client.peers[&app].reset && pair.server.peers[&target].reset
}

#[test]
fn payloads_of_several_members_are_inflated() {
    let mut pair = Pair::plain();
    let (_, target) = pair.open();
    let channel = channel_id(&pair);
    inject(&mut pair, channel, [gzip(b"one "), gzip(b""), gzip(b"two")].concat());
    assert_eq!(pair.target(target), b"one two");
    assert_eq!(pair.server.engine.stats().bytes_received, 7);
}

#[test]
fn a_payload_may_inflate_to_32_mib_and_no_more() {
    let mut pair = Pair::plain();
    for (size, fits) in [(32 * MIB, true), (32 * MIB + 1, false)] {
        let (app, target) = pair.open();
        let channel = channel_id(&pair);
        inject(&mut pair, channel, gzip(&vec![7; size]));
        assert_eq!(is_reset(&pair, app, target), !fits);
        assert_eq!(pair.target(target).len() == size, fits);
    }
}

#[test]
fn a_bomb_resets_its_channel_and_nothing_else() {
    let mut pair = Pair::plain();
    let (other_app, other_target) = pair.open();
    let (app, target) = pair.open();
    let channel = channel_id(&pair);
    // 64 MiB in two members, each within the limit: 64 KiB on the wire.
    let bomb = [gzip(&vec![0; 32 * MIB]), gzip(&vec![0; 32 * MIB])].concat();
    inject(&mut pair, channel, bomb);
    assert!(is_reset(&pair, app, target));
    assert_eq!(pair.server.engine.stats().receive_queued, 0);
    pair.client.send(other_app, b"still here");
    pair.drive();
    assert_eq!(pair.target(other_target), b"still here");
    assert!(!pair.client.peers[&other_app].reset);
}

/// A payload that takes long and gives nothing lets others have their turns.
#[test]
fn a_payload_of_nothing_is_inflated_bit_by_bit() {
    let mut pair = Pair::plain();
    let (_, target) = pair.open();
    let channel = channel_id(&pair);
    inject(&mut pair, channel, [gzip(b"").repeat(30_000), gzip(b"x")].concat());
    assert!(pair.target(target).is_empty());
    pair.advance(Duration::from_millis(50));
    assert!(pair.target(target).is_empty(), "many turns");
    pair.advance(Duration::from_secs(1));
    assert_eq!(pair.target(target), b"x");
}

/// A target that takes nothing keeps a bomb compressed: it costs what came in.
#[test]
fn what_waits_stays_compressed() {
    let mut pair = Pair::plain();
    let (_, target) = pair.open();
    let channel = channel_id(&pair);
    pair.server.peers.get_mut(&target).unwrap().stalled = true;
    let bomb = gzip(&vec![0; 30 * MIB]);
    for _ in 0..10 {
        inject(&mut pair, channel, bomb.clone());
    }
    let pending: usize = pair.server.peers[&target].pending.iter().map(|bytes| bytes.len()).sum();
    assert!(pending <= 320 * KIB, "what the driver may have: {pending}");
    let stats = pair.server.engine.stats();
    assert!(stats.receive_queued < 10 * (bomb.len() + 100) + pending, "{stats:?}");
}

/// Bytes of many channels wait compressed. The budget is for all of them together, and those whose
/// targets go on get everything.
#[test]
fn a_full_budget_is_not_exceeded_by_what_channels_inflate() {
    const CHANNELS: usize = 40;
    let mut server = server_config();
    server.relay.extensions = ExtensionConfig::none();
    server.relay.limits.link_receive_budget = 512 * KIB;
    let limits = server.relay.limits.clone();
    let mut pair = Pair::with(client_config(), server);
    let payload = text(300 * KIB);
    let targets: Vec<_> = (0..CHANNELS)
        .map(|_| {
            let (_, target) = pair.open();
            pair.server.peers.get_mut(&target).unwrap().stalled = true;
            let channel = channel_id(&pair);
            inject(&mut pair, channel, gzip(&payload));
            target
        })
        .collect();
    // Two channels fill the budget. Of the others there is what came in, and a step of each.
    let compressed = CHANNELS * (gzip(&payload).len() + Limits::MESSAGE_OVERHEAD);
    let steps: usize = (2..CHANNELS).map(|before| limits.narrow_step(before)).sum();
    let most = compressed + 2 * (limits.socket_write_window + Limits::INFLATE_STEP) + steps;
    let queued = pair.server.engine.stats().receive_queued;
    assert!(queued > compressed + steps && queued <= most, "{compressed} < {queued} <= {most}");

    let (stuck, moving) = targets.split_first().unwrap();
    while moving.iter().any(|target| pair.target(*target).len() < payload.len()) {
        for target in moving {
            pair.server.take_pending(*target);
        }
        pair.drive();
        assert!(pair.server.engine.stats().receive_queued <= most);
    }
    assert!(moving.iter().all(|target| pair.target(*target) == payload));
    assert!(!pair.server.peers[stuck].reset, "it has not been waiting for long");
}

#[test]
fn corrupt_gzip_resets_its_channel_after_what_was_right() {
    let mut pair = Pair::plain();
    let (app, target) = pair.open();
    let channel = channel_id(&pair);
    let mut payload = gzip(b"payload");
    *payload.last_mut().unwrap() ^= 1;
    inject(&mut pair, channel, payload);
    assert!(is_reset(&pair, app, target));
}

#[test]
fn gzip_payloads_are_inflated_and_bad_ones_reset_their_channel_only() {
    let mut pair = Pair::with(client_config(), server_config());
    let (app, _) = pair.open();
    let (other, _) = pair.open();
    pair.client.send(app, b"a");
    pair.client.send(other, b"b");
    let id = |message| match message {
        Message::Data(data) => data.channel,
        other => panic!("{other:?}"),
    };
    let channels: Vec<_> = pair.client.take_sent().into_iter().map(id).collect();
    let link = *pair.to_server.keys().next().unwrap();
    for (channel, payload) in [(channels[0], gzip(&[42; 700_000])), (channels[1], b"not gzip".to_vec())] {
        let payload = payload.into();
        let compression = Compression::Gzip;
        let data = Data { channel, compression, payload, datagram: None, sequence: None };
        pair.client.receive(link, &Message::Data(data));
    }
    pair.drive();
    assert_eq!(pair.app(app), [42; 700_000]);
    assert!(pair.client.peers[&other].reset && !pair.client.peers[&app].released);
    assert_eq!(pair.client.engine.stats().receive_queued, 0);
}
