//! Drives LinkSocks engines with real sockets, on any async runtime.
//!
//! An engine ([`linksocks_sansio`]) knows everything about LinkSocks and nothing about sockets; this
//! crate is the reverse. One owner task holds the engine; pumps ([`pumps`]) each do one blocking
//! thing and decide nothing. What a runtime must offer is [`runtime::Runtime`].
//!
//! Programs start with [`embed`], by way of a crate that implements the runtime.
mod adapters;
#[cfg(feature = "cli")]
pub mod cli;
pub mod datagrams;
pub mod embed;
mod error;
mod front;
mod observer;
mod owner;
pub mod pipe;
pub mod pumps;
mod request;
pub mod runtime;
mod tap;
#[cfg(feature = "tls")]
pub mod tls;
pub mod transport;

pub use linksocks_sansio;
