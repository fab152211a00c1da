//! What a channel knows of how well its bytes can be compressed.

/// Bytes that don't shrink to this share are not worth the work.
const WORTH_IT: f64 = 7.0 / 8.0;

/// After a vain attempt, so many bytes pass before the next one; after each further one twice as
/// many, so that a stream that can't be compressed costs no time.
const FIRST_PAUSE: usize = 1024 * 1024;
const LONGEST_PAUSE: usize = 64 * FIRST_PAUSE;

/// Remembers how well the bytes of one direction have shrunk.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shrink {
    /// Compressed length by length, of what was compressed last; `None` if that isn't known or was
    /// in vain.
    ratio: Option<f64>,
    /// Bytes to pass before the next attempt.
    pause: usize,
    next_pause: usize,
}

impl Shrink {
    /// `bytes` pass.
    pub(crate) fn on_bytes(&mut self, bytes: usize) {
        self.pause = self.pause.saturating_sub(bytes);
    }

    /// Whether it is time to try with a sample.
    pub(crate) fn wants_sample(&self) -> bool {
        self.ratio.is_none() && self.pause == 0
    }

    /// To what share the bytes are likely to shrink.
    pub(crate) fn ratio(&self) -> Option<f64> {
        self.ratio
    }

    /// Learns that `bytes` have become `compressed`; `None` if that was too much.
    pub(crate) fn learn(&mut self, bytes: usize, compressed: Option<usize>) {
        let ratio = compressed.map(|compressed| compressed as f64 / bytes as f64);
        self.ratio = ratio.filter(|ratio| *ratio <= WORTH_IT);
        if self.ratio.is_some() {
            self.next_pause = 0;
        } else {
            self.pause = self.next_pause.clamp(FIRST_PAUSE, LONGEST_PAUSE);
            self.next_pause = self.pause * 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Shrink;

    #[test]
    fn vain_attempts_become_rare() {
        let mut shrink = Shrink::default();
        let mut pauses = Vec::new();
        for _ in 0..9 {
            assert!(shrink.wants_sample());
            shrink.learn(4096, None);
            let mut megabytes = 0;
            while !shrink.wants_sample() {
                shrink.on_bytes(1 << 20);
                megabytes += 1;
            }
            pauses.push(megabytes);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
        shrink.learn(4096, Some(1024));
        assert_eq!(shrink.ratio(), Some(0.25));
        assert!(!shrink.wants_sample(), "it is known");
        shrink.learn(4096, Some(4000));
        assert_eq!(shrink.ratio(), None, "it has become worse");
        shrink.on_bytes(1 << 20);
        assert!(shrink.wants_sample(), "the pauses start anew");
    }
}
