//! Clients and servers of our own on one runtime, with a tap on each.

use std::any::Any;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use conformance::interop::IO_TIMEOUT;
use conformance::sim::Origin;
use driver_async_std::AsyncStdRuntime;
use driver_core::embed::{Client, ClientHandle, ClientTls, Server, ServerHandle, ServerTls};
use driver_tokio::TokioRuntime;
use libtest_mimic::Failed;
use linksocks_sansio::error::StopReason;
use linksocks_sansio::{ChannelId, ClientConfig, Event, ServerConfig};
use smol_driver::SmolRuntime;
use socket2::{Domain, Socket, Type};

use crate::transcript::{Subject, Transcript, describe};
use crate::watch::{Seen, Watch};

/// Port 0 of the loopback interface.
pub(crate) const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// How long an engine that is asked to stop lets its channels go on: there are none any more.
const DRAIN: Duration = Duration::from_secs(10);

/// Where the drivers run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runtime {
    /// On the tokio runtime that the calling thread has entered.
    Tokio,
    AsyncStd,
    Smol,
}

impl Runtime {
    pub(crate) const ALL: [Self; 3] = [Self::Tokio, Self::AsyncStd, Self::Smol];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tokio => "tokio",
            Self::AsyncStd => "async-std",
            Self::Smol => "smol",
        }
    }
}

/// Calls `start` of a builder with the runtime, whose type depends on which it is.
macro_rules! start {
    ($builder:expr, $runtime:expr) => {
        match $runtime {
            Runtime::Tokio => wait($builder.start(TokioRuntime::current())),
            Runtime::AsyncStd => wait($builder.start(AsyncStdRuntime)),
            Runtime::Smol => wait($builder.start(SmolRuntime)),
        }
    };
}

/// The parts of a scenario, and what it has shown so far.
pub(crate) struct Stage {
    runtime: Runtime,
    actors: Vec<Actor>,
    /// What to call the ports that the system chose.
    ports: Mutex<HashMap<(Use, u16), String>>,
    /// What must not end before the scenario does: a port that has a name would get another one.
    kept: Mutex<Vec<Box<dyn Any + Send>>>,
    transcript: Mutex<Transcript>,
    played: Mutex<Vec<Played>>,
}

/// What a port is for. One port can have several uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Use {
    /// A target, a server or a proxy, over TCP.
    Listener,
    /// The end of an application whose name is that of its channel.
    Application,
    /// Where the application of an association sends its datagrams to.
    Association,
}

/// A channel that has been played, and what its events must say.
pub(crate) struct Played {
    pub name: String,
    /// How many bytes each end has sent.
    pub sent: [usize; 2],
    /// Whether both directions ended with EOF.
    pub regular: bool,
}

/// A running engine.
struct Actor {
    name: &'static str,
    origin: Origin,
    watch: Arc<Watch>,
    stop: Box<dyn Fn() -> StopReason + Sync>,
}

/// A part that has been started.
pub(crate) struct Part<H> {
    pub handle: Arc<H>,
    pub watch: Arc<Watch>,
}

impl Part<ClientHandle> {
    /// Where its SOCKS port is.
    pub(crate) fn socks(&self) -> Result<SocketAddr, Failed> {
        self.handle.local_addr().ok_or_else(|| Failed::from("the client has no SOCKS port"))
    }
}

impl Stage {
    pub(crate) fn new(runtime: Runtime) -> Self {
        Self {
            runtime,
            actors: Vec::new(),
            ports: Mutex::default(),
            kept: Mutex::default(),
            transcript: Mutex::default(),
            played: Mutex::default(),
        }
    }

    /// Starts a server on a port of the system's choice.
    pub(crate) fn server(
        &mut self,
        name: &'static str,
        config: ServerConfig,
        tls: Option<ServerTls>,
    ) -> Result<Part<ServerHandle>, Failed> {
        let (seed, watch) = (self.next_seed(), Arc::new(Watch::default()));
        let mut builder = Server::builder(config.clone()).bind(ANY_PORT).seed(seed).tap(watch.tap());
        if let Some(tls) = tls {
            builder = builder.tls(tls);
        }
        let handle = Arc::new(start!(builder, self.runtime)?);
        self.name_port(Use::Listener, handle.local_addr(), name);
        let stopping = Arc::clone(&handle);
        let stop = Box::new(move || wait(stopping.shutdown(DRAIN)));
        let origin = Origin::Server(Box::new(config), seed);
        self.actors.push(Actor { name, origin, watch: Arc::clone(&watch), stop });
        Ok(Part { handle, watch })
    }

    /// Starts a client and waits until it is logged in.
    pub(crate) fn client(
        &mut self,
        name: &'static str,
        config: ClientConfig,
    ) -> Result<Part<ClientHandle>, Failed> {
        let client = self.start_client(name, config, ClientTls::default())?;
        wait(client.handle.ready())?;
        Ok(client)
    }

    /// Starts a client that may not get as far as logging in.
    pub(crate) fn start_client(
        &mut self,
        name: &'static str,
        config: ClientConfig,
        tls: ClientTls,
    ) -> Result<Part<ClientHandle>, Failed> {
        let (seed, watch) = (self.next_seed(), Arc::new(Watch::default()));
        let builder = Client::builder(config.clone()).seed(seed).tls(tls).tap(watch.tap());
        let handle = Arc::new(start!(builder, self.runtime)?);
        let stopping = Arc::clone(&handle);
        let stop = Box::new(move || wait(stopping.shutdown(DRAIN)));
        let origin = Origin::Client(Box::new(config), seed);
        self.actors.push(Actor { name, origin, watch: Arc::clone(&watch), stop });
        Ok(Part { handle, watch })
    }

    /// Engines that talk to each other must not have the same secrets.
    fn next_seed(&self) -> [u8; 32] {
        [u8::try_from(self.actors.len()).expect("scenarios are small"); 32]
    }

    /// What to call a port, which is another one in each run. Applications and targets have the name of
    /// their channel.
    pub(crate) fn name_port(&self, usage: Use, address: SocketAddr, name: &str) {
        lock(&self.ports).insert((usage, address.port()), name.to_owned());
    }

    fn port_name(&self, usage: Use, port: u16) -> Option<String> {
        lock(&self.ports).get(&(usage, port)).cloned()
    }

    /// Drops it when the scenario is over.
    pub(crate) fn keep(&self, thing: impl Any + Send) {
        lock(&self.kept).push(Box::new(thing));
    }

    /// An address where nobody listens, and nobody but a part of this scenario will.
    pub(crate) fn reserve_port(&self, name: &str) -> io::Result<SocketAddr> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        // Who listens later must be allowed to bind it.
        socket.set_reuse_address(true)?;
        socket.bind(&ANY_PORT.into())?;
        let address = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        self.name_port(Use::Listener, address, name);
        self.keep(socket);
        Ok(address)
    }

    /// Writes into the transcript what `who` saw of `about`.
    pub(crate) fn note(&self, about: &str, who: &str, line: &str) {
        let line = self.without_ports(line);
        lock(&self.transcript).add(about, who, line);
    }

    /// A channel has come to its end, which the engines have to tell of.
    pub(crate) fn played(&self, channel: Played) {
        lock(&self.played).push(channel);
    }

    /// Replaces the ports in a text by their names.
    fn without_ports(&self, text: &str) -> String {
        let mut pieces = text.split(':');
        let mut result = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            let digits = piece.len() - piece.trim_start_matches(|digit: char| digit.is_ascii_digit()).len();
            let (number, rest) = piece.split_at(digits);
            let name = number.parse().ok().and_then(|port| self.port_name(Use::Listener, port));
            result.extend([":", name.as_deref().unwrap_or(number), rest]);
        }
        result
    }

    /// Stops everybody, the last that came first and each when its channels and clients are gone, replays
    /// the recordings and adds what the engines told.
    pub(crate) fn finish(self) -> Result<Transcript, Failed> {
        lock(&self.kept).clear();
        for actor in self.actors.iter().rev() {
            let done = actor.watch.wait_until("the end of all channels and clients", is_idle);
            done.map_err(|problem| format!("{}: {problem}", actor.name))?;
            self.note(actor.name, "end", &(actor.stop)().to_string());
        }
        for actor in &self.actors {
            actor.watch.replay(&actor.origin).map_err(|problem| format!("{}: {problem}", actor.name))?;
        }
        self.note_events();
        lock(&self.played).iter().try_for_each(|channel| self.check_events(channel))?;
        Ok(lock(&self.transcript).clone())
    }

    /// Two engines at least have told of a channel: that it was opened, then that it was closed, with the
    /// right numbers.
    fn check_events(&self, channel: &Played) -> Result<(), String> {
        let transcript = lock(&self.transcript);
        let [one, other] = channel.sent;
        let closed = |sent, received| format!("closed after {sent} bytes sent, {received} received; ");
        let ends = [closed(one, other), closed(other, one)];
        let mut engines = 0;
        for actor in &self.actors {
            let lines = transcript.get(&channel.name, actor.name);
            // The server in the middle has two halves of it.
            let (opened, closed) = lines.split_at(lines.len() / 2);
            let is_end = |line: &String| {
                let cause = ends.iter().find_map(|end| line.strip_prefix(end.as_str()));
                cause.is_some_and(|cause| (cause == "no error") == channel.regular)
            };
            if !opened.iter().all(|line| line.starts_with("opened to ")) || !closed.iter().all(is_end) {
                return Err(format!("{} told by {}: {lines:#?}", channel.name, actor.name));
            }
            engines += usize::from(!lines.is_empty());
        }
        if engines < 2 { Err(format!("{} was told by {engines} engines", channel.name)) } else { Ok(()) }
    }

    fn note_events(&self) {
        let mut channels: HashMap<ChannelId, String> = HashMap::new();
        for actor in &self.actors {
            channels.extend(self.channel_names(&actor.watch.seen()));
        }
        for actor in &self.actors {
            let seen = actor.watch.seen();
            let mut subjects: BTreeMap<Subject, Vec<String>> = BTreeMap::new();
            for event in &seen.events {
                let carries_link = |id| {
                    self.actors.iter().any(|actor| channels.get(&id).is_some_and(|name| name == actor.name))
                };
                if let Some((subject, line)) = describe(event, carries_link) {
                    subjects.entry(subject).or_default().push(line);
                }
            }
            // Which link is the first is a matter of chance.
            let mut links = Vec::new();
            for (subject, lines) in subjects {
                match subject {
                    Subject::Channel(id) => {
                        let name = channels.get(&id).map_or("association", String::as_str);
                        lines.iter().for_each(|line| self.note(name, actor.name, line));
                    }
                    Subject::Socket(id) => {
                        let name = seen
                            .applications
                            .get(&id)
                            .and_then(|port| self.port_name(Use::Application, *port));
                        let name = name.unwrap_or_else(|| "?".to_owned());
                        lines.iter().for_each(|line| self.note(&name, actor.name, line));
                    }
                    Subject::Link(_) => links.push(lines.join("; then ")),
                    Subject::Engine => lines.iter().for_each(|line| self.note(actor.name, "engine", line)),
                }
            }
            links.sort();
            links.iter().for_each(|line| self.note(actor.name, "link", line));
        }
    }

    /// Streams have the name of their target, associations that of their port for the application.
    fn channel_names(&self, seen: &Seen) -> Vec<(ChannelId, String)> {
        let streams = seen.requests.iter().map(|(id, port)| (*id, Use::Listener, *port));
        let associations = seen.events.iter().filter_map(|event| {
            let Event::AssociationOpened { channel, local: Some(local) } = event else { return None };
            Some((channel.id, Use::Association, local.port()))
        });
        let named = streams.chain(associations);
        named.filter_map(|(id, usage, port)| Some((id, self.port_name(usage, port)?))).collect()
    }
}

/// Whether each channel that was opened has ended, and each client that logged in has gone.
#[expect(clippy::wildcard_enum_match_arm, reason = "only these events tell")]
fn is_idle(seen: &Seen) -> bool {
    let (mut open, mut clients) = (HashMap::<ChannelId, usize>::new(), HashSet::new());
    for event in &seen.events {
        match event {
            Event::ChannelOpened { channel, .. } | Event::AssociationOpened { channel, .. } => {
                *open.entry(channel.id).or_default() += 1;
            }
            Event::ChannelClosed { channel, .. } | Event::AssociationClosed { channel, .. } => {
                // One that could not be opened is closed only.
                if let Some(count) = open.get_mut(&channel.id) {
                    *count = count.saturating_sub(1);
                }
            }
            Event::ClientAuthenticated { link, .. } => {
                clients.insert(*link);
            }
            Event::ClientDisconnected { link, .. } | Event::LinkSuspended { link, .. } => {
                clients.remove(link);
            }
            _ => {}
        }
    }
    clients.is_empty() && open.values().all(|count| *count == 0)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for what the threads of a runtime bring about.
///
/// # Panics
/// If that takes too long.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    let deadline = Instant::now() + IO_TIMEOUT;
    loop {
        if let Poll::Ready(result) = future.as_mut().poll(&mut context) {
            return result;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "waited too long for a future");
        thread::park_timeout(left);
    }
}
