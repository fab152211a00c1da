//! SOCKS5 (RFC 1928, RFC 1929) as state machines and codecs.

mod address;
mod datagram;
mod reply;
mod server;

pub use address::{Host, Missing, SocksAddr, SocksAddrError, TargetAddr, TargetError};
pub use datagram::{Datagram, DatagramError};
pub use reply::Reply;
pub use server::{Handshake, HandshakeError, Progress, Request, Status};

/// The version of the protocol, first byte of greeting, request and reply.
const VERSION: u8 = 5;
