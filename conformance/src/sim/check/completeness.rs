//! What arrives is what was sent, and an end that looks regular is one.

use super::exemptions::Exemption;
use super::{Verdict, require};
use crate::sim::model::{Account, Direction};
use crate::sim::pattern::Pattern;

/// Received bytes are a prefix of the sent ones: none is lost, doubled, moved or invented.
pub(crate) fn delivered(receiver: &str, stream: Pattern, position: u64, bytes: &[u8], sent: u64) -> Verdict {
    const RULE: &str = "delivered bytes are a prefix of the sent ones";
    let mismatch = stream.mismatch(position, bytes);
    require(mismatch.is_none(), RULE, || {
        format!("{receiver} got a wrong byte at {}", mismatch.unwrap_or(0))
    })?;
    let end = position + bytes.len() as u64;
    require(end <= sent, RULE, || format!("{receiver} has {end} bytes, but only {sent} were sent"))
}

/// Who hears a clean end has everything that the other side sent before its own regular end.
/// Anything else must be a reset, so that nobody takes a truncated stream for a whole one.
pub(crate) fn whole_or_reset(
    direction: Direction,
    receiver: &Account,
    senders: &[&Account],
    finish: bool,
) -> Verdict {
    let whole = |sender: &&Account| sender.finished.is_some() && sender.sent == receiver.received;
    let exempt = Exemption::find(direction, receiver, finish).is_some();
    let fine = exempt || senders.iter().any(whole);
    require(fine, "a clean end means a whole stream", || {
        let senders: Vec<_> = senders.iter().map(|sender| (sender.sent, sender.finished)).collect();
        format!(
            "{direction:?} ended cleanly after {} bytes; sent and finished were {senders:?}",
            receiver.received
        )
    })
}
