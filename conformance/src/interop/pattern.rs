//! Endless byte streams that are cheap to make and to check: slices of one precomputed block, compared in bulk.
//!
//! Each stream starts at a place of its own in the block, so that bytes of another stream, lost bytes and repeated bytes
//! all show.

use std::sync::OnceLock;

/// The block repeats after this many bytes: a prime, so that no buffer or message size is a multiple of it, and small
/// enough that the whole table stays in a CPU cache.
const PERIOD: usize = 65_521;
/// The most bytes one slice can have.
pub const MAX_SLICE: usize = 256 * 1024;

/// A position in the stream of one key; a sender and a checker each have their own.
#[derive(Debug, Clone)]
pub struct Pattern {
    start: u64,
    offset: u64,
}

/// The received bytes are not those that were sent.
#[derive(Debug, thiserror::Error)]
#[error("wrong bytes within the {length} bytes from offset {offset} of the stream")]
pub struct Mismatch {
    /// Bytes of the stream before this piece, all of them right.
    pub offset: u64,
    /// Size of the piece.
    pub length: usize,
}

impl Pattern {
    /// The beginning of stream `key`.
    #[must_use]
    pub fn new(key: u64) -> Self {
        Self { start: key.wrapping_mul(7919) % PERIOD as u64, offset: 0 }
    }

    /// Bytes sent or checked so far.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next bytes to send: `length`, but at most [`MAX_SLICE`]. The position moves only with [`Self::advance`],
    /// because a write may take fewer.
    #[must_use]
    pub fn peek(&self, length: usize) -> &'static [u8] {
        let at = ((self.start + self.offset) % PERIOD as u64) as usize;
        &table()[at..at + length.min(MAX_SLICE)]
    }

    /// Moves on by `length` bytes.
    pub fn advance(&mut self, length: usize) {
        self.offset += length as u64;
    }

    /// Checks that `data` comes next, and moves behind it.
    ///
    /// # Errors
    /// [`Mismatch`] when any byte differs.
    pub fn check(&mut self, data: &[u8]) -> Result<(), Mismatch> {
        for piece in data.chunks(MAX_SLICE) {
            if self.peek(piece.len()) != piece {
                return Err(Mismatch { offset: self.offset, length: piece.len() });
            }
            self.advance(piece.len());
        }
        Ok(())
    }
}

/// The block, continued by [`MAX_SLICE`] bytes so that a slice can start anywhere in it.
fn table() -> &'static [u8] {
    static TABLE: OnceLock<Vec<u8>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let block = random_bytes(1, PERIOD);
        block.iter().copied().cycle().take(PERIOD + MAX_SLICE).collect()
    })
}

/// `length` bytes that look random and depend only on `seed` (SplitMix64).
#[must_use]
pub fn random_bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bytes.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_repeated_and_foreign_bytes_show() {
        let stream = || Pattern::new(3);
        let sent = stream().peek(20_000).to_vec();
        assert!(stream().check(&sent).is_ok());
        assert!(stream().check(&sent[4096..]).is_err(), "lost bytes");
        assert!(stream().check(&[&sent[..100], &sent[..100]].concat()).is_err(), "repeated bytes");
        assert!(Pattern::new(4).check(&sent).is_err(), "bytes of another stream");
    }

    #[test]
    fn a_stream_continues_over_the_end_of_the_block() {
        let (mut sender, mut checker) = (Pattern::new(7), Pattern::new(7));
        for length in [MAX_SLICE, 1, 65_520, MAX_SLICE, 3] {
            let piece = sender.peek(length);
            assert_eq!(piece.len(), length);
            sender.advance(length);
            checker.check(piece).expect("what was sent arrives");
        }
        assert_eq!(checker.offset(), sender.offset());
    }
}
