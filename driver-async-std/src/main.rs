//! The binary `linksocks-async-std`.

use std::io::{self, Write as _};
use std::process::ExitCode;

use async_signal::{Signal, Signals};
use driver_async_std::AsyncStdRuntime;
use futures_util::StreamExt as _;

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "error: cannot start: {error}");
        ExitCode::FAILURE
    })
}

fn run() -> io::Result<ExitCode> {
    let (args, variables) = (std::env::args_os(), std::env::vars_os());
    // Its items are these signals, or errors of a broken pipe to itself: then it is time to end, too.
    let signals = Signals::new(REQUESTS_TO_END)?.map(drop);
    Ok(async_std::task::block_on(driver_core::cli::run(AsyncStdRuntime, args, variables, signals)))
}

/// SIGINT and SIGTERM; on Windows Ctrl-C.
const REQUESTS_TO_END: &[Signal] = if cfg!(unix) { &[Signal::Int, Signal::Term] } else { &[Signal::Int] };
