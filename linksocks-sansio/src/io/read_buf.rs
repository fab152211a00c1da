//! Memory for what is read from a socket.

use std::fmt;

use bytes::BytesMut;

use crate::wire::DATA_HEADER_LEN;

/// Bytes read from a socket, for [`Input::SocketRead`](super::Input::SocketRead), in memory whose first
/// [`ReadBuf::HEADROOM`] bytes are left free, so that the header of the message can be filled in without
/// moving the payload.
///
/// ```
/// use linksocks_sansio::ReadBuf;
/// let mut memory = ReadBuf::headroom(4096);
/// memory.extend_from_slice(b"hello"); // a driver reads from its socket here
/// let buf = ReadBuf::new(memory);
/// assert_eq!(buf.payload(), b"hello");
/// ```
#[derive(Clone)]
pub struct ReadBuf {
    memory: BytesMut,
}

impl ReadBuf {
    /// The length of the header of a TCP Data message.
    pub const HEADROOM: usize = DATA_HEADER_LEN;

    /// New memory that holds the headroom and has space for `capacity` bytes behind it: for the next read,
    /// once the socket is readable, so that an idle one holds none.
    #[must_use]
    pub fn headroom(capacity: usize) -> BytesMut {
        let mut memory = BytesMut::with_capacity(Self::HEADROOM + capacity);
        memory.resize(Self::HEADROOM, 0);
        memory
    }

    /// Wraps memory that begins with [`Self::HEADROOM`] free bytes.
    ///
    /// # Panics
    /// If `memory` is shorter than the headroom: a bug of the driver.
    #[must_use]
    pub fn new(memory: BytesMut) -> Self {
        assert!(memory.len() >= Self::HEADROOM, "a ReadBuf begins with its headroom");
        Self { memory }
    }

    /// A copy of `payload` with headroom. For tests and simulations.
    #[must_use]
    pub fn copy_from(payload: &[u8]) -> Self {
        let mut memory = Self::headroom(payload.len());
        memory.extend_from_slice(payload);
        Self { memory }
    }

    /// The bytes that were read.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.memory[Self::HEADROOM..]
    }

    /// How many bytes were read.
    #[must_use]
    pub fn len(&self) -> usize {
        self.memory.len() - Self::HEADROOM
    }

    /// Whether nothing was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The memory, headroom first.
    pub(crate) fn into_memory(self) -> BytesMut {
        self.memory
    }
}

impl fmt::Debug for ReadBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReadBuf({} bytes)", self.len())
    }
}
