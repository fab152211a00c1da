//! Bytes that may still be joined by more before they become one message.

use std::time::Instant;

use bytes::BytesMut;

use crate::config::BatchingMode;
use crate::wire::DATA_HEADER_LEN;

/// Where only time counts, larger messages gain nothing by being joined: copying them costs more
/// than a message of its own does.
const JOIN_BELOW: usize = 32 * 1024;

/// The memory of a batch at its first join, at least.
const MIN_CAPACITY: usize = 4 * 1024;

/// What a channel's batches obey.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchRules {
    pub(crate) mode: BatchingMode,
    /// The largest batch.
    pub(crate) limit: usize,
    /// What is this large can be compressed.
    pub(crate) compressible: usize,
}

impl BatchRules {
    /// From this size on a batch waits for nothing.
    pub(crate) fn full(&self) -> usize {
        match self.mode {
            BatchingMode::Literal => self.limit,
            BatchingMode::Off | BatchingMode::Adaptive => self.limit.min(JOIN_BELOW).min(self.compressible),
        }
    }
}

/// An open batch.
#[derive(Debug)]
pub(super) struct Batch {
    /// Headroom for the header, then the bytes.
    pub(super) memory: BytesMut,
    /// From then on nothing joins any more. `None`: only its size ends it.
    pub(super) closes: Option<Instant>,
    /// Whether it must not be sent before it is complete.
    pub(super) held: bool,
}

impl Batch {
    /// How many bytes of the stream it has.
    pub(super) fn carried(&self) -> usize {
        self.memory.len() - DATA_HEADER_LEN
    }

    /// Whether a read of `length` bytes may join.
    pub(super) fn takes(&self, length: usize, now: Instant, rules: &BatchRules) -> bool {
        let worth_it = rules.mode == BatchingMode::Literal || length < JOIN_BELOW;
        let is_open = self.closes.is_none_or(|closes| now < closes);
        is_open && self.carried() + length <= rules.limit && worth_it
    }

    /// Appends `payload`. Returns how many bytes were copied.
    pub(super) fn join(&mut self, payload: &[u8], rules: &BatchRules) -> usize {
        let length = self.memory.len() + payload.len();
        let mut copied = payload.len();
        if self.memory.capacity() < length {
            let limit = DATA_HEADER_LEN + rules.limit;
            let mut memory = BytesMut::with_capacity((length * 2).max(MIN_CAPACITY).min(limit.max(length)));
            memory.extend_from_slice(&self.memory);
            copied += self.carried();
            self.memory = memory;
        }
        self.memory.extend_from_slice(payload);
        copied
    }
}
