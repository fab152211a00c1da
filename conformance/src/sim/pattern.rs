//! What applications send: bytes that know their place.

use bytes::{Bytes, BytesMut};

/// An endless byte stream in which every position has its own value, so that a receiver sees at
/// once when a byte is lost, doubled, moved, or belongs to another stream. One stream in three has
/// only four different bytes: a receiver needs a few bytes more to see that, but it can be compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pattern {
    key: u64,
}

impl Pattern {
    /// Stream number `key`; streams with different numbers have nothing in common.
    #[must_use]
    pub const fn new(key: u64) -> Self {
        Self { key }
    }

    /// The `length` bytes that begin at `position`.
    #[must_use]
    pub fn bytes(self, position: u64, length: usize) -> Bytes {
        let mut bytes = BytesMut::with_capacity(length + 15);
        let skip = (position % 8) as usize;
        for word in position / 8..(position + length as u64).div_ceil(8) {
            bytes.extend_from_slice(&self.word(word));
        }
        bytes.freeze().slice(skip..skip + length)
    }

    const fn is_dull(self) -> bool {
        self.key.is_multiple_of(3)
    }

    /// The first place at which `bytes`, received at `position`, differs from the stream.
    #[must_use]
    pub fn mismatch(self, position: u64, bytes: &[u8]) -> Option<u64> {
        let expected = self.bytes(position, bytes.len());
        if expected == bytes {
            return None;
        }
        expected.iter().zip(bytes).position(|(a, b)| a != b).map(|offset| position + offset as u64)
    }

    /// Eight bytes of the stream (the finaliser of SplitMix64 over key and index).
    fn word(self, index: u64) -> [u8; 8] {
        let mut word = self.key.wrapping_mul(0xD134_2543_DE82_EF95).wrapping_add(index);
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let bytes = (word ^ (word >> 31)).to_le_bytes();
        if self.is_dull() { bytes.map(|byte| b'a' + byte % 4) } else { bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn any_cut_of_the_stream_gives_the_same_bytes() {
        let stream = Pattern::new(3);
        let whole = stream.bytes(0, 100);
        for position in 0..100 {
            assert_eq!(stream.bytes(position as u64, 100 - position), whole[position..]);
        }
        assert_eq!(stream.mismatch(0, &whole), None);
    }

    #[test]
    fn a_lost_byte_and_a_foreign_byte_are_seen_where_they_are() {
        let stream = Pattern::new(3);
        let mut bytes = stream.bytes(40, 60).to_vec();
        bytes[20] ^= 1;
        assert_eq!(stream.mismatch(40, &bytes), Some(60));
        assert!(stream.mismatch(40, &stream.bytes(41, 60)).is_some());
        assert!(stream.mismatch(40, &Pattern::new(4).bytes(40, 60)).is_some());
    }
}
