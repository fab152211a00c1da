//! A graceful end: channels finish, links close, then the engine stops.

use std::time::Duration;

use super::{Ending, Notice, Relay, Timer};
use crate::error::{ChannelError, LinkError, OpenError, StopReason};
use crate::io::{Action, Output};
use crate::timer::TimerQueue;

/// How far the end of an engine has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Shutdown {
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

impl Relay {
    /// Whether nothing new is accepted any more.
    pub(crate) fn is_shutting_down(&self) -> bool {
        self.shutdown != Shutdown::No
    }

    /// Whether the last word has been said.
    pub(super) fn is_stopped(&self) -> bool {
        self.shutdown == Shutdown::Stopped
    }

    /// What those are told who come too late.
    pub(crate) fn stop_error(&self) -> OpenError {
        match &self.stop_reason {
            StopReason::Shutdown => OpenError::Shutdown,
            reason @ (StopReason::Link(_) | StopReason::Listen { .. } | StopReason::Aborted) => {
                OpenError::Stopped(reason.clone())
            }
        }
    }

    /// Accepts nothing new; what is open may finish for up to `drain`.
    pub(crate) fn begin_shutdown(&mut self, drain: Duration, reason: StopReason) {
        match self.shutdown {
            Shutdown::No => {
                self.stop_reason = reason;
                self.shutdown = Shutdown::Draining;
                self.set_timer(Timer::Shutdown, drain);
                self.refuse_entries(&self.stop_error());
                self.end_suspended_links();
                self.notices.push_back(Notice::ShutdownBegun);
            }
            Shutdown::Draining => self.set_timer(Timer::Shutdown, drain),
            Shutdown::Closing | Shutdown::Stopped => {}
        }
    }

    /// Goes on as soon as there is nothing to wait for.
    pub(super) fn advance_shutdown(&mut self) {
        if self.shutdown == Shutdown::Draining && self.channels.is_empty() && self.associations.is_empty() {
            self.close_everything();
        }
        if self.shutdown == Shutdown::Closing && self.sockets.is_empty() && self.links.is_empty() {
            self.stop();
        }
    }

    /// Goes on although there is something to wait for.
    pub(super) fn on_shutdown_timer(&mut self) {
        match self.shutdown {
            Shutdown::Draining => self.close_everything(),
            Shutdown::Closing => self.stop(),
            Shutdown::No | Shutdown::Stopped => {}
        }
    }

    fn close_everything(&mut self) {
        self.shutdown = Shutdown::Closing;
        for channel in self.channels.ids() {
            self.reset_channel(channel, ChannelError::Shutdown);
        }
        for association in self.associations.ids() {
            self.reset_association(association, ChannelError::Shutdown);
        }
        self.do_http_work();
        self.drop_sessions();
        for link in self.links.ids() {
            self.end_link(link, LinkError::Shutdown, Ending::Close(self.farewell));
        }
        let timeouts = &self.config.timeouts;
        let longest = timeouts.link_close.saturating_mul(2).saturating_add(timeouts.close_linger);
        self.set_timer(Timer::Shutdown, longest);
    }

    /// Says the last word.
    fn stop(&mut self) {
        let useful = |output: &Output| match output {
            Output::Event(_) | Output::Action(_) | Output::Write { .. } | Output::SendDatagram { .. } => true,
            Output::Transmit { .. }
            | Output::Read { .. }
            | Output::Revoke { .. }
            | Output::Receive { .. }
            | Output::ReceiveDatagrams { .. }
            | Output::Accept { .. }
            | Output::Timeout(_) => false,
        };
        self.outputs.retain(useful);
        self.act(Action::Stop { reason: self.stop_reason.clone() });
        self.shutdown = Shutdown::Stopped;
        self.sendable.clear();
        self.http_work.clear();
        self.timers = TimerQueue::default();
    }
}
