//! From sockets to links: how much is read, what of it shares a message, what is compressed.

#[cfg(feature = "gzip")]
use bytes::BytesMut;

use super::{Relay, Timer};
use crate::channel::BatchRules;
#[cfg(feature = "gzip")]
use crate::channel::Channel;
use crate::config::BatchingMode;
use crate::ids::ChannelKey;
use crate::io::{Output, ReadBuf};
use crate::wire::DATA_HEADER_LEN;
#[cfg(feature = "gzip")]
use crate::wire::seal_tcp_gzip;

/// While more than this waits for links altogether, channels collect nothing beyond what keeps their
/// links busy.
const COLLECT_BUDGET: usize = 16 * 1024 * 1024;

/// What the fastest level of gzip gets through on a slow core, in bytes per second.
#[cfg(feature = "gzip")]
const DEFLATE_RATE: f64 = 100e6;

/// Less is never compressed only because a link is slow.
#[cfg(feature = "gzip")]
const MIN_RUN: usize = 16 * 1024;

/// How much of a payload shows whether the rest shrinks.
#[cfg(feature = "gzip")]
const SAMPLE: usize = 4 * 1024;

/// How many bytes of a stream should be compressed to one message.
#[cfg(feature = "gzip")]
#[derive(Clone, Copy, Debug)]
struct Run {
    /// As soon as there are so many.
    least: usize,
    /// More would make the message too long, unless one message has them already.
    most: usize,
}

impl Relay {
    /// Takes what was read from a channel's socket.
    pub(super) fn enqueue(&mut self, key: ChannelKey, buf: ReadBuf) {
        let rules = self.batch_rules(key);
        let Some(channel) = self.channels.get_mut(key) else { return };
        let outbound = &mut channel.outbound;
        outbound.shrink.on_bytes(buf.len());
        let (waited, held) = (outbound.bytes(), outbound.flush_at());
        let copied = outbound.add(self.now, buf.into_memory(), &rules);
        self.totals.send_queued += outbound.bytes() - waited;
        self.totals.copied_bytes += copied as u64;
        let until = outbound.flush_at();
        match until {
            at if at == held => {}
            Some(at) => {
                let delay = at.saturating_duration_since(self.now);
                self.set_timer(Timer::Batch(key), delay);
            }
            None => self.timers.cancel(Timer::Batch(key)),
        }
        self.on_flushed(key);
        if until.is_some() {
            // What is held back must not keep the batch from becoming full.
            self.grant_read(key);
        }
    }

    /// Completes what waits for more on a channel.
    pub(super) fn flush(&mut self, key: ChannelKey) {
        self.timers.cancel(Timer::Batch(key));
        if let Some(channel) = self.channels.get_mut(key) {
            channel.outbound.flush(self.now);
            self.on_flushed(key);
        }
    }

    /// Messages of a channel may have been completed.
    fn on_flushed(&mut self, key: ChannelKey) {
        #[cfg(feature = "gzip")]
        self.compress(key);
        self.schedule_channel(key);
    }

    fn batch_rules(&self, key: ChannelKey) -> BatchRules {
        let compression = self.config.compression;
        let compressible = match cfg!(feature = "gzip") && compression.always && compression.threshold > 0 {
            true => compression.threshold,
            false => usize::MAX,
        };
        BatchRules { mode: self.config.batching.mode, limit: self.largest_payload(key), compressible }
    }

    /// The largest payload that a channel should make a message of now.
    pub(super) fn largest_payload(&self, key: ChannelKey) -> usize {
        let limits = &self.config.limits;
        let link = self.channels.get(key).and_then(|channel| self.links.get(channel.link));
        let longest = link.map_or(limits.message_min, |link| link.longest_message().min(limits.message_max));
        longest.saturating_sub(DATA_HEADER_LEN).min(self.config.batching.buffer_size)
    }

    /// Lets the driver read more of a channel's socket, if enough has left for the link.
    pub(super) fn grant_read(&mut self, key: ChannelKey) {
        let largest = self.largest_payload(key);
        let ahead = self.collected_ahead(key, largest);
        let Some(channel) = self.channels.get(key) else { return };
        if !channel.wants_input() {
            return;
        }
        if let Some(id) = channel.socket()
            && let Some(socket) = self.sockets.get_mut(id)
            && let Some(credit) = socket.pacer.top_up(largest, ahead)
        {
            self.push(Output::Read { socket: id, credit });
        }
    }

    /// How much a channel may collect beyond what keeps its link busy.
    fn collected_ahead(&mut self, key: ChannelKey, largest: usize) -> usize {
        let Some(channel) = self.channels.get_mut(key) else { return 0 };
        let holds = self.config.batching.mode == BatchingMode::Literal && channel.outbound.is_batching();
        if self.totals.send_queued > COLLECT_BUDGET {
            if holds {
                // Whoever may not read on must not wait for more.
                self.flush(key);
            }
            return 0;
        }
        let batch = if holds { largest } else { 0 };
        #[cfg(feature = "gzip")]
        let batch = batch.max(self.run_to_compress(key).map_or(0, |run| run.least));
        batch
    }
}

#[cfg(feature = "gzip")]
impl Relay {
    /// Makes compressed messages of what waits on a channel, if there is enough of it, it shrinks, and
    /// that pays.
    fn compress(&mut self, key: ChannelKey) {
        if self.config.compression.threshold == 0 {
            return;
        }
        self.try_sample(key);
        while let Some(run) = self.run_to_compress(key)
            && self.compress_run(key, run)
        {}
        self.grant_read(key);
    }

    /// Compresses the first messages to one, if there are enough. Whether it did.
    fn compress_run(&mut self, key: ChannelKey, run: Run) -> bool {
        let mut max = self.largest_payload(key);
        let Some(channel) = self.channels.get_mut(key) else { return false };
        let outbound = &mut channel.outbound;
        if outbound.plain_bytes() < run.least {
            return false;
        }
        let (mut count, mut bytes) = (0, 0);
        for payload in outbound.plain_payloads() {
            if bytes >= run.least || count > 0 && bytes + payload.len() > run.most {
                break;
            }
            (count, bytes) = (count + 1, bytes + payload.len());
            // Messages made for a faster link may be longer than they should be now.
            max = max.max(payload.len());
        }
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
    fn try_sample(&mut self, key: ChannelKey) {
        let compression = self.config.compression;
        let Some(channel) = self.channels.get(key) else { return };
        let waits = channel.outbound.plain_bytes();
        let enough = match self.waits_for_slow_link(channel, 0.0) {
            true => MIN_RUN.min(compression.threshold),
            false if compression.always => compression.threshold,
            false => return,
        };
        if waits < enough || !channel.outbound.shrink.wants_sample() {
            return;
        }
        let Some(channel) = self.channels.get_mut(key) else { return };
        let outbound = &mut channel.outbound;
        let Some(payload) = outbound.plain_payloads().next_back() else { return };
        let sample = &payload[payload.len().saturating_sub(SAMPLE)..];
        let length = sample.len();
        let deflate = self.deflate.get_or_insert_default();
        let compressed = deflate.compress([sample], length).map(<[u8]>::len);
        outbound.shrink.learn(length, compressed);
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
    fn run_to_compress(&self, key: ChannelKey) -> Option<Run> {
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
        match slow {
            _ if fitting >= compression.threshold => {
                Some(Run { least: compression.threshold, most: fitting })
            }
            true if fitting >= MIN_RUN => Some(Run { least: fitting, most: fitting }),
            _ => None,
        }
    }
}
