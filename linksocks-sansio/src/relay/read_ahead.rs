//! How far sockets are read ahead of their links.
//!
//! A little every channel may be. What channels that are busy may be beyond that is limited for each link, and
//! paid for by those whose memory it may become. Where that is short, it is taken back from channels that are
//! idle: nobody knows when they will use it.

use std::time::Duration;

use super::{Relay, Socket, SocketOwner};
use crate::channel::{Channel, ReadPacer};
use crate::config::BatchingMode;
use crate::ids::{ChannelKey, SocketId};
use crate::io::{Output, ReadCredit};
use crate::link::Link;

/// While more than this waits for links altogether, channels collect nothing beyond what keeps their
/// links busy.
const COLLECT_BUDGET: usize = 16 * 1024 * 1024;

/// A channel is idle after so long without a byte; and who is, is looked for this often at the most.
const IDLE: Duration = Duration::from_secs(1);

impl Relay {
    /// The first permission to read a socket that is about to carry a channel.
    pub(super) fn first_read(&self, key: ChannelKey, socket: &mut Socket) -> ReadCredit {
        let largest = self.largest_payload(key);
        let window = socket.pacer.window(largest, 0).min(ReadPacer::FREE);
        socket.pacer.top_up(window).unwrap_or_default()
    }

    /// Lets the driver read more of a channel's socket, if enough has left for the link.
    pub(super) fn grant_read(&mut self, key: ChannelKey) {
        let largest = self.largest_payload(key);
        let ahead = self.collected_ahead(key, largest);
        let Some(channel) = self.channels.get(key).filter(|channel| channel.is_reading()) else { return };
        let Some(id) = channel.socket() else { return };
        let Some(socket) = self.sockets.get_mut(id) else { return };
        let (wanted, outstanding) = (socket.pacer.window(largest, ahead), socket.pacer.outstanding());
        let window = self.pay_read_ahead(key, wanted, outstanding);
        let Some(socket) = self.sockets.get_mut(id) else { return };
        if let Some(credit) = socket.pacer.top_up(window) {
            match socket.application {
                None => self.push(Output::Read { socket: id, credit }),
                Some(application) => self.widen_pipe(application, id, credit),
            }
        }
    }

    /// `bytes` of what was read from a channel's socket have left, or go nowhere: as much again may
    /// be read.
    pub(super) fn release_read(&mut self, key: ChannelKey, bytes: usize) {
        if let Some(id) = self.channels.get(key).and_then(Channel::socket)
            && let Some(socket) = self.sockets.get_mut(id)
        {
            socket.pacer.on_released(bytes);
        }
        self.grant_read(key);
    }

    /// Pays for a window of a channel's socket, of which so much is `outstanding`. Returns the window that it
    /// may have.
    fn pay_read_ahead(&mut self, key: ChannelKey, wanted: usize, outstanding: usize) -> usize {
        let Some(channel) = self.channels.get_mut(key) else { return 0 };
        let Some(Link { loans, read_ahead, .. }) = self.links.get_mut(channel.link) else {
            return wanted.min(ReadPacer::FREE);
        };
        let extra = wanted.max(outstanding).saturating_sub(ReadPacer::FREE);
        if extra == channel.read_ahead {
            return wanted;
        }
        let others = *read_ahead - channel.read_ahead;
        let fits = others + extra <= self.config.limits.link_read_ahead
            && self.accounts.cover(&mut loans.read_ahead, &loans.payers, others + extra).is_ok();
        if fits || extra < channel.read_ahead {
            *read_ahead = others + extra;
            channel.read_ahead = extra;
            return wanted;
        }
        let window = channel.read_ahead + ReadPacer::FREE;
        self.revoke_idle();
        wanted.min(window)
    }

    /// A channel is gone: nothing is read ahead for it.
    pub(super) fn stop_reading_ahead(&mut self, channel: &Channel) {
        if let Some(Link { loans, read_ahead, .. }) = self.links.get_mut(channel.link)
            && channel.read_ahead > 0
        {
            *read_ahead -= channel.read_ahead;
            // Less than before can be paid for.
            let _ = self.accounts.cover(&mut loans.read_ahead, &loans.payers, *read_ahead);
        }
    }

    /// Takes permissions to read ahead back from those who don't use them.
    fn revoke_idle(&mut self) {
        if self.now < self.next_revocation {
            return;
        }
        self.next_revocation = self.now + IDLE;
        for key in self.channels.ids() {
            let Some(channel) = self.channels.get(key).filter(|channel| channel.read_ahead > 0) else {
                continue;
            };
            if self.now.saturating_duration_since(channel.last_used) < IDLE {
                continue;
            }
            if let Some(id) = channel.socket()
                && let Some(socket) = self.sockets.get_mut(id)
                && socket.application.is_none()
            {
                socket.pacer.begin_anew();
                self.push(Output::Revoke { socket: id });
            }
        }
    }

    /// A driver has taken a permission back: so much of it was left.
    pub(super) fn on_revoked(&mut self, id: SocketId, bytes: usize) {
        if let Some(Socket { owner: SocketOwner::Channel(key), .. }) = self.sockets.get(id) {
            let key = *key;
            self.release_read(key, bytes);
        }
    }

    /// How much a channel may collect beyond what keeps its link busy.
    fn collected_ahead(&mut self, key: ChannelKey, largest: usize) -> usize {
        let Some(channel) = self.channels.get_mut(key) else { return 0 };
        let holds = self.config.batching.mode == BatchingMode::Literal && channel.outbound.is_batching();
        if self.totals.send_queued > COLLECT_BUDGET {
            if holds {
                // Whoever may not read on must not wait for more.
                self.flush(key);
            }
            return 0;
        }
        let batch = if holds { largest } else { 0 };
        batch.max(self.run_to_compress(key).map_or(0, |run| run.enough))
    }
}
