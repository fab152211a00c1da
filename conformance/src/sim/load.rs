//! How long small messages take on a link that others keep busy.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use linksocks_sansio::{ClientConfig, ClientEngine, ServerConfig, ServerEngine};

use super::app::plan::{client_address, embedder_address, server_address};
use super::check::Contract;
use super::clock::Time;
use super::dice::Dice;
use super::host::{Habits, Host, Resolver, Setup, Site};
use super::net::{DialState, EndId, Network, Owner, Quality, Read};
use super::pattern::Pattern;
use super::trace::Trace;
use crate::record::Keep;

/// The server's place among the hosts.
const SERVER: usize = 0;
const CLIENT: usize = 1;

/// The longest message that any peer sends.
const LONGEST: usize = (1 << 20) + 1024;

/// Bytes of a ping, and of the answer.
const PING: usize = 64;

/// What one write of a bulk stream offers.
const CHUNK: usize = 64 * 1024;

/// When the bulk streams begin; before, the link is idle but for the pings.
const BUSY: Time = Time::from_secs(5);

/// How long pings are left out of account while the streams find their speed.
const WARM_UP: Duration = Duration::from_secs(3);

/// When it is over.
const END: Time = Time::from_secs(25);

/// A link and what is to pass over it.
#[derive(Clone, Debug)]
pub struct Load {
    /// Bytes per second of the link, in each direction.
    pub bandwidth: u64,
    /// Back and forth.
    pub round_trip: Duration,
    /// Bytes that each kernel takes from its driver before they have arrived at the other end.
    pub kernel_buffer: usize,
    /// How many bulk streams.
    pub streams: usize,
    /// Their direction: from the applications to the targets.
    pub upload: bool,
}

/// What was measured.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    /// Round trips of pings without other traffic, sorted.
    pub idle: Vec<Duration>,
    /// Round trips of pings beside the bulk streams, sorted.
    pub busy: Vec<Duration>,
    /// Bytes of the bulk streams per second.
    pub throughput: f64,
}

impl Latencies {
    /// The value that `percent` of sorted durations don't exceed.
    #[must_use]
    pub fn percentile(sorted: &[Duration], percent: usize) -> Duration {
        sorted
            .get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
    }
}

/// Two peers, one link, and the applications at both ends.
struct Bench {
    net: Network,
    dice: Dice,
    now: Time,
    trace: Trace,
    server: Host<ServerEngine>,
    client: Host<ClientEngine>,
    /// The first one is the pings'.
    streams: Vec<Stream>,
    upload: bool,
    /// When the next ping is due, or when the one under way was sent.
    ping: Ping,
    bulk_bytes: u64,
    latencies: Latencies,
}

/// An application and its target.
#[derive(Debug)]
struct Stream {
    target: SocketAddr,
    app: EndId,
    /// Once the server has connected.
    far: Option<EndId>,
    unwritten: Bytes,
}

enum Ping {
    Due(Time),
    Under { since: Time, received: usize },
}

/// Runs `load` over a link between a client and a server.
///
/// # Errors
/// A rule of the contract that was broken.
pub fn measure(
    load: &Load,
    client: ClientConfig,
    server: ServerConfig,
) -> Result<Latencies, super::check::Violation> {
    let mut bench = Bench::new(load, client, server);
    while bench.now < END {
        bench.step()?;
    }
    let seconds = (END - (BUSY + WARM_UP)).as_secs_f64();
    bench.latencies.throughput = bench.bulk_bytes as f64 / seconds;
    bench.latencies.idle.sort();
    bench.latencies.busy.sort();
    Ok(bench.latencies)
}

fn app_address(stream: usize) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(172, 16, 0, stream as u8)), 40_000)
}

impl Bench {
    fn new(load: &Load, client: ClientConfig, server: ServerConfig) -> Self {
        let mut net = Network::new(Dice::new(1, 1));
        let link = Quality {
            latency: (load.round_trip / 2, load.round_trip / 2),
            bandwidth: (load.bandwidth, load.bandwidth),
            send_buffer: (load.kernel_buffer, load.kernel_buffer),
            receive_buffer: (1 << 20, 1 << 20),
        };
        net.set_quality(server_address().ip(), link);
        let targets: Vec<_> = (0..=load.streams)
            .map(|stream| SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 1, 0, stream as u8)), 80))
            .collect();
        for (stream, target) in targets.iter().enumerate() {
            net.listen(*target, Owner::Target(stream)).expect("each target has an address of its own");
        }
        let orders = (0..).zip(&targets).map(|(stream, target)| (app_address(stream).ip(), (*target).into()));
        let orders = orders.collect();
        let relay = [&server.relay, &client.relay].map(|relay| relay.limits.clone());
        let engine = ServerEngine::new(server, [2; 32], Time::ZERO.instant());
        let mut hosted = host("server", SERVER, server_address().ip(), &relay[SERVER]);
        hosted.site.front = Some(server_address());
        let server = Host::new(hosted, engine, &mut net, Time::ZERO);
        let engine = ClientEngine::new(client, [1; 32], Time::ZERO.instant());
        let mut hosted = host("client", CLIENT, client_address(0), &relay[CLIENT]);
        (hosted.site.embedder, hosted.site.orders) = (Some(embedder_address(0)), orders);
        let client = Host::new(hosted, engine, &mut net, Time::ZERO);
        let streams = targets
            .into_iter()
            .enumerate()
            .map(|(stream, target)| Stream {
                target,
                app: net.connect(Owner::Caller(stream), app_address(stream), embedder_address(0)),
                far: None,
                unwritten: Bytes::new(),
            })
            .collect();
        Self {
            net,
            dice: Dice::new(1, 2),
            now: Time::ZERO,
            trace: Trace::new(false, false),
            server,
            client,
            streams,
            upload: load.upload,
            ping: Ping::Due(Time::from_secs(1)),
            bulk_bytes: 0,
            latencies: Latencies::default(),
        }
    }

    /// Jumps to the next moment at which something happens.
    fn step(&mut self) -> Result<(), super::check::Violation> {
        let ping = match self.ping {
            Ping::Due(at) => Some(at),
            Ping::Under { .. } => None,
        };
        let begins = (self.now < BUSY).then_some(BUSY);
        let wakes = [self.net.next(), self.server.wake(), self.client.wake(), ping, begins];
        self.now = self.now.max(wakes.into_iter().flatten().min().unwrap_or(END));
        let now = self.now;
        self.net.advance(now);
        if begins == Some(now) {
            (1..self.streams.len()).for_each(|stream| self.run_stream(stream));
        }
        if ping.is_some_and(|at| at <= now) {
            self.run_stream(0);
        }
        loop {
            let due = |wake: Option<Time>| wake.is_some_and(|wake| wake <= now);
            match self.net.woken() {
                Some(Owner::Host(SERVER)) => self.server.run(&mut self.net, &mut self.trace, now)?,
                Some(Owner::Host(_)) => self.client.run(&mut self.net, &mut self.trace, now)?,
                Some(owner) => {
                    self.net.take_wakes(owner);
                    if let Owner::Caller(stream) | Owner::Target(stream) = owner {
                        self.run_stream(stream);
                    }
                }
                None if due(self.server.wake()) => self.server.run(&mut self.net, &mut self.trace, now)?,
                None if due(self.client.wake()) => self.client.run(&mut self.net, &mut self.trace, now)?,
                None => return Ok(()),
            }
        }
    }

    /// Lets an application and its target do what they can.
    fn run_stream(&mut self, stream: usize) {
        let Stream { target, app, far, .. } = self.streams[stream];
        let far = far.or_else(|| self.net.accept(target));
        self.streams[stream].far = far;
        let Some(far) = far.filter(|_| self.net.dial_state(app) == DialState::Open) else { return };
        if stream == 0 {
            self.ping(app, far);
        } else {
            let (from, to) = if self.upload { (app, far) } else { (far, app) };
            self.bulk(stream, from, to);
        }
    }

    fn bulk(&mut self, stream: usize, from: EndId, to: EndId) {
        let received = self.read(to);
        if self.now >= BUSY + WARM_UP {
            self.bulk_bytes += received as u64;
        }
        while self.now >= BUSY {
            let unwritten = &mut self.streams[stream].unwritten;
            if unwritten.is_empty() {
                *unwritten = Pattern::new(1).bytes(0, CHUNK);
            }
            if self.net.write(from, unwritten).expect("nothing breaks") == 0 {
                return;
            }
        }
    }

    fn ping(&mut self, app: EndId, far: EndId) {
        let asked = self.read(far);
        self.write(far, asked);
        let answered = self.read(app);
        match &mut self.ping {
            Ping::Due(at) if *at <= self.now => {
                self.ping = Ping::Under { since: self.now, received: 0 };
                self.write(app, PING);
            }
            Ping::Due(_) => {}
            Ping::Under { since, received } => {
                *received += answered;
                if *received == PING {
                    let (since, now) = (*since, self.now);
                    if now < BUSY {
                        self.latencies.idle.push(now - since);
                    } else if since >= BUSY + WARM_UP {
                        self.latencies.busy.push(now - since);
                    }
                    // At any phase of what the streams do.
                    let pause = self.dice.between(1, 50_000);
                    self.ping = Ping::Due(now + Duration::from_micros(pause));
                }
            }
        }
    }

    fn read(&mut self, end: EndId) -> usize {
        let mut total = 0;
        while let Read::Data(bytes) = self.net.read(end, CHUNK).expect("nothing breaks") {
            total += bytes.len();
        }
        total
    }

    /// A few bytes, for which the kernel always has room.
    fn write(&mut self, end: EndId, length: usize) {
        let mut bytes = Bytes::from(vec![0; length]);
        self.net.write(end, &mut bytes).expect("nothing breaks");
        assert!(bytes.is_empty(), "a ping is small");
    }
}

fn host(name: &str, number: usize, address: IpAddr, limits: &linksocks_sansio::config::Limits) -> Setup {
    Setup {
        name: name.to_owned(),
        number,
        keep: Keep::Nothing,
        site: Site {
            owner: Owner::Host(number),
            address,
            front: None,
            embedder: None,
            orders: BTreeMap::new(),
            resolver: Resolver { names: BTreeMap::new(), broken_until: Time::ZERO, delay: Duration::ZERO },
            habits: Habits::plain(),
        },
        contract: Contract::new(limits, LONGEST, false),
        dice: Dice::new(1, 3 + number as u64),
    }
}
