//! Which program plays a part: where it is, and how it is called. All have the same command line, as far as it is used
//! here, except that pywssocks has fewer commands and flags.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::driver::workspace_root;
use super::{Driver, Error};

/// Settings of the caller that would change what a program does.
const FOREIGN_SETTINGS: &[&str] = &[
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
];

/// An implementation of LinkSocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// A binary of this workspace.
    Ours(Driver),
    /// The published program, from a wheel that `conformance/peers/install.sh` installs.
    Real(Release),
    /// The predecessor of the published program, installed in the same way.
    Pywssocks,
}

/// A release of the published program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// 1.8.13, the last before the version byte of its messages changed.
    V1_8_13,
    /// 1.10.1, which regular tests and benchmarks run.
    V1_10_1,
}

/// What the reverse-mode commands of a server need to know.
#[derive(Debug, Clone, Copy)]
pub enum Reverse<'a> {
    /// Applications connect to the server's own SOCKS port.
    Port(u16),
    /// They may also connect to connectors, which log in with this token.
    Agent(u16, &'a str),
    /// They connect to connectors only, whose tokens the providers choose.
    Autonomy,
}

impl Program {
    /// Our program, as most people run it.
    pub const OURS: Self = Self::Ours(Driver::Tokio);
    /// Our program with the other driver.
    pub const OURS_ASYNC_STD: Self = Self::Ours(Driver::AsyncStd);
    /// The published program that regular tests and benchmarks run.
    pub const REAL: Self = Self::Real(Release::V1_10_1);
    /// Every program once, ours first: it differs in the driver only.
    pub const ALL: [Self; 4] = [Self::OURS, Self::REAL, Self::Real(Release::V1_8_13), Self::Pywssocks];

    /// A name for messages, test names and tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours(Driver::Tokio) => "ours",
            Self::Ours(Driver::AsyncStd) => "ours-async-std",
            Self::Real(Release::V1_8_13) => "real-1.8.13",
            Self::Real(Release::V1_10_1) => "real",
            Self::Pywssocks => "pywssocks",
        }
    }

    /// Package and version, as `conformance/peers/install.sh` takes them; `None` for ours.
    #[must_use]
    pub fn package(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Ours(_) => None,
            Self::Real(Release::V1_8_13) => Some(("linksocks", "1.8.13")),
            Self::Real(Release::V1_10_1) => Some(("linksocks", "1.10.1")),
            Self::Pywssocks => Some(("pywssocks", "1.5.1")),
        }
    }

    /// Whether it is one of this workspace, whatever its driver.
    #[must_use]
    pub fn is_ours(self) -> bool {
        matches!(self, Self::Ours(_))
    }

    /// Whether it is there. Ours always is: it can be built.
    #[must_use]
    pub fn is_installed(self) -> bool {
        self.environment().is_none_or(|environment| environment.join(".complete").exists())
    }

    /// Whether it can tell applications of success before it knows.
    #[must_use]
    pub fn has_fast_open(self) -> bool {
        self != Self::Pywssocks
    }

    /// Builds it, if that is needed: no part of anybody's start.
    ///
    /// # Errors
    /// [`Error::Missing`] with what cargo said when it can't be built.
    pub fn prepare(self) -> Result<(), Error> {
        match self {
            Self::Ours(driver) => driver.binary().map(drop),
            Self::Real(_) | Self::Pywssocks => Ok(()),
        }
    }

    /// A forward-mode server on 127.0.0.1.
    ///
    /// # Errors
    /// [`Error::Missing`] when the program isn't there.
    pub fn server(self, port: u16, token: &str) -> Result<Command, Error> {
        let mut command = self.command()?;
        command.args(["server", "-H", "127.0.0.1", "-P", &port.to_string(), "-t", token]);
        Ok(command)
    }

    /// A server on 127.0.0.1 for providers that log in with `token`.
    ///
    /// # Errors
    /// [`Error::Missing`] when the program isn't there.
    pub fn reverse_server(self, port: u16, token: &str, reverse: Reverse) -> Result<Command, Error> {
        let mut command = self.server(port, token)?;
        command.arg("-r");
        match reverse {
            Reverse::Port(socks_port) | Reverse::Agent(socks_port, _) => {
                command.args(["--socks-host", "127.0.0.1", "-p", &socks_port.to_string()]);
            }
            Reverse::Autonomy => {
                command.arg("-a");
            }
        }
        if let Reverse::Agent(_, connector_token) = reverse {
            command.args(["-c", connector_token]);
        }
        Ok(command)
    }

    /// A forward-mode client of the server at `url` with `threads` links, its SOCKS side on 127.0.0.1.
    ///
    /// # Errors
    /// [`Error::Missing`] when the program isn't there.
    pub fn client(self, url: &str, token: &str, socks_port: u16, threads: u32) -> Result<Command, Error> {
        self.application_side("client", url, token, socks_port, threads)
    }

    /// A connector of the server at `url`, its SOCKS side on 127.0.0.1.
    ///
    /// # Errors
    /// [`Error::Missing`] when the program isn't there.
    pub fn connector(self, url: &str, token: &str, socks_port: u16) -> Result<Command, Error> {
        let name = if self == Self::Pywssocks { "client" } else { "connector" };
        self.application_side(name, url, token, socks_port, 1)
    }

    fn application_side(
        self,
        name: &str,
        url: &str,
        token: &str,
        socks_port: u16,
        threads: u32,
    ) -> Result<Command, Error> {
        let mut command = self.command()?;
        command.args([name, "-u", url, "-t", token, "--socks-host", "127.0.0.1"]);
        command.args(["-p", &socks_port.to_string()]);
        self.link(&mut command, threads);
        Ok(command)
    }

    /// A provider of the server at `url` with `threads` links, which asks an autonomy server for connectors that log in
    /// with `connector_token`.
    ///
    /// # Errors
    /// [`Error::Missing`] when the program isn't there.
    pub fn provider(
        self,
        url: &str,
        token: &str,
        connector_token: Option<&str>,
        threads: u32,
    ) -> Result<Command, Error> {
        let mut command = self.command()?;
        match self {
            Self::Pywssocks => command.args(["client", "-r"]),
            Self::Ours(_) | Self::Real(_) => command.arg("provider"),
        };
        command.args(["-u", url, "-t", token]);
        if let Some(connector_token) = connector_token {
            command.args(["-c", connector_token]);
        }
        self.link(&mut command, threads);
        Ok(command)
    }

    /// Flags of everything that logs in to a server. pywssocks has one link and no other way.
    fn link(self, command: &mut Command, threads: u32) {
        if self != Self::Pywssocks {
            // Relay-only keeps the published client from asking STUN servers on the Internet.
            command.args(["-T", &threads.to_string(), "--direct-mode", "relay-only", "-E"]);
        }
    }

    /// The line of a server that listens.
    #[must_use]
    pub fn server_ready(self) -> &'static str {
        match self {
            Self::Ours(_) | Self::Real(_) => "LinkSocks server started",
            Self::Pywssocks => "Pywssocks Server 1.5.1 started",
        }
    }

    /// The line of a client or connector whose SOCKS port listens, which it does after its first login.
    #[must_use]
    pub fn client_ready(self) -> &'static str {
        match self {
            Self::Ours(_) | Self::Real(_) => "Local proxy server started",
            Self::Pywssocks => "SOCKS5 server started",
        }
    }

    /// The line of a provider that is logged in.
    #[must_use]
    pub fn provider_ready(self) -> &'static str {
        "Authentication successful for reverse proxy"
    }

    fn command(self) -> Result<Command, Error> {
        let mut command = match self {
            Self::Ours(driver) => Command::new(driver.binary()?),
            Self::Real(_) => {
                self.python([Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/linksocks_cli.py")])?
            }
            Self::Pywssocks => self.python(["-m", "pywssocks"])?,
        };
        for name in FOREIGN_SETTINGS {
            command.env_remove(name);
        }
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("LINKSOCKS_") {
                command.env_remove(name);
            }
        }
        Ok(command)
    }

    /// The interpreter of its virtual environment with these arguments.
    fn python<S: AsRef<OsStr>>(self, args: impl IntoIterator<Item = S>) -> Result<Command, Error> {
        let Some(environment) = self.environment().filter(|_| self.is_installed()) else {
            return Err(Error::Missing(self.installation_hint()));
        };
        let python = if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" };
        let mut command = Command::new(environment.join(python));
        // Its log wraps lines at the terminal width, which would tear the lines we wait for.
        command.args(args).env("COLUMNS", "1000").env("PYTHONUNBUFFERED", "1");
        Ok(command)
    }

    /// Says that it isn't there, and how to change that.
    #[must_use]
    pub fn installation_hint(self) -> String {
        match self.package() {
            None => "ours is built when it is needed".to_owned(),
            Some((package, version)) => format!(
                "{package} {version} is not installed; conformance/peers/install.sh {package} {version} \
                 installs it under target/"
            ),
        }
    }

    /// The virtual environment of a published program.
    fn environment(self) -> Option<PathBuf> {
        let (package, version) = self.package()?;
        Some(workspace_root().join("target/peers").join(format!("{package}-{version}")))
    }
}
