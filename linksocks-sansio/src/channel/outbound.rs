//! The direction socket → link of a channel: messages that wait for the link.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::io::ReadCredit;
use crate::wire::DATA_HEADER_LEN;

/// The least that may be on its way from a socket to a link.
const MIN_READ_WINDOW: usize = 64 * 1024;

/// A message below this length is copied when it must wait.
const COPY_BELOW: usize = 4 * 1024;

/// A message to send after the last Data of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OutboundEnd {
    /// Our direction has ended; the other may go on.
    Finish,
    /// The channel has ended, regularly or with a reason.
    Disconnect(Option<String>),
}

/// What comes next from a channel.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Data(Bytes),
    End(OutboundEnd),
}

/// Sealed Data messages of a channel, and the end behind them.
#[derive(Debug)]
pub(crate) struct Outbound {
    queue: VecDeque<Bytes>,
    bytes: usize,
    end: Option<OutboundEnd>,
    /// What the peer lets us send in whole messages; `None` without the window extension.
    credit: Option<u64>,
    /// Deficit round robin: what may be sent in this round.
    pub(crate) deficit: isize,
    /// Whether the link's scheduler knows of us.
    pub(crate) scheduled: bool,
}

impl Outbound {
    pub(crate) fn new(window: Option<u32>) -> Self {
        Self {
            queue: VecDeque::new(),
            bytes: 0,
            end: None,
            credit: window.map(u64::from),
            deficit: 0,
            scheduled: false,
        }
    }

    pub(crate) fn push(&mut self, mut message: Bytes) {
        if !self.queue.is_empty() && message.len() < COPY_BELOW {
            // While it waits it would pin the whole buffer that the socket was read into.
            message = Bytes::copy_from_slice(&message);
        }
        self.bytes += message.len();
        self.queue.push_back(message);
    }

    /// Makes room by dropping the message that has waited longest. Only datagrams may be lost.
    pub(crate) fn drop_oldest(&mut self) {
        if let Some(message) = self.queue.pop_front() {
            self.bytes -= message.len();
        }
    }

    /// How many messages wait.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// How many bytes wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Puts an end behind the last message; a later end replaces an earlier one.
    pub(crate) fn finish_with(&mut self, end: OutboundEnd) {
        self.end = Some(end);
    }

    /// Whether no Data waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether something may be sent now.
    pub(crate) fn is_sendable(&self) -> bool {
        match self.queue.front() {
            Some(message) => self.credit.is_none_or(|credit| credit >= message.len() as u64),
            None => self.end.is_some(),
        }
    }

    /// Takes what comes next, if it may be sent.
    pub(crate) fn pop(&mut self) -> Option<Next> {
        if !self.is_sendable() {
            return None;
        }
        let Some(message) = self.queue.pop_front() else { return self.end.take().map(Next::End) };
        self.bytes -= message.len();
        if let Some(credit) = &mut self.credit {
            *credit -= message.len() as u64;
        }
        Some(Next::Data(message))
    }

    /// The peer lets us send more. Nothing without the window extension.
    pub(crate) fn add_credit(&mut self, bytes: u32) {
        if let Some(credit) = &mut self.credit {
            *credit = credit.saturating_add(u64::from(bytes));
        }
    }

    /// Drops what waits, and returns how many bytes that were.
    pub(crate) fn clear(&mut self) -> usize {
        self.queue.clear();
        self.end = None;
        std::mem::take(&mut self.bytes)
    }
}

/// Decides how much may be read from a socket: enough to keep the link busy, no more than a
/// window's worth that has not left for the link yet.
#[derive(Debug)]
pub(crate) struct ReadPacer {
    /// The size of one read: doubles while reads fill it, halves while they don't.
    chunk: usize,
    smallest: usize,
    small_reads: u8,
    /// Granted and not yet gone to the link.
    outstanding: usize,
}

impl ReadPacer {
    /// Reads this often below a quarter of the chunk shrink it.
    const SHRINK_AFTER: u8 = 8;

    pub(crate) fn new(smallest: usize) -> Self {
        Self { chunk: smallest, smallest, small_reads: 0, outstanding: 0 }
    }

    /// A first grant of exactly `bytes`, for a handshake.
    pub(crate) fn grant_exactly(&mut self, bytes: usize) -> ReadCredit {
        self.outstanding += bytes;
        ReadCredit { bytes, chunk: bytes }
    }

    /// Learns from a read of `length` bytes.
    pub(crate) fn on_read(&mut self, length: usize) {
        if length >= self.chunk {
            self.chunk = self.chunk.saturating_mul(2);
            self.small_reads = 0;
        } else if length < self.chunk / 4 {
            self.small_reads += 1;
            if self.small_reads >= Self::SHRINK_AFTER {
                self.small_reads = 0;
                self.chunk = (self.chunk / 2).max(self.smallest);
            }
        } else {
            self.small_reads = 0;
        }
    }

    /// `bytes` have left for the link (or were dropped).
    pub(crate) fn on_released(&mut self, bytes: usize) {
        self.outstanding = self.outstanding.saturating_sub(bytes);
    }

    /// Grants more once half of the window is used. `longest` is the longest message allowed.
    pub(crate) fn top_up(&mut self, longest: usize) -> Option<ReadCredit> {
        self.chunk = self.chunk.min(longest.saturating_sub(DATA_HEADER_LEN)).max(1);
        let window = (self.chunk * 2).max(MIN_READ_WINDOW);
        if self.outstanding > window / 2 {
            return None;
        }
        let bytes = window - self.outstanding;
        self.outstanding = window;
        Some(ReadCredit { bytes, chunk: self.chunk })
    }
}

#[cfg(test)]
mod tests {
    use super::{Next, Outbound, OutboundEnd, ReadPacer};
    use bytes::Bytes;

    #[test]
    fn the_end_comes_after_the_last_message_and_credit_is_respected() {
        let mut outbound = Outbound::new(Some(10));
        outbound.push(Bytes::from_static(b"12345678"));
        outbound.push(Bytes::from_static(b"123"));
        outbound.finish_with(OutboundEnd::Finish);
        assert!(matches!(outbound.pop(), Some(Next::Data(_))));
        assert_eq!(outbound.pop(), None, "2 of 10 left");
        outbound.add_credit(1);
        assert!(matches!(outbound.pop(), Some(Next::Data(_))));
        assert_eq!(outbound.pop(), Some(Next::End(OutboundEnd::Finish)));
        assert_eq!(outbound.pop(), None);
        assert_eq!(outbound.clear(), 0);
    }

    #[test]
    fn reads_grow_while_they_fill_and_shrink_when_they_do_not() {
        let mut pacer = ReadPacer::new(16 << 10);
        let credit = pacer.top_up(1 << 20).unwrap();
        assert_eq!((credit.bytes, credit.chunk), (64 << 10, 16 << 10));
        for _ in 0..10 {
            let chunk = pacer.chunk;
            pacer.on_read(chunk);
        }
        pacer.on_released(64 << 10);
        let credit = pacer.top_up(256 << 10).unwrap();
        assert_eq!(credit.chunk, (256 << 10) - 24);
        assert_eq!(pacer.top_up(256 << 10), None, "nothing has left yet");
        for _ in 0..200 {
            pacer.on_read(10);
        }
        assert_eq!(pacer.chunk, 16 << 10);
    }
}
