//! Targets that speak first: their first bytes race the news that they are connected.

use std::io::Write;

use conformance::interop::Network;
use conformance::interop::target::{self, Target, read_bytes};

use crate::TestResult;
use crate::transfer::{concurrently, ping};

/// Connections, 4 of them at once.
const CONNECTIONS: usize = 100;
const AT_ONCE: u64 = 4;

pub(crate) fn a_hundred_targets_speak_first(network: &mut Network) -> TestResult {
    let greeting = b"SSH-2.0-target\r\n";
    let target = Target::local(|mut stream| {
        stream.write_all(greeting)?;
        target::echo(stream)
    })?;
    let network = &*network;
    concurrently(AT_ONCE, |_| {
        (0..CONNECTIONS / AT_ONCE as usize).try_for_each(|_| {
            let mut stream = network.connect(target.address())?;
            assert_eq!(read_bytes(&mut stream, greeting.len())?, greeting, "greeting");
            ping(&mut stream, b"SSH-2.0-application")
        })
    })
}
