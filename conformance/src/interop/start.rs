//! Starting programs that must be told their port.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use super::{Error, Process};

/// How long a program may take until it serves.
pub(super) const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Starts tried when a program ends at once, because somebody took its port between choice and use.
const START_ATTEMPTS: u32 = 3;

/// Spawns a process on a free port and waits for its ready line until `deadline`; another port if it ends instead.
pub(super) fn with_retries(
    deadline: Instant,
    spawn: impl Fn(u16) -> Result<(Process, &'static str), Error>,
) -> Result<(Process, u16), Error> {
    let mut attempt = 1;
    loop {
        let port = free_port()?;
        let (mut process, ready) = spawn(port)?;
        match process.wait_for_lines(ready, 1, deadline.saturating_duration_since(Instant::now())) {
            Ok(()) => return Ok((process, port)),
            Err(error) if attempt == START_ATTEMPTS || !process.has_exited()? => return Err(error),
            Err(_) => attempt += 1,
        }
    }
}

/// A TCP port on 127.0.0.1 that was free a moment ago: for programs that must be told their port.
///
/// # Errors
/// Those of [`TcpListener::bind`].
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
