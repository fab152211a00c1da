//! The receive budget: what may wait for sockets, and the credit for reading from a link.

use std::collections::BTreeSet;

use crate::ids::ChannelKey;

/// Received bytes that wait for sockets, for one link or for all lost links together.
#[derive(Debug)]
pub(crate) struct ReceiveBudget {
    limit: usize,
    charged: usize,
    paused: bool,
    paid: bool,
    /// The channels that are charged for.
    members: BTreeSet<ChannelKey>,
}

/// A change of whether reading is paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crossing {
    Paused,
    Resumed,
}

impl ReceiveBudget {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, charged: 0, paused: false, paid: true, members: BTreeSet::new() }
    }

    /// Exchanges what `key` is charged. [`Self::settle`] must follow.
    pub(crate) fn exchange(&mut self, key: ChannelKey, before: usize, after: usize) {
        self.charged = self.charged - before + after;
        if after > 0 {
            self.members.insert(key);
        } else {
            self.members.remove(&key);
        }
    }

    /// Decides whether reading goes on. `paid`: somebody pays for what is charged.
    pub(crate) fn settle(&mut self, paid: bool) -> Option<Crossing> {
        self.paid = paid;
        if !self.paused && (self.charged >= self.limit || !paid) {
            self.paused = true;
            return Some(Crossing::Paused);
        }
        if self.paused && self.is_relieved() {
            self.paused = false;
            return Some(Crossing::Resumed);
        }
        None
    }

    /// Charges for nothing any more. Returns the channels that were charged for.
    pub(crate) fn clear(&mut self) -> BTreeSet<ChannelKey> {
        (self.charged, self.paused, self.paid) = (0, false, true);
        std::mem::take(&mut self.members)
    }

    /// Whether so little waits that reading goes on.
    pub(crate) fn is_relieved(&self) -> bool {
        self.paid && self.charged < self.limit / 4 * 3
    }

    /// Whether more is charged than there should be.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.charged > self.limit
    }

    /// Whether somebody pays for all that is charged.
    pub(crate) fn is_paid(&self) -> bool {
        self.paid
    }

    /// Whoever had to pay is asked once more.
    pub(crate) fn forgive(&mut self) {
        self.paid = true;
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    pub(crate) fn charged(&self) -> usize {
        self.charged
    }

    pub(crate) fn members(&self) -> impl ExactSizeIterator<Item = ChannelKey> + '_ {
        self.members.iter().copied()
    }
}

/// Credit for reading messages from a link.
#[derive(Debug, Default)]
pub(crate) struct ReceiveCredit {
    /// What the driver may still read; negative after a message that exceeded it.
    left: i64,
}

impl ReceiveCredit {
    pub(crate) fn on_received(&mut self, cost: usize) {
        self.left -= i64::try_from(cost).unwrap_or(i64::MAX);
    }

    /// Fills up to `window` once half of it is used.
    pub(crate) fn top_up(&mut self, window: usize) -> Option<usize> {
        let window = i64::try_from(window).unwrap_or(i64::MAX);
        if self.left > window / 2 {
            return None;
        }
        let grant = window - self.left;
        self.left = window;
        usize::try_from(grant).ok()
    }
}
