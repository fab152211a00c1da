//! Deadlines in order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// A set of deadlines, at most one per key. Setting and cancelling cost O(log n).
#[derive(Debug)]
pub(crate) struct TimerQueue<K> {
    queue: BTreeSet<(Instant, K)>,
    deadlines: BTreeMap<K, Instant>,
}

impl<K> Default for TimerQueue<K> {
    fn default() -> Self {
        Self { queue: BTreeSet::new(), deadlines: BTreeMap::new() }
    }
}

impl<K: Copy + Ord> TimerQueue<K> {
    /// Sets the deadline of `key` to `delay` after `now`, replacing an earlier one. A delay that
    /// reaches beyond what an [`Instant`] can hold means never.
    pub(crate) fn set(&mut self, key: K, now: Instant, delay: Duration) {
        self.cancel(key);
        if let Some(deadline) = now.checked_add(delay) {
            self.queue.insert((deadline, key));
            self.deadlines.insert(key, deadline);
        }
    }

    pub(crate) fn cancel(&mut self, key: K) {
        if let Some(deadline) = self.deadlines.remove(&key) {
            self.queue.remove(&(deadline, key));
        }
    }

    pub(crate) fn is_set(&self, key: K) -> bool {
        self.deadlines.contains_key(&key)
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.queue.first().map(|(deadline, _)| *deadline)
    }

    /// Takes the earliest key that is due, with its deadline.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<(K, Instant)> {
        let (deadline, key) = *self.queue.first()?;
        if deadline > now {
            return None;
        }
        self.cancel(key);
        Some((key, deadline))
    }
}
