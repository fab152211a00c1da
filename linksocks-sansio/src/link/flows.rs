//! Which channel of a link sends next: deficit round robin with the new-flow rule of fq_codel.

use std::collections::VecDeque;

use crate::arena::Arena;
use crate::channel::{Association, Channel, Next, Outbound};
use crate::ids::{AssociationKey, ChannelId, ChannelKey};

/// Something that sends on a link: a stream or a UDP association.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FlowKey {
    Channel(ChannelKey),
    Association(AssociationKey),
}

/// Where the queues of flows are.
pub(crate) struct Flowing<'a> {
    pub(crate) channels: &'a mut Arena<ChannelKey, Channel>,
    pub(crate) associations: &'a mut Arena<AssociationKey, Association>,
}

impl Flowing<'_> {
    /// The flow's id on the wire.
    pub(crate) fn id(&self, key: FlowKey) -> Option<ChannelId> {
        match key {
            FlowKey::Channel(key) => self.channels.get(key).map(|channel| channel.id),
            FlowKey::Association(key) => self.associations.get(key).map(|association| association.id),
        }
    }

    fn outbound(&mut self, key: FlowKey) -> Option<&mut Outbound> {
        match key {
            FlowKey::Channel(key) => self.channels.get_mut(key).map(|channel| &mut channel.outbound),
            FlowKey::Association(key) => {
                self.associations.get_mut(key).map(|association| &mut association.outbound)
            }
        }
    }
}

/// The flows of a link that have something to send. Those that were idle go first, once; then
/// all share by bytes.
#[derive(Debug, Default)]
pub(crate) struct Flows {
    new: VecDeque<FlowKey>,
    old: VecDeque<FlowKey>,
}

impl Flows {
    pub(crate) fn is_empty(&self) -> bool {
        self.new.is_empty() && self.old.is_empty()
    }

    /// Tells that `key` may have become sendable.
    pub(crate) fn wake(&mut self, key: FlowKey, outbound: &mut Outbound, quantum: usize) {
        if !outbound.scheduled && outbound.is_sendable() {
            outbound.scheduled = true;
            outbound.deficit = as_deficit(quantum);
            self.new.push_back(key);
        }
    }

    /// Takes the next message, or the next end of a flow.
    pub(crate) fn next(&mut self, flowing: &mut Flowing<'_>, quantum: usize) -> Option<(FlowKey, Next)> {
        loop {
            let from_new = !self.new.is_empty();
            let list = if from_new { &mut self.new } else { &mut self.old };
            let key = *list.front()?;
            let Some(outbound) = flowing.outbound(key) else {
                list.pop_front();
                continue;
            };
            if !outbound.is_sendable() {
                list.pop_front();
                if from_new {
                    // Else a channel could stay ahead of all others by sending a little at a time.
                    self.old.push_back(key);
                } else {
                    outbound.scheduled = false;
                }
                continue;
            }
            if outbound.deficit <= 0 {
                outbound.deficit += as_deficit(quantum);
                list.pop_front();
                self.old.push_back(key);
                continue;
            }
            let next = outbound.pop()?;
            if let Next::Data(message) = &next {
                outbound.deficit -= as_deficit(message.len());
            }
            return Some((key, next));
        }
    }
}

/// Lengths are bounded by the largest message, far below what an `isize` holds.
fn as_deficit(bytes: usize) -> isize {
    isize::try_from(bytes).unwrap_or(isize::MAX)
}
