//! How long bytes of a channel may wait for more to share a message with them.

use std::time::{Duration, Instant};

use crate::config::BatchDelay;

/// A channel faster than this waits longer, in bytes per second.
const RAISE_ABOVE: f64 = 256.0 * 1024.0;

/// A channel slower than this waits no more, in bytes per second.
const DROP_BELOW: f64 = 128.0 * 1024.0;

/// From the shortest delay to the longest it takes so many steps.
const STEPS: u32 = 10;

/// A shorter interval says nothing about the speed, and counts as a part of the next. (Real programs
/// take the speed for 0, and so never delay what is read that often.)
const MIN_INTERVAL: Duration = Duration::from_millis(1);

/// Adapts the delay of one direction of a channel to its speed, as real programs do: an
/// interactive channel is not delayed at all, one that is always busy at last by the longest delay.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batcher {
    /// Zero: everything is sent at once.
    delay: Duration,
    range: BatchDelay,
    /// The start of the interval, and what has been flushed since.
    interval: (Instant, usize),
}

impl Batcher {
    pub(crate) fn new(range: BatchDelay, now: Instant) -> Self {
        Self { delay: Duration::ZERO, range, interval: (now, 0) }
    }

    /// How long the first byte of a batch may wait.
    pub(crate) fn delay(&self) -> Duration {
        self.delay
    }

    /// Learns from a batch of `bytes` that is complete.
    pub(crate) fn on_flush(&mut self, now: Instant, bytes: usize) {
        let (start, before) = self.interval;
        let bytes = before + bytes;
        let elapsed = now.saturating_duration_since(start);
        if elapsed <= MIN_INTERVAL {
            self.interval = (start, bytes);
            return;
        }
        self.interval = (now, 0);
        let speed = bytes as f64 / elapsed.as_secs_f64();
        let range = self.range;
        if speed > RAISE_ABOVE {
            let step = range.max.saturating_sub(range.min) / STEPS;
            self.delay = if self.delay < range.min {
                range.min
            } else {
                range.max.min(self.delay.saturating_add(step))
            };
        } else if speed < DROP_BELOW {
            self.delay = Duration::ZERO;
        } else if !self.delay.is_zero() {
            self.delay = range.min.max(self.delay / 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Batcher;
    use crate::config::BatchDelay;
    use crate::tests::epoch;
    use std::time::Duration;

    const KIB: usize = 1024;

    /// Each flush comes when the delay of the one before is over (or 10 ms later, without a delay).
    #[test]
    fn the_delay_follows_the_speed() {
        let mut now = epoch();
        let mut batcher = Batcher::new(BatchDelay::default(), now);
        let speeds = [vec![100, 257], vec![1000; 11], vec![256, 128, 200, 200, 200, 127, 200, 300]].concat();
        let table: Vec<_> = speeds
            .into_iter()
            .map(|speed| {
                let interval = batcher.delay().max(Duration::from_millis(10));
                now += interval;
                let bytes = (speed * KIB) as f64 * interval.as_secs_f64();
                batcher.on_flush(now, bytes.ceil() as usize);
                format!("{speed} KiB/s: {:?}", batcher.delay())
            })
            .collect();
        assert_eq!(
            table,
            [
                "100 KiB/s: 0ns",
                "257 KiB/s: 20ms",
                "1000 KiB/s: 68ms",
                "1000 KiB/s: 116ms",
                "1000 KiB/s: 164ms",
                "1000 KiB/s: 212ms",
                "1000 KiB/s: 260ms",
                "1000 KiB/s: 308ms",
                "1000 KiB/s: 356ms",
                "1000 KiB/s: 404ms",
                "1000 KiB/s: 452ms",
                "1000 KiB/s: 500ms",
                "1000 KiB/s: 500ms",
                "256 KiB/s: 250ms",
                "128 KiB/s: 125ms",
                "200 KiB/s: 62.5ms",
                "200 KiB/s: 31.25ms",
                "200 KiB/s: 20ms",
                "127 KiB/s: 0ns",
                "200 KiB/s: 0ns",
                "300 KiB/s: 20ms",
            ]
        );
    }

    #[test]
    fn a_burst_within_a_millisecond_counts_later() {
        let now = epoch();
        let mut batcher = Batcher::new(BatchDelay::default(), now);
        batcher.on_flush(now + Duration::from_millis(1), 1000);
        assert_eq!(batcher.delay(), Duration::ZERO);
        batcher.on_flush(now + Duration::from_micros(1001), 1);
        assert_eq!(batcher.delay(), Duration::from_millis(20));
    }

    #[test]
    fn any_range_is_kept() {
        let milliseconds = Duration::from_millis;
        let ranges = [[0, 100, 100], [50, 50, 50], [80, 40, 80], [0, 0, 0]].map(|row| row.map(milliseconds));
        let forever = [Duration::ZERO, Duration::MAX, Duration::MAX];
        for [min, max, highest] in ranges.into_iter().chain([forever]) {
            let range = BatchDelay::new(min, max);
            let mut now = epoch();
            let mut batcher = Batcher::new(range, now);
            for _ in 0..30 {
                now += milliseconds(600);
                batcher.on_flush(now, 1 << 20);
                assert!((range.min..=range.max).contains(&batcher.delay()));
            }
            assert_eq!(batcher.delay(), highest);
        }
    }
}
