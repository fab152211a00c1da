//! How we know that LinkSocks works: golden vectors, simulator, interop, benchmarks.
//!
//! - [`vectors`]: messages and whole sessions captured from real programs.
//! - [`sim`]: clients and a server in a network with faults, in virtual time, reproducible by seed.
//! - [`record`]: recording what reaches an engine, and replaying it.
//! - [`interop`]: real processes, ours and others, driven over loopback sockets.
//! - [`mod@bench`]: how fast tunnels carry checked bytes, ours and others side by side.
//! - [`chaos`]: real processes under load while links are cut and processes are killed.
//! - [`chart`]: line charts as SVG.
//! - [`fuzz`]: what must hold for any bytes, for fuzzers and for their corpora.
//! - [`certificates`]: an authority for tests over TLS.

pub mod bench;
pub mod certificates;
pub mod chaos;
pub mod chart;
pub mod fuzz;
pub mod interop;
pub mod record;
pub mod sim;
pub mod vectors;
