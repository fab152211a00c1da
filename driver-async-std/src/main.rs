//! The binary `linksocks-async-std`.

use std::io;
use std::process::ExitCode;

use async_global_executor::GlobalExecutorConfig;
use async_signal::{Signal, Signals};
use driver_async_std::AsyncStdRuntime;
use futures_lite::StreamExt as _;

fn main() -> ExitCode {
    driver_core::cli::exit(run())
}

/// SIGINT and SIGTERM; on Windows Ctrl-C.
const REQUESTS_TO_END: &[Signal] = if cfg!(unix) { &[Signal::Int, Signal::Term] } else { &[Signal::Int] };
/// Threads that run tasks. Tasks of a tunnel wake each other all the time, and async-std wakes another thread for
/// each: with one thread a round trip takes two thirds of the time that it takes with two, and bulk
/// streams are as fast.
const WORKERS: usize = 1;
/// Replaces that number, as in all programs on async-std.
const WORKERS_VARIABLE: &str = "ASYNC_STD_THREAD_COUNT";

fn run() -> io::Result<ExitCode> {
    let executor = GlobalExecutorConfig::default().with_min_threads(WORKERS).with_env_var(WORKERS_VARIABLE);
    async_global_executor::init_with_config(executor);
    let (args, variables) = (std::env::args_os(), std::env::vars_os());
    // Its items are these signals, or errors of a broken pipe to itself: then it is time to end, too.
    let signals = Signals::new(REQUESTS_TO_END)?.map(drop);
    // Not that of async-std: this thread would take events of sockets, and others would have to be woken for them.
    Ok(futures_lite::future::block_on(driver_core::cli::run(AsyncStdRuntime, args, variables, signals)))
}
