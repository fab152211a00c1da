//! A queue of bytes that keeps the pieces it was given.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Bytes in order, in as many pieces as they came; nothing is copied unless a caller asks for
/// bytes that lie in several pieces.
#[derive(Clone, Debug, Default)]
pub struct Rope {
    pieces: VecDeque<Bytes>,
    len: usize,
}

impl Rope {
    /// How many bytes wait.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether none waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends.
    pub fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.len += bytes.len();
            self.pieces.push_back(bytes);
        }
    }

    /// Takes `max` bytes from the front, or all if fewer wait.
    pub fn take_up_to(&mut self, max: usize) -> Bytes {
        self.take(max.min(self.len)).unwrap_or_default()
    }

    /// Takes up to `max` bytes from the front; fewer if a piece ends before.
    fn take_piece(&mut self, max: usize) -> Bytes {
        let Some(front) = self.pieces.front_mut() else { return Bytes::new() };
        let piece = front.split_to(max.min(front.len()));
        if front.is_empty() {
            self.pieces.pop_front();
        }
        self.len -= piece.len();
        piece
    }

    /// Takes exactly `length` bytes from the front, or nothing if fewer wait.
    pub fn take(&mut self, length: usize) -> Option<Bytes> {
        if length > self.len {
            return None;
        }
        let first = self.take_piece(length);
        if first.len() == length {
            return Some(first);
        }
        let mut joined = BytesMut::with_capacity(length);
        joined.extend_from_slice(&first);
        while joined.len() < length {
            joined.extend_from_slice(&self.take_piece(length - joined.len()));
        }
        Some(joined.freeze())
    }

    /// Reads the first `N` bytes and leaves them where they are.
    #[must_use]
    pub fn peek<const N: usize>(&self) -> Option<[u8; N]> {
        let mut bytes = self.pieces.iter().flatten();
        let mut peeked = [0; N];
        for slot in &mut peeked {
            *slot = *bytes.next()?;
        }
        Some(peeked)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::Rope;

    #[test]
    fn bytes_come_out_as_they_went_in_however_they_are_cut() {
        let mut rope = Rope::default();
        for piece in [&b"abc"[..], b"", b"de", b"fghi"] {
            rope.push(Bytes::from_static(piece));
        }
        assert_eq!(rope.len(), 9);
        assert_eq!(rope.peek::<4>(), Some(*b"abcd"));
        assert_eq!(rope.take(2).unwrap(), "ab");
        assert_eq!(rope.take_up_to(6), "cdefgh");
        assert_eq!(rope.take(2), None);
        assert_eq!(rope.peek::<2>(), None);
        assert_eq!(rope.take_up_to(9), "i");
        assert!(rope.is_empty());
    }
}
