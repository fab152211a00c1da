//! The direction link → socket of a channel: bytes that wait for the local socket.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::Sealed;
use crate::config::{COPY_BELOW, Limits};
use crate::wire::gzip::Inflate;

/// The most bytes of small payloads that are joined into one write.
const JOIN_LIMIT: usize = 64 * 1024;

/// So many gzip payloads are gone through in a row before others have a turn. Each may be one of nothing.
const MAX_IN_VAIN: usize = 64;

/// How the peer has ended its direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InboundEnd {
    /// Finish: our socket's other half goes on.
    Finish,
    /// Disconnect, or Finish after our own: the socket closes once everything is written.
    Close,
}

/// Why waiting bytes can't be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadPayload;

/// Bytes received from the link, in order, and the end behind them.
#[derive(Debug, Default)]
pub(crate) struct Inbound {
    waiting: VecDeque<Waiting>,
    /// Small payloads that came last, joined.
    tail: BytesMut,
    /// Memory of `waiting` and `tail`, without overhead.
    bytes: usize,
    /// Wire bytes that have ceased to wait since [`Inbound::take_released`].
    released: usize,
    /// What has been popped of gzip payloads since [`Inbound::take_inflated`].
    inflated: usize,
    /// The last steps of inflating had no result; see [`Inbound::take_tired`].
    tired: bool,
    /// Whole messages that wait for another leg of their way.
    held: Vec<Sealed>,
    pub(crate) end: Option<InboundEnd>,
}

#[derive(Debug)]
enum Waiting {
    Plain(Bytes),
    /// As it came; `Inflating` once it is first in the queue.
    Gzip(Bytes),
    /// The inflater, and what it is charged: the compressed length.
    Inflating(Box<Inflate>, usize),
}

impl Inbound {
    /// Adds payload bytes as they came.
    pub(crate) fn push(&mut self, payload: Bytes) {
        if payload.is_empty() {
            return;
        }
        self.bytes += payload.len();
        if self.is_empty_queue() || payload.len() >= COPY_BELOW {
            // Nothing waits: it may be written at once, without a copy. See `settle`.
            self.close_tail();
            self.waiting.push_back(Waiting::Plain(payload));
        } else {
            self.append(&payload);
        }
    }

    /// Adds a payload that stays compressed while it waits.
    pub(crate) fn push_gzip(&mut self, mut payload: Bytes) {
        self.bytes += payload.len();
        if payload.len() < COPY_BELOW {
            payload = Bytes::copy_from_slice(&payload);
        }
        self.close_tail();
        self.waiting.push_back(Waiting::Gzip(payload));
    }

    /// Keeps a whole message.
    pub(crate) fn hold(&mut self, message: Sealed) {
        self.bytes += message.message.len();
        self.held.push(message);
    }

    /// Takes the messages that were kept.
    pub(crate) fn take_held(&mut self) -> Vec<Sealed> {
        let held = std::mem::take(&mut self.held);
        self.bytes -= held.iter().map(|sealed| sealed.message.len()).sum::<usize>();
        held
    }

    /// Takes the next bytes to write. Of a gzip payload these are up to `step`, `None` for nothing yet.
    pub(crate) fn pop(&mut self, step: Option<usize>) -> Result<Option<Bytes>, BadPayload> {
        let mut in_vain = 0;
        loop {
            match self.waiting.pop_front() {
                None => {
                    let joined = self.tail.split().freeze();
                    self.release(joined.len());
                    return Ok((!joined.is_empty()).then_some(joined));
                }
                Some(Waiting::Plain(payload)) => {
                    self.release(payload.len());
                    return Ok(Some(payload));
                }
                Some(Waiting::Gzip(payload)) => {
                    let charge = payload.len();
                    let inflate = Box::new(Inflate::new(payload, Limits::MAX_MESSAGE));
                    self.waiting.push_front(Waiting::Inflating(inflate, charge));
                }
                Some(Waiting::Inflating(mut inflate, charge)) => {
                    let Some(step) = step else {
                        self.waiting.push_front(Waiting::Inflating(inflate, charge));
                        return Ok(None);
                    };
                    if let Some(chunk) = inflate.next_chunk(step).map_err(|_| BadPayload)? {
                        self.waiting.push_front(Waiting::Inflating(inflate, charge));
                        self.inflated += chunk.len();
                        self.tired = chunk.is_empty();
                        return Ok((!chunk.is_empty()).then_some(chunk));
                    }
                    self.release(charge);
                    in_vain += 1;
                    if in_vain == MAX_IN_VAIN && !self.is_empty_queue() {
                        self.tired = true;
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// To be called when everything that may be written has been popped: what is left has to wait,
    /// so that small slices are exchanged for copies.
    pub(crate) fn settle(&mut self) {
        if self.waiting.len() == 1
            && let Some(Waiting::Plain(payload)) = self.waiting.front()
            && payload.len() < COPY_BELOW
            && self.tail.is_empty()
        {
            self.tail.extend_from_slice(payload);
            self.waiting.clear();
        }
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty_queue(&self) -> bool {
        self.waiting.is_empty() && self.tail.is_empty() && self.held.is_empty()
    }

    /// What the waiting bytes are charged.
    pub(crate) fn charge(&self) -> usize {
        let pieces = self.waiting.len() + self.held.len() + usize::from(!self.tail.is_empty());
        self.bytes + pieces * Limits::MESSAGE_OVERHEAD
    }

    /// How many payload bytes, as on the wire, have been popped since the last call.
    pub(crate) fn take_released(&mut self) -> usize {
        std::mem::take(&mut self.released)
    }

    /// How many bytes of gzip payloads, inflated, have been popped since the last call.
    pub(crate) fn take_inflated(&mut self) -> usize {
        std::mem::take(&mut self.inflated)
    }

    /// Whether a step of inflating used up much and gave nothing since the last call: it is to be tried
    /// again after others have had a turn.
    pub(crate) fn take_tired(&mut self) -> bool {
        std::mem::take(&mut self.tired)
    }

    /// Drops what waits.
    pub(crate) fn clear(&mut self) {
        *self = Self { end: self.end, ..Self::default() };
    }

    fn release(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.released += bytes;
    }

    fn append(&mut self, payload: &[u8]) {
        if self.tail.len() + payload.len() > JOIN_LIMIT {
            self.close_tail();
        }
        self.tail.extend_from_slice(payload);
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            self.waiting.push_back(Waiting::Plain(self.tail.split().freeze()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Inbound;
    use crate::config::COPY_BELOW;
    use bytes::Bytes;

    #[test]
    fn a_payload_that_need_not_wait_is_not_copied() {
        let mut inbound = Inbound::default();
        let payload = Bytes::from(vec![7; 100]);
        let pointer = payload.as_ptr();
        inbound.push(payload);
        assert_eq!(inbound.pop(None).unwrap().unwrap().as_ptr(), pointer);
        assert_eq!(inbound.charge(), 0);
    }

    /// Whoever lets many of them pile up must not make everybody else wait while they are gone through.
    #[test]
    #[cfg(feature = "gzip")]
    fn payloads_of_nothing_are_gone_through_a_few_at_a_time() {
        let nothing = Bytes::from_static(b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0");
        let (mut inbound, mut turns) = (Inbound::default(), 0);
        for _ in 0..10_000 {
            inbound.push_gzip(nothing.clone());
        }
        while !inbound.is_empty_queue() {
            assert_eq!(inbound.pop(Some(100)), Ok(None));
            assert_eq!(inbound.take_tired(), !inbound.is_empty_queue());
            turns += 1;
        }
        assert!(turns > 10, "{turns}");
        assert_eq!((inbound.take_released(), inbound.charge()), (10_000 * nothing.len(), 0));
    }

    #[test]
    fn small_payloads_that_wait_pin_nothing_and_stay_in_order() {
        let mut inbound = Inbound::default();
        let memory = Bytes::from((0..=255).cycle().take(128 * 1024).collect::<Vec<u8>>());
        let large = memory.slice(..COPY_BELOW);
        let mut expected = Vec::new();
        for i in 0..50 {
            let payload = if i == 25 { large.clone() } else { memory.slice(i * 10..i * 10 + 10) };
            expected.extend_from_slice(&payload);
            inbound.push(payload);
            inbound.settle();
        }
        drop(large);
        assert_eq!(inbound.waiting.len(), 2, "joined before and one large; the tail behind");
        let mut got = Vec::new();
        while let Some(bytes) = inbound.pop(None).unwrap() {
            got.extend_from_slice(&bytes);
        }
        assert_eq!(got, expected);
        assert_eq!(inbound.charge(), 0);
    }
}
