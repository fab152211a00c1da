//! The binary `linksocks`.

use std::io;
use std::process::ExitCode;

use driver_tokio::TokioRuntime;
use futures_core::Stream;

fn main() -> ExitCode {
    driver_core::cli::exit(run())
}

fn run() -> io::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (args, variables) = (std::env::args_os(), std::env::vars_os());
    let code = runtime.block_on(async {
        let signals = requests_to_end()?;
        Ok(driver_core::cli::run(TokioRuntime::current(), args, variables, signals).await)
    });
    // What is left over, such as a slow name lookup, must not delay the exit.
    runtime.shutdown_background();
    code
}

/// SIGINT and SIGTERM.
#[cfg(unix)]
fn requests_to_end() -> io::Result<impl Stream<Item = ()> + Unpin> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(futures_util::stream::poll_fn(move |cx| {
        let interrupted = interrupt.poll_recv(cx);
        if interrupted.is_ready() { interrupted } else { terminate.poll_recv(cx) }
    }))
}

/// Ctrl-C.
#[cfg(windows)]
fn requests_to_end() -> io::Result<impl Stream<Item = ()> + Unpin> {
    let mut ctrl_c = tokio::signal::windows::ctrl_c()?;
    Ok(futures_util::stream::poll_fn(move |cx| ctrl_c.poll_recv(cx)))
}
