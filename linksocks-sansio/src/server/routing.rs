//! Reverse and agent mode: wishes find providers, or wait for one.

use std::collections::BTreeMap;
use std::time::Duration;

use super::ServerEngine;
use super::clients::Client;
use super::providers::{Group, Health, Provider};
use crate::channel::Origin;
use crate::error::{ChannelError, OpenError};
use crate::ids::LinkId;
use crate::relay::{EngineTimer, Relay, Timer, Want, Wish};
use crate::wire::{Connect, Message, Partners};

/// How often one looks whether a provider is silent that owes answers.
const WATCH: Duration = Duration::from_millis(500);

impl ServerEngine {
    pub(super) fn on_connect(&mut self, link: LinkId, connect: Connect) {
        let channel = connect.channel;
        if self.relay.is_shutting_down() {
            return self.relay.refuse_connect(link, channel, &ChannelError::Shutdown);
        }
        match self.clients.get(link) {
            Some(Client::Forward) => self.relay.accept_connect(link, connect),
            Some(Client::Connector(_)) => self.relay.route_connect(link, connect),
            // Nobody lets a provider use this server as a proxy.
            Some(Client::Provider(_)) | None => {
                self.relay.refuse_connect(link, channel, &ChannelError::NotADialSide);
            }
        }
    }

    /// Those who may fulfil a wish from there.
    fn group_of(&self, origin: Origin) -> Option<Group> {
        match origin {
            Origin::Embed(_) => None,
            Origin::Socks(_) | Origin::Http(_) => {
                let reverse = self.ports.token(self.relay.listener_of(origin)?)?;
                Some(Group { reverse, provider: None })
            }
            // Its link may be lost and wait for the client to come back.
            Origin::Leg(leg) => {
                let owner = self.relay.links.get(self.relay.link_of(leg)?)?.owner?;
                match self.client(owner)? {
                    Client::Connector(group) => Some(group),
                    Client::Forward | Client::Provider(_) => None,
                }
            }
        }
    }

    /// Gives a wish to a provider, or lets it wait for one.
    pub(super) fn grant(&mut self, origin: Origin, wish: Wish) {
        if self.relay.is_shutting_down() {
            return self.relay.refuse(origin, self.relay.stop_error());
        }
        let Some(group) = self.group_of(origin) else { return self.relay.refuse(origin, OpenError::NoLink) };
        if let Some(link) = self.providers.choose(group, |link| health(&self.relay, link)) {
            self.watch(link);
            match wish.into_inner() {
                Want::Stream(target) => self.relay.open_channel(link, origin, target),
                Want::Datagrams(sender) => self.relay.open_association(link, origin, sender),
            }
            return;
        }
        let timeouts = &self.relay.config.timeouts;
        let patience = match origin {
            Origin::Leg(_) => timeouts.connector_wait,
            Origin::Socks(_) | Origin::Http(_) | Origin::Embed(_) => timeouts.link_wait,
        };
        self.waiting.add(&mut self.relay, origin, wish, group, patience);
    }

    pub(super) fn on_wait_timeout(&mut self, origin: Origin) {
        if self.waiting.expire(&mut self.relay, origin) {
            self.relay.refuse(origin, OpenError::NoLink);
        }
    }

    pub(super) fn refuse_waiting(&mut self) {
        let error = self.relay.stop_error();
        for (origin, _) in self.waiting.take(&mut self.relay, |_| true) {
            self.relay.refuse(origin, error.clone());
        }
    }

    /// Looks after a link as long as its peer owes answers.
    fn watch(&mut self, link: LinkId) {
        let timer = Timer::Engine(EngineTimer::Silence(link));
        if !self.relay.timers.is_set(timer) {
            self.relay.set_timer(timer, WATCH);
        }
    }

    /// A provider that owes answers and has been silent for too long: others are asked instead.
    pub(super) fn on_watch(&mut self, link: LinkId) {
        let unanswered: Vec<_> = self.relay.unanswered(link).collect();
        if unanswered.is_empty() {
            return;
        }
        if health(&self.relay, link) == Health::Silent {
            let mut served = BTreeMap::new();
            for (opening, origin) in unanswered {
                let Some(group) = self.group_of(origin) else { continue };
                if *served.entry(group).or_insert_with(|| self.is_served(group)) {
                    self.relay.reroute(opening);
                }
            }
        } else {
            self.relay.probe(link);
        }
        self.watch(link);
    }

    /// Whether somebody of a group is there and lively.
    fn is_served(&self, group: Group) -> bool {
        self.providers.has_lively(group, |link| health(&self.relay, link))
    }

    // ---- joining and leaving

    pub(super) fn on_ready(&mut self, link: LinkId) {
        match self.clients.get(link) {
            Some(Client::Provider(provider)) => {
                self.providers.add(link, provider);
                self.relay.timers.cancel(Timer::Engine(EngineTimer::Released(provider.owner())));
                self.open_port(provider.reverse);
                self.tell_connectors(provider);
                self.tell_partners(link, self.clients.count_connectors(provider));
                for (origin, wish) in self.waiting.take(&mut self.relay, |group| group.contains(provider)) {
                    self.grant(origin, wish);
                }
            }
            Some(Client::Connector(group)) => {
                self.tell_partners(link, self.providers.links(group).count());
                self.tell_providers(group);
            }
            Some(Client::Forward) | None => {}
        }
    }

    pub(super) fn on_down(&mut self, link: LinkId) {
        self.relay.timers.cancel(Timer::Engine(EngineTimer::Silence(link)));
        match self.clients.remove(link) {
            Some(Client::Provider(provider)) => {
                self.providers.remove(link, provider);
                self.tell_connectors(provider);
                self.begin_release(provider);
            }
            Some(Client::Connector(group)) => self.tell_providers(group),
            Some(Client::Forward) | None => {}
        }
    }

    /// Tells the connectors of a provider how many there are.
    fn tell_connectors(&mut self, provider: Provider) {
        let groups = provider.groups().map(|group| (group, self.providers.links(group).count()));
        let connectors: Vec<_> = self.clients.connectors(provider).collect();
        for (link, group) in connectors {
            if let Some((_, count)) = groups.iter().find(|(known, _)| *known == group) {
                self.tell_partners(link, *count);
            }
        }
    }

    /// Tells the providers of a group how many connectors each of them has.
    fn tell_providers(&mut self, group: Group) {
        let providers: Vec<_> = self.providers.members(group).collect();
        for (link, provider) in providers {
            self.tell_partners(link, self.clients.count_connectors(provider));
        }
    }

    fn tell_partners(&mut self, link: LinkId, count: usize) {
        if self.relay.links.get(link).is_some_and(|link| link.is_ready())
            && let Ok(message) = Message::Partners(Partners { count: count as u64 }).encode()
        {
            self.relay.send_partners(link, message);
        }
    }
}

fn health(relay: &Relay, link: LinkId) -> Health {
    match relay.links.get(link) {
        Some(ready) if ready.is_leaving || !ready.is_ready() => Health::Gone,
        Some(_) if relay.is_silent(link) => Health::Silent,
        Some(_) => Health::Lively,
        None => Health::Gone,
    }
}
