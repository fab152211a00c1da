//! Reverse and agent mode: wishes find providers, or wait for one.

use std::time::Duration;

use super::ServerEngine;
use super::login::Client;
use super::providers::{Group, Health, Provider};
use crate::channel::Origin;
use crate::error::{ChannelError, OpenError};
use crate::ids::LinkId;
use crate::relay::{EngineTimer, Timer, Want, Wish};
use crate::wire::{Connect, Message, Partners};

/// How often one looks whether a provider is silent that owes answers.
const WATCH: Duration = Duration::from_millis(500);

impl ServerEngine {
    pub(super) fn on_connect(&mut self, link: LinkId, connect: Connect) {
        let channel = connect.channel;
        if self.relay.is_shutting_down() {
            return self.relay.refuse_connect(link, channel, &ChannelError::Shutdown);
        }
        match self.clients.get(&link) {
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
            Origin::Leg(leg) => match self.clients.get(&self.relay.link_of(leg)?) {
                Some(Client::Connector(group)) => Some(*group),
                Some(Client::Forward | Client::Provider(_)) | None => None,
            },
        }
    }

    /// Gives a wish to a provider, or lets it wait for one.
    pub(super) fn grant(&mut self, origin: Origin, wish: Wish) {
        if self.relay.is_shutting_down() {
            return self.relay.refuse(origin, self.relay.stop_error());
        }
        let Some(group) = self.group_of(origin) else { return self.relay.refuse(origin, OpenError::NoLink) };
        let silence = self.relay.config.timeouts.provider_silence;
        let relay = &self.relay;
        let health = |link| match relay.links.get(link) {
            Some(ready) if ready.is_leaving => Health::Gone,
            Some(ready) if ready.is_ready() && relay.is_silent(link, silence) => Health::Silent,
            Some(ready) if ready.is_ready() => Health::Lively,
            Some(_) | None => Health::Gone,
        };
        if let Some(link) = self.providers.choose(group, health) {
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
        if self.waiting.expire(origin) {
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
        let Some(Client::Provider(provider)) = self.clients.get(&link) else { return };
        if !self.relay.awaits_answers(link) {
            return;
        }
        let silence = self.relay.config.timeouts.provider_silence;
        if self.relay.is_silent(link, silence) {
            let group = Group { reverse: provider.reverse, provider: None };
            if self.providers.links(group).any(|other| !self.relay.is_silent(other, silence)) {
                self.relay.reroute(link);
            }
        } else {
            self.relay.probe(link);
        }
        self.watch(link);
    }

    // ---- joining and leaving

    pub(super) fn on_ready(&mut self, link: LinkId) {
        match self.clients.get(&link).copied() {
            Some(Client::Provider(provider)) => {
                self.providers.add(link, provider);
                self.relay.timers.cancel(Timer::Engine(EngineTimer::Released(provider)));
                self.open_port(provider.reverse);
                self.tell_connectors(provider);
                self.tell_provider(link, provider);
                for (origin, wish) in self.waiting.take(&mut self.relay, |group| group.contains(provider)) {
                    self.grant(origin, wish);
                }
            }
            Some(Client::Connector(group)) => {
                self.tell_connector(link, group);
                self.tell_providers(group);
            }
            Some(Client::Forward) | None => {}
        }
    }

    pub(super) fn on_down(&mut self, link: LinkId) {
        self.relay.timers.cancel(Timer::Engine(EngineTimer::Silence(link)));
        match self.clients.remove(&link) {
            Some(Client::Provider(provider)) => {
                self.providers.remove(link, provider);
                self.tell_connectors(provider);
                self.begin_release(provider);
            }
            Some(Client::Connector(group)) => self.tell_providers(group),
            Some(Client::Forward) | None => {}
        }
    }

    fn tell_connectors(&mut self, provider: Provider) {
        let connectors = self.clients.iter().filter_map(|(link, client)| match client {
            Client::Connector(group) if group.contains(provider) => Some((*link, *group)),
            Client::Connector(_) | Client::Forward | Client::Provider(_) => None,
        });
        for (link, group) in connectors.collect::<Vec<_>>() {
            self.tell_connector(link, group);
        }
    }

    fn tell_connector(&mut self, link: LinkId, group: Group) {
        let count = self.providers.links(group).count();
        self.tell_partners(link, count);
    }

    fn tell_providers(&mut self, group: Group) {
        let providers: Vec<_> = self.providers.links(group).collect();
        for link in providers {
            if let Some(Client::Provider(provider)) = self.clients.get(&link) {
                self.tell_provider(link, *provider);
            }
        }
    }

    fn tell_provider(&mut self, link: LinkId, provider: Provider) {
        let connectors = self.clients.values();
        let count = connectors
            .filter(|client| matches!(client, Client::Connector(group) if group.contains(provider)))
            .count();
        self.tell_partners(link, count);
    }

    fn tell_partners(&mut self, link: LinkId, count: usize) {
        if self.relay.links.get(link).is_some_and(|link| link.is_ready())
            && let Ok(message) = Message::Partners(Partners { count: count as u64 }).encode()
        {
            self.relay.send_control(link, message);
        }
    }
}
