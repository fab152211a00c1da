//! SOCKS5 (RFC 1928, RFC 1929) as state machines and codecs. They work without an engine, too.
//!
//! | for | there is |
//! |---|---|
//! | a server | [`Handshake`], which ends in a [`Request`], to be answered with a [`Reply`] |
//! | a client | [`ClientHandshake`] |
//! | datagrams of either | [`Datagram`] |
//! | addresses | [`TargetAddr`] and [`Host`], checked; [`SocksAddr`] as it stands on the wire |
//!
//! CONNECT and UDP ASSOCIATE are known, BIND is refused; of the methods of authentication, none and user
//! name with password.

mod address;
mod client;
mod datagram;
mod reply;
mod server;

pub use address::{Host, Missing, SocksAddr, SocksAddrError, TargetAddr, TargetError};
pub use client::{ClientError, ClientHandshake, ClientProgress, ClientStatus};
pub use datagram::{Datagram, DatagramError};
pub use reply::Reply;
pub use server::{Handshake, HandshakeError, Progress, Request, Status};

/// The version of the protocol, first byte of greeting, request and reply.
const VERSION: u8 = 5;

/// Methods of authentication (RFC 1928 section 3).
const NO_AUTHENTICATION: u8 = 0x00;
const USERNAME_PASSWORD: u8 = 0x02;
const NO_ACCEPTABLE_METHOD: u8 = 0xFF;

/// The version and the verdicts of the user name/password negotiation (RFC 1929 section 2).
const LOGIN_VERSION: u8 = 1;
const LOGIN_SUCCESS: u8 = 0;
const LOGIN_FAILURE: u8 = 1;

/// Commands (RFC 1928 section 4). BIND is not offered, so it needs no name.
const CONNECT: u8 = 1;
const UDP_ASSOCIATE: u8 = 3;
