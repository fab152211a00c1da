//! A run: everything in one place, moved on by one clock.

use std::net::SocketAddr;
use std::time::Duration;

use linksocks_sansio::config::Timeouts;
use linksocks_sansio::{ClientEngine, Command, ServerEngine};

use super::app::chat::Chat;
use super::app::intruder::Intruder;
use super::app::plan::{TalkPlan, client_address, embedder_address, server_address};
use super::app::{Scene, Talk};
use super::check::{
    Contract, Disturbances, Verdict, Violation, answered_once, ended_when_forgotten, require,
    served_unless_provoked,
};
use super::clock::{Agenda, Time};
use super::dice::Dice;
use super::host::{Host, Resolver, Setup, Site};
use super::net::{EndId, Fate, Network, Notice, Owner};
use super::scenario::chats;
use super::scenario::talks::{self, REFUSING, SILENT, SINK, UNREACHABLE};
use super::scenario::{ClientPlan, Exit, Fault, HEALED, PROBES, SERVER_NAME, Scenario, Shape, Stream};
use super::trace::Trace;
use super::{Failure, Origin, Recorded, Report, Watch};

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

/// The server's place among the hosts; clients follow.
const SERVER: usize = 0;

/// A run under way.
pub(super) struct World {
    scenario: Scenario,
    watch: Watch,
    now: Time,
    net: Network,
    trace: Trace,
    dice: Dice,
    /// `None` while it is down.
    server: Option<Host<ServerEngine>>,
    clients: Vec<Host<ClientEngine>>,
    talks: Vec<Talk>,
    chats: Vec<Chat>,
    /// When each chat must go on even if nothing happens on the network.
    chat_wakes: Vec<Option<Time>>,
    intruders: Vec<Intruder>,
    /// When each intruder goes on.
    intruder_wakes: Vec<Option<Time>>,
    /// When each conversation must go on even if nothing happens on the network.
    talk_wakes: Vec<Option<Time>>,
    events: Agenda<Event>,
    /// What went wrong from outside, for each client.
    disturbances: Vec<Disturbances>,
    /// Engines by number; also those of servers that are gone.
    origins: Vec<(Origin, Time)>,
    finished: Vec<Recorded>,
    /// The server was asked to stop and will start again after this.
    server_restarts_after: Option<Duration>,
}

/// Something that happens to the world, at its time.
#[derive(Debug)]
enum Event {
    Fault(Fault),
    UnbarServer,
    StartServer,
}

impl World {
    pub(super) fn new(scenario: Scenario, watch: Watch) -> Self {
        let seed = scenario.seed;
        let mut net = Network::new(Stream::Network.dice(seed, 0));
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
                let dice = Stream::Chats.dice(seed, plan.id + 1);
                let is_honest = plan.is_probe || !scenario.shape.impostor;
                Chat::new(plan, is_honest, dice)
            })
            .collect();
        let intruders: Vec<Intruder> = scenario
            .intruders
            .iter()
            .cloned()
            .map(|plan| {
                let dice = Stream::Intruders.dice(seed, plan.id + 1);
                Intruder::new(plan, dice)
            })
            .collect();
        net.listen(SINK_ADDRESS, Owner::Nobody).expect("nobody else listens there");
        let mut world = Self {
            now: Time::ZERO,
            trace: Trace::new(watch.echo),
            dice: Stream::World.dice(seed, 0),
            server: None,
            clients: Vec::new(),
            talk_wakes: talks.iter().map(|talk| Some(talk.plan.start)).collect(),
            talks,
            chat_wakes: chats.iter().map(Chat::wake).collect(),
            chats,
            intruder_wakes: scenario.intruders.iter().map(|plan| Some(plan.start)).collect(),
            intruders,
            events,
            disturbances: scenario.clients.iter().map(|_| Disturbances::default()).collect(),
            origins: Vec::new(),
            finished: Vec::new(),
            server_restarts_after: None,
            net,
            watch,
            scenario,
        };
        world.trace.note(Time::ZERO, "world", format_args!("{:?}", world.scenario.shape));
        if world.scenario.shape.impostor {
            // The impostor needs a moment to get away.
            world.events.enter(HEALED + Duration::from_secs(1), Event::StartServer);
            world.disturb_host(SERVER, HEALED.since_start());
        } else {
            world.start_server();
        }
        (0..world.scenario.clients.len()).for_each(|client| world.start_client(client));
        world
    }

    pub(super) fn run(mut self) -> Result<Report, Failure> {
        match self.play() {
            Ok(()) => {
                let hash = self.trace.hash();
                let resumed = self.clients.iter().map(|client| client.history().resumed).sum();
                Ok(Report { hash, engines: self.into_recordings(), resumed })
            }
            Err(violation) => Err(Failure { seed: self.scenario.seed, at: self.now, violation }),
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
            let open = world.talks.iter().find(|talk| !talk.is_over());
            let chat = world.chats.iter().find(|chat| !chat.is_over()).map(Chat::to_string);
            open.map(|talk| talk.to_string()).or(chat)
        })?;
        self.run_until(self.now + QUIET)?;
        self.judge()?;
        self.stop()
    }

    /// Holds what happened against what should have.
    fn judge(&self) -> Verdict {
        for talk in &self.talks {
            let client = talk.plan.client;
            let plan = &self.scenario.clients[client];
            let may_drop = self.scenario.shape.tight || self.clients[client].stopped().is_some();
            if !talk.is_honest() {
                continue;
            }
            answered_once(talk, plan.asks_for_login(), may_drop, plan.config.relay.fast_open)?;
            // An impostor may have ended the client for good.
            let is_lost = self.scenario.shape.impostor && self.clients[client].stopped().is_some();
            let is_served = plan.is_known && !is_lost && !self.scenario.shape.tight;
            if is_served && talk.plan.is_forgotten() {
                ended_when_forgotten(talk)?;
            } else if is_served {
                served_unless_provoked(talk, plan.asks_for_login(), &self.disturbances[client])?;
            }
        }
        for chat in self.chats.iter().filter(|chat| chat.plan.is_probe) {
            let client = chat.plan.client;
            let is_lost = self.clients[client].stopped().is_some();
            if self.scenario.clients[client].is_known && !is_lost && !self.scenario.shape.tight {
                chat.served()?;
            }
        }
        for (host, plan) in self.clients.iter().zip(&self.scenario.clients) {
            self.judge_client(host, plan)?;
        }
        self.server.iter().try_for_each(Host::check_idle)
    }

    /// Every client that may be there is there, with all its links, and at rest.
    fn judge_client(&self, host: &Host<ClientEngine>, plan: &ClientPlan) -> Verdict {
        let Shape { tight, impostor, calm, .. } = self.scenario.shape;
        if let Some(reason) = host.stopped() {
            // An impostor may say whatever ends a client for good.
            return require(!plan.is_known || impostor, "only wrong tokens end a client", || {
                format!("{} stopped: {reason}", host.name())
            });
        }
        let (ready, wanted) = (host.stats().ready_links, plan.config.links);
        if tight && ready < wanted {
            // The server has no room for all links, so the client will not come to rest.
            return Ok(());
        }
        require(plan.is_known && ready == wanted, "links come up again", || {
            format!("{} has {ready} of {wanted} links", host.name())
        })?;
        let broken = host.history().broken;
        require(broken == 0 || !calm || impostor, "links last", || {
            format!("{} lost {broken} links though nothing went wrong", host.name())
        })?;
        host.check_idle()
    }

    /// Ends everything in peace.
    fn stop(&mut self) -> Verdict {
        let drain = Duration::from_secs(1);
        for client in &mut self.clients {
            client.command(Command::Shutdown { drain }, self.now);
        }
        if let Some(server) = &mut self.server {
            server.command(Command::Shutdown { drain }, self.now);
        }
        self.run_while(drain + STOP, "engines stop when asked", |world| {
            let server = world.server.iter().filter(|host| host.stopped().is_none()).map(Host::name);
            let clients = world.clients.iter().filter(|host| host.stopped().is_none()).map(Host::name);
            server.chain(clients).next().map(str::to_owned)
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
        unfinished: impl Fn(&Self) -> Option<String>,
    ) -> Verdict {
        let limit = self.now + patience;
        while let Some(what) = unfinished(self) {
            match self.next().filter(|next| *next <= limit) {
                Some(next) => self.step(next)?,
                None => return Err(Violation { rule, details: format!("unfinished: {what}") }),
            }
        }
        Ok(())
    }

    /// When something happens next.
    fn next(&self) -> Option<Time> {
        let hosts = self.server.iter().filter_map(Host::wake);
        let clients = self.clients.iter().filter_map(Host::wake);
        let talks = self.talk_wakes.iter().flatten().copied();
        let intruders = self.intruder_wakes.iter().flatten().copied();
        let chats = self.chat_wakes.iter().flatten().copied();
        let others = [self.net.next(), self.events.next()].into_iter().flatten();
        hosts.chain(clients).chain(talks).chain(chats).chain(intruders).chain(others).min()
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
        if self.server.as_ref().is_some_and(|server| due(server.wake())) {
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
            Owner::Host(SERVER) => match &mut self.server {
                Some(server) => {
                    server.run(net, trace, *now)?;
                    self.restart_stopped_server();
                }
                None => drop(net.take_wakes(owner)),
            },
            Owner::Host(host) => self.clients[host - 1].run(net, trace, *now)?,
            Owner::Caller(id) | Owner::Target(id) => {
                let talk = &mut self.talks[id];
                let proxy_is_gone = self.clients[talk.plan.client].stopped().is_some();
                talk.run(proxy_is_gone, &mut Scene { net, trace, now: *now })?;
                self.talk_wakes[id] = talk.wake(*now);
            }
            Owner::Intruder(id) => {
                self.intruders[id].run(&mut Scene { net, trace, now: *now });
                self.intruder_wakes[id] = self.intruders[id].wake(*now);
            }
            Owner::Chat(id) => {
                let chat = &mut self.chats[id];
                let proxy_is_gone = self.clients[chat.plan.client].stopped().is_some();
                chat.run(proxy_is_gone, &mut Scene { net, trace, now: *now })?;
                self.chat_wakes[id] = chat.wake();
            }
            Owner::Nobody => drop(net.take_wakes(owner)),
        }
        Ok(())
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::UnbarServer => self.net.set_fate(server_address().ip(), None),
            Event::StartServer => self.start_server(),
            Event::Fault(Fault::CutLink(notice)) => {
                if let Some(end) = self.some_busy_link() {
                    self.cut(end, notice);
                }
            }
            Event::Fault(Fault::StallLink(length)) => {
                if let Some(end) = self.some_link() {
                    self.disturb_dialer(end, length);
                    self.net.stall(end, self.now + length);
                }
            }
            Event::Fault(Fault::BarServer(fate, length)) => {
                self.disturb_host(SERVER, length);
                self.net.set_fate(server_address().ip(), Some(fate));
                self.events.enter(self.now + length, Event::UnbarServer);
            }
            Event::Fault(Fault::BreakLookups { host, length }) => {
                self.disturb_host(host, length);
                let until = self.now + length;
                match (host, &mut self.server) {
                    (SERVER, Some(server)) => server.resolver_mut().broken_until = until,
                    (SERVER, None) => {}
                    (client, _) => self.clients[client - 1].resolver_mut().broken_until = until,
                }
            }
            Event::Fault(Fault::Suspend { host, length }) => {
                self.disturb_host(host, length);
                let until = self.now + length;
                match (host, &mut self.server) {
                    (SERVER, Some(server)) => server.suspend(until),
                    (SERVER, None) => {}
                    (client, _) => self.clients[client - 1].suspend(until),
                }
            }
            Event::Fault(Fault::RestartServer { exit, down }) => self.end_server(exit, down),
        }
    }

    /// One of the links that are up.
    fn some_link(&mut self) -> Option<EndId> {
        let links = self.net.established_to(server_address());
        (!links.is_empty()).then(|| *self.dice.pick(&links))
    }

    /// One of the links that are up, if there is one of a client with a conversation under way.
    fn some_busy_link(&mut self) -> Option<EndId> {
        let links = self.net.established_to(server_address());
        let is_busy = |client| {
            let mut talks = self.talks.iter().filter(|talk| talk.plan.client == client);
            talks.any(|talk| talk.plan.start < self.now && !talk.is_over())
        };
        let busy: Vec<_> = links.into_iter().filter(|end| self.dialer(*end).is_some_and(is_busy)).collect();
        if busy.is_empty() { self.some_link() } else { Some(*self.dice.pick(&busy)) }
    }

    /// Cuts a link. With a session, a client that notices is back before streams have come to harm.
    fn cut(&mut self, end: EndId, notice: Notice) {
        let is_back_soon = matches!(notice, Notice::Both | Notice::Dialer);
        match self.dialer(end) {
            Some(client) if is_back_soon && self.scenario.has_sessions(client) => {
                self.disturbances[client].enter_cut(self.now);
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

    /// What happens to the server happens to all.
    fn disturb_host(&mut self, host: usize, length: Duration) {
        let touched = |client: &usize| host == SERVER || host == client + 1;
        for client in (0..self.clients.len()).filter(touched) {
            self.disturbances[client].enter(self.now, length);
        }
    }

    fn end_server(&mut self, exit: Exit, down: Duration) {
        let Some(server) = &mut self.server else { return };
        if self.server_restarts_after.is_some() {
            return;
        }
        if let Exit::Asked(drain) = exit {
            server.command(Command::Shutdown { drain }, self.now);
            self.server_restarts_after = Some(down);
            self.disturb_host(SERVER, drain + STOP + down);
        } else {
            self.disturb_host(SERVER, down);
            self.bury_server(exit == Exit::Unplugged);
            self.events.enter(self.now + down, Event::StartServer);
        }
    }

    fn restart_stopped_server(&mut self) {
        let stopped = self.server.as_ref().is_some_and(|server| server.stopped().is_some());
        if stopped && let Some(down) = self.server_restarts_after.take() {
            self.bury_server(false);
            self.events.enter(self.now + down, Event::StartServer);
        }
    }

    fn bury_server(&mut self, silently: bool) {
        if let Some(server) = self.server.take() {
            let (number, outputs, recording) = server.end(silently, &mut self.net);
            let (origin, start) = self.origins[number].clone();
            self.finished.push(Recorded { origin, start, recording, outputs });
        }
    }

    fn start_server(&mut self) {
        let (number, mut dice) = self.new_host();
        let plan = &self.scenario.server;
        let names = self.scenario.talks.iter().filter_map(talks::addresses);
        let names = names.chain(self.scenario.chats.iter().filter_map(chats::addresses)).collect();
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
        let contract = Contract::new(&plan.config.relay.limits, self.scenario.longest_message());
        self.origins.push((Origin::Server(Box::new(plan.config.clone()), seed), self.now));
        let setup = Setup { name, number, keep, site, contract, dice };
        self.server = Some(Host::new(setup, engine, &mut self.net, self.now));
    }

    fn start_client(&mut self, client: usize) {
        let (number, mut dice) = self.new_host();
        let plan = &self.scenario.clients[client];
        let calls = self.scenario.talks.iter().filter(|talk| talk.client == client);
        let names = [(SERVER_NAME.to_owned(), plan.server_addresses.clone())].into();
        let site = Site {
            owner: Owner::Host(client + 1),
            address: client_address(client),
            front: None,
            embedder: Some(embedder_address(client)),
            orders: calls.map(|talk| (talk.caller_address().ip(), talk.destination.target.clone())).collect(),
            resolver: Resolver { names, broken_until: Time::ZERO, delay: plan.lookup_delay },
            habits: plan.habits.clone(),
        };
        let seed = dice.engine_seed();
        let engine = ClientEngine::new(plan.config.clone(), seed, self.now.instant());
        let (name, keep) = (format!("client{client}"), self.watch.keep);
        let contract = Contract::new(&plan.config.relay.limits, self.scenario.longest_message());
        self.origins.push((Origin::Client(Box::new(plan.config.clone()), seed), self.now));
        let setup = Setup { name, number, keep, site, contract, dice };
        self.clients.push(Host::new(setup, engine, &mut self.net, self.now));
    }

    fn new_host(&self) -> (usize, Dice) {
        let number = self.origins.len();
        (number, Stream::Host.dice(self.scenario.seed, number))
    }

    fn into_recordings(mut self) -> Vec<Recorded> {
        self.bury_server(false);
        for client in std::mem::take(&mut self.clients) {
            let (number, outputs, recording) = client.end(false, &mut self.net);
            let (origin, start) = self.origins[number].clone();
            self.finished.push(Recorded { origin, start, recording, outputs });
        }
        self.finished
    }
}

fn talk(plan: &TalkPlan, scenario: &Scenario, net: &mut Network) -> Talk {
    for address in &plan.destination.alive {
        net.set_quality(address.ip(), scenario.targets.clone());
    }
    let server = &scenario.server.config.relay.extensions;
    let client = &scenario.clients[plan.client].config.relay.extensions;
    let finish = server.finish && client.finish;
    let is_honest = plan.is_probe || !scenario.shape.impostor;
    Talk::new(plan.clone(), finish, is_honest, Stream::Caller.dice(scenario.seed, plan.id), net)
}
