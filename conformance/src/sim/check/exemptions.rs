//! What a link without the `finish` extension cannot promise. This list is complete: whatever is
//! not on it must hold towards old peers, too.
//!
//! The old wire has one message for the end of a channel, Disconnect, and it ends both directions:
//! the sender's in order, the other one at once.

use linksocks_sansio::config::Timeouts;

use crate::sim::model::{Account, Direction};

/// A reason why a clean end may stand behind a part of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exemption {
    /// The target has finished while the caller was still sending. Its Disconnect must go out at
    /// once, because the caller may be waiting for just this end, and it cuts what was on its way
    /// up: the target, if it still listens, hears an end that the caller never made.
    TargetFinishedFirst,
    /// The caller has finished, and then nothing came from the target for as long as the half-close
    /// linger. The Disconnect that must go out then cuts what was still to come down.
    HalfCloseLinger,
}

impl Exemption {
    /// The exemption that applies to what `receiver` has heard, if one does.
    pub(crate) fn find(direction: Direction, receiver: &Account, finish: bool) -> Option<Self> {
        if finish {
            return None;
        }
        // In both cases it is the one who now hears the early end that had finished before.
        let (finished, (heard, _)) = (receiver.finished?, receiver.heard?);
        match direction {
            Direction::Up => Some(Self::TargetFinishedFirst),
            Direction::Down => {
                let linger = Timeouts::default().half_close_linger;
                (heard - finished >= linger).then_some(Self::HalfCloseLinger)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Exemption;
    use crate::sim::Time;
    use crate::sim::model::{Account, Direction, Heard};

    fn account(finished: Option<u64>, heard: u64) -> Account {
        let finished = finished.map(Time::from_secs);
        Account { finished, heard: Some((Time::from_secs(heard), Heard::Eof)), ..Account::default() }
    }

    #[test]
    fn only_who_has_finished_before_may_be_cut_off() {
        let find = |direction, account: Account| Exemption::find(direction, &account, false);
        assert_eq!(find(Direction::Up, account(Some(1), 2)), Some(Exemption::TargetFinishedFirst));
        assert_eq!(find(Direction::Up, account(None, 2)), None);
        assert_eq!(find(Direction::Down, account(Some(1), 6)), Some(Exemption::HalfCloseLinger));
        assert_eq!(find(Direction::Down, account(Some(1), 5)), None, "the linger was not over");
        assert_eq!(Exemption::find(Direction::Up, &account(Some(1), 9), true), None, "finish allows no cut");
    }
}
