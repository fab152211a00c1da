//! Which of the bytes that wait for a link are compressed.
//!
//! Compressing pays if it takes less time than it saves on the way. What waits shows that the link is
//! what limits, and how fast that is; a sample shows how much is saved.

use bytes::BytesMut;

use super::Relay;
use crate::channel::Channel;
use crate::ids::ChannelKey;
use crate::wire::{DATA_HEADER_LEN, seal_tcp_gzip};

/// What the fastest level of gzip gets through on a slow core, in bytes per second.
const DEFLATE_RATE: f64 = 100e6;

/// Less is never compressed only because a link is slow.
const MIN_RUN: usize = 16 * 1024;

/// How much of a payload shows whether the rest shrinks.
const SAMPLE: usize = 4 * 1024;

/// How many bytes of a stream should be compressed to one message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// As soon as so many wait.
    pub(super) enough: usize,
    /// More would make the message too long, unless one message has them already.
    most: usize,
    /// Fewer, because messages don't add up to what is enough, are left as they are.
    least: usize,
}

impl Relay {
    /// Makes compressed messages of what waits on a channel, if there is enough of it, it shrinks, and
    /// that pays.
    pub(super) fn compress(&mut self, key: ChannelKey) {
        if self.config.compression.threshold == 0 {
            return;
        }
        let mut learned = self.try_sample(key);
        while let Some(run) = self.run_to_compress(key)
            && self.compress_run(key, run)
        {
            learned = true;
        }
        if learned {
            self.grant_read(key);
        }
    }

    /// Compresses the first messages to one, if there are enough. Whether it did.
    fn compress_run(&mut self, key: ChannelKey, run: Run) -> bool {
        let mut max = self.largest_payload(key);
        let Some(channel) = self.channels.get_mut(key) else { return false };
        let outbound = &mut channel.outbound;
        if outbound.plain_bytes() < run.enough {
            return false;
        }
        let (mut count, mut bytes) = (0, 0);
        for payload in outbound.plain_payloads() {
            if bytes >= run.enough || count > 0 && bytes + payload.len() > run.most {
                break;
            }
            (count, bytes) = (count + 1, bytes + payload.len());
            // Messages made for a faster link may be longer than they should be now.
            max = max.max(payload.len());
        }
        if bytes < run.least {
            return false;
        }
        if !self.sample(key) {
            // Streams change: a vain attempt with the whole would take a hundred times as long.
            return false;
        }
        let Some(channel) = self.channels.get_mut(key) else { return false };
        let outbound = &mut channel.outbound;
        let deflate = self.deflate.get_or_insert_default();
        let compressed = deflate.compress(outbound.plain_payloads().take(count), max.min(bytes - 1));
        outbound.shrink.learn(bytes, compressed.map(<[u8]>::len));
        let Some(compressed) = compressed else { return false };
        let mut memory = BytesMut::with_capacity(DATA_HEADER_LEN + compressed.len());
        memory.resize(DATA_HEADER_LEN, 0);
        memory.extend_from_slice(compressed);
        let saved = bytes - compressed.len();
        let message = seal_tcp_gzip(memory, channel.id);
        self.totals.send_queued -= outbound.replace_plain(count, message);
        // What is not kept any more makes room for new bytes.
        if let Some(id) = channel.socket()
            && let Some(socket) = self.sockets.get_mut(id)
        {
            socket.pacer.on_released(saved);
        }
        true
    }

    /// If nothing is known of a channel's bytes and it might pay to compress them, finds out.
    /// Whether it did.
    fn try_sample(&mut self, key: ChannelKey) -> bool {
        let compression = self.config.compression;
        let Some(channel) = self.channels.get(key) else { return false };
        let waits = channel.outbound.plain_bytes();
        let enough = match self.waits_for_slow_link(channel, 0.0) {
            true => MIN_RUN.min(compression.threshold),
            false if compression.always => compression.threshold,
            false => return false,
        };
        if waits < enough || !channel.outbound.shrink.wants_sample() {
            return false;
        }
        self.sample(key);
        true
    }

    /// Learns from the last bytes that wait. Whether they shrink.
    fn sample(&mut self, key: ChannelKey) -> bool {
        let Some(channel) = self.channels.get_mut(key) else { return false };
        let outbound = &mut channel.outbound;
        let Some(payload) = outbound.plain_payloads().next_back() else { return false };
        let sample = &payload[payload.len().saturating_sub(SAMPLE)..];
        let length = sample.len();
        let deflate = self.deflate.get_or_insert_default();
        let compressed = deflate.compress([sample], length).map(<[u8]>::len);
        outbound.shrink.learn(length, compressed);
        outbound.shrink.ratio().is_some()
    }

    /// Whether messages wait for a link that is slower than compressing to this `ratio`.
    fn waits_for_slow_link(&self, channel: &Channel, ratio: f64) -> bool {
        let link = self.links.get(channel.link);
        let rate = link.and_then(|link| link.pace.bottleneck());
        // As much time as compressing takes is saved on the way.
        rate.is_some_and(|rate| rate < DEFLATE_RATE * (1.0 - ratio))
    }

    /// How much of a channel's bytes should be compressed to one message, or `None` if they should
    /// not be.
    pub(super) fn run_to_compress(&self, key: ChannelKey) -> Option<Run> {
        let compression = self.config.compression;
        if compression.threshold == 0 || compression.threshold > self.config.limits.message_max {
            return None;
        }
        let channel = self.channels.get(key)?;
        let ratio = channel.outbound.shrink.ratio()?;
        let slow = self.waits_for_slow_link(channel, ratio);
        if !slow && !compression.always {
            return None;
        }
        // A little less, for what comes may shrink less.
        let fitting = (self.largest_payload(key) as f64 / ratio * 0.9) as usize;
        let threshold = compression.threshold;
        match slow {
            true if fitting >= threshold.min(MIN_RUN) => {
                Some(Run { enough: threshold.min(fitting), most: fitting, least: threshold.min(MIN_RUN) })
            }
            false if fitting >= threshold => Some(Run { enough: threshold, most: fitting, least: threshold }),
            _ => None,
        }
    }
}
