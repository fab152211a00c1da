//! Sent messages that the peer has not acknowledged, to be sent again after the loss of a link.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::config::{COPY_BELOW, Limits};

/// An empty ring of this size is kept.
const SPARE_RING: usize = 64 * 1024;

/// A count of received messages that can't be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutOfRange;

/// Messages in the order in which they were sent. Each has a number: how many were sent before it
/// since the session began.
#[derive(Debug)]
pub(crate) struct Log {
    entries: VecDeque<Entry>,
    /// The bytes of copied entries, one behind the other.
    ring: VecDeque<u8>,
    /// How many bytes have left the ring.
    passed: u64,
    /// The number of the first entry: all before it are acknowledged.
    acknowledged: u64,
    /// The place of the next entry to be sent again on this link; behind the last one if there is none.
    next: usize,
    /// What all entries are charged.
    charged: usize,
    limit: usize,
    first_limit: usize,
}

#[derive(Debug)]
enum Entry {
    /// In the ring, from this byte of all that ever entered it.
    Copied {
        start: u64,
        length: usize,
    },
    Shared(Bytes),
}

impl Log {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            ring: VecDeque::new(),
            passed: 0,
            acknowledged: 0,
            next: 0,
            charged: 0,
            limit,
            first_limit: limit,
        }
    }

    /// Keeps a message that goes out for the first time.
    pub(crate) fn push(&mut self, message: &Bytes) {
        debug_assert_eq!(self.next, self.entries.len(), "old messages go out before new ones");
        self.charged += cost(message.len());
        self.entries.push_back(if message.len() < COPY_BELOW {
            let start = self.passed + self.ring.len() as u64;
            self.ring.extend(&message[..]);
            Entry::Copied { start, length: message.len() }
        } else {
            Entry::Shared(message.clone())
        });
        self.next += 1;
    }

    /// The next message to be sent again.
    pub(crate) fn next_replay(&mut self) -> Option<Bytes> {
        let message = match self.entries.get(self.next)? {
            Entry::Shared(message) => message.clone(),
            Entry::Copied { start, length } => {
                let start = to_usize(start - self.passed);
                self.ring.range(start..start + length).copied().collect()
            }
        };
        self.next += 1;
        Some(message)
    }

    /// How many messages are still to be sent again.
    pub(crate) fn replays(&self) -> usize {
        self.entries.len() - self.next
    }

    /// The peer has received so many messages since the session began, on this link and before.
    ///
    /// # Errors
    /// If it can't have received them, or had said more before.
    pub(crate) fn acknowledge(&mut self, received: u64) -> Result<(), OutOfRange> {
        let count = received.checked_sub(self.acknowledged).ok_or(OutOfRange)?;
        if count > self.next as u64 {
            return Err(OutOfRange);
        }
        self.forget(to_usize(count));
        Ok(())
    }

    /// As [`Self::acknowledge`], on a new link: what the peer has not received goes out again.
    ///
    /// # Errors
    /// As [`Self::acknowledge`]; then nothing is changed.
    pub(crate) fn rewind(&mut self, received: u64) -> Result<(), OutOfRange> {
        let before = std::mem::replace(&mut self.next, self.entries.len());
        if let Err(error) = self.acknowledge(received) {
            self.next = before;
            return Err(error);
        }
        self.next = 0;
        Ok(())
    }

    fn forget(&mut self, count: usize) {
        for entry in self.entries.drain(..count) {
            let length = match entry {
                Entry::Shared(message) => message.len(),
                Entry::Copied { length, .. } => {
                    self.ring.drain(..length);
                    self.passed += length as u64;
                    length
                }
            };
            self.charged -= cost(length);
        }
        self.acknowledged += count as u64;
        self.next -= count;
        if self.ring.is_empty() && self.ring.capacity() > SPARE_RING {
            self.ring = VecDeque::new();
        }
    }

    /// What is kept, in bytes with overhead.
    pub(crate) fn charged(&self) -> usize {
        self.charged
    }

    /// Whether nothing more may be sent before some of it is acknowledged.
    pub(crate) fn is_full(&self) -> bool {
        self.charged >= self.limit
    }

    /// Twice the limit, but not beyond `max`. `None`: it is there already.
    pub(crate) fn next_limit(&self, max: usize) -> Option<usize> {
        let next = self.limit.saturating_mul(2).min(max);
        (next > self.limit).then_some(next)
    }

    pub(crate) fn grow(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Gives up growth that is not needed any more. Whether there was any.
    pub(crate) fn shrink(&mut self) -> bool {
        self.entries.is_empty() && self.reset_limit()
    }

    /// Gives up all growth. Whether there was any.
    pub(crate) fn reset_limit(&mut self) -> bool {
        std::mem::replace(&mut self.limit, self.first_limit) > self.first_limit
    }
}

/// What a message is charged.
fn cost(length: usize) -> usize {
    length + Limits::MESSAGE_OVERHEAD
}

/// Counts of what is in memory fit.
fn to_usize(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::{COPY_BELOW, Log, OutOfRange, SPARE_RING};
    use bytes::Bytes;
    use quickcheck::quickcheck;

    fn message(byte: u8, length: usize) -> Bytes {
        vec![byte; length].into()
    }

    fn replayed(log: &mut Log) -> Vec<(u8, usize)> {
        std::iter::from_fn(|| log.next_replay()).map(|message| (message[0], message.len())).collect()
    }

    #[test]
    fn what_is_not_acknowledged_goes_out_again_in_order() {
        let mut log = Log::new(1 << 20);
        for (byte, length) in [(1, 10), (2, COPY_BELOW), (3, 20), (4, COPY_BELOW - 1)] {
            log.push(&message(byte, length));
        }
        assert_eq!(log.next_replay(), None, "all of it was sent on this link");
        assert_eq!(log.acknowledge(1), Ok(()));
        assert_eq!(log.rewind(2), Ok(()));
        assert_eq!(replayed(&mut log), [(3, 20), (4, COPY_BELOW - 1)]);
        log.push(&message(5, 5));
        assert_eq!(log.rewind(2), Ok(()));
        assert_eq!(log.next_replay().map(|message| message[0]), Some(3));
        assert_eq!(log.replays(), 2);
        assert_eq!(log.rewind(3), Ok(()), "cut while replaying");
        assert_eq!(replayed(&mut log), [(4, COPY_BELOW - 1), (5, 5)]);
        assert_eq!(log.acknowledge(5), Ok(()));
        assert_eq!((log.charged(), log.ring.capacity()), (0, log.ring.capacity().min(SPARE_RING)));
    }

    #[test]
    fn counts_that_cannot_be_true_are_refused() {
        let mut log = Log::new(1 << 20);
        (0..4).for_each(|byte| log.push(&message(byte, 1)));
        assert_eq!(log.acknowledge(2), Ok(()));
        assert_eq!(log.acknowledge(1), Err(OutOfRange), "it had 2 before");
        assert_eq!(log.acknowledge(5), Err(OutOfRange), "4 were sent");
        assert_eq!(log.rewind(5), Err(OutOfRange));
        assert_eq!(log.rewind(1), Err(OutOfRange));
        assert_eq!(log.rewind(2), Ok(()));
        assert_eq!(log.acknowledge(3), Err(OutOfRange), "not sent on this link yet");
        assert_eq!(log.next_replay().map(|message| message[0]), Some(2));
        assert_eq!(log.acknowledge(3), Ok(()));
    }

    #[test]
    fn the_limit_grows_within_bounds_and_comes_back() {
        let mut log = Log::new(100);
        log.push(&message(1, 30));
        assert!(!log.is_full());
        log.push(&message(2, 30));
        assert!(log.is_full());
        assert_eq!(log.next_limit(350), Some(200));
        log.grow(200);
        assert!(!log.is_full());
        assert_eq!(log.next_limit(350), Some(350));
        assert_eq!(log.next_limit(200), None, "the most is reached");
        assert!(!log.shrink(), "it is in use");
        assert_eq!(log.acknowledge(2), Ok(()));
        assert!(log.shrink());
        assert_eq!(log.charged(), 0);
    }

    quickcheck! {
        fn a_log_is_a_list(lengths: Vec<u16>, steps: Vec<(u8, bool)>) -> bool {
            let mut log = Log::new(1 << 20);
            let mut list: Vec<Bytes> = Vec::new();
            let mut acknowledged = 0;
            let mut lengths = lengths.into_iter();
            for (number, (step, rewind)) in steps.into_iter().enumerate() {
                for length in lengths.by_ref().take(3) {
                    let message = message(number as u8, usize::from(length));
                    while log.next_replay().is_some() {}
                    log.push(&message);
                    list.push(message);
                }
                let received = acknowledged + usize::from(step) % (list.len() - acknowledged + 1);
                if rewind {
                    log.rewind(received as u64).unwrap();
                    let rest: Vec<_> = std::iter::from_fn(|| log.next_replay()).collect();
                    if rest != list[received..] {
                        return false;
                    }
                } else {
                    while log.next_replay().is_some() {}
                    log.acknowledge(received as u64).unwrap();
                }
                acknowledged = received;
            }
            log.entries.len() == list.len() - acknowledged
        }
    }
}
