//! The memory of what waits for sockets: pausing links, and resetting channels whose sockets take nothing.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::{Relay, Socket, Timer};
use crate::accounts::{Account, Loans};
use crate::channel::{Origin, Phase};
use crate::config::Limits;
use crate::error::ChannelError;
use crate::event::Event;
use crate::ids::{ChannelKey, LinkId, SocketId, TokenId};
use crate::link::{Crossing, Link};

/// While links wait for memory that others hold, those are looked at this often at the most.
const POOL_CHECK: Duration = Duration::from_millis(100);

/// Who has to wait until others give memory back. `None`: what lost links have delivered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unpaid {
    link: Option<LinkId>,
    /// Whose memory is used up.
    account: Account,
}

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
        let link = self.links.get_mut(id).filter(|link| !link.is_ending());
        let id = link.is_some().then_some(id);
        link.map_or(&mut self.detached, |link| &mut link.budget).exchange(key, before, after);
        self.settle(id);
        if after < before {
            self.serve_unpaid();
        }
    }

    /// Pays for what waits of a link, or pauses it.
    fn settle(&mut self, id: Option<LinkId>) {
        let (budget, loans) = match id {
            Some(id) => match self.links.get_mut(id) {
                Some(Link { budget, loans, .. }) => (budget, loans),
                None => return,
            },
            None => (&mut self.detached, &mut self.detached_loans),
        };
        let paid = self.accounts.cover(&mut loans.received, &loans.payers, budget.charged());
        let was_paid = budget.is_paid();
        let crossing = budget.settle(paid.is_ok());
        if let (true, Err(exhausted)) = (was_paid, paid) {
            self.unpaid.push_back(Unpaid { link: id, account: exhausted.account });
            if !self.timers.is_set(Timer::Stall(None)) {
                self.on_stall_check(None);
            }
        }
        self.on_crossing(id, crossing);
    }

    /// Asks those who could not pay for what waits of a link once more. If they still can't, it waits behind all
    /// others that do.
    pub(super) fn settle_anew(&mut self, id: Option<LinkId>) {
        let budget = match id {
            Some(id) => self.links.get_mut(id).map(|link| &mut link.budget),
            None => Some(&mut self.detached),
        };
        if let Some(budget) = budget.filter(|budget| !budget.is_paid()) {
            budget.forgive();
            self.settle(id);
        }
    }

    /// There may be memory again for those who wait for it, in turn.
    fn serve_unpaid(&mut self) {
        // A few at a time: whoever has caused this must not wait for long.
        const AT_ONCE: usize = 8;
        for _ in 0..self.unpaid.len().min(AT_ONCE) {
            let Some(Unpaid { link, .. }) = self.unpaid.pop_front() else { break };
            self.settle_anew(link);
        }
    }

    /// Gives back all that the queues of a link had on credit.
    pub(super) fn repay(&mut self, mut loans: Loans) {
        for loan in [&mut loans.received, &mut loans.kept, &mut loans.read_ahead, &mut loans.datagrams] {
            self.accounts.repay(loan, &loans.payers);
        }
        self.serve_unpaid();
    }

    fn on_crossing(&mut self, id: Option<LinkId>, crossing: Option<Crossing>) {
        match (crossing, id) {
            (None, _) | (Some(Crossing::Resumed), None) => {}
            (Some(Crossing::Paused), None) => self.set_timer(Timer::Stall(None), self.config.timeouts.stall),
            (Some(Crossing::Paused), Some(id)) => {
                self.tell(Event::ReceivePaused { link: id });
                self.on_stall_check(Some(id));
            }
            (Some(Crossing::Resumed), Some(id)) => {
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
        let members = link.budget.clear();
        self.accounts.repay(&mut link.loans.received, &link.loans.payers);
        for key in members {
            let charged = self.channels.get(key).map_or(0, |channel| channel.charged);
            self.exchange(key, id, 0, charged);
        }
    }

    /// What lost links have left is only written out, and nobody can be slowed down for it: so of what is too
    /// much together, channels are reset, even if their sockets take something now and then. Whose token has
    /// left most loses first, its largest channels before others.
    pub(super) fn limit_detached(&mut self) {
        if !self.detached.is_exceeded() {
            return;
        }
        let channels = self.detached.members().filter_map(|key| Some((key, self.channels.get(key)?)));
        let mut left: Vec<_> = channels.map(|(key, channel)| (channel.token, channel.charged, key)).collect();
        let mut by_token = BTreeMap::<TokenId, usize>::new();
        for (token, charged, _) in &left {
            *by_token.entry(*token).or_default() += charged;
        }
        left.sort_by_key(|(token, charged, key)| Reverse((by_token[token], *token, *charged, *key)));
        for (_, _, key) in left {
            if !self.detached.is_exceeded() {
                return;
            }
            self.reset_channel(key, ChannelError::Overflow);
        }
    }

    /// While a budget is full: resets stalled channels, largest first, until it is relieved. `None`: that of
    /// lost links, and memory for which links have to wait.
    pub(super) fn on_stall_check(&mut self, id: Option<LinkId>) {
        if !self.is_short(id) {
            return;
        }
        let mut waiting = self.charged_channels(id);
        waiting.sort_unstable_by_key(|&(charged, _, key)| (Reverse(charged), key));
        let stall = self.config.timeouts.stall;
        let mut next_check = stall;
        for (_, since, key) in waiting {
            if !self.is_short(id) {
                return;
            }
            let silent = self.now.saturating_duration_since(since);
            if silent >= stall {
                self.reset_channel(key, ChannelError::Overflow);
            } else {
                next_check = next_check.min(stall - silent);
            }
        }
        if self.is_short(id) {
            let least = if id.is_none() { POOL_CHECK } else { Duration::ZERO };
            self.set_timer(Timer::Stall(id), next_check.max(least));
        }
    }

    fn is_short(&self, id: Option<LinkId>) -> bool {
        match id {
            Some(id) => self.links.get(id).is_some_and(|link| link.budget.is_paused()),
            None => self.detached.is_paused() || !self.unpaid.is_empty(),
        }
    }

    /// The channels that hold what is short, what they hold, and since when they have taken none of it.
    fn charged_channels(&self, id: Option<LinkId>) -> Vec<(usize, Instant, ChannelKey)> {
        let short: BTreeSet<_> = self.unpaid.iter().map(|unpaid| unpaid.account).collect();
        let is_short = |account: &Account| short.contains(account);
        let members: Vec<_> = match id {
            Some(id) => self.links.get(id).map(|link| link.budget.members().collect()).unwrap_or_default(),
            None => {
                let links = self.links.iter().map(|(_, link)| link);
                let holders = links.filter(|link| link.loans.payers.iter().any(is_short));
                holders.flat_map(|link| link.budget.members()).chain(self.detached.members()).collect()
            }
        };
        let charged =
            |key| self.channels.get(key).map(|channel| (channel.charged, channel.waiting_since, key));
        members.into_iter().filter_map(charged).collect()
    }
}
