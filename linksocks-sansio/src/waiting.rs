//! Wishes that wait for somebody who can fulfil them.

use std::collections::VecDeque;
use std::time::Duration;

use crate::channel::Origin;
use crate::relay::{EngineTimer, Relay, Timer, Wish};

/// Wishes in the order they came in, each with those whom it waits for.
#[derive(Debug)]
pub(crate) struct Waiting<G>(VecDeque<(Origin, Wish, G)>);

impl<G> Default for Waiting<G> {
    fn default() -> Self {
        Self(VecDeque::new())
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
        relay.set_timer(Timer::Engine(EngineTimer::Wanted(origin)), patience);
        self.0.push_back((origin, wish, group));
    }

    /// Takes the wishes that wait for certain groups and are still wanted.
    pub(crate) fn take(&mut self, relay: &mut Relay, matches: impl Fn(&G) -> bool) -> Vec<(Origin, Wish)> {
        let (taken, left) = std::mem::take(&mut self.0).into_iter().partition(|(_, _, group)| matches(group));
        self.0 = left;
        let taken: VecDeque<_> = taken;
        for (origin, _, _) in &taken {
            relay.timers.cancel(Timer::Engine(EngineTimer::Wanted(*origin)));
        }
        let wanted = taken.into_iter().filter(|(origin, _, _)| relay.still_wants(*origin));
        wanted.map(|(origin, wish, _)| (origin, wish)).collect()
    }

    /// A wish has waited long enough. Whether it was still there.
    pub(crate) fn expire(&mut self, origin: Origin) -> bool {
        // Usually it is the first one.
        let place = self.0.iter().position(|(waiting, _, _)| *waiting == origin);
        place.and_then(|place| self.0.remove(place)).is_some()
    }
}
