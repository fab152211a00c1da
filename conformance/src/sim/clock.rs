//! Virtual time. Nothing in a run waits: the clock jumps to the next thing that is due.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Add, Sub};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A moment of a run, counted from its start.
///
/// Engines speak of [`Instant`]s, whose value differs from process to process. A run therefore
/// keeps its own time and converts at the border, so that traces of two processes are equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(Duration);

impl Time {
    /// The start of a run.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// A whole number of seconds after the start.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The moment that an engine calls `instant`. An instant before the epoch counts as the start.
    #[must_use]
    pub fn from_instant(instant: Instant) -> Self {
        Self(instant.saturating_duration_since(epoch()))
    }

    /// What to tell an engine.
    #[must_use]
    pub fn instant(self) -> Instant {
        epoch() + self.0
    }

    /// How long after the start this is.
    #[must_use]
    pub const fn since_start(self) -> Duration {
        self.0
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

impl Sub for Time {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0.as_secs(), self.0.subsec_micros())
    }
}

/// The one real clock reading of the process; all runs start there.
fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

/// Things to do, ordered by time and, within one moment, by when they were entered.
#[derive(Debug)]
pub(crate) struct Agenda<T> {
    entries: BTreeMap<(Time, u64), T>,
    entered: u64,
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), entered: 0 }
    }
}

impl<T> Agenda<T> {
    pub(crate) fn enter(&mut self, at: Time, entry: T) {
        self.entries.insert((at, self.entered), entry);
        self.entered += 1;
    }

    /// When the first entry is due.
    pub(crate) fn next(&self) -> Option<Time> {
        self.entries.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes the first entry, if it is due.
    pub(crate) fn pop_due(&mut self, now: Time) -> Option<T> {
        if self.next()? > now {
            return None;
        }
        self.entries.pop_first().map(|(_, entry)| entry)
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Agenda, Time};

    #[test]
    fn entries_of_one_moment_come_in_the_order_they_were_entered() {
        let mut agenda = Agenda::default();
        let late = Time::ZERO + Duration::from_micros(2);
        agenda.enter(late, "c");
        agenda.enter(Time::ZERO, "a");
        agenda.enter(Time::ZERO, "b");
        assert_eq!(agenda.pop_due(Time::ZERO), Some("a"));
        assert_eq!(agenda.pop_due(Time::ZERO), Some("b"));
        assert_eq!(agenda.pop_due(Time::ZERO), None);
        assert_eq!(agenda.next(), Some(late));
        assert_eq!(agenda.pop_due(late), Some("c"));
    }

    #[test]
    fn a_time_survives_the_way_through_an_engine() {
        let time = Time::from_secs(90) + Duration::from_nanos(7);
        assert_eq!(Time::from_instant(time.instant()), time);
        assert_eq!(time.to_string(), "90.000000");
    }
}
