//! Conversations with which nobody goes on are ended, in time and not too soon.

use std::time::Duration;

use linksocks_sansio::config::Timeouts;

use super::{Verdict, require};
use crate::sim::app::Talk;
use crate::sim::model::{Account, Heard};

/// Channels are looked at once a minute; opening one and telling the other end of a reset take a
/// moment more.
const LATE: Duration = Duration::from_secs(120);

/// Judges a conversation that nothing disturbed.
pub(crate) fn ended_when_forgotten(talk: &Talk) -> Verdict {
    let limit = Timeouts::default().channel_idle;
    let fine = |account: &Account| {
        let heard = account.heard.filter(|(_, heard)| *heard == Heard::Reset);
        heard.is_some_and(|(at, _)| (limit..limit + LATE).contains(&(at - talk.plan.start)))
    };
    let both = talk.caller().is_some_and(fine) && talk.targets().any(fine);
    require(both, "what nobody uses is ended", || talk.to_string())
}
