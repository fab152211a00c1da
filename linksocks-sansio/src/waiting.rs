//! Wishes that wait for somebody who can fulfil them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::channel::Origin;
use crate::relay::{EngineTimer, Relay, Timer, Wish};

/// So many wishes may be over without being noticed.
const LEFT_OVER: usize = 64;

/// Wishes in the order they came in, each with those whom it waits for.
#[derive(Debug)]
pub(crate) struct Waiting<G> {
    wishes: BTreeMap<u64, (Origin, Wish, G)>,
    places: BTreeMap<Origin, u64>,
    next: u64,
    /// As soon as there are so many, those are looked for that nobody has any more.
    sweep_at: usize,
}

impl<G> Default for Waiting<G> {
    fn default() -> Self {
        Self { wishes: BTreeMap::new(), places: BTreeMap::new(), next: 0, sweep_at: LEFT_OVER }
    }
}

impl<G> Waiting<G> {
    /// Lets a wish wait. When `patience` is over, [`EngineTimer::Wanted`] fires.
    pub(crate) fn add(
        &mut self,
        relay: &mut Relay,
        origin: Origin,
        wish: Wish,
        group: G,
        patience: Duration,
    ) {
        if self.wishes.len() >= self.sweep_at {
            let over: Vec<_> =
                self.places.keys().copied().filter(|origin| !relay.still_wants(*origin)).collect();
            for origin in over {
                self.remove(relay, origin);
            }
            self.sweep_at = 2 * self.wishes.len() + LEFT_OVER;
        }
        relay.set_timer(Timer::Engine(EngineTimer::Wanted(origin)), patience);
        self.places.insert(origin, self.next);
        self.wishes.insert(self.next, (origin, wish, group));
        self.next += 1;
    }

    /// Takes the wishes that wait for certain groups and are still wanted.
    pub(crate) fn take(&mut self, relay: &mut Relay, matches: impl Fn(&G) -> bool) -> Vec<(Origin, Wish)> {
        let matching = self.wishes.values().filter(|(_, _, group)| matches(group));
        let origins: Vec<_> = matching.map(|(origin, _, _)| *origin).collect();
        let taken = origins.into_iter().filter_map(|origin| Some((origin, self.remove(relay, origin)?)));
        let taken: Vec<_> = taken.collect();
        taken.into_iter().filter(|(origin, _)| relay.still_wants(*origin)).collect()
    }

    /// A wish has waited long enough. Whether it was still there.
    pub(crate) fn expire(&mut self, relay: &mut Relay, origin: Origin) -> bool {
        self.remove(relay, origin).is_some()
    }

    fn remove(&mut self, relay: &mut Relay, origin: Origin) -> Option<Wish> {
        relay.timers.cancel(Timer::Engine(EngineTimer::Wanted(origin)));
        let (_, wish, _) = self.wishes.remove(&self.places.remove(&origin)?)?;
        Some(wish)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{LEFT_OVER, Waiting};
    use crate::arena::ArenaId;
    use crate::channel::Origin;
    use crate::config::RelayConfig;
    use crate::ids::SocketId;
    use crate::relay::{Notice, Relay, Want};
    use crate::socks5::Reply;
    use crate::tests::epoch;

    #[test]
    fn wishes_that_nobody_has_any_more_are_forgotten() {
        let mut relay = Relay::new(RelayConfig::default(), [0; 32], epoch(), 1000);
        let mut waiting = Waiting::default();
        for number in 0..1000 {
            // There is no such socket any more.
            let gone = Origin::Socks(SocketId::from_parts(number, 0));
            relay.want(gone, Want::Datagrams(Reply::NO_ADDRESS));
            let Some(Notice::Wanted { origin, wish }) = relay.notices.pop_front() else { panic!() };
            waiting.add(&mut relay, origin, wish, (), Duration::from_secs(10));
            assert!(waiting.wishes.len() <= 2 * LEFT_OVER);
            assert_eq!(waiting.wishes.len(), waiting.places.len());
        }
        assert!(waiting.take(&mut relay, |()| true).is_empty());
        assert_eq!(relay.timers.next(), None);
    }
}
