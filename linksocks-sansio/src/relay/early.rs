//! Data that comes before its Connect: other programs spread the messages of one channel over
//! several links, or let them overtake each other.
//!
//! It is kept for a while, within bounds. What can't be kept is remembered, so that no stream
//! starts with a hole.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;

use super::opening::tenants;
use super::{Owner, Relay, Timer};
use crate::accounts::{Accounts, Loan, Resource};
use crate::error::ChannelError;
use crate::ids::{ChannelId, LinkId};
use crate::io::receive_cost;
use crate::link::LinkEnd;
use crate::wire::{self, Frame};

/// What is kept for one channel, in bytes of whole messages with their overhead.
const CHANNEL_LIMIT: usize = 64 * 1024;

/// What is kept for all channels of one owner.
const OWNER_LIMIT: usize = 1024 * 1024;

/// Early Data of the links of one owner.
#[derive(Debug)]
pub(super) struct EarlyData {
    channels: BTreeMap<ChannelId, Early>,
    charged: usize,
    /// The memory that it takes.
    loan: Loan,
}

impl Default for EarlyData {
    fn default() -> Self {
        Self { channels: BTreeMap::new(), charged: 0, loan: Loan::new(Resource::Received) }
    }
}

#[derive(Debug)]
struct Early {
    link: LinkId,
    since: Instant,
    /// `None` once a part of it is lost.
    messages: Option<Vec<Bytes>>,
    charged: usize,
}

/// What is known of a channel when its Connect comes.
#[derive(Debug)]
pub(super) enum Found {
    /// All messages that were sent so far.
    Whole(Vec<Bytes>),
    /// A part of it is lost.
    Hole,
    /// It came on another link.
    Elsewhere,
}

impl EarlyData {
    fn keep(
        &mut self,
        link: LinkId,
        id: ChannelId,
        message: &Bytes,
        now: Instant,
        mut pay: impl FnMut(&mut Loan, usize) -> bool,
    ) {
        let cost = receive_cost(message.len());
        let mut may_have = |bytes: usize| bytes <= OWNER_LIMIT && pay(&mut self.loan, bytes);
        if !self.channels.contains_key(&id) {
            if !may_have(self.charged + receive_cost(0)) {
                return;
            }
            self.charged += receive_cost(0);
        }
        let fits = may_have(self.charged + cost);
        let early = self.channels.entry(id).or_insert_with(|| Early {
            link,
            since: now,
            messages: Some(Vec::new()),
            charged: receive_cost(0),
        });
        match &mut early.messages {
            Some(messages) if fits && early.charged + cost <= CHANNEL_LIMIT && early.link == link => {
                // A slice would pin the buffer that the WebSocket layer has read it into.
                messages.push(Bytes::copy_from_slice(message));
                early.charged += cost;
                self.charged += cost;
            }
            _ => self.charged -= early.lose(),
        }
    }

    fn take(&mut self, link: LinkId, id: ChannelId) -> Option<Found> {
        let early = self.channels.remove(&id)?;
        self.charged -= early.charged;
        Some(match early.messages {
            _ if early.link != link => Found::Elsewhere,
            Some(messages) => Found::Whole(messages),
            None => Found::Hole,
        })
    }

    /// Drops what came before `kept`, and forgets what came before `known`.
    fn expire(&mut self, kept: Option<Instant>, known: Option<Instant>) {
        let charged = &mut self.charged;
        self.channels.retain(|_, early| {
            let remembered = known.is_none_or(|known| early.since > known);
            if !remembered {
                *charged -= early.charged;
            } else if kept.is_some_and(|kept| early.since <= kept) {
                *charged -= early.lose();
            }
            remembered
        });
    }

    fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// Gives memory back that is not needed any more.
    fn settle(&mut self, owner: Owner, accounts: &mut Accounts) {
        // Less than before can be paid for.
        let _ = accounts.cover(&mut self.loan, &tenants(owner.0), self.charged);
    }

    /// Forgets everything.
    pub(super) fn forget(&mut self, owner: Owner, accounts: &mut Accounts) {
        (self.channels, self.charged) = (BTreeMap::new(), 0);
        accounts.repay(&mut self.loan, &tenants(owner.0));
    }
}

impl Early {
    /// Drops the messages. Returns what is no longer charged.
    fn lose(&mut self) -> usize {
        self.messages = None;
        let freed = self.charged - receive_cost(0);
        self.charged = receive_cost(0);
        freed
    }
}

impl Relay {
    /// Keeps Data for a channel that a later Connect may open. Peers of our own kind send none.
    pub(super) fn on_early_data(&mut self, id: LinkId, channel: ChannelId, message: &Bytes) {
        self.totals.messages_ignored += 1;
        let Some(link) = self.links.get(id) else { return };
        if matches!(link.end, LinkEnd::Client { .. }) || !link.extensions.is_empty() {
            return;
        }
        if let Some(owner) = link.owner
            && let Some(owned) = self.owners.get_mut(&owner)
        {
            let first = owned.early.is_empty();
            let (accounts, payers) = (&mut self.accounts, tenants(owner.0));
            owned.early.keep(id, channel, message, self.now, |loan, bytes| {
                accounts.cover(loan, &payers, bytes).is_ok()
            });
            owned.early.settle(owner, accounts);
            if first {
                self.set_timer(Timer::Early(owner), self.config.timeouts.early_data);
            }
        }
    }

    pub(super) fn take_early_data(&mut self, link: LinkId, id: ChannelId) -> Option<Found> {
        let owner = self.links.get(link)?.owner?;
        let early = &mut self.owners.get_mut(&owner)?.early;
        let found = early.take(link, id);
        early.settle(owner, &mut self.accounts);
        found
    }

    /// Delivers what came before the Connect of a channel.
    pub(super) fn replay_early_data(&mut self, link: LinkId, messages: Vec<Bytes>) {
        for raw in messages {
            if let Ok(Frame { message, .. }) = wire::decode(raw.clone()) {
                self.on_message(link, message, &raw);
            }
        }
    }

    pub(super) fn on_early_timeout(&mut self, owner: Owner) {
        let kept = self.config.timeouts.early_data;
        let before = |age| self.now.checked_sub(age);
        let Some(owned) = self.owners.get_mut(&owner) else { return };
        // A late Connect is still refused for some time.
        owned.early.expire(before(kept), before(kept * 6));
        owned.early.settle(owner, &mut self.accounts);
        if !owned.early.is_empty() {
            self.set_timer(Timer::Early(owner), kept);
        }
    }
}

impl Found {
    /// What may be delivered, or why the channel can't be opened.
    pub(super) fn whole(self) -> Result<Vec<Bytes>, ChannelError> {
        match self {
            Self::Whole(messages) => Ok(messages),
            Self::Hole => Err(ChannelError::Protocol("data before the connect was lost")),
            Self::Elsewhere => Err(ChannelError::Protocol("data arrived on another link")),
        }
    }
}
