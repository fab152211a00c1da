//! LinkSocks messages: from bytes to values and back.
//!
//! One binary WebSocket message carries one LinkSocks message. Byte 0 is the [`Version`], byte 1
//! the type ([`kind`]), the rest is the body. Integers are big-endian, ids are 16 raw bytes.
//!
//! | type | message | body |
//! |---|---|---|
//! | 0x01 | [`Auth`] | token:str8 reverse:u8 instance:id |
//! | 0x02 | [`AuthResponse`] | success:u8, then `[error:str8]` or `[token:str8]` |
//! | 0x03 | [`Connect`] | proto:u8 channel:id, if TCP: address:str8 port:u16; then `[resume:u8]` |
//! | 0x04 | [`Data`] | proto:u8 channel:id compression:u8 payload:bytes32, if UDP: source:str8 port:u16 target:str8 port:u16; then `[sequence:u64]` |
//! | 0x05 | [`ConnectResponse`] | success:u8 channel:id, if it failed: `[error:str8]` |
//! | 0x06 | [`Disconnect`] | channel:id `[error:str8]` |
//! | 0x07 | [`Connector`] | request:id token:str8 operation:u8 |
//! | 0x08 | [`ConnectorResponse`] | request:id success:u8, then `[error:str8]` or `[token:str8]` |
//! | 0x09 | [`Log`] | json32 |
//! | 0x0A | [`Partners`] | json32 |
//! | 0x0B–0x11 | [`Direct`] | json32 |
//! | 0xE0 | [`Hello`] | count:u8, then count × (kind:u8 value:bytes16) |
//! | 0xE1 | [`Window`] | channel:id bytes:u32 |
//! | 0xE2 | [`Finish`] | channel:id |
//! | 0xE3 | [`Ack`] | received:u64 |
//!
//! `str8` is a length in one byte and that many bytes of UTF-8, `bytes16` and `bytes32` have a
//! length in two or four bytes, `json32` is a `bytes32` of JSON text. What stands in brackets may
//! be missing. Bytes behind the body are ignored, and so is a message of any other type: that is
//! how the protocol grows.
//!
//! For programs without an engine, such as tests of other peers; a driver needs none of it, since
//! engines take and give whole messages.
//!
//! ```
//! use linksocks_sansio::ChannelId;
//! use linksocks_sansio::wire::{Connect, ConnectRequest, Disconnect, Message, decode};
//!
//! let channel = ChannelId([0xAB; 16]);
//! let request = ConnectRequest::Tcp { address: "example.com".into(), port: 80 };
//! let connect = Message::Connect(Connect { channel, request, resume: false });
//! let bytes = connect.encode()?;
//! assert_eq!(bytes[..3], [0x01, 0x03, 1]); // version, Connect, TCP
//! assert_eq!(bytes[3..19], channel.0);
//! assert_eq!(bytes[19..], b"\x0bexample.com\x00\x50"[..]);
//! assert_eq!(decode(bytes)?.message, connect);
//!
//! // The messages that always fit have an `encode` of their own.
//! let bytes = Disconnect { channel, error: None }.encode();
//! let frame = decode(bytes)?;
//! assert_eq!(frame.version.to_string(), "0x01");
//! assert_eq!(frame.message, Message::Disconnect(Disconnect { channel, error: None }));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Memory
//!
//! [`decode`] copies no payload: the payload of a [`Data`] is a slice of the message. Every length
//! field is checked against the bytes that are left before anything is allocated. [`seal_tcp`]
//! writes the header of a TCP Data message into the headroom of the memory that the payload was
//! read into.

mod data;
mod decode;
mod direct;
mod encode;
mod extension;
#[cfg(feature = "gzip")]
pub mod gzip;
#[cfg(not(feature = "gzip"))]
#[path = "no_gzip.rs"]
pub(crate) mod gzip;
pub mod message;
mod reader;
#[cfg(test)]
mod tests;
mod version;

pub(crate) use data::readdress;
pub use data::{seal_tcp, seal_tcp_gzip};
pub use decode::{DecodeError, Frame, decode};
pub(crate) use direct::{migrate_ack, migrated_channel};
pub use encode::EncodeError;
pub(crate) use encode::cut_text;
pub use message::*;
pub use version::Version;

/// The version byte that we send: the only one that every known peer accepts.
pub const VERSION: Version = Version(0x01);

/// Bytes of a message before its body: version and type.
const HEADER_LEN: usize = 2;

/// Bytes of a TCP Data message before the payload: version, type, protocol, channel, compression,
/// length.
pub const DATA_HEADER_LEN: usize = 24;

/// The longest message that peers accept, and the most bytes that a gzip payload may inflate to:
/// 32 MiB.
pub const MAX_MESSAGE: usize = 32 << 20;

/// Whether a message is one of an extension: without it, it means nothing.
pub(crate) fn is_extension(message: &[u8]) -> bool {
    matches!(message, [version, kind, ..] if *kind >= kind::HELLO && Version(*version).is_compatible())
}

/// Whether a message counts in a session: Hello and Ack are about the counting itself.
pub(crate) fn is_counted(message: &[u8]) -> bool {
    !matches!(message, [_, kind::HELLO | kind::ACK, ..])
}

/// The longest `str8` in bytes.
const MAX_STR8: usize = u8::MAX as usize;

/// The type bytes: byte 1 of a message.
pub mod kind {
    /// [`Auth`](super::Auth).
    pub const AUTH: u8 = 0x01;
    /// [`AuthResponse`](super::AuthResponse).
    pub const AUTH_RESPONSE: u8 = 0x02;
    /// [`Connect`](super::Connect).
    pub const CONNECT: u8 = 0x03;
    /// [`Data`](super::Data).
    pub const DATA: u8 = 0x04;
    /// [`ConnectResponse`](super::ConnectResponse).
    pub const CONNECT_RESPONSE: u8 = 0x05;
    /// [`Disconnect`](super::Disconnect).
    pub const DISCONNECT: u8 = 0x06;
    /// [`Connector`](super::Connector).
    pub const CONNECTOR: u8 = 0x07;
    /// [`ConnectorResponse`](super::ConnectorResponse).
    pub const CONNECTOR_RESPONSE: u8 = 0x08;
    /// [`Log`](super::Log).
    pub const LOG: u8 = 0x09;
    /// [`Partners`](super::Partners).
    pub const PARTNERS: u8 = 0x0A;
    /// [`Direct`](super::Direct): candidates of a peer.
    pub const DIRECT_CAPABILITIES: u8 = 0x0B;
    /// [`Direct`](super::Direct): the answer to them.
    pub const DIRECT_RENDEZVOUS: u8 = 0x0C;
    /// [`Direct`](super::Direct): how far the direct path is.
    pub const DIRECT_STATUS: u8 = 0x0D;
    /// [`Direct`](super::Direct): a channel was opened on the direct path.
    pub const CHANNEL_BIND: u8 = 0x0E;
    /// [`Direct`](super::Direct): a channel returns to the relay.
    pub const CHANNEL_MIGRATE: u8 = 0x0F;
    /// [`Direct`](super::Direct): the answer to that.
    pub const CHANNEL_MIGRATE_ACK: u8 = 0x10;
    /// [`Direct`](super::Direct): sequenced data has arrived.
    pub const CHANNEL_DATA_ACK: u8 = 0x11;
    /// [`Hello`](super::Hello).
    pub const HELLO: u8 = 0xE0;
    /// [`Window`](super::Window).
    pub const WINDOW: u8 = 0xE1;
    /// [`Finish`](super::Finish).
    pub const FINISH: u8 = 0xE2;
    /// [`Ack`](super::Ack).
    pub const ACK: u8 = 0xE3;
}
