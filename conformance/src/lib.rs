//! Conformance: golden vectors, simulator, interop, benchmarks.

pub mod vectors;
