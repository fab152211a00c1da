//! Conformance: golden vectors, simulator, interop, benchmarks.

pub mod bench;
pub mod interop;
pub mod vectors;
