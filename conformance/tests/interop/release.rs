//! What a lost program used is free again.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use conformance::interop::target::{self, Target};
use conformance::interop::{Network, Program};

use crate::TestResult;
use crate::transfer::ping;

const CONNECTIONS: usize = 5;
/// How long our provider may take to close its sockets.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(1);
/// The published one waits 5 s before it closes them, 4 at a time.
const REAL_RELEASE_TIMEOUT: Duration = Duration::from_secs(11);

/// The targets see the end of their connections soon after a connector was killed.
pub(crate) fn targets_of_a_killed_connector_are_released(network: &mut Network) -> TestResult {
    let (ended, end) = mpsc::channel();
    let target = Target::local(move |stream| {
        let outcome = target::echo(stream);
        // Nobody listens any more when the test has failed.
        let _ = ended.send(());
        outcome
    })?;
    let mut streams = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = network.connect(target.address())?;
        ping(&mut stream, b"established")?;
        streams.push(stream);
    }
    assert!(end.try_recv().is_err(), "a connection has ended already");

    network.clients()[0].kill()?;
    let killed = Instant::now();
    let timeout = match network.cast().exit() {
        Program::Ours(_) => RELEASE_TIMEOUT,
        Program::Real(_) | Program::Pywssocks => REAL_RELEASE_TIMEOUT,
    };
    for number in 0..CONNECTIONS {
        let left = timeout.saturating_sub(killed.elapsed());
        end.recv_timeout(left).map_err(|_| {
            format!(
                "{number} of {CONNECTIONS} targets were released {timeout:?} after the connector was killed"
            )
        })?;
    }
    Ok(())
}
