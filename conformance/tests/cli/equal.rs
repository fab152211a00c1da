//! The programs differ in nothing that people and scripts see.

use conformance::interop::Driver;

use crate::commands::{REFUSED, Session};
use crate::program::{Ended, LinkSocks};

const SHOWN: [&[&str]; 6] = [
    &["help"],
    &["help", "client"],
    &["help", "server"],
    &["help", "provider"],
    &["help", "connector"],
    &["version"],
];

/// What stands before the time that the server took to answer.
const LATENCY: &str = "latency: ";

/// Status, standard output and standard error are equal, byte for byte.
pub(crate) fn help_version_and_errors_in_arguments() {
    let refused = REFUSED.iter().map(|&(args, variables, _)| (args, variables));
    for (args, variables) in SHOWN.into_iter().map(|args| (args, &[][..])).chain(refused) {
        let [tokio, async_std] = Driver::ALL.map(|driver| {
            let Ended { status, stdout, stderr } = LinkSocks::start(driver, args, variables).end();
            // The usage has the name by which the program was called.
            let unnamed = |text: String| text.replace(Driver::AsyncStd.name(), Driver::Tokio.name());
            (status, unnamed(stdout), unnamed(stderr))
        });
        assert_eq!(tokio, async_std, "{args:?} {variables:?}");
    }
}

/// The lines of a server and of its client are equal, but for times, ports and durations.
pub(crate) fn logs_of_a_session() {
    let [tokio, async_std] = Driver::ALL.map(Session::run);
    for (tokio, async_std) in [(tokio.server, async_std.server), (tokio.client, async_std.client)] {
        assert_eq!(masked(&tokio.stdout), masked(&async_std.stdout));
        assert_eq!((tokio.status, tokio.stderr), (async_std.status, async_std.stderr));
    }
}

/// The lines without what differs from run to run.
fn masked(log: &str) -> Vec<String> {
    let mask = |line: &str| {
        let line = line.split_once(' ').expect("a time and more").1.to_owned();
        ["127.0.0.1:", "localhost:", LATENCY].into_iter().fold(line, mask_after)
    };
    let mut lines: Vec<_> = log.lines().map(mask).collect();
    // The answer of the server races the opening of the SOCKS port.
    lines.sort_by_key(|line| line.contains(LATENCY));
    lines
}

/// Leaves out the digits behind each `prefix`.
fn mask_after(text: String, prefix: &str) -> String {
    let parts: Vec<_> = text.split(prefix).collect();
    let masked = parts.iter().enumerate().map(|(index, part)| {
        if index == 0 { part } else { part.trim_start_matches(|c: char| c.is_ascii_digit()) }
    });
    masked.collect::<Vec<_>>().join(prefix)
}
