//! Messages that go before all Data of a link.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::config::Limits;

/// Above this a peer that makes us answer, but takes no answers, is not listened to.
const CONGESTED: usize = 1024 * 1024;

/// A peer is listened to in spite of that while it owes us acknowledgements. This is far more than
/// what it can make us answer before it has sent them.
const OVERRUN: usize = 16 * CONGESTED;

/// What both sides may have to say at most, even if all channels of a link end at once.
const MAX_BYTES: usize = 64 * CONGESTED;

/// Control messages in order. A peer whose requests fill it has to read on before it is heard again.
#[derive(Debug, Default)]
pub(crate) struct Control {
    /// Messages, and whether they are answers.
    queue: VecDeque<(Bytes, bool)>,
    /// Of all messages.
    bytes: usize,
    /// Of the answers, with what they take beyond their bytes. The rest does not count for
    /// [`Self::is_congested`]: two peers that are busy with requests of their own must not stop listening to
    /// each other.
    answers: usize,
    /// The number of partners; nobody needs to know what it was before.
    partners: Option<Bytes>,
}

impl Control {
    pub(crate) fn push(&mut self, message: Bytes) {
        self.bytes += message.len();
        self.queue.push_back((message, false));
    }

    pub(crate) fn push_answer(&mut self, message: Bytes) {
        self.bytes += message.len();
        self.answers += cost(&message);
        self.queue.push_back((message, true));
    }

    /// Tells the number of partners once everything else is said, in place of the one that waits.
    pub(crate) fn set_partners(&mut self, message: Bytes) {
        self.partners = Some(message);
    }

    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        let Some((message, answer)) = self.queue.pop_front() else { return self.partners.take() };
        self.bytes -= message.len();
        if answer {
            self.answers -= cost(&message);
        }
        Some(message)
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.partners.is_none()
    }

    /// Whether too much waits to read on.
    pub(crate) fn is_congested(&self) -> bool {
        self.answers > CONGESTED
    }

    /// Whether more waits than any honest peer can cause.
    pub(crate) fn is_overrun(&self) -> bool {
        self.answers > OVERRUN || self.bytes > MAX_BYTES
    }

    /// Whether too much waits to ask the peer for more.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes > CONGESTED
    }
}

/// What a message is charged that the peer has caused.
fn cost(message: &Bytes) -> usize {
    message.len() + Limits::MESSAGE_OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::Control;
    use bytes::Bytes;

    #[test]
    fn no_queue_grows_for_ever() {
        let message = Bytes::from_static(&[0; 20]);
        for answers in [true, false] {
            let mut control = Control::default();
            let mut count = 0;
            while !control.is_overrun() {
                if answers {
                    control.push_answer(message.clone());
                } else {
                    control.push(message.clone());
                }
                count += 1;
                assert!(count < 10_000_000, "{answers}");
            }
            while control.pop().is_some() {}
            assert!(!control.is_overrun() && !control.is_full() && !control.is_congested());
        }
    }

    /// Small messages take more memory than they have bytes.
    #[test]
    fn answers_are_charged_with_what_they_take() {
        let mut control = Control::default();
        let mut count = 0;
        while !control.is_congested() {
            control.push_answer(Bytes::from_static(&[0; 19]));
            count += 1;
        }
        assert!(count < 15_000, "{count}");
    }
}
