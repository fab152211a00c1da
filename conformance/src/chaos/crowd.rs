//! Applications that open stream after stream, and the targets that they talk to.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::datagrams;
use super::fault::FaultLog;
use super::judge::{Outcome, Rules};
use super::registry::{Registry, introduce};
use super::script::{Door, Kind, Role, Script};
use super::side;
use super::stream::{End, Refusal};
use crate::interop::target::Target;
use crate::interop::udp::EchoTarget;
use crate::interop::{http, socks};
use crate::sim::Dice;

/// How long opening a stream may take: longer than the programs' own deadlines.
const OPEN_TIMEOUT: Duration = Duration::from_secs(40);
/// The longest pause between two streams of an application.
const THINKING: Duration = Duration::from_millis(200);
/// The pause after a failure, so that nobody asks a dead program thousands of times.
const DISCOURAGED: Duration = Duration::from_millis(300);
/// Dice of the pauses.
const THINKING_DICE: u64 = 1 << 41;
/// The status of an HTTP proxy whose target refused.
const BAD_GATEWAY: u16 = 502;
/// The SOCKS reply of a proxy that is only told that its target could not be reached.
const HOST_UNREACHABLE: u8 = 4;

/// Whom applications talk to.
pub(super) struct Targets {
    /// Whatever connects says which stream it is.
    streams: Target,
    datagrams: EchoTarget,
    /// Bound, but without anybody who listens.
    refusing: Socket,
}

impl Targets {
    /// # Errors
    /// Those of binding sockets.
    pub(super) fn bind(registry: &Arc<Registry>) -> io::Result<Self> {
        let refusing = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        refusing.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        let registry = Arc::clone(registry);
        Ok(Self {
            streams: Target::local(move |socket| registry.serve(socket, OPEN_TIMEOUT))?,
            datagrams: EchoTarget::bind(Ipv4Addr::LOCALHOST.into())?,
            refusing,
        })
    }

    #[cfg(test)]
    pub(super) fn streams(&self) -> SocketAddr {
        self.streams.address()
    }

    fn of(&self, kind: Kind) -> io::Result<SocketAddr> {
        if kind != Kind::Refused {
            return Ok(self.streams.address());
        }
        self.refusing.local_addr()?.as_socket().ok_or_else(|| io::Error::other("not an IP address"))
    }
}

/// Everybody who uses the programs.
pub(super) struct Crowd<'a> {
    pub(super) seed: u64,
    /// The SOCKS ports.
    pub(super) entries: &'a [SocketAddr],
    pub(super) rules: Rules,
    pub(super) registry: &'a Registry,
    pub(super) targets: &'a Targets,
    pub(super) faults: &'a FaultLog,
    pub(super) stopping: &'a AtomicBool,
}

impl Crowd<'_> {
    /// Plays one application after the other until the crowd stops.
    pub(super) fn play(&self) {
        while !self.stopping.load(SeqCst) {
            let key = self.registry.next_key();
            let script = Script::draw(self.seed, key, self.entries.len(), self.rules.exact_ends);
            let content =
                if script.kind == Kind::Udp { self.send_datagrams(&script) } else { self.play_one(script) };
            let mut dice = Dice::new(self.seed, THINKING_DICE + key);
            let thinking = Duration::from_millis(dice.below(THINKING.as_millis() as u64));
            thread::sleep(if content { thinking } else { DISCOURAGED });
        }
    }

    /// The application's end of a stream; whether it had a connection.
    pub(super) fn play_one(&self, script: Script) -> bool {
        let stream = self.registry.add(script);
        let clock = self.registry.clock;
        match self.open(&stream.script) {
            Ok(mut socket) => {
                match introduce(&mut socket, stream.script.key) {
                    Ok(()) => side::play(&socket, &stream, Role::App, clock),
                    Err(error) => stream.side(Role::App).set_end(clock.now(), End::Reset(error.to_string())),
                }
                true
            }
            Err(refusal) => {
                stream.side(Role::App).set_end(clock.now(), End::NotOpened(refusal));
                false
            }
        }
    }

    fn open(&self, script: &Script) -> Result<TcpStream, Refusal> {
        let entry = self.entries[script.entry];
        let target = self.targets.of(script.kind).map_err(|error| Refusal::Other(error.to_string()))?;
        match script.door {
            Door::Socks => socks::connect_within(entry, target, OPEN_TIMEOUT).map_err(|error| {
                let exactly = matches!(error, socks::Error::Refused(HOST_UNREACHABLE));
                self.refusal(&error, exactly, matches!(error, socks::Error::Refused(_)))
            }),
            Door::HttpConnect => http::connect_within(entry, target, OPEN_TIMEOUT).map_err(|error| {
                let exactly = matches!(error, http::Error::Refused(BAD_GATEWAY));
                self.refusal(&error, exactly, matches!(error, http::Error::Refused(_)))
            }),
            #[cfg(test)]
            Door::Direct => {
                socks::open_within(entry, OPEN_TIMEOUT).map_err(|error| Refusal::Other(error.to_string()))
            }
        }
    }

    /// Whether the target is to blame is said exactly by our own programs, and only roughly by others.
    fn refusal(&self, error: &dyn std::error::Error, exactly: bool, roughly: bool) -> Refusal {
        if exactly || (roughly && !self.rules.exact_ends) {
            Refusal::Target
        } else {
            Refusal::Other(error.to_string())
        }
    }

    /// An application with datagrams; whether it got answers.
    fn send_datagrams(&self, script: &Script) -> bool {
        let Registry { clock, tally, .. } = self.registry;
        let started = clock.now();
        let dice = Dice::new(self.seed, script.key);
        let outcome = datagrams::exchange(
            self.entries[script.entry],
            self.targets.datagrams.address(),
            script.key,
            dice,
        );
        let excused =
            self.faults.has_met(script.entry, started.saturating_sub(Duration::from_secs(1)), clock.now());
        let (outcome, problem) = match outcome {
            Ok(exchange) => {
                tally.add_datagrams(exchange.sent, exchange.answered);
                (Outcome::Complete, None)
            }
            Err(datagrams::Error::Wrong(problem)) => (Outcome::Failed, Some(problem)),
            Err(datagrams::Error::Silent(_)) if excused => (Outcome::Broken, None),
            Err(datagrams::Error::Silent(problem)) => (Outcome::Failed, Some(problem)),
        };
        tally.add_stream(Kind::Udp, outcome, 0);
        if let Some(problem) = problem {
            let from = started.as_secs_f64();
            tally.add_failure(format!("UDP association {} from {from:.3} s: {problem}", script.key));
        }
        outcome == Outcome::Complete
    }
}
