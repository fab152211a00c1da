//! Failed logins, counted by address: whoever guesses tokens, keys or passwords has to take his time.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::access::whose;
use crate::ids::TokenId;

/// How many logins of one address may fail in a row.
const BURST: u32 = 30;

/// After so long one more may fail.
const REFILL: Duration = Duration::from_secs(2);

/// The most addresses that are remembered; beyond it the one that failed longest ago is forgotten.
const ADDRESSES: usize = 8192;

/// The most tokens that are remembered per address; beyond it the one that was used longest ago is forgotten.
const KNOWN: usize = 64;

/// What opens for whoever knows the right words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// A link with this token.
    Token(TokenId),
    /// The HTTP API.
    Api,
    /// A SOCKS port, as long as it has this owner and these credentials.
    Socks(u64),
}

/// Failed logins of all addresses.
#[derive(Debug, Default)]
pub(crate) struct Attempts(BTreeMap<IpAddr, Attempt>);

#[derive(Debug)]
struct Attempt {
    failures: u32,
    /// When `failures` was right.
    since: Instant,
    /// Ways in that were found from here, the last used last. Behind one address there may be many clients,
    /// and one that fails must not lock the others out.
    known: SmallVec<[Door; 4]>,
}

impl Attempt {
    fn settle(&mut self, now: Instant) {
        let periods = now.saturating_duration_since(self.since).as_secs() / REFILL.as_secs();
        let gone = u32::try_from(periods).unwrap_or(u32::MAX).min(self.failures);
        self.failures -= gone;
        self.since = if self.failures == 0 { now } else { self.since + REFILL * gone };
    }
}

impl Attempts {
    /// Whether anybody at `address` has ever found a way in.
    pub(crate) fn knows(&self, address: IpAddr) -> bool {
        self.0.get(&whose(address)).is_some_and(|attempt| !attempt.known.is_empty())
    }

    /// Whether an attempt from `address` is to be judged at all. `door`: what it would open.
    pub(crate) fn allows(&mut self, address: IpAddr, door: Option<Door>, now: Instant) -> bool {
        let Some(attempt) = self.0.get_mut(&whose(address)) else { return true };
        attempt.settle(now);
        attempt.failures < BURST || door.is_some_and(|door| attempt.known.contains(&door))
    }

    pub(crate) fn on_failure(&mut self, address: IpAddr, now: Instant) {
        let attempt = self.entry(address, now);
        attempt.settle(now);
        attempt.failures = (attempt.failures + 1).min(BURST);
    }

    pub(crate) fn on_success(&mut self, address: IpAddr, door: Door, now: Instant) {
        let known = &mut self.entry(address, now).known;
        known.retain(|other| *other != door);
        if known.len() == KNOWN
            && let Some(oldest) = known.iter().position(|door| *door != Door::Api)
        {
            known.remove(oldest);
        }
        known.push(door);
    }

    fn entry(&mut self, address: IpAddr, now: Instant) -> &mut Attempt {
        let address = whose(address);
        if self.0.len() >= ADDRESSES && !self.0.contains_key(&address) {
            let oldest = self.0.iter().min_by_key(|(_, attempt)| attempt.since).map(|(address, _)| *address);
            oldest.and_then(|oldest| self.0.remove(&oldest));
        }
        self.0.entry(address).or_insert_with(|| Attempt { failures: 0, since: now, known: SmallVec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::{Attempts, BURST, Door, KNOWN, REFILL};
    use crate::ids::TokenId;
    use crate::tests::epoch;

    #[test]
    fn an_address_that_fails_too_often_has_to_wait() {
        let (mut attempts, now) = (Attempts::default(), epoch());
        let (guesser, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        attempts.on_success(guesser, Door::Token(TokenId(7)), now);
        for _ in 0..BURST {
            assert!(attempts.allows(guesser, Some(Door::Token(TokenId(1))), now));
            attempts.on_failure(guesser, now);
        }
        assert!(!attempts.allows(guesser, Some(Door::Token(TokenId(1))), now));
        assert!(
            attempts.allows(guesser, Some(Door::Token(TokenId(7))), now),
            "its neighbours are not locked out"
        );
        assert!(attempts.allows(other, None, now));
        assert!(attempts.allows(guesser, None, now + REFILL));
        attempts.on_failure(guesser, now + REFILL);
        assert!(!attempts.allows(guesser, None, now + REFILL));
        assert!(attempts.allows(guesser, None, now + 1000 * REFILL));
    }

    #[test]
    fn the_tokens_used_last_are_remembered_and_the_api_always() {
        let (mut attempts, now) = (Attempts::default(), epoch());
        let address = "192.0.2.1".parse().unwrap();
        let token = |number: usize| Door::Token(TokenId(number as u64));
        attempts.on_success(address, Door::Api, now);
        for number in (0..KNOWN).chain([0]) {
            attempts.on_success(address, token(number), now);
        }
        for _ in 0..BURST {
            attempts.on_failure(address, now);
        }
        for (door, known) in [(Door::Api, true), (token(0), true), (token(1), false), (token(2), true)] {
            assert_eq!(attempts.allows(address, Some(door), now), known, "{door:?}");
        }
    }

    #[test]
    fn a_guesser_can_not_use_the_addresses_of_his_network() {
        let (mut attempts, now) = (Attempts::default(), epoch());
        for host in 0..BURST {
            attempts.on_failure(format!("2001:db8::{host:x}").parse().unwrap(), now);
        }
        assert!(!attempts.allows("2001:db8::ffff".parse().unwrap(), None, now));
        assert!(attempts.allows("2001:db8:0:1::1".parse().unwrap(), None, now));
    }
}
