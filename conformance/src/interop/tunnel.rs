//! A server and a client of chosen implementations, connected over loopback.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Instant;

use super::certificates::Certificates;
use super::socks::{self, Destination};
use super::start::{START_TIMEOUT, with_retries};
use super::{Error, Process, Program};

/// How a tunnel is set up.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Path of the server's URL. Empty means `/socket` and authentication in the query; with `/socket/` the client
    /// authenticates in band.
    pub path: &'static str,
    /// Number of links.
    pub threads: u32,
    /// Over TLS, with certificates made for this tunnel. Only our server can.
    pub secure: bool,
    /// The client tells applications of success before it knows.
    pub fast_open: bool,
}

impl Options {
    /// One link, authenticated in the query.
    pub const DEFAULT: Self = Self { path: "", threads: 1, secure: false, fast_open: false };
}

/// A running server and a client that is logged in to it.
#[derive(Debug)]
pub struct Tunnel {
    client_program: Program,
    server_program: Program,
    /// Whom the client trusts and what the server shows, over TLS.
    certificates: Option<Certificates>,
    /// Dropped first: a client that loses its server would only fill the log.
    client: Process,
    server: Process,
    server_port: u16,
    socks: SocketAddr,
}

impl Tunnel {
    /// The secret of every tunnel's server.
    pub const TOKEN: &'static str = "interop-token";

    /// Starts a server, then a client, and waits until the SOCKS port serves.
    ///
    /// # Errors
    /// [`enum@Error`] when a program is missing or doesn't get there in time.
    pub fn start(client: Program, server: Program, options: Options) -> Result<Self, Error> {
        client.prepare()?;
        server.prepare()?;
        let certificates = options.secure.then(Certificates::new).transpose()?;
        let (server_process, server_port) = with_retries(Instant::now() + START_TIMEOUT, |port| {
            let command = server_command(server, port, certificates.as_ref())?;
            Ok((Process::spawn(format!("{} server", server.name()), command)?, server.server_ready()))
        })?;
        let scheme = if options.secure { "wss" } else { "ws" };
        let url = format!("{scheme}://127.0.0.1:{server_port}{}", options.path);
        let (client_process, socks_port) = with_retries(Instant::now() + START_TIMEOUT, |port| {
            let mut command = client.client(&url, Self::TOKEN, port, options.threads)?;
            if options.fast_open {
                command.arg("--fast-open");
            }
            if let Some(certificates) = &certificates {
                certificates.trust(client, &mut command);
            }
            Ok((Process::spawn(format!("{} client", client.name()), command)?, client.client_ready()))
        })?;
        Ok(Self {
            client_program: client,
            server_program: server,
            certificates,
            client: client_process,
            server: server_process,
            server_port,
            socks: (Ipv4Addr::LOCALHOST, socks_port).into(),
        })
    }

    /// Opens a connection through the tunnel.
    ///
    /// # Errors
    /// [`socks::Error`].
    pub fn connect(&self, destination: impl Into<Destination>) -> Result<TcpStream, socks::Error> {
        socks::connect(self.socks, destination)
    }

    /// Address of the client's SOCKS port.
    #[must_use]
    pub fn socks(&self) -> SocketAddr {
        self.socks
    }

    /// Address of the server's HTTP and WebSocket port.
    #[must_use]
    pub fn server_address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.server_port).into()
    }

    /// Which program the client is.
    #[must_use]
    pub fn client_program(&self) -> Program {
        self.client_program
    }

    /// Which program the server is.
    #[must_use]
    pub fn server_program(&self) -> Program {
        self.server_program
    }

    /// The client's process.
    #[must_use]
    pub fn client(&self) -> &Process {
        &self.client
    }

    /// The server's process.
    #[must_use]
    pub fn server(&self) -> &Process {
        &self.server
    }

    /// Ends the server without a goodbye.
    ///
    /// # Errors
    /// Those of [`Process::kill`].
    pub fn kill_server(&mut self) -> io::Result<()> {
        self.server.kill()
    }

    /// Starts the server again on the same port.
    ///
    /// # Errors
    /// [`enum@Error`] when it doesn't serve in time.
    pub fn restart_server(&mut self) -> Result<(), Error> {
        let command = server_command(self.server_program, self.server_port, self.certificates.as_ref())?;
        self.server = Process::spawn(format!("{} server, restarted", self.server_program.name()), command)?;
        self.server.wait_for_lines(self.server_program.server_ready(), 1, START_TIMEOUT)
    }

    /// What both programs printed, for failure messages.
    #[must_use]
    pub fn transcript(&self) -> String {
        self.server.transcript() + &self.client.transcript()
    }
}

fn server_command(
    program: Program,
    port: u16,
    certificates: Option<&Certificates>,
) -> Result<Command, Error> {
    let mut command = program.server(port, Tunnel::TOKEN)?;
    if let Some(certificates) = certificates {
        certificates.show(&mut command);
    }
    Ok(command)
}
