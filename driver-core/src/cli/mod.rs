//! The command line, shared by the binaries of all runtimes.

mod args;
mod events;
mod log;
mod parse;

use std::sync::LazyLock;

/// `version v0.1.0 linux/amd64`: platform names as Go writes them.
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
#[doc(hidden)]
pub fn try_it(args: Vec<std::ffi::OsString>) {
    match parse::parse(args, &std::env::vars_os().collect()) {
        Ok(c) => println!("{c:#?}"),
        Err(e) => e.exit(),
    }
}
