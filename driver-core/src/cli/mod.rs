//! The command line, shared by the binaries of all runtimes.
//!
//! A binary builds its runtime, collects arguments, environment and signals, and calls [`run`]; [`exit`] makes
//! its exit status of that.

mod args;
mod client;
mod demo;
mod duration;
mod events;
mod flow;
mod log;
mod parse;
mod proxy;
mod server;
mod supervise;
mod timeouts;

use std::ffi::OsString;
use std::future::Future;
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::LazyLock;
use std::time::Duration;

use futures_core::Stream;
use futures_util::StreamExt as _;
use futures_util::future::{Either, select};
use linksocks_sansio::error::SocketError;
use linksocks_sansio::{ConfigError, Credentials};
use thiserror::Error;
use tracing::{debug, error};

use self::args::{ClientArgs, Command};
use self::parse::Environment;
use crate::embed::StartError;
use crate::error::socket_error;
use crate::runtime::Runtime;
#[cfg(feature = "tls")]
use crate::tls::TlsError;

/// How long connections may go on after the first request to end.
const DRAIN: Duration = Duration::from_secs(5);

/// The exit status after a second request to end: that of a program that SIGINT has killed.
const INTERRUPTED: u8 = 130;

/// `version v0.1.0 linux/amd64`, with the platform names of Go.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let os = match std::env::consts::OS {
        "macos" => "darwin",
        os => os,
    };
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        arch => arch,
    };
    format!("version v{} {os}/{arch}", env!("CARGO_PKG_VERSION"))
});

/// Why a command ends with an error.
#[derive(Debug, Error)]
enum Failure {
    /// The configuration is unusable: a matter of the command line, so it goes to standard error.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// As [`Failure::Config`].
    #[cfg(feature = "tls")]
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// As [`Failure::Config`].
    #[error("{0}")]
    Usage(String),
    /// Something went wrong while running: goes to the log.
    #[error("{0}")]
    Running(String),
    /// The user did not want to wait for the end.
    #[error("interrupted")]
    Interrupted,
}

impl From<StartError> for Failure {
    /// In the words that the Go program has for errors of the system, if it is a common one.
    fn from(error: StartError) -> Self {
        if let StartError::Listen { address, error } = &error {
            let known = socket_error(error);
            if known != SocketError::Other {
                return Self::Running(format!("failed to listen on {address}: {known}"));
            }
        }
        Self::Running(error.to_string())
    }
}

/// The exit status of a binary: what [`run`] returned, or 1 if there was nothing to run it on, which standard
/// error is told.
pub fn exit(outcome: io::Result<ExitCode>) -> ExitCode {
    outcome.unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "error: cannot start: {error}");
        ExitCode::FAILURE
    })
}

/// Runs a command line and returns the exit status: 0 if all is well, 1 after an error, 130 after
/// a second signal.
///
/// `args` begins with the name of the program. `variables` is the environment. Each item of
/// `signals` is a request to end: the first one stops gracefully, the second one at once.
///
/// Logs go to standard output, and so do help and version; errors in arguments to standard error.
pub async fn run<R: Runtime>(
    runtime: R,
    args: impl IntoIterator<Item = OsString>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    signals: impl Stream<Item = ()> + Unpin,
) -> ExitCode {
    let environment = variables.into_iter().collect();
    let command = match parse::parse(args, &environment) {
        Ok(command) => command,
        Err(shown) => {
            // Nobody can be told that standard output is closed.
            let _ = shown.print();
            return if shown.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    let logging = match start_logging(&command, &environment) {
        Ok(logging) => logging,
        Err(error) => return exit(Err(error)),
    };
    raise_descriptor_limit();
    let code = match execute(runtime, command, &environment, signals).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Interrupted) => ExitCode::from(INTERRUPTED),
        Err(Failure::Running(text)) => {
            error!(target: log::FATAL, "Exit due to error: {text}");
            ExitCode::FAILURE
        }
        // The configuration is unusable.
        Err(failure) => {
            let _ = writeln!(io::stderr(), "error: {failure}");
            ExitCode::FAILURE
        }
    };
    drop(logging);
    code
}

fn start_logging(command: &Command, environment: &Environment) -> io::Result<Option<log::Logging>> {
    let verbosity = command.verbosity();
    verbosity.map(|(count, default)| log::init(log::level(count, default), environment)).transpose()
}

/// Each connection takes a descriptor, and what a process may have without asking is often 1024.
fn raise_descriptor_limit() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => debug!(limit, "File descriptors"),
        Err(error) => debug!(%error, "The limit of file descriptors stays as it is"),
    }
}

async fn execute<R: Runtime>(
    runtime: R,
    command: Command,
    environment: &Environment,
    signals: impl Stream<Item = ()> + Unpin,
) -> Result<(), Failure> {
    match command {
        Command::Client(args) | Command::Connector(args) => {
            client::run(runtime, &args, environment, signals).await
        }
        Command::Provider(args) => {
            let args = ClientArgs { reverse: true, ..args };
            client::run(runtime, &args, environment, signals).await
        }
        Command::Server(args) => server::run(runtime, &args, signals).await,
        Command::Demo(args) => demo::run(runtime, &args, signals).await,
        Command::Version => {
            let _ = writeln!(io::stdout(), "linksocks {}", *VERSION);
            Ok(())
        }
    }
}

/// Does `work`, unless a signal comes first.
async fn unless_signalled<T>(
    mut signals: impl Stream<Item = ()> + Unpin,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    match select(pin!(work), signals.next()).await {
        Either::Left((result, _)) => result,
        Either::Right((Some(()), _)) => Err(Failure::Interrupted),
        Either::Right((None, work)) => work.await,
    }
}

/// Finds the address to listen on. Of several addresses of a name an IPv4 one is taken, as Go does.
async fn listen_address<R: Runtime>(runtime: &R, host: &str, port: u16) -> Result<SocketAddr, Failure> {
    let unbracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = unbracketed.parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, port));
    }
    let unusable = |why: &str| Failure::Usage(format!("cannot listen on '{host}': {why}"));
    let addresses = runtime.resolve(host.to_owned()).await.map_err(|error| unusable(&error.to_string()))?;
    let address = addresses.iter().find(|address| address.is_ipv4()).or_else(|| addresses.first());
    let address = address.ok_or_else(|| unusable("it has no address"))?;
    Ok(SocketAddr::new(*address, port))
}

/// What applications must present, if anything.
fn credentials(username: Option<&str>, password: Option<&str>) -> Result<Option<Credentials>, ConfigError> {
    match (username.unwrap_or_default(), password.unwrap_or_default()) {
        ("", "") => Ok(None),
        (username, password) => Credentials::new(username, password).map(Some),
    }
}

/// 16 lower-case hexadecimal digits, as the Go program makes them.
fn random_token() -> Result<String, Failure> {
    let number = getrandom::u64();
    let number = number.map_err(|error| Failure::Running(format!("no random numbers: {error}")))?;
    Ok(format!("{number:016x}"))
}
