//! Bytes of LinkSocks messages: decoding without copies, encoding, versions, gzip.

pub mod message;

pub use message::*;

/// Bytes of a TCP Data message before the payload: version, type, protocol, channel, compression,
/// length.
pub const DATA_HEADER_LEN: usize = 24;
