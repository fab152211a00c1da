//! A deterministic simulator: whole runs of servers, clients and applications in one thread, with
//! virtual time and seeded faults.
//!
//! | part | what it is |
//! |---|---|
//! | [`scenario`] | what is going to happen, drawn from a seed |
//! | [`net`] | the network and the kernels: TCP with FIN, RST, buffers, latency, stalls, cuts |
//! | [`host`] | an engine with a driver that keeps the contract to the letter |
//! | [`app`] | SOCKS5 clients and targets that follow scripts |
//! | [`model`] | what truly happened |
//! | [`check`] | what must hold, one file per rule |
//! | [`load`] | how long small messages take beside large ones |
//!
//! A run has two phases. First faults occur, and whatever happens must be *safe*: no wrong byte, no
//! truncated stream that looks whole, no rule of the contract broken. Then nothing fails any more,
//! and everything must come to a good end: links are up again, conversations succeed, nothing is
//! left over.
//!
//! Everything follows from the seed. A failure names it and the command that repeats the run. A fuzzer
//! puts bytes in its place, see [`Source`].

pub mod app;
pub mod check;
mod clock;
mod dice;
mod frame;
pub mod host;
pub mod load;
pub mod model;
pub mod net;
mod pattern;
pub mod scenario;
mod source;
mod trace;
mod world;

use std::fmt;
use std::hash::{DefaultHasher, Hasher};
use std::time::{Duration, Instant};

use linksocks_sansio::{ClientConfig, ClientEngine, Output, ServerConfig, ServerEngine};

use self::check::Violation;
pub use self::clock::Time;
pub use self::dice::Dice;
pub use self::pattern::Pattern;
use self::scenario::{Scenario, Size};
pub use self::source::Source;
pub use self::trace::{Trace, hash_output};
use self::world::World;
use crate::record::{Keep, Recording};

/// How to watch a run.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// Keep a hash of everything that crosses a border.
    pub hash: bool,
    /// Print everything that crosses a border.
    pub echo: bool,
    /// What to keep of the inputs of each engine.
    pub keep: Keep,
}

impl Watch {
    /// Just run.
    pub const SILENT: Self = Self { hash: true, echo: false, keep: Keep::Nothing };

    /// Just run, as fast as can be: the hash is 0.
    pub const HASTY: Self = Self { hash: false, ..Self::SILENT };
}

/// A run in which every rule held.
#[derive(Debug)]
pub struct Report {
    /// Two runs are equal if and only if (as good as surely) their hashes are.
    pub hash: u64,
    /// Every engine that took part.
    pub engines: Vec<Recorded>,
    /// How often a client's channels survived the loss of their link.
    pub resumed: usize,
}

/// An engine that took part in a run.
#[derive(Debug)]
pub struct Recorded {
    /// How to make it again.
    pub origin: Origin,
    /// When it was made.
    pub start: Time,
    /// What reached it.
    pub recording: Recording,
    /// The hash of everything that came out of it, if all inputs were kept.
    pub outputs: u64,
}

/// How to make an engine.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A server.
    Server(Box<ServerConfig>, [u8; 32]),
    /// A client.
    Client(Box<ClientConfig>, [u8; 32]),
}

impl Origin {
    /// Feeds a recording to a new engine of this origin, see [`Recording::replay`].
    ///
    /// # Panics
    /// If the recording is not complete.
    pub fn replay(&self, recording: &Recording, start: Instant, observe: impl FnMut(Duration, Output)) {
        match self {
            Self::Server(config, seed) => {
                recording.replay(start, |now| ServerEngine::new((**config).clone(), *seed, now), observe);
            }
            Self::Client(config, seed) => {
                recording.replay(start, |now| ClientEngine::new((**config).clone(), *seed, now), observe);
            }
        }
    }
}

impl Recorded {
    /// Feeds the recording to a new engine of the same origin and hashes what comes out.
    ///
    /// # Panics
    /// If the recording is not complete.
    #[must_use]
    pub fn replay(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let observe = |_, output: Output| hash_output(&output, &mut hasher);
        self.origin.replay(&self.recording, self.start.instant(), observe);
        hasher.finish()
    }
}

/// A rule was broken.
#[derive(Debug, thiserror::Error)]
#[error("at {at}: {violation}")]
pub struct Breach {
    /// When.
    pub at: Time,
    /// Which rule, and how.
    pub violation: Violation,
}

/// A rule was broken in the run of a seed.
#[derive(Debug)]
pub struct Failure {
    /// The run.
    pub seed: u64,
    /// When, which rule, and how.
    pub breach: Breach,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {} {}", self.seed, self.breach)?;
        write!(f, "replay: {}", replay_command(self.seed))
    }
}

impl std::error::Error for Failure {}

/// The command that repeats a run and prints its trace.
#[must_use]
pub fn replay_command(seed: u64) -> String {
    format!("LINKSOCKS_SEED={seed} cargo test -p conformance --test sim -- --nocapture")
}

/// Runs the scenario of a seed to its end.
///
/// # Errors
/// The first rule that was broken.
pub fn run(seed: u64, watch: Watch) -> Result<Report, Failure> {
    let scenario = Scenario::new(Source::from_seed(seed), Size::Full);
    World::new(scenario, watch).run().map_err(|breach| Failure { seed, breach })
}

/// Runs the small scenario that some bytes stand for, see [`Source::from_bytes`], to its end.
///
/// # Errors
/// The first rule that was broken.
pub fn run_bytes(bytes: &[u8], watch: Watch) -> Result<Report, Breach> {
    World::new(Scenario::new(Source::from_bytes(bytes), Size::Small), watch).run()
}
