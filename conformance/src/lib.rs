//! Conformance: golden vectors, simulator, interop, benchmarks.

pub mod record;
pub mod sim;
pub mod vectors;
