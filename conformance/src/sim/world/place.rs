//! Where a machine stands, whether it is there or not.

use std::time::Duration;

use linksocks_sansio::Engine;
use linksocks_sansio::error::StopReason;

use crate::record::Recording;
use crate::sim::clock::Time;
use crate::sim::host::Host;
use crate::sim::net::Network;

/// The place of one machine in the world.
#[derive(Debug)]
pub(super) struct Place<E> {
    /// `None` while it is down.
    pub(super) host: Option<Host<E>>,
    /// It was asked to stop and will start again after this.
    pub(super) restarts_after: Option<Duration>,
}

impl<E> Default for Place<E> {
    fn default() -> Self {
        Self { host: None, restarts_after: None }
    }
}

impl<E: Engine> Place<E> {
    pub(super) fn wake(&self) -> Option<Time> {
        self.host.as_ref()?.wake()
    }

    /// Why its engine has stopped, if it has.
    pub(super) fn stopped(&self) -> Option<&StopReason> {
        self.host.as_ref()?.stopped()
    }

    /// Stops the machine until then, as a laptop that is closed.
    pub(super) fn suspend(&mut self, until: Time) {
        if let Some(host) = &mut self.host {
            host.suspend(until);
        }
    }

    /// Ends the process, if there is one. See [`Host::end`].
    pub(super) fn bury(&mut self, silently: bool, net: &mut Network) -> Option<(usize, u64, Recording)> {
        Some(self.host.take()?.end(silently, net))
    }

    /// After how long it is to start again, if it has stopped and is to.
    pub(super) fn is_to_restart(&mut self) -> Option<Duration> {
        self.stopped()?;
        self.restarts_after.take()
    }
}
