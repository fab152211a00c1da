//! The programs under test as processes that can be killed, stopped and started again, with a troublesome proxy in each
//! link.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::Plan;
use super::proxy::Proxy;
use super::script::Role;
use super::stream::lock;
use crate::interop::{Error, Mode, Process, Program, Reverse, free_port, procfs};

const TOKEN: &str = "chaos-token";
const CONNECTOR_TOKEN: &str = "chaos-connector-token";
/// How many of each log in to the server: clients, connectors, providers.
const EACH: usize = 2;
/// How long a program may take until it serves.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// Everybody who has a part.
pub(super) struct Network {
    pub(super) members: Vec<Member>,
    /// The links of those who log in to the server.
    pub(super) links: Vec<Link>,
    /// The SOCKS ports.
    pub(super) entries: Vec<SocketAddr>,
}

/// A link to the server.
pub(super) struct Link {
    pub(super) proxy: Proxy,
    /// Who uses it.
    pub(super) name: String,
    /// The SOCKS port that depends on it, if others don't.
    pub(super) entry: Option<usize>,
}

/// A process that can be started again.
pub(super) struct Member {
    pub(super) name: String,
    /// The SOCKS port that depends on it, if others don't.
    pub(super) entry: Option<usize>,
    /// Whose sockets lead to it: those of applications or of targets.
    pub(super) faces: Option<Role>,
    /// Whether what it uses has limits: others are only looked at.
    pub(super) is_ours: bool,
    command: Box<dyn Fn() -> Result<Command, Error> + Send + Sync>,
    state: Mutex<State>,
}

struct State {
    process: Process,
    /// Whether somebody here has killed it.
    killed: bool,
}

/// What a process uses at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) resident: u64,
    pub(super) descriptors: usize,
}

impl Network {
    /// Starts everybody, each when those before it serve.
    ///
    /// # Errors
    /// [`enum@Error`] when a program is missing or doesn't get there in time.
    pub(super) fn start(plan: &Plan, mode: Mode) -> Result<Self, Error> {
        let (server_port, socks_port) = (free_port()?, free_port()?);
        let server = (Ipv4Addr::LOCALHOST, server_port).into();
        let mut network = Self { members: Vec::new(), links: Vec::new(), entries: Vec::new() };
        network.add_server(plan, mode, server_port, socks_port)?;
        if mode != Mode::Forward {
            for number in 0..EACH {
                network.add_provider(plan, server, number)?;
            }
        }
        if mode == Mode::Reverse {
            network.entries.push((Ipv4Addr::LOCALHOST, socks_port).into());
        } else {
            for number in 0..EACH {
                network.add_client(plan, mode, server, number)?;
            }
        }
        Ok(network)
    }

    fn add_server(&mut self, plan: &Plan, mode: Mode, port: u16, socks_port: u16) -> Result<(), Error> {
        let (program, grace) = (plan.server, plan.grace);
        let command = move || {
            let mut command = match mode {
                Mode::Forward => program.server(port, TOKEN)?,
                Mode::Reverse => program.reverse_server(port, TOKEN, Reverse::Port(socks_port))?,
                Mode::Agent | Mode::Autonomy => {
                    program.reverse_server(port, TOKEN, Reverse::Agent(socks_port, CONNECTOR_TOKEN))?
                }
            };
            set_grace(&mut command, program, grace);
            Ok(command)
        };
        let faces = match mode {
            Mode::Forward => Some(Role::Target),
            Mode::Reverse => Some(Role::App),
            Mode::Agent | Mode::Autonomy => None,
        };
        self.add("server", program, (None, faces), command, program.server_ready())
    }

    fn add_provider(&mut self, plan: &Plan, server: SocketAddr, number: usize) -> Result<(), Error> {
        let (program, grace) = (plan.client, plan.grace);
        let name = format!("provider {}", number + 1);
        let url = self.add_link(server, &name, None)?;
        let command = move || {
            let mut command = program.provider(&url, TOKEN, None, 1)?;
            set_grace(&mut command, program, grace);
            Ok(command)
        };
        self.add(&name, program, (None, Some(Role::Target)), command, program.provider_ready())
    }

    fn add_client(
        &mut self,
        plan: &Plan,
        mode: Mode,
        server: SocketAddr,
        number: usize,
    ) -> Result<(), Error> {
        let (program, grace, port) = (plan.client, plan.grace, free_port()?);
        let forward = mode == Mode::Forward;
        let name = format!("{} {}", if forward { "client" } else { "connector" }, number + 1);
        let url = self.add_link(server, &name, Some(number))?;
        let command = move || {
            let mut command = if forward {
                program.client(&url, TOKEN, port, 1)?
            } else {
                program.connector(&url, CONNECTOR_TOKEN, port)?
            };
            set_grace(&mut command, program, grace);
            Ok(command)
        };
        self.entries.push((Ipv4Addr::LOCALHOST, port).into());
        self.add(&name, program, (Some(number), Some(Role::App)), command, program.client_ready())
    }

    /// The URL of a link of its own to the server.
    fn add_link(&mut self, server: SocketAddr, name: &str, entry: Option<usize>) -> io::Result<String> {
        let proxy = Proxy::start(server)?;
        let url = format!("ws://{}", proxy.address());
        self.links.push(Link { proxy, name: name.to_owned(), entry });
        Ok(url)
    }

    fn add(
        &mut self,
        name: &str,
        program: Program,
        (entry, faces): (Option<usize>, Option<Role>),
        command: impl Fn() -> Result<Command, Error> + Send + Sync + 'static,
        ready: &str,
    ) -> Result<(), Error> {
        let process = Process::spawn(name, command()?)?;
        process.wait_for_lines(ready, 1, START_TIMEOUT)?;
        self.members.push(Member {
            name: name.to_owned(),
            entry,
            faces,
            is_ours: program.is_ours(),
            command: Box::new(command),
            state: Mutex::new(State { process, killed: false }),
        });
        Ok(())
    }

    /// What all programs printed last.
    pub(super) fn transcript(&self) -> String {
        self.members.iter().map(|member| lock(&member.state).process.transcript()).collect()
    }
}

/// How long sessions are kept; others have no such thing.
fn set_grace(command: &mut Command, program: Program, grace: Duration) {
    if program.is_ours() {
        command.args(["--transport-grace", &format!("{}ms", grace.as_millis())]);
    }
}

impl Member {
    /// Ends the process without a goodbye.
    ///
    /// # Errors
    /// Those of [`Process::kill`].
    pub(super) fn kill(&self) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.killed = true;
        state.process.kill()
    }

    /// Starts it again, after [`Self::kill`].
    ///
    /// # Errors
    /// [`enum@Error`] when it can't be started.
    pub(super) fn restart(&self) -> Result<(), Error> {
        let process = Process::spawn(format!("{}, restarted", self.name), (self.command)()?)?;
        *lock(&self.state) = State { process, killed: false };
        Ok(())
    }

    /// # Errors
    /// Those of [`Process::freeze`].
    pub(super) fn freeze(&self) -> io::Result<()> {
        lock(&self.state).process.freeze()
    }

    /// # Errors
    /// Those of [`Process::thaw`].
    pub(super) fn thaw(&self) -> io::Result<()> {
        lock(&self.state).process.thaw()
    }

    /// What it uses; `None` while it does not run.
    pub(super) fn usage(&self) -> Option<Usage> {
        let state = lock(&self.state);
        let pid = state.process.id();
        (!state.killed).then(|| {
            Some(Usage { resident: procfs::resident_bytes(pid)?, descriptors: procfs::descriptors(pid)? })
        })?
    }

    /// What it has done wrong so far: ended by itself, or panicked.
    ///
    /// # Errors
    /// Those of [`Process::has_exited`].
    pub(super) fn wrong(&self) -> io::Result<Vec<String>> {
        let mut state = lock(&self.state);
        if state.killed {
            return Ok(Vec::new());
        }
        let panics = state.process.lines_with("panicked");
        let mut wrong: Vec<_> = panics.into_iter().map(|line| format!("{}: {line}", self.name)).collect();
        if state.process.has_exited()? {
            wrong.push(format!("{} ended by itself\n{}", self.name, state.process.transcript()));
        }
        Ok(wrong)
    }

    /// Waits until it uses no more than `limit`, but no longer than until `deadline`; returns what it uses then.
    pub(super) fn wait_for_usage(&self, limit: Usage, deadline: Instant) -> Usage {
        const POLL: Duration = Duration::from_millis(100);
        loop {
            let usage = self.usage().unwrap_or_default();
            let fits = usage.resident <= limit.resident && usage.descriptors <= limit.descriptors;
            if fits || Instant::now() >= deadline {
                return usage;
            }
            std::thread::sleep(POLL);
        }
    }
}
