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

#[cfg(test)]
mod tests {
    use crate::sim::{Watch, run_bytes};

    #[test]
    fn the_same_bytes_are_the_same_run_and_others_another() {
        let hash = |bytes: &[u8]| run_bytes(bytes, Watch::SILENT).expect("every rule holds").hash;
        let bytes = [7, 0, 0x02, 3, 1, 2, 3, 0x0F, 4, 1, 4, 1, 0];
        assert_eq!(hash(&bytes), hash(&bytes));
        assert_ne!(hash(&bytes), hash(&bytes[..2]));
    }
}
