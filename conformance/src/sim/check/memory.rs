//! Memory stays within the budgets, and is given back.

use linksocks_sansio::Stats;
use linksocks_sansio::config::Limits;

use super::{Verdict, require};

/// The longest message that is not made of what a socket was read for.
const CONTROL: usize = 64 * 1024;

/// What each link may have waiting of each kind, whatever the others have.
const FREE: usize = 64 * 1024;

/// Compares what an engine says of itself with what it was allowed.
#[derive(Debug)]
pub(super) struct Memory {
    limits: Limits,
    /// The longest message that a peer sends.
    longest: usize,
    /// Whether messages are passed on as they came.
    joins: bool,
    /// The most links at a time so far. What a lost link has delivered may still be written.
    links: usize,
}

impl Memory {
    pub(super) const fn new(limits: Limits, longest: usize, joins: bool) -> Self {
        Self { limits, longest, joins, links: 1 }
    }

    pub(super) fn drained(&mut self, stats: &Stats) -> Verdict {
        // What was on its way when reading paused still comes in, and so does the one message that
        // was allowed to exceed the credit.
        let slack = self.limits.link_receive_window + self.longest;
        self.links = self.links.max(stats.links);
        // Beyond what all links have together, each has a little of its own.
        let each = self.links * (FREE + slack);
        let budget = self.links * (self.limits.link_receive_budget + slack);
        let budget = budget.min(self.limits.memory / 2 + each) + self.inflated(stats.channels);
        require(stats.receive_queued <= budget, "memory stays within the budget", || {
            format!("{} received bytes wait, the budget is {budget}", stats.receive_queued)
        })?;
        // Each socket may have read ahead two messages, or a few small ones with their headers, and
        // what is collected for one more.
        const SMALL_READS: usize = 128 * 1024;
        let message = self.limits.message_max + Limits::MESSAGE_OVERHEAD;
        let ahead = (2 * message).max(SMALL_READS) + message;
        // What waits for another link is charged to the one that it came from. The socket that has read
        // something may be gone.
        let joined = if self.joins { stats.receive_queued } else { 0 };
        let budget = (stats.sockets + stats.links) * ahead + joined;
        let foreign = if self.joins { self.longest } else { 0 };
        let message = self.limits.message_max.max(foreign) + Limits::MESSAGE_OVERHEAD + CONTROL;
        let logs = self.links * (self.limits.session_log.max(FREE) + message) + self.limits.memory / 4;
        require(stats.session_logs <= logs, "memory stays within the budget", || {
            format!("{} bytes wait for acknowledgements, the budget is {logs}", stats.session_logs)
        })?;
        let datagrams = self.links * self.limits.udp_link_bytes;
        let datagrams = datagrams.min(self.links * FREE + self.limits.memory / 8);
        require(stats.datagrams_queued <= datagrams, "memory stays within the budget", || {
            format!("{} bytes of datagrams wait, the budget is {datagrams}", stats.datagrams_queued)
        })?;
        require(stats.send_queued <= budget, "memory stays within the budget", || {
            format!("{} bytes wait for links, the budget is {budget}", stats.send_queued)
        })
    }

    /// What channels may have inflated beyond a full budget: the one that filled it, and then each a step,
    /// smaller the more of them there are.
    fn inflated(&self, channels: usize) -> usize {
        let first = self.limits.socket_write_window + Limits::INFLATE_STEP;
        first * self.links + (0..channels).map(|before| self.limits.narrow_step(before)).sum::<usize>()
    }

    pub(super) fn idle(&self, stats: &Stats) -> Verdict {
        let Stats { channels, sockets, receive_queued, send_queued, datagrams_queued, .. } = *stats;
        let Stats { suspended_links, session_logs, .. } = *stats;
        let sessions = suspended_links + session_logs;
        let zero = [channels, sockets, receive_queued, send_queued, datagrams_queued, sessions]
            .iter()
            .all(|count| *count == 0);
        require(zero, "nothing leaks", || format!("with nothing connected: {stats:?}"))
    }
}
