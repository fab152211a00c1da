//! Where the randomness of a run comes from.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::dice::Dice;
use super::scenario::Stream;

/// A seed, and bytes that have the first word: what they don't say follows from the seed.
///
/// [`Source::from_bytes`] is for fuzzers. Its form is such that a small change of the bytes changes
/// little of a run:
///
/// ```text
/// seed:u16 (little-endian), then records: key:u8 length:u8 content
/// ```
///
/// The lower half of a key names what is drawn, the upper half the number of the host, caller or
/// intruder (modulo 16). All records of a key count, one behind the other, for the dice of that name;
/// a record whose name stands for no dice is a message that the intruder of that number sends. The last
/// record may be cut short.
#[derive(Clone, Debug, Default)]
pub struct Source {
    seed: u64,
    throws: BTreeMap<u8, Vec<u8>>,
    messages: BTreeMap<u8, Vec<Bytes>>,
}

impl Source {
    /// Everything follows from a seed.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// Reads the form that is described [above](Self). Any bytes have a meaning.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let (seed, mut rest) = bytes.split_at(bytes.len().min(2));
        let seed = seed.iter().rev().fold(0, |seed, byte| seed << 8 | u64::from(*byte));
        let mut source = Self::from_seed(seed);
        while let [key, length, behind @ ..] = rest {
            let (content, behind) = behind.split_at(behind.len().min(usize::from(*length)));
            if Stream::is_named(key & 0x0F) {
                source.throws.entry(*key).or_default().extend_from_slice(content);
            } else {
                source.messages.entry(key >> 4).or_default().push(Bytes::copy_from_slice(content));
            }
            rest = behind;
        }
        source
    }

    /// The seed.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// The dice for a purpose; `number` tells hosts, callers and so on apart.
    pub(super) fn dice(&self, stream: Stream, number: usize) -> Dice {
        let key = (number as u8) << 4 | stream as u8;
        let written = self.throws.get(&key).map(|content| Bytes::copy_from_slice(content));
        Dice::new(self.seed, (stream as u64) << 32 | number as u64).with_throws(written.unwrap_or_default())
    }

    /// The messages of an intruder.
    pub(super) fn messages(&self, intruder: usize) -> Vec<Bytes> {
        self.messages.get(&(intruder as u8 & 0x0F)).cloned().unwrap_or_default()
    }

    /// Whether there are messages for intruders.
    pub(super) fn has_messages(&self) -> bool {
        !self.messages.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::Source;
    use crate::sim::scenario::Stream;

    #[test]
    fn written_throws_come_first_and_the_seed_goes_on() {
        let source = Source::from_bytes(&[7, 0, 0x13, 2, 5, 6, 0x13, 1, 7]);
        assert_eq!(source.seed(), 7);
        let mut dice = source.dice(Stream::Faults, 1);
        assert_eq!([dice.below(10), dice.below(10), dice.below(10)], [5, 6, 7]);
        assert_eq!(dice.word(), Source::from_seed(7).dice(Stream::Faults, 1).word());
        assert_eq!(
            source.dice(Stream::Faults, 2).word(),
            Source::from_seed(7).dice(Stream::Faults, 2).word()
        );
    }

    #[test]
    fn what_names_no_dice_is_a_message() {
        let source = Source::from_bytes(&[0, 0, 0x2F, 3, 1, 2, 3, 0x2E, 200, 4]);
        assert_eq!(source.messages(2), [&[1, 2, 3][..], &[4]]);
        assert!(source.messages(1).is_empty() && source.has_messages());
        assert!(!Source::from_bytes(&[]).has_messages());
    }
}
