//! Delays between attempts to connect.

use std::time::Duration;

use crate::config::BackoffConfig;
use crate::rng::EngineRng;

/// Exponential back-off with seeded jitter.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    config: BackoffConfig,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(config: BackoffConfig) -> Self {
        Self { config, failures: 0 }
    }

    /// The delay after one more failure.
    pub(crate) fn next_delay(&mut self, rng: &mut EngineRng) -> Duration {
        let exponent = i32::try_from(self.failures).unwrap_or(i32::MAX);
        self.failures = self.failures.saturating_add(1);
        let growth = self.config.factor.max(1.0).powi(exponent);
        let max = self.config.max.as_secs_f64();
        let delay = (self.config.first.as_secs_f64() * growth).min(max);
        let varied = delay * (1.0 + self.config.jitter * rng.signed_unit());
        Duration::try_from_secs_f64(varied.clamp(0.0, max)).unwrap_or(self.config.max)
    }

    /// Starts over: the peer has accepted us.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::Backoff;
    use crate::config::BackoffConfig;
    use crate::rng::EngineRng;
    use std::time::Duration;

    #[test]
    fn delays_grow_to_the_cap_and_start_over() {
        let mut rng = EngineRng::new([1; 32]);
        let mut backoff = Backoff::new(BackoffConfig { jitter: 0.0, ..BackoffConfig::default() });
        let delays: Vec<_> = (0..4).map(|_| backoff.next_delay(&mut rng).as_millis()).collect();
        assert_eq!(delays, [1000, 1500, 2250, 3375]);
        for _ in 0..5000 {
            assert!(backoff.next_delay(&mut rng) <= Duration::from_secs(60));
        }
        assert_eq!(backoff.next_delay(&mut rng), Duration::from_secs(60));
        backoff.reset();
        assert_eq!(backoff.next_delay(&mut rng), Duration::from_secs(1));
    }

    #[test]
    fn a_fixed_delay_stays_what_it_is() {
        let mut rng = EngineRng::new([3; 32]);
        for delay in [Duration::from_millis(1), Duration::from_secs(5), Duration::from_secs(3600)] {
            let mut backoff = Backoff::new(BackoffConfig::fixed(delay));
            assert!((0..50).all(|_| backoff.next_delay(&mut rng) == delay), "{delay:?}");
        }
    }

    #[test]
    fn jitter_stays_within_its_share() {
        let mut rng = EngineRng::new([2; 32]);
        let delays: Vec<_> = (0..200)
            .map(|_| Backoff::new(BackoffConfig::default()).next_delay(&mut rng).as_secs_f64())
            .collect();
        assert!(delays.iter().all(|delay| (0.8..=1.2).contains(delay)));
        assert!(delays.iter().any(|delay| *delay < 0.9) && delays.iter().any(|delay| *delay > 1.1));
    }
}
