//! The only randomness of a run.

use std::time::Duration;

use bytes::{Buf, Bytes};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// A generator whose whole sequence follows from a seed and the name of what it is for.
///
/// Every part of a run has dice of its own, so that one more throw in one part leaves all others
/// as they were: a seed that found a bug stays close to it while the code around changes.
#[derive(Clone, Debug)]
pub struct Dice {
    rng: ChaCha8Rng,
    /// What comes first, as a fuzzer wants it.
    written: Bytes,
}

impl Dice {
    /// Dice number `stream` of a seed.
    #[must_use]
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Self { rng, written: Bytes::new() }
    }

    /// Lets the first throws be taken from these bytes. Each throw takes as few as it needs, and the last
    /// one what is left.
    #[must_use]
    pub(super) fn with_throws(self, written: Bytes) -> Self {
        Self { written, ..self }
    }

    /// The next bytes of the number that a throw below `bound` is taken from; `u64::MAX` stands for
    /// all numbers.
    fn raw(&mut self, bound: u64) -> u64 {
        if self.written.is_empty() {
            return self.rng.next_u64();
        }
        let wanted = (u64::BITS - (bound - 1).leading_zeros()).div_ceil(8).max(1) as usize;
        self.written.get_uint(wanted.min(self.written.len()))
    }

    /// A number below `bound`; 0 if there is none.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.raw(bound) % bound }
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// A size from `low` to `high`, each order of magnitude as likely as the next: small and odd
    /// sizes find more than sizes near the top.
    pub fn size(&mut self, low: usize, high: usize) -> usize {
        let magnitudes = u64::from((high.max(1) / low.max(1)).max(1).ilog2());
        let floor = low.max(1) << self.between(0, magnitudes);
        let ceiling = floor.saturating_mul(2).min(high).max(low);
        self.between(floor.min(ceiling) as u64, ceiling as u64) as usize
    }

    /// A duration from `low` to `high`, each order of magnitude as likely as the next.
    pub fn duration(&mut self, low: Duration, high: Duration) -> Duration {
        let micros = |duration: Duration| duration.as_micros() as usize;
        Duration::from_micros(self.size(micros(low), micros(high)) as u64)
    }

    /// True in `percent` of all throws.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of `choices`.
    ///
    /// # Panics
    /// If there are none.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }

    /// A number of 64 random bits.
    pub fn word(&mut self) -> u64 {
        self.raw(u64::MAX)
    }

    /// A seed for an engine.
    pub fn engine_seed(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        seed
    }
}

#[cfg(test)]
mod tests {
    use super::Dice;

    #[test]
    fn dice_repeat_themselves_and_differ_by_stream() {
        let throws = |stream| {
            let mut dice = Dice::new(7, stream);
            [dice.word(), dice.word(), dice.word()]
        };
        assert_eq!(throws(1), throws(1));
        assert_ne!(throws(1), throws(2));
    }

    #[test]
    fn sizes_stay_in_range_and_reach_both_halves_of_it() {
        let mut dice = Dice::new(1, 0);
        let sizes: Vec<usize> = (0..1000).map(|_| dice.size(3, 5000)).collect();
        assert!(sizes.iter().all(|size| (3..=5000).contains(size)));
        assert!(sizes.iter().any(|size| *size < 20) && sizes.iter().any(|size| *size > 2500));
        assert_eq!(dice.size(5, 5), 5);
        assert_eq!(dice.size(0, 0), 0);
    }
}
