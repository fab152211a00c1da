//! Deadlines in order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// A deadline that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due<K> {
    pub(crate) key: K,
    pub(crate) deadline: Instant,
    /// Whether this is the second time, after [`TimerQueue::set_grace`].
    pub(crate) graced: bool,
}

/// A set of deadlines, at most one per key. Setting and cancelling cost O(log n).
#[derive(Debug)]
pub(crate) struct TimerQueue<K> {
    queue: BTreeSet<(Instant, K)>,
    deadlines: BTreeMap<K, (Instant, bool)>,
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
        self.insert(key, now.checked_add(delay), false);
    }

    /// As [`Self::set`]; the deadline will be marked as graced.
    pub(crate) fn set_grace(&mut self, key: K, now: Instant, delay: Duration) {
        self.insert(key, now.checked_add(delay), true);
    }

    pub(crate) fn cancel(&mut self, key: K) {
        if let Some((deadline, _)) = self.deadlines.remove(&key) {
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

    /// Takes the earliest deadline that has come.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Due<K>> {
        let (deadline, key) = *self.queue.first()?;
        if deadline > now {
            return None;
        }
        self.queue.pop_first();
        let graced = self.deadlines.remove(&key).is_some_and(|(_, graced)| graced);
        Some(Due { key, deadline, graced })
    }

    fn insert(&mut self, key: K, deadline: Option<Instant>, graced: bool) {
        self.cancel(key);
        if let Some(deadline) = deadline {
            self.queue.insert((deadline, key));
            self.deadlines.insert(key, (deadline, graced));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::TimerQueue;
    use crate::tests::epoch;
    use std::time::Duration;

    #[test]
    fn deadlines_come_in_order_and_once() {
        let start = epoch();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut timers = TimerQueue::default();
        timers.set('a', start, Duration::from_secs(3));
        timers.set('b', start, Duration::from_secs(1));
        timers.set('c', start, Duration::from_secs(2));
        timers.set('a', start, Duration::from_secs(1));
        timers.set('d', start, Duration::MAX);
        timers.cancel('c');
        assert_eq!(timers.next(), Some(at(1)));
        assert_eq!(timers.pop_due(at(0)), None);
        let due: Vec<_> = std::iter::from_fn(|| timers.pop_due(at(9))).map(|due| due.key).collect();
        assert_eq!(due, ['a', 'b']);
        assert_eq!(timers.next(), None);
    }
}
