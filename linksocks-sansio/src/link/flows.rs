//! Which channel of a link sends next: deficit round robin with the new-flow rule of fq_codel.

use std::collections::VecDeque;
use std::time::Instant;

use crate::arena::Arena;
use crate::channel::{Channel, Next};
use crate::ids::ChannelKey;

/// The channels of a link that have something to send. Those that were idle go first, once; then
/// all share by bytes.
#[derive(Debug, Default)]
pub(crate) struct Flows {
    new: VecDeque<ChannelKey>,
    old: VecDeque<ChannelKey>,
}

impl Flows {
    pub(crate) fn is_empty(&self) -> bool {
        self.new.is_empty() && self.old.is_empty()
    }

    /// Tells that `key` may have become sendable.
    pub(crate) fn wake(&mut self, key: ChannelKey, channel: &mut Channel, quantum: usize) {
        if !channel.outbound.scheduled && channel.outbound.sendable().is_some() {
            channel.outbound.scheduled = true;
            channel.outbound.deficit = as_deficit(quantum);
            self.new.push_back(key);
        }
    }

    /// Takes the next message, or the next end of a channel. `None` if there is none, or if it is
    /// longer than `room`.
    pub(crate) fn next(
        &mut self,
        channels: &mut Arena<ChannelKey, Channel>,
        quantum: usize,
        room: usize,
        now: Instant,
    ) -> Option<(ChannelKey, Next)> {
        loop {
            let from_new = !self.new.is_empty();
            let list = if from_new { &mut self.new } else { &mut self.old };
            let key = *list.front()?;
            let Some(channel) = channels.get_mut(key) else {
                list.pop_front();
                continue;
            };
            let outbound = &mut channel.outbound;
            let Some(length) = outbound.sendable() else {
                list.pop_front();
                if from_new {
                    // Else a channel could stay ahead of all others by sending a little at a time.
                    self.old.push_back(key);
                } else {
                    outbound.scheduled = false;
                }
                continue;
            };
            if outbound.deficit <= 0 {
                outbound.deficit += as_deficit(quantum);
                list.pop_front();
                self.old.push_back(key);
                continue;
            }
            if length > room {
                return None;
            }
            outbound.deficit -= as_deficit(length);
            return Some((key, outbound.pop(now)?));
        }
    }
}

/// Lengths are bounded by the largest message, far below what an `isize` holds.
fn as_deficit(bytes: usize) -> isize {
    isize::try_from(bytes).unwrap_or(isize::MAX)
}
