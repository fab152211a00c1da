//! From sockets to links: what of that which is read shares a message.

use super::{Relay, Timer};
use crate::channel::BatchRules;
use crate::ids::ChannelKey;
use crate::io::ReadBuf;
use crate::wire::DATA_HEADER_LEN;

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
        let holds_back = outbound.holds_back();
        match outbound.flush_at() {
            at if at == held => {}
            Some(at) => {
                let delay = at.saturating_duration_since(self.now);
                self.set_timer(Timer::Batch(key), delay);
            }
            None => self.timers.cancel(Timer::Batch(key)),
        }
        self.on_flushed(key);
        if holds_back {
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
        self.compress(key);
        self.schedule_channel(key);
    }

    fn batch_rules(&self, key: ChannelKey) -> BatchRules {
        let compression = self.config.compression;
        let compressible = match compression.always && compression.threshold > 0 {
            true => compression.threshold,
            false => usize::MAX,
        };
        BatchRules { mode: self.config.batching.mode, limit: self.largest_payload(key), compressible }
    }

    /// The largest payload that a channel should make a message of now.
    pub(super) fn largest_payload(&self, key: ChannelKey) -> usize {
        let limits = &self.config.limits;
        let channel = self.channels.get(key);
        let link = channel.and_then(|channel| self.links.get(channel.link));
        let longest = link.map_or(limits.message_min, |link| link.longest_message().min(limits.message_max));
        let longest = channel.map_or(longest, |channel| longest.min(channel.outbound.longest_message()));
        longest.saturating_sub(DATA_HEADER_LEN).min(self.config.batching.buffer_size)
    }
}
