//! SOCKS5 (RFC 1928, RFC 1929) as state machines and codecs.

mod address;

pub use address::{Host, Missing, SocksAddr, SocksAddrError, TargetAddr, TargetError};
