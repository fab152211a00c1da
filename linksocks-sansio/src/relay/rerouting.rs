//! Providers that don't answer: their links are watched, and others are asked in their place.

use std::net::SocketAddr;
use std::time::Duration;

use uuid::Uuid;

use super::{Opening, Relay, SocketOwner, Want};
use crate::channel::{Application, AssociationPhase, Channel, Leg, Local, Origin, Phase, Sender, Side};
use crate::error::{ChannelError, LinkError, SessionError};
use crate::ids::{AssociationKey, ChannelKey, InstanceId, LinkId, TokenId};
use crate::link::{Link, LinkEnd};
use crate::socks5::Reply;

use super::links::Ending;

/// A peer of which something was heard within this time is not asked whether it is there.
const FRESH: Duration = Duration::from_millis(500);

impl Relay {
    /// Pings a peer that has been quiet, unless a ping is under way.
    pub(crate) fn probe(&mut self, id: LinkId) {
        let now = self.now;
        let Some(link) = self.links.get_mut(id).filter(|link| !link.is_deaf()) else { return };
        let heard = link.keep_alive.last_heard;
        if now.saturating_duration_since(heard) >= FRESH
            && link.keep_alive.ping_sent.is_none_or(|sent| sent < heard)
        {
            link.keep_alive.ping_sent = None;
            self.ping(id);
        }
    }

    /// What the peer of a link has been asked for and has not answered, and for whom.
    pub(crate) fn unanswered(&self, id: LinkId) -> impl Iterator<Item = (Opening, Origin)> {
        let link = self.links.get(id);
        let channels = link.into_iter().flat_map(|link| link.channels.values());
        let streams = channels.filter_map(|key| match self.channels.get(*key)?.phase {
            Phase::Connecting(origin) => Some((Opening::Stream(*key), origin)),
            Phase::Dialing(_) | Phase::Open(_) | Phase::Routing | Phase::Joined | Phase::SendingRest => None,
        });
        let associations = link.into_iter().flat_map(|link| link.associations.values());
        let datagrams = associations.filter_map(|key| {
            let association = self.associations.get(*key)?;
            let origin = match &association.local {
                _ if association.phase != AssociationPhase::Opening => return None,
                Local::Joined { partner: Some(first), side: Side::Socks, .. } => {
                    Origin::Leg(Leg::Datagrams(*first))
                }
                Local::Application(application) => application.origin,
                Local::Joined { .. } | Local::Targets { .. } => return None,
            };
            Some((Opening::Datagrams(*key), origin))
        });
        streams.chain(datagrams)
    }

    /// Whether a ping has been unanswered for too long, and nothing else was heard since.
    pub(crate) fn is_silent(&self, id: LinkId) -> bool {
        let patience = self.config.timeouts.provider_silence;
        let Some(link) = self.links.get(id).filter(|link| !link.is_deaf()) else { return false };
        let keep_alive = &link.keep_alive;
        keep_alive.ping_sent.is_some_and(|sent| {
            keep_alive.last_heard <= sent && self.now.saturating_duration_since(sent) >= patience
        })
    }

    /// Whether a provider refuses a request because it is shutting down. It is asked for nothing more.
    pub(super) fn is_farewell(&mut self, id: LinkId, text: &str) -> bool {
        let Some(link) = self.links.get_mut(id) else { return false };
        let is_server = matches!(link.end, LinkEnd::Server { .. });
        let is_farewell = is_server && text == ChannelError::Shutdown.for_peer();
        link.is_leaving |= is_farewell;
        is_farewell
    }

    /// Asks somebody else for a channel that has been refused, if that is still possible.
    pub(super) fn ask_another(&mut self, key: ChannelKey) -> bool {
        self.leave_wire(key);
        self.reroute_channel(key)
    }

    /// As [`Self::ask_another`].
    pub(super) fn ask_another_for_datagrams(&mut self, key: AssociationKey) -> bool {
        self.leave_wire_association(key);
        self.reroute_association(key)
    }

    /// Asks for everything anew that the peer of a link has been asked for and has not answered.
    pub(super) fn reroute_all(&mut self, id: LinkId) {
        if !self.is_shutting_down() {
            for (opening, _) in self.unanswered(id).collect::<Vec<_>>() {
                self.reroute(opening);
            }
        }
    }

    /// Asks for something anew, if that is still possible.
    pub(crate) fn reroute(&mut self, opening: Opening) -> bool {
        match opening {
            Opening::Stream(key) => self.reroute_channel(key),
            Opening::Datagrams(key) => self.reroute_association(key),
        }
    }

    fn reroute_channel(&mut self, key: ChannelKey) -> bool {
        let Some(Channel { phase: Phase::Connecting(origin), sent: 0, target, .. }) = self.channels.get(key)
        else {
            return false;
        };
        let (origin, target) = (*origin, target.clone());
        match origin {
            Origin::Leg(Leg::Stream(first)) => self.unbind_leg(first, key),
            Origin::Socks(_) | Origin::Http(_) => self.unbind_session(origin),
            Origin::Embed(_) | Origin::Leg(Leg::Datagrams(_)) => {}
        }
        self.disconnect(key, &ChannelError::Unanswered);
        self.remove_channel(key, Some(ChannelError::Unanswered));
        self.admit(origin, Want::Stream(target));
        true
    }

    /// Takes back what the first leg has given to the second.
    fn unbind_leg(&mut self, first: ChannelKey, second: ChannelKey) {
        let Some(channel) = self.channels.get_mut(second) else { return };
        channel.partner = None;
        let messages = channel.outbound.take_messages();
        if let Some(channel) = self.channels.get_mut(first) {
            (channel.partner, channel.write_shut, channel.rerouted) = (None, false, true);
            for message in messages {
                self.totals.send_queued -= message.message.len();
                channel.inbound.hold(message);
            }
        }
        self.recharge(first);
    }

    fn unbind_session(&mut self, origin: Origin) {
        let (Origin::Socks(id) | Origin::Http(id)) = origin else { return };
        let Some(socket) = self.sockets.get_mut(id) else { return };
        if let SocketOwner::Socks(session) = &mut socket.owner {
            session.channel = None;
        } else if let SocketOwner::Http(session) = &mut socket.owner {
            session.channel = None;
        }
    }

    fn reroute_association(&mut self, key: AssociationKey) -> bool {
        let Some(association) = self.associations.get(key) else { return false };
        if association.phase != AssociationPhase::Opening {
            return false;
        }
        let (origin, sender) = match &association.local {
            Local::Joined { partner: Some(first), side: Side::Socks, .. } => {
                let first = *first;
                self.disjoin(first, key);
                (Origin::Leg(Leg::Datagrams(first)), Reply::NO_ADDRESS)
            }
            Local::Application(Application { origin, sender: Sender::Expected(ip, port), .. }) => {
                (*origin, SocketAddr::new(*ip, port.unwrap_or_default()))
            }
            Local::Joined { .. } | Local::Application(_) | Local::Targets { .. } => {
                return false;
            }
        };
        self.unbind_session(origin);
        self.give_up_association(key, ChannelError::Unanswered);
        self.admit(origin, Want::Datagrams(sender));
        true
    }

    /// Ends all links of a token.
    pub(crate) fn cut_owner(&mut self, token: TokenId, error: &LinkError, code: u16) {
        let first = (token, InstanceId(Uuid::nil()));
        if self.owners.range(first..).next().is_none_or(|((owner, _), _)| *owner != token) {
            // Providers add and remove tokens as often as they like: most of them nobody has used.
            return;
        }
        for id in self.links.ids() {
            if self.links.get(id).and_then(|link| link.owner).is_some_and(|(owner, _)| owner == token) {
                if self.links.get(id).is_some_and(Link::is_suspended) {
                    self.end_suspended(Some(id), SessionError::Revoked);
                } else {
                    self.end_link(id, error.clone(), Ending::Close(code));
                }
            }
        }
    }
}
