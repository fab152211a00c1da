//! Sessions: the channels of a lost link wait for the client to come back, and go on where they were.
//!
//! What a lost link leaves is kept as a link without a WebSocket. When the client is back, its new
//! link inherits everything from that one, and both ends send again what the other has not received.

use std::collections::BTreeMap;

use super::{GRACE, Relay, Timer};
use crate::error::{ChannelError, LinkError, SessionError};
use crate::event::Event;
use crate::ids::{LinkId, TokenId};
use crate::link::{AckDue, Link, LinkEnd, LinkPhase, Session, SessionId, SessionTicket};
use crate::wire::SessionHello;

use super::links::{Ending, close_code};

/// The sessions of all links.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    /// The link that each session of a server has now.
    links: BTreeMap<SessionId, LinkId>,
    /// For each slot of a client: what the server is to be told not to wait for any more.
    abandoned: BTreeMap<usize, SessionTicket>,
    suspended: usize,
    /// What waits, by token.
    waiting: BTreeMap<TokenId, Waiting>,
}

/// What waits of the links of one token.
#[derive(Clone, Copy, Debug, Default)]
struct Waiting {
    links: usize,
    /// In bytes, when they were lost.
    bytes: usize,
}

impl Relay {
    // ---- Hellos

    /// What a server's Hello says of sessions.
    pub(super) fn offer_session(&mut self, id: LinkId) -> Option<SessionHello> {
        let link = self.links.get_mut(id).filter(|link| link.extensions.session)?;
        let ticket = SessionTicket::new(&mut self.rng);
        let hello = ticket.hello(0, 0);
        // The client may use it before we hear of that.
        self.sessions.links.insert(ticket.id, id);
        link.session = Some(Session::new(ticket, &self.config.limits));
        Some(hello)
    }

    /// The server offers a session: the client takes it, or asks for the one that it has.
    pub(super) fn on_session_offer(&mut self, id: LinkId, slot: usize, offered: &SessionHello) {
        if let Some((_, session)) = self.suspended_session(slot) {
            let received = session.tell_received();
            let hello = session.ticket.hello(received, SessionHello::RESUME);
            if let Some(link) = self.links.get_mut(id) {
                link.phase = LinkPhase::Resuming;
            }
            self.send_hello(id, Some(hello));
            return;
        }
        let ticket = self.accept_session(id, offered);
        let hello = match self.sessions.abandoned.remove(&slot) {
            Some(abandoned) => abandoned.hello(0, SessionHello::ABANDON),
            None => ticket.hello(0, 0),
        };
        self.send_hello(id, Some(hello));
        self.link_ready(id);
    }

    /// A client's new session is the one that the server offers.
    fn accept_session(&mut self, id: LinkId, offered: &SessionHello) -> SessionTicket {
        let ticket = SessionTicket::from(offered);
        if let Some(link) = self.links.get_mut(id) {
            link.session = Some(Session::new(ticket.clone(), &self.config.limits));
        }
        ticket
    }

    /// The client takes the session that we have offered, or asks for another one.
    pub(super) fn on_session_request(&mut self, id: LinkId, asked: &SessionHello) {
        let Some(own) = self.links.get(id).and_then(|link| link.session.as_ref()) else { return };
        let own = own.ticket.clone();
        if asked.flags & SessionHello::ABANDON != 0 {
            if let Some(holder) = self.find_session(id, asked) {
                let suspended = self.retire(holder);
                self.end_suspended(suspended, SessionError::Abandoned);
            }
            self.link_ready(id);
        } else if asked.flags & SessionHello::RESUME != 0 {
            let holder = self.find_session(id, asked);
            // Only now, when nothing more can come from the old link, the counts are final.
            let suspended = holder.and_then(|holder| self.retire(holder));
            let session = suspended.and_then(|link| self.links.get_mut(link)?.session.as_mut());
            let Some(session) = session else {
                self.send_hello(id, Some(own.hello(0, 0)));
                self.link_ready(id);
                return;
            };
            let received = session.tell_received();
            let answer = session.ticket.hello(received, SessionHello::RESUME);
            if self.take_over(id, suspended, asked.received) {
                self.send_hello(id, Some(answer));
                self.link_ready(id);
            }
        } else if SessionTicket::from(asked) == own {
            self.link_ready(id);
        } else {
            self.protocol_error(id, "the Hello names a session that was not offered".to_owned());
        }
    }

    /// The server says whether the session goes on.
    pub(super) fn on_session_answer(&mut self, id: LinkId, slot: usize, answer: &SessionHello) {
        let suspended = self.suspended_session(slot);
        let goes_on = answer.flags & SessionHello::RESUME != 0;
        let ticket = SessionTicket::from(answer);
        let is_ours = suspended.as_ref().is_some_and(|(_, session)| session.ticket == ticket);
        let suspended = suspended.map(|(link, _)| link);
        match (goes_on, is_ours) {
            // The answer names the session that is to be used instead.
            (false, _) => {
                self.accept_session(id, answer);
                self.link_ready(id);
            }
            (true, true) => {
                if self.take_over(id, suspended, answer.received) {
                    self.link_ready(id);
                }
            }
            // We have given it up in the meantime; a regular end lets the server do so, too.
            (true, false) => self.end_link(id, LinkError::Shutdown, Ending::Close(close_code::NORMAL)),
        }
    }

    /// A link is ready. A session that waits for it and was not taken up never will be.
    pub(super) fn settle_session(&mut self, id: LinkId) {
        let Some(link) = self.links.get(id) else { return };
        match (link.end, &link.session) {
            (LinkEnd::Server { .. }, Some(session)) => {
                self.sessions.links.insert(session.ticket.id, id);
            }
            (LinkEnd::Server { .. }, None) => {}
            (LinkEnd::Client { slot }, _) => {
                if let Some((suspended, _)) = self.suspended_session(slot) {
                    self.end_suspended(Some(suspended), SessionError::Unknown);
                    self.sessions.abandoned.remove(&slot);
                }
            }
        }
    }

    /// The link that has a session, if whoever asks may have it: same token, same process, and it
    /// knows the secret.
    fn find_session(&self, asking: LinkId, asked: &SessionHello) -> Option<LinkId> {
        let ticket = SessionTicket::from(asked);
        let holder = *self.sessions.links.get(&ticket.id)?;
        let (link, asking) = (self.links.get(holder)?, self.links.get(asking).filter(|_| holder != asking)?);
        let is_owner = link.owner.is_some() && link.owner == asking.owner;
        let known = link.session.as_ref().is_some_and(|session| session.ticket == ticket);
        (known && is_owner && link.extensions == asking.extensions).then_some(holder)
    }

    /// What waits for the next link of a client's slot.
    fn suspended_session(&mut self, slot: usize) -> Option<(LinkId, &mut Session)> {
        let end = LinkEnd::Client { slot };
        let is_it = |(_, link): &(LinkId, &Link)| link.is_suspended() && link.end == end;
        let (id, _) = self.links.iter().find(is_it)?;
        Some((id, self.links.get_mut(id)?.session.as_mut()?))
    }

    // ---- suspending and going on

    /// Whether what a link carries may wait for another one, if the link ends for this reason.
    pub(super) fn may_suspend(&self, id: LinkId, error: &LinkError) -> bool {
        let Some(link) = self.links.get(id).filter(|link| link.session.is_some()) else { return false };
        let has_begun = link.is_ready();
        // A client sends at once behind its Hello: both may be lost with the link.
        if self.is_shutting_down() || !has_begun && link.phase != LinkPhase::AwaitingHello {
            return false;
        }
        match error {
            LinkError::Replaced => true,
            LinkError::Timeout(_) if !has_begun => false,
            LinkError::Lost(_) | LinkError::Timeout(_) => {
                let (limits, sessions) = (&self.config.limits, &self.sessions);
                let waiting = link.owner.and_then(|(token, _)| sessions.waiting.get(&token));
                let Waiting { links, bytes } = waiting.copied().unwrap_or_default();
                sessions.suspended < limits.links
                    && links < limits.suspended_links
                    && bytes + self.waiting_bytes(link) <= limits.suspended_bytes
            }
            LinkError::Dial { .. }
            | LinkError::Upstream { .. }
            | LinkError::Upgrade(_)
            | LinkError::Refused(_)
            | LinkError::Tls(_)
            | LinkError::Redirect(_)
            | LinkError::Unsupported(_)
            | LinkError::Rejected(_)
            | LinkError::Version(_)
            | LinkError::Protocol(_)
            | LinkError::Closed(_)
            | LinkError::TokenRemoved
            | LinkError::Shutdown => false,
        }
    }

    /// What waits on a link, in either direction.
    fn waiting_bytes(&self, link: &Link) -> usize {
        let channels = link.channels.values().filter_map(|key| self.channels.get(*key));
        let outbound: usize = channels.map(|channel| channel.outbound.bytes()).sum();
        let log = link.session.as_ref().map_or(0, |session| session.log.charged());
        outbound + log + link.budget.charged() + link.datagram_bytes
    }

    /// Keeps what a link that ends leaves. Returns where.
    pub(super) fn suspend(&mut self, id: LinkId) -> Option<LinkId> {
        let weight = self.links.get(id).map(|link| self.waiting_bytes(link))?;
        let link = self.links.get_mut(id)?;
        let mut suspended = Link::new(link.end, link.extensions, link.payers.clone(), &self.config, self.now);
        suspended.phase = LinkPhase::Suspended;
        (suspended.owner, suspended.peer_window) = (link.owner.take(), link.peer_window);
        link.bequeath(&mut suspended);
        let channels = suspended.channels.len() + suspended.associations.len();
        let session = suspended.session.as_mut()?;
        session.weight = weight;
        self.sessions.suspended += 1;
        if let Some((token, _)) = suspended.owner {
            let waiting = self.sessions.waiting.entry(token).or_default();
            (waiting.links, waiting.bytes) = (waiting.links + 1, waiting.bytes + weight);
        }
        let name = session.ticket.id;
        let heir = self.links.insert(suspended);
        if let Some(link) = self.sessions.links.get_mut(&name) {
            *link = heir;
        }
        self.move_channels(id, heir);
        let grace = self.config.timeouts.transport_grace;
        self.set_timer(Timer::Grace(heir), grace);
        self.tell(Event::LinkSuspended { link: id, channels, grace });
        Some(heir)
    }

    /// Makes sure that a session has no WebSocket any more. Returns where it waits.
    fn retire(&mut self, holder: LinkId) -> Option<LinkId> {
        let link = self.links.get(holder)?;
        if link.is_suspended() {
            return Some(holder);
        }
        let name = link.session.as_ref()?.ticket.id;
        self.end_link(holder, LinkError::Replaced, Ending::Drop);
        let heir = *self.sessions.links.get(&name)?;
        self.links.get(heir)?.is_suspended().then_some(heir)
    }

    /// Gives a new link what a lost one has left. Whether that worked: `received` is how many
    /// messages the peer says that it has received.
    fn take_over(&mut self, id: LinkId, suspended: Option<LinkId>, received: u64) -> bool {
        let Some(suspended) = suspended else { return false };
        let Some(session) = self.links.get_mut(suspended).and_then(|link| link.session.as_mut()) else {
            return false;
        };
        if session.resume(received).is_err() {
            self.end_suspended(Some(suspended), SessionError::Diverged);
            self.protocol_error(id, "a session can't go on from there".to_owned());
            return false;
        }
        self.on_no_longer_suspended(suspended);
        let Some(mut lost) = self.links.remove(suspended) else { return false };
        self.accounts.forget(suspended);
        let Some(link) = self.links.get_mut(id) else { return false };
        if let Some(offered) = &link.session {
            self.sessions.links.remove(&offered.ticket.id);
        }
        lost.bequeath(link);
        let (replayed, channels) = (link.replays(), link.channels.len() + link.associations.len());
        self.move_channels(suspended, id);
        if let Some(owner) = lost.owner {
            self.forget_owner(owner);
        }
        self.repay(lost.loans);
        self.restart_timers(id);
        self.totals.links_resumed += 1;
        self.tell(Event::LinkResumed { link: id, channels, replayed });
        self.schedule_link(id);
        true
    }

    /// Tells all channels that they are on another link now.
    fn move_channels(&mut self, from: LinkId, to: LinkId) {
        self.timers.cancel(Timer::Acknowledge(from));
        self.timers.cancel(Timer::Stall(Some(from)));
        let Self { links, channels, associations, .. } = self;
        let Some(link) = links.get_mut(to) else { return };
        for key in link.channels.values().copied().chain(link.budget.members()) {
            if let Some(channel) = channels.get_mut(key) {
                channel.link = to;
            }
        }
        let mut datagrams = 0;
        for key in link.associations.values() {
            if let Some(association) = associations.get_mut(*key) {
                association.link = to;
                datagrams += association.charged;
            }
        }
        link.datagram_bytes += datagrams;
        if let Some(link) = links.get_mut(from) {
            link.datagram_bytes -= datagrams;
        }
        // In place of the lost link, this one may have to wait for memory.
        self.settle_anew(Some(to));
        self.on_stall_check(Some(to));
    }

    /// What the peer could not answer while there was no link, it has the usual time for now.
    fn restart_timers(&mut self, id: LinkId) {
        let Some(link) = self.links.get(id) else { return };
        let (response, linger) = (self.config.timeouts.response, self.config.timeouts.half_close_linger);
        let channels = link
            .channels
            .values()
            .flat_map(|key| [(Timer::Response(*key), response), (Timer::HalfClose(*key), linger)]);
        let associations = link.associations.values();
        let associations = associations.map(|key| (Timer::AssociationResponse(*key), response));
        for (timer, delay) in channels.chain(associations) {
            if self.timers.is_set(timer) {
                self.timers.set(timer, self.now, delay);
            }
        }
    }

    // ---- giving up

    /// The client is not back in time.
    pub(super) fn on_grace_over(&mut self, id: LinkId) {
        let Some(lost) = self.links.get(id) else { return };
        let end = lost.end;
        let is_client = matches!(end, LinkEnd::Client { .. });
        let is_back = |link: &Link| link.phase == LinkPhase::Resuming && link.end == end;
        if is_client && self.links.iter().any(|(_, link)| is_back(link)) {
            // The server may have taken it up already.
            self.set_timer(Timer::Grace(id), GRACE);
        } else {
            let grace = self.config.timeouts.transport_grace;
            self.end_suspended(Some(id), SessionError::Expired(grace));
        }
    }

    /// Nobody will come back any more.
    pub(super) fn end_suspended_links(&mut self) {
        for id in self.links.ids() {
            if self.links.get(id).is_some_and(Link::is_suspended) {
                self.end_suspended(Some(id), SessionError::Shutdown);
            }
        }
    }

    /// Resets the channels that wait for another link.
    pub(super) fn end_suspended(&mut self, id: Option<LinkId>, error: SessionError) {
        let Some(id) = id else { return };
        self.on_no_longer_suspended(id);
        let Some(link) = self.links.get_mut(id) else { return };
        let channels = link.channels.len() + link.associations.len();
        link.phase = LinkPhase::Closed;
        self.timers.cancel(Timer::Stall(Some(id)));
        self.abort_all(id, &ChannelError::SessionLost(error.clone()));
        if let Some(link) = self.links.remove(id) {
            if let Some(owner) = link.owner {
                self.forget_owner(owner);
            }
            self.accounts.forget(id);
            self.repay(link.loans);
        }
        self.tell(Event::SessionLost { channels, error });
    }

    fn on_no_longer_suspended(&mut self, id: LinkId) {
        self.timers.cancel(Timer::Grace(id));
        let Some(link) = self.links.get(id) else { return };
        let (Some(session), Some((token, _))) = (&link.session, link.owner) else { return };
        self.sessions.suspended -= 1;
        if let Some(waiting) = self.sessions.waiting.get_mut(&token) {
            waiting.links -= 1;
            waiting.bytes -= session.weight;
            if waiting.links == 0 {
                self.sessions.waiting.remove(&token);
            }
        }
    }

    /// Forgets the session of a link that is ending for good.
    pub(super) fn forget_session(&mut self, id: LinkId) {
        self.timers.cancel(Timer::Acknowledge(id));
        let Some(link) = self.links.get_mut(id) else { return };
        let Some(mut session) = link.session.take() else { return };
        session.log.reset_limit();
        self.accounts.repay(&mut link.loans.kept, &link.loans.payers);
        match link.end {
            LinkEnd::Client { slot } => {
                self.sessions.abandoned.insert(slot, session.ticket);
            }
            LinkEnd::Server { .. } => {
                self.sessions.links.remove(&session.ticket.id);
            }
        }
    }

    // ---- counts

    /// A message that counts has come.
    pub(super) fn count_received(&mut self, id: LinkId, length: usize) {
        let Some(session) = self.links.get_mut(id).and_then(|link| link.session.as_mut()) else { return };
        match session.on_received(length) {
            AckDue::Settled => {}
            AckDue::Soon => {
                let delay = self.config.timeouts.acknowledge;
                self.set_timer(Timer::Acknowledge(id), delay);
            }
            AckDue::Now => {
                self.timers.cancel(Timer::Acknowledge(id));
                self.schedule_link(id);
            }
        }
    }

    pub(super) fn on_ack_timer(&mut self, id: LinkId) {
        if let Some(session) = self.links.get_mut(id).and_then(|link| link.session.as_mut()) {
            session.request_ack();
            self.schedule_link(id);
        }
    }

    /// The peer has received so many messages.
    pub(crate) fn on_ack(&mut self, id: LinkId, received: u64) {
        let Some(link) = self.links.get_mut(id) else { return };
        let Some(session) = link.session.as_mut() else { return };
        if session.log.acknowledge(received).is_err() {
            self.protocol_error(id, "an Ack for what was not sent".to_owned());
            return;
        }
        if session.log.shrink() {
            self.accounts.repay(&mut link.loans.kept, &link.loans.payers);
        }
        self.schedule_link(id);
    }

    /// The log of a link that could send is full. Whether it may grow.
    pub(super) fn grow_log(&mut self, id: LinkId) -> bool {
        let Some(link) = self.links.get_mut(id) else { return false };
        let has_backlog = link.has_backlog();
        let Some(session) = &mut link.session else { return false };
        let wanted = session.log.next_limit(self.config.limits.session_log_max);
        if has_backlog
            && let Some(limit) = wanted
            && self.accounts.cover(&mut link.loans.kept, &link.loans.payers, limit).is_ok()
        {
            session.log.grow(limit);
        }
        if session.log.is_full() {
            link.pace.on_held_back();
            self.grant_receive(id);
            return false;
        }
        true
    }

    pub(super) fn suspended_links(&self) -> usize {
        self.sessions.suspended
    }

    /// What all logs keep.
    pub(super) fn session_logs(&self) -> usize {
        let sessions = self.links.iter().filter_map(|(_, link)| link.session.as_ref());
        sessions.map(|session| session.log.charged()).sum()
    }
}
