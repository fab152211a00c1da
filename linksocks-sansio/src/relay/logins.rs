//! Logins of applications at SOCKS ports.

use std::net::IpAddr;

use super::Relay;
use crate::attempts::Door;
use crate::ids::SocketId;

impl Relay {
    /// Another number for each owner of a SOCKS port: who knew the password of the last one knows
    /// nothing of that of the next one.
    pub(super) fn next_door(&mut self) -> u64 {
        self.doors += 1;
        self.doors
    }

    fn door_of(&self, application: SocketId) -> Option<Door> {
        let listener = self.sockets.get(application)?.listener?;
        Some(Door::Socks(self.listeners.get(listener)?.door))
    }

    /// Whether not even a right login of this application is to be taken: too many from its address
    /// were wrong, and none was ever right.
    pub(super) fn is_locked_out(&mut self, application: SocketId, address: IpAddr) -> bool {
        let door = self.door_of(application);
        door.is_some() && !self.attempts.allows(address, door, self.now)
    }

    pub(super) fn on_login(&mut self, application: SocketId, address: IpAddr, right: bool) {
        match self.door_of(application) {
            Some(door) if right => self.attempts.on_success(address, door, self.now),
            Some(_) => self.attempts.on_failure(address, self.now),
            None => {}
        }
    }
}
