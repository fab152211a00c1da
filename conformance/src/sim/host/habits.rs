//! What drivers are free to do differently, drawn per host.

use std::time::Duration;

use crate::sim::dice::Dice;

/// When a driver drains its engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batching {
    /// After each input.
    EachInput,
    /// After all inputs that have come together.
    WholeBatch,
    /// Sometimes so, sometimes so.
    AtRandom,
}

/// The manners of one driver. All of them keep the contract.
#[derive(Clone, Debug)]
pub struct Habits {
    /// When the engine is drained.
    pub batching: Batching,
    /// How long inputs wait for the owner task.
    pub turn_delay: Duration,
    /// Reads return fewer bytes than there are.
    pub short_reads: bool,
    /// A broken connection is noticed at once, not only by the next read or write.
    pub notices_errors: bool,
    /// The most that one read of a link's transport takes.
    pub link_read: usize,
    /// How often the front door redirects a client before it lets it in.
    pub redirects: usize,
}

impl Habits {
    /// The plain driver: prompt and thorough.
    #[must_use]
    pub const fn plain() -> Self {
        Self {
            batching: Batching::WholeBatch,
            turn_delay: Duration::from_micros(10),
            short_reads: false,
            notices_errors: true,
            link_read: 64 * 1024,
            redirects: 0,
        }
    }

    /// Any driver.
    #[must_use]
    pub fn draw(dice: &mut Dice) -> Self {
        let delays =
            [Duration::ZERO, Duration::from_micros(10), Duration::from_millis(1), Duration::from_millis(20)];
        Self {
            batching: *dice.pick(&[Batching::EachInput, Batching::WholeBatch, Batching::AtRandom]),
            turn_delay: *dice.pick(&delays),
            short_reads: dice.chance(20),
            notices_errors: dice.chance(50),
            link_read: dice.size(512, 128 * 1024),
            redirects: if dice.chance(10) { dice.between(1, 5) as usize } else { 0 },
        }
    }

    /// Whether to drain before the next input of a batch.
    pub(super) fn drains_between(&self, dice: &mut Dice) -> bool {
        match self.batching {
            Batching::EachInput => true,
            Batching::WholeBatch => false,
            Batching::AtRandom => dice.chance(50),
        }
    }
}
