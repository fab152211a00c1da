//! Agent mode: UDP associations of connectors, joined to those of providers.

use bytes::Bytes;

use super::Relay;
use crate::channel::{Association, AssociationPhase, Leg, Local, Origin, Sealed, Side};
use crate::error::ChannelError;
use crate::ids::{AssociationKey, ChannelId, LinkId};
use crate::wire::{self, ConnectResponse, Endpoints};

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
        self.add_association(link, id, Local::Joined { partner, side, rerouted: false }, rules)
    }

    /// Asks a provider for the association that a connector wants.
    pub(super) fn open_second_leg(&mut self, link: LinkId, leg: Leg) {
        let Leg::Datagrams(first) = leg else { return };
        if !self.is_routing_datagrams(first) {
            return;
        }
        let id = self.choose_id(link, Origin::Leg(leg));
        let second = self.add_leg(link, id, Side::Socks, Some(first));
        self.set_partner(first, Some(second));
        self.request_association(link, second, id);
    }

    /// The second leg is given up, and the first looks for another one.
    pub(super) fn disjoin(&mut self, first: AssociationKey, second: AssociationKey) {
        self.set_partner(second, None);
        if let Some(Association { local: Local::Joined { partner, rerouted, .. }, .. }) =
            self.associations.get_mut(first)
        {
            (*partner, *rerouted) = (None, true);
        }
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

    /// A datagram of a leg has come. Passes it on as it came, unless its target has to be judged or it is
    /// of a form that not every peer reads. Whether it is done with.
    pub(super) fn forward_datagram(
        &mut self,
        key: AssociationKey,
        raw: &Bytes,
        payload: usize,
        endpoints: &Endpoints,
    ) -> bool {
        let now = self.now;
        let Some(association) = self.associations.get_mut(key) else { return true };
        let Local::Joined { partner, side, .. } = association.local else { return false };
        association.last_datagram = now;
        association.received += 1;
        self.totals.datagrams_received += 1;
        self.totals.bytes_received += payload as u64;
        let is_judged = side == Side::Dial && !association.rules.is_empty();
        let Some(partner) = partner else {
            self.drop_datagrams(key, 1);
            return true;
        };
        if is_judged || matches!(endpoints, Endpoints::One(_)) {
            return false;
        }
        if let Some(id) = self.associations.get(partner).map(|association| association.id) {
            // A slice would pin the whole buffer that the WebSocket layer has read it into.
            let message = wire::readdress(&Bytes::copy_from_slice(raw), id);
            self.queue_datagram(partner, Sealed { message, carried: payload });
        }
        true
    }

    /// Whether an association only passes datagrams on to another link.
    pub(super) fn is_leg(&self, key: AssociationKey) -> bool {
        let association = self.associations.get(key);
        association.is_some_and(|association| matches!(association.local, Local::Joined { .. }))
    }

    /// Where datagrams go out that come in by an association, as far as that is known.
    pub(super) fn outlet(&self, key: AssociationKey) -> Option<AssociationKey> {
        match self.associations.get(key)?.local {
            Local::Joined { partner, .. } => partner,
            Local::Application(_) | Local::Targets { .. } => Some(key),
        }
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
