//! Behaviour of the engines, one per test, in virtual time.
#![expect(clippy::wildcard_enum_match_arm, reason = "a test names what it expects; the rest fails it")]

mod abuse;
mod access;
mod agent;
mod api;
mod autonomy;
mod batching;
mod budgets;
mod cleanup;
#[cfg(feature = "gzip")]
mod compression;
mod endings;
mod fast_open;
mod forward;
mod host;
mod http;
mod limits;
mod links;
mod login;
mod net;
mod pair;
mod passwords;
mod properties;
mod read_ahead;
mod rerouting;
mod reverse;
mod session;
mod udp;
mod upgrade;
mod upstream;

use std::sync::OnceLock;
use std::time::Instant;

/// The instant at which all virtual clocks start.
pub(crate) fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant can't be made from nothing; only this one is read"
    )]
    *EPOCH.get_or_init(Instant::now)
}
