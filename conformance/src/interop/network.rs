//! A server with everybody who logs in to it, of chosen implementations, connected over loopback.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::socks::{self, Destination};
use super::start::{START_TIMEOUT, free_port, with_retries};
use super::{Cast, Error, Process, Program, Reverse};

/// The secret of a network's server: of its forward client or of its providers.
const TOKEN: &str = "interop-token";
/// The line of a server that has a connector token.
const CONNECTOR_TOKEN_ADDED: &str = "New connector token added";
/// How often a port without a line of its own is tried.
const PORT_POLL: Duration = Duration::from_millis(20);

/// How many play a part, and how.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Number of providers, where the mode has them.
    pub providers: usize,
    /// Number of connectors, or of clients in forward mode.
    pub clients: usize,
    /// Applications are told of success before it is known.
    pub fast_open: bool,
    /// Lost links of our programs are lost for good, as those of others are.
    pub without_sessions: bool,
    /// How long everything together may take to start.
    pub start_timeout: Duration,
}

impl Layout {
    /// One of each.
    pub const DEFAULT: Self = Self {
        providers: 1,
        clients: 1,
        fast_open: false,
        without_sessions: false,
        start_timeout: START_TIMEOUT,
    };
}

/// Running programs that are logged in to each other; killed and reaped when dropped.
#[derive(Debug)]
pub struct Network {
    cast: Cast,
    // Dropped in this order: those that lose their server would only fill the log.
    clients: Vec<Process>,
    providers: Vec<Process>,
    server: Process,
    entries: Vec<SocketAddr>,
}

impl Network {
    /// Starts the server, then the providers, then the clients or connectors, each when those before it serve.
    ///
    /// # Errors
    /// [`enum@Error`] when a program is missing or doesn't get there in time.
    pub fn start(cast: Cast, layout: Layout) -> Result<Self, Error> {
        for program in cast.parts() {
            program.prepare()?;
        }
        let starter = Starter { cast, layout, deadline: Instant::now() + layout.start_timeout };
        let (server, server_port, socks_port) = starter.server()?;
        let url = format!("ws://127.0.0.1:{server_port}");
        let mut network =
            Self { cast, clients: Vec::new(), providers: Vec::new(), server, entries: Vec::new() };
        if let Some(program) = cast.provider() {
            for number in 0..layout.providers {
                let provider = starter.provider(program, &url, number)?;
                network.providers.push(provider);
            }
        }
        match cast {
            Cast::Reverse { .. } => {
                starter.wait_for_port(&mut network.server, socks_port)?;
                network.entries.push((Ipv4Addr::LOCALHOST, socks_port).into());
            }
            Cast::Autonomy { .. } => {
                let timeout = starter.left();
                network.server.wait_for_lines(CONNECTOR_TOKEN_ADDED, layout.providers, timeout)?;
            }
            Cast::Forward { .. } | Cast::Agent { .. } => {}
        }
        if let Some(program) = cast.client() {
            for number in 0..layout.clients {
                let (client, port) = starter.client(program, &url, number)?;
                network.clients.push(client);
                network.entries.push((Ipv4Addr::LOCALHOST, port).into());
            }
        }
        Ok(network)
    }

    /// Who plays which part.
    #[must_use]
    pub fn cast(&self) -> Cast {
        self.cast
    }

    /// Opens a connection by way of the first SOCKS port.
    ///
    /// # Errors
    /// [`socks::Error`].
    pub fn connect(&self, destination: impl Into<Destination>) -> Result<TcpStream, socks::Error> {
        socks::connect(self.socks(), destination)
    }

    /// Address of the first SOCKS port.
    #[must_use]
    pub fn socks(&self) -> SocketAddr {
        self.entries[0]
    }

    /// Addresses of all SOCKS ports for applications: the server's in reverse mode, else one per client or connector.
    #[must_use]
    pub fn entries(&self) -> &[SocketAddr] {
        &self.entries
    }

    /// The providers' processes.
    #[must_use]
    pub fn providers(&mut self) -> &mut [Process] {
        &mut self.providers
    }

    /// The clients' or connectors' processes, in the order of [`Self::entries`].
    #[must_use]
    pub fn clients(&mut self) -> &mut [Process] {
        &mut self.clients
    }

    /// What all programs printed, for failure messages.
    #[must_use]
    pub fn transcript(&self) -> String {
        let everybody = [&self.server].into_iter().chain(&self.providers).chain(&self.clients);
        everybody.map(Process::transcript).collect()
    }
}

/// A network before it is one.
struct Starter {
    cast: Cast,
    layout: Layout,
    deadline: Instant,
}

impl Starter {
    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// The server, its port, and the SOCKS port that it was given; that one listens only in reverse and agent mode.
    fn server(&self) -> Result<(Process, u16, u16), Error> {
        let program = self.cast.server();
        let socks_port = free_port()?;
        let token = connector_token(0);
        let reverse = match self.cast {
            Cast::Forward { .. } => None,
            Cast::Reverse { .. } => Some(Reverse::Port(socks_port)),
            Cast::Agent { .. } => Some(Reverse::Agent(socks_port, &token)),
            Cast::Autonomy { .. } => Some(Reverse::Autonomy),
        };
        let (process, port) = with_retries(self.deadline, |port| {
            let mut command = match reverse {
                None => program.server(port, TOKEN)?,
                Some(reverse) => program.reverse_server(port, TOKEN, reverse)?,
            };
            if self.layout.fast_open && matches!(self.cast, Cast::Reverse { .. }) {
                command.arg("-f");
            }
            Ok((Process::spawn(format!("{} server", program.name()), command)?, program.server_ready()))
        })?;
        Ok((process, port, socks_port))
    }

    fn provider(&self, program: Program, url: &str, number: usize) -> Result<Process, Error> {
        let token = matches!(self.cast, Cast::Autonomy { .. }).then(|| connector_token(number));
        let command = program.provider(url, TOKEN, token.as_deref(), 1)?;
        let process = Process::spawn(format!("{} provider {number}", program.name()), command)?;
        process.wait_for_lines(program.provider_ready(), 1, self.left())?;
        Ok(process)
    }

    fn client(&self, program: Program, url: &str, number: usize) -> Result<(Process, u16), Error> {
        with_retries(self.deadline, |port| {
            let mut command = match self.cast {
                Cast::Forward { .. } | Cast::Reverse { .. } => program.client(url, TOKEN, port, 1)?,
                Cast::Agent { .. } => program.connector(url, &connector_token(0), port)?,
                Cast::Autonomy { .. } => {
                    program.connector(url, &connector_token(number % self.layout.providers), port)?
                }
            };
            if self.layout.fast_open {
                command.arg("-f");
            }
            if self.layout.without_sessions && program.is_ours() {
                command.args(["--transport-grace", "0s"]);
            }
            let process = Process::spawn(format!("{} client {number}", program.name()), command)?;
            Ok((process, program.client_ready()))
        })
    }

    /// Waits until the server accepts applications, which it does from its first provider's login on.
    fn wait_for_port(&self, server: &mut Process, port: u16) -> Result<(), Error> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        while TcpStream::connect_timeout(&address, START_TIMEOUT).is_err() {
            if server.has_exited()? || self.left().is_zero() {
                return Err(server.failure(&format!("nothing listens on port {port}")));
            }
            thread::sleep(PORT_POLL);
        }
        Ok(())
    }
}

/// The secret of a connector: in agent mode there is one, with autonomy each provider has its own.
fn connector_token(number: usize) -> String {
    format!("interop-connector-{number}")
}
