//! Programs come and go.

use std::io::{ErrorKind, Read};
use std::thread;
use std::time::{Duration, Instant};

use conformance::interop::socks::Error;
use conformance::interop::target::{self, Target};
use conformance::interop::{Process, Tunnel, free_port};

use crate::TestResult;
use crate::transfer::{fetch, ping};

/// Time for a client to give up.
const EXIT_TIMEOUT: Duration = Duration::from_secs(15);
/// Time for a client to notice that its server is back: its waits grow to several seconds.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(30);
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// A client with a wrong token says so and exits with 1, without another try; a logged in one is untouched.
pub(crate) fn wrong_token_ends_the_client(tunnel: &mut Tunnel) -> TestResult {
    let program = tunnel.client_program();
    let url = format!("ws://{}", tunnel.server_address());
    let command = program.client(&url, "not-the-token", free_port()?, 1)?;
    let mut rejected = Process::spawn(format!("{} client with a wrong token", program.name()), command)?;
    let status = rejected.wait_for_exit(EXIT_TIMEOUT)?;
    assert_eq!(status.code(), Some(1), "{}", rejected.transcript());
    rejected.wait_for_lines("invalid token", 1, Duration::from_secs(1))?;
    let retries = rejected.lines_with("before retrying");
    assert!(retries.is_empty(), "it tried again: {retries:?}");

    let target = Target::local(target::http)?;
    fetch(tunnel.connect(target.address())?, 1, 1000)
}

/// Later requests work again after the server was killed and started anew on the same port.
pub(crate) fn client_survives_a_restart_of_the_server(tunnel: &mut Tunnel) -> TestResult {
    let target = Target::local(target::http)?;
    fetch(tunnel.connect(target.address())?, 1, 1000)?;
    tunnel.kill_server()?;
    tunnel.restart_server()?;
    let deadline = Instant::now() + RECONNECT_TIMEOUT;
    let stream = loop {
        match tunnel.connect(target.address()) {
            Ok(stream) => break stream,
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            // A refusal is an answer; a dropped SOCKS connection is what the published client does with a lost link.
            Err(Error::Refused(_) | Error::Io(_)) => thread::sleep(RETRY_PAUSE),
            Err(error) => return Err(error.into()),
        }
    };
    fetch(stream, 2, 100_000)
}

/// An open connection ends with an error, so that nobody takes what has arrived for all there is.
pub(crate) fn lost_link_resets_its_connections(tunnel: &mut Tunnel) -> TestResult {
    let target = Target::local(target::echo)?;
    let mut stream = tunnel.connect(target.address())?;
    ping(&mut stream, b"before")?;
    tunnel.kill_server()?;
    tunnel.restart_server()?;
    match stream.read(&mut [0; 1]) {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
        other => Err(format!("expected a reset, got {other:?}").into()),
    }
}
