//! The binary `linksocks`.

use std::io::Write as _;
use std::process::ExitCode;

use driver_tokio::TokioRuntime;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> std::io::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let code = runtime.block_on(async {
        let signals = signals::shutdown_requests()?;
        Ok(driver_core::cli::run(TokioRuntime::current(), std::env::args_os(), std::env::vars_os(), signals).await)
    });
    // What still runs, such as a name lookup, must not delay the exit.
    runtime.shutdown_background();
    code
}
