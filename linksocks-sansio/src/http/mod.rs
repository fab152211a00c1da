//! HTTP/1.1 (RFC 9110, RFC 9112) as far as proxies need it: as the client of one and as one; and
//! the HTTP API of a server, [`admin`]; and who is behind a reverse proxy, [`forwarded`]. The proxy that
//! applications talk to is inside the engines.

pub mod admin;
mod basic;
mod body;
mod connect_client;
pub mod forwarded;
mod head;
mod message;
mod proxy_server;
mod refusal;

pub(crate) use proxy_server::{Effect, ProxyServer};
pub(crate) use refusal::Refusal;

pub use connect_client::{ConnectError, ConnectHandshake, ConnectProgress, ConnectStatus};
