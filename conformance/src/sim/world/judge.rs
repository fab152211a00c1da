//! What must be true when everything is over.

use std::time::Duration;

use linksocks_sansio::ClientEngine;

use super::World;
use crate::sim::app::Talk;
use crate::sim::app::plan::Entry;
use crate::sim::check::{Verdict, answered_once, ended_when_forgotten, require, served_unless_provoked};
use crate::sim::clock::Time;
use crate::sim::host::Host;
use crate::sim::scenario::{ClientPlan, EntryPlan, PROBES, SERVER, Shape};

impl World {
    /// Holds what happened against what should have.
    pub(super) fn judge(&self) -> Verdict {
        self.talks.iter().filter(|talk| talk.is_honest()).try_for_each(|talk| self.judge_talk(talk))?;
        for chat in self.chats.iter().filter(|chat| chat.plan.is_probe) {
            if self.is_served(self.entry(chat.plan.entry)) {
                chat.served()?;
            }
        }
        for (place, plan) in self.clients.iter().zip(&self.scenario.clients) {
            place.host.iter().try_for_each(|host| self.judge_client(host, plan))?;
        }
        self.server.host.iter().try_for_each(Host::check_idle)
    }

    fn judge_talk(&self, talk: &Talk) -> Verdict {
        let place = self.scenario.place(talk.plan.entry);
        let (entry, disturbances) = (&self.scenario.entries[place], &self.disturbances[place]);
        let is_down = match entry.entry {
            Entry::Client(client) => self.clients[client].stopped().is_some(),
            Entry::Server => disturbances.touch(&talk.span()),
        };
        let may_drop = self.scenario.shape.tight || is_down;
        answered_once(talk, entry.asks_for_login, may_drop, entry.fast_open)?;
        if self.is_served(entry) && talk.plan.is_forgotten() {
            ended_when_forgotten(talk)?;
        } else if self.is_served(entry) {
            served_unless_provoked(talk, entry, disturbances, self.ready(entry))?;
        }
        Ok(())
    }

    /// Since when there has been somebody to ask, as far as it is known when a link is up. Whoever is the
    /// server's own business has its patience, others have less.
    fn ready(&self, entry: &EntryPlan) -> Time {
        const MARGIN: Duration = Duration::from_secs(1);
        let first_link =
            |host: &usize| Some(self.first_links[host.checked_sub(SERVER + 1)?].unwrap_or(PROBES));
        let Some(diallers) = entry.diallers.iter().filter_map(first_link).min() else { return Time::ZERO };
        // A connector that waits for its token comes after its provider.
        let own = Some(entry.entry.host()).filter(|host| *host != SERVER);
        let own = own.filter(|host| self.scenario.clients[host - 1].config.retry_auth);
        own.as_ref().and_then(first_link).unwrap_or(Time::ZERO).max(diallers) + MARGIN
    }

    fn entry(&self, entry: Entry) -> &EntryPlan {
        &self.scenario.entries[self.scenario.place(entry)]
    }

    /// Whether those who come in here must get what they ask for.
    fn is_served(&self, entry: &EntryPlan) -> bool {
        let Shape { tight, impostor, .. } = self.scenario.shape;
        let hosts = entry.diallers.iter().copied().chain([entry.entry.host()]);
        let mut involved = hosts.filter_map(|host| host.checked_sub(SERVER + 1));
        // An impostor may have ended clients for good.
        let is_lost = impostor && involved.any(|client| self.clients[client].stopped().is_some());
        entry.is_known && !is_lost && !tight
    }

    /// Every client that may be there is there, with all its links, and at rest.
    fn judge_client(&self, host: &Host<ClientEngine>, plan: &ClientPlan) -> Verdict {
        let Shape { tight, impostor, calm, .. } = self.scenario.shape;
        if let Some(reason) = host.stopped() {
            // An impostor may say whatever ends a client for good.
            return require(!plan.is_known || impostor, "only wrong tokens end a client", || {
                format!("{} stopped: {reason}", host.name())
            });
        }
        let (ready, wanted) = (host.stats().ready_links, plan.config.links);
        // A connector whose provider an impostor has ended has nobody to vouch for it.
        let has_token = !(impostor && plan.config.retry_auth);
        if ready < wanted && (tight || !has_token) {
            // The server has no room for all links, so the client will not come to rest.
            return Ok(());
        }
        require(plan.is_known && ready == wanted, "links come up again", || {
            format!("{} has {ready} of {wanted} links", host.name())
        })?;
        let broken = host.history().broken;
        require(broken == 0 || !calm || impostor, "links last", || {
            format!("{} lost {broken} links though nothing went wrong", host.name())
        })?;
        host.check_idle()
    }
}
