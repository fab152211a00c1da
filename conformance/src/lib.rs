//! Conformance: golden vectors, simulator, interop, benchmarks.

pub mod bench;
pub mod interop;
pub mod record;
pub mod sim;
pub mod vectors;
