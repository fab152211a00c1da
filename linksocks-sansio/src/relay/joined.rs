//! Agent mode: a channel of a connector is joined to one of a provider, and each of the two legs is
//! the other one's local end. Messages go on as they came, in order, without being unpacked.
//!
//! What waits for a leg's link is charged to the link that it came from, so that it is the sender who
//! is slowed down; windows and ends count hop by hop.

use bytes::Bytes;

use super::channels::EOF;
use super::early::Found;
use super::opening::Acceptable;
use super::{Opening, Relay, Timer, Want};
use crate::channel::{Association, InboundEnd, Leg, Local, Origin, OutboundEnd, Phase, Sealed, Side};
use crate::config::COPY_BELOW;
use crate::error::{ChannelError, OpenError};
use crate::ids::{ChannelId, ChannelKey, LinkId};
use crate::socks5::Reply;
use crate::wire::{self, Connect, ConnectResponse};

/// A message below this length is copied in any case.
const ALWAYS_COPY_BELOW: usize = 4 * 1024;

impl Relay {
    /// A connector asks for a target: leaves a [`Notice::Wanted`](super::Notice::Wanted) if it may
    /// have it.
    pub(crate) fn route_connect(&mut self, link: LinkId, connect: Connect) {
        if connect.resume {
            self.expire_channel(link, connect.channel);
            return;
        }
        let early = self.take_early_data(link, connect.channel);
        let early = early.map(Found::whole).transpose();
        match (self.check_connect(link, &connect), early) {
            (Ok(Acceptable::Stream(target)), Ok(early)) => {
                let key = self.add_channel(link, connect.channel, Side::Dial, target.clone(), Phase::Routing);
                self.want(Origin::Leg(Leg::Stream(key)), Want::Stream(target));
                self.replay_early_data(link, early.unwrap_or_default());
            }
            (Ok(Acceptable::Datagrams), _) => {
                let key = self.add_leg(link, connect.channel, Side::Dial, None);
                self.want(Origin::Leg(Leg::Datagrams(key)), Want::Datagrams(Reply::NO_ADDRESS));
            }
            (Err(error), _) | (_, Err(error)) => self.refuse_connect(link, connect.channel, &error),
        }
    }

    /// The id of a new channel for `origin`. Both legs have the same, so that messages go on as they are;
    /// but what a provider still says about a leg that was given up must not be taken for another one's.
    pub(super) fn choose_id(&mut self, link: LinkId, origin: Origin) -> ChannelId {
        let first = match origin {
            Origin::Leg(Leg::Stream(first)) => {
                self.channels.get(first).filter(|channel| !channel.rerouted).map(|channel| channel.id)
            }
            Origin::Leg(Leg::Datagrams(first)) => match self.associations.get(first) {
                Some(Association { local: Local::Joined { rerouted: false, .. }, id, .. }) => Some(*id),
                _ => None,
            },
            Origin::Socks(_) | Origin::Http(_) | Origin::Embed(_) => None,
        };
        let is_free = |id: &ChannelId| {
            self.find_sibling(link, *id).is_none() && self.find_association(link, *id).is_none()
        };
        first.filter(is_free).unwrap_or_else(|| self.rng.channel_id())
    }

    /// Whether whoever has opened the first leg still waits for the second one.
    pub(super) fn is_routing(&self, leg: Leg) -> bool {
        match leg {
            Leg::Stream(key) => self.channels.get(key).is_some_and(|channel| channel.phase == Phase::Routing),
            Leg::Datagrams(key) => self.is_routing_datagrams(key),
        }
    }

    /// No second leg can be had.
    pub(super) fn refuse_leg(&mut self, leg: Leg, error: OpenError) {
        let error = match error {
            OpenError::Connect(error) => error,
            OpenError::NoLink => ChannelError::NoProvider,
            OpenError::Blocked(target) => ChannelError::Blocked(target),
            OpenError::Limit(exhausted) => ChannelError::Limit(exhausted),
            OpenError::Congested => ChannelError::Congested,
            OpenError::Shutdown | OpenError::Stopped(_) => ChannelError::Shutdown,
            OpenError::Bind(_) | OpenError::Unsupported => ChannelError::NotADialSide,
        };
        match leg {
            Leg::Stream(key) => self.reset_channel(key, error),
            Leg::Datagrams(key) => self.reset_association(key, error),
        }
    }

    /// Makes the second leg known to the first. What has come for it already goes on.
    pub(super) fn bind_leg(&mut self, leg: Leg, opening: Opening) {
        match (leg, opening) {
            (Leg::Stream(first), Opening::Stream(second)) => {
                if let Some(channel) = self.channels.get_mut(second) {
                    channel.partner = Some(first);
                }
                let Some(channel) = self.channels.get_mut(first) else { return };
                channel.partner = Some(second);
                for message in channel.inbound.take_held() {
                    self.pass_on(first, message);
                }
                self.end_writing(first);
            }
            (Leg::Stream(_), Opening::Datagrams(_)) | (Leg::Datagrams(_), _) => {}
        }
    }

    /// The provider has connected: both legs are open.
    pub(super) fn confirm_leg(&mut self, first: ChannelKey, second: ChannelKey) {
        for key in [first, second] {
            if let Some(channel) = self.channels.get_mut(key) {
                channel.phase = Phase::Joined;
                self.announce_channel(key);
            }
        }
        if let Some(channel) = self.channels.get(first).filter(|channel| channel.on_wire) {
            let response = ConnectResponse { channel: channel.id, result: Ok(()) };
            let link = channel.link;
            self.send_answer(link, response.encode());
        }
    }

    /// Data of a leg goes on to the other one.
    pub(super) fn forward(&mut self, key: ChannelKey, raw: &Bytes, payload: usize) {
        let Some(channel) = self.channels.get_mut(key) else { return };
        channel.last_used = self.now;
        channel.received += payload as u64;
        self.totals.bytes_received += payload as u64;
        self.pass_on(key, Sealed { message: raw.clone(), carried: payload });
    }

    fn pass_on(&mut self, key: ChannelKey, mut sealed: Sealed) {
        let Some(partner) = self.channels.get(key).map(|channel| channel.partner) else { return };
        if let Some(partner) = partner {
            let Some(other) = self.channels.get_mut(partner) else { return };
            other.last_used = self.now;
            sealed.message = wire::readdress(&sealed.message, other.id);
            let waits = !other.outbound.is_empty() && sealed.message.len() < COPY_BELOW;
            if waits || sealed.message.len() < ALWAYS_COPY_BELOW {
                sealed.message = Bytes::copy_from_slice(&sealed.message);
            }
            self.totals.send_queued += sealed.message.len();
            other.outbound.push(sealed);
            self.schedule_channel(partner);
        } else if let Some(channel) = self.channels.get_mut(key) {
            sealed.message = Bytes::copy_from_slice(&sealed.message);
            channel.inbound.hold(sealed);
        }
        self.recharge(key);
    }

    /// What of a leg's messages waits for the other leg's link.
    pub(super) fn forwarding(&self, key: ChannelKey) -> usize {
        let partner = self.channels.get(key).and_then(|channel| channel.partner);
        partner.and_then(|partner| self.channels.get(partner)).map_or(0, |partner| partner.outbound.weight())
    }

    /// A message of `length` bytes that came in on `key` has left on the other leg.
    pub(super) fn on_forwarded(&mut self, key: ChannelKey, length: usize) {
        if let Some(channel) = self.channels.get_mut(key) {
            (channel.waiting_since, channel.last_used) = (self.now, self.now);
            self.return_credit(key, length);
            self.recharge(key);
            self.end_writing(key);
        }
    }

    /// The peer of `key` has ended its direction, so the other leg's local end has. Once everything has
    /// gone on there, and the leg is `over`, it is removed.
    pub(super) fn end_forwarding(&mut self, key: ChannelKey, end: InboundEnd, over: bool) {
        let Some(channel) = self.channels.get_mut(key) else { return };
        if let Some(partner) = channel.partner {
            let told = std::mem::replace(&mut channel.write_shut, true);
            match end {
                InboundEnd::Finish if told => {}
                InboundEnd::Finish => self.on_local_eof(partner),
                InboundEnd::Close => self.close_leg(partner),
            }
        }
        let forwarded = self.forwarding(key) == 0;
        let Some(channel) = self.channels.get(key) else { return };
        // Without a second leg, the first one either waits for it or is all that is left.
        let is_left = channel.partner.is_none() && !channel.on_wire;
        if over && forwarded && (channel.write_shut || is_left) {
            self.remove_channel(key, None);
        }
    }

    /// The local end of a leg is over: what came from there still goes out, then the regular end. What
    /// the peer sends from now on is for nobody.
    fn close_leg(&mut self, key: ChannelKey) {
        let Some(channel) = self.channels.get_mut(key) else { return };
        if channel.phase == Phase::SendingRest {
            return;
        }
        let (on_wire, finish, complete) = (channel.on_wire, channel.extensions.finish, channel.local_eof);
        channel.phase = Phase::SendingRest;
        channel.local_eof = true;
        channel.inbound.clear();
        self.timers.cancel(Timer::Response(key));
        self.timers.cancel(Timer::HalfClose(key));
        if !on_wire {
            self.remove_channel(key, None);
        } else if !complete {
            let end =
                if finish { OutboundEnd::Finish } else { OutboundEnd::Disconnect(Some(EOF.to_owned())) };
            self.end_sending(key, end);
        } else if finish {
            self.finish_leg(key);
        } else {
            self.end_sending(key, OutboundEnd::Disconnect(Some(EOF.to_owned())));
        }
    }

    /// Everything for the peer of a leg that is over has been sent, with Finish: it is told that
    /// nobody listens to it any more.
    pub(super) fn finish_leg(&mut self, key: ChannelKey) {
        let Some(channel) = self.channels.get(key) else { return };
        if channel.phase == Phase::SendingRest && channel.end_sent {
            self.disconnect(key, &ChannelError::NobodyListens);
            self.remove_channel(key, None);
        }
    }

    /// A leg is gone. `error`: why, if that was not its regular end.
    pub(super) fn part(&mut self, partner: ChannelKey, error: Option<ChannelError>) {
        let Some(channel) = self.channels.get_mut(partner) else { return };
        channel.partner = None;
        self.recharge(partner);
        match error {
            Some(error) => self.reset_channel(partner, error),
            None => self.end_writing(partner),
        }
    }
}
