//! LinkSocks (SOCKS5 over WebSocket) as pure state machines.
//!
//! This crate knows everything about LinkSocks and nothing about sockets: no IO, no clock, no
//! threads, no async, no environment, no hidden randomness, no unsafe code. A *driver* owns the
//! sockets, feeds [`Input`]s with their time, and carries out [`Output`]s.
//!
//! It is not a client library for an async runtime (see the `driver-*` crates), not a SOCKS
//! library, and not a WebSocket implementation: messages come in and go out whole.
//!
//! # What goes in
//!
//! Four things, and nothing else, decide what an engine does. If they are equal, its outputs are, byte
//! for byte:
//!
//! | | what | from where |
//! |---|---|---|
//! | configuration | [`ClientConfig`] or [`ServerConfig`] | the user; every default is documented |
//! | seed | 32 bytes, for ids and secrets | the operating system's generator, anew for every engine; constants are for tests |
//! | time | an [`Instant`](std::time::Instant) with every input | one monotonic clock; a simulation invents it |
//! | inputs | [`Input`] | sockets, the resolver, the embedder ([`Command`]) |
//!
//! # The run loop
//!
//! The contract is the module [`io`], with a client and a server that talk to each other; in short: after
//! any inputs, drain the outputs until [`Output::Timeout`], then wait for that instant or the next input.
//!
//! ```
//! use std::time::Instant;
//! use linksocks_sansio::{
//!     Action, ClientConfig, ClientEngine, Engine, Input, Output, ServerUrl, Token,
//! };
//!
//! let server = ServerUrl::parse("ws://192.0.2.1:8765")?;
//! let config = ClientConfig::new(server, Token::new("secret")?);
//! let start = Instant::now();
//! let mut engine = ClientEngine::new(config, [7; 32], start);
//!
//! let mut actions = Vec::new();
//! let wake_up = loop {
//!     match engine.poll_output() {
//!         // Connect this, open that: a match over all of `Action`.
//!         Output::Action(action) => actions.push(action),
//!         // For a link or socket; LinkWritten, SocketWritten or DatagramsSent tells when it is gone.
//!         Output::Transmit { .. } | Output::Write { .. } | Output::SendDatagram { .. } => {}
//!         // So many bytes, connections or datagrams more may come in.
//!         Output::Receive { .. }
//!         | Output::Read { .. }
//!         | Output::Accept { .. }
//!         | Output::ReceiveDatagrams { .. } => {}
//!         // What is left of such a permission is taken back; Revoked tells how much that was.
//!         Output::Revoke { .. } => {}
//!         // For logs and for the embedder.
//!         Output::Event(event) => println!("{event:?}"),
//!         // Nothing else to do until then, or until the next input.
//!         Output::Timeout(at) => break at,
//!     }
//! };
//! assert!(matches!(actions[..], [Action::Connect { .. }]));
//! if let Some(at) = wake_up {
//!     engine.handle_input(at, Input::Timeout); // nothing came before
//! }
//! # Ok::<(), linksocks_sansio::ConfigError>(())
//! ```
//!
//! # Where to start
//!
//! | to | read |
//! |---|---|
//! | write a driver | [`io`]: rules, sequences, credit; then [`Input`], [`Output`], [`Action`] |
//! | configure an engine | [`ClientConfig`], [`ServerConfig`], [`config`] for limits and timeouts |
//! | say what may be connected to | [`access`] |
//! | open channels without SOCKS, stop | [`Command`] |
//! | add and remove tokens at run time | [`token`], or over HTTP [`http::admin`] |
//! | show what happens | [`event`] for logs, [`Stats`] for metrics, [`error`] for what the texts mean |
//! | read or write messages without an engine | [`wire`] |
//! | speak SOCKS5 without an engine | [`socks5`] |
//!
//! # Words
//!
//! A *link* is one authenticated WebSocket between two peers. A *channel* is one TCP stream, or one UDP
//! *association*, that a link carries among others. Its *SOCKS side* is where an application asked for
//! it, its *dial side* connects to the *target*. A *provider* is a client that is a dial side, a
//! *connector* one whose requests go to providers.
//!
//! # Other crates in the interface
//!
//! Payloads are `bytes::Bytes`, looked-up addresses a `smallvec::SmallVec`, and [`InstanceId`] holds a
//! `uuid::Uuid`. A driver needs `bytes`; the list of [`Input::Resolved`] is made by `.collect()` or, from a
//! `Vec`, `.into()`.
//!
//! # Features
//!
//! `gzip` (default): payloads of peers are inflated, and own ones compressed as
//! [`CompressionConfig`](config::CompressionConfig) says. Without it, a peer's gzip payload ends its
//! channel with an error (a datagram is dropped), and nothing is compressed.

pub mod access;
mod accounts;
mod arena;
mod attempts;
mod backoff;
mod channel;
mod client;
pub mod config;
mod dial;
pub mod error;
pub mod event;
mod header;
pub mod http;
pub mod ids;
pub mod io;
pub mod link;
mod relay;
mod rng;
mod secret;
mod server;
pub mod socks5;
mod stats;
#[cfg(test)]
mod tests;
mod timer;
pub mod token;
mod url;
mod waiting;
pub mod wire;

pub use accounts::{Account, Exhausted, Resource};
pub use client::ClientEngine;
pub use config::{ClientConfig, ServerConfig};
pub use dial::{LinkProxy, ProxyBypass, ProxyRules, UpstreamProxy};
pub use error::ConfigError;
pub use event::Event;
pub use header::RequestHeader;
pub use ids::{ChannelId, InstanceId, LinkId, ListenerId, QueryId, SocketId, Ticket, TokenId};
pub use io::{Action, Command, Engine, Input, Output, ReadBuf};
pub use secret::{Credentials, Token, TokenDigest};
pub use server::ServerEngine;
pub use stats::Stats;
pub use url::ServerUrl;
