//! What a link without the `finish` extension cannot promise. This list is complete: whatever is
//! not on it must hold towards old peers, too.
//!
//! The old wire has one message for the end of a channel, Disconnect, and it ends both directions:
//! the sender's in order, the other one at once.

use crate::sim::model::{Account, Direction};

/// A reason why a clean end may stand behind a part of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exemption {
    /// The target has finished while the caller was still sending. Its Disconnect must go out at
    /// once, because the caller may be waiting for just this end, and it cuts what was on its way
    /// up: the target, if it still listens, hears an end that the caller never made.
    TargetFinishedFirst,
    /// The caller has finished, and the target took longer than the half-close linger to go on.
    /// The Disconnect that must then go out cuts what was still to come down.
    HalfCloseLinger,
}

impl Exemption {
    /// The exemption that applies, if one does.
    pub(crate) fn find(direction: Direction, receiver: &Account, finish: bool) -> Option<Self> {
        if finish {
            return None;
        }
        // In both cases it is the one who now hears the early end that had finished before.
        receiver.finished?;
        Some(match direction {
            Direction::Up => Self::TargetFinishedFirst,
            Direction::Down => Self::HalfCloseLinger,
        })
    }
}
