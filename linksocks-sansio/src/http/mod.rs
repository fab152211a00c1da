//! HTTP/1.1 (RFC 9110, RFC 9112) as far as proxies need it: as the client of one and as one.

mod basic;
mod connect_client;
mod head;

pub use connect_client::{ConnectError, ConnectHandshake, ConnectProgress, ConnectStatus};
