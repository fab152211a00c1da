//! The life of open channels: how bytes pass and how they end, with both kinds of peers.
//!
//! With the `finish` extension each direction ends on its own: Finish after the last byte; the
//! channel is over when both have been sent and received. A Disconnect aborts it, except that a
//! direction whose Finish has come is complete and still delivered.
//!
//! Without it a Disconnect (empty or `EOF`) ends the sender's direction in order and cuts the
//! other one; any other text aborts.

use std::time::Duration;

use bytes::Bytes;

use super::opening::tenants;
use super::{Relay, Socket, Timer};
use crate::accounts::Resource;
use crate::channel::{Channel, Consumed, InboundEnd, Origin, OutboundEnd, Phase, Side};
use crate::error::{ChannelError, OpenError, SocketError};
use crate::event::Event;
use crate::ids::{ChannelId, ChannelKey, LinkId};
use crate::io::ReadBuf;
use crate::wire::{Compression, Data, Disconnect, Window};

/// The text of a Disconnect that is no error (as real programs write it).
pub(super) const EOF: &str = "EOF";

/// How long everybody else has a turn after a step of inflating that gave nothing: some times what the step took.
const INFLATE_PAUSE: Duration = Duration::from_millis(20);

impl Relay {
    // ---- link → socket

    pub(crate) fn on_data(&mut self, link: LinkId, data: Data, raw: &Bytes) {
        let Some(key) = self.find_channel(link, data.channel) else {
            if self.reset_sibling(link, data.channel) {
                return;
            }
            self.on_early_data(link, data.channel, raw);
            return;
        };
        let (now, length) = (self.now, raw.len());
        let Some(channel) = self.channels.get_mut(key) else { return };
        if data.datagram.is_some() {
            self.reset_channel(key, ChannelError::Protocol("datagram on a TCP channel"));
            return;
        }
        if channel.inbound.end.is_some() {
            self.reset_channel(key, ChannelError::Protocol("data after finish"));
            return;
        }
        if channel.extensions.window && channel.granted.on_received(length).is_err() {
            self.reset_channel(key, ChannelError::Protocol("window exceeded"));
            return;
        }
        (channel.last_data, channel.last_used) = (now, now);
        if channel.phase == Phase::SendingRest {
            self.return_credit(key, length);
            return;
        }
        let payload = data.payload.len();
        if matches!(channel.phase, Phase::Routing | Phase::Joined | Phase::Connecting(Origin::Leg(_))) {
            self.confirm_channel(key);
            self.forward(key, raw, payload);
            return;
        }
        match data.compression {
            Compression::None => {
                channel.received += payload as u64;
                self.totals.bytes_received += payload as u64;
                channel.inbound.push(data.payload);
            }
            Compression::Gzip => channel.inbound.push_gzip(data.payload),
        }
        self.return_credit(key, length - payload);
        self.confirm_channel(key);
        self.deliver(key);
    }

    /// Writes what the socket takes, keeps the rest, and ends the socket if this was the end.
    pub(super) fn deliver(&mut self, key: ChannelKey) {
        while let Some(Channel { phase: Phase::Open(socket), .. }) = self.channels.get(key) {
            let socket = *socket;
            if !self.can_write(socket) {
                break;
            }
            let step = self.inflate_step(key, socket);
            let Some(channel) = self.channels.get_mut(key) else { return };
            match channel.inbound.pop(step) {
                Ok(Some(bytes)) => self.write(socket, bytes),
                Ok(None) => break,
                Err(_) => {
                    self.reset_channel(key, ChannelError::Protocol("invalid gzip data"));
                    return;
                }
            }
        }
        let Some(channel) = self.channels.get_mut(key) else { return };
        channel.inbound.settle();
        let tired = channel.inbound.take_tired();
        let (released, inflated) = (channel.inbound.take_released(), channel.inbound.take_inflated());
        channel.received += inflated as u64;
        self.totals.bytes_received += inflated as u64;
        self.return_credit(key, released);
        self.recharge(key);
        if tired {
            self.set_timer(Timer::Inflate(key), INFLATE_PAUSE);
        }
        self.end_writing(key);
    }

    /// Lets the peer send as much again as no longer waits.
    pub(super) fn return_credit(&mut self, key: ChannelKey, bytes: usize) {
        let Some(channel) = self.channels.get_mut(key) else { return };
        if !channel.extensions.window || !channel.on_wire {
            return;
        }
        let (id, granted) = (channel.link, &mut channel.granted);
        let Some(link) = self.links.get_mut(id) else { return };
        // Windows may only grow while memory for what they let come is not short.
        let room = if link.budget.is_paused() { 0 } else { self.config.limits.link_receive_budget / 2 };
        let grown = granted.extra();
        let room = (room + grown).saturating_sub(link.extra_windows);
        let most = room.saturating_add(self.config.extensions.window as usize);
        let most = most.min(self.config.extensions.window_max as usize);
        let round_trip = link.keep_alive.round_trip;
        let Some(bytes) = granted.on_consumed(Consumed { bytes, now: self.now, round_trip, most }) else {
            return;
        };
        link.extra_windows = link.extra_windows + granted.extra() - grown;
        let window = Window { channel: channel.id, bytes };
        self.send_control(id, window.encode());
    }

    /// The socket took some bytes.
    pub(super) fn on_local_progress(&mut self, key: ChannelKey) {
        if let Some(channel) = self.channels.get_mut(key) {
            (channel.waiting_since, channel.last_used) = (self.now, self.now);
            self.deliver(key);
        }
    }

    /// Once everything is handed to the local end: tells it that no more comes; once everything is
    /// written and nothing can come from it any more, closes it.
    pub(super) fn end_writing(&mut self, key: ChannelKey) {
        let Some(channel) = self.channels.get_mut(key) else { return };
        let Some(end) = channel.inbound.end.filter(|_| channel.inbound.is_empty_queue()) else { return };
        let over = match end {
            InboundEnd::Close => true,
            InboundEnd::Finish => channel.end_sent,
        };
        match channel.phase {
            Phase::Open(socket) if over && self.sockets.get(socket).is_some_and(Socket::is_written) => {
                self.remove_channel(key, None);
                self.close_socket(socket);
            }
            Phase::Open(socket) if !channel.write_shut => {
                channel.write_shut = true;
                self.shut_down_write(socket);
            }
            Phase::Routing | Phase::Joined => self.end_forwarding(key, end, over),
            Phase::Open(_) | Phase::Connecting(_) | Phase::Dialing(_) | Phase::SendingRest => {}
        }
    }

    pub(crate) fn on_finish(&mut self, link: LinkId, id: ChannelId) {
        let Some(key) = self.find_channel(link, id) else {
            self.reset_sibling(link, id);
            return;
        };
        let Some(channel) = self.channels.get_mut(key) else { return };
        if channel.inbound.end.is_some() {
            self.reset_channel(key, ChannelError::Protocol("finish after finish"));
            return;
        }
        channel.inbound.end = Some(InboundEnd::Finish);
        if channel.end_sent {
            self.leave_wire(key);
        }
        self.confirm_channel(key);
        self.deliver(key);
    }

    pub(crate) fn on_disconnect(&mut self, link: LinkId, disconnect: Disconnect) {
        let Some(key) = self.find_channel(link, disconnect.channel) else {
            self.reset_sibling(link, disconnect.channel);
            return;
        };
        let Some(channel) = self.channels.get_mut(key) else { return };
        let text = disconnect.error.unwrap_or_default();
        let regular = text.is_empty() || text == EOF;
        // What the peer has sent is all there is, and it will take nothing more from us.
        let complete = match channel.extensions.finish {
            true => channel.inbound.end == Some(InboundEnd::Finish),
            false => regular,
        };
        let deliverable = match channel.phase {
            Phase::Open(_) => !channel.unconfirmed,
            Phase::Dialing(_) => !channel.inbound.is_empty_queue(),
            Phase::Routing => !channel.inbound.is_empty_queue() || channel.received > 0,
            Phase::Joined => true,
            Phase::Connecting(_) | Phase::SendingRest => false,
        };
        self.leave_wire(key);
        if complete && deliverable {
            self.timers.cancel(Timer::HalfClose(key));
            if let Some(channel) = self.channels.get_mut(key) {
                channel.inbound.end = Some(InboundEnd::Close);
                let (read, partner) = (channel.outbound.payload_bytes(), channel.partner);
                self.totals.send_queued -= channel.outbound.clear();
                self.release_read(key, read);
                if let Some(partner) = partner {
                    self.recharge(partner);
                }
            }
            self.deliver(key);
        } else {
            let text = if text.is_empty() { EOF.to_owned() } else { text };
            self.abort_channel(key, ChannelError::Remote(text));
        }
    }

    // ---- socket → link

    pub(super) fn on_local_data(&mut self, key: ChannelKey, buf: ReadBuf) {
        let length = buf.len();
        let Some(channel) = self.channels.get_mut(key) else { return };
        if !channel.wants_input() || buf.is_empty() {
            self.release_read(key, length);
            return;
        }
        channel.last_used = self.now;
        debug_assert!(length <= self.config.limits.message_max);
        self.enqueue(key, buf);
    }

    pub(super) fn on_local_eof(&mut self, key: ChannelKey) {
        let now = self.now;
        let Some(channel) = self.channels.get_mut(key) else { return };
        if std::mem::replace(&mut channel.local_eof, true) || !channel.on_wire {
            return;
        }
        // Nothing more can join what waits.
        self.flush(key);
        let Some(channel) = self.channels.get_mut(key) else { return };
        if channel.extensions.finish {
            self.end_sending(key, OutboundEnd::Finish);
            return;
        }
        match channel.side {
            // The application behind the SOCKS side waits for this end.
            Side::Dial => self.end_sending(key, OutboundEnd::Disconnect(Some(EOF.to_owned()))),
            // A Disconnect would cut off the answer that the application may still wait for.
            Side::Socks => {
                channel.last_data = now;
                self.set_timer(Timer::HalfClose(key), self.config.timeouts.half_close_linger);
            }
        }
    }

    pub(super) fn on_half_close_timeout(&mut self, key: ChannelKey) {
        let linger = self.config.timeouts.half_close_linger;
        let Some(channel) = self.channels.get(key) else { return };
        let silent = self.now.saturating_duration_since(channel.last_data);
        let is_opening = channel.unconfirmed || matches!(channel.phase, Phase::Connecting(_));
        let unheard = is_opening || !channel.outbound.is_empty();
        if channel.charged > 0 || unheard || self.is_deaf(channel.link) {
            self.set_timer(Timer::HalfClose(key), linger);
        } else if silent < linger {
            self.set_timer(Timer::HalfClose(key), linger - silent);
        } else {
            self.end_sending(key, OutboundEnd::Disconnect(Some(EOF.to_owned())));
        }
    }

    pub(super) fn end_sending(&mut self, key: ChannelKey, end: OutboundEnd) {
        self.flush(key);
        if let Some(channel) = self.channels.get_mut(key) {
            channel.outbound.finish_with(end);
            self.schedule_channel(key);
        }
    }

    /// The message that ends our direction has left.
    pub(super) fn on_end_sent(&mut self, key: ChannelKey) {
        let Some(channel) = self.channels.get_mut(key) else { return };
        channel.end_sent = true;
        if channel.extensions.finish {
            let (failed, phase) = (channel.error.clone(), channel.phase);
            if channel.inbound.end.is_some() {
                self.leave_wire(key);
            }
            match failed {
                Some(error) => self.reset_channel(key, error),
                None if phase == Phase::SendingRest => self.finish_leg(key),
                None => self.end_writing(key),
            }
            return;
        }
        self.leave_wire(key);
        let Some(channel) = self.channels.get_mut(key) else { return };
        let written = channel.charged == 0;
        match (channel.phase, channel.side) {
            (Phase::SendingRest, _) => {
                let error = channel.error.take();
                self.remove_channel(key, error);
            }
            // The other side takes no answer to its upload any more, and can't be told of its fate.
            (Phase::Open(_), Side::Dial) if !written => self.abort_channel(key, ChannelError::Truncated),
            _ => {
                channel.inbound.end = Some(InboundEnd::Close);
                self.end_writing(key);
            }
        }
    }

    /// The socket of a channel broke; it is released.
    pub(super) fn on_local_failure(&mut self, key: ChannelKey, error: SocketError) {
        self.timers.cancel(Timer::HalfClose(key));
        let Some(channel) = self.channels.get_mut(key) else { return };
        let reason = ChannelError::Socket(error);
        let (on_wire, finish, end_sent) = (channel.on_wire, channel.extensions.finish, channel.end_sent);
        channel.phase = Phase::SendingRest;
        channel.inbound.clear();
        channel.error = Some(reason.clone());
        let complete = channel.local_eof;
        self.recharge(key);
        if !on_wire {
            self.remove_channel(key, Some(reason));
        } else if finish && (end_sent || !complete) {
            self.reset_channel(key, reason);
        } else if !complete {
            // In order: what came before the failure counts.
            self.end_sending(key, OutboundEnd::Disconnect(Some(reason.to_string())));
        } else if !finish {
            // All that there was goes out, with its regular end.
            self.end_sending(key, OutboundEnd::Disconnect(Some(EOF.to_owned())));
        }
    }

    pub(crate) fn on_window(&mut self, link: LinkId, window: Window) {
        if let Some(key) = self.find_channel(link, window.channel)
            && let Some(channel) = self.channels.get_mut(key)
        {
            channel.outbound.add_credit(window.bytes);
            self.schedule_channel(key);
        }
    }

    // ---- endings

    /// Ends a channel with a reason, at both ends.
    pub(super) fn reset_channel(&mut self, key: ChannelKey, error: ChannelError) {
        match self.channels.get(key) {
            Some(Channel { phase: Phase::Dialing(_) | Phase::Routing, on_wire: true, link, id, .. }) => {
                // Real peers ignore a Disconnect while they wait for the response.
                let (link, id) = (*link, *id);
                self.refuse_connect(link, id, &error);
            }
            _ => self.disconnect(key, &error),
        }
        self.abort_channel(key, error);
    }

    pub(super) fn disconnect(&mut self, key: ChannelKey, error: &ChannelError) {
        if let Some(channel) = self.channels.get(key)
            && channel.on_wire
        {
            let disconnect = Disconnect { channel: channel.id, error: Some(error.for_peer()) };
            let link = channel.link;
            self.send_control(link, disconnect.encode());
        }
    }

    /// Ends a channel with a reason, at our end.
    pub(crate) fn abort_channel(&mut self, key: ChannelKey, error: ChannelError) {
        let Some(channel) = self.remove_channel(key, Some(error.clone())) else { return };
        match channel.phase {
            Phase::Connecting(origin) => self.refuse(origin, OpenError::Connect(error)),
            Phase::Dialing(dial) => self.cancel_dial(dial),
            Phase::Open(socket) => self.reset_socket(socket),
            Phase::Routing | Phase::Joined | Phase::SendingRest => {}
        }
    }

    /// From now on the peer's messages for this channel are late and ignored.
    pub(super) fn leave_wire(&mut self, key: ChannelKey) {
        if let Some(channel) = self.channels.get_mut(key)
            && channel.on_wire
        {
            channel.on_wire = false;
            self.timers.set(Timer::LastBytes(key), self.now, self.config.timeouts.last_bytes);
            if let Some(link) = self.links.get_mut(channel.link) {
                link.channels.remove(&channel.id);
                link.extra_windows -= channel.granted.extra();
                if let Some(owned) = link.owner.and_then(|owner| self.owners.get_mut(&owner)) {
                    owned.channels.remove(&channel.id);
                }
            }
        }
    }

    /// Nobody but the socket keeps the channel: it can't for ever.
    pub(super) fn on_last_bytes_timeout(&mut self, key: ChannelKey) {
        let patience = self.config.timeouts.last_bytes;
        let Some(channel) = self.channels.get(key) else { return };
        let silent = self.now.saturating_duration_since(channel.waiting_since);
        if silent < patience {
            self.set_timer(Timer::LastBytes(key), patience - silent);
        } else {
            self.reset_channel(key, ChannelError::Overflow);
        }
    }

    pub(super) fn remove_channel(&mut self, key: ChannelKey, error: Option<ChannelError>) -> Option<Channel> {
        self.leave_wire(key);
        self.timers.cancel(Timer::Response(key));
        self.timers.cancel(Timer::HeldData(key));
        self.timers.cancel(Timer::HalfClose(key));
        self.timers.cancel(Timer::Batch(key));
        self.timers.cancel(Timer::Inflate(key));
        self.timers.cancel(Timer::LastBytes(key));
        let mut channel = self.channels.remove(key)?;
        self.accounts.give_back(Resource::Channels, &tenants(channel.token), 1);
        self.stop_reading_ahead(&channel);
        self.end_sweeping();
        self.discharge(key, channel.link, channel.charged);
        self.totals.send_queued -= channel.outbound.clear();
        self.totals.channels_failed += u64::from(error.is_some());
        self.tell(Event::ChannelClosed {
            channel: channel.as_ref(),
            sent: channel.sent,
            received: channel.received,
            error: error.clone(),
        });
        if let Some(partner) = channel.partner.take() {
            self.part(partner, error);
        }
        Some(channel)
    }

    pub(super) fn find_channel(&self, link: LinkId, id: ChannelId) -> Option<ChannelKey> {
        self.links.get(link)?.channels.get(&id).copied()
    }

    /// Looks for a channel on the other links of the same process.
    pub(super) fn find_sibling(&self, link: LinkId, id: ChannelId) -> Option<ChannelKey> {
        let owner = self.links.get(link)?.owner?;
        self.owners.get(&owner)?.channels.get(&id).copied()
    }

    /// Something for a channel came on another link than its own, so that it may be out of order.
    fn reset_sibling(&mut self, link: LinkId, id: ChannelId) -> bool {
        let sibling = self.find_sibling(link, id);
        if let Some(key) = sibling {
            self.totals.messages_ignored += 1;
            self.reset_channel(key, ChannelError::Protocol("data arrived on another link"));
        }
        sibling.is_some()
    }
}
