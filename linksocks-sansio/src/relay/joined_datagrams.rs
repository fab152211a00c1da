//! Agent mode: UDP associations of connectors, joined to those of providers.

use bytes::Bytes;

use super::Relay;
use super::joined::with_our_version;
use crate::channel::{AssociationPhase, Leg, Local, Sealed, Side};
use crate::error::{ChannelError, OpenError};
use crate::ids::{AssociationKey, ChannelId, LinkId};
use crate::wire::ConnectResponse;

impl Relay {
    pub(super) fn add_leg(
        &mut self,
        link: LinkId,
        id: ChannelId,
        side: Side,
        partner: Option<AssociationKey>,
    ) -> AssociationKey {
        let rules = match side {
            Side::Dial => self.association_rules(link, None),
            // What may go on has been decided on the first leg.
            Side::Socks => Default::default(),
        };
        self.add_association(link, id, Local::Joined { partner, side }, rules)
    }

    /// Asks a provider for the association that a connector wants.
    pub(super) fn open_second_leg(&mut self, link: LinkId, leg: Leg) {
        let Leg::Datagrams(first) = leg else { return };
        let Some(id) = self.associations.get(first).map(|association| association.id) else { return };
        if self.find_sibling(link, id).is_some() || self.find_association(link, id).is_some() {
            return self.refuse_leg(leg, OpenError::Connect(ChannelError::Duplicate));
        }
        let second = self.add_leg(link, id, Side::Socks, Some(first));
        self.set_partner(first, Some(second));
        self.request_association(link, second, id);
    }

    /// The second leg is given up, and the first looks for another one.
    pub(super) fn disjoin(&mut self, first: AssociationKey, second: AssociationKey) {
        self.set_partner(first, None);
        self.set_partner(second, None);
    }

    fn set_partner(&mut self, key: AssociationKey, new: Option<AssociationKey>) {
        if let Some(association) = self.associations.get_mut(key)
            && let Local::Joined { partner, .. } = &mut association.local
        {
            *partner = new;
        }
    }

    pub(super) fn is_routing_datagrams(&self, key: AssociationKey) -> bool {
        self.associations.get(key).is_some_and(|association| {
            association.phase == AssociationPhase::Opening && association.partner().is_none()
        })
    }

    /// The provider has agreed.
    pub(super) fn confirm_second_leg(&mut self, key: AssociationKey) {
        let Some(association) = self.associations.get(key) else { return };
        let Some(first) = association.partner().filter(|_| association.phase == AssociationPhase::Opening)
        else {
            return;
        };
        for leg in [first, key] {
            if let Some(association) = self.associations.get_mut(leg) {
                association.phase = AssociationPhase::Open;
                self.establish_association(leg);
            }
        }
        if let Some(association) = self.associations.get(first) {
            let response = ConnectResponse { channel: association.id, result: Ok(()) };
            let link = association.link;
            self.send_answer(link, response.encode());
        }
    }

    /// Passes a datagram of a leg on as it came, unless rules ask for its target. Whether it is done
    /// with.
    pub(super) fn forward_datagram(&mut self, key: AssociationKey, raw: &Bytes, payload: usize) -> bool {
        let now = self.now;
        let Some(association) = self.associations.get_mut(key) else { return true };
        let Local::Joined { partner, side } = association.local else { return false };
        association.last_datagram = now;
        association.received += 1;
        if side == Side::Dial && !association.rules.is_empty() {
            return false;
        }
        self.totals.datagrams_received += 1;
        self.totals.bytes_received += payload as u64;
        match partner {
            // A slice would pin the whole buffer that the WebSocket layer has read it into.
            Some(partner) => {
                let message = with_our_version(&Bytes::copy_from_slice(raw));
                self.queue_datagram(partner, Sealed { message, carried: payload });
            }
            None => self.drop_datagrams(key, 1),
        }
        true
    }

    /// Whether an association only passes datagrams on to another link.
    pub(super) fn is_leg(&self, key: AssociationKey) -> bool {
        let association = self.associations.get(key);
        association.is_some_and(|association| matches!(association.local, Local::Joined { .. }))
    }

    /// Where datagrams go out that come in by an association.
    pub(super) fn outlet(&self, key: AssociationKey) -> AssociationKey {
        self.associations.get(key).and_then(|association| association.partner()).unwrap_or(key)
    }

    /// The other leg is gone.
    pub(super) fn part_associations(&mut self, key: AssociationKey, error: Option<ChannelError>) {
        self.set_partner(key, None);
        if self.is_routing_datagrams(key) {
            self.reset_association(key, error.unwrap_or(ChannelError::NoProvider));
        } else {
            self.end_association(key, error);
        }
    }
}
