//! Which channel of a link sends next: deficit round robin with the new-flow rule of fq_codel
//! (RFC 8290 section 4.1.1).
//!
//! Here a quantum is as long as a message may be, so a round takes long: 160 ms with eight busy
//! channels, where fq_codel takes 10. A channel that sends little would mostly be found waiting for
//! its next turn. So it also goes first again whenever it has been idle, until it has used up what
//! it may send in the round.

use std::collections::VecDeque;
use std::time::Instant;

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

/// The flows of a link that have something to send, or had when their turn came last.
#[derive(Debug, Default)]
pub(crate) struct Flows {
    /// Those that were idle.
    new: VecDeque<FlowKey>,
    /// Those that share by turns. A flow may be in both lists.
    old: VecDeque<FlowKey>,
}

/// Where a channel stands with its link's scheduler.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Turn {
    is_new: bool,
    is_old: bool,
    /// Whether something was left to send when it sent last.
    is_busy: bool,
    /// What it may send in this round.
    deficit: isize,
}

impl Flows {
    pub(crate) fn is_empty(&self) -> bool {
        self.new.is_empty() && self.old.is_empty()
    }

    /// Tells that `key` may have become sendable.
    pub(crate) fn wake(&mut self, key: FlowKey, outbound: &mut Outbound, quantum: usize) {
        if outbound.sendable().is_none() {
            return;
        }
        let turn = &mut outbound.turn;
        let was_busy = std::mem::replace(&mut turn.is_busy, true);
        if turn.is_new {
            return;
        }
        if !turn.is_old {
            turn.deficit = as_deficit(quantum);
        } else if was_busy || turn.deficit <= 0 {
            return;
        }
        turn.is_new = true;
        self.new.push_back(key);
    }

    /// Takes the next message, or the next end of a flow.
    pub(crate) fn next(
        &mut self,
        flowing: &mut Flowing<'_>,
        quantum: usize,
        now: Instant,
    ) -> Option<(FlowKey, Next)> {
        loop {
            let from_new = !self.new.is_empty();
            let list = if from_new { &mut self.new } else { &mut self.old };
            let key = *list.front()?;
            let Some(outbound) = flowing.outbound(key) else {
                list.pop_front();
                continue;
            };
            let length = outbound.sendable();
            let turn = &mut outbound.turn;
            if let Some(length) = length.filter(|_| turn.deficit > 0) {
                turn.deficit -= as_deficit(length);
                let next = outbound.pop(now)?;
                outbound.turn.is_busy = outbound.sendable().is_some();
                return Some((key, next));
            }
            list.pop_front();
            if from_new {
                turn.is_new = false;
                if turn.is_old {
                    continue;
                }
            } else if length.is_none() {
                turn.is_old = false;
                turn.is_busy = false;
                continue;
            }
            // Also if it has nothing to send: else it could stay ahead of all others.
            if turn.deficit <= 0 {
                turn.deficit += as_deficit(quantum);
            }
            turn.is_old = true;
            self.old.push_back(key);
        }
    }
}

/// Lengths are bounded by the largest message, far below what an `isize` holds.
fn as_deficit(bytes: usize) -> isize {
    isize::try_from(bytes).unwrap_or(isize::MAX)
}
