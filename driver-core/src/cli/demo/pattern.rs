//! Test data that both ends make for themselves.

/// How much is made at a time: a whole number of words.
const BLOCK: usize = 64 * 1024;

/// An endless stream of pseudo-random bytes that never repeats, so that any byte lost, added or
/// moved shows.
pub(super) struct Pattern {
    seed: u64,
    /// The number of the next word.
    word: u64,
    block: Vec<u8>,
    /// How much of the block has been given out.
    used: usize,
}

impl Pattern {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, word: 0, block: Vec::with_capacity(BLOCK), used: 0 }
    }

    /// The next bytes: at least one, at most `max`, which must not be 0.
    pub(super) fn next(&mut self, max: usize) -> &[u8] {
        if self.used == self.block.len() {
            self.refill();
        }
        let start = self.used;
        self.used = self.block.len().min(start.saturating_add(max));
        &self.block[start..self.used]
    }

    /// Whether `bytes` are the next ones.
    pub(super) fn matches(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let expected = self.next(bytes.len());
            let (head, rest) = bytes.split_at(expected.len());
            if head != expected {
                return false;
            }
            bytes = rest;
        }
        true
    }

    fn refill(&mut self) {
        self.block.clear();
        while self.block.len() < BLOCK {
            self.block.extend_from_slice(&split_mix(self.seed, self.word).to_le_bytes());
            self.word += 1;
        }
        self.used = 0;
    }
}

/// The output `index` of the generator SplitMix64, which has a period of 2^64.
fn split_mix(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, Pattern, split_mix};

    fn take(len: usize, step: usize) -> Vec<u8> {
        let (mut pattern, mut bytes) = (Pattern::new(7), Vec::new());
        while bytes.len() < len {
            let next = pattern.next(step.min(len - bytes.len()));
            bytes.extend_from_slice(next);
        }
        bytes
    }

    #[test]
    fn the_generator_is_split_mix_64() {
        // The first outputs for seed 0 of the published reference implementation.
        assert_eq!(split_mix(0, 0), 0xE220_A839_7B1D_CDAF);
        assert_eq!(split_mix(0, 1), 0x6E78_9E6A_A1B9_65F4);
    }

    #[test]
    fn the_bytes_do_not_depend_on_how_they_are_taken() {
        let whole = take(3 * BLOCK + 5, usize::MAX);
        assert_eq!(take(3 * BLOCK + 5, 1001), whole);
        let mut check = Pattern::new(7);
        assert!(whole.chunks(777).all(|chunk| check.matches(chunk)));
    }

    #[test]
    fn lost_moved_and_changed_bytes_show() {
        let whole = take(2 * BLOCK, usize::MAX);
        let lost = [&whole[..100], &whole[101..]].concat();
        let moved = [&whole[BLOCK..], &whole[..BLOCK]].concat();
        let mut changed = whole.clone();
        changed[BLOCK + 3] ^= 1;
        for bytes in [lost, moved, changed] {
            assert!(!Pattern::new(7).matches(&bytes));
        }
    }
}
