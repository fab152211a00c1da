//! The receive budget: pausing links, and resetting channels whose sockets take nothing.

use super::{Relay, Socket, Timer};
use crate::channel::{Origin, Phase};
use crate::config::Limits;
use crate::error::ChannelError;
use crate::event::Event;
use crate::ids::{ChannelKey, LinkId, SocketId};
use crate::link::{Crossing, ReceiveBudget};

impl Relay {
    /// Brings what a channel is charged in line with what waits for its socket: in the engine and
    /// in the driver.
    pub(super) fn recharge(&mut self, key: ChannelKey) {
        let Some(channel) = self.channels.get(key) else { return };
        let writing = match channel.phase {
            Phase::Open(socket) => self.sockets.get(socket).map_or(0, |socket| socket.writing),
            Phase::Routing | Phase::Joined | Phase::Connecting(Origin::Leg(_)) => self.forwarding(key),
            Phase::Connecting(_) | Phase::Dialing(_) | Phase::SendingRest => 0,
        };
        let Some(channel) = self.channels.get_mut(key) else { return };
        let (before, after) = (channel.charged, channel.inbound.charge() + writing);
        if before == after {
            return;
        }
        channel.charged = after;
        let id = channel.link;
        if before == 0 {
            channel.waiting_since = self.now;
        }
        self.exchange(key, id, before, after);
    }

    /// How much of a gzip payload the driver may get now. What is inflated is charged beside the
    /// payload, which is kept until the end: while the budget is full, there is one step at a time.
    pub(super) fn inflate_step(&self, key: ChannelKey, socket: SocketId) -> Option<usize> {
        let link = self.links.get(self.channels.get(key)?.link).filter(|link| !link.is_ending());
        let budget = link.map_or(&self.detached, |link| &link.budget);
        if !budget.is_paused() {
            return Some(Limits::INFLATE_STEP);
        }
        let idle = self.sockets.get(socket).is_some_and(Socket::is_written);
        idle.then(|| self.config.limits.narrow_step(budget.members().len()))
    }

    /// A channel is gone: what it was charged is free.
    pub(super) fn discharge(&mut self, key: ChannelKey, id: LinkId, charged: usize) {
        self.exchange(key, id, charged, 0);
    }

    fn exchange(&mut self, key: ChannelKey, id: LinkId, before: usize, after: usize) {
        // What a link that ends has delivered is detached from it before the driver lets go of it.
        match self.links.get_mut(id).filter(|link| !link.is_ending()) {
            Some(link) => {
                let crossing = link.budget.exchange(key, before, after);
                self.on_crossing(id, crossing);
            }
            None => {
                if self.detached.exchange(key, before, after) == Some(Crossing::Paused) {
                    self.set_timer(Timer::Stall(None), self.config.timeouts.stall);
                }
            }
        }
    }

    fn on_crossing(&mut self, id: LinkId, crossing: Option<Crossing>) {
        match crossing {
            None => {}
            Some(Crossing::Paused) => {
                self.tell(Event::ReceivePaused { link: id });
                self.on_stall_check(Some(id));
            }
            Some(Crossing::Resumed) => {
                self.timers.cancel(Timer::Stall(Some(id)));
                if let Some(link) = self.links.get_mut(id) {
                    link.keep_alive.last_heard = self.now;
                }
                self.tell(Event::ReceiveResumed { link: id });
                self.grant_receive(id);
            }
        }
    }

    /// A link has begun to end: what it has delivered is no longer charged to it. (Channels that
    /// had already ended are still written.)
    pub(super) fn detach_waiting(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(id) else { return };
        debug_assert!(link.is_ending(), "what waits is charged to the link");
        for key in link.budget.clear() {
            let charged = self.channels.get(key).map_or(0, |channel| channel.charged);
            self.exchange(key, id, 0, charged);
        }
    }

    fn budget(&self, id: Option<LinkId>) -> Option<&ReceiveBudget> {
        match id {
            Some(id) => self.links.get(id).map(|link| &link.budget),
            None => Some(&self.detached),
        }
    }

    /// While the budget is full: resets stalled channels, largest first, until it is relieved.
    pub(super) fn on_stall_check(&mut self, id: Option<LinkId>) {
        let stall = self.config.timeouts.stall;
        let Some(budget) = self.budget(id).filter(|budget| budget.is_paused()) else { return };
        let mut waiting: Vec<_> = budget
            .members()
            .filter_map(|key| {
                self.channels.get(key).map(|channel| (channel.charged, channel.waiting_since, key))
            })
            .collect();
        waiting.sort_unstable_by_key(|&(charged, _, key)| (std::cmp::Reverse(charged), key));
        let mut next_check = stall;
        for (_, since, key) in waiting {
            if self.budget(id).is_none_or(ReceiveBudget::is_relieved) {
                return;
            }
            let silent = self.now.saturating_duration_since(since);
            if silent >= stall {
                self.reset_channel(key, ChannelError::Overflow);
            } else {
                next_check = next_check.min(stall - silent);
            }
        }
        if self.budget(id).is_some_and(ReceiveBudget::is_paused) {
            self.set_timer(Timer::Stall(id), next_check);
        }
    }
}
