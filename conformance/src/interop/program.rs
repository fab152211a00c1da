//! Which program plays a part: where it is, and how it is called. All have the same command line, as far as it is used
//! here, except that pywssocks has fewer commands and flags.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::Error;

/// Names an executable to test in place of the one in the target directory.
const OURS_OVERRIDE: &str = "LINKSOCKS_BIN";

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
    /// The `linksocks` binary of this workspace.
    Ours,
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
    /// The published program that regular tests and benchmarks run.
    pub const REAL: Self = Self::Real(Release::V1_10_1);
    /// Every program, ours first.
    pub const ALL: [Self; 4] = [Self::Ours, Self::REAL, Self::Real(Release::V1_8_13), Self::Pywssocks];

    /// A name for messages, test names and tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Real(Release::V1_8_13) => "real-1.8.13",
            Self::Real(Release::V1_10_1) => "real",
            Self::Pywssocks => "pywssocks",
        }
    }

    /// Package and version, as `conformance/peers/install.sh` takes them; `None` for ours.
    #[must_use]
    pub fn package(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Ours => None,
            Self::Real(Release::V1_8_13) => Some(("linksocks", "1.8.13")),
            Self::Real(Release::V1_10_1) => Some(("linksocks", "1.10.1")),
            Self::Pywssocks => Some(("pywssocks", "1.5.1")),
        }
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
    pub(super) fn prepare(self) -> Result<(), Error> {
        match self {
            Self::Ours => ours_path().map(drop),
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
            Self::Ours | Self::Real(_) => command.arg("provider"),
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
            Self::Ours | Self::Real(_) => "LinkSocks server started",
            Self::Pywssocks => "Pywssocks Server 1.5.1 started",
        }
    }

    /// The line of a client or connector whose SOCKS port listens, which it does after its first login.
    #[must_use]
    pub fn client_ready(self) -> &'static str {
        match self {
            Self::Ours | Self::Real(_) => "Local proxy server started",
            Self::Pywssocks => "SOCKS5 server started",
        }
    }

    fn command(self) -> Result<Command, Error> {
        let mut command = match self.environment() {
            None => Command::new(ours_path()?),
            Some(environment) => {
                if !self.is_installed() {
                    return Err(Error::Missing(self.installation_hint()));
                }
                let mut command = Command::new(environment.join(if cfg!(windows) {
                    "Scripts/python.exe"
                } else {
                    "bin/python"
                }));
                match self {
                    Self::Pywssocks => command.args(["-m", "pywssocks"]),
                    Self::Ours | Self::Real(_) => {
                        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/linksocks_cli.py"))
                    }
                };
                // Its log wraps lines at the terminal width, which would tear the lines we wait for.
                command.env("COLUMNS", "1000").env("PYTHONUNBUFFERED", "1");
                command
            }
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

fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Our binary, built once per process in the profile of the running executable; `LINKSOCKS_BIN` names another one.
///
/// # Errors
/// [`Error::Missing`] with what cargo said when it can't be built.
pub fn ours_path() -> Result<PathBuf, Error> {
    static PATH: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    PATH.get_or_init(|| match env::var_os(OURS_OVERRIDE) {
        Some(path) => Ok(path.into()),
        None => build_ours(),
    })
    .clone()
    .map_err(Error::Missing)
}

/// Builds the binary next to the running executable (`TARGET/PROFILE/[deps/]NAME`), so that a stale one is never tested;
/// cargo is quick when it is fresh.
fn build_ours() -> Result<PathBuf, String> {
    let executable = env::current_exe().map_err(|error| format!("own path: {error}"))?;
    let mut profile_dir = executable.parent().ok_or("own path has no directory")?;
    if profile_dir.file_name() == Some(OsStr::new("deps")) {
        profile_dir = profile_dir.parent().ok_or("own path has no profile directory")?;
    }
    let target_dir = profile_dir.parent().ok_or("own path has no target directory")?;
    // The directory of the dev profile is the one that isn't named after its profile.
    let profile = match profile_dir.file_name().and_then(OsStr::to_str) {
        None | Some("debug") => "dev",
        Some(name) => name,
    };
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--package", "driver-tokio", "--bin", "linksocks", "--profile", profile]);
    build.arg("--target-dir").arg(target_dir).current_dir(workspace_root());
    // What cargo tells the running test of its own package: to some build scripts these are reasons to run again, and
    // then all that depends on them is built again, now and at the next build from a shell.
    for (name, _) in env::vars_os() {
        let about_us = ["CARGO_PKG_", "CARGO_MANIFEST_"];
        if about_us.iter().any(|prefix| name.as_encoded_bytes().starts_with(prefix.as_bytes())) {
            build.env_remove(name);
        }
    }
    let build = build.output().map_err(|error| format!("can't run cargo: {error}"))?;
    if !build.status.success() {
        return Err(format!(
            "cargo build --bin linksocks failed:\n{}",
            String::from_utf8_lossy(&build.stderr).trim_end()
        ));
    }
    Ok(profile_dir.join(format!("linksocks{}", env::consts::EXE_SUFFIX)))
}
