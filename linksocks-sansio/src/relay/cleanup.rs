//! Ending channels and UDP associations that nobody has used for long: whoever forgot them, or can't
//! be heard of any more, must not hold them for ever.

use std::time::Duration;

use super::{Relay, Timer};
use crate::channel::{AssociationPhase, Channel, Phase};
use crate::error::ChannelError;

/// The time between two looks (as real programs have it).
const PERIOD: Duration = Duration::from_secs(60);

/// With a limit below [`PERIOD`] one looks more often, but not more often than this.
const LEAST_PERIOD: Duration = Duration::from_secs(1);

impl Relay {
    /// To be called when a channel or association has been added.
    pub(super) fn begin_sweeping(&mut self) {
        if self.channels.len() + self.associations.len() == 1 {
            self.schedule_sweep();
        }
    }

    /// To be called when a channel or association has been removed.
    pub(super) fn end_sweeping(&mut self) {
        if self.channels.is_empty() && self.associations.is_empty() {
            self.timers.cancel(Timer::Sweep);
        }
    }

    fn schedule_sweep(&mut self) {
        let limit = self.config.timeouts.channel_idle;
        if !limit.is_zero() {
            self.set_timer(Timer::Sweep, limit.clamp(LEAST_PERIOD, PERIOD));
        }
    }

    /// Resets what has been silent for too long. Channels that are being opened have deadlines of
    /// their own.
    pub(super) fn on_sweep(&mut self) {
        let limit = self.config.timeouts.channel_idle;
        // Nothing can be older than the clock.
        let Some(latest) = self.now.checked_sub(limit) else { return self.schedule_sweep() };
        for key in self.channels.ids() {
            if let Some(Channel {
                phase: Phase::Open(_) | Phase::Joined | Phase::SendingRest, last_used, ..
            }) = self.channels.get(key)
                && *last_used <= latest
            {
                self.reset_channel(key, ChannelError::Inactive(limit));
            }
        }
        for key in self.associations.ids() {
            if let Some(association) = self.associations.get(key)
                && association.phase == AssociationPhase::Open
                && association.last_datagram <= latest
            {
                self.reset_association(key, ChannelError::Inactive(limit));
            }
        }
        if !(self.channels.is_empty() && self.associations.is_empty()) {
            self.schedule_sweep();
        }
    }
}
