//! How machines and conversations come into the world.

use std::net::IpAddr;

use linksocks_sansio::{ClientEngine, ServerEngine};

use super::World;
use crate::sim::app::plan::{Entry, TalkPlan, client_address, embedder_address, server_address};
use crate::sim::app::{Dialler, Talk};
use crate::sim::check::Contract;
use crate::sim::clock::Time;
use crate::sim::dice::Dice;
use crate::sim::host::{Host, Resolver, Setup, Site, second_address};
use crate::sim::net::{Network, Owner};
use crate::sim::scenario::{SERVER, SERVER_NAME, Scenario, Stream, chats, talks};
use crate::sim::{Origin, Recorded};

impl World {
    pub(super) fn start_server(&mut self) {
        let (number, mut dice) = self.new_host();
        let plan = &self.scenario.server;
        let names = targets(&self.scenario).collect();
        let site = Site {
            owner: Owner::Host(SERVER),
            address: server_address().ip(),
            front: Some(server_address()),
            embedder: None,
            orders: Default::default(),
            resolver: Resolver { names, broken_until: Time::ZERO, delay: plan.lookup_delay },
            habits: plan.habits.clone(),
        };
        let seed = dice.engine_seed();
        let engine = ServerEngine::new(plan.config.clone(), seed, self.now.instant());
        let (name, keep) = (format!("server{number}"), self.watch.keep);
        let joins = self.scenario.shape.mode.joins();
        let contract = Contract::new(&plan.config.relay.limits, self.scenario.longest_message(), joins);
        self.origins.push((Origin::Server(Box::new(plan.config.clone()), seed), self.now));
        let setup = Setup { name, number, keep, site, contract, dice };
        self.server.host = Some(Host::new(setup, engine, &mut self.net, self.now));
    }

    pub(super) fn start_client(&mut self, client: usize) {
        let (number, mut dice) = self.new_host();
        let plan = &self.scenario.clients[client];
        let entry = Entry::Client(client);
        let calls = self.scenario.talks.iter().filter(|talk| talk.entry == entry);
        let server = (SERVER_NAME.to_owned(), plan.server_addresses.clone());
        let targets = targets(&self.scenario).filter(|_| plan.is_provider());
        let names = targets.chain([server]).collect();
        let site = Site {
            owner: Owner::Host(entry.host()),
            address: client_address(client),
            front: None,
            embedder: Some(embedder_address(client)),
            orders: calls.map(|talk| (talk.caller_address().ip(), talk.destination.target.clone())).collect(),
            resolver: Resolver { names, broken_until: Time::ZERO, delay: plan.lookup_delay },
            habits: plan.habits.clone(),
        };
        let seed = dice.engine_seed();
        let engine = ClientEngine::new(plan.config.clone(), seed, self.now.instant());
        let (role, keep) = (if plan.is_provider() { "provider" } else { "client" }, self.watch.keep);
        let name = format!("{role}{client}");
        let contract = Contract::new(&plan.config.relay.limits, self.scenario.longest_message(), false);
        self.origins.push((Origin::Client(Box::new(plan.config.clone()), seed), self.now));
        let setup = Setup { name, number, keep, site, contract, dice };
        self.clients[client].host = Some(Host::new(setup, engine, &mut self.net, self.now));
    }

    fn new_host(&self) -> (usize, Dice) {
        let number = self.origins.len();
        (number, self.scenario.source.dice(Stream::Host, number))
    }

    pub(super) fn into_recordings(mut self) -> Vec<Recorded> {
        let server = self.server.bury(false, &mut self.net);
        let clients = self.clients.iter_mut().filter_map(|client| client.bury(false, &mut self.net));
        let processes: Vec<_> = server.into_iter().chain(clients).collect();
        processes.into_iter().for_each(|process| self.record(process));
        self.finished
    }
}

/// The names of all targets.
fn targets(scenario: &Scenario) -> impl Iterator<Item = (String, Vec<IpAddr>)> {
    let names = scenario.talks.iter().filter_map(talks::addresses);
    names.chain(scenario.chats.iter().filter_map(chats::addresses))
}

fn address(host: usize) -> IpAddr {
    host.checked_sub(SERVER + 1).map_or_else(|| server_address().ip(), client_address)
}

/// The addresses from which datagrams of those who come in there may reach a target.
pub(super) fn senders(scenario: &Scenario, entry: Entry) -> Vec<IpAddr> {
    let hosts = &scenario.entries[scenario.place(entry)].diallers;
    hosts.iter().flat_map(|host| [address(*host), second_address(address(*host))]).collect()
}

pub(super) fn talk(plan: &TalkPlan, scenario: &Scenario, net: &mut Network) -> Talk {
    for address in &plan.destination.alive {
        net.set_quality(address.ip(), scenario.targets.clone());
    }
    let dialler = |host: &usize| Dialler {
        host: *host,
        address: address(*host),
        finish: scenario.has_finish(plan.entry, *host),
    };
    let diallers = scenario.entries[scenario.place(plan.entry)].diallers.iter().map(dialler).collect();
    let is_honest = plan.is_probe || !scenario.shape.impostor;
    Talk::new(plan.clone(), diallers, is_honest, scenario.source.dice(Stream::Caller, plan.id), net)
}
