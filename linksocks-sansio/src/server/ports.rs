//! The SOCKS ports of reverse tokens.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::ServerEngine;
use crate::error::SocketError;
use crate::event::Event;
use crate::ids::{ListenerId, TokenId};
use crate::relay::{EngineTimer, Timer};

/// Ports that are open or being opened.
#[derive(Debug, Default)]
pub(super) struct Ports(BTreeMap<ListenerId, Port>);

#[derive(Debug)]
struct Port {
    number: u16,
    /// `None`: it has been removed.
    token: Option<TokenId>,
}

impl Ports {
    /// Whose port it is.
    pub(super) fn token(&self, listener: ListenerId) -> Option<TokenId> {
        self.0.get(&listener)?.token
    }

    fn find(&self, matches: impl Fn(&Port) -> bool) -> Option<ListenerId> {
        self.0.iter().find(|(_, port)| matches(port)).map(|(listener, _)| *listener)
    }
}

impl ServerEngine {
    /// Opens the port of a token, unless it is open.
    pub(super) fn open_port(&mut self, token: TokenId) {
        let Some(reverse) = self.registry.reverse(token) else { return };
        let Some(number) = reverse.port else { return };
        if self.relay.is_shutting_down() || self.ports.find(|port| port.token == Some(token)).is_some() {
            return;
        }
        let (credentials, rules) = (reverse.credentials.clone(), reverse.rules.clone());
        let left_over = self.ports.find(|port| port.number == number);
        let listener = if let Some(listener) = left_over {
            self.relay.timers.cancel(Timer::Engine(EngineTimer::Listener(listener)));
            self.relay.hand_over_listener(listener, credentials, rules);
            listener
        } else {
            let address = SocketAddr::new(self.socks_host, number);
            self.relay.listen(address, credentials, rules)
        };
        self.ports.0.insert(listener, Port { number, token: Some(token) });
    }

    /// The token of a port has been removed. The port stays for a while, so that one that is added in
    /// its place finds it.
    pub(super) fn release_port(&mut self, token: TokenId) {
        let Some(listener) = self.ports.find(|port| port.token == Some(token)) else { return };
        if let Some(port) = self.ports.0.get_mut(&listener) {
            port.token = None;
        }
        let linger = self.relay.config.timeouts.listener_linger;
        self.relay.set_timer(Timer::Engine(EngineTimer::Listener(listener)), linger);
    }

    pub(super) fn close_port(&mut self, listener: ListenerId) {
        if self.ports.0.remove(&listener).is_some() {
            self.relay.timers.cancel(Timer::Engine(EngineTimer::Listener(listener)));
            self.relay.unlisten(listener);
        }
    }

    pub(super) fn close_ports(&mut self) {
        for listener in self.ports.0.keys().copied().collect::<Vec<_>>() {
            self.close_port(listener);
        }
    }

    pub(super) fn on_listening(&mut self, listener: ListenerId, local: SocketAddr) {
        if self.ports.0.contains_key(&listener) {
            self.relay.tell(Event::SocksListening { local });
            self.relay.grant_accepts(listener);
        }
    }

    /// The next provider that joins is the next occasion, or a later time.
    pub(super) fn on_listen_failed(&mut self, listener: ListenerId, error: SocketError) {
        let Some(port) = self.ports.0.remove(&listener) else { return };
        self.relay.timers.cancel(Timer::Engine(EngineTimer::Listener(listener)));
        self.relay.forget_listener(listener);
        let address = SocketAddr::new(self.socks_host, port.number);
        self.relay.tell(Event::SocksUnavailable { address, error });
        if let Some(token) = port.token {
            let delay = self.relay.config.timeouts.listener_retry;
            self.relay.set_timer(Timer::Engine(EngineTimer::Port(token)), delay);
        }
    }
}
