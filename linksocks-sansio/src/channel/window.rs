//! The credit window of a channel (`docs/extensions.md`): both ends of it.

use std::time::{Duration, Instant};

/// Whether a message may be sent while so much is `left` of a window. One that is forwarded as it came
/// may be longer than the window of the next hop: it may go when most of that is free, which it is at
/// the latest when nothing waits at the receiver. `window`: that of the Hello, which both ends know.
fn fits(length: i64, left: i64, window: i64) -> bool {
    length <= left || left > window / 2
}

fn as_i64(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// The sending end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SendWindow {
    left: i64,
    window: i64,
    /// The most that was ever left, or granted at once: the receiver has made its window at least so large.
    seen: i64,
}

impl SendWindow {
    pub(crate) fn new(window: u32) -> Self {
        Self { left: window.into(), window: window.into(), seen: window.into() }
    }

    /// What may be sent once, in messages of any length.
    pub(crate) fn once(bytes: u32) -> Self {
        Self { left: bytes.into(), window: i64::MAX, seen: i64::MAX }
    }

    pub(crate) fn allows(&self, length: usize) -> bool {
        fits(as_i64(length), self.left, self.window)
    }

    pub(crate) fn on_sent(&mut self, length: usize) {
        self.left -= as_i64(length);
    }

    pub(crate) fn on_granted(&mut self, bytes: u32) {
        self.left = self.left.saturating_add(bytes.into());
        self.seen = self.seen.max(self.left).max(bytes.into());
    }

    /// The longest message that should be made: with longer ones, one would have to be consumed before
    /// the next may be sent.
    pub(crate) fn longest_message(&self) -> usize {
        usize::try_from(self.seen / 2).unwrap_or(usize::MAX)
    }
}

/// The receiving end. The window grows while the peer can't use the link because of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GrantedWindow {
    /// As in our Hello.
    first: usize,
    /// The most that is left to the peer at a time.
    window: usize,
    /// What the peer may still send; negative after a message that was longer than the window.
    left: i64,
    /// What has been taken out of the queue and not been returned to the peer yet.
    unreturned: usize,
    /// When something was last returned.
    returned: Option<Instant>,
}

/// Ping and pong don't wait for the tasks of channels, as data and credit do: a round trip takes at least
/// so long.
const LEAST_ROUND_TRIP: Duration = Duration::from_millis(1);

/// The peer sent more than it was allowed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WindowExceeded;

/// What decides on credit when something has been consumed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Consumed {
    pub(crate) bytes: usize,
    pub(crate) now: Instant,
    /// Of the link, once it is known.
    pub(crate) round_trip: Option<Duration>,
    /// What the window may grow to now.
    pub(crate) most: usize,
}

impl GrantedWindow {
    pub(crate) fn new(window: u32) -> Self {
        let window = window as usize;
        Self { first: window, window, left: as_i64(window), unreturned: 0, returned: None }
    }

    /// Charges a message of `length` bytes, or says that it exceeds the window.
    pub(crate) fn on_received(&mut self, length: usize) -> Result<(), WindowExceeded> {
        let length = as_i64(length);
        if !fits(length, self.left, as_i64(self.first)) {
            return Err(WindowExceeded);
        }
        self.left -= length;
        Ok(())
    }

    /// Something no longer waits. Returns what is to be granted once half of the window is used: with a
    /// window that has grown more than was used, with one that has shrunk less.
    pub(crate) fn on_consumed(&mut self, consumed: Consumed) -> Option<u32> {
        self.unreturned += consumed.bytes;
        if self.unreturned < self.window / 2 || self.unreturned == 0 {
            return None;
        }
        let growth = self.growth(&consumed);
        self.returned = Some(consumed.now);
        let used = std::mem::take(&mut self.unreturned);
        let excess = self.window.saturating_sub(consumed.most.max(self.first)).min(used);
        self.window = self.window + growth - excess;
        let bytes = used + growth - excess;
        self.left += as_i64(bytes);
        u32::try_from(bytes).ok().filter(|bytes| *bytes > 0)
    }

    /// Half a window lasted less than two round trips: the peer may have waited for this. Then the window
    /// doubles.
    fn growth(&self, consumed: &Consumed) -> usize {
        let (Some(returned), Some(round_trip)) = (self.returned, consumed.round_trip) else { return 0 };
        let lasted = consumed.now.saturating_duration_since(returned);
        let room = consumed.most.saturating_sub(self.window);
        if lasted < round_trip.max(LEAST_ROUND_TRIP) * 2 { self.window.min(room) } else { 0 }
    }

    /// By how much the window has grown.
    pub(crate) fn extra(&self) -> usize {
        self.window - self.first
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Consumed, GrantedWindow, SendWindow, WindowExceeded};
    use crate::tests::epoch;

    const ROUND_TRIP: Duration = Duration::from_millis(100);

    fn consume(window: &mut GrantedWindow, bytes: usize) -> Option<u32> {
        window.on_consumed(Consumed { bytes, now: epoch(), round_trip: None, most: 1000 })
    }

    #[test]
    fn credit_is_returned_at_half_of_the_window() {
        let mut window = GrantedWindow::new(100);
        assert_eq!(window.on_received(60), Ok(()));
        assert_eq!(window.on_received(41), Err(WindowExceeded));
        assert_eq!(consume(&mut window, 49), None);
        assert_eq!(consume(&mut window, 1), Some(50));
        assert_eq!(window.on_received(90), Ok(()));
        assert_eq!(window.on_received(1), Err(WindowExceeded));
    }

    #[test]
    fn a_message_longer_than_the_window_may_come_while_most_of_it_is_free() {
        let mut window = GrantedWindow::new(100);
        assert_eq!(window.on_received(50), Ok(()));
        assert_eq!(window.on_received(1000), Err(WindowExceeded));
        assert_eq!(consume(&mut window, 50), Some(50));
        assert_eq!(window.on_received(49), Ok(()));
        assert_eq!(window.on_received(1000), Ok(()));
        assert_eq!(window.on_received(1), Err(WindowExceeded));
        assert_eq!(consume(&mut window, 1049), Some(1049));
        assert_eq!(window.on_received(100), Ok(()));
    }

    /// Half windows, each consumed `lasting` after the one before. Returns the window then.
    fn run(window: &mut GrantedWindow, now: &mut Instant, lasting: Duration, most: usize) -> usize {
        for _ in 0..20 {
            let bytes = window.window / 2;
            window.on_received(bytes).unwrap();
            *now += lasting;
            window.on_consumed(Consumed { bytes, now: *now, round_trip: Some(ROUND_TRIP), most });
            assert_eq!(window.left, window.window as i64, "nothing waits, so all is left");
        }
        window.window
    }

    #[test]
    fn a_window_grows_while_it_is_what_holds_the_peer_up_and_shrinks_when_memory_is_short() {
        let (mut window, mut now) = (GrantedWindow::new(100), epoch());
        assert_eq!(run(&mut window, &mut now, 3 * ROUND_TRIP, 1000), 100, "the peer is slower");
        assert_eq!(run(&mut window, &mut now, ROUND_TRIP, 1000), 1000, "and not beyond what it may");
        assert_eq!(run(&mut window, &mut now, 3 * ROUND_TRIP, 1000), 1000);
        assert_eq!(run(&mut window, &mut now, ROUND_TRIP, 0), 100, "never below the first");
        assert_eq!(window.extra(), 0);
    }

    #[test]
    fn the_sender_notices_that_the_window_has_grown() {
        let mut window = SendWindow::new(100);
        assert_eq!(window.longest_message(), 50);
        window.on_sent(50);
        window.on_granted(50 + 100);
        assert_eq!(window.longest_message(), 100);
        window.on_sent(200);
        window.on_granted(100 + 200);
        assert_eq!(window.longest_message(), 150, "although less is left");
        assert!(window.allows(300) && window.allows(1000), "more than half of the first window is left");
        window.on_sent(250);
        assert!(window.allows(50) && !window.allows(51));
    }
}
