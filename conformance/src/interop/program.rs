//! Which program plays a part: where it is, and how it is called. Both programs have the same command line.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::Error;

/// Version of the published LinkSocks that the tests and benchmarks run.
pub const REAL_VERSION: &str = "1.10.1";

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
    /// The published program, from the wheel that `conformance/peers/install.sh` installs.
    Real,
}

impl Program {
    /// A name for messages and test names.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Real => "real",
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

    /// A forward-mode client of the server at `url` with `threads` links, its SOCKS side on 127.0.0.1.
    ///
    /// # Errors
    /// [`Error::Missing`] when the program isn't there.
    pub fn client(self, url: &str, token: &str, socks_port: u16, threads: u32) -> Result<Command, Error> {
        let mut command = self.command()?;
        command.args(["client", "-u", url, "-t", token, "-s", "127.0.0.1", "-p", &socks_port.to_string()]);
        // Relay-only keeps the published client from asking STUN servers on the Internet.
        command.args(["-T", &threads.to_string(), "--direct-mode", "relay-only", "-E"]);
        Ok(command)
    }

    fn command(self) -> Result<Command, Error> {
        let mut command = match self {
            Self::Ours => Command::new(ours_path()?),
            Self::Real => {
                if !real_installed() {
                    return Err(Error::Missing(format!(
                        "LinkSocks {REAL_VERSION} is not installed: run conformance/peers/install.sh"
                    )));
                }
                let mut command = Command::new(real_python());
                command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/linksocks_cli.py"));
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
}

/// Whether the published program is installed.
#[must_use]
pub fn real_installed() -> bool {
    real_venv().join(".complete").exists()
}

fn real_venv() -> PathBuf {
    workspace_root().join("target/peers").join(format!("linksocks-{REAL_VERSION}"))
}

fn real_python() -> PathBuf {
    real_venv().join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" })
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
