//! Fast open: an application is told that its target is connected as soon as the Connect is on its
//! way, and the channel is open before it is confirmed. If it then can't be, the socket is reset.
//!
//! What the application sends follows the Connect at once. Real servers in forward mode queue it
//! while they dial, as ours do. In agent mode they do not: until some time after the Connect what
//! comes is lost, so that a connector holds it back.

use std::time::Duration;

use super::{Relay, SocketOwner, Timer};
use crate::channel::Phase;
use crate::ids::{ChannelKey, SocketId};
use crate::link::Link;

/// What an unconfirmed channel may send on a link without windows, in bytes of whole messages: the
/// other side has to keep it while it dials, and real ones drop what is too much.
const AHEAD: u32 = 64 * 1024;

/// After so many round trips a server knows a channel, whatever it does first.
const KNOWN_AFTER: u32 = 2;

/// But not sooner than this: it may be busy.
const LEAST_HOLD: Duration = Duration::from_millis(100);

impl Relay {
    /// Opens a channel whose Connect has just been sent.
    pub(super) fn open_fast(&mut self, key: ChannelKey, socket: SocketId) {
        let Some(session) = self.take_session(socket, SocketOwner::Channel(key)) else { return };
        let Some(channel) = self.channels.get_mut(key) else { return };
        channel.phase = Phase::Open(socket);
        channel.unconfirmed = true;
        if let Some(link) = self.links.get(channel.link).filter(|link| link.peer_window.is_none()) {
            if is_forward(link) {
                channel.outbound.limit(AHEAD);
            } else {
                channel.outbound.limit(0);
                if let Some(round_trip) = link.keep_alive.round_trip {
                    self.set_timer(Timer::HeldData(key), (round_trip * KNOWN_AFTER).max(LEAST_HOLD));
                }
            }
        }
        self.begin_session(key, socket, &session);
    }

    /// The server must know of the channel by now.
    pub(super) fn send_held_data(&mut self, key: ChannelKey) {
        if let Some(channel) = self.channels.get_mut(key) {
            channel.outbound.limit(AHEAD);
            self.schedule_channel(key);
        }
    }

    /// The target is connected indeed.
    pub(super) fn confirm_fast(&mut self, key: ChannelKey) {
        self.timers.cancel(Timer::Response(key));
        self.timers.cancel(Timer::HeldData(key));
        let Some(channel) = self.channels.get_mut(key) else { return };
        channel.unconfirmed = false;
        // The target has only begun to answer.
        channel.last_data = self.now;
        if self.links.get(channel.link).is_some_and(|link| link.peer_window.is_none()) {
            channel.outbound.lift_limit();
        }
        self.announce_channel(key);
        self.schedule_channel(key);
    }
}

/// Whether the peer is sure to dial itself. One of our own kind loses nothing in any case; another
/// one tells a connector of its providers before it answers the first ping.
fn is_forward(link: &Link) -> bool {
    !link.extensions.is_empty() || link.keep_alive.round_trip.is_some() && !link.has_partners
}
