//! How much a link may have in flight in the driver, and how long its messages may be.

use std::time::{Duration, Instant};

use crate::config::Limits;

/// Shorter intervals say nothing about the rate.
const MIN_INTERVAL: Duration = Duration::from_millis(5);

/// The cap until the rate is known: a fast link soon has a longer one, and on a slow one the first
/// messages don't hold up what comes behind them for long.
const FIRST_CAP: usize = 256 * 1024;

/// Faster than this, in bytes per second, is as good as infinitely fast; a higher estimate would only
/// be slower to come down.
const MAX_RATE: f64 = 1e9;

/// Link credit and the message cap. The cap is what the link carries in
/// [`Limits::message_time`]; credit is twice that, so that the queue stays in the engine, where the
/// scheduler sees it, and the link never idles.
#[derive(Debug)]
pub(crate) struct Pace {
    min: usize,
    max: usize,
    time: Duration,
    cap: usize,
    /// Bytes per second, once they have been measured.
    rate: Option<f64>,
    in_flight: usize,
    /// When the network last took something, or had nothing to take.
    last_progress: Option<Instant>,
    /// The start of the current interval and what has been written in it. Only runs while
    /// messages wait: an idle link shows nothing of its rate.
    interval: Option<(Instant, usize)>,
}

impl Pace {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            min: limits.message_min.min(limits.message_max),
            max: limits.message_max,
            time: limits.message_time,
            cap: limits.message_max.min(FIRST_CAP),
            rate: None,
            in_flight: 0,
            last_progress: None,
            interval: None,
        }
    }

    /// The longest message that should be made for this link now, in bytes.
    pub(crate) fn cap(&self) -> usize {
        self.cap
    }

    /// Whether another message may be handed to the driver, so that at most two of the longest are
    /// there.
    pub(crate) fn has_credit(&self) -> bool {
        self.in_flight <= self.cap
    }

    /// What the link carries in bytes per second, if messages wait for it and that is known.
    pub(crate) fn bottleneck(&self) -> Option<f64> {
        self.rate.filter(|_| self.interval.is_some())
    }

    pub(crate) fn on_sent(&mut self, now: Instant, bytes: usize) {
        if self.in_flight == 0 {
            self.last_progress = Some(now);
        }
        self.in_flight += bytes;
    }

    /// For how long the network has taken nothing of what is in flight.
    pub(crate) fn stuck_for(&self, now: Instant) -> Duration {
        match self.last_progress {
            Some(last) if self.in_flight > 0 => now.saturating_duration_since(last),
            _ => Duration::ZERO,
        }
    }

    /// Messages wait for credit: what is written from now on tells the rate.
    pub(crate) fn on_blocked(&mut self, now: Instant) {
        self.interval.get_or_insert((now, 0));
    }

    /// Something else than the link holds messages up: what is written now tells nothing of the rate.
    pub(crate) fn on_held_back(&mut self) {
        self.interval = None;
    }

    /// The network took `bytes`. `backlog`: whether more waits.
    pub(crate) fn on_written(&mut self, now: Instant, bytes: usize, backlog: bool) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
        if bytes > 0 {
            self.last_progress = Some(now);
        }
        if let Some((start, written)) = &mut self.interval {
            *written += bytes;
            let elapsed = now.saturating_duration_since(*start);
            if elapsed >= MIN_INTERVAL {
                let rate = (*written as f64 / elapsed.as_secs_f64()).min(MAX_RATE);
                let carried = rate * self.time.as_secs_f64();
                // Half old, half new: one odd interval does not decide.
                let smoothed = (self.cap as f64 + carried) / 2.0;
                self.cap = (smoothed as usize).clamp(self.min, self.max);
                self.rate = Some(self.rate.map_or(rate, |old| (old + rate) / 2.0));
                self.interval = Some((now, 0));
            }
        }
        if !backlog {
            self.interval = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Pace;
    use crate::config::Limits;
    use crate::tests::epoch;
    use std::time::Duration;

    #[test]
    fn the_cap_follows_a_slow_link_and_recovers() {
        let limits = Limits::default();
        let mut pace = Pace::new(&limits);
        let mut now = epoch();
        assert_eq!(pace.cap(), 256 << 10);
        pace.on_blocked(now);
        // 2.5 MB/s: 50 kB in 20 ms.
        for _ in 0..40 {
            now += Duration::from_millis(10);
            pace.on_sent(now, 25_000);
            pace.on_written(now, 25_000, true);
        }
        assert!((50_000..52_000).contains(&pace.cap()), "{}", pace.cap());
        pace.on_written(now, 0, false);
        now += Duration::from_secs(100);
        pace.on_written(now, 10, false);
        assert!(pace.cap() >= 50_000, "idle time is no evidence");
        for _ in 0..20 {
            pace.on_blocked(now);
            now += Duration::from_millis(5);
            pace.on_sent(now, 1 << 20);
            pace.on_written(now, 1 << 20, true);
        }
        assert_eq!(pace.cap(), limits.message_max);
    }
}
