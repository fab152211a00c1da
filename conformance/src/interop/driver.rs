//! Our binaries, one per runtime.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::Error;

/// What our engine runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// tokio: the binary `linksocks`.
    Tokio,
    /// async-std: the binary `linksocks-async-std`.
    AsyncStd,
}

impl Driver {
    /// Every driver that has a binary.
    pub const ALL: [Self; 2] = [Self::Tokio, Self::AsyncStd];

    /// The name of its binary.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tokio => "linksocks",
            Self::AsyncStd => "linksocks-async-std",
        }
    }

    fn package(self) -> &'static str {
        match self {
            Self::Tokio => "driver-tokio",
            Self::AsyncStd => "driver-async-std",
        }
    }

    /// The variable that names an executable to test in place of the one in the target directory.
    fn variable(self) -> &'static str {
        match self {
            Self::Tokio => "LINKSOCKS_BIN",
            Self::AsyncStd => "LINKSOCKS_ASYNC_STD_BIN",
        }
    }

    /// Its binary, built once per process in the profile of the running executable; `LINKSOCKS_BIN` and
    /// `LINKSOCKS_ASYNC_STD_BIN` name others.
    ///
    /// # Errors
    /// [`Error::Missing`] with what cargo said when it can't be built.
    pub fn binary(self) -> Result<PathBuf, Error> {
        static TOKIO: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        static ASYNC_STD: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        let path = match self {
            Self::Tokio => &TOKIO,
            Self::AsyncStd => &ASYNC_STD,
        };
        path.get_or_init(|| env::var_os(self.variable()).map_or_else(|| self.build(), |path| Ok(path.into())))
            .clone()
            .map_err(Error::Missing)
    }

    /// Builds the binary next to the running executable (`TARGET/PROFILE/[deps/]NAME`), so that a stale one is never
    /// tested; cargo is quick when it is fresh.
    fn build(self) -> Result<PathBuf, String> {
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
        build.args(["build", "--quiet", "--package", self.package(), "--bin", self.name()]);
        build.args(["--profile", profile]).arg("--target-dir").arg(target_dir).current_dir(workspace_root());
        // What cargo tells the running test of its own package: to some build scripts these are reasons to run again,
        // and then all that depends on them is built again, now and at the next build from a shell.
        for (name, _) in env::vars_os() {
            let about_us = ["CARGO_PKG_", "CARGO_MANIFEST_"];
            if about_us.iter().any(|prefix| name.as_encoded_bytes().starts_with(prefix.as_bytes())) {
                build.env_remove(name);
            }
        }
        let build = build.output().map_err(|error| format!("can't run cargo: {error}"))?;
        if !build.status.success() {
            return Err(format!(
                "cargo build --bin {} failed:\n{}",
                self.name(),
                String::from_utf8_lossy(&build.stderr).trim_end()
            ));
        }
        Ok(profile_dir.join(format!("{}{}", self.name(), env::consts::EXE_SUFFIX)))
    }
}

pub(super) fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
