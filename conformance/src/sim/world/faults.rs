//! What goes wrong from outside.

use std::time::Duration;

use linksocks_sansio::{Command, Engine};

use super::place::Place;
use super::{Event, STOP, World};
use crate::record::Recording;
use crate::sim::Recorded;
use crate::sim::app::plan::{Entry, client_address, server_address};
use crate::sim::clock::Time;
use crate::sim::host::{Host, Resolver};
use crate::sim::net::{EndId, Network, Notice};
use crate::sim::scenario::{Exit, Fault, SERVER};

impl World {
    pub(super) fn happen(&mut self, event: Event) {
        match event {
            Event::UnbarServer => self.net.set_fate(server_address().ip(), None),
            Event::Start(SERVER) => self.start_server(),
            Event::Start(host) => self.start_client(host - 1),
            Event::Fault(fault) => self.go_wrong(fault),
        }
    }

    fn go_wrong(&mut self, fault: Fault) {
        match fault {
            Fault::CutLink(notice) => {
                if let Some(end) = self.some_busy_link() {
                    self.cut(end, notice);
                }
            }
            Fault::StallLink(length) => {
                if let Some(end) = self.some_link() {
                    self.disturb_dialer(end, length);
                    self.net.stall(end, self.now + length);
                }
            }
            Fault::BarServer(fate, length) => {
                self.disturb_host(SERVER, length);
                self.net.set_fate(server_address().ip(), Some(fate));
                self.events.enter(self.now + length, Event::UnbarServer);
            }
            Fault::BreakLookups { host, length } => {
                self.disturb_host(host, length);
                let until = self.now + length;
                if let Some(resolver) = self.resolver_mut(host) {
                    resolver.broken_until = until;
                }
            }
            Fault::Suspend { host, length } => {
                self.disturb_host(host, length);
                let until = self.now + length;
                match host.checked_sub(SERVER + 1) {
                    None => self.server.suspend(until),
                    Some(client) => self.clients[client].suspend(until),
                }
            }
            Fault::Restart { host, exit, down } => self.end_host(host, exit, down),
        }
    }

    fn resolver_mut(&mut self, host: usize) -> Option<&mut Resolver> {
        match host.checked_sub(SERVER + 1) {
            None => self.server.host.as_mut().map(Host::resolver_mut),
            Some(client) => self.clients[client].host.as_mut().map(Host::resolver_mut),
        }
    }

    /// One of the links that are up.
    fn some_link(&mut self) -> Option<EndId> {
        let links = self.net.established_to(server_address());
        (!links.is_empty()).then(|| *self.dice.pick(&links))
    }

    /// One of the links that are up, if there is one that a conversation under way may use.
    fn some_busy_link(&mut self) -> Option<EndId> {
        let links = self.net.established_to(server_address());
        let is_busy = |client| {
            let mut talks = self.talks.iter().filter(|talk| self.concerns(client + 1, talk.plan.entry));
            talks.any(|talk| talk.plan.start < self.now && !talk.is_over())
        };
        let busy: Vec<_> = links.into_iter().filter(|end| self.dialer(*end).is_some_and(is_busy)).collect();
        if busy.is_empty() { self.some_link() } else { Some(*self.dice.pick(&busy)) }
    }

    /// Whether a host that is not the server has a part in what comes in there.
    fn concerns(&self, host: usize, entry: Entry) -> bool {
        let diallers = &self.scenario.entries[self.scenario.place(entry)].diallers;
        entry.host() == host || diallers.contains(&host)
    }

    /// Cuts a link. With a session, a client that notices is back before streams have come to harm.
    fn cut(&mut self, end: EndId, notice: Notice) {
        let is_back_soon = matches!(notice, Notice::Both | Notice::Dialer);
        match self.dialer(end) {
            Some(client) if is_back_soon && self.scenario.has_sessions(client) => {
                for place in 0..self.disturbances.len() {
                    if self.concerns(client + 1, self.scenario.entries[place].entry) {
                        self.disturbances[place].enter_cut(self.now);
                    }
                }
            }
            Some(client) => self.disturb_host(client + 1, Duration::ZERO),
            None => {}
        }
        self.net.cut(end, notice);
    }

    /// The client whose link this is.
    fn dialer(&self, end: EndId) -> Option<usize> {
        let address = self.net.dialer_address(end).ip();
        (0..self.clients.len()).find(|client| client_address(*client) == address)
    }

    fn disturb_dialer(&mut self, end: EndId, length: Duration) {
        if let Some(client) = self.dialer(end) {
            self.disturb_host(client + 1, length);
        }
    }

    /// What happens to the server happens to all; what happens to one of several hosts that connect to
    /// targets happens to whatever it has taken over.
    pub(super) fn disturb_host(&mut self, host: usize, length: Duration) {
        for (disturbances, plan) in self.disturbances.iter_mut().zip(&self.scenario.entries) {
            if host == SERVER || plan.entry.host() == host {
                disturbances.enter(self.now, length);
            } else if plan.diallers.contains(&host) {
                disturbances.enter_dialler(host, self.now, length);
            }
        }
    }

    fn end_host(&mut self, host: usize, exit: Exit, down: Duration) {
        let (net, now) = (&mut self.net, self.now);
        let end = match host.checked_sub(SERVER + 1) {
            None => end(&mut self.server, exit, down, net, now),
            Some(client) => end(&mut self.clients[client], exit, down, net, now),
        };
        match end {
            End::Absent => {}
            End::Asked(drain) => self.disturb_host(host, drain + STOP + down),
            End::Gone(process) => {
                self.disturb_host(host, down);
                self.record(process);
                self.events.enter(self.now + down, Event::Start(host));
            }
        }
    }

    /// Starts a host again that has stopped as it was asked to.
    pub(super) fn restart_stopped(&mut self, host: usize) {
        let restart = match host.checked_sub(SERVER + 1) {
            None => self.server.is_to_restart().map(|down| (down, self.server.bury(false, &mut self.net))),
            Some(client) => {
                let place = &mut self.clients[client];
                place.is_to_restart().map(|down| (down, place.bury(false, &mut self.net)))
            }
        };
        if let Some((down, process)) = restart {
            process.into_iter().for_each(|process| self.record(process));
            self.events.enter(self.now + down, Event::Start(host));
        }
    }

    pub(super) fn record(&mut self, (number, outputs, recording): (usize, u64, Recording)) {
        let (origin, start) = self.origins[number].clone();
        self.finished.push(Recorded { origin, start, recording, outputs });
    }
}

/// What has become of a process that was to end.
enum End {
    /// There was none, or it is about to end already.
    Absent,
    /// It has this long.
    Asked(Duration),
    /// Its number, the hash of all outputs, and what was recorded.
    Gone((usize, u64, Recording)),
}

fn end<E: Engine>(place: &mut Place<E>, exit: Exit, down: Duration, net: &mut Network, now: Time) -> End {
    let Some(host) = place.host.as_mut().filter(|_| place.restarts_after.is_none()) else {
        return End::Absent;
    };
    if let Exit::Asked(drain) = exit {
        host.command(Command::Shutdown { drain }, now);
        place.restarts_after = Some(down);
        return End::Asked(drain);
    }
    place.bury(exit == Exit::Unplugged, net).map_or(End::Absent, End::Gone)
}
