//! What goes out on links: control messages first, then channels by turns, while there is credit.

use bytes::Bytes;

use super::Relay;
use crate::channel::{Next, OutboundEnd};
use crate::ids::{ChannelKey, LinkId};
use crate::io::Output;
use crate::link::{FlowKey, Flowing, LinkPhase};
use crate::wire::{DATA_HEADER_LEN, Disconnect, Finish};

impl Relay {
    /// Queues a message that goes before all Data of its link.
    pub(crate) fn send_control(&mut self, id: LinkId, message: Bytes) {
        let Some(link) = self.links.get_mut(id) else { return };
        if link.takes_messages() {
            link.control.push(message);
            self.schedule_link(id);
        }
    }

    /// As [`Self::send_control`], in place of the last such message if that has not left.
    pub(crate) fn send_partners(&mut self, id: LinkId, message: Bytes) {
        let Some(link) = self.links.get_mut(id) else { return };
        if link.takes_messages() {
            link.control.set_partners(message);
            self.schedule_link(id);
        }
    }

    /// Queues a message of the time before there are channels.
    pub(crate) fn send_prelude(&mut self, id: LinkId, message: Bytes) {
        let Some(link) = self.links.get_mut(id) else { return };
        if link.is_sending() {
            link.prelude.push_back(message);
            self.schedule_link(id);
        }
    }

    /// As [`Self::send_control`], for what the peer can cause as often as it likes.
    pub(crate) fn send_answer(&mut self, id: LinkId, message: Bytes) {
        let Some(link) = self.links.get_mut(id) else { return };
        if link.takes_messages() {
            link.control.push_answer(message);
            self.schedule_link(id);
        }
    }

    /// Tells the link's scheduler that a channel may have something to send.
    pub(super) fn schedule_channel(&mut self, key: ChannelKey) {
        let Some(channel) = self.channels.get_mut(key) else { return };
        let Some(link) = self.links.get_mut(channel.link) else { return };
        link.flows.wake(FlowKey::Channel(key), &mut channel.outbound, link.pace.cap());
        let id = channel.link;
        self.schedule_link(id);
    }

    pub(super) fn schedule_link(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(id) else { return };
        if !link.scheduled {
            link.scheduled = true;
            self.sendable.push_back(id);
        }
    }

    /// The network took some messages.
    pub(crate) fn on_link_written(&mut self, id: LinkId, bytes: usize) {
        let now = self.now;
        let Some(link) = self.links.get_mut(id) else { return };
        let backlog = link.has_backlog() && !link.is_log_full();
        link.pace.on_written(now, bytes, backlog);
        self.schedule_link(id);
    }

    /// Makes one step of sending, if there is one to make.
    pub(super) fn send_next(&mut self) -> bool {
        let Some(id) = self.sendable.pop_front() else { return false };
        let now = self.now;
        let Some(link) = self.links.get_mut(id) else { return true };
        link.scheduled = false;
        if !link.is_sending() {
            return true;
        }
        if !link.pace.has_credit() {
            // Comes back with the next LinkWritten.
            if link.has_backlog() {
                link.pace.on_blocked(now);
            }
            return true;
        }
        let uncounted = link.next_uncounted();
        if uncounted.is_none() && link.is_log_full() && !self.grow_log(id) {
            // Comes back with the next Ack.
            return true;
        }
        let Some(link) = self.links.get_mut(id) else { return true };
        let deaf = link.is_deaf();
        let counts = uncounted.is_none();
        let (message, sender) = if let Some(message) = uncounted {
            (message, None)
        } else if let Some(message) = link.control.pop() {
            if deaf && !link.is_deaf() {
                self.grant_receive(id);
            }
            (message, None)
        } else if link.phase == LinkPhase::Closing {
            let close = link.close.take();
            self.close_link(id, close);
            return true;
        } else {
            let Self { channels, associations, .. } = self;
            let mut flowing = Flowing { channels, associations };
            match link.flows.next(&mut flowing, link.pace.cap(), now) {
                None => return true,
                Some((key, Next::Data(sealed))) => (sealed.message, Some((key, Some(sealed.carried)))),
                Some((key, Next::End(end))) => {
                    let Some(channel) = flowing.id(key) else { return true };
                    let message = match &end {
                        OutboundEnd::Finish => Finish { channel }.encode(),
                        OutboundEnd::Disconnect(error) => {
                            Disconnect { channel, error: error.clone() }.encode()
                        }
                    };
                    (message, Some((key, None)))
                }
            }
        };
        if let Some(session) = self.links.get_mut(id).and_then(|link| link.session.as_mut())
            && counts
        {
            session.log.push(&message);
        }
        self.on_link_sent(id, message.len());
        let length = message.len();
        self.push(Output::Transmit { link: id, message });
        match sender {
            None => {}
            Some((FlowKey::Channel(key), Some(carried))) => self.on_data_sent(key, length, carried),
            Some((FlowKey::Channel(key), None)) => self.on_end_sent(key),
            Some((FlowKey::Association(key), Some(carried))) => self.on_datagram_sent(key, carried),
            Some((FlowKey::Association(key), None)) => self.on_association_end_sent(key),
        }
        true
    }

    fn on_link_sent(&mut self, id: LinkId, bytes: usize) {
        let now = self.now;
        if let Some(link) = self.links.get_mut(id) {
            link.pace.on_sent(now, bytes);
            self.schedule_link(id);
        }
    }

    /// A Data message of `length` bytes, which carries `carried` bytes of the stream, has left: they
    /// may be replaced by new ones from the socket.
    fn on_data_sent(&mut self, key: ChannelKey, length: usize, carried: usize) {
        let (now, payload) = (self.now, length - DATA_HEADER_LEN);
        self.totals.send_queued -= length;
        self.totals.bytes_sent += carried as u64;
        let Some(channel) = self.channels.get_mut(key) else { return };
        channel.sent += carried as u64;
        if channel.local_eof && channel.outbound.is_empty() {
            // The other side can't answer before it has heard all.
            channel.last_data = now;
        }
        match channel.partner {
            Some(partner) => self.on_forwarded(partner, length),
            None => self.release_read(key, payload),
        }
    }
}
