//! Whole sessions with faults.

use crate::sim::{Source, Watch, run_bytes};

/// Bytes are a small run of the simulator: peers, applications, faults, a network, malicious peers and
/// what they say, as [`Source::from_bytes`] reads it. All rules of [`sim::check`](crate::sim::check) must
/// hold.
///
/// # Panics
/// If one is broken.
pub fn engine(data: &[u8]) {
    if let Err(breach) = run_bytes(data, Watch::HASTY) {
        panic!("{breach}\n{:?}", Source::from_bytes(data));
    }
}
