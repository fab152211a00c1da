//! Messages that go before all Data of a link.

use std::collections::VecDeque;

use bytes::Bytes;

/// Above this a peer that makes us answer, but takes no answers, is not listened to.
const CONGESTED: usize = 1024 * 1024;

/// A peer is listened to in spite of that while it owes us acknowledgements. This is far more than
/// what it can make us answer before it has sent them.
const OVERRUN: usize = 16 * CONGESTED;

/// Control messages in order. A peer whose requests fill it has to read on before it is heard again.
#[derive(Debug, Default)]
pub(crate) struct Control {
    /// Messages, and whether they are answers.
    queue: VecDeque<(Bytes, bool)>,
    /// Of all messages.
    bytes: usize,
    /// Of the answers. The rest does not count for [`Self::is_congested`]: two peers that are busy with
    /// requests of their own must not stop listening to each other.
    answers: usize,
}

impl Control {
    pub(crate) fn push(&mut self, message: Bytes) {
        self.bytes += message.len();
        self.queue.push_back((message, false));
    }

    pub(crate) fn push_answer(&mut self, message: Bytes) {
        self.bytes += message.len();
        self.answers += message.len();
        self.queue.push_back((message, true));
    }

    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        let (message, answer) = self.queue.pop_front()?;
        self.bytes -= message.len();
        if answer {
            self.answers -= message.len();
        }
        Some(message)
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether too much waits to read on.
    pub(crate) fn is_congested(&self) -> bool {
        self.answers > CONGESTED
    }

    /// Whether more waits than any honest peer can cause.
    pub(crate) fn is_overrun(&self) -> bool {
        self.answers > OVERRUN
    }

    /// Whether too much waits to ask the peer for more.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes > CONGESTED
    }
}
