//! A graceful end: channels finish, links close, then the engine stops.

use std::time::Duration;

use super::{Ending, EngineTimer, Relay, Timer};
use crate::error::{ChannelError, LinkError, StopReason};

/// How far the end of an engine has come.
#[derive(Debug, Default)]
pub(crate) enum Shutdown {
    /// Running.
    #[default]
    No,
    /// Nothing new is accepted; channels may finish.
    Draining,
    /// Links and sockets are being closed.
    Closing,
    /// Over.
    Stopped,
}

impl Shutdown {
    pub(crate) fn is_begun(&self) -> bool {
        !matches!(self, Self::No)
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self, Self::Stopped)
    }

    pub(crate) fn begin(&mut self, relay: &mut Relay, drain: Duration) {
        if !self.is_begun() {
            *self = Self::Draining;
            relay.set_timer(Timer::Engine(EngineTimer::Shutdown), drain);
        }
    }

    /// Goes on as soon as there is nothing to wait for.
    pub(crate) fn advance(&mut self, relay: &mut Relay, code: u16) {
        if matches!(self, Self::Draining) && !relay.has_channels() {
            self.close(relay, code);
        }
        if matches!(self, Self::Closing) && relay.is_quiet() {
            self.stop(relay, StopReason::Shutdown);
        }
    }

    /// Goes on although there is something to wait for.
    pub(crate) fn on_timer(&mut self, relay: &mut Relay, code: u16) {
        match self {
            Self::Draining => self.close(relay, code),
            Self::Closing => self.stop(relay, StopReason::Shutdown),
            Self::No | Self::Stopped => {}
        }
    }

    fn close(&mut self, relay: &mut Relay, code: u16) {
        *self = Self::Closing;
        relay.reset_all_channels(&ChannelError::Shutdown);
        relay.drop_sessions();
        for link in relay.links.ids() {
            relay.end_link(link, LinkError::Shutdown, Ending::Close(code));
        }
        let timeouts = &relay.config.timeouts;
        let longest = timeouts.link_close * 2 + timeouts.close_linger;
        relay.set_timer(Timer::Engine(EngineTimer::Shutdown), longest);
    }

    /// Ends at once.
    pub(crate) fn stop(&mut self, relay: &mut Relay, reason: StopReason) {
        if !self.is_over() {
            *self = Self::Stopped;
            relay.stop(reason);
        }
    }
}
