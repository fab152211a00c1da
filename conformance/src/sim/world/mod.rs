//! A run: everything in one place, moved on by one clock.

mod faults;
mod hosts;
mod judge;
mod place;

use std::fmt::Display;
use std::net::SocketAddr;
use std::time::Duration;

use linksocks_sansio::config::Timeouts;
use linksocks_sansio::{ChannelId, ClientEngine, Command, ServerEngine};

use self::hosts::{senders, talk};
use self::place::Place;
use super::app::chat::Chat;
use super::app::intruder::Intruder;
use super::app::plan::{Entry, client_address, server_address};
use super::app::{Scene, Talk};
use super::check::{Disturbances, Verdict, Violation};
use super::clock::{Agenda, Time};
use super::dice::Dice;
use super::host::Host;
use super::net::{Fate, Network, Owner};
use super::scenario::talks::{REFUSING, SILENT, SINK, UNREACHABLE};
use super::scenario::{Fault, HEALED, Mode, PROBES, SERVER, Scenario, Stream};
use super::trace::Trace;
use super::{Breach, Origin, Recorded, Report, Watch};

/// How long the conversations may take after all faults are over. The slowest readers need two
/// minutes, and a conversation may begin anew with each reconnect.
const PATIENCE: Duration = Duration::from_secs(600);

/// After this long without anything to do nothing may be left over: the longest of the timeouts
/// that wait for nobody (dead links, 65 s), and some.
const QUIET: Duration = Duration::from_secs(100);

/// How long engines may take to end beyond the time that they were given.
const STOP: Duration = Duration::from_secs(10);

/// Where connections go that nobody accepts.
const SINK_ADDRESS: SocketAddr = SocketAddr::new(SINK, 9);

/// A run under way.
pub(super) struct World {
    scenario: Scenario,
    watch: Watch,
    now: Time,
    net: Network,
    trace: Trace,
    dice: Dice,
    server: Place<ServerEngine>,
    /// As in the scenario.
    clients: Vec<Place<ClientEngine>>,
    /// When each client had its first link.
    first_links: Vec<Option<Time>>,
    talks: Vec<Talk>,
    chats: Vec<Chat>,
    /// When each chat must go on even if nothing happens on the network.
    chat_wakes: Vec<Option<Time>>,
    intruders: Vec<Intruder>,
    /// Channels of which intruders have heard.
    overheard: Vec<ChannelId>,
    /// When each intruder goes on.
    intruder_wakes: Vec<Option<Time>>,
    /// When each conversation must go on even if nothing happens on the network.
    talk_wakes: Vec<Option<Time>>,
    events: Agenda<Event>,
    /// What went wrong from outside, for each entry.
    disturbances: Vec<Disturbances>,
    /// Engines by number; also those of servers that are gone.
    origins: Vec<(Origin, Time)>,
    finished: Vec<Recorded>,
}

/// Something that happens to the world, at its time.
#[derive(Debug)]
enum Event {
    Fault(Fault),
    UnbarServer,
    /// The host with this number starts.
    Start(usize),
}

impl World {
    pub(super) fn new(scenario: Scenario, watch: Watch) -> Self {
        let mut net = Network::new(scenario.source.dice(Stream::Network, 0));
        net.set_quality(server_address().ip(), scenario.links.clone());
        for client in 0..scenario.clients.len() {
            net.set_quality(client_address(client), scenario.callers.clone());
        }
        net.set_fate(REFUSING, Some(Fate::Refused));
        net.set_fate(SILENT, Some(Fate::Silent));
        net.set_fate(UNREACHABLE, Some(Fate::Unreachable));
        let mut events = Agenda::default();
        for (at, fault) in &scenario.faults {
            events.enter(*at, Event::Fault(*fault));
        }
        let talks: Vec<Talk> = scenario.talks.iter().map(|plan| talk(plan, &scenario, &mut net)).collect();
        for plan in &scenario.chats {
            if let Some(echo) = plan.echo {
                net.bind(echo, Owner::Chat(plan.id)).expect("each target has an address of its own");
            }
        }
        net.set_loss(scenario.loss);
        let chats: Vec<Chat> = scenario
            .chats
            .iter()
            .cloned()
            .map(|plan| {
                let dice = scenario.source.dice(Stream::Chats, plan.id + 1);
                let is_honest = plan.is_probe || !scenario.shape.impostor;
                let senders = senders(&scenario, plan.entry);
                Chat::new(plan, senders, is_honest, dice)
            })
            .collect();
        let intruders: Vec<Intruder> = scenario
            .intruders
            .iter()
            .cloned()
            .map(|plan| {
                let dice = scenario.source.dice(Stream::Intruders, plan.id + 1);
                Intruder::new(plan, dice)
            })
            .collect();
        net.listen(SINK_ADDRESS, Owner::Nobody).expect("nobody else listens there");
        let mut world = Self {
            now: Time::ZERO,
            trace: Trace::new(watch.hash, watch.echo),
            dice: scenario.source.dice(Stream::World, 0),
            server: Place::default(),
            clients: scenario.clients.iter().map(|_| Place::default()).collect(),
            first_links: vec![None; scenario.clients.len()],
            talk_wakes: talks.iter().map(|talk| Some(talk.plan.start)).collect(),
            talks,
            chat_wakes: chats.iter().map(Chat::wake).collect(),
            chats,
            overheard: Vec::new(),
            intruder_wakes: scenario.intruders.iter().map(|plan| Some(plan.start)).collect(),
            intruders,
            events,
            disturbances: scenario.entries.iter().map(|_| Disturbances::default()).collect(),
            origins: Vec::new(),
            finished: Vec::new(),
            net,
            watch,
            scenario,
        };
        world.trace.note(Time::ZERO, "world", format_args!("{:?}", world.scenario.shape));
        if world.scenario.shape.impostor {
            // The impostor needs a moment to get away.
            world.events.enter(HEALED + Duration::from_secs(1), Event::Start(SERVER));
            world.disturb_host(SERVER, HEALED.since_start());
        } else {
            world.start_server();
        }
        (0..world.scenario.clients.len()).for_each(|client| world.start_client(client));
        world
    }

    pub(super) fn run(mut self) -> Result<Report, Breach> {
        match self.play() {
            Ok(()) => {
                let hash = self.trace.hash();
                let resumed = self
                    .clients
                    .iter()
                    .filter_map(|client| Some(client.host.as_ref()?.history().resumed))
                    .sum();
                Ok(Report { hash, engines: self.into_recordings(), resumed })
            }
            Err(violation) => Err(Breach { at: self.now, violation }),
        }
    }

    fn play(&mut self) -> Verdict {
        // Faults on: whatever happens is safe.
        self.run_until(HEALED)?;
        self.net.unlisten(SINK_ADDRESS);
        self.net.set_loss(0);
        self.run_until(PROBES)?;
        // Faults off: everything comes to an end.
        let forgotten = self.scenario.shape.forgotten;
        let patience = if forgotten { Timeouts::default().channel_idle + PATIENCE } else { PATIENCE };
        self.run_while(patience, "conversations come to an end", |world| {
            let talk = world.talks.iter().find(|talk| !talk.is_over()).map(boxed);
            talk.or_else(|| world.chats.iter().find(|chat| !chat.is_over()).map(boxed))
        })?;
        self.run_until(self.now + QUIET)?;
        self.judge()?;
        self.stop()
    }

    /// Ends everything in peace.
    fn stop(&mut self) -> Verdict {
        let drain = Duration::from_secs(1);
        for client in self.clients.iter_mut().filter_map(|client| client.host.as_mut()) {
            client.command(Command::Shutdown { drain }, self.now);
        }
        if let Some(server) = &mut self.server.host {
            server.command(Command::Shutdown { drain }, self.now);
        }
        self.run_while(drain + STOP, "engines stop when asked", |world| {
            let clients = world.clients.iter().filter_map(|client| client.host.as_ref());
            let client = clients.filter(|host| host.stopped().is_none()).map(Host::name).next();
            let server = world.server.host.as_ref().filter(|host| host.stopped().is_none());
            server.map(Host::name).or(client).map(boxed)
        })
    }

    fn run_until(&mut self, limit: Time) -> Verdict {
        while let Some(next) = self.next().filter(|next| *next <= limit) {
            self.step(next)?;
        }
        self.now = self.now.max(limit);
        Ok(())
    }

    /// Runs until `unfinished` names nothing any more.
    fn run_while(
        &mut self,
        patience: Duration,
        rule: &'static str,
        unfinished: impl Fn(&Self) -> Option<Box<dyn Display + '_>>,
    ) -> Verdict {
        let limit = self.now + patience;
        while unfinished(self).is_some() {
            match self.next().filter(|next| *next <= limit) {
                Some(next) => self.step(next)?,
                None => break,
            }
        }
        match unfinished(self) {
            Some(what) => Err(Violation { rule, details: format!("unfinished: {what}") }),
            None => Ok(()),
        }
    }

    /// When something happens next.
    fn next(&self) -> Option<Time> {
        let clients = self.clients.iter().filter_map(Place::wake);
        let talks = self.talk_wakes.iter().flatten().copied();
        let intruders = self.intruder_wakes.iter().flatten().copied();
        let chats = self.chat_wakes.iter().flatten().copied();
        let others = [self.server.wake(), self.net.next(), self.events.next()].into_iter().flatten();
        clients.chain(talks).chain(chats).chain(intruders).chain(others).min()
    }

    /// Jumps to `now` and does all that happens at that moment.
    fn step(&mut self, now: Time) -> Verdict {
        self.now = self.now.max(now);
        self.net.advance(self.now);
        while let Some(event) = self.events.pop_due(self.now) {
            self.trace.note(self.now, "world", format_args!("{event:?}"));
            self.happen(event);
        }
        loop {
            while let Some(owner) = self.net.woken() {
                self.run_owner(owner)?;
            }
            let Some(owner) = self.due() else { return Ok(()) };
            self.run_owner(owner)?;
        }
    }

    /// Someone whose time has come.
    fn due(&self) -> Option<Owner> {
        let due = |wake: Option<Time>| wake.is_some_and(|wake| wake <= self.now);
        if due(self.server.wake()) {
            return Some(Owner::Host(SERVER));
        }
        let client = self.clients.iter().position(|client| due(client.wake()));
        let talk = || self.talk_wakes.iter().position(|wake| due(*wake));
        let intruder = || self.intruder_wakes.iter().position(|wake| due(*wake)).map(Owner::Intruder);
        let chat = || self.chat_wakes.iter().position(|wake| due(*wake)).map(Owner::Chat);
        client
            .map(|client| Owner::Host(client + 1))
            .or_else(|| talk().map(Owner::Caller))
            .or_else(intruder)
            .or_else(chat)
    }

    fn run_owner(&mut self, owner: Owner) -> Verdict {
        let Self { net, trace, now, .. } = self;
        match owner {
            Owner::Host(SERVER) => match &mut self.server.host {
                Some(server) => {
                    server.run(net, trace, *now)?;
                    if self.scenario.shape.mode != Mode::Forward {
                        self.overheard = server.history().latest_requests().to_vec();
                    }
                    self.restart_stopped(SERVER);
                }
                None => drop(net.take_wakes(owner)),
            },
            Owner::Host(number) => match &mut self.clients[number - 1].host {
                Some(client) => {
                    client.run(net, trace, *now)?;
                    if client.history().was_ready {
                        self.first_links[number - 1].get_or_insert(*now);
                    }
                    self.restart_stopped(number);
                }
                None => drop(net.take_wakes(owner)),
            },
            Owner::Caller(id) | Owner::Target(id) => {
                let talk = &mut self.talks[id];
                let proxy_is_gone = is_gone(talk.plan.entry, &self.clients);
                talk.run(proxy_is_gone, &mut Scene { net, trace, now: *now })?;
                self.talk_wakes[id] = talk.wake(*now);
            }
            Owner::Intruder(id) => {
                self.intruders[id].run(&self.overheard, &mut Scene { net, trace, now: *now });
                self.intruder_wakes[id] = self.intruders[id].wake(*now);
            }
            Owner::Chat(id) => {
                let chat = &mut self.chats[id];
                let proxy_is_gone = is_gone(chat.plan.entry, &self.clients);
                chat.run(proxy_is_gone, &mut Scene { net, trace, now: *now })?;
                self.chat_wakes[id] = chat.wake();
            }
            Owner::Nobody => drop(net.take_wakes(owner)),
        }
        Ok(())
    }
}

/// Something that is put into words only if it must be.
fn boxed<'a>(what: impl Display + 'a) -> Box<dyn Display + 'a> {
    Box::new(what)
}

/// Whether nobody will ever listen there again.
fn is_gone(entry: Entry, clients: &[Place<ClientEngine>]) -> bool {
    matches!(entry, Entry::Client(client) if clients[client].stopped().is_some())
}
